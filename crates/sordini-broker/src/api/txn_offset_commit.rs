//! TxnOffsetCommit (key 28), versions 0 to 6: a group's offsets are kept if the transaction is
//! committed.
//!
//! - 2: leader epochs. 3: flexible; members and generations (KIP-447). 4: TRANSACTION_ABORTABLE,
//!   which is INVALID_TXN_STATE before. 5: the group's partition becomes part of the transaction by
//!   this request (KIP-890). 6: topics by id, GROUP_ID_NOT_FOUND (KIP-1319), which is
//!   ILLEGAL_GENERATION before.
//! - Before 2 COORDINATOR_LOAD_IN_PROGRESS is COORDINATOR_NOT_AVAILABLE: old clients crash of it.

use sordini_protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use sordini_protocol::{ErrorCode, Uuid};

use super::{Handled, Request, Response};
use crate::broker::Broker;
use crate::coordinator::asking::Ask;
use crate::coordinator::offsets::{ToCommit, is_too_large};
use crate::coordinator::records::{CommittedOffset, OffsetKey};
use crate::time::Now;

/// The first version that names topics by id and knows GROUP_ID_NOT_FOUND.
const TOPIC_IDS_SINCE: i16 = 6;
/// The first version that adds the group's partition to the transaction.
const ADDS_SINCE: i16 = 5;
/// The first version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_SINCE: i16 = 4;
/// The first version that understands COORDINATOR_LOAD_IN_PROGRESS.
const LOADING_SINCE: i16 = 2;

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &TxnOffsetCommitRequest,
) -> Handled {
    let mut offsets = Vec::new();
    let mut codes = Vec::new();
    for topic in &request.topics {
        let by_id = version >= TOPIC_IDS_SINCE;
        match broker.find_topic(by_id, &topic.name, topic.topic_id) {
            Ok((name, id)) => {
                let partitions = topic.partitions.iter().map(|partition| {
                    let index = partition.partition_index;
                    let text = partition.committed_metadata.as_deref();
                    if !broker.has_partition(&name, index) {
                        return ErrorCode::UnknownTopicOrPartition;
                    }
                    if is_too_large(text) {
                        return ErrorCode::OffsetMetadataTooLarge;
                    }
                    let offset = partition.committed_offset;
                    let epoch = partition.committed_leader_epoch;
                    let text = text.unwrap_or_default();
                    offsets.push(to_commit(request, now, (&name, id, index), offset, epoch, text));
                    ErrorCode::None
                });
                let of_topic: Vec<ErrorCode> = partitions.collect();
                codes.push(of_topic);
            }
            Err(code) => codes.push(vec![code; topic.partitions.len()]),
        }
    }
    let response = response(request, version, &codes);
    if offsets.is_empty() {
        return Handled::Respond(Response::TxnOffsetCommit(response));
    }
    if request.group_id.is_empty() {
        let refused = refuse(request, version, ErrorCode::InvalidGroupId);
        return Handled::Respond(Response::TxnOffsetCommit(refused));
    }
    let token = broker.coordinator.token();
    broker.commit_txn_offsets(now, token, version, request, offsets, response);
    Handled::WaitCoordinator(token, Box::new(Request::TxnOffsetCommit(request.clone())))
}

fn to_commit(
    request: &TxnOffsetCommitRequest,
    now: Now,
    (topic, topic_id, partition): (&str, Uuid, i32),
    offset: i64,
    leader_epoch: i32,
    metadata: &str,
) -> ToCommit {
    let key = OffsetKey { group: request.group_id.clone(), topic: topic.to_owned(), partition };
    let metadata = metadata.to_owned();
    let (committed_ms, expires_ms) = (now.wall_ms, None);
    let committed =
        CommittedOffset { offset, leader_epoch, metadata, committed_ms, expires_ms, topic_id };
    (key, committed)
}

/// What a request of this version asks the transaction's coordinator.
pub(crate) fn question(version: i16) -> Ask {
    Ask::of(version >= ADDS_SINCE, version >= ABORTABLE_SINCE)
}

/// What a member is answered of a group that is not known.
pub(crate) fn unknown_group(version: i16) -> ErrorCode {
    match version {
        TOPIC_IDS_SINCE.. => ErrorCode::GroupIdNotFound,
        _ => ErrorCode::IllegalGeneration,
    }
}

fn response(
    request: &TxnOffsetCommitRequest,
    version: i16,
    codes: &[Vec<ErrorCode>],
) -> TxnOffsetCommitResponse {
    let topics = request.topics.iter().zip(codes).map(|(topic, codes)| {
        let partitions = topic.partitions.iter().zip(codes).map(|(partition, code)| {
            TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
            }
        });
        TxnOffsetCommitResponseTopic {
            name: if version < TOPIC_IDS_SINCE { topic.name.clone() } else { String::new() },
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    });
    TxnOffsetCommitResponse { topics: topics.collect(), ..TxnOffsetCommitResponse::default() }
}

/// Refuses all partitions.
pub(super) fn refuse(
    request: &TxnOffsetCommitRequest,
    version: i16,
    code: ErrorCode,
) -> TxnOffsetCommitResponse {
    let code = match code {
        ErrorCode::CoordinatorLoadInProgress if version < LOADING_SINCE => {
            ErrorCode::CoordinatorNotAvailable
        }
        code => code,
    };
    let codes = request.topics.iter().map(|topic| vec![code; topic.partitions.len()]);
    response(request, version, &codes.collect::<Vec<_>>())
}
