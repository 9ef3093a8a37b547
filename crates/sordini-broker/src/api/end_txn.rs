//! EndTxn (key 26), versions 0 to 5: a transaction is committed or aborted. It is answered once
//! that is decided for good; the partitions hear of it afterwards.
//!
//! - 2: PRODUCER_FENCED; before it is INVALID_PRODUCER_EPOCH. 3: flexible. 4:
//!   TRANSACTION_ABORTABLE. 5: the new protocol (KIP-890): the answer has the id and epoch of the
//!   next transaction.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::end_txn::{EndTxnRequest, EndTxnResponse};

use super::{Handled, Request};
use crate::broker::Broker;
use crate::coordinator::version::TransactionVersion;
use crate::log::marker::TransactionResult;
use crate::time::Now;

/// The first version that knows PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;
/// The first version of the new protocol.
const BUMPS_SINCE: i16 = 5;

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &EndTxnRequest,
) -> Handled {
    let result = match request.committed {
        true => TransactionResult::Commit,
        false => TransactionResult::Abort,
    };
    let client = match version {
        BUMPS_SINCE.. => TransactionVersion::V2,
        _ => TransactionVersion::V0,
    };
    let token = broker.coordinator.token();
    let producer = (request.producer_id, request.producer_epoch);
    broker.end_transaction(now, token, &request.transactional_id, producer, result, client);
    Handled::WaitCoordinator(token, Box::new(Request::EndTxn(request.clone())))
}

/// The answer to a transaction that ended: with what the producer goes on, if the protocol is new.
pub(crate) fn ended(producer_id: i64, producer_epoch: i16) -> EndTxnResponse {
    EndTxnResponse { producer_id, producer_epoch, ..EndTxnResponse::default() }
}

/// Refuses the request.
pub(super) fn refuse(_: &EndTxnRequest, version: i16, code: ErrorCode) -> EndTxnResponse {
    let error_code = super::fenced_as(version >= FENCED_SINCE, code).code();
    EndTxnResponse { error_code, ..ended(-1, -1) }
}
