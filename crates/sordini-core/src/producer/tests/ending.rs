//! Flush, close and abandon, in every state.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::{Answer, Reaction};
use super::world::World;
use crate::accumulator::{Intent, Provision};
use crate::batch::completion::{BatchDeliveries, Outcome};
use crate::batch::open::EXPLOSIVE;
use crate::config::Codec;
use crate::error::{Cause, Fate, Refusal};
use crate::producer::io::Finished;
use crate::record::Record;

/// Ways to be stuck: how to get there, with records accepted that are not resolved.
fn stuck_worlds() -> Vec<(&'static str, World)> {
    let build = |set: fn(&mut crate::config::Config), stick: fn(&mut World)| {
        let mut world = World::with(2, 2, set);
        world.send_to("t", Some(0));
        world.send_to("t", Some(1));
        world.settle();
        stick(&mut world);
        world.send_many(7);
        world.run(30);
        world
    };
    vec![
        ("in flight", build(|_| {}, |world| world.node(1).silent = true)),
        (
            "disconnected",
            build(
                |_| {},
                |world| {
                    world.node(1).up = false;
                    world.kill_links(1);
                },
            ),
        ),
        (
            "no leader",
            build(
                |_| {},
                |world| {
                    let part = world.model.part(&("t".into(), 0));
                    (part.leader, part.epoch) = (-1, part.epoch + 1);
                },
            ),
        ),
        (
            "in backoff",
            build(
                |_| {},
                |world| {
                    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 100]);
                },
            ),
        ),
        (
            "ambiguous",
            build(
                |_| {},
                |world| {
                    world.script([Answer::after_append(ErrorCode::RequestTimedOut); 100]);
                },
            ),
        ),
        ("stalled", build(|_| {}, |world| world.net.stalled = true)),
        (
            "muted",
            build(
                |_| {},
                |world| {
                    world.react(ApiKey::Produce, Reaction::Throttle(50_000));
                    world.send();
                    world.settle();
                },
            ),
        ),
        (
            "compressing",
            build(
                |config| config.compression_type = Codec::Lz4,
                |world| {
                    world.net.compress = Duration::from_secs(20);
                },
            ),
        ),
        (
            "lingering",
            build(
                |config| {
                    config.linger = Duration::from_secs(60);
                    config.batch_size = 16_384;
                    config.delivery_timeout = Duration::from_secs(120);
                },
                |_| {},
            ),
        ),
        (
            "without an id",
            build(
                |_| {},
                |world| {
                    world.node(1).react(ApiKey::InitProducerId, [Reaction::Ignore]);
                    world.node(2).react(ApiKey::InitProducerId, [Reaction::Ignore]);
                    world.script([Answer::code(ErrorCode::InvalidRecord)]);
                    world.producer.identity = crate::idempotence::Identity::new(true);
                    world.send();
                    world.run(50);
                },
            ),
        ),
        (
            "broken",
            build(
                |_| {},
                |world| {
                    world.script([
                        Answer::code(ErrorCode::InvalidRecord),
                        Answer::code(ErrorCode::RequestTimedOut),
                    ]);
                    world.script([Answer::code(ErrorCode::NotEnoughReplicas); 100]);
                },
            ),
        ),
    ]
}

#[test]
fn a_close_ends_at_its_deadline_in_every_state() {
    // B14
    for (state, mut world) in stuck_worlds() {
        let token = world.close(3000);
        world.run(3001);
        assert!(world.is_finished(token), "{state}");
        for id in 0..world.records.len() as u64 {
            if world.records[id as usize].delivery.is_some() {
                assert!(world.is_resolved(id), "{state}");
            }
        }
        world.net.stalled = false;
        world.run(60_000);
        world.check();
    }
}

#[test]
fn a_close_without_patience_ends_at_once_in_every_state() {
    // B14
    for (state, mut world) in stuck_worlds() {
        let token = world.close(0);
        assert!(world.is_finished(token), "{state}");
        world.run(60_000);
        world.check();
    }
}

#[test]
fn abandon_resolves_everything_at_once_in_every_state() {
    for (state, mut world) in stuck_worlds() {
        let flush = world.flush();
        world.producer.abandon();
        world.drain();
        assert!(world.is_finished(flush), "{state}");
        for id in 0..world.records.len() as u64 {
            if world.records[id as usize].delivery.is_some() {
                assert!(world.is_resolved(id), "{state}");
            }
        }
        world.producer.abandon();
        world.run(60_000);
        world.check();
    }
}

#[test]
fn a_close_tells_what_it_gave_up_and_with_which_fate() {
    for (state, mut world) in stuck_worlds() {
        let written = world.metric(|it| it.records_written);
        world.close(0);
        let counts = world.producer.accumulator().counters().snapshot();
        let accepted = world.records.iter().filter(|it| it.delivery.is_some()).count() as u64;
        let told = counts.records_written + counts.records_not_written + counts.records_unknown;
        assert_eq!(told, accepted, "{state}");
        assert_eq!(counts.records_written, written);
        let unsent = ["disconnected", "compressing", "lingering", "muted"];
        if unsent.contains(&state) {
            assert_eq!(counts.records_unknown, 0, "{state}: not a byte of them left");
        }
        world.run(60_000);
        world.check();
    }
}

#[test]
fn a_close_delivers_what_was_accepted_and_refuses_what_comes() {
    let mut world = World::with(1, 1, |config| {
        config.linger = Duration::from_secs(60);
        config.batch_size = 16_384;
    });
    let ids = world.send_many(5);
    world.run_until(1000, |world| world.records.iter().all(|it| it.delivery.is_some()));
    let token = world.close(10_000);
    let late = world.send();
    assert_eq!(world.records[late as usize].refused, Some(Refusal::Closed));
    world.run_until(1000, |world| world.is_finished(token));
    world.assert_written(&ids);
    let again = world.close(5);
    assert_eq!(world.finished.last(), Some(&(again, Finished::Closed)));
    world.check();
}

#[test]
fn a_second_close_brings_the_deadline_forward_but_not_back() {
    // B14
    let mut world = World::new();
    world.send();
    world.settle();
    world.node(1).silent = true;
    let id = world.send();
    let first = world.close(20_000);
    let later = world.close(50_000);
    world.run(1000);
    let sooner = world.close(1000);
    world.run(1100);
    assert!([first, later, sooner].iter().all(|token| world.is_finished(*token)));
    assert_eq!(world.cause(id), Cause::Closed);
    assert_eq!(world.fate(id), Fate::Unknown);
    world.check();
}

#[test]
fn a_flush_after_the_close_is_answered() {
    // B3
    let mut world = World::new();
    world.send();
    world.settle();
    world.close(0);
    let token = world.flush();
    assert!(world.is_finished(token));
    world.check();
}

#[test]
fn a_close_of_a_producer_that_was_never_used_is_immediate() {
    let mut world = World::new();
    let token = world.close(1000);
    assert!(world.is_finished(token));
    world.check();
}

#[test]
fn those_who_wait_for_a_topic_or_memory_are_let_go_at_close() {
    let mut world = World::with(1, 1, |config| {
        config.batch_size = 2048;
        config.buffer_memory = 2048;
        config.allow_auto_create_topics = false;
    });
    let topic = world.topic("t");
    world.send();
    world.settle();
    world.node(1).silent = true;
    let nowhere = world.send_to("missing", Some(0));
    world.send_on(&topic, Some(0), 1900);
    let hungry = world.send_on(&topic, Some(0), 1900);
    world.run(10);
    world.close(0);
    world.run(10);
    assert_eq!(world.records[nowhere as usize].refused, Some(Refusal::Closed));
    assert_eq!(world.records[hungry as usize].refused, Some(Refusal::Closed));
    world.check();
}

#[test]
fn a_flush_while_records_expire_ends_with_them() {
    // B13
    let mut world = World::with(1, 1, |config| {
        config.request_timeout = Duration::from_secs(5);
        config.delivery_timeout = Duration::from_secs(6);
    });
    world.send();
    world.settle();
    world.node(1).silent = true;
    let ids = world.send_many(12);
    world.run(10);
    let token = world.flush();
    world.run_until(7000, |world| world.is_finished(token));
    assert!(ids.iter().all(|id| world.is_resolved(*id)));
    world.node(1).silent = false;
    world.send();
    world.end();
}

#[test]
fn what_failed_is_handed_back_once_and_goes_on_being_charged_until_it_is_taken() {
    // S6: refused, expired in its lane, in backoff, in flight; and the children of a split.
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = World::returning(1, 2, |config| {
            config.compression_type = codec;
            config.batch_size = 400;
            config.linger = Duration::from_millis(5);
            config.request_timeout = Duration::from_secs(5);
            config.delivery_timeout = Duration::from_secs(6);
        });
        let topic = world.topic("t");
        world.send();
        world.send_to("t", Some(1));
        world.settle();
        world.script([
            Answer::code(ErrorCode::MessageTooLarge),
            Answer::code(ErrorCode::InvalidRecord),
        ]);
        let first: Vec<u64> = (0..4).map(|_| world.send_on(&topic, Some(0), 60)).collect();
        world.settle();
        assert_eq!(world.take_returned(), first[..2]);
        world.node(1).silent = true;
        let lost: Vec<u64> = (0..60).map(|_| world.send_on(&topic, Some(1), 60)).collect();
        world.settle();
        world.run(10_000);
        assert!(world.producer.accumulator().memory().reserved() > 0);
        assert_eq!(world.take_returned(), lost);
        assert_eq!(world.producer.accumulator().memory().reserved(), 0);
        world.node(1).silent = false;
        world.send();
        world.end();
    }
}

/// A record whose append panics when its bytes are half in the batch.
fn explosive() -> Intent<'static> {
    let record = Record { key: Some(EXPLOSIVE), value: Some(b"half"), ..Record::default() };
    Intent { record, partition: Some(0) }
}

fn explode(world: &mut World, intents: &[Intent<'_>]) -> BatchDeliveries {
    let topic = world.topic("t");
    let accumulator = Arc::clone(world.producer.accumulator());
    let mut deliveries = BatchDeliveries::default();
    let mut provision = Provision::default();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        accumulator.append_run(&topic, intents, Some(&mut deliveries), &mut provision)
    }));
    assert!(panicked.is_err(), "as ordered");
    deliveries
}

#[test]
fn a_batch_whose_append_panicked_fails_unwritten_and_its_partition_goes_on() {
    let mut world = World::returning(1, 1, |config| {
        config.batch_size = 16_384;
        config.linger = Duration::from_millis(50);
    });
    world.send();
    world.settle();
    let before = world.send_many(2);
    drop(explode(&mut world, &[explosive()]));
    let after = world.send_many(2);
    world.settle();
    for id in &before {
        assert_eq!((world.fate(*id), world.cause(*id)), (Fate::NotWritten, Cause::Damaged));
    }
    assert_eq!(world.take_returned(), before, "they are handed back whole");
    world.assert_written(&after);
    assert_eq!(world.metric(|it| it.epoch_bumps), 0, "no sequence was used");
    world.end();
}

#[test]
fn records_of_a_run_that_panicked_are_told_though_nobody_appends_again() {
    let mut world = World::with(1, 1, |config| config.batch_size = 16_384);
    world.send();
    world.settle();
    // The run's first record opens the batch, and the control plane has not heard of it yet.
    let first = Intent { record: Record { value: Some(b"v"), ..Record::default() }, ..explosive() };
    for flushes in [false, true] {
        let mut deliveries = pin!(explode(&mut world, &[first, explosive()]));
        let flushed = flushes.then(|| world.flush());
        world.run(100);
        let told = deliveries.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(outcomes) = told else { panic!("it has no outcome") };
        let Outcome::Failed(error) = &outcomes[0].outcome else { panic!("{outcomes:?}") };
        assert_eq!((error.fate, &error.cause), (Fate::NotWritten, &Cause::Damaged));
        assert_eq!(outcomes[0].count, 1);
        assert!(flushed.is_none_or(|token| world.is_finished(token)), "B13: the flush ends too");
    }
    world.end();
}

#[test]
fn what_fails_while_its_codec_works_is_handed_back_when_that_is_done() {
    let mut world = World::returning(1, 1, |config| {
        config.compression_type = Codec::Gzip;
        config.request_timeout = Duration::from_secs(5);
        config.delivery_timeout = Duration::from_secs(6);
    });
    world.send();
    world.settle();
    world.net.compress = Duration::from_secs(20);
    let lost = world.send_many(2);
    world.settle();
    assert!(lost.iter().all(|id| world.fate(*id) == Fate::NotWritten), "told in time");
    assert_eq!(world.take_returned(), []);
    world.run(20_000);
    assert_eq!(world.take_returned(), lost);
    assert_eq!(world.producer.accumulator().memory().reserved(), 0);
    // A close tells at its deadline, and ends when it has handed back everything.
    let last = world.send();
    let token = world.close(1000);
    world.run(1100);
    assert_eq!((world.fate(last), world.is_finished(token)), (Fate::NotWritten, false));
    world.run_until(20_000, |world| world.is_finished(token));
    assert_eq!(world.take_returned(), [last]);
    world.check();
}
