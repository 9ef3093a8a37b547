//! What brokers answer, and what the network took.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use sordini_protocol::messages::init_producer_id::InitProducerIdRequest;
use sordini_protocol::messages::metadata::MetadataRequest;
use sordini_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse,
};
use sordini_protocol::{DecodeError, ErrorCode, Message, Reader, Request as Api, Uuid, mutant};

use crate::accumulator::counters::add;
use crate::acks::verdict::{Context, Verdict};
use crate::batch::split::halve;
use crate::cluster::{Leader, told_address};
use crate::config::Acks;
use crate::connection::versions::{Versions, fall_back};
use crate::connection::{Asked, ConnId, Phase, Progress};
use crate::error::{Cause, Fate, Obstacle};
use crate::producer::Producer;
use crate::producer::io::Trace;
use crate::producer::outcomes::Ending;
use crate::producer::table::PartitionKey;
use crate::sequencing::line::Line;
use crate::sequencing::slot::{RequestId, Slot, SlotKey};
use crate::time::Instant;
use crate::wire::batch_header;

/// A broker's word is not taken for a longer silence than this.
const MAX_THROTTLE: Duration = Duration::from_secs(60);

/// A pause for what another transaction stands in the way of.
const SOON: Duration = Duration::from_millis(20);

/// What a Produce request carries.
#[derive(Debug)]
pub(super) struct Request {
    /// By partition, in their order, and so in that of the request's bytes.
    pub(super) entries: Vec<(PartitionKey, SlotKey)>,
    /// The topics in the same order, as they were named then: they may be gone when the answer
    /// comes.
    pub(super) topics: Vec<(u32, Arc<str>, Uuid)>,
}

impl Request {
    /// The answers in the order of the entries; `None` unless each has exactly one.
    ///
    /// Brokers answer in the order in which they were asked, as a rule: then nothing is searched.
    fn pair(&self, response: ProduceResponse) -> Option<Vec<PartitionProduceResponse>> {
        let mut answers: Vec<Option<PartitionProduceResponse>> = Vec::new();
        answers.resize_with(self.entries.len(), || None);
        let (mut next_topic, mut next) = (0, 0);
        for topic in response.responses {
            let is_meant = |(_, name, id): &(u32, Arc<str>, Uuid)| {
                if topic.name.is_empty() { *id == topic.topic_id } else { **name == *topic.name }
            };
            let meant = match self.topics.get(next_topic) {
                Some(named) if is_meant(named) => Some(next_topic),
                _ => self.topics.iter().position(is_meant),
            };
            next_topic = meant.map_or(next_topic, |at| at + 1);
            for partition in topic.partition_responses {
                let key = (self.topics[meant?].0, partition.index);
                let at = match self.entries.get(next) {
                    Some((known, _)) if *known == key => next,
                    _ => self.entries.binary_search_by_key(&key, |(key, _)| *key).ok()?,
                };
                next = at + 1;
                if answers[at].replace(partition).is_some() {
                    return None;
                }
            }
        }
        answers.into_iter().collect()
    }
}

/// Why an attempt came to nothing.
struct Setback {
    /// The broker's answer; `None` if the connection broke.
    code: Option<ErrorCode>,
    obstacle: Obstacle,
    /// The attempt may have appended the batch.
    ambiguous: bool,
    /// Go again at once: nothing was sent, or the new leader is known.
    at_once: bool,
}

/// Does the answer to a partition's oldest batch tell that acknowledged records are no longer in
/// its log? A gap that this producer itself left tells nothing, nor does retention.
fn tells_of_loss(code: ErrorCode, line: &Line, log_start: i64) -> bool {
    let still_there = |last: i64| (0..=last).contains(&log_start);
    line.is_proven()
        && match code {
            ErrorCode::OutOfOrderSequenceNumber => true,
            ErrorCode::UnknownProducerId => line.last_offset().is_some_and(still_there),
            _ => false,
        }
}

fn answers_nothing(correlation: Option<i32>) -> String {
    let what = match correlation {
        Some(id) => format!("its correlation id {id} is not that of the oldest request"),
        None => "it is too short to have a correlation id".to_owned(),
    };
    format!("a response came that answers no request: {what}; is the port a Kafka broker's?")
}

pub(super) fn decode<R: Api>(frame: Bytes, version: i16) -> Result<R::Response, DecodeError> {
    let (_, mut reader) = sordini_protocol::frame::response_header::<R>(frame, version)?;
    let response = R::Response::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(response)
}

impl Producer {
    pub(super) fn on_received(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.framing.push(bytes);
        loop {
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            match connection.framing.next_frame() {
                Ok(Some(frame)) => self.on_frame(conn, frame),
                Ok(None) => return,
                Err(cause) => return self.kill(conn, &cause),
            }
        }
    }

    fn on_frame(&mut self, conn: ConnId, frame: Bytes) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let correlation = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
        let asked = correlation.and_then(|id| connection.answered(id, self.now));
        let Some(asked) = asked else {
            // With acks=0 nothing of the kind is expected, and a broker that answers all the same
            // does no harm.
            if self.config.acks != Acks::None {
                self.kill(conn, &answers_nothing(correlation));
            }
            return;
        };
        if let Err(cause) = self.on_response(conn, asked, frame) {
            let name = self.connections.get(&conn).map(|at| Arc::clone(&at.name));
            self.on_asked_lost(
                asked,
                true,
                &name.unwrap_or_else(|| "".into()),
                &cause.as_str().into(),
            );
            self.kill(conn, &cause);
        }
    }

    fn on_response(&mut self, conn: ConnId, asked: Asked, frame: Bytes) -> Result<(), String> {
        let text = |error: DecodeError| format!("the broker's answer does not decode: {error}");
        match asked {
            Asked::ApiVersions(version) => self.on_api_versions(conn, version, frame),
            Asked::Metadata(round, version) => {
                let response = decode::<MetadataRequest>(frame, version).map_err(text)?;
                self.throttle(conn, response.throttle_time_ms);
                self.on_metadata(round, response);
                Ok(())
            }
            Asked::InitProducerId(version) => {
                let response = decode::<InitProducerIdRequest>(frame, version).map_err(text)?;
                self.throttle(conn, response.throttle_time_ms);
                self.on_producer_id(&response);
                Ok(())
            }
            Asked::Coordination(ask, version) => self.on_coordination(conn, ask, version, frame),
            Asked::Produce(request, version) => {
                let response = decode::<ProduceRequest>(frame, version).map_err(text)?;
                self.throttle(conn, response.throttle_time_ms);
                self.on_produce(conn, request, response)
            }
        }
    }

    /// The broker asks for silence (KIP-219).
    pub(super) fn throttle(&mut self, conn: ConnId, millis: i32) {
        let Some(millis) = u64::try_from(millis).ok().filter(|millis| *millis > 0) else { return };
        let pause = Duration::from_millis(millis).min(MAX_THROTTLE);
        add(&self.accumulator.counters().throttled_ms, pause.as_millis() as u64);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.mute(self.now, pause);
        }
    }

    fn on_api_versions(&mut self, conn: ConnId, tried: i16, frame: Bytes) -> Result<(), String> {
        let text = |error: DecodeError| format!("the peer does not answer as Kafka does: {error}");
        let body = frame.get(4..6).and_then(|code| code.first_chunk::<2>());
        let code = ErrorCode::from_code(body.map_or(0, |code| i16::from_be_bytes(*code)));
        if code == ErrorCode::UnsupportedVersion {
            // Such an answer comes in version 0, whatever was asked (KIP-511).
            let mut reader = Reader::new(frame.slice(4..));
            let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap_or_default();
            let next = fall_back(tried, &response)
                .ok_or("the broker refuses every version of ApiVersions")?;
            self.ask_versions(conn, next);
            return Ok(());
        }
        let response = decode::<ApiVersionsRequest>(frame, tried).map_err(text)?;
        if code != ErrorCode::None {
            return Err(format!("the broker answered ApiVersions with {}", code.name()));
        }
        let versions = Versions::agree(&response)?;
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.phase = Phase::Ready(versions);
        }
        self.note_features(versions.features);
        self.throttle(conn, response.throttle_time_ms);
        self.on_ready(conn);
        Ok(())
    }

    pub(super) fn on_transmitted(&mut self, conn: ConnId, through: u64) {
        let timeout = self.config.request_timeout;
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        for progress in connection.transmitted(through, self.now, timeout) {
            match progress {
                Progress::Begun(request) => {
                    for (key, slot) in self.requests.get(&request).map_or(&[][..], |it| &it.entries)
                    {
                        if let Some(partition) = self.partitions.get_mut(key) {
                            partition.line.begin(*slot, request);
                        }
                    }
                }
                Progress::Done(request) => self.on_unanswered_done(request),
            }
        }
    }

    /// With `acks=0` a batch is done when its last byte is on the wire.
    fn on_unanswered_done(&mut self, request: RequestId) {
        let Some(request_state) = self.requests.remove(&request) else { return };
        for (key, slot) in request_state.entries {
            if let Some(place) = self.place_in_flight(key, slot, request) {
                self.acknowledge(key, place, None, None, false);
                self.touch(key);
            }
        }
    }

    /// The batch's place, if it is still in flight in this very request.
    fn place_in_flight(
        &self,
        key: PartitionKey,
        slot: SlotKey,
        request: RequestId,
    ) -> Option<usize> {
        let line = &self.partitions.get(&key)?.line;
        let place = line.place(slot)?;
        match line.slots().get(place)? {
            Slot::InFlight { request: current, .. } | Slot::Expired { request: current, .. } => {
                (*current == request).then_some(place)
            }
            _ => None,
        }
    }

    fn on_produce(
        &mut self,
        conn: ConnId,
        request: RequestId,
        response: ProduceResponse,
    ) -> Result<(), String> {
        let Some(asked) = self.requests.remove(&request) else { return Ok(()) };
        let node = self.connections.get(&conn).and_then(|connection| connection.node);
        for endpoint in &response.node_endpoints {
            if let Some(address) = told_address(endpoint.host.clone(), endpoint.port) {
                self.cluster.set_broker(endpoint.node_id, address);
            }
        }
        let answers = self.match_answers(&asked, response)?;
        self.note_answer(&answers);
        for ((key, slot), answer) in asked.entries.into_iter().zip(answers) {
            if let Some(place) = self.place_in_flight(key, slot, request) {
                self.on_answer(key, place, node, &answer);
                self.touch(key);
            }
        }
        Ok(())
    }

    /// The response's partitions in the order of the entries.
    ///
    /// # Errors
    /// If one is missing that was asked about, or one is there that was not: then the response
    /// cannot be trusted in anything, and the batches are put back before.
    fn match_answers(
        &mut self,
        asked: &Request,
        response: ProduceResponse,
    ) -> Result<Vec<PartitionProduceResponse>, String> {
        asked.pair(response).ok_or_else(|| {
            let cause = "a Produce response does not name the partitions that were asked about";
            for (key, slot) in &asked.entries {
                self.set_back(*key, *slot, None, true, cause);
            }
            cause.to_owned()
        })
    }

    fn set_back(
        &mut self,
        key: PartitionKey,
        slot: SlotKey,
        address: Option<&Arc<str>>,
        begun: bool,
        cause: &str,
    ) {
        let Some(partition) = self.partitions.get(&key) else { return };
        let Some(place) = partition.line.place(slot) else { return };
        if !partition.line.slots().get(place).is_some_and(Slot::in_flight) {
            return;
        }
        let address = address.map_or_else(|| "the broker".into(), Arc::clone);
        let obstacle = Obstacle::Connection { address, cause: cause.into() };
        let setback = Setback { code: None, obstacle, ambiguous: begun, at_once: !begun };
        self.retry(key, place, setback);
        self.touch(key);
    }

    /// What was asked will get no answer: its connection is gone.
    pub(super) fn on_asked_lost(
        &mut self,
        asked: Asked,
        begun: bool,
        address: &Arc<str>,
        cause: &Arc<str>,
    ) {
        match asked {
            Asked::Produce(request, _) => self.on_request_lost(request, begun, address, cause),
            Asked::Coordination(ask, _) => self.on_ask_lost(ask, begun, address, cause),
            Asked::ApiVersions(_) | Asked::Metadata(..) | Asked::InitProducerId(_) => {}
        }
    }

    fn on_request_lost(
        &mut self,
        request: RequestId,
        begun: bool,
        address: &Arc<str>,
        cause: &Arc<str>,
    ) {
        let Some(Request { entries, .. }) = self.requests.remove(&request) else { return };
        for (key, slot) in entries {
            if self.place_in_flight(key, slot, request).is_some() {
                self.set_back(key, slot, Some(address), begun, cause);
            }
        }
    }

    fn on_answer(
        &mut self,
        key: PartitionKey,
        place: usize,
        node: Option<i32>,
        answer: &PartitionProduceResponse,
    ) {
        let code = ErrorCode::from_code(answer.error_code);
        let moved = self.has_moved(key, node, answer);
        let partition = &self.partitions[&key];
        let meta = partition.line.slots().get(place).and_then(Slot::meta);
        let context = Context {
            replicated: self.config.acks == Acks::All,
            idempotent: self.config.enable_idempotence,
            head: mutant!(M1) || partition.line.has_led(place),
            ambiguous: meta.is_some_and(|meta| meta.ambiguous),
            base_offset: answer.base_offset,
            log_start_offset: answer.log_start_offset,
        };
        let lost = context.head && tells_of_loss(code, &partition.line, answer.log_start_offset);
        let verdict = Verdict::of(code, context);
        if lost && matches!(verdict, Verdict::Renew | Verdict::Fail { .. }) {
            self.note_data_loss(key, code);
        }
        match verdict {
            Verdict::Written if mutant!(M7) && context.ambiguous => {
                self.fail(key, place, Fate::NotWritten, Cause::Rejected(code));
            }
            Verdict::Written => {
                let time = Some(answer.log_append_time_ms).filter(|time| *time >= 0);
                let offset = Some(answer.base_offset).filter(|offset| *offset >= 0);
                self.acknowledge(key, place, offset, time, false);
            }
            Verdict::WrittenDuplicate => self.acknowledge(key, place, None, None, true),
            Verdict::Retry { refresh, ambiguous } => {
                if refresh {
                    self.refresh.want();
                }
                let obstacle = Obstacle::Broker(code);
                let setback = Setback { code: Some(code), obstacle, ambiguous, at_once: moved };
                self.retry(key, place, setback);
            }
            Verdict::Split => self.split(key, place, code),
            // Another epoch would begin another transaction (bugs: librdkafka #3575).
            Verdict::Renew if self.transactions.is_some() => {
                self.fail(key, place, Fate::NotWritten, Cause::Rejected(code));
            }
            Verdict::Renew => self.renew(key, place, code),
            Verdict::Fail { fate, fatal } => {
                let cause = match code {
                    ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId
                        if fate == Fate::Unknown =>
                    {
                        Cause::SequenceLost(code)
                    }
                    _ => Cause::Rejected(code),
                };
                self.fail(key, place, fate, cause);
                if fatal && !self.is_refused(code) {
                    self.fail_for_good(code);
                }
            }
        }
    }

    /// Does the answer tell that another node leads, or come from one that is known to lead no
    /// more?
    fn has_moved(
        &mut self,
        key: PartitionKey,
        node: Option<i32>,
        answer: &PartitionProduceResponse,
    ) -> bool {
        let news = self.take_hint(key, answer);
        let code = ErrorCode::from_code(answer.error_code);
        let deposed = matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
        let leader = self.cluster.leader(key.0, key.1);
        if deposed && leader.is_some() && leader == node {
            self.cluster.doubt(key.0, key.1);
        }
        // All batches that were on their way to the old leader go to the new one without a pause,
        // not only the one whose answer told of it first.
        news || (deposed && leader.is_some() && node.is_some() && leader != node)
    }

    /// Takes in the new leader that an answer names (KIP-951); true if it is news.
    fn take_hint(&mut self, key: PartitionKey, answer: &PartitionProduceResponse) -> bool {
        let hint = &answer.current_leader;
        if hint.leader_id < 0 || !self.cluster.brokers().contains_key(&hint.leader_id) {
            return false;
        }
        let leader = Leader { node: Some(hint.leader_id), epoch: hint.leader_epoch };
        self.cluster.set_leader(key.0, key.1, leader)
    }

    fn acknowledge(
        &mut self,
        key: PartitionKey,
        place: usize,
        base_offset: Option<i64>,
        log_append_time: Option<i64>,
        duplicate: bool,
    ) {
        let now = self.now;
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let slot = partition.line.acknowledge(place, base_offset, now);
        if let Some(ending) = Ending::of(slot) {
            self.deliver_written(key, ending.meta, base_offset, log_append_time, duplicate);
        }
    }

    fn fail(&mut self, key: PartitionKey, place: usize, fate: Fate, cause: Cause) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let slot = partition.line.fail(place);
        if let Some(ending) = Ending::of(slot) {
            self.deliver_failed(key, ending, fate, cause);
        }
    }

    /// Puts a batch back for another attempt, if it may have one.
    fn retry(&mut self, key: PartitionKey, place: usize, setback: Setback) {
        let Setback { code, obstacle, ambiguous, at_once } = setback;
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let Some(meta) = partition.line.slot_mut(place).meta_mut() else {
            // Its records have their outcome; the sequence has a gap now.
            partition.line.fail(place);
            return;
        };
        meta.ambiguous |= ambiguous;
        meta.obstacle = obstacle.clone();
        let attempts = meta.attempts;
        let fate = if meta.ambiguous { Fate::Unknown } else { Fate::NotWritten };
        // What was answered is not on the network any more.
        if ambiguous && code.is_none() {
            self.note_straggler();
        }
        if self.is_aborting() {
            self.fail(key, place, fate, Cause::TransactionAborted);
            return;
        }
        if attempts > self.config.retries {
            let cause = match (code, obstacle) {
                (Some(code), _) => Cause::Rejected(code),
                (None, Obstacle::Connection { address, cause }) => {
                    Cause::Disconnected { address, cause }
                }
                (None, _) => Cause::Rejected(ErrorCode::NetworkException),
            };
            self.fail(key, place, fate, cause);
            return;
        }
        let not_before = match code {
            _ if at_once => self.now,
            // A transaction before this one is being completed: that takes milliseconds.
            Some(ErrorCode::ConcurrentTransactions) => self.now.saturating_add(SOON),
            _ => self.retry_after(attempts),
        };
        self.note_retry(key, code, attempts);
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.line.retry_at(place, not_before);
        }
    }

    /// A new epoch, then the batch again.
    fn renew(&mut self, key: PartitionKey, place: usize, code: ErrorCode) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let Some(meta) = partition.line.slot_mut(place).meta_mut() else {
            partition.line.fail(place);
            return;
        };
        meta.obstacle = Obstacle::Broker(code);
        let attempts = meta.attempts;
        if attempts > self.config.retries {
            self.fail(key, place, Fate::NotWritten, Cause::Rejected(code));
            return;
        }
        let not_before: Instant = self.retry_after(attempts);
        self.note_retry(key, Some(code), attempts);
        if let Some(partition) = self.partitions.get_mut(&key) {
            let forgotten = code == ErrorCode::UnknownProducerId;
            partition.line.renew(place, not_before, forgotten);
        }
    }

    /// Two halves in the place of a batch that is too large (KIP-126).
    fn split(&mut self, key: PartitionKey, place: usize, code: ErrorCode) {
        let now = self.now;
        let level = self.config.compression_level();
        let memory = Arc::clone(self.accumulator.memory());
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        if partition.line.slots().get(place).and_then(Slot::meta).is_none() {
            partition.line.fail(place);
            return;
        }
        if self.is_aborting() {
            self.fail(key, place, Fate::NotWritten, Cause::TransactionAborted);
            return;
        }
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let Slot::InFlight { batch, .. } = partition.line.remove(place) else {
            unreachable!("S1: an answer is for a batch in flight")
        };
        // What is built from now on starts at the size of the halves: else every batch would make
        // the way to the broker in vain. The ratio of the codec may be any, so the measure is the
        // size before compression, halved again for each further refusal.
        let size = batch_header::LEN + batch.meta.uncompressed;
        match halve(batch, level, &memory) {
            Ok(halves) => {
                self.note_split(&halves[0].meta);
                if let Some(partition) = self.partitions.get_mut(&key) {
                    partition.lane.cap(size / 2);
                    let slots = halves.map(|batch| Slot::Waiting { batch, not_before: now });
                    partition.line.insert(place, slots);
                }
            }
            Err((batch, _)) => {
                partition.line.break_sequence();
                self.deliver_failed(key, batch.into(), Fate::NotWritten, Cause::Rejected(code));
            }
        }
    }

    fn note_retry(&mut self, key: PartitionKey, code: Option<ErrorCode>, attempts: u32) {
        add(&self.accumulator.counters().retries, 1);
        if let Some(topic) = self.topics.get(&key.0).map(|topic| Arc::clone(topic.name())) {
            self.trace(Trace::Retry { topic, partition: key.1, code, attempts });
        }
    }

    fn note_data_loss(&mut self, key: PartitionKey, code: ErrorCode) {
        add(&self.accumulator.counters().data_loss_events, 1);
        if let Some(topic) = self.topics.get(&key.0).map(|topic| Arc::clone(topic.name())) {
            self.trace(Trace::DataLoss { topic, partition: key.1, code });
        }
    }
}
