//! Zigzag varints, as record batches use them (the same as Protocol Buffers' sint64).

/// The longest varint of 64 bits.
pub const MAX_LEN: usize = 10;

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The encoded length of `value`, 1 to 10 bytes.
#[must_use]
pub const fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` at `at` and returns the position behind it.
///
/// # Panics
/// If `buf` ends within [`MAX_LEN`] bytes of `at`; callers stage into arrays that are large enough.
pub fn put(buf: &mut [u8], mut at: usize, value: i64) -> usize {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buf[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    buf[at] = rest as u8;
    at + 1
}

/// Appends an unsigned varint, as flexible message versions use them (KIP-482).
pub fn push_unsigned(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint from the front of `bytes`; returns it and what is behind it. `None` where the
/// bytes end too early or the value takes more than 64 bits.
#[must_use]
pub fn get(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(MAX_LEN) {
        let part = u64::from(byte & 0x7f);
        value |= part.checked_shl(7 * at as u32).filter(|shifted| shifted >> (7 * at) == part)?;
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[at + 1..]));
        }
    }
    None
}
