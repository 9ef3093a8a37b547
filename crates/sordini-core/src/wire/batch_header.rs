//! The 61 bytes in front of a batch's records (record batch v2, magic 2).

use crate::config::Codec;

/// The header's length in bytes.
pub const LEN: usize = 61;

/// From here on the checksum covers the header.
const CRC_COVERS_FROM: usize = 21;

/// What a batch carries to tell the broker whose it is and where it belongs: `-1` in each field
/// without idempotence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The producer id.
    pub producer_id: i64,
    /// The producer epoch.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub base_sequence: i32,
    /// The batch belongs to the producer's open transaction.
    pub transactional: bool,
}

/// The attribute of a batch that belongs to a transaction.
const TRANSACTIONAL: i16 = 0x10;

impl Stamp {
    /// The stamp of a producer that is not idempotent.
    pub const NONE: Self =
        Self { producer_id: -1, epoch: -1, base_sequence: -1, transactional: false };
}

/// What the header says of the records behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// The codec of the records section.
    pub codec: Codec,
    /// How many records, at least 1.
    pub count: u32,
    /// The first record's timestamp, in milliseconds.
    pub base_timestamp: i64,
    /// The largest timestamp, in milliseconds.
    pub max_timestamp: i64,
}

/// Encodes the header of a batch whose records section is `body`, checksum included.
pub fn encode<'a>(
    contents: Contents,
    stamp: Stamp,
    body_len: usize,
    body: impl IntoIterator<Item = &'a [u8]>,
) -> [u8; LEN] {
    let mut out = [0; LEN];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let length =
        i32::try_from(LEN - 12 + body_len).expect("a batch is bounded by max.request.size");
    put(8, &length.to_be_bytes());
    // The broker sets the partition leader epoch; a producer sends -1.
    put(12, &(-1i32).to_be_bytes());
    put(16, &[2]);
    let transactional = if stamp.transactional { TRANSACTIONAL } else { 0 };
    put(21, &(contents.codec.code() | transactional).to_be_bytes());
    put(23, &(contents.count - 1).to_be_bytes());
    put(27, &contents.base_timestamp.to_be_bytes());
    put(35, &contents.max_timestamp.to_be_bytes());
    put(43, &stamp.producer_id.to_be_bytes());
    put(51, &stamp.epoch.to_be_bytes());
    put(53, &stamp.base_sequence.to_be_bytes());
    put(57, &contents.count.to_be_bytes());
    let crc = super::crc32c::of(&out[CRC_COVERS_FROM..], body);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}
