//! What a log held when its broker was stopped in order, so that what it has lost since is seen. A
//! file that was cut short, emptied or removed can't tell that by itself.

use std::io;

use super::aborted;
use super::batch::{HEADER_LEN, Header};
use super::epochs::LeaderEpochs;
use super::scan::{Depth, Scan};
use super::segment::{self, Segment};
use super::{LogError, PartitionLog};
use crate::storage::{self, Storage};

/// What a log held when it was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Its first offset.
    pub start: i64,
    /// The offset behind the last one.
    pub end: i64,
    /// Bytes of all segments, and of their indexes of aborted transactions: one that is gone looks
    /// like that of a segment in which nothing was aborted.
    pub bytes: u64,
}

/// Records that a log held when it was closed, and that it holds no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The segment's file that ends, or goes on, before the first of them; the file that is not there,
    /// if it was the log's first.
    pub file: String,
    /// The byte of it where they would stand.
    pub position: u64,
    /// The offset of the first.
    pub from: i64,
    /// The offset behind the last that followed it without a gap.
    pub to: i64,
    /// How many offsets are lost, those behind a gap included.
    pub offsets: u64,
}

/// The most offsets that are skipped: no log loses so many, and each batch of them takes a file.
const SKIP_MAX: i64 = 1 << 40;

/// Bytes of the log in the folder `dir`, as [`Closed`] counts them.
///
/// # Errors
/// As the medium fails.
pub(crate) fn bytes_in(storage: &mut dyn Storage, dir: &str) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in storage.list(dir)? {
        let is_counted = |suffix| segment::offset_of(&entry.name, suffix).is_some();
        if is_counted(".log") || is_counted(aborted::SUFFIX) {
            bytes += storage.len(&storage::join(dir, &entry.name))?.unwrap_or(0);
        }
    }
    Ok(bytes)
}

/// Whether the log in the folder `dir` holds what it held when it was closed, as far as opening it
/// would find.
///
/// # Errors
/// As the medium fails.
pub(crate) fn is_as_closed(
    storage: &mut dyn Storage,
    dir: &str,
    closed: &Closed,
) -> io::Result<bool> {
    if bytes_in(storage, dir)? != closed.bytes {
        return Ok(false);
    }
    let entries = storage.list(dir)?;
    let bases: Vec<i64> =
        entries.iter().filter_map(|entry| segment::offset_of(&entry.name, ".log")).collect();
    let mut end = bases.first().copied().unwrap_or(0);
    for (i, base) in bases.iter().copied().enumerate() {
        let mut segment = Segment::new(dir, base, 0);
        let has_indexes = segment.load_indexes(storage)?;
        let next = bases.get(i + 1).copied();
        if next.is_some() && has_indexes {
            continue;
        }
        match segment.sound_end(storage, has_indexes, next.unwrap_or(i64::MAX))? {
            Some(to) => end = to,
            None => return Ok(false),
        }
    }
    Ok(end == closed.end)
}

impl Segment {
    /// Puts a batch without records at the end, so that offset `next` follows, if a batch can.
    ///
    /// # Errors
    /// As the medium fails.
    fn reach(
        &mut self,
        storage: &mut dyn Storage,
        next: i64,
        epochs: &LeaderEpochs,
    ) -> io::Result<()> {
        let path = self.log_path();
        let mut scan = self.scan_from(storage, &path, next.saturating_sub(1));
        while scan.next()?.is_some() {}
        let (position, end) = (scan.position(), scan.next_offset());
        let Ok(offsets) = i32::try_from(next.saturating_sub(end)) else { return Ok(()) };
        if position != self.size || offsets <= 0 || self.relative(next - 1).is_none() {
            return Ok(());
        }
        let mut header = Header::empty(offsets);
        header.assign(end, epochs.epoch_of(end).unwrap_or(-1));
        storage.append(&path, &[header.bytes()])?;
        self.note(&header, HEADER_LEN as u64);
        self.finish_indexes(storage)?;
        self.sync_files(storage)
    }
}

impl PartitionLog {
    /// What a log that was closed holds.
    #[must_use]
    pub fn closed(&self) -> Closed {
        let aborted: u64 = self.segments.iter().map(Segment::aborted_len).sum();
        Closed { start: self.log_start, end: self.log_end, bytes: self.size() + aborted }
    }

    /// What of offsets `from..end` is lost, where all of them were there: every batch is looked at.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn missing(
        &self,
        storage: &mut dyn Storage,
        from: i64,
        end: i64,
    ) -> Result<Option<Lost>, LogError> {
        self.find_missing(storage, from, end).map_err(|e| self.storage_error(e))
    }

    fn find_missing(
        &self,
        storage: &mut dyn Storage,
        from: i64,
        end: i64,
    ) -> io::Result<Option<Lost>> {
        let mut lost: Option<Lost> = None;
        let mut next = from;
        let mut gap = |file: String, position, from: i64, to: i64| {
            let lost = lost.get_or_insert(Lost { file, position, from, to: from, offsets: 0 });
            if lost.to == from {
                lost.to = to;
            }
            lost.offsets = lost.offsets.saturating_add(to.abs_diff(from));
        };
        let mut before: Option<&Segment> = None;
        for segment in &self.segments {
            let base = segment.base().min(end);
            if base > next {
                let first = || Segment::new(&self.dir, next, 0).log_path();
                let file = before.map_or_else(first, Segment::log_path);
                gap(file, before.map_or(0, |before| before.size), next, base);
                next = base;
            }
            before = Some(segment);
            let path = segment.log_path();
            let (range, bases) = ((0, segment.size), (segment.base(), segment.base()));
            let mut scan = Scan::new(storage, &path, Depth::Headers, range, bases);
            while let Some(found) = scan.next()? {
                let to = found.header.base_offset().min(end);
                if to > next {
                    gap(segment.log_path(), found.position, next, to);
                }
                next = next.max(found.header.last_offset().saturating_add(1));
            }
        }
        if let Some(last) = before
            && next < end
        {
            gap(last.log_path(), last.size, next, end);
        }
        Ok(lost)
    }

    /// Covers the offsets that damage took from between segments, by batches without records: no gap
    /// is found twice, and followers step over it.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn bridge(&mut self, storage: &mut dyn Storage) -> Result<(), LogError> {
        self.ensure_online()?;
        let bases: Vec<i64> = self.segments.iter().skip(1).map(Segment::base).collect();
        let mut pairs = self.segments.iter_mut().zip(bases);
        let done = pairs.try_for_each(|(it, next)| it.reach(storage, next, &self.epochs));
        done.map_err(|e| self.storage_error(e))
    }

    /// Moves the log's end to `end` where it is before that, so that no offset is given out twice,
    /// by batches without records: a reader who stands in what is lost goes on behind them.
    ///
    /// # Errors
    /// As the medium fails.
    pub fn skip_to(
        &mut self,
        storage: &mut dyn Storage,
        end: i64,
        epoch: i32,
        wall_ms: i64,
    ) -> Result<(), LogError> {
        self.ensure_online()?;
        // Nor has a reader who stands before an empty segment anything to go on behind.
        let is_bare = self.segments.last().is_some_and(|segment| segment.size == 0);
        let bare = i64::from(is_bare && self.log_end > self.log_start);
        let end = end.max(self.log_end.saturating_add(bare));
        let end = end.min(self.log_end.saturating_add(SKIP_MAX));
        while self.log_end < end {
            let skipped = i32::try_from(end - self.log_end).unwrap_or(i32::MAX);
            let mut header = Header::empty(skipped);
            header.assign(self.log_end, epoch);
            self.roll_if_due(storage, &header, header.bytes().len() as u64, wall_ms)?;
            self.store(storage, &header, &[], wall_ms)?;
        }
        self.advance_high_watermark(self.log_end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch;

    #[test]
    fn another_implementation_reads_a_batch_without_records() {
        use kafka_protocol::records::RecordBatchDecoder;
        for offsets in [1, 7, i32::MAX] {
            let mut header = Header::empty(offsets);
            header.assign(40, 3);
            assert!(batch::is_sound(header.bytes()));
            assert_eq!(header.last_offset(), 39 + i64::from(offsets));
            let mut bytes = bytes::Bytes::copy_from_slice(header.bytes());
            let set = RecordBatchDecoder::decode(&mut bytes).expect("a batch");
            assert_eq!((set.records.len(), bytes.len()), (0, 0));
        }
    }
}
