//! A batch that takes records.

use std::sync::Arc;

use crate::batch::BatchId;
use crate::batch::body::Body;
use crate::batch::completion::BatchCompletion;
use crate::batch::sealed::Sealed;
use crate::memory::{CLASSES, Segment};
use crate::record::Record;
use crate::time::{Instant, Now};
use crate::wire::{batch_header, record};

/// More records than this in one batch would not fit its count and sequence range.
const MAX_COUNT: u32 = i32::MAX as u32;

const SMALLEST: usize = CLASSES[0];

/// The largest segment of a batch: large batches use larger ones, so that one is not hundreds of
/// iovecs.
const fn largest(batch_size: usize) -> usize {
    if batch_size > 256 << 10 { CLASSES[3] } else { CLASSES[2] }
}

/// An append of a record with this key panics when its bytes are written and not yet counted.
#[cfg(test)]
pub(crate) const EXPLOSIVE: &[u8] = b"panics under the lane's lock";

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct Open {
    id: BatchId,
    opened: Instant,
    /// The wall-clock time then: no record takes an earlier one as its own.
    opened_wall: i64,
    base_timestamp: i64,
    max_timestamp: i64,
    count: u32,
    len: usize,
    /// What it may grow to, header included.
    limit: usize,
    /// Those that are full.
    before: Vec<Segment>,
    last: Segment,
    completion: Arc<BatchCompletion>,
}

/// A record measured for its place in an open batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fitted {
    measured: record::Measured,
    timestamp: i64,
    /// To the batch's base; meaningless where it does not `reach`.
    delta: i64,
    reaches: bool,
}

impl Fitted {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.measured.total()
    }
}

/// Where a record came to stand.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) index: u32,
    pub(crate) timestamp: i64,
    pub(crate) len: usize,
}

impl Open {
    /// A batch for `first`, which it has room for in `segment`.
    pub(crate) fn new(
        id: BatchId,
        now: Now,
        partition: i32,
        limit: usize,
        first: &Record<'_>,
        segment: Segment,
    ) -> Self {
        let base_timestamp = first.timestamp.unwrap_or(now.wall.0);
        Self {
            id,
            opened: now.mono,
            opened_wall: now.wall.0,
            base_timestamp,
            max_timestamp: base_timestamp,
            count: 0,
            len: 0,
            limit,
            before: Vec::with_capacity(4),
            last: segment,
            completion: Arc::new(BatchCompletion::new(partition)),
        }
    }

    /// Measures `record` for the next place; a record without a timestamp takes `coarse`, which
    /// may lag, or the time when the batch was opened.
    ///
    /// Always inlined, as all that has to do with a [`Fitted`]: a copy of one costs more than the rest.
    #[inline(always)]
    pub(crate) fn fit(&self, record: &Record<'_>, coarse: i64) -> Fitted {
        let timestamp = record.timestamp.unwrap_or(coarse.max(self.opened_wall));
        let (delta, overflows) = timestamp.overflowing_sub(self.base_timestamp);
        let measured = record::measure(record, self.count, delta);
        Fitted { measured, timestamp, delta, reaches: !overflows }
    }

    /// Lowers what the batch may grow to.
    pub(crate) fn cap(&mut self, limit: usize) {
        self.limit = self.limit.min(limit);
    }

    /// May the record join, by the batch's limit and by what a header can count? The first always may.
    #[inline]
    pub(crate) fn admits(&self, fitted: &Fitted) -> bool {
        self.count == 0
            || (batch_header::LEN + self.len + fitted.len() <= self.limit
                && self.count < MAX_COUNT
                && fitted.reaches)
    }

    /// Is there room for it in the last segment?
    #[inline]
    pub(crate) fn has_room(&self, fitted: &Fitted) -> bool {
        self.last.room() >= fitted.len()
    }

    pub(crate) fn grow(&mut self, segment: Segment) {
        self.before.push(std::mem::replace(&mut self.last, segment));
    }

    /// The size of the segment that the batch would like next.
    pub(crate) fn wanted_segment(&self) -> usize {
        // Four times the last, up to what the batch can still take.
        let by_growth = SMALLEST << (2 * (self.before.len() + 1).min(3));
        let left = self.limit.saturating_sub(batch_header::LEN + self.len);
        by_growth.min(largest(self.limit)).min(left.max(SMALLEST))
    }

    /// The size of the segment that a batch should start with: all it can take, if the lane's
    /// last one grew `full`.
    pub(crate) fn first_segment(batch_size: usize, full: bool) -> usize {
        let size = batch_size.saturating_sub(batch_header::LEN);
        if full { size.min(largest(batch_size)) } else { size.min(SMALLEST) }
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    pub(crate) fn id(&self) -> BatchId {
        self.id
    }

    #[inline]
    pub(crate) fn completion(&self) -> &Arc<BatchCompletion> {
        &self.completion
    }

    /// Appends the record; the caller made sure of [`Open::has_room`].
    #[inline(always)]
    pub(crate) fn push(&mut self, record: &Record<'_>, fitted: Fitted) -> Placed {
        let index = self.count;
        record::put(self.last.rest(), record, index, fitted.delta, fitted.measured);
        #[cfg(test)]
        assert!(record.key != Some(EXPLOSIVE), "half an append, as ordered");
        self.last.advance(fitted.len());
        self.count += 1;
        self.len += fitted.len();
        self.max_timestamp = self.max_timestamp.max(fitted.timestamp);
        Placed { index, timestamp: fitted.timestamp, len: fitted.len() }
    }

    pub(crate) fn seal(self) -> Sealed {
        assert!(self.count > 0, "S1: a batch without records was sealed");
        self.completion.seal(self.count);
        let mut segments = self.before;
        segments.push(self.last);
        Sealed {
            id: self.id,
            opened: self.opened,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            records: 0..self.count,
            completion: self.completion,
            body: Body(segments),
            damaged: false,
        }
    }

    /// Seals what is left after an append panicked: the records before that one, to be failed.
    /// `None` if there are none.
    pub(crate) fn salvage(mut self) -> Option<Sealed> {
        let mut whole = self.len;
        for segment in self.before.iter_mut().chain([&mut self.last]) {
            segment.truncate(whole);
            whole -= segment.bytes().len();
        }
        (self.count > 0).then(|| Sealed { damaged: true, ..self.seal() })
    }
}

#[cfg(test)]
mod tests;
