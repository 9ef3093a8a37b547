//! FindCoordinator (key 10), versions 0 to 6: this broker, for every key; in a cluster one of the
//! nodes that live, by the key.
//!
//! - 1: key types (0 group, 1 transaction, 2 share). 4: many keys at once. librdkafka sends it at
//!   the start whatever it is for, and ties lz4 to its version 0.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};

use crate::broker::Broker;

const KEY_TYPE_MAX: i8 = 2;

pub(super) fn handle(
    broker: &Broker,
    version: i16,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if !(0..=KEY_TYPE_MAX).contains(&request.key_type) {
        return refuse(request, version, ErrorCode::InvalidRequest);
    }
    if version < 4 {
        return match coordinator(broker, &request.key) {
            Some((node_id, host, port)) => {
                FindCoordinatorResponse { node_id, host, port, ..Default::default() }
            }
            None => refuse(request, version, ErrorCode::CoordinatorNotAvailable),
        };
    }
    let coordinators = request.coordinator_keys.iter().map(|key| match coordinator(broker, key) {
        Some((node_id, host, port)) => {
            Coordinator { key: key.clone(), node_id, host, port, ..Coordinator::default() }
        }
        None => no_coordinator(key, ErrorCode::CoordinatorNotAvailable),
    });
    FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() }
}

/// Id, host and port of a key's coordinator: in a cluster, one of the nodes that live, the same
/// one for all nodes that have the same view.
fn coordinator(broker: &Broker, key: &str) -> Option<(i32, String, i32)> {
    let config = &broker.config;
    let Some(node) = &broker.node else {
        let port = i32::from(config.advertised_port);
        return Some((config.node_id, config.advertised_host.clone(), port));
    };
    let live: Vec<_> = node.view.live_nodes().collect();
    let hash = key.bytes().fold(0u32, |hash, b| hash.wrapping_mul(31).wrapping_add(u32::from(b)));
    let at = usize::try_from(hash).unwrap_or(0).checked_rem(live.len())?;
    live.get(at).map(|(id, broker)| (*id, broker.host.clone(), i32::from(broker.port)))
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
