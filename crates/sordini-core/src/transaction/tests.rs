//! Transactions against a coordinator that is played by hand. The stories cite the lines of the
//! catalogue of bug classes.

mod endings;
mod random;
mod reactions;
mod stories;

use sordini_protocol::{ApiKey, ErrorCode};

use super::*;
use crate::acks::retry::Rng;
use crate::error::{Cause, Fate};
use crate::transaction::errand::AskId;
use crate::transaction::error::{FencedBy, Lacked};
use crate::transaction::waits::Unwritten;

pub(super) const BOUNDS: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(1000));

pub(super) fn identity(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id, epoch }
}

/// Transactions, and all that was told of them.
pub(super) struct Desk {
    pub(super) transactions: Transactions,
    pub(super) now: Instant,
    pub(super) protocol: Protocol,
    pub(super) effects: Vec<Effect>,
    pub(super) replies: BTreeMap<Token, Reply>,
    pub(super) rng: Rng,
    next: u64,
}

impl Desk {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            transactions: Transactions::new(Duration::from_secs(60)),
            now: Instant::ZERO,
            protocol,
            effects: Vec::new(),
            replies: BTreeMap::new(),
            rng: Rng::new(7),
            next: 0,
        }
    }

    /// One that is ready to begin, as (7, 0).
    pub(super) fn ready(protocol: Protocol) -> Self {
        let mut desk = Self::new(protocol);
        let waiter = desk.waiter(60);
        desk.transactions.initialize(waiter);
        desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
        desk.give(&Ask::InitProducerId(None), Answer::Identity(identity(7, 0)));
        assert_eq!(desk.reply(waiter), Some(Reply::Initialized(Ok(()))));
        desk
    }

    pub(super) fn waiter(&mut self, seconds: u64) -> Waiter {
        self.next += 1;
        let deadline = self.now.saturating_add(Duration::from_secs(seconds));
        Waiter { token: Token(self.next), since: self.now, deadline }
    }

    pub(super) fn begin(&mut self) -> TransactionNumber {
        let waiter = self.waiter(60);
        self.transactions.begin(waiter);
        self.settle();
        match self.reply(waiter) {
            Some(Reply::Begun(Ok(number))) => number,
            other => panic!("no transaction was begun: {other:?}"),
        }
    }

    /// Nothing of the transaction is on its way.
    pub(super) fn drained(&mut self, gaps: bool) {
        self.transactions.drained(gaps, self.now);
    }

    pub(super) fn commit(&mut self, number: TransactionNumber) -> Waiter {
        let waiter = self.waiter(60);
        self.transactions.commit(number, waiter);
        self.settle();
        waiter
    }

    /// Time goes on to the next ask, or by a second where there is none.
    pub(super) fn wait(&mut self) {
        let next = self.transactions.next_ask(self.now);
        self.now = next.unwrap_or_else(|| self.now.saturating_add(Duration::from_secs(1)));
    }

    /// Everything that needs no answer is done.
    pub(super) fn settle(&mut self) {
        self.transactions.advance(self.now, self.protocol);
        for effect in self.transactions.effects() {
            if let Effect::Answer(token, reply) = effect {
                let twice = self.replies.insert(token, reply);
                assert!(twice.is_none(), "{token:?} was answered twice");
            } else {
                self.effects.push(effect);
            }
        }
    }

    pub(super) fn asks(&mut self) -> Vec<Ask> {
        self.settle();
        self.transactions.asks(self.now).into_iter().map(|(_, ask)| ask).collect()
    }

    /// Hands `ask` to a connection; it must be wanted.
    pub(super) fn send(&mut self, ask: &Ask) -> AskId {
        let asks = self.asks();
        assert!(asks.contains(ask), "{ask:?} is not among {asks:?}");
        self.next += 1;
        let id = AskId(self.next);
        self.transactions.asked(id, ask);
        id
    }

    pub(super) fn answer(&mut self, id: AskId, ask: &Ask, answer: Answer) {
        let moment = Moment { now: self.now, bounds: BOUNDS, rng: &mut self.rng };
        self.transactions.answered(id, ask, answer, moment);
        self.settle();
    }

    pub(super) fn give(&mut self, ask: &Ask, answer: Answer) {
        let id = self.send(ask);
        self.answer(id, ask, answer);
    }

    pub(super) fn refuse(&mut self, ask: &Ask, code: ErrorCode) {
        self.give(ask, Answer::Refused(code));
    }

    pub(super) fn lose(&mut self, ask: &Ask) {
        self.give(ask, lost());
    }

    pub(super) fn reply(&mut self, waiter: Waiter) -> Option<Reply> {
        self.settle();
        self.replies.get(&waiter.token).cloned()
    }

    pub(super) fn outcome(&mut self, waiter: Waiter) -> Option<(TransactionOutcome, bool)> {
        match self.reply(waiter)? {
            Reply::Ended(Ok(ended)) => Some((ended.outcome, ended.fatal.is_some())),
            other => panic!("not an outcome: {other:?}"),
        }
    }

    /// A record of partition 0 of topic 0 is accepted, and its batch sent.
    pub(super) fn write(&mut self) {
        self.transactions.enroll((0, 0));
        if self.protocol == Protocol::One {
            let added = vec![((0, 0), ErrorCode::None)];
            let ask = Ask::AddPartitions(self.identity(), vec![(0, 0)]);
            self.give(&ask, Answer::Partitions(added));
        }
        assert!(self.transactions.may_send((0, 0)));
        self.transactions.produced(self.now);
    }

    pub(super) fn identity(&self) -> ProducerIdentity {
        self.transactions.state().open().expect("a transaction is open").identity
    }

    pub(super) fn fatal(&self) -> Option<Arc<FatalError>> {
        match self.transactions.state() {
            State::Fatal(error) => Some(Arc::clone(error)),
            _ => None,
        }
    }
}

pub(super) fn lost() -> Answer {
    Answer::Lost { begun: true, obstacle: Obstacle::NoAnswer }
}

pub(super) fn end(identity: ProducerIdentity, protocol: Protocol, commit: bool) -> Ask {
    Ask::EndTxn { identity, protocol, commit }
}

pub(super) fn failure() -> Arc<DeliveryError> {
    Arc::new(DeliveryError {
        fate: Fate::NotWritten,
        cause: Cause::Rejected(ErrorCode::InvalidRecord),
        attempts: 1,
        topic: "t".into(),
        partition: 0,
    })
}
