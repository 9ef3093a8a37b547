//! Input whose fate can be judged: each line says which key it has and its number within the key.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Lines `KEY<TAB>NUMBER KEY PADDING`: per key the numbers rise by one, and no two values are equal.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// How many.
    pub count: usize,
    /// How many keys they are spread over, one after the other.
    pub keys: usize,
    /// Bytes of a value.
    pub size: usize,
}

impl Lines {
    /// The value of one line.
    #[must_use]
    pub fn value(&self, index: usize) -> String {
        let mut value = format!("{:07} key-{:03} ", index / self.keys, index % self.keys);
        // A word of its own, repeated: even a batch of one record gets smaller by every codec, so
        // that no client has a reason to send it as it is.
        let word = (index as u64 ^ 0x9e37_79b9).wrapping_mul(6_364_136_223_846_793_005) >> 16;
        while value.len() < self.size {
            let _ = write!(value, "{word:012x}");
        }
        value.truncate(self.size);
        value
    }

    /// All lines, keys and values separated by a tab.
    #[must_use]
    pub fn keyed(&self) -> Vec<u8> {
        let mut text = String::with_capacity(self.count * (self.size + 9));
        for index in 0..self.count {
            let _ = writeln!(text, "key-{:03}\t{}", index % self.keys, self.value(index));
        }
        text.into_bytes()
    }

    /// The hash that Verify.java prints as `values_sha256` if exactly these values are in a topic.
    #[must_use]
    pub fn values_sha256(&self) -> String {
        values_sha256((0..self.count).map(|index| self.value(index).into_bytes()))
    }
}

/// SHA-256 over the sorted SHA-256 digests of all values, each preceded by its length.
#[must_use]
pub fn values_sha256(values: impl Iterator<Item = Vec<u8>>) -> String {
    let mut digests: Vec<[u8; 32]> = values
        .map(|value| {
            let length = u32::try_from(value.len()).expect("a record's value");
            let mut one = Sha256::new();
            one.update(length.to_be_bytes());
            one.update(&value);
            one.finalize().into()
        })
        .collect();
    digests.sort_unstable();
    let mut set = Sha256::new();
    for digest in &digests {
        set.update(digest);
    }
    let set: [u8; 32] = set.finalize().into();
    set.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
