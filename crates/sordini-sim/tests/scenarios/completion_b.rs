//! B: completion, expiry, flush and close.

use sordini_protocol::{ApiKey, ErrorCode as E};
use sordini_sim::faults::{Fault, Link, Twist, Way};

use crate::script::{produce, script, to};

/// KAFKA-5957: answers come when their records have expired already.
#[test]
fn b1_an_answer_after_the_expiry_completes_nothing_again() {
    script(1)
        .timeouts(700, 650)
        .set("max.in.flight.requests.per.connection", "2")
        .during(1000, 3000, produce(1, 1, 9999, Twist::Hold(500)))
        .run()
        .saw("core: failed, unknown")
        .heard(E::None);
}

/// KAFKA-19012: batches expire while the socket takes a few bytes at a time, in little memory that
/// is used again and again, over three topics: P1 finds a record that went elsewhere.
#[test]
fn b2_memory_is_not_used_again_while_it_is_written() {
    let story = script(1)
        .timeouts(600, 300)
        .set("buffer.memory", "70000")
        .set("batch.size", "1000")
        .with(|plan| {
            plan.workload.records = 2000;
            plan.workload.burst = 120;
            for name in ["t1", "t2"] {
                let more = sordini_sim::TopicPlan { name: name.into(), ..plan.topics[0].clone() };
                plan.topics.push(more);
            }
        })
        .during(800, 1600, Fault::SlowWriter(Link::ALL, 1))
        .during(1800, 3600, Fault::SlowWriter(Link::ALL, 1))
        .at(2500, Fault::ResetAll(Link::ALL))
        .run()
        .saw("core: failed, unknown");
    assert!(story.met("core: written") > 300, "{:#?}", story.report.coverage);
}

/// KAFKA-4235: the producer is closed while sends wait for a topic that is gone.
#[test]
fn b3_sends_that_wait_are_let_go_by_a_close() {
    script(1)
        .with(|plan| plan.workload.close = Some((1600, 50)))
        .during(1000, 3800, Fault::DeleteTopic(0))
        .run()
        .saw("app: waited for a topic")
        .saw("app: closed");
}

/// KAFKA-5886, KAFKA-9893: no producer id, no leader, no connection: records expire all the same.
#[test]
fn b4_records_expire_whatever_they_wait_for() {
    let refused = |node| Fault::Twist {
        node,
        api: ApiKey::InitProducerId,
        nth: 1,
        times: 9999,
        twist: Twist::Error(E::CoordinatorLoadInProgress),
    };
    script(1)
        .timeouts(800, 300)
        .during(150, 2500, refused(1))
        .run()
        .saw("core: failed, not written")
        .never_saw("core: failed, unknown")
        .saw("core: written");
    script(3)
        .timeouts(800, 300)
        .with(|plan| {
            plan.topics[0].replication = 1;
            plan.topics[0].min_insync = 1;
        })
        .everywhere(1000, 3000, Fault::Kill)
        .run()
        .saw("core: failed, not written")
        .saw("core: written");
}

/// testWhenFirstBatchExpireNoSend: some expire, some do not, and a partition's are told in order (P5).
#[test]
fn b6_records_of_a_partition_expire_in_order() {
    script(2)
        .partitions(3)
        .timeouts(600, 250)
        .with(|plan| plan.workload.records = 900)
        .during(1000, 1700, Fault::Partition(Link::ALL, Way::Both))
        .during(2200, 2900, Fault::Partition(to(1), Way::Up))
        .run()
        .saw("core: failed")
        .saw("core: written");
}

/// KAFKA-3129: acks=0, where nobody answers; and connections break.
#[test]
fn b7_without_acks_nothing_is_waited_for_and_a_lost_connection_is_no_success() {
    let story = script(1)
        .plain("0")
        .set("retries", "0")
        .during(1000, 2000, Fault::SlowWriter(Link::ALL, 50))
        .at(1500, Fault::ResetAll(Link::ALL))
        .at(2500, Fault::ResetAt(Link::ALL, Way::Up, 200))
        .run()
        .saw("core: disconnected")
        .saw("core: written");
    assert_eq!(story.answers(E::None), 0, "an answer to acks=0");
}

/// rskafka #103: receipts are dropped at once; the records are sent all the same.
#[test]
fn b11_a_dropped_receipt_cancels_nothing() {
    let story = script(1)
        .with(|plan| plan.workload.detached = 1000)
        .during(1000, 3000, produce(1, 2, 2, Twist::CloseAfter))
        .run()
        .saw("wire: sent again")
        .all_written();
    assert_eq!(story.met("core: written"), story.report.records);
}

/// KAFKA-12870, KAFKA-3655: every burst is flushed, over splits, retries and a long linger; what
/// was accepted before has its outcome when a flush returns (checked at each).
#[test]
fn b13_a_flush_waits_for_what_came_before_it() {
    script(1)
        .set("linger.ms", "400")
        .set("batch.size", "6000")
        .with(|plan| {
            plan.topics[0].max_message_bytes = Some(1500);
            plan.workload.flushes = 1000;
            plan.workload.burst = 60;
        })
        .during(1000, 2000, produce(1, 2, 3, Twist::CloseAfter))
        .during(2000, 3900, produce(1, 1, 4, Twist::Error(E::NotEnoughReplicas)))
        .run()
        .saw("app: flushed")
        .saw("core: split")
        .saw("wire: sent again")
        .all_written();
}

/// KAFKA-6635, KAFKA-16217: closed while nobody can be reached, with and without patience.
#[test]
fn b14_a_close_ends_though_nobody_can_be_reached() {
    for patience in [0, 50, 1000] {
        script(2)
            .with(|plan| plan.workload.close = Some((1700, patience)))
            .everywhere(1500, 3800, Fault::Kill)
            .run()
            .saw("app: closed")
            .saw("core: failed");
    }
}

/// The same with time enough: nothing is given up.
#[test]
fn b14_a_close_delivers_what_was_accepted() {
    script(1)
        .with(|plan| plan.workload.close = Some((1500, 5000)))
        .during(1400, 2300, produce(1, 1, 3, Twist::Silence))
        .run()
        .saw("app: closed")
        .saw("wire: sent again")
        .all_written();
}
