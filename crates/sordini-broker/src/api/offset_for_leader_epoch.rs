//! OffsetForLeaderEpoch (key 23), versions 2 to 4: where an epoch ended (KIP-320), by which a
//! consumer finds out that the log was truncated.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

use super::check_leader_epoch;
use crate::broker::Broker;

pub(super) fn handle(
    broker: &mut Broker,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::new();
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = find(broker, &topic.topic, wanted);
            found.unwrap_or_else(|code| failure(wanted.partition, code))
        });
        let partitions = partitions.collect();
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() }
}

fn find(
    broker: &mut Broker,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, ErrorCode> {
    let (partition, _) = broker.led(topic, wanted.partition)?;
    check_leader_epoch(wanted.current_leader_epoch, partition.leader_epoch)?;
    let log = &partition.log;
    if log.offline().is_some() {
        return Err(ErrorCode::KafkaStorageError);
    }
    let (leader_epoch, end_offset) =
        log.epochs().end_offset_for(wanted.leader_epoch, log.log_end());
    Ok(EpochEndOffset { error_code: 0, partition: wanted.partition, leader_epoch, end_offset })
}

fn failure(partition: i32, code: ErrorCode) -> EpochEndOffset {
    EpochEndOffset { error_code: code.code(), partition, leader_epoch: -1, end_offset: -1 }
}

/// Refuses all partitions.
pub(super) fn refuse(
    request: &OffsetForLeaderEpochRequest,
    _: i16,
    code: ErrorCode,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(|p| failure(p.partition, code)).collect(),
    });
    let topics = topics.collect();
    OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() }
}
