//! A broker by script: one node, one topic of three partitions, and each partition's first batch
//! refused once, as by a leader that has just stepped down and is elected again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use sordini_protocol::messages::init_producer_id::InitProducerIdResponse;
use sordini_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use sordini_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use sordini_protocol::{ApiKey, ErrorCode, Message, Uuid, frame};

const TOPIC_ID: Uuid = Uuid(*b"clicks-topic-id.");
const PARTITIONS: i32 = 3;

#[derive(Default)]
pub(super) struct Broker {
    next_offset: BTreeMap<i32, i64>,
    refused: BTreeSet<i32>,
    leader_epoch: i32,
    pub(super) has_refused: bool,
}

impl Broker {
    /// The whole response frame to a whole request frame.
    pub(super) fn answer(&mut self, request: Vec<u8>) -> Vec<u8> {
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
            other => panic!("{other:?} is not in the script"),
        }
        .expect("a response can be encoded");
        out
    }

    fn metadata(&self) -> MetadataResponse {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: self.leader_epoch,
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
                partitions: (0..PARTITIONS).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn produce(&mut self, request: ProduceRequest) -> ProduceResponse {
        let mut responses = Vec::new();
        for topic in request.topic_data {
            let of_partition = topic
                .partition_data
                .into_iter()
                .map(|data| self.append(data.index, &data.records.expect("a batch")));
            responses.push(TopicProduceResponse {
                partition_responses: of_partition.collect(),
                name: topic.name,
                topic_id: topic.topic_id,
            });
        }
        ProduceResponse { responses, ..Default::default() }
    }

    fn append(&mut self, index: i32, batch: &[u8]) -> PartitionProduceResponse {
        if self.refused.insert(index) {
            self.has_refused = true;
            self.leader_epoch += 1;
            return PartitionProduceResponse {
                index,
                error_code: ErrorCode::NotLeaderOrFollower.code(),
                base_offset: -1,
                ..Default::default()
            };
        }
        // The batch's own count, at its place in the header.
        let count = batch[57..61].try_into().map(i32::from_be_bytes).expect("a batch header");
        let next = self.next_offset.entry(index).or_default();
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
            api(ApiKey::ApiVersions, 0, 5),
            api(ApiKey::InitProducerId, 0, 5),
        ],
        ..Default::default()
    }
}
