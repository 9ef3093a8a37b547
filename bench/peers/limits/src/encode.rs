//! The least that encoding a record can cost: no bound is checked.

use std::ptr::copy_nonoverlapping;

/// # Safety
/// Ten bytes can be written at `p`.
#[inline(always)]
unsafe fn put_varint(mut p: *mut u8, v: i64) -> *mut u8 {
    let mut z = ((v << 1) ^ (v >> 63)) as u64;
    // SAFETY: 64 bits take at most ten bytes.
    unsafe {
        while z >= 0x80 {
            *p = z as u8 | 0x80;
            p = p.add(1);
            z >>= 7;
        }
        *p = z as u8;
        p.add(1)
    }
}

fn varint_len(v: i64) -> usize {
    let z = ((v << 1) ^ (v >> 63)) as u64;
    (64 - (z | 1).leading_zeros() as usize).div_ceil(7)
}

/// One record of format v2 without key or headers; returns its length.
///
/// # Safety
/// `value.len() + 32` bytes can be written at `dst`.
#[inline(always)]
pub(crate) unsafe fn record(dst: *mut u8, timestamp: i64, offset: i64, value: &[u8]) -> usize {
    let lengths =
        varint_len(timestamp) + varint_len(offset) + varint_len(value.len() as i64) + value.len();
    let body = 1 + lengths + 1 + 1;
    // SAFETY: four varints of small numbers, three bytes and the value.
    unsafe {
        let mut p = put_varint(dst, body as i64);
        *p = 0; // attributes
        p = put_varint(p.add(1), timestamp);
        p = put_varint(p, offset);
        *p = 1; // no key
        p = put_varint(p.add(1), value.len() as i64);
        copy_nonoverlapping(value.as_ptr(), p, value.len());
        p = p.add(value.len());
        *p = 0; // no headers
        p.add(1).offset_from(dst) as usize
    }
}
