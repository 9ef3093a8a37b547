//! Time as values. The core reads no clock: callers pass [`Now`] in.

use std::time::Duration;

/// A point on a monotonic clock, in nanoseconds since an origin that the driver chose.
///
/// `std::time::Instant` is not used because it can be made only by reading the system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than every deadline: never reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The point `millis` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This point plus `duration`; [`Instant::NEVER`] where that cannot be represented, so that a
    /// huge timeout never wraps into the past.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z: what a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines and durations.
    pub mono: Instant,
    /// For the timestamps of records.
    pub wall: Timestamp,
}

/// Where an append that opens a batch reads the time.
///
/// The driver supplies it; the core calls it once a batch, never once a record.
pub trait Clock: Send + Sync {
    /// The time now. Must not block and must not call into the producer.
    fn now(&self) -> Now;
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant};

    #[test]
    fn no_deadline_wraps_into_the_past() {
        let late = Instant::from_nanos(u64::MAX - 5);
        assert_eq!(late.saturating_add(Duration::from_nanos(5)), Instant::NEVER);
        assert_eq!(late.saturating_add(Duration::MAX), Instant::NEVER);
        assert_eq!(Instant::from_millis(u64::MAX), Instant::NEVER);
        assert_eq!(Instant::ZERO.saturating_since(late), Duration::ZERO);
        assert_eq!(late.saturating_since(Instant::ZERO).as_nanos() as u64, late.as_nanos());
        let exact = Instant::from_millis(7).saturating_add(Duration::from_micros(3));
        assert_eq!(exact.as_nanos(), 7_003_000);
    }
}
