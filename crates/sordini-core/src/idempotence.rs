//! Who writes: the producer id and its epoch (KIP-98, KIP-360).

use std::time::Duration;

use sordini_protocol::ErrorCode;

use crate::acks::retry::{Rng, backoff};
use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;

/// The identity that partitions stamp their batches with.
#[derive(Debug)]
pub enum Identity {
    /// Not idempotent: none is needed.
    None,
    /// A producer id is asked for, or about to be.
    Acquiring(Acquisition),
    /// This one.
    Ready(ProducerIdentity),
    /// None will ever be had.
    Fatal(ErrorCode),
}

/// The request for a producer id.
#[derive(Debug, Default)]
pub struct Acquisition {
    /// A request is under way.
    pub requested: bool,
    failures: u32,
    not_before: Instant,
    /// The last answer.
    pub last: Option<ErrorCode>,
}

impl Identity {
    /// Before the first request.
    #[must_use]
    pub fn new(idempotent: bool) -> Self {
        if idempotent { Self::Acquiring(Acquisition::default()) } else { Self::None }
    }

    /// Is it time to ask?
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.next_request().is_some_and(|at| at <= now)
    }

    /// When to ask, if no request is under way.
    #[must_use]
    pub fn next_request(&self) -> Option<Instant> {
        match self {
            Self::Acquiring(state) if !state.requested => Some(state.not_before),
            _ => None,
        }
    }

    /// A request was sent.
    pub fn requested(&mut self) {
        if let Self::Acquiring(state) = self {
            state.requested = true;
        }
    }

    /// The request failed, or its connection broke: ask again after a backoff.
    pub fn failed(
        &mut self,
        code: Option<ErrorCode>,
        now: Instant,
        bounds: (Duration, Duration),
        rng: &mut Rng,
    ) {
        if let Self::Acquiring(state) = self {
            state.requested = false;
            state.failures += 1;
            state.last = code.or(state.last);
            let pause = backoff(bounds.0, bounds.1, state.failures, rng);
            state.not_before = now.saturating_add(pause);
        }
    }

    /// The identity for a line that was stamped with `old` so far; `None` while there is none.
    ///
    /// A bump is local: the broker accepts a higher epoch of a known id, partition by partition.
    /// A line whose epoch another line's failure already left behind takes the present one: epochs
    /// are few. At the last epoch a new producer id is asked for.
    pub fn renewed(&mut self, old: Option<ProducerIdentity>) -> Option<ProducerIdentity> {
        let Self::Ready(current) = *self else { return None };
        if old != Some(current) {
            return Some(current);
        }
        match current.epoch.checked_add(1) {
            Some(epoch) => {
                let next = ProducerIdentity { epoch, ..current };
                *self = Self::Ready(next);
                Some(next)
            }
            None => {
                *self = Self::Acquiring(Acquisition::default());
                None
            }
        }
    }
}
