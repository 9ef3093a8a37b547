//! The side of those who ask a transaction's coordinator: a leader before it takes a batch of a
//! transaction that it does not know as open, and the keeper of a group's offsets (KIP-890).
//!
//! With the old protocol the question is whether the partition was added; with the new one it is
//! added by the question. The coordinator may be this broker, or another node whose answer may be
//! lost, doubled or late.

use std::collections::{BTreeMap, BTreeSet};

use sordini_protocol::ErrorCode;

use super::answers::Found;
use super::offsets::TxnOffsets;
use super::transaction::Partition;
use super::version::TransactionVersion;
use super::{TRANSACTION_STATE, Token};
use crate::api::produce::Verdicts;
use crate::broker::Broker;
use crate::cluster::{Message, NO_NODE, TransactionAnswer, TransactionQuestion};
use crate::log::verification::Guard;
use crate::time::{Instant, Now};

/// How long an answer is waited for before the question is repeated.
const PATIENCE_MS: i64 = 500;
/// How long a question is repeated.
const GIVE_UP_MS: i64 = 5_000;
/// How long after a transaction that is not complete yet the question is repeated, Kafka's
/// `add.partitions.to.txn.retry.backoff.ms`.
const CONCURRENT_BACKOFF_MS: i64 = 20;
/// For how long, Kafka's `add.partitions.to.txn.retry.backoff.max.ms`.
const CONCURRENT_MS: i64 = 100;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Are the partitions in the transaction? The client is too old for TRANSACTION_ABORTABLE.
    VerifyForOldClient,
    /// Are the partitions in the transaction?
    Verify,
    /// Let them be.
    Add,
}

impl Ask {
    /// What is asked for a client whose request adds partitions, or knows TRANSACTION_ABORTABLE.
    pub(crate) fn of(adds: bool, knows_abortable: bool) -> Self {
        match (adds, knows_abortable) {
            (true, _) => Self::Add,
            (false, true) => Self::Verify,
            (false, false) => Self::VerifyForOldClient,
        }
    }
}

/// Who waits for a coordinator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A question of this broker's own.
    Here(u64),
    /// Another node, in this life, by this number.
    Node { node: i32, broker_epoch: u64, seq: u64 },
    /// AddOffsetsToTxn.
    Offsets(Token),
    /// AddPartitionsToTxn: the transaction at this place of the request.
    Partitions(Token, usize),
}

/// What goes on when there is an answer.
#[derive(Debug)]
pub(super) enum AfterAnswer {
    Produce(Token),
    Offsets(Box<TxnOffsets>),
}

/// An open question.
#[derive(Debug)]
struct Question {
    id: String,
    producer: (i64, i16),
    /// The partitions, and the guards by which an answer that comes too late is known.
    guards: BTreeMap<Partition, Guard>,
    ask: Ask,
    then: AfterAnswer,
    next: Instant,
    deadline: Instant,
    concurrent_until: Instant,
}

impl Question {
    /// What the answer means for each partition.
    fn verdicts(
        &self,
        result: &Result<BTreeMap<Partition, ErrorCode>, ErrorCode>,
    ) -> BTreeMap<Partition, Result<Guard, ErrorCode>> {
        let verdict = |partition: &Partition, guard: Guard| {
            let said = match result {
                Ok(codes) => codes.get(partition).copied().unwrap_or(ErrorCode::None),
                Err(code) => *code,
            };
            match said {
                ErrorCode::None => Ok(guard),
                // Producers expect it so in this place.
                ErrorCode::ProducerFenced => Err(ErrorCode::InvalidProducerEpoch),
                ErrorCode::TransactionAbortable if self.ask == Ask::VerifyForOldClient => {
                    Err(ErrorCode::InvalidTxnState)
                }
                said => Err(said),
            }
        };
        let guards = self.guards.iter();
        guards.map(|(at, guard)| (at.clone(), verdict(at, *guard))).collect()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asking {
    open: BTreeMap<u64, Question>,
}

impl Broker {
    /// Asks about partitions that are led here; what goes on goes on at once if the coordinator
    /// is here and need not write.
    pub(super) fn ask_coordinator(
        &mut self,
        now: Now,
        id: &str,
        producer: (i64, i16),
        guards: BTreeMap<Partition, Guard>,
        ask: Ask,
        then: AfterAnswer,
    ) {
        let question = Question {
            id: id.to_owned(),
            producer,
            guards,
            ask,
            then,
            next: now.mono,
            deadline: now.mono.after_millis(GIVE_UP_MS),
            concurrent_until: now.mono.after_millis(CONCURRENT_MS),
        };
        let number = self.coordinator.next_number();
        self.coordinator.asking.open.insert(number, question);
        self.pose(now, number);
    }

    /// Puts an open question to whom it concerns now.
    fn pose(&mut self, now: Now, number: u64) {
        let coordinator = match self.coordinator.asking.open.get(&number) {
            Some(question) => self.coordinator_of(&question.id),
            None => return,
        };
        let Some(question) = self.coordinator.asking.open.get_mut(&number) else { return };
        question.next = now.mono.after_millis(PATIENCE_MS).min(question.deadline);
        let (id, producer, ask) = (question.id.clone(), question.producer, question.ask);
        let partitions: BTreeSet<Partition> = question.guards.keys().cloned().collect();
        match coordinator {
            None => self.question_answered(now, number, Err(ErrorCode::CoordinatorNotAvailable)),
            Some(node) if node == self.config.node_id => {
                let asker = Asker::Here(number);
                self.answer_question(now, asker, &id, producer, &partitions, ask);
            }
            Some(node) => {
                let (broker_epoch, seq) = (self.broker_epoch(), number);
                let question =
                    TransactionQuestion { broker_epoch, seq, id, producer, partitions, ask };
                self.tell_node(node, Message::Question(question));
            }
        }
    }

    /// Who coordinates an id, by this broker's view.
    fn coordinator_of(&self, id: &str) -> Option<i32> {
        let partition = self.state_partition(id)?;
        let Some(node) = &self.node else { return Some(self.config.node_id) };
        let leader = node.view.partition(TRANSACTION_STATE, partition)?.leader;
        (leader != NO_NODE).then_some(leader)
    }

    /// Another node's question has arrived.
    pub(crate) fn question_asked(&mut self, now: Now, node: i32, question: &TransactionQuestion) {
        let (broker_epoch, seq) = (question.broker_epoch, question.seq);
        let asker = Asker::Node { node, broker_epoch, seq };
        let (id, producer) = (&question.id, question.producer);
        self.answer_question(now, asker, id, producer, &question.partitions, question.ask);
    }

    fn answer_question(
        &mut self,
        now: Now,
        asker: Asker,
        id: &str,
        producer: (i64, i16),
        partitions: &BTreeSet<Partition>,
        ask: Ask,
    ) {
        // A coordinator that has yet to hear of a partition would not find its leader when the
        // transaction ends, take it for deleted, and write no marker there.
        let known = |(topic, index): &Partition| self.has_partition(topic, *index);
        if ask == Ask::Add && !partitions.iter().all(known) {
            return self.tell_asker(now, asker, Err(ErrorCode::CoordinatorNotAvailable));
        }
        match ask {
            Ask::Add => {
                let client = TransactionVersion::V2;
                self.add_to_transaction(now, id, producer, partitions, client, asker);
            }
            Ask::Verify | Ask::VerifyForOldClient => {
                let verdicts = self.verify_partitions(id, producer, partitions);
                self.tell_asker(now, asker, Ok(verdicts));
            }
        }
    }

    /// Partitions were added to a transaction, or could not be.
    pub(super) fn added(&mut self, now: Now, asker: Asker, result: Result<(), ErrorCode>) {
        self.tell_asker(now, asker, result.map(|()| BTreeMap::new()));
    }

    /// Tells who asked.
    pub(crate) fn tell_asker(
        &mut self,
        now: Now,
        asker: Asker,
        result: Result<BTreeMap<Partition, ErrorCode>, ErrorCode>,
    ) {
        match asker {
            Asker::Here(number) => self.question_answered(now, number, result),
            Asker::Node { node, broker_epoch, seq } => {
                let answer = TransactionAnswer { broker_epoch, seq, result };
                self.tell_node(node, Message::Answer(answer));
            }
            Asker::Offsets(token) => {
                let found = crate::api::add_offsets_to_txn::added(result.err());
                self.coordinator.answers.found(token, found);
            }
            Asker::Partitions(token, at) => self.partitions_added(token, at, result),
        }
    }

    /// The answer to a question of another life of this node is no answer to one of this life.
    pub(crate) fn answer_arrived(&mut self, now: Now, answer: TransactionAnswer) {
        if answer.broker_epoch == self.broker_epoch() {
            self.question_answered(now, answer.seq, answer.result);
        }
    }

    fn question_answered(
        &mut self,
        now: Now,
        number: u64,
        result: Result<BTreeMap<Partition, ErrorCode>, ErrorCode>,
    ) {
        let Some(question) = self.coordinator.asking.open.remove(&number) else { return };
        let produce = matches!(question.then, AfterAnswer::Produce(_));
        if result == Err(ErrorCode::ConcurrentTransactions)
            && question.ask == Ask::Add
            && produce
            && now.mono < question.concurrent_until
        {
            // The transaction before is being completed: it is not worth the client's backoff.
            let next = now.mono.after_millis(CONCURRENT_BACKOFF_MS);
            let number = self.coordinator.next_number();
            self.coordinator.asking.open.insert(number, Question { next, ..question });
            return;
        }
        let mut verdicts = question.verdicts(&result);
        match question.then {
            AfterAnswer::Produce(token) => {
                let found = Found::Checked(Verdicts(verdicts));
                self.coordinator.answers.found(token, found);
            }
            AfterAnswer::Offsets(offsets) => {
                let verdict = verdicts.pop_first().map(|(_, verdict)| verdict.map(Some));
                self.txn_offsets_checked(now, *offsets, verdict.unwrap_or(Ok(None)));
            }
        }
    }

    /// When a question is to be repeated or given up.
    pub(super) fn next_question_due(&self) -> Option<Instant> {
        self.coordinator.asking.open.values().map(|question| question.next).min()
    }

    /// Repeats questions, and gives up those that were repeated for long enough.
    pub(super) fn repeat_questions(&mut self, now: Now) {
        let open = self.coordinator.asking.open.iter();
        let due: Vec<u64> =
            open.filter(|(_, q)| q.next <= now.mono).map(|(number, _)| *number).collect();
        for number in due {
            let Some(question) = self.coordinator.asking.open.get(&number) else { continue };
            if question.deadline <= now.mono {
                self.question_answered(now, number, Err(ErrorCode::NetworkException));
            } else {
                self.pose(now, number);
            }
        }
    }

    /// Asks about the partitions of a Produce request; the answer is found under `token`.
    pub(crate) fn check_produce(
        &mut self,
        now: Now,
        token: Token,
        id: &str,
        producer: (i64, i16),
        guards: BTreeMap<Partition, Guard>,
        ask: Ask,
    ) {
        self.ask_coordinator(now, id, producer, guards, ask, AfterAnswer::Produce(token));
    }
}
