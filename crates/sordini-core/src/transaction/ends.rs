//! How a transaction comes to its end, and a producer to its own.

use std::sync::Arc;

use sordini_protocol::{ApiKey, ErrorCode, mutant};

use crate::accumulator::number::TransactionNumber;
use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;
use crate::token::Waiter;
use crate::transaction::errand::Errand;
use crate::transaction::error::{
    AbortCause, Ended, FatalError, TransactionError, TransactionOutcome,
};
use crate::transaction::state::{
    Attempts, Checking, Direction, Doomed, Draining, Ending, Initializing, Inquiring, Involved,
    Open, Protocol, Question, Ready, State, Stragglers, Worn,
};
use crate::transaction::{Effect, Ender, REMEMBERED, Reply, Transactions, Wants};

impl Transactions {
    /// Commits the transaction, or aborts it if anything of it failed.
    pub fn commit(&mut self, number: TransactionNumber, waiter: Waiter) {
        if matches!(&self.state, State::Open(open) if open.number == number) {
            self.drain(Direction::Commit);
        } else if matches!(&self.state, State::Doomed(doomed) if doomed.open.number == number) {
            self.drain(Direction::Abort(AbortCause::Requested));
        }
        self.wait(Ender { waiter, number, wants: Wants::Commit });
    }

    /// Aborts the transaction, unless the coordinator was asked to commit it already.
    pub fn abort(&mut self, number: TransactionNumber, cause: AbortCause, waiter: Option<Waiter>) {
        let is_it = |open: &Open| open.number == number;
        match &self.state {
            State::Open(open) | State::Doomed(Doomed { open, .. }) if is_it(open) => {
                self.drain(Direction::Abort(cause));
            }
            State::Draining(draining) if is_it(&draining.open) => self.doom(cause),
            _ => {}
        }
        if let Some(waiter) = waiter {
            self.wait(Ender { waiter, number, wants: Wants::Abort });
        }
    }

    /// Tells what became of a transaction, once that is known.
    pub fn resolve(&mut self, number: TransactionNumber, waiter: Waiter) {
        self.wait(Ender { waiter, number, wants: Wants::Outcome });
    }

    pub(super) fn wait(&mut self, ender: Ender) {
        if self.state.transaction() == Some(ender.number) {
            self.enders.push(ender);
            return;
        }
        let fatal = match &self.state {
            State::Fatal(error) => Some(Arc::clone(error)),
            _ => None,
        };
        let transaction = ender.number;
        let known = self.outcomes.iter().find(|(number, _)| *number == transaction);
        let result = match (known, &fatal) {
            (Some((_, outcome)), _) => Ok(Ended { transaction, outcome: outcome.clone(), fatal }),
            (None, Some(error)) => Err(TransactionError::Fatal(Arc::clone(error))),
            (None, None) => Err(TransactionError::NotOpen { transaction }),
        };
        self.answer(ender.waiter, Reply::Ended(result));
    }

    /// No more records: what was accepted is sent, or failed. A transaction in which something
    /// failed is aborted for that, whatever it is asked to.
    pub(super) fn drain(&mut self, asked: Direction) {
        self.step(|state, effects| {
            let (open, direction) = match state {
                State::Open(open) => {
                    effects.push(Effect::Seal);
                    if matches!(asked, Direction::Abort(_)) {
                        effects.push(Effect::Abandon);
                    }
                    (open, asked)
                }
                State::Doomed(Doomed { open, cause }) => (open, Direction::Abort(cause)),
                state => return state,
            };
            State::Draining(Draining { open, direction })
        });
        if let State::Draining(Draining { direction: Direction::Abort(cause), .. }) = &self.state {
            let error = TransactionError::MustAbort(cause.clone());
            self.drop_offsets(&error);
        }
    }

    /// Does the transaction wait for what is on its way, its own requests done?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        match &self.state {
            State::Draining(Draining { open, direction }) => {
                !open.is_asking() && (*direction != Direction::Commit || open.offsets.is_empty())
            }
            _ => false,
        }
    }

    /// Nothing of the transaction is on its way any more (S9). `gaps`: some partition's sequence
    /// has one, so that the epoch is of no more use there.
    pub fn drained(&mut self, gaps: bool, now: Instant) {
        assert!(self.is_draining(), "S9: a transaction was ended with requests on their way");
        let stale = self.is_stale(now);
        let mut concluded = None;
        self.step(|state, _| {
            let State::Draining(Draining { open, direction }) = state else { return state };
            let Open { number, identity, protocol, involved, stragglers, began, .. } = open;
            let stragglers = if gaps { Stragglers::Possible } else { stragglers };
            match (involved, direction, stragglers) {
                // Nothing of it is anywhere, so nobody has to be asked, but whether there is still
                // a producer to go on.
                (Involved::No, direction, Stragglers::None) if stale => {
                    let ready = Ready { identity, used: Some(protocol) };
                    let ending = Some((number, direction));
                    State::Checking(Checking {
                        ready,
                        ending,
                        stragglers,
                        errand: Errand::default(),
                    })
                }
                (Involved::No, direction, ..) => {
                    concluded = Some((number, outcome(&direction)));
                    rest(identity, protocol, stragglers)
                }
                (_, direction, ..) => State::Ending(Ending {
                    number,
                    identity,
                    protocol,
                    began,
                    direction,
                    errand: Errand::default(),
                    attempts: Attempts::Void,
                    stragglers,
                    contradictions: 0,
                }),
            }
        });
        if let Some((number, outcome)) = concluded {
            self.conclude(number, outcome);
        }
    }

    /// A transaction has its outcome: tells whoever waits for it.
    pub(super) fn conclude(&mut self, transaction: TransactionNumber, outcome: TransactionOutcome) {
        self.effects.push(Effect::Ended(transaction, outcome.clone()));
        if self.outcomes.len() == REMEMBERED {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((transaction, outcome.clone()));
        let fatal = match &self.state {
            State::Fatal(error) => Some(Arc::clone(error)),
            _ => None,
        };
        let (ended, waiting) = std::mem::take(&mut self.enders)
            .into_iter()
            .partition(|ender| ender.number == transaction);
        self.enders = waiting;
        for Ender { waiter, .. } in ended {
            let (outcome, fatal) = (outcome.clone(), fatal.clone());
            self.answer(waiter, Reply::Ended(Ok(Ended { transaction, outcome, fatal })));
        }
    }

    /// A broker refused the producer itself, in answer to a Produce.
    pub fn refused(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping => {
                self.fence(ApiKey::Produce, code);
            }
            code => self.die(ApiKey::Produce, code),
        }
    }

    /// Somebody else has the transactional id: the coordinator is asked who, and what became of a
    /// transaction that was under way, before anything is done that would change its state.
    pub(super) fn fence(&mut self, api: ApiKey, code: ErrorCode) {
        let waiting = self.state.open_mut().into_iter().flat_map(|open| &mut open.offsets);
        let waiting: Vec<Waiter> = waiting.filter_map(|offsets| offsets.waiter.take()).collect();
        self.fenced.extend(waiting);
        if mutant!(M23) {
            return self.take_back(AbortCause::Refused { api, code });
        }
        let aborted = Question::Aborted(AbortCause::Refused { api, code });
        let errand = Errand::default();
        let refused = (api, code);
        self.step(|state, effects| {
            let (mut back, mut raises) = (None, Attempts::Void);
            let (transaction, identity, protocol, began) = match state {
                State::Open(open) | State::Doomed(Doomed { open, .. }) => {
                    effects.extend([Effect::Seal, Effect::Abandon]);
                    (Some((open.number, aborted)), open.identity, open.protocol, Some(open.began))
                }
                State::Draining(Draining { open, .. }) => {
                    effects.push(Effect::Abandon);
                    (Some((open.number, aborted)), open.identity, open.protocol, Some(open.began))
                }
                State::Ending(ending) => {
                    let Ending { number, identity, protocol, began, .. } = ending;
                    let question = match (&ending.direction, ending.attempts) {
                        (Direction::Commit, Attempts::InDoubt) => Question::Committed,
                        (Direction::Commit, Attempts::Void) => aborted,
                        (Direction::Abort(cause), _) => Question::Aborted(cause.clone()),
                    };
                    back = Some(Box::new(ending));
                    (Some((number, question)), identity, protocol, Some(began))
                }
                State::Initializing(Initializing {
                    previous: Some(identity), attempts, ..
                }) => {
                    raises = attempts;
                    (None, identity, Protocol::One, None)
                }
                state => return state,
            };
            State::Inquiring(Inquiring {
                transaction,
                identity,
                protocol,
                began,
                refused,
                raises,
                back,
                errand,
            })
        });
    }

    /// What must never be done (M23).
    fn take_back(&mut self, cause: AbortCause) {
        let number = self.state.transaction();
        self.step(|_, effects| {
            effects.extend([Effect::Seal, Effect::Abandon]);
            State::Initializing(Initializing::new(None))
        });
        if let Some(number) = number {
            self.conclude(number, TransactionOutcome::Aborted(cause));
        }
    }

    /// The producer is done. A transaction that was under way has its outcome with it.
    pub(super) fn fail(
        &mut self,
        error: FatalError,
        outcome: Option<(TransactionNumber, TransactionOutcome)>,
    ) {
        // The first cause stays.
        if matches!(self.state, State::Fatal(_)) {
            return;
        }
        let error = Arc::new(error);
        let offsets = TransactionError::Fatal(Arc::clone(&error));
        self.drop_offsets(&offsets);
        for waiter in std::mem::take(&mut self.fenced) {
            self.answer(waiter, Reply::OffsetsSent(Err(offsets.clone())));
        }
        let fatal = Arc::clone(&error);
        self.step(|_, effects| {
            effects.push(Effect::Fatal(Arc::clone(&fatal)));
            State::Fatal(fatal)
        });
        if let Some((number, outcome)) = outcome {
            self.conclude(number, outcome);
        }
        let told = TransactionError::Fatal(error);
        for waiter in std::mem::take(&mut self.initializers) {
            self.answer(waiter, Reply::Initialized(Err(told.clone())));
        }
        if let Some(waiter) = self.beginner.take() {
            self.answer(waiter, Reply::Begun(Err(told)));
        }
    }
}

pub(super) fn outcome(direction: &Direction) -> TransactionOutcome {
    match direction {
        Direction::Commit => TransactionOutcome::Committed,
        Direction::Abort(cause) => TransactionOutcome::Aborted(cause.clone()),
    }
}

/// The state after a transaction that went by `protocol`.
pub(super) fn rest(
    identity: ProducerIdentity,
    protocol: Protocol,
    stragglers: Stragglers,
) -> State {
    match stragglers {
        Stragglers::None => State::Ready(Ready { identity, used: Some(protocol) }),
        Stragglers::Possible => State::Worn(Worn { identity }),
    }
}
