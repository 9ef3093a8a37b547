//! What each code asks for.

use crate::transaction::error::FatalError;
use crate::transaction::reaction::Reaction;
use sordini_protocol::{ApiKey, ErrorCode};

/// Made by reading Kafka 4.4: `TransactionManager`'s handlers, and `TransactionCoordinator`.
const EXPECTED: &[(ErrorCode, Reaction)] = &[
    (ErrorCode::None, Reaction::Done),
    (ErrorCode::ConcurrentTransactions, Reaction::Soon),
    (ErrorCode::CoordinatorLoadInProgress, Reaction::AgainInDoubt),
    (ErrorCode::UnknownTopicOrPartition, Reaction::Again),
    (ErrorCode::NotCoordinator, Reaction::Elsewhere),
    (ErrorCode::CoordinatorNotAvailable, Reaction::Elsewhere),
    (ErrorCode::ProducerFenced, Reaction::Fenced),
    (ErrorCode::InvalidTxnState, Reaction::WrongState),
    (ErrorCode::TransactionAbortable, Reaction::Abort),
    (ErrorCode::TopicAuthorizationFailed, Reaction::Abort),
    (ErrorCode::GroupAuthorizationFailed, Reaction::Abort),
    (ErrorCode::FencedInstanceId, Reaction::Abort),
    (ErrorCode::IllegalGeneration, Reaction::Abort),
    (ErrorCode::UnknownMemberId, Reaction::Abort),
    (ErrorCode::TransactionalIdAuthorizationFailed, Reaction::Fatal),
    (ErrorCode::ClusterAuthorizationFailed, Reaction::Fatal),
    (ErrorCode::InvalidTransactionTimeout, Reaction::Fatal),
    (ErrorCode::UnsupportedVersion, Reaction::Fatal),
    (ErrorCode::UnknownServerError, Reaction::AgainInDoubt),
    (ErrorCode::RequestTimedOut, Reaction::AgainInDoubt),
    (ErrorCode::NetworkException, Reaction::AgainInDoubt),
];

const APIS: [ApiKey; 7] = [
    ApiKey::FindCoordinator,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
    ApiKey::DescribeTransactions,
];

#[test]
fn each_answer_asks_for_what_kafka_means_by_it() {
    for api in APIS {
        for (code, reaction) in EXPECTED {
            assert_eq!(Reaction::of(api, *code), *reaction, "{} to {}", code.name(), api.name());
        }
    }
}

/// E13, P17: from a Produce the same code only aborts (`acks::verdict`); from a coordinator, a
/// group's included, it is how an older instance learns that there is a newer one.
#[test]
fn an_old_epoch_told_by_a_coordinator_is_a_fence() {
    for api in APIS {
        let reaction = Reaction::of(api, ErrorCode::InvalidProducerEpoch);
        assert_eq!(reaction, Reaction::Fenced, "{}", api.name());
    }
}

/// Whoever could take it for done, or for void, would be wrong.
#[test]
fn an_answer_that_nobody_expects_is_never_taken_for_success() {
    for api in APIS {
        for code in (-1..=200).filter(|code| *code != 0) {
            let code = ErrorCode::from_code(code);
            assert_ne!(Reaction::of(api, code), Reaction::Done, "{}", code.name());
        }
    }
}

#[test]
fn what_ends_a_producer_is_told_with_the_way_out() {
    for (api, code, remedy) in [
        (ApiKey::InitProducerId, ErrorCode::UnsupportedVersion, "Kafka 2.5 or newer"),
        (ApiKey::EndTxn, ErrorCode::UnsupportedVersion, "transaction.version lowered to 0"),
        (ApiKey::InitProducerId, ErrorCode::InvalidTransactionTimeout, "transaction.timeout.ms"),
        (ApiKey::InitProducerId, ErrorCode::TransactionalIdAuthorizationFailed, "ACL WRITE"),
    ] {
        let told = FatalError { api, code, fenced: None }.to_string();
        assert!(told.contains(code.name()) && told.contains(remedy), "{told}");
    }
}
