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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The least and the longest of many pauses, in microseconds.
    fn pauses(first: Duration, max: Duration, failures: u32) -> (u128, u128) {
        let mut rng = Rng::new(7);
        let pauses = (0..4000).map(|_| backoff(first, max, failures, &mut rng).as_micros());
        pauses.fold((u128::MAX, 0), |(least, longest), us| (least.min(us), longest.max(us)))
    }

    #[test]
    fn draws_are_those_of_splitmix64() {
        // The first outputs of the reference implementation with these seeds.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(
            [rng.bits(), rng.bits(), rng.bits()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        assert_eq!(Rng::new(0).bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(Rng::new(1_234_567).below(1000), 317);
    }

    #[test]
    fn a_pause_doubles_with_each_failure_up_to_the_longest_and_varies_by_a_fifth() {
        // KIP-580: the second failure in a row waits twice as long as the first.
        let expected = [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (99, 1000)];
        for (failures, ms) in expected.into_iter().chain([(u32::MAX, 1000)]) {
            let (least, longest) = pauses(100 * MS, 1000 * MS, failures);
            let (low, high) = (ms * 800, ms * 1200);
            assert!(low <= least && least < low + ms * 4, "{failures}: {least}");
            assert!(high - ms * 4 < longest && longest <= high, "{failures}: {longest}");
        }
    }

    #[test]
    fn the_first_pause_holds_where_the_longest_is_shorter() {
        let (least, longest) = pauses(100 * MS, 10 * MS, 9);
        assert!(80_000 <= least && longest <= 120_000);
    }

    #[test]
    fn no_pause_is_shorter_than_a_loop_may_spin() {
        let nanos = Duration::from_nanos;
        for first in [Duration::ZERO, nanos(1), nanos(4), nanos(5), 100 * nanos(1000), MS / 2] {
            assert_eq!(pauses(first, first, 1), (1000, 1000), "{first:?}");
        }
    }

    #[test]
    fn a_pause_that_no_clock_can_hold_is_no_overflow() {
        let pause = backoff(Duration::MAX, Duration::MAX, 40, &mut Rng::new(1));
        assert!(pause > Duration::from_secs(400 * 365 * 86_400));
    }
}
