//! ListOffsets (key 2), versions 1 to 11.
//!
//! - By timestamp: the first record at or after it. -1: the end (the last stable offset for
//!   read_committed, which holds back what timestamps find as well), -2: the start, -3 (since 7): the largest timestamp, -4 (since 8): the start
//!   of what is local, which here is the start, -5 (since 9) and -6 (since 11): tiered storage,
//!   which there is none of.
//! - A leader whose high watermark has not reached the start of its term answers
//!   OFFSET_NOT_AVAILABLE (since 5; LEADER_NOT_AVAILABLE before), as the end would go back.

use std::collections::BTreeSet;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

use super::check_leader_epoch;
use crate::broker::Broker;
use crate::log::TimestampAndOffset;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(super) fn handle(
    broker: &mut Broker,
    version: i16,
    request: &ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if !seen.insert((&topic.name, partition.partition_index)) {
                twice.insert((&topic.name, partition.partition_index));
            }
        }
    }
    let mut topics = Vec::new();
    for topic in &request.topics {
        let answers = topic.partitions.iter().map(|wanted| {
            if twice.contains(&(&topic.name, wanted.partition_index)) {
                return failure(wanted.partition_index, ErrorCode::InvalidRequest);
            }
            let found = find(broker, version, request.isolation_level, &topic.name, wanted);
            answer(version, wanted.partition_index, found)
        });
        let partitions = answers.collect();
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
    }
    ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }
}

fn find(
    broker: &mut Broker,
    version: i16,
    isolation_level: i8,
    topic: &str,
    wanted: &ListOffsetsPartition,
) -> Result<Option<TimestampAndOffset>, ErrorCode> {
    let since = match wanted.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        unknown if unknown < EARLIEST_PENDING_UPLOAD => i16::MAX,
        _ => 1,
    };
    if version < since {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let (partition, storage) = broker.led(topic, wanted.partition_index)?;
    check_leader_epoch(wanted.current_leader_epoch, partition.leader_epoch)?;
    if !partition.knows_its_end() && !matches!(wanted.timestamp, EARLIEST | EARLIEST_LOCAL) {
        // Clients of that age do not know the error; this one makes them ask again as well.
        let known = version >= 5;
        return Err(if known {
            ErrorCode::OffsetNotAvailable
        } else {
            ErrorCode::LeaderNotAvailable
        });
    }
    let log = &partition.log;
    if log.offline().is_some() {
        return Err(ErrorCode::KafkaStorageError);
    }
    let end = if isolation_level == 1 { log.last_stable() } else { log.high_watermark() };
    let plain =
        |offset, leader_epoch| Ok(Some(TimestampAndOffset { timestamp: -1, offset, leader_epoch }));
    let found = match wanted.timestamp {
        LATEST => return plain(end, partition.leader_epoch),
        EARLIEST | EARLIEST_LOCAL => {
            let start = log.log_start();
            return plain(start, log.epochs().epoch_of(start).unwrap_or(-1));
        }
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return plain(-1, -1),
        MAX_TIMESTAMP => log.find_max_timestamp(storage),
        timestamp => log.find_timestamp(storage, timestamp),
    };
    let found = found.map_err(|error| error.code())?;
    Ok(found.filter(|found| found.offset < end))
}

fn answer(
    version: i16,
    partition_index: i32,
    found: Result<Option<TimestampAndOffset>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    match found {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: if version >= 4 { found.leader_epoch } else { -1 },
            ..ListOffsetsPartitionResponse::default()
        },
        Ok(None) => failure(partition_index, ErrorCode::None),
        Err(code) => failure(partition_index, code),
    }
}

fn failure(partition_index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: code.code(),
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    }
}

/// Refuses all partitions.
pub(super) fn refuse(request: &ListOffsetsRequest, _: i16, code: ErrorCode) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(|p| failure(p.partition_index, code)).collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}
