//! Bounded decoding of Kafka's primitive types.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::mem::size_of;

use bytes::Bytes;

use crate::{DecodeError, DecodeErrorKind, Uuid};

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads Kafka's primitive types from a frame, within bounds.
///
/// Strings are copied and checked; `bytes` and `records` are slices that share the frame's
/// memory. Each method names the field it reads, for the error. After an error the position is
/// unspecified.
#[derive(Clone, Debug)]
pub struct Reader {
    buf: Bytes,
    pos: usize,
    /// Where reading stops: the end of `buf`, or of the tagged field being read.
    limit: usize,
    /// Bytes that decoding may still allocate.
    budget: usize,
}

impl Reader {
    /// What decoding may allocate, in bytes per byte of the frame. The leanest legal elements
    /// (an empty string: 1 byte on the wire, 24 in memory) stay below it.
    pub const ALLOCATION_FACTOR: usize = 32;

    /// The longest string that Kafka's protocol can carry, bytes.
    pub const MAX_STRING: usize = i16::MAX as usize;

    /// Starts at the first byte of `buf`. An allocation budget of
    /// [`ALLOCATION_FACTOR`](Self::ALLOCATION_FACTOR) × the length of `buf` covers everything
    /// that this reader will decode.
    #[must_use]
    pub fn new(buf: impl Into<Bytes>) -> Self {
        let buf = buf.into();
        let limit = buf.len();
        let budget = limit.saturating_mul(Self::ALLOCATION_FACTOR);
        Self { buf, pos: 0, limit, budget }
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.limit.saturating_sub(self.pos)
    }

    /// Bytes that were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// The bytes that are left, without a copy.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        let mut buf = self.buf;
        buf.truncate(self.limit);
        buf.split_off(self.pos.min(self.limit))
    }

    /// Checks that the message filled the buffer.
    ///
    /// # Errors
    /// [`DecodeErrorKind::Trailing`] if bytes are left.
    pub fn finish(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error("end of message", DecodeErrorKind::Trailing { left })),
        }
    }

    /// An error about `field` at the current position.
    #[must_use]
    #[cold]
    pub fn error(&self, field: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { field, offset: self.pos, kind }
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let end = self.pos.saturating_add(N);
        if end <= self.limit
            && let Some(bytes) = self.buf.get(self.pos..end).and_then(|b| b.first_chunk::<N>())
        {
            let bytes = *bytes;
            self.pos = end;
            return Ok(bytes);
        }
        let left = self.remaining();
        Err(self.error(field, DecodeErrorKind::Truncated { needed: N as u64, left }))
    }

    /// Reads a bool: any byte but 0 is true, as in Java.
    ///
    /// # Errors
    /// If no byte is left.
    pub fn bool(&mut self, field: &'static str) -> Result<bool> {
        Ok(self.fixed::<1>(field)? != [0])
    }

    /// Reads an int8.
    ///
    /// # Errors
    /// If no byte is left.
    pub fn i8(&mut self, field: &'static str) -> Result<i8> {
        self.fixed(field).map(i8::from_be_bytes)
    }

    /// Reads an int16.
    ///
    /// # Errors
    /// If fewer than 2 bytes are left.
    pub fn i16(&mut self, field: &'static str) -> Result<i16> {
        self.fixed(field).map(i16::from_be_bytes)
    }

    /// Reads a uint16.
    ///
    /// # Errors
    /// If fewer than 2 bytes are left.
    pub fn u16(&mut self, field: &'static str) -> Result<u16> {
        self.fixed(field).map(u16::from_be_bytes)
    }

    /// Reads an int32.
    ///
    /// # Errors
    /// If fewer than 4 bytes are left.
    pub fn i32(&mut self, field: &'static str) -> Result<i32> {
        self.fixed(field).map(i32::from_be_bytes)
    }

    /// Reads an int64.
    ///
    /// # Errors
    /// If fewer than 8 bytes are left.
    pub fn i64(&mut self, field: &'static str) -> Result<i64> {
        self.fixed(field).map(i64::from_be_bytes)
    }

    /// Reads a float64.
    ///
    /// # Errors
    /// If fewer than 8 bytes are left.
    pub fn f64(&mut self, field: &'static str) -> Result<f64> {
        self.fixed(field).map(f64::from_be_bytes)
    }

    /// Reads a uuid.
    ///
    /// # Errors
    /// If fewer than 16 bytes are left.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid> {
        self.fixed(field).map(Uuid)
    }

    /// Reads an unsigned varint of at most 5 bytes and 32 bits.
    ///
    /// # Errors
    /// If it is longer, overflows, or is cut off.
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32> {
        let start = self.pos;
        let mut value: u32 = 0;
        for shift in [0u32, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>(field)?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError { field, offset: start, kind: DecodeErrorKind::MalformedVarint })
    }

    /// The length of a string, of bytes or of an array: `None` is null.
    fn length(&mut self, field: &'static str, prefix: Prefix) -> Result<Option<usize>> {
        let length = match prefix {
            Prefix::Compact => match self.uvarint(field)?.checked_sub(1) {
                Some(length) => i64::from(length),
                None => -1,
            },
            Prefix::I16 => i64::from(self.i16(field)?),
            Prefix::I32 => i64::from(self.i32(field)?),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(field, DecodeErrorKind::NegativeLength(length))),
        }
    }

    /// Takes `length` bytes, without a copy.
    fn slice(&mut self, field: &'static str, length: usize) -> Result<Bytes> {
        let left = self.remaining();
        if length > left {
            let needed = length as u64;
            return Err(self.error(field, DecodeErrorKind::Truncated { needed, left }));
        }
        let end = self.pos.saturating_add(length);
        let slice = self.buf.slice(self.pos..end);
        self.pos = end;
        Ok(slice)
    }

    /// Charges an allocation to the budget.
    fn charge(&mut self, field: &'static str, bytes: usize) -> Result<()> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(self.error(
                field,
                DecodeErrorKind::OverBudget { asked: bytes as u64, left: self.budget },
            )),
        }
    }

    /// Reads a string that may be null. `compact` is the encoding of flexible versions.
    ///
    /// # Errors
    /// If it is cut off, longer than [`Reader::MAX_STRING`], or not UTF-8.
    pub fn nullable_string(
        &mut self,
        field: &'static str,
        compact: bool,
    ) -> Result<Option<String>> {
        let Some(length) = self.length(field, Prefix::small(compact))? else { return Ok(None) };
        if length > Self::MAX_STRING {
            let length = length as u64;
            return Err(self.error(field, DecodeErrorKind::StringTooLong { length }));
        }
        let offset = self.pos;
        self.charge(field, length)?;
        let bytes = self.slice(field, length)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) => Err(DecodeError {
                field,
                offset,
                kind: DecodeErrorKind::InvalidUtf8 { valid_up_to: error.valid_up_to() },
            }),
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// As [`Reader::nullable_string`], and if it is null.
    pub fn string(&mut self, field: &'static str, compact: bool) -> Result<String> {
        let value = self.nullable_string(field, compact)?;
        self.present(field, value)
    }

    /// Reads bytes that may be null: a slice of the frame, not a copy.
    ///
    /// # Errors
    /// If they are cut off.
    pub fn nullable_bytes(&mut self, field: &'static str, compact: bool) -> Result<Option<Bytes>> {
        match self.length(field, Prefix::large(compact))? {
            Some(length) => self.slice(field, length).map(Some),
            None => Ok(None),
        }
    }

    /// Reads bytes: a slice of the frame, not a copy.
    ///
    /// # Errors
    /// If they are cut off or null.
    pub fn bytes(&mut self, field: &'static str, compact: bool) -> Result<Bytes> {
        let value = self.nullable_bytes(field, compact)?;
        self.present(field, value)
    }

    /// Reads an array that may be null. `min_size` is the least that an element takes on the
    /// wire: it bounds the count before anything is allocated.
    ///
    /// # Errors
    /// If the count is impossible or beyond the budget, or an element can't be read.
    pub fn nullable_array<T>(
        &mut self,
        field: &'static str,
        compact: bool,
        min_size: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.length(field, Prefix::large(compact))? else { return Ok(None) };
        let fits = self.remaining().checked_div(min_size.max(1)).unwrap_or_default();
        if count > fits {
            let count = count as u64;
            return Err(self.error(field, DecodeErrorKind::ImpossibleCount { count, fits }));
        }
        self.charge(field, count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads an array.
    ///
    /// # Errors
    /// As [`Reader::nullable_array`], and if it is null.
    pub fn array<T>(
        &mut self,
        field: &'static str,
        compact: bool,
        min_size: usize,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let value = self.nullable_array(field, compact, min_size, element)?;
        self.present(field, value)
    }

    /// Reads the marker of a nullable struct: is the struct there?
    ///
    /// # Errors
    /// If no byte is left, or it is neither -1 nor 1.
    pub fn struct_marker(&mut self, field: &'static str) -> Result<bool> {
        match self.i8(field)? {
            1 => Ok(true),
            -1 => Ok(false),
            marker => Err(self.error(field, DecodeErrorKind::InvalidStructMarker(marker))),
        }
    }

    /// Reads the tagged fields at the end of a struct (KIP-482). `known` reads the value of a
    /// tag that it knows and returns true; the value of any other is skipped.
    ///
    /// # Errors
    /// If a field is cut off or its value does not take what its size says.
    pub fn tagged_fields(
        &mut self,
        field: &'static str,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool>,
    ) -> Result<()> {
        let count = self.uvarint(field)?;
        // A tagged field takes at least its tag and its size.
        let fits = self.remaining() / 2;
        if usize::try_from(count).map_or(true, |count| count > fits) {
            let count = u64::from(count);
            return Err(self.error(field, DecodeErrorKind::ImpossibleCount { count, fits }));
        }
        for _ in 0..count {
            let tag = self.uvarint(field)?;
            let size = self.uvarint(field)?;
            let left = self.remaining();
            let stated = match usize::try_from(size) {
                Ok(stated) if stated <= left => stated,
                _ => {
                    let needed = u64::from(size);
                    return Err(self.error(field, DecodeErrorKind::Truncated { needed, left }));
                }
            };
            self.tagged_value(field, tag, stated, &mut known)?;
        }
        Ok(())
    }

    fn tagged_value(
        &mut self,
        field: &'static str,
        tag: u32,
        stated: usize,
        known: &mut impl FnMut(&mut Self, u32) -> Result<bool>,
    ) -> Result<()> {
        let start = self.pos;
        let outer = self.limit;
        let end = start.saturating_add(stated);
        self.limit = end;
        if known(self, tag)? {
            if self.pos != end {
                let used = self.pos.saturating_sub(start);
                let kind = DecodeErrorKind::TagSize { tag, stated, used };
                return Err(DecodeError { field, offset: start, kind });
            }
        } else {
            self.pos = end;
        }
        self.limit = outer;
        Ok(())
    }

    fn present<T>(&self, field: &'static str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(field, DecodeErrorKind::UnexpectedNull))
    }

    /// Passes on what a nullable field held, if its version allows null.
    pub(crate) fn nullable_if<T>(
        &self,
        field: &'static str,
        nullable: bool,
        value: Option<T>,
    ) -> Result<Option<T>> {
        if value.is_none() && !nullable {
            return Err(self.error(field, DecodeErrorKind::UnexpectedNull));
        }
        Ok(value)
    }

    /// Checks the version of a message before its first byte is read.
    pub(crate) fn check_version(
        &self,
        message: &'static str,
        version: i16,
        supported: std::ops::RangeInclusive<i16>,
    ) -> Result<()> {
        if supported.contains(&version) {
            return Ok(());
        }
        Err(self.error(message, DecodeErrorKind::UnsupportedVersion { version, supported }))
    }
}

#[derive(Clone, Copy)]
enum Prefix {
    Compact,
    I16,
    I32,
}

impl Prefix {
    fn small(compact: bool) -> Self {
        if compact { Self::Compact } else { Self::I16 }
    }

    fn large(compact: bool) -> Self {
        if compact { Self::Compact } else { Self::I32 }
    }
}
