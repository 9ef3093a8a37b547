use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use sordini_protocol::messages::fetch::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData,
};
use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use sordini_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use sordini_protocol::messages::{AnyRequest, fetch::FetchRequest};
use sordini_protocol::{ApiKey, ErrorCode, Message, Uuid, frame};

use super::{Spec, log};
use crate::fetch::batches::decode;
use crate::fetch::error::FetchError;
use crate::fetch::link::LinkId;
use crate::fetch::machine::{Input, Machine, Millis, Notice, Output, Plan, Start};
use crate::fetch::settings::{Address, Isolation, Settings};

const TOPIC: &str = "clicks";
const ID: Uuid = Uuid([7; 16]);

/// One partition as the played cluster has it.
struct Log {
    leader: i32,
    start: i64,
    end: i64,
    records: Bytes,
    aborted: Vec<AbortedTransaction>,
}

impl Log {
    fn new(leader: i32, start: i64, end: i64, specs: &[Spec<'_>]) -> Self {
        Self { leader, start, end, records: log(specs), aborted: Vec::new() }
    }
}

/// A cluster of nodes 1 and 2 that answers at once, and what the machine asked of it.
struct World {
    now: Millis,
    machine: Machine,
    links: BTreeMap<LinkId, i32>,
    logs: BTreeMap<i32, Log>,
    topic_exists: bool,
    topic_id: Uuid,
    /// The node in the metadata, where it lags behind `Log::leader`.
    stale_leader: Option<i32>,
    fetch_max_version: i16,
    down: Vec<i32>,
    connects: Vec<(Millis, u16)>,
    fetches: Vec<(i32, FetchRequest)>,
    seen: Vec<(i32, String)>,
    notices: Vec<Notice>,
}

impl World {
    fn new(plan: Plan, isolation: Isolation, logs: Vec<Log>) -> Self {
        let settings = Settings {
            bootstrap: vec![Address::new("node", 1)],
            isolation,
            api_timeout: Duration::from_secs(10),
            ..Settings::default()
        };
        Self {
            now: 0,
            machine: Machine::new(plan, settings),
            links: BTreeMap::new(),
            logs: (0..).zip(logs).collect(),
            topic_exists: true,
            topic_id: ID,
            stale_leader: None,
            fetch_max_version: 18,
            down: Vec::new(),
            connects: Vec::new(),
            fetches: Vec::new(),
            seen: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Runs until reading ends or `until` has come.
    fn run(&mut self, until: Millis) -> Option<Result<(), FetchError>> {
        loop {
            self.machine.tick(self.now);
            while let Some(output) = self.machine.poll_output() {
                self.obey(output);
            }
            if let Some(result) = self.machine.result() {
                return Some(result.clone());
            }
            match self.machine.poll_timeout(self.now) {
                Some(at) if at <= until => self.now = at,
                _ => return None,
            }
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Connect { link, address } => {
                self.connects.push((self.now, address.port));
                let node = i32::from(address.port);
                let input = if self.down.contains(&node) {
                    Input::Closed { link, cause: "connection refused".into() }
                } else {
                    self.links.insert(link, node);
                    Input::Connected { link }
                };
                self.machine.handle(self.now, input);
            }
            Output::Send { link, frame } => {
                let node = self.links[&link];
                let answer = self.answer(node, &frame);
                self.machine.handle(self.now, Input::Received { link, frame: answer });
            }
            Output::Close { link } => drop(self.links.remove(&link)),
            Output::Notice(notice) => self.notices.push(notice),
            Output::Batch(batch) => {
                for record in decode(&batch).expect("sound batches") {
                    let value = record.value.expect("a value").to_vec();
                    let value = String::from_utf8(value).expect("UTF-8");
                    self.seen.push((batch.partition, value));
                }
            }
        }
    }

    fn answer(&mut self, node: i32, request: &[u8]) -> Bytes {
        let request = Bytes::copy_from_slice(&request[4..]);
        let (api, header, mut r) = frame::request_header(request).expect("a header");
        let version = header.request_api_version;
        let body = AnyRequest::decode(api, &mut r, version).expect("a request");
        let correlation = header.correlation_id;
        match body {
            AnyRequest::ApiVersions(_) => respond(api, &self.versions(), version, correlation),
            AnyRequest::Metadata(_) => respond(api, &self.metadata(), version, correlation),
            AnyRequest::ListOffsets(asked) => {
                let topics = asked.topics.iter().map(|topic| ListOffsetsTopicResponse {
                    name: topic.name.clone(),
                    partitions: topic
                        .partitions
                        .iter()
                        .map(|one| {
                            let log = &self.logs[&one.partition_index];
                            ListOffsetsPartitionResponse {
                                partition_index: one.partition_index,
                                error_code: not_leader(log.leader != node),
                                offset: if one.timestamp == -2 { log.start } else { log.end },
                                ..ListOffsetsPartitionResponse::default()
                            }
                        })
                        .collect(),
                });
                let topics = topics.collect();
                let answer = ListOffsetsResponse { throttle_time_ms: 0, topics };
                respond(api, &answer, version, correlation)
            }
            AnyRequest::Fetch(asked) => {
                let answer = self.records(node, &asked);
                self.fetches.push((node, asked));
                respond(api, &answer, version, correlation)
            }
            other => panic!("nobody should ask {other:?}"),
        }
    }

    fn versions(&self) -> ApiVersionsResponse {
        let key = |key: ApiKey, max_version| ApiVersion {
            api_key: key.code(),
            min_version: 0,
            max_version,
        };
        let api_keys = vec![
            key(ApiKey::Fetch, self.fetch_max_version),
            key(ApiKey::ListOffsets, 11),
            key(ApiKey::Metadata, 13),
        ];
        ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }
    }

    fn metadata(&self) -> MetadataResponse {
        let broker = |node: i32| MetadataResponseBroker {
            node_id: node,
            host: "node".into(),
            port: node,
            rack: None,
        };
        let partition = |(index, log): (&i32, &Log)| MetadataResponsePartition {
            partition_index: *index,
            leader_id: self.stale_leader.unwrap_or(log.leader),
            ..MetadataResponsePartition::default()
        };
        let (error_code, partitions) = match self.topic_exists {
            true => (0, self.logs.iter().map(partition).collect()),
            false => (ErrorCode::UnknownTopicOrPartition.code(), Vec::new()),
        };
        let topic = MetadataResponseTopic {
            error_code,
            name: Some(TOPIC.into()),
            topic_id: self.topic_id,
            partitions,
            ..MetadataResponseTopic::default()
        };
        let brokers = vec![broker(1), broker(2)];
        MetadataResponse { brokers, topics: vec![topic], ..MetadataResponse::default() }
    }

    fn records(&self, node: i32, asked: &FetchRequest) -> FetchResponse {
        let data = |index: i32, offset: i64| {
            let log = &self.logs[&index];
            let outside = offset < log.start || offset > log.end;
            let error_code = match (log.leader != node, outside) {
                (false, true) => ErrorCode::OffsetOutOfRange.code(),
                (elsewhere, _) => not_leader(elsewhere),
            };
            let records = (error_code == 0 && offset < log.end).then(|| log.records.clone());
            let aborted_transactions = Some(log.aborted.clone());
            let partition_index = index;
            PartitionData {
                partition_index,
                error_code,
                records,
                aborted_transactions,
                ..PartitionData::default()
            }
        };
        let responses = asked.topics.iter().map(|topic| FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|one| data(one.partition, one.fetch_offset))
                .collect(),
        });
        FetchResponse { responses: responses.collect(), ..FetchResponse::default() }
    }
}

fn not_leader(elsewhere: bool) -> i16 {
    if elsewhere { ErrorCode::NotLeaderOrFollower.code() } else { 0 }
}

fn respond<M: Message>(api: ApiKey, answer: &M, version: i16, correlation: i32) -> Bytes {
    let mut out = Vec::new();
    frame::put_response(&mut out, api, answer, version, correlation).expect("an answer");
    Bytes::from(out).slice(4..)
}

fn to_the_end() -> Plan {
    let mut plan = Plan::new(TOPIC);
    plan.stop_at_end = true;
    plan
}

fn values(world: &World, partition: i32) -> Vec<&str> {
    let of = world.seen.iter().filter(|(from, _)| *from == partition);
    of.map(|(_, value)| value.as_str()).collect()
}

fn two_logs() -> Vec<Log> {
    vec![
        Log::new(1, 0, 2, &[Spec::plain(0, &["a", "b"])]),
        Log::new(2, 0, 3, &[Spec::plain(0, &["c", "d", "e"])]),
    ]
}

#[test]
fn all_partitions_are_read_to_the_ends_as_they_were() {
    let mut logs = two_logs();
    // Another record came after the end was asked for.
    logs[0].records = log(&[Spec::plain(0, &["a", "b", "later"])]);
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, logs);
    assert_eq!(world.run(5_000), Some(Ok(())));
    assert_eq!(values(&world, 0), ["a", "b"]);
    assert_eq!(values(&world, 1), ["c", "d", "e"]);
    assert_eq!(world.notices, []);
}

#[test]
fn an_empty_topic_ends_at_once() {
    let logs = vec![Log::new(1, 5, 5, &[])];
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, logs);
    assert_eq!(world.run(0), Some(Ok(())));
    assert_eq!(world.fetches, []);
}

#[test]
fn one_partition_alone_can_be_read_and_one_that_is_not_there_is_named() {
    let mut plan = to_the_end();
    plan.partition = Some(1);
    let mut world = World::new(plan.clone(), Isolation::ReadCommitted, two_logs());
    assert_eq!(world.run(5_000), Some(Ok(())));
    assert_eq!((values(&world, 0).len(), values(&world, 1).len()), (0, 3));
    plan.partition = Some(2);
    let mut world = World::new(plan, Isolation::ReadCommitted, two_logs());
    let error = FetchError::UnknownPartition { topic: TOPIC.into(), partition: 2, count: 2 };
    assert_eq!(world.run(5_000), Some(Err(error)));
}

#[test]
fn a_topic_is_named_by_its_id_where_the_broker_can() {
    for (offered, version_has_id) in [(18, true), (13, true), (12, false), (4, false)] {
        let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
        world.fetch_max_version = offered;
        assert_eq!(world.run(5_000), Some(Ok(())), "Fetch {offered}");
        let topic = &world.fetches[0].1.topics[0];
        assert_eq!(topic.topic_id == ID, version_has_id, "Fetch {offered}");
        assert_eq!(topic.topic == TOPIC, !version_has_id, "Fetch {offered}");
    }
}

#[test]
fn a_broker_that_is_too_old_is_named() {
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
    world.fetch_max_version = 3;
    let Some(Err(FetchError::TooOld { address, api })) = world.run(5_000) else {
        panic!("Fetch 3 is not spoken")
    };
    assert_eq!((address.as_str(), api.as_str()), ("node:1", "Fetch"));
}

#[test]
fn a_leader_that_moved_is_found_and_nothing_is_read_twice() {
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
    // Metadata still names node 1 for both; then it learns of node 2.
    world.stale_leader = Some(1);
    assert_eq!(world.run(50), None);
    assert_eq!(values(&world, 0), ["a", "b"]);
    assert_eq!(values(&world, 1), Vec::<&str>::new());
    world.stale_leader = None;
    assert_eq!(world.run(5_000), Some(Ok(())));
    assert_eq!(values(&world, 0), ["a", "b"]);
    assert_eq!(values(&world, 1), ["c", "d", "e"]);
}

#[test]
fn an_offset_that_is_gone_becomes_the_nearest_one_with_a_notice() {
    for (asked, moved) in [(1, Some(4)), (4, None), (6, None), (9, Some(6))] {
        let logs = || vec![Log::new(1, 4, 6, &[Spec::plain(4, &["e", "f"])])];
        let mut plan = Plan::new(TOPIC);
        plan.start = Start::Offset(asked);
        let mut world = World::new(plan.clone(), Isolation::ReadCommitted, logs());
        // The played broker does not wait: one read at the end is enough to see.
        for _ in 0..40 {
            world.machine.tick(world.now);
            if let Some(output) = world.machine.poll_output() {
                world.obey(output);
            }
        }
        let notices: Vec<_> =
            moved.map(|to| Notice::Moved { partition: 0, from: asked, to }).into_iter().collect();
        assert_eq!(world.notices, notices, "from {asked}");
        let expected: &[&str] = if asked <= 4 { &["e", "f"] } else { &[] };
        assert_eq!(values(&world, 0), expected, "from {asked}");
        // So it is where reading stops at the end.
        plan.stop_at_end = true;
        let mut world = World::new(plan, Isolation::ReadCommitted, logs());
        assert_eq!(world.run(5_000), Some(Ok(())));
        assert_eq!((&world.notices, values(&world, 0).as_slice()), (&notices, expected));
    }
}

#[test]
fn aborted_records_are_seen_only_by_who_asks_for_uncommitted_ones() {
    let specs = [Spec::of(9, 0, &["aborted"]), Spec::marker(9, 1, true), Spec::plain(2, &["b"])];
    for (isolation, level, expected) in [
        (Isolation::ReadCommitted, 1, vec!["b"]),
        (Isolation::ReadUncommitted, 0, vec!["aborted", "b"]),
    ] {
        let mut one = Log::new(1, 0, 3, &specs);
        one.aborted = vec![AbortedTransaction { producer_id: 9, first_offset: 0 }];
        let mut world = World::new(to_the_end(), isolation, vec![one]);
        assert_eq!(world.run(5_000), Some(Ok(())));
        assert_eq!(values(&world, 0), expected);
        assert!(world.fetches.iter().all(|(_, asked)| asked.isolation_level == level));
    }
}

#[test]
fn a_topic_that_does_not_exist_is_an_error_within_seconds() {
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
    world.topic_exists = false;
    let error = FetchError::UnknownTopic { topic: TOPIC.into() };
    assert_eq!(world.run(3_000), Some(Err(error)));
    assert!(world.now >= 2_000, "a topic that was just created must have time to appear");
}

#[test]
fn when_nobody_answers_the_error_comes_in_time_and_names_the_cause() {
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
    world.down = vec![1, 2];
    let result = world.run(60_000);
    let Some(Err(FetchError::NoAnswer { last, .. })) = result else { panic!("{result:?}") };
    assert_eq!(world.now, 10_000, "default.api.timeout.ms");
    assert!(last.contains("node:1") && last.contains("connection refused"), "{last}");
    let pauses: Vec<_> = world.connects.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert_eq!(pauses[..4], [100, 200, 400, 800], "the pause doubles");
    assert!(pauses[4..].iter().all(|pause| *pause == 1000), "up to its maximum: {pauses:?}");
    let told = |notice: &Notice| matches!(notice, Notice::Trouble(cause) if *cause == last);
    assert_eq!(world.notices.iter().filter(|notice| told(notice)).count(), 1, "told once");
}

#[test]
fn an_advertised_address_that_can_not_be_reached_is_named_with_who_told_of_it() {
    let mut logs = two_logs();
    logs[1].leader = 2;
    let mut world = World::new(to_the_end(), Isolation::ReadUncommitted, logs);
    world.down = vec![2];
    let error = world.run(30_000).expect("an end").expect_err("nobody is at node 2");
    let told = "the connection to node:2 failed: connection refused; the broker at node:1 \
                advertises this address";
    assert!(error.to_string().contains(told), "{error}");
}

#[test]
fn a_leader_that_is_down_for_a_while_is_waited_for() {
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
    world.down = vec![2];
    assert_eq!(world.run(3_000), None);
    assert_eq!(values(&world, 0), ["a", "b"], "the other partition is read meanwhile");
    world.down.clear();
    assert_eq!(world.run(9_000), Some(Ok(())));
    assert_eq!(values(&world, 1), ["c", "d", "e"]);
}

#[test]
fn an_answer_to_another_request_ends_the_connection() {
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
    world.machine.tick(0);
    let Some(Output::Connect { link, .. }) = world.machine.poll_output() else { panic!() };
    world.machine.handle(0, Input::Connected { link });
    let Some(Output::Send { .. }) = world.machine.poll_output() else { panic!() };
    let answer = respond(ApiKey::ApiVersions, &world.versions(), 0, 99);
    world.machine.handle(0, Input::Received { link, frame: answer });
    let closed = std::iter::from_fn(|| world.machine.poll_output())
        .any(|output| matches!(output, Output::Close { link: closed } if closed == link));
    assert!(closed);
}

#[test]
fn a_frame_that_can_not_be_decoded_ends_the_connection_and_reading_goes_on() {
    let mut world = World::new(to_the_end(), Isolation::ReadCommitted, two_logs());
    world.machine.tick(0);
    let Some(Output::Connect { link, .. }) = world.machine.poll_output() else { panic!() };
    world.machine.handle(0, Input::Connected { link });
    world.machine.handle(0, Input::Received { link, frame: Bytes::from_static(&[0xff; 9]) });
    while let Some(output) = world.machine.poll_output() {
        match output {
            Output::Send { .. } | Output::Close { .. } => {}
            other => world.obey(other),
        }
    }
    assert_eq!(world.run(5_000), Some(Ok(())));
    assert_eq!(world.seen.len(), 5);
}

#[test]
fn a_topic_that_was_made_anew_is_not_mistaken_for_the_old_one() {
    let mut plan = Plan::new(TOPIC);
    plan.start = Start::Latest;
    let mut world = World::new(plan, Isolation::ReadCommitted, two_logs());
    // Metadata is asked for again after five minutes; the played broker never lets a Fetch wait.
    for _ in 0..1_000 {
        world.now += 500;
        world.machine.tick(world.now);
        for _ in 0..10 {
            if let Some(output) = world.machine.poll_output() {
                world.obey(output);
            }
        }
        if world.now == 100_000 {
            assert_eq!(world.machine.result(), None);
            world.topic_id = Uuid([8; 16]);
        }
    }
    let error = FetchError::TopicRemade { topic: TOPIC.into() };
    assert_eq!(world.machine.result(), Some(&Err(error)));
}
