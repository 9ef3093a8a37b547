//! From bytes to batches, and from a batch to its records.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::iter::FusedIterator;

use super::header::batch_size;
use super::{BatchError, BatchHeader, RecordIter, crc32c, decompress};

/// Iterates over the batches in a range of bytes, such as a Fetch response or a log segment.
///
/// Ends at the end of the bytes, at a batch that is cut off (brokers cut responses at a byte
/// limit: [`Batches::partial`] tells), or after the first error: a batch that is malformed hides
/// where the next one starts.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Starts at the first byte, which must be the first of a batch.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, failed: false }
    }

    /// The bytes that were not consumed: once the iterator has ended, those of the batch that is
    /// cut off or malformed.
    #[must_use]
    pub fn partial(&self) -> &'a [u8] {
        self.rest
    }

    fn advance(&mut self) -> Result<Option<Batch<'a>>, BatchError> {
        // The magic stands at the same place in every format, so an old format is named even
        // where its length would not make a batch.
        if let Some(&magic) = self.rest.get(16)
            && magic != 2
        {
            return Err(BatchError::UnsupportedMagic(i8::from_be_bytes([magic])));
        }
        let Some(length) = self.rest.get(8..).and_then(|b| b.first_chunk()) else {
            return Ok(None);
        };
        let size = batch_size(i32::from_be_bytes(*length))?;
        let Some((bytes, rest)) = self.rest.split_at_checked(size) else { return Ok(None) };
        let header = BatchHeader::parse(bytes)?;
        self.rest = rest;
        Ok(Some(Batch { header, bytes }))
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance().transpose();
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}

impl FusedIterator for Batches<'_> {}

/// One whole batch: its header, and exactly its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the one batch that fills `bytes`.
    ///
    /// # Errors
    /// If the header is malformed, or bytes are missing or left.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let size = header.batch_size();
        match bytes.len().checked_sub(size) {
            Some(0) => Ok(Self { header, bytes }),
            Some(left) => Err(BatchError::Trailing { left }),
            None => {
                let needed = size as u64;
                Err(BatchError::Truncated { what: "a batch", needed, left: bytes.len() })
            }
        }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes of the whole batch, header included.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as they stand: compressed, if the batch is.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(BatchHeader::SIZE..).unwrap_or_default()
    }

    /// Checks the CRC-32C.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let covered = self.bytes.get(BatchHeader::CRC_START..).unwrap_or_default();
        let (stated, computed) = (self.header.crc, crc32c(covered));
        if stated == computed {
            return Ok(());
        }
        Err(BatchError::CrcMismatch { stated, computed })
    }

    /// The records, decompressed into at most `cap` bytes. Records that are not compressed are
    /// borrowed, and bounded by `cap` all the same.
    ///
    /// # Errors
    /// If the codec is unknown or the data is not its, or the records take more than `cap`.
    pub fn decompress(&self, cap: usize) -> Result<Records<'a>, BatchError> {
        let codec = self.header.compression()?;
        // An empty batch that compaction left behind may name a codec, but has no frame of it.
        let body = if self.header.records_count == 0 && self.body().is_empty() {
            Cow::Borrowed(self.body())
        } else {
            decompress(codec, self.body(), cap)?
        };
        Ok(Records { header: self.header, body })
    }
}

/// The records of one batch, decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    header: BatchHeader,
    body: Cow<'a, [u8]>,
}

impl Records<'_> {
    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records' bytes, one after the other.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Iterates over the records: as many as the header counts, with offsets that ascend
    /// within the batch's range, and nothing behind the last.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.header, &self.body)
    }

    /// Reads every record as a broker must before it appends a produced batch: besides what
    /// [`Records::iter`] checks, offset deltas run 0, 1, 2 ... up to the header's last one.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_produced(&self) -> Result<Summary, BatchError> {
        let mut summary = Summary { records: 0, max_timestamp: -1, offset_delta_of_max: 0 };
        let last = self.header.last_offset_delta;
        for record in self.iter() {
            let record = record?;
            if record.offset_delta != summary.records {
                let min = i64::from(summary.records);
                let delta = record.offset_delta;
                return Err(BatchError::InvalidOffsetDelta { delta, min, max: last });
            }
            if record.timestamp > summary.max_timestamp {
                summary.max_timestamp = record.timestamp;
                summary.offset_delta_of_max = record.offset_delta;
            }
            summary.records = summary.records.saturating_add(1);
        }
        // An empty batch passes with -1: whether it may be appended is the broker's policy.
        if last != summary.records.saturating_sub(1) {
            let min = i64::from(summary.records);
            return Err(BatchError::InvalidOffsetDelta { delta: last, min, max: last });
        }
        Ok(summary)
    }
}

impl<'r> IntoIterator for &'r Records<'_> {
    type Item = Result<super::Record<'r>, BatchError>;
    type IntoIter = RecordIter<'r>;

    fn into_iter(self) -> RecordIter<'r> {
        self.iter()
    }
}

/// What [`Records::check_produced`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Records in the batch.
    pub records: i32,
    /// The largest timestamp, ms; -1 if there is none.
    pub max_timestamp: i64,
    /// The offset delta of the first record that has it.
    pub offset_delta_of_max: i32,
}
