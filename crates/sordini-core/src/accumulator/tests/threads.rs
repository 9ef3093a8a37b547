//! Threads against each other: appends against takes, waits against drops, the gate against all.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "threads are the subject")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::{World, read, take_all, value};
use crate::accumulator::topic::Topic;
use crate::accumulator::{NotAppended, Provision};
use crate::batch::completion::{BatchDeliveries, Deduplicated, Delivery, Outcome};
use crate::error::Refusal;

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Appends as a driver does: waits for the partitions, then for memory.
fn append(
    world: &World,
    topic: &Arc<Topic>,
    text: &str,
    stripe: usize,
) -> Result<Delivery, Refusal> {
    let intent = value(text.as_bytes());
    let mut provision = Provision::new(stripe);
    let mut turn = None;
    loop {
        let appended = match &turn {
            None => world.accumulator.try_append(topic, &intent, true, &mut provision),
            Some(_) => world.accumulator.append_in_turn(topic, &intent, true, &mut provision),
        };
        match appended {
            Ok(delivery) => return Ok(delivery.expect("it was asked for")),
            Err(NotAppended::Refused(refusal)) => return Err(refusal),
            Err(NotAppended::Unresolved) => {
                turn = Some(block_on(topic.wait(&world.accumulator))?);
            }
            Err(NotAppended::NoMemory { least }) => {
                provision.segment = Some(block_on(world.accumulator.memory().wait(least)));
            }
        }
    }
}

fn written() -> Outcome {
    Outcome::Written { base_offset: None, log_append_time: None, deduplicated: Deduplicated::No }
}

const THREADS: usize = 4;

/// Threads append; one takes, reads and resolves. Returns the texts by lane.
fn storm(
    world: &World,
    topic: &Arc<Topic>,
    partitions: u32,
    work: impl Fn(usize) + Sync,
) -> Vec<Vec<String>> {
    let left = AtomicUsize::new(THREADS);
    let mut lanes = vec![Vec::new(); partitions as usize];
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, left) = (&work, &left);
            scope.spawn(move || {
                work(thread);
                left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        loop {
            let last = left.load(Ordering::SeqCst) == 0;
            drop(world.accumulator.ready().drain());
            for (lane, seen) in topic.lanes().zip(&mut lanes) {
                for batch in take_all(lane) {
                    let (completion, records) =
                        (Arc::clone(&batch.completion), batch.records.clone());
                    seen.extend(read(batch).iter().map(super::Seen::text));
                    completion.resolve(records, written());
                }
            }
            if last {
                break;
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(world.reserved(), 0);
    lanes
}

/// Every record once, and each thread's records of a lane in that thread's order.
fn check(lanes: &[Vec<String>], each: usize) {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for lane in lanes {
        let parse = |text: &String| {
            let (thread, number) = text.trim_end_matches('x').split_once(' ').unwrap();
            (thread.parse::<usize>().unwrap(), number.parse::<usize>().unwrap())
        };
        let seen: Vec<_> = lane.iter().map(parse).collect();
        for thread in 0..THREADS {
            let numbers = seen.iter().filter(|(of, _)| *of == thread).map(|(_, number)| number);
            assert!(numbers.is_sorted_by(|a, b| a < b), "thread {thread}");
        }
        all.extend(seen);
    }
    all.sort_unstable();
    let expected = (0..THREADS).flat_map(|thread| (0..each).map(move |number| (thread, number)));
    assert!(all.into_iter().eq(expected));
}

fn text(thread: usize, number: usize) -> String {
    let padding = "x".repeat([0, 20, 300, 0, 0, 7, 0, 2000][(thread + number) % 8]);
    format!("{thread} {number}{padding}")
}

#[test]
fn appends_takes_and_waits_lose_and_double_nothing() {
    for (batch_size, buffer_memory, partitions) in
        [(500, 8 << 10, 1), (4000, 16 << 10, 2), (16_384, 64 << 10, 3), (0, 8 << 10, 2)]
    {
        let world = World::new(|config| {
            config.batch_size = batch_size;
            config.buffer_memory = buffer_memory;
        });
        let topic = world.topic(partitions);
        let lanes = storm(&world, &topic, partitions, |thread| {
            let mut receipts = Vec::new();
            for number in 0..1500 {
                let receipt = append(&world, &topic, &text(thread, number), thread).unwrap();
                match number % 4 {
                    0 => receipt.detach(),
                    1 => assert!(block_on(receipt).is_ok()),
                    _ => receipts.push(receipt),
                }
            }
            assert!(receipts.into_iter().all(|receipt| block_on(receipt).is_ok()));
        });
        check(&lanes, 1500);
    }
}

#[test]
fn runs_against_takes_lose_and_double_nothing() {
    let world = World::new(|config| {
        config.batch_size = 2000;
        config.buffer_memory = 16 << 10;
    });
    let topic = world.topic(2);
    let lanes = storm(&world, &topic, 2, |thread| {
        let texts: Vec<_> = (0..3000).map(|number| text(thread, number)).collect();
        let intents: Vec<_> = texts.iter().map(|text| value(text.as_bytes())).collect();
        let mut provision = Provision::new(thread);
        let mut receipts = BatchDeliveries::default();
        let mut done = 0;
        while done < intents.len() {
            let end = intents.len().min(done + 32);
            let (count, result) = world.accumulator.append_run(
                &topic,
                &intents[done..end],
                Some(&mut receipts),
                &mut provision,
            );
            done += count;
            if let Err(NotAppended::NoMemory { least }) = result {
                provision.segment = Some(block_on(world.accumulator.memory().wait(least)));
            }
        }
        drop(provision);
        let runs = block_on(receipts);
        assert_eq!(runs.iter().map(|run| run.count).sum::<u32>(), 3000);
    });
    check(&lanes, 3000);
}

#[test]
fn threads_that_wait_for_the_partitions_append_in_the_order_they_came() {
    for round in 0..200 {
        let world = World::new(|_| {});
        let topic = world.accumulator.topic("clicks");
        let entered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (world, topic, entered) = (&world, &topic, &entered);
                scope.spawn(move || {
                    // One after the other enters the queue, whose order is then known.
                    while entered.load(Ordering::SeqCst) != thread {
                        std::thread::yield_now();
                    }
                    let mut wait = pin!(topic.wait(&world.accumulator));
                    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                    let first = wait.as_mut().poll(&mut Context::from_waker(&waker));
                    entered.fetch_add(1, Ordering::SeqCst);
                    let turn = match first {
                        Poll::Ready(turn) => turn,
                        Poll::Pending => block_on(wait),
                    };
                    let text = thread.to_string();
                    let intent = value(text.as_bytes());
                    let mut provision = Provision::default();
                    let accumulator = &world.accumulator;
                    accumulator.append_in_turn(topic, &intent, false, &mut provision).unwrap();
                    drop(turn);
                });
            }
            let resolve_at = [0, 2, THREADS][round % 3];
            while entered.load(Ordering::SeqCst) < resolve_at {
                std::thread::yield_now();
            }
            topic.grow(1, None);
            topic.resolve();
        });
        assert_eq!(super::batches(topic.lane(0).unwrap()), [["0", "1", "2", "3"]]);
        assert!(topic.is_passable() && !topic.is_awaited());
    }
}

#[test]
fn the_gate_opens_for_good_however_waits_and_news_race() {
    for round in 0..300 {
        let world = World::new(|_| {});
        let topic = world.accumulator.topic("clicks");
        topic.grow(1, None);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (world, topic) = (&world, &topic);
                scope.spawn(move || {
                    for number in 0..20 {
                        if (number + thread + round) % 3 == 0 {
                            let mut wait = pin!(topic.wait(&world.accumulator));
                            drop(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())));
                        } else {
                            append(world, topic, &text(thread, number), 0).unwrap().detach();
                        }
                    }
                });
            }
            for _ in 0..10 {
                topic.resolve();
                std::thread::yield_now();
            }
        });
        assert!(topic.is_passable() && !topic.is_awaited());
    }
}

#[test]
fn nothing_is_accepted_after_a_refusal_was_made_known_to_the_lanes() {
    for _ in 0..200 {
        let world = World::new(|_| {});
        let topic = world.topic(2);
        let refused = AtomicBool::new(false);
        let accepted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (world, topic, refused, accepted) = (&world, &topic, &refused, &accepted);
                scope.spawn(move || {
                    loop {
                        let after = refused.load(Ordering::SeqCst);
                        match append(world, topic, "0 0", thread) {
                            Ok(receipt) => {
                                assert!(!after, "accepted after the refusal");
                                receipt.detach();
                                accepted.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(refusal) => break assert_eq!(refusal, Refusal::Closed),
                        }
                    }
                });
            }
            while accepted.load(Ordering::SeqCst) < 50 {
                std::thread::yield_now();
            }
            world.accumulator.refuse_all(&Refusal::Closed);
            refused.store(true, Ordering::SeqCst);
        });
        let taken = topic.lanes().flat_map(|lane| take_all(lane)).map(|batch| batch.count());
        assert_eq!(taken.sum::<u32>() as usize, accepted.load(Ordering::SeqCst));
    }
}
