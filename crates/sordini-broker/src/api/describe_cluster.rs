//! DescribeCluster (key 60), versions 0 to 2: this broker. 1: the client says whether it means
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
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: broker.cluster_id(),
        controller_id: config.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: config.node_id,
            host: config.advertised_host.clone(),
            port: i32::from(config.advertised_port),
            ..DescribeClusterBroker::default()
        }],
        ..DescribeClusterResponse::default()
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
