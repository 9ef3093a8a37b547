//! A batch's place in its partition's line, by what it waits for.

use crate::batch::BatchId;
use crate::batch::stages::{Compressing, Meta, Ready, Stamped};
use crate::time::Instant;
use crate::wire::batch_header::Stamp;

/// Names a Produce request for as long as the producer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a batch, or the part of one that a split made, within its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// The batch.
    pub batch: BatchId,
    /// Its first record's index: the parts of a split batch share an id.
    pub first: u32,
}

/// A batch between its lane and its outcome.
#[derive(Debug)]
pub enum Slot {
    /// A codec works on it.
    Compressing(Compressing),
    /// It was never sent, or gave its stamp up.
    Ready(Ready),
    /// It was sent, and goes again, not before then.
    Waiting {
        /// The batch.
        batch: Stamped,
        /// The end of its backoff.
        not_before: Instant,
    },
    /// It is in a request that has no answer yet.
    InFlight {
        /// The batch.
        batch: Stamped,
        /// The request.
        request: RequestId,
        /// A byte of the request was written.
        begun: bool,
        /// It was the head of the line when the request left.
        led: bool,
    },
    /// Its records have their outcome, but its request has no answer yet: until that is known, so
    /// is not whether the sequence goes on behind it.
    Expired {
        /// Which it was.
        key: SlotKey,
        /// Its stamp.
        stamp: Stamp,
        /// Its request.
        request: RequestId,
        /// It was the head of the line when the request left.
        led: bool,
    },
    /// It was acknowledged while an older batch is unresolved. It is told and gone, but the broker
    /// counts it among those that it remembers, and so does the window (S4).
    Acknowledged {
        /// Which it was.
        key: SlotKey,
    },
}

impl Meta {
    /// The batch's name within its partition.
    #[must_use]
    pub fn key(&self) -> SlotKey {
        SlotKey { batch: self.id, first: self.records.start }
    }
}

impl Slot {
    /// The batch's name.
    #[must_use]
    pub fn key(&self) -> SlotKey {
        match self {
            Self::Expired { key, .. } | Self::Acknowledged { key } => *key,
            other => other.meta().expect("its records have no outcome yet").key(),
        }
    }

    /// What is known of the batch; `None` once its records have their outcome.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Compressing(batch) => Some(&batch.meta),
            Self::Ready(batch) => Some(&batch.meta),
            Self::Waiting { batch, .. } | Self::InFlight { batch, .. } => Some(&batch.meta),
            Self::Expired { .. } | Self::Acknowledged { .. } => None,
        }
    }

    /// The same, to change.
    pub fn meta_mut(&mut self) -> Option<&mut Meta> {
        match self {
            Self::Compressing(batch) => Some(&mut batch.meta),
            Self::Ready(batch) => Some(&mut batch.meta),
            Self::Waiting { batch, .. } | Self::InFlight { batch, .. } => Some(&mut batch.meta),
            Self::Expired { .. } | Self::Acknowledged { .. } => None,
        }
    }

    /// Does a request that carries it lack its answer?
    #[must_use]
    pub fn in_flight(&self) -> bool {
        matches!(self, Self::InFlight { .. } | Self::Expired { .. })
    }

    /// May the broker hold it, or come to hold it, under its present stamp?
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.in_flight() || self.meta().is_some_and(|meta| meta.ambiguous)
    }
}
