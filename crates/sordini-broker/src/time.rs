//! Both clocks as values: the core reads none.

use std::time::Duration;

/// A point on a monotonic clock: nanoseconds since an epoch of the caller's choice.
///
/// `std::time::Instant` is not used in the core, because it can't be made up by a simulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The instant `duration` later, at most the last one that can be represented (584 years).
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// The instant `millis` milliseconds later; negative counts as none.
    #[must_use]
    pub fn after_millis(self, millis: i64) -> Self {
        self.after(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// How long after `earlier` this is, zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks at one moment, as the caller of the core sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines. Never goes backwards.
    pub mono: Instant,
    /// For timestamps in the log: milliseconds since 1970 (UTC). May jump.
    pub wall_ms: i64,
}
