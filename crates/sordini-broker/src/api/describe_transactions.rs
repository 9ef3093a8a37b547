//! DescribeTransactions (key 65), version 0: the state of transactional ids that this broker
//! coordinates.

use std::collections::BTreeMap;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData, TransactionState,
};

use crate::broker::Broker;
use crate::coordinator::state::State;
use crate::coordinator::transaction::Transaction;

pub(super) fn handle(
    broker: &Broker,
    request: &DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.iter().map(|id| match broker.describe_transaction(id) {
        Ok(transaction) => describe(id, transaction),
        Err(code) => failure(id, code),
    });
    DescribeTransactionsResponse {
        transaction_states: states.collect(),
        ..DescribeTransactionsResponse::default()
    }
}

fn describe(id: &str, transaction: &Transaction) -> TransactionState {
    let now = transaction.now();
    if now.state == State::Dead {
        return failure(id, ErrorCode::TransactionalIdNotFound);
    }
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in transaction.open_partitions().into_iter().flatten() {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| TopicData { topic: topic.to_owned(), partitions });
    TransactionState {
        error_code: 0,
        transactional_id: id.to_owned(),
        transaction_state: now.state.name().to_owned(),
        transaction_timeout_ms: now.timeout_ms,
        transaction_start_time_ms: now.started_ms,
        producer_id: now.producer_id,
        producer_epoch: now.producer_epoch,
        topics: topics.collect(),
    }
}

fn failure(id: &str, code: ErrorCode) -> TransactionState {
    TransactionState {
        error_code: code.code(),
        transactional_id: id.to_owned(),
        ..TransactionState::default()
    }
}

/// Refuses all ids.
pub(super) fn refuse(
    request: &DescribeTransactionsRequest,
    _: i16,
    code: ErrorCode,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.iter().map(|id| failure(id, code)).collect();
    DescribeTransactionsResponse { transaction_states: states, ..Default::default() }
}
