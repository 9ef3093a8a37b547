//! Where records are to go, as far as it was asked for.

use std::sync::Arc;

use crate::accumulator::NotAppended;
use crate::accumulator::lane::Lane;
use crate::accumulator::topic::Topic;
use crate::error::Refusal;

/// Where a record is to go, whether or not there is such a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    At(i32),
    /// The partition that keyless records stick to now.
    Any,
}

/// Records at the front of a run whose partitions are known: they are asked for outside all
/// locks, and once a record, since a partitioner may have state.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ahead {
    /// Where the first `count` go.
    pub(super) target: Option<Target>,
    pub(super) count: usize,
    /// Where the one behind them goes, if it was asked for.
    pub(super) next: Option<Target>,
    /// For which topic, and of how many partitions.
    pub(super) asked: (u32, u32),
}

impl Ahead {
    pub(super) fn of_one(target: Target, topic: &Topic) -> Self {
        let asked = (topic.index(), topic.partitions());
        Self { target: Some(target), count: 1, next: None, asked }
    }

    /// Where the first record goes, if that was asked for.
    #[inline]
    pub(super) fn front(&self) -> Option<Target> {
        if self.count > 0 { self.target } else { self.next }
    }

    #[inline]
    pub(super) fn holds_for(&self, topic: &Topic) -> bool {
        self.asked == (topic.index(), topic.partitions())
    }

    /// What is left of it after `error`: a record that is refused is not handed in again.
    #[inline]
    pub(super) fn filter(self, error: &NotAppended) -> Self {
        if matches!(error, NotAppended::NoMemory { .. }) { self } else { Self::default() }
    }

    /// The first record was appended.
    #[inline]
    pub(super) fn advance(&mut self) {
        match self.count.checked_sub(1) {
            Some(left) => self.count = left,
            None => self.next = None,
        }
    }
}

impl Target {
    /// Its partition's lane, if there is such a partition.
    #[inline]
    pub(super) fn find(self, topic: &Topic, stripe: usize) -> Result<&Arc<Lane>, i32> {
        let at = match self {
            Self::At(at) => at,
            Self::Any => topic.sticky(stripe).cast_signed(),
        };
        u32::try_from(at).ok().and_then(|lane| topic.lane(lane)).ok_or(at)
    }

    /// The same, or why there is no appending to it.
    pub(super) fn lane(self, topic: &Topic, stripe: usize) -> Result<&Arc<Lane>, NotAppended> {
        self.find(topic, stripe).map_err(|partition| {
            let partitions = topic.partitions().cast_signed();
            NotAppended::Refused(Refusal::UnknownPartition { partition, partitions })
        })
    }
}
