//! Looking into a broker, and changing it behind its clients' backs: for tests and tools.

use sordini_protocol::ErrorCode;
use sordini_protocol::records::{BatchError, Batches};

use super::{Broker, NewTopic, Partition};
use crate::coordinator::groups::Known;
use crate::coordinator::records::OffsetKey;
use crate::log::marker::{Marker, TransactionResult};
use crate::log::producers::ProducerEntry;
use crate::log::{LogError, PartitionLog, batch};
use crate::records::{self, StoredRecord};
use crate::storage::Storage;
use crate::time::Now;

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// No such partition.
    #[error("there is no partition {partition} of topic {topic}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is in the log can't be read.
    #[error("the log holds a damaged batch: {0}")]
    Batch(#[from] sordini_protocol::records::BatchError),
    /// The setting was refused.
    #[error("{0}")]
    Setting(String),
    /// Another broker coordinates the group, or this one does not yet.
    #[error("the group's offsets are not kept here: {}", .0.name())]
    NotCoordinator(ErrorCode),
    /// The transaction can't be ended here.
    #[error("the transaction can't be ended here: {}", .0.name())]
    Unended(ErrorCode),
}

/// A partition's offsets and epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionState {
    /// The first offset.
    pub log_start: i64,
    /// The offset behind the last one appended.
    pub log_end: i64,
    /// The offset behind the last one committed.
    pub high_watermark: i64,
    /// The offset behind the last one that no open transaction holds back.
    pub last_stable: i64,
    /// The leader epoch.
    pub leader_epoch: i32,
    /// Segments on disk.
    pub segments: usize,
    /// Why the partition is offline, if it is.
    pub offline: Option<String>,
}

/// A transaction that is open in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenTransaction {
    /// Whose it is.
    pub producer_id: i64,
    /// The producer's newest epoch in the partition.
    pub producer_epoch: i16,
    /// Offset of its first record.
    pub first_offset: i64,
}

/// Reads all batches before `upper`, a portion at a time, with the offset that each was read from.
fn read_through(
    log: &PartitionLog,
    storage: &mut dyn Storage,
    upper: i64,
    mut seen: impl FnMut(i64, &[u8]) -> Result<(), BatchError>,
) -> Result<(), InspectError> {
    let mut at = log.log_start();
    while at < upper {
        let bytes = log.read(storage, at, 1 << 20, true, upper)?;
        seen(at, &bytes)?;
        let Some(end) = batch::end_of(&bytes).filter(|end| *end > at) else { break };
        at = end;
    }
    Ok(())
}

impl Broker {
    fn find(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<(&mut Partition, &mut dyn Storage), InspectError> {
        let missing = InspectError::NoPartition { topic: topic.to_owned(), partition };
        self.partition(topic, partition).ok_or(missing)
    }

    /// The topics' names, and how many partitions each has.
    pub fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.topics.iter().map(|(name, topic)| (name.as_str(), topic.partitions.len()))
    }

    /// A partition's offsets and epoch.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn partition_state(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<PartitionState, InspectError> {
        let (found, _) = self.find(topic, partition)?;
        Ok(PartitionState {
            log_start: found.log.log_start(),
            log_end: found.log.log_end(),
            high_watermark: found.log.high_watermark(),
            last_stable: found.log.last_stable(),
            leader_epoch: found.leader_epoch,
            segments: found.log.segment_count(),
            offline: found.log.offline().map(str::to_owned),
        })
    }

    /// All records of a partition, decoded; control batches are none.
    ///
    /// # Errors
    /// If there is no such partition, or its log can't be read.
    pub fn records(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<StoredRecord>, InspectError> {
        let (found, storage) = self.find(topic, partition)?;
        let mut all = Vec::new();
        read_through(&found.log, storage, found.log.log_end(), |_, bytes| {
            for batch in Batches::new(bytes) {
                records::collect(batch?.bytes(), &mut all)?;
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// The records of a partition that a read_committed consumer sees: those before the last
    /// stable offset, without those of aborted transactions. They are found as a consumer does,
    /// by the aborted transactions that a fetch is answered with.
    ///
    /// # Errors
    /// If there is no such partition, or its log can't be read.
    pub fn committed_records(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<StoredRecord>, InspectError> {
        let (found, storage) = self.find(topic, partition)?;
        let log = &found.log;
        let mut all = Vec::new();
        read_through(log, storage, log.last_stable(), |at, bytes| {
            let end = batch::end_of(bytes).unwrap_or(at);
            records::collect_committed(bytes, log.aborted_transactions(at, end), &mut all)
        })?;
        Ok(all)
    }

    /// The markers of a partition, with their offsets.
    ///
    /// # Errors
    /// If there is no such partition, or its log can't be read.
    pub fn markers(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<(i64, Marker)>, InspectError> {
        let (found, storage) = self.find(topic, partition)?;
        let mut all = Vec::new();
        read_through(&found.log, storage, found.log.log_end(), |_, bytes| {
            all.extend(records::markers(bytes)?);
            Ok(())
        })?;
        Ok(all)
    }

    /// The open transactions of a partition, in the order of their first offsets.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn open_transactions(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<OpenTransaction>, InspectError> {
        let (found, _) = self.find(topic, partition)?;
        let producers = found.log.producers();
        let open = producers.open_transactions().map(|(producer_id, first_offset)| {
            let producer_epoch = producers.get(producer_id).map_or(-1, |entry| entry.epoch);
            OpenTransaction { producer_id, producer_epoch, first_offset }
        });
        Ok(open.collect())
    }

    /// Aborts the transaction that a producer has open in a partition that is led here, whatever its
    /// coordinator says: for one that hangs because its coordinator's log lost it, as Kafka's
    /// `kafka-transactions.sh abort` does (KIP-664). It counts once the marker is committed, as any
    /// record. If the coordinator has not lost it, the transaction is torn.
    ///
    /// # Errors
    /// If there is no such partition; [`InspectError::Unended`] with INVALID_TXN_STATE if the
    /// producer has no transaction open there, NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS, or
    /// KAFKA_STORAGE_ERROR.
    pub fn abort_transaction(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        producer_id: i64,
    ) -> Result<(), InspectError> {
        let entry = self.producer_state(topic, partition, producer_id)?;
        let entry = entry.filter(|entry| entry.open_transaction.is_some());
        let entry = entry.ok_or(InspectError::Unended(ErrorCode::InvalidTxnState))?;
        let marker = Marker {
            producer_id,
            producer_epoch: entry.epoch,
            coordinator_epoch: entry.coordinator_epoch.max(0),
            result: TransactionResult::Abort,
        };
        // The epoch stays: no producer of the new protocol is to be fenced by it.
        let appended = self.append_marker(now, topic, partition, &marker, 0);
        appended.map(|_| ()).map_err(InspectError::Unended)
    }

    /// The offset that a group has committed for a partition, those of open transactions apart.
    ///
    /// # Errors
    /// If this broker does not coordinate the group.
    pub fn committed_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<Option<i64>, InspectError> {
        let key = OffsetKey { group: group.to_owned(), topic: topic.to_owned(), partition };
        let offsets = self.offsets_of(group).map_err(InspectError::NotCoordinator)?;
        Ok(match offsets.get(&key, false) {
            Known::Committed(committed) => Some(committed.offset),
            Known::Nothing | Known::Unstable => None,
        })
    }

    /// What a partition remembers of a producer.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn producer_state(
        &mut self,
        topic: &str,
        partition: i32,
        producer_id: i64,
    ) -> Result<Option<ProducerEntry>, InspectError> {
        let (found, _) = self.find(topic, partition)?;
        Ok(found.log.producers().get(producer_id).cloned())
    }

    /// Makes a partition forget one producer, or all, as if they had expired. Returns how many
    /// it knew.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn forget_producers(
        &mut self,
        topic: &str,
        partition: i32,
        producer_id: Option<i64>,
    ) -> Result<usize, InspectError> {
        let (found, _) = self.find(topic, partition)?;
        Ok(found.log.forget_producers(producer_id))
    }

    /// Begins a new leader epoch, as an election does. An epoch that is not above the present
    /// one changes nothing. Returns the epoch that now holds.
    ///
    /// # Errors
    /// If there is no such partition, or the storage fails.
    pub fn set_leader_epoch(
        &mut self,
        topic: &str,
        partition: i32,
        epoch: i32,
    ) -> Result<i32, InspectError> {
        let (found, storage) = self.find(topic, partition)?;
        if epoch > found.leader_epoch {
            found.log.become_leader(storage, epoch)?;
            found.leader_epoch = epoch;
            let index = usize::try_from(partition).unwrap_or(usize::MAX);
            let entry = self.catalog.topics.get_mut(topic);
            if let Some(known) = entry.and_then(|entry| entry.epochs.get_mut(index)) {
                *known = epoch;
            }
            self.catalog
                .save(self.storage.as_mut())
                .map_err(|source| LogError::Storage { dir: topic.to_owned(), source })?;
            return Ok(epoch);
        }
        Ok(found.leader_epoch)
    }

    /// Creates a topic with these settings; -1 partitions are the broker's default.
    ///
    /// # Errors
    /// If it is there already, or a name, number or setting is not valid.
    pub fn make_topic(
        &mut self,
        now: Now,
        name: &str,
        partitions: i32,
        settings: &[(String, String)],
    ) -> Result<(), InspectError> {
        let settings = settings.iter().map(|(n, v)| (n.clone(), Some(v.clone()))).collect();
        let new = NewTopic { partitions, settings, ..NewTopic::by_default(name) };
        self.create_topic(now, &new, false)
            .map(|_| ())
            .map_err(|error| InspectError::Setting(error.message))
    }

    /// Changes one of a topic's settings.
    ///
    /// # Errors
    /// If there is no such topic or setting, or it does not take this value.
    pub fn set_topic_config(
        &mut self,
        topic: &str,
        setting: &str,
        value: &str,
    ) -> Result<(), InspectError> {
        self.change_setting(topic, setting, value)
            .map_err(|error| InspectError::Setting(error.message))
    }
}
