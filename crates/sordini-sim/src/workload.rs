//! What the applications do: how many there are, what they send, and how they behave.

use std::time::Duration;

use crate::clock;
use crate::history::Shape;
use crate::rng::Rng;
use sordini_core::time::Instant;

/// A workload, as plain data. Rates are per 1000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// How many producers.
    pub producers: u16,
    /// How many records they are to send together, about.
    pub records: u32,
    /// Sizes of values that are drawn from, in bytes.
    pub sizes: Vec<u32>,
    /// Most records that are sent at one moment.
    pub burst: u32,
    /// Records with an explicit partition.
    pub explicit: u16,
    /// Records with a key.
    pub keyed: u16,
    /// How many keys there are.
    pub keys: u32,
    /// Records without a value.
    pub null: u16,
    /// Records with headers.
    pub headers: u16,
    /// Records with a timestamp of their own.
    pub timestamps: u16,
    /// Receipts that are dropped at once.
    pub detached: u16,
    /// Bursts that are followed by a flush.
    pub flushes: u16,
    /// The first producer is closed then, with so many milliseconds of patience.
    pub close: Option<(u64, u64)>,
    /// The application sends again what failed as possibly written.
    pub resend: bool,
}

impl Workload {
    /// Draws one for `chaos` milliseconds.
    pub(crate) fn draw(rng: &mut Rng, chaos: u64) -> Self {
        let sizes = rng.pick::<&[u32]>(&[&[16, 40, 100], &[100], &[30, 100, 400], &[20, 60, 2500]]);
        let spread = [0, 100, 500];
        Self {
            producers: rng.pick(&[1, 1, 1, 2, 3]),
            records: rng.within(1000..=2000) as u32,
            sizes: sizes.to_vec(),
            burst: rng.pick(&[2, 10, 40, 120]),
            explicit: rng.pick(&[0, 200, 1000]),
            keyed: rng.pick(&[0, 300, 1000]),
            keys: rng.pick(&[1, 7, 200]),
            null: rng.pick(&[0, 20, 100]),
            headers: rng.pick(&spread),
            timestamps: rng.pick(&spread),
            detached: rng.pick(&spread),
            flushes: rng.pick(&[0, 10, 100]),
            close: rng
                .chance(100)
                .then(|| (rng.within(chaos / 2..=chaos), rng.pick(&[0, 50, 5000]))),
            resend: false,
        }
    }

    /// Bytes that all producers send, about, headers of batches of a few records among them.
    pub(crate) fn bytes(&self) -> u64 {
        let sizes: u64 = self.sizes.iter().map(|size| u64::from(*size) + 40).sum();
        u64::from(self.records) * sizes / (self.sizes.len() as u64).max(1)
    }

    /// How long one producer pauses between bursts, on average.
    pub(crate) fn pause(&self, chaos: u64) -> Duration {
        let bursts = u64::from(self.records) * 2 / (u64::from(self.burst) + 1);
        let each = (bursts / u64::from(self.producers.max(1))).max(1);
        Duration::from_micros(chaos * 1000 / each)
    }

    /// Draws the next record's shape.
    pub(crate) fn shape(&self, rng: &mut Rng, now: Instant) -> Shape {
        let chance = |rng: &mut Rng, rate: u16| rng.chance(u64::from(rate));
        Shape {
            len: rng.pick(&self.sizes),
            key: chance(rng, self.keyed).then(|| rng.below(u64::from(self.keys)) as u32),
            null: chance(rng, self.null),
            headers: if chance(rng, self.headers) { rng.within(1..=4) as u8 } else { 0 },
            timestamp: chance(rng, self.timestamps).then(|| {
                // Within what a topic takes: the past is unlimited, the future an hour.
                clock::wall(now) - 1_000_000 + rng.below(1_500_000) as i64
            }),
        }
    }
}
