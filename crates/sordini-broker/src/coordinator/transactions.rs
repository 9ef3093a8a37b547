//! The coordinator of transactions: what requests ask of an id, written to the log before it
//! counts.

use std::collections::{BTreeMap, BTreeSet};

use sordini_protocol::{ErrorCode, mutant};

use super::answers::Found;
use super::asking::Asker;
use super::markers::Sending;
use super::transaction::{Init, Metadata, NO_EPOCH, NO_ID, Partition, Step, Transaction};
use super::version::TransactionVersion;
use super::writes::{Then, as_coordinator};
use super::{TRANSACTION_STATE, Token, batch, records};
use crate::api::{Response, end_txn, init_producer_id};
use crate::broker::Broker;
use crate::log::marker::TransactionResult;
use crate::time::Now;

/// A partition of `__transaction_state` that is led here.
#[derive(Debug)]
pub(super) struct Led {
    /// The term, which is also the coordinator's epoch in its markers.
    pub epoch: i32,
    /// None until what the term began with is known to be committed, and is read.
    pub loaded: Option<Loaded>,
}

/// The ids of one partition.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub ids: BTreeMap<String, Transaction>,
    /// Of those in the midst of their markers: the order that was sent.
    pub sending: BTreeMap<String, Sending>,
}

/// What is done when an id's next state is committed.
#[derive(Debug)]
pub(super) enum AfterState {
    /// InitProducerId is answered.
    Init(Token),
    /// Who had partitions added is told.
    Added(Asker),
    /// EndTxn is answered, and markers are sent.
    Ended(Option<Token>),
    /// The producer was fenced: markers are sent; an InitProducerId that wanted it tries again.
    Fenced(Option<Token>),
    /// All markers are written, and that is known.
    Completed,
}

/// A partition of the log, and the term in which this broker leads it.
pub(super) type Place = (i32, i32);

impl Broker {
    /// The partition and term in which this broker coordinates an id, and what is known of it.
    fn coordinated(&self, id: &str) -> Result<(Place, Option<&Transaction>), ErrorCode> {
        let partition = self.state_partition(id).ok_or(ErrorCode::NotCoordinator)?;
        let led = self.coordinator.led.get(&partition).ok_or(ErrorCode::NotCoordinator)?;
        let loaded = led.loaded.as_ref().ok_or(ErrorCode::CoordinatorLoadInProgress)?;
        Ok(((partition, led.epoch), loaded.ids.get(id)))
    }

    /// The ids of a partition, if it is still led in that term.
    pub(super) fn loaded(&mut self, (partition, epoch): Place) -> Option<&mut Loaded> {
        let led = self.coordinator.led.get_mut(&partition).filter(|led| led.epoch == epoch)?;
        led.loaded.as_mut()
    }

    /// A producer id that nobody had.
    pub(crate) fn fresh_producer_id(&mut self, now: Now) -> Result<i64, ErrorCode> {
        let id = match self.node_mut() {
            Some(node) => node.producer_id(now),
            None => self.catalog.new_producer_id(self.storage.as_mut()).ok(),
        };
        // Retriable: the disk may have room again, the controller's block of ids be on its way.
        id.ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// InitProducerId with a transactional id.
    pub(crate) fn init_transactions(&mut self, now: Now, token: Token, id: &str, ask: Init) {
        if let Err(code) = self.try_init(now, token, id, ask) {
            self.coordinator.answers.found(token, Found::Refused(code));
        }
    }

    fn try_init(&mut self, now: Now, token: Token, id: &str, ask: Init) -> Result<(), ErrorCode> {
        let (place, known) = self.coordinated(id)?;
        let known = known.cloned();
        let wall_ms = now.wall_ms;
        let transaction = match known {
            Some(transaction) => transaction,
            None => {
                let new = Metadata::new(self.fresh_producer_id(now)?, ask.timeout_ms, wall_ms);
                let new = Transaction::resting(new, wall_ms);
                if let Some(loaded) = self.loaded(place) {
                    loaded.ids.insert(id.to_owned(), new.clone());
                }
                new
            }
        };
        let step = transaction.init(ask, wall_ms, &mut || self.fresh_producer_id(now))?;
        match step {
            Step::Write(to) => self.write_state(now, place, id, to, AfterState::Init(token)),
            Step::Fence => self.fence(now, place, id, Some(token)),
            Step::Already { .. } => {}
        }
        Ok(())
    }

    /// Adds partitions to an id's transaction.
    pub(crate) fn add_to_transaction(
        &mut self,
        now: Now,
        id: &str,
        producer: (i64, i16),
        partitions: &BTreeSet<Partition>,
        client: TransactionVersion,
        asker: Asker,
    ) {
        let step = self.add_step(now, id, producer, partitions, client);
        match step {
            Ok((place, Step::Write(to))) => {
                self.write_state(now, place, id, to, AfterState::Added(asker));
            }
            Ok(_) => self.added(now, asker, Ok(())),
            Err(code) => self.added(now, asker, Err(code)),
        }
    }

    fn add_step(
        &self,
        now: Now,
        id: &str,
        producer: (i64, i16),
        partitions: &BTreeSet<Partition>,
        client: TransactionVersion,
    ) -> Result<(Place, Step), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let (place, known) = self.coordinated(id)?;
        let transaction = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        Ok((place, transaction.add(producer, partitions, client, now.wall_ms)?))
    }

    /// Whether partitions are in an id's transaction.
    pub(crate) fn verify_partitions(
        &self,
        id: &str,
        producer: (i64, i16),
        partitions: &BTreeSet<Partition>,
    ) -> BTreeMap<Partition, ErrorCode> {
        let verify = || {
            if id.is_empty() {
                return Err(ErrorCode::InvalidRequest);
            }
            let (_, known) = self.coordinated(id)?;
            let transaction = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
            transaction.verify(producer, partitions)
        };
        verify().unwrap_or_else(|code| partitions.iter().map(|p| (p.clone(), code)).collect())
    }

    /// EndTxn.
    pub(crate) fn end_transaction(
        &mut self,
        now: Now,
        token: Token,
        id: &str,
        producer: (i64, i16),
        result: TransactionResult,
        client: TransactionVersion,
    ) {
        match self.end_step(now, id, producer, result, client) {
            Ok((place, Step::Write(to))) => {
                let mut token = Some(token);
                if mutant!(M31) {
                    let at = (to.producer_id, to.producer_epoch);
                    self.answer_end(token.take(), Ok(at));
                }
                self.write_state(now, place, id, to, AfterState::Ended(token));
            }
            Ok((_, Step::Already { producer_id, producer_epoch })) => {
                self.answer_end(Some(token), Ok((producer_id, producer_epoch)));
            }
            Ok((_, Step::Fence)) => self.answer_end(Some(token), Err(ErrorCode::InvalidTxnState)),
            Err(code) => self.answer_end(Some(token), Err(code)),
        }
    }

    fn end_step(
        &mut self,
        now: Now,
        id: &str,
        producer: (i64, i16),
        result: TransactionResult,
        client: TransactionVersion,
    ) -> Result<(Place, Step), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let (place, known) = self.coordinated(id)?;
        let transaction = known.cloned().ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let mut fresh = || self.fresh_producer_id(now);
        Ok((place, transaction.end(producer, result, client, now.wall_ms, &mut fresh)?))
    }

    /// Fences an id's producer and aborts its transaction, for an InitProducerId or because its
    /// time is up.
    pub(super) fn fence(&mut self, now: Now, place: Place, id: &str, token: Option<Token>) {
        let version = self.transaction_version();
        let taken = self.loaded(place).and_then(|loaded| loaded.ids.remove(id));
        let Some(taken) = taken else { return };
        let (next, failed) = match taken {
            Transaction::Settled(settled) => {
                let mut fresh = || self.fresh_producer_id(now);
                match settled.fence().abort(version, now.wall_ms, &mut fresh) {
                    Ok(writing) => (Transaction::Writing(writing), None),
                    Err((settled, code)) => (Transaction::Settled(settled), Some(code)),
                }
            }
            other => (other, Some(ErrorCode::ConcurrentTransactions)),
        };
        if let Some(loaded) = self.loaded(place) {
            loaded.ids.insert(id.to_owned(), next);
        }
        match (failed, token) {
            (None, token) => self.append_state(now, place, id, AfterState::Fenced(token)),
            (Some(code), Some(token)) => {
                self.coordinator.answers.found(token, Found::Refused(code));
            }
            (Some(_), None) => {}
        }
    }

    /// Sends an id's next state to the log.
    fn write_state(&mut self, now: Now, place: Place, id: &str, to: Metadata, then: AfterState) {
        if let Some(loaded) = self.loaded(place)
            && let Some(Transaction::Settled(settled)) = loaded.ids.remove(id)
        {
            loaded.ids.insert(id.to_owned(), Transaction::Writing(settled.write(to)));
        }
        self.append_state(now, place, id, then);
    }

    /// Appends what an id is about to become.
    pub(super) fn append_state(&mut self, now: Now, place: Place, id: &str, then: AfterState) {
        let version = self.transaction_version();
        let to = match self.loaded(place).and_then(|loaded| loaded.ids.get(id)) {
            Some(Transaction::Writing(writing)) => writing.to(),
            Some(Transaction::Completing(completing)) => completing.to(),
            _ => return self.state_written(now, place, id, Err(ErrorCode::NotCoordinator), then),
        };
        let patience = i64::from(to.timeout_ms);
        let bytes = batch::encode(&[records::transaction(id, to, version)], now.wall_ms, None);
        let (partition, epoch) = place;
        match self.append_as_coordinator(now, TRANSACTION_STATE, partition, &bytes, None) {
            Ok(at) => {
                let then = Then::State { partition, epoch, id: id.to_owned(), then };
                self.await_write(at, now.mono.after_millis(patience), then);
            }
            Err(code) => self.state_written(now, place, id, Err(code), then),
        }
    }

    /// An id's next state is committed, or is not known to be.
    pub(super) fn state_written(
        &mut self,
        now: Now,
        place: Place,
        id: &str,
        result: Result<(), ErrorCode>,
        then: AfterState,
    ) {
        let mut result = result.map_err(as_coordinator);
        let taken = self.loaded(place).and_then(|loaded| loaded.ids.remove(id));
        if taken.is_none() {
            // The partition moved meanwhile, and was read again wherever it is led now.
            result = result.and(Err(ErrorCode::NotCoordinator));
        }
        let next = taken.map(|transaction| match (transaction, &result) {
            (Transaction::Writing(writing), Ok(())) => writing.written(now.wall_ms),
            (Transaction::Writing(writing), Err(_)) => Transaction::Settled(writing.failed()),
            (Transaction::Completing(done), Ok(())) => Transaction::Settled(done.written()),
            (Transaction::Completing(done), Err(_)) => Transaction::Marking(done.failed()),
            (other, _) => other,
        });
        let ends = next.as_ref().map(ends_at);
        if let (Some(next), Some(loaded)) = (next, self.loaded(place)) {
            loaded.ids.insert(id.to_owned(), next);
        }
        let result = result.and(ends.ok_or(ErrorCode::NotCoordinator));
        self.after_state(now, place, id, result, then);
    }

    /// Goes on; `result` has the producer id and epoch that the client goes on with.
    fn after_state(
        &mut self,
        now: Now,
        place: Place,
        id: &str,
        result: Result<(i64, i16), ErrorCode>,
        then: AfterState,
    ) {
        match then {
            AfterState::Init(token) => {
                let found = match result {
                    Ok((id, epoch)) => {
                        let response = init_producer_id::initialized(id, epoch);
                        Found::Response(Response::InitProducerId(response))
                    }
                    Err(code) => Found::Refused(code),
                };
                self.coordinator.answers.found(token, found);
            }
            AfterState::Added(asker) => self.added(now, asker, result.map(|_| ())),
            AfterState::Ended(token) => {
                self.answer_end(token, result);
                if result.is_ok() {
                    self.begin_marking(now, place, id);
                }
            }
            AfterState::Fenced(token) => {
                if result.is_ok() {
                    self.begin_marking(now, place, id);
                }
                if let Some(token) = token {
                    let code = result.err().unwrap_or(ErrorCode::ConcurrentTransactions);
                    self.coordinator.answers.found(token, Found::Refused(code));
                }
            }
            AfterState::Completed => self.completed(now, place, id, result.is_ok()),
        }
    }

    fn answer_end(&mut self, token: Option<Token>, result: Result<(i64, i16), ErrorCode>) {
        let Some(token) = token else { return };
        let found = match result {
            Ok((id, epoch)) => Found::Response(Response::EndTxn(end_txn::ended(id, epoch))),
            Err(code) => Found::Refused(code),
        };
        self.coordinator.answers.found(token, found);
    }

    /// What is known of one id, for DescribeTransactions.
    pub(crate) fn describe_transaction(&self, id: &str) -> Result<&Transaction, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let (_, known) = self.coordinated(id)?;
        known.ok_or(ErrorCode::TransactionalIdNotFound)
    }

    /// All ids that are coordinated here.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS while one of the partitions is being read.
    pub(crate) fn coordinated_transactions(
        &self,
    ) -> Result<impl Iterator<Item = (&str, &Transaction)>, ErrorCode> {
        if self.coordinator.led.values().any(|led| led.loaded.is_none()) {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let loaded = self.coordinator.led.values().filter_map(|led| led.loaded.as_ref());
        Ok(loaded.flat_map(|loaded| loaded.ids.iter().map(|(id, txn)| (id.as_str(), txn))))
    }

    /// Finalises another level of `transaction.version`, as an operator does while the cluster runs.
    /// Transactions that are open are ended as their clients began them, at level 0 too, where
    /// Kafka 4.4 can't write the new protocol's states any more: it answers UNSUPPORTED_VERSION,
    /// and the id is stuck until its coordinator moves.
    pub fn set_transaction_version(&mut self, version: TransactionVersion) {
        self.config.transaction_version = version;
        self.features_epoch = self.features_epoch.saturating_add(1);
    }

    /// The finalised level of `transaction.version`: 0 where the APIs that it needs are not
    /// offered.
    #[must_use]
    pub fn transaction_version(&self) -> TransactionVersion {
        match self.config.versions.offers_epoch_bumps() {
            true => self.config.transaction_version,
            false => TransactionVersion::V0,
        }
    }
}

/// Id and epoch that a client goes on with, once what was written is complete.
fn ends_at(transaction: &Transaction) -> (i64, i16) {
    let now = match transaction {
        Transaction::Marking(marking) => {
            let next = marking.goes_on_with();
            return if marking.prepared().client_version.bumps_epochs() {
                next
            } else {
                (NO_ID, NO_EPOCH)
            };
        }
        other => other.now(),
    };
    (now.producer_id, now.producer_epoch)
}
