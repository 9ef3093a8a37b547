//! What the fuzz targets share.
#![forbid(unsafe_code)]

use bytes::Bytes;
use sordini_protocol::ApiKey;
use sordini_protocol::messages::SUPPORTED;
use sordini_protocol::records::{BatchError, Records};

/// What a target allows a batch to decompress to: small, so that the fuzzer finds the edge.
pub const CAP: usize = 1 << 20;

/// The API, version and direction that the first three bytes choose, and the rest.
#[must_use]
pub fn choose(data: &[u8]) -> Option<(ApiKey, i16, bool, Bytes)> {
    let ([api, version, direction], rest) = data.split_first_chunk()?;
    let api = SUPPORTED[usize::from(*api) % SUPPORTED.len()];
    let is_request = direction & 1 == 0;
    Some((api, i16::from(*version), is_request, Bytes::copy_from_slice(rest)))
}

/// Reads every record and header of a batch; they must be consistent with the header.
pub fn read_all(records: &Records<'_>) -> Result<usize, BatchError> {
    let mut count = 0;
    let mut last = None;
    for record in records {
        let record = record?;
        assert!(last < Some(record.offset), "offsets ascend");
        last = Some(record.offset);
        assert_eq!(record.headers.iter().count(), record.headers.len());
        count += 1;
    }
    assert_eq!(i32::try_from(count).ok(), Some(records.header().records_count));
    if let Ok(summary) = records.check_produced() {
        assert_eq!(i32::try_from(count).ok(), Some(summary.records));
    }
    Ok(count)
}
