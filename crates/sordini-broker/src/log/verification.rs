//! Which transactional producers a partition is having verified: whether the partition is in their
//! transaction is known to the transaction's coordinator only (KIP-890).
//!
//! A batch that would begin a transaction here needs a [`Guard`] that was made before the
//! coordinator was asked, and that no marker has ended since: an answer that is older than the
//! transaction's end must not begin it again.

use std::collections::BTreeMap;

/// Producers that are remembered of each partition; beyond it the oldest is forgotten.
const VERIFICATIONS_MAX: usize = 100_000;

/// One verification. Its number must be used once in the broker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(pub u64);

/// What has to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToVerify {
    /// The producer.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The first sequence number of its batch.
    pub base_sequence: i32,
    /// Whether each of its transactions has an epoch of its own (transaction version 2).
    pub bumps_epoch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verification {
    guard: Guard,
    pub(super) lowest_sequence: i32,
    pub(super) bumps_epoch: bool,
    epoch: i16,
    since_ms: i64,
}

/// A partition's verifications, by producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verifications {
    entries: BTreeMap<i64, Verification>,
}

impl Verifications {
    /// Begins a verification, unless one is under way; the guard is of that which is.
    ///
    /// The lowest sequence number of the epoch is kept: a later batch must not be taken before an
    /// earlier one whose verification failed and that will be sent again.
    pub(super) fn start(&mut self, wanted: &ToVerify, fresh: Guard, wall_ms: i64) -> Guard {
        if self.entries.len() >= VERIFICATIONS_MAX
            && !self.entries.contains_key(&wanted.producer_id)
        {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.since_ms);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.entries.remove(&id);
            }
        }
        let entry = self.entries.entry(wanted.producer_id).or_insert(Verification {
            guard: fresh,
            lowest_sequence: wanted.base_sequence,
            bumps_epoch: wanted.bumps_epoch,
            epoch: wanted.producer_epoch,
            since_ms: wall_ms,
        });
        if wanted.producer_epoch > entry.epoch {
            (entry.epoch, entry.lowest_sequence) = (wanted.producer_epoch, wanted.base_sequence);
        } else if wanted.producer_epoch == entry.epoch {
            entry.lowest_sequence = entry.lowest_sequence.min(wanted.base_sequence);
        }
        entry.guard
    }

    pub(super) fn get(&self, producer_id: i64) -> Option<&Verification> {
        self.entries.get(&producer_id)
    }

    /// Whether the guard is that of the producer's verification.
    pub(super) fn holds(&self, producer_id: i64, guard: Option<Guard>) -> bool {
        let entry = self.entries.get(&producer_id);
        entry.is_some_and(|entry| guard == Some(entry.guard))
    }

    /// A batch began the transaction, or went on with it: there is nothing to verify any more.
    pub(super) fn data(&mut self, producer_id: i64) {
        self.entries.remove(&producer_id);
    }

    /// A marker ended the transaction that was to be verified, unless it is that of the
    /// transaction before: with an epoch for each transaction they can be told apart.
    pub(super) fn marker(&mut self, producer_id: i64, epoch: i16) {
        let next = |entry: &Verification| entry.bumps_epoch && entry.epoch == epoch;
        if self.entries.get(&producer_id).is_some_and(|entry| !next(entry)) {
            self.entries.remove(&producer_id);
        }
    }

    /// Forgets those that were begun `max_ms` ago and never finished.
    pub(super) fn expire(&mut self, wall_ms: i64, max_ms: i64) {
        self.entries.retain(|_, entry| wall_ms - entry.since_ms < max_ms);
    }
}
