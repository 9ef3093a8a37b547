//! CreatePartitions (key 37), versions 0 to 3: more partitions for a topic. Keys land elsewhere
//! afterwards, as in Kafka.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};

use crate::broker::{Broker, TopicError};
use crate::time::Now;

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    request: &CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::new();
    for topic in &request.topics {
        let grown = check_assignment(broker.config.node_id, topic)
            .and_then(|()| broker.grow_topic(now, &topic.name, topic.count, request.validate_only));
        results.push(match grown {
            Ok(()) => CreatePartitionsTopicResult {
                name: topic.name.clone(),
                ..CreatePartitionsTopicResult::default()
            },
            Err(error) => CreatePartitionsTopicResult {
                error_message: Some(error.message),
                ..failure(topic, error.code)
            },
        });
    }
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}

fn check_assignment(node_id: i32, topic: &CreatePartitionsTopic) -> Result<(), TopicError> {
    let ours = topic.assignments.iter().flatten().all(|a| a.broker_ids == [node_id]);
    if ours {
        return Ok(());
    }
    let message = format!("new partitions can be assigned to broker {node_id} only");
    Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message))
}

fn failure(topic: &CreatePartitionsTopic, code: ErrorCode) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult {
        name: topic.name.clone(),
        error_code: code.code(),
        ..CreatePartitionsTopicResult::default()
    }
}

/// Refuses all topics.
pub(super) fn refuse(
    request: &CreatePartitionsRequest,
    _: i16,
    code: ErrorCode,
) -> CreatePartitionsResponse {
    let results = request.topics.iter().map(|topic| failure(topic, code)).collect();
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}
