//! Records and their headers, borrowed from the bytes of a batch.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::iter::FusedIterator;

use super::{BatchError, BatchHeader, TimestampType};

/// The least that a record takes: its length, attributes, two deltas, two null lengths, and a
/// header count of 0.
const MIN_RECORD: usize = 7;

/// The least that a record header takes: the lengths of an empty key and a null value.
const MIN_HEADER: usize = 2;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The record's offset in its partition.
    pub offset: i64,
    /// The record's offset minus the batch's base offset.
    pub offset_delta: i32,
    /// The record's timestamp, ms since 1970; the batch's maximum if the broker set it.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in their order, duplicates kept.
    pub headers: Headers<'a>,
}

impl Record<'_> {
    /// What a record of a control batch says. `None` for a type that this crate does not know,
    /// which consumers skip.
    #[must_use]
    pub fn control_type(&self) -> Option<ControlType> {
        // The key is a version, which only grows, and a type: both int16.
        let code = self.key?.get(2..4)?.first_chunk::<2>()?;
        match i16::from_be_bytes(*code) {
            0 => Some(ControlType::Abort),
            1 => Some(ControlType::Commit),
            _ => None,
        }
    }
}

/// How a transaction ended (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// The producer's records before this one are void.
    Abort,
    /// The producer's records before this one are valid.
    Commit,
}

/// The headers of one record, checked when the record was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Iterates over them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut cursor = Cursor { rest: self.bytes };
        (0..self.count).map_while(move |_| cursor.header().ok())
    }
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key's bytes: UTF-8 by Kafka's protocol, but no broker checks it.
    pub key: &'a [u8],
    /// The value, or null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The key as text; what is not UTF-8 becomes U+FFFD, as in Java.
    #[must_use]
    pub fn key_lossy(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// Iterates over the records of one batch. Ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    header: BatchHeader,
    left: usize,
    /// The smallest offset delta that the next record may have.
    min_delta: i64,
    /// What is wrong with the count, told by the first `next`.
    count_error: Option<BatchError>,
    done: bool,
}

impl<'a> RecordIter<'a> {
    /// Reads records from the decompressed `body` of the batch with this header.
    #[must_use]
    pub fn new(header: &BatchHeader, body: &'a [u8]) -> Self {
        let fits = body.len() / MIN_RECORD;
        let count = i64::from(header.records_count);
        let (left, count_error) = match usize::try_from(count) {
            Ok(left) if left <= fits => (left, None),
            _ => (0, Some(BatchError::InvalidCount { what: "records", count, fits })),
        };
        let cursor = Cursor { rest: body };
        Self { cursor, header: *header, left, min_delta: 0, count_error, done: false }
    }

    fn advance(&mut self) -> Result<Option<Record<'a>>, BatchError> {
        if let Some(error) = self.count_error.take() {
            return Err(error);
        }
        let Some(left) = self.left.checked_sub(1) else {
            return match self.cursor.rest.len() {
                0 => Ok(None),
                left => Err(BatchError::Trailing { left }),
            };
        };
        self.left = left;
        let length = self
            .cursor
            .length("a record")?
            .ok_or(BatchError::InvalidLength { what: "a record", length: -1 })?;
        let mut content = Cursor { rest: self.cursor.take("a record", length)? };
        let record = self.record(&mut content).map_err(|error| match error {
            BatchError::Truncated { .. } => BatchError::RecordSize { stated: length, used: None },
            error => error,
        })?;
        if !content.rest.is_empty() {
            let used = length.checked_sub(content.rest.len());
            return Err(BatchError::RecordSize { stated: length, used });
        }
        Ok(Some(record))
    }

    fn record(&mut self, content: &mut Cursor<'a>) -> Result<Record<'a>, BatchError> {
        // Its attributes: no bit is in use.
        content.take("a record", 1)?;
        let timestamp_delta = content.varlong("a timestamp delta")?;
        let delta = content.varint("an offset delta")?;
        let max = self.header.last_offset_delta;
        if i64::from(delta) < self.min_delta || delta > max {
            return Err(BatchError::InvalidOffsetDelta { delta, min: self.min_delta, max });
        }
        self.min_delta = i64::from(delta).saturating_add(1);
        let offset = self.header.base_offset.checked_add(i64::from(delta));
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.checked_add(timestamp_delta),
            TimestampType::LogAppendTime => Some(self.header.max_timestamp),
        };
        Ok(Record {
            offset: offset.ok_or(BatchError::Overflow("an offset"))?,
            offset_delta: delta,
            timestamp: timestamp.ok_or(BatchError::Overflow("a timestamp"))?,
            key: content.nullable("a key")?,
            value: content.nullable("a value")?,
            headers: content.headers()?,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl FusedIterator for RecordIter<'_> {}

#[derive(Clone, Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], BatchError> {
        let left = self.rest.len();
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(BatchError::Truncated { what, needed: length as u64, left });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned varint of at most `max_bytes` bytes and `bits` bits.
    fn unsigned(&mut self, what: &'static str, bits: u32) -> Result<u64, BatchError> {
        let mut value: u64 = 0;
        let mut shift: u32 = 0;
        while shift < bits {
            let Some((&byte, rest)) = self.rest.split_first() else {
                return Err(BatchError::Truncated { what, needed: 1, left: 0 });
            };
            self.rest = rest;
            let payload = u64::from(byte & 0x7f);
            let room = bits.saturating_sub(shift);
            if room < 7 && payload >> room != 0 {
                break;
            }
            value |= payload << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift = shift.saturating_add(7);
        }
        Err(BatchError::MalformedVarint(what))
    }

    fn varint(&mut self, what: &'static str) -> Result<i32, BatchError> {
        let value = u32::try_from(self.unsigned(what, 32)?).unwrap_or_default();
        Ok((value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg())
    }

    fn varlong(&mut self, what: &'static str) -> Result<i64, BatchError> {
        let value = self.unsigned(what, 64)?;
        Ok((value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg())
    }

    /// A length: -1 is null, anything below is an error.
    fn length(&mut self, what: &'static str) -> Result<Option<usize>, BatchError> {
        let length = self.varint(what)?;
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(BatchError::InvalidLength { what, length: i64::from(length) }),
        }
    }

    fn nullable(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, BatchError> {
        self.length(what)?.map(|length| self.take(what, length)).transpose()
    }

    fn headers(&mut self) -> Result<Headers<'a>, BatchError> {
        let count = self.varint("a header count")?;
        let bytes = self.rest;
        let fits = bytes.len() / MIN_HEADER;
        let count = match usize::try_from(count) {
            Ok(count) if count <= fits => count,
            _ => {
                let count = i64::from(count);
                return Err(BatchError::InvalidCount { what: "headers", count, fits });
            }
        };
        for _ in 0..count {
            self.header()?;
        }
        let used = bytes.len().saturating_sub(self.rest.len());
        Ok(Headers { count, bytes: bytes.get(..used).unwrap_or_default() })
    }

    fn header(&mut self) -> Result<Header<'a>, BatchError> {
        let key = self.nullable("a header key")?;
        let key = key.ok_or(BatchError::InvalidLength { what: "a header key", length: -1 })?;
        Ok(Header { key, value: self.nullable("a header value")? })
    }
}
