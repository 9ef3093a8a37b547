//! A batch that takes no more records and has not been compressed or stamped.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::BatchId;
use crate::batch::body::Body;
use crate::batch::completion::BatchCompletion;
use crate::config::Codec;
use crate::error::DeliveryError;
use crate::time::Instant;

/// A sealed batch, or the part of one that a split made.
#[derive(Debug)]
pub struct Sealed {
    /// Its name. The parts of a split batch keep it.
    pub id: BatchId,
    /// When its first record was accepted; `delivery.timeout.ms` counts from here.
    pub opened: Instant,
    /// The first record's timestamp, in milliseconds.
    pub base_timestamp: i64,
    /// The largest timestamp, in milliseconds.
    pub max_timestamp: i64,
    /// Which records of `completion` these are.
    pub records: Range<u32>,
    /// Whom to tell.
    pub completion: Arc<BatchCompletion>,
    /// The encoded records, not compressed.
    pub body: Body,
    /// An append to it panicked: it is not to be sent.
    pub damaged: bool,
}

impl Sealed {
    /// How many records.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.records.end - self.records.start
    }
}

/// The records of a failed batch, handed back to the application.
///
/// They go on being charged to `buffer.memory` until this is dropped.
#[derive(Debug)]
pub struct Returned {
    /// The error that each of them ended with.
    pub error: Arc<DeliveryError>,
    pub(crate) body: Arc<Body>,
    pub(crate) codec: Codec,
    pub(crate) count: u32,
    pub(crate) base_timestamp: i64,
}

impl Returned {
    /// How many records.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The encoded records, decompressed, and the timestamp that their deltas count from: what
    /// [`sordini_protocol::records::RecordIter`] reads. `None` if the bytes do not decompress,
    /// which only a memory error could cause.
    #[must_use]
    pub fn records(&self) -> Option<(Vec<u8>, i64)> {
        let plain = crate::batch::plain::plain(self.codec, &self.body)?;
        Some((plain, self.base_timestamp))
    }
}
