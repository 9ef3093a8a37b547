//! Record batches as a Fetch returns them: which of them are to be seen, and their records.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use sordini_protocol::messages::fetch::AbortedTransaction;
use sordini_protocol::records::{Batch, Batches, ControlType, RecordIter, decompress};

/// The most that a batch may take once it is decompressed, in bytes.
const DECOMPRESSED_MAX: usize = 128 << 20;

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchedRecord {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, or -1 where it has none.
    pub timestamp: i64,
    /// Its key; `None` is null.
    pub key: Option<Bytes>,
    /// Its value; `None` is null.
    pub value: Option<Bytes>,
    /// Its headers in their order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// A batch whose records are to be seen, not yet decoded.
#[derive(Clone, Debug)]
pub(super) struct VisibleBatch {
    pub(super) partition: i32,
    /// Records before this offset were handed out already.
    pub(super) from: i64,
    /// Records from this offset on are not wanted.
    pub(super) end: i64,
    pub(super) span: Bytes,
}

/// What a partition's part of an answer holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// Where to go on.
    pub(super) next: i64,
    /// The batches to decode, in order.
    pub(super) visible: Vec<Bytes>,
}

/// Bytes that are no record batches.
#[derive(Debug)]
pub(super) struct Corrupt {
    pub(super) offset: i64,
    pub(super) cause: String,
}

impl Corrupt {
    fn at(offset: i64, cause: impl ToString) -> Self {
        Self { offset, cause: cause.to_string() }
    }
}

/// Which batches of `records` (what a Fetch from offset `from` returned) are to be seen: those that
/// hold offsets from `from` to before `end`, are no control batches, and are not of a transaction
/// that `aborted` names. With an empty `aborted` every transaction is taken as committed.
///
/// # Errors
/// If the first batch can't be read. A later one that can't be read ends the scan: the next Fetch
/// begins with it.
pub(super) fn scan(
    records: &Bytes,
    from: i64,
    end: i64,
    aborted: Vec<AbortedTransaction>,
) -> Result<Scan, Corrupt> {
    let mut aborted = Aborted::new(aborted);
    let mut scan = Scan { next: from, visible: Vec::new() };
    let mut batches = Batches::new(records);
    for batch in batches.by_ref() {
        let seen = batch.map_err(|error| Corrupt::at(scan.next, error)).and_then(|batch| {
            let base = batch.header().base_offset;
            let last = batch.header().last_offset().filter(|last| *last < i64::MAX);
            let last = last.ok_or_else(|| Corrupt::at(base, "its last offset overflows"))?;
            let visible = aborted.passes(&batch, last)?;
            Ok((batch, last, visible && last >= from && base < end))
        });
        match seen {
            Ok((batch, last, visible)) => {
                scan.next = scan.next.max(last + 1);
                if visible {
                    scan.visible.push(records.slice_ref(batch.bytes()));
                }
            }
            Err(_) if scan.next > from => return Ok(scan),
            Err(corrupt) => return Err(corrupt),
        }
    }
    if !records.is_empty() && scan.next == from {
        let cause = match batches.partial().len() {
            0 => "the broker returned only records before it".to_owned(),
            bytes => format!("the broker returned {bytes} bytes of a batch, and not the rest"),
        };
        return Err(Corrupt::at(from, cause));
    }
    Ok(scan)
}

/// The aborted transactions of one answer (KIP-98): which are open where the scan stands.
struct Aborted {
    /// By first offset, the next one last.
    to_come: Vec<AbortedTransaction>,
    open: BTreeSet<i64>,
}

impl Aborted {
    fn new(mut list: Vec<AbortedTransaction>) -> Self {
        list.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
        Self { to_come: list, open: BTreeSet::new() }
    }

    /// Is the batch to be seen?
    fn passes(&mut self, batch: &Batch<'_>, last: i64) -> Result<bool, Corrupt> {
        let header = batch.header();
        while self.to_come.last().is_some_and(|one| one.first_offset <= last) {
            self.open.extend(self.to_come.pop().map(|one| one.producer_id));
        }
        if !header.is_control() {
            return Ok(!header.is_transactional() || !self.open.contains(&header.producer_id));
        }
        if self.open.contains(&header.producer_id) && is_abort(batch)? {
            self.open.remove(&header.producer_id);
        }
        Ok(false)
    }
}

/// Does a control batch end a transaction by aborting it?
fn is_abort(batch: &Batch<'_>) -> Result<bool, Corrupt> {
    let base = batch.header().base_offset;
    let corrupt = |error| Corrupt::at(base, error);
    batch.verify_crc().map_err(corrupt)?;
    let records = batch.decompress(DECOMPRESSED_MAX).map_err(corrupt)?;
    match records.iter().next() {
        Some(marker) => Ok(marker.map_err(corrupt)?.control_type() == Some(ControlType::Abort)),
        None => Ok(false),
    }
}

/// The records of a batch that are to be seen.
///
/// # Errors
/// If its checksum, its compression or a record is wrong.
pub(super) fn decode(batch: &VisibleBatch) -> Result<Vec<FetchedRecord>, Corrupt> {
    let whole = Batch::parse(&batch.span).map_err(|error| Corrupt::at(batch.from, error))?;
    let header = whole.header();
    let corrupt = |error| Corrupt::at(header.base_offset, error);
    whole.verify_crc().map_err(corrupt)?;
    if header.records_count == 0 {
        // What compaction leaves of a batch whose records are all gone.
        return Ok(Vec::new());
    }
    let codec = header.compression().map_err(corrupt)?;
    let body = decompress(codec, whole.body(), DECOMPRESSED_MAX);
    let body = match body.map_err(|error| Corrupt::at(header.base_offset, error))? {
        Cow::Borrowed(body) => batch.span.slice_ref(body),
        Cow::Owned(body) => Bytes::from(body),
    };
    let mut records = Vec::new();
    for record in RecordIter::new(header, &body) {
        let record = record.map_err(corrupt)?;
        if record.offset >= batch.end {
            break;
        }
        if record.offset < batch.from {
            continue;
        }
        let owned = |bytes: &[u8]| body.slice_ref(bytes);
        let headers = record.headers.iter();
        records.push(FetchedRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(owned),
            value: record.value.map(owned),
            headers: headers
                .map(|header| (header.key_lossy().into_owned(), header.value.map(owned)))
                .collect(),
        });
    }
    Ok(records)
}
