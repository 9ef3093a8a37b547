//! Several brokers, a controller, replication: a cluster, sans I/O. No clock, socket or thread,
//! and the same seed and inputs give the same outputs.
//!
//! A node is a [`Broker`](crate::Broker) with a *view*: the newest image of the metadata that the
//! controller's messages brought it. It answers its clients from that view alone, so a node that
//! is behind or cut off goes on with an old one: its Metadata is stale, and a leader that was
//! deposed goes on taking acks=1 until it hears of it, but commits nothing (acks=all).
//!
//! # What is modelled
//! Followers fetch ([`PeerMessage`]); the high watermark is the least log end over the ISR, and
//! over those that are about to join it (KIP-497); logs that part are cut back by leader epochs
//! (KIP-101, KIP-595); a member of the ISR is meant with its broker epoch (KIP-903); leaders are
//! elected by the controller from the ISR, or uncleanly if that is allowed.
//!
//! # What is not
//! The controller is one and always up. Eligible leader replicas (KIP-966): the last member of an
//! ISR that loses its unsynced data leads again without it. Reassignment of replicas, fetching by
//! consumers from followers (KIP-392), preferred leaders that come back by themselves. A node
//! that restarts registers at once, where Kafka refuses it until its old session is over.

mod admin;
mod controller;
mod elections;
mod follower;
mod image;
mod inspect;
mod leader;
mod node;
mod peer;
mod replica;
#[cfg(feature = "server")]
mod saved;
mod trace;
mod world;

use std::time::Duration;

use sordini_protocol::ErrorCode;

use crate::broker::{Output, TopicError};
use crate::config::BrokerConfig;

pub(crate) use image::{Image, NO_NODE};
pub(crate) use leader::TooFewInSync;
pub(crate) use node::{Found, Node};
pub(crate) use peer::{
    Doubtful, MarkerAnswer, MarkerOrder, MarkerPartition, Message, TransactionAnswer,
    TransactionQuestion,
};
pub use peer::{Peer, PeerMessage};
pub(crate) use replica::Replica;
#[cfg(feature = "server")]
pub(crate) use saved::Revision;
pub use trace::{ClusterTrace, PartitionId};
pub use world::Cluster;

/// A cluster's settings. The defaults of times are Kafka's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// How many nodes: their ids are 1 up to this.
    pub nodes: i32,
    /// What each node is told, but for its id, address and seed.
    pub broker: BrokerConfig,
    /// A node that is silent for as long is fenced, Kafka's `broker.session.timeout.ms`.
    pub session_timeout: Duration,
    /// How often a node tells that it is alive, Kafka's `broker.heartbeat.interval.ms`.
    pub heartbeat: Duration,
    /// A follower that lags for as long leaves the ISR, Kafka's `replica.lag.time.max.ms`.
    pub replica_lag_time_max: Duration,
    /// How long a leader holds a follower's fetch, Kafka's `replica.fetch.wait.max.ms`.
    pub replica_fetch_wait: Duration,
    /// Replicas of a topic that is created without a number.
    pub default_replication: i16,
    /// Whether a replica that is not in sync may lead where no other can; the topic's setting
    /// `unclean.leader.election.enable` goes first.
    pub unclean_elections: bool,
    /// Whether the high watermark stands still while the ISR is smaller than
    /// `min.insync.replicas`, as since Kafka 3.7. Without, such a batch is committed, and answered
    /// with NOT_ENOUGH_REPLICAS_AFTER_APPEND.
    pub strict_min_isr: bool,
    /// Where ids come from.
    pub seed: u64,
    /// Whether [`ClusterOutput::Trace`] is wanted.
    pub traced: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            nodes: 3,
            broker: BrokerConfig::default(),
            session_timeout: Duration::from_secs(9),
            heartbeat: Duration::from_secs(2),
            replica_lag_time_max: Duration::from_secs(30),
            replica_fetch_wait: Duration::from_millis(500),
            default_replication: 1,
            unclean_elections: false,
            strict_min_isr: true,
            seed: 0,
            traced: false,
        }
    }
}

/// What the caller is to do, in this order.
#[derive(Clone, Debug)]
pub enum ClusterOutput {
    /// A node does this to one of its clients.
    Broker {
        /// The node.
        node: i32,
        /// What it does.
        output: Output,
    },
    /// Deliver this with [`Cluster::handle_peer`]: late, twice, out of order, or not at all.
    Peer {
        /// Who sends it.
        from: Peer,
        /// Who gets it.
        to: Peer,
        /// What is sent.
        message: PeerMessage,
    },
    /// This happened; only with [`ClusterConfig::traced`].
    Trace(ClusterTrace),
}

/// Why the controller refused an operator's command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({})", code.name())]
pub struct ClusterError {
    /// What a client would be answered.
    pub code: ErrorCode,
    /// Why.
    pub message: String,
}

impl From<TopicError> for ClusterError {
    fn from(error: TopicError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

#[cfg(test)]
mod tests;
