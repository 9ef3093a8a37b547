//! What the data plane tells the control plane: which lanes and topics want its attention.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::accumulator::lane::Lane;
use crate::accumulator::topic::Topic;

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
    events: Mutex<Vec<Event>>,
    signalled: AtomicBool,
    wake: Arc<dyn Wake>,
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
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Is there anything to look at?
    pub fn is_due(&self) -> bool {
        self.signalled.load(Ordering::Acquire)
    }
}
