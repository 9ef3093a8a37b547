//! Errors by what the caller can do about them.

use std::sync::Arc;
use std::time::Duration;

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::config::ConfigError;
use sordini_core::error::{DeliveryError, Obstacle, Refusal};
use sordini_protocol::ErrorCode;
use sordini_protocol::quote::quoted;

/// A record that was not accepted. It never left this process: sending it again cannot double it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The producer is closed or closing, or its driver is gone. Make another one.
    #[error("the producer is closed")]
    Closed,
    /// No memory became free in time. Send more slowly, or raise `buffer.memory` or
    /// `max.block.ms`; with `try_enqueue`, wait for deliveries and try again.
    #[error(
        "buffer.memory={limit} is used up by records that wait for their acknowledgement{}",
        freed(*.waited, *.max_block)
    )]
    #[non_exhaustive]
    BufferFull {
        /// How long the send waited.
        waited: Duration,
        /// Bytes of `buffer.memory`.
        limit: usize,
        /// `max.block.ms`: how long a send waits that may.
        max_block: Duration,
    },
    /// The record exceeds a limit. Send a smaller one or raise the setting.
    #[error(
        "the record takes {size} bytes, more than {setting}={limit} allows; \
         send a smaller record or raise {setting}"
    )]
    #[non_exhaustive]
    TooLarge {
        /// Bytes of the record as encoded, with its batch header.
        size: usize,
        /// The limit it exceeds, in bytes.
        limit: usize,
        /// The setting that sets the limit.
        setting: &'static str,
    },
    /// The cluster does not know the topic, and did not create it. Create it, or correct the name.
    #[error(
        "the topic {topic:?} does not exist, and was not created {}",
        patience(*.waited, *.max_block)
    )]
    #[non_exhaustive]
    UnknownTopic {
        /// The name.
        topic: String,
        /// How long the send waited for it to appear.
        waited: Duration,
        /// `max.block.ms`: how long a send waits that may.
        max_block: Duration,
    },
    /// The topic's partitions could not be found out in time. The cause says what to mend.
    #[error(
        "the partitions of {topic:?} did not become known {}: {cause}",
        patience(*.waited, *.max_block)
    )]
    #[non_exhaustive]
    Metadata {
        /// The name.
        topic: String,
        /// How long the send waited.
        waited: Duration,
        /// `max.block.ms`: how long a send waits that may.
        max_block: Duration,
        /// What last stood in the way.
        cause: Obstacle,
    },
    /// No topic can have this name.
    #[error("{topic:?} is no topic's name: {reason}")]
    #[non_exhaustive]
    InvalidTopic {
        /// The name.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The broker does not let this client write to the topic.
    #[error("the broker does not let this client write to {topic:?} ({})", .code.name())]
    #[non_exhaustive]
    Unauthorized {
        /// The name.
        topic: String,
        /// The broker's answer.
        code: ErrorCode,
    },
    /// The topic has no such partition.
    #[error(
        "partition {partition} does not exist: the topic {topic:?} has {partitions}, counted from 0"
    )]
    #[non_exhaustive]
    UnknownPartition {
        /// The topic's name.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// How many there are.
        partitions: i32,
    },
    /// The record's timestamp is negative. Give milliseconds since 1970, or none for the time of
    /// the append.
    #[error(
        "the timestamp {timestamp} is negative; give milliseconds since 1970, or none for the \
         time of the append"
    )]
    #[non_exhaustive]
    NegativeTimestamp {
        /// The timestamp, in milliseconds.
        timestamp: i64,
    },
    /// The topic was deleted, or made anew, since the handle was made. Get a new handle.
    #[error("the topic {topic:?} was deleted or made anew; get a new handle for it")]
    #[non_exhaustive]
    TopicGone {
        /// The name.
        topic: String,
    },
    /// The record's transaction has ended, or can only be aborted any more. Its `commit` or `abort`
    /// says why; send in the next one.
    #[error(
        "transaction {transaction} has ended, or can only be aborted any more; commit() or abort() \
         says why, and the record for {topic:?} belongs into the next transaction"
    )]
    #[non_exhaustive]
    TransactionEnded {
        /// The topic's name.
        topic: String,
        /// The transaction that the handle belongs to.
        transaction: TransactionNumber,
    },
    /// The broker refuses the topic for another reason.
    #[error("the broker refuses the topic {topic:?}: {}", .code.name())]
    #[non_exhaustive]
    Rejected {
        /// The name.
        topic: String,
        /// The broker's answer.
        code: ErrorCode,
    },
    /// The producer cannot go on. Make another one once the cause is mended.
    #[error("the producer cannot go on: the broker answered {}", .code.name())]
    #[non_exhaustive]
    Fatal {
        /// The broker's answer.
        code: ErrorCode,
    },
}

/// For how long something was waited for, by the setting that decides it; `try_enqueue` does not
/// wait.
fn patience(waited: Duration, max_block: Duration) -> String {
    match waited {
        Duration::ZERO => format!(
            "yet; try again, or let a send wait for it (up to max.block.ms={})",
            max_block.as_millis()
        ),
        _ => format!("within max.block.ms={}", max_block.as_millis()),
    }
}

fn freed(waited: Duration, max_block: Duration) -> String {
    match waited {
        Duration::ZERO => String::new(),
        _ => format!(", and none was freed within max.block.ms={}", max_block.as_millis()),
    }
}

impl SendError {
    pub(crate) fn refused(topic: &str, transaction: TransactionNumber, refusal: Refusal) -> Self {
        let topic = topic.to_owned();
        match refusal {
            Refusal::TooLarge { size, limit, setting } => Self::TooLarge { size, limit, setting },
            Refusal::UnknownPartition { partition, partitions } => {
                Self::UnknownPartition { topic, partition, partitions }
            }
            Refusal::NegativeTimestamp { timestamp } => Self::NegativeTimestamp { timestamp },
            Refusal::TopicGone => Self::TopicGone { topic },
            Refusal::TransactionEnded => Self::TransactionEnded { topic, transaction },
            Refusal::Topic(ErrorCode::InvalidTopicException) => {
                Self::InvalidTopic { topic, reason: "the broker says so" }
            }
            Refusal::Topic(code @ ErrorCode::TopicAuthorizationFailed) => {
                Self::Unauthorized { topic, code }
            }
            Refusal::Topic(code) => Self::Rejected { topic, code },
            Refusal::Fatal(code) => Self::Fatal { code },
            _ => Self::Closed,
        }
    }

    /// What a wait for a topic's partitions ended with.
    pub(crate) fn unresolved(
        topic: &str,
        waited: Duration,
        max_block: Duration,
        obstacle: Obstacle,
    ) -> Self {
        let topic = topic.to_owned();
        match obstacle {
            Obstacle::Broker(ErrorCode::UnknownTopicOrPartition) => {
                Self::UnknownTopic { topic, waited, max_block }
            }
            cause => Self::Metadata { topic, waited, max_block, cause },
        }
    }
}

/// What can go wrong between `send` and its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(clippy::exhaustive_enums, reason = "a record is refused, or accepted and then it fails")]
pub enum ProduceError {
    /// The record was not accepted, and is in no log.
    #[error("not accepted: {0}")]
    NotAccepted(#[from] SendError),
    /// The record was accepted and not acknowledged; the error says whether it may be in the log.
    #[error(transparent)]
    Delivery(#[from] Arc<DeliveryError>),
}

/// Why there is no producer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is wrong, or contradicts another.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `build` was not called on a tokio runtime. Call it there, or use `build_parts` and run the
    /// driver yourself.
    #[error(
        "there is no tokio runtime here to run the producer's driver; \
         call build() inside one, or run the driver of build_parts()"
    )]
    NoRuntime,
    /// The settings name a `transactional.id`, and an ordinary producer was asked for.
    #[error(
        "transactional.id={}: a transactional producer is built with build_transactional(); \
         leave the setting out for a producer without transactions",
        quoted(id)
    )]
    #[non_exhaustive]
    Transactional {
        /// The id.
        id: String,
    },
    /// A transactional producer was asked for, and the settings name no `transactional.id`.
    #[error(
        "a transactional producer needs transactional.id: a name that this one has over all its \
         lives, and no other (ProducerBuilder::transactional_id)"
    )]
    NotTransactional,
}
