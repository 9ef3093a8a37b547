//! delivery.timeout.ms, in every state that a record can be in.

use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::{Answer, Reaction};
use super::world::World;
use crate::config::{Acks, Codec, Config};
use crate::error::{Cause, Fate, Obstacle};

/// A delivery that ends after 12 s, with requests that end after 10.
fn hasty(config: &mut Config) {
    config.request_timeout = Duration::from_secs(10);
    config.delivery_timeout = Duration::from_secs(12);
}

fn ready() -> World {
    let mut world = World::with(1, 1, hasty);
    world.send();
    world.settle();
    world
}

fn obstacle(cause: Cause) -> Obstacle {
    match cause {
        Cause::Expired { last, .. } => last,
        other => panic!("not expired: {other:?}"),
    }
}

#[test]
fn an_acknowledgement_after_expiry_goes_on_with_the_sequence() {
    // B1: the sequence was used after all, so no epoch is burnt.
    let mut world = ready();
    world.net.latency = Duration::from_micros(100);
    world.react(ApiKey::Produce, Reaction::Ignore);
    let late = world.send();
    // Sent again after the request timeout; that answer comes when the record has expired.
    world.react(ApiKey::Produce, Reaction::Delay(3000));
    world.settle();
    assert_eq!(world.fate(late), Fate::Unknown);
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    assert_eq!(world.log(), [0, late, next]);
    assert_eq!(world.metric(|it| it.epoch_bumps), 0);
    world.end();
}

#[test]
fn a_refusal_after_expiry_takes_a_new_epoch() {
    // B1, A6
    let mut world = ready();
    world.react(ApiKey::Produce, Reaction::Ignore);
    let late = world.send();
    world.react(ApiKey::Produce, Reaction::Delay(3000));
    world.script([Answer::code(ErrorCode::NotEnoughReplicas)]);
    world.settle();
    assert_eq!(world.fate(late), Fate::Unknown);
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    assert_eq!(world.metric(|it| it.epoch_bumps), 1);
    world.end();
}

#[test]
fn a_connection_that_dies_under_an_expired_batch_lets_the_line_go_on() {
    // A6, B6: nobody else may take the sequence, and what was sent behind it stays bound.
    let mut world = ready();
    world.react(ApiKey::Produce, Reaction::Ignore);
    let late = world.send();
    world.run(9000);
    let young = world.send_many(2);
    world.run_until(2000, |world| world.produces().len() >= 3);
    world.node(1).silent = true;
    world.settle();
    assert_eq!(world.fate(late), Fate::Unknown);
    world.node(1).silent = false;
    let next = world.send_many(3);
    world.settle();
    world.assert_written(&next);
    let _ = young;
    world.end();
}

#[test]
fn without_metadata_a_known_topics_records_expire_unwritten() {
    // B4: the broker is gone for good.
    let mut world = ready();
    world.node(1).up = false;
    world.kill_links(1);
    let ids = world.send_many(3);
    let start = world.ms();
    world.settle();
    assert!(world.ms() - start <= 12_001);
    for id in ids {
        assert_eq!(world.fate(id), Fate::NotWritten);
        let Obstacle::Connection { address, cause } = obstacle(world.cause(id)) else {
            panic!("the cause is the connection: {:?}", world.cause(id))
        };
        assert_eq!((&*address, &*cause), ("b1:9092", "refused"));
    }
    world.node(1).up = true;
    world.send();
    world.end();
}

#[test]
fn without_a_leader_records_expire_unwritten_and_say_so() {
    // B4, D4
    let mut world = ready();
    world.model.part(&("t".into(), 0)).leader = -1;
    world.model.part(&("t".into(), 0)).epoch += 1;
    world.script([Answer::code(ErrorCode::LeaderNotAvailable)]);
    let first = world.send();
    world.run(2000);
    let second = world.send();
    world.settle();
    assert_eq!(world.fate(first), Fate::NotWritten);
    assert_eq!(obstacle(world.cause(first)), Obstacle::Broker(ErrorCode::LeaderNotAvailable));
    assert_eq!(obstacle(world.cause(second)), Obstacle::NoLeader);
    let part = world.model.part(&("t".into(), 0));
    (part.leader, part.epoch) = (1, part.epoch + 1);
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    world.end();
}

#[test]
fn without_a_producer_id_records_expire_unwritten_and_say_so() {
    // B4
    let mut world = World::with(1, 1, hasty);
    let error = Reaction::Error(ErrorCode::CoordinatorNotAvailable);
    world.node(1).react(ApiKey::InitProducerId, std::iter::repeat_n(error, 1000));
    let id = world.send();
    world.settle();
    assert_eq!(world.fate(id), Fate::NotWritten);
    let expected = Obstacle::NoProducerId(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(obstacle(world.cause(id)), expected);
    world.node(1).reactions.clear();
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    world.end();
}

#[test]
fn a_batch_may_expire_while_its_codec_works() {
    // B4, C1
    let mut world = World::with(1, 1, |config| {
        hasty(config);
        config.compression_type = Codec::Lz4;
    });
    world.send();
    world.settle();
    world.net.compress = Duration::from_secs(20);
    let ids = world.send_many(3);
    world.settle();
    assert!(ids.iter().all(|id| world.fate(*id) == Fate::NotWritten));
    world.net.compress = Duration::from_millis(1);
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    world.run(20_000);
    assert_eq!(world.metric(|it| it.epoch_bumps), 0, "none of them had a sequence");
    world.end();
}

#[test]
fn a_batch_may_expire_in_backoff() {
    // B4
    let mut world = World::with(1, 1, |config| {
        hasty(config);
        config.retry_backoff = Duration::from_secs(20);
        config.retry_backoff_max = Duration::from_secs(20);
    });
    world.send();
    world.settle();
    world.script([Answer::code(ErrorCode::NotEnoughReplicas)]);
    let refused = world.send();
    world.settle();
    assert_eq!(world.fate(refused), Fate::NotWritten);
    assert_eq!(obstacle(world.cause(refused)), Obstacle::Broker(ErrorCode::NotEnoughReplicas));
    world.script([Answer::after_append(ErrorCode::RequestTimedOut)]);
    let ambiguous = world.send();
    world.settle();
    assert_eq!(world.fate(ambiguous), Fate::Unknown);
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    world.end();
}

#[test]
fn a_batch_may_expire_in_flight() {
    // B4
    let mut world = World::with(1, 1, |config| {
        config.request_timeout = Duration::from_secs(12);
        config.delivery_timeout = Duration::from_secs(12);
    });
    world.send();
    world.settle();
    world.run(1000);
    world.react(ApiKey::Produce, Reaction::Swallow);
    let id = world.send();
    world.settle();
    assert_eq!(world.fate(id), Fate::Unknown);
    assert_eq!(obstacle(world.cause(id)), Obstacle::Silent { tried: "b1:9092".into() });
    let next = world.send();
    world.settle();
    let _ = world.outcome(next);
    world.end();
}

#[test]
fn a_batch_may_expire_while_the_network_takes_nothing() {
    // B4, S7: not a byte was reported, but the driver has the frame and may yet write it.
    let mut world = World::with(1, 1, |config| {
        config.request_timeout = Duration::from_secs(12);
        config.delivery_timeout = Duration::from_secs(12);
    });
    world.send();
    world.settle();
    world.net.stalled = true;
    let id = world.send();
    world.settle();
    let error = world.outcome(id).expect_err("it expired");
    assert_eq!((error.fate, error.attempts), (Fate::Unknown, 1), "{error}");
    world.unstall();
    let next = world.send();
    world.settle();
    let _ = world.outcome(next);
    world.end();
}

#[test]
fn a_batch_may_expire_while_the_broker_wants_silence() {
    // B4, D10
    let mut world = ready();
    world.react(ApiKey::Produce, Reaction::Throttle(30_000));
    world.send();
    world.settle();
    let ids = world.send_many(2);
    world.settle();
    assert!(ids.iter().all(|id| world.fate(*id) == Fate::NotWritten));
    world.run(20_000);
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    world.end();
}

#[test]
fn records_of_one_partition_expire_in_order() {
    // B6
    let mut world = World::with(1, 1, hasty);
    world.send();
    world.settle();
    world.node(1).silent = true;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(world.send());
        world.run(300);
    }
    world.settle();
    let times: Vec<_> = ids.iter().map(|id| world.records[*id as usize].resolved_at).collect();
    assert!(times.is_sorted());
    world.node(1).silent = false;
    world.send();
    world.end();
}

#[test]
fn the_longest_times_that_can_be_set_never_end_at_once() {
    // B5
    let mut world = World::with(1, 1, |config| {
        config.delivery_timeout = Duration::from_millis(i32::MAX as u64);
        config.request_timeout = Duration::from_millis(i32::MAX as u64 - 1);
        config.metadata_max_age = Duration::from_millis(i64::MAX as u64);
        config.metadata_max_idle = Duration::from_millis(i64::MAX as u64);
        config.connections_max_idle = Some(Duration::from_millis(i64::MAX as u64));
        config.reconnect_backoff_max = Duration::from_millis(i64::MAX as u64);
        config.retry_backoff_max = Duration::from_millis(i64::MAX as u64);
        config.socket_connection_setup_timeout = Duration::from_millis(i64::MAX as u64);
        config.socket_connection_setup_timeout_max = Duration::from_millis(i64::MAX as u64);
    });
    world.react(ApiKey::Produce, Reaction::CloseAfter);
    world.node(1).react(ApiKey::ApiVersions, std::iter::repeat_n(Reaction::CloseBefore, 12));
    let ids = world.send_many(3);
    world.settle();
    world.assert_written(&ids);
    world.end();
}

#[test]
fn deadlines_that_pass_while_other_things_happen_are_not_forgotten() {
    // C5: the time of an input may already lie behind a timer that has not fired.
    let mut world = World::with(1, 2, |config| {
        hasty(config);
        config.batch_size = 16_384;
        config.linger = Duration::from_millis(7);
    });
    world.net.timer_lag = Duration::from_millis(30);
    for round in 0..40 {
        world.send_to("t", Some(round % 2));
        world.run(5);
    }
    world.settle();
    world.end();
}

#[test]
fn after_a_pause_of_the_process_answers_that_lie_ready_are_read_before_deadlines_pass() {
    // The client was suspended for longer than every timeout.
    let mut world = ready();
    world.node(1).held = true;
    let ids = world.send_many(3);
    world.run(50);
    world.release(1);
    world.pause(Duration::from_secs(60));
    world.feed(crate::producer::io::Input::LanesDue);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.connects.len(), 1);
    world.node(1).held = false;
    world.late = true;
    world.end();
}

#[test]
fn acks_0_completes_when_the_last_byte_is_on_the_wire() {
    // B7
    let mut world = World::with(1, 1, |config| {
        config.acks = Acks::None;
        config.enable_idempotence = false;
    });
    let id = world.send();
    world.settle();
    let written = world.outcome(id).expect("written");
    assert_eq!(written.offset, None);
    world.net.stalled = true;
    let stuck = world.send();
    world.run(1000);
    assert!(!world.is_resolved(stuck), "nothing of it is on the wire");
    world.unstall();
    world.settle();
    world.assert_written(&[stuck]);
    world.end();
}

#[test]
fn acks_0_ignores_answers_that_nobody_asked_for() {
    // B7
    let mut world = World::with(1, 1, |config| {
        config.acks = Acks::None;
        config.enable_idempotence = false;
    });
    world.send();
    world.settle();
    // A broker that answers Produce all the same.
    for correlation in 0..6 {
        let mut frame = vec![0, 0, 0, 10];
        frame.extend_from_slice(&i32::to_be_bytes(correlation));
        frame.extend_from_slice(&[0; 6]);
        world.inject(1, &frame);
    }
    let ids = world.send_many(3);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.connects.len(), 1, "the connection was kept");
    world.run(400_000);
    world.send();
    world.end();
}

#[test]
fn acks_0_does_not_call_a_broken_connection_written() {
    // B7
    let mut world = World::with(1, 1, |config| {
        config.acks = Acks::None;
        config.enable_idempotence = false;
        config.retries = 0;
    });
    world.send();
    world.settle();
    world.net.cut_produce = Some(20);
    let id = world.send();
    world.settle();
    assert_eq!(world.fate(id), Fate::Unknown);
    world.end();
}

#[test]
fn acks_0_keeps_the_window_too() {
    let mut world = World::with(1, 1, |config| {
        config.acks = Acks::None;
        config.enable_idempotence = false;
        config.max_in_flight_requests_per_connection = 2;
    });
    world.net.chunk = Some(3);
    let ids = world.send_many(10);
    world.settle();
    world.run(100);
    assert_eq!(world.log(), ids);
    world.end();
}
