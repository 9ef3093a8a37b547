//! What became of the last transactions, for who asks later.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::transaction::error::TransactionOutcome;

/// A transaction whose end nobody had seen: its guard was dropped or forgotten, the call that
/// began it was cancelled, or the one that ended it was, or did not wait long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Which.
    pub transaction: TransactionNumber,
    /// What became of it.
    pub outcome: TransactionOutcome,
}

/// The transactions that were begun last, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<Entry>>);

#[derive(Debug)]
struct Entry {
    transaction: TransactionNumber,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// It has ended, and the application has not been told.
    Ended(TransactionOutcome),
    Told(TransactionOutcome),
}

impl History {
    /// How many transactions are remembered.
    pub(crate) const MOST: usize = 64;

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begun(&self, transaction: TransactionNumber) {
        let mut entries = self.lock();
        if entries.len() == Self::MOST {
            entries.pop_front();
        }
        entries.push_back(Entry { transaction, state: State::Open });
    }

    /// The transaction has ended. What was unknown may become known later.
    pub(crate) fn ended(&self, transaction: TransactionNumber, outcome: &TransactionOutcome) {
        let mut entries = self.lock();
        let Some(entry) = find(&mut entries, transaction) else { return };
        match &entry.state {
            State::Ended(known) | State::Told(known) if known == outcome => {}
            _ => entry.state = State::Ended(outcome.clone()),
        }
    }

    /// The application was given this answer. It is the last word on the transaction, unless it
    /// says that there is none yet.
    pub(crate) fn told(&self, transaction: TransactionNumber, answer: &TransactionOutcome) {
        let mut entries = self.lock();
        let Some(entry) = find(&mut entries, transaction) else { return };
        match (&entry.state, answer) {
            (State::Open, TransactionOutcome::Unknown) => {}
            (State::Ended(outcome), answer) if outcome != answer => {}
            _ => entry.state = State::Told(answer.clone()),
        }
    }

    pub(crate) fn outcome(&self, transaction: TransactionNumber) -> Option<TransactionOutcome> {
        match &find(&mut self.lock(), transaction)?.state {
            State::Open => None,
            State::Ended(outcome) | State::Told(outcome) => Some(outcome.clone()),
        }
    }

    /// The transactions whose end the application has not been told of; now it is.
    pub(crate) fn tell_rest(&self) -> Vec<Recovered> {
        let mut told = Vec::new();
        for entry in self.lock().iter_mut() {
            if let State::Ended(outcome) = &entry.state {
                let (transaction, outcome) = (entry.transaction, outcome.clone());
                entry.state = State::Told(outcome.clone());
                told.push(Recovered { transaction, outcome });
            }
        }
        told
    }
}

fn find(entries: &mut VecDeque<Entry>, transaction: TransactionNumber) -> Option<&mut Entry> {
    entries.iter_mut().rev().find(|entry| entry.transaction == transaction)
}
