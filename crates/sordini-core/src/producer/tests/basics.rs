//! The happy path, and when a batch leaves.

use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::Reaction;
use super::world::World;
use crate::batch::completion::Deduplicated;
use crate::config::{Acks, Codec};
use crate::producer::io::Trace;

#[test]
fn many_partitions_travel_in_one_request() {
    let mut world = World::with(1, 8, |config| config.linger = Duration::from_millis(5));
    world.send_to("t", Some(0));
    world.settle();
    let before = world.produces().len();
    for partition in 0..8 {
        world.send_to("t", Some(partition));
    }
    world.settle();
    assert_eq!(world.produces().len(), before + 1);
    assert_eq!(world.produces()[before].batches.len(), 8);
    world.end();
}

#[test]
fn a_record_is_written_at_the_offset_that_is_told() {
    let mut world = World::new();
    let ids = world.send_many(20);
    world.settle();
    for (offset, id) in ids.iter().enumerate() {
        let written = world.outcome(*id).expect("written");
        assert_eq!(written.offset, Some(offset as i64));
        assert_eq!(written.partition, 0);
        assert_eq!(written.deduplicated, Deduplicated::No);
    }
    assert_eq!(world.log(), ids);
    assert_eq!(world.metric(|it| it.records_written), 20);
    world.end();
}

#[test]
fn nothing_is_asked_before_a_topic_is_wanted() {
    let mut world = World::new();
    world.run(10_000);
    assert!(world.model.seen.is_empty());
    assert!(world.connects.is_empty());
    world.send();
    world.end();
}

#[test]
fn linger_holds_an_open_batch_and_not_longer() {
    let mut world = World::with(1, 1, |config| {
        config.batch_size = 16_384;
        config.linger = Duration::from_millis(50);
    });
    let first = world.send();
    world.settle();
    let start = world.ms();
    let ids = world.send_many(3);
    let sent = world.produces().len();
    world.run(48);
    assert_eq!((world.ms() - start, world.produces().len()), (48, sent), "it lingers");
    world.run(2);
    assert_eq!(
        world.produces().len(),
        sent + 1,
        "a timer that is late by a millisecond is in time"
    );
    world.settle();
    assert!(world.ms() - start < 60);
    let last = world.produces().last().expect("sent").batches[0].ids.clone();
    assert_eq!(last, ids);
    world.assert_written(&[first]);
    world.end();
}

#[test]
fn a_full_batch_does_not_linger() {
    let mut world = World::with(1, 1, |config| {
        config.batch_size = 300;
        config.linger = Duration::from_secs(60);
    });
    let topic = world.topic("t");
    let ids: Vec<u64> = (0..4).map(|_| world.send_on(&topic, Some(0), 100)).collect();
    world.run_until(1000, |world| world.is_resolved(ids[0]));
    assert!(!world.is_resolved(ids[3]), "the open batch still lingers");
    world.end();
}

#[test]
fn batches_grow_while_the_window_is_full() {
    let mut world = World::with(1, 1, |config| config.batch_size = 16_384);
    world.send();
    world.settle();
    world.node(1).held = true;
    for _ in 0..8 {
        world.send();
        world.run(3);
    }
    // Five are in flight; what came since waits together.
    world.release(1);
    world.settle();
    let sizes: Vec<usize> = world.produces().iter().map(|it| it.batches[0].ids.len()).collect();
    assert_eq!(sizes, [1, 1, 1, 1, 1, 1, 3]);
    world.end();
}

#[test]
fn a_flush_sends_what_lingers_and_waits_for_what_came_before_it_only() {
    let mut world = World::with(1, 3, |config| {
        config.batch_size = 16_384;
        config.linger = Duration::from_secs(60);
    });
    let before: Vec<u64> = (0..3).map(|at| world.send_to("t", Some(at))).collect();
    world.run(100);
    assert!(!world.is_resolved(before[0]));
    let token = world.flush();
    let after = world.send_to("t", Some(0));
    world.run_until(1000, |world| world.is_finished(token));
    assert!(before.iter().all(|id| world.is_resolved(*id)));
    assert!(!world.is_resolved(after), "B13: what came later goes on lingering");
    world.end();
}

#[test]
fn a_flush_waits_for_both_halves_of_a_split_batch() {
    // B13
    let mut world = World::with(1, 1, |config| {
        config.batch_size = 16_384;
        config.linger = Duration::from_secs(60);
    });
    world.send_many(4);
    world.run(10);
    world.model.max_batch = 110;
    let token = world.flush();
    world.run_until(5000, |world| world.is_finished(token));
    assert!((0..4).all(|id| world.is_resolved(id)));
    assert!(world.metric(|it| it.splits) >= 1);
    world.end();
}

#[test]
fn a_flush_of_nothing_is_done_at_once() {
    let mut world = World::new();
    let token = world.flush();
    assert!(world.is_finished(token));
    world.send();
    world.end();
}

#[test]
fn exhausted_memory_ends_the_linger_of_the_oldest_batch() {
    // C5
    let mut world = World::with(1, 4, |config| {
        config.batch_size = 4096;
        config.buffer_memory = 4096;
        config.linger = Duration::from_secs(100);
        config.delivery_timeout = Duration::from_secs(200);
    });
    for at in 0..4 {
        world.send_to("t", Some(at));
    }
    world.run(1000);
    assert_eq!(world.log().len(), 0, "all linger");
    let topic = world.topic("t");
    let waits = world.send_on(&topic, Some(0), 2000);
    world.run(3000);
    assert!(world.records[waits as usize].delivery.is_some(), "it got its memory");
    world.end();
}

#[test]
fn memory_held_by_a_dead_broker_does_not_keep_the_batches_of_others_open() {
    // C4, C5
    let mut world = World::with(2, 2, |config| {
        config.batch_size = 2048;
        // Segments of 4, 1 and 1 KiB, but for a byte.
        config.buffer_memory = 6143;
        config.linger = Duration::from_secs(60);
        config.delivery_timeout = Duration::from_secs(200);
    });
    let topic = world.topic("t");
    world.send_to("t", Some(0));
    world.send_to("t", Some(1));
    world.run(50);
    let token = world.flush();
    world.run_until(5000, |world| world.is_finished(token));
    // Partition 1 is led by the second broker, which goes away with a batch on its way.
    world.node(2).up = false;
    world.node(2).react(ApiKey::Produce, [Reaction::CloseBefore]);
    world.send_on(&topic, Some(1), 1900);
    world.flush();
    world.run(500);
    assert_eq!(world.producer.on_way, 1);
    let lingers = world.send_to("t", Some(0));
    let waits = world.send_on(&topic, Some(0), 900);
    let waits = world.send_on(&topic, Some(0), 900).max(waits);
    assert!(world.records[waits as usize].delivery.is_none());
    world.run(2000);
    assert!(world.is_resolved(lingers), "it was sent to make room");
    assert!(world.records[waits as usize].delivery.is_some(), "it got its memory");
    world.node(2).up = true;
    world.end();
}

#[test]
fn with_acks_0_exhausted_memory_ends_the_linger_too() {
    // B7, C5
    let mut world = World::with(1, 2, |config| {
        config.acks = Acks::None;
        config.enable_idempotence = false;
        config.batch_size = 2048;
        config.buffer_memory = 3072;
        config.linger = Duration::from_secs(60);
        config.delivery_timeout = Duration::from_secs(200);
    });
    let topic = world.topic("t");
    world.send_to("t", Some(1));
    let first = world.send_on(&topic, Some(0), 900);
    world.run(20);
    assert!(!world.is_resolved(first));
    let waits: Vec<u64> = (0..3).map(|_| world.send_on(&topic, Some(0), 1900)).collect();
    world.run(2000);
    let accepted = |id: &u64| world.records[*id as usize].delivery.is_some();
    assert!(waits.iter().all(accepted), "each got its memory");
    world.end();
}

#[test]
fn every_codec_is_written_and_read_back() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = World::with(1, 3, |config| {
            config.compression_type = codec;
            config.batch_size = 2000;
            config.linger = Duration::from_millis(5);
        });
        let topic = world.topic("t");
        let ids: Vec<u64> = (0..60).map(|at| world.send_on(&topic, Some(at % 3), 200)).collect();
        world.settle();
        world.assert_written(&ids);
        let metrics = world.producer.accumulator().counters().snapshot();
        assert!(metrics.bytes_compressed < metrics.bytes_uncompressed);
        world.end();
    }
}

#[test]
fn while_a_codec_works_up_to_five_batches_are_taken_and_sent_in_order() {
    let mut world = World::with(1, 1, |config| config.compression_type = Codec::Lz4);
    world.send();
    world.settle();
    world.net.compress = Duration::from_millis(50);
    let ids = world.send_many(10);
    world.settle();
    assert_eq!(world.log()[1..], ids);
    world.end();
}

#[test]
fn frames_may_come_a_byte_at_a_time_both_ways() {
    let mut world = World::with(1, 2, |_| {});
    world.net.chunk = Some(1);
    world.net.fragment = Some(1);
    let ids: Vec<u64> = (0..20).map(|at| world.send_to("t", Some(at % 2))).collect();
    world.settle();
    world.assert_written(&ids);
    world.end();
}

#[test]
fn every_protocol_version_from_kafka_2_1_on_is_spoken() {
    for produce in 7..=13 {
        for metadata in 4..=13 {
            let mut world = World::new();
            world.node(1).limit(ApiKey::Produce, (0, produce));
            world.node(1).limit(ApiKey::Metadata, (0, metadata));
            world.node(1).limit(ApiKey::InitProducerId, (0, produce.min(5)));
            let ids = world.send_many(3);
            world.settle();
            world.assert_written(&ids);
            let version = world.produces()[0].version;
            // D12: without topic ids in the metadata, names it is.
            assert_eq!(version, if metadata < 10 { produce.min(12) } else { produce });
            world.end();
        }
    }
}

#[test]
fn idempotence_off_asks_for_no_producer_id() {
    let mut world = World::with(1, 1, |config| config.enable_idempotence = false);
    let ids = world.send_many(5);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.count(ApiKey::InitProducerId), 0);
    world.end();
}

#[test]
fn the_machine_tells_what_happens() {
    let mut world = World::new();
    world.react(ApiKey::Produce, Reaction::CloseAfter);
    world.send();
    world.settle();
    let told = |which: fn(&Trace) -> bool| world.traces.iter().any(|(_, trace)| which(trace));
    assert!(told(|it| matches!(it, Trace::Connected { .. })));
    assert!(told(|it| matches!(it, Trace::Disconnected { .. })));
    assert!(told(|it| matches!(it, Trace::ProducerId { producer_id: 7000, epoch: 0 })));
    assert!(told(|it| matches!(it, Trace::Retry { partition: 0, code: None, attempts: 1, .. })));
    assert!(!told(|it| matches!(it, Trace::Retry { code: Some(ErrorCode::None), .. })));
    assert!(told(|it| matches!(it, Trace::Recovered { partition: 0, attempts: 2, .. })));
    world.send();
    world.settle();
    let recoveries = world.traces.iter().filter(|(_, it)| matches!(it, Trace::Recovered { .. }));
    assert_eq!(recoveries.count(), 1, "what is written at once needs no recovery");
    world.end();
}

#[test]
fn a_codec_that_panics_costs_its_batches_their_compression_and_nothing_else() {
    let mut world = World::with(1, 1, |config| config.compression_type = Codec::Gzip);
    world.net.codec_panics = true;
    let ids = world.send_many(3);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.log(), ids);
    let failed = world.traces.iter().filter(|(_, it)| matches!(it, Trace::CodecFailed { .. }));
    assert_eq!(failed.count(), 3, "each is told of");
    world.net.codec_panics = false;
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    world.end();
}
