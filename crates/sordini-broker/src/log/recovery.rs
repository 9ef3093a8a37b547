//! Opening a log: what a crash left is checked, cut back to its sound prefix, or where the log was
//! closed each segment to its own, and its indexes and producer state rebuilt. Bytes on disk are
//! taken as hostile.

use std::io;

use sordini_protocol::mutant;

use super::aborted::{self, AbortedTransaction};
use super::epochs::{self, LeaderEpochs};
use super::medium::Medium;
use super::producers::Producers;
use super::scan::{Depth, Scan};
use super::segment::{Cut, Damage, Segment, offset_of};
use super::{LogError, LogOptions, Lost, PartitionLog, snapshot};
use crate::storage::{self, Storage};

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments whose every byte was checked.
    pub scanned: usize,
    /// Bytes cut off because they were not sound.
    pub truncated_bytes: u64,
    /// Where they were cut off.
    pub cut: Option<Cut>,
    /// What the log held when its broker was stopped in order, and holds no more.
    pub lost: Option<Lost>,
    /// Segments whose aborted transactions were found anew.
    pub reindexed: usize,
    /// Segments removed because what precedes them was cut back.
    pub removed_segments: usize,
    /// Snapshots that were damaged.
    pub damaged_snapshots: usize,
}

/// How a log was left by who had it open last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// It was not closed: what was not synced may be torn, and nothing sound follows that.
    #[default]
    Open,
    /// It was closed in order, so that all of it is on disk.
    Closed,
    /// It was closed in order, and was changed since, or may have been: every byte is checked. What
    /// damage left stands, behind it as well as before it.
    Changed,
}

impl PartitionLog {
    /// Opens the log in the folder `dir`, which is created if it is not there.
    ///
    /// `recovery_point`: all before it is known to be on disk where the log was left open. The high
    /// watermark is set to the log's end.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn open(
        storage: &mut dyn Storage,
        dir: &str,
        options: LogOptions,
        recovery_point: i64,
        left: Left,
        wall_ms: i64,
    ) -> Result<(Self, Recovery), LogError> {
        let failed = |source| LogError::Storage { dir: dir.to_owned(), source };
        storage.create_dir(dir).map_err(failed)?;
        let mut log = Self {
            dir: dir.to_owned(),
            options,
            segments: Vec::new(),
            producers: Producers::default(),
            epochs: LeaderEpochs::default(),
            log_start: 0,
            log_end: 0,
            high_watermark: 0,
            recovery_point: recovery_point.max(0),
            snapshot_at: -1,
            dirty: false,
            medium: Medium::Works,
            offline: None,
        };
        let mut report = Recovery::default();
        log.recover(storage, left, wall_ms, &mut report).map_err(failed)?;
        if mutant!(M30) {
            log.producers.forget(None);
        }
        if mutant!(M33) {
            for segment in &mut log.segments {
                segment.forget_aborted(storage).map_err(failed)?;
            }
        }
        Ok((log, report))
    }

    fn recover(
        &mut self,
        storage: &mut dyn Storage,
        left: Left,
        wall_ms: i64,
        report: &mut Recovery,
    ) -> io::Result<()> {
        self.load_epochs(storage)?;
        let epochs_before = self.epochs.clone();
        let (bases, snapshots) = self.list(storage)?;
        let suspect = self.load_segments(storage, &bases, left, wall_ms, report)?;
        if self.segments.is_empty() {
            let first = Segment::new(&self.dir, bases.first().copied().unwrap_or(0), wall_ms);
            first.create_files(storage)?;
            self.log_end = first.base();
            self.segments.push(first);
        }
        self.log_start = self.segments.first().map_or(0, Segment::base);
        self.high_watermark = self.log_end;
        self.epochs.truncate_end(self.log_end);
        self.epochs.truncate_start(self.log_start);
        if self.epochs != epochs_before {
            self.write_epochs(storage)?;
        }
        if let Some(suspect) = suspect {
            self.reindex_aborted(storage, &snapshots, suspect, report)?;
        }
        self.load_producers(storage, &snapshots, report)?;
        self.producers.seen_all(wall_ms);
        if self.options.durable {
            self.settle(storage)?;
        }
        self.recovery_point = self.recovery_point.min(self.log_end);
        Ok(())
    }

    /// Syncs what a killed broker left in the system's memory: acknowledgements of retries must
    /// not promise what the disk does not hold.
    fn settle(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        for segment in &self.segments {
            if segment.base() >= self.recovery_point || self.log_end > self.recovery_point {
                segment.sync_files(storage)?;
            }
        }
        storage.sync_dir(&self.dir)?;
        storage.sync_dir("")
    }

    fn load_epochs(&mut self, storage: &mut dyn Storage) -> io::Result<()> {
        let path = storage::join(&self.dir, epochs::FILE);
        if storage.len(&path)?.is_none_or(|len| len > epochs::FILE_MAX) {
            return Ok(());
        }
        let bytes = storage::read_all(storage, &path, epochs::FILE_MAX)?;
        // A damaged file is as good as none: the batches carry their epochs.
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        self.epochs = LeaderEpochs::parse(text).unwrap_or_default();
        Ok(())
    }

    /// The bases of segments and the offsets of snapshots, ascending; leftovers are removed.
    pub(super) fn list(&mut self, storage: &mut dyn Storage) -> io::Result<(Vec<i64>, Vec<i64>)> {
        let entries = storage.list(&self.dir)?;
        let bases: Vec<i64> =
            entries.iter().filter_map(|entry| offset_of(&entry.name, ".log")).collect();
        let mut snapshots = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let path = storage::join(&self.dir, &entry.name);
            let index = offset_of(&entry.name, ".index");
            let orphan = index
                .or_else(|| offset_of(&entry.name, ".timeindex"))
                .or_else(|| offset_of(&entry.name, aborted::SUFFIX))
                .is_some_and(|base| !bases.contains(&base));
            let widowed = offset_of(&entry.name, snapshot::WINDOW_SUFFIX).is_some_and(|at| {
                let kafkas = super::segment::file_name(at, snapshot::SUFFIX);
                entries.iter().all(|entry| entry.name != kafkas)
            });
            if orphan || widowed || entry.name.ends_with(".tmp") {
                storage.remove(&path)?;
            }
            snapshots.extend(offset_of(&entry.name, snapshot::SUFFIX));
        }
        Ok((bases, snapshots))
    }

    /// Loads or scans the segments. The result is the base of the first one that was scanned as a
    /// whole and holds control batches: from there on aborted transactions have to be found anew.
    fn load_segments(
        &mut self,
        storage: &mut dyn Storage,
        bases: &[i64],
        left: Left,
        wall_ms: i64,
        report: &mut Recovery,
    ) -> io::Result<Option<i64>> {
        let mut suspect = None;
        for (i, base) in bases.iter().copied().enumerate() {
            let next = bases.get(i + 1).copied();
            let mut segment = Segment::new(&self.dir, base, wall_ms);
            let settled = match left {
                Left::Open => next.is_some_and(|next| next <= self.recovery_point),
                Left::Closed => true,
                Left::Changed => false,
            };
            let whole = settled && segment.load_indexes(storage)?;
            if let Some(next) = next
                && whole
            {
                segment.truncate_aborted(storage, next)?;
                self.segments.push(segment);
                self.log_end = next;
                continue;
            }
            let epochs = &mut self.epochs;
            let mut has_control = false;
            let limit = next.filter(|_| left != Left::Open).unwrap_or(i64::MAX);
            let (end, cut) = segment.recover(storage, whole, limit, |header| {
                epochs.assign(header.leader_epoch(), header.base_offset());
                has_control |= header.is_control();
            })?;
            if whole {
                segment.truncate_aborted(storage, end)?;
            } else {
                segment.forget_aborted(storage)?;
                suspect = suspect.or(has_control.then_some(base));
            }
            report.scanned += usize::from(!whole);
            report.truncated_bytes += cut.as_ref().map_or(0, |cut| cut.bytes);
            self.segments.push(segment);
            self.log_end = end;
            let is_cut = cut.is_some();
            if let Some(mut cut) = cut {
                if next.is_some() {
                    cut.damage = Damage::Within;
                }
                report.cut = Some(cut);
            }
            if left == Left::Open && next.is_some_and(|next| is_cut || next < end) {
                // What follows was not known to be on disk: the log is the prefix that is sound.
                for later in &bases[i + 1..] {
                    Segment::new(&self.dir, *later, wall_ms).remove_files(storage)?;
                    report.removed_segments += 1;
                }
                break;
            }
            if let (Some(next), Some(segment)) = (next, self.segments.last_mut()) {
                segment.finish_indexes(storage)?;
                self.log_end = next.max(end);
            }
        }
        Ok(suspect)
    }

    /// Finds the aborted transactions of the segments from `suspect` on anew. They may have begun
    /// in earlier segments: what was open there is known from a snapshot, or from the batches.
    fn reindex_aborted(
        &mut self,
        storage: &mut dyn Storage,
        snapshots: &[i64],
        suspect: i64,
        report: &mut Recovery,
    ) -> io::Result<()> {
        let mut from = self.log_start;
        let mut producers = Producers::default();
        let usable = |at: &i64| (self.log_start..=suspect).contains(at);
        for at in snapshots.iter().rev().copied().filter(usable) {
            if let Some(known) = self.read_snapshot(storage, at)? {
                (from, producers) = (at, known);
                break;
            }
        }
        for i in 0..self.segments.len() {
            let aborted = replay(storage, &self.segments, i, from, &mut producers)?;
            let Some(segment) = self.segments.get_mut(i).filter(|s| s.base() >= suspect) else {
                continue;
            };
            segment.forget_aborted(storage)?;
            aborted.into_iter().for_each(|aborted| segment.note_aborted(aborted));
            segment.write_aborted(storage)?;
            report.reindexed += 1;
        }
        Ok(())
    }

    pub(super) fn load_producers(
        &mut self,
        storage: &mut dyn Storage,
        snapshots: &[i64],
        report: &mut Recovery,
    ) -> io::Result<()> {
        let mut from = self.log_start;
        for at in snapshots.iter().rev().copied() {
            let of_segment = self.segments.iter().any(|segment| segment.base() == at);
            if at > self.log_end || at < self.log_start || (self.snapshot_at >= 0 && !of_segment) {
                // Behind the end, before the start, or left by an earlier clean shutdown.
                self.remove_snapshot(storage, at)?;
            } else if self.snapshot_at < 0 {
                match self.read_snapshot(storage, at)? {
                    Some(producers) => {
                        self.producers = producers;
                        self.snapshot_at = at;
                        from = at;
                    }
                    None => {
                        report.damaged_snapshots += 1;
                        self.remove_snapshot(storage, at)?;
                    }
                }
            }
        }
        for i in 0..self.segments.len() {
            replay(storage, &self.segments, i, from, &mut self.producers)?;
        }
        Ok(())
    }

    fn read_snapshot(&self, storage: &mut dyn Storage, at: i64) -> io::Result<Option<Producers>> {
        let path = |suffix| storage::join(&self.dir, &super::segment::file_name(at, suffix));
        let Some(bytes) = read_small(storage, &path(snapshot::SUFFIX))? else { return Ok(None) };
        let Some(mut producers) = snapshot::decode(&bytes) else { return Ok(None) };
        if let Some(bytes) = read_small(storage, &path(snapshot::WINDOW_SUFFIX))? {
            snapshot::widen(&mut producers, &bytes);
        }
        Ok(Some(producers))
    }

    /// Removes a producer snapshot.
    pub(super) fn remove_snapshot(&self, storage: &mut dyn Storage, at: i64) -> io::Result<()> {
        for suffix in [snapshot::SUFFIX, snapshot::WINDOW_SUFFIX] {
            let name = super::segment::file_name(at, suffix);
            storage.remove(&storage::join(&self.dir, &name))?;
        }
        Ok(())
    }
}

/// Takes the producers through the batches of one segment from offset `from` on. The result is
/// what was aborted in it.
fn replay(
    storage: &mut dyn Storage,
    segments: &[Segment],
    at: usize,
    from: i64,
    producers: &mut Producers,
) -> io::Result<Vec<AbortedTransaction>> {
    let mut aborted = Vec::new();
    let ended_before = segments.get(at + 1).is_some_and(|next| next.base() <= from);
    let Some(segment) = segments.get(at).filter(|_| !ended_before) else { return Ok(aborted) };
    let path = segment.log_path();
    let (range, bases) = ((0, segment.size), (segment.base(), segment.base()));
    let mut scan = Scan::new(storage, &path, Depth::Headers, range, bases);
    while let Some(found) = scan.next()? {
        if found.header.base_offset() >= from {
            let marker = scan.marker(&found)?;
            aborted.extend(producers.note(&found.header, marker.as_ref(), 0));
        }
    }
    Ok(aborted)
}

fn read_small(storage: &mut dyn Storage, path: &str) -> io::Result<Option<bytes::Bytes>> {
    match storage.len(path)? {
        Some(len) if len <= snapshot::FILE_MAX => storage::read_all(storage, path, len).map(Some),
        _ => Ok(None),
    }
}
