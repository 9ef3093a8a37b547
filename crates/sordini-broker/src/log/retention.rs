//! Removing old segments: `retention.ms` and `retention.bytes`.

use std::io;

use super::segment::Segment;
use super::{LogError, PartitionLog};
use crate::storage::Storage;

impl PartitionLog {
    /// Removes segments that are too old or too many; returns how many. Only whole segments go,
    /// and only what is committed; an open transaction keeps none, as in Kafka. The newest records stay until their segment's newest record
    /// is too old; then a new segment is begun.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn enforce_retention(
        &mut self,
        storage: &mut dyn Storage,
        wall_ms: i64,
    ) -> Result<usize, LogError> {
        self.ensure_online()?;
        if !self.options.config.deletes() {
            return Ok(0);
        }
        let expired = self.expired_count(wall_ms).max(self.surplus_count());
        let removable = self.committed_count().min(expired);
        if removable == 0 {
            return Ok(0);
        }
        if removable == self.segments.len() {
            self.roll(storage, wall_ms)?;
        }
        self.remove_first(storage, removable).map_err(|e| self.storage_error(e))?;
        Ok(removable)
    }

    /// Leading segments whose newest record is older than `retention.ms`.
    fn expired_count(&self, wall_ms: i64) -> usize {
        let Some(limit) = self.options.config.retention_ms() else { return 0 };
        let expired = |segment: &&Segment| {
            let newest = segment.max_timestamp().map_or(segment.created_ms, |max| max.0);
            segment.size > 0 && wall_ms.saturating_sub(newest) > limit
        };
        self.segments.iter().take_while(expired).count()
    }

    /// Leading segments without which the log is still at least `retention.bytes` long.
    fn surplus_count(&self) -> usize {
        let Some(limit) = self.options.config.retention_bytes() else { return 0 };
        let mut surplus = self.size().saturating_sub(limit);
        let mut count = 0;
        for segment in &self.segments[..self.segments.len().saturating_sub(1)] {
            if segment.size > surplus {
                break;
            }
            surplus -= segment.size;
            count += 1;
        }
        count
    }

    /// Leading segments that end at or before the high watermark.
    fn committed_count(&self) -> usize {
        let ends = self.segments.iter().skip(1).map(Segment::base);
        ends.chain([self.log_end]).take_while(|end| *end <= self.high_watermark).count()
    }

    fn remove_first(&mut self, storage: &mut dyn Storage, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let Some(first) = self.segments.first() else { break };
            first.remove_files(storage)?;
            let base = first.base();
            self.segments.remove(0);
            self.log_start = self.segments.first().map_or(self.log_start, Segment::base);
            if base != self.log_start {
                self.remove_snapshot(storage, base)?;
            }
        }
        self.recovery_point = self.recovery_point.max(self.log_start);
        self.producers.settle(self.log_start);
        if self.epochs.truncate_start(self.log_start) {
            self.write_epochs(storage)?;
        }
        Ok(())
    }
}
