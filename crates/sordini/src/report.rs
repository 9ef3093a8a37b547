//! What `flush` and `close` tell.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sordini_core::accumulator::counters::Metrics;
use sordini_core::batch::sealed::Returned;
use sordini_core::error::DeliveryError;
use sordini_protocol::records::{BatchHeader, RecordIter};

use crate::record::Record;

/// What became of the records that a [`flush`](crate::Producer::flush) waited for.
///
/// Outcomes are counted by batch while the flush waits: those of records that others sent
/// meanwhile are in the numbers if they came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[must_use = "a flush ends when nothing is pending, which is not the same as written"]
#[non_exhaustive]
pub struct FlushReport {
    /// Records acknowledged while the flush waited.
    pub written: u64,
    /// Records that failed meanwhile and are in no log.
    pub not_written: u64,
    /// Records that failed meanwhile and may be in the log.
    pub unknown: u64,
}

impl FlushReport {
    pub(crate) const fn between(before: Metrics, after: Metrics) -> Self {
        Self {
            written: after.records_written - before.records_written,
            not_written: after.records_not_written - before.records_not_written,
            unknown: after.records_unknown - before.records_unknown,
        }
    }

    /// True if nothing failed while the flush waited.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.not_written == 0 && self.unknown == 0
    }
}

/// What became of all records that a producer ever accepted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[must_use = "records that failed are seen here for the last time"]
#[non_exhaustive]
pub struct CloseReport {
    /// Records acknowledged.
    pub written: u64,
    /// Records that failed and are in no log.
    pub not_written: u64,
    /// Records that failed and may be in the log.
    pub unknown: u64,
    /// With `return_failed`: the failed records that nobody has taken yet, in the order in which
    /// they failed. Of several calls of `close` one gets them.
    pub failed: Vec<FailedRecord>,
}

impl CloseReport {
    pub(crate) fn new(metrics: Metrics, failed: Vec<FailedRecord>) -> Self {
        Self {
            written: metrics.records_written,
            not_written: metrics.records_not_written,
            unknown: metrics.records_unknown,
            failed,
        }
    }

    /// True if every accepted record was written.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.not_written == 0 && self.unknown == 0
    }
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, not_written, unknown, .. } = self;
        write!(f, "{written} written, {not_written} not written, {unknown} possibly written")
    }
}

/// A record that failed, handed back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedRecord {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp: i64,
    /// Why it failed, with its topic, partition and fate.
    pub error: Arc<DeliveryError>,
}

impl FailedRecord {
    /// The records of a batch. Bytes that cannot be read, which only a memory error could cause,
    /// end the list.
    pub(crate) fn of_batch(batch: &Returned) -> Vec<Self> {
        let Some((plain, base_timestamp)) = batch.records() else { return Vec::new() };
        let plain = Bytes::from(plain);
        let header = BatchHeader {
            magic: 2,
            base_timestamp,
            records_count: i32::try_from(batch.count()).unwrap_or(i32::MAX),
            last_offset_delta: i32::MAX,
            ..BatchHeader::default()
        };
        let records = RecordIter::new(&header, &plain).map_while(Result::ok);
        let owned = |record: sordini_protocol::records::Record<'_>| Self {
            key: record.key.map(|key| plain.slice_ref(key)),
            value: record.value.map(|value| plain.slice_ref(value)),
            headers: record
                .headers
                .iter()
                .map(|header| {
                    let value = header.value.map(|value| plain.slice_ref(value));
                    (header.key_lossy().into_owned(), value)
                })
                .collect(),
            timestamp: record.timestamp,
            error: Arc::clone(&batch.error),
        };
        records.map(owned).collect()
    }

    /// The record as it was, to be sent again: to the same partition, with the same timestamp.
    pub fn to_record(&self) -> Record<'_> {
        let mut record = match &self.value {
            Some(value) => Record::new(&value[..]),
            None => Record::null(),
        };
        if let Some(key) = &self.key {
            record = record.key(&key[..]);
        }
        for (name, value) in &self.headers {
            record = match value {
                Some(value) => record.header(&**name, &value[..]),
                None => record.null_header(&**name),
            };
        }
        record.partition(self.error.partition).timestamp(self.timestamp)
    }
}
