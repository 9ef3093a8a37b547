//! InitProducerId (key 22), versions 0 to 5: a new producer id at epoch 0, for idempotence.
//!
//! - An id and epoch that the client sends (since 3, KIP-360) matter to transactions only: without
//!   a transactional id the answer is always a new id.
//! - Transactions are not served: a transactional id is refused for good, not to be retried.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use crate::broker::Broker;
use crate::time::Now;

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        return refuse(request, 0, ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return refuse(request, 0, ErrorCode::InvalidRequest);
    }
    let id = match broker.node_mut() {
        Some(node) => node.producer_id(now),
        None => broker.catalog.new_producer_id(broker.storage.as_mut()).ok(),
    };
    match id {
        Some(producer_id) => InitProducerIdResponse {
            producer_id,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        // Retriable: the disk may have room again, the controller's block of ids be on its way.
        None => refuse(request, 0, ErrorCode::CoordinatorLoadInProgress),
    }
}

/// Refuses the request.
pub(super) fn refuse(_: &InitProducerIdRequest, _: i16, code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
