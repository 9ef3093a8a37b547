//! Produce (key 0), versions 3 to 13; 0 to 2 are advertised but not served, as in Kafka 4.
//!
//! - 3: record batches of magic 2, one per partition. 4: KAFKA_STORAGE_ERROR. 5: log start
//!   offset. 7: zstd. 8: record errors and error messages (KIP-467). 9: flexible. 10: current
//!   leader (KIP-951). 12: transactions of KIP-890. 13: topics by id (KIP-516).
//! - acks 0 gets no answer; an error then closes the connection. acks 1 and -1 are the same on
//!   a broker of its own: as Kafka 4 does, `min.insync.replicas` asks for no more replicas in
//!   sync than a partition has replicas.
//! - A retry of one of a producer's last five batches is answered with plain success and the
//!   offset it was first given; its log-append time is then the batch's largest timestamp, even
//!   where the topic keeps the producer's (as Kafka answers).

use std::collections::BTreeSet;

use bytes::Bytes;
use sordini_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use sordini_protocol::{ErrorCode, mutant};

use super::{Handled, Response};
use crate::broker::{Broker, PendingBatch, WaitingCommit, WaitingProduce};
use crate::cluster::TooFewInSync;
use crate::faults::{ErrorStrike, LeaderHint, Strike};
use crate::log::Appended;
use crate::log::batch::Header;
use crate::time::Now;
use crate::validate::{self, Rejection, Rules, Validated};

/// The first version that names the leader beside an error (KIP-951).
const LEADER_SINCE: i16 = 10;

/// What a partition's batch came to.
struct Stored {
    base_offset: i64,
    log_append_time: i64,
    log_start: i64,
    /// Whether the answer must wait for a sync.
    unsynced: bool,
    /// Where the batch ends and in which term it was taken: in a cluster, acks=all waits for the
    /// high watermark to get there.
    ends: (i64, i32),
}

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &ProduceRequest,
    strike: &Strike,
) -> Handled {
    if !matches!(request.acks, -1..=1) {
        let response = refuse(request, version, ErrorCode::InvalidRequiredAcks);
        return finish(broker, now, version, request, response, Vec::new());
    }
    let mut response = ProduceResponse::default();
    let mut pending = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, topic) in request.topic_data.iter().enumerate() {
        let name = resolve(broker, version, topic);
        let mut answers = Vec::new();
        for (index, data) in topic.partition_data.iter().enumerate() {
            let first_time = seen.insert((topic.name.clone(), topic.topic_id, data.index));
            let ordered = strike.before.iter().find(|error| match &name {
                Ok(name) => error.covers(name, data.index),
                Err(_) => error.topic.is_none(),
            });
            let result = match (&name, ordered) {
                (_, Some(error)) => Err((ordered_rejection(error), -1)),
                _ if !first_time => Err((twice(data.index), -1)),
                (Err(code), None) => Err((Rejection::new(*code, unknown(topic)), -1)),
                (Ok(name), None) => store(broker, now, version, request, name, data),
            };
            if let (Ok(stored), Ok(name)) = (&result, &name)
                && (stored.unsynced || broker.node.is_some())
                && let Some(topic) = broker.topics.get(name).map(|topic| topic.id)
            {
                if stored.unsynced {
                    broker.note_unsynced(topic, data.index);
                }
                let (end, leader_epoch) = stored.ends;
                let partition = data.index;
                pending.push(PendingBatch { topic, partition, at, index, end, leader_epoch });
            }
            let mut answer = answer(data.index, result);
            let hint = match (ordered, &name) {
                (Some(error), _) => error.leader.clone(),
                (None, Ok(name)) if answer.error_code == ErrorCode::NotLeaderOrFollower.code() => {
                    broker.leader_hint(name, data.index)
                }
                _ => None,
            };
            if let Some(hint) = hint.filter(|_| version >= LEADER_SINCE) {
                name_leader(&mut response.node_endpoints, &mut answer, &hint);
            }
            answers.push(answer);
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: answers,
        });
    }
    finish(broker, now, version, request, response, pending)
}

fn finish(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &ProduceRequest,
    response: ProduceResponse,
    pending: Vec<PendingBatch>,
) -> Handled {
    if request.acks == 0 {
        let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let failed = answers.into_iter().find(|answer| answer.error_code != 0);
        return match failed {
            None => Handled::Silence,
            Some(answer) => Handled::Close(format!(
                "a Produce request with acks=0 failed for partition {}: {}",
                answer.index,
                ErrorCode::from_code(answer.error_code).name()
            )),
        };
    }
    if broker.node.is_some() {
        let deadline = now.mono.after_millis(i64::from(request.timeout_ms));
        let pending = if request.acks == -1 { pending } else { Vec::new() };
        let mut waiting = WaitingCommit { response, pending, deadline };
        broker.settle(version, &mut waiting);
        if !waiting.pending.is_empty() {
            return Handled::WaitCommit(waiting);
        }
        return Handled::Respond(Response::Produce(waiting.response));
    }
    if broker.config.fsync && !pending.is_empty() {
        return Handled::WaitSync(WaitingProduce { response, pending });
    }
    Handled::Respond(Response::Produce(response))
}

fn resolve(broker: &Broker, version: i16, topic: &TopicProduceData) -> Result<String, ErrorCode> {
    if version < 13 {
        return Ok(topic.name.clone());
    }
    broker.topic_name(&topic.topic_id).map(str::to_owned).ok_or(ErrorCode::UnknownTopicId)
}

fn unknown(topic: &TopicProduceData) -> String {
    format!("this broker has no topic with the id {}", topic.topic_id)
}

fn twice(partition: i32) -> Rejection {
    let message = format!("the request names partition {partition} of one topic twice");
    Rejection::new(ErrorCode::InvalidRequest, message)
}

fn ordered_rejection(error: &ErrorStrike) -> Rejection {
    Rejection::new(error.code, "an error on order")
}

/// Validates and appends one partition's batch. An error comes with the log start offset that
/// Kafka answers beside it.
fn store(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &ProduceRequest,
    topic: &str,
    data: &PartitionProduceData,
) -> Result<Stored, (Rejection, i64)> {
    let max_decompressed_bytes = broker.config.max_decompressed_bytes;
    let fsync = broker.config.fsync;
    let traced = broker.is_traced();
    let in_sync = broker.check_in_sync(topic, data.index);
    let (partition, storage) = broker.led(topic, data.index).map_err(|code| {
        let what = if code == ErrorCode::NotLeaderOrFollower { "does not lead" } else { "has no" };
        let name = topic.escape_default();
        (Rejection::new(code, format!("this broker {what} partition {} of {name}", data.index)), -1)
    })?;
    let sole = partition.replica.is_none();
    let log_start = partition.log.log_start();
    let reject = |rejection: Rejection| {
        let known = !rejection.early && !forgets_log_start(rejection.code);
        (rejection, if known { log_start } else { -1 })
    };
    let records = data.records.clone().unwrap_or_default();
    check_request(request, topic, Header::new(&records))
        .map_err(|rejection| reject(rejection.early()))?;
    let config = partition.log.config();
    if let (-1, Err(few)) = (request.acks, in_sync) {
        return Err((too_few(few), log_start));
    }
    let wall_ms = now.wall_ms;
    let rules = Rules { config, version, wall_ms, max_decompressed_bytes };
    let Validated { header, body, log_append_time } =
        validate::validate(&records, &rules).map_err(reject)?;
    let epoch = partition.leader_epoch;
    let appended = partition
        .log
        .append(storage, header, &body, epoch, wall_ms)
        .map_err(|error| reject(Rejection::new(error.code(), error.to_string())));
    let appended = match appended {
        Ok(appended) => appended,
        Err(refused) => {
            if let Some(reason) = partition.log.offline().map(str::to_owned) {
                broker.halt(reason);
            }
            return Err(refused);
        }
    };
    let (base_offset, last, log_append_time) = match appended {
        Appended::New { base, last } => (base, last, log_append_time),
        Appended::Duplicate(batch) => (batch.first_offset(), batch.last_offset, batch.timestamp),
    };
    let ends = (last + 1, epoch);
    if !sole {
        settle_leader(broker, now, topic, data.index, appended, traced.then_some((&header, &body)))
            .map_err(|rejection| (rejection, -1))?;
        return Ok(Stored { base_offset, log_append_time, log_start, unsynced: false, ends });
    }
    if !fsync || mutant!(M29) {
        partition.log.advance_high_watermark(partition.log.log_end());
    }
    let unsynced = fsync && last >= partition.log.high_watermark();
    if !fsync && matches!(appended, Appended::New { .. }) {
        let id = broker.topics.get(topic).map(|topic| topic.id);
        let bytes = records.len() as u64;
        id.into_iter().for_each(|id| broker.note_readable(id, data.index, bytes));
    }
    Ok(Stored { base_offset, log_append_time, log_start, unsynced, ends })
}

fn too_few(TooFewInSync { have, min }: TooFewInSync) -> Rejection {
    let are = if have == 1 { "replica is" } else { "replicas are" };
    let message = format!("{have} {are} in sync, min.insync.replicas asks for {min}");
    Rejection::new(ErrorCode::NotEnoughReplicas, message)
}

/// A leader's part after it appended: with `fsync`, the disk has the batch before anybody hears
/// of it; then the followers may have it.
fn settle_leader(
    broker: &mut Broker,
    now: Now,
    topic: &str,
    index: i32,
    appended: Appended,
    traced: Option<(&Header, &Bytes)>,
) -> Result<(), Rejection> {
    let Appended::New { base, .. } = appended else { return Ok(()) };
    let fsync = broker.config.fsync;
    let Some((partition, storage)) = broker.partition(topic, index) else { return Ok(()) };
    if fsync
        && !mutant!(M29)
        && let Err(error) = partition.log.sync(storage)
    {
        broker.halt(error.to_string());
        return Err(Rejection::new(error.code(), error.to_string()));
    }
    let epoch = partition.leader_epoch;
    let batch = traced.map(|(header, body)| {
        let mut header = *header;
        header.assign(base, epoch);
        Bytes::from([header.bytes().as_slice(), body].concat())
    });
    broker.appended_as_leader(now, topic, index, batch);
    Ok(())
}

fn check_request(
    request: &ProduceRequest,
    topic: &str,
    header: Option<Header>,
) -> Result<(), Rejection> {
    if crate::broker::INTERNAL_TOPICS.contains(&topic) {
        let message = format!("clients may not write to {topic}");
        return Err(Rejection::new(ErrorCode::InvalidTopicException, message));
    }
    if request.transactional_id.is_some() || header.is_some_and(|h| h.is_transactional()) {
        let message = "this broker does not do transactions; \
                       produce without a transactional id";
        return Err(Rejection::new(ErrorCode::TransactionalIdAuthorizationFailed, message));
    }
    Ok(())
}

/// The errors beside which Kafka answers no log start offset.
fn forgets_log_start(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::CorruptMessage
            | ErrorCode::KafkaStorageError
            | ErrorCode::UnknownTopicId
    )
}

fn answer(index: i32, result: Result<Stored, (Rejection, i64)>) -> PartitionProduceResponse {
    match result {
        Ok(stored) => PartitionProduceResponse {
            index,
            base_offset: stored.base_offset,
            log_append_time_ms: stored.log_append_time,
            log_start_offset: stored.log_start,
            ..PartitionProduceResponse::default()
        },
        Err((rejection, log_start_offset)) => PartitionProduceResponse {
            log_start_offset,
            record_errors: rejection
                .record_errors
                .into_iter()
                .map(|(batch_index, reason)| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: Some(reason),
                })
                .collect(),
            ..failure(index, rejection.code, Some(rejection.message))
        },
    }
}

fn failure(index: i32, code: ErrorCode, message: Option<String>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: code.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        error_message: message,
        ..PartitionProduceResponse::default()
    }
}

fn name_leader(
    endpoints: &mut Vec<NodeEndpoint>,
    answer: &mut PartitionProduceResponse,
    hint: &LeaderHint,
) {
    answer.current_leader = LeaderIdAndEpoch { leader_id: hint.id, leader_epoch: hint.epoch };
    if let Some((host, port)) = &hint.endpoint
        && endpoints.iter().all(|endpoint| endpoint.node_id != hint.id)
    {
        let (host, port) = (host.clone(), i32::from(*port));
        endpoints.push(NodeEndpoint { node_id: hint.id, host, port, rack: None });
    }
}

/// Refuses all partitions.
pub(super) fn refuse(request: &ProduceRequest, _: i16, code: ErrorCode) -> ProduceResponse {
    let responses = request.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| failure(data.index, code, None))
            .collect(),
    });
    ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }
}

/// Puts an error on order in the place of what really happened; `named` are the partitions of
/// the response, in its order, with the topics' names.
pub(super) fn patch<'a>(
    response: &mut ProduceResponse,
    version: i16,
    error: &ErrorStrike,
    named: impl Iterator<Item = (&'a str, i32)>,
) {
    let answers = response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses);
    for (answer, (topic, partition)) in answers.zip(named) {
        if error.covers(topic, partition) {
            *answer = failure(partition, error.code, Some("an error on order".to_owned()));
            if let Some(hint) = error.leader.as_ref().filter(|_| version >= LEADER_SINCE) {
                name_leader(&mut response.node_endpoints, answer, hint);
            }
        }
    }
}

/// Takes back the success of a batch that was appended: why, and who leads if another does.
pub(crate) fn fail_stored(
    response: &mut ProduceResponse,
    (at, index): (usize, usize),
    code: ErrorCode,
    why: &str,
    leader: Option<&LeaderHint>,
) {
    let topic = response.responses.get_mut(at);
    if let Some(answer) = topic.and_then(|topic| topic.partition_responses.get_mut(index)) {
        *answer = failure(answer.index, code, Some(why.to_owned()));
        if let Some(hint) = leader {
            name_leader(&mut response.node_endpoints, answer, hint);
        }
    }
}

/// Whether answers of this version name the leader.
pub(crate) fn names_leader(version: i16) -> bool {
    version >= LEADER_SINCE
}
