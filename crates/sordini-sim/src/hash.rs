//! The event hash: two runs are the same if theirs are.

use crate::rng::mix;

/// A hash over all that happened, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventHash(u64);

impl Default for EventHash {
    fn default() -> Self {
        Self(0x5eed)
    }
}

impl EventHash {
    /// Takes in a number.
    pub(crate) fn number(&mut self, value: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ value);
    }

    /// Takes in bytes, eight at a time, and how many they were.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let mut hash = self.0;
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.first_chunk().copied().unwrap_or_default());
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        for byte in chunks.remainder() {
            hash = (hash.rotate_left(9) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.0 = hash;
        self.number(bytes.len() as u64);
    }

    /// The hash of what was taken in so far.
    #[must_use]
    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::EventHash;

    #[test]
    fn order_length_and_every_byte_count() {
        let hash = |parts: &[&[u8]]| {
            let mut hash = EventHash::default();
            parts.iter().for_each(|part| hash.bytes(part));
            hash.value()
        };
        assert_eq!(hash(&[b"abc", b"d"]), hash(&[b"abc", b"d"]));
        assert_ne!(hash(&[b"abc", b"d"]), hash(&[b"d", b"abc"]));
        assert_ne!(hash(&[b"abc", b"d"]), hash(&[b"ab", b"cd"]));
        assert_ne!(hash(&[b"0123456789"]), hash(&[b"0123456788"]));
        assert_ne!(hash(&[b"0123456789"]), hash(&[b"1123456789"]));
    }
}
