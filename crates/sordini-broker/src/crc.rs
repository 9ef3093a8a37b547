//! CRC-32C (Castagnoli), as Kafka's batches and snapshots use it.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// The checksum of `bytes`.
pub(crate) fn of(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The checksum of `parts`, one after the other.
pub(crate) fn of_parts(parts: &[&[u8]]) -> u32 {
    let mut running = Running::new();
    for part in parts {
        running.update(part);
    }
    running.finish()
}

/// A checksum in the making.
pub(crate) struct Running(Digest);

impl Running {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksums_are_those_of_another_implementation() {
        let mut bytes = Vec::new();
        for i in 0..1000u32 {
            bytes.extend_from_slice(&i.wrapping_mul(2_654_435_761).to_le_bytes());
            let (a, b) = bytes.split_at(bytes.len() / 3);
            assert_eq!(super::of(&bytes), crc32c::crc32c(&bytes));
            assert_eq!(super::of_parts(&[a, b]), crc32c::crc32c(&bytes));
        }
    }
}
