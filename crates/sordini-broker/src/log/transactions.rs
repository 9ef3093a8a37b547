//! The transactions that hold back a partition's last stable offset: those that are open, and
//! those whose marker is not committed yet (KIP-98).

use std::collections::BTreeMap;

use super::marker::TransactionResult;

/// A transaction that a marker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completed {
    /// Whose it was.
    pub(super) producer_id: i64,
    /// Offset of its first record.
    pub(super) first_offset: i64,
    /// Offset of its marker.
    pub(super) last_offset: i64,
    /// How it ended.
    pub(super) result: TransactionResult,
    /// The last stable offset that its end leaves, if all is committed.
    pub(super) last_stable: i64,
}

/// A partition's transactions, by the offset of their first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transactions {
    /// Open ones, with their producers.
    open: BTreeMap<i64, i64>,
    /// Ended ones, with the offsets of their markers.
    ended: BTreeMap<i64, i64>,
}

impl Transactions {
    pub(super) fn begin(&mut self, producer_id: i64, first_offset: i64) {
        self.open.insert(first_offset, producer_id);
    }

    /// Ends a transaction with a marker at `last_offset`; the result is the last stable offset
    /// that this leaves. The transaction holds the offset back until its marker is committed.
    pub(super) fn end(&mut self, first_offset: i64, last_offset: i64) -> i64 {
        self.open.remove(&first_offset);
        self.ended.insert(first_offset, last_offset);
        self.open.keys().next().copied().unwrap_or(last_offset + 1)
    }

    /// Forgets an open transaction.
    pub(super) fn forget(&mut self, first_offset: i64) {
        self.open.remove(&first_offset);
    }

    /// Lets go of the ended transactions whose markers lie before `offset`: they are committed,
    /// or no longer in the log.
    pub(super) fn settle(&mut self, offset: i64) {
        self.ended.retain(|_, marker| *marker >= offset);
    }

    /// The first offset of a transaction that is open, or whose marker lies at or behind
    /// `high_watermark`.
    pub(super) fn first_unstable(&self, high_watermark: i64) -> Option<i64> {
        let open = self.open.keys().next().copied();
        let ended = self.ended.iter().find(|(_, marker)| **marker >= high_watermark);
        open.into_iter().chain(ended.map(|(first, _)| *first)).min()
    }

    /// All open transactions: producer and first offset.
    pub(super) fn open(&self) -> impl Iterator<Item = (i64, i64)> {
        self.open.iter().map(|(first, producer)| (*producer, *first))
    }
}
