//! Who leads what: refreshes, leader epochs, topics that come and go.

use std::time::Duration;

use sordini_protocol::messages::metadata::MetadataResponse;
use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::{Answer, Reaction};
use super::world::World;
use crate::error::{Cause, Fate, Obstacle, Refusal};
use crate::producer::io::Trace;

fn ready(nodes: i32, partitions: i32) -> World {
    let mut world = World::with(nodes, partitions, |_| {});
    for at in 0..partitions {
        world.send_to("t", Some(at));
    }
    world.settle();
    world
}

/// Another broker leads the partition from now on.
fn moves(world: &mut World, partition: i32, to: i32) {
    let part = world.model.part(&("t".into(), partition));
    (part.leader, part.epoch) = (to, part.epoch + 1);
}

/// Shows partition 0 of each topic with this leader and epoch.
fn shows(leader: i32, epoch: i32) -> Box<dyn Fn(&mut MetadataResponse)> {
    Box::new(move |response| {
        for topic in &mut response.topics {
            if let Some(part) = topic.partitions.first_mut() {
                (part.leader_id, part.leader_epoch) = (leader, epoch);
            }
        }
    })
}

#[test]
fn an_older_leader_epoch_is_not_believed() {
    // D1
    let mut world = ready(2, 1);
    moves(&mut world, 0, 2);
    world.send();
    world.settle();
    // Both lag behind now, and say so at each refresh.
    for node in 1..=2 {
        world.node(node).view = Some(shows(1, 5));
    }
    let before = world.produces().len();
    for _ in 0..5 {
        world.producer.refresh.want();
        world.send();
        world.run(2000);
    }
    assert!(world.produces()[before..].iter().all(|it| it.node == 2));
    world.end();
}

#[test]
fn an_epoch_that_is_not_told_replaces_none_that_is() {
    // D1
    let mut world = ready(2, 1);
    world.node(1).view = Some(shows(2, -1));
    world.node(2).view = Some(shows(2, -1));
    let before = world.produces().len();
    for _ in 0..3 {
        world.producer.refresh.want();
        world.send();
        world.run(2000);
    }
    assert!(world.produces()[before..].iter().all(|it| it.node == 1));
    world.end();
}

#[test]
fn a_named_leader_is_gone_to_at_once() {
    // D2, KIP-951
    let mut world = ready(2, 2);
    moves(&mut world, 0, 2);
    let start = world.ms();
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert!(world.ms() - start <= 10, "without backoff: {} ms", world.ms() - start);
    world.end();
}

#[test]
fn without_a_name_the_new_leader_is_asked_for() {
    // D2
    let mut world = ready(2, 2);
    world.model.names_leaders = false;
    moves(&mut world, 0, 2);
    let start = world.ms();
    let ids = world.send_many(5);
    world.settle();
    world.assert_written(&ids);
    assert!(world.ms() - start <= 500);
    world.end();
}

#[test]
fn a_hint_without_a_higher_epoch_is_not_followed_in_circles() {
    // D2: two brokers that each name the other.
    let mut world = ready(2, 1);
    let hint =
        |leader| Answer { hint: Some((leader, 5)), ..Answer::code(ErrorCode::NotLeaderOrFollower) };
    world.script([hint(2); 6]);
    let before = (world.produces().len(), world.ms());
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert!(world.ms() - before.1 > 1000, "it backed off");
    world.end();
}

#[test]
fn errors_by_the_dozen_become_few_refreshes() {
    // D2
    let mut world = ready(1, 30);
    let before = world.count(ApiKey::Metadata);
    for at in 0..30 {
        let answers = world.model.answers.entry(("t".into(), at)).or_default();
        answers.extend([Answer::code(ErrorCode::NotLeaderOrFollower); 5]);
        world.send_to("t", Some(at));
    }
    world.settle();
    let asked = world.count(ApiKey::Metadata) - before;
    assert!(asked <= 20, "{asked} refreshes");
    world.end();
}

#[test]
fn a_first_answer_with_errors_is_asked_again() {
    // D3
    let mut world = World::with(1, 2, |_| {});
    for at in 0..2 {
        world.model.part(&("t".into(), at)).leader = -1;
    }
    let ids = [world.send_to("t", Some(0)), world.send_to("t", Some(1))];
    world.run(3000);
    assert!(!world.is_resolved(ids[0]));
    for at in 0..2 {
        moves(&mut world, at, 1);
    }
    world.run(3000);
    world.assert_written(&ids);
    world.end();
}

#[test]
fn a_partition_without_a_leader_is_waited_for_and_the_others_go_on() {
    // D4
    let mut world = ready(2, 2);
    moves(&mut world, 0, -1);
    let stuck = world.send_to("t", Some(0));
    let good = world.send_to("t", Some(1));
    world.run(5000);
    assert!(world.is_resolved(good) && !world.is_resolved(stuck));
    moves(&mut world, 0, 2);
    world.run(3000);
    world.assert_written(&[stuck]);
    world.end();
}

#[test]
fn a_partition_that_waits_for_a_dead_leader_goes_to_the_new_one() {
    // D2, C4: it stood in the queue of a broker that cannot be reached.
    let mut world = ready(3, 3);
    world.node(2).up = false;
    world.kill_links(2);
    let stuck = world.send_to("t", Some(1));
    world.run(500);
    assert!(!world.is_resolved(stuck));
    moves(&mut world, 1, 3);
    world.run(5000);
    assert!(world.is_resolved(stuck), "the new leader is there, and known");
    world.end();
}

#[test]
fn a_leader_that_is_no_broker_of_the_cluster_is_asked_for_again() {
    // D3, D4
    let mut world = ready(2, 1);
    world.node(1).view = Some(shows(9, 6));
    world.node(2).view = Some(shows(9, 6));
    world.producer.refresh.want();
    world.run(1500);
    let id = world.send();
    world.run(3000);
    assert!(!world.is_resolved(id));
    moves(&mut world, 0, 2);
    moves(&mut world, 0, 2);
    world.node(1).view = None;
    world.node(2).view = None;
    world.run(5000);
    assert!(world.is_resolved(id), "it was asked for until the leader was known");
    world.end();
}

#[test]
fn a_broker_that_moved_to_another_address_is_followed() {
    let mut world = ready(2, 2);
    world.node(1).host = "elsewhere".into();
    // Whoever answers at the old address leads nothing.
    moves(&mut world, 0, 1);
    world.script([Answer::code(ErrorCode::NotLeaderOrFollower)]);
    let id = world.send();
    world.run(3000);
    world.assert_written(&[id]);
    assert!(world.connects.iter().any(|(_, to)| to == "elsewhere:9092"));
    world.end();
}

#[test]
fn metadata_is_asked_again_when_it_is_old() {
    let mut world = World::with(1, 1, |config| {
        config.metadata_max_age = Duration::from_secs(10);
        config.metadata_max_idle = Duration::from_secs(1000);
    });
    world.send();
    world.settle();
    let before = world.count(ApiKey::Metadata);
    world.run(100_000);
    let asked = world.count(ApiKey::Metadata) - before;
    assert!((9..=11).contains(&asked), "{asked} refreshes in 100 s");
    world.end();
}

#[test]
fn an_idle_topic_is_left_out_until_it_is_used_again() {
    let mut world = World::with(2, 1, |config| {
        config.metadata_max_age = Duration::from_secs(10);
        config.metadata_max_idle = Duration::from_secs(20);
        config.connections_max_idle = None;
    });
    world.model.create("u", 1);
    world.send();
    world.send_to("u", Some(0));
    world.settle();
    for _ in 0..10 {
        world.run(5000);
        world.send_to("u", Some(0));
    }
    world.settle();
    let last = world.model.seen.iter().rfind(|it| it.api == ApiKey::Metadata).expect("asked");
    assert_eq!(last.names, ["u"]);
    moves(&mut world, 0, 2);
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    world.end();
}

#[test]
fn a_topic_with_records_on_their_way_is_never_idle() {
    // B4: its delivery timeout is longer than metadata.max.idle.ms.
    let mut world = World::with(2, 1, |config| {
        config.metadata_max_idle = Duration::from_secs(5);
        config.delivery_timeout = Duration::from_secs(120);
    });
    world.send();
    world.settle();
    moves(&mut world, 0, -1);
    let id = world.send();
    world.run(30_000);
    moves(&mut world, 0, 2);
    world.run(5000);
    assert!(world.is_resolved(id));
    world.end();
}

#[test]
fn a_topic_is_created_by_asking_for_it() {
    let mut world = World::with(1, 0, |_| {});
    world.model.creates = Some(2);
    let ids: Vec<u64> = (0..6).map(|at| world.send_to("new", Some(at % 2))).collect();
    world.settle();
    world.assert_written(&ids);
    world.end();
}

#[test]
fn those_who_wait_for_a_topic_are_served_in_order() {
    let mut world = World::with(1, 0, |_| {});
    let ids: Vec<u64> = (0..20).map(|_| world.send_to("late", Some(0))).collect();
    world.run(2000);
    world.model.create("late", 1);
    world.settle();
    world.assert_written(&ids);
    let log = &world.model.part(&("late".into(), 0)).log.ids;
    assert_eq!(*log, ids);
    world.end();
}

#[test]
fn an_unknown_topic_is_asked_for_while_somebody_waits_and_then_no_more() {
    let mut world = World::with(1, 1, |config| config.allow_auto_create_topics = false);
    let id = world.send_to("missing", Some(0));
    world.run(10_000);
    let topic = world.topic("missing");
    assert_eq!(topic.obstacle(), Obstacle::Broker(ErrorCode::UnknownTopicOrPartition));
    assert!(world.model.seen.iter().all(|it| !it.create));
    assert_eq!(world.give_up_waiting(), 1);
    assert!(world.records[id as usize].delivery.is_none());
    world.run(2000);
    let before = world.count(ApiKey::Metadata);
    world.run(60_000);
    assert!(world.count(ApiKey::Metadata) - before <= 1);
    // It comes to be, and those who ask later are served.
    world.model.create("missing", 1);
    let later = world.send_to("missing", Some(0));
    world.settle();
    world.assert_written(&[later]);
    world.end();
}

#[test]
fn an_unknown_topic_does_not_keep_the_leaders_of_others_from_being_found() {
    // C4, D2
    let mut world = ready(2, 1);
    world.model.names_leaders = false;
    let before = world.model.seen.len();
    world.send_to("missing", Some(0));
    world.run(2000);
    moves(&mut world, 0, 2);
    let id = world.send();
    world.run(3000);
    assert!(world.is_resolved(id));
    assert!(
        world.model.seen[before..].iter().all(|it| !it.create || it.names == ["missing"]),
        "a known topic is never asked for in a way that would create it"
    );
    assert_eq!(world.give_up_waiting(), 1);
    world.end();
}

#[test]
fn invalid_and_forbidden_topics_fail_those_who_wait_at_once() {
    for code in [ErrorCode::InvalidTopicException, ErrorCode::TopicAuthorizationFailed] {
        let mut world = World::with(1, 1, |_| {});
        world.model.create("bad", 1);
        world.model.topics.get_mut("bad").expect("made").error = Some(code);
        let ids = [world.send_to("bad", Some(0)), world.send_to("bad", Some(0))];
        world.run(200);
        for id in ids {
            assert_eq!(world.records[id as usize].refused, Some(Refusal::Topic(code)));
        }
        // The right is granted; who asks then is served.
        world.model.topics.get_mut("bad").expect("made").error = None;
        let later = world.send_to("bad", Some(0));
        world.settle();
        world.assert_written(&[later]);
        world.end();
    }
}

#[test]
fn a_topic_made_anew_is_gone_for_its_old_handle_and_there_for_a_new_one() {
    let mut world = ready(1, 2);
    let old = world.topic("t");
    world.model.topics.remove("t");
    // What is on its way meets UNKNOWN_TOPIC_ID.
    let flying = world.send();
    world.run(50);
    let queued = world.send_many(3);
    world.model.create("t", 2);
    world.run(5000);
    assert!(world.traces.iter().any(|(_, it)| matches!(it, Trace::TopicGone { .. })));
    for id in queued.iter().chain([&flying]) {
        assert_eq!(world.cause(*id), Cause::TopicGone);
        assert_eq!(world.fate(*id), Fate::NotWritten);
    }
    let refused = world.send_on(&old, Some(0), 16);
    assert_eq!(world.records[refused as usize].refused, Some(Refusal::TopicGone));
    let fresh = world.topic("t");
    assert_ne!(fresh.index(), old.index());
    let ids: Vec<u64> = (0..5).map(|_| world.send_on(&fresh, Some(0), 16)).collect();
    world.run(3000);
    assert!(ids.iter().all(|id| world.is_resolved(*id)), "the new handle works");
    world.assert_written(&ids);
    // Should the old topic come back, no stamp is used there twice (S3).
    let epochs: Vec<i16> = world.monitor.epochs.iter().map(|(_, epoch)| *epoch).collect();
    assert_eq!(epochs, [0, 1]);
    world.model.lossy = true;
    world.end();
}

#[test]
fn answers_for_a_topic_that_went_meanwhile_do_not_break_the_connection() {
    let mut world = ready(1, 1);
    world.model.create("u", 1);
    world.send_to("u", Some(0));
    world.settle();
    world.react(ApiKey::Produce, Reaction::Delay(3000));
    world.react(ApiKey::Produce, Reaction::Pass);
    let flying = world.send();
    world.run(10);
    world.model.topics.remove("t");
    world.model.create("t", 1);
    // Two refreshes on a second connection would be needed; the machine is told directly.
    let connects = world.connects.len();
    let index = world.topic("t").index();
    let topic = world.producer.topics[&index].clone();
    world.producer.on_topic_gone(&topic);
    world.drain();
    assert_eq!(world.fate(flying), Fate::Unknown, "its request has no answer yet");
    world.run(4000);
    assert_eq!(world.connects.len(), connects, "the connection was kept");
    world.model.lossy = true;
    world.end();
}

#[test]
fn a_new_topic_id_is_believed_when_it_is_seen_twice() {
    // D1: one lagging broker is not enough.
    let mut world = ready(1, 1);
    let mut other = world.model.topics["t"].id;
    other.0[0] ^= 1;
    let lies = std::cell::Cell::new(1);
    world.node(1).view = Some(Box::new(move |response| {
        if lies.replace(0) == 1 {
            response.topics[0].topic_id = other;
        }
    }));
    world.producer.refresh.want();
    world.run(3000);
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert!(!world.traces.iter().any(|(_, it)| matches!(it, Trace::TopicGone { .. })));
    world.end();
}

#[test]
fn partitions_that_are_added_are_used() {
    let mut world = ready(1, 2);
    let part = world.model.part(&("t".into(), 0)).clone();
    let fresh = super::peer::Part { log: Default::default(), ..part };
    world.model.topics.get_mut("t").expect("made").parts.push(fresh);
    world.producer.refresh.want();
    let nobody = world.send_to("t", Some(2));
    assert!(matches!(
        world.records[nobody as usize].refused,
        Some(Refusal::UnknownPartition { partition: 2, partitions: 2 })
    ));
    world.run(2000);
    let id = world.send_to("t", Some(2));
    world.settle();
    world.assert_written(&[id]);
    world.end();
}

#[test]
fn fewer_partitions_than_before_take_none_away() {
    // A22, D4
    let mut world = ready(1, 3);
    world.node(1).view = Some(Box::new(|response| {
        for topic in &mut response.topics {
            topic.partitions.truncate(1);
        }
    }));
    world.producer.refresh.want();
    world.run(2000);
    let ids = [world.send_to("t", Some(2)), world.send_to("t", Some(0))];
    world.settle();
    world.assert_written(&ids);
    world.end();
}

/// Two brokers from before topic ids: only leader epochs tell old metadata from new.
fn without_topic_ids() -> World {
    let mut world = World::with(2, 1, |_| {});
    for node in 1..=2 {
        world.node(node).limit(ApiKey::Metadata, (0, 9));
        world.node(node).limit(ApiKey::Produce, (0, 9));
    }
    world
}

/// Leader epochs begin anew, and so must what is believed. Nobody can tell the producer, so its
/// sequence goes on; a broker without state takes it.
fn make_anew(world: &mut World) {
    world.model.topics.remove("t");
    world.monitor.start = 1;
    world.model.create("t", 1);
    let part = world.model.part(&("t".into(), 0));
    (part.leader, part.epoch) = (2, 0);
}

/// The record is written; what stood in the topic before is not there any more.
fn end_anew(mut world: World, id: u64) {
    world.run(5000);
    world.assert_written(&[id]);
    world.model.lossy = true;
    world.end();
}

#[test]
fn a_topic_made_anew_where_brokers_tell_no_ids_is_written_to_again() {
    // D1.
    let mut world = without_topic_ids();
    world.send();
    world.settle();
    world.model.topics.remove("t");
    world.monitor.start = 1;
    let id = world.send();
    world.run(1000);
    make_anew(&mut world);
    end_anew(world, id);
}

#[test]
fn a_topic_made_anew_without_ids_while_nobody_listened_is_written_to_again() {
    // D1: no answer ever said that the topic was gone; its old leader denies what is believed.
    let mut world = without_topic_ids();
    let first = world.send();
    world.settle();
    assert!(world.is_resolved(first));
    make_anew(&mut world);
    let id = world.send();
    end_anew(world, id);
}

#[test]
fn a_topic_made_anew_without_ids_while_it_had_no_leader_is_written_to_again() {
    // D1: nobody is believed to lead, so nobody can deny it.
    let mut world = without_topic_ids();
    let first = world.send();
    world.settle();
    assert!(world.is_resolved(first));
    let part = world.model.part(&("t".into(), 0));
    (part.leader, part.epoch) = (-1, 7);
    let id = world.send();
    world.run(2000);
    make_anew(&mut world);
    end_anew(world, id);
}

#[test]
fn a_silent_bootstrap_server_does_not_keep_the_next_from_being_tried() {
    // D5, D6
    use crate::config::Address;
    let mut world = World::with(2, 1, |config| {
        config.bootstrap_servers = ["nowhere", "b2"].map(|host| Address::new(host, 9092)).to_vec();
        config.socket_connection_setup_timeout = Duration::from_secs(10);
    });
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert!(world.ms() < 25_000);
    world.end();
}

#[test]
fn a_leader_that_does_not_answer_a_connect_does_not_hold_up_the_search_for_another() {
    // D2, D6
    use crate::config::Address;
    let mut world = World::with(3, 3, |config| {
        config.bootstrap_servers = vec![Address::new("b2", 9092)];
        config.socket_connection_setup_timeout = Duration::from_secs(30);
    });
    world.send_to("t", Some(1));
    world.settle();
    world.producer.refresh.want();
    world.run(200);
    // The only broker there is a connection to vanishes without a word, just after a refresh.
    world.producer.refresh.want();
    world.send_to("t", Some(1));
    world.settle();
    world.node(2).vanished = true;
    world.kill_links(2);
    moves(&mut world, 1, 3);
    let id = world.send_to("t", Some(1));
    world.run(5000);
    assert!(world.is_resolved(id), "another broker was asked");
    world.node(2).vanished = false;
    world.end();
}

/// How many answers about metadata were taken in.
fn heard(world: &World) -> u64 {
    world.producer.accumulator.counters().snapshot().metadata_refreshes
}

/// The last broker that was asked for metadata.
fn last_asked(world: &World) -> i32 {
    let asked = world.model.seen.iter().rfind(|it| it.api == ApiKey::Metadata);
    asked.expect("metadata was asked for").node
}

#[test]
fn a_broker_that_owes_metadata_does_not_hold_up_what_another_can_tell() {
    // D2, D7: the answer may stand behind one that comes at request.timeout.ms, or never.
    let mut world = ready(3, 3);
    world.model.names_leaders = false;
    (1..=3).for_each(|node| world.node(node).held = true);
    world.producer.refresh.want();
    world.run(200);
    let silent = last_asked(&world);
    let others: Vec<i32> = (1..=3).filter(|node| *node != silent).collect();
    others.iter().for_each(|node| world.release(*node));
    let [from, to] = others[..] else { panic!("two are left") };
    let led = |world: &mut World, at: i32| world.model.part(&("t".into(), at)).leader == from;
    let partition = (0..3).find(|at| led(&mut world, *at)).expect("each leads one");
    moves(&mut world, partition, to);
    let id = world.send_to("t", Some(partition));
    world.run(3000);
    assert!(world.is_resolved(id), "another broker was asked");
    let before = heard(&world);
    world.release(silent);
    world.run(200);
    assert_eq!(heard(&world), before, "an answer that was given up is out of date");
    world.end();
}

#[test]
fn where_only_a_silent_broker_is_connected_another_is_sought() {
    // D5, D7
    let mut world = ready(2, 1);
    assert!(world.conns(2).is_empty(), "it leads nothing");
    world.node(1).held = true;
    world.producer.refresh.want();
    world.run(500);
    assert_eq!(last_asked(&world), 1);
    world.run(2000);
    assert_eq!(last_asked(&world), 2);
    world.release(1);
    world.end();
}

#[test]
fn brokers_that_are_all_slow_are_heard_in_the_end() {
    // Each answer takes longer than what is waited for before the other broker is asked.
    let mut world = ready(2, 2);
    for node in 1..=2 {
        let slow = std::iter::repeat_n(Reaction::Delay(5000), 30);
        world.node(node).react(ApiKey::Metadata, slow);
    }
    let before = heard(&world);
    world.producer.refresh.want();
    world.run(15_000);
    assert!(heard(&world) > before, "patience grows");
    world.end();
}
