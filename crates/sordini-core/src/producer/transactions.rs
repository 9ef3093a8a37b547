//! Carries messages between transactions and the rest of the producer.

use std::sync::Arc;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::produce::PartitionProduceResponse;

use crate::accumulator::number::TransactionNumber;
use crate::batch::BatchId;
use crate::connection::Connection;
use crate::connection::versions::{Features, Versions};
use crate::error::{Cause, DeliveryError, Fate, Obstacle};
use crate::idempotence::Identity;
use crate::producer::Producer;
use crate::producer::io::{Command, Finished, Output, Token, Trace};
use crate::producer::outcomes::Ending;
use crate::producer::partitions::Partition;
use crate::producer::table::PartitionKey;
use crate::sequencing::slot::Slot;
use crate::time::Instant;
use crate::token::Waiter;
use crate::transaction::error::{AbortCause, TransactionError};
use crate::transaction::pace::Met;
use crate::transaction::state::Protocol;
use crate::transaction::waits::Unwritten;
use crate::transaction::{Effect, Reply, Transactions};

impl From<Reply> for Finished {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Initialized(result) => Self::Initialized(result),
            Reply::Begun(result) => Self::Begun(result),
            Reply::OffsetsSent(result) => Self::OffsetsSent(result),
            Reply::Ended(result) => Self::Ended(result),
        }
    }
}

/// The answer to a command that can't be followed.
fn refuse(command: &Command, error: TransactionError) -> Option<(Token, Finished)> {
    Some(match command {
        Command::InitTransactions { token, .. } => (*token, Finished::Initialized(Err(error))),
        Command::BeginTransaction { token, .. } => (*token, Finished::Begun(Err(error))),
        Command::SendOffsets { token, .. } => (*token, Finished::OffsetsSent(Err(error))),
        Command::CommitTransaction { token, .. } | Command::ResolveTransaction { token, .. } => {
            (*token, Finished::Ended(Err(error)))
        }
        Command::AbortTransaction { token, .. } => ((*token)?, Finished::Ended(Err(error))),
        Command::Flush { .. } | Command::Close { .. } => return None,
    })
}

impl Producer {
    /// A command that concerns transactions.
    pub(super) fn on_transaction_command(&mut self, command: Command) {
        let is_open = self.close_deadline().is_none() && !self.is_closed();
        let since = self.now;
        let waiter = |token, deadline| Waiter { token, since, deadline };
        // What the data plane reported last must be in the view first.
        self.on_lanes_due();
        let Some(transactions) = &mut self.transactions else {
            return self.refuse_command(&command, TransactionError::NotTransactional);
        };
        match command {
            Command::InitTransactions { token, deadline } if is_open => {
                transactions.initialize(waiter(token, deadline));
            }
            Command::BeginTransaction { token, deadline } if is_open => {
                transactions.begin(waiter(token, deadline));
            }
            Command::SendOffsets { token, transaction, offsets, deadline } if is_open => {
                if let Err((what, value)) = offsets.check() {
                    let result =
                        Finished::OffsetsSent(Err(TransactionError::Invalid { what, value }));
                    return self.outputs.push_back(Output::Finish { token, result });
                }
                transactions.send_offsets(transaction, offsets, waiter(token, deadline));
            }
            Command::CommitTransaction { token, transaction, deadline } if is_open => {
                transactions.commit(transaction, waiter(token, deadline));
            }
            Command::AbortTransaction { token, transaction, deadline } if is_open => {
                let cause = match token {
                    Some(_) => AbortCause::Requested,
                    None => AbortCause::Abandoned,
                };
                let waiter = token.map(|token| waiter(token, deadline));
                transactions.abort(transaction, cause, waiter);
            }
            Command::ResolveTransaction { token, transaction, deadline } if !self.is_closed() => {
                if let Some(transactions) = &mut self.transactions {
                    transactions.resolve(transaction, waiter(token, deadline));
                }
            }
            command => self.refuse_command(&command, TransactionError::Closed),
        }
        self.apply_effects();
    }

    fn refuse_command(&mut self, command: &Command, error: TransactionError) {
        if let Some((token, result)) = refuse(command, error) {
            self.outputs.push_back(Output::Finish { token, result });
        }
    }

    /// Does what transactions have decided. What is done may lead to more.
    pub(super) fn apply_effects(&mut self) {
        while let Some(effects) = self.transactions.as_mut().map(Transactions::effects)
            && !effects.is_empty()
        {
            for effect in effects {
                self.apply(effect);
            }
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Identify(identity) => {
                self.identity = Identity::Assigned(identity);
                let (producer_id, epoch) = (identity.id, identity.epoch);
                self.trace(Trace::ProducerId { producer_id, epoch });
            }
            Effect::Admit(number) => {
                self.accumulator.admit_only(number);
                self.trace(Trace::TransactionBegun(number));
            }
            Effect::Hold(hold) => self.trace(Trace::TransactionHeld { hold }),
            Effect::Seal => {
                self.accumulator.admit_only(TransactionNumber::CLOSED);
                self.seal_before(BatchId(u64::MAX));
            }
            Effect::Abandon => self.abandon_transaction(),
            Effect::Answer(token, reply) => {
                self.outputs.push_back(Output::Finish { token, result: reply.into() });
            }
            Effect::Ended(transaction, outcome) => {
                self.trace(Trace::TransactionEnded { transaction, outcome });
            }
            Effect::Fatal(error) => self.fail_for_good(error.code),
        }
    }

    /// Fails what the transaction has queued. What is in flight is waited for, and not tried again.
    fn abandon_transaction(&mut self) {
        // All that a producer of transactions has is the open one's, enrolled or not yet.
        let keys: Vec<PartitionKey> = self.partitions.keys().collect();
        for key in keys {
            let mut place = 0;
            while let Some(partition) = self.partitions.get_mut(&key)
                && let Some(slot) = partition.line.slots().get(place)
            {
                if slot.in_flight() || matches!(slot, Slot::Acknowledged { .. }) {
                    place += 1;
                    continue;
                }
                let slot = partition.line.fail(place);
                if let Some(ending) = Ending::of(slot) {
                    let cause = Cause::TransactionAborted;
                    self.deliver_failed(key, ending, Fate::NotWritten, cause);
                }
            }
            self.fail_lane(key, &Cause::TransactionAborted);
            self.touch(key);
        }
    }

    /// A record was accepted for the partition: it belongs to the open transaction.
    pub(super) fn enroll(&mut self, key: PartitionKey) {
        let Some(transactions) = &mut self.transactions else { return };
        if self.partitions.get(&key).is_some_and(Partition::has_waiting) {
            transactions.enroll(key);
        }
    }

    /// Do transactions let the partition's batches go?
    pub(super) fn may_send(&self, key: PartitionKey) -> bool {
        self.transactions.as_ref().is_none_or(|transactions| transactions.may_send(key))
    }

    /// Are batches that fail now not to be tried again, since their transaction is aborted?
    pub(super) fn is_aborting(&self) -> bool {
        self.transactions.as_ref().is_some_and(Transactions::is_aborting)
    }

    /// A record of a transaction failed.
    pub(super) fn note_failure(&mut self, error: &Arc<DeliveryError>) {
        if let Some(transactions) = &mut self.transactions {
            transactions.batch_failed(error);
        }
    }

    /// Batches were handed to a connection.
    pub(super) fn note_produced(&mut self) {
        if let Some(transactions) = &mut self.transactions {
            transactions.produced(self.now);
        }
    }

    /// A request with batches was answered.
    pub(super) fn note_answer(&mut self, answers: &[PartitionProduceResponse]) {
        let Some(transactions) = &mut self.transactions else { return };
        let concurrent = ErrorCode::ConcurrentTransactions.code();
        let met = match answers.iter().any(|answer| answer.error_code == concurrent) {
            true => Met::Markers,
            false => Met::Nothing,
        };
        transactions.heard(self.now, met);
    }

    /// Nobody knows whether a batch's request was carried out, or still will be.
    pub(super) fn note_straggler(&mut self) {
        if let Some(transactions) = &mut self.transactions {
            transactions.straggles();
        }
    }

    /// What was sent to a topic that is gone can't be part of a transaction any more, and its
    /// stamps must not be used again: the old topic may come back.
    pub(super) fn note_topic_gone(&mut self, topic: u32, name: &Arc<str>) {
        if let Some(transactions) = &mut self.transactions {
            transactions.topic_gone(topic, name);
        }
    }

    /// A broker refused the producer itself. True if transactions take care of it.
    pub(super) fn is_refused(&mut self, code: ErrorCode) -> bool {
        let Some(transactions) = &mut self.transactions else { return false };
        transactions.refused(code);
        true
    }

    /// Moves transactions on as far as they go without an answer, and asks what they want asked.
    pub(super) fn transact(&mut self) {
        self.apply_effects();
        let released =
            self.transactions.as_mut().map(|transactions| transactions.release(self.now));
        for key in released.into_iter().flatten() {
            self.touch(key);
        }
        let Some(transactions) = &self.transactions else { return };
        if transactions.is_draining() && self.is_drained() {
            let gaps = self.partitions.values().any(|partition| partition.line.is_broken());
            if let Some(transactions) = &mut self.transactions {
                transactions.drained(gaps, self.now);
            }
        }
        if self.transactions.as_ref().is_some_and(Transactions::is_to_advance) {
            let (now, protocol) = (self.now, self.protocol());
            if let Some(transactions) = &mut self.transactions {
                transactions.advance(now, protocol);
            }
        }
        self.apply_effects();
        self.coordinate();
    }

    /// Is nothing of the transaction on its way, whose requests lack their answers (S9)?
    fn is_drained(&self) -> bool {
        let empty = |at: &Partition| !at.has_waiting() && at.line.is_empty();
        // A batch that was given up, with its topic or at the end of a close, leaves its request.
        self.requests.is_empty() && self.on_way == 0 && self.partitions.values().all(empty)
    }

    /// What the cluster speaks now: the newest finalized features that a broker told of, if every
    /// broker that is connected can be spoken to so.
    fn protocol(&self) -> Protocol {
        let mut versions = self.connections.values().filter_map(Connection::versions);
        match versions.all(|versions| versions.speaks_second_protocol()) {
            true if self.features.transaction_version >= 2 => Protocol::Two,
            _ => Protocol::One,
        }
    }

    /// A broker told what is finalized; an older word does not replace a newer.
    pub(super) fn note_features(&mut self, features: Features) {
        if features.epoch >= self.features.epoch {
            self.features = features;
        }
    }

    /// The version of Produce for a connection: it tells the broker which protocol its batches
    /// follow. `None`: they can't go this way.
    pub(super) fn produce_version(&self, versions: &Versions) -> Option<i16> {
        let protocol = self.transactions.as_ref().and_then(Transactions::protocol);
        match protocol {
            None => Some(versions.produce),
            Some(Protocol::One) => Some(versions.produce.min(11)),
            Some(Protocol::Two) => Some(versions.produce).filter(|version| *version >= 12),
        }
    }

    /// Does the broker itself hold a producer that it does not know to sequence 0?
    pub(super) fn is_guarded(&self) -> bool {
        let protocol = self.transactions.as_ref().and_then(Transactions::protocol);
        protocol == Some(Protocol::Two)
    }

    /// When transactions have something to do.
    pub(super) fn transaction_deadlines(&self) -> (Option<Instant>, Option<Instant>) {
        let Some(transactions) = &self.transactions else { return (None, None) };
        let ask = transactions.next_ask(self.now);
        // Due, and not asked: the next attempt at a connection counts.
        let asks = transactions.asks(self.now);
        let attempts = asks.iter().filter_map(|(coordinator, _)| self.attempt_at(*coordinator));
        let attempt = attempts.filter(|at| *at > self.now).min();
        (
            transactions.next_deadline(),
            ask.into_iter().chain(attempt).filter(|at| *at > self.now).min(),
        )
    }

    pub(super) fn expire_transactions(&mut self) {
        let due = self.transactions.as_ref().and_then(Transactions::next_deadline);
        if due.is_none_or(|due| due > self.now) {
            return;
        }
        let (silence, records) = (self.silence(), self.unwritten());
        let now = self.now;
        if let Some(transactions) = &mut self.transactions {
            transactions.on_deadline(now, &silence, records);
        }
        self.apply_effects();
    }

    /// A partition whose records were not acknowledged: rather one where something failed.
    fn unwritten(&self) -> Option<Unwritten> {
        let failed = |at: &Partition| {
            let mut failures = at.line.slots().iter().filter_map(Slot::meta);
            let failed = failures.find(|meta| meta.obstacle != Obstacle::NoAnswer);
            failed.map(|meta| meta.obstacle.clone())
        };
        let quiet = || {
            let mut partitions = self.partitions.iter();
            let lacks = |at: &Partition| {
                at.has_waiting() || at.line.slots().iter().any(|slot| slot.meta().is_some())
            };
            partitions.find(|(_, at)| lacks(at)).map(|(key, _)| (key, self.obstacle(key)))
        };
        let mut partitions = self.partitions.iter();
        let first = partitions.find_map(|(key, at)| Some((key, failed(at)?)));
        let (key, last) = first.or_else(quiet)?;
        let topic = Arc::clone(self.topics.get(&key.0)?.name());
        Some(Unwritten { topic, partition: key.1, last })
    }

    /// What keeps a partition's batches from being sent, if transactions do.
    pub(super) fn transaction_obstacle(&self, key: PartitionKey) -> Option<Obstacle> {
        (!self.may_send(key)).then_some(Obstacle::NotEnrolled)
    }

    /// The producer closes: what is open is aborted.
    pub(super) fn close_transactions(&mut self) {
        if let Some(transactions) = &mut self.transactions {
            transactions.close();
        }
        self.apply_effects();
    }

    /// Is no transaction under way?
    pub(super) fn is_without_transaction(&self) -> bool {
        self.transactions.as_ref().is_none_or(Transactions::is_idle)
    }

    /// Answers whoever still waits.
    pub(super) fn abandon_transactions(&mut self) {
        if let Some(transactions) = &mut self.transactions {
            transactions.abandon();
        }
        self.apply_effects();
    }
}
