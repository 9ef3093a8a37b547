//! Encodes one record of a v2 record batch at the end of a segment.

use crate::record::Record;
use crate::wire::varint;

/// The encoded lengths of one record at its place in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Bytes behind the length prefix.
    body: usize,
    /// All bytes, the length prefix included.
    pub total: usize,
}

fn field_len(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varint::len(bytes.len() as i64) + bytes.len(),
    }
}

/// Measures `record` as the `offset_delta`-th of its batch, `timestamp_delta` ms after its base.
#[must_use]
#[inline]
pub fn measure(record: &Record<'_>, offset_delta: u32, timestamp_delta: i64) -> Measured {
    let mut body = 1
        + varint::len(timestamp_delta)
        + varint::len(i64::from(offset_delta))
        + field_len(record.key)
        + field_len(record.value)
        + varint::len(record.headers.len() as i64);
    for header in record.headers {
        body += field_len(Some(header.name.as_bytes())) + field_len(header.value);
    }
    Measured { body, total: varint::len(body as i64) + body }
}

/// An upper bound of the record's encoded length wherever in a batch it comes to stand.
#[must_use]
pub fn upper_bound(record: &Record<'_>) -> usize {
    // A timestamp delta takes at most 10 bytes and an offset delta 5, where `measure` takes 1 each.
    measure(record, 0, 0).total + (varint::MAX_LEN - 1) + 4 + 1
}

/// Four varints and an attribute byte take at most 41 bytes; the rest is for a key.
const STAGE: usize = 80;

fn push_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    let mut stage = [0; varint::MAX_LEN];
    match field {
        None => {
            let end = varint::put(&mut stage, 0, -1);
            out.extend_from_slice(&stage[..end]);
        }
        Some(bytes) => {
            let end = varint::put(&mut stage, 0, bytes.len() as i64);
            out.extend_from_slice(&stage[..end]);
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends the record's bytes to `out`; `measured` must be what [`measure`] returned for it.
pub fn push(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    offset_delta: u32,
    timestamp_delta: i64,
    measured: Measured,
) {
    // Length, attributes, two deltas, the lengths and a short key: one copy of a staged prefix is
    // cheaper than many bounds-checked pushes.
    let mut stage = [0; STAGE];
    let mut at = varint::put(&mut stage, 0, measured.body as i64);
    stage[at] = 0;
    at = varint::put(&mut stage, at + 1, timestamp_delta);
    at = varint::put(&mut stage, at, i64::from(offset_delta));
    match record.key {
        None => at = varint::put(&mut stage, at, -1),
        Some(key) => {
            at = varint::put(&mut stage, at, key.len() as i64);
            if let Some(room) = stage[..STAGE - varint::MAX_LEN].get_mut(at..at + key.len()) {
                room.copy_from_slice(key);
                at += key.len();
            } else {
                out.extend_from_slice(&stage[..at]);
                out.extend_from_slice(key);
                at = 0;
            }
        }
    }
    match record.value {
        None => {
            at = varint::put(&mut stage, at, -1);
            out.extend_from_slice(&stage[..at]);
        }
        Some(value) => {
            at = varint::put(&mut stage, at, value.len() as i64);
            out.extend_from_slice(&stage[..at]);
            out.extend_from_slice(value);
        }
    }
    if record.headers.is_empty() {
        out.push(0);
        return;
    }
    let end = varint::put(&mut stage, 0, record.headers.len() as i64);
    out.extend_from_slice(&stage[..end]);
    for header in record.headers {
        push_field(out, Some(header.name.as_bytes()));
        push_field(out, header.value);
    }
}
