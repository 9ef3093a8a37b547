//! A Kafka producer for tokio that says what happened to each record.
//!
//! ```no_run
//! use sordini::{Producer, Record};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::builder("localhost:9092").build().await?;
//! let topic = producer.topic("clicks")?;
//! let delivery = topic.enqueue(Record::new("/home").key("user-7")).await?; // accepted, in order
//! let written = delivery.await?; // acknowledged
//! println!("{}: {:?}", written.partition, written.offset);
//! let report = producer.close(std::time::Duration::from_secs(10)).await;
//! assert!(report.is_clean());
//! # Ok(()) }
//! ```
//!
//! # What can fail, and when
//!
//! A record is *accepted* when [`Producer::enqueue`] returns: before that a [`SendError`] says that
//! it never left this process. After that it ends exactly once, no later than
//! `delivery.timeout.ms`: as [`Written`], or as a [`DeliveryError`] whose [`Fate`] says whether it
//! may be in the log all the same. [`Producer::guarantees`] says what the settings promise.
//!
//! # Cancellation
//!
//! A future of this crate that is dropped takes back what was not accepted yet, gives up its place
//! in its queue, and nothing else: what was accepted is delivered. Each method says what that
//! means for it.
#![forbid(unsafe_code)]

mod alarm;
mod builder;
mod driver;
mod error;
#[doc(hidden)]
pub mod fetch;
mod history;
mod producer;
mod record;
mod report;
mod shared;
mod topic;
mod transactional;

pub use builder::ProducerBuilder;
pub use driver::Driver;
pub use error::{BuildError, ProduceError, SendError};
pub use history::Recovered;
pub use producer::{PartitionInfo, Producer};
pub use record::{Payload, Record};
pub use report::{CloseReport, FailedRecord, FlushReport};
pub use sordini_core::accumulator::counters::Metrics;
pub use sordini_core::accumulator::number::TransactionNumber;
pub use sordini_core::batch::completion::{
    BatchDeliveries, Deduplicated, Delivery, Outcome, RunOutcome, Written,
};
pub use sordini_core::config::{Acks, Address, Codec, Config, ConfigError, Warning};
pub use sordini_core::error::{Cause, DeliveryError, Fate, Obstacle};
pub use sordini_core::guarantees::{self, Guarantees};
pub use sordini_core::partitioner::{self, Partitioner};
pub use sordini_core::transaction::error::{
    AbortCause, FatalError, FencedBy, Lacked, TransactionError, TransactionOutcome,
};
pub use sordini_core::transaction::offsets::{GroupMetadata, OffsetToCommit};
pub use sordini_protocol::{ApiKey, ErrorCode};
pub use topic::{Appender, Enqueue, EnqueueDetached, ExtendError, Topic};
pub use transactional::{
    AbortError, BeginError, BeginOwnedError, CommitError, Committed, InitError, OffsetsError,
    OpenTransaction, OwnedTransaction, ResolveError, Transaction, TransactionTopic,
    TransactionalProducer, Uninitialized,
};

/// The README's program is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
