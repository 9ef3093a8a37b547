//! AddOffsetsToTxn (key 25), versions 0 to 4: the partition that keeps a group's offsets becomes
//! part of a transaction of the old protocol.
//!
//! - 2: PRODUCER_FENCED; before it is INVALID_PRODUCER_EPOCH. 3: flexible. 4: TRANSACTION_ABORTABLE.

use std::collections::BTreeSet;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::add_offsets_to_txn::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse,
};

use super::{Handled, Request, Response};
use crate::broker::Broker;
use crate::coordinator::answers::Found;
use crate::coordinator::asking::Asker;
use crate::coordinator::version::TransactionVersion;
use crate::coordinator::{CONSUMER_OFFSETS, partition_for};
use crate::time::Now;

/// The first version that knows PRODUCER_FENCED.
const FENCED_SINCE: i16 = 2;

pub(super) fn handle(broker: &mut Broker, now: Now, request: &AddOffsetsToTxnRequest) -> Handled {
    broker.ensure_topic(now, CONSUMER_OFFSETS);
    let token = broker.coordinator.token();
    let count = broker.partition_count(CONSUMER_OFFSETS);
    match partition_for(&request.group_id, count) {
        Some(index) => {
            let partitions = BTreeSet::from([(CONSUMER_OFFSETS.to_owned(), index)]);
            let producer = (request.producer_id, request.producer_epoch);
            let (id, client) = (&request.transactional_id, TransactionVersion::V0);
            let asker = Asker::Offsets(token);
            broker.add_to_transaction(now, id, producer, &partitions, client, asker);
        }
        None => {
            let found = added(Some(ErrorCode::CoordinatorNotAvailable));
            broker.coordinator.answers.found(token, found);
        }
    }
    Handled::WaitCoordinator(token, Box::new(Request::AddOffsetsToTxn(request.clone())))
}

/// The answer.
pub(crate) fn added(error: Option<ErrorCode>) -> Found {
    match error {
        None => Found::Response(Response::AddOffsetsToTxn(AddOffsetsToTxnResponse::default())),
        Some(code) => Found::Refused(code),
    }
}

/// Refuses the request.
pub(super) fn refuse(
    _: &AddOffsetsToTxnRequest,
    version: i16,
    code: ErrorCode,
) -> AddOffsetsToTxnResponse {
    let error_code = super::fenced_as(version >= FENCED_SINCE, code).code();
    AddOffsetsToTxnResponse { error_code, ..AddOffsetsToTxnResponse::default() }
}
