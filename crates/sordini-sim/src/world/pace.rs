//! P8: how often a producer does something in a virtual second, against what it was given to do.

use std::time::Duration;

use sordini_core::config::Config;
use sordini_core::time::Instant;

const SECOND: u64 = 1_000_000_000;

/// What a record, an answer, a connection or a command may cost in turns of the machine: a record
/// may open a batch, which has its linger, its compression, its request and its time-outs; an
/// answer may let the next batch of each partition of its request go. Twice that is generous, and
/// a machine that turns in circles makes thousands of turns of nothing.
const EACH: u64 = 8;

/// Of a second with nothing to do: idle connections, metadata that is old, a close's deadline.
const IDLE: u64 = 50;

/// Counts the turns of one producer.
///
/// A turn is what it does of its own accord: a timer that fires, a look at its lanes, a frame, a
/// connection. What it may be waiting for at a time is one pause for each partition and each node,
/// for metadata and for a producer id, and no pause is shorter than four fifths of the shortest
/// backoff of the settings (a fifth is jitter); so there is a bound on the turns of a second that
/// does not depend on what goes wrong. What the network does in pieces costs no turns here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Turns that pauses alone explain, in a second.
    paused: u64,
    second: u64,
    turns: u64,
    given: u64,
    /// What was given in the second before: its time-outs may fall into this one.
    given_before: u64,
}

impl Pace {
    /// For a producer with `partitions` and `nodes` to care for.
    pub(super) fn new(config: &Config, partitions: u64, nodes: u64) -> Self {
        let shortest = config.retry_backoff.min(config.reconnect_backoff);
        let shortest = shortest.min(config.metadata_max_age).max(Duration::from_millis(1));
        let per_second = SECOND * 5 / 4 / shortest.as_nanos() as u64;
        Self {
            paused: (partitions + nodes + 2) * (per_second + 1),
            second: 0,
            turns: 0,
            given: 0,
            given_before: 0,
        }
    }

    /// Something to do was given to it: a record, an answer, the end of a connection, a command.
    pub(super) fn give(&mut self, now: Instant) {
        self.settle(now);
        self.given += 1;
    }

    /// It does something. Returns what is wrong with it, once a second.
    pub(super) fn turn(&mut self, now: Instant) -> Option<String> {
        self.settle(now);
        self.turns += 1;
        let bound = IDLE + self.paused + EACH * (self.given + self.given_before);
        (self.turns == bound + 1).then(|| {
            format!(
                "more than {bound} turns within virtual second {}: {} pauses and {} things to do \
                 explain no more",
                self.second,
                self.paused,
                self.given + self.given_before
            )
        })
    }

    fn settle(&mut self, now: Instant) {
        let second = now.as_nanos() / SECOND;
        if second != self.second {
            self.given_before = if second == self.second + 1 { self.given } else { 0 };
            (self.second, self.turns, self.given) = (second, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(backoff_ms: &str) -> Pace {
        let settings = [("retry.backoff.ms", backoff_ms), ("reconnect.backoff.ms", backoff_ms)];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = crate::settings::configure(&settings, 1).expect("sound settings");
        Pace::new(&config, 3, 1)
    }

    /// What is flagged of `count` turns, `every` so many microseconds.
    fn turns(pace: &mut Pace, count: u64, every: u64) -> Vec<String> {
        (0..count).filter_map(|nth| pace.turn(Instant::from_nanos(nth * every * 1000))).collect()
    }

    #[test]
    fn p8_a_loop_that_only_waits_a_little_is_found_in_every_second() {
        let wrong = turns(&mut pace("100"), 3000, 1000);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].starts_with("more than 128 turns within virtual second 0"), "{wrong:?}");
        assert_eq!(turns(&mut pace("1"), 30_000, 50).len(), 2);
    }

    #[test]
    fn p8_pauses_and_work_explain_turns_and_last_seconds_work_those_of_this() {
        assert_eq!(turns(&mut pace("100"), 300, 10_000), [""; 0]);
        let mut busy = pace("100");
        (0..1000).for_each(|nth| busy.give(Instant::from_millis(nth)));
        assert_eq!(turns(&mut busy, 3000, 300), [""; 0]);
        busy.give(Instant::from_millis(1500));
        assert_eq!((0..500).find_map(|_| busy.turn(Instant::from_millis(1900))), None);
        assert!((0..500).any(|_| busy.turn(Instant::from_millis(3100)).is_some()));
    }
}
