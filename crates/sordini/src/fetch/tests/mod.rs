//! The reader's promises, against a cluster that is played by hand and a clock that is a number.

mod batches;
mod driver;
mod machine;
mod settings;

use bytes::Bytes;
use sordini_protocol::records::{BatchHeader, crc32c};

/// A batch to build.
#[derive(Clone, Copy)]
pub(super) struct Spec<'a> {
    pub(super) base_offset: i64,
    pub(super) values: &'a [&'a str],
    /// Producer id of a transaction.
    pub(super) transaction: Option<i64>,
    /// A control batch that aborts (true) or commits (false).
    pub(super) marker: Option<bool>,
}

impl<'a> Spec<'a> {
    pub(super) fn plain(base_offset: i64, values: &'a [&'a str]) -> Self {
        Self { base_offset, values, transaction: None, marker: None }
    }

    pub(super) fn of(producer: i64, base_offset: i64, values: &'a [&'a str]) -> Self {
        Self { transaction: Some(producer), ..Self::plain(base_offset, values) }
    }

    pub(super) fn marker(producer: i64, base_offset: i64, aborts: bool) -> Self {
        let one = Self::of(producer, base_offset, &["marker"]);
        Self { marker: Some(aborts), ..one }
    }
}

/// A record batch v2, as a broker stores it.
pub(super) fn batch(spec: Spec<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    for (delta, value) in (0u8..).zip(spec.values) {
        let key = spec.marker.map(|aborts| [0, 0, 0, u8::from(!aborts)]);
        // attributes, timestamp delta, offset delta: small numbers are one byte in zigzag.
        let mut record = vec![0, 0, delta * 2];
        match key {
            Some(key) => {
                record.push(8);
                record.extend_from_slice(&key);
            }
            None => record.push(1),
        }
        record.push(u8::try_from(value.len() * 2).expect("a short value"));
        record.extend_from_slice(value.as_bytes());
        record.push(0);
        body.push(u8::try_from(record.len() * 2).expect("a short record"));
        body.extend_from_slice(&record);
    }
    let count = i32::try_from(spec.values.len()).expect("few values");
    let control = if spec.marker.is_some() { 0x20 } else { 0 };
    let transactional = if spec.transaction.is_some() { 0x10 } else { 0 };
    let header = BatchHeader {
        base_offset: spec.base_offset,
        batch_length: i32::try_from(BatchHeader::SIZE - 12 + body.len()).expect("a short batch"),
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: control | transactional,
        last_offset_delta: count - 1,
        base_timestamp: 1000,
        max_timestamp: 1000,
        producer_id: spec.transaction.unwrap_or(-1),
        producer_epoch: 0,
        base_sequence: 0,
        records_count: count,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&body);
    let crc = crc32c(&bytes[BatchHeader::CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Batches one after the other.
pub(super) fn log(specs: &[Spec<'_>]) -> Bytes {
    Bytes::from(specs.iter().flat_map(|spec| batch(*spec)).collect::<Vec<_>>())
}
