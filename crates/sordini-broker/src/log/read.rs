//! Reading: batches from an offset on, and offsets by timestamp.

use std::io;

use bytes::Bytes;

use super::aborted::AbortedTransaction;
use super::batch::Header;
use super::scan::Found;
use super::segment::Segment;
use super::{LogError, PartitionLog};
use crate::records;
use crate::storage::Storage;

/// Where a timestamp was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The record's timestamp, ms.
    pub timestamp: i64,
    /// The record's offset.
    pub offset: i64,
    /// Leader epoch of its batch.
    pub leader_epoch: i32,
}

impl PartitionLog {
    /// Whole batches from the one that holds `offset` on, up to `max_bytes`, and none at or
    /// behind `upper`. With `at_least_one` the first batch comes even if it is larger.
    ///
    /// Batches of one segment only, as Kafka does; a reader asks again for the next.
    ///
    /// # Errors
    /// If the offset is outside `log_start..=log_end`, or the medium fails.
    pub fn read(
        &self,
        storage: &mut dyn Storage,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        upper: i64,
    ) -> Result<Bytes, LogError> {
        self.ensure_online()?;
        if offset < self.log_start || offset > self.log_end {
            return Err(LogError::OffsetOutOfRange {
                dir: self.dir.clone(),
                offset,
                start: self.log_start,
                end: self.log_end,
            });
        }
        if offset >= upper {
            return Ok(Bytes::new());
        }
        let found = self.find(storage, offset).map_err(|e| self.storage_error(e))?;
        let Some((segment, first)) = found else { return Ok(Bytes::new()) };
        if first.header.base_offset() >= upper {
            return Ok(Bytes::new());
        }
        let first_size = usize::try_from(first.size).unwrap_or(usize::MAX);
        if first_size > max_bytes && !at_least_one {
            return Ok(Bytes::new());
        }
        let wanted = max_bytes.max(first_size);
        let left = usize::try_from(segment.size - first.position).unwrap_or(usize::MAX);
        let bytes = storage
            .read(&segment.log_path(), first.position, wanted.min(left))
            .map_err(|e| self.storage_error(e))?;
        Ok(whole_batches(bytes, upper))
    }

    /// The aborted transactions with records in `from..upper`, in the order of their markers: what
    /// a read_committed reader of `upper` and all before it has to leave out. Markers may lie
    /// behind `upper`.
    #[must_use]
    pub fn aborted_transactions(&self, from: i64, upper: i64) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        let after = self.segments.partition_point(|segment| segment.base() <= from);
        for segment in self.segments.iter().skip(after.saturating_sub(1)) {
            if segment.collect_aborted(from, upper, &mut found) {
                break;
            }
        }
        found
    }

    fn find(
        &self,
        storage: &mut dyn Storage,
        offset: i64,
    ) -> io::Result<Option<(&Segment, Found)>> {
        let after = self.segments.partition_point(|segment| segment.base() <= offset);
        // A segment may end before `offset` where compaction or a repair left a gap.
        for segment in &self.segments[after.saturating_sub(1)..] {
            if let Some(found) = segment.find(storage, offset)? {
                return Ok(Some((segment, found)));
            }
        }
        Ok(None)
    }

    /// The first record with a timestamp of at least `timestamp`, at or behind the log's start.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn find_timestamp(
        &self,
        storage: &mut dyn Storage,
        timestamp: i64,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        self.ensure_online()?;
        for segment in &self.segments {
            if segment.max_timestamp().is_none_or(|max| max.0 < timestamp) {
                continue;
            }
            let found =
                segment.find_timestamp(storage, timestamp).map_err(|e| self.storage_error(e))?;
            let Some(found) = found else { continue };
            return self.record_at(storage, segment, &found, |at| at >= timestamp);
        }
        Ok(None)
    }

    /// The first record with the largest timestamp of the log.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn find_max_timestamp(
        &self,
        storage: &mut dyn Storage,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        self.ensure_online()?;
        let newest = self.segments.iter().filter_map(Segment::max_timestamp);
        let Some(max) = newest.map(|max| max.0).max() else { return Ok(None) };
        let found = self.find_timestamp(storage, max)?;
        Ok(found)
    }

    fn record_at(
        &self,
        storage: &mut dyn Storage,
        segment: &Segment,
        found: &Found,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        let size = usize::try_from(found.size).unwrap_or(usize::MAX);
        let bytes = storage
            .read(&segment.log_path(), found.position, size)
            .map_err(|e| self.storage_error(e))?;
        let damaged = |message: String| {
            self.storage_error(io::Error::new(io::ErrorKind::InvalidData, message))
        };
        let first = records::first_where(&bytes, |record| wanted(record.timestamp))
            .map_err(|e| damaged(e.to_string()))?;
        Ok(first.map(|(offset, timestamp)| TimestampAndOffset {
            timestamp,
            offset,
            leader_epoch: found.header.leader_epoch(),
        }))
    }
}

/// The whole batches at the start of `bytes` that begin before `upper`.
fn whole_batches(mut bytes: Bytes, upper: i64) -> Bytes {
    let mut end = 0;
    while let Some(header) = bytes.get(end..).and_then(Header::new) {
        let Some(size) = header.size() else { break };
        if header.base_offset() >= upper || bytes.len() - end < size {
            break;
        }
        end += size;
    }
    bytes.truncate(end);
    bytes
}
