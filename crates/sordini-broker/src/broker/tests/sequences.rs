//! Idempotence as a producer sees it.

use super::*;

#[test]
fn a_retry_of_the_last_five_batches_is_plain_success_at_its_first_offset() {
    let mut rig = Rig::new().with_topic(1);
    let id = rig.new_producer();
    for i in 0..6 {
        let stored = rig.produce(&batch(&["v"]).producer(id, 0, i));
        assert_eq!((stored.error_code, stored.base_offset), (0, i64::from(i)));
    }
    for i in 1..6 {
        let retried = rig.produce(&batch(&["v"]).producer(id, 0, i));
        assert_eq!((retried.error_code, retried.base_offset), (0, i64::from(i)));
        assert_eq!(retried.log_append_time_ms, 1_700_000_000_000, "as Kafka answers");
    }
    let sixth = rig.produce(&batch(&["v"]).producer(id, 0, 0));
    assert_eq!(code(&sixth), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 6);
}

#[test]
fn a_gap_is_refused_and_leaves_no_trace() {
    let mut rig = Rig::new().with_topic(1);
    let id = rig.new_producer();
    rig.produce(&batch(&["a", "b"]).producer(id, 0, 0));
    for gap in [3, 1, 100] {
        let refused = rig.produce(&batch(&["c"]).producer(id, 0, gap));
        assert_eq!(code(&refused), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!((refused.base_offset, refused.log_start_offset), (-1, 0));
        assert!(refused.error_message.is_some());
    }
    let next = rig.produce(&batch(&["c"]).producer(id, 0, 2));
    assert_eq!((next.error_code, next.base_offset), (0, 2));
}

#[test]
fn any_first_sequence_is_taken_unless_strictness_is_asked_for() {
    let mut rig = Rig::new().with_topic(1);
    assert_eq!(rig.produce(&batch(&["v"]).producer(77, 0, 1234)).error_code, 0);
    let strict = |config: &mut BrokerConfig| config.strict_first_sequence = true;
    let mut rig = Rig::on(MemoryStorage::new(), strict).with_topic(1);
    let refused = rig.produce(&batch(&["v"]).producer(77, 0, 1234));
    assert_eq!(code(&refused), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(rig.produce(&batch(&["v"]).producer(77, 0, 0)).error_code, 0);
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old() {
    let mut rig = Rig::new().with_topic(1);
    rig.produce(&batch(&["v"]).producer(7, 3, 0));
    let refused = rig.produce(&batch(&["v"]).producer(7, 4, 1));
    assert_eq!(code(&refused), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(rig.produce(&batch(&["v"]).producer(7, 5, 0)).error_code, 0);
    for epoch in [3, 4] {
        let fenced = rig.produce(&batch(&["v"]).producer(7, epoch, 1));
        assert_eq!(code(&fenced), ErrorCode::InvalidProducerEpoch);
    }
    assert_eq!(rig.produce(&batch(&["v"]).producer(7, 5, 1)).error_code, 0);
}

#[test]
fn sequences_wrap_behind_the_largest() {
    let mut rig = Rig::new().with_topic(1);
    let last = i32::MAX;
    assert_eq!(rig.produce(&batch(&["a", "b"]).producer(7, 0, last - 2)).error_code, 0);
    // From 2^31 - 1 over 0 to 1 in one batch.
    let over = batch(&["c", "d", "e"]).producer(7, 0, last);
    assert_eq!(rig.produce(&over).base_offset, 2);
    assert_eq!(rig.produce(&over).base_offset, 2, "a retry of it is recognised");
    assert_eq!(
        code(&rig.produce(&batch(&["f"]).producer(7, 0, 1))),
        ErrorCode::OutOfOrderSequenceNumber
    );
    assert_eq!(rig.produce(&batch(&["f"]).producer(7, 0, 2)).base_offset, 5);
    let stored = rig.broker.records("t", 0).expect("records");
    let sequences: Vec<_> = stored.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [last - 2, last - 1, last, 0, 1, 2]);
}

#[test]
fn the_end_of_the_range_is_followed_by_zero() {
    let mut rig = Rig::new().with_topic(1);
    assert_eq!(rig.produce(&batch(&["a"]).producer(7, 0, i32::MAX)).error_code, 0);
    assert_eq!(rig.produce(&batch(&["b"]).producer(7, 0, 0)).error_code, 0);
}

#[test]
fn a_forgotten_producer_begins_anywhere() {
    let mut rig = Rig::new().with_topic(1);
    rig.produce(&batch(&["v"]).producer(7, 3, 0));
    assert_eq!(rig.broker.forget_producers("t", 0, Some(7)).expect("forget"), 1);
    assert_eq!(rig.produce(&batch(&["v"]).producer(7, 0, 99)).error_code, 0);
}

#[test]
fn idleness_is_counted_by_the_brokers_clock_not_by_timestamps() {
    let mut rig = Rig::new().with_topic(1);
    // Events of 1970, produced now.
    rig.produce(&TestBatch::of(&["v"]).timestamp(5).producer(7, 0, 0));
    rig.advance(61_000);
    assert!(rig.broker.producer_state("t", 0, 7).expect("partition").is_some());
    rig.advance(24 * 3_600_000);
    assert!(rig.broker.producer_state("t", 0, 7).expect("partition").is_none());
}

#[test]
fn producers_are_apart_by_partition() {
    let mut rig = Rig::new().with_topic(2);
    let topic = rig.topic_id();
    for index in [0, 1] {
        let request = produce_to(topic, index, &batch(&["v"]).producer(7, 0, 0), -1);
        assert_eq!(answer(&rig.ask(&request, 13)).error_code, 0);
    }
}
