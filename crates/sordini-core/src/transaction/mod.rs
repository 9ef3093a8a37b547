//! Many logs, one visibility (KIP-98, KIP-447, KIP-890).
//!
//! [`Transactions`] decides; it sends nothing and knows no connection. It is told what the
//! application wants ([`Transactions::begin`] and its like), what became of batches, and what
//! coordinators answered ([`Transactions::answered`]); it says what is to be asked next
//! ([`Transactions::asks`]) and what is to be done ([`Transactions::effects`]).
//!
//! A command is only somebody who waits: the state goes on without. That is why a cancelled commit
//! is still one, and why its outcome can be asked for later.

pub mod error;

pub mod offsets;

pub mod errand;

pub mod reaction;

pub mod pace;

pub mod state;

mod answers;
mod asks;
mod ends;
pub mod waits;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::mutant;

use crate::accumulator::number::TransactionNumber;
use crate::error::{DeliveryError, Obstacle};
use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;
use crate::token::{Token, Waiter};
use crate::transaction::errand::Errand;
use crate::transaction::error::{
    AbortCause, Ended, FatalError, TransactionError, TransactionOutcome,
};
use crate::transaction::offsets::GroupOffsets;
use crate::transaction::pace::{Met, Opening, Pace};
use crate::transaction::state::{
    Checking, Direction, Doomed, Draining, Ending, Enrolment, Initializing, Involved, Offsets,
    Open, Place, Protocol, Ready, State, Step, Stragglers, Worn,
};

pub use answers::{Answer, Described, Moment};
pub use asks::{Ask, Coordinator};

/// A coordinator that was heard of within this time is not asked whether the id is still this
/// producer's: in a row of transactions the end of one tells it to the next.
const FRESH: Duration = Duration::from_millis(10);

/// Outcomes that are remembered for whoever asks later.
const REMEMBERED: usize = 64;

/// What somebody who waits for the end of a transaction asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Commit,
    Abort,
    Outcome,
}

#[derive(Debug)]
struct Ender {
    waiter: Waiter,
    number: TransactionNumber,
    wants: Wants,
}

/// Who the coordinator is.
#[derive(Debug)]
enum Lookup {
    Sought(Errand),
    At(i32),
}

impl Default for Lookup {
    fn default() -> Self {
        Self::Sought(Errand::default())
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To the first initialisation.
    Initialized(Result<(), TransactionError>),
    /// To the beginning of a transaction.
    Begun(Result<TransactionNumber, TransactionError>),
    /// To offsets.
    OffsetsSent(Result<(), TransactionError>),
    /// To whoever waits for an end.
    Ended(Result<Ended, TransactionError>),
}

/// What the rest of the producer is to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Stamp batches with this from now on.
    Identify(ProducerIdentity),
    /// Accept the records of this transaction, and no others.
    Admit(TransactionNumber),
    /// Its first batches are held for so long.
    Hold(Duration),
    /// Accept no more records, and send what was accepted without waiting for linger.
    Seal,
    /// Fail what is queued or waits for a retry; what is in flight is waited for.
    Abandon,
    /// Answer a command.
    Answer(Token, Reply),
    /// A transaction has ended.
    Ended(TransactionNumber, TransactionOutcome),
    /// The producer is done.
    Fatal(Arc<FatalError>),
}

/// The transactions of one producer.
#[derive(Debug)]
pub struct Transactions {
    /// `transaction.timeout.ms`.
    timeout: Duration,
    state: State,
    last: TransactionNumber,
    initializers: Vec<Waiter>,
    beginner: Option<Waiter>,
    enders: Vec<Ender>,
    /// Those who wait for offsets of a producer that was fenced meanwhile.
    fenced: Vec<Waiter>,
    outcomes: VecDeque<(TransactionNumber, TransactionOutcome)>,
    coordinator: Lookup,
    groups: BTreeMap<Arc<str>, Lookup>,
    /// What last stood in the way.
    obstacle: Obstacle,
    /// When the coordinator last took this producer for its own.
    known_at: Instant,
    pace: Pace,
    /// Before when no batch of the next transaction is to go.
    opens_at: Instant,
    effects: Vec<Effect>,
}

impl Transactions {
    /// For a producer whose transactions may be open for `timeout` each.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            state: State::Fresh,
            last: TransactionNumber::NONE,
            initializers: Vec::new(),
            beginner: None,
            enders: Vec::new(),
            fenced: Vec::new(),
            outcomes: VecDeque::new(),
            coordinator: Lookup::default(),
            groups: BTreeMap::new(),
            obstacle: Obstacle::NoAnswer,
            known_at: Instant::ZERO,
            pace: Pace::default(),
            opens_at: Instant::ZERO,
            effects: Vec::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is to be done now; empties the list.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Moves from the present state to another.
    fn step(&mut self, transition: impl FnOnce(State, &mut Vec<Effect>) -> State) {
        let state = std::mem::replace(&mut self.state, State::Poisoned);
        assert!(!matches!(state, State::Poisoned), "S11: a transition panicked before");
        self.state = transition(state, &mut self.effects);
    }

    fn answer(&mut self, waiter: Waiter, reply: Reply) {
        self.effects.push(Effect::Answer(waiter.token, reply));
    }

    /// Makes the producer the one of its id, before the first transaction.
    pub fn initialize(&mut self, waiter: Waiter) {
        match &self.state {
            State::Fresh => {
                self.initializers.push(waiter);
                self.step(|_, _| State::Initializing(Initializing::new(None)));
            }
            State::Initializing(Initializing { previous: None, .. }) => {
                self.initializers.push(waiter);
            }
            State::Fatal(error) => {
                let error = TransactionError::Fatal(Arc::clone(error));
                self.answer(waiter, Reply::Initialized(Err(error)));
            }
            _ => self.answer(waiter, Reply::Initialized(Ok(()))),
        }
    }

    /// Begins a transaction as soon as there can be one; what an earlier one left open is aborted.
    pub fn begin(&mut self, waiter: Waiter) {
        if let Some(earlier) = self.beginner.take() {
            self.answer(earlier, Reply::Begun(Err(TransactionError::Superseded)));
        }
        match &self.state {
            State::Fresh => {
                self.answer(waiter, Reply::Begun(Err(TransactionError::NotTransactional)));
                return;
            }
            State::Open(_) | State::Doomed(_) => {
                self.drain(Direction::Abort(AbortCause::Abandoned));
            }
            _ => {}
        }
        self.beginner = Some(waiter);
    }

    /// Is there anything to be done without an answer?
    #[must_use]
    pub fn is_to_advance(&self) -> bool {
        self.beginner.is_some() || matches!(self.state, State::Worn(_)) || mutant!(M22)
    }

    /// Does what can be done without an answer: opens the transaction that is waited for.
    /// `protocol` is what the cluster speaks at present.
    pub fn advance(&mut self, now: Instant, protocol: Protocol) {
        // At once, and not with the next begin: what may still arrive under the old epoch is to find
        // it gone, and no later instance is to be disturbed.
        if let State::Worn(Worn { identity }) = self.state {
            return self.renew(identity);
        }
        if mutant!(M22)
            && let State::Ready(Ready { identity, .. }) = self.state
            && self.last != TransactionNumber::NONE
            && !self.outcomes.iter().any(|(number, _)| *number == self.last)
        {
            let open = Open::new(self.last, identity, protocol, now);
            return self.step(|_, _| State::Open(open));
        }
        let Some(waiter) = self.beginner else { return };
        match &self.state {
            State::Ready(_) if self.is_stale(now) => self.check(),
            State::Ready(ready) if ready.used.is_none_or(|used| used == protocol) => {
                let number = self.last.next();
                self.last = number;
                self.beginner = None;
                let mut open = Open::new(number, ready.identity, protocol, now);
                let hold = self.opens_at.saturating_since(now);
                let hold = (protocol == Protocol::Two && !hold.is_zero()).then_some(hold);
                if hold.is_some() {
                    open.opening = Opening::Held(self.opens_at);
                }
                self.step(|_, effects| {
                    effects.push(Effect::Admit(number));
                    effects.extend(hold.map(Effect::Hold));
                    State::Open(open)
                });
                self.answer(waiter, Reply::Begun(Ok(number)));
            }
            // An epoch serves one protocol: the broker could not tell which a late request is of.
            State::Ready(Ready { identity, .. }) => self.renew(*identity),
            State::Fatal(error) => {
                let error = TransactionError::Fatal(Arc::clone(error));
                self.beginner = None;
                self.answer(waiter, Reply::Begun(Err(error)));
            }
            _ => {}
        }
    }

    fn renew(&mut self, identity: ProducerIdentity) {
        self.step(|_, _| State::Initializing(Initializing::new(Some(identity))));
    }

    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_since(self.known_at) > FRESH
    }

    /// Asks whether the id is still this producer's, before a transaction begins.
    fn check(&mut self) {
        self.step(|state, _| match state {
            State::Ready(ready) => {
                let (ending, stragglers) = (None, Stragglers::None);
                State::Checking(Checking { ready, ending, stragglers, errand: Errand::default() })
            }
            state => state,
        });
    }

    /// The transaction's protocol, from its beginning to its end.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        match &self.state {
            State::Ending(ending) => Some(ending.protocol),
            State::Inquiring(inquiring) => Some(inquiring.protocol),
            state => state.open().map(|open| open.protocol),
        }
    }

    /// A record of the open transaction was accepted for the partition.
    pub fn enroll(&mut self, place: Place) {
        let open = match &mut self.state {
            State::Open(open)
            | State::Draining(Draining { open, direction: Direction::Commit }) => open,
            _ => return,
        };
        let first = match (open.protocol, open.opening) {
            (Protocol::One, _) => Enrolment::Wanted,
            (Protocol::Two, Opening::Held(_)) => Enrolment::Held,
            (Protocol::Two, _) => Enrolment::Added,
        };
        open.partitions.entry(place).or_insert(first);
    }

    /// May the partition's batches be sent?
    #[must_use]
    pub fn may_send(&self, place: Place) -> bool {
        match &self.state {
            State::Open(open)
            | State::Draining(Draining { open, direction: Direction::Commit }) => {
                open.partitions.get(&place) == Some(&Enrolment::Added)
            }
            _ => false,
        }
    }

    /// Are batches that fail now not to be tried again?
    #[must_use]
    pub fn is_aborting(&self) -> bool {
        !matches!(
            self.state,
            State::Open(_) | State::Draining(Draining { direction: Direction::Commit, .. })
        )
    }

    /// The partitions whose batches were held until now, and may be sent.
    pub fn release(&mut self, now: Instant) -> Vec<Place> {
        let Some(open) = self.state.open_mut() else { return Vec::new() };
        if !matches!(open.opening, Opening::Held(until) if until <= now) {
            return Vec::new();
        }
        open.opening = Opening::Unsent;
        let held = open.partitions.iter_mut().filter(|(_, at)| **at == Enrolment::Held);
        held.map(|(place, at)| {
            *at = Enrolment::Added;
            *place
        })
        .collect()
    }

    /// A batch of the transaction was handed to a connection.
    pub fn produced(&mut self, now: Instant) {
        if let Some(open) = self.state.open_mut() {
            open.involved = Involved::Perhaps;
            if open.opening == Opening::Unsent {
                open.opening = Opening::Sent(now);
            }
        }
    }

    /// A request with batches was answered.
    pub fn heard(&mut self, now: Instant, met: Met) {
        if let Some(open) = self.state.open_mut()
            && let Opening::Sent(sent) = open.opening
        {
            open.opening = Opening::Over;
            if open.protocol == Protocol::Two {
                self.pace.learn(now.saturating_since(sent), met);
            }
        }
    }

    /// A request of the transaction may be on the network still, though its answer is not waited
    /// for any more.
    pub fn straggles(&mut self) {
        if mutant!(M36) && self.protocol() == Some(Protocol::One) {
            return;
        }
        if let Some(open) = self.state.open_mut() {
            open.stragglers = Stragglers::Possible;
            // How long a connection took to break tells nothing of markers.
            if let Opening::Sent(_) = open.opening {
                open.opening = Opening::Over;
            }
        }
        self.step(|state, _| match state {
            State::Ending(ending) => {
                State::Ending(Ending { stragglers: Stragglers::Possible, ..ending })
            }
            State::Ready(Ready { identity, .. }) => State::Worn(Worn { identity }),
            State::Checking(checking) => {
                State::Checking(Checking { stragglers: Stragglers::Possible, ..checking })
            }
            state => state,
        });
    }

    /// A topic is gone that batches were stamped for under the present identity: those stamps must
    /// not be used again, since the topic may come back.
    pub fn topic_gone(&mut self, topic: u32, name: &Arc<str>) {
        let wrote = |open: &Open| open.partitions.keys().any(|(at, _)| *at == topic);
        // In the old protocol an epoch is that of earlier transactions too: what this one may yet
        // write there would bear stamps of theirs.
        let may_write = matches!(&self.state, State::Open(open) if open.protocol == Protocol::One);
        if may_write || self.state.open().is_some_and(wrote) {
            self.doom(AbortCause::TopicGone { topic: Arc::clone(name) });
        }
        self.straggles();
    }

    /// A batch of the transaction failed.
    pub fn batch_failed(&mut self, error: &Arc<DeliveryError>) {
        if mutant!(M19) {
            return;
        }
        if mutant!(M22)
            && let State::Open(Open { identity, .. }) = self.state
        {
            return self.renew(identity);
        }
        self.doom(AbortCause::Delivery(Arc::clone(error)));
    }

    /// From now on the transaction can only be aborted. The first cause stays.
    pub fn doom(&mut self, cause: AbortCause) {
        self.step(|state, effects| match state {
            State::Open(open) => {
                effects.extend([Effect::Seal, Effect::Abandon]);
                State::Doomed(Doomed { open, cause: cause.clone() })
            }
            State::Draining(Draining { open, direction: Direction::Commit }) => {
                effects.push(Effect::Abandon);
                State::Draining(Draining { open, direction: Direction::Abort(cause.clone()) })
            }
            state => state,
        });
        if matches!(self.state, State::Doomed(_) | State::Draining(_)) && self.is_aborting() {
            self.drop_offsets(&TransactionError::MustAbort(cause));
        }
    }

    /// Answers those who wait for offsets, and forgets what was not asked of a coordinator yet.
    fn drop_offsets(&mut self, error: &TransactionError) {
        let Some(open) = self.state.open_mut() else { return };
        let mut answers = Vec::new();
        open.offsets.retain_mut(|offsets| {
            answers.extend(offsets.waiter.take());
            match &offsets.step {
                Step::AddGroup(errand) | Step::Commit(errand) => errand.is_waiting(),
            }
        });
        for waiter in answers {
            self.answer(waiter, Reply::OffsetsSent(Err(error.clone())));
        }
    }

    /// Sends offsets with the transaction.
    pub fn send_offsets(
        &mut self,
        number: TransactionNumber,
        offsets: Arc<GroupOffsets>,
        waiter: Waiter,
    ) {
        let error = match &mut self.state {
            State::Open(open) if open.number == number => {
                let errand = Errand::default();
                let step = match open.protocol {
                    Protocol::One => Step::AddGroup(errand),
                    Protocol::Two => Step::Commit(errand),
                };
                open.offsets.push_back(Offsets { waiter: Some(waiter), offsets, step });
                return;
            }
            State::Doomed(doomed) if doomed.open.number == number => {
                TransactionError::MustAbort(doomed.cause.clone())
            }
            State::Fatal(error) => TransactionError::Fatal(Arc::clone(error)),
            State::Inquiring(_) => {
                self.fenced.push(waiter);
                return;
            }
            State::Draining(Draining { open, direction: Direction::Abort(cause) })
                if open.number == number =>
            {
                TransactionError::MustAbort(cause.clone())
            }
            _ => match self.outcomes.iter().find(|(ended, _)| *ended == number) {
                Some((_, TransactionOutcome::Aborted(cause))) => {
                    TransactionError::MustAbort(cause.clone())
                }
                _ => TransactionError::NotOpen { transaction: number },
            },
        };
        self.answer(waiter, Reply::OffsetsSent(Err(error)));
    }
}

#[cfg(test)]
mod tests;
