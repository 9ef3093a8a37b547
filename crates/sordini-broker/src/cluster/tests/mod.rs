use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use sordini_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use sordini_protocol::messages::find_coordinator::FindCoordinatorRequest;
use sordini_protocol::messages::init_producer_id::InitProducerIdRequest;
use sordini_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use sordini_protocol::messages::produce::{PartitionProduceResponse, ProduceRequest};
use sordini_protocol::{ErrorCode, Request, Uuid, frame};

use super::*;
use crate::broker::ConnectionId;
use crate::storage::MemoryStorage;
use crate::test_batch::{TestBatch, answer as first, batch, code, produce_to};
use crate::time::{Instant, Now};
use crate::topic_config::TopicConfig;

mod admin;
mod coordinators;
mod elections;
mod metadata;
mod random;
mod replication;
mod transactions;

/// A cluster whose peers' messages are delivered at once and in order, unless a link is cut.
struct World {
    cluster: Cluster,
    now: Now,
    disks: BTreeMap<i32, MemoryStorage>,
    wire: VecDeque<(Peer, Peer, PeerMessage)>,
    /// Directions in which nothing arrives.
    cut: BTreeSet<(Peer, Peer)>,
    /// Kinds of messages that are lost, and kinds that arrive twice.
    lost: BTreeSet<&'static str>,
    doubled: BTreeSet<&'static str>,
    /// Copies of the orders to write markers that were delivered.
    orders: Vec<(Peer, Peer, PeerMessage)>,
    /// Copies of the fetches that were delivered.
    fetches: Vec<(Peer, Peer, PeerMessage)>,
    answers: BTreeMap<ConnectionId, VecDeque<Bytes>>,
    traces: Vec<ClusterTrace>,
    correlation_id: i32,
    next_connection: u64,
}

fn config(nodes: i32) -> ClusterConfig {
    ClusterConfig {
        nodes,
        session_timeout: Duration::from_millis(3000),
        heartbeat: Duration::from_millis(500),
        replica_lag_time_max: Duration::from_millis(2000),
        replica_fetch_wait: Duration::from_millis(200),
        default_replication: 3.min(nodes as i16),
        seed: 7,
        traced: true,
        ..ClusterConfig::default()
    }
}

impl World {
    /// Nodes that have registered.
    fn new(config: ClusterConfig) -> Self {
        let now = Now { mono: Instant(1_000_000_000), wall_ms: 1_700_000_000_000 };
        let nodes = config.nodes;
        let mut world = Self {
            cluster: Cluster::new(config),
            now,
            disks: (1..=nodes).map(|node| (node, MemoryStorage::new())).collect(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            lost: BTreeSet::new(),
            doubled: BTreeSet::new(),
            orders: Vec::new(),
            fetches: Vec::new(),
            answers: BTreeMap::new(),
            traces: Vec::new(),
            correlation_id: 0,
            next_connection: 0,
        };
        for node in 1..=nodes {
            world.start(node);
        }
        world
    }

    /// Three nodes, a topic "t" of one partition and three replicas; the leader is node 1.
    fn replicated() -> Self {
        Self::with_topic(config(3), &[])
    }

    fn with_topic(config: ClusterConfig, settings: &[(&str, &str)]) -> Self {
        let mut world = Self::new(config);
        world.create("t", 1, settings);
        assert_eq!(world.cluster.leader("t", 0), Some((1, 0)));
        world
    }

    fn create(&mut self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Uuid {
        let mut config = TopicConfig::default();
        settings.iter().for_each(|(name, value)| config.set(name, value).expect("setting"));
        let id = self.cluster.create_topic(topic, partitions, -1, config).expect("topic");
        self.pump();
        id
    }

    fn start(&mut self, node: i32) {
        let disk = Box::new(self.disks[&node].clone());
        self.cluster.start(self.now, node, disk).expect("start");
        self.pump();
    }

    fn kill(&mut self, node: i32) {
        self.cluster.kill(node);
        self.pump();
    }

    /// Delivers all there is to deliver at this moment.
    fn pump(&mut self) {
        for _ in 0..100_000 {
            self.collect();
            let Some((from, to, message)) = self.wire.pop_front() else { return };
            if !self.cut.contains(&(from, to)) && !self.lost.contains(message.kind()) {
                if message.kind() == "markers" {
                    self.orders.push((from, to, message.clone()));
                }
                if self.doubled.contains(message.kind()) {
                    self.cluster.handle_peer(self.now, from, to, message.clone());
                }
                if message.kind() == "fetch" {
                    self.fetches.push((from, to, message.clone()));
                }
                self.cluster.handle_peer(self.now, from, to, message);
            }
        }
        panic!("the peers never fall silent");
    }

    fn collect(&mut self) {
        while let Some(output) = self.cluster.poll_output() {
            match output {
                ClusterOutput::Peer { from, to, message } => {
                    self.wire.push_back((from, to, message));
                }
                ClusterOutput::Broker { output: Output::Send { connection, frame }, .. } => {
                    self.answers.entry(connection).or_default().push_back(frame);
                }
                ClusterOutput::Broker { .. } => {}
                ClusterOutput::Trace(event) => self.traces.push(event),
            }
        }
    }

    fn advance(&mut self, millis: u64) {
        let end = self.now.mono.after(Duration::from_millis(millis));
        for _ in 0..1_000_000 {
            self.pump();
            let due = self.cluster.poll_timeout().filter(|at| *at <= end);
            let at = due.unwrap_or(end).max(self.now.mono);
            self.now.wall_ms += at.since(self.now.mono).as_millis() as i64;
            self.now.mono = at;
            if due.is_none() {
                return;
            }
            self.cluster.handle_timeout(self.now);
        }
        panic!("timers fire without end");
    }

    /// Cuts, or mends, both directions between a node and all others, the controller included.
    fn isolate(&mut self, node: i32, cut: bool) {
        let others = self.disks.keys().filter(|id| **id != node).map(|id| Peer::Node(*id));
        for other in others.chain([Peer::Controller]) {
            for link in [(Peer::Node(node), other), (other, Peer::Node(node))] {
                if cut {
                    self.cut.insert(link)
                } else {
                    self.cut.remove(&link)
                };
            }
        }
    }

    fn connect(&mut self, node: i32) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        self.cluster.connected(node, connection);
        connection
    }

    fn send<R: Request>(&mut self, node: i32, connection: ConnectionId, request: &R, version: i16) {
        self.correlation_id += 1;
        let mut frame = Vec::new();
        let id = Some("test");
        frame::put_request(&mut frame, request, version, self.correlation_id, id).expect("encode");
        let frame = Bytes::from(frame).slice(4..);
        self.cluster.handle_frame(self.now, node, connection, frame);
        self.pump();
    }

    fn answer<R: Request>(
        &mut self,
        connection: ConnectionId,
        version: i16,
    ) -> Option<R::Response> {
        let frame = self.answers.get_mut(&connection)?.pop_front()?;
        let (_, mut reader) =
            frame::response_header::<R>(frame.slice(4..), version).expect("header");
        let response = sordini_protocol::Message::decode(&mut reader, version).expect("decode");
        reader.finish().expect("nothing behind it");
        Some(response)
    }

    /// Asks on a connection of its own, and waits as long as it takes, up to ten seconds.
    fn ask<R: Request>(&mut self, node: i32, request: &R, version: i16) -> R::Response {
        let connection = self.connect(node);
        self.send(node, connection, request, version);
        for _ in 0..100 {
            if let Some(answer) = self.answer::<R>(connection, version) {
                return answer;
            }
            self.advance(100);
        }
        panic!("no answer");
    }

    fn produce_request(&self, topic: &str, batch: &TestBatch, acks: i16) -> ProduceRequest {
        let topic_id = self.cluster.topic_id(topic).unwrap_or_default();
        produce_to(topic_id, 0, batch, acks)
    }

    fn produce(&mut self, node: i32, batch: &TestBatch, acks: i16) -> PartitionProduceResponse {
        let request = self.produce_request("t", batch, acks);
        first(&self.ask(node, &request, 13))
    }

    fn fetch(&mut self, node: i32, offset: i64) -> PartitionData {
        let request = FetchRequest {
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                topic_id: self.cluster.topic_id("t").expect("topic"),
                partitions: vec![FetchPartition {
                    fetch_offset: offset,
                    partition_max_bytes: 1 << 20,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        self.ask(node, &request, 18).responses[0].partitions[0].clone()
    }

    fn metadata(&mut self, node: i32) -> MetadataResponse {
        self.ask(node, &MetadataRequest { topics: None, ..Default::default() }, 13)
    }

    fn values(&mut self, node: i32) -> Vec<String> {
        let records = self.cluster.records(node, "t", 0).expect("records");
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.expect("value")).expect("text");
        records.into_iter().map(|record| text(record.value)).collect()
    }

    fn leader(&self) -> i32 {
        self.cluster.leader("t", 0).expect("a leader").0
    }
}
