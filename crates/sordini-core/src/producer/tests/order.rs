//! The window, and order under failures.

use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::{Answer, Reaction};
use super::world::World;
use crate::batch::completion::Deduplicated;
use crate::error::Fate;

fn tp() -> (String, i32) {
    ("t".into(), 0)
}

#[test]
fn one_is_in_flight_until_the_first_acknowledgement_then_five_and_never_a_sixth() {
    // S4, A4
    let mut world = World::new();
    world.node(1).react(ApiKey::Produce, std::iter::repeat_n(Reaction::Delay(1000), 6));
    let ids = world.send_many(20);
    world.run(800);
    assert_eq!(world.produces().len(), 1, "one until it is acknowledged");
    world.run(1000);
    assert_eq!(world.produces().len(), 6, "then five");
    world.settle();
    assert_eq!(world.monitor.most_in_flight[&tp()], 5);
    assert_eq!(world.log(), ids);
    world.end();
}

#[test]
fn max_in_flight_bounds_the_window() {
    for idempotent in [true, false] {
        for max in 1..=5 {
            let mut world = World::with(1, 1, |config| {
                config.max_in_flight_requests_per_connection = max;
                config.enable_idempotence = idempotent;
            });
            world.send();
            world.settle();
            world.node(1).held = true;
            let ids = world.send_many(12);
            world.run(300);
            world.release(1);
            world.settle();
            assert_eq!(world.monitor.most_in_flight[&tp()], max as usize);
            assert_eq!(world.log()[1..], ids);
            world.end();
        }
    }
}

#[test]
fn without_idempotence_the_window_may_be_wider_than_five() {
    let mut world = World::with(1, 1, |config| {
        config.enable_idempotence = false;
        config.max_in_flight_requests_per_connection = 9;
    });
    world.send();
    world.settle();
    world.node(1).held = true;
    world.send_many(20);
    world.run(300);
    world.release(1);
    world.settle();
    assert_eq!(world.monitor.most_in_flight[&tp()], 9);
    world.end();
}

#[test]
fn max_in_flight_counts_the_requests_of_a_connection() {
    let mut world = World::with(1, 3, |config| {
        config.max_in_flight_requests_per_connection = 2;
    });
    for at in 0..3 {
        world.send_to("t", Some(at));
    }
    world.settle();
    let before = world.produces().len();
    world.node(1).held = true;
    for at in 0..3 {
        world.send_to("t", Some(at));
        world.run(5);
    }
    assert_eq!(world.produces().len() - before, 2);
    world.release(1);
    world.end();
}

const RETRIABLE: [ErrorCode; 9] = [
    ErrorCode::CorruptMessage,
    ErrorCode::UnknownTopicOrPartition,
    ErrorCode::LeaderNotAvailable,
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::RequestTimedOut,
    ErrorCode::NotEnoughReplicas,
    ErrorCode::NotEnoughReplicasAfterAppend,
    ErrorCode::KafkaStorageError,
    ErrorCode::UnknownTopicId,
];

#[test]
fn retries_keep_order_whichever_of_five_fails_and_whatever_the_code() {
    // A1, A2, A7, D13
    for code in RETRIABLE {
        for failing in 0..5 {
            for appended in [false, true] {
                let mut world = World::new();
                world.send();
                world.settle();
                world.node(1).held = true;
                let ids = world.send_many(8);
                let good = std::iter::repeat_n(Answer::code(ErrorCode::None), failing);
                let bad = if appended { Answer::after_append(code) } else { Answer::code(code) };
                world.script(good.chain([bad]));
                world.run(20);
                world.release(1);
                world.settle();
                world.assert_written(&ids);
                assert_eq!(world.log()[1..], ids, "{code:?} {failing} {appended}");
                assert_eq!(world.monitor.epochs.len(), 1, "A2: no epoch is burnt");
                world.end();
            }
        }
    }
}

#[test]
fn a_batch_that_fails_again_and_again_stays_in_front() {
    let mut world = World::new();
    world.send();
    world.settle();
    let ids = world.send_many(8);
    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 6]);
    world.settle();
    assert_eq!(world.log()[1..], ids);
    world.end();
}

#[test]
fn lost_answers_neither_lose_nor_double_nor_reorder() {
    for reaction in [Reaction::CloseAfter, Reaction::CloseBefore, Reaction::CutAnswer(7)] {
        for lost in 0..5 {
            let mut world = World::new();
            world.send();
            world.settle();
            let ids = world.send_many(8);
            let good = std::iter::repeat_n(Reaction::Pass, lost);
            world.node(1).react(ApiKey::Produce, good.chain([reaction.clone()]));
            world.settle();
            world.assert_written(&ids);
            assert_eq!(world.log()[1..], ids);
            world.end();
        }
    }
}

#[test]
fn a_duplicate_is_told_as_possible_after_a_lost_answer() {
    let mut world = World::new();
    world.react(ApiKey::Produce, Reaction::CloseAfter);
    let id = world.send();
    world.settle();
    let written = world.outcome(id).expect("written");
    assert_eq!(written.deduplicated, Deduplicated::Possible);
    assert_eq!(written.offset, Some(0));
    world.end();
}

#[test]
fn a_connection_may_break_at_every_byte_of_a_frame() {
    // A15, S7
    let mut length = usize::MAX;
    let mut at = 0;
    while at <= length {
        let mut world = World::new();
        world.send();
        world.settle();
        world.net.cut_produce = Some(at);
        let ids = world.send_many(6);
        let before = world.metric(|it| it.bytes_sent);
        world.run_until(10_000, |world| world.metric(|it| it.bytes_sent) > before);
        if length == usize::MAX {
            // All frames of this story are of one size.
            length = world.produces()[0].batches[0].bytes.len() + 80;
        }
        world.settle();
        world.assert_written(&ids);
        assert_eq!(world.log()[1..], ids, "cut at {at}");
        assert_eq!(world.monitor.epochs.len(), 1);
        world.end();
        at += 1;
    }
}

#[test]
fn a_frame_of_which_nothing_left_goes_again_at_once_and_unambiguously() {
    let mut world = World::new();
    world.send();
    world.settle();
    world.net.cut_produce = Some(0);
    let id = world.send();
    world.settle();
    let written = world.outcome(id).expect("written");
    assert_eq!(written.deduplicated, Deduplicated::No);
    world.end();
}

#[test]
fn with_retries_0_a_lost_answer_is_the_end_and_its_fate_unknown() {
    let mut world = World::with(1, 1, |config| {
        config.retries = 0;
        config.enable_idempotence = false;
    });
    world.react(ApiKey::Produce, Reaction::CloseAfter);
    let lost = world.send();
    world.settle();
    assert_eq!(world.fate(lost), Fate::Unknown);
    world.script([Answer::code(ErrorCode::NotEnoughReplicas)]);
    let refused = world.send();
    world.settle();
    assert_eq!(world.fate(refused), Fate::NotWritten);
    let good = world.send();
    world.settle();
    world.assert_written(&[good]);
    world.end();
}

#[test]
fn retries_are_counted() {
    let mut world = World::with(1, 1, |config| config.retries = 3);
    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 4]);
    let ids = world.send_many(3);
    world.settle();
    let error = world.outcome(ids[0]).expect_err("it failed");
    assert_eq!((error.fate, error.attempts), (Fate::NotWritten, 4));
    world.assert_written(&ids[1..]);
    world.end();
}

#[test]
fn without_idempotence_one_in_flight_keeps_order() {
    // A1, P12
    let mut world = World::with(1, 1, |config| {
        config.enable_idempotence = false;
        config.max_in_flight_requests_per_connection = 1;
    });
    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 3]);
    let ids = world.send_many(8);
    world.settle();
    assert_eq!(world.log(), ids);
    world.end();
}

#[test]
fn without_idempotence_a_failing_batch_is_not_overtaken_by_new_ones() {
    // A1
    let mut world = World::with(1, 1, |config| config.enable_idempotence = false);
    world.send();
    world.settle();
    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 4]);
    let first = world.send();
    world.run(5);
    let later = world.send_many(6);
    world.settle();
    assert_eq!(world.log()[1], first);
    assert_eq!(world.log()[2..], later);
    world.end();
}

#[test]
fn retries_back_off() {
    let mut world = World::with(1, 1, |config| config.retry_backoff = Duration::from_millis(100));
    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 5]);
    world.send();
    world.settle();
    let times: Vec<u64> = world.produces().iter().map(|it| it.at_ms).collect();
    let pauses: Vec<u64> = times.windows(2).map(|it| it[1] - it[0]).collect();
    for (pause, expected) in pauses.iter().zip([100, 200, 400, 800, 1000]) {
        assert!(*pause >= expected * 8 / 10 && *pause <= expected * 12 / 10 + 4, "{pauses:?}");
    }
    world.end();
}

#[test]
fn what_follows_an_open_batch_stays_within_the_brokers_memory_over_all_connections() {
    // S4: the old leader appended the first and never answers; the new one acknowledges those
    // behind it. A sixth would push the first out of what the brokers remember, and its retry
    // would be refused though it is in the log.
    let mut world = World::with(2, 2, |config| config.request_timeout = Duration::from_secs(5));
    world.send();
    // There is a connection to the second broker too.
    world.send_to("t", Some(1));
    world.settle();
    world.react(ApiKey::Produce, Reaction::Swallow);
    let first = world.send();
    world.run(10);
    let part = world.model.part(&tp());
    (part.leader, part.epoch) = (2, part.epoch + 1);
    world.producer.refresh.want();
    world.run(200);
    let later = world.send_many(12);
    world.run(2000);
    assert!(world.is_resolved(later[3]) && !world.is_resolved(later[4]));
    assert!(!world.is_resolved(first));
    world.settle();
    world.assert_written(&[first]);
    world.assert_written(&later);
    assert_eq!(world.monitor.epochs.len(), 1);
    world.end();
}
