//! What transaction and group coordinators are asked, in Kafka's words, and what they answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sordini_protocol::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use sordini_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use sordini_protocol::messages::describe_transactions::DescribeTransactionsRequest;
use sordini_protocol::messages::end_txn::EndTxnRequest;
use sordini_protocol::messages::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use sordini_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use sordini_protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
};
use sordini_protocol::{DecodeError, ErrorCode};

use crate::cluster::told_address;
use crate::connection::versions::Versions;
use crate::connection::{Asked, ConnId, Connection};
use crate::error::Obstacle;
use crate::producer::Producer;
use crate::producer::responses::decode;
use crate::sequencing::line::ProducerIdentity;
use crate::transaction::errand::AskId;
use crate::transaction::offsets::GroupOffsets;
use crate::transaction::state::{Place, Protocol};
use crate::transaction::{Answer, Ask, Coordinator, Described, Moment};

/// FindCoordinator's kinds of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The version of a request that serves the purpose of `ask`, if the broker has one.
fn version(versions: &Versions, ask: &Ask) -> Option<i16> {
    let coordination = &versions.coordination;
    let of_protocol = |version: Option<i16>, protocol, one: i16| match protocol {
        // The version tells the broker which protocol is meant (KIP-890).
        Protocol::One => version.map(|version| version.min(one)),
        Protocol::Two => version.filter(|version| *version > one),
    };
    match ask {
        Ask::FindCoordinator | Ask::FindGroup(_) => coordination.find_coordinator,
        // Version 3 raises an epoch (KIP-360), on which all recovery rests.
        Ask::InitProducerId(_) => Some(versions.init_producer_id).filter(|version| *version >= 3),
        Ask::AddPartitions(..) => coordination.add_partitions,
        Ask::AddOffsets(..) => coordination.add_offsets,
        Ask::CommitOffsets(_, protocol, _) => {
            of_protocol(coordination.commit_offsets, *protocol, 4)
        }
        Ask::EndTxn { protocol, .. } => of_protocol(coordination.end, *protocol, 4),
        Ask::Describe => coordination.describe,
    }
}

fn result_of(code: i16) -> Answer {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Answer::Done(None),
        code => Answer::Refused(code),
    }
}

impl Producer {
    /// Asks what transactions want to have asked, as far as connections are there.
    pub(super) fn coordinate(&mut self) {
        // One after another: what becomes of one may change what the others are about.
        while let Some((conn, ask)) = self.next_ask() {
            self.put_ask(conn, &ask);
        }
    }

    /// An ask that is due, and whose connection is ready.
    fn next_ask(&mut self) -> Option<(ConnId, Ask)> {
        let asks = self.transactions.as_ref()?.asks(self.now);
        for (coordinator, ask) in asks {
            let conn = match coordinator {
                Coordinator::Anyone => self.any_connection(None),
                Coordinator::Node(node) if self.cluster.brokers().contains_key(&node) => {
                    self.connection_to(node)
                }
                Coordinator::Node(node) => {
                    self.transactions.iter_mut().for_each(|it| it.node_lost(node));
                    None
                }
            };
            let connection = conn.and_then(|conn| self.connections.get(&conn));
            if let Some(conn) = connection.filter(|at| at.can_send(self.now)) {
                return Some((conn.id, ask));
            }
        }
        None
    }

    fn put_ask(&mut self, conn: ConnId, ask: &Ask) {
        let id = AskId(self.asks_made);
        self.asks_made += 1;
        if let Some(transactions) = &mut self.transactions {
            transactions.asked(id, ask);
        }
        let versions = self.connections.get(&conn).and_then(Connection::versions);
        let Some(version) = versions.and_then(|versions| version(&versions, ask)) else {
            self.on_coordinator_answer(id, ask, Answer::Unspoken);
            return;
        };
        self.asks.insert(id, ask.clone());
        let asked = Asked::Coordination(id, version);
        match ask {
            Ask::FindCoordinator => {
                let id = self.transactional_id();
                self.ask(conn, &find(&id, TRANSACTION, version), version, asked);
            }
            Ask::FindGroup(group) => self.ask(conn, &find(group, GROUP, version), version, asked),
            Ask::InitProducerId(previous) => {
                let request = self.init_producer_id(*previous);
                self.ask(conn, &request, version, asked);
            }
            Ask::AddPartitions(identity, places) => {
                let request = self.partitions_to_add(*identity, places);
                self.ask(conn, &request, version, asked);
            }
            Ask::AddOffsets(identity, group) => {
                let request = AddOffsetsToTxnRequest {
                    transactional_id: self.transactional_id(),
                    producer_id: identity.id,
                    producer_epoch: identity.epoch,
                    group_id: group.to_string(),
                };
                self.ask(conn, &request, version, asked);
            }
            Ask::CommitOffsets(identity, _, offsets) => {
                self.put_offsets(conn, *identity, offsets, version, asked);
            }
            Ask::EndTxn { identity, commit, .. } => {
                let request = EndTxnRequest {
                    transactional_id: self.transactional_id(),
                    producer_id: identity.id,
                    producer_epoch: identity.epoch,
                    committed: *commit,
                };
                self.ask(conn, &request, version, asked);
            }
            Ask::Describe => {
                let transactional_ids = vec![self.transactional_id()];
                let request = DescribeTransactionsRequest { transactional_ids };
                self.ask(conn, &request, version, asked);
            }
        }
    }

    fn transactional_id(&self) -> String {
        self.config.transactional_id.clone().unwrap_or_default()
    }

    fn init_producer_id(&self, previous: Option<ProducerIdentity>) -> InitProducerIdRequest {
        let timeout = self.config.transaction_timeout.as_millis();
        InitProducerIdRequest {
            transactional_id: Some(self.transactional_id()),
            transaction_timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
            producer_id: previous.map_or(-1, |identity| identity.id),
            producer_epoch: previous.map_or(-1, |identity| identity.epoch),
            ..InitProducerIdRequest::default()
        }
    }

    fn partitions_to_add(
        &self,
        identity: ProducerIdentity,
        places: &[Place],
    ) -> AddPartitionsToTxnRequest {
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in places {
            if let Some(topic) = self.topics.get(topic) {
                topics.entry(topic.name().to_string()).or_default().push(*partition);
            }
        }
        let topic = |(name, partitions)| AddPartitionsToTxnTopic { name, partitions };
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactional_id(),
            v3_and_below_producer_id: identity.id,
            v3_and_below_producer_epoch: identity.epoch,
            v3_and_below_topics: topics.into_iter().map(topic).collect(),
            ..AddPartitionsToTxnRequest::default()
        }
    }

    fn put_offsets(
        &mut self,
        conn: ConnId,
        identity: ProducerIdentity,
        offsets: &GroupOffsets,
        version: i16,
        asked: Asked,
    ) {
        // From version 6 on topics go by their ids, which may not be known of topics that this
        // producer does not write to.
        let version = version.min(5);
        let asked = match asked {
            Asked::Coordination(id, _) => Asked::Coordination(id, version),
            asked => asked,
        };
        let mut topics: BTreeMap<&Arc<str>, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
        for (topic, partition, at) in &offsets.offsets {
            topics.entry(topic).or_default().push(TxnOffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: at.offset,
                committed_leader_epoch: at.leader_epoch,
                committed_metadata: Some(at.metadata.as_deref().unwrap_or_default().to_owned()),
            });
        }
        let topic = |(name, partitions): (&Arc<str>, _)| TxnOffsetCommitRequestTopic {
            name: name.to_string(),
            partitions,
            ..TxnOffsetCommitRequestTopic::default()
        };
        let mut request = TxnOffsetCommitRequest {
            transactional_id: self.transactional_id(),
            group_id: offsets.group.group.to_string(),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            topics: topics.into_iter().map(topic).collect(),
            ..TxnOffsetCommitRequest::default()
        };
        // Brokers before Kafka 2.5 can't check the member (KIP-447).
        if version >= 3 {
            request.generation_id_or_member_epoch = offsets.group.generation;
            request.member_id = offsets.group.member.to_string();
            request.group_instance_id = offsets.group.instance.as_deref().map(str::to_owned);
        }
        self.ask(conn, &request, version, asked);
    }

    /// A response to an ask.
    pub(super) fn on_coordination(
        &mut self,
        conn: ConnId,
        id: AskId,
        version: i16,
        frame: Bytes,
    ) -> Result<(), String> {
        let Some(ask) = self.asks.remove(&id) else { return Ok(()) };
        match self.read_answer(conn, &ask, version, frame) {
            Ok(answer) => {
                self.on_coordinator_answer(id, &ask, answer);
                if let Ask::AddPartitions(_, places) = &ask {
                    places.iter().for_each(|place| self.touch(*place));
                }
                Ok(())
            }
            Err(error) => {
                self.asks.insert(id, ask);
                Err(format!("the coordinator's answer does not decode: {error}"))
            }
        }
    }

    fn read_answer(
        &mut self,
        conn: ConnId,
        ask: &Ask,
        version: i16,
        frame: Bytes,
    ) -> Result<Answer, DecodeError> {
        let (throttle, answer) = match ask {
            Ask::FindCoordinator | Ask::FindGroup(_) => {
                let response = decode::<FindCoordinatorRequest>(frame, version)?;
                (response.throttle_time_ms, self.found(response))
            }
            Ask::InitProducerId(_) => {
                let response = decode::<InitProducerIdRequest>(frame, version)?;
                (response.throttle_time_ms, identity(&response))
            }
            Ask::AddPartitions(_, places) => {
                let response = decode::<AddPartitionsToTxnRequest>(frame, version)?;
                let mut results = BTreeMap::new();
                for topic in response.results_by_topic_v3_and_below {
                    for at in topic.results_by_partition {
                        let code = ErrorCode::from_code(at.partition_error_code);
                        results.insert((topic.name.clone(), at.partition_index), code);
                    }
                }
                let result = |place: &Place| {
                    let name = self.topics.get(&place.0)?.name().to_string();
                    Some((*place, *results.get(&(name, place.1))?))
                };
                let results = places.iter().filter_map(result).collect();
                (response.throttle_time_ms, Answer::Partitions(results))
            }
            Ask::AddOffsets(..) => {
                let response = decode::<AddOffsetsToTxnRequest>(frame, version)?;
                (response.throttle_time_ms, result_of(response.error_code))
            }
            Ask::CommitOffsets(_, _, asked) => {
                let response = decode::<TxnOffsetCommitRequest>(frame, version)?;
                (response.throttle_time_ms, worst(asked, &response))
            }
            Ask::EndTxn { .. } => {
                let response = decode::<EndTxnRequest>(frame, version)?;
                let next =
                    ProducerIdentity { id: response.producer_id, epoch: response.producer_epoch };
                let next = Some(next).filter(|next| next.id >= 0 && next.epoch >= 0);
                let answer = match result_of(response.error_code) {
                    Answer::Done(_) => Answer::Done(next),
                    refused => refused,
                };
                (response.throttle_time_ms, answer)
            }
            Ask::Describe => {
                let response = decode::<DescribeTransactionsRequest>(frame, version)?;
                let state = response.transaction_states.into_iter().next();
                let answer = state.map_or(Answer::Unspoken, |state| match state.error_code {
                    0 => Answer::Described(Described {
                        state: state.transaction_state,
                        identity: ProducerIdentity {
                            id: state.producer_id,
                            epoch: state.producer_epoch,
                        },
                    }),
                    code => Answer::Refused(ErrorCode::from_code(code)),
                });
                (response.throttle_time_ms, answer)
            }
        };
        self.throttle(conn, throttle);
        Ok(answer)
    }

    /// Takes in who a coordinator is. Up to version 3 the answer is to the one key asked for.
    fn found(&mut self, response: FindCoordinatorResponse) -> Answer {
        let (node, host, port, code) = match response.coordinators.into_iter().next() {
            Some(at) => (at.node_id, at.host, at.port, at.error_code),
            None => (response.node_id, response.host, response.port, response.error_code),
        };
        match (ErrorCode::from_code(code), told_address(host, port)) {
            (ErrorCode::None, Some(address)) if node >= 0 => {
                self.cluster.set_broker(node, address);
                Answer::Coordinator(node)
            }
            (ErrorCode::None, _) => Answer::Refused(ErrorCode::CoordinatorNotAvailable),
            (code, _) => Answer::Refused(code),
        }
    }

    /// No answer will come: the connection is gone.
    pub(super) fn on_ask_lost(
        &mut self,
        id: AskId,
        begun: bool,
        address: &Arc<str>,
        cause: &Arc<str>,
    ) {
        let Some(ask) = self.asks.remove(&id) else { return };
        let (address, cause) = (Arc::clone(address), Arc::clone(cause));
        let obstacle = Obstacle::Connection { address, cause };
        self.on_coordinator_answer(id, &ask, Answer::Lost { begun, obstacle });
    }

    fn on_coordinator_answer(&mut self, id: AskId, ask: &Ask, answer: Answer) {
        let moment = Moment { now: self.now, bounds: self.retry_bounds(), rng: &mut self.rng };
        if let Some(transactions) = &mut self.transactions {
            transactions.answered(id, ask, answer, moment);
        }
        self.apply_effects();
    }
}

fn find(key: &str, key_type: i8, version: i16) -> FindCoordinatorRequest {
    let key = key.to_owned();
    match version {
        0..=3 => FindCoordinatorRequest { key, key_type, ..FindCoordinatorRequest::default() },
        _ => FindCoordinatorRequest {
            key_type,
            coordinator_keys: vec![key],
            ..FindCoordinatorRequest::default()
        },
    }
}

fn identity(response: &InitProducerIdResponse) -> Answer {
    let (id, epoch) = (response.producer_id, response.producer_epoch);
    match ErrorCode::from_code(response.error_code) {
        ErrorCode::None if id >= 0 && epoch >= 0 => {
            Answer::Identity(ProducerIdentity { id, epoch })
        }
        // A success that names no id is none.
        ErrorCode::None => Answer::Refused(ErrorCode::UnknownServerError),
        code => Answer::Refused(code),
    }
}

/// One partition's refusal is the whole's: the offsets of a call go together. What must not be
/// tried again outweighs what may be.
fn worst(asked: &GroupOffsets, response: &TxnOffsetCommitResponse) -> Answer {
    let mut codes = BTreeMap::new();
    for topic in &response.topics {
        for at in &topic.partitions {
            let code = ErrorCode::from_code(at.error_code);
            codes.insert((topic.name.as_str(), at.partition_index), code);
        }
    }
    let code_of = |(topic, partition, _): &(Arc<str>, i32, _)| {
        // A partition that is not answered for was not committed, as far as can be known.
        codes.get(&(&**topic, *partition)).copied().unwrap_or(ErrorCode::UnknownServerError)
    };
    let failed = asked.offsets.iter().map(code_of).filter(|code| *code != ErrorCode::None);
    let failed: Vec<ErrorCode> = failed.collect();
    let final_one = failed.iter().find(|code| !code.is_retriable());
    match final_one.or(failed.first()) {
        None => Answer::Done(None),
        Some(code) => Answer::Refused(*code),
    }
}
