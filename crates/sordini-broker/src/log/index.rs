//! A segment's two indexes, in the formats of Kafka's `.index` and `.timeindex` files.
//!
//! Offset index: 8 bytes an entry: relative offset of a batch's *last* record, position of that
//! batch. Time index: 12 bytes: the largest timestamp so far, relative offset of the last record
//! of the batch that has it. Both grow strictly; both are sparse (one entry per 4 KiB of log).

/// Bytes of an offset index's entry.
pub const OFFSET_ENTRY_LEN: usize = 8;
/// Bytes of a time index's entry.
pub const TIME_ENTRY_LEN: usize = 12;
/// Entries that fit into Kafka's default `segment.index.bytes` of 10 MiB.
pub const OFFSET_ENTRIES_MAX: usize = 10 * 1024 * 1024 / OFFSET_ENTRY_LEN;
/// Entries of the time index that fit into as much.
pub const TIME_ENTRIES_MAX: usize = 10 * 1024 * 1024 / TIME_ENTRY_LEN;

/// Where batches stand in a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetIndex {
    entries: Vec<(u32, u32)>,
    /// Entries that the file has already.
    written: usize,
}

impl OffsetIndex {
    /// Adds the batch at `position`, whose last offset is `relative` above the segment's base.
    pub fn append(&mut self, relative: u32, position: u32) {
        if self.entries.last().is_none_or(|last| relative > last.0 && position > last.1) {
            self.entries.push((relative, position));
        }
    }

    /// The greatest position that is known to hold a batch which ends at or before `relative`;
    /// 0 if none is known.
    #[must_use]
    pub fn lookup(&self, relative: u32) -> u32 {
        let after = self.entries.partition_point(|entry| entry.0 <= relative);
        after.checked_sub(1).and_then(|i| self.entries.get(i)).map_or(0, |entry| entry.1)
    }

    /// The last entry's position, 0 if there is none.
    #[must_use]
    pub fn last_position(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.1)
    }

    /// Whether a further entry would exceed Kafka's default index size.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= OFFSET_ENTRIES_MAX
    }

    /// Drops the entries of batches at or behind `position`, or ending at or behind `relative`.
    pub fn truncate(&mut self, relative: u32, position: u32) {
        self.entries.retain(|entry| entry.0 < relative && entry.1 < position);
        self.written = self.written.min(self.entries.len());
    }

    /// Reads a file's bytes; `None` if they can't be the index of a segment of `log_len` bytes.
    #[must_use]
    pub fn parse(bytes: &[u8], log_len: u64) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<OFFSET_ENTRY_LEN>();
        let entries: Vec<(u32, u32)> = chunks
            .iter()
            .map(|[a, b, c, d, e, f, g, h]| {
                (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]))
            })
            .collect();
        let grows = entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        let inside = entries.last().is_none_or(|last| u64::from(last.1) < log_len);
        let written = entries.len();
        (rest.is_empty() && grows && inside).then_some(Self { entries, written })
    }

    /// The bytes of the entries that the file lacks, and how many those are.
    #[must_use]
    pub fn unwritten(&self) -> (Vec<u8>, usize) {
        let missing = self.entries.get(self.written..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(missing.len() * OFFSET_ENTRY_LEN);
        for (relative, position) in missing {
            bytes.extend_from_slice(&relative.to_be_bytes());
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        (bytes, missing.len())
    }

    /// Bytes that the file should have before the unwritten entries.
    #[must_use]
    pub fn written_len(&self) -> u64 {
        (self.written * OFFSET_ENTRY_LEN) as u64
    }

    /// Notes that the file has all entries.
    pub fn mark_written(&mut self) {
        self.written = self.entries.len();
    }

    /// Notes that the file has none.
    pub fn mark_unwritten(&mut self) {
        self.written = 0;
    }
}

/// Largest timestamps so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeIndex {
    entries: Vec<(i64, u32)>,
    written: usize,
}

impl TimeIndex {
    /// Adds an entry, if `timestamp` is above all before it.
    pub fn maybe_append(&mut self, timestamp: i64, relative: u32) {
        let grows = match self.entries.last() {
            None => timestamp > super::batch::NO_TIMESTAMP,
            Some(last) => timestamp > last.0 && relative > last.1,
        };
        if grows {
            self.entries.push((timestamp, relative));
        }
    }

    /// The last entry whose timestamp is at most `timestamp`; its relative offset is a place
    /// from where a search for `timestamp` may start.
    #[must_use]
    pub fn lookup(&self, timestamp: i64) -> Option<(i64, u32)> {
        let after = self.entries.partition_point(|entry| entry.0 <= timestamp);
        after.checked_sub(1).and_then(|i| self.entries.get(i)).copied()
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Option<(i64, u32)> {
        self.entries.last().copied()
    }

    /// Whether a further entry would exceed Kafka's default index size; one place is kept for
    /// the entry that closes the segment.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() + 1 >= TIME_ENTRIES_MAX
    }

    /// Drops the entries of batches that end at or behind `relative`.
    pub fn truncate(&mut self, relative: u32) {
        self.entries.retain(|entry| entry.1 < relative);
        self.written = self.written.min(self.entries.len());
    }

    /// Reads a file's bytes; `None` if they can't be a time index.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<TIME_ENTRY_LEN>();
        let entries: Vec<(i64, u32)> = chunks
            .iter()
            .map(|[a, b, c, d, e, f, g, h, i, j, k, l]| {
                let timestamp = i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (timestamp, u32::from_be_bytes([*i, *j, *k, *l]))
            })
            .collect();
        let grows = entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        let written = entries.len();
        (rest.is_empty() && grows).then_some(Self { entries, written })
    }

    /// The bytes of the entries that the file lacks, and how many those are.
    #[must_use]
    pub fn unwritten(&self) -> (Vec<u8>, usize) {
        let missing = self.entries.get(self.written..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(missing.len() * TIME_ENTRY_LEN);
        for (timestamp, relative) in missing {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&relative.to_be_bytes());
        }
        (bytes, missing.len())
    }

    /// Bytes that the file should have before the unwritten entries.
    #[must_use]
    pub fn written_len(&self) -> u64 {
        (self.written * TIME_ENTRY_LEN) as u64
    }

    /// Notes that the file has all entries.
    pub fn mark_written(&mut self) {
        self.written = self.entries.len();
    }

    /// Notes that the file has none.
    pub fn mark_unwritten(&mut self) {
        self.written = 0;
    }
}
