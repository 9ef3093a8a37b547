//! An embedded Kafka-protocol broker, alone or in a cluster, for development and tests.
//!
//! ```
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use sordini_broker::Server;
//! use sordini_broker::protocol::{ApiKey, ErrorCode};
//!
//! let broker = Server::in_memory().await?; // or Server::builder().data_dir("data").start()
//! broker.faults().on(ApiKey::Produce).nth(2).error(ErrorCode::NotLeaderOrFollower);
//! // .. a client at broker.bootstrap() ..
//! assert_eq!(broker.monitor().max_in_flight("clicks", 0), 0);
//! broker.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! # Two layers
//! - [`Broker`]: sans I/O. Frames and the time go in, frames come out, bytes are kept by a
//!   [`storage::Storage`]. The simulator runs it under made-up clocks and disks.
//! - [`Server`] (feature `server`, on by default): a tokio listener around it, and one thread that
//!   owns the broker and its disk.
//!
//! [`Cluster`] makes nodes of several brokers, with a controller and replication, sans I/O as well;
//! [`server::ClusterServer`] gives each node a listener. See [`cluster`] for what is modelled.
//!
//! # What is kept, and when it is safe
//! Topics are kept in Kafka's own segment format ([`log`]), which Kafka's DumpLogSegments reads. A
//! batch is acknowledged when the system has it: it survives a kill of the process. With `fsync` it
//! is acknowledged when the disk has it: it survives a loss of power. A write that fails is an
//! error, never a false success; a partition whose sync failed is offline until the restart.
//! Recovery after a kill cuts a log back to its sound prefix; a retry of a producer's last five batches is
//! recognised across restarts. What a log has lost since its broker was stopped in order is told
//! ([`Lost`]); a broker on its own gives none of its offsets out again.
//!
//! # Transactions and offsets
//! Transactions are coordinated as Kafka 4.4 does, by both protocols ([`TransactionVersion`]), with
//! their state in `__transaction_state`; groups' offsets are kept in `__consumer_offsets`. Both
//! logs have Kafka's own records. A coordinator acts on a decision only when it is committed, and
//! on what it read from its log only when that is. Offsets do not expire.
//!
//! # What there is not
//! Members of consumer groups (a group's offsets are taken from who names no generation), two-phase
//! commit (KIP-939), compaction (records of compacted topics need keys, and all stay), authentication (which is why only loopback is listened on unless remote clients are
//! allowed), fetch sessions (every fetch is a full one), DeleteRecords and changing settings by a
//! client. The one quota is on what all clients of a broker produce together.
#![forbid(unsafe_code)]

mod api;
mod broker;
mod catalog;
pub mod cluster;
mod compress;
mod config;
mod coordinator;
mod crc;
mod faults;
pub mod log;
mod monitor;
mod records;
#[cfg(feature = "server")]
pub mod server;
pub mod storage;
#[cfg(test)]
mod test_batch;
mod time;
pub mod topic_config;
mod validate;
mod versions;

pub use broker::{
    Broker, ConnectionId, InspectError, OpenError, OpenTransaction, Output, PartitionState,
    ProduceQuota,
};
pub use cluster::{Cluster, ClusterConfig, ClusterOutput, ClusterTrace, Peer, PeerMessage};
pub use config::BrokerConfig;
pub use coordinator::TransactionVersion;
pub use faults::{FaultBuilder, FaultHandle, Faults, LeaderHint};
pub use log::{Cut, Damage, Lost, Recovery};
pub use monitor::{Monitor, SeenBatch};
pub use records::StoredRecord;
#[cfg(feature = "server")]
pub use server::{Server, ServerBuilder};
pub use sordini_protocol as protocol;
pub use time::{Instant, Now};
pub use topic_config::TopicConfig;
pub use versions::{UnknownRelease, Versions};
