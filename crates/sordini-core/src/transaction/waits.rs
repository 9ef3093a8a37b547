//! Those who wait, and what they are told when they can wait no longer.

use std::sync::Arc;

use crate::error::Obstacle;
use crate::time::Instant;
use crate::token::Waiter;
use crate::transaction::error::{AbortCause, Ended, Lacked, TransactionError, TransactionOutcome};
use crate::transaction::state::{Direction, Ending, Inquiring, Offsets, Question, State};
use crate::transaction::{Ender, Reply, Transactions, Wants};

/// A partition whose records were not acknowledged yet, and what stands in their way.
#[derive(Debug)]
pub struct Unwritten {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The obstacle.
    pub last: Obstacle,
}

impl Transactions {
    /// Answers those whose deadline has passed, and dooms a transaction that is open too long: its
    /// coordinator would abort it soon, and fence this producer with it. `silence` stands in the way
    /// where nothing failed; `records` are those that were not acknowledged, if any were not.
    pub fn on_deadline(&mut self, now: Instant, silence: &Obstacle, records: Option<Unwritten>) {
        if let Some(open) = self.state.open()
            && !self.is_aborting()
            && open.deadline(self.timeout) <= now
        {
            let after = now.saturating_since(open.began);
            let cause = AbortCause::TimedOut { after, lacked: self.lacked(silence, records) };
            self.doom(cause.clone());
            self.drain(Direction::Abort(cause));
        }
        let last = self.last(silence);
        let late = |waiter: &Waiter| waiter.deadline <= now;
        let timed_out = |waiter: &Waiter| TransactionError::TimedOut {
            waited: now.saturating_since(waiter.since),
            last: last.clone(),
        };
        let unfinished = |waiter: &Waiter, transaction| TransactionError::Unfinished {
            transaction,
            waited: now.saturating_since(waiter.since),
            last: last.clone(),
        };
        let mut answers = Vec::new();
        self.initializers.retain(|waiter| {
            if late(waiter) {
                answers.push((*waiter, Reply::Initialized(Err(timed_out(waiter)))));
            }
            !late(waiter)
        });
        if let Some(waiter) = self.beginner.take_if(|waiter| late(waiter)) {
            let error = match self.state.transaction() {
                Some(transaction) => unfinished(&waiter, transaction),
                None => timed_out(&waiter),
            };
            answers.push((waiter, Reply::Begun(Err(error))));
        }
        for offsets in self.state.open_mut().into_iter().flat_map(|open| &mut open.offsets) {
            if let Some(waiter) = offsets.waiter.take_if(|waiter| late(waiter)) {
                answers.push((waiter, Reply::OffsetsSent(Err(timed_out(&waiter)))));
            }
        }
        self.fenced.retain(|waiter| {
            if late(waiter) {
                answers.push((*waiter, Reply::OffsetsSent(Err(timed_out(waiter)))));
            }
            !late(waiter)
        });
        self.enders.retain(|Ender { waiter, number, wants }| {
            if late(waiter) {
                let result = match wants {
                    Wants::Commit => {
                        let outcome = TransactionOutcome::Unknown;
                        Ok(Ended { transaction: *number, outcome, fatal: None })
                    }
                    Wants::Abort | Wants::Outcome => Err(unfinished(waiter, *number)),
                };
                answers.push((*waiter, Reply::Ended(result)));
            }
            !late(waiter)
        });
        for (waiter, reply) in answers {
            self.answer(waiter, reply);
        }
    }

    /// What last stood in a coordinator's way.
    fn last(&self, silence: &Obstacle) -> Obstacle {
        match &self.obstacle {
            Obstacle::NoAnswer => silence.clone(),
            known => known.clone(),
        }
    }

    fn lacked(&self, silence: &Obstacle, records: Option<Unwritten>) -> Lacked {
        let waits = |offsets: &Offsets| offsets.waiter.is_some();
        match records {
            // Why the coordinator has not is what it answered.
            Some(Unwritten { topic, partition, last: Obstacle::NotEnrolled })
                if self.obstacle != Obstacle::NoAnswer =>
            {
                Lacked::Records { topic, partition, last: self.obstacle.clone() }
            }
            Some(Unwritten { topic, partition, last }) => {
                Lacked::Records { topic, partition, last }
            }
            None if self.state.open().is_some_and(|open| open.offsets.iter().any(waits)) => {
                Lacked::Offsets { last: self.last(silence) }
            }
            None => Lacked::Nothing,
        }
    }

    /// When to call [`Transactions::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let offsets = self.state.open().into_iter().flat_map(|open| &open.offsets);
        let waiters = self.initializers.iter().chain(&self.beginner).chain(&self.fenced);
        let waiters = waiters.chain(self.enders.iter().map(|ender| &ender.waiter));
        let waiters = waiters.chain(offsets.filter_map(|offsets| offsets.waiter.as_ref()));
        let open = self.state.open().filter(|_| !self.is_aborting());
        let open = open.map(|open| open.deadline(self.timeout));
        waiters.map(|waiter| waiter.deadline).chain(open).min()
    }

    /// The producer closes: what is open is aborted.
    pub fn close(&mut self) {
        if matches!(self.state, State::Open(_) | State::Doomed(_)) {
            self.drain(Direction::Abort(AbortCause::Closed));
        }
    }

    /// Is no transaction under way?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state.transaction().is_none() && !matches!(self.state, State::Inquiring(_))
    }

    /// The producer is gone: whoever waits is answered with what is known.
    pub fn abandon(&mut self) {
        self.drop_offsets(&TransactionError::Closed);
        for waiter in std::mem::take(&mut self.fenced) {
            self.answer(waiter, Reply::OffsetsSent(Err(TransactionError::Closed)));
        }
        for waiter in std::mem::take(&mut self.initializers) {
            self.answer(waiter, Reply::Initialized(Err(TransactionError::Closed)));
        }
        if let Some(waiter) = self.beginner.take() {
            self.answer(waiter, Reply::Begun(Err(TransactionError::Closed)));
        }
        for Ender { waiter, number: transaction, .. } in std::mem::take(&mut self.enders) {
            let outcome = self.outlook(AbortCause::Closed);
            let ended = Ended { transaction, outcome, fatal: None };
            self.answer(waiter, Reply::Ended(Ok(ended)));
        }
    }

    /// What will become of the transaction under way, if nobody does any more about it: without a
    /// commit its coordinator aborts it.
    pub(super) fn outlook(&self, cause: AbortCause) -> TransactionOutcome {
        match &self.state {
            State::Ending(Ending { direction: Direction::Commit, .. })
            | State::Inquiring(Inquiring { transaction: Some((_, Question::Committed)), .. }) => {
                TransactionOutcome::Unknown
            }
            _ => TransactionOutcome::Aborted(cause),
        }
    }
}
