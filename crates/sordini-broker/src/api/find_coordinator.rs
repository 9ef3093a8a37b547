//! FindCoordinator (key 10), versions 0 to 6: this broker, for every key.
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
    let config = &broker.config;
    let (host, port) = (config.advertised_host.clone(), i32::from(config.advertised_port));
    if version < 4 {
        let node_id = config.node_id;
        return FindCoordinatorResponse { node_id, host, port, ..Default::default() };
    }
    let coordinators = request.coordinator_keys.iter().map(|key| Coordinator {
        key: key.clone(),
        node_id: config.node_id,
        host: host.clone(),
        port,
        ..Coordinator::default()
    });
    FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() }
}

/// Refuses all keys.
pub(super) fn refuse(
    request: &FindCoordinatorRequest,
    version: i16,
    code: ErrorCode,
) -> FindCoordinatorResponse {
    let coordinators = request.coordinator_keys.iter().map(|key| Coordinator {
        key: key.clone(),
        node_id: -1,
        port: -1,
        error_code: code.code(),
        ..Coordinator::default()
    });
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
