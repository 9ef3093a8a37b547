//! What a partition remembers of its producers: the last five batches of each, by which it
//! recognises a retry and refuses a gap (KIP-98, KIP-360), and its open transaction. The rules are
//! Kafka's, to the letter where a producer can see them.

use std::collections::{BTreeMap, VecDeque};

use sordini_protocol::{ErrorCode, mutant};

use super::aborted::AbortedTransaction;
use super::batch::{Header, NO_PRODUCER_ID, NO_SEQUENCE, add_sequence};
use super::marker::{Marker, TransactionResult};
use super::transactions::{Completed, Transactions};
use super::verification::{Guard, ToVerify, Verifications};

/// Batches remembered of each producer: the reason for "at most five in flight".
pub const BATCHES_KEPT: usize = 5;
/// Producers remembered by a partition; beyond it the one idle longest is forgotten.
pub const PRODUCERS_MAX: usize = 100_000;

/// "No epoch": nothing is known of the producer.
const NO_PRODUCER_EPOCH: i16 = -1;

/// One appended batch, as a producer's memory holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    /// Sequence number of the last record, -1 if it has none: a coordinator wrote it.
    pub last_sequence: i32,
    /// Offset of the last record.
    pub last_offset: i64,
    /// Records in the batch, minus one.
    pub offset_delta: i32,
    /// The batch's largest timestamp, ms.
    pub timestamp: i64,
}

impl BatchMeta {
    /// Sequence number of the first record.
    #[must_use]
    pub fn first_sequence(&self) -> i32 {
        if self.last_sequence < 0 {
            return NO_SEQUENCE;
        }
        add_sequence(self.last_sequence, -self.offset_delta)
    }

    /// Offset of the first record.
    #[must_use]
    pub fn first_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }
}

/// One producer, as a partition remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The newest epoch seen.
    pub epoch: i16,
    /// Its last batches under that epoch, oldest first.
    pub batches: VecDeque<BatchMeta>,
    /// Largest timestamp of its last batch, ms.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that ended its last transaction, -1 for none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub open_transaction: Option<i64>,
    /// When it last appended, by this broker's clock; not stored. Kafka counts idleness from the
    /// records' timestamps, so that replaying old events makes it forget a live producer.
    pub seen_ms: i64,
}

impl ProducerEntry {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            batches: VecDeque::new(),
            last_timestamp: -1,
            coordinator_epoch: -1,
            open_transaction: None,
            seen_ms: 0,
        }
    }

    /// Sequence number of the last record, -1 if no batch is remembered.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }

    fn find(&self, header: &Header) -> Option<BatchMeta> {
        if header.producer_epoch() != self.epoch {
            return None;
        }
        let (first, last) = (header.base_sequence(), header.last_sequence());
        self.batches
            .iter()
            .find(|batch| batch.first_sequence() == first && batch.last_sequence == last)
            .copied()
    }

    fn set_epoch(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }

    fn push(&mut self, header: &Header) {
        self.set_epoch(header.producer_epoch());
        let kept = if mutant!(M32) { 1 } else { BATCHES_KEPT };
        if self.batches.len() >= kept {
            self.batches.pop_front();
        }
        self.batches.push_back(BatchMeta {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta(),
            timestamp: header.max_timestamp(),
        });
        self.last_timestamp = header.max_timestamp();
    }
}

/// What the sequence numbers of a batch say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is next.
    Next,
    /// It is a retry of a batch that is in the log.
    Duplicate(BatchMeta),
    /// It may not be appended.
    Refused(ErrorCode, String),
}

impl From<Result<(), Refusal>> for Check {
    fn from(judged: Result<(), Refusal>) -> Self {
        match judged {
            Ok(()) => Self::Next,
            Err((code, message)) => Self::Refused(code, message),
        }
    }
}

/// Why a batch may not be appended: Kafka's error code, and a message.
pub type Refusal = (ErrorCode, String);

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: BTreeMap<i64, ProducerEntry>,
    transactions: Transactions,
    verifications: Verifications,
}

impl Producers {
    /// Judges a client's batch that has a producer id. `strict` refuses a first sequence other
    /// than 0 where nothing is remembered; Kafka accepts any. What would begin a transaction needs
    /// the guard of its verification.
    #[must_use]
    pub fn check(&self, header: &Header, guard: Option<Guard>, strict: bool) -> Check {
        let entry = self.entries.get(&header.producer_id());
        if let Some(batch) = entry.and_then(|entry| entry.find(header)) {
            return Check::Duplicate(batch);
        }
        self.check_transaction(header, guard)
            .and_then(|()| self.check_epoch(header))
            .and_then(|()| self.check_sequence(header, strict))
            .and_then(|()| self.check_kind(header))
            .into()
    }

    /// Judges a batch that a coordinator of this broker writes for a producer: its sequence
    /// numbers mean nothing.
    ///
    /// # Errors
    /// If the epoch is old, or the batch is not part of an open or verified transaction.
    pub fn check_coordinators(&self, header: &Header, guard: Option<Guard>) -> Result<(), Refusal> {
        self.check_transaction(header, guard)?;
        self.check_epoch(header)?;
        self.check_kind(header)
    }

    /// Judges a marker. In `transaction_version` 2 each transaction has an epoch of its own, and
    /// its marker the next one: it is above all that the partition has seen, or it is there
    /// already (KIP-890, KIP-1228).
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED.
    pub fn check_marker(&self, marker: &Marker, transaction_version: i16) -> Result<(), Refusal> {
        let Some(entry) = self.entries.get(&marker.producer_id) else { return Ok(()) };
        let (id, epoch, last) = (marker.producer_id, marker.producer_epoch, entry.epoch);
        let again = epoch == last
            && (transaction_version < 2 || entry.open_transaction.is_none() || epoch == i16::MAX);
        if epoch < last || (epoch == last && !again) {
            let message = format!(
                "the marker's epoch {epoch} of producer {id} does not end a transaction of epoch \
                 {last} (transaction.version {transaction_version})"
            );
            return Err((ErrorCode::InvalidProducerEpoch, message));
        }
        if marker.coordinator_epoch < entry.coordinator_epoch {
            let message = format!(
                "coordinator epoch {} of producer {id}'s marker is older than the last seen, {}",
                marker.coordinator_epoch, entry.coordinator_epoch
            );
            return Err((ErrorCode::TransactionCoordinatorFenced, message));
        }
        Ok(())
    }

    /// A transactional batch is part of an open transaction, or its partition was verified.
    fn check_transaction(&self, header: &Header, guard: Option<Guard>) -> Result<(), Refusal> {
        let (id, epoch) = (header.producer_id(), header.producer_epoch());
        if !header.is_transactional() || self.is_ongoing(id, epoch) {
            return Ok(());
        }
        self.check_epoch(header)?;
        if self.verifications.holds(id, guard) {
            return Ok(());
        }
        let message = format!("the batch of producer {id} is not part of an ongoing transaction");
        Err((ErrorCode::InvalidTxnState, message))
    }

    fn check_epoch(&self, header: &Header) -> Result<(), Refusal> {
        let (id, epoch) = (header.producer_id(), header.producer_epoch());
        match self.entries.get(&id).map(|entry| entry.epoch) {
            Some(last) if epoch < last => {
                let message =
                    format!("epoch {epoch} of producer {id} is older than the last seen, {last}");
                Err((ErrorCode::InvalidProducerEpoch, message))
            }
            _ => Ok(()),
        }
    }

    fn check_sequence(&self, header: &Header, strict: bool) -> Result<(), Refusal> {
        let first = header.base_sequence();
        let entry = self.entries.get(&header.producer_id());
        if let Some(verification) = self.verifications.get(header.producer_id()) {
            let nothing_known = entry.is_none_or(|entry| entry.batches.is_empty());
            if verification.bumps_epoch && first != 0 && nothing_known {
                return out_of_order(header, "a transaction of a new epoch begins at sequence 0");
            }
            if first > verification.lowest_sequence {
                let lowest = verification.lowest_sequence;
                return out_of_order(header, &format!("sequence {lowest} was not taken yet"));
            }
        }
        let Some(entry) = entry else {
            if strict && first != 0 {
                return out_of_order(header, "nothing is known of this producer");
            }
            return Ok(());
        };
        // An entry without an epoch (-1) holds nothing to contradict the first sequence.
        if entry.epoch < 0 {
            return Ok(());
        }
        if header.producer_epoch() != entry.epoch {
            return match first {
                0 => Ok(()),
                _ => out_of_order(header, "a new epoch begins at sequence 0"),
            };
        }
        let last = entry.last_sequence();
        match is_next(last, first) {
            true => Ok(()),
            false => out_of_order(header, &format!("the last sequence is {last}")),
        }
    }

    /// While a transaction is open, all batches of its producer are part of one.
    fn check_kind(&self, header: &Header) -> Result<(), Refusal> {
        let id = header.producer_id();
        let open = self.entries.get(&id).and_then(|entry| entry.open_transaction);
        match open {
            Some(first) if !header.is_transactional() => {
                let message = format!(
                    "producer {id} has a transaction open since offset {first}, and the batch is \
                     not transactional"
                );
                Err((ErrorCode::InvalidTxnState, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the producer has a transaction of this epoch open.
    #[must_use]
    pub fn is_ongoing(&self, producer_id: i64, epoch: i16) -> bool {
        let entry = self.entries.get(&producer_id);
        entry.is_some_and(|entry| entry.open_transaction.is_some() && entry.epoch == epoch)
    }

    /// Begins to verify that the partition is in a producer's transaction. `None`: its transaction
    /// is open here, so it is. `fresh` becomes the guard if no verification is under way.
    ///
    /// # Errors
    /// If the producer's epoch is older than the last seen.
    pub fn start_verification(
        &mut self,
        wanted: &ToVerify,
        fresh: Guard,
        wall_ms: i64,
    ) -> Result<Option<Guard>, Refusal> {
        let (id, epoch) = (wanted.producer_id, wanted.producer_epoch);
        if let Some(last) = self.entries.get(&id).map(|entry| entry.epoch)
            && epoch < last
        {
            let message =
                format!("epoch {epoch} of producer {id} is older than the last seen, {last}");
            return Err((ErrorCode::InvalidProducerEpoch, message));
        }
        if self.is_ongoing(id, epoch) {
            return Ok(None);
        }
        Ok(Some(self.verifications.start(wanted, fresh, wall_ms)))
    }

    /// Notes a batch that was appended, and the marker that it is if it is one; the result is the
    /// transaction that it aborted.
    pub(super) fn note(
        &mut self,
        header: &Header,
        marker: Option<&Marker>,
        wall_ms: i64,
    ) -> Option<AbortedTransaction> {
        if header.producer_id() == NO_PRODUCER_ID {
            return None;
        }
        let Some(marker) = marker else {
            if !header.is_control() {
                self.appended(header, wall_ms);
            }
            return None;
        };
        let ended = self.marked(marker, header.base_offset(), header.max_timestamp(), wall_ms)?;
        (ended.result == TransactionResult::Abort).then_some(AbortedTransaction {
            producer_id: ended.producer_id,
            first_offset: ended.first_offset,
            last_offset: ended.last_offset,
            last_stable: ended.last_stable,
        })
    }

    /// Notes a batch of records that was appended.
    fn appended(&mut self, header: &Header, wall_ms: i64) {
        let id = header.producer_id();
        let entry = self.entry(id);
        entry.push(header);
        entry.seen_ms = wall_ms;
        if !header.is_transactional() {
            return;
        }
        let begins = entry.open_transaction.is_none();
        entry.open_transaction.get_or_insert(header.base_offset());
        if begins {
            self.transactions.begin(id, header.base_offset());
        }
        self.verifications.data(id);
    }

    /// Notes a marker that was appended at `offset`; the result is the transaction that it ended,
    /// if one was open.
    fn marked(
        &mut self,
        marker: &Marker,
        offset: i64,
        timestamp: i64,
        wall_ms: i64,
    ) -> Option<Completed> {
        let id = marker.producer_id;
        let entry = self.entry(id);
        entry.set_epoch(marker.producer_epoch);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp = timestamp;
        entry.seen_ms = wall_ms;
        let open = entry.open_transaction.take();
        self.verifications.marker(id, marker.producer_epoch);
        open.map(|first_offset| Completed {
            producer_id: id,
            first_offset,
            last_offset: offset,
            result: marker.result,
            last_stable: self.transactions.end(first_offset, offset),
        })
    }

    fn entry(&mut self, id: i64) -> &mut ProducerEntry {
        if !self.entries.contains_key(&id) && self.entries.len() >= PRODUCERS_MAX {
            self.forget_idlest();
        }
        self.entries.entry(id).or_insert_with(|| ProducerEntry::new(NO_PRODUCER_EPOCH))
    }

    /// Puts back what a snapshot held.
    pub fn restore(&mut self, id: i64, entry: ProducerEntry) {
        if self.entries.len() < PRODUCERS_MAX {
            if let Some(first) = entry.open_transaction {
                self.transactions.begin(id, first);
            }
            self.entries.insert(id, entry);
        }
    }

    /// Takes the clock's word that all producers were seen now: after a restart nobody knows.
    pub fn seen_all(&mut self, wall_ms: i64) {
        for entry in self.entries.values_mut() {
            entry.seen_ms = wall_ms;
        }
    }

    /// Forgets who has been idle for `max_idle_ms` and has no open transaction.
    pub fn expire(&mut self, wall_ms: i64, max_idle_ms: i64) {
        self.verifications.expire(wall_ms, max_idle_ms);
        self.entries.retain(|_, entry| {
            entry.open_transaction.is_some() || wall_ms - entry.seen_ms < max_idle_ms
        });
    }

    /// Forgets one producer, or all; returns how many were known.
    pub fn forget(&mut self, id: Option<i64>) -> usize {
        let before = self.entries.len();
        match id {
            Some(id) => {
                let entry = self.entries.remove(&id);
                if let Some(first) = entry.and_then(|entry| entry.open_transaction) {
                    self.transactions.forget(first);
                }
            }
            None => *self = Self::default(),
        }
        before - self.entries.len()
    }

    fn forget_idlest(&mut self) {
        let closed = self.entries.iter().filter(|(_, entry)| entry.open_transaction.is_none());
        if let Some(id) = closed.min_by_key(|(_, entry)| entry.seen_ms).map(|(id, _)| *id) {
            self.entries.remove(&id);
        }
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// One producer.
    #[must_use]
    pub fn get(&self, id: i64) -> Option<&ProducerEntry> {
        self.entries.get(&id)
    }

    /// The first offset that is held back from read_committed readers: of a transaction that is
    /// open, or whose marker lies at or behind `high_watermark`.
    #[must_use]
    pub fn first_unstable(&self, high_watermark: i64) -> Option<i64> {
        self.transactions.first_unstable(high_watermark)
    }

    /// The open transactions: producer and first offset, in the order of their beginnings.
    pub fn open_transactions(&self) -> impl Iterator<Item = (i64, i64)> {
        self.transactions.open()
    }

    /// Lets go of ended transactions whose markers lie before `offset`.
    pub(super) fn settle(&mut self, offset: i64) {
        self.transactions.settle(offset);
    }
}

fn is_next(last: i32, first: i32) -> bool {
    i64::from(first) == i64::from(last) + 1 || (first == 0 && last == i32::MAX)
}

fn out_of_order(header: &Header, why: &str) -> Result<(), Refusal> {
    let message = format!(
        "sequence {} of producer {} (epoch {}) is out of order: {why}",
        header.base_sequence(),
        header.producer_id(),
        header.producer_epoch()
    );
    Err((ErrorCode::OutOfOrderSequenceNumber, message))
}
