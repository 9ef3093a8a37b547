//! When to ask for metadata.

use std::time::Duration;

use crate::acks::retry::{Rng, backoff};
use crate::connection::ConnId;
use crate::time::Instant;

/// The state of asking.
#[derive(Debug, Default)]
pub struct Refresh {
    wanted: bool,
    in_flight: Option<ConnId>,
    not_before: Instant,
    failures: u32,
    last: Option<Instant>,
}

impl Refresh {
    /// Something is missing or out of date.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// When to ask next; `None` while an answer is awaited.
    #[must_use]
    pub fn next(&self, max_age: Duration) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        let by_age = self.last.map(|last| last.saturating_add(max_age));
        match (self.wanted, by_age) {
            (true, _) => Some(self.not_before),
            (false, by_age) => by_age.map(|at| at.max(self.not_before)),
        }
    }

    /// A request was sent.
    pub fn sent(&mut self, conn: ConnId) {
        self.in_flight = Some(conn);
        self.wanted = false;
    }

    /// An answer came. `complete`: nothing that is waited for is missing from it.
    pub fn answered(
        &mut self,
        complete: bool,
        now: Instant,
        bounds: (Duration, Duration),
        rng: &mut Rng,
    ) {
        self.in_flight = None;
        self.last = Some(now);
        self.failures = if complete { 0 } else { self.failures + 1 };
        self.wanted |= !complete;
        // Even good answers keep their distance: errors by the dozen must not become as many
        // requests.
        let pause = backoff(bounds.0, bounds.1, self.failures.max(1), rng);
        self.not_before = now.saturating_add(pause);
    }

    /// The connection broke: if it owed the answer, ask elsewhere.
    pub fn connection_lost(
        &mut self,
        conn: ConnId,
        now: Instant,
        bounds: (Duration, Duration),
        rng: &mut Rng,
    ) {
        if self.in_flight == Some(conn) {
            self.in_flight = None;
            self.wanted = true;
            self.failures += 1;
            self.not_before = now.saturating_add(backoff(bounds.0, bounds.1, self.failures, rng));
        }
    }
}
