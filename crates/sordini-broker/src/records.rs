//! What the log needs of records: the rest of it knows headers only.

use sordini_protocol::records::{Batch, BatchError, Record};

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
}

/// Appends the records of the batch in `bytes` to `out`.
pub(crate) fn collect(bytes: &[u8], out: &mut Vec<StoredRecord>) -> Result<(), BatchError> {
    let batch = Batch::parse(bytes)?;
    let header = *batch.header();
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
        });
    }
    Ok(())
}
