use super::*;
use crate::storage::{FaultyStorage, StorageFaults, StorageOp};

#[test]
fn a_leader_moves_to_a_member_of_the_isr_only() {
    let mut world = World::replicated();
    assert!(world.cluster.move_leader("t", 0, 3));
    world.pump();
    assert_eq!(world.cluster.leader("t", 0), Some((3, 1)));
    assert!(!world.cluster.move_leader("t", 0, 9));
    assert_eq!(code(&world.produce(3, &batch(&["a"]), -1)), ErrorCode::None);
}

/// A topic whose leader alone has a batch that was acknowledged by all that were in sync, and is
/// dead; both others are alive.
fn only_copy_is_dead(settings: &[(&str, &str)]) -> World {
    let mut world = World::with_topic(config(3), settings);
    world.kill(2);
    world.kill(3);
    world.advance(5000);
    assert_eq!(world.cluster.isr("t", 0), [1]);
    let answer = world.produce(1, &batch(&["only copy"]), -1);
    assert_eq!(code(&answer), ErrorCode::None);
    world.kill(1);
    world.advance(5000);
    world.start(2);
    world.start(3);
    world.advance(2000);
    world
}

#[test]
fn without_a_member_of_the_isr_there_is_no_leader() {
    let mut world = only_copy_is_dead(&[]);
    assert_eq!(world.cluster.leader("t", 0), None);
    assert_eq!(world.cluster.isr("t", 0), [1], "the last member stays");
    let partition = world.metadata(2).topics[0].partitions[0].clone();
    assert_eq!(partition.leader_id, -1);
    assert_eq!(partition.error_code, ErrorCode::LeaderNotAvailable.code());
    world.start(1);
    world.advance(3000);
    assert_eq!(world.leader(), 1);
    assert_eq!(world.values(3), ["only copy"]);
}

#[test]
fn an_unclean_election_loses_what_was_acknowledged_and_says_so() {
    let mut world = only_copy_is_dead(&[("unclean.leader.election.enable", "true")]);
    let leader = world.leader();
    assert_ne!(leader, 1);
    assert!(world.values(leader).is_empty());
    let unclean =
        |event: &ClusterTrace| matches!(event, ClusterTrace::Elected { clean: false, .. });
    assert_eq!(world.traces.iter().filter(|event| unclean(event)).count(), 1);
    assert_eq!(code(&world.produce(leader, &batch(&["other"]), -1)), ErrorCode::None);
    world.start(1);
    world.advance(3000);
    assert_eq!(world.values(1), ["other"], "the one that had it gives it up");
}

#[test]
fn an_operator_may_elect_who_is_not_in_sync() {
    let mut world = only_copy_is_dead(&[]);
    assert!(!world.cluster.elect_unclean("t", 0, 1), "it is dead");
    assert!(world.cluster.elect_unclean("t", 0, 3));
    world.pump();
    assert_eq!(world.leader(), 3);
    assert!(!world.cluster.isr("t", 0).contains(&1), "who was in sync is so no more");
}

#[test]
fn a_controlled_shutdown_moves_leaders_first_and_needs_no_recovery() {
    let mut world = World::replicated();
    assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), ErrorCode::None);
    let now = world.now;
    world.cluster.shut_down(now, 1);
    world.advance(2000);
    assert!(!world.cluster.is_running(1));
    let moved =
        world.traces.iter().position(|e| matches!(e, ClusterTrace::Elected { leader: 2, .. }));
    let stopped = world.traces.iter().position(|e| *e == ClusterTrace::Stopped { node: 1 });
    assert!(moved.is_some() && moved < stopped);
    world.start(1);
    assert!(world.cluster.broker(1).expect("node").recovered().is_empty(), "nothing was scanned");
    world.advance(1000);
    assert_eq!(world.cluster.isr("t", 0).len(), 3);
    assert_eq!(world.cluster.state(1, "t", 0).map(|state| state.log_end), Some(1));
}

#[test]
fn a_restart_within_the_session_costs_the_node_its_place_in_the_isr() {
    let mut world = World::replicated();
    world.kill(1);
    world.advance(100);
    assert_eq!(world.cluster.leader("t", 0), Some((1, 0)), "nobody noticed");
    world.start(1);
    assert_eq!(world.cluster.leader("t", 0).map(|leader| leader.1), Some(1));
    assert_ne!(world.leader(), 1, "its memory is gone, so it can't lead on");
    world.advance(1000);
    assert_eq!(world.cluster.isr("t", 0).len(), 3);
}

#[test]
fn a_topic_that_is_created_again_has_another_id() {
    let mut world = World::replicated();
    let old = world.cluster.topic_id("t").expect("topic");
    assert_eq!(code(&world.produce(1, &batch(&["old"]), -1)), ErrorCode::None);
    world.cluster.delete_topic("t").expect("delete");
    world.pump();
    let stale = produce_to(old, 0, &batch(&["stale"]), -1);
    assert_eq!(code(&first(&world.ask(1, &stale, 13))), ErrorCode::UnknownTopicId);
    let new = world.create("t", 1, &[]);
    assert_ne!(old, new);
    let leader = world.leader();
    assert_eq!(code(&first(&world.ask(leader, &stale, 13))), ErrorCode::UnknownTopicId);
    let answer = world.produce(leader, &batch(&["new"]), -1);
    assert_eq!((code(&answer), answer.base_offset), (ErrorCode::None, 0));
    (1..=3).for_each(|node| assert_eq!(world.values(node), ["new"]));
}

#[test]
fn a_node_that_was_away_drops_the_log_of_the_topic_before() {
    let mut world = World::replicated();
    assert_eq!(code(&world.produce(1, &batch(&["old"]), -1)), ErrorCode::None);
    world.kill(3);
    world.advance(4000);
    world.cluster.delete_topic("t").expect("delete");
    world.create("t", 1, &[]);
    world.cluster.create_topic("u", 1, 3, TopicConfig::default()).expect("three replicas");
    let leader = world.leader();
    assert_eq!(code(&world.produce(leader, &batch(&["new"]), -1)), ErrorCode::None);
    world.start(3);
    world.advance(2000);
    let records = world.cluster.records(3, "t", 0).expect("a replica");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value.as_deref(), Some(b"new".as_slice()));
}

#[test]
fn added_partitions_are_led_and_replicated() {
    let mut world = World::replicated();
    world.cluster.add_partitions("t", 3).expect("grow");
    world.cluster.add_partitions("t", 3).expect_err("not more");
    world.pump();
    let leaders: Vec<_> = (0..3).map(|p| world.cluster.leader("t", p).expect("leader").0).collect();
    assert_eq!(leaders, [1, 2, 3]);
    assert_eq!(world.metadata(1).topics[0].partitions.len(), 3);
    assert!((0..3).all(|p| world.cluster.isr("t", p).len() == 3));
}

#[test]
fn a_node_whose_storage_fails_halts_and_another_leads() {
    let mut world = World::replicated();
    let faults = StorageFaults::new();
    world.cluster.kill(1);
    let disk = FaultyStorage::new(world.disks[&1].clone(), faults.clone());
    world.cluster.start(world.now, 1, Box::new(disk)).expect("start");
    world.advance(1000);
    assert!(world.cluster.move_leader("t", 0, 1));
    world.pump();
    let connection = world.connect(1);
    faults.fail(StorageOp::Append, "t-0/", 0, 1, 0, std::io::ErrorKind::Other);
    faults.fail(StorageOp::Truncate, "t-0/", 0, 1, 0, std::io::ErrorKind::Other);
    let request = world.produce_request("t", &batch(&["a"]), -1);
    world.send(1, connection, &request, 13);
    let halted = |e: &ClusterTrace| matches!(e, ClusterTrace::Halted { node: 1, .. });
    assert!(world.traces.iter().any(halted), "{:?}", world.traces.last());
    assert!(!world.cluster.is_running(1));
    world.advance(5000);
    assert_ne!(world.leader(), 1);
}
