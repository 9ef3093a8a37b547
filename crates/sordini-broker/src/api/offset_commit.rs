//! OffsetCommit (key 8), versions 2 to 10: a group's offsets are kept.
//!
//! - 2 to 4: how long they are kept (no later version says). 6: leader epochs. 7: instance ids. 8:
//!   flexible. 9: GROUP_ID_NOT_FOUND where a member is named of a group that is not known; before
//!   it is ILLEGAL_GENERATION. 10: topics by id.
//! - Groups have no members here: offsets are taken from who names no generation (-1).

use sordini_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use sordini_protocol::{ErrorCode, Uuid};

use super::{Handled, Request, Response};
use crate::broker::Broker;
use crate::coordinator::offsets::{Membership, ToCommit, is_too_large};
use crate::coordinator::records::{CommittedOffset, OffsetKey};
use crate::time::Now;

/// The first version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 10;
/// The first version that knows GROUP_ID_NOT_FOUND.
const NOT_FOUND_SINCE: i16 = 9;

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &OffsetCommitRequest,
) -> Handled {
    let mut judged = Judged::default();
    for topic in &request.topics {
        let (name, id) =
            match broker.find_topic(version >= TOPIC_IDS_SINCE, &topic.name, topic.topic_id) {
                Ok(found) => found,
                Err(code) => {
                    judged.codes.push(topic.partitions.iter().map(|_| code).collect());
                    continue;
                }
            };
        judged.topic(broker, now, request, topic, &name, id);
    }
    let response = Response::OffsetCommit(response(request, version, &judged.codes));
    if judged.offsets.is_empty() {
        return Handled::Respond(response);
    }
    let token = broker.coordinator.token();
    let member = Membership {
        generation: request.generation_id_or_member_epoch,
        unknown_group: match version {
            NOT_FOUND_SINCE.. => ErrorCode::GroupIdNotFound,
            _ => ErrorCode::IllegalGeneration,
        },
    };
    broker.commit_offsets(now, token, &request.group_id, member, &judged.offsets, response);
    Handled::WaitCoordinator(token, Box::new(Request::OffsetCommit(request.clone())))
}

/// What may be kept, and the code of each partition in the request's order.
#[derive(Default)]
struct Judged {
    offsets: Vec<ToCommit>,
    codes: Vec<Vec<ErrorCode>>,
}

impl Judged {
    fn topic(
        &mut self,
        broker: &Broker,
        now: Now,
        request: &OffsetCommitRequest,
        topic: &OffsetCommitRequestTopic,
        name: &str,
        topic_id: Uuid,
    ) {
        let mut codes = Vec::new();
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let text = partition.committed_metadata.as_deref();
            if !broker.has_partition(name, index) {
                codes.push(ErrorCode::UnknownTopicOrPartition);
                continue;
            }
            if is_too_large(text) {
                codes.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            codes.push(ErrorCode::None);
            let retention = request.retention_time_ms;
            let expires_ms = (retention != -1).then(|| now.wall_ms.saturating_add(retention));
            let committed = CommittedOffset {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: text.unwrap_or_default().to_owned(),
                committed_ms: now.wall_ms,
                expires_ms,
                topic_id,
            };
            let (group, topic) = (request.group_id.clone(), name.to_owned());
            self.offsets.push((OffsetKey { group, topic, partition: index }, committed));
        }
        self.codes.push(codes);
    }
}

fn response(
    request: &OffsetCommitRequest,
    version: i16,
    codes: &[Vec<ErrorCode>],
) -> OffsetCommitResponse {
    let topics = request.topics.iter().zip(codes).map(|(topic, codes)| {
        let partitions = topic.partitions.iter().zip(codes).map(|(partition, code)| {
            OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
            }
        });
        OffsetCommitResponseTopic {
            name: if version < TOPIC_IDS_SINCE { topic.name.clone() } else { String::new() },
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

/// Refuses all partitions.
pub(super) fn refuse(
    request: &OffsetCommitRequest,
    version: i16,
    code: ErrorCode,
) -> OffsetCommitResponse {
    let codes = request.topics.iter().map(|topic| vec![code; topic.partitions.len()]);
    response(request, version, &codes.collect::<Vec<_>>())
}
