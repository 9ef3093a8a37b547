//! FindCoordinator (key 10), versions 0 to 6: who leads the partition that a group or a
//! transactional id belongs to.
//!
//! - 1: key types (0 group, 1 transaction). 4: many keys at once. 5: TRANSACTION_ABORTABLE. 6:
//!   share groups (2), which are not served: the key is answered with a node that lives.
//! - The topic that keeps the state is created by the first question. A broker on its own then
//!   answers at once; in a cluster it is COORDINATOR_NOT_AVAILABLE until there is a leader. librdkafka
//!   asks at its start whatever it is for, and ties lz4 to version 0.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

use crate::broker::Broker;
use crate::coordinator::{CONSUMER_OFFSETS, TRANSACTION_STATE, partition_for};
use crate::time::Now;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
/// The first version that asks for share groups.
const SHARE_SINCE: i16 = 6;

/// Id, host and port of a node.
type Address = (i32, String, i32);

pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let key_type = request.key_type;
    if !(GROUP..=SHARE).contains(&key_type) || (key_type == SHARE && version < SHARE_SINCE) {
        return refuse(request, version, ErrorCode::InvalidRequest);
    }
    if version < 4 {
        return match coordinator(broker, now, key_type, &request.key) {
            Some((node_id, host, port)) => {
                FindCoordinatorResponse { node_id, host, port, ..Default::default() }
            }
            None => refuse(request, version, ErrorCode::CoordinatorNotAvailable),
        };
    }
    let keys = request.coordinator_keys.iter();
    let coordinators = keys.map(|key| match coordinator(broker, now, key_type, key) {
        Some((node_id, host, port)) => {
            Coordinator { key: key.clone(), node_id, host, port, ..Coordinator::default() }
        }
        None => no_coordinator(key, ErrorCode::CoordinatorNotAvailable),
    });
    FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() }
}

fn coordinator(broker: &mut Broker, now: Now, key_type: i8, key: &str) -> Option<Address> {
    let topic = match key_type {
        GROUP => CONSUMER_OFFSETS,
        TRANSACTION => TRANSACTION_STATE,
        _ => return any_node(broker),
    };
    broker.ensure_topic(now, topic);
    let index = partition_for(key, broker.partition_count(topic))?;
    let Some(node) = &broker.node else { return any_node(broker) };
    let leader = node.view.partition(topic, index)?.leader;
    let address = node.view.live(leader)?;
    Some((leader, address.host.clone(), i32::from(address.port)))
}

fn any_node(broker: &Broker) -> Option<Address> {
    let config = &broker.config;
    let Some(node) = &broker.node else {
        let port = i32::from(config.advertised_port);
        return Some((config.node_id, config.advertised_host.clone(), port));
    };
    let (id, address) = node.view.live_nodes().next()?;
    Some((id, address.host.clone(), i32::from(address.port)))
}

fn no_coordinator(key: &str, code: ErrorCode) -> Coordinator {
    Coordinator {
        key: key.to_owned(),
        node_id: -1,
        port: -1,
        error_code: code.code(),
        ..Coordinator::default()
    }
}

/// Refuses all keys.
pub(super) fn refuse(
    request: &FindCoordinatorRequest,
    version: i16,
    code: ErrorCode,
) -> FindCoordinatorResponse {
    let coordinators = request.coordinator_keys.iter().map(|key| no_coordinator(key, code));
    if version >= 4 {
        return FindCoordinatorResponse {
            coordinators: coordinators.collect(),
            ..Default::default()
        };
    }
    FindCoordinatorResponse {
        error_code: code.code(),
        node_id: -1,
        port: -1,
        ..FindCoordinatorResponse::default()
    }
}
