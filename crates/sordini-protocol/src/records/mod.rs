//! Record batches, format v2 (magic 2, KIP-98): a bounded reader and the decompressors.
//!
//! ```text
//! bytes of a log or of a Fetch response
//!   -> Batches          one Batch after the other; the last may be cut off
//!        -> Batch       the 61-byte BatchHeader, verify_crc(), decompress(cap)
//!             -> Records    the decompressed records of one batch
//!                  -> Record    offset, timestamp, key, value, headers: borrowed
//! ```
//! Nothing here trusts a length, a count or a declared size. Batches of magic 0 and 1 (before
//! Kafka 0.11) are refused by name.

mod batch;
mod compression;
mod error;
mod header;
mod lz4;
mod record;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

pub use batch::{Batch, Batches, Records, Summary};
pub use compression::{Compression, UnknownCompressionName, decompress};
pub use error::{BatchError, DecompressError};
pub use header::{BatchHeader, TimestampType, crc32c};
pub use record::{ControlType, Header, Headers, Record, RecordIter};
