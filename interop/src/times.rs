//! Moments for faults.

use std::time::Duration;

/// Times that differ from run to run of the soak and are the same in CI.
pub struct Times(u64);

impl Times {
    /// From `SORDINI_SOAK_SEED`.
    #[must_use]
    pub fn from_seed() -> Self {
        let seed = std::env::var("SORDINI_SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
        Self(seed.unwrap_or(0))
    }

    /// Between `from` and twice that.
    pub fn about(&mut self, from: Duration) -> Duration {
        from + from.mul_f64(self.part())
    }

    /// From 0 up, below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.part() * end as f64) as u64
    }

    /// From 0 up, below 1.
    fn part(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}
