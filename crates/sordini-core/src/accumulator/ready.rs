//! What the data plane tells the control plane: which lanes and topics want its attention.

use std::sync::{Arc, PoisonError};

use crate::accumulator::lane::Lane;
use crate::accumulator::topic::Topic;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Wakes whoever drives the control plane, so that it hands in `Input::LanesDue`.
pub trait Wake: Send + Sync {
    /// Called outside all locks; must not block, and may be called more often than needed.
    fn wake(&self);
}

/// A reason to look.
#[derive(Debug, Clone)]
pub enum Event {
    /// A batch was opened or sealed there.
    Lane(Arc<Lane>),
    /// Somebody waits for the topic's partitions.
    Topic(Arc<Topic>),
    /// An append found no memory.
    Pressure,
}

/// The queue of events. One push per batch, not per record.
pub struct Ready {
    events: Mutex<Events>,
    signalled: AtomicBool,
    wake: Arc<dyn Wake>,
}

/// Events that say nothing new are left out, so that callers who try again and again while the
/// control plane is busy do not fill memory with them.
#[derive(Debug, Default)]
struct Events {
    list: Vec<Event>,
    pressure: bool,
}

impl Events {
    fn push(&mut self, event: Event) {
        let known = match (&event, self.list.last()) {
            (Event::Pressure, _) => std::mem::replace(&mut self.pressure, true),
            (Event::Lane(lane), Some(Event::Lane(last))) => Arc::ptr_eq(lane, last),
            (Event::Topic(topic), Some(Event::Topic(last))) => Arc::ptr_eq(topic, last),
            _ => false,
        };
        if !known {
            self.list.push(event);
        }
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Ready {
    pub(crate) fn new(wake: Arc<dyn Wake>) -> Self {
        Self { events: Mutex::default(), signalled: AtomicBool::new(false), wake }
    }

    pub(crate) fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.signal();
    }

    /// Wakes the control plane unless it was woken already and has not looked since.
    pub(crate) fn signal(&self) {
        if !self.signalled.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// All events since the last call. Cleared before the events are taken: a push that comes
    /// between the two wakes once too often, never once too rarely.
    pub(crate) fn drain(&self) -> Vec<Event> {
        self.signalled.store(false, Ordering::Release);
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.pressure = false;
        std::mem::take(&mut events.list)
    }

    /// Is there anything to look at?
    pub fn is_due(&self) -> bool {
        self.signalled.load(Ordering::Acquire)
    }
}
