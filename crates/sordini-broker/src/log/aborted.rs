//! A segment's index of aborted transactions, in the format of Kafka's `.txnindex` file: 34 bytes
//! for each abort marker in the segment, in the order of the markers. A transaction may have begun
//! in an earlier segment.

/// Ends the file's name.
pub const SUFFIX: &str = ".txnindex";
/// Bytes of an entry.
pub const ENTRY_LEN: usize = 34;
/// The largest file that is read: a segment of nothing but markers has no larger one.
pub const FILE_MAX: u64 = 1024 * 1024 * 1024;

const VERSION: [u8; 2] = 0i16.to_be_bytes();

/// One aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
    /// The last stable offset that its end left: nothing that was aborted later can have a record
    /// before it.
    pub last_stable: i64,
}

/// The aborted transactions of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AbortedIndex {
    /// Ascending by `last_offset`.
    entries: Vec<AbortedTransaction>,
    /// Entries that the file has already.
    written: usize,
}

impl AbortedIndex {
    /// Adds a transaction whose marker lies behind those of all others.
    pub(super) fn push(&mut self, aborted: AbortedTransaction) {
        if self.entries.last().is_none_or(|last| last.last_offset < aborted.last_offset) {
            self.entries.push(aborted);
        }
    }

    /// Drops the entries whose markers lie at or behind `offset`. Returns whether there were any.
    pub(super) fn truncate(&mut self, offset: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.last_offset < offset);
        self.written = self.written.min(self.entries.len());
        before != self.entries.len()
    }

    /// Adds to `found` what was aborted and has records in `from..upper`. Returns whether no later
    /// segment can have any.
    pub(super) fn collect(
        &self,
        from: i64,
        upper: i64,
        found: &mut Vec<AbortedTransaction>,
    ) -> bool {
        for entry in &self.entries {
            if entry.last_offset >= from && entry.first_offset < upper {
                found.push(*entry);
            }
            if entry.last_stable >= upper {
                return true;
            }
        }
        false
    }

    /// Reads a file's bytes; `None` if they can't be the index of a segment that begins at `base`.
    #[must_use]
    pub(super) fn parse(bytes: &[u8], base: i64) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_LEN>();
        let entries: Option<Vec<_>> = chunks.iter().map(parse_entry).collect();
        let entries = entries.filter(|_| rest.is_empty())?;
        let sound = |entry: &AbortedTransaction| {
            entry.producer_id >= 0
                && (0..entry.last_offset).contains(&entry.first_offset)
                && entry.last_offset >= base
                && entry.last_stable >= 0
        };
        let grows = entries.is_sorted_by(|a, b| a.last_offset < b.last_offset);
        let written = entries.len();
        (grows && entries.iter().all(sound)).then_some(Self { entries, written })
    }

    /// The bytes of the entries that the file lacks.
    #[must_use]
    pub(super) fn unwritten(&self) -> Vec<u8> {
        let missing = self.entries.get(self.written..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(missing.len() * ENTRY_LEN);
        for entry in missing {
            bytes.extend_from_slice(&VERSION);
            for field in
                [entry.producer_id, entry.first_offset, entry.last_offset, entry.last_stable]
            {
                bytes.extend_from_slice(&field.to_be_bytes());
            }
        }
        bytes
    }

    /// Bytes that the file should have before the unwritten entries.
    #[must_use]
    pub(super) fn written_len(&self) -> u64 {
        (self.written * ENTRY_LEN) as u64
    }

    /// Notes that the file has all entries.
    pub(super) fn mark_written(&mut self) {
        self.written = self.entries.len();
    }

    /// Notes that the file has none.
    pub(super) fn mark_unwritten(&mut self) {
        self.written = 0;
    }
}

fn parse_entry(bytes: &[u8; ENTRY_LEN]) -> Option<AbortedTransaction> {
    let fields = bytes.strip_prefix(&VERSION)?;
    let mut fields = fields.as_chunks::<8>().0.iter().map(|field| i64::from_be_bytes(*field));
    Some(AbortedTransaction {
        producer_id: fields.next()?,
        first_offset: fields.next()?,
        last_offset: fields.next()?,
        last_stable: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(first_offset: i64, last_offset: i64, last_stable: i64) -> AbortedTransaction {
        AbortedTransaction { producer_id: 7, first_offset, last_offset, last_stable }
    }

    fn index(entries: &[AbortedTransaction]) -> AbortedIndex {
        let mut index = AbortedIndex::default();
        entries.iter().for_each(|entry| index.push(*entry));
        index
    }

    #[test]
    fn entries_have_the_bytes_that_kafka_writes() {
        let bytes = index(&[aborted(1, 0x0203, 4)]).unwritten();
        let mut expected = vec![0, 0];
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 7]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 2, 3]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(bytes, expected);
        let mut read = AbortedIndex::parse(&bytes, 0x0203).expect("sound");
        assert_eq!(read.written_len(), 34);
        read.push(aborted(5, 0x0204, 6));
        assert_eq!(read.unwritten().len(), 34);
    }

    #[test]
    fn only_what_overlaps_a_range_is_found_and_the_search_ends_where_it_can() {
        let index = index(&[aborted(0, 10, 5), aborted(20, 30, 31), aborted(25, 40, 41)]);
        let found = |from, upper| {
            let mut found = Vec::new();
            let complete = index.collect(from, upper, &mut found);
            (found.iter().map(|entry| entry.first_offset).collect::<Vec<_>>(), complete)
        };
        assert_eq!(found(0, 5), (vec![0], true));
        assert_eq!(found(10, 20), (vec![0], true));
        assert_eq!(found(11, 26), (vec![20], true));
        assert_eq!(found(31, 100), (vec![25], false));
        assert_eq!(found(41, 100), (vec![], false));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let bytes = index(&[aborted(0, 10, 11), aborted(20, 30, 31)]).unwritten();
        assert!(AbortedIndex::parse(&bytes, 0).is_some());
        assert!(AbortedIndex::parse(&bytes, 11).is_none(), "a marker before the segment");
        assert!(AbortedIndex::parse(&bytes[..67], 0).is_none(), "torn");
        for at in [1, 35] {
            let mut other = bytes.clone();
            other[at] = 1;
            assert!(AbortedIndex::parse(&other, 0).is_none(), "another version");
        }
        let swapped = [&bytes[34..], &bytes[..34]].concat();
        assert!(AbortedIndex::parse(&swapped, 0).is_none(), "backwards");
        let after = index(&[aborted(10, 10, 11)]).unwritten();
        assert!(AbortedIndex::parse(&after, 0).is_none(), "a marker before its transaction");
    }
}
