//! One segment: a `.log` file with its indexes: of offsets, of times, of aborted transactions.

use std::io;

use bytes::Bytes;

use super::aborted::{self, AbortedIndex, AbortedTransaction};
use super::batch::{Header, NO_TIMESTAMP};
use super::index::{OffsetIndex, TimeIndex};
use super::scan::{Depth, Found, Scan};
use crate::storage::{self, Storage};

/// Bytes of log between two index entries, Kafka's `index.interval.bytes`.
pub(super) const INDEX_INTERVAL: u64 = 4096;
/// Index entries that gather in memory before they are written.
const INDEX_WRITE_EVERY: usize = 64;

/// Where a log was cut back to what is sound before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file, in the broker's folder.
    pub file: String,
    /// The first byte that was not sound: the file ends there now.
    pub position: u64,
    /// Bytes of the file that were cut off.
    pub bytes: u64,
    /// The offset of the first record that is lost, if there was one.
    pub offset: i64,
    /// What it looked like.
    pub damage: Damage,
}

/// What bytes that are not sound look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file ends before its last batch does: a write that a crash cut short.
    AtEnd,
    /// The last batch is all there, and its checksum fails: a loss of power may leave that, and so may
    /// a disk or a program that wrote over it. The death of the broker does not.
    LastBatch,
    /// What was written later is sound, or was: no crash leaves that, but a disk or a program that
    /// wrote over it.
    Within,
}

/// Where a segment's indexes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// In files, but for the entries that gather.
    InFiles,
    /// In memory: the disk had no room for the files, and none of them is there, so that an open
    /// before they are finds the entries anew.
    InMemory,
}

/// A segment's state in memory.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    base: i64,
    dir: String,
    /// Bytes of sound batches in the `.log` file.
    pub(super) size: u64,
    offsets: OffsetIndex,
    times: TimeIndex,
    /// The transactions whose abort markers stand here. Its file is there once there is one.
    aborted: AbortedIndex,
    kept: Kept,
    /// Largest timestamp, and the last offset of the first batch that has it.
    max_timestamp: Option<(i64, i64)>,
    since_index: u64,
    /// Largest timestamp of the first batch: what `segment.ms` counts from.
    pub(super) first_timestamp: Option<i64>,
    /// When the segment was created or opened, by this broker's clock.
    pub(super) created_ms: i64,
}

/// The name of a segment's file.
#[must_use]
pub(super) fn file_name(base: i64, suffix: &str) -> String {
    format!("{base:020}{suffix}")
}

/// The offset in a file's name, if it ends with `suffix` and is one of Kafka's.
#[must_use]
pub(super) fn offset_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

impl Segment {
    /// An empty segment, not yet on disk.
    #[must_use]
    pub(super) fn new(dir: &str, base: i64, created_ms: i64) -> Self {
        Self {
            base,
            dir: dir.to_owned(),
            size: 0,
            offsets: OffsetIndex::default(),
            times: TimeIndex::default(),
            aborted: AbortedIndex::default(),
            kept: Kept::InFiles,
            max_timestamp: None,
            since_index: 0,
            first_timestamp: None,
            created_ms,
        }
    }

    /// Offset at which the segment begins.
    #[must_use]
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// Path of the segment's `.log` file.
    #[must_use]
    pub(super) fn log_path(&self) -> String {
        self.path(".log")
    }

    fn path(&self, suffix: &str) -> String {
        storage::join(&self.dir, &file_name(self.base, suffix))
    }

    /// Creates the files, empty, but for that of aborted transactions.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn create_files(&self, storage: &mut dyn Storage) -> io::Result<()> {
        for suffix in [".log", ".index", ".timeindex"] {
            storage.truncate(&self.path(suffix), 0)?;
        }
        Ok(())
    }

    /// Removes the files.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn remove_files(&self, storage: &mut dyn Storage) -> io::Result<()> {
        for suffix in [".log", ".index", ".timeindex", aborted::SUFFIX] {
            storage.remove(&self.path(suffix))?;
        }
        Ok(())
    }

    /// `offset` relative to the base, if it can be an index entry.
    #[must_use]
    pub(super) fn relative(&self, offset: i64) -> Option<u32> {
        let relative = offset.checked_sub(self.base)?;
        i32::try_from(relative).ok().and_then(|relative| u32::try_from(relative).ok())
    }

    /// Whether an index is at Kafka's default size limit.
    #[must_use]
    pub(super) fn index_is_full(&self) -> bool {
        self.offsets.is_full() || self.times.is_full()
    }

    /// The largest timestamp so far, and the last offset of the first batch that has it.
    #[must_use]
    pub(super) fn max_timestamp(&self) -> Option<(i64, i64)> {
        self.max_timestamp
    }

    /// Takes note of a batch that stands at the segment's end.
    pub(super) fn note(&mut self, header: &Header, size: u64) {
        if self.size == 0 {
            self.first_timestamp = Some(header.max_timestamp());
        }
        let timestamp = header.max_timestamp();
        if self.max_timestamp.is_none_or(|max| timestamp > max.0) && timestamp > NO_TIMESTAMP {
            self.max_timestamp = Some((timestamp, header.last_offset()));
        }
        if self.since_index > INDEX_INTERVAL {
            if let (Some(relative), Ok(position)) =
                (self.relative(header.last_offset()), u32::try_from(self.size))
            {
                self.offsets.append(relative, position);
            }
            self.note_time();
            self.since_index = 0;
        }
        self.since_index += size;
        self.size += size;
    }

    fn note_time(&mut self) {
        if let Some((timestamp, offset)) = self.max_timestamp
            && let Some(relative) = self.relative(offset)
        {
            self.times.maybe_append(timestamp, relative);
        }
    }

    /// Whether the indexes are in no file, for want of room. What a segment holds does not count as
    /// written before its indexes are.
    #[must_use]
    pub(super) fn lacks_indexes(&self) -> bool {
        self.kept == Kept::InMemory
    }

    /// Writes the index entries that the files lack, if there are many, or if `all`.
    ///
    /// # Errors
    /// As the medium fails; a torn write is mended by the next call.
    pub(super) fn write_indexes(&mut self, storage: &mut dyn Storage, all: bool) -> io::Result<()> {
        if self.kept == Kept::InMemory {
            return Ok(());
        }
        self.write_times(storage, all)?;
        self.write_offsets(storage, all)
    }

    fn write_offsets(&mut self, storage: &mut dyn Storage, all: bool) -> io::Result<()> {
        let (bytes, count) = self.offsets.unwritten();
        if count > 0 && (all || count >= INDEX_WRITE_EVERY) {
            let path = self.path(".index");
            append_at(storage, &path, self.offsets.written_len(), &bytes)?;
            self.offsets.mark_written();
        }
        Ok(())
    }

    fn write_times(&mut self, storage: &mut dyn Storage, all: bool) -> io::Result<()> {
        let (bytes, count) = self.times.unwritten();
        if count > 0 && (all || count >= INDEX_WRITE_EVERY) {
            let path = self.path(".timeindex");
            append_at(storage, &path, self.times.written_len(), &bytes)?;
            self.times.mark_written();
        }
        Ok(())
    }

    /// Completes the indexes of a segment that gets no more batches: the last entry of the time
    /// index is the segment's largest timestamp.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn complete_indexes(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        self.note_time();
        if self.kept == Kept::InFiles {
            self.write_indexes(storage, true)?;
            return self.append_aborted(storage);
        }
        self.kept = Kept::InFiles;
        let written = self.write_anew(storage);
        if written.is_err() {
            self.keep_in_memory(storage)?;
        }
        written
    }

    /// Writes all files. The offset index comes last: without it the others are not believed.
    fn write_anew(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        storage.truncate(&self.path(".timeindex"), 0)?;
        self.write_times(storage, true)?;
        self.append_aborted(storage)?;
        storage.truncate(&self.path(".index"), 0)?;
        self.write_offsets(storage, true)
    }

    /// Completes the indexes of a segment that was found; in memory only, where the disk is full.
    ///
    /// # Errors
    /// As the medium fails otherwise.
    pub(super) fn finish_indexes(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        let written = self.complete_indexes(storage);
        self.unless_full(storage, written)
    }

    /// Goes on without index files where there was no room to write them.
    fn unless_full(
        &mut self,
        storage: &mut dyn Storage,
        written: io::Result<()>,
    ) -> io::Result<()> {
        match written {
            Err(error) if storage::is_full(&error) => self.keep_in_memory(storage),
            other => other,
        }
    }

    fn keep_in_memory(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        self.kept = Kept::InMemory;
        self.offsets.mark_unwritten();
        self.times.mark_unwritten();
        self.aborted.mark_unwritten();
        for suffix in [".index", ".timeindex", aborted::SUFFIX] {
            storage.remove(&self.path(suffix))?;
        }
        Ok(())
    }

    /// Makes the files survive a loss of power.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn sync_files(&self, storage: &mut dyn Storage) -> io::Result<()> {
        if self.kept == Kept::InMemory {
            return storage.sync(&self.log_path());
        }
        let aborted = self.path(aborted::SUFFIX);
        if storage.len(&aborted)?.is_some() {
            storage.sync(&aborted)?;
        }
        for suffix in [".log", ".index", ".timeindex"] {
            storage.sync(&self.path(suffix))?;
        }
        Ok(())
    }

    /// Loads the indexes of a segment that is known to be whole. `false` if they are missing or
    /// can't be right: the segment must then be scanned.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn load_indexes(&mut self, storage: &mut dyn Storage) -> io::Result<bool> {
        let Some(size) = storage.len(&self.log_path())? else { return Ok(false) };
        let (Some(offsets), Some(times)) =
            (self.index_bytes(storage, ".index")?, self.index_bytes(storage, ".timeindex")?)
        else {
            return Ok(false);
        };
        // Where nothing was aborted there is no file.
        let aborted = match storage.len(&self.path(aborted::SUFFIX))? {
            None => Bytes::new(),
            Some(len) if len <= aborted::FILE_MAX => {
                storage::read_all(storage, &self.path(aborted::SUFFIX), len)?
            }
            Some(_) => return Ok(false),
        };
        let (Some(offsets), Some(times), Some(aborted)) = (
            OffsetIndex::parse(&offsets, size),
            TimeIndex::parse(&times),
            AbortedIndex::parse(&aborted, self.base),
        ) else {
            return Ok(false);
        };
        self.size = size;
        self.max_timestamp =
            times.last().map(|(timestamp, at)| (timestamp, self.base + i64::from(at)));
        (self.offsets, self.times, self.aborted) = (offsets, times, aborted);
        Ok(true)
    }

    fn index_bytes(&self, storage: &mut dyn Storage, suffix: &str) -> io::Result<Option<Bytes>> {
        let path = self.path(suffix);
        match storage.len(&path)? {
            // Twice Kafka's size: no file of ours is longer, and hostile ones are not read.
            Some(len) if len <= 20 * 1024 * 1024 => {
                storage::read_all(storage, &path, len).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Where the tail begins: at the last index entry, if the batch there is sound. If it is not, only
    /// the batches before it tell where the log ends.
    fn sound_tail(&self, storage: &mut dyn Storage, end: u64) -> io::Result<u64> {
        let (path, start) = (self.log_path(), u64::from(self.offsets.last_position()));
        let bounds = (self.base, self.base);
        let mut scan = Scan::new(storage, &path, Depth::Checksums, (start, end), bounds);
        Ok(if scan.next()?.is_some() { start } else { 0 })
    }

    /// The offset behind the last batch, if [`Segment::recover`] would find nothing to cut off.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn sound_end(
        &self,
        storage: &mut dyn Storage,
        tail_only: bool,
        limit: i64,
    ) -> io::Result<Option<i64>> {
        let (path, base) = (self.log_path(), self.base);
        let end = storage.len(&path)?.unwrap_or(0);
        let start = if tail_only { self.sound_tail(storage, end)? } else { 0 };
        let mut scan =
            Scan::new(storage, &path, Depth::Checksums, (start, end), (base, base)).below(limit);
        while scan.next()?.is_some() {}
        Ok((scan.position() == end).then(|| scan.next_offset()))
    }

    /// Scans the file from its start, or only its tail, checks every CRC, cuts off what is not sound
    /// and rebuilds the indexes. No batch may reach `limit`. Returns the offset behind the last batch
    /// and what was cut off. `seen` is told of each batch.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn recover(
        &mut self,
        storage: &mut dyn Storage,
        tail_only: bool,
        limit: i64,
        mut seen: impl FnMut(&Header),
    ) -> io::Result<(i64, Option<Cut>)> {
        let path = self.log_path();
        let end = storage.len(&path)?.unwrap_or(0);
        let start = if tail_only { self.sound_tail(storage, end)? } else { 0 };
        if start == 0 {
            self.offsets = OffsetIndex::default();
            self.times = TimeIndex::default();
            self.max_timestamp = None;
        }
        self.size = start;
        self.since_index = 0;
        self.first_timestamp = None;
        let base = self.base;
        let mut scan =
            Scan::new(storage, &path, Depth::Checksums, (start, end), (base, base)).below(limit);
        while let Some(found) = scan.next()? {
            self.note(&found.header, found.size);
            seen(&found.header);
        }
        let (valid, next_offset) = (scan.position(), scan.next_offset());
        let mut cut = None;
        if valid < end {
            let damage = scan.damage()?;
            storage.truncate(&path, valid)?;
            let (file, bytes) = (path, end - valid);
            cut = Some(Cut { file, position: valid, bytes, offset: next_offset, damage });
        }
        if start > 0 {
            self.first_timestamp = self.timestamp_of_first(storage)?;
        } else {
            self.rewrite_indexes(storage)?;
        }
        Ok((next_offset, cut))
    }

    fn rewrite_indexes(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        self.offsets.mark_unwritten();
        self.times.mark_unwritten();
        if self.kept == Kept::InMemory {
            return Ok(());
        }
        let emptied = storage
            .truncate(&self.path(".index"), 0)
            .and_then(|()| storage.truncate(&self.path(".timeindex"), 0));
        let written = emptied.and_then(|()| self.write_indexes(storage, true));
        self.unless_full(storage, written)
    }

    fn timestamp_of_first(&self, storage: &mut dyn Storage) -> io::Result<Option<i64>> {
        let path = self.log_path();
        let range = (0, self.size);
        let mut scan = Scan::new(storage, &path, Depth::Headers, range, (self.base, self.base));
        Ok(scan.next()?.map(|found| found.header.max_timestamp()))
    }

    /// A walk over the batches from the last index entry at or before `offset` on.
    pub(super) fn scan_from<'a>(
        &self,
        storage: &'a mut dyn Storage,
        path: &'a str,
        offset: i64,
    ) -> Scan<'a> {
        let start = self.relative(offset).map_or(0, |relative| self.offsets.lookup(relative));
        let range = (u64::from(start), self.size);
        Scan::new(storage, path, Depth::Headers, range, (self.base, self.base))
    }

    /// Adds an aborted transaction whose marker is the newest batch. What can't be written now is
    /// written later, or rebuilt by recovery.
    pub(super) fn note_aborted(&mut self, aborted: AbortedTransaction) {
        self.aborted.push(aborted);
    }

    /// Drops all aborted transactions, in the file too: they are found anew.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn forget_aborted(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        self.aborted = AbortedIndex::default();
        let path = self.path(aborted::SUFFIX);
        match storage.len(&path)? {
            Some(1..) => storage.truncate(&path, 0),
            _ => Ok(()),
        }
    }

    /// Drops the aborted transactions whose markers lie at or behind `offset`, in the file too.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn truncate_aborted(
        &mut self,
        storage: &mut dyn Storage,
        offset: i64,
    ) -> io::Result<()> {
        if self.aborted.truncate(offset) && self.kept == Kept::InFiles {
            storage.truncate(&self.path(aborted::SUFFIX), self.aborted.written_len())?;
        }
        Ok(())
    }

    /// Bytes of the file of aborted transactions.
    pub(super) fn aborted_len(&self) -> u64 {
        self.aborted.written_len()
    }

    /// Adds to `found` the aborted transactions with records in `from..upper` whose markers stand
    /// here. Returns whether no later segment can have any.
    pub(super) fn collect_aborted(
        &self,
        from: i64,
        upper: i64,
        found: &mut Vec<AbortedTransaction>,
    ) -> bool {
        self.aborted.collect(from, upper, found)
    }

    /// Makes the file of aborted transactions hold all that were found; where the disk is full, all
    /// indexes are kept in memory.
    ///
    /// # Errors
    /// As the medium fails otherwise.
    pub(super) fn write_aborted(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        let written = self.append_aborted(storage);
        self.unless_full(storage, written)
    }

    /// Makes the file of aborted transactions hold all that are known, if indexes are in files.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn append_aborted(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        let bytes = self.aborted.unwritten();
        if !bytes.is_empty() && self.kept == Kept::InFiles {
            let path = self.path(aborted::SUFFIX);
            append_at(storage, &path, self.aborted.written_len(), &bytes)?;
            self.aborted.mark_written();
        }
        Ok(())
    }

    /// The batch that holds `offset`, or the first behind it.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn find(&self, storage: &mut dyn Storage, offset: i64) -> io::Result<Option<Found>> {
        let path = self.log_path();
        let mut scan = self.scan_from(storage, &path, offset);
        while let Some(found) = scan.next()? {
            if found.header.last_offset() >= offset {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first batch whose largest timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn find_timestamp(
        &self,
        storage: &mut dyn Storage,
        timestamp: i64,
    ) -> io::Result<Option<Found>> {
        // Every batch up to the entry below `timestamp` is older than `timestamp`.
        let below = timestamp.checked_sub(1).and_then(|below| self.times.lookup(below));
        let from = below.map_or(self.base, |(_, at)| self.base + i64::from(at));
        let path = self.log_path();
        let mut scan = self.scan_from(storage, &path, from);
        while let Some(found) = scan.next()? {
            if found.header.max_timestamp() >= timestamp {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Appends to a file that should be `len` bytes long, and makes it so first.
fn append_at(storage: &mut dyn Storage, path: &str, len: u64, bytes: &[u8]) -> io::Result<()> {
    storage.truncate(path, len)?;
    storage.append(path, &[bytes])
}
