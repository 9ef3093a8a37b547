//! Encodes one record of a v2 record batch.

use crate::record::Record;
use crate::wire::varint;

/// One record's encoding at its place in a batch, but for the bytes that the caller has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured(Shape);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Without headers, and all lengths and deltas below [`SHORT`].
    Short { total: usize, lead: Word, timestamp: Word, offset: Word, key: Word, value: Word },
    Long {
        total: usize,
        /// Bytes behind the length prefix.
        body: usize,
    },
}

impl Measured {
    /// All bytes, the length prefix included.
    #[must_use]
    #[inline]
    pub fn total(&self) -> usize {
        match self.0 {
            Shape::Short { total, .. } | Shape::Long { total, .. } => total,
        }
    }
}

/// What is smaller than this has a varint of at most three bytes, and twice it and a little more
/// one of four.
const SHORT: usize = 1 << 20;

/// A varint of up to four bytes, as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// Its bytes, the first the lowest; 0 beyond `len`.
    bits: u32,
    len: usize,
}

impl Word {
    /// Of a length of -1.
    const NULL: Self = Self { bits: 1, len: 1 };

    /// The varint of a natural number below 2^27.
    #[inline(always)]
    fn of(value: usize) -> Self {
        Self::raw((value as u32) << 1)
    }

    #[inline(always)]
    fn of_field(field: Option<&[u8]>) -> Self {
        match field {
            Some(bytes) => Self::of(bytes.len()),
            None => Self::NULL,
        }
    }

    /// The varint of what is in zigzag already, below 2^28.
    #[inline(always)]
    fn raw(value: u32) -> Self {
        if value < 1 << 7 {
            Self { bits: value, len: 1 }
        } else if value < 1 << 14 {
            Self { bits: (value & 0x7f) | 0x80 | ((value & 0x3f80) << 1), len: 2 }
        } else {
            let low = (value & 0x7f) | 0x80 | ((value & 0x3f80) << 1) | 0x8000;
            let high = ((value & 0x1f_c000) << 2) | ((value & 0xfe0_0000) << 3);
            if value < 1 << 21 {
                Self { bits: low | high, len: 3 }
            } else {
                Self { bits: low | high | 0x80_0000, len: 4 }
            }
        }
    }
}

/// Words side by side, of at most eight bytes in all.
#[derive(Clone, Copy)]
struct Words {
    bits: u64,
    len: usize,
}

impl Words {
    #[inline]
    fn of(word: Word) -> Self {
        Self { bits: u64::from(word.bits), len: word.len }
    }

    #[inline]
    fn and(self, word: Word) -> Self {
        let bits = self.bits | u64::from(word.bits) << (8 * self.len);
        Self { bits, len: self.len + word.len }
    }

    /// Leaves a byte of zero.
    #[inline]
    fn and_zero(self) -> Self {
        Self { len: self.len + 1, ..self }
    }

    /// Stores itself at `at` and says where it ends. All eight bytes are stored: a copy of just as
    /// many as there are would wait for the stores that put them together. What is too much is
    /// overwritten by what follows.
    #[inline(always)]
    fn put(self, out: &mut [u8], at: usize) -> usize {
        out[at..at + size_of::<u64>()].copy_from_slice(&self.bits.to_le_bytes());
        at + self.len
    }
}

/// Room behind a record that is written in words.
const SLACK: usize = size_of::<u64>();

fn field_len(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varint::len(bytes.len() as i64) + bytes.len(),
    }
}

/// Measures `record` as the `offset_delta`-th of its batch, `timestamp_delta` ms after its base.
#[must_use]
#[inline(always)]
pub fn measure(record: &Record<'_>, offset_delta: u32, timestamp_delta: i64) -> Measured {
    let len = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
    let (key_len, value_len) = (len(record.key), len(record.value));
    let timestamp = varint::zigzag(timestamp_delta);
    // Nearly all records are: what an append costs is this path.
    let is_short = record.headers.is_empty()
        && key_len < SHORT
        && value_len < SHORT
        && (offset_delta as usize) < SHORT
        && timestamp < SHORT as u64;
    if !is_short {
        return Measured(measure_long(record, offset_delta, timestamp_delta));
    }
    let (key, value) = (Word::of_field(record.key), Word::of_field(record.value));
    let (timestamp, offset) = (Word::raw(timestamp as u32), Word::of(offset_delta as usize));
    // Attributes before, and the number of headers behind.
    let body = 2 + timestamp.len + offset.len + key.len + key_len + value.len + value_len;
    let lead = Word::of(body);
    Measured(Shape::Short { total: lead.len + body, lead, timestamp, offset, key, value })
}

#[inline(never)]
fn measure_long(record: &Record<'_>, offset_delta: u32, timestamp_delta: i64) -> Shape {
    let mut body = 1
        + varint::len(timestamp_delta)
        + varint::len(i64::from(offset_delta))
        + field_len(record.key)
        + field_len(record.value)
        + varint::len(record.headers.len() as i64);
    for header in record.headers {
        body += field_len(Some(header.name.as_bytes())) + field_len(header.value);
    }
    Shape::Long { total: varint::len(body as i64) + body, body }
}

/// An upper bound of the record's encoded length wherever in a batch it comes to stand.
#[must_use]
pub fn upper_bound(record: &Record<'_>) -> usize {
    // A timestamp delta takes at most 10 bytes and an offset delta 5, where `measure` takes 1 each.
    measure(record, 0, 0).total() + (varint::MAX_LEN - 1) + 4 + 1
}

/// Writes the record's bytes to the beginning of `out`; `measured` must be what [`measure`] returned
/// for it. Up to seven bytes behind them may be overwritten too.
///
/// # Panics
/// If `out` is shorter than what was measured.
#[inline(always)]
pub fn put(
    out: &mut [u8],
    record: &Record<'_>,
    offset_delta: u32,
    timestamp_delta: i64,
    measured: Measured,
) {
    debug_assert_eq!(
        measured,
        measure(record, offset_delta, timestamp_delta),
        "the record was measured as another one, or for another place"
    );
    let (total, lead, timestamp, offset, key, value) = match measured.0 {
        Shape::Short { total, lead, timestamp, offset, key, value } => {
            (total, lead, timestamp, offset, key, value)
        }
        Shape::Long { body, .. } => {
            return put_long(out, record, offset_delta, timestamp_delta, body);
        }
    };
    let Some(out) = out.get_mut(..total + SLACK) else {
        // The last of a segment, and only that.
        return put_long(out, record, offset_delta, timestamp_delta, total - lead.len);
    };
    let at = Words::of(lead).and_zero().and(timestamp).put(out, 0);
    let at = match record.key {
        None => Words::of(offset).and(key).and(value).put(out, at),
        Some(bytes) => {
            let at = Words::of(offset).and(key).put(out, at);
            let at = put_bytes(out, at, bytes);
            Words::of(value).put(out, at)
        }
    };
    let at = put_bytes(out, at, record.value.unwrap_or_default());
    out[at] = 0;
}

/// Copies `bytes` to `at` and says where they end.
#[inline(always)]
fn put_bytes(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    out[at..end].copy_from_slice(bytes);
    end
}

fn put_field(out: &mut [u8], at: usize, field: Option<&[u8]>) -> usize {
    match field {
        None => varint::put(out, at, -1),
        Some(bytes) => {
            let at = varint::put(out, at, bytes.len() as i64);
            put_bytes(out, at, bytes)
        }
    }
}

#[inline(never)]
fn put_long(
    out: &mut [u8],
    record: &Record<'_>,
    offset_delta: u32,
    timestamp_delta: i64,
    body: usize,
) {
    let mut at = varint::put(out, 0, body as i64);
    out[at] = 0;
    at = varint::put(out, at + 1, timestamp_delta);
    at = varint::put(out, at, i64::from(offset_delta));
    at = put_field(out, at, record.key);
    at = put_field(out, at, record.value);
    at = varint::put(out, at, record.headers.len() as i64);
    for header in record.headers {
        at = put_field(out, at, Some(header.name.as_bytes()));
        at = put_field(out, at, header.value);
    }
}
