//! Fetch (key 1), versions 4 to 18.
//!
//! - 4: isolation level. 5: log start offset. 7: sessions (KIP-227), which this broker never
//!   opens: it answers session id 0, and every fetch is a full one. 9: leader epoch of the
//!   client. 10: zstd. 12: flexible, diverging epoch. 13: topics by id. 16: endpoints of leaders.
//! - Served by a partition's leader only: followers send consumers there (no KIP-392).
//! - Waits for min_bytes up to max_wait; an error, or nothing wanted, is answered at once.
//! - The first batch of the first partition that has one comes whatever its size.
//! - read_committed ends at the last stable offset, and names the aborted transactions that have
//!   records in the answer, in the order of their markers. Markers are answered like records.

use std::collections::BTreeSet;

use bytes::Bytes;
use sordini_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, FetchResponse,
    FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use sordini_protocol::{ErrorCode, Uuid};

use super::{Handled, Response, check_leader_epoch};
use crate::broker::{Broker, WaitingFetch};
use crate::log::batch;
use crate::time::Now;

/// The first version that names the leader beside an error, with its endpoint (KIP-951).
const LEADER_SINCE: i16 = 16;
/// The longest that a fetch waits.
const MAX_WAIT_MS: i32 = 10 * 60 * 1000;

/// What there is to read.
pub(crate) struct Read {
    pub response: FetchResponse,
    /// Bytes short of what the request waits for; 0 if it is to be answered.
    pub missing: u64,
}

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &FetchRequest,
) -> Handled {
    if request.session_id != 0 && request.session_epoch > 0 {
        let response = refuse(request, version, ErrorCode::FetchSessionIdNotFound);
        return Handled::Respond(Response::Fetch(response));
    }
    let Read { response, missing } = read(broker, version, request);
    if missing == 0 || request.max_wait_ms <= 0 {
        return Handled::Respond(Response::Fetch(response));
    }
    let deadline = now.mono.after_millis(i64::from(request.max_wait_ms.min(MAX_WAIT_MS)));
    let partitions = wanted_partitions(broker, version, request);
    Handled::WaitFetch(WaitingFetch { request: request.clone(), deadline, missing, partitions })
}

fn wanted_partitions(
    broker: &Broker,
    version: i16,
    request: &FetchRequest,
) -> BTreeSet<(Uuid, i32)> {
    let mut wanted = BTreeSet::new();
    for topic in &request.topics {
        let id = if version >= 13 {
            Some(topic.topic_id)
        } else {
            broker.topics.get(&topic.topic).map(|topic| topic.id)
        };
        for partition in &topic.partitions {
            wanted.extend(id.map(|id| (id, partition.partition)));
        }
    }
    wanted
}

/// Reads what there is for a request.
pub(crate) fn read(broker: &mut Broker, version: i16, request: &FetchRequest) -> Read {
    let limit = request.max_bytes.min(broker.config.fetch_max_bytes);
    let mut budget = usize::try_from(limit).unwrap_or(0);
    let min_bytes = u64::try_from(request.min_bytes.min(limit)).unwrap_or(0);
    let mut response = FetchResponse::default();
    let (mut found, mut answer_now) = (0u64, request.topics.is_empty());
    for topic in &request.topics {
        let name = if version >= 13 {
            broker.topic_name(&topic.topic_id).map(str::to_owned).ok_or(ErrorCode::UnknownTopicId)
        } else {
            Ok(topic.topic.clone())
        };
        let mut partitions = Vec::new();
        for wanted in &topic.partitions {
            let data = match &name {
                Ok(name) => read_partition(
                    broker,
                    name,
                    wanted,
                    request.isolation_level,
                    budget,
                    found == 0,
                ),
                Err(code) => Err(*code),
            };
            let data = data.unwrap_or_else(|code| {
                let mut data = failure(version, wanted.partition, code);
                if let Ok(name) = &name {
                    name_leader(broker, version, name, &mut data, &mut response.node_endpoints);
                }
                data
            });
            let bytes = data.records.as_ref().map_or(0, Bytes::len);
            budget = budget.saturating_sub(bytes);
            found += bytes as u64;
            answer_now |= data.error_code != 0 || data.diverging_epoch.epoch >= 0;
            partitions.push(data);
        }
        response.responses.push(FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    let missing = if answer_now { 0 } else { min_bytes.saturating_sub(found) };
    Read { response, missing }
}

fn read_partition(
    broker: &mut Broker,
    topic: &str,
    wanted: &FetchPartition,
    isolation_level: i8,
    budget: usize,
    at_least_one: bool,
) -> Result<PartitionData, ErrorCode> {
    let (partition, storage) = broker.led(topic, wanted.partition)?;
    check_leader_epoch(wanted.current_leader_epoch, partition.leader_epoch)?;
    let log = &partition.log;
    let committed_only = isolation_level == 1;
    let mut data = PartitionData {
        partition_index: wanted.partition,
        high_watermark: log.high_watermark(),
        last_stable_offset: log.last_stable(),
        log_start_offset: log.log_start(),
        aborted_transactions: None,
        records: Some(Bytes::new()),
        ..PartitionData::default()
    };
    if let Some(diverging) = diverging(broker_epochs(log), wanted) {
        data.diverging_epoch = diverging;
        return Ok(data);
    }
    let upper = if committed_only { log.last_stable() } else { log.high_watermark() };
    let max_bytes = budget.min(usize::try_from(wanted.partition_max_bytes).unwrap_or(0));
    let bytes = log
        .read(storage, wanted.fetch_offset, max_bytes, at_least_one, upper)
        .map_err(|error| error.code())?;
    if committed_only {
        let aborted = match batch::end_of(&bytes) {
            Some(end) => log.aborted_transactions(wanted.fetch_offset, end),
            None => Vec::new(),
        };
        let told = aborted.iter().map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
        });
        data.aborted_transactions = Some(told.collect());
    }
    data.records = Some(bytes);
    Ok(data)
}

/// Names the leader beside an error that another leader explains (KIP-951).
fn name_leader(
    broker: &Broker,
    version: i16,
    topic: &str,
    data: &mut PartitionData,
    endpoints: &mut Vec<NodeEndpoint>,
) {
    let code = ErrorCode::from_code(data.error_code);
    if version < LEADER_SINCE
        || !matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)
    {
        return;
    }
    let Some(hint) = broker.leader_hint(topic, data.partition_index) else { return };
    data.current_leader = LeaderIdAndEpoch { leader_id: hint.id, leader_epoch: hint.epoch };
    if let Some((host, port)) = hint.endpoint
        && endpoints.iter().all(|endpoint| endpoint.node_id != hint.id)
    {
        endpoints.push(NodeEndpoint { node_id: hint.id, host, port: i32::from(port), rack: None });
    }
}

fn broker_epochs(log: &crate::log::PartitionLog) -> impl Fn(i32) -> (i32, i64) + '_ {
    |epoch| log.epochs().end_offset_for(epoch, log.log_end())
}

/// Where the client's log and this one part, if they do (KIP-595).
fn diverging(
    end_offset_for: impl Fn(i32) -> (i32, i64),
    wanted: &FetchPartition,
) -> Option<EpochEndOffset> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end_offset) = end_offset_for(wanted.last_fetched_epoch);
    let parted = epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset;
    parted.then_some(EpochEndOffset { epoch, end_offset })
}

fn failure(version: i16, partition_index: i32, code: ErrorCode) -> PartitionData {
    // Clients of that age do not know the error; this one makes them look for the leader again.
    let code = match code {
        ErrorCode::KafkaStorageError if version <= 5 => ErrorCode::NotLeaderOrFollower,
        code => code,
    };
    PartitionData {
        partition_index,
        error_code: code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Some(Bytes::new()),
        ..PartitionData::default()
    }
}

/// Refuses the request: as a whole where the version can, and by partition.
pub(super) fn refuse(request: &FetchRequest, version: i16, code: ErrorCode) -> FetchResponse {
    let whole = matches!(
        code,
        ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError
    );
    let responses = request.topics.iter().map(|topic| FetchableTopicResponse {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|wanted| failure(version, wanted.partition, code))
            .collect(),
    });
    FetchResponse {
        error_code: if whole { code.code() } else { 0 },
        responses: if whole { Vec::new() } else { responses.collect() },
        ..FetchResponse::default()
    }
}
