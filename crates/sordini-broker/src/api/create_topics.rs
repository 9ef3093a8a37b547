//! CreateTopics (key 19), versions 2 to 7.
//!
//! - 4: -1 partitions or replicas mean the broker's defaults. 5: the answer lists the settings.
//!   7: topic ids. A broker on its own has one replica of each.
//! - An unknown setting, or a value that it does not take, is INVALID_CONFIG and named.

use std::collections::BTreeMap;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};

use crate::broker::{Created, NewTopic, TopicError, TopicKeeper};
use crate::time::Now;
use crate::topic_config::{SETTINGS, TopicConfig};

/// Where a setting's value comes from, in Kafka's numbers.
pub(super) const SOURCE_TOPIC: i8 = 1;
/// Kafka's default.
pub(super) const SOURCE_DEFAULT: i8 = 5;

pub(crate) fn handle(
    keeper: &mut impl TopicKeeper,
    now: Now,
    version: i16,
    request: &CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut topics = Vec::new();
    for topic in &request.topics {
        let result = if times.get(topic.name.as_str()).is_some_and(|times| *times > 1) {
            let message = "the request names the topic more than once";
            Err(TopicError::new(ErrorCode::InvalidRequest, message))
        } else {
            create(keeper, now, version, request.validate_only, topic)
        };
        topics.push(answer(&topic.name, result));
    }
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}

fn create(
    keeper: &mut impl TopicKeeper,
    now: Now,
    version: i16,
    validate_only: bool,
    topic: &CreatableTopic,
) -> Result<Created, TopicError> {
    let (partitions, assignments) = count_partitions(version, topic)?;
    let settings = topic.configs.iter().map(|c| (c.name.clone(), c.value.clone())).collect();
    let (name, replication) = (topic.name.clone(), topic.replication_factor);
    let new = NewTopic { name, partitions, replication, assignments, settings };
    keeper.check_replicas(&new)?;
    keeper.create(now, &new, validate_only)
}

/// How many partitions there are to be, and their replicas if those are named.
fn count_partitions(
    version: i16,
    topic: &CreatableTopic,
) -> Result<(i32, Vec<Vec<i32>>), TopicError> {
    if topic.assignments.is_empty() {
        if topic.num_partitions == -1 && version < 4 {
            let message =
                "version 4 of CreateTopics is needed to leave the number of partitions out";
            return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
        }
        if topic.replication_factor == -1 && version < 4 {
            let message = "version 4 of CreateTopics is needed to leave the replication factor out";
            return Err(TopicError::new(ErrorCode::InvalidReplicationFactor, message));
        }
        return Ok((topic.num_partitions, Vec::new()));
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "with a manual assignment the numbers of partitions and replicas must be -1";
        return Err(TopicError::new(ErrorCode::InvalidRequest, message));
    }
    let by_index = topic.assignments.iter().map(|a| (a.partition_index, a.broker_ids.clone()));
    let mut by_index: Vec<(i32, Vec<i32>)> = by_index.collect();
    by_index.sort_unstable();
    if (0i32..).zip(&by_index).all(|(expected, (index, _))| expected == *index) {
        let count = i32::try_from(by_index.len()).unwrap_or(i32::MAX);
        return Ok((count, by_index.into_iter().map(|(_, replicas)| replicas).collect()));
    }
    let message = "the partitions that are assigned must be 0, 1, 2 .. without a gap";
    Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message))
}

fn answer(name: &str, result: Result<Created, TopicError>) -> CreatableTopicResult {
    match result {
        Ok(created) => CreatableTopicResult {
            name: name.to_owned(),
            topic_id: created.id,
            num_partitions: created.partitions,
            replication_factor: created.replication,
            configs: Some(settings(&created.config)),
            ..CreatableTopicResult::default()
        },
        Err(error) => {
            CreatableTopicResult { error_message: Some(error.message), ..failure(name, error.code) }
        }
    }
}

fn settings(config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let describe = |setting| {
        let (value, set) = config.value(setting);
        CreatableTopicConfigs {
            name: setting.name.to_owned(),
            value: Some(value),
            read_only: false,
            config_source: if set { SOURCE_TOPIC } else { SOURCE_DEFAULT },
            is_sensitive: false,
        }
    };
    SETTINGS.iter().map(describe).collect()
}

fn failure(name: &str, code: ErrorCode) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.to_owned(),
        error_code: code.code(),
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

/// Refuses all topics.
pub(super) fn refuse(
    request: &CreateTopicsRequest,
    _: i16,
    code: ErrorCode,
) -> CreateTopicsResponse {
    let topics = request.topics.iter().map(|topic| failure(&topic.name, code)).collect();
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}
