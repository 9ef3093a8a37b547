//! Produce requests, read with the broker's reader.

use bytes::Bytes;
use sordini_protocol::messages::produce::ProduceRequest;
use sordini_protocol::records::Batch;
use sordini_protocol::{Message, Reader, Uuid};

use super::Topics;
use crate::history::{History, Tp, identify};

/// More than a batch may become when it is decompressed.
const DECOMPRESSED_MAX: usize = 1 << 26;

/// A batch as it left a producer.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) tp: Tp,
    /// The topic's id, where the request named that.
    pub(crate) topic_id: Uuid,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) ids: Vec<u64>,
    /// The place of the first record among all accepted.
    pub(crate) first: u64,
    pub(crate) bytes: Bytes,
    /// No older batch of its partition and epoch was on its way when it was sent.
    pub(crate) led: bool,
    pub(crate) transactional: bool,
    /// The broker itself holds a producer that it does not know to sequence 0 (KIP-890).
    pub(crate) guarded: bool,
}

/// The acks and the batches of a Produce request.
pub(super) fn produce(
    mut reader: Reader,
    version: i16,
    topics: &Topics,
    history: &History,
) -> Result<(i16, Vec<Sent>), String> {
    let request = ProduceRequest::decode(&mut reader, version).map_err(|it| it.to_string())?;
    reader.finish().map_err(|error| format!("behind a Produce request: {error}"))?;
    let mut batches = Vec::new();
    for topic in request.topic_data {
        let number = if version >= 13 {
            topics.get(&topic.topic_id).copied()
        } else {
            topic.name.strip_prefix('t').and_then(|name| name.parse().ok())
        };
        let Some(number) = number else {
            return Err(format!("Produce for topic {} {}", topic.name, topic.topic_id));
        };
        for part in topic.partition_data {
            let bytes = part.records.ok_or("Produce without records")?;
            let tp = (number, part.index);
            let mut batch = read(tp, topic.topic_id, bytes, history)?;
            batch.guarded = batch.transactional && version >= 12;
            batches.push(batch);
        }
    }
    Ok((request.acks, batches))
}

fn read(tp: Tp, topic_id: Uuid, bytes: Bytes, history: &History) -> Result<Sent, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("a batch for {tp:?}: {error}");
    let batch = Batch::parse(&bytes).map_err(|error| wrong(&error))?;
    batch.verify_crc().map_err(|error| wrong(&error))?;
    let header = *batch.header();
    let plain = batch.decompress(DECOMPRESSED_MAX).map_err(|error| wrong(&error))?;
    plain.check_produced().map_err(|error| wrong(&error))?;
    let mut ids = Vec::with_capacity(header.records_count.max(0) as usize);
    for record in &plain {
        let record = record.map_err(|error| wrong(&error))?;
        let headers = record.headers.iter().map(|header| (header.key, header.value));
        let id = identify(record.value, headers).ok_or_else(|| wrong(&"a foreign record"))?;
        let meant = history.get(id).and_then(crate::history::Submitted::tp);
        if meant != Some(tp) {
            return Err(wrong(&format!("record {id} was meant for {meant:?}")));
        }
        ids.push(id);
    }
    let first = ids.first().and_then(|id| history.get(*id)?.accepted.as_ref());
    let first = first.ok_or_else(|| wrong(&"an empty batch"))?.order;
    let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
    let base_sequence = header.base_sequence;
    Ok(Sent {
        tp,
        topic_id,
        producer_id,
        epoch,
        base_sequence,
        ids,
        first,
        bytes,
        led: false,
        transactional: header.is_transactional(),
        guarded: false,
    })
}
