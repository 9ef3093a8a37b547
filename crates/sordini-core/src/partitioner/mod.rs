//! Which partition a record goes to, by its content alone.
//!
//! A partitioner is pure: it sees the record and the number of partitions, and either names a
//! partition or says [`Choice::Any`]. Spreading the `Any`s, one partition at a time so that batches
//! fill, is the accumulator's work, which can see how full they are.

mod murmur2;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use murmur2::murmur2;

use crate::config::{Config, PartitionerKind};

/// A partitioner's word on one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "every caller has to handle every choice")]
pub enum Choice {
    /// This partition, from 0. One that does not exist fails the send.
    Partition(i32),
    /// No preference: the accumulator spreads such records evenly, in runs that fill batches.
    Any,
}

/// What a partitioner may look at: one record, not yet encoded.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Keyed<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The key; `Some` of nothing is a key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

impl<'a> Keyed<'a> {
    /// The parts of a record that a partitioner may look at.
    #[must_use]
    pub const fn new(topic: &'a str, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { topic, key, value }
    }
}

/// Chooses partitions. Called on the sender's thread for each record without an explicit
/// partition, before any lock is taken: it should neither block nor allocate.
pub trait Partitioner: Send + Sync {
    /// The choice for one record of a topic that has `partitions` of them, at least one.
    ///
    /// A partitioner that gives equal keys equal partitions keeps each key in order, until the
    /// number of partitions changes.
    fn partition(&self, record: Keyed<'_>, partitions: u32) -> Choice;
}

impl<P: Partitioner + ?Sized> Partitioner for Arc<P> {
    fn partition(&self, record: Keyed<'_>, partitions: u32) -> Choice {
        (**self).partition(record, partitions)
    }
}

impl fmt::Debug for dyn Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitioner")
    }
}

/// Java's default: a key, even an empty one, goes to `murmur2(key) mod partitions`; keyless
/// records go to any.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Murmur2;

impl Partitioner for Murmur2 {
    fn partition(&self, record: Keyed<'_>, partitions: u32) -> Choice {
        match record.key {
            Some(key) => for_key(key, partitions),
            None => Choice::Any,
        }
    }
}

/// Java's `partitioner.ignore.keys=true`: every record goes to any partition.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct IgnoreKeys;

impl Partitioner for IgnoreKeys {
    fn partition(&self, _: Keyed<'_>, _: u32) -> Choice {
        Choice::Any
    }
}

/// Each record of a topic goes to the next partition, keys ignored. Even counts are bought with
/// small batches; the default spreads bytes as evenly with full ones.
///
/// Topics count apart as long as their hashes differ in six bits; those that share a counter
/// still visit all partitions, not always in turn.
#[derive(Debug)]
pub struct RoundRobin {
    next: [AtomicU32; Self::COUNTERS],
}

impl RoundRobin {
    const COUNTERS: usize = 64;

    /// Starts at partition 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: [const { AtomicU32::new(0) }; Self::COUNTERS] }
    }
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl Partitioner for RoundRobin {
    fn partition(&self, record: Keyed<'_>, partitions: u32) -> Choice {
        let counter = murmur2(record.topic.as_bytes()).unsigned_abs() as usize % Self::COUNTERS;
        let turn = self.next[counter].fetch_add(1, Ordering::Relaxed);
        turn.checked_rem(partitions).map_or(Choice::Any, within)
    }
}

/// The built-in partitioner that the settings name.
#[must_use]
pub fn from_config(config: &Config) -> Arc<dyn Partitioner> {
    match config.partitioner_class {
        PartitionerKind::RoundRobin => Arc::new(RoundRobin::new()),
        PartitionerKind::Default if config.partitioner_ignore_keys => Arc::new(IgnoreKeys),
        PartitionerKind::Default => Arc::new(Murmur2),
    }
}

/// Java's `BuiltInPartitioner.partitionForKey`: the hash without its sign bit, modulo the count.
#[must_use]
pub fn for_key(key: &[u8], partitions: u32) -> Choice {
    let hash = murmur2(key).cast_unsigned() & 0x7fff_ffff;
    hash.checked_rem(partitions).map_or(Choice::Any, within)
}

fn within(partition: u32) -> Choice {
    i32::try_from(partition).map_or(Choice::Any, Choice::Partition)
}

#[cfg(test)]
mod tests;
