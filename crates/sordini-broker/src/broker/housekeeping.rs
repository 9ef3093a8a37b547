//! What is done from time to time, and at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use super::open::{CLEAN_SHUTDOWN, HIGH_WATERMARKS, RECOVERY_POINTS};
use super::{Broker, OpenError};
use crate::log::PartitionLog;
use crate::storage;
use crate::time::Now;

/// Milliseconds between two rounds.
pub(super) const EVERY_MS: i64 = 60_000;

impl Broker {
    /// Removes old segments and idle producers, and notes what is known to be on disk.
    pub(super) fn keep_house(&mut self, now: Now) {
        self.next_housekeeping = now.mono.after_millis(EVERY_MS);
        self.enforce_retention(now);
        for topic in self.topics.values_mut() {
            for partition in topic.partitions.values_mut() {
                partition.log.expire_producers(now.wall_ms);
            }
        }
        // A checkpoint that can't be written makes the next recovery longer, no more.
        let _ = self.write_checkpoint();
    }

    /// Removes segments that are too old or too many, as is done every minute; returns how many.
    pub fn enforce_retention(&mut self, now: Now) -> usize {
        let mut removed = 0;
        for topic in self.topics.values_mut() {
            for partition in topic.partitions.values_mut() {
                let storage = self.storage.as_mut();
                removed += partition.log.enforce_retention(storage, now.wall_ms).unwrap_or(0);
            }
        }
        removed
    }

    fn write_checkpoint(&mut self) -> io::Result<()> {
        if self.node.is_some() {
            let text = self.checkpoint_text(PartitionLog::high_watermark).1;
            storage::replace(self.storage.as_mut(), "", HIGH_WATERMARKS, text.as_bytes(), true)?;
        }
        let (points, text) = self.checkpoint_text(PartitionLog::recovery_point);
        if points == self.checkpointed {
            return Ok(());
        }
        storage::replace(self.storage.as_mut(), "", RECOVERY_POINTS, text.as_bytes(), true)?;
        self.checkpointed = points;
        Ok(())
    }

    /// An offset of each partition, and Kafka's text for it.
    fn checkpoint_text(
        &self,
        offset: impl Fn(&PartitionLog) -> i64,
    ) -> (BTreeMap<String, i64>, String) {
        let mut points = BTreeMap::new();
        for (name, topic) in &self.topics {
            for (index, partition) in &topic.partitions {
                points.insert(format!("{name} {index}"), offset(&partition.log));
            }
        }
        let mut text = format!("0\n{}\n", points.len());
        for (partition, offset) in &points {
            let _ = writeln!(text, "{partition} {offset}");
        }
        (points, text)
    }

    /// Writes and syncs all there is, so that the next open need not scan. Requests that wait
    /// get no answer: their clients see the connection close.
    ///
    /// # Errors
    /// As the storage fails: the next open then scans what is not known to be on disk.
    pub fn close(&mut self) -> Result<(), OpenError> {
        let mut first_error = None;
        for topic in self.topics.values_mut() {
            for partition in topic.partitions.values_mut() {
                if let Err(error) = partition.log.close(self.storage.as_mut()) {
                    first_error.get_or_insert(error);
                }
            }
        }
        self.write_checkpoint()?;
        if let Some(error) = first_error {
            return Err(error.into());
        }
        self.write_ends()?;
        let epoch = self.catalog.starts;
        let text = format!("{{\"version\":0,\"brokerEpoch\":{epoch}}}");
        storage::replace(self.storage.as_mut(), "", CLEAN_SHUTDOWN, text.as_bytes(), true)?;
        Ok(())
    }
}
