//! CreateTopics (key 19), versions 2 to 7.
//!
//! - 4: -1 partitions or replicas mean the broker's defaults. 5: the answer lists the settings.
//!   7: topic ids. One replica is all there can be.
//! - An unknown setting, or a value that it does not take, is INVALID_CONFIG and named.

use std::collections::BTreeMap;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};

use crate::broker::{Broker, Created, NewTopic, TopicError};
use crate::time::Now;
use crate::topic_config::{SETTINGS, TopicConfig};

/// Where a setting's value comes from, in Kafka's numbers.
pub(super) const SOURCE_TOPIC: i8 = 1;
/// Kafka's default.
pub(super) const SOURCE_DEFAULT: i8 = 5;

pub(super) fn handle(
    broker: &mut Broker,
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
            create(broker, now, version, request.validate_only, topic)
        };
        topics.push(answer(&topic.name, result));
    }
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}

fn create(
    broker: &mut Broker,
    now: Now,
    version: i16,
    validate_only: bool,
    topic: &CreatableTopic,
) -> Result<Created, TopicError> {
    let partitions = count_partitions(broker.config.node_id, version, topic)?;
    let settings = topic.configs.iter().map(|c| (c.name.clone(), c.value.clone())).collect();
    let new = NewTopic { name: topic.name.clone(), partitions, settings };
    broker.create_topic(now, &new, validate_only)
}

fn count_partitions(node_id: i32, version: i16, topic: &CreatableTopic) -> Result<i32, TopicError> {
    if topic.assignments.is_empty() {
        if topic.num_partitions == -1 && version < 4 {
            let message =
                "version 4 of CreateTopics is needed to leave the number of partitions out";
            return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
        }
        return match topic.replication_factor {
            1 => Ok(topic.num_partitions),
            -1 if version >= 4 => Ok(topic.num_partitions),
            n => {
                let message = format!("replication factor {n}: this cluster has one broker");
                Err(TopicError::new(ErrorCode::InvalidReplicationFactor, message))
            }
        };
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "with a manual assignment the numbers of partitions and replicas must be -1";
        return Err(TopicError::new(ErrorCode::InvalidRequest, message));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let dense = (0i32..).zip(&indexes).all(|(expected, index)| expected == *index);
    let ours = topic.assignments.iter().all(|a| a.broker_ids == [node_id]);
    if dense && ours {
        return Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX));
    }
    let message = format!("partitions must be 0, 1, 2 .. and each be assigned to broker {node_id}");
    Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message))
}

fn answer(name: &str, result: Result<Created, TopicError>) -> CreatableTopicResult {
    match result {
        Ok(created) => CreatableTopicResult {
            name: name.to_owned(),
            topic_id: created.id,
            num_partitions: created.partitions,
            replication_factor: 1,
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
