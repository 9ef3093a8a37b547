//! CRC-32C, the checksum of a record batch.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of `head` and `parts`, as if they stood one behind the other.
pub fn of<'a>(head: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}
