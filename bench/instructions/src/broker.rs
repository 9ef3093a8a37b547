//! A broker that acknowledges everything: one node, one topic.

use std::collections::BTreeMap;

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use sordini_protocol::messages::init_producer_id::InitProducerIdResponse;
use sordini_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use sordini_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use sordini_protocol::{ApiKey, Message, Uuid, frame};

const TOPIC_ID: Uuid = Uuid(*b"clicks-topic-id.");

pub(crate) struct Broker {
    partitions: u32,
    next_offset: BTreeMap<i32, i64>,
}

impl Broker {
    pub(crate) fn new(partitions: u32) -> Self {
        Self { partitions, next_offset: BTreeMap::new() }
    }

    /// How many batches are in a request.
    pub(crate) fn batches(request: Vec<u8>) -> usize {
        let request = Bytes::from(request).slice(frame::SIZE_PREFIX..);
        let (api, header, mut reader) = frame::request_header(request).expect("a request");
        if api != ApiKey::Produce {
            return 0;
        }
        let request = ProduceRequest::decode(&mut reader, header.request_api_version);
        request.expect("Produce").topic_data.iter().map(|topic| topic.partition_data.len()).sum()
    }

    /// The whole response frame to a whole request frame.
    pub(crate) fn answer(&mut self, request: Vec<u8>) -> Vec<u8> {
        let request = Bytes::from(request).slice(frame::SIZE_PREFIX..);
        let (api, header, mut reader) = frame::request_header(request).expect("a request");
        let version = header.request_api_version;
        let correlation = header.correlation_id;
        let mut out = Vec::new();
        match api {
            ApiKey::ApiVersions => {
                frame::put_response(&mut out, api, &api_versions(), version, correlation)
            }
            ApiKey::Metadata => {
                frame::put_response(&mut out, api, &self.metadata(), version, correlation)
            }
            ApiKey::InitProducerId => {
                let response = InitProducerIdResponse { producer_id: 4711, ..Default::default() };
                frame::put_response(&mut out, api, &response, version, correlation)
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut reader, version).expect("Produce");
                let response = self.produce(request);
                frame::put_response(&mut out, api, &response, version, correlation)
            }
            other => unreachable!("{other:?} is not in these programs"),
        }
        .expect("a response can be encoded");
        out
    }

    fn metadata(&self) -> MetadataResponse {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: "broker.example".to_owned(),
                port: 9092,
                ..Default::default()
            }],
            topics: vec![MetadataResponseTopic {
                name: Some("clicks".to_owned()),
                topic_id: TOPIC_ID,
                partitions: (0..self.partitions.cast_signed()).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&mut self, request: ProduceRequest) -> ProduceResponse {
        let mut responses = Vec::new();
        for topic in request.topic_data {
            let each = topic.partition_data.into_iter();
            let written = each.map(|data| self.append(data.index, &data.records.expect("a batch")));
            responses.push(TopicProduceResponse {
                partition_responses: written.collect(),
                name: topic.name,
                topic_id: topic.topic_id,
            });
        }
        ProduceResponse { responses, ..Default::default() }
    }

    fn append(&mut self, index: i32, batch: &[u8]) -> PartitionProduceResponse {
        // The batch's own count, at its place in the header.
        let count = batch[57..61].try_into().map(i32::from_be_bytes).expect("a batch header");
        let next = self.next_offset.entry(index).or_insert(1);
        let base_offset = *next;
        *next += i64::from(count);
        PartitionProduceResponse { index, base_offset, ..Default::default() }
    }
}

fn api_versions() -> ApiVersionsResponse {
    let api = |api: ApiKey, min_version, max_version| ApiVersion {
        api_key: api.code(),
        min_version,
        max_version,
    };
    ApiVersionsResponse {
        api_keys: vec![
            api(ApiKey::Produce, 0, 13),
            api(ApiKey::Metadata, 0, 13),
            api(ApiKey::ApiVersions, 0, 4),
            api(ApiKey::InitProducerId, 0, 5),
        ],
        ..Default::default()
    }
}
