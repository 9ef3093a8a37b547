//! What a partition's error code in a Produce response means for its batch.
//!
//! A total function: every code of Kafka 4.4 has its place, and a new one does not compile until
//! it has. The expectations are committed in `tests/verdicts.tsv`, made from the sources of Java's
//! client, librdkafka and the broker.

use sordini_protocol::{ErrorCode as E, mutant};

use crate::error::Fate;

/// What to do with the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is in the log, at an offset that the response tells.
    Written,
    /// It was in the log already; the offset is not told.
    WrittenDuplicate,
    /// The same bytes again, after a backoff.
    Retry {
        /// Ask for metadata first.
        refresh: bool,
        /// This attempt may have appended the batch.
        ambiguous: bool,
    },
    /// Two smaller batches in its place, over exactly its sequences. A batch of one record fails,
    /// not written.
    Split,
    /// This attempt appended nothing, and no attempt under this stamp will: take a new epoch,
    /// stamp the batch anew, send it again (KIP-360).
    Renew,
    /// It failed for good.
    Fail {
        /// May it be in the log?
        fate: Fate,
        /// The producer cannot go on.
        fatal: bool,
    },
}

/// What the verdict depends on beside the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// `acks=all`: the broker answers only when replicas have it, so that an error may come after
    /// the append.
    pub replicated: bool,
    /// The batch carries a producer id and a sequence.
    pub idempotent: bool,
    /// It was the oldest unresolved batch of its partition when it was sent.
    pub head: bool,
    /// An earlier attempt's outcome is unknown.
    pub ambiguous: bool,
    /// The response's base offset; -1 if the broker told none.
    pub base_offset: i64,
    /// The response's log start offset; -1 if the broker told none.
    pub log_start_offset: i64,
}

/// Codes that call for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Appended,
    Duplicate,
    /// Nothing was appended; it may be the next time.
    Later {
        refresh: bool,
    },
    /// The leader is another, or none: with `acks=all` this one may have appended before it
    /// stepped down.
    LeaderLost,
    /// Retriable, and perhaps appended.
    Unsettled {
        refresh: bool,
    },
    TooLarge,
    /// The broker's state for this producer and the batch's stamp do not fit together.
    OutOfSequence,
    /// Refused before the append.
    Refused,
    /// The same, and an idempotent producer can do nothing more.
    RefusedForGood,
    /// No broker answers a Produce request so: nothing is known of the append.
    Senseless,
}

#[rustfmt::skip]
fn kind(code: E) -> Kind {
    match code {
        E::None => Kind::Appended,
        E::DuplicateSequenceNumber => Kind::Duplicate,
        E::CorruptMessage
        | E::CoordinatorLoadInProgress
        | E::CoordinatorNotAvailable
        | E::NotCoordinator
        | E::NotEnoughReplicas
        | E::ConcurrentTransactions => Kind::Later { refresh: false },
        E::UnknownTopicOrPartition
        | E::LeaderNotAvailable
        | E::BrokerNotAvailable
        | E::ReplicaNotAvailable
        | E::UnknownTopicId => Kind::Later { refresh: true },
        E::NotLeaderOrFollower
        | E::FencedLeaderEpoch => Kind::LeaderLost,
        E::RequestTimedOut
        | E::NotEnoughReplicasAfterAppend
        | E::NotController
        | E::FetchSessionIdNotFound
        | E::InvalidFetchSessionEpoch
        | E::UnknownLeaderEpoch
        | E::OffsetNotAvailable
        | E::UnstableOffsetCommit
        | E::ThrottlingQuotaExceeded
        | E::FetchSessionTopicIdError
        | E::ShareSessionNotFound
        | E::InvalidShareSessionEpoch
        | E::ShareSessionLimitReached => Kind::Unsettled { refresh: false },
        E::NetworkException
        | E::KafkaStorageError
        | E::ListenerNotFound
        | E::PreferredLeaderNotAvailable
        | E::EligibleLeadersNotAvailable
        | E::ElectionNotNeeded
        | E::InconsistentTopicId => Kind::Unsettled { refresh: true },
        E::MessageTooLarge
        | E::RecordListTooLarge => Kind::TooLarge,
        E::OutOfOrderSequenceNumber
        | E::InvalidProducerEpoch
        | E::UnknownProducerId => Kind::OutOfSequence,
        E::InvalidTopicException
        | E::InvalidRequiredAcks
        | E::TopicAuthorizationFailed
        | E::InvalidTimestamp
        | E::InvalidRequest
        | E::UnsupportedForMessageFormat
        | E::InvalidTxnState
        | E::UnsupportedCompressionType
        | E::InvalidRecord
        | E::TransactionAbortable => Kind::Refused,
        E::ClusterAuthorizationFailed
        | E::UnsupportedVersion
        | E::InvalidProducerIdMapping
        | E::TransactionalIdAuthorizationFailed
        | E::ProducerFenced => Kind::RefusedForGood,
        E::UnknownServerError
        | E::OffsetOutOfRange
        | E::InvalidFetchSize
        | E::StaleControllerEpoch
        | E::OffsetMetadataTooLarge
        | E::IllegalGeneration
        | E::InconsistentGroupProtocol
        | E::InvalidGroupId
        | E::UnknownMemberId
        | E::InvalidSessionTimeout
        | E::RebalanceInProgress
        | E::InvalidCommitOffsetSize
        | E::GroupAuthorizationFailed
        | E::UnsupportedSaslMechanism
        | E::IllegalSaslState
        | E::TopicAlreadyExists
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::InvalidConfig
        | E::PolicyViolation
        | E::InvalidTransactionTimeout
        | E::TransactionCoordinatorFenced
        | E::SecurityDisabled
        | E::OperationNotAttempted
        | E::LogDirNotFound
        | E::SaslAuthenticationFailed
        | E::ReassignmentInProgress
        | E::DelegationTokenAuthDisabled
        | E::DelegationTokenNotFound
        | E::DelegationTokenOwnerMismatch
        | E::DelegationTokenRequestNotAllowed
        | E::DelegationTokenAuthorizationFailed
        | E::DelegationTokenExpired
        | E::InvalidPrincipalType
        | E::NonEmptyGroup
        | E::GroupIdNotFound
        | E::TopicDeletionDisabled
        | E::StaleBrokerEpoch
        | E::MemberIdRequired
        | E::GroupMaxSizeReached
        | E::FencedInstanceId
        | E::NoReassignmentInProgress
        | E::GroupSubscribedToTopic
        | E::ResourceNotFound
        | E::DuplicateResource
        | E::UnacceptableCredential
        | E::InconsistentVoterSet
        | E::InvalidUpdateVersion
        | E::FeatureUpdateFailed
        | E::PrincipalDeserializationFailure
        | E::SnapshotNotFound
        | E::PositionOutOfRange
        | E::DuplicateBrokerRegistration
        | E::BrokerIdNotRegistered
        | E::InconsistentClusterId
        | E::TransactionalIdNotFound
        | E::IneligibleReplica
        | E::NewLeaderElected
        | E::OffsetMovedToTieredStorage
        | E::FencedMemberEpoch
        | E::UnreleasedInstanceId
        | E::UnsupportedAssignor
        | E::StaleMemberEpoch
        | E::MismatchedEndpointType
        | E::UnsupportedEndpointType
        | E::UnknownControllerId
        | E::UnknownSubscriptionId
        | E::TelemetryTooLarge
        | E::InvalidRegistration
        | E::InvalidRecordState
        | E::FencedStateEpoch
        | E::InvalidVoterKey
        | E::DuplicateVoter
        | E::VoterNotFound
        | E::InvalidRegularExpression
        | E::RebootstrapRequired
        | E::StreamsInvalidTopology
        | E::StreamsInvalidTopologyEpoch
        | E::StreamsTopologyFenced
        | E::GroupDeletionFailed
        | E::StreamsTopologyDescriptionUpdateFailed
        | E::ControllerIdNotRegistered
        | E::Unrecognized(_) => Kind::Senseless,
    }
}

impl Verdict {
    /// What `code` means for a batch in `context`.
    #[must_use]
    pub fn of(code: E, context: Context) -> Self {
        if mutant!(M3) && code == E::RequestTimedOut {
            return Self::Retry { refresh: false, ambiguous: false };
        }
        let verdict = Self::by_kind(code, context);
        // The broker tells a base offset only once it has appended, whatever goes wrong after.
        match verdict {
            Self::Retry { refresh, .. } if context.base_offset >= 0 => {
                Self::Retry { refresh, ambiguous: true }
            }
            Self::Fail { fatal, .. } if context.base_offset >= 0 => {
                Self::Fail { fate: Fate::Unknown, fatal }
            }
            Self::Split | Self::Renew if context.base_offset >= 0 => {
                Self::Fail { fate: Fate::Unknown, fatal: false }
            }
            verdict => verdict,
        }
    }

    fn by_kind(code: E, context: Context) -> Self {
        let refused = if context.ambiguous { Fate::Unknown } else { Fate::NotWritten };
        let fail = |fate| Self::Fail { fate, fatal: false };
        match kind(code) {
            Kind::Appended => Self::Written,
            Kind::Duplicate => Self::WrittenDuplicate,
            Kind::Later { refresh } => Self::Retry { refresh, ambiguous: false },
            Kind::LeaderLost => Self::Retry { refresh: true, ambiguous: context.replicated },
            Kind::Unsettled { refresh } => Self::Retry { refresh, ambiguous: true },
            Kind::TooLarge if context.ambiguous => fail(Fate::Unknown),
            Kind::TooLarge => Self::Split,
            Kind::OutOfSequence if !context.idempotent => fail(refused),
            // Behind an older batch the answer follows from that one's fate (bugs: KAFKA-5494);
            // UNKNOWN_PRODUCER_ID without a log start offset says nothing at all.
            Kind::OutOfSequence
                if !context.head
                    || (code == E::UnknownProducerId && context.log_start_offset < 0) =>
            {
                Self::Retry { refresh: false, ambiguous: false }
            }
            Kind::OutOfSequence if context.ambiguous => fail(Fate::Unknown),
            Kind::OutOfSequence => Self::Renew,
            Kind::Refused => fail(refused),
            Kind::RefusedForGood => Self::Fail { fate: refused, fatal: context.idempotent },
            Kind::Senseless => fail(Fate::Unknown),
        }
    }
}

#[cfg(test)]
mod tests;
