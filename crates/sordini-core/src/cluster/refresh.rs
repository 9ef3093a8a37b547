//! When to ask for metadata.

use std::time::Duration;

use crate::acks::retry::{Rng, backoff};
use crate::connection::ConnId;
use crate::time::Instant;

/// A broker that has not answered for so long is not waited for if another can be asked: what it
/// was sent before may hold it up until `request.timeout.ms`. Doubled for each in a row, so that
/// a network that is slow everywhere is heard in the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The state of asking. One round is under way at a time: a request about the topics that are not
/// known yet, one about those that are, or both.
#[derive(Debug, Default)]
pub struct Refresh {
    wanted: bool,
    /// What is known may be out of date too.
    leaders: bool,
    round: Option<Round>,
    not_before: Instant,
    failures: u32,
    /// Rounds in a row that were given up.
    unheard: u32,
    /// Rounds begun, by which answers are told apart.
    rounds: u64,
    /// When what is known was last confirmed.
    last: Option<Instant>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    conn: ConnId,
    /// When another broker may be asked in its place.
    until: Instant,
    /// Answers that are still to come.
    awaited: usize,
    leaders: bool,
    complete: bool,
}

impl Refresh {
    /// Something that was known is out of date.
    pub fn want(&mut self) {
        self.wanted = true;
        self.leaders = true;
    }

    /// Somebody waits for a topic that is not known.
    pub fn want_topic(&mut self) {
        self.wanted = true;
    }

    /// When to ask next; while an answer is awaited, when to ask another broker than
    /// [`Refresh::asked`].
    #[must_use]
    pub fn next(&self, max_age: Duration) -> Option<Instant> {
        if let Some(round) = &self.round {
            return Some(round.until);
        }
        let by_age = self.last.map(|last| last.saturating_add(max_age));
        match (self.wanted, by_age) {
            (true, _) => Some(self.not_before),
            (false, by_age) => by_age.map(|at| at.max(self.not_before)),
        }
    }

    /// The connection that owes an answer.
    #[must_use]
    pub fn asked(&self) -> Option<ConnId> {
        self.round.as_ref().map(|round| round.conn)
    }

    /// The answer that is awaited is no longer: somebody else will be asked the same.
    pub fn give_up(&mut self) {
        if let Some(round) = self.round.take() {
            self.wanted = true;
            self.leaders |= round.leaders;
            self.unheard += 1;
        }
    }

    /// Are the topics that are known to be asked about too?
    #[must_use]
    pub fn concerns_leaders(&self, now: Instant, max_age: Duration) -> bool {
        self.leaders || self.last.is_none_or(|last| last.saturating_add(max_age) <= now)
    }

    /// So many requests were sent; `leaders`: one of them is about the topics that are known.
    /// Returns the round's number.
    pub fn sent(&mut self, conn: ConnId, now: Instant, awaited: usize, leaders: bool) -> u64 {
        self.rounds += 1;
        let number = self.rounds;
        let until = now.saturating_add(PATIENCE.saturating_mul(1 << self.unheard.min(16)));
        self.round = Some(Round { number, conn, until, awaited, leaders, complete: true });
        self.wanted = false;
        self.leaders &= !leaders;
        number
    }

    /// Is an answer of this round awaited? What comes after it was given up is older than what
    /// was learned meanwhile.
    #[must_use]
    pub fn awaits(&self, round: u64) -> bool {
        self.round.as_ref().is_some_and(|it| it.number == round)
    }

    /// An answer came. `complete`: nothing that is waited for is missing from it.
    pub fn answered(
        &mut self,
        complete: bool,
        now: Instant,
        bounds: (Duration, Duration),
        rng: &mut Rng,
    ) {
        let Some(round) = &mut self.round else { return };
        self.unheard = 0;
        round.awaited -= 1;
        round.complete &= complete;
        if round.awaited > 0 {
            return;
        }
        if round.leaders {
            self.last = Some(now);
        }
        self.failures = if round.complete { 0 } else { self.failures + 1 };
        self.wanted |= !round.complete;
        self.round = None;
        // Even good answers keep their distance: errors by the dozen must not become as many
        // requests.
        let pause = backoff(bounds.0, bounds.1, self.failures.max(1), rng);
        self.not_before = now.saturating_add(pause);
    }

    /// The connection broke: if it owed an answer, ask elsewhere.
    pub fn connection_lost(
        &mut self,
        conn: ConnId,
        now: Instant,
        bounds: (Duration, Duration),
        rng: &mut Rng,
    ) {
        if let Some(round) = self.round.take_if(|round| round.conn == conn) {
            self.wanted = true;
            self.leaders |= round.leaders;
            self.failures += 1;
            self.not_before = now.saturating_add(backoff(bounds.0, bounds.1, self.failures, rng));
        }
    }
}
