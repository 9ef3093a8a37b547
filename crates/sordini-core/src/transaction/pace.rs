//! How soon after a transaction the next one's first batch goes.
//!
//! `EndTxn` is answered when the decision is in the coordinator's log; the markers are written
//! after that. In the second protocol (KIP-890) a broker that is given a batch of the next
//! transaction meanwhile asks the coordinator, is told `CONCURRENT_TRANSACTIONS`, and asks again only
//! `add.partitions.to.txn.retry.backoff.ms` later, 20 ms by default: a batch that comes half a
//! millisecond too soon costs forty times that. So it is held for about as long as markers have been
//! seen to take here.

use std::time::Duration;

use crate::time::Instant;

/// The first pause that is tried.
const LEAST: Duration = Duration::from_micros(500);

/// A pause may cost half of what it saves.
const LONGEST: Duration = Duration::from_millis(10);

/// What an answer lacks to the quickest, at least, if the broker paused.
const PAUSED: Duration = Duration::from_millis(15);

/// A pause that is long enough gets shorter by this part of itself, until it is not.
const FADES: u32 = 512;

/// After a pause that did not help, so many first batches are not held; twice as many after the next.
const RESTS: std::ops::RangeInclusive<u32> = 64..=4096;

/// Learns from the answers to first batches how long to hold the next. That one is late proves
/// nothing: there are other reasons than markers. So two in a row have to be late before any is held,
/// and where one is late that was held, the next is sent at once, to see whether holding helps.
#[derive(Debug)]
pub struct Pace {
    quickest: Option<Duration>,
    phase: Phase,
    /// How many are not to be held after a pause that did not help.
    next_rest: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// They go at once.
    Bare {
        /// Whether the last one was late.
        late: bool,
        /// For so many it stays like that.
        rest: u32,
    },
    /// They are held for so long.
    Held(Duration),
    /// One that was held for so long was late; the next goes at once.
    Probing(Duration),
}

impl Default for Pace {
    fn default() -> Self {
        let phase = Phase::Bare { late: false, rest: 0 };
        Self { quickest: None, phase, next_rest: *RESTS.start() }
    }
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// As far as the answer tells, nothing stood in the way.
    Nothing,
    /// The transaction before was not completed yet.
    Markers,
}

impl Pace {
    /// How long after the answer to `EndTxn` the first batch of the next transaction is to go.
    #[must_use]
    pub fn hold(&self) -> Duration {
        match self.phase {
            Phase::Held(hold) => hold,
            Phase::Bare { .. } | Phase::Probing(_) => Duration::ZERO,
        }
    }

    /// A first batch was answered after `took`.
    pub fn learn(&mut self, took: Duration, met: Met) {
        let late = match met {
            Met::Markers => true,
            Met::Nothing => self.is_late(took),
        };
        self.phase = match self.phase {
            Phase::Bare { late: true, rest: 0 } if late => Phase::Held(LEAST),
            Phase::Bare { rest, .. } => Phase::Bare { late, rest: rest.saturating_sub(1) },
            Phase::Held(hold) if late => Phase::Probing(hold),
            Phase::Held(hold) => self.shorter(hold),
            Phase::Probing(hold) if late => self.longer(hold),
            Phase::Probing(_) => Phase::Bare { late, rest: 0 },
        };
    }

    /// Whether it took as long as one for which a broker paused.
    fn is_late(&mut self, took: Duration) -> bool {
        let quickest = *self.quickest.get_or_insert(took);
        // Up slowly, so that a cluster that has become slower is not taken for one that pauses.
        self.quickest = Some(took.min(quickest.saturating_add(took.saturating_sub(quickest) / 16)));
        took >= quickest.saturating_add(PAUSED)
    }

    fn longer(&mut self, hold: Duration) -> Phase {
        if hold < LONGEST {
            return Phase::Held((hold * 2).min(LONGEST));
        }
        // It does not help: something else is slow.
        let rest = self.next_rest;
        self.next_rest = (rest * 2).min(*RESTS.end());
        Phase::Bare { late: true, rest }
    }

    fn shorter(&mut self, hold: Duration) -> Phase {
        self.next_rest = *RESTS.start();
        match hold - hold / FADES {
            hold if hold < LEAST / 8 => Phase::Bare { late: false, rest: 0 },
            hold => Phase::Held(hold),
        }
    }
}

/// How far a transaction is with its first batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// None may go before.
    Held(Instant),
    /// None went.
    Unsent,
    /// The first went then.
    Sent(Instant),
    /// Nothing more is learnt from it.
    Over,
}

#[cfg(test)]
mod tests;
