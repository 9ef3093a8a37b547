//! When to try again.

use std::time::Duration;

/// A generator for jitter and draws: SplitMix64, seeded by the driver.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `below`, which must not be 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.bits() % below
    }
}

/// No pause is shorter, whatever the settings say: what fails at once must not be tried in a loop
/// that leaves the processor to nobody else.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// Exponential backoff with 20 % jitter either way (KIP-580): `first`, doubled for each failure
/// after the first, up to `max`, and never below [`SHORTEST`].
pub fn backoff(first: Duration, max: Duration, failures: u32, rng: &mut Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(30);
    let base = first.saturating_mul(1 << doublings).min(max.max(first));
    let nanos = u64::try_from(base.as_nanos()).unwrap_or(u64::MAX);
    let spread = nanos / 5 * 2;
    if spread == 0 {
        return base.max(SHORTEST);
    }
    Duration::from_nanos(nanos - spread / 2 + rng.below(spread)).max(SHORTEST)
}
