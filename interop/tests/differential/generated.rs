//! Scripts around the written ones, from a fixed seed: what nobody thought of.

use crate::batch::{Batch, Damage, Id};
use crate::script::{Script, Step, Target, Topic, produce};

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What a careful producer would send next, and what it sent.
#[derive(Clone, Default)]
struct Life {
    epoch: i16,
    next: i32,
    sent: Vec<(i16, i32, usize)>,
}

pub(crate) fn all(count: u64) -> Vec<Script> {
    (0..count).map(|seed| script(seed, &mut Rng(seed))).collect()
}

fn script(seed: u64, rng: &mut Rng) -> Script {
    let mut lives = [Life::default(), Life::default()];
    for life in &mut lives {
        life.epoch = rng.pick(&[0, 0, 0, 5, i16::MAX - 1]);
        life.next = rng.pick(&[0, 0, 0, 0, 41, i32::MAX - 3, i32::MAX]);
    }
    let topic =
        rng.pick(&[Topic::Plain, Topic::Plain, Topic::Plain, Topic::LogAppendTime, Topic::Small]);
    let steps = (0..3 + rng.below(12)).map(|_| step(rng, &mut lives)).collect();
    Script::new(format!("generated {seed}"), topic, steps)
}

fn step(rng: &mut Rng, lives: &mut [Life; 2]) -> Step {
    let who = usize::from(rng.below(4) == 0);
    let life = &mut lives[who];
    let records = rng.pick(&[1, 1, 2, 3]);
    let (epoch, sequence, records) = match rng.below(12) {
        // A retry of something sent before, the near past more often.
        0..3 if !life.sent.is_empty() => {
            let back = rng.below(life.sent.len().min(8) as u64) as usize;
            life.sent[life.sent.len() - 1 - back]
        }
        3 => (life.epoch, life.next.wrapping_add(rng.pick(&[1, 2, -1, -2])), records),
        4 => {
            life.epoch = life.epoch.saturating_add(1);
            life.next = rng.pick(&[0, 0, 0, 1]);
            (life.epoch, life.next, records)
        }
        5 => (life.epoch - 1, life.next, records),
        6 => (life.epoch, 0, records),
        _ => (life.epoch, life.next, records),
    };
    let mut batch = Batch::of(epoch, sequence, records).by(Id::Own(who));
    if rng.below(15) == 0 {
        batch = batch.damaged(rng.pick(&[
            Damage::Checksum,
            Damage::Count(0),
            Damage::Cut(3),
            Damage::Twice,
            Damage::Magic(1),
            Damage::BaseOffset(3),
        ]));
    } else if (epoch, sequence) == (life.epoch, life.next) {
        life.sent.push((epoch, sequence, records));
        // A sequence is 31 bits wide, and wraps to 0.
        let next = (i64::from(sequence) + records as i64) % (1 << 31);
        life.next = i32::try_from(next).expect("31 bits");
    }
    if rng.below(20) == 0 {
        return produce(Batch { id: Id::Fixed(-1), epoch: -1, sequence: -1, ..batch });
    }
    let version = rng.pick(&[13, 13, 12, 9, 7, 3]);
    let acks = rng.pick(&[-1, -1, -1, 1, 0]);
    Step::Produce { version, acks, target: Target::Own, batch }
}
