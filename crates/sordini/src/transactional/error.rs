//! Errors of transactions, by what the caller can do about them.

use std::sync::Arc;
use std::time::Duration;

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::error::Obstacle;
use sordini_core::transaction::error::{
    AbortCause, FatalError, TransactionError, TransactionOutcome,
};
use sordini_protocol::ErrorCode;
use sordini_protocol::quote::quoted;

use crate::error::BuildError;
use crate::history::History;
use crate::transactional::TransactionalProducer;

/// Why there is no transactional producer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// Nothing was asked of a broker: the settings are wrong, or there is no runtime.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The cluster refuses. The error says what to mend.
    #[error("transactional.id={} can't be had: {error}", quoted(transactional_id))]
    #[non_exhaustive]
    Fatal {
        /// The id.
        transactional_id: String,
        /// What was refused, and how.
        #[source]
        error: Arc<FatalError>,
    },
    /// The brokers don't let a transaction be open for that long. Lower `transaction.timeout.ms`, or
    /// raise their `transaction.max.timeout.ms`.
    #[error(
        "transactional.id={} can't be had: the brokers answered INVALID_TRANSACTION_TIMEOUT to \
         transaction.timeout.ms={}, which is more than their transaction.max.timeout.ms (900000 \
         by default); lower transaction.timeout.ms, or raise theirs",
        quoted(transactional_id), .timeout.as_millis()
    )]
    #[non_exhaustive]
    TimeoutTooLong {
        /// The id.
        transactional_id: String,
        /// `transaction.timeout.ms`.
        timeout: Duration,
    },
    /// No coordinator was found, or none answered. Build it again; it may have been done, which
    /// is no harm.
    #[error(
        "transactional.id={} was not to be had within {} ms (max.block.ms): {last}; try again",
        quoted(transactional_id), .waited.as_millis()
    )]
    #[non_exhaustive]
    TimedOut {
        /// The id.
        transactional_id: String,
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// The producer's driver is gone: its runtime was shut down, or it was dropped. Build it again.
    #[error(
        "the producer's driver ended before transactional.id={} was to be had",
        quoted(transactional_id)
    )]
    #[non_exhaustive]
    Closed {
        /// The id.
        transactional_id: String,
    },
    /// Something else stood in the way.
    #[error("transactional.id={} can't be had: {error}", quoted(transactional_id))]
    #[non_exhaustive]
    Other {
        /// The id.
        transactional_id: String,
        /// What it was.
        #[source]
        error: TransactionError,
    },
}

impl InitError {
    /// `timeout` is the producer's `transaction.timeout.ms`.
    pub(super) fn new(id: &str, timeout: Duration, error: TransactionError) -> Self {
        let transactional_id = id.to_owned();
        match error {
            TransactionError::Fatal(error)
                if error.code == ErrorCode::InvalidTransactionTimeout =>
            {
                Self::TimeoutTooLong { transactional_id, timeout }
            }
            TransactionError::Fatal(error) => Self::Fatal { transactional_id, error },
            TransactionError::TimedOut { waited, last } => {
                Self::TimedOut { transactional_id, waited, last }
            }
            TransactionError::Closed => Self::Closed { transactional_id },
            error => Self::Other { transactional_id, error },
        }
    }
}

/// Why no transaction was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// An earlier transaction has yet to end: its commit or abort goes on. Begin again.
    #[error(
        "transaction {transaction} has not ended within {} ms (max.block.ms): {last}; it goes on, \
         so try again",
        .waited.as_millis()
    )]
    #[non_exhaustive]
    Unfinished {
        /// Which.
        transaction: TransactionNumber,
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// The coordinator did not do in time what has to be done before. Begin again.
    #[error("no transaction could be begun within {} ms (max.block.ms): {last}; try again",
        .waited.as_millis())]
    #[non_exhaustive]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// This producer is done. Make a new one if no other has its `transactional.id`.
    #[error("no transaction can be begun any more: {0}")]
    Fatal(#[source] Arc<FatalError>),
    /// The producer's driver is gone: its runtime was shut down, or it was dropped.
    #[error("no transaction can be begun any more: the producer is closed")]
    Closed,
    /// Something else stood in the way.
    #[error("no transaction was begun: {0}")]
    Other(#[source] TransactionError),
}

impl From<TransactionError> for BeginError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Unfinished { transaction, waited, last } => {
                Self::Unfinished { transaction, waited, last }
            }
            TransactionError::TimedOut { waited, last } => Self::TimedOut { waited, last },
            TransactionError::Fatal(error) => Self::Fatal(error),
            TransactionError::Closed => Self::Closed,
            error => Self::Other(error),
        }
    }
}

/// Why [`begin_owned`](TransactionalProducer::begin_owned) began none, with the producer.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct BeginOwnedError {
    /// The producer that was given.
    pub producer: TransactionalProducer,
    /// Why.
    #[source]
    pub error: BeginError,
}

/// Why a commit did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The transaction was aborted instead. Nothing of it becomes visible to readers of committed
    /// records: do it again in the next transaction.
    #[error(
        "transaction {transaction} was aborted: {cause}; nothing of it becomes visible to readers \
         of committed records, so begin the next one and do it again"
    )]
    #[non_exhaustive]
    Aborted {
        /// Which.
        transaction: TransactionNumber,
        /// Why.
        cause: AbortCause,
    },
    /// It is not known whether the transaction was committed. The producer goes on to find out:
    /// [`resolve`](TransactionalProducer::resolve) waits for it, and so does the next `begin`,
    /// whose [`recovered`](crate::OpenTransaction::recovered) tells. Doing it again may double it.
    #[error(
        "it is not known whether transaction {transaction} was committed: its coordinator did not \
         say so within {} ms; resolve() waits longer",
        .waited.as_millis()
    )]
    #[non_exhaustive]
    Unknown {
        /// Which.
        transaction: TransactionNumber,
        /// How long an answer was waited for.
        waited: Duration,
    },
    /// This producer is done. Make a new one if no other has its `transactional.id`.
    #[error("transaction {transaction} is {outcome}; {error}")]
    #[non_exhaustive]
    Fatal {
        /// Which.
        transaction: TransactionNumber,
        /// What became of it; never committed.
        outcome: TransactionOutcome,
        /// Why the producer is done: who fenced it, as far as the cluster tells.
        #[source]
        error: Arc<FatalError>,
    },
}

/// Why an abort was not confirmed. The transaction is never committed: where its coordinator
/// can't be told to abort it, that does so by itself after `transaction.timeout.ms`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AbortError {
    /// No coordinator confirmed it in time. The producer goes on with it; the next `begin` waits
    /// for that.
    #[error(
        "no coordinator has confirmed within {} ms that transaction {transaction} is aborted{}; \
         the next begin() waits for that",
        .waited.as_millis(), behind(.last.as_ref())
    )]
    #[non_exhaustive]
    Unconfirmed {
        /// Which.
        transaction: TransactionNumber,
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way, where that is known.
        last: Option<Obstacle>,
    },
    /// This producer is done. Make a new one if no other has its `transactional.id`.
    #[error("transaction {transaction} is not committed; {error}")]
    #[non_exhaustive]
    Fatal {
        /// Which.
        transaction: TransactionNumber,
        /// Why the producer is done: who fenced it, as far as the cluster tells.
        #[source]
        error: Arc<FatalError>,
    },
    /// The producer's driver is gone: its runtime was shut down, or it was dropped.
    #[error(
        "the producer is closed; transaction {transaction} is aborted when its \
         transaction.timeout.ms is over, if it was not before"
    )]
    #[non_exhaustive]
    Closed {
        /// Which.
        transaction: TransactionNumber,
    },
}

fn behind(last: Option<&Obstacle>) -> String {
    last.map(|last| format!(": {last}")).unwrap_or_default()
}

/// Why offsets did not become part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OffsetsError {
    /// The transaction can only be aborted any more: do that, and go on with the next one.
    #[error(
        "the offsets are not part of transaction {transaction}, which must be aborted: {cause}{}",
        moved_on(cause)
    )]
    #[non_exhaustive]
    MustAbort {
        /// Which.
        transaction: TransactionNumber,
        /// Why.
        cause: AbortCause,
    },
    /// No coordinator took them in time. Abort, or send them again; what was sent may yet be taken.
    #[error(
        "no coordinator has taken the offsets into transaction {transaction} within {} ms \
         (max.block.ms): {last}; send them again, or abort",
        .waited.as_millis()
    )]
    #[non_exhaustive]
    TimedOut {
        /// Which.
        transaction: TransactionNumber,
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// No partition has such an offset. Nothing was sent.
    #[error(
        "{topic}-{partition} has no offset {offset}: partitions and offsets are counted from 0, and \
         the offset is that of the next record to read"
    )]
    #[non_exhaustive]
    Invalid {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// This producer is done. Make a new one if no other has its `transactional.id`.
    #[error("the offsets are not part of transaction {transaction}; {error}")]
    #[non_exhaustive]
    Fatal {
        /// Which.
        transaction: TransactionNumber,
        /// Why the producer is done: who fenced it, as far as the cluster tells.
        #[source]
        error: Arc<FatalError>,
    },
    /// The producer's driver is gone: its runtime was shut down, or it was dropped.
    #[error("the offsets are not part of transaction {transaction}: the producer is closed")]
    #[non_exhaustive]
    Closed {
        /// Which.
        transaction: TransactionNumber,
    },
    /// Something else stood in the way. Abort.
    #[error("the offsets are not part of transaction {transaction}: {error}; abort it")]
    #[non_exhaustive]
    Other {
        /// Which.
        transaction: TransactionNumber,
        /// What it was.
        #[source]
        error: TransactionError,
    },
}

impl OffsetsError {
    pub(super) fn new(transaction: TransactionNumber, error: TransactionError) -> Self {
        match error {
            TransactionError::MustAbort(cause) => Self::MustAbort { transaction, cause },
            TransactionError::TimedOut { waited, last } => {
                Self::TimedOut { transaction, waited, last }
            }
            TransactionError::Fatal(error) => Self::Fatal { transaction, error },
            TransactionError::Closed => Self::Closed { transaction },
            error => Self::Other { transaction, error },
        }
    }
}

/// What to do beyond the abort where the group refused its member.
fn moved_on(cause: &AbortCause) -> &'static str {
    match cause {
        AbortCause::Refused {
            code:
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::FencedInstanceId
                | ErrorCode::StaleMemberEpoch,
            ..
        } => {
            "; the group has moved on without this member, so read again from its committed offsets"
        }
        _ => "",
    }
}

/// Why it can't be told what became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It is not known yet: the transaction is ending, or still open. Ask again.
    #[error(
        "what became of transaction {transaction} is still not known after {} ms (max.block.ms): \
         {last}; ask again",
        .waited.as_millis()
    )]
    #[non_exhaustive]
    Undecided {
        /// Which.
        transaction: TransactionNumber,
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way.
        last: Obstacle,
    },
    /// This producer has not begun the transaction, or it is too long ago.
    #[error(
        "transaction {transaction} is not one of the last {} that this producer has begun",
        History::MOST
    )]
    #[non_exhaustive]
    NotRemembered {
        /// Which.
        transaction: TransactionNumber,
    },
    /// This producer is done before it could be found out. It stays unknown.
    #[error("what became of transaction {transaction} stays unknown; {error}")]
    #[non_exhaustive]
    Fatal {
        /// Which.
        transaction: TransactionNumber,
        /// Why the producer is done: who fenced it, as far as the cluster tells.
        #[source]
        error: Arc<FatalError>,
    },
    /// The producer's driver is gone: its runtime was shut down, or it was dropped.
    #[error("what became of transaction {transaction} stays unknown: the producer is closed")]
    #[non_exhaustive]
    Closed {
        /// Which.
        transaction: TransactionNumber,
    },
    /// Something else stood in the way.
    #[error("what became of transaction {transaction} is not known: {error}")]
    #[non_exhaustive]
    Other {
        /// Which.
        transaction: TransactionNumber,
        /// What it was.
        #[source]
        error: TransactionError,
    },
}

impl ResolveError {
    pub(super) fn new(transaction: TransactionNumber, error: TransactionError) -> Self {
        match error {
            TransactionError::TimedOut { waited, last }
            | TransactionError::Unfinished { waited, last, .. } => {
                Self::Undecided { transaction, waited, last }
            }
            TransactionError::NotOpen { .. } => Self::NotRemembered { transaction },
            TransactionError::Fatal(error) => Self::Fatal { transaction, error },
            TransactionError::Closed => Self::Closed { transaction },
            error => Self::Other { transaction, error },
        }
    }
}
