//! Before a Produce with batches of a transaction is applied: whether their partitions are in it
//! (KIP-890). A partition whose log knows the transaction as open needs no question; else the
//! transaction's coordinator is asked, and from version 12 on adds the partition by that.

use std::collections::BTreeMap;

use sordini_protocol::messages::produce::ProduceRequest;

use super::produce::{self, Verdicts};
use super::{Handled, Response};
use crate::broker::Broker;
use crate::coordinator::asking::Ask;
use crate::faults::Strike;
use crate::time::Now;

/// The first version that adds partitions to the transaction.
const ADDS_SINCE: i16 = 12;
/// The first version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_SINCE: i16 = 11;

/// Asks what is to be asked, or applies the request.
pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &ProduceRequest,
    strike: &Strike,
) -> Handled {
    let none = Verdicts::default();
    let batches = match produce::transactional(broker, version, request) {
        Ok(batches) => batches,
        Err(code) if request.acks == 0 => {
            return Handled::Close(format!("a Produce request with acks=0: {}", code.name()));
        }
        Err(code) => {
            return Handled::Respond(Response::Produce(produce::refuse(request, version, code)));
        }
    };
    let mut guards = BTreeMap::new();
    let mut producer = (-1, -1);
    for at in batches {
        producer = (at.batch.producer_id, at.batch.producer_epoch);
        let ordered = strike.before.iter().any(|error| error.covers(&at.topic, at.partition));
        // What can't be verified here can't be appended either, and is refused there.
        if !ordered
            && let Ok(Some(guard)) =
                broker.start_verification(now, &at.topic, at.partition, &at.batch)
        {
            guards.insert((at.topic, at.partition), guard);
        }
    }
    let Some(id) = request.transactional_id.as_ref().filter(|_| !guards.is_empty()) else {
        return produce::handle_verified(broker, now, version, request, strike, Some(&none));
    };
    let token = broker.coordinator.token();
    let ask = Ask::of(version >= ADDS_SINCE, version >= ABORTABLE_SINCE);
    broker.check_produce(now, token, id, producer, guards, ask);
    Handled::WaitCheck(token, Box::new(request.clone()))
}
