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
const MOST: Duration = Duration::from_millis(10);

/// What an answer lacks to the quickest, at least, if the broker paused.
const PAUSED: Duration = Duration::from_millis(15);

/// Learns from the answers to first batches how long to hold the next.
#[derive(Debug, Default)]
pub struct Pace {
    hold: Duration,
    quickest: Option<Duration>,
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
        self.hold
    }

    /// A first batch was answered after `took`.
    pub fn learn(&mut self, took: Duration, met: Met) {
        let quickest = *self.quickest.get_or_insert(took);
        let late = met == Met::Markers || took >= quickest.saturating_add(PAUSED);
        // Up slowly, so that a cluster that has become slower is not taken for one that pauses.
        self.quickest = Some(took.min(quickest.saturating_add(took.saturating_sub(quickest) / 16)));
        self.hold = match late {
            false => self.hold.saturating_sub(self.hold / 256),
            // It does not help: something else is slow.
            true if self.hold >= MOST => Duration::ZERO,
            true => (self.hold * 2).clamp(LEAST, MOST),
        };
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
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Transactions in a row, each answered after 2 ms, or 22 where it came before its markers.
    fn run(pace: &mut Pace, transactions: u32, markers: Duration) -> u32 {
        let mut paused = 0;
        for _ in 0..transactions {
            let late = pace.hold() < markers;
            paused += u32::from(late);
            pace.learn(if late { millis(22) } else { millis(2) }, Met::Nothing);
        }
        paused
    }

    #[test]
    fn a_first_batch_seldom_comes_before_the_markers_and_waits_little_for_them() {
        let mut pace = Pace::default();
        pace.learn(millis(2), Met::Nothing);
        for micros in [300, 900, 2_500, 7_000] {
            let markers = Duration::from_micros(micros);
            run(&mut pace, 10, markers);
            let paused = run(&mut pace, 1_000, markers);
            assert!(paused <= 12, "{paused} of 1,000 with markers of {markers:?}");
            assert!(pace.hold() <= 2 * markers.max(LEAST), "{:?} for {markers:?}", pace.hold());
        }
    }

    #[test]
    fn where_markers_are_never_met_nothing_is_held() {
        let mut pace = Pace::default();
        assert_eq!(run(&mut pace, 100, Duration::ZERO), 0);
        assert_eq!(pace.hold(), Duration::ZERO);
    }

    #[test]
    fn a_pause_that_does_not_help_is_given_up() {
        let mut pace = Pace::default();
        pace.learn(millis(2), Met::Nothing);
        let given_up = (0..20).any(|_| {
            pace.learn(millis(40), Met::Markers);
            pace.hold() == Duration::ZERO
        });
        assert!(given_up && pace.hold() <= MOST);
    }

    #[test]
    fn a_slow_cluster_is_not_taken_for_one_that_pauses() {
        let mut pace = Pace::default();
        pace.learn(millis(2), Met::Nothing);
        (0..200).for_each(|_| pace.learn(millis(60), Met::Nothing));
        let before = pace.hold();
        (0..200).for_each(|_| pace.learn(millis(60), Met::Nothing));
        assert!(pace.hold() <= before, "{:?}", pace.hold());
    }

    #[test]
    fn an_answer_that_names_the_transaction_before_is_one_that_came_too_soon() {
        let mut pace = Pace::default();
        pace.learn(millis(2), Met::Markers);
        assert_eq!(pace.hold(), LEAST);
    }
}
