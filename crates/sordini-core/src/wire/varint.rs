//! Zigzag varints, as record batches use them (the same as Protocol Buffers' sint64).

/// The longest varint of 64 bits.
pub const MAX_LEN: usize = 10;

/// The zigzag form: small numbers of either sign become small natural ones.
#[must_use]
#[inline]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The encoded length of `value`, 1 to 10 bytes.
#[must_use]
#[inline]
pub const fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    // A seventh, rounded up, without a division: exact for 1 to 64 bits.
    (bits * 9 + 64) / 64
}

/// Writes `value` at `at` and returns the position behind it.
///
/// # Panics
/// If `buf` ends before the value does, which has at most [`MAX_LEN`] bytes.
#[inline]
pub fn put(buf: &mut [u8], at: usize, value: i64) -> usize {
    let rest = zigzag(value);
    // Nearly all are short: this path is what an append's cost is made of.
    if rest < 1 << 7 {
        buf[at] = rest as u8;
        at + 1
    } else if rest < 1 << 14 {
        buf[at] = rest as u8 | 0x80;
        buf[at + 1] = (rest >> 7) as u8;
        at + 2
    } else {
        put_long(buf, at, rest)
    }
}

#[inline(never)]
fn put_long(buf: &mut [u8], mut at: usize, mut rest: u64) -> usize {
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
