use std::io;
use std::time::Duration;

use sordini_protocol::messages::api_versions::*;
use sordini_protocol::messages::create_partitions::*;
use sordini_protocol::messages::create_topics::*;
use sordini_protocol::messages::delete_topics::*;
use sordini_protocol::messages::describe_cluster::*;
use sordini_protocol::messages::describe_configs::*;
use sordini_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use sordini_protocol::messages::find_coordinator::*;
use sordini_protocol::messages::init_producer_id::*;
use sordini_protocol::messages::list_offsets::*;
use sordini_protocol::messages::metadata::*;
use sordini_protocol::messages::offset_for_leader_epoch::*;
use sordini_protocol::messages::produce::{PartitionProduceResponse, ProduceRequest};
use sordini_protocol::{ApiKey, ErrorCode, Request, frame};

use super::*;
use crate::storage::{FaultyStorage, MemoryStorage, StorageFaults, StorageOp};
use crate::test_batch::{TestBatch, answer, batch, code, produce_to};

const CONN: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

struct Rig {
    broker: Broker,
    now: Now,
    correlation_id: i32,
}

impl Rig {
    fn new() -> Self {
        Self::on(MemoryStorage::new(), |_| {})
    }

    fn on(storage: impl Storage + 'static, change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let mut config = BrokerConfig { id_seed: 42, ..BrokerConfig::default() };
        change(&mut config);
        let now = Now { mono: Instant(1_000_000_000), wall_ms: 1_700_000_000_000 };
        let mut broker = Broker::open(config, Box::new(storage), now).expect("open");
        broker.connected(CONN);
        broker.connected(OTHER);
        Self { broker, now, correlation_id: 0 }
    }

    fn with_topic(mut self, partitions: i32) -> Self {
        self.broker.make_topic(self.now, "t", partitions, &[]).expect("topic");
        self
    }

    fn send<R: Request>(&mut self, conn: ConnectionId, request: &R, version: i16) {
        self.correlation_id += 1;
        let mut frame = Vec::new();
        let id = Some("test");
        frame::put_request(&mut frame, request, version, self.correlation_id, id).expect("encode");
        self.broker.handle_frame(self.now, conn, Bytes::from(frame).slice(4..));
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.broker.poll_output()).collect()
    }

    fn advance(&mut self, millis: u64) {
        self.now.mono = self.now.mono.after(Duration::from_millis(millis));
        self.now.wall_ms += millis as i64;
        self.due();
    }

    /// Does what is due now.
    fn due(&mut self) {
        while self.broker.poll_timeout().is_some_and(|at| at <= self.now.mono) {
            self.broker.handle_timeout(self.now);
        }
    }

    fn response<R: Request>(&mut self, version: i16) -> R::Response {
        let outputs = self.outputs();
        let [Output::Send { frame, .. }] = outputs.as_slice() else {
            panic!("one answer, not {outputs:?}");
        };
        decode::<R>(frame, version)
    }

    fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(CONN, request, version);
        self.due();
        self.response::<R>(version)
    }

    fn close_reason(&mut self) -> String {
        let outputs = self.outputs();
        let [Output::Close { reason, .. }] = outputs.as_slice() else {
            panic!("a close, not {outputs:?}");
        };
        reason.clone()
    }

    fn topic_id(&self) -> Uuid {
        self.broker.topics["t"].id
    }

    fn produce(&mut self, batch: &TestBatch) -> PartitionProduceResponse {
        let request = self.produce_request(batch, -1);
        answer(&self.ask(&request, 13))
    }

    fn produce_request(&self, batch: &TestBatch, acks: i16) -> ProduceRequest {
        produce_to(self.topic_id(), 0, batch, acks)
    }

    fn fetch_request(&self, offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
        FetchRequest {
            max_wait_ms,
            min_bytes,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic_id: self.topic_id(),
                partitions: vec![FetchPartition {
                    fetch_offset: offset,
                    partition_max_bytes: 1 << 20,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        }
    }

    fn new_producer(&mut self) -> i64 {
        let request =
            InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() };
        let response = self.ask(&request, 5);
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        response.producer_id
    }
}

fn decode<R: Request>(frame: &Bytes, version: i16) -> R::Response {
    let (_, mut reader) = frame::response_header::<R>(frame.slice(4..), version).expect("header");
    let response = sordini_protocol::Message::decode(&mut reader, version).expect("decode");
    reader.finish().expect("nothing behind it");
    response
}

fn fetched(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

mod apis;
mod coordinators;
mod faults;
mod lost;
mod quota;
mod restarts;
mod sequences;
mod transactions;
mod waiting;
