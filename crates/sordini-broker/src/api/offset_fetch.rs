//! OffsetFetch (key 9), versions 1 to 10: the offsets that a group has committed.
//!
//! - 2: null topics mean all; errors of the group as a whole. 5: leader epochs. 6: flexible. 7:
//!   stable offsets only: where a transaction is open, UNSTABLE_OFFSET_COMMIT (KIP-447). 8: many
//!   groups at once. 9: members of the new kind of groups, which are not served. 10: topics by id.
//! - A partition without an offset is answered with -1, as is one of a group that is not known.

use std::collections::BTreeMap;

use sordini_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use sordini_protocol::{ErrorCode, Uuid};

use super::{Handled, Request};
use crate::broker::Broker;
use crate::coordinator::groups::Known;
use crate::coordinator::offsets::GroupOffsets;
use crate::coordinator::records::OffsetKey;
use crate::time::Now;

/// The first version of errors that concern a group as a whole.
const GROUP_ERRORS_SINCE: i16 = 2;
/// The first version that asks of many groups.
const GROUPS_SINCE: i16 = 8;
/// The first version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 10;

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &OffsetFetchRequest,
) -> Handled {
    let token = broker.coordinator.token();
    broker.fetch_offsets(now, token, version, request);
    Handled::WaitCoordinator(token, Box::new(Request::OffsetFetch(request.clone())))
}

/// The groups that a request names.
pub(crate) fn groups(request: &OffsetFetchRequest) -> impl Iterator<Item = &str> {
    let one = request.groups.is_empty().then_some(request.group_id.as_str());
    one.into_iter().chain(request.groups.iter().map(|group| group.group_id.as_str()))
}

/// The request in its newest form.
fn normalized(version: i16, request: &OffsetFetchRequest) -> Vec<OffsetFetchRequestGroup> {
    if version >= GROUPS_SINCE {
        return request.groups.clone();
    }
    let topics = request.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name.clone(),
            topic_id: Uuid::ZERO,
            partition_indexes: topic.partition_indexes.clone(),
        });
        topics.collect()
    });
    let group_id = request.group_id.clone();
    vec![OffsetFetchRequestGroup { group_id, topics, ..OffsetFetchRequestGroup::default() }]
}

/// What is known now.
pub(crate) fn answer(
    broker: &mut Broker,
    version: i16,
    request: &OffsetFetchRequest,
) -> OffsetFetchResponse {
    let groups = normalized(version, request);
    let answers = groups.iter().map(|group| answer_group(broker, version, request, group));
    denormalized(version, answers.collect())
}

fn answer_group(
    broker: &mut Broker,
    version: i16,
    request: &OffsetFetchRequest,
    group: &OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let by_id = version >= TOPIC_IDS_SINCE;
    let resolved = group.topics.as_ref().map(|topics| {
        let name = |topic: &OffsetFetchRequestTopics| match by_id {
            true => broker.topic_name(&topic.topic_id).map(str::to_owned),
            false => Some(topic.name.clone()),
        };
        topics.iter().map(|topic| (name(topic), topic.clone())).collect::<Vec<_>>()
    });
    let ids: BTreeMap<String, Uuid> =
        broker.topics.iter().map(|(name, topic)| (name.clone(), topic.id)).collect();
    let offsets = match broker.offsets_of(&group.group_id) {
        Ok(offsets) => offsets,
        Err(code) => return group_error(version, group, code),
    };
    let stable = request.require_stable;
    let topics: Vec<OffsetFetchResponseTopics> = match resolved {
        Some(topics) => topics
            .into_iter()
            .map(|(name, topic)| match name {
                Some(name) => of_topic(&offsets, &group.group_id, &name, &topic, stable),
                None => failed_topic(&topic, ErrorCode::UnknownTopicId),
            })
            .collect(),
        None => all_topics(&offsets, &group.group_id, by_id, &ids, stable),
    };
    OffsetFetchResponseGroup { group_id: group.group_id.clone(), topics, error_code: 0 }
}

fn all_topics(
    offsets: &GroupOffsets<'_>,
    group: &str,
    by_id: bool,
    ids: &BTreeMap<String, Uuid>,
    stable: bool,
) -> Vec<OffsetFetchResponseTopics> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for key in offsets.all(group) {
        found.entry(key.topic).or_default().push(key.partition);
    }
    let topics = found.into_iter().filter_map(|(name, partition_indexes)| {
        let topic_id = ids.get(&name).copied().unwrap_or(Uuid::ZERO);
        if by_id && topic_id.is_zero() {
            return None;
        }
        let topic = OffsetFetchRequestTopics { name: name.clone(), topic_id, partition_indexes };
        Some(of_topic(offsets, group, &name, &topic, stable))
    });
    topics.collect()
}

fn of_topic(
    offsets: &GroupOffsets<'_>,
    group: &str,
    name: &str,
    topic: &OffsetFetchRequestTopics,
    stable: bool,
) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|index| {
        let (group, topic) = (group.to_owned(), name.to_owned());
        let key = OffsetKey { group, topic, partition: *index };
        match offsets.get(&key, stable) {
            Known::Committed(committed) => OffsetFetchResponsePartitions {
                partition_index: *index,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                metadata: Some(committed.metadata.clone()),
                error_code: 0,
            },
            Known::Unstable => nothing(*index, ErrorCode::UnstableOffsetCommit),
            Known::Nothing => nothing(*index, ErrorCode::None),
        }
    });
    let (name, topic_id) = (topic.name.clone(), topic.topic_id);
    OffsetFetchResponseTopics { name, topic_id, partitions: partitions.collect() }
}

fn nothing(partition_index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code: code.code(),
    }
}

fn failed_topic(topic: &OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|index| nothing(*index, code));
    let (name, topic_id) = (topic.name.clone(), topic.topic_id);
    OffsetFetchResponseTopics { name, topic_id, partitions: partitions.collect() }
}

fn group_error(
    version: i16,
    group: &OffsetFetchRequestGroup,
    code: ErrorCode,
) -> OffsetFetchResponseGroup {
    let mut answer =
        OffsetFetchResponseGroup { group_id: group.group_id.clone(), ..Default::default() };
    if version >= GROUP_ERRORS_SINCE {
        answer.error_code = code.code();
    } else {
        let topics = group.topics.iter().flatten();
        answer.topics = topics.map(|topic| failed_topic(topic, code)).collect();
    }
    answer
}

fn denormalized(version: i16, mut groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    if version >= GROUPS_SINCE {
        for topic in groups.iter_mut().flat_map(|group| &mut group.topics) {
            // A topic has one of the two.
            if version >= TOPIC_IDS_SINCE {
                topic.name.clear();
            } else {
                topic.topic_id = Uuid::ZERO;
            }
        }
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let Some(group) = groups.pop() else { return OffsetFetchResponse::default() };
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|p| OffsetFetchResponsePartition {
            partition_index: p.partition_index,
            committed_offset: p.committed_offset,
            committed_leader_epoch: p.committed_leader_epoch,
            metadata: p.metadata,
            error_code: p.error_code,
        });
        OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}

/// Refuses all groups.
pub(super) fn refuse(
    request: &OffsetFetchRequest,
    version: i16,
    code: ErrorCode,
) -> OffsetFetchResponse {
    let groups = normalized(version, request);
    denormalized(version, groups.iter().map(|group| group_error(version, group, code)).collect())
}
