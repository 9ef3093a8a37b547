//! What only a follower does to a log: append a leader's batches as they are, cut off its end.

use std::io;

use super::batch::{self, HEADER_LEN, Header};
use super::producers::Producers;
use super::segment::Segment;
use super::{LogError, PartitionLog, Recovery};
use crate::storage::Storage;

impl PartitionLog {
    /// Appends one batch of the leader's as it is, offset and epoch included. Sequence numbers
    /// were judged by the leader, and are taken note of.
    ///
    /// # Errors
    /// If it is damaged or does not begin at the log's end, or the medium fails: the log is then
    /// as it was before, or offline.
    pub fn append_as_follower(
        &mut self,
        storage: &mut dyn Storage,
        bytes: &[u8],
        wall_ms: i64,
    ) -> Result<(), LogError> {
        self.ensure_online()?;
        let header = Header::new(bytes).filter(|_| batch::is_sound(bytes));
        let Some(header) = header.filter(|header| header.base_offset() == self.log_end) else {
            let (dir, end) = (&self.dir, self.log_end);
            let message = format!("the leader's batch for offset {end} of {dir} is not that");
            let code = sordini_protocol::ErrorCode::CorruptMessage;
            return Err(LogError::Refused { code, message });
        };
        self.roll_if_due(storage, &header, bytes.len() as u64, wall_ms)?;
        // The epoch comes first: a batch whose epoch nobody knows could not be cut off later.
        if self.epochs.assign(header.leader_epoch(), self.log_end) {
            self.write_epochs(storage).map_err(|e| self.write_error(e))?;
        }
        self.store(storage, &header, &bytes[HEADER_LEN..], wall_ms)
    }

    /// Cuts off all batches that reach `offset` or lie behind it, and forgets what was known of
    /// them: epochs, sequence numbers, the high watermark.
    ///
    /// # Errors
    /// As the medium fails: the log is then offline.
    pub fn truncate_to(
        &mut self,
        storage: &mut dyn Storage,
        offset: i64,
        wall_ms: i64,
    ) -> Result<(), LogError> {
        self.ensure_online()?;
        if offset >= self.log_end {
            // A term that began at the end and never had a record parts from the leader too.
            return match self.epochs.truncate_end(offset) {
                true => self.write_epochs(storage).map_err(|e| self.storage_error(e)),
                false => Ok(()),
            };
        }
        let done = self.try_truncate(storage, offset.max(self.log_start), wall_ms);
        self.offline_unless(done, "cutting off the log's end")
    }

    /// Throws all away and begins anew at `offset`: the leader has nothing before it any more.
    ///
    /// # Errors
    /// As the medium fails: the log is then offline.
    pub fn restart_at(
        &mut self,
        storage: &mut dyn Storage,
        offset: i64,
        wall_ms: i64,
    ) -> Result<(), LogError> {
        self.ensure_online()?;
        let done = self.try_restart(storage, offset.max(0), wall_ms);
        self.offline_unless(done, "beginning the log anew")
    }

    fn offline_unless(&mut self, done: io::Result<()>, what: &str) -> Result<(), LogError> {
        done.map_err(|error| {
            self.offline = Some(format!("{what} failed: {error}"));
            self.write_error(error)
        })
    }

    fn try_truncate(
        &mut self,
        storage: &mut dyn Storage,
        offset: i64,
        wall_ms: i64,
    ) -> io::Result<()> {
        while self.segments.len() > 1
            && let Some(last) = self.segments.last().filter(|last| last.base() >= offset)
        {
            last.remove_files(storage)?;
            self.segments.pop();
        }
        let Some(active) = self.segments.last_mut() else { return Ok(()) };
        active.truncate_aborted(storage, offset)?;
        if let Some(found) = active.find(storage, offset)? {
            storage.truncate(&active.log_path(), found.position)?;
            self.log_end = active.recover(storage, false, i64::MAX, |_| {})?.0;
        } else {
            self.log_end = offset;
        }
        self.high_watermark = self.high_watermark.min(self.log_end);
        self.recovery_point = self.recovery_point.min(self.log_end);
        self.dirty = true;
        if self.epochs.truncate_end(self.log_end) {
            self.write_epochs(storage)?;
        }
        self.snapshot_at = -1;
        self.producers = Producers::default();
        let (_, snapshots) = self.list(storage)?;
        self.load_producers(storage, &snapshots, &mut Recovery::default())?;
        self.producers.seen_all(wall_ms);
        self.producers.settle(self.high_watermark);
        Ok(())
    }

    fn try_restart(
        &mut self,
        storage: &mut dyn Storage,
        offset: i64,
        wall_ms: i64,
    ) -> io::Result<()> {
        for segment in &self.segments {
            segment.remove_files(storage)?;
        }
        let (_, snapshots) = self.list(storage)?;
        for at in snapshots {
            self.remove_snapshot(storage, at)?;
        }
        let first = Segment::new(&self.dir, offset, wall_ms);
        first.create_files(storage)?;
        self.segments = vec![first];
        (self.log_start, self.log_end) = (offset, offset);
        (self.high_watermark, self.recovery_point) = (offset, offset);
        (self.snapshot_at, self.dirty) = (-1, true);
        self.producers = Producers::default();
        if self.epochs.truncate_end(0) {
            self.write_epochs(storage)?;
        }
        Ok(())
    }
}
