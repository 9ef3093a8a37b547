//! A request that is asked until it is answered: when to ask, and whether an answer is the one
//! that is waited for.

use std::time::Duration;

use crate::acks::retry::{Rng, backoff};
use crate::time::Instant;

/// Names one asking; an answer to an earlier one counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// How long to pause before asking again: `retry.backoff.ms` and its maximum.
pub type Bounds = (Duration, Duration);

/// While a transaction before this one is being completed, asking again soon pays: it takes
/// milliseconds.
const SHORT: Duration = Duration::from_millis(2);

/// Where the asking stands.
#[derive(Debug, Default)]
pub struct Errand {
    asked: Option<AskId>,
    failures: u32,
    not_before: Instant,
}

impl Errand {
    /// When to ask; `None` while an answer is waited for.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.asked.is_none().then_some(self.not_before)
    }

    /// Is it time to ask?
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// It was asked.
    pub fn asked(&mut self, ask: AskId) {
        self.asked = Some(ask);
    }

    /// Is an answer waited for?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Is this the asking that is waited for? If so, it no longer is.
    pub fn settle(&mut self, ask: AskId) -> bool {
        let is_it = self.asked == Some(ask);
        if is_it {
            self.asked = None;
        }
        is_it
    }

    /// To be asked again, after a pause that grows.
    pub fn again(&mut self, now: Instant, bounds: Bounds, rng: &mut Rng) {
        self.failures += 1;
        self.not_before = now.saturating_add(backoff(bounds.0, bounds.1, self.failures, rng));
    }

    /// To be asked again soon (CONCURRENT_TRANSACTIONS), though never in a loop.
    pub fn again_soon(&mut self, now: Instant, bounds: Bounds, rng: &mut Rng) {
        self.again(now, (SHORT.min(bounds.0), bounds.1.min(bounds.0.max(SHORT))), rng);
    }

    /// How often in a row it failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What was asked for is done; more of the kind may be asked for at once.
    pub fn done(&mut self) {
        *self = Self::default();
    }
}
