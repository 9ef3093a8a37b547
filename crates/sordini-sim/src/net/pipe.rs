//! One direction of a connection: order is kept, whatever the delays.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use sordini_core::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// When what was put in last arrives.
    last: Instant,
    /// What a cut holds.
    held: BytesMut,
    /// The end of the stream, held behind that, and its cause.
    ended: Option<&'static str>,
}

impl Pipe {
    /// When something arrives that is due at `at`: not before what was put in earlier.
    pub(super) fn due(&mut self, at: Instant) -> Instant {
        self.last = self.last.max(at);
        self.last
    }

    pub(super) fn hold(&mut self, bytes: &Bytes) {
        self.held.extend_from_slice(bytes);
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn end(&mut self, cause: &'static str) {
        self.ended.get_or_insert(cause);
    }

    /// What was held, all at once, and the end behind it.
    pub(super) fn release(&mut self) -> (Bytes, Option<&'static str>) {
        (self.held.split().freeze(), self.ended.take())
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}

/// Takes `count` bytes off the front.
pub(super) fn take(queue: &mut VecDeque<Bytes>, count: usize) -> Bytes {
    if let Some(front) = queue.front_mut()
        && front.len() > count
    {
        return front.split_to(count);
    }
    if queue.front().is_some_and(|front| front.len() == count) {
        return queue.pop_front().unwrap_or_default();
    }
    let mut bytes = BytesMut::with_capacity(count);
    while bytes.len() < count {
        let Some(mut front) = queue.pop_front() else { break };
        let part = front.split_to((count - bytes.len()).min(front.len()));
        bytes.extend_from_slice(&part);
        if !front.is_empty() {
            queue.push_front(front);
        }
    }
    bytes.freeze()
}

/// Most pieces of one write; the rest comes in one.
const MOST_PIECES: u64 = 300;

/// Cuts what is written into what arrives at once.
pub(super) fn pieces(mut bytes: Bytes, size: Option<u16>, mut each: impl FnMut(u64, Bytes)) {
    let size = usize::from(size.unwrap_or(u16::MAX)).max(1);
    let limited = size < usize::from(u16::MAX);
    let mut nth = 0;
    while limited && bytes.len() > size && nth < MOST_PIECES {
        each(nth, bytes.split_to(size));
        nth += 1;
    }
    each(nth, bytes);
}
