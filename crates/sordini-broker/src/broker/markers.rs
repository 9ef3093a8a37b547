//! What the broker itself appends to partitions that it leads: the markers that end transactions,
//! and the records of its coordinators.

use bytes::Bytes;
use sordini_protocol::{ErrorCode, Uuid, mutant};

use super::Broker;
use crate::log::batch::{HEADER_LEN, Header};
use crate::log::marker::Marker;
use crate::log::verification::{Guard, ToVerify};
use crate::log::{Appended, LogError, Origin, PartitionLog};
use crate::storage::Storage;
use crate::time::Now;

/// A batch that the broker appended itself, and that may not be committed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppendedHere {
    topic: Uuid,
    partition: i32,
    /// Offset of its first record.
    pub base_offset: i64,
    end: i64,
    leader_epoch: i32,
}

/// Whether a batch that the broker appended itself is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// Not all replicas that are in sync have it. Ask again when the high watermark has moved or
    /// the leader has changed.
    NotYet,
    /// It is, and synced where the broker syncs.
    Yes,
    /// The leader changed, or the topic is gone, before it was known to be: it may be in the log
    /// or not.
    Unknown(ErrorCode),
}

impl Broker {
    /// Appends the marker that ends a producer's transaction, or would end one, in a partition
    /// that is led here. It counts once it is [committed](Self::committed).
    ///
    /// `transaction_version` is that of the transaction: from 2 on the marker's epoch must be
    /// above the partition's last of that producer, unless the marker is there already (KIP-1228).
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, NOT_ENOUGH_REPLICAS,
    /// INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED if a newer coordinator wrote a
    /// marker of that producer, KAFKA_STORAGE_ERROR.
    pub(crate) fn append_marker(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        marker: &Marker,
        transaction_version: i16,
    ) -> Result<AppendedHere, ErrorCode> {
        self.append_here(now, topic, partition, |log, storage, epoch| {
            let wall_ms = now.wall_ms;
            log.append_marker(storage, marker, transaction_version, epoch, wall_ms)
        })
    }

    /// Appends a whole batch of a coordinator's records to a partition that is led here, whatever
    /// its sequence numbers. It counts once it is [committed](Self::committed). A transactional
    /// batch that begins a transaction there needs the guard of
    /// [its verification](Self::start_verification).
    ///
    /// # Errors
    /// As [`append_marker`](Self::append_marker), INVALID_TXN_STATE, and CORRUPT_MESSAGE if it is
    /// no batch.
    pub(crate) fn append_as_coordinator(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        batch: &Bytes,
        guard: Option<Guard>,
    ) -> Result<AppendedHere, ErrorCode> {
        let header = Header::new(batch).filter(|header| header.size() == Some(batch.len()));
        let header = header.ok_or(ErrorCode::CorruptMessage)?;
        let (body, origin) = (batch.slice(HEADER_LEN..), Origin::Coordinator(guard));
        self.append_here(now, topic, partition, |log, storage, epoch| {
            log.append_as(storage, header, &body, epoch, now.wall_ms, origin)
        })
    }

    /// Begins to verify that a partition that is led here is in a producer's transaction. The
    /// guard that is returned goes with the batch when the coordinator has said yes. `None`: the
    /// transaction is open here, so there is nothing to ask.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION, INVALID_PRODUCER_EPOCH.
    pub(crate) fn start_verification(
        &mut self,
        now: Now,
        topic: &str,
        partition: i32,
        wanted: &ToVerify,
    ) -> Result<Option<Guard>, ErrorCode> {
        self.guards += 1;
        let fresh = Guard(self.guards);
        let (partition, _) = self.led(topic, partition)?;
        let started = partition.log.start_verification(wanted, fresh, now.wall_ms);
        started.map_err(|error| error.code())
    }

    fn append_here(
        &mut self,
        now: Now,
        topic: &str,
        index: i32,
        append: impl FnOnce(&mut PartitionLog, &mut dyn Storage, i32) -> Result<Appended, LogError>,
    ) -> Result<AppendedHere, ErrorCode> {
        let (fsync, traced) = (self.config.fsync && !mutant!(M29), self.is_traced());
        let in_sync = self.check_in_sync(topic, index);
        let id = self.topics.get(topic).map(|topic| topic.id);
        let (partition, storage) = self.led(topic, index)?;
        in_sync.map_err(|_| ErrorCode::NotEnoughReplicas)?;
        let (sole, leader_epoch) = (partition.replica.is_none(), partition.leader_epoch);
        let log = &mut partition.log;
        let appended = append(log, storage, leader_epoch).and_then(|appended| {
            if fsync { log.sync(storage).map(|()| appended) } else { Ok(appended) }
        });
        let (base, last) = match appended {
            Ok(Appended::New { base, last }) => (base, last),
            Ok(Appended::Duplicate(batch)) => (batch.first_offset(), batch.last_offset),
            Err(error) => {
                if let Some(reason) = log.offline().map(str::to_owned) {
                    self.halt(reason);
                }
                return Err(error.code());
            }
        };
        let batch = match traced {
            true => log.read(storage, base, 1, true, last + 1).ok(),
            false => None,
        };
        let topic_id = id.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if sole {
            log.advance_high_watermark(log.log_end());
            self.note_readable(topic_id, index, u64::MAX);
        } else {
            self.appended_as_leader(now, topic, index, batch);
        }
        let (base_offset, end) = (base, last + 1);
        Ok(AppendedHere { topic: topic_id, partition: index, base_offset, end, leader_epoch })
    }

    /// All that was appended so far to a partition that is led here, as one append.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION.
    pub(crate) fn appended_so_far(
        &mut self,
        topic: &str,
        index: i32,
    ) -> Result<AppendedHere, ErrorCode> {
        let id = self.topics.get(topic).map(|topic| topic.id);
        let (partition, _) = self.led(topic, index)?;
        let (end, leader_epoch) = (partition.log.log_end(), partition.leader_epoch);
        let topic = id.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok(AppendedHere { topic, partition: index, base_offset: end, end, leader_epoch })
    }

    /// Whether a batch that was appended here is committed.
    pub(crate) fn committed(&mut self, appended: &AppendedHere) -> Committed {
        let Some(name) = self.names.get(&appended.topic).cloned() else {
            return Committed::Unknown(ErrorCode::UnknownTopicOrPartition);
        };
        match self.led(&name, appended.partition) {
            Err(code) => Committed::Unknown(code),
            Ok((partition, _)) if partition.leader_epoch != appended.leader_epoch => {
                Committed::Unknown(ErrorCode::NotLeaderOrFollower)
            }
            Ok((partition, _)) if partition.log.high_watermark() >= appended.end => Committed::Yes,
            Ok(_) => Committed::NotYet,
        }
    }
}
