//! Bytes: how records, batch headers and requests look on the wire.

pub mod batch_header;
pub mod compress;
pub mod crc32c;
pub mod record;
pub mod varint;

#[cfg(test)]
mod tests;
