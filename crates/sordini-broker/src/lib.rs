//! An embedded, single-node Kafka-protocol broker, for development and tests.
#![forbid(unsafe_code)]

mod api;
mod broker;
mod catalog;
mod compress;
mod config;
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

pub use broker::{Broker, ConnectionId, InspectError, OpenError, Output, PartitionState};
pub use config::BrokerConfig;
pub use faults::{FaultBuilder, FaultHandle, Faults, LeaderHint};
pub use log::Recovery;
pub use monitor::{Monitor, SeenBatch};
pub use records::StoredRecord;
#[cfg(feature = "server")]
pub use server::{Server, ServerBuilder};
pub use sordini_protocol as protocol;
pub use time::{Instant, Now};
pub use topic_config::TopicConfig;
pub use versions::{UnknownRelease, Versions};
