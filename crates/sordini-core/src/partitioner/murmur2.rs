//! MurmurHash2, 32 bits, with the seed of Kafka's Java client (`Utils.murmur2`).

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// The hash that decides a key's partition in Java's clients and all that agree with them.
#[must_use]
pub fn murmur2(key: &[u8]) -> i32 {
    // Java's int length: the bits above 32 of a longer key's length do not enter the hash.
    #[allow(clippy::cast_possible_truncation, reason = "the hash takes the low 32 bits")]
    let length = key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = words.iter().fold(SEED ^ length, |hash, word| {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash.wrapping_mul(M) ^ k.wrapping_mul(M)
    });
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ hash >> 15).cast_signed()
}
