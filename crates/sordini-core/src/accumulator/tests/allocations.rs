//! The promise of the hot path: what an append allocates, it allocates per batch.

use std::sync::Arc;

use super::{World, take_all, value};
use crate::accumulator::topic::Topic;
use crate::accumulator::{Intent, Provision};
use crate::batch::completion::BatchDeliveries;
use crate::record::{Header, Record};

/// A world in which every pool, queue and list has had its first fill.
fn warm(partitions: u32) -> (World, Arc<Topic>) {
    let world = World::new(|_| {});
    let topic = world.topic(partitions);
    let mut provision = Provision::default();
    for _ in 0..5000 {
        world.accumulator.try_append(&topic, &value(&[0; 100]), false, &mut provision).unwrap();
    }
    topic.lanes().for_each(|lane| drop(take_all(lane)));
    drop(world.events());
    (world, topic)
}

fn count(act: impl FnOnce()) -> u64 {
    allocation_counter::measure(act).count_total
}

/// Allocations of a batch: its completion, its list of segments, and now and then a queue that
/// doubles.
const PER_BATCH: u64 = 3;

#[test]
fn an_append_to_an_open_batch_allocates_nothing() {
    let (world, topic) = warm(1);
    let mut provision = Provision::default();
    world.append(&topic, 0, b"opens the batch");
    let headers = [Header { name: "h", value: Some(b"1") }; 3];
    let key = Some(&b"key"[..]);
    let record = Record { key, value: Some(&[7; 40]), headers: &headers, timestamp: Some(5) };
    let mut receipts = Vec::with_capacity(1000);
    let allocated = count(|| {
        for at in 0..10 {
            let intent = Intent { record, partition: (at % 2 == 0).then_some(0) };
            let receipt =
                world.accumulator.try_append(&topic, &intent, true, &mut provision).unwrap();
            receipts.extend(receipt);
            world.accumulator.try_append(&topic, &intent, false, &mut provision).unwrap();
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn appends_allocate_per_batch_and_never_per_record() {
    for (partitions, receipt) in [(1, false), (1, true), (6, false), (6, true)] {
        let (world, topic) = warm(partitions);
        let mut provision = Provision::default();
        let mut receipts = Vec::with_capacity(20_000);
        let before = world.accumulator.counters().snapshot().batches_opened;
        let allocated = count(|| {
            for _ in 0..20_000 {
                let intent = value(&[0; 100]);
                let delivery =
                    world.accumulator.try_append(&topic, &intent, receipt, &mut provision);
                receipts.extend(delivery.unwrap());
            }
        });
        let opened = world.accumulator.counters().snapshot().batches_opened - before;
        assert!(opened < 200);
        // Buffers that the pool does not hold yet are allocated once.
        assert!(allocated <= (PER_BATCH + 2) * opened + 20, "{allocated} for {opened} batches");
    }
}

#[test]
fn bursts_allocate_per_batch_and_never_per_record() {
    let (world, topic) = warm(1);
    let mut provision = Provision::default();
    let intents = [value(&[0; 100]); 32];
    let mut receipts = BatchDeliveries::default();
    let before = world.accumulator.counters().snapshot().batches_opened;
    let allocated = count(|| {
        for _ in 0..600 {
            let receipts = Some(&mut receipts);
            world.accumulator.append_run(&topic, &intents, receipts, &mut provision).1.unwrap();
        }
    });
    let opened = world.accumulator.counters().snapshot().batches_opened - before;
    assert!(allocated <= (PER_BATCH + 2) * opened + 20, "{allocated} for {opened} batches");
    assert_eq!(receipts.len(), 32 * 600);
}

#[test]
fn an_append_that_is_refused_allocates_nothing() {
    let (world, topic) = warm(1);
    world.accumulator.close();
    let mut provision = Provision::default();
    let allocated = count(|| {
        let refused = world.accumulator.try_append(&topic, &value(b"v"), true, &mut provision);
        assert!(refused.is_err());
    });
    assert_eq!(allocated, 0);
}
