//! The broker without its surroundings: no socket, clock, thread or entropy. It is fed with
//! connections, frames and the time, and drained of frames; bytes are kept by a [`Storage`].
//!
//! Kafka processes one request of a connection at a time and answers in order; so does this.

mod connection;
mod ends;
mod housekeeping;
mod inspect;
mod markers;
mod open;
mod quota;
mod topics;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use sordini_protocol::{ErrorCode, Uuid};

use crate::catalog::Catalog;
use crate::cluster::{Node, Replica};
use crate::config::BrokerConfig;
use crate::coordinator::Coordinator;
use crate::faults::Faults;
use crate::log::{PartitionLog, Recovery};
use crate::monitor::Monitor;
use crate::storage::Storage;
use crate::time::{Instant, Now};

use connection::Connection;

pub(crate) use ends::Ends;
pub use inspect::{InspectError, OpenTransaction, PartitionState};
pub(crate) use markers::{AppendedHere, Committed};
pub use open::OpenError;
pub use quota::ProduceQuota;
pub(crate) use topics::{Created, INTERNAL_TOPICS, NewTopic, TopicError, TopicKeeper};
pub(crate) use waiting::{PendingBatch, WaitingCommit, WaitingFetch, WaitingProduce};

/// Names a connection; the caller chooses, and never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the caller is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes, whole frames with their sizes; one request is answered.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// The bytes.
        frame: Bytes,
    },
    /// One request is done that gets no answer.
    Done {
        /// Whose.
        connection: ConnectionId,
    },
    /// Close the connection; the broker has forgotten it.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why, for the log.
        reason: String,
    },
}

/// One partition: its log, and this broker's term as its leader.
#[derive(Debug)]
pub(crate) struct Partition {
    pub log: PartitionLog,
    pub leader_epoch: i32,
    /// Its part in a cluster; a broker on its own leads all it has.
    pub replica: Option<Replica>,
}

impl Partition {
    /// A partition of a broker on its own.
    fn sole(log: PartitionLog, leader_epoch: i32) -> Self {
        Self { log, leader_epoch, replica: None }
    }
}

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub id: Uuid,
    /// Those that this broker has a replica of: on its own, all, from 0 on.
    pub partitions: BTreeMap<i32, Partition>,
}

/// A single-node Kafka-protocol broker, sans I/O.
///
/// Four kinds of methods: *inputs* (`connected`, `disconnected`, `handle_frame`,
/// `handle_timeout`), after each of which [`poll_output`](Self::poll_output) is called until it
/// is empty; *polls* (`poll_output`, `poll_timeout`); *inspection* for tests and tools; and
/// [`close`](Self::close), after which the next open need not scan.
pub struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) catalog: Catalog,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) names: BTreeMap<Uuid, String>,
    pub(crate) faults: Faults,
    pub(crate) monitor: Monitor,
    /// What makes this broker a node of a cluster.
    pub(crate) node: Option<Box<Node>>,
    pub(crate) coordinator: Coordinator,
    /// Counts changes of finalised features, over restarts: clients take the newest.
    pub(crate) features_epoch: i64,
    ids: IdSource,
    /// Verifications that were begun.
    guards: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connections whose next request may be processed.
    runnable: VecDeque<ConnectionId>,
    timers: BTreeSet<(Instant, ConnectionId)>,
    produced: quota::Meter,
    awaiting_sync: BTreeSet<ConnectionId>,
    /// Partitions with batches that are not synced, and so not visible (with `fsync`).
    unsynced: BTreeSet<(Uuid, i32)>,
    /// Bytes that became readable since waiting fetches were last looked at, by partition.
    advanced: BTreeMap<(Uuid, i32), u64>,
    outputs: VecDeque<Output>,
    next_housekeeping: Instant,
    recovered: Vec<(String, Recovery)>,
    checkpointed: BTreeMap<String, i64>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("node_id", &self.config.node_id)
            .field("topics", &self.topics.len())
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Orders faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Asks what was seen.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// The cluster's id, as Kafka writes it.
    #[must_use]
    pub fn cluster_id(&self) -> String {
        self.catalog.cluster_id.to_string()
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Changes where clients are told to connect: known only once a socket is bound.
    pub fn set_advertised(&mut self, host: String, port: u16) {
        self.config.advertised_host = host;
        self.config.advertised_port = port;
    }

    /// What opening found and did, of each partition's folder where there was anything.
    #[must_use]
    pub fn recovered(&self) -> &[(String, Recovery)] {
        &self.recovered
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; a time that has passed
    /// means now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.unsynced.is_empty() {
            // Whatever else has arrived shares the sync: the caller comes here last.
            return Some(Instant(0));
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let node = self.node.as_ref().map(|node| node.next_due());
        let coordinator = self.next_coordinator_due();
        timer.into_iter().chain(node).chain(coordinator).chain([self.next_housekeeping]).min()
    }

    /// Does what is due: answers delayed and waiting requests, syncs and answers what waits for
    /// that, removes old segments.
    pub fn handle_timeout(&mut self, now: Now) {
        self.sync_waiting(now);
        while let Some((at, connection)) = self.timers.first().copied()
            && at <= now.mono
        {
            self.timers.pop_first();
            self.expire(now, connection);
        }
        if self.next_housekeeping <= now.mono {
            self.keep_house(now);
        }
        self.node_timers(now);
        self.coordinator_timers(now);
        self.run(now);
    }

    pub(crate) fn topic_name(&self, id: &Uuid) -> Option<&str> {
        self.names.get(id).map(String::as_str)
    }

    /// A partition that clients may be served from, and its storage.
    pub(crate) fn led(
        &mut self,
        topic: &str,
        index: i32,
    ) -> Result<(&mut Partition, &mut dyn Storage), ErrorCode> {
        let elsewhere = self.leader_elsewhere(topic, index).is_some();
        let code = match elsewhere {
            true => ErrorCode::NotLeaderOrFollower,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        let found = self.partition(topic, index);
        found.filter(|(partition, _)| partition.is_led_here()).ok_or(code)
    }

    /// A partition and the storage that its log is used with.
    pub(crate) fn partition(
        &mut self,
        topic: &str,
        index: i32,
    ) -> Option<(&mut Partition, &mut dyn Storage)> {
        let partition = self.topics.get_mut(topic)?.partitions.get_mut(&index)?;
        Some((partition, self.storage.as_mut()))
    }
}

/// Ids from a seed: the broker has no entropy of its own.
#[derive(Debug)]
pub(crate) struct IdSource(u64);

impl IdSource {
    /// A stream of ids; `starts` keeps two runs on one folder apart.
    pub(crate) fn new(seed: u64, starts: u64) -> Self {
        Self(seed ^ starts.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A random uuid (version 4), never one of those that Kafka reserves.
    pub(crate) fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        // Kafka avoids ids whose text begins with a dash: tools take them for options.
        if Uuid(bytes).to_string().starts_with('-') {
            bytes[0] &= 0x7f;
        }
        Uuid(bytes)
    }
}

#[cfg(test)]
mod tests;
