//! CreatePartitions (key 37), versions 0 to 3: more partitions for a topic. Keys land elsewhere
//! afterwards, as in Kafka.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};

use crate::broker::TopicKeeper;
use crate::time::Now;

pub(crate) fn handle(
    keeper: &mut impl TopicKeeper,
    now: Now,
    request: &CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::new();
    for topic in &request.topics {
        let wanted = topic.assignments.iter().flatten().map(|a| a.broker_ids.clone());
        let wanted: Vec<Vec<i32>> = wanted.collect();
        let dry = request.validate_only;
        let grown = keeper
            .check_assignments(&wanted)
            .and_then(|()| keeper.grow(now, &topic.name, topic.count, &wanted, dry));
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
