//! Connections: bring-up, versions, peers that misbehave, throttles.

use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::{Answer, Reaction};
use super::world::World;
use crate::config::Acks;
use crate::error::{Fate, Obstacle};
use crate::producer::io::Trace;

fn ready() -> World {
    let mut world = World::new();
    world.send();
    world.settle();
    world
}

fn causes(world: &World) -> Vec<String> {
    let cause = |(_, trace): &(u64, Trace)| match trace {
        Trace::Disconnected { cause, .. } => Some(cause.to_string()),
        _ => None,
    };
    world.traces.iter().filter_map(cause).collect()
}

#[test]
fn one_deadline_covers_connecting_and_the_first_answer() {
    // D6
    let mut world = World::new();
    world.node(1).vanished = true;
    let id = world.send();
    world.run(9000);
    assert!(causes(&world).is_empty());
    world.run(2000);
    assert!(causes(&world)[0].contains("socket.connection.setup.timeout.ms"));
    world.node(1).vanished = false;
    world.node(1).silent = true;
    world.run(80_000);
    assert!(causes(&world).last().expect("again").contains("did not answer ApiVersions"));
    world.node(1).silent = false;
    world.settle();
    world.assert_written(&[id]);
    world.end();
}

#[test]
fn the_setup_deadline_doubles_up_to_its_maximum() {
    // D6, KIP-601
    let mut world = World::new();
    world.node(1).vanished = true;
    world.send();
    world.run(200_000);
    let times: Vec<u64> = world.connects.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<u64> = times.windows(2).map(|it| (it[1] - it[0]) / 1000).collect();
    assert!(pauses[0] == 10 && pauses[1] == 20 && pauses[2] >= 30, "{pauses:?}");
    assert!(pauses[2..].iter().all(|pause| (30..=31).contains(pause)), "{pauses:?}");
    world.node(1).vanished = false;
    world.end();
}

#[test]
fn api_versions_falls_back_to_what_the_broker_lists() {
    // D6: every rung, each strictly lower.
    for newest in 0..=4 {
        let mut world = World::new();
        world.node(1).limit(ApiKey::ApiVersions, (0, newest));
        let id = world.send();
        world.settle();
        world.assert_written(&[id]);
        let asked = world.model.seen.iter().filter(|it| it.api == ApiKey::ApiVersions);
        let versions: Vec<i16> = asked.map(|it| it.version).collect();
        assert_eq!(versions, if newest == 4 { vec![4] } else { vec![4, newest] });
        world.end();
    }
}

/// A version 0 body of ApiVersions: UNSUPPORTED_VERSION, and one range.
fn refused(correlation: i32, max: i16) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 16];
    frame.extend_from_slice(&correlation.to_be_bytes());
    frame.extend_from_slice(&35i16.to_be_bytes());
    frame.extend_from_slice(&1i32.to_be_bytes());
    for word in [18i16, 0, max] {
        frame.extend_from_slice(&word.to_be_bytes());
    }
    frame
}

#[test]
fn a_broker_that_refuses_every_version_of_api_versions_is_left_alone() {
    // D6: no downgrade loop, even if it lists what it refuses.
    let mut world = World::new();
    let lies = (0..5).map(|at| Reaction::Raw(refused(at, 4)));
    world.node(1).react(ApiKey::ApiVersions, lies);
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert!(causes(&world)[0].contains("refuses every version of ApiVersions"));
    world.end();
}

#[test]
fn a_broker_older_than_kafka_2_1_is_told_apart() {
    let mut world = World::with(1, 1, |config| {
        config.request_timeout = Duration::from_secs(5);
        config.delivery_timeout = Duration::from_secs(10);
    });
    world.node(1).limit(ApiKey::Produce, (0, 5));
    world.send();
    world.run(2000);
    assert!(causes(&world)[0].contains("older than Kafka 2.1"), "{:?}", causes(&world));
    let topic = world.topic("t");
    let Obstacle::Connection { cause, .. } = topic.obstacle() else { panic!("{topic:?}") };
    assert!(cause.contains("older than Kafka 2.1"));
    assert_eq!(world.give_up_waiting(), 1);
    world.end();
}

#[test]
fn silence_names_the_addresses_that_were_tried_and_not_a_hundred_of_them() {
    let mut world = World::new();
    world.node(1).vanished = true;
    world.send();
    world.run(2000);
    let obstacle = world.topic("t").obstacle();
    assert_eq!(obstacle.to_string(), "no broker answered in time (tried b1:9092)");
    for port in 1..=99 {
        let name = format!("many:{port:03}").into();
        world.producer.reconnects.entry(name).or_default();
    }
    let many = world.producer.silence().to_string();
    assert!(many.ends_with("(tried b1:9092, many:001, many:002, many:003, many:004 and 95 more)"));
    assert_eq!(world.give_up_waiting(), 1);
    world.end();
}

#[test]
fn a_broker_that_takes_connections_and_says_nothing_is_named() {
    let mut world = ready();
    world.node(1).silent = true;
    world.send_to("u", None);
    world.run(2000);
    let obstacle = world.topic("u").obstacle();
    assert_eq!(obstacle.to_string(), "no broker answered in time (tried b1:9092)");
    world.node(1).silent = false;
    assert_eq!(world.give_up_waiting(), 1);
    world.end();
}

#[test]
fn a_large_answer_that_is_cut_off_does_not_look_like_another_protocol() {
    let mut framing = crate::connection::framing::Framing::default();
    framing.push(&[0x00, 0x20, 0, 0, 1, 2]);
    let told = framing.looks_like().expect("no broker begins with 2 MiB");
    assert!(told.contains("2097152") && told.ends_with("is the port a Kafka broker's?"), "{told}");
    framing.negotiated();
    assert_eq!(framing.looks_like(), None);
}

#[test]
fn a_broker_without_what_is_needed_is_named() {
    let mut world = World::new();
    world.node(1).versions.remove(&(ApiKey::InitProducerId as i16));
    world.send();
    world.run(2000);
    assert!(causes(&world)[0].contains("does not offer InitProducerId"), "{:?}", causes(&world));
    assert_eq!(world.give_up_waiting(), 1);
    world.end();
}

#[test]
fn a_half_open_connection_is_killed_and_what_was_on_it_is_unknown() {
    // D7
    let mut world = World::with(1, 1, |config| {
        config.request_timeout = Duration::from_secs(5);
        config.retries = 0;
        config.enable_idempotence = false;
    });
    world.send();
    world.settle();
    world.node(1).silent = true;
    let ids = world.send_many(5);
    world.run(4900);
    assert!(!world.is_resolved(ids[0]));
    world.run(200);
    assert!(ids.iter().all(|id| world.fate(*id) == Fate::Unknown));
    assert!(causes(&world)[0].contains("request.timeout.ms=5000"));
    world.node(1).silent = false;
    world.send();
    world.end();
}

#[test]
fn a_half_open_connection_costs_an_idempotent_producer_nothing() {
    // D7
    let mut world = ready();
    world.react(ApiKey::Produce, Reaction::Swallow);
    let ids = world.send_many(8);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.log()[1..], ids);
    assert_eq!(world.monitor.epochs.len(), 1);
    world.end();
}

#[test]
fn garbage_ends_a_connection_and_nothing_is_credited() {
    // D9, F1
    let frames: [&[u8]; 9] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[21, 3, 3, 0, 2, 2, 70],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, 1, 1],
        &[0, 0, 0, 4, 0, 0, 0, 77],
        &[0, 0, 0, 8, 9, 9, 9, 9, 9, 9, 9, 9],
    ];
    for bytes in frames {
        for api in [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::Produce] {
            let mut world = World::new();
            world.react(api, Reaction::Raw(bytes.to_vec()));
            let ids = world.send_many(4);
            world.settle();
            world.assert_written(&ids);
            assert_eq!(world.log(), ids);
            assert_eq!(world.connects.len(), 2, "{bytes:?} {api:?}");
            world.end();
        }
    }
}

#[test]
fn a_peer_that_speaks_something_else_is_named_once() {
    let http = "it speaks HTTP, not Kafka's protocol; is the port right?";
    let tls = "it speaks TLS, and takes no plaintext; use its PLAINTEXT port";
    for (bytes, told) in
        [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], http), (&[21, 3, 3, 0, 2, 2, 70], tls)]
    {
        let mut world = World::new();
        world.react(ApiKey::ApiVersions, Reaction::Raw(bytes.to_vec()));
        world.send();
        world.settle();
        let cause = causes(&world)[0].clone();
        assert_eq!(cause, told);
        world.end();
    }
}

#[test]
fn a_correlation_id_that_is_not_the_next_poisons_the_connection() {
    // D9, P1, P4
    for delta in [-1, 1, 1000, i32::MIN] {
        let mut world = ready();
        world.react(ApiKey::Produce, Reaction::Correlation(delta));
        let ids = world.send_many(6);
        world.settle();
        world.assert_written(&ids);
        assert_eq!(world.log()[1..], ids);
        world.end();
    }
}

#[test]
fn two_answers_for_one_request_poison_the_connection() {
    // D9
    let mut world = ready();
    world.react(ApiKey::Produce, Reaction::Twice);
    let ids = world.send_many(6);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.log()[1..], ids);
    let cause = causes(&world)[0].clone();
    assert!(cause.contains("answers no request: its correlation id "), "{cause}");
    assert!(!cause.contains("Some("), "{cause}");
    world.end();
}

#[test]
fn an_answer_that_leaves_a_partition_out_counts_for_none() {
    // D9
    let mut world = World::with(1, 3, |config| config.linger = Duration::from_millis(5));
    world.model.create("u", 1);
    let ids = [0, 1, 2].map(|at| world.send_to("t", Some(at)));
    let other = world.send_to("u", Some(0));
    world.settle();
    world.react(ApiKey::Produce, Reaction::Omit);
    let more = [0, 1, 2].map(|at| world.send_to("t", Some(at)));
    world.send_to("u", Some(0));
    world.settle();
    world.assert_written(&ids);
    world.assert_written(&more);
    world.assert_written(&[other]);
    world.end();
}

#[test]
fn an_answer_cut_off_anywhere_is_no_answer() {
    for len in 0..80 {
        let mut world = ready();
        world.react(ApiKey::Produce, Reaction::CutAnswer(len));
        let ids = world.send_many(3);
        world.settle();
        world.assert_written(&ids);
        assert_eq!(world.log()[1..], ids);
        world.end();
    }
}

#[test]
fn a_throttle_mutes_the_connection_and_extends_what_was_asked() {
    // D10
    let mut world = World::with(1, 1, |config| config.request_timeout = Duration::from_secs(5));
    world.send();
    world.settle();
    world.node(1).react(ApiKey::Produce, [Reaction::Throttle(8000), Reaction::Delay(7000)]);
    let ids = world.send_many(5);
    world.run_until(1000, |world| world.is_resolved(ids[0]));
    let sent = world.produces().len();
    world.run(7900);
    let during = &world.produces()[sent..];
    assert!(during.iter().all(|it| it.at_ms <= world.ms() - 7800), "silence was asked for");
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.connects.len(), 1, "no request was late: the broker was not to answer");
    assert_eq!(world.metric(|it| it.throttled_ms), 8000);
    world.end();
}

#[test]
fn what_is_written_while_the_broker_is_silent_is_not_late() {
    // D10: bytes that were queued before the throttle go out during it.
    let mut world = World::with(1, 2, |config| config.request_timeout = Duration::from_secs(2));
    world.send_to("t", Some(0));
    world.send_to("t", Some(1));
    world.settle();
    world.node(1).held = true;
    world.node(1).react(ApiKey::Produce, [Reaction::Throttle(9000)]);
    let first = world.send_to("t", Some(0));
    world.run(5);
    world.net.stalled = true;
    let second = world.send_to("t", Some(1));
    world.run(5);
    // The throttle arrives, then the queued bytes leave, and their answer takes its time.
    world.node(1).react(ApiKey::Produce, [Reaction::Delay(8000)]);
    world.release(1);
    world.run(20);
    world.unstall();
    world.run_until(20_000, |world| world.is_resolved(second));
    world.assert_written(&[first, second]);
    assert_eq!(world.connects.len(), 1);
    world.end();
}

#[test]
fn overlapping_throttles_are_not_added_up() {
    // D10, D7: a dead broker is still found out.
    let mut world = World::with(1, 1, |config| config.request_timeout = Duration::from_secs(5));
    world.send();
    world.settle();
    world.node(1).held = true;
    let throttle = Reaction::Throttle(10_000);
    let last = Reaction::Swallow;
    let script = [throttle.clone(), throttle.clone(), throttle.clone(), throttle, last];
    world.node(1).react(ApiKey::Produce, script);
    let ids = world.send_many(5);
    world.run(100);
    world.release(1);
    let start = world.ms();
    world.run_until(60_000, |world| world.is_resolved(ids[4]));
    assert!(world.ms() - start < 17_000, "{} ms", world.ms() - start);
    world.end();
}

#[test]
fn a_throttle_of_years_is_not_obeyed() {
    let mut world = ready();
    world.react(ApiKey::Produce, Reaction::Throttle(i32::MAX));
    world.send();
    world.settle();
    let id = world.send();
    world.run(61_000);
    world.assert_written(&[id]);
    world.end();
}

#[test]
fn negative_throttles_say_nothing() {
    let mut world = ready();
    world.react(ApiKey::Produce, Reaction::Throttle(-5));
    let ids = world.send_many(2);
    world.run(100);
    world.assert_written(&ids);
    world.end();
}

#[test]
fn an_idle_connection_is_closed_and_made_again() {
    let mut world = World::with(1, 1, |config| {
        config.connections_max_idle = Some(Duration::from_secs(30));
        config.metadata_max_age = Duration::from_secs(10_000);
    });
    world.send();
    world.settle();
    world.run(31_000);
    assert!(world.conns(1).is_empty());
    assert!(causes(&world).is_empty(), "it did not fail");
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert_eq!(world.connects.len(), 2);
    world.end();
}

#[test]
fn the_bootstrap_connection_becomes_its_brokers() {
    let mut world = World::with(3, 3, |_| {});
    for at in 0..3 {
        world.send_to("t", Some(at));
    }
    world.settle();
    assert_eq!(world.connects.len(), 3, "none of them twice: {:?}", world.connects);
    world.end();
}

#[test]
fn reconnects_back_off_and_begin_small_again() {
    let mut world = ready();
    world.node(1).up = false;
    world.kill_links(1);
    world.send();
    world.run(8000);
    let times: Vec<u64> = world.connects.iter().skip(1).map(|(at, _)| *at).collect();
    let pauses: Vec<u64> = times.windows(2).map(|it| it[1] - it[0]).collect();
    for (pause, expected) in pauses.iter().zip([100, 200, 400, 800, 1000, 1000]) {
        assert!(*pause >= expected * 8 / 10 && *pause <= expected * 12 / 10 + 4, "{pauses:?}");
    }
    world.node(1).up = true;
    world.settle();
    let start = world.ms();
    world.kill_links(1);
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert!(world.ms() - start < 100);
    world.end();
}

#[test]
fn a_host_that_is_no_host_is_not_connected_to() {
    // F7, F8: what a broker tells ends up in names, errors and logs.
    let mut world = World::with(2, 2, |_| {});
    world.node(1).view = Some(Box::new(|response| {
        for broker in response.brokers.iter_mut().filter(|it| it.node_id == 2) {
            broker.host = "b2\nerror: all is lost".into();
        }
    }));
    let good = world.send_to("t", Some(0));
    let waits = world.send_to("t", Some(1));
    world.run(1000);
    assert!(!world.is_resolved(waits));
    assert!(world.connects.iter().all(|(_, to)| !to.contains('\n')));
    world.assert_written(&[good]);
    world.node(1).view = None;
    world.end();
}

#[test]
fn with_acks_0_garbage_ends_the_connection_all_the_same() {
    // B7, D9
    let mut world = World::with(1, 1, |config| {
        config.acks = Acks::None;
        config.enable_idempotence = false;
    });
    world.send();
    world.settle();
    world.inject(1, b"HTTP/1.1 400 Bad Request");
    assert!(world.conns(1).is_empty());
    world.send();
    world.end();
}

#[test]
fn an_error_of_storage_is_retried() {
    // D13
    let mut world = ready();
    world.script([super::peer::Answer::code(ErrorCode::KafkaStorageError); 2]);
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    world.end();
}

#[test]
fn without_a_backoff_a_broker_that_refuses_at_once_is_asked_a_thousand_times_a_second_at_most() {
    // C6
    let mut world = World::with(1, 1, |config| {
        config.retry_backoff = Duration::ZERO;
        config.retry_backoff_max = Duration::ZERO;
    });
    world.send();
    world.settle();
    world.net.latency = Duration::ZERO;
    world.script((0..100_000).map(|_| Answer::code(ErrorCode::NotEnoughReplicas)));
    let id = world.send();
    let before = (world.count(ApiKey::Produce), world.count(ApiKey::Metadata));
    world.run(1000);
    let produces = world.count(ApiKey::Produce) - before.0;
    assert!((500..=1001).contains(&produces), "{produces} attempts in a second");
    assert!(world.count(ApiKey::Metadata) - before.1 <= 1001);
    world.model.answers.clear();
    world.settle();
    world.assert_written(&[id]);
    world.end();
}

#[test]
fn without_a_backoff_a_broker_that_is_down_is_tried_a_thousand_times_a_second_at_most() {
    // C6
    let mut world = World::with(1, 1, |config| {
        config.reconnect_backoff = Duration::ZERO;
        config.reconnect_backoff_max = Duration::ZERO;
    });
    world.send();
    world.settle();
    world.net.latency = Duration::ZERO;
    world.node(1).up = false;
    world.kill_links(1);
    let id = world.send();
    let before = world.connects.len();
    world.run(1000);
    let connects = world.connects.len() - before;
    assert!((500..=1001).contains(&connects), "{connects} attempts in a second");
    world.node(1).up = true;
    world.settle();
    world.assert_written(&[id]);
    world.end();
}
