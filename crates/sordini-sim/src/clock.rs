//! Virtual time: one monotonic clock for the world, a wall clock for each of its inhabitants.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use sordini_core::time::{Clock, Instant, Now, Timestamp};

/// The wall time at which every world begins, in milliseconds since 1970.
pub(crate) const EPOCH: i64 = 1_700_000_000_000;

/// A producer's clocks. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientClock {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    mono: AtomicU64,
    skew_ms: AtomicI64,
}

impl ClientClock {
    /// Sets the monotonic clock.
    pub(crate) fn set(&self, at: Instant) {
        self.state.mono.store(at.as_nanos(), Ordering::Relaxed);
    }

    /// Moves the wall clock away from the true time by `ms`.
    pub(crate) fn set_skew(&self, ms: i64) {
        self.state.skew_ms.store(ms, Ordering::Relaxed);
    }

    /// Both clocks.
    #[must_use]
    pub(crate) fn now(&self) -> Now {
        let mono = Instant::from_nanos(self.state.mono.load(Ordering::Relaxed));
        let skew = self.state.skew_ms.load(Ordering::Relaxed);
        Now { mono, wall: Timestamp(wall(mono) + skew) }
    }
}

impl Clock for ClientClock {
    fn now(&self) -> Now {
        Self::now(self)
    }
}

/// The true wall time at `mono`.
#[must_use]
pub(crate) fn wall(mono: Instant) -> i64 {
    EPOCH.saturating_add(i64::try_from(mono.as_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

/// Virtual milliseconds since the world began.
#[must_use]
pub(crate) const fn millis(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}
