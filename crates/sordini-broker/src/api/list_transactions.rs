//! ListTransactions (key 66), versions 0 to 1: the transactional ids that this broker coordinates.
//!
//! - 1: only transactions that have been open for longer (KIP-994). Kafka's 2 filters by a regular
//!   expression of Java's, and is not served.
//! - State names that are not known are listed, and match nothing.

use std::collections::BTreeSet;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState,
};

use crate::broker::Broker;
use crate::coordinator::state::State;
use crate::coordinator::transaction::{Metadata, Transaction};
use crate::time::Now;

pub(super) fn handle(
    broker: &Broker,
    now: Now,
    request: &ListTransactionsRequest,
) -> ListTransactionsResponse {
    let mut states = BTreeSet::new();
    let mut unknown = Vec::new();
    for name in &request.state_filters {
        match State::from_name(name) {
            Some(state) => {
                states.insert(state);
            }
            None => unknown.push(name.clone()),
        }
    }
    let wanted = |known: &Metadata| {
        let ids = &request.producer_id_filters;
        let age = now.wall_ms.saturating_sub(known.started_ms);
        (ids.is_empty() || ids.contains(&known.producer_id))
            && (request.state_filters.is_empty() || states.contains(&known.state))
            && (request.duration_filter < 0 || age > request.duration_filter)
    };
    let all = match broker.coordinated_transactions() {
        Ok(all) => all,
        Err(code) => return refuse(request, 0, code),
    };
    let listed = all.filter(|(_, transaction)| wanted(transaction.now())).map(list);
    ListTransactionsResponse {
        unknown_state_filters: unknown,
        transaction_states: listed.collect(),
        ..ListTransactionsResponse::default()
    }
}

fn list((id, transaction): (&str, &Transaction)) -> TransactionState {
    let now = transaction.now();
    TransactionState {
        transactional_id: id.to_owned(),
        producer_id: now.producer_id,
        transaction_state: now.state.name().to_owned(),
    }
}

/// Refuses the request.
pub(super) fn refuse(
    _: &ListTransactionsRequest,
    _: i16,
    code: ErrorCode,
) -> ListTransactionsResponse {
    ListTransactionsResponse { error_code: code.code(), ..ListTransactionsResponse::default() }
}
