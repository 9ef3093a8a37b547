//! DescribeProducers (key 61), version 0: what a partition remembers of its producers (KIP-664).
//!
//! - Any replica answers, not only the leader; a broker without one answers NOT_LEADER_OR_FOLLOWER.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicRequest, TopicResponse,
};

use crate::broker::Broker;
use crate::catalog::topic_name_error;
use crate::log::producers::ProducerEntry;

pub(super) fn handle(
    broker: &mut Broker,
    request: &DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| TopicResponse {
        name: topic.name.clone(),
        partitions: match topic_name_error(&topic.name) {
            Some(reason) => all(topic, ErrorCode::InvalidTopicException, Some(reason)),
            None => topic
                .partition_indexes
                .iter()
                .map(|index| describe(broker, &topic.name, *index))
                .collect(),
        },
    });
    DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() }
}

fn describe(broker: &mut Broker, topic: &str, index: i32) -> PartitionResponse {
    let elsewhere = broker.leader_elsewhere(topic, index).is_some();
    let Some((partition, _)) = broker.partition(topic, index) else {
        let code = match elsewhere {
            true => ErrorCode::NotLeaderOrFollower,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        return failure(index, code, None);
    };
    let producers = partition.log.producers().iter();
    let active_producers = producers.map(|(id, entry)| state(id, entry)).collect();
    PartitionResponse { partition_index: index, active_producers, ..PartitionResponse::default() }
}

fn state(producer_id: i64, entry: &ProducerEntry) -> ProducerState {
    ProducerState {
        producer_id,
        producer_epoch: i32::from(entry.epoch),
        last_sequence: entry.last_sequence(),
        last_timestamp: entry.last_timestamp,
        coordinator_epoch: entry.coordinator_epoch,
        current_txn_start_offset: entry.open_transaction.unwrap_or(-1),
    }
}

fn failure(partition_index: i32, code: ErrorCode, message: Option<String>) -> PartitionResponse {
    PartitionResponse {
        partition_index,
        error_code: code.code(),
        error_message: message,
        ..PartitionResponse::default()
    }
}

fn all(topic: &TopicRequest, code: ErrorCode, message: Option<String>) -> Vec<PartitionResponse> {
    let indexes = topic.partition_indexes.iter();
    indexes.map(|index| failure(*index, code, message.clone())).collect()
}

/// Refuses all partitions.
pub(super) fn refuse(
    request: &DescribeProducersRequest,
    _: i16,
    code: ErrorCode,
) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| TopicResponse {
        name: topic.name.clone(),
        partitions: all(topic, code, None),
    });
    DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() }
}
