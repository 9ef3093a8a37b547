//! The offsets of the groups of one partition of `__consumer_offsets`, pure: what its log says.

use std::collections::BTreeMap;

use super::records::{CommittedOffset, OffsetKey, OffsetRecord};
use crate::log::marker::TransactionResult;

/// An offset, and where in the log it stands: of two the later holds, whatever the order in which
/// their transactions ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    at: i64,
    committed: CommittedOffset,
}

/// What is known of a partition's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known<'a> {
    /// Nothing.
    Nothing,
    /// It is committed.
    Committed(&'a CommittedOffset),
    /// A transaction is open that has another.
    Unstable,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The term in which the partition is led.
    pub epoch: i32,
    /// All before this offset was applied.
    pub applied: i64,
    offsets: BTreeMap<OffsetKey, Kept>,
    /// Offsets of open transactions, by their producers.
    pending: BTreeMap<i64, BTreeMap<OffsetKey, Kept>>,
}

impl Groups {
    pub(crate) fn new(epoch: i32) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// A record of the log; `producer` is that of the transaction that it belongs to.
    pub(crate) fn apply(&mut self, at: i64, producer: Option<i64>, record: OffsetRecord) {
        match (record, producer) {
            (OffsetRecord::Offset(key, committed), None) => {
                self.offsets.insert(key, Kept { at, committed });
            }
            (OffsetRecord::Offset(key, committed), Some(producer)) => {
                self.pending.entry(producer).or_default().insert(key, Kept { at, committed });
            }
            (OffsetRecord::Tombstone(key), _) => {
                self.offsets.remove(&key);
                self.pending.values_mut().for_each(|pending| {
                    pending.remove(&key);
                });
            }
            (OffsetRecord::Unknown, _) => {}
        }
    }

    /// A producer's transaction has ended.
    pub(crate) fn end(&mut self, producer: i64, result: TransactionResult) {
        let Some(pending) = self.pending.remove(&producer) else { return };
        if result == TransactionResult::Abort {
            return;
        }
        for (key, kept) in pending {
            if self.offsets.get(&key).is_none_or(|known| known.at < kept.at) {
                self.offsets.insert(key, kept);
            }
        }
    }

    /// A group's offset; `stable` is whether an open transaction matters.
    pub(crate) fn get(&self, key: &OffsetKey, stable: bool) -> Known<'_> {
        if stable && self.pending.values().any(|pending| pending.contains_key(key)) {
            return Known::Unstable;
        }
        self.offsets.get(key).map_or(Known::Nothing, |kept| Known::Committed(&kept.committed))
    }

    /// All partitions of which a group has an offset.
    pub(crate) fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a OffsetKey> {
        self.offsets.keys().filter(move |key| key.group == group)
    }

    /// Whether the group is known.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        let mut pending = self.pending.values().flat_map(BTreeMap::keys);
        self.of_group(group).next().is_some() || pending.any(|key| key.group == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sordini_protocol::Uuid;

    fn key(partition: i32) -> OffsetKey {
        OffsetKey { group: "g".to_owned(), topic: "t".to_owned(), partition }
    }

    fn offset(partition: i32, offset: i64) -> OffsetRecord {
        let committed = CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            committed_ms: 0,
            expires_ms: None,
            topic_id: Uuid::ZERO,
        };
        OffsetRecord::Offset(key(partition), committed)
    }

    fn found(groups: &Groups, partition: i32) -> Option<i64> {
        match groups.get(&key(partition), false) {
            Known::Committed(committed) => Some(committed.offset),
            _ => None,
        }
    }

    #[test]
    fn offsets_of_a_transaction_count_when_it_is_committed() {
        let mut groups = Groups::new(0);
        groups.apply(0, None, offset(0, 5));
        groups.apply(1, Some(9), offset(0, 7));
        groups.apply(2, Some(8), offset(1, 3));
        assert_eq!((found(&groups, 0), groups.get(&key(0), true)), (Some(5), Known::Unstable));
        groups.end(9, TransactionResult::Commit);
        groups.end(8, TransactionResult::Abort);
        assert_eq!((found(&groups, 0), found(&groups, 1)), (Some(7), None));
        assert_eq!(groups.get(&key(1), true), Known::Nothing);
    }

    #[test]
    fn the_later_record_holds_whenever_its_transaction_ends() {
        let mut groups = Groups::new(0);
        groups.apply(0, Some(9), offset(0, 5));
        groups.apply(1, None, offset(0, 6));
        groups.end(9, TransactionResult::Commit);
        assert_eq!(found(&groups, 0), Some(6));
    }

    #[test]
    fn a_tombstone_takes_pending_offsets_with_it() {
        let mut groups = Groups::new(0);
        groups.apply(0, Some(9), offset(0, 5));
        assert!(groups.has_group("g") && !groups.has_group("h"));
        groups.apply(1, None, OffsetRecord::Tombstone(key(0)));
        groups.end(9, TransactionResult::Commit);
        assert_eq!(found(&groups, 0), None);
        assert!(!groups.has_group("g"));
    }
}
