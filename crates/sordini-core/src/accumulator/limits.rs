//! Which records could never be sent.

use crate::config::Config;
use crate::error::Refusal;
use crate::record::Record;
use crate::wire::{batch_header, record};

/// More than a record without headers takes beside its key and value.
const PLAIN_OVERHEAD: usize = 64;

#[derive(Debug)]
pub(super) struct Limits {
    max_request_size: usize,
    buffer_memory: usize,
    /// Key and value of a record without headers may take this whatever else is in it.
    plain: usize,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let (max_request_size, buffer_memory) = (config.max_request_size, config.buffer_memory);
        let overhead = batch_header::LEN + PLAIN_OVERHEAD;
        let plain = max_request_size.min(buffer_memory).saturating_sub(overhead);
        Self { max_request_size, buffer_memory, plain }
    }

    /// # Errors
    /// What is wrong with a record that could never be sent.
    #[inline]
    pub(super) fn check(&self, record: &Record<'_>) -> Result<(), Refusal> {
        let payload = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let is_plainly_fine =
            record.headers.is_empty() && record.timestamp.is_none() && payload <= self.plain;
        if is_plainly_fine { Ok(()) } else { self.look(record) }
    }

    #[inline(never)]
    fn look(&self, record: &Record<'_>) -> Result<(), Refusal> {
        // As Java: a negative one would be taken for "no timestamp" somewhere on the way.
        if let Some(timestamp) = record.timestamp.filter(|timestamp| *timestamp < 0) {
            return Err(Refusal::NegativeTimestamp { timestamp });
        }
        let size = record::upper_bound(record) + batch_header::LEN;
        for (limit, setting) in
            [(self.max_request_size, "max.request.size"), (self.buffer_memory, "buffer.memory")]
        {
            if size > limit {
                return Err(Refusal::TooLarge { size, limit, setting });
            }
        }
        Ok(())
    }
}
