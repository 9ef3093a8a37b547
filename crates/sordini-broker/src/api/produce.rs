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
//! - A transactional batch that would begin a transaction in its partition is taken only if the
//!   transaction's coordinator was asked and said yes ([`Verdicts`]). What it says otherwise is
//!   told in the codes that producers know to retry: NOT_ENOUGH_REPLICAS for a coordinator that
//!   can't be reached, as Kafka does. From 12 on the partition is added by that (KIP-890), and
//!   CONCURRENT_TRANSACTIONS is told as it is.

use std::collections::{BTreeMap, BTreeSet};

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
use crate::log::batch::{Header, NO_PRODUCER_ID};
use crate::log::verification::{Guard, ToVerify};
use crate::log::{Appended, Origin};
use crate::time::Now;
use crate::validate::{self, Rejection, Rules, Validated};

/// The first version that names the leader beside an error (KIP-951).
const LEADER_SINCE: i16 = 10;

/// The first version whose producers have an epoch for each transaction (KIP-890).
const EPOCH_BUMP_SINCE: i16 = 12;

/// What a transaction's coordinator said of the partitions that it was asked about, by topic and
/// partition: the guard that the verification began with, or why the partition is not in the
/// transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts(pub BTreeMap<(String, i32), Result<Guard, ErrorCode>>);

/// A transactional batch of a request: to verify, unless its transaction is open in the partition.
#[derive(Clone, Debug)]
pub(crate) struct Transactional {
    pub topic: String,
    pub partition: i32,
    pub batch: ToVerify,
}

/// The transactional batches of a request.
///
/// # Errors
/// If there are any, and the request as a whole can't be one of a transaction: it names no
/// transactional id, or batches of two producers.
pub(crate) fn transactional(
    broker: &Broker,
    version: i16,
    request: &ProduceRequest,
) -> Result<Vec<Transactional>, ErrorCode> {
    let mut found: Vec<Transactional> = Vec::new();
    for topic in &request.topic_data {
        let name = resolve(broker, version, topic);
        for data in &topic.partition_data {
            let header = data.records.as_ref().and_then(|records| Header::new(records));
            let Some(header) = header.filter(Header::is_transactional) else { continue };
            if request.transactional_id.is_none() {
                return Err(ErrorCode::TransactionalIdAuthorizationFailed);
            }
            let batch = ToVerify {
                producer_id: header.producer_id(),
                producer_epoch: header.producer_epoch(),
                base_sequence: header.base_sequence(),
                bumps_epoch: version >= EPOCH_BUMP_SINCE,
            };
            let writer = |batch: &ToVerify| (batch.producer_id, batch.producer_epoch);
            if found.first().is_some_and(|first| writer(&first.batch) != writer(&batch)) {
                return Err(ErrorCode::InvalidProducerIdMapping);
            }
            if let Ok(topic) = &name
                && header.producer_id() != NO_PRODUCER_ID
            {
                let (topic, partition) = (topic.clone(), data.index);
                found.push(Transactional { topic, partition, batch });
            }
        }
    }
    Ok(found)
}

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

/// Handles a request whose transactional batches were verified; without `verdicts` none is taken.
pub(crate) fn handle_verified(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &ProduceRequest,
    strike: &Strike,
    verdicts: Option<&Verdicts>,
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
                (Ok(name), None) => {
                    let guard = guard(verdicts, version, request, name, data);
                    guard.and_then(|guard| store(broker, now, version, request, name, data, guard))
                }
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

/// The guard that a transactional batch is appended with, if its partition was verified.
fn guard(
    verdicts: Option<&Verdicts>,
    version: i16,
    request: &ProduceRequest,
    topic: &str,
    data: &PartitionProduceData,
) -> Result<Option<Guard>, (Rejection, i64)> {
    let header = data.records.as_ref().and_then(|records| Header::new(records));
    let is_transactional = header.is_some_and(|header| header.is_transactional());
    let Some(Verdicts(verdicts)) = verdicts else {
        if !is_transactional && request.transactional_id.is_none() {
            return Ok(None);
        }
        let message = "this broker does not do transactions; \
                       produce without a transactional id";
        let code = ErrorCode::TransactionalIdAuthorizationFailed;
        return Err((Rejection::new(code, message), -1));
    };
    match verdicts.get(&(topic.to_owned(), data.index)) {
        Some(Err(code)) if is_transactional => Err((unverified(*code, version), -1)),
        Some(Ok(guard)) if is_transactional => Ok(Some(*guard)),
        _ => Ok(None),
    }
}

/// What a producer is told if its partition could not be verified.
fn unverified(code: ErrorCode, version: i16) -> Rejection {
    let told = match code {
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if version < EPOCH_BUMP_SINCE => {
            ErrorCode::NotEnoughReplicas
        }
        code => code,
    };
    let name = code.name();
    Rejection::new(told, format!("the partition could not be added to the transaction: {name}"))
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
    guard: Option<Guard>,
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
    check_topic(topic).map_err(|rejection| reject(rejection.early()))?;
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
        .append_as(storage, header, &body, epoch, wall_ms, Origin::Client(guard))
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

fn check_topic(topic: &str) -> Result<(), Rejection> {
    if crate::broker::INTERNAL_TOPICS.contains(&topic) {
        let message = format!("clients may not write to {topic}");
        return Err(Rejection::new(ErrorCode::InvalidTopicException, message));
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
