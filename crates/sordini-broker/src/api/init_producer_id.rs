//! InitProducerId (key 22), versions 0 to 5: a new producer id at epoch 0 for idempotence; for
//! transactions an id and the next epoch, after what was open is aborted.
//!
//! - 2: flexible. 3: the id and epoch that the client has (KIP-360): it goes on after an error.
//!   Without a transactional id the answer is always a new id. 4: PRODUCER_FENCED; before it is
//!   INVALID_PRODUCER_EPOCH. 5: TRANSACTION_ABORTABLE.
//! - An open transaction is aborted first: CONCURRENT_TRANSACTIONS until that is done.
//! - Two-phase commit (6, KIP-939) is an unstable version and not offered; its fields are refused
//!   as Kafka does without `transaction.two.phase.commit.enable`.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Handled, Request, Response};
use crate::broker::Broker;
use crate::coordinator::transaction::Init;
use crate::time::Now;

/// The first version that knows PRODUCER_FENCED.
const FENCED_SINCE: i16 = 4;

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &InitProducerIdRequest,
) -> Handled {
    let refused = |code| Handled::Respond(Response::InitProducerId(refuse(request, version, code)));
    let expected = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return refused(ErrorCode::InvalidRequest),
        known => Some(known),
    };
    let Some(id) = &request.transactional_id else {
        return match broker.fresh_producer_id(now) {
            Ok(id) => Handled::Respond(Response::InitProducerId(initialized(id, 0))),
            Err(code) => refused(code),
        };
    };
    if let Err(code) = check(broker, request, id) {
        return refused(code);
    }
    let token = broker.coordinator.token();
    let ask = Init { timeout_ms: request.transaction_timeout_ms, expected };
    broker.init_transactions(now, token, id, ask);
    Handled::WaitCoordinator(token, Box::new(Request::InitProducerId(request.clone())))
}

fn check(broker: &Broker, request: &InitProducerIdRequest, id: &str) -> Result<(), ErrorCode> {
    let timeout_ms = request.transaction_timeout_ms;
    if id.is_empty() {
        Err(ErrorCode::InvalidRequest)
    } else if request.enable_2pc {
        Err(ErrorCode::TransactionalIdAuthorizationFailed)
    } else if request.keep_prepared_txn {
        Err(ErrorCode::UnsupportedVersion)
    } else if !(1..=broker.config.transaction_max_timeout_ms).contains(&timeout_ms) {
        Err(ErrorCode::InvalidTransactionTimeout)
    } else {
        Ok(())
    }
}

/// The answer that gives an id and epoch.
pub(crate) fn initialized(producer_id: i64, producer_epoch: i16) -> InitProducerIdResponse {
    InitProducerIdResponse { producer_id, producer_epoch, ..InitProducerIdResponse::default() }
}

/// Refuses the request.
pub(super) fn refuse(
    _: &InitProducerIdRequest,
    version: i16,
    code: ErrorCode,
) -> InitProducerIdResponse {
    let error_code = super::fenced_as(version >= FENCED_SINCE, code).code();
    InitProducerIdResponse { error_code, ..initialized(-1, -1) }
}
