//! AddPartitionsToTxn (key 24), versions 0 to 5: partitions become part of a transaction.
//!
//! - 2: PRODUCER_FENCED; before it is INVALID_PRODUCER_EPOCH. 3: flexible. 4: from brokers: many
//!   transactions at once, and the question whether partitions are in one. 5:
//!   TRANSACTION_ABORTABLE.
//! - A partition that is not there keeps the others out: OPERATION_NOT_ATTEMPTED. Up to 3 clients
//!   can't name internal topics: TOPIC_AUTHORIZATION_FAILED.

use std::collections::{BTreeMap, BTreeSet};

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
};

use super::{Handled, Request, Response};
use crate::broker::{Broker, INTERNAL_TOPICS};
use crate::coordinator::Token;
use crate::coordinator::answers::Found;
use crate::coordinator::asking::Asker;
use crate::coordinator::transaction::Partition;
use crate::coordinator::version::TransactionVersion;
use crate::time::Now;

/// The first version that brokers speak, and clients do not.
const BROKERS_SINCE: i16 = 4;
/// The first version that knows PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

/// The verdicts of one transaction's partitions.
pub(crate) type Verdicts = Result<BTreeMap<Partition, ErrorCode>, ErrorCode>;

/// A request whose transactions are answered one by one.
#[derive(Debug)]
pub(crate) struct Adding {
    version: i16,
    transactions: Vec<AddPartitionsToTxnTransaction>,
    verdicts: Vec<Option<Verdicts>>,
}

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &AddPartitionsToTxnRequest,
) -> Handled {
    let transactions = transactions(version, request);
    let token = broker.coordinator.token();
    let verdicts = vec![None; transactions.len()];
    let adding = Adding { version, transactions: transactions.clone(), verdicts };
    broker.coordinator.adding.insert(token, adding);
    for (at, transaction) in transactions.iter().enumerate() {
        begin(broker, now, version, Asker::Partitions(token, at), transaction);
    }
    broker.finish_adding(token);
    Handled::WaitCoordinator(token, Box::new(Request::AddPartitionsToTxn(request.clone())))
}

fn transactions(
    version: i16,
    request: &AddPartitionsToTxnRequest,
) -> Vec<AddPartitionsToTxnTransaction> {
    if version >= BROKERS_SINCE {
        return request.transactions.clone();
    }
    vec![AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id.clone(),
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        verify_only: false,
        topics: request.v3_and_below_topics.clone(),
    }]
}

fn begin(
    broker: &mut Broker,
    now: Now,
    version: i16,
    asker: Asker,
    transaction: &AddPartitionsToTxnTransaction,
) {
    let partitions: BTreeSet<Partition> = named(&transaction.topics).collect();
    let mut failed = BTreeMap::new();
    for (topic, index) in &partitions {
        let internal = INTERNAL_TOPICS.contains(&topic.as_str());
        if version < BROKERS_SINCE && internal {
            failed.insert((topic.clone(), *index), ErrorCode::TopicAuthorizationFailed);
        } else if !broker.has_partition(topic, *index) {
            failed.insert((topic.clone(), *index), ErrorCode::UnknownTopicOrPartition);
        }
    }
    if !failed.is_empty() {
        for partition in partitions {
            failed.entry(partition).or_insert(ErrorCode::OperationNotAttempted);
        }
        return broker.tell_asker(now, asker, Ok(failed));
    }
    let producer = (transaction.producer_id, transaction.producer_epoch);
    let id = &transaction.transactional_id;
    if transaction.verify_only {
        let verdicts = broker.verify_partitions(id, producer, &partitions);
        return broker.tell_asker(now, asker, Ok(verdicts));
    }
    let client = match version {
        BROKERS_SINCE.. => TransactionVersion::V2,
        _ => TransactionVersion::V0,
    };
    broker.add_to_transaction(now, id, producer, &partitions, client, asker);
}

fn named(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = Partition> {
    let of_topic = |t: &AddPartitionsToTxnTopic| {
        let name = t.name.clone();
        t.partitions.clone().into_iter().map(move |index| (name.clone(), index))
    };
    topics.iter().flat_map(of_topic)
}

impl Broker {
    /// One transaction of a request has its verdicts.
    pub(crate) fn partitions_added(&mut self, token: Token, at: usize, verdicts: Verdicts) {
        let Some(adding) = self.coordinator.adding.get_mut(&token) else { return };
        if let Some(place) = adding.verdicts.get_mut(at) {
            *place = Some(verdicts);
        }
        self.finish_adding(token);
    }

    fn finish_adding(&mut self, token: Token) {
        let Some(adding) = self.coordinator.adding.get(&token) else { return };
        if adding.verdicts.iter().any(Option::is_none) {
            return;
        }
        if let Some(adding) = self.coordinator.adding.remove(&token) {
            let response = Response::AddPartitionsToTxn(adding.response());
            self.coordinator.answers.found(token, Found::Response(response));
        }
    }
}

impl Adding {
    fn response(self) -> AddPartitionsToTxnResponse {
        let version = self.version;
        let verdicts = self.verdicts.into_iter().map(|v| v.unwrap_or(Ok(BTreeMap::new())));
        let mut results = self.transactions.iter().zip(verdicts).map(|(transaction, verdicts)| {
            let code = |partition: &Partition| match &verdicts {
                Ok(codes) => codes.get(partition).copied().unwrap_or(ErrorCode::None),
                Err(code) => *code,
            };
            AddPartitionsToTxnResult {
                transactional_id: transaction.transactional_id.clone(),
                topic_results: results(version, &transaction.topics, code),
            }
        });
        if version < BROKERS_SINCE {
            let topics = results.next().map(|result| result.topic_results).unwrap_or_default();
            return AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: topics,
                ..AddPartitionsToTxnResponse::default()
            };
        }
        AddPartitionsToTxnResponse {
            results_by_transaction: results.collect(),
            ..AddPartitionsToTxnResponse::default()
        }
    }
}

fn results(
    version: i16,
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&Partition) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| {
        let results = topic.partitions.iter().map(|index| {
            let code = code(&(topic.name.clone(), *index));
            let partition_error_code = super::fenced_as(version >= FENCED_SINCE, code).code();
            AddPartitionsToTxnPartitionResult { partition_index: *index, partition_error_code }
        });
        AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: results.collect(),
        }
    };
    topics.iter().map(of_topic).collect()
}

/// Refuses all partitions.
pub(super) fn refuse(
    request: &AddPartitionsToTxnRequest,
    version: i16,
    code: ErrorCode,
) -> AddPartitionsToTxnResponse {
    let transactions = transactions(version, request);
    let verdicts = vec![Some(Err(code)); transactions.len()];
    let error_code = if version >= BROKERS_SINCE { code.code() } else { 0 };
    let response = Adding { version, transactions, verdicts }.response();
    AddPartitionsToTxnResponse { error_code, ..response }
}
