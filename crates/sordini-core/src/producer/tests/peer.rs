//! Scripted brokers: they decode what the machine transmits, and answer as they are told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use sordini_protocol::messages::init_producer_id::InitProducerIdResponse;
use sordini_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use sordini_protocol::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use sordini_protocol::{ApiKey, ErrorCode, Message, Uuid, frame, records};

use super::log::{Appended, Log};
use crate::acks::retry::Rng;
use crate::wire::batch_header::Stamp;

pub(super) type Tp = (String, i32);

/// A batch as it came over the wire.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) tp: Tp,
    /// The same by topic id, where the request names that.
    pub(super) stream: Tp,
    pub(super) stamp: Stamp,
    pub(super) ids: Vec<u64>,
    pub(super) bytes: Bytes,
}

/// The value of the record `id`: the id, and bytes that follow from it.
pub(super) fn value_of(id: u64, len: usize) -> Vec<u8> {
    let mut value = id.to_be_bytes().to_vec();
    value.resize(len.max(8), id as u8);
    value
}

impl Batch {
    pub(super) fn read(tp: Tp, topic_id: Uuid, bytes: Bytes) -> Self {
        let batch = records::Batch::parse(&bytes).expect("P7: a well-formed batch");
        batch.verify_crc().expect("P1: the checksum holds");
        let header = *batch.header();
        let plain = batch.decompress(1 << 28).expect("P7: it decompresses");
        plain.check_produced().expect("P7: records as a broker wants them");
        let id = |value: &[u8]| {
            let id = u64::from_be_bytes(*value.first_chunk().expect("a record has its id"));
            assert_eq!(value, value_of(id, value.len()), "P1: record {id} was changed");
            id
        };
        let records = plain.iter().map(|record| record.expect("P7: a record"));
        let ids = records.map(|record| id(record.value.expect("P1: a value"))).collect();
        let stamp = Stamp {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.is_transactional(),
        };
        let name = if topic_id.is_zero() { tp.0.clone() } else { topic_id.to_string() };
        Self { stream: (name, tp.1), tp, stamp, ids, bytes }
    }
}

/// What the broker says to one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) code: ErrorCode,
    /// Appended before the error is told.
    pub(super) append: bool,
    pub(super) tells_offset: bool,
    pub(super) log_start: Option<i64>,
    /// The leader that is named (KIP-951).
    pub(super) hint: Option<(i32, i32)>,
}

impl Answer {
    /// Refused, nothing appended.
    pub(super) fn code(code: ErrorCode) -> Self {
        Self { code, append: false, tells_offset: false, log_start: None, hint: None }
    }

    /// Appended all the same.
    pub(super) fn after_append(code: ErrorCode) -> Self {
        Self { append: true, ..Self::code(code) }
    }
}

/// What the broker does with one request.
#[derive(Debug, Clone)]
pub(super) enum Reaction {
    Pass,
    /// Answers so many milliseconds later.
    Delay(u64),
    /// Does it, and never answers.
    Swallow,
    /// Does not even do it.
    Ignore,
    CloseBefore,
    CloseAfter,
    /// Sends so many bytes of the answer, then closes.
    CutAnswer(usize),
    /// Sends these bytes instead.
    Raw(Vec<u8>),
    /// Adds to the correlation id.
    Correlation(i32),
    Twice,
    Throttle(i32),
    /// The answer's own error code, for Metadata and InitProducerId.
    Error(ErrorCode),
    /// Leaves the first partition out of a Produce response.
    Omit,
}

/// What became of a request.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) delay_ms: u64,
    pub(super) close: bool,
    /// The batches that it acknowledges.
    pub(super) acks: Vec<(Tp, i64)>,
}

pub(super) type View = Box<dyn Fn(&mut MetadataResponse)>;

/// One broker.
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
    /// Connections can be made.
    pub(super) up: bool,
    /// Its host takes no packet, and nobody is told.
    pub(super) vanished: bool,
    /// Nothing that it gets has any effect, and nobody is told (a half-open connection).
    pub(super) silent: bool,
    /// Its answers wait.
    pub(super) held: bool,
    pub(super) versions: BTreeMap<i16, (i16, i16)>,
    pub(super) reactions: BTreeMap<i16, VecDeque<Reaction>>,
    /// What its metadata shows instead of the truth.
    pub(super) view: Option<View>,
}

#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) log: Log,
}

pub(super) struct TopicModel {
    pub(super) id: Uuid,
    pub(super) error: Option<ErrorCode>,
    pub(super) parts: Vec<Part>,
}

/// How often things go wrong, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) codes: u64,
    pub(super) after_append: u64,
    pub(super) closes: u64,
    pub(super) swallows: u64,
    pub(super) delays: u64,
    pub(super) throttles: u64,
    pub(super) too_large: u64,
    pub(super) metadata: u64,
}

/// A request as a broker saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at_ms: u64,
    pub(super) node: i32,
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) batches: Vec<Batch>,
    /// Of a Metadata request.
    pub(super) names: Vec<String>,
    pub(super) create: bool,
}

/// The cluster.
pub(super) struct Model {
    pub(super) nodes: BTreeMap<i32, Node>,
    pub(super) topics: BTreeMap<String, TopicModel>,
    pub(super) answers: BTreeMap<Tp, VecDeque<Answer>>,
    pub(super) seen: Vec<Seen>,
    /// Creates topics with so many partitions.
    pub(super) creates: Option<i32>,
    pub(super) names_leaders: bool,
    pub(super) next_pid: i64,
    pub(super) first_epoch: i16,
    pub(super) rates: Rates,
    pub(super) rng: Rng,
    /// Every batch larger than this is refused.
    pub(super) max_batch: usize,
    /// Batches that were refused as too large.
    pub(super) too_large: BTreeSet<(Tp, Stamp)>,
    /// An election or retention took acknowledged records.
    pub(super) lossy: bool,
}

const PRODUCE: i16 = ApiKey::Produce as i16;
const METADATA: i16 = ApiKey::Metadata as i16;
const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;
const INIT_PRODUCER_ID: i16 = ApiKey::InitProducerId as i16;

impl Node {
    pub(super) fn new(id: i32) -> Self {
        let versions = [
            (PRODUCE, (0, 13)),
            (METADATA, (0, 13)),
            (API_VERSIONS, (0, 4)),
            (INIT_PRODUCER_ID, (0, 5)),
        ];
        Self {
            host: format!("b{id}"),
            port: 9092,
            up: true,
            vanished: false,
            silent: false,
            held: false,
            versions: versions.into(),
            reactions: BTreeMap::new(),
            view: None,
        }
    }

    pub(super) fn react(&mut self, api: ApiKey, reactions: impl IntoIterator<Item = Reaction>) {
        self.reactions.entry(api as i16).or_default().extend(reactions);
    }

    pub(super) fn limit(&mut self, api: ApiKey, versions: (i16, i16)) {
        self.versions.insert(api as i16, versions);
    }
}

impl Model {
    pub(super) fn new(nodes: i32, seed: u64) -> Self {
        Self {
            nodes: (1..=nodes).map(|id| (id, Node::new(id))).collect(),
            topics: BTreeMap::new(),
            answers: BTreeMap::new(),
            seen: Vec::new(),
            creates: None,
            names_leaders: true,
            next_pid: 7000,
            first_epoch: 0,
            rates: Rates::default(),
            rng: Rng::new(seed),
            max_batch: usize::MAX,
            too_large: BTreeSet::new(),
            lossy: false,
        }
    }

    /// Makes a topic whose partitions are led by the brokers in turn.
    pub(super) fn create(&mut self, name: &str, partitions: i32) {
        let leaders: Vec<i32> = self.nodes.keys().copied().collect();
        let part = |at: i32| Part {
            leader: leaders[at as usize % leaders.len()],
            epoch: 5,
            log: Log::default(),
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.rng.bits() | 1).to_be_bytes());
        let parts = (0..partitions).map(part).collect();
        self.topics.insert(name.into(), TopicModel { id: Uuid(id), error: None, parts });
    }

    pub(super) fn part(&mut self, tp: &Tp) -> &mut Part {
        &mut self.topics.get_mut(&tp.0).expect("the topic exists").parts[tp.1 as usize]
    }

    /// The id of a topic that a request names one way or the other.
    pub(super) fn id_of(&self, name: &str, id: Uuid) -> Uuid {
        let known = self.topics.get(name).filter(|_| id.is_zero());
        known.map_or(id, |topic| topic.id)
    }

    /// Handles one frame (without its size). `None`: silence.
    pub(super) fn handle(&mut self, node: i32, frame: Bytes, at_ms: u64) -> Option<Reply> {
        if self.nodes[&node].silent {
            return None;
        }
        let (api, header, mut reader) = frame::request_header(frame).expect("P7: a request");
        let version = header.request_api_version;
        let range = self.nodes[&node].versions[&(api as i16)];
        let spoken = version >= range.0 && version <= range.1;
        assert!(spoken || api == ApiKey::ApiVersions, "P7: {api:?} {version} was not negotiated");
        let mut seen = Seen {
            at_ms,
            node,
            api,
            version,
            batches: Vec::new(),
            names: Vec::new(),
            create: false,
        };
        let scripted =
            self.nodes.get_mut(&node).expect("it exists").reactions.get_mut(&(api as i16));
        let reaction = scripted.and_then(VecDeque::pop_front).unwrap_or_else(|| self.draw(api));
        let throttle = if let Reaction::Throttle(ms) = reaction { ms } else { 0 };
        let correlation = header.correlation_id
            + if let Reaction::Correlation(delta) = reaction { delta } else { 0 };
        let mut reply = Reply::default();
        if matches!(reaction, Reaction::Ignore | Reaction::CloseBefore) {
            self.seen.push(seen);
            reply.close = matches!(reaction, Reaction::CloseBefore);
            return Some(reply);
        }
        let error = if let Reaction::Error(code) = reaction { code } else { ErrorCode::None };
        let out = &mut reply.bytes;
        match api {
            ApiKey::ApiVersions => {
                let response = self.api_versions(node, spoken, throttle);
                let version = if spoken { version } else { 0 };
                frame::put_response(out, api, &response, version, correlation).expect("encodes");
            }
            ApiKey::Metadata => {
                let request = MetadataRequest::decode(&mut reader, version).expect("P7: Metadata");
                reader.finish().expect("P7: nothing behind it");
                let names = request.topics.as_ref().expect("names").iter();
                seen.names = names.map(|it| it.name.clone().expect("a name")).collect();
                seen.create = request.allow_auto_topic_creation;
                let mut response = self.metadata(node, &seen.names, seen.create, version);
                response.throttle_time_ms = throttle;
                response.error_code = if version >= 13 { error.code() } else { 0 };
                frame::put_response(out, api, &response, version, correlation).expect("encodes");
            }
            ApiKey::InitProducerId => {
                let response = InitProducerIdResponse {
                    throttle_time_ms: throttle,
                    error_code: error.code(),
                    producer_id: if error == ErrorCode::None { self.next_pid } else { -1 },
                    producer_epoch: if error == ErrorCode::None { self.first_epoch } else { -1 },
                    ..InitProducerIdResponse::default()
                };
                self.next_pid += 1;
                self.first_epoch = 0;
                frame::put_response(out, api, &response, version, correlation).expect("encodes");
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut reader, version).expect("P7: Produce");
                reader.finish().expect("P7: nothing behind it");
                let (response, acks) = self.produce(node, &request, version, &mut seen, throttle);
                let mut response = response;
                if matches!(reaction, Reaction::Omit) {
                    response.responses.remove(0);
                }
                if request.acks != 0 {
                    reply.acks = acks;
                    frame::put_response(out, api, &response, version, correlation)
                        .expect("encodes");
                }
            }
            other => panic!("P7: nobody asked for {other:?}"),
        }
        self.seen.push(seen);
        self.spoil(&mut reply, reaction);
        Some(reply)
    }

    fn spoil(&mut self, reply: &mut Reply, reaction: Reaction) {
        match reaction {
            Reaction::Delay(ms) => reply.delay_ms = ms,
            Reaction::Swallow => *reply = Reply::default(),
            Reaction::CloseAfter => *reply = Reply { close: true, ..Reply::default() },
            Reaction::CutAnswer(len) => {
                reply.bytes.truncate(len.min(reply.bytes.len().saturating_sub(1)));
                reply.acks.clear();
                reply.close = true;
            }
            Reaction::Raw(bytes) => *reply = Reply { bytes, ..Reply::default() },
            Reaction::Correlation(_) | Reaction::Omit => reply.acks.clear(),
            Reaction::Twice => reply.bytes = reply.bytes.repeat(2),
            _ => {}
        }
    }

    /// A reaction by chance.
    fn draw(&mut self, api: ApiKey) -> Reaction {
        let rates = self.rates;
        if api == ApiKey::ApiVersions {
            return Reaction::Pass;
        }
        let mut hit = |rate: u64| rate > 0 && self.rng.below(100) < rate;
        if hit(rates.closes) {
            return match self.rng.below(3) {
                0 => Reaction::CloseBefore,
                1 => Reaction::CloseAfter,
                _ => Reaction::CutAnswer(self.rng.below(60) as usize),
            };
        }
        if hit(rates.swallows) {
            return Reaction::Swallow;
        }
        if hit(rates.delays) {
            return Reaction::Delay(self.rng.below(400));
        }
        if hit(rates.throttles) {
            return Reaction::Throttle(1 + self.rng.below(200) as i32);
        }
        if api != ApiKey::Produce && hit(rates.metadata) {
            return Reaction::Error(ErrorCode::CoordinatorLoadInProgress);
        }
        Reaction::Pass
    }

    fn api_versions(&self, node: i32, spoken: bool, throttle: i32) -> ApiVersionsResponse {
        let versions = &self.nodes[&node].versions;
        let listed = versions.iter().filter(|(key, _)| spoken || **key == API_VERSIONS);
        let api = |(key, range): (&i16, &(i16, i16))| ApiVersion {
            api_key: *key,
            min_version: range.0,
            max_version: range.1,
        };
        let code = if spoken { ErrorCode::None } else { ErrorCode::UnsupportedVersion };
        ApiVersionsResponse {
            error_code: code.code(),
            api_keys: listed.map(api).collect(),
            throttle_time_ms: if spoken { throttle } else { 0 },
            ..ApiVersionsResponse::default()
        }
    }

    fn metadata(
        &mut self,
        node: i32,
        names: &[String],
        create: bool,
        version: i16,
    ) -> MetadataResponse {
        let brokers = self.nodes.iter().map(|(id, node)| MetadataResponseBroker {
            node_id: *id,
            host: node.host.clone(),
            port: i32::from(node.port),
            ..MetadataResponseBroker::default()
        });
        let mut response =
            MetadataResponse { brokers: brokers.collect(), ..MetadataResponse::default() };
        for name in names {
            response.topics.push(self.topic_metadata(name, version));
            if let Some(partitions) = self.creates.filter(|_| create)
                && !self.topics.contains_key(name)
            {
                self.create(name, partitions);
            }
        }
        if let Some(view) = &self.nodes[&node].view {
            view(&mut response);
        }
        response
    }

    fn topic_metadata(&self, name: &str, version: i16) -> MetadataResponseTopic {
        let mut topic =
            MetadataResponseTopic { name: Some(name.into()), ..MetadataResponseTopic::default() };
        let Some(model) = self.topics.get(name) else {
            topic.error_code = ErrorCode::UnknownTopicOrPartition.code();
            return topic;
        };
        if let Some(code) = model.error {
            topic.error_code = code.code();
            return topic;
        }
        if version >= 10 {
            topic.topic_id = model.id;
        }
        let part = |(at, part): (usize, &Part)| MetadataResponsePartition {
            error_code: if part.leader < 0 { ErrorCode::LeaderNotAvailable.code() } else { 0 },
            partition_index: at as i32,
            leader_id: part.leader,
            leader_epoch: part.epoch,
            ..MetadataResponsePartition::default()
        };
        topic.partitions = model.parts.iter().enumerate().map(part).collect();
        topic
    }

    fn produce(
        &mut self,
        node: i32,
        request: &ProduceRequest,
        version: i16,
        seen: &mut Seen,
        throttle: i32,
    ) -> (ProduceResponse, Vec<(Tp, i64)>) {
        let mut acks = Vec::new();
        let mut response =
            ProduceResponse { throttle_time_ms: throttle, ..ProduceResponse::default() };
        for data in &request.topic_data {
            let by_id = self.topics.iter().find(|(_, topic)| topic.id == data.topic_id);
            let name = if version >= 13 {
                assert!(!data.topic_id.is_zero(), "D12: version 13 without a topic id");
                by_id.map(|(name, _)| name.clone())
            } else {
                Some(data.name.clone())
            };
            let mut topic = TopicProduceResponse {
                name: data.name.clone(),
                topic_id: data.topic_id,
                ..TopicProduceResponse::default()
            };
            for part in &data.partition_data {
                let bytes = part.records.clone().expect("P7: records");
                let tp = (name.clone().unwrap_or_default(), part.index);
                let batch = Batch::read(tp, self.id_of(&data.name, data.topic_id), bytes);
                let answer = if name.is_some() {
                    self.answer(node, &batch)
                } else {
                    refusal(ErrorCode::UnknownTopicId)
                };
                let answer = PartitionProduceResponse { index: part.index, ..answer };
                if matches!(answer.error_code, 0 | 46) {
                    acks.push((batch.stream.clone(), batch.stamp.producer_id));
                }
                seen.batches.push(batch);
                topic.partition_responses.push(answer);
            }
            response.responses.push(topic);
        }
        if version >= 10 && self.names_leaders {
            let named = response.responses.iter().flat_map(|it| &it.partition_responses);
            let named: BTreeSet<i32> = named.map(|it| it.current_leader.leader_id).collect();
            for (id, node) in &self.nodes {
                if named.contains(id) {
                    response.node_endpoints.push(NodeEndpoint {
                        node_id: *id,
                        host: node.host.clone(),
                        port: i32::from(node.port),
                        ..NodeEndpoint::default()
                    });
                }
            }
        } else {
            for topic in &mut response.responses {
                for part in &mut topic.partition_responses {
                    part.current_leader = LeaderIdAndEpoch::default();
                }
            }
        }
        (response, acks)
    }

    fn answer(&mut self, node: i32, batch: &Batch) -> PartitionProduceResponse {
        let tp = &batch.tp;
        let exists = self.topics.get(&tp.0).is_some_and(|it| (tp.1 as usize) < it.parts.len());
        if !exists {
            return refusal(ErrorCode::UnknownTopicOrPartition);
        }
        let scripted = self.answers.get_mut(tp).and_then(VecDeque::pop_front);
        if let Some(answer) = scripted.or_else(|| self.draw_answer()) {
            return self.scripted(batch, answer);
        }
        let part = self.part(tp);
        if part.leader != node {
            let current_leader =
                LeaderIdAndEpoch { leader_id: part.leader, leader_epoch: part.epoch };
            let refused = refusal(ErrorCode::NotLeaderOrFollower);
            return PartitionProduceResponse { current_leader, ..refused };
        }
        if batch.bytes.len() > self.max_batch {
            self.too_large.insert((tp.clone(), batch.stamp));
            return refusal(ErrorCode::MessageTooLarge);
        }
        let log = &mut self.part(tp).log;
        match log.append(batch) {
            Appended::At(base) | Appended::Again(base) => PartitionProduceResponse {
                base_offset: base,
                log_append_time_ms: -1,
                log_start_offset: log.start,
                ..PartitionProduceResponse::default()
            },
            Appended::Refused(code) => {
                let log_start_offset = log.start;
                PartitionProduceResponse { log_start_offset, ..refusal(code) }
            }
        }
    }

    fn draw_answer(&mut self) -> Option<Answer> {
        use ErrorCode as E;
        let rates = self.rates;
        let mut hit = |rate: u64| rate > 0 && self.rng.below(100) < rate;
        if hit(rates.codes) {
            let codes = [
                E::NotLeaderOrFollower,
                E::UnknownTopicOrPartition,
                E::LeaderNotAvailable,
                E::NotEnoughReplicas,
                E::CorruptMessage,
                E::InvalidRecord,
                E::KafkaStorageError,
            ];
            return Some(Answer::code(codes[self.rng.below(7) as usize]));
        }
        if hit(rates.after_append) {
            let codes =
                [E::RequestTimedOut, E::NotEnoughReplicasAfterAppend, E::UnknownServerError];
            return Some(Answer::after_append(codes[self.rng.below(3) as usize]));
        }
        hit(rates.too_large).then(|| Answer::code(E::MessageTooLarge))
    }

    fn scripted(&mut self, batch: &Batch, answer: Answer) -> PartitionProduceResponse {
        let mut base = -1;
        let part = self.part(&batch.tp);
        let mut code = answer.code;
        if answer.append || code == ErrorCode::None {
            match part.log.append(batch) {
                Appended::At(at) | Appended::Again(at) => base = at,
                Appended::Refused(refused) => code = refused,
            }
        }
        let log_start = answer.log_start.unwrap_or(part.log.start);
        if matches!(code, ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge) {
            self.too_large.insert((batch.tp.clone(), batch.stamp));
        }
        let (leader_id, leader_epoch) = answer.hint.unwrap_or((-1, -1));
        let told = code == ErrorCode::None || answer.tells_offset;
        PartitionProduceResponse {
            base_offset: if told { base } else { -1 },
            log_start_offset: log_start,
            current_leader: LeaderIdAndEpoch { leader_id, leader_epoch },
            ..refusal(code)
        }
    }
}

fn refusal(code: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse {
        error_code: code.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        ..PartitionProduceResponse::default()
    }
}
