//! The records of `__transaction_state` and `__consumer_offsets`, in Kafka's own format: a version
//! (of keys: the kind of the record) before each key and each value.

use std::collections::{BTreeMap, BTreeSet};

use sordini_protocol::{DecodeError, Reader, Uuid};

use super::batch::KeyValue;
use super::state::State;
use super::transaction::{Metadata, NO_EPOCH, NO_ID};
use super::version::TransactionVersion;

/// The version of a key that names a transactional id.
const TRANSACTION_KEY: i16 = 0;
/// The versions of a key that names a group's partition.
const OFFSET_KEYS: std::ops::RangeInclusive<i16> = 0..=1;
const OFFSET_KEY: i16 = 1;
/// The tag by which this broker keeps a producer's last epoch. Kafka forgets it with the
/// coordinator's memory, and fences the retry of an InitProducerId; it skips tags it does not know.
const LAST_EPOCH_TAG: u32 = 10_000;

/// A record of `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransactionRecord {
    /// The newest state of an id.
    State(String, Metadata),
    /// The id is forgotten.
    Tombstone(String),
    /// Nothing that this broker knows.
    Unknown,
}

/// A record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OffsetRecord {
    /// A committed offset.
    Offset(OffsetKey, CommittedOffset),
    /// It is forgotten.
    Tombstone(OffsetKey),
    /// Nothing that this broker knows: such as members of a group.
    Unknown,
}

/// Whose offset it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OffsetKey {
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
    pub committed_ms: i64,
    /// When it is forgotten, where the client said so (before OffsetCommit 5).
    pub expires_ms: Option<i64>,
    /// All zeros in records of before Kafka 4.1.
    pub topic_id: Uuid,
}

/// The record of an id's state; the log's values are flexible from transaction version 1 on. So are
/// those of a transaction that a client of the new protocol has when the level is lowered to 0: the
/// coordinator after this one has to know by which protocol it ends.
pub(crate) fn transaction(id: &str, now: &Metadata, version: TransactionVersion) -> KeyValue {
    let mut value = Vec::new();
    let flexible = version.max(now.client_version) >= TransactionVersion::V1;
    value.extend_from_slice(&i16::from(flexible).to_be_bytes());
    value.extend_from_slice(&now.producer_id.to_be_bytes());
    value.extend_from_slice(&now.producer_epoch.to_be_bytes());
    value.extend_from_slice(&now.timeout_ms.to_be_bytes());
    value.extend_from_slice(&now.state.id().to_be_bytes());
    put_partitions(&mut value, now, flexible);
    value.extend_from_slice(&now.updated_ms.to_be_bytes());
    value.extend_from_slice(&now.started_ms.to_be_bytes());
    if flexible {
        put_tags(&mut value, now);
    }
    KeyValue { key: transaction_key(id), value: Some(value) }
}

/// The record by which an id is forgotten.
pub(crate) fn transaction_tombstone(id: &str) -> KeyValue {
    KeyValue { key: transaction_key(id), value: None }
}

fn transaction_key(id: &str) -> Vec<u8> {
    let mut key = TRANSACTION_KEY.to_be_bytes().to_vec();
    put_string(&mut key, id, false);
    key
}

fn put_partitions(out: &mut Vec<u8>, now: &Metadata, flexible: bool) {
    if now.state == State::Empty {
        return if flexible { out.push(0) } else { out.extend_from_slice(&(-1i32).to_be_bytes()) };
    }
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &now.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    put_count(out, topics.len(), flexible);
    for (topic, partitions) in topics {
        put_string(out, topic, flexible);
        put_count(out, partitions.len(), flexible);
        partitions.iter().for_each(|partition| out.extend_from_slice(&partition.to_be_bytes()));
        if flexible {
            out.push(0);
        }
    }
}

fn put_tags(out: &mut Vec<u8>, now: &Metadata) {
    let mut tags: Vec<(u32, Vec<u8>)> = Vec::new();
    for (tag, id) in [(0, now.previous_producer_id), (1, now.next_producer_id)] {
        if id != NO_ID {
            tags.push((tag, id.to_be_bytes().to_vec()));
        }
    }
    if now.client_version != TransactionVersion::V0 {
        tags.push((2, now.client_version.level().to_be_bytes().to_vec()));
    }
    if now.last_producer_epoch != NO_EPOCH {
        tags.push((LAST_EPOCH_TAG, now.last_producer_epoch.to_be_bytes().to_vec()));
    }
    put_uvarint(out, u32::try_from(tags.len()).unwrap_or(0));
    for (tag, value) in tags {
        put_uvarint(out, tag);
        put_uvarint(out, u32::try_from(value.len()).unwrap_or(0));
        out.extend_from_slice(&value);
    }
}

/// Reads a record of `__transaction_state`.
///
/// # Errors
/// If it is damaged. A version that is not known is [`TransactionRecord::Unknown`], as in Kafka.
pub(crate) fn read_transaction(
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<TransactionRecord, DecodeError> {
    let mut key = Reader::new(key.to_vec());
    if key.i16("TransactionLogKey")? != TRANSACTION_KEY {
        return Ok(TransactionRecord::Unknown);
    }
    let id = key.string("TransactionLogKey.TransactionalId", false)?;
    let Some(value) = value else { return Ok(TransactionRecord::Tombstone(id)) };
    let mut r = Reader::new(value.to_vec());
    let flexible = match r.i16("TransactionLogValue")? {
        0 => false,
        1 => true,
        _ => return Ok(TransactionRecord::Unknown),
    };
    let producer_id = r.i64("TransactionLogValue.ProducerId")?;
    let producer_epoch = r.i16("TransactionLogValue.ProducerEpoch")?;
    let timeout_ms = r.i32("TransactionLogValue.TransactionTimeoutMs")?;
    let state = State::from_id(r.i8("TransactionLogValue.TransactionStatus")?);
    let partitions = read_partitions(&mut r, flexible)?;
    let updated_ms = r.i64("TransactionLogValue.TransactionLastUpdateTimestampMs")?;
    let started_ms = r.i64("TransactionLogValue.TransactionStartTimestampMs")?;
    // Dead and PrepareEpochFence are never written.
    let Some(state) = state.filter(|s| !matches!(s, State::Dead | State::PrepareEpochFence)) else {
        return Ok(TransactionRecord::Unknown);
    };
    let mut now = Metadata {
        state,
        producer_epoch,
        partitions,
        started_ms,
        ..Metadata::new(producer_id, timeout_ms, updated_ms)
    };
    if flexible {
        read_tags(&mut r, &mut now)?;
    }
    Ok(TransactionRecord::State(id, now))
}

fn read_partitions(r: &mut Reader, flexible: bool) -> Result<BTreeSet<(String, i32)>, DecodeError> {
    const FIELD: &str = "TransactionLogValue.TransactionPartitions";
    let topics = r.nullable_array(FIELD, flexible, 2, |r| {
        let topic = r.string(FIELD, flexible)?;
        let partitions = r.array(FIELD, flexible, 4, |r| r.i32(FIELD))?;
        if flexible {
            r.tagged_fields(FIELD, |_, _| Ok(false))?;
        }
        Ok((topic, partitions))
    })?;
    let topics = topics.unwrap_or_default().into_iter();
    Ok(topics.flat_map(|(topic, all)| all.into_iter().map(move |p| (topic.clone(), p))).collect())
}

fn read_tags(r: &mut Reader, now: &mut Metadata) -> Result<(), DecodeError> {
    const FIELD: &str = "TransactionLogValue";
    r.tagged_fields(FIELD, |r, tag| {
        match tag {
            0 => now.previous_producer_id = r.i64(FIELD)?,
            1 => now.next_producer_id = r.i64(FIELD)?,
            2 => {
                let level = r.i16(FIELD)?;
                now.client_version = TransactionVersion::from_level(level).unwrap_or_default();
            }
            LAST_EPOCH_TAG => now.last_producer_epoch = r.i16(FIELD)?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// The record of a committed offset.
pub(crate) fn offset(key: &OffsetKey, committed: &CommittedOffset) -> KeyValue {
    let mut value = Vec::new();
    let put_text = |out: &mut Vec<u8>, flexible| put_string(out, &committed.metadata, flexible);
    if let Some(expires_ms) = committed.expires_ms {
        // The one version that has room for it, and none for a leader epoch.
        value.extend_from_slice(&1i16.to_be_bytes());
        value.extend_from_slice(&committed.offset.to_be_bytes());
        put_text(&mut value, false);
        value.extend_from_slice(&committed.committed_ms.to_be_bytes());
        value.extend_from_slice(&expires_ms.to_be_bytes());
    } else {
        value.extend_from_slice(&4i16.to_be_bytes());
        value.extend_from_slice(&committed.offset.to_be_bytes());
        value.extend_from_slice(&committed.leader_epoch.to_be_bytes());
        put_text(&mut value, true);
        value.extend_from_slice(&committed.committed_ms.to_be_bytes());
        if committed.topic_id == Uuid::ZERO {
            value.push(0);
        } else {
            value.extend_from_slice(&[1, 0, 16]);
            value.extend_from_slice(&committed.topic_id.0);
        }
    }
    KeyValue { key: offset_key(key), value: Some(value) }
}

fn offset_key(key: &OffsetKey) -> Vec<u8> {
    let mut bytes = OFFSET_KEY.to_be_bytes().to_vec();
    put_string(&mut bytes, &key.group, false);
    put_string(&mut bytes, &key.topic, false);
    bytes.extend_from_slice(&key.partition.to_be_bytes());
    bytes
}

/// Reads a record of `__consumer_offsets`.
///
/// # Errors
/// If it is damaged.
pub(crate) fn read_offset(key: &[u8], value: Option<&[u8]>) -> Result<OffsetRecord, DecodeError> {
    let mut r = Reader::new(key.to_vec());
    if !OFFSET_KEYS.contains(&r.i16("OffsetCommitKey")?) {
        return Ok(OffsetRecord::Unknown);
    }
    let group = r.string("OffsetCommitKey.group", false)?;
    let topic = r.string("OffsetCommitKey.topic", false)?;
    let partition = r.i32("OffsetCommitKey.partition")?;
    let key = OffsetKey { group, topic, partition };
    let Some(value) = value else { return Ok(OffsetRecord::Tombstone(key)) };
    let mut r = Reader::new(value.to_vec());
    let version = r.i16("OffsetCommitValue")?;
    if !(0..=4).contains(&version) {
        return Ok(OffsetRecord::Unknown);
    }
    let offset = r.i64("OffsetCommitValue.offset")?;
    let leader_epoch = if version >= 3 { r.i32("OffsetCommitValue.leaderEpoch")? } else { -1 };
    let metadata = r.string("OffsetCommitValue.metadata", version >= 4)?;
    let committed_ms = r.i64("OffsetCommitValue.commitTimestamp")?;
    let expires_ms =
        if version == 1 { Some(r.i64("OffsetCommitValue.expireTimestamp")?) } else { None };
    let mut topic_id = Uuid::ZERO;
    if version >= 4 {
        r.tagged_fields("OffsetCommitValue", |r, tag| {
            if tag == 0 {
                topic_id = r.uuid("OffsetCommitValue.topicId")?;
            }
            Ok(tag == 0)
        })?;
    }
    let expires_ms = expires_ms.filter(|at| *at != -1);
    let committed =
        CommittedOffset { offset, leader_epoch, metadata, committed_ms, expires_ms, topic_id };
    Ok(OffsetRecord::Offset(key, committed))
}

fn put_string(out: &mut Vec<u8>, text: &str, compact: bool) {
    if compact {
        put_uvarint(out, u32::try_from(text.len() + 1).unwrap_or(0));
    } else {
        out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}

fn put_count(out: &mut Vec<u8>, count: usize, compact: bool) {
    if compact {
        put_uvarint(out, u32::try_from(count + 1).unwrap_or(0));
    } else {
        out.extend_from_slice(&i32::try_from(count).unwrap_or(0).to_be_bytes());
    }
}

fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
