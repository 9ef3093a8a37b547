//! What a coordinator's answer asks for. One table for all requests of transactions; what a Produce
//! answer means is told by `acks::verdict`.
//!
//! Read in Kafka's `TransactionManager` and `TransactionCoordinator`, 4.4; expectations are in
//! `tests.rs`.

use sordini_protocol::{ApiKey, ErrorCode as E};

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// It is done.
    Done,
    /// Ask again, after a pause. The request was not carried out.
    Again,
    /// The same, soon: a transaction is being completed.
    Soon,
    /// Ask again; whether the request was carried out is not known.
    AgainInDoubt,
    /// Ask who the coordinator is, then ask that one. Whether the request was carried out is not
    /// known: a coordinator may step down in the middle of it.
    Elsewhere,
    /// The transaction can only be aborted any more.
    Abort,
    /// The transaction that the request is about is not in the state that it needs.
    WrongState,
    /// Somebody else has the transactional id, or its coordinator took it away.
    Fenced,
    /// The producer cannot go on.
    Fatal,
}

impl Reaction {
    /// What `code` asks for as the answer to `api`.
    #[must_use]
    pub fn of(api: ApiKey, code: E) -> Self {
        match code {
            E::None => Self::Done,
            E::ConcurrentTransactions => Self::Soon,
            // It may have taken over while the request was being carried out.
            E::CoordinatorLoadInProgress => Self::AgainInDoubt,
            E::NotCoordinator | E::CoordinatorNotAvailable => Self::Elsewhere,
            E::ProducerFenced | E::InvalidProducerEpoch => Self::Fenced,
            E::InvalidProducerIdMapping if api == ApiKey::InitProducerId => Self::Fatal,
            // The id was forgotten: whoever still had it may not go on under it.
            E::InvalidProducerIdMapping => Self::Fenced,
            E::InvalidTxnState => Self::WrongState,
            E::TransactionAbortable => Self::Abort,
            E::TransactionalIdAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::InvalidTransactionTimeout
            | E::UnsupportedVersion
            | E::InvalidRequest
            | E::SaslAuthenticationFailed => Self::Fatal,
            E::TopicAuthorizationFailed
            | E::GroupAuthorizationFailed
            | E::InvalidGroupId
            | E::FencedInstanceId
            | E::FencedMemberEpoch
            | E::StaleMemberEpoch
            | E::IllegalGeneration
            | E::UnknownMemberId
            | E::RebalanceInProgress
            | E::OffsetMetadataTooLarge
            | E::InvalidCommitOffsetSize
            | E::InvalidTopicException
            | E::GroupIdNotFound
            | E::UnknownProducerId
            | E::OperationNotAttempted => Self::Abort,
            E::UnknownTopicOrPartition | E::UnknownTopicId => Self::Again,
            E::UnsupportedForMessageFormat => Self::Fatal,
            // What failed inside the coordinator may have failed late.
            E::UnknownServerError => Self::AgainInDoubt,
            code if code.is_retriable() => Self::AgainInDoubt,
            _ => Self::Fatal,
        }
    }
}
