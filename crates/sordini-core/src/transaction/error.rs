//! How transactions end, and what is to be done about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use crate::accumulator::number::TransactionNumber;
use crate::error::{DeliveryError, Obstacle};

/// Why a transaction was, or has to be, aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbortCause {
    /// The application asked for it.
    Requested,
    /// The transaction was left without a commit or an abort, and the next one was begun.
    Abandoned,
    /// One of its records failed: the others must not become visible without it.
    Delivery(Arc<DeliveryError>),
    /// A broker refused one of its requests, but not the producer.
    Refused {
        /// Which request.
        api: ApiKey,
        /// The broker's answer.
        code: ErrorCode,
    },
    /// `transaction.timeout.ms` ran out.
    TimedOut {
        /// The time since it was begun.
        after: Duration,
        /// What it still waited for.
        lacked: Lacked,
    },
    /// A topic that it had written to was deleted, or made anew.
    TopicGone {
        /// The topic.
        topic: Arc<str>,
    },
    /// The producer was closed.
    Closed,
    /// Its coordinator says that it did not commit it, and not why: most likely its time was up.
    Coordinator,
}

impl fmt::Display for AbortCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("the application asked for it"),
            Self::Abandoned => f.write_str("it was neither committed nor aborted"),
            Self::Delivery(error) => write!(f, "a record failed: {error}"),
            Self::Refused { api, code } => {
                write!(f, "a broker answered {} to {}", code.name(), api.name())
            }
            Self::TimedOut { after, lacked } => write!(
                f,
                "it was open for {} ms, longer than transaction.timeout.ms allows{lacked}",
                after.as_millis()
            ),
            Self::TopicGone { topic } => {
                write!(f, "the topic {topic}, which it wrote to, was deleted or made anew")
            }
            Self::Closed => f.write_str("the producer was closed"),
            Self::Coordinator => {
                f.write_str("its coordinator did not commit it; perhaps its time was up")
            }
        }
    }
}

/// What a transaction whose time ran out still waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lacked {
    /// Nothing: its application added nothing, and did not end it.
    Nothing,
    /// Records of at least this partition were not acknowledged.
    Records {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// What stood in their way.
        last: Obstacle,
    },
    /// No coordinator had taken in the offsets that were handed in.
    Offsets {
        /// What stood in their way.
        last: Obstacle,
    },
}

impl fmt::Display for Lacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Records { topic, partition, last } => {
                write!(f, ", and records for {topic}-{partition} were not acknowledged: {last}")
            }
            Self::Offsets { last } => write!(f, ", and its offsets were not taken in: {last}"),
        }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "atomic commitment has no fourth outcome")]
pub enum TransactionOutcome {
    /// All of it is visible to readers of committed records, or is about to be.
    Committed,
    /// Nothing of it ever becomes visible to them.
    Aborted(AbortCause),
    /// One of the two, and it is not known which.
    Unknown,
}

impl fmt::Display for TransactionOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("committed"),
            Self::Aborted(cause) => write!(f, "aborted: {cause}"),
            Self::Unknown => f.write_str("committed or aborted, it is not known which"),
        }
    }
}

/// Who took the transactional id away, as far as its coordinator tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FencedBy {
    /// Another instance was started with the same `transactional.id`.
    AnotherInstance,
    /// The coordinator aborted the transaction, most likely because it was open for longer than
    /// `transaction.timeout.ms`.
    Coordinator,
    /// One of the two.
    Untold,
    /// One of the two, or this producer itself: it asked for a new epoch more than once, and what
    /// became of the earlier requests is not known.
    PerhapsItself,
}

impl fmt::Display for FencedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnotherInstance => "another instance with the same transactional.id was started",
            Self::Coordinator => {
                "the coordinator aborted its transaction, most likely since it was open for \
                 longer than transaction.timeout.ms"
            }
            Self::Untold => {
                "another instance with the same transactional.id was started, or the coordinator \
                 aborted its transaction since it was open for longer than transaction.timeout.ms"
            }
            Self::PerhapsItself => {
                "an earlier request of this producer for a new epoch, whose answer it does not \
                 have, may have been carried out; or another instance with the same \
                 transactional.id was started, or the coordinator aborted its transaction"
            }
        })
    }
}

/// Why a transactional producer cannot go on. Make a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FatalError {
    /// Which request was refused.
    pub api: ApiKey,
    /// The broker's answer.
    pub code: ErrorCode,
    /// Who fenced the producer, if it was fenced.
    pub fenced: Option<FencedBy>,
}

impl fmt::Display for FatalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api, code, fenced } = self;
        write!(
            f,
            "this producer cannot go on: a broker answered {} to {}",
            code.name(),
            api.name()
        )?;
        if let Some(by) = fenced {
            write!(f, ": {by}")?;
        }
        let remedy = match code {
            ErrorCode::TransactionalIdAuthorizationFailed => {
                "; allow it to write under this transactional.id (ACL WRITE on TransactionalId)"
            }
            ErrorCode::InvalidTransactionTimeout => {
                "; lower transaction.timeout.ms, or raise the brokers' transaction.max.timeout.ms"
            }
            // As Kafka 4.4, which can't keep the new protocol's state in that level's log, and is
            // left with a step that never ends.
            ErrorCode::UnsupportedVersion if *api == ApiKey::EndTxn => {
                "; was transaction.version lowered to 0 meanwhile? The transactional.id is free \
                 again, and its transaction aborted, when the broker that coordinates it was \
                 restarted"
            }
            ErrorCode::UnsupportedVersion => "; transactions need brokers of Kafka 2.5 or newer",
            _ => return Ok(()),
        };
        f.write_str(remedy)
    }
}

impl std::error::Error for FatalError {}

/// Why something that a transaction needs was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactionError {
    /// The transaction can only be aborted any more; the producer goes on after that.
    MustAbort(AbortCause),
    /// This producer is done.
    Fatal(Arc<FatalError>),
    /// No coordinator did it in time. What was asked for may yet be done.
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// An earlier transaction has to end first, and has not in time.
    Unfinished {
        /// Which.
        transaction: TransactionNumber,
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// The transaction is not the open one, or one that nothing is known of.
    NotOpen {
        /// Which.
        transaction: TransactionNumber,
    },
    /// What was handed in can't be sent; the transaction goes on without.
    Invalid {
        /// What is wrong with it.
        what: &'static str,
        /// How it begins.
        value: Arc<str>,
    },
    /// Another call took the place of this one.
    Superseded,
    /// The producer has no `transactional.id`, or was not initialised.
    NotTransactional,
    /// The producer is closed.
    Closed,
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MustAbort(cause) => write!(f, "the transaction must be aborted: {cause}"),
            Self::Fatal(error) => error.fmt(f),
            Self::TimedOut { waited, last } => {
                write!(f, "not done within {} ms: {last}", waited.as_millis())
            }
            Self::Unfinished { transaction, waited, last } => write!(
                f,
                "transaction {transaction} has not ended within {} ms: {last}",
                waited.as_millis()
            ),
            Self::NotOpen { transaction } => write!(f, "transaction {transaction} is not open"),
            Self::Invalid { what, value } => write!(f, "{what}: {value}"),
            Self::Superseded => f.write_str("a later call took its place"),
            Self::NotTransactional => {
                f.write_str("the producer has no transactional.id, or was not initialised")
            }
            Self::Closed => f.write_str("the producer is closed"),
        }
    }
}

impl std::error::Error for TransactionError {}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "an outcome, and whether there is a next")]
pub struct Ended {
    /// Which.
    pub transaction: TransactionNumber,
    /// What became of it.
    pub outcome: TransactionOutcome,
    /// Set where the producer is done with it.
    pub fatal: Option<Arc<FatalError>>,
}
