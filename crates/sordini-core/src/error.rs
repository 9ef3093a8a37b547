//! What went wrong, and what became of the record.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::ErrorCode;

/// What is known of a record that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// The record is in no log and never will be: sending it again cannot double it.
    NotWritten,
    /// The record may be in the log, or may not: sending it again may double it.
    Unknown,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWritten => "not written",
            Self::Unknown => "possibly written",
        })
    }
}

/// What last stood between a batch and its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing failed, and nobody was asked yet.
    NoAnswer,
    /// Nothing failed: the batch did not get its turn, or no answer came in time.
    Silent {
        /// The addresses that were tried, `host:port`, a few of them where they are many.
        tried: Arc<str>,
    },
    /// The broker's last answer.
    Broker(ErrorCode),
    /// The last failure of the connection to the partition's leader, or to every broker known.
    Connection {
        /// `host:port` as it was tried.
        address: Arc<str>,
        /// What the driver reported.
        cause: Arc<str>,
    },
    /// The partition has no leader, or the cluster has not named one yet.
    NoLeader,
    /// No producer id was to be had.
    NoProducerId(ErrorCode),
    /// The transaction's coordinator has yet to take the partition in.
    NotEnrolled,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("no broker answered in time"),
            Self::Silent { tried } => write!(f, "no broker answered in time (tried {tried})"),
            Self::Broker(code) => write!(f, "the broker's last answer was {}", code.name()),
            Self::Connection { address, cause } => {
                write!(f, "the last connection to {address} failed: {cause}")
            }
            Self::NoLeader => f.write_str("the partition has no leader"),
            Self::NoProducerId(code) => {
                write!(f, "no producer id was to be had: {}", code.name())
            }
            Self::NotEnrolled => {
                f.write_str("the transaction's coordinator has not taken the partition in")
            }
        }
    }
}

/// Why a delivery failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// `delivery.timeout.ms` ran out.
    Expired {
        /// The time since the record's batch was opened.
        after: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// The broker refused the batch for good, or `retries` ran out on this answer.
    Rejected(ErrorCode),
    /// The connection was lost and the settings allow no retry.
    Disconnected {
        /// `host:port` of the broker.
        address: Arc<str>,
        /// What the driver reported.
        cause: Arc<str>,
    },
    /// The broker no longer knows a batch that it had to have: it answered the oldest batch of
    /// the partition with OUT_OF_ORDER_SEQUENCE_NUMBER or UNKNOWN_PRODUCER_ID after an attempt
    /// whose outcome is unknown. Acknowledged records may have been lost there too.
    SequenceLost(ErrorCode),
    /// The topic was deleted, or deleted and made again with another id.
    TopicGone,
    /// An append to the record's batch panicked, so the batch was not sent.
    Damaged,
    /// The record's transaction is aborted: it was still queued, or lacked its acknowledgement.
    TransactionAborted,
    /// The producer was closed, and its deadline passed.
    Closed,
    /// The producer's driver ended: its runtime was shut down, it was dropped, or it panicked.
    DriverGone,
    /// The producer cannot go on.
    Fatal(ErrorCode),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { after, last } => {
                write!(f, "not acknowledged within {} ms: {last}", after.as_millis())
            }
            Self::Rejected(code) => write!(f, "the broker answered {}", code.name()),
            Self::Disconnected { address, cause } => {
                write!(f, "the connection to {address} was lost: {cause}")
            }
            Self::SequenceLost(code) => write!(
                f,
                "the broker answered {} to the partition's oldest batch: \
                 its log no longer continues where this producer's records ended",
                code.name()
            ),
            Self::TopicGone => f.write_str("the topic was deleted or made anew"),
            Self::Damaged => {
                f.write_str("an append to its batch panicked, so the batch was not sent")
            }
            Self::TransactionAborted => f.write_str("its transaction is aborted"),
            Self::Closed => f.write_str("the producer was closed before it was acknowledged"),
            Self::DriverGone => f.write_str("the producer's driver is gone"),
            Self::Fatal(code) => {
                write!(f, "the producer cannot go on: the broker answered {}", code.name())
            }
        }
    }
}

/// An accepted record that was not acknowledged: its [`Fate`], and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryError {
    /// Whether the record may be in the log.
    pub fate: Fate,
    /// Why it was not acknowledged.
    pub cause: Cause,
    /// How many times its batch was sent, at least in part. Where the fate is unknown, bytes that
    /// a connection was given and may have sent unheard count too.
    pub attempts: u32,
    /// The topic it was meant for.
    pub topic: Arc<str>,
    /// The partition it was meant for.
    pub partition: i32,
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "record for {}-{} {}: {} (attempts: {})",
            self.topic, self.partition, self.fate, self.cause, self.attempts
        )
    }
}

impl std::error::Error for DeliveryError {}

/// Why a record was not accepted. It never left this process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The producer is closed or closing.
    Closed,
    /// The record's size as encoded exceeds what one request may hold.
    TooLarge {
        /// Bytes of the record as encoded, with its batch header.
        size: usize,
        /// The limit it exceeds, in bytes.
        limit: usize,
        /// The setting that sets the limit.
        setting: &'static str,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The partition that was asked for.
        partition: i32,
        /// How many the topic has; valid are 0 to one less.
        partitions: i32,
    },
    /// The record's timestamp is negative, which brokers do not take.
    NegativeTimestamp {
        /// The timestamp, in milliseconds.
        timestamp: i64,
    },
    /// The topic was deleted, or deleted and made again with another id; get a new handle.
    TopicGone,
    /// The broker refuses the topic: an invalid name, or no permission.
    Topic(ErrorCode),
    /// The record's transaction is not the open one, or can only be aborted any more.
    TransactionEnded,
    /// The producer cannot go on.
    Fatal(ErrorCode),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the producer is closed"),
            Self::TooLarge { size, limit, setting } => write!(
                f,
                "the record takes {size} bytes, more than {setting}={limit} allows; \
                 send a smaller record or raise {setting}"
            ),
            Self::UnknownPartition { partition, partitions } => write!(
                f,
                "partition {partition} does not exist: the topic has {partitions} (0 to {})",
                partitions - 1
            ),
            Self::NegativeTimestamp { timestamp } => write!(
                f,
                "the timestamp {timestamp} is negative; give milliseconds since 1970, or none for \
                 the time of the append"
            ),
            Self::TopicGone => {
                f.write_str("the topic was deleted or made anew; get a new handle for it")
            }
            Self::Topic(code) => write!(f, "the broker refuses the topic: {}", code.name()),
            Self::TransactionEnded => f.write_str(
                "the record's transaction has ended, or can only be aborted any more; \
                 commit or abort it to learn why, and send in the next one",
            ),
            Self::Fatal(code) => {
                write!(f, "the producer cannot go on: the broker answered {}", code.name())
            }
        }
    }
}

impl std::error::Error for Refusal {}
