//! What the log needs of records: the rest of it knows headers only.

use std::collections::BTreeSet;

use sordini_protocol::records::{Batch, BatchError, Batches, Record};

use crate::log::aborted::AbortedTransaction;
use crate::log::batch::Header;
use crate::log::marker::{Marker, TransactionResult};

/// Decompressed bytes of one batch that are read back from disk at most.
const DECOMPRESSED_MAX: usize = 256 * 1024 * 1024;

/// Offset and timestamp of the first record of the batch in `bytes` that is `wanted`.
pub(crate) fn first_where(
    bytes: &[u8],
    wanted: impl Fn(&Record<'_>) -> bool,
) -> Result<Option<(i64, i64)>, BatchError> {
    let records = Batch::parse(bytes)?.decompress(DECOMPRESSED_MAX)?;
    for record in &records {
        let record = record?;
        if wanted(&record) {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// One record, as tests and tools look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, ms.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The producer's id, -1 for none.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// Its sequence number, -1 for none.
    pub sequence: i32,
    /// Number of the codec that its batch is stored in.
    pub codec: u8,
    /// Whether it was written in a transaction.
    pub transactional: bool,
}

/// The markers among the batches in `bytes`, with their offsets.
pub(crate) fn markers(bytes: &[u8]) -> Result<Vec<(i64, Marker)>, BatchError> {
    let mut found = Vec::new();
    for batch in Batches::new(bytes) {
        let batch = batch?;
        let marker =
            Header::new(batch.bytes()).and_then(|header| Marker::read(&header, batch.body()));
        found.extend(marker.map(|marker| (batch.header().base_offset, marker)));
    }
    Ok(found)
}

/// What a read_committed reader makes of an answer: it leaves out the records of the aborted
/// transactions that the answer names. A producer's records are left out from the first offset of
/// such a transaction on, up to its next abort marker.
pub(crate) fn collect_committed(
    bytes: &[u8],
    mut aborted: Vec<AbortedTransaction>,
    out: &mut Vec<StoredRecord>,
) -> Result<(), BatchError> {
    aborted.sort_by_key(|aborted| aborted.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut open = BTreeSet::new();
    for batch in Batches::new(bytes) {
        let batch = batch?;
        let last = batch.header().last_offset().unwrap_or(i64::MAX);
        while let Some(begun) = aborted.next_if(|aborted| aborted.first_offset <= last) {
            open.insert(begun.producer_id);
        }
        let producer = batch.header().producer_id;
        if batch.header().is_control() {
            let markers = markers(batch.bytes())?;
            if markers.iter().any(|(_, marker)| marker.result == TransactionResult::Abort) {
                open.remove(&producer);
            }
        } else if !batch.header().is_transactional() || !open.contains(&producer) {
            collect(batch.bytes(), out)?;
        }
    }
    Ok(())
}

/// Appends the records of the batch in `bytes` to `out`: none if it is a control batch.
pub(crate) fn collect(bytes: &[u8], out: &mut Vec<StoredRecord>) -> Result<(), BatchError> {
    let batch = Batch::parse(bytes)?;
    let header = *batch.header();
    if header.is_control() {
        return Ok(());
    }
    let records = batch.decompress(DECOMPRESSED_MAX)?;
    for record in &records {
        let record = record?;
        let sequence = if header.producer_id < 0 {
            -1
        } else {
            crate::log::batch::add_sequence(header.base_sequence, record.offset_delta)
        };
        out.push(StoredRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            sequence,
            codec: (header.attributes & 7) as u8,
            transactional: header.is_transactional(),
        });
    }
    Ok(())
}
