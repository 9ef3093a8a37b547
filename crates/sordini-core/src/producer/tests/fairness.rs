//! Nobody starves, and nothing spins (bugs.md C).

use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::{Answer, Reaction};
use super::world::World;

#[test]
fn partitions_of_one_broker_take_turns() {
    // C4: requests hold two batches, partitions have plenty.
    let mut world = World::with(1, 6, |config| {
        config.batch_size = 1000;
        config.max_request_size = 2400;
        config.linger = Duration::from_millis(1);
    });
    for at in 0..6 {
        world.send_to("t", Some(at));
    }
    world.settle();
    let topic = world.topic("t");
    for _ in 0..20 {
        for at in 0..6 {
            world.send_on(&topic, Some(at), 800);
        }
    }
    let before = world.produces().len();
    world.settle();
    let requests: Vec<Vec<i32>> = world.produces()[before..]
        .iter()
        .map(|it| it.batches.iter().map(|batch| batch.tp.1).collect())
        .collect();
    assert!(requests.iter().all(|parts| parts.len() <= 2));
    let flat: Vec<i32> = requests.concat();
    for window in flat.windows(24) {
        for at in 0..6 {
            assert!(window.contains(&at), "{at} starves: {flat:?}");
        }
    }
    world.end();
}

#[test]
fn a_partition_in_backoff_does_not_hold_up_its_neighbours() {
    // C4
    let mut world = World::with(1, 2, |_| {});
    world.send_to("t", Some(0));
    world.send_to("t", Some(1));
    world.settle();
    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 10]);
    let stuck = world.send();
    let ids: Vec<u64> = (0..10).map(|_| world.send_to("t", Some(1))).collect();
    world.run(100);
    assert!(ids.iter().all(|id| world.is_resolved(*id)));
    assert!(!world.is_resolved(stuck));
    world.end();
}

#[test]
fn a_dead_broker_does_not_hold_up_the_others() {
    // C4
    let mut world = World::with(3, 3, |_| {});
    for at in 0..3 {
        world.send_to("t", Some(at));
    }
    world.settle();
    world.node(2).silent = true;
    let stuck = world.send_to("t", Some(1));
    for _ in 0..20 {
        let ids = [world.send_to("t", Some(0)), world.send_to("t", Some(2))];
        world.run(20);
        assert!(ids.iter().all(|id| world.is_resolved(*id)));
    }
    assert!(!world.is_resolved(stuck));
    world.node(2).silent = false;
    world.end();
}

#[test]
fn nothing_spins_while_nothing_can_be_done() {
    // C6: disconnected, throttled, leaderless, without memory.
    let mut world = World::with(2, 2, |_| {});
    world.send_to("t", Some(0));
    world.send_to("t", Some(1));
    world.settle();
    world.node(1).up = false;
    world.node(2).up = false;
    world.kill_links(1);
    world.kill_links(2);
    world.send_to("t", Some(0));
    world.send_to("t", Some(1));
    let before = world.connects.len();
    world.run(60_000);
    let tries = world.connects.len() - before;
    // A second between tries at most, for each of the two.
    assert!((50..400).contains(&tries), "{tries} connections in a minute");
    world.node(1).up = true;
    world.node(2).up = true;
    world.run(3000);
    assert!(world.records.iter().all(|it| it.resolved_at.is_some()));

    for node in 1..=2 {
        world.model.part(&("t".into(), node - 1)).leader = -1;
        world.model.part(&("t".into(), node - 1)).epoch += 1;
        world.node(node).react(ApiKey::Produce, []);
        let answers = world.model.answers.entry(("t".into(), node - 1)).or_default();
        answers.push_back(Answer::code(ErrorCode::LeaderNotAvailable));
    }
    world.send_to("t", Some(0));
    world.send_to("t", Some(1));
    let before = world.count(ApiKey::Metadata);
    world.run(30_000);
    let asked = world.count(ApiKey::Metadata) - before;
    assert!((10..60).contains(&asked), "D2: {asked} metadata requests in 30 s");
    for at in 0..2 {
        let part = world.model.part(&("t".into(), at));
        (part.leader, part.epoch) = (1, part.epoch + 1);
    }
    world.end();
}

#[test]
fn a_muted_or_clogged_connection_is_not_replaced_by_another_to_the_same_broker() {
    // D10; without idempotence a second connection would reorder.
    let mut world = World::with(1, 1, |config| {
        config.enable_idempotence = false;
        config.metadata_max_age = Duration::from_secs(2);
        config.batch_size = 100_000;
        config.linger = Duration::from_millis(1);
        config.request_timeout = Duration::from_secs(60);
    });
    world.send();
    world.settle();
    world.react(ApiKey::Produce, Reaction::Throttle(10_000));
    world.send();
    world.settle();
    let ids = world.send_many(3);
    world.run(8000);
    assert_eq!(world.connects.len(), 1, "the broker asked for silence");
    assert!(!world.is_resolved(ids[0]));
    world.settle();

    world.net.stalled = true;
    let topic = world.topic("t");
    for _ in 0..30 {
        world.send_on(&topic, Some(0), 90_000);
    }
    world.run(10_000);
    assert_eq!(world.connects.len(), 1, "one connection to one broker");
    world.unstall();
    world.settle();
    assert!(world.log().is_sorted());
    world.end();
}

#[test]
fn a_slow_network_is_not_a_dead_broker() {
    // D7: what waits behind other bytes is not late while bytes go out.
    let mut world = World::with(1, 4, |config| {
        config.request_timeout = Duration::from_secs(2);
        config.batch_size = 60_000;
        config.linger = Duration::from_millis(1);
    });
    for at in 0..4 {
        world.send_to("t", Some(at));
    }
    world.settle();
    let topic = world.topic("t");
    // 4 KB every 100 ms: four requests take far longer than request.timeout.ms.
    world.net.stalled = true;
    world.net.chunk = Some(20);
    for at in 0..4 {
        world.send_on(&topic, Some(at), 50_000);
        world.run(5);
    }
    for _ in 0..80 {
        world.unstall();
        world.run(1);
        world.net.stalled = true;
        world.run(100);
    }
    assert_eq!(world.connects.len(), 1, "the connection was making progress");
    world.net.chunk = None;
    world.unstall();
    world.end();
}

#[test]
fn what_one_partition_has_queued_is_bounded_by_the_credit_of_its_connection() {
    let mut world = World::with(1, 1, |config| {
        config.batch_size = 500_000;
        config.max_request_size = 600_000;
        config.linger = Duration::from_millis(1);
        config.request_timeout = Duration::from_secs(100);
    });
    world.send();
    world.settle();
    world.net.stalled = true;
    let topic = world.topic("t");
    for _ in 0..8 {
        world.send_on(&topic, Some(0), 400_000);
    }
    let before = world.metric(|it| it.bytes_sent);
    world.run(3000);
    let handed_out = world.metric(|it| it.bytes_sent) - before;
    assert!(handed_out < (1 << 20) + 600_000, "{handed_out} bytes handed out");
    world.unstall();
    world.end();
}
