//! A: sequences, ordering, duplicates.

use sordini_protocol::ErrorCode as E;
use sordini_sim::faults::{Fault, Link, Twist, Way};

use crate::script::{produce, script, to};

/// KAFKA-3197: one in flight, without idempotence.
#[test]
fn a1_a_retried_batch_is_not_overtaken_with_one_in_flight() {
    script(1)
        .plain("all")
        .set("max.in.flight.requests.per.connection", "1")
        .during(1000, 2000, produce(1, 2, 3, Twist::Error(E::NotEnoughReplicas)))
        .during(2000, 2500, produce(1, 1, 2, Twist::CloseBefore))
        .during(2500, 4000, produce(1, 1, 5, Twist::Error(E::NotLeaderOrFollower)))
        .run()
        .heard(E::NotEnoughReplicas)
        .heard(E::NotLeaderOrFollower)
        .saw("core: retry")
        .all_written();
}

/// The other side of A1: what is not promised does happen, so the promise above says something.
#[test]
fn a1_five_in_flight_without_idempotence_invert() {
    let mut script = script(1).plain("all");
    for at in [500, 1000, 1500, 2000, 2500, 3000] {
        script = script.during(at, at + 490, produce(1, 2, 1, Twist::Error(E::NotEnoughReplicas)));
    }
    let story = script.run().saw("wire: five in flight");
    assert!(story.report.seen.reorder > 0, "{}", story.report);
}

/// KAFKA-5494, librdkafka #4953: the first of five is refused, and so are those behind it.
#[test]
fn a2_out_of_order_behind_another_batch_bumps_nothing() {
    let mut script = script(1);
    for at in [500, 1000, 1500, 2000, 2500, 3000] {
        script = script.during(at, at + 490, produce(1, 2, 1, Twist::Error(E::NotEnoughReplicas)));
    }
    script
        .run()
        .saw("wire: five in flight")
        .heard(E::OutOfOrderSequenceNumber)
        .all_written()
        .no_bump();
}

/// KAFKA-13794: the old leader's answers come after the new leader's.
#[test]
fn a3_answers_of_the_old_leader_come_after_those_of_the_new() {
    let mut script = script(3).everywhere(900, 3900, |node| produce(node, 1, 40, Twist::Hold(150)));
    for at in [1050, 1500, 2100, 2800, 3300] {
        script = script.at(at, Fault::MoveLeader(0, 0));
    }
    let story = script
        .run()
        .heard(E::NotLeaderOrFollower)
        .saw("wire: sent again to another node")
        .all_written()
        .no_bump();
    assert!(story.report.coverage.elections >= 6, "{}", story.report);
}

/// KAFKA-15591: the first batch of all is refused; a broker without state takes whatever is second.
#[test]
fn a4_the_first_batch_is_not_overtaken_by_the_second() {
    // Nothing was sent before the fault begins: the network takes 15 ms one way.
    script(1)
        .during(150, 700, produce(1, 1, 5, Twist::Error(E::NotLeaderOrFollower)))
        .run()
        .heard(E::NotLeaderOrFollower)
        .saw("wire: a first batch refused")
        .all_written()
        .no_bump();
}

/// The same where the topic is made anew.
#[test]
fn a4_the_first_batch_to_a_topic_that_was_made_anew_is_not_overtaken() {
    script(1)
        .during(1000, 1500, Fault::DeleteTopic(0))
        .during(1490, 3500, produce(1, 1, 4, Twist::Error(E::NotLeaderOrFollower)))
        .run()
        .saw("core: topic gone")
        .saw("wire: a first batch refused")
        .heard(E::NotLeaderOrFollower);
}

/// sarama PR 1661, librdkafka #2163: what is too large, or expires unsent, takes no sequence.
#[test]
fn a5_a_record_that_fails_before_it_is_sent_takes_no_sequence() {
    script(1)
        .set("max.request.size", "5000")
        .with(|plan| plan.workload.sizes = vec![40, 100, 6000])
        .timeouts(600, 300)
        .during(1000, 2500, Fault::Kill(1))
        .run()
        .saw("app: refused")
        .saw("core: failed, not written")
        .saw("core: written");
}

/// KAFKA-5494, franz-go #1217: batches expire while nobody knows whether they were written.
#[test]
fn a6_the_sequence_of_a_batch_that_expired_in_flight_is_not_used_again() {
    script(1)
        .timeouts(700, 300)
        .during(1000, 2400, Fault::Partition(Link::ALL, Way::Down))
        .run()
        .saw("core: failed, unknown")
        .saw("core: epoch bumped")
        .saw("core: written");
}

/// The same where it was the only one in flight: the next batch of all could take its place, and
/// the broker would take that for the same batch.
#[test]
fn a6_the_batch_behind_one_that_expired_alone_in_flight_is_not_taken_for_it() {
    script(1)
        .timeouts(700, 650)
        .set("max.in.flight.requests.per.connection", "1")
        .with(|plan| plan.workload.sizes = vec![100])
        .set("batch.size", "0")
        .during(1000, 3000, produce(1, 2, 9999, Twist::Silence))
        .run()
        .saw("core: failed, unknown")
        .saw("core: epoch bumped")
        .saw("core: written");
}

/// franz-go #1217: both codes come after the append.
#[test]
fn a7_an_answer_after_the_append_is_never_taken_for_a_refusal() {
    script(1)
        .during(1000, 3900, produce(1, 2, 3, Twist::ErrorAfter(E::RequestTimedOut)))
        .during(2000, 3900, produce(1, 1, 3, Twist::ErrorAfter(E::NotEnoughReplicasAfterAppend)))
        .run()
        .heard(E::RequestTimedOut)
        .heard(E::NotEnoughReplicasAfterAppend)
        .saw("wire: sent again")
        .all_written()
        .no_bump();
}

/// The same until the time for delivery is over.
#[test]
fn a7_a_batch_that_may_be_appended_fails_as_unknown() {
    script(1)
        .timeouts(700, 300)
        .during(1000, 2500, produce(1, 1, 9999, Twist::ErrorAfter(E::RequestTimedOut)))
        .run()
        .heard(E::RequestTimedOut)
        .saw("core: failed, unknown")
        .saw("core: written");
}

/// Dekaf #3385, Redpanda #3039: an epoch is given up while batches are open, and the leader moves.
#[test]
fn a8_a_new_epoch_stamps_nothing_anew_that_may_be_written() {
    script(3)
        .timeouts(900, 300)
        .everywhere(1000, 3000, |node| produce(node, 1, 30, Twist::Silence))
        .at(1500, Fault::MoveLeader(0, 0))
        .at(2200, Fault::MoveLeader(0, 0))
        .run()
        .saw("core: failed, unknown")
        .saw("core: epoch bumped")
        .saw("wire: sent again to another node");
}

/// KAFKA-12152: one node's partitions fail, the others' go on; no cascade (P21 counts).
#[test]
fn a9_a_new_epoch_reaches_every_partition_once() {
    let story = script(3)
        .partitions(5)
        .timeouts(800, 300)
        .with(|plan| plan.workload.records = 900)
        .during(1000, 2200, Fault::Partition(to(1), Way::Down))
        .run()
        .saw("core: failed, unknown")
        .saw("core: epoch bumped")
        .saw("core: written");
    // At most three partitions are led by one node of three.
    assert!(story.met("core: epoch bumped") < 30, "{:#?}", story.report.coverage);
}

/// KAFKA-7693: sequences pass 2^31 - 1 while answers are lost and batches refused.
#[test]
fn a10_sequences_wrap_to_0_under_fire() {
    for before in [0, 1, 2, 30, 77] {
        script(1)
            .with(|plan| plan.first_sequence = i32::MAX - before)
            .during(150, 1500, produce(1, 3, 2, Twist::CloseAfter))
            .during(300, 3900, produce(1, 2, 1, Twist::Error(E::NotEnoughReplicas)))
            .run()
            .saw("wire: a sequence passed its end")
            .saw("wire: sent again")
            .all_written()
            .no_bump();
    }
}

/// The broker says that it knows the batch: that is success.
#[test]
fn a14_a_known_duplicate_is_success() {
    script(1)
        .during(1000, 3900, produce(1, 1, 3, Twist::ErrorAfter(E::DuplicateSequenceNumber)))
        .run()
        .heard(E::DuplicateSequenceNumber)
        .saw("core: duplicate answered")
        .all_written()
        .no_bump();
}

/// librdkafka #3584, #4438: a connection breaks with five in flight that were appended.
#[test]
fn a15_a_lost_connection_leaves_expectations_as_they_are() {
    script(1)
        .during(1000, 2000, produce(1, 3, 1, Twist::CloseAfter))
        .during(2000, 3900, produce(1, 2, 1, Twist::CloseAfter))
        .at(3000, Fault::ResetAll(Link::ALL))
        .run()
        .saw("wire: five in flight")
        .saw("wire: sent again")
        .all_written()
        .no_bump();
}

/// KAFKA-7190, KAFKA-8710: the broker says that it forgot the producer.
#[test]
fn a16_a_forgotten_producer_goes_on() {
    script(1)
        .during(1000, 3900, produce(1, 2, 2, Twist::Error(E::UnknownProducerId)))
        .run()
        .heard(E::UnknownProducerId)
        .never_saw("core: fatal");
}

/// KAFKA-5793: an unclean election loses what was acknowledged: the producer goes on, and says so.
#[test]
fn a17_acknowledged_records_that_are_gone_are_told_of() {
    let script = script(3).with(|plan| {
        plan.survivable = false;
        plan.topics[0].min_insync = 1;
        plan.chaos = 12_000;
        plan.workload.records = 1500;
    });
    // Two nodes hear nothing until only the leader is in sync; then one of the two leads.
    let story = script
        .during(500, 9000, Fault::PeerCut(None, Some(2)))
        .during(500, 9000, Fault::PeerCut(None, Some(3)))
        .at(8900, Fault::UncleanElection(0, 0))
        .run()
        .saw("cluster: an unclean election")
        .saw("core: data loss told")
        .saw("core: epoch bumped");
    assert!(story.report.seen.loss > 0 && story.report.loss_told, "{}", story.report);
}

/// librdkafka #4750: a batch is sent again under compression: the same bytes (S3 compares them).
#[test]
fn a18_a_retry_is_the_same_bytes() {
    for codec in ["lz4", "gzip", "snappy", "zstd"] {
        script(1)
            .set("compression.type", codec)
            .during(500, 3900, Fault::SlowCodec(3000))
            .during(1000, 2000, produce(1, 2, 3, Twist::CloseAfter))
            .during(2000, 3900, produce(1, 1, 3, Twist::ErrorAfter(E::RequestTimedOut)))
            .run()
            .saw("wire: sent again")
            .all_written()
            .no_bump();
    }
}

/// KAFKA-3995, KAFKA-9703: batches larger than the topic takes, with others in flight and faults.
#[test]
fn a19_a_split_batch_keeps_its_place_and_its_sequences() {
    script(1)
        .set("batch.size", "6000")
        .with(|plan| {
            plan.topics[0].max_message_bytes = Some(1500);
            plan.workload.burst = 80;
            plan.workload.records = 1500;
            plan.workload.headers = 300;
        })
        .during(1000, 2000, produce(1, 2, 2, Twist::CloseAfter))
        .during(2000, 3900, produce(1, 2, 3, Twist::Error(E::NotEnoughReplicas)))
        .run()
        .heard(E::MessageTooLarge)
        .saw("core: split")
        .saw("wire: children of a split")
        .saw("wire: sent again")
        .all_written()
        .no_bump();
}

/// KAFKA-5700, KAFKA-7501: a record that alone is too large fails, and its sisters do not.
#[test]
fn a19_a_single_record_that_is_too_large_fails_alone() {
    script(1)
        .set("batch.size", "6000")
        .with(|plan| {
            plan.topics[0].max_message_bytes = Some(1500);
            plan.workload.sizes = vec![40, 100, 100, 2500];
        })
        .run()
        .heard(E::MessageTooLarge)
        .saw("core: split")
        .saw("core: failed, not written")
        .saw("core: written")
        .never_saw("core: failed, unknown");
}

/// KAFKA-8484: the epoch changes while batches are with their codec.
#[test]
fn a21_a_batch_is_stamped_in_one_step() {
    script(1)
        .set("compression.type", "lz4")
        .timeouts(700, 300)
        .during(800, 3000, Fault::SlowCodec(60_000))
        .during(1000, 2200, produce(1, 1, 20, Twist::Silence))
        .run()
        .saw("core: epoch bumped")
        .saw("core: failed, unknown")
        .saw("core: written");
}

/// KAFKA-7572: partitions are added and brokers disagree, with and without keys.
#[test]
fn a22_records_go_to_partitions_that_exist_and_stay_in_order() {
    script(3)
        .partitions(2)
        .with(|plan| {
            plan.workload.explicit = 300;
            plan.workload.keyed = 500;
            plan.workload.keys = 7;
            plan.workload.records = 800;
        })
        .during(900, 2500, Fault::PeerCut(Some(0), Some(2)))
        .at(1000, Fault::AddPartitions(0, 3))
        .at(2000, Fault::AddPartitions(0, 2))
        .run()
        .saw("app: wrote to a partition that was added")
        .all_written();
}
