//! D: metadata, connections, protocol.

use sordini_protocol::{ApiKey, ErrorCode as E};
use sordini_sim::faults::{Fault, Link, Twist, Way};

use crate::script::{produce, script, to};

fn metadata(node: i32, times: u16, twist: Twist) -> Fault {
    Fault::Twist { node, api: ApiKey::Metadata, nth: 1, times, twist }
}

fn versions(node: i32, times: u16, twist: Twist) -> Fault {
    Fault::Twist { node, api: ApiKey::ApiVersions, nth: 1, times, twist }
}

/// franz-go #1331: a node that hears nothing from the controller tells of leaders of yesterday.
#[test]
fn d1_a_lagging_node_does_not_bring_an_old_leader_back() {
    let mut script = script(3).partitions(3).set("metadata.max.age.ms", "100");
    for (at, node) in [(800, 1), (1900, 2), (3000, 3)] {
        script = script.during(at, at + 700, Fault::PeerCut(Some(0), Some(node)));
        for partition in 0..3 {
            script = script.at(at + 100, Fault::MoveLeader(0, partition));
        }
    }
    let story = script.run().heard(E::NotLeaderOrFollower).all_written().no_bump();
    assert!(story.report.coverage.elections >= 9, "{}", story.report);
}

/// KAFKA-15415: a leader denies for a second that it leads: asked again, with pauses.
#[test]
fn d2_a_leader_that_denies_is_asked_again_but_not_all_the_time() {
    for code in [E::NotLeaderOrFollower, E::FencedLeaderEpoch] {
        let story = script(1)
            .during(1000, 2500, produce(1, 1, 9999, Twist::Error(code)))
            .run()
            .heard(code)
            .all_written()
            .no_bump();
        // 1.5 seconds, five in flight, a pause of at least 16 ms, and soon of 160.
        let answers = story.answers(code);
        assert!((3..150).contains(&answers), "{answers} answers {}", code.name());
    }
}

/// TestFirstMetadataPartitionErrors: the first answers say that there is no leader.
#[test]
fn d3_first_metadata_with_errors_is_asked_again() {
    for code in [E::LeaderNotAvailable, E::UnknownTopicOrPartition, E::UnknownServerError] {
        script(1)
            // Only because of the errors is it asked again.
            .set("metadata.max.age.ms", "300000")
            .during(150, 2000, metadata(1, 3, Twist::Error(code)))
            .run()
            .saw("app: waited for a topic")
            .all_written();
    }
}

/// franz-go v1.21.3: for two seconds a partition has no leader; its records wait.
#[test]
fn d4_records_wait_for_a_leader() {
    script(3)
        .partitions(3)
        .with(|plan| {
            plan.topics[0].replication = 1;
            plan.topics[0].min_insync = 1;
        })
        .during(1000, 3800, Fault::Kill(1))
        .during(1000, 3800, Fault::Kill(2))
        .run()
        .saw("cluster: a partition without leader")
        .all_written();
}

/// The same for partitions that only some nodes know of.
#[test]
fn d4_a_partition_that_one_node_does_not_know_yet_is_no_failure() {
    script(3)
        .with(|plan| {
            plan.workload.explicit = 0;
            plan.workload.records = 1000;
        })
        .set("metadata.max.age.ms", "100")
        .set("batch.size", "100")
        .during(900, 2500, Fault::PeerCut(Some(0), Some(1)))
        .during(2500, 3800, Fault::PeerCut(Some(0), Some(3)))
        .at(1000, Fault::AddPartitions(0, 3))
        .at(2600, Fault::AddPartitions(0, 3))
        .run()
        .saw("app: wrote to a partition that was added")
        .all_written()
        .no_bump();
}

/// KAFKA-8206: names do not resolve, then all nodes are gone, then they are back.
#[test]
fn d5_all_nodes_may_be_gone_for_a_while() {
    script(3)
        .at(800, Fault::ResetAll(Link::ALL))
        .during(800, 1600, Fault::NoNames(None))
        .everywhere(2000, 3000, Fault::Kill)
        .run()
        .saw("core: disconnected")
        .all_written();
}

/// KAFKA-9893: connections hang while they are made, in either half of the bringing up.
#[test]
fn d6_a_connection_that_hangs_while_it_is_made_is_given_up() {
    script(3)
        .partitions(3)
        .set("socket.connection.setup.timeout.ms", "200")
        .at(1000, Fault::ResetAll(Link::ALL))
        .during(1000, 1900, Fault::Hang(to(1)))
        .at(2400, Fault::ResetAll(Link::ALL))
        .during(2400, 3500, versions(1, 3, Twist::Silence))
        .during(2400, 3500, versions(2, 3, Twist::Silence))
        .run()
        .saw("core: disconnected")
        .all_written();
}

/// franz-go's downgrade loop: versions are refused, again and again.
#[test]
fn d6_a_refused_version_is_not_asked_for_again_and_again() {
    let story = script(1)
        .at(1000, Fault::ResetAll(Link::ALL))
        .during(1000, 2500, versions(1, 9999, Twist::Error(E::UnsupportedVersion)))
        .run()
        .all_written();
    assert!(story.report.steps < 60_000, "{}", story.report);
}

/// KAFKA-2120: connections lead nowhere, and nobody is told.
#[test]
fn d7_half_open_connections_are_given_up_and_nothing_is_doubled() {
    script(1)
        .timeouts(30_000, 300)
        .at(1000, Fault::HalfOpen(Link::ALL))
        .during(2000, 2800, Fault::Partition(Link::ALL, Way::Down))
        .run()
        .saw("core: disconnected")
        .saw("wire: sent again")
        .all_written()
        .no_bump();
}

/// An old connection delivers after the new one: what it carries is a duplicate then.
#[test]
fn d7_what_an_old_connection_delivers_late_is_not_doubled() {
    let story = script(1)
        .timeouts(30_000, 300)
        .during(1000, 2500, Fault::Clog(Link::ALL, Way::Up))
        .run()
        .saw("core: disconnected")
        .saw("wire: sent again")
        .all_written()
        .no_bump();
    assert!(story.met("core: written") > 0);
}

/// KAFKA-4669: an answer that is none, and bytes cut anywhere.
#[test]
fn d9_nonsense_ends_the_connection_and_nothing_is_credited() {
    script(1)
        .during(600, 1500, produce(1, 2, 2, Twist::Garbage(60)))
        .during(1500, 2500, produce(1, 1, 1, Twist::Garbage(4)))
        .at(2500, Fault::ResetAt(Link::ALL, Way::Down, 30))
        .at(3000, Fault::ResetAt(Link::ALL, Way::Up, 150))
        .during(500, 3500, Fault::Fragment(Link::ALL, 3))
        .run()
        .saw("core: disconnected")
        .saw("wire: sent again")
        .all_written()
        .no_bump();
}

/// librdkafka #3026: errors of disks and of replicas pass.
#[test]
fn d13_errors_of_storage_and_replicas_are_retried() {
    for code in
        [E::KafkaStorageError, E::NotEnoughReplicas, E::CorruptMessage, E::LeaderNotAvailable]
    {
        script(1)
            .during(1000, 3900, produce(1, 2, 4, Twist::Error(code)))
            .run()
            .heard(code)
            .saw("wire: sent again")
            .all_written()
            .no_bump();
    }
}

/// The same where it is true: a follower is gone, and a disk fails.
#[test]
fn d13_too_few_replicas_and_a_full_disk_cost_no_record() {
    script(2)
        .with(|plan| plan.chaos = 12_000)
        .during(1000, 8000, Fault::Pause(2))
        .during(9000, 10_500, Fault::DiskFull(1, 300))
        .run()
        .heard(E::NotEnoughReplicas)
        .all_written();
}
