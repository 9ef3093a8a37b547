//! One partition's log on disk, in Kafka's own format: segments of record batches with their
//! indexes, producer snapshots and leader epochs. Knows nothing of brokers, replicas or requests.
//!
//! Three ends are kept apart from the start: the *log end offset* (what is appended), the *high
//! watermark* (what the owner of the log says is committed; see
//! [`PartitionLog::advance_high_watermark`]) and the *last stable offset* (what no transaction
//! holds back that is open, or whose end is not committed).
//!
//! A transaction begins in a partition with its first batch, if that was verified
//! ([`verification`]), and ends with a [`marker`]. What was aborted is noted beside the segment
//! that has the marker ([`aborted`]).

pub mod aborted;
pub mod batch;
pub(crate) mod closed;
pub mod epochs;
pub mod index;
pub mod marker;
mod medium;
pub mod producers;
mod read;
mod recovery;
mod replica;
mod retention;
mod scan;
mod segment;
pub mod snapshot;
mod transactions;
pub mod verification;

use std::io;

use sordini_protocol::ErrorCode;

use crate::storage::{self, Storage};
use crate::topic_config::TopicConfig;
use batch::{HEADER_LEN, Header, NO_PRODUCER_ID};
use epochs::LeaderEpochs;
use marker::Marker;
use medium::Medium;
use producers::{BatchMeta, Check, Producers, Refusal};
use segment::Segment;
use verification::{Guard, ToVerify};

pub use closed::{Closed, Lost};
pub use read::TimestampAndOffset;
pub use recovery::{Left, Recovery};
pub use segment::{Cut, Damage};

/// Why a log can't do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The medium failed.
    #[error("storage of {dir} failed: {source}")]
    Storage {
        /// The partition's folder.
        dir: String,
        /// What the medium said.
        #[source]
        source: io::Error,
    },
    /// An earlier failure left the state of the files unknown.
    #[error("{dir} is offline until the broker is restarted: {reason}")]
    Offline {
        /// The partition's folder.
        dir: String,
        /// The earlier failure.
        reason: String,
    },
    /// The offset asked for is not in the log.
    #[error("offset {offset} is not in {start}..={end} of {dir}")]
    OffsetOutOfRange {
        /// The partition's folder.
        dir: String,
        /// The offset asked for.
        offset: i64,
        /// The first offset.
        start: i64,
        /// The offset behind the last one that may be read.
        end: i64,
    },
    /// The batch may not be appended.
    #[error("{message}")]
    Refused {
        /// Kafka's error code.
        code: ErrorCode,
        /// Why.
        message: String,
    },
}

impl LogError {
    /// The code that a client is answered with.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Storage { .. } | Self::Offline { .. } => ErrorCode::KafkaStorageError,
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Refused { code, .. } => *code,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log from `base` to `last`.
    New {
        /// Offset of its first record.
        base: i64,
        /// Offset of its last record.
        last: i64,
    },
    /// It was in the log already.
    Duplicate(BatchMeta),
}

/// Who wants a batch appended, and how far it is judged. What would begin a transaction needs the
/// guard of its verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: its sequence numbers count.
    Client(Option<Guard>),
    /// A coordinator of this broker, for a client or for itself: only its epoch counts.
    Coordinator(Option<Guard>),
}

/// How a log is opened and appended to.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The topic's settings.
    pub config: TopicConfig,
    /// Refuse a first sequence other than 0 where nothing is known of a producer. Kafka does not.
    pub strict_first_sequence: bool,
    /// Producers idle for as long are forgotten, Kafka's `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// Names of new files survive a loss of power.
    pub durable: bool,
}

/// A partition's log.
#[derive(Debug)]
pub struct PartitionLog {
    dir: String,
    options: LogOptions,
    /// Never empty; ascending by base; the last one is appended to.
    segments: Vec<Segment>,
    producers: Producers,
    epochs: LeaderEpochs,
    log_start: i64,
    log_end: i64,
    high_watermark: i64,
    /// All before it survives a loss of power, indexes included.
    recovery_point: i64,
    /// The newest producer snapshot on disk.
    snapshot_at: i64,
    /// The active segment's bytes that no sync has covered.
    dirty: bool,
    medium: Medium,
    offline: Option<String>,
}

impl PartitionLog {
    /// The partition's folder, `<topic>-<partition>`.
    #[must_use]
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// The first offset.
    #[must_use]
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The offset behind the last one appended.
    #[must_use]
    pub fn log_end(&self) -> i64 {
        self.log_end
    }

    /// The offset behind the last one committed.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The offset behind the last one that is committed and in no open transaction.
    #[must_use]
    pub fn last_stable(&self) -> i64 {
        let first = self.producers.first_unstable(self.high_watermark);
        first.map_or(self.high_watermark, |first| {
            // The beginning of a transaction may have been removed as too old.
            first.max(self.log_start).min(self.high_watermark)
        })
    }

    /// All before this offset survives a loss of power.
    #[must_use]
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point
    }

    /// The leader epochs.
    #[must_use]
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// What is remembered of producers.
    #[must_use]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Forgets one producer, or all; returns how many were known. As if they had expired.
    pub fn forget_producers(&mut self, id: Option<i64>) -> usize {
        self.producers.forget(id)
    }

    /// Forgets producers that have been idle too long.
    pub fn expire_producers(&mut self, wall_ms: i64) {
        self.producers.expire(wall_ms, self.options.producer_expiration_ms);
    }

    /// The topic's settings.
    #[must_use]
    pub fn config(&self) -> &TopicConfig {
        &self.options.config
    }

    /// Changes the topic's settings.
    pub fn set_config(&mut self, config: TopicConfig) {
        self.options.config = config;
    }

    /// Why the log is offline, if it is.
    #[must_use]
    pub fn offline(&self) -> Option<&str> {
        self.offline.as_deref()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Says that all from `offset` on is not known to be committed: a replica that was opened
    /// knows only what it once noted, and learns the rest from its leader.
    pub fn doubt_from(&mut self, offset: i64) {
        self.high_watermark = offset.clamp(self.log_start, self.log_end);
    }

    /// Says that all before `offset` is committed. The high watermark never goes back.
    pub fn advance_high_watermark(&mut self, offset: i64) {
        self.high_watermark = self.high_watermark.max(offset.min(self.log_end));
        self.producers.settle(self.high_watermark);
    }

    /// Begins a leader epoch at the log's end.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn become_leader(&mut self, storage: &mut dyn Storage, epoch: i32) -> Result<(), LogError> {
        self.ensure_online()?;
        if self.epochs.assign(epoch, self.log_end) {
            self.write_epochs(storage).map_err(|e| self.storage_error(e))?;
        }
        Ok(())
    }

    fn write_epochs(&self, storage: &mut dyn Storage) -> io::Result<()> {
        let text = self.epochs.to_text();
        storage::replace(storage, &self.dir, epochs::FILE, text.as_bytes(), self.options.durable)
    }

    /// Begins to verify that the partition is in a producer's transaction. `None`: its transaction
    /// is open here, so it is. `fresh` becomes the guard if no verification is under way.
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH if the producer's epoch is older than the last seen.
    pub fn start_verification(
        &mut self,
        wanted: &ToVerify,
        fresh: Guard,
        wall_ms: i64,
    ) -> Result<Option<Guard>, LogError> {
        self.producers.start_verification(wanted, fresh, wall_ms).map_err(refused)
    }

    /// Appends a client's batch as the leader of `epoch`: its offset and epoch are assigned here,
    /// its sequence numbers checked. `header` is otherwise as it will be stored, `body` is all
    /// behind it.
    ///
    /// # Errors
    /// If the sequence numbers or the size forbid it, or the medium fails: the log is then as it
    /// was before, or offline.
    pub fn append(
        &mut self,
        storage: &mut dyn Storage,
        header: Header,
        body: &[u8],
        epoch: i32,
        wall_ms: i64,
    ) -> Result<Appended, LogError> {
        self.append_as(storage, header, body, epoch, wall_ms, Origin::Client(None))
    }

    /// Appends a batch, judged by where it comes from.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_as(
        &mut self,
        storage: &mut dyn Storage,
        header: Header,
        body: &[u8],
        epoch: i32,
        wall_ms: i64,
        origin: Origin,
    ) -> Result<Appended, LogError> {
        let strict = self.options.strict_first_sequence;
        self.place(storage, (header, body), epoch, wall_ms, |producers, header| match origin {
            _ if header.producer_id() == NO_PRODUCER_ID => Check::Next,
            Origin::Client(guard) => producers.check(header, guard, strict),
            Origin::Coordinator(guard) => producers.check_coordinators(header, guard).into(),
        })
    }

    /// Appends a marker as the leader of `epoch`. From `transaction_version` 2 on its epoch must
    /// be above the producer's last, unless it is there already.
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, or as [`append`](Self::append).
    pub fn append_marker(
        &mut self,
        storage: &mut dyn Storage,
        marker: &Marker,
        transaction_version: i16,
        epoch: i32,
        wall_ms: i64,
    ) -> Result<Appended, LogError> {
        let (header, body) = marker.to_batch(wall_ms);
        self.place(storage, (header, &body), epoch, wall_ms, |producers, _| {
            producers.check_marker(marker, transaction_version).into()
        })
    }

    /// Appends a batch as the leader of `epoch`, if the producers' state allows it.
    fn place(
        &mut self,
        storage: &mut dyn Storage,
        (mut header, body): (Header, &[u8]),
        epoch: i32,
        wall_ms: i64,
        judge: impl FnOnce(&Producers, &Header) -> Check,
    ) -> Result<Appended, LogError> {
        self.ensure_online()?;
        header.assign(self.log_end, epoch);
        let size = HEADER_LEN + body.len();
        let limit = self.options.config.segment_bytes();
        if size as u64 > limit {
            let message =
                format!("the batch of {size} bytes exceeds segment.bytes {limit} of {}", self.dir);
            return Err(LogError::Refused { code: ErrorCode::RecordListTooLarge, message });
        }
        match judge(&self.producers, &header) {
            Check::Next => {}
            Check::Duplicate(batch) => return Ok(Appended::Duplicate(batch)),
            Check::Refused(code, message) => return Err(refused((code, message))),
        }
        self.roll_if_due(storage, &header, size as u64, wall_ms)?;
        self.store(storage, &header, body, wall_ms)?;
        Ok(Appended::New { base: header.base_offset(), last: header.last_offset() })
    }

    /// Writes a batch at the log's end, and notes its producer and what it ends.
    fn store(
        &mut self,
        storage: &mut dyn Storage,
        header: &Header,
        body: &[u8],
        wall_ms: i64,
    ) -> Result<(), LogError> {
        self.write(storage, header, body)?;
        self.medium.works(&self.dir);
        self.log_end = header.last_offset() + 1;
        let marker = Marker::read(header, body);
        let aborted = self.producers.note(header, marker.as_ref(), wall_ms);
        let Some(active) = self.segments.last_mut() else { return Ok(()) };
        aborted.into_iter().for_each(|aborted| active.note_aborted(aborted));
        // An index that can't be written now is written later, or rebuilt by recovery.
        let _ = active.write_indexes(storage, false);
        let _ = active.append_aborted(storage);
        Ok(())
    }

    fn write(
        &mut self,
        storage: &mut dyn Storage,
        header: &Header,
        body: &[u8],
    ) -> Result<(), LogError> {
        let Some(active) = self.segments.last_mut() else { return self.ensure_online() };
        let path = active.log_path();
        if let Err(error) = storage.append(&path, &[header.bytes(), body]) {
            // What was written of the batch must not precede the next one.
            if let Err(second) = storage.truncate(&path, active.size) {
                self.offline = Some(format!("{error}; then, cutting off the torn batch: {second}"));
            }
            return Err(self.write_error(error));
        }
        active.note(header, (HEADER_LEN + body.len()) as u64);
        self.dirty = true;
        Ok(())
    }

    fn roll_if_due(
        &mut self,
        storage: &mut dyn Storage,
        header: &Header,
        size: u64,
        wall_ms: i64,
    ) -> Result<(), LogError> {
        let config = &self.options.config;
        let Some(active) = self.segments.last() else { return Ok(()) };
        let waited = match active.first_timestamp {
            Some(first) if first >= 0 => header.max_timestamp().saturating_sub(first),
            _ => wall_ms.saturating_sub(active.created_ms),
        };
        let full = active.size.saturating_add(size) > config.segment_bytes();
        let due = active.size > 0
            && (full
                || waited > config.segment_ms()
                || active.index_is_full()
                || active.relative(header.last_offset()).is_none());
        if due { self.roll(storage, wall_ms) } else { Ok(()) }
    }

    /// Ends the active segment and begins another.
    ///
    /// # Errors
    /// As the medium fails; the log is then as it was before.
    pub fn roll(&mut self, storage: &mut dyn Storage, wall_ms: i64) -> Result<(), LogError> {
        self.ensure_online()?;
        self.try_roll(storage, wall_ms).map_err(|e| self.write_error(e))
    }

    fn try_roll(&mut self, storage: &mut dyn Storage, wall_ms: i64) -> io::Result<()> {
        let next = Segment::new(&self.dir, self.log_end, wall_ms);
        self.write_lacking(storage)?;
        if let Some(active) = self.segments.last_mut() {
            active.complete_indexes(storage)?;
            if self.options.durable {
                settle(&mut self.offline, active.sync_files(storage))?;
            }
        }
        self.take_snapshot(storage)?;
        next.create_files(storage)?;
        if self.options.durable {
            storage.sync_dir(&self.dir)?;
            self.recovery_point = next.base();
        } else if let [.., last] = self.segments.as_slice() {
            // The segment that ended one roll ago has most likely reached the disk by now, so
            // that this sync stops nobody for long.
            let settled = last.base();
            for segment in self
                .segments
                .iter()
                .filter(|segment| segment.base() >= self.recovery_point && segment.base() < settled)
            {
                settle(&mut self.offline, segment.sync_files(storage))?;
            }
            self.recovery_point = self.recovery_point.max(settled);
        }
        self.segments.push(next);
        self.dirty = false;
        Ok(())
    }

    /// Writes the indexes that a full disk had no room for when the log was opened.
    fn write_lacking(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        for segment in self.segments.iter_mut().filter(|segment| segment.lacks_indexes()) {
            segment.complete_indexes(storage)?;
            settle(&mut self.offline, segment.sync_files(storage))?;
        }
        Ok(())
    }

    /// Writes the producers' state as of the log's end, unless that was done.
    fn take_snapshot(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        let nothing_to_say = self.log_end == self.log_start && self.producers.is_empty();
        if self.snapshot_at >= self.log_end || nothing_to_say {
            return Ok(());
        }
        let name = |suffix| segment::file_name(self.log_end, suffix);
        let durable = self.options.durable;
        let window = snapshot::encode_window(&self.producers);
        storage::replace(storage, &self.dir, &name(snapshot::WINDOW_SUFFIX), &window, durable)?;
        let kafkas = snapshot::encode(&self.producers);
        storage::replace(storage, &self.dir, &name(snapshot::SUFFIX), &kafkas, durable)?;
        self.snapshot_at = self.log_end;
        Ok(())
    }

    /// Whether a sync would cover bytes that none has covered.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Makes all appended batches survive a loss of power.
    ///
    /// # Errors
    /// As the medium fails. The log is then offline until it is opened again: after a failed
    /// sync nobody knows what the disk holds, and a second sync that succeeds proves nothing.
    pub fn sync(&mut self, storage: &mut dyn Storage) -> Result<(), LogError> {
        self.ensure_online()?;
        if !self.dirty {
            return Ok(());
        }
        let Some(active) = self.segments.last() else { return Ok(()) };
        let synced = storage.sync(&active.log_path());
        settle(&mut self.offline, synced).map_err(|e| self.write_error(e))?;
        self.dirty = false;
        Ok(())
    }

    /// Writes and syncs all there is, so that the next open need not scan.
    ///
    /// # Errors
    /// As the medium fails; the next open will then scan.
    pub fn close(&mut self, storage: &mut dyn Storage) -> Result<(), LogError> {
        self.ensure_online()?;
        self.try_close(storage).map_err(|e| self.storage_error(e))
    }

    fn try_close(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        self.write_lacking(storage)?;
        if let Some(active) = self.segments.last_mut() {
            active.complete_indexes(storage)?;
        }
        self.take_snapshot(storage)?;
        for segment in self.segments.iter() {
            let end = self.log_end.min(segment.base() + i64::from(i32::MAX));
            if end >= self.recovery_point {
                segment.sync_files(storage)?;
            }
        }
        storage.sync_dir(&self.dir)?;
        self.recovery_point = self.log_end;
        self.dirty = false;
        Ok(())
    }

    fn ensure_online(&self) -> Result<(), LogError> {
        match &self.offline {
            None => Ok(()),
            Some(reason) => {
                Err(LogError::Offline { dir: self.dir.clone(), reason: reason.clone() })
            }
        }
    }

    fn write_error(&mut self, source: io::Error) -> LogError {
        self.medium.failed(&self.dir, &source);
        self.storage_error(source)
    }

    fn storage_error(&self, source: io::Error) -> LogError {
        LogError::Storage { dir: self.dir.clone(), source }
    }
}

fn refused((code, message): Refusal) -> LogError {
    LogError::Refused { code, message }
}

/// Takes a log offline whose sync failed: what the disk holds is then unknown.
fn settle(offline: &mut Option<String>, synced: io::Result<()>) -> io::Result<()> {
    if let Err(error) = &synced {
        *offline = Some(format!("a sync failed: {error}"));
    }
    synced
}

#[cfg(test)]
mod tests;
