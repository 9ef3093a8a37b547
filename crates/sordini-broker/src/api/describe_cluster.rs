//! DescribeCluster (key 60), versions 0 to 2: this broker, or the nodes that live. 1: the client says whether it means
//! brokers or controllers (KIP-919). 2: fenced brokers, of which there are none.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use crate::broker::Broker;

const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(super) fn handle(broker: &Broker, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    match request.endpoint_type {
        ENDPOINT_BROKERS => {}
        ENDPOINT_CONTROLLERS => return refuse(request, 0, ErrorCode::MismatchedEndpointType),
        _ => return refuse(request, 0, ErrorCode::UnsupportedEndpointType),
    }
    let config = &broker.config;
    let brokers = match &broker.node {
        Some(node) => node.view.live_nodes().map(|(id, b)| describe(id, &b.host, b.port)).collect(),
        None => vec![describe(config.node_id, &config.advertised_host, config.advertised_port)],
    };
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: broker.cluster_id(),
        controller_id: config.node_id,
        brokers,
        ..DescribeClusterResponse::default()
    }
}

fn describe(broker_id: i32, host: &str, port: u16) -> DescribeClusterBroker {
    DescribeClusterBroker {
        broker_id,
        host: host.to_owned(),
        port: i32::from(port),
        ..DescribeClusterBroker::default()
    }
}

/// Refuses the request.
pub(super) fn refuse(
    request: &DescribeClusterRequest,
    _: i16,
    code: ErrorCode,
) -> DescribeClusterResponse {
    DescribeClusterResponse {
        error_code: code.code(),
        endpoint_type: request.endpoint_type,
        controller_id: -1,
        ..DescribeClusterResponse::default()
    }
}
