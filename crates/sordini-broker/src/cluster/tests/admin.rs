use sordini_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use sordini_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicResult, CreateTopicsRequest,
};
use sordini_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use sordini_protocol::messages::metadata::MetadataRequestTopic;

use super::*;

fn topic(name: &str, partitions: i32, replication: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: replication,
        ..CreatableTopic::default()
    }
}

fn create(world: &mut World, node: i32, topic: CreatableTopic) -> CreatableTopicResult {
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    world.ask(node, &request, 7).topics[0].clone()
}

fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code)
}

#[test]
fn clients_create_grow_and_delete_topics_at_any_node() {
    let mut world = World::new(config(3));
    let created = create(&mut world, 2, topic("t", 2, 3));
    assert_eq!((created.error_code, created.num_partitions, created.replication_factor), (0, 2, 3));
    assert_eq!(Some(created.topic_id), world.cluster.topic_id("t"));
    let again = create(&mut world, 3, topic("t", 2, 3));
    assert_eq!(error(again.error_code), ErrorCode::TopicAlreadyExists);
    create(&mut world, 1, topic("a.b", 1, 1));
    let collides = create(&mut world, 1, topic("a_b", 1, 1));
    assert_eq!(error(collides.error_code), ErrorCode::InvalidTopicException);
    let too_many = create(&mut world, 3, topic("u", 1, 4));
    assert_eq!(error(too_many.error_code), ErrorCode::InvalidReplicationFactor);

    let more = CreatePartitionsTopic { name: "t".to_owned(), count: 5, ..Default::default() };
    let grow = CreatePartitionsRequest { topics: vec![more], ..Default::default() };
    assert_eq!(world.ask(1, &grow, 3).results[0].error_code, 0);
    assert_eq!(world.cluster.partitions("t"), 5);

    let state = DeleteTopicState { name: None, topic_id: created.topic_id };
    let delete = DeleteTopicsRequest { topics: vec![state], ..Default::default() };
    let deleted = world.ask(3, &delete, 6).responses[0].clone();
    assert_eq!((deleted.error_code, deleted.name.as_deref()), (0, Some("t")));
    assert_eq!(world.cluster.topic_id("t"), None);
}

#[test]
fn replicas_are_where_the_client_wants_them() {
    let mut world = World::new(config(3));
    let assign = |partition_index, broker_ids: &[i32]| CreatableReplicaAssignment {
        partition_index,
        broker_ids: broker_ids.to_vec(),
    };
    let assigned = |assignments| CreatableTopic { assignments, ..topic("t", -1, -1) };
    for bad in [vec![assign(0, &[1, 9])], vec![assign(0, &[1, 1])], vec![assign(1, &[1])]] {
        let refused = create(&mut world, 1, assigned(bad));
        assert_eq!(error(refused.error_code), ErrorCode::InvalidReplicaAssignment);
    }
    let created = create(&mut world, 1, assigned(vec![assign(0, &[3, 1]), assign(1, &[2, 3])]));
    assert_eq!((created.error_code, created.replication_factor), (0, 2));
    assert_eq!(world.cluster.replicas("t", 0), [3, 1]);
    assert_eq!(world.cluster.leader("t", 1), Some((2, 0)));
}

#[test]
fn a_topic_that_a_client_looks_for_is_created() {
    let mut world = World::new(config(3));
    let named = MetadataRequestTopic { name: Some("fresh".to_owned()), topic_id: Uuid::ZERO };
    let request = MetadataRequest {
        topics: Some(vec![named]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let first = world.ask(2, &request, 13).topics[0].clone();
    assert_eq!(error(first.error_code), ErrorCode::UnknownTopicOrPartition);
    let second = world.ask(3, &request, 13).topics[0].clone();
    assert_eq!((second.error_code, second.partitions.len()), (0, 3));
    assert!(second.partitions.iter().all(|p| p.replica_nodes.len() == 3));
}

#[test]
fn without_the_controller_a_topic_request_times_out() {
    let mut world = World::new(config(3));
    world.isolate(1, true);
    let answer = create(&mut world, 1, topic("t", 1, 1));
    assert_eq!(error(answer.error_code), ErrorCode::RequestTimedOut);
}

#[test]
fn a_request_that_reaches_the_controller_twice_is_answered_once() {
    let mut world = World::new(config(3));
    let request = CreateTopicsRequest {
        topics: vec![topic("t", 1, 1)],
        timeout_ms: 1000,
        ..Default::default()
    };
    world.cut.insert((Peer::Node(1), Peer::Controller));
    let connection = world.connect(1);
    world.correlation_id += 1;
    let mut frame = Vec::new();
    frame::put_request(&mut frame, &request, 7, world.correlation_id, None).expect("encode");
    let now = world.now;
    world.cluster.handle_frame(now, 1, connection, Bytes::from(frame).slice(4..));
    world.collect();
    let (from, to, message) = world.wire.pop_front().expect("passed on");
    for copy in [message.clone(), message] {
        world.cluster.handle_peer(now, from, to, copy);
    }
    world.pump();
    let answer = world.answer::<CreateTopicsRequest>(connection, 7).expect("an answer");
    assert_eq!(answer.topics[0].error_code, 0);
    assert!(world.answer::<CreateTopicsRequest>(connection, 7).is_none());
}
