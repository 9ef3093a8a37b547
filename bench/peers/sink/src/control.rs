//! Every request but Produce.

use std::fmt::Display;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use sordini_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use sordini_protocol::messages::init_producer_id::InitProducerIdResponse;
use sordini_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use sordini_protocol::{ApiKey, ErrorCode, Message, Reader, frame};

use crate::broker::Broker;

const HOST: &str = "127.0.0.1";

fn bad(error: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// The whole answer to a request, which comes without its length.
pub(crate) fn answer(broker: &Broker, request: Vec<u8>) -> io::Result<Vec<u8>> {
    let (api, header, mut reader) = frame::request_header(Bytes::from(request)).map_err(bad)?;
    let (version, correlation) = (header.request_api_version, header.correlation_id);
    let mut out = Vec::new();
    match api {
        ApiKey::ApiVersions if !(0..=4).contains(&version) => {
            let error_code = ErrorCode::UnsupportedVersion.code();
            let api_keys = vec![offer(ApiKey::ApiVersions, 0, 4)];
            let response = ApiVersionsResponse { error_code, api_keys, ..Default::default() };
            frame::put_response(&mut out, api, &response, 0, correlation)
        }
        ApiKey::ApiVersions => {
            frame::put_response(&mut out, api, &versions(broker), version, correlation)
        }
        ApiKey::Metadata => {
            let response = metadata(broker, &mut reader, version)?;
            frame::put_response(&mut out, api, &response, version, correlation)
        }
        ApiKey::InitProducerId => {
            let response = InitProducerIdResponse {
                producer_id: 1000 + broker.next_producer.fetch_add(1, Relaxed),
                ..Default::default()
            };
            frame::put_response(&mut out, api, &response, version, correlation)
        }
        ApiKey::FindCoordinator => {
            let response = coordinator(broker, &mut reader, version)?;
            frame::put_response(&mut out, api, &response, version, correlation)
        }
        other => return Err(bad(format!("{other:?} is not offered"))),
    }
    .map_err(bad)?;
    Ok(out)
}

fn offer(api: ApiKey, min_version: i16, max_version: i16) -> ApiVersion {
    ApiVersion { api_key: api.code(), min_version, max_version }
}

/// Those of Kafka 4, which starts Produce at 0 for old clients.
fn versions(broker: &Broker) -> ApiVersionsResponse {
    ApiVersionsResponse {
        api_keys: vec![
            offer(ApiKey::Produce, 0, broker.produce_max),
            offer(ApiKey::Fetch, 4, 16),
            offer(ApiKey::ListOffsets, 1, 10),
            offer(ApiKey::Metadata, 0, 13),
            offer(ApiKey::FindCoordinator, 0, 6),
            offer(ApiKey::ApiVersions, 0, 4),
            offer(ApiKey::InitProducerId, 0, 5),
        ],
        ..Default::default()
    }
}

fn metadata(broker: &Broker, reader: &mut Reader, version: i16) -> io::Result<MetadataResponse> {
    let request = MetadataRequest::decode(reader, version).map_err(bad)?;
    let names: Vec<String> = match request.topics {
        Some(topics) if version > 0 || !topics.is_empty() => topics
            .into_iter()
            .filter_map(|topic| match topic.name {
                Some(name) => Some(name),
                None => broker.topic_by_id(topic.topic_id).map(|topic| topic.name.clone()),
            })
            .collect(),
        _ => broker.topic_names(),
    };
    let nodes = broker.ports.iter().zip(0..).map(|(port, node_id)| MetadataResponseBroker {
        node_id,
        host: HOST.to_owned(),
        port: i32::from(*port),
        ..Default::default()
    });
    Ok(MetadataResponse {
        brokers: nodes.collect(),
        cluster_id: Some("sink".to_owned()),
        controller_id: 0,
        topics: names.iter().map(|name| described(broker, name)).collect(),
        ..Default::default()
    })
}

fn described(broker: &Broker, name: &str) -> MetadataResponseTopic {
    let topic = broker.topic(name);
    let partitions = (0..topic.partitions.len()).map(|index| {
        let node = (index % broker.ports.len()) as i32;
        MetadataResponsePartition {
            partition_index: index as i32,
            leader_id: node,
            leader_epoch: 0,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..Default::default()
        }
    });
    MetadataResponseTopic {
        name: Some(name.to_owned()),
        topic_id: topic.id,
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn coordinator(
    broker: &Broker,
    reader: &mut Reader,
    version: i16,
) -> io::Result<FindCoordinatorResponse> {
    let request = FindCoordinatorRequest::decode(reader, version).map_err(bad)?;
    let port = i32::from(broker.ports.first().copied().unwrap_or_default());
    let coordinator =
        |key| Coordinator { key, node_id: 0, host: HOST.to_owned(), port, ..Default::default() };
    Ok(if version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(coordinator).collect();
        FindCoordinatorResponse { coordinators, ..Default::default() }
    } else {
        FindCoordinatorResponse { host: HOST.to_owned(), port, ..Default::default() }
    })
}
