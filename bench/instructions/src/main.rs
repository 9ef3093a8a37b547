//! What the parts of a record's life cost in instructions: small programs that always do the same,
//! for `cargo xtask instructions`, which runs each under callgrind and compares the counts with
//! expected.tsv.
//!
//! Called with a program's name it runs that and prints how many units the measured part handled;
//! without one it lists the programs.

#![forbid(unsafe_code)]

mod broker;
mod world;

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use sordini_core::accumulator::{Intent, Provision};
use sordini_core::batch::completion::{BatchDeliveries, Delivery};
use sordini_core::config::Codec;
use sordini_core::record::Record;
use sordini_core::wire::compress::Compressor;

use world::World;

/// A program: sets up, hands its work to [`measured`], and returns how many units that handled.
type Program = fn() -> usize;

const PROGRAMS: &[(&str, Program)] = &[
    ("append", append),
    ("append_detached", append_detached),
    ("append_run", append_run),
    ("append_keyed_1000", append_keyed),
    ("take_16k", take_full),
    ("take_one_record", take_small),
    ("response", response),
    ("receipts", receipts),
    ("receipts_run", receipts_run),
    ("life_16k", life_full),
    ("life_one_record", life_small),
    ("compress_lz4_64k", || compressed(Codec::Lz4)),
    ("compress_zstd_64k", || compressed(Codec::Zstd)),
];

fn main() {
    let name = std::env::args().nth(1);
    match PROGRAMS.iter().find(|(known, _)| Some(*known) == name.as_deref()) {
        Some((_, program)) => println!("{}", program()),
        None => PROGRAMS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

/// What callgrind counts is what runs in here; it finds the function by its name.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

const RECORDS: usize = 16_000;

/// The records of a burst.
const RUN: usize = 32;

const PARTITIONS: u32 = 6;

/// A request full of small batches.
const MANY: u32 = 100;

/// What a record of 100 bytes leaves of a batch of 16 KiB.
const FULL: usize = 147;

fn value(bytes: &[u8]) -> Intent<'_> {
    Intent { record: Record { value: Some(bytes), ..Record::default() }, partition: None }
}

/// `Topic::enqueue` down to the lane: a record of 100 bytes, and its receipt.
fn append() -> usize {
    let world = World::new(PARTITIONS, &[]);
    let mut receipts: Vec<Delivery> = Vec::with_capacity(RECORDS);
    let payload = [b'x'; 100];
    measured(|| {
        for _ in 0..RECORDS {
            receipts.push(world.append(&black_box(value(&payload))));
        }
    });
    receipts.len()
}

/// The same without a receipt.
fn append_detached() -> usize {
    let world = World::new(PARTITIONS, &[]);
    let payload = [b'x'; 100];
    measured(|| {
        for _ in 0..RECORDS {
            world.append_detached(&black_box(value(&payload)));
        }
    });
    RECORDS
}

/// `Appender::extend` down to the lane: bursts, with receipts in ranges.
fn append_run() -> usize {
    let world = World::new(PARTITIONS, &[]);
    let payload = [b'x'; 100];
    let mut receipts = BatchDeliveries::default();
    measured(|| {
        let mut provision = Provision::new(0);
        for _ in 0..RECORDS / RUN {
            world.append_run(&black_box([value(&payload); RUN]), &mut receipts, &mut provision);
        }
    });
    receipts.len()
}

/// Keys of 16 bytes that go to a thousand partitions.
fn append_keyed() -> usize {
    let world = World::new(1000, &[]);
    let keys: Vec<String> = (0..RECORDS).map(|at| format!("{:016x}", at * 7919)).collect();
    let payload = [b'x'; 100];
    let mut receipts: Vec<Delivery> = Vec::with_capacity(RECORDS);
    measured(|| {
        for key in &keys {
            let mut intent = value(&payload);
            intent.record.key = Some(key.as_bytes());
            receipts.push(world.append(&black_box(intent)));
        }
    });
    receipts.len()
}

/// Fills one batch of 16 KiB in each of the six partitions.
fn fill(world: &World) -> Vec<Delivery> {
    let payload = [b'x'; 100];
    let mut receipts = Vec::new();
    for partition in 0..PARTITIONS {
        for _ in 0..FULL {
            let mut intent = value(&payload);
            intent.partition = Some(partition.cast_signed());
            receipts.push(world.append(&intent));
        }
    }
    receipts
}

/// Puts one record into each of a hundred partitions.
fn sprinkle(world: &World) -> Vec<Delivery> {
    let payload = [b'x'; 100];
    let each = |partition: u32| {
        let mut intent = value(&payload);
        intent.partition = Some(partition.cast_signed());
        world.append(&intent)
    };
    (0..MANY).map(each).collect()
}

/// Sealing, stamping, checksum and framing of batches of 16 KiB.
fn take_full() -> usize {
    let mut world = World::new(PARTITIONS, &[]);
    world.prove(fill);
    drop(fill(&world));
    let frames = measured(|| world.take());
    world.batches(&frames)
}

/// The same for batches of one record, a hundred to a request: what is paid per batch.
fn take_small() -> usize {
    let mut world = World::new(MANY, &[]);
    world.prove(sprinkle);
    drop(sprinkle(&world));
    let frames = measured(|| world.take());
    world.batches(&frames)
}

/// An answer to a hundred batches, down to their completions.
fn response() -> usize {
    let mut world = World::new(MANY, &[]);
    world.prove(sprinkle);
    drop(sprinkle(&world));
    let frames = world.take();
    let batches = world.batches(&frames);
    let answers = world.answers(frames);
    measured(|| world.receive(&answers));
    batches
}

/// Every receipt awaited by itself, when it is ready.
fn receipts() -> usize {
    let mut world = World::new(PARTITIONS, &[]);
    world.prove(fill);
    let receipts = fill(&world);
    world.deliver();
    let count = receipts.len();
    let sum = measured(|| receipts.into_iter().map(offset).fold(0, i64::wrapping_add));
    assert_ne!(sum, 0, "the offsets were read");
    count
}

fn offset(receipt: Delivery) -> i64 {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(receipt).poll(&mut context) {
        Poll::Ready(written) => written.expect("written").offset.expect("acknowledged"),
        Poll::Pending => unreachable!("it was delivered"),
    }
}

/// The receipts of bursts, awaited together.
fn receipts_run() -> usize {
    let mut world = World::new(PARTITIONS, &[]);
    world.prove(fill);
    let payload = [b'x'; 100];
    let mut provision = Provision::new(0);
    let mut all = Vec::new();
    for _ in 0..FULL * PARTITIONS as usize / RUN {
        let mut receipts = BatchDeliveries::default();
        world.append_run(&[value(&payload); RUN], &mut receipts, &mut provision);
        all.push(receipts);
    }
    world.deliver();
    let count = all.iter().map(BatchDeliveries::len).sum();
    measured(|| {
        let mut context = Context::from_waker(Waker::noop());
        for receipts in all {
            assert!(black_box(pin!(receipts).poll(&mut context)).is_ready(), "it was delivered");
        }
    });
    count
}

/// From append to receipt, records of 100 bytes in batches of 16 KiB; the broker is not counted.
fn life_full() -> usize {
    let mut world = World::new(PARTITIONS, &[]);
    world.prove(fill);
    life(&mut world, fill)
}

/// The same for batches of one record: what a batch costs, whatever is in it.
fn life_small() -> usize {
    let mut world = World::new(MANY, &[]);
    world.prove(sprinkle);
    life(&mut world, sprinkle)
}

fn life(world: &mut World, append: fn(&World) -> Vec<Delivery>) -> usize {
    let (receipts, frames) = measured(|| (append(world), world.take()));
    let answers = world.answers(frames);
    let count = receipts.len();
    measured(|| {
        world.receive(&answers);
        receipts.into_iter().map(offset).fold(0, i64::wrapping_add)
    });
    count
}

/// 64 KiB of lines through a codec, in units of 1 KiB.
fn compressed(codec: Codec) -> usize {
    const KIBIBYTES: usize = 64;
    let mut text = String::new();
    let mut state = 1u64;
    while text.len() < KIBIBYTES << 10 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (user, page) = ((state >> 33) % 10_000, (state >> 50) % 97);
        text +=
            &format!("{{\"user\":{user},\"page\":\"/items/{page}\",\"took_ms\":{}}}\n", user % 71);
    }
    let input = &text.as_bytes()[..KIBIBYTES << 10];
    let mut compressor = Compressor::default();
    // The second time, as in the stream of batches.
    for round in 0..2 {
        let packed = match round {
            0 => compressor.compress(codec, None, input.chunks(16 << 10)),
            _ => measured(|| compressor.compress(codec, None, input.chunks(16 << 10))),
        };
        assert!(packed.is_ok_and(|packed| packed.len() < input.len() / 2), "it compresses");
    }
    KIBIBYTES
}
