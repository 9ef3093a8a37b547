//! The 61 bytes that open every record batch.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::{BatchError, Compression};

/// CRC-32C (Castagnoli): the checksum of record batches. The one place that names the crate.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// What a batch's timestamps mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer set each record's timestamp.
    #[default]
    CreateTime,
    /// The broker set one timestamp for the whole batch: its maximum timestamp.
    LogAppendTime,
}

/// The header of a record batch: all fields as they stand, not yet judged beyond
/// [`BatchHeader::parse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the batch's first record. Brokers set it; it is outside the CRC.
    pub base_offset: i64,
    /// Bytes that follow this field: the batch takes 12 more.
    pub batch_length: i32,
    /// The leader's epoch at the append. Brokers set it; it is outside the CRC.
    pub partition_leader_epoch: i32,
    /// The format: 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes to the end of the batch.
    pub crc: u32,
    /// Codec (bits 0-2), timestamp type (3), transactional (4), control (5), delete horizon (6).
    pub attributes: i16,
    /// The last record's offset minus `base_offset`; stays when compaction removes records.
    pub last_offset_delta: i32,
    /// The timestamp that the records' deltas add to, ms; with a delete horizon, that horizon.
    pub base_timestamp: i64,
    /// The largest timestamp of the records, ms.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub records_count: i32,
}

impl BatchHeader {
    /// Bytes of the header on the wire and on disk.
    pub const SIZE: usize = 61;

    /// Bytes before `batch_length` starts to count: the base offset and the length itself.
    pub const LENGTH_END: usize = 12;

    /// Where the bytes that the CRC covers begin.
    pub const CRC_START: usize = 21;

    /// Reads a header from the first [`BatchHeader::SIZE`] bytes. What follows may be missing.
    ///
    /// # Errors
    /// If bytes are missing, the magic is not 2, or `batch_length` is less than the header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(fixed) = bytes.first_chunk::<{ Self::SIZE }>() else {
            let needed = Self::SIZE as u64;
            return Err(BatchError::Truncated {
                what: "a batch header",
                needed,
                left: bytes.len(),
            });
        };
        let mut f = Fields(fixed);
        let header = Self {
            base_offset: i64::from_be_bytes(f.next()),
            batch_length: i32::from_be_bytes(f.next()),
            partition_leader_epoch: i32::from_be_bytes(f.next()),
            magic: i8::from_be_bytes(f.next()),
            crc: u32::from_be_bytes(f.next()),
            attributes: i16::from_be_bytes(f.next()),
            last_offset_delta: i32::from_be_bytes(f.next()),
            base_timestamp: i64::from_be_bytes(f.next()),
            max_timestamp: i64::from_be_bytes(f.next()),
            producer_id: i64::from_be_bytes(f.next()),
            producer_epoch: i16::from_be_bytes(f.next()),
            base_sequence: i32::from_be_bytes(f.next()),
            records_count: i32::from_be_bytes(f.next()),
        };
        if header.magic != 2 {
            return Err(BatchError::UnsupportedMagic(header.magic));
        }
        batch_size(header.batch_length)?;
        Ok(header)
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend_from_slice(&self.base_offset.to_be_bytes());
        bytes.extend_from_slice(&self.batch_length.to_be_bytes());
        bytes.extend_from_slice(&self.partition_leader_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.magic.to_be_bytes());
        bytes.extend_from_slice(&self.crc.to_be_bytes());
        bytes.extend_from_slice(&self.attributes.to_be_bytes());
        bytes.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes.extend_from_slice(&self.base_timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.max_timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.producer_id.to_be_bytes());
        bytes.extend_from_slice(&self.producer_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.base_sequence.to_be_bytes());
        bytes.extend_from_slice(&self.records_count.to_be_bytes());
        bytes.first_chunk().copied().unwrap_or([0; Self::SIZE])
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        batch_size(self.batch_length).unwrap_or(Self::SIZE)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// If bits 0 to 2 of the attributes name none.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let code = u8::try_from(self.attributes & 7).unwrap_or_default();
        Compression::from_code(code).ok_or(BatchError::UnknownCompression(code))
    }

    /// What the timestamps mean.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & 0x08 == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether the batch holds control records (the end of a transaction), not data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// Whether `base_timestamp` is the delete horizon of tombstones (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & 0x40 != 0
    }

    /// The offset of the last record, or where it was before compaction. `None` if it exceeds
    /// 64 bits.
    #[must_use]
    pub fn last_offset(&self) -> Option<i64> {
        self.base_offset.checked_add(i64::from(self.last_offset_delta))
    }
}

/// Bytes of a batch with this `batch_length`, if that can hold a header.
pub(super) fn batch_size(batch_length: i32) -> Result<usize, BatchError> {
    usize::try_from(batch_length)
        .ok()
        .and_then(|length| length.checked_add(BatchHeader::LENGTH_END))
        .filter(|size| *size >= BatchHeader::SIZE)
        .ok_or(BatchError::InvalidLength { what: "a batch", length: i64::from(batch_length) })
}

/// Takes big-endian fields off the front of the header's bytes. The fields of [`BatchHeader`]
/// add up to [`BatchHeader::SIZE`], so the fallback is never reached.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}
