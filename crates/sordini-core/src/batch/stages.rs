//! A taken batch on its way: compressing, ready, stamped. One type per state, moved by value.

use std::ops::Range;
use std::sync::Arc;

use sordini_protocol::mutant;

use crate::batch::BatchId;
use crate::batch::body::Body;
use crate::batch::completion::BatchCompletion;
use crate::batch::sealed::Sealed;
use crate::config::Codec;
use crate::error::Obstacle;
use crate::memory::Memory;
use crate::time::Instant;
use crate::wire::batch_header::{self, Contents, Stamp};
use crate::wire::compress::{self, CompressError, Compressor};

/// What stays with a batch through all its states.
#[derive(Debug)]
pub struct Meta {
    /// Its name; the parts of a split batch share one.
    pub id: BatchId,
    /// When its first record was accepted.
    pub opened: Instant,
    /// Which records of `completion` these are.
    pub records: Range<u32>,
    /// Whom to tell.
    pub completion: Arc<BatchCompletion>,
    /// The first record's timestamp, in milliseconds.
    pub base_timestamp: i64,
    /// The largest timestamp, in milliseconds.
    pub max_timestamp: i64,
    /// Bytes of its records before compression.
    pub uncompressed: usize,
    /// How often it was handed to a connection and at least begun to be written.
    pub attempts: u32,
    /// Some attempt's outcome is unknown: it must not be stamped anew, split, or called not
    /// written (S3, S7).
    pub ambiguous: bool,
    /// What stood in the way last.
    pub obstacle: Obstacle,
}

impl Meta {
    /// How many records.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.records.end - self.records.start
    }
}

/// A batch whose records section a codec works on.
#[derive(Debug)]
pub struct Compressing {
    /// The batch.
    pub meta: Meta,
}

/// A batch whose bytes are final but for its stamp.
#[derive(Debug)]
pub struct Ready {
    /// The batch.
    pub meta: Meta,
    /// Its codec.
    pub codec: Codec,
    /// Its records section.
    pub body: Arc<Body>,
}

/// A batch that carries its stamp: from here on a retry is the same bytes (S3).
#[derive(Debug)]
pub struct Stamped {
    /// The batch.
    pub meta: Meta,
    /// Its codec.
    pub codec: Codec,
    /// Its records section.
    pub body: Arc<Body>,
    /// The stamp within `header`.
    pub stamp: Stamp,
    /// Its header, checksum included.
    pub header: [u8; batch_header::LEN],
}

/// Names the part of a batch that a codec works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId {
    /// The topic's number.
    pub topic: u32,
    /// The partition.
    pub partition: i32,
    /// The batch.
    pub batch: BatchId,
}

/// A batch's records, to be compressed wherever the driver likes.
#[derive(Debug)]
pub struct Job {
    id: JobId,
    body: Body,
    codec: Codec,
    level: Option<i32>,
    memory: Arc<Memory>,
}

/// A [`Job`] that is done.
#[derive(Debug)]
pub struct Compressed {
    pub(crate) id: JobId,
    pub(crate) body: Body,
    pub(crate) codec: Codec,
    /// Why the batch stays as it is, if the codec did not take it.
    pub(crate) failure: Option<CompressError>,
}

impl Job {
    pub(crate) fn new(
        id: JobId,
        body: Body,
        codec: Codec,
        level: Option<i32>,
        memory: Arc<Memory>,
    ) -> Self {
        Self { id, body, codec, level, memory }
    }

    /// How many bytes there are to compress.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Compresses. Where the codec fails, panics, or gains nothing, the batch stays as it is: a
    /// batch that cannot be compressed is still delivered.
    #[must_use]
    pub fn run(self, compressor: &mut Compressor) -> Compressed {
        let (codec, level) = (self.codec, self.level);
        self.run_with(|body| compressor.compress(codec, level, body.parts()))
    }

    /// As `run`, with another codec in its place.
    pub(crate) fn run_with(
        self,
        compress: impl FnOnce(&Body) -> Result<Vec<u8>, CompressError>,
    ) -> Compressed {
        let Self { id, body, codec, memory, .. } = self;
        match compress::guarded(|| compress(&body)) {
            Ok(bytes) if bytes.len() < body.len() => {
                let body = Body(memory.exchange(body.0, vec![bytes]));
                Compressed { id, body, codec, failure: None }
            }
            unpacked => Compressed { id, body, codec: Codec::None, failure: unpacked.err() },
        }
    }
}

impl From<&Sealed> for Meta {
    fn from(sealed: &Sealed) -> Self {
        Self {
            id: sealed.id,
            opened: sealed.opened,
            records: sealed.records.clone(),
            completion: Arc::clone(&sealed.completion),
            base_timestamp: sealed.base_timestamp,
            max_timestamp: sealed.max_timestamp,
            uncompressed: sealed.body.len(),
            attempts: 0,
            ambiguous: false,
            obstacle: Obstacle::NoAnswer,
        }
    }
}

impl Sealed {
    /// Goes on without a codec.
    #[must_use]
    pub fn into_ready(self) -> Ready {
        Ready { meta: Meta::from(&self), codec: Codec::None, body: Arc::new(self.body) }
    }

    /// Goes on to a codec; the body travels apart.
    #[must_use]
    pub fn into_compressing(self) -> (Compressing, Body) {
        (Compressing { meta: Meta::from(&self) }, self.body)
    }
}

impl Compressing {
    /// The codec is done.
    #[must_use]
    pub fn into_ready(self, compressed: Compressed) -> Ready {
        Ready { meta: self.meta, codec: compressed.codec, body: Arc::new(compressed.body) }
    }
}

impl Ready {
    /// Bytes in a request, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        batch_header::LEN + self.body.len()
    }

    /// Never: a batch has records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Takes its place in the partition's sequence.
    #[must_use]
    pub fn stamp(self, stamp: Stamp) -> Stamped {
        let Self { meta, codec, body } = self;
        let contents = Contents {
            codec,
            count: meta.count(),
            base_timestamp: meta.base_timestamp,
            max_timestamp: meta.max_timestamp,
        };
        let header = batch_header::encode(contents, stamp, body.len(), body.parts());
        Stamped { meta, codec, body, stamp, header }
    }
}

impl Stamped {
    /// Gives the stamp up.
    ///
    /// # Panics
    /// If an attempt is ambiguous: the broker may hold the batch under this very stamp (S3).
    #[must_use]
    pub fn unstamp(self) -> Ready {
        let sound = !self.meta.ambiguous || mutant!(M9);
        assert!(sound, "S3: a batch that may be in the log was stamped anew");
        Ready { meta: self.meta, codec: self.codec, body: self.body }
    }
}
