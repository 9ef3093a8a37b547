//! Draws from a seed. Streams with labels of their own keep one part of a world from moving
//! another: when a fault is taken out of a plan, the rest of the world draws what it drew before.

use std::ops::RangeInclusive;
use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// One finalising mix of SplitMix64: a good hash of one number.
#[must_use]
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// Starts at `seed`.
    #[must_use]
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for `label`, whatever was drawn from this one.
    #[must_use]
    pub(crate) const fn stream(seed: u64, label: u64) -> Self {
        Self(mix(seed ^ mix(label)))
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        drawn
    }

    /// A number below `below`; 0 if that is 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.bits().checked_rem(below).unwrap_or(0)
    }

    /// A number of the range.
    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below((range.end() - range.start()).saturating_add(1))
    }

    /// True in `permille` of 1000 cases.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of `of`, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A time of the range, in microseconds.
    pub(crate) fn micros(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.within(range))
    }

    /// A time with this mean and a long tail (at most eight times the mean): what is sometimes
    /// slow is now and then very slow.
    pub(crate) fn tailed(&mut self, mean: Duration) -> Duration {
        // A geometric number of halvings approximates the exponential without floating point.
        let doublings = self.bits().trailing_zeros().min(3);
        let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos.saturating_add(1)) << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_from_the_seed_and_streams_do_not_touch_each_other() {
        let draw = |mut rng: Rng| (0..5).map(|_| rng.bits()).collect::<Vec<_>>();
        assert_eq!(draw(Rng::new(7)), draw(Rng::new(7)));
        assert_ne!(draw(Rng::stream(7, 1)), draw(Rng::stream(7, 2)));
        let mut used = Rng::new(7);
        used.bits();
        assert_eq!(draw(Rng::stream(7, 1)), draw(Rng::stream(7, 1)));
    }

    #[test]
    fn ranges_are_kept() {
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            assert!((3..=5).contains(&rng.within(3..=5)));
            assert!(rng.tailed(Duration::from_millis(1)) <= Duration::from_millis(8));
        }
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).any(|_| rng.chance(10)) && !(0..1000).any(|_| rng.chance(0)));
    }
}
