//! What a partition remembers of its producers: the last five batches of each, by which it
//! recognises a retry and refuses a gap (KIP-98, KIP-360). The rules are Kafka's, to the letter
//! where a producer can see them.

use std::collections::{BTreeMap, VecDeque};

use sordini_protocol::{ErrorCode, mutant};

use super::batch::{Header, add_sequence};

/// Batches remembered of each producer: the reason for "at most five in flight".
pub const BATCHES_KEPT: usize = 5;
/// Producers remembered by a partition; beyond it the one idle longest is forgotten.
pub const PRODUCERS_MAX: usize = 100_000;

/// One appended batch, as a producer's memory holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    /// Sequence number of the last record.
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

    fn push(&mut self, header: &Header) {
        if header.producer_epoch() != self.epoch {
            self.batches.clear();
            self.epoch = header.producer_epoch();
        }
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

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: BTreeMap<i64, ProducerEntry>,
}

impl Producers {
    /// Judges a batch that has a producer id. `strict` refuses a first sequence other than 0
    /// where nothing is remembered; Kafka accepts any.
    #[must_use]
    pub fn check(&self, header: &Header, strict: bool) -> Check {
        let id = header.producer_id();
        let Some(entry) = self.entries.get(&id) else {
            if strict && header.base_sequence() != 0 {
                return out_of_order(header, "nothing is known of this producer");
            }
            return Check::Next;
        };
        if let Some(batch) = entry.find(header) {
            return Check::Duplicate(batch);
        }
        let (epoch, first) = (header.producer_epoch(), header.base_sequence());
        if epoch < entry.epoch {
            let message = format!(
                "epoch {epoch} of producer {id} is older than the last seen, {}",
                entry.epoch
            );
            return Check::Refused(ErrorCode::InvalidProducerEpoch, message);
        }
        if epoch > entry.epoch {
            // An entry without an epoch (-1) holds nothing to contradict the first sequence.
            if first != 0 && entry.epoch >= 0 {
                return out_of_order(header, "a new epoch begins at sequence 0");
            }
            return Check::Next;
        }
        let last = entry.last_sequence();
        if entry.epoch < 0 || is_next(last, first) {
            Check::Next
        } else {
            out_of_order(header, &format!("the last sequence is {last}"))
        }
    }

    /// Notes a batch that was appended.
    pub fn appended(&mut self, header: &Header, wall_ms: i64) {
        let id = header.producer_id();
        if !self.entries.contains_key(&id) && self.entries.len() >= PRODUCERS_MAX {
            self.forget_idlest();
        }
        let fresh = || ProducerEntry::new(header.producer_epoch());
        let entry = self.entries.entry(id).or_insert_with(fresh);
        entry.push(header);
        entry.seen_ms = wall_ms;
    }

    /// Puts back what a snapshot held.
    pub fn restore(&mut self, id: i64, entry: ProducerEntry) {
        if self.entries.len() < PRODUCERS_MAX {
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
        self.entries.retain(|_, entry| {
            entry.open_transaction.is_some() || wall_ms - entry.seen_ms < max_idle_ms
        });
    }

    /// Forgets one producer, or all; returns how many were known.
    pub fn forget(&mut self, id: Option<i64>) -> usize {
        let before = self.entries.len();
        match id {
            Some(id) => {
                self.entries.remove(&id);
            }
            None => self.entries.clear(),
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

    /// The first offset that an open transaction holds back from read_committed readers.
    #[must_use]
    pub fn first_unstable(&self) -> Option<i64> {
        self.entries.values().filter_map(|entry| entry.open_transaction).min()
    }
}

fn is_next(last: i32, first: i32) -> bool {
    i64::from(first) == i64::from(last) + 1 || (first == 0 && last == i32::MAX)
}

fn out_of_order(header: &Header, why: &str) -> Check {
    let message = format!(
        "sequence {} of producer {} (epoch {}) is out of order: {why}",
        header.base_sequence(),
        header.producer_id(),
        header.producer_epoch()
    );
    Check::Refused(ErrorCode::OutOfOrderSequenceNumber, message)
}
