#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "threads are what these tests are about"
)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;

use super::{CLASSES, Memory, MemoryWait, Segment};

const KIB: usize = 1024;

fn idle(memory: &Memory) -> usize {
    memory.lock().idle
}

/// S6, as far as one look can tell.
fn check(memory: &Memory) {
    let inner = memory.lock();
    let pooled: usize = inner.free.iter().flatten().map(Vec::capacity).sum();
    assert_eq!(inner.idle, pooled);
    assert!(inner.free.iter().zip(CLASSES).all(|(list, class)| {
        list.iter().all(|bytes| bytes.capacity() == class && bytes.len() == class)
    }));
    assert!(
        inner.reserved + inner.idle <= memory.limit(),
        "{} reserved and {} idle of {}",
        inner.reserved,
        inner.idle,
        memory.limit()
    );
    assert_eq!(inner.reserved, memory.reserved());
    assert_eq!(!inner.waiters.is_empty(), memory.contended());
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(wait: &mut MemoryWait, waker: &Waker) -> Option<Segment> {
    match Pin::new(wait).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(segment) => Some(segment),
        Poll::Pending => None,
    }
}

fn poll_idly(wait: &mut MemoryWait) -> Option<Segment> {
    poll(wait, Waker::noop())
}

#[test]
fn a_segment_has_at_least_the_room_that_was_asked_for() {
    let memory = Memory::new(1 << 20);
    for (least, wanted, expected) in [
        (1, 0, KIB),
        (1, 4 * KIB, 4 * KIB),
        (KIB + 1, 0, 4 * KIB),
        (5 * KIB, 1, 16 * KIB),
        (64 * KIB + 1, 0, 65 * KIB),
        (200_000, 0, 196 * KIB),
    ] {
        let segment = memory.try_take(least, wanted).expect("there is memory");
        assert_eq!(segment.room(), expected, "{least} {wanted}");
        assert_eq!(memory.reserved(), expected);
        drop(segment);
        assert_eq!(memory.reserved(), 0);
        check(&memory);
    }
}

#[test]
fn what_is_wanted_gives_way_to_what_is_needed() {
    let memory = Memory::new(20 * KIB);
    let first = memory.try_take(10, 16 * KIB).expect("there is memory");
    let second = memory.try_take(10, 16 * KIB).expect("1 KiB will do");
    assert_eq!((first.room(), second.room()), (16 * KIB, KIB));
}

#[test]
fn a_request_of_exactly_the_limit_is_served_and_more_never_is() {
    let memory = Memory::new(70_000);
    assert_eq!(memory.try_take(70_000, 0).map(|segment| segment.room()), Some(70_000));
    assert!(memory.try_take(70_001, 0).is_none());
    // No class fits the limit any more, and still the record does.
    assert_eq!(memory.try_take(69_700, 0).map(|segment| segment.room()), Some(70_000));
    let mut wait = memory.wait(70_000);
    assert_eq!(poll_idly(&mut wait).map(|segment| segment.room()), Some(70_000));
    assert_eq!(memory.reserved(), 0);
}

#[test]
#[should_panic(expected = "S6")]
fn nobody_waits_for_more_than_there_can_ever_be() {
    drop(Memory::new(4096).wait(4097));
}

#[test]
fn a_recycled_buffer_is_empty() {
    let memory = Memory::new(64 * KIB);
    let mut segment = memory.try_take(KIB, 0).expect("there is memory");
    segment.append(b"somebody else's record");
    drop(segment);
    assert_eq!(idle(&memory), KIB);
    let segment = memory.try_take(KIB, 0).expect("there is memory");
    assert_eq!((segment.bytes(), segment.room(), idle(&memory)), (&b""[..], KIB, 0));
}

#[test]
fn idle_buffers_of_one_size_make_room_for_another() {
    let memory = Memory::new(64 * KIB);
    let small: Vec<_> = (0..64).map_while(|_| memory.try_take(1, 0)).collect();
    assert_eq!(small.len(), 64);
    drop(small);
    assert_eq!(idle(&memory), 64 * KIB);
    let large = memory.try_take(60 * KIB, 0).expect("idle memory is free memory");
    check(&memory);
    assert_eq!((large.room(), idle(&memory)), (64 * KIB, 0));
}

#[test]
fn a_grant_makes_room_among_the_idle_buffers_too() {
    let memory = Memory::new(64 * KIB);
    let large = memory.try_take(64 * KIB, 0).expect("there is memory");
    let mut wait = memory.wait(10 * KIB);
    assert!(poll_idly(&mut wait).is_none());
    drop(large);
    check(&memory);
    assert_eq!(memory.reserved(), 16 * KIB);
    drop(poll_idly(&mut wait).expect("it was granted"));
    check(&memory);
}

#[test]
fn memory_goes_to_waiters_in_the_order_they_came() {
    let memory = Memory::new(8 * KIB);
    let all: Vec<_> = (0..8).map_while(|_| memory.try_take(KIB, 0)).collect();
    let mut waits: Vec<_> = [4 * KIB, KIB, KIB].map(|least| memory.wait(least)).into();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    for wait in &mut waits {
        assert!(poll(wait, &waker).is_none());
    }
    let mut held = VecDeque::from(all);
    // Three KiB would do for the second and the third, but the first came before.
    for _ in 0..3 {
        held.pop_front();
        assert!(waits.iter_mut().all(|wait| poll(wait, &waker).is_none()));
        assert!(memory.try_take(1, 0).is_none(), "waiters are not overtaken");
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    held.pop_front();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(poll(&mut waits[1], &waker).is_none() && poll(&mut waits[2], &waker).is_none());
    let first = poll(&mut waits[0], &waker).expect("it was granted");
    assert_eq!(first.room(), 4 * KIB);
    drop(first);
    assert_eq!(count.0.load(Ordering::SeqCst), 3);
    assert!(waits[1..].iter_mut().all(|wait| poll(wait, &waker).is_some()));
    assert!(!memory.contended());
}

#[test]
fn a_granted_waiter_that_is_dropped_passes_the_grant_on() {
    let memory = Memory::new(4 * KIB);
    let all = memory.try_take(4 * KIB, 0);
    let (mut first, mut second) = (memory.wait(4 * KIB), memory.wait(4 * KIB));
    let count = Arc::new(Count::default());
    assert!(poll_idly(&mut first).is_none());
    assert!(poll(&mut second, &Waker::from(Arc::clone(&count))).is_none());
    drop(all);
    assert_eq!((memory.reserved(), count.0.load(Ordering::SeqCst)), (4 * KIB, 0));
    drop(first);
    assert_eq!((memory.reserved(), count.0.load(Ordering::SeqCst)), (4 * KIB, 1));
    check(&memory);
    drop(poll_idly(&mut second).expect("the grant was passed on"));
    assert_eq!(memory.reserved(), 0);
}

#[test]
fn a_large_waiter_that_gives_up_lets_the_small_ones_behind_it_pass() {
    let memory = Memory::new(8 * KIB);
    let half = memory.try_take(4 * KIB, 0);
    let (mut large, mut small) = (memory.wait(8 * KIB), memory.wait(KIB));
    let count = Arc::new(Count::default());
    assert!(poll_idly(&mut large).is_none());
    assert!(poll(&mut small, &Waker::from(Arc::clone(&count))).is_none());
    drop(large);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(poll_idly(&mut small).is_some());
    drop(half);
    check(&memory);
}

#[test]
fn a_wait_that_was_never_polled_holds_no_place() {
    let memory = Memory::new(4 * KIB);
    let wait = memory.wait(KIB);
    assert!(!memory.contended() && memory.try_take(KIB, 0).is_some());
    drop(wait);
    check(&memory);
}

#[test]
fn the_waker_of_the_last_poll_is_woken() {
    let memory = Memory::new(KIB);
    let all = memory.try_take(KIB, 0);
    let mut wait = memory.wait(KIB);
    let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
    assert!(poll(&mut wait, &Waker::from(Arc::clone(&old))).is_none());
    for _ in 0..3 {
        assert!(poll(&mut wait, &Waker::from(Arc::clone(&new))).is_none());
    }
    drop(all);
    assert_eq!((old.0.load(Ordering::SeqCst), new.0.load(Ordering::SeqCst)), (0, 1));
    assert_eq!(Arc::strong_count(&old), 1, "no waker of a former poll is kept");
}

/// Uses the memory from inside `wake` and from its drop, as a task does that runs or ends there.
struct Reenters(Arc<Memory>, Mutex<Option<MemoryWait>>);

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        drop(self.0.try_take(1, 0));
    }
}

impl Drop for Reenters {
    fn drop(&mut self) {
        drop(self.0.try_take(1, 0));
        drop(self.1.get_mut().unwrap().take());
    }
}

#[test]
fn wakers_are_woken_and_dropped_outside_the_lock() {
    let memory = Memory::new(KIB);
    let all = memory.try_take(KIB, 0);
    let waker = |held| Waker::from(Arc::new(Reenters(Arc::clone(&memory), Mutex::new(held))));
    let mut wait = memory.wait(KIB);
    assert!(poll(&mut wait, &waker(None)).is_none());
    // The first waker's last reference goes here, and another wait with it.
    let mut other = memory.wait(KIB);
    assert!(poll_idly(&mut other).is_none());
    assert!(poll(&mut wait, &waker(Some(other))).is_none());
    assert!(poll(&mut wait, &waker(None)).is_none());
    drop(all);
    assert!(poll_idly(&mut wait).is_some());
    let all = memory.try_take(KIB, 0);
    let mut wait = memory.wait(KIB);
    assert!(poll(&mut wait, &waker(None)).is_none());
    drop(wait);
    drop(all);
    check(&memory);
    assert_eq!(memory.reserved(), 0);
}

#[test]
fn who_starts_to_wait_is_reported_once_and_outside_the_lock() {
    let (count, slot) = (Arc::new(Count::default()), Arc::new(Mutex::new(None::<Arc<Memory>>)));
    let (counted, reached) = (Arc::clone(&count), Arc::clone(&slot));
    let memory = Memory::watched(KIB, move || {
        counted.0.fetch_add(1, Ordering::SeqCst);
        let memory = reached.lock().unwrap().clone().expect("it was put there");
        assert!(memory.contended() && memory.try_take(1, 0).is_none());
    });
    *slot.lock().unwrap() = Some(Arc::clone(&memory));
    let all = poll_idly(&mut memory.wait(KIB));
    assert!(all.is_some() && count.0.load(Ordering::SeqCst) == 0, "it did not have to wait");
    let mut wait = memory.wait(KIB);
    for _ in 0..3 {
        assert!(poll_idly(&mut wait).is_none());
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    drop((all, wait));
    *slot.lock().unwrap() = None;
}

#[test]
fn an_exchange_frees_what_the_new_bytes_do_not_need() {
    let memory = Memory::new(64 * KIB);
    let old: Vec<_> = (0..4).map_while(|_| memory.try_take(16 * KIB, 0)).collect();
    let mut doubled = Vec::with_capacity(48 * KIB);
    doubled.resize(40 * KIB, 7);
    let new = memory.exchange(old, vec![doubled]);
    check(&memory);
    assert_eq!(memory.reserved(), 40 * KIB);
    assert_eq!(new[0].bytes(), vec![7; 40 * KIB]);
    assert_eq!(new[0].room(), 0, "no more is kept than is charged");
    drop(new);
    check(&memory);
    assert_eq!(memory.reserved(), 0);
}

#[test]
fn an_exchange_never_charges_more_than_before() {
    let memory = Memory::new(8 * KIB);
    let old = memory.try_take(KIB, 0).into_iter().collect();
    let new = memory.exchange(old, vec![vec![1; 800], vec![2; 800], vec![3; 800]]);
    assert_eq!(memory.reserved(), KIB);
    let lengths: Vec<_> = new.iter().map(|segment| segment.bytes().len()).collect();
    assert_eq!(lengths, [800, 800, 800]);
    drop(new);
    check(&memory);
    assert_eq!(memory.reserved(), 0);
}

#[test]
fn an_exchange_serves_those_who_wait() {
    let memory = Memory::new(16 * KIB);
    let old = memory.try_take(16 * KIB, 0).into_iter().collect();
    let mut wait = memory.wait(4 * KIB);
    let count = Arc::new(Count::default());
    assert!(poll(&mut wait, &Waker::from(Arc::clone(&count))).is_none());
    let new = memory.exchange(old, vec![vec![1; 2 * KIB]]);
    assert_eq!((count.0.load(Ordering::SeqCst), memory.reserved()), (1, 6 * KIB));
    check(&memory);
    drop((new, poll_idly(&mut wait)));
    assert_eq!(memory.reserved(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Take { least: usize, wanted: usize },
    Drop(usize),
    Wait(usize),
    Poll(usize),
    Cancel(usize),
    Exchange { from: usize, count: usize, lengths: Vec<usize> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![1..2 * KIB, 1..70 * KIB, Just(KIB), Just(16 * KIB), Just(64 * KIB)];
    let step = prop_oneof![
        3 => (size(), size()).prop_map(|(least, wanted)| Step::Take { least, wanted }),
        4 => any::<usize>().prop_map(Step::Drop),
        2 => size().prop_map(Step::Wait),
        3 => any::<usize>().prop_map(Step::Poll),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => (any::<usize>(), 1..4usize, prop::collection::vec(size(), 0..3))
            .prop_map(|(from, count, lengths)| Step::Exchange { from, count, lengths }),
    ];
    prop::collection::vec(step, 1..120)
}

/// What is alive in a run of steps.
struct World {
    memory: Arc<Memory>,
    live: Vec<Segment>,
    /// In the order in which they came, each with what it was granted by the model.
    waits: Vec<(MemoryWait, usize)>,
}

impl World {
    fn step(&mut self, step: Step) {
        let Self { memory, live, waits } = self;
        match step {
            Step::Take { least, wanted } if least <= memory.limit() => {
                let waiting = !waits.is_empty();
                let before = memory.reserved();
                let taken = memory.try_take(least, wanted);
                assert!(taken.is_none() || !waiting, "a waiter was overtaken");
                let fits = before + super::capacity_for(least, 0, memory.limit());
                assert_eq!(taken.is_some(), !waiting && fits <= memory.limit());
                live.extend(taken);
            }
            Step::Drop(at) if !live.is_empty() => drop(live.swap_remove(at % live.len())),
            Step::Wait(least) if least <= memory.limit() => {
                let mut wait = memory.wait(least);
                match poll_idly(&mut wait) {
                    Some(segment) => live.push(segment),
                    None => waits.push((wait, least)),
                }
            }
            Step::Poll(at) if !waits.is_empty() => {
                let at = at % waits.len();
                if let Some(segment) = poll_idly(&mut waits[at].0) {
                    assert!(segment.room() >= waits[at].1);
                    live.push(segment);
                    drop(waits.remove(at));
                }
            }
            Step::Cancel(at) if !waits.is_empty() => drop(waits.remove(at % waits.len())),
            Step::Exchange { from, count, lengths } if !live.is_empty() => {
                let from = from % live.len();
                let old: Vec<_> = live.drain(from..live.len().min(from + count)).collect();
                let parts = lengths.iter().map(|&len| Vec::from_iter((0..len).map(|_| 0)));
                live.extend(memory.exchange(old, parts.collect()));
            }
            _ => {}
        }
    }

    /// The waiters that stand before one that has its grant have theirs too.
    fn check(&self) {
        check(&self.memory);
        let charged: usize = self.live.iter().map(|segment| segment.charged).sum();
        let inner = self.memory.lock();
        let granted = inner.waiters.iter().take_while(|waiter| waiter.is_granted());
        let granted: usize = granted.map(|waiter| waiter.size).sum();
        let first_waiting = inner.waiters.partition_point(super::Waiter::is_granted);
        assert!(inner.waiters.iter().skip(first_waiting).all(|waiter| !waiter.is_granted()));
        assert_eq!(inner.reserved, charged + granted);
        let next = inner.waiters.iter().find(|waiter| !waiter.is_granted());
        assert!(next.is_none_or(|next| inner.reserved + next.size > self.memory.limit()));
    }
}

proptest! {
    #[test]
    fn reserved_memory_is_what_lives_and_never_above_the_limit(
        limit in prop_oneof![Just(64 * KIB), KIB..200 * KIB],
        steps in steps(),
    ) {
        let memory = Memory::new(limit);
        let mut world = World { memory: Arc::clone(&memory), live: Vec::new(), waits: Vec::new() };
        for step in steps {
            world.step(step);
            world.check();
        }
        drop(world);
        check(&memory);
        prop_assert_eq!(memory.reserved(), 0);
    }
}

#[test]
fn every_thread_that_waits_is_served_whatever_others_cancel() {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let memory = Memory::new(4 * KIB);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..4usize {
            let (memory, served) = (&memory, &served);
            scope.spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                for round in 0..2000 {
                    let mut wait = memory.wait([KIB, 2 * KIB, 4 * KIB][(number + round) % 3]);
                    let gives_up = (number + round) % 5 == 0;
                    let segment = loop {
                        match poll(&mut wait, &waker) {
                            Some(segment) => break Some(segment),
                            None if gives_up => break None,
                            None => std::thread::park(),
                        }
                    };
                    assert!(memory.reserved() <= memory.limit());
                    served.fetch_add(usize::from(segment.is_some()), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(served.load(Ordering::Relaxed) >= 4 * 1600);
    check(&memory);
    assert_eq!((memory.reserved(), memory.contended()), (0, false));
}
