//! Following leadership: what is led here is read from its log, what is not is forgotten.

use sordini_protocol::Uuid;
use sordini_protocol::records::{Batch, Batches};

use super::groups::Groups;
use super::records::{self, TransactionRecord};
use super::transaction::Transaction;
use super::transactions::{Led, Loaded};
use super::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::broker::Broker;
use crate::log::LogError;
use crate::log::batch::{HEADER_LEN, Header};
use crate::log::marker::{Marker, TransactionResult};
use crate::time::Now;

/// Bytes of a log that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// Decompressed bytes of one batch: coordinators write small ones.
const DECOMPRESSED_MAX: usize = 64 * 1024 * 1024;

/// A record of a coordinator's log: a key and a value, or the end of a producer's transaction.
enum Entry<'a> {
    Record { offset: i64, producer: Option<i64>, key: &'a [u8], value: Option<&'a [u8]> },
    End { producer: i64, result: TransactionResult },
}

/// A partition that is led here: its index and term, and whether what the term began with is known
/// to be committed. A coordinator that acted on less could act on what is then cut off.
type Leadership = (i32, i32, bool);

impl Broker {
    fn leaderships(&self, topic: &str) -> Option<(Uuid, Vec<Leadership>)> {
        let topic = self.topics.get(topic)?;
        let led = topic.partitions.iter().filter(|(_, partition)| partition.is_led_here());
        let led = led.map(|(index, p)| (*index, p.leader_epoch, p.knows_its_end()));
        Some((topic.id, led.collect()))
    }

    /// Takes over and gives up what this broker coordinates, as its leaderships are now. Returns
    /// whether anything was taken over.
    pub(crate) fn follow_leadership(&mut self, now: Now) -> bool {
        if self.coordinator.is_idle() && self.partition_count(TRANSACTION_STATE) == 0 {
            return self.follow_groups();
        }
        let (_, led) = self.leaderships(TRANSACTION_STATE).unwrap_or_default();
        self.coordinator.led.retain(|index, known| {
            led.iter().any(|(i, epoch, _)| i == index && *epoch == known.epoch)
        });
        let mut took = false;
        for (index, epoch, knows_its_end) in led {
            let known = self.coordinator.led.entry(index).or_insert(Led { epoch, loaded: None });
            if known.loaded.is_none() && knows_its_end {
                took |= self.load_transactions(now, index, epoch);
            }
        }
        self.schedule_checks(now);
        self.follow_groups() | took
    }

    fn load_transactions(&mut self, now: Now, index: i32, epoch: i32) -> bool {
        let mut loaded = Loaded::default();
        let read = self.replay(TRANSACTION_STATE, index, 0, |entry| {
            let Entry::Record { key, value, .. } = entry else { return };
            match records::read_transaction(key, value) {
                Ok(TransactionRecord::State(id, metadata)) => {
                    loaded.ids.insert(id, Transaction::resting(metadata, now.wall_ms));
                }
                Ok(TransactionRecord::Tombstone(id)) => {
                    loaded.ids.remove(&id);
                }
                Ok(TransactionRecord::Unknown) => {}
                Err(error) => tracing::warn!(index, %error, "a damaged record of transactions"),
            }
        });
        if let Err(error) = read {
            tracing::warn!(index, %error, "transactions can't be read");
            return false;
        }
        self.outrun(&mut loaded, now.wall_ms);
        let prepared = |(id, transaction): (&String, &Transaction)| match transaction {
            Transaction::Marking(_) => Some(id.clone()),
            _ => None,
        };
        let prepared: Vec<String> = loaded.ids.iter().filter_map(prepared).collect();
        if let Some(led) = self.coordinator.led.get_mut(&index) {
            led.loaded = Some(loaded);
        }
        for id in prepared {
            self.begin_marking(now, (index, epoch), &id);
        }
        true
    }

    fn follow_groups(&mut self) -> bool {
        if self.coordinator.groups.is_empty() && self.partition_count(CONSUMER_OFFSETS) == 0 {
            return false;
        }
        let (_, led) = self.leaderships(CONSUMER_OFFSETS).unwrap_or_default();
        self.coordinator.groups.retain(|index, known| {
            led.iter().any(|(i, epoch, _)| i == index && *epoch == known.epoch)
        });
        for (index, epoch, knows_its_end) in led {
            if knows_its_end {
                self.coordinator.groups.entry(index).or_insert_with(|| Groups::new(epoch));
            }
        }
        false
    }

    /// Applies what was committed to a partition's offsets since it was looked at.
    pub(super) fn catch_up(&mut self, index: i32) -> Result<(), LogError> {
        let Some(groups) = self.coordinator.groups.get(&index) else { return Ok(()) };
        let from = groups.applied;
        let mut fresh = std::mem::take(&mut self.coordinator.groups);
        let applied = match fresh.get_mut(&index) {
            Some(groups) => self.replay(CONSUMER_OFFSETS, index, from, |entry| match entry {
                Entry::Record { offset, producer, key, value } => {
                    match records::read_offset(key, value) {
                        Ok(record) => groups.apply(offset, producer, record),
                        Err(error) => tracing::warn!(index, %error, "a damaged offset"),
                    }
                }
                Entry::End { producer, result } => groups.end(producer, result),
            }),
            None => Ok(from),
        };
        self.coordinator.groups = fresh;
        let applied = applied?;
        if let Some(groups) = self.coordinator.groups.get_mut(&index) {
            groups.applied = applied;
        }
        Ok(())
    }

    /// Reads what is committed of a log, from an offset on. Returns where that ends.
    fn replay(
        &mut self,
        topic: &str,
        index: i32,
        from: i64,
        mut each: impl FnMut(Entry<'_>),
    ) -> Result<i64, LogError> {
        let Some((partition, storage)) = self.partition(topic, index) else { return Ok(from) };
        let log = &partition.log;
        let (mut at, end) = (from.max(log.log_start()), log.high_watermark());
        while at < end {
            let bytes = log.read(storage, at, READ_BYTES, true, end)?;
            let before = at;
            for batch in Batches::new(&bytes) {
                let Ok(batch) = batch else { break };
                at = batch.header().base_offset + i64::from(batch.header().last_offset_delta) + 1;
                replay_batch(&batch, &mut each);
            }
            if at == before {
                break;
            }
        }
        Ok(at)
    }
}

fn replay_batch(batch: &Batch<'_>, each: &mut impl FnMut(Entry<'_>)) {
    let bytes = batch.bytes();
    let Some((header, body)) = Header::new(bytes).zip(bytes.get(HEADER_LEN..)) else { return };
    if header.is_control() {
        if let Some(marker) = Marker::read(&header, body) {
            each(Entry::End { producer: marker.producer_id, result: marker.result });
        }
        return;
    }
    let producer = header.is_transactional().then(|| header.producer_id());
    let Ok(records) = batch.decompress(DECOMPRESSED_MAX) else { return };
    for record in records.iter().flatten() {
        if let Some(key) = record.key {
            let (offset, value) = (record.offset, record.value);
            each(Entry::Record { offset, producer, key, value });
        }
    }
}
