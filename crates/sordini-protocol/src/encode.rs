//! Encoding of Kafka's primitive types, for the generated messages.

use std::ops::RangeInclusive;

use crate::{EncodeError, EncodeErrorKind};

type Result<T> = std::result::Result<T, EncodeError>;

const MAX_STRING: usize = i16::MAX as usize;
const MAX_LENGTH: usize = i32::MAX as usize;

pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes the length of a string, of bytes or of an array. The caller has checked `max`, which
/// is at most `i32::MAX`, so neither encoding can overflow.
fn put_length(
    out: &mut Vec<u8>,
    field: &'static str,
    compact: bool,
    length: usize,
    max: usize,
) -> Result<()> {
    if length > max {
        return Err(EncodeError { field, kind: EncodeErrorKind::TooLong { length, max } });
    }
    if compact {
        put_uvarint(out, length as u32 + 1);
    } else if max == MAX_STRING {
        out.extend_from_slice(&(length as i16).to_be_bytes());
    } else {
        out.extend_from_slice(&(length as i32).to_be_bytes());
    }
    Ok(())
}

pub(crate) fn put_string(
    out: &mut Vec<u8>,
    field: &'static str,
    compact: bool,
    value: &str,
) -> Result<()> {
    put_length(out, field, compact, value.len(), MAX_STRING)?;
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

pub(crate) fn put_bytes(
    out: &mut Vec<u8>,
    field: &'static str,
    compact: bool,
    value: &[u8],
) -> Result<()> {
    put_length(out, field, compact, value.len(), MAX_LENGTH)?;
    out.extend_from_slice(value);
    Ok(())
}

pub(crate) fn put_count(
    out: &mut Vec<u8>,
    field: &'static str,
    compact: bool,
    count: usize,
) -> Result<()> {
    put_length(out, field, compact, count, MAX_LENGTH)
}

/// Writes a null string.
pub(crate) fn put_null_string(out: &mut Vec<u8>, compact: bool) {
    if compact { out.push(0) } else { out.extend_from_slice(&(-1i16).to_be_bytes()) }
}

/// Writes null bytes, records, or a null array.
pub(crate) fn put_null(out: &mut Vec<u8>, compact: bool) {
    if compact { out.push(0) } else { out.extend_from_slice(&(-1i32).to_be_bytes()) }
}

/// The error of a field that is set but does not exist in `version`.
#[cold]
pub(crate) fn not_in_version(field: &'static str, version: i16) -> EncodeError {
    EncodeError { field, kind: EncodeErrorKind::NotInVersion { version } }
}

/// The error of a null in a `version` that has none.
#[cold]
pub(crate) fn null_not_allowed(field: &'static str, version: i16) -> EncodeError {
    EncodeError { field, kind: EncodeErrorKind::NullNotAllowed { version } }
}

pub(crate) fn check_version(
    message: &'static str,
    version: i16,
    supported: RangeInclusive<i16>,
) -> Result<()> {
    if supported.contains(&version) {
        return Ok(());
    }
    let kind = EncodeErrorKind::UnsupportedVersion { version, supported };
    Err(EncodeError { field: message, kind })
}

/// Collects the tagged fields of a struct, whose number precedes them.
#[derive(Default)]
pub(crate) struct Tags {
    count: u32,
    bytes: Vec<u8>,
}

impl Tags {
    /// Adds a field. Tags must be added in ascending order.
    pub(crate) fn add(
        &mut self,
        field: &'static str,
        tag: u32,
        value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        value(&mut bytes)?;
        if bytes.len() > MAX_LENGTH {
            let kind = EncodeErrorKind::TooLong { length: bytes.len(), max: MAX_LENGTH };
            return Err(EncodeError { field, kind });
        }
        self.count += 1;
        put_uvarint(&mut self.bytes, tag);
        put_uvarint(&mut self.bytes, bytes.len() as u32);
        self.bytes.append(&mut bytes);
        Ok(())
    }

    /// Writes the number of fields and the fields.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        put_uvarint(out, self.count);
        out.extend_from_slice(&self.bytes);
    }
}
