//! One direction of a connection: order is kept, whatever the delays.

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
