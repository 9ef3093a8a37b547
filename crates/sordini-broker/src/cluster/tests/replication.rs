use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

use super::*;

const OK: ErrorCode = ErrorCode::None;

#[test]
fn acked_by_all_survives_the_death_of_each_node() {
    for victim in 1..=3 {
        let mut world = World::replicated();
        let answer = world.produce(1, &batch(&["a", "b"]), -1);
        assert_eq!((code(&answer), answer.base_offset), (OK, 0));
        world.kill(victim);
        world.advance(5000);
        let leader = world.leader();
        assert_ne!(leader, victim);
        assert_eq!(world.values(leader), ["a", "b"]);
        let answer = world.produce(leader, &batch(&["c"]), -1);
        assert_eq!((code(&answer), answer.base_offset), (OK, 2));
    }
}

#[test]
fn acked_by_the_leader_alone_is_lost_with_it() {
    let mut world = World::replicated();
    world.isolate(1, true);
    assert_eq!(code(&world.produce(1, &batch(&["lost"]), 1)), OK);
    world.kill(1);
    world.isolate(1, false);
    world.advance(5000);
    let leader = world.leader();
    assert!(world.values(leader).is_empty());
    assert_eq!(code(&world.produce(leader, &batch(&["kept"]), -1)), OK);
    world.start(1);
    world.advance(3000);
    assert_eq!(world.values(1), ["kept"], "the old leader gives up what it alone had");
    let cut_off = |event: &ClusterTrace| {
        matches!(event, ClusterTrace::Truncated { node: 1, to: 0, was: 1, by_storage: false, .. })
    };
    assert!(world.traces.iter().any(cut_off), "and says so");
}

#[test]
fn a_zombie_leader_takes_acks_1_and_commits_nothing() {
    let mut world = World::replicated();
    world.isolate(1, true);
    world.advance(4000);
    let leader = world.leader();
    assert_ne!(leader, 1);
    assert_eq!(code(&world.produce(1, &batch(&["one"]), 1)), OK);
    assert_eq!(code(&world.produce(1, &batch(&["all"]), -1)), ErrorCode::RequestTimedOut);
    assert_eq!(world.cluster.high_watermark(1, "t", 0), Some(0));
    assert!(world.fetch(1, 0).records.unwrap_or_default().is_empty(), "consumers see none of it");
    assert_eq!(code(&world.produce(leader, &batch(&["new"]), -1)), OK);
    world.isolate(1, false);
    world.advance(3000);
    assert_eq!(world.values(1), ["new"]);
    assert_eq!(world.cluster.isr("t", 0).len(), 3);
}

#[test]
fn who_waits_for_replicas_is_told_when_the_leader_changes() {
    let mut world = World::replicated();
    for follower in [2, 3] {
        world.cut.insert((Peer::Node(follower), Peer::Node(1)));
    }
    world.advance(300);
    let request = world.produce_request("t", &batch(&["a"]), -1);
    let request = ProduceRequest { timeout_ms: 60_000, ..request };
    let connection = world.connect(1);
    world.send(1, connection, &request, 13);
    assert!(world.answer::<ProduceRequest>(connection, 13).is_none());
    assert!(world.cluster.move_leader("t", 0, 2));
    world.pump();
    let response = world.answer::<ProduceRequest>(connection, 13).expect("an answer at once");
    assert_eq!(code(&first(&response)), ErrorCode::NotLeaderOrFollower);
    assert_eq!(first(&response).current_leader.leader_id, 2);
    assert_eq!(response.node_endpoints[0].node_id, 2);
}

#[test]
fn a_duplicate_is_recognised_by_the_new_leader() {
    let mut world = World::replicated();
    let batches: Vec<TestBatch> =
        (0..5).map(|i| batch(&[&format!("v{i}")]).producer(9, 0, i)).collect();
    for (offset, batch) in (0i64..).zip(&batches) {
        assert_eq!(world.produce(1, batch, -1).base_offset, offset);
    }
    world.kill(1);
    world.advance(5000);
    let leader = world.leader();
    for (offset, batch) in (0i64..).zip(&batches) {
        let again = world.produce(leader, batch, -1);
        assert_eq!((code(&again), again.base_offset), (OK, offset));
    }
    assert_eq!(world.values(leader).len(), 5);
    let gap = world.produce(leader, &batch(&["gap"]).producer(9, 0, 6), -1);
    assert_eq!(code(&gap), ErrorCode::OutOfOrderSequenceNumber);
}

#[test]
fn sequence_numbers_that_were_cut_off_are_forgotten() {
    let mut world = World::replicated();
    let numbered = |i: i32| batch(&[&format!("v{i}")]).producer(9, 0, i);
    assert_eq!(code(&world.produce(1, &numbered(0), -1)), OK);
    world.isolate(1, true);
    assert_eq!(code(&world.produce(1, &numbered(1), 1)), OK);
    world.advance(4000);
    let leader = world.leader();
    let retried = world.produce(leader, &numbered(1), -1);
    assert_eq!((code(&retried), retried.base_offset), (OK, 1), "new to this leader");
    world.isolate(1, false);
    world.advance(3000);
    assert!(world.cluster.move_leader("t", 0, 1));
    world.pump();
    let again = world.produce(1, &numbered(1), -1);
    assert_eq!((code(&again), again.base_offset), (OK, 1), "and known to the old one again");
    assert_eq!(world.values(1), ["v0", "v1"]);
}

#[test]
fn too_few_in_sync_refuse_a_batch_before_the_append() {
    let mut world = World::with_topic(config(3), &[("min.insync.replicas", "2")]);
    world.kill(2);
    world.kill(3);
    world.advance(5000);
    assert_eq!(world.cluster.isr("t", 0), [1]);
    let refused = world.produce(1, &batch(&["a"]), -1);
    assert_eq!(code(&refused), ErrorCode::NotEnoughReplicas);
    assert!(world.values(1).is_empty(), "nothing was appended");
    assert_eq!(code(&world.produce(1, &batch(&["b"]), 1)), OK, "acks=1 asks for nobody else");
    assert_eq!(world.cluster.high_watermark(1, "t", 0), Some(0), "which does not commit it");
    world.start(2);
    world.advance(1000);
    assert_eq!(world.cluster.high_watermark(1, "t", 0), Some(1));
    assert_eq!(code(&world.produce(1, &batch(&["c"]), -1)), OK);
}

/// Produces with acks=all while no follower fetches, until both have left the ISR.
fn produce_while_the_isr_shrinks(strict_min_isr: bool) -> (World, ErrorCode) {
    let config = ClusterConfig { strict_min_isr, ..config(3) };
    let mut world = World::with_topic(config, &[("min.insync.replicas", "2")]);
    for follower in [2, 3] {
        world.cut.insert((Peer::Node(follower), Peer::Node(1)));
    }
    let request = world.produce_request("t", &batch(&["a"]), -1);
    let request = ProduceRequest { timeout_ms: 8_000, ..request };
    let answer = first(&world.ask(1, &request, 13));
    assert_eq!(world.cluster.isr("t", 0), [1]);
    (world, code(&answer))
}

#[test]
fn too_few_in_sync_after_the_append_are_told_as_brokers_before_3_7_do() {
    let (mut world, code) = produce_while_the_isr_shrinks(false);
    assert_eq!(code, ErrorCode::NotEnoughReplicasAfterAppend);
    assert_eq!(world.values(1), ["a"]);
    assert_eq!(world.cluster.high_watermark(1, "t", 0), Some(1));
}

#[test]
fn the_high_watermark_stands_while_too_few_are_in_sync() {
    let (mut world, code) = produce_while_the_isr_shrinks(true);
    assert_eq!(code, ErrorCode::RequestTimedOut);
    assert_eq!(world.values(1), ["a"]);
    assert_eq!(world.cluster.high_watermark(1, "t", 0), Some(0));
}

#[test]
fn min_insync_replicas_never_asks_for_more_than_there_are() {
    let mut world = World::new(ClusterConfig { default_replication: 1, ..config(3) });
    world.create("t", 1, &[("min.insync.replicas", "2")]);
    assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), OK);
}

#[test]
fn who_lags_leaves_the_isr_and_comes_back_when_it_has_caught_up() {
    let mut world = World::replicated();
    world.isolate(3, true);
    assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), ErrorCode::RequestTimedOut);
    world.advance(4000);
    assert_eq!(world.cluster.isr("t", 0), [1, 2]);
    assert_eq!(code(&world.produce(1, &batch(&["b"]), -1)), OK);
    world.isolate(3, false);
    world.advance(2000);
    assert_eq!(world.cluster.isr("t", 0), [1, 2, 3]);
    assert_eq!(world.values(3), ["a", "b"]);
    let sizes: Vec<usize> = world
        .traces
        .iter()
        .filter_map(|event| match event {
            ClusterTrace::Isr { isr, .. } => Some(isr.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [3, 2, 3]);
}

#[test]
fn a_paused_follower_holds_acks_all_back_until_it_goes_on() {
    let mut world = World::replicated();
    world.cluster.pause(3);
    let request = world.produce_request("t", &batch(&["a"]), -1);
    let connection = world.connect(1);
    world.send(1, connection, &request, 13);
    world.advance(500);
    assert!(world.answer::<ProduceRequest>(connection, 13).is_none());
    let now = world.now;
    world.cluster.resume(now, 3);
    world.pump();
    let response = world.answer::<ProduceRequest>(connection, 13).expect("an answer");
    assert_eq!(code(&first(&response)), OK);
}

#[test]
fn power_loss_costs_nothing_that_was_synced() {
    let mut settings = config(3);
    settings.broker.fsync = true;
    let mut world = World::with_topic(settings, &[]);
    assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), OK);
    for node in 1..=3 {
        world.cluster.kill(node);
        world.disks[&node].lose_power(|_, _| 0);
    }
    (1..=3).for_each(|node| world.start(node));
    world.advance(2000);
    let leader = world.leader();
    assert_eq!(world.values(leader), ["a"]);
    assert_eq!(code(&world.produce(leader, &batch(&["b"]), -1)), OK);
}

#[test]
fn what_a_disk_lost_is_told_and_fetched_again() {
    let mut world = World::replicated();
    assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), OK);
    world.cluster.kill(3);
    world.disks[&3].lose_power(|_, _| 0);
    world.start(3);
    world.advance(2000);
    let lost = |event: &ClusterTrace| {
        matches!(event, ClusterTrace::Truncated { node: 3, to: 0, was: 1, by_storage: true, .. })
    };
    assert!(world.traces.iter().any(lost));
    assert_eq!(world.values(3), ["a"]);
    assert_eq!(world.cluster.isr("t", 0).len(), 3);
}

#[test]
fn a_follower_begins_anew_where_the_leader_has_deleted_the_rest() {
    let small = [("segment.bytes", "200"), ("retention.bytes", "0")];
    let mut world = World::with_topic(config(3), &small);
    world.kill(3);
    world.advance(4000);
    for i in 0..6 {
        assert_eq!(code(&world.produce(1, &batch(&[&format!("v{i}")]), -1)), OK);
    }
    let now = world.now;
    assert!(world.cluster.broker(1).expect("node").enforce_retention(now) > 0);
    let start = world.cluster.state(1, "t", 0).expect("leader").log_start;
    assert!(start > 0);
    world.start(3);
    world.advance(2000);
    let state = world.cluster.state(3, "t", 0).expect("follower");
    assert_eq!((state.log_start, state.log_end), (start, 6));
    assert_eq!(world.cluster.isr("t", 0).len(), 3);
}

#[test]
fn a_new_leader_tells_no_end_that_would_go_back() {
    let mut world = World::replicated();
    assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), OK);
    // The follower that will lead has the record and has not heard that it is committed; the
    // other one does not fetch from it.
    assert_eq!(world.cluster.high_watermark(2, "t", 0), Some(0));
    world.kill(1);
    world.cut.insert((Peer::Node(3), Peer::Node(2)));
    let moved = |world: &World| world.cluster.leader("t", 0).is_some_and(|leader| leader.0 == 2);
    for _ in 0..50 {
        world.advance(100);
        if moved(&world) {
            break;
        }
    }
    let wanted = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".to_owned(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                current_leader_epoch: -1,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let end = |world: &mut World| {
        let found = world.ask(2, &wanted, 7).topics[0].partitions[0].clone();
        (ErrorCode::from_code(found.error_code), found.offset)
    };
    assert_eq!(end(&mut world).0, ErrorCode::OffsetNotAvailable);
    world.cut.clear();
    world.advance(1000);
    assert_eq!(end(&mut world), (OK, 1));
}

#[test]
fn an_old_copy_of_a_fetch_changes_nothing() {
    let mut world = World::replicated();
    assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), OK);
    let old =
        world.fetches.iter().find(|(from, to, _)| (*from, *to) == (Peer::Node(2), Peer::Node(1)));
    let (from, to, message) = old.expect("a fetch").clone();
    let now = world.now;
    world.cluster.handle_peer(now, from, to, message);
    let connection = world.connect(1);
    let request = world.produce_request("t", &batch(&["b"]), -1);
    world.send(1, connection, &request, 13);
    let response = world.answer::<ProduceRequest>(connection, 13).expect("at once");
    assert_eq!(code(&first(&response)), OK);
}

#[test]
fn a_node_that_restarts_takes_nothing_for_committed_that_it_did_not_note() {
    let mut world = World::replicated();
    world.cut.insert((Peer::Node(2), Peer::Node(1)));
    assert_eq!(code(&world.produce(1, &batch(&["a"]), 1)), OK);
    world.advance(300);
    assert_eq!(world.cluster.state(3, "t", 0).map(|s| (s.log_end, s.high_watermark)), Some((1, 0)));
    world.kill(3);
    world.start(3);
    assert_eq!(world.cluster.state(3, "t", 0).map(|s| (s.log_end, s.high_watermark)), Some((1, 0)));
}

/// Has node 1 lead records that all have, and shuts it down.
fn write_and_shut_down(world: &mut World, records: usize) {
    for _ in 0..records {
        assert_eq!(code(&world.produce(1, &batch(&["a"]), -1)), ErrorCode::None);
    }
    let now = world.now;
    world.cluster.shut_down(now, 1);
    world.advance(2000);
    assert!(!world.cluster.is_running(1));
}

/// From which offset to which node 1 told that its log of t-0 lost records.
fn lost(world: &mut World) -> Option<(i64, i64)> {
    let told = world.cluster.broker(1).expect("node").recovered();
    let (_, report) = told.iter().find(|(dir, _)| dir == "t-0")?;
    report.lost.as_ref().map(|lost| (lost.from, lost.to))
}

/// What is known of the end of a replica that was closed is of use once: a follower may be cut.
#[test]
fn a_replica_that_lost_its_log_while_its_node_was_down_says_so_and_is_filled_again() {
    let mut world = World::replicated();
    write_and_shut_down(&mut world, 3);
    world.disks[&1].overwrite("t-0/00000000000000000000.log", Vec::new());
    world.start(1);
    assert_eq!(lost(&mut world), Some((0, 3)));
    world.advance(1000);
    assert_eq!(world.cluster.state(1, "t", 0).map(|state| state.log_end), Some(3));
    assert_eq!(world.cluster.isr("t", 0).len(), 3);
    world.kill(1);
    world.start(1);
    let told = world.cluster.broker(1).expect("node").recovered().to_vec();
    assert!(told.iter().all(|(_, report)| report.lost.is_none()), "{told:?}");
}

/// One that comes back with nothing at all leads nobody before it has copied what the others have.
#[test]
fn a_node_whose_folder_is_gone_is_filled_again_and_takes_nothing_from_the_others() {
    for is_gone in [false, true] {
        let mut world = World::replicated();
        for value in ["a", "b", "c"] {
            assert_eq!(code(&world.produce(1, &batch(&[value]), -1)), ErrorCode::None);
        }
        let saved = world.cluster.saved();
        world.cluster = Cluster::new(config(3));
        world.cluster.restore(&saved).expect("sound");
        if is_gone {
            world.disks.insert(1, MemoryStorage::new());
        }
        for node in 1..=3 {
            world.start(node);
        }
        world.cluster.all_are_back();
        world.advance(2000);
        assert_eq!(world.leader() == 1, !is_gone, "who led leads again, if it has what it had");
        assert_eq!(world.cluster.isr("t", 0).len(), 3);
        for node in 1..=3 {
            let end = world.cluster.state(node, "t", 0).map(|state| state.log_end);
            assert_eq!(end, Some(3), "node {node}");
        }
        assert_eq!(world.values(world.leader()), ["a", "b", "c"]);
    }
}

/// A node that does not get so far as to say what it lost says it in its next life.
#[test]
fn a_loss_is_not_forgotten_by_a_node_that_dies_before_it_is_registered() {
    let mut world = World::replicated();
    write_and_shut_down(&mut world, 3);
    world.disks[&1].overwrite("t-0/00000000000000000000.log", Vec::new());
    let apart = (Peer::Node(1), Peer::Controller);
    world.cut.insert(apart);
    world.start(1);
    world.kill(1);
    world.cut.remove(&apart);
    world.start(1);
    assert_eq!(lost(&mut world), Some((0, 3)));
}

/// What others have of a loss in the middle is copied; where nobody has it, the rest is kept.
#[test]
fn a_replica_that_lost_a_part_of_its_middle_is_filled_again_or_keeps_what_is_left() {
    for (nodes, records) in [(3, 9), (1, 8)] {
        let mut world = World::with_topic(config(nodes), &[("segment.bytes", "200")]);
        write_and_shut_down(&mut world, 9);
        let disk = world.disks[&1].clone();
        let is_log = |path: &String| path.starts_with("t-0/") && path.ends_with(".log");
        let logs: Vec<String> = disk.paths().into_iter().filter(is_log).collect();
        assert!(logs.len() > 3, "{logs:?}");
        let mut bytes = disk.contents(&logs[1]).expect("the log");
        bytes.pop();
        disk.overwrite(&logs[1], bytes);
        world.start(1);
        world.advance(2000);
        let kept = world.cluster.records(1, "t", 0).expect("records").len();
        let end = world.cluster.state(1, "t", 0).map(|state| state.log_end);
        assert_eq!((kept, end), (records, Some(9)), "{nodes} nodes");
        assert_eq!(world.cluster.isr("t", 0).len(), usize::try_from(nodes).expect("a few"));
    }
}
