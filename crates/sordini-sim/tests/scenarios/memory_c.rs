//! C: memory, batching, fairness.

use sordini_protocol::ErrorCode as E;
use sordini_sim::faults::{Fault, Link, Twist, Way};

use crate::script::{produce, script};

/// KAFKA-3122, KAFKA-4840: batches fail in every way there is; all memory comes back (P6).
#[test]
fn c1_whatever_fails_gives_its_memory_back() {
    let story = script(1)
        .timeouts(600, 300)
        .set("buffer.memory", "70000")
        .set("max.block.ms", "2000")
        .with(|plan| plan.workload.records = 1500)
        .during(600, 1200, produce(1, 1, 5, Twist::Error(E::TopicAuthorizationFailed)))
        .during(1200, 1800, produce(1, 1, 5, Twist::Error(E::InvalidTimestamp)))
        .during(2000, 3000, Fault::Partition(Link::ALL, Way::Down))
        .run()
        .heard(E::TopicAuthorizationFailed)
        .heard(E::InvalidTimestamp)
        .saw("core: failed, not written")
        .saw("core: failed, unknown");
    assert!(story.met("core: written") > 100, "{:#?}", story.report.coverage);
}

/// KAFKA-3648: many wait for memory, some give up; those behind them go on.
#[test]
fn c2_who_waits_for_memory_is_served_though_others_give_up() {
    script(1)
        .set("buffer.memory", "70000")
        .set("batch.size", "4000")
        .set("max.block.ms", "300")
        .with(|plan| {
            plan.workload.producers = 2;
            plan.workload.sizes = vec![100, 2500, 9000];
            plan.workload.records = 1500;
            plan.workload.burst = 120;
        })
        .during(1000, 2200, Fault::Clog(Link::ALL, Way::Both))
        .run()
        .saw("app: waited for memory")
        .saw("app: waited no longer")
        .all_written();
}

/// KAFKA-14303: a record larger than the memory is refused at once.
#[test]
fn c3_a_record_larger_than_the_memory_is_refused() {
    script(1)
        .set("buffer.memory", "70000")
        .with(|plan| plan.workload.sizes = vec![100, 100, 80_000])
        .run()
        .saw("app: refused")
        .never_saw("app: waited no longer")
        .all_written();
}

/// KAFKA-14303: batch.size=0 is one record a batch, under fire too.
#[test]
fn c3_batch_size_0_sends_records_one_by_one() {
    let story = script(1)
        .set("batch.size", "0")
        .during(1000, 3000, produce(1, 2, 2, Twist::CloseAfter))
        .run()
        .saw("wire: sent again")
        .all_written();
    // An answer for each record and each that was sent again, but those that were cut off.
    assert!(story.answers(E::None) >= story.report.records, "{:#?}", story.report.coverage);
}

/// librdkafka #5032: a lone record lingers, and goes when its time has come, without another send.
#[test]
fn c5_a_lone_record_does_not_wait_for_the_next() {
    let story = script(1)
        .timeouts(500, 100)
        .set("linger.ms", "300")
        .set("batch.size", "16384")
        .with(|plan| {
            // One every second or so.
            plan.workload.burst = 1;
            plan.workload.records = 60;
            plan.chaos = 60_000;
        })
        .during(5000, 20_000, Fault::LateTimers(0, 20_000))
        .run()
        .all_written();
    // Every batch had a record or two, so it went by its own timer.
    assert!(story.answers(E::None) > story.report.records / 3, "{:#?}", story.report.coverage);
}

/// KAFKA-1642, KAFKA-8635: nobody can be reached for long; what is tried is tried with pauses.
#[test]
fn c6_nothing_spins_while_nobody_can_be_reached() {
    let story = script(2)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "200")
        .with(|plan| plan.chaos = 12_000)
        .at(2000, Fault::ResetAll(Link::ALL))
        .during(2000, 11_000, Fault::Refuse(Link::ALL))
        .run()
        .all_written();
    let tries = story.met("core: disconnected");
    // Nine seconds, two nodes: at least one try a second, at most one each 40 ms and node.
    assert!((9..2 * 9000 / 40).contains(&tries), "{tries} tries");
    assert!(story.report.steps < 60_000, "{}", story.report);
}

/// KAFKA-5456, testSplitFrequency: compressed batches are too large for the topic; splitting ends,
/// and what was learned from it keeps later batches small.
#[test]
fn c8_splits_do_not_go_on_for_ever() {
    let story = script(1)
        .set("compression.type", "gzip")
        .set("batch.size", "16384")
        .with(|plan| {
            plan.topics[0].max_message_bytes = Some(1500);
            plan.workload.burst = 120;
            plan.workload.records = 2000;
        })
        .run()
        .saw("core: split")
        .all_written();
    let (splits, written) = (story.met("core: split"), story.answers(E::None));
    assert!(splits * 2 < written, "{splits} splits for {written} batches");
}
