//! A topic's lanes, its sticky partitions, and the queue before its partitions are known.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use sordini_protocol::ErrorCode;

use super::{World, batches, take_all, value};
use crate::accumulator::topic::{STRIPES, Topic, TopicWait, Turn};
use crate::accumulator::{Intent, NotAppended, Provision};
use crate::error::Refusal;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn counting() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

type Answer = Option<Result<Turn, Refusal>>;

fn poll(wait: &mut TopicWait, waker: &Waker) -> Answer {
    match Pin::new(wait).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn unresolved(world: &World) -> Arc<Topic> {
    world.accumulator.topic("clicks")
}

fn queue(world: &World, topic: &Arc<Topic>, count: usize) -> Vec<(TopicWait, Arc<Count>, Waker)> {
    let enter = |_| {
        let (count, waker) = counting();
        let mut wait = topic.wait(&world.accumulator);
        assert!(poll(&mut wait, &waker).is_none());
        (wait, count, waker)
    };
    (0..count).map(enter).collect()
}

#[test]
fn every_partition_has_a_lane_that_stays_the_same_while_the_topic_grows() {
    let world = World::new(|_| {});
    let topic = unresolved(&world);
    let mut known: Vec<Arc<crate::accumulator::lane::Lane>> = Vec::new();
    for count in [1, 2, 3, 4, 7, 8, 9, 1000, 1000, 999, 1023, 1024, 5000] {
        topic.grow(count, None);
        let count = topic.partitions();
        assert_eq!(topic.lanes().count(), count as usize);
        assert!(topic.lane(count).is_none() && topic.lane(u32::MAX).is_none());
        for (at, lane) in topic.lanes().enumerate() {
            assert_eq!((lane.partition(), lane.topic()), (at as i32, topic.index()));
            assert!(known.get(at).is_none_or(|known| Arc::ptr_eq(known, lane)));
        }
        known = topic.lanes().cloned().collect();
    }
    assert_eq!(topic.partitions(), 5000);
}

#[test]
fn waiters_pass_in_the_order_they_came_and_nobody_past_them() {
    let world = World::new(|_| {});
    let topic = unresolved(&world);
    let mut waits = queue(&world, &topic, 5);
    assert!(topic.is_awaited());
    topic.grow(1, None);
    topic.resolve();
    let mut provision = Provision::default();
    for at in 0..5 {
        assert_eq!(waits[at].1.woken(), 1, "its turn has come");
        assert!(waits.iter().skip(at + 1).all(|(_, count, _)| count.woken() == 0));
        let late = world.accumulator.try_append(&topic, &value(b"late"), false, &mut provision);
        assert_eq!(late.err(), Some(NotAppended::Unresolved));
        for (wait, _, waker) in &mut waits[at + 1..] {
            assert!(poll(wait, waker).is_none());
        }
        let (wait, _, waker) = &mut waits[at];
        let turn = poll(wait, waker).expect("it is the first").expect("nobody refuses");
        let text = at.to_string();
        let intent = value(text.as_bytes());
        world.accumulator.append_in_turn(&topic, &intent, false, &mut provision).unwrap();
        drop(turn);
    }
    assert!(!topic.is_awaited());
    world.accumulator.try_append(&topic, &value(b"late"), false, &mut provision).unwrap();
    assert_eq!(batches(topic.lane(0).unwrap()), [["0", "1", "2", "3", "4", "late"]]);
}

#[test]
fn who_waits_for_a_turn_holds_no_memory() {
    // It may be all there is, and who has the turn may wait for it.
    let world = World::new(|config| config.buffer_memory = 1024);
    let topic = world.topic(1);
    let (_, waker) = counting();
    let mut first = topic.wait(&world.accumulator);
    let Some(Ok(turn)) = poll(&mut first, &waker) else { panic!("nobody is before it") };
    let segment = world.accumulator.memory().try_take(1, 1);
    let mut provision = Provision { segment, ..Provision::default() };
    assert_eq!(world.reserved(), 1024);
    let intent = value(b"behind");
    let behind = world.accumulator.try_append(&topic, &intent, true, &mut provision);
    assert_eq!(behind.err(), Some(NotAppended::Unresolved));
    assert_eq!(world.reserved(), 0);
    drop(turn);
}

#[test]
fn who_gives_up_at_any_point_holds_up_nobody() {
    // Bits: who leaves before the partitions are known, and who after, holding the turn or not.
    for before in 0..16u32 {
        for after in 0..16u32 {
            let world = World::new(|_| {});
            let topic = unresolved(&world);
            let mut waits: Vec<_> = queue(&world, &topic, 4).into_iter().map(Some).collect();
            let leave = |waits: &mut Vec<Option<_>>, who: u32| {
                for (at, wait) in waits.iter_mut().enumerate() {
                    if who >> at & 1 == 1 {
                        *wait = None;
                    }
                }
            };
            leave(&mut waits, before);
            topic.grow(1, None);
            topic.resolve();
            leave(&mut waits, after);
            let mut served = Vec::new();
            for (at, wait) in waits.iter_mut().enumerate() {
                let Some((mut wait, count, waker)) = wait.take() else { continue };
                assert!(count.woken() >= 1, "{before:b} {after:b}: {at} was not woken");
                drop(poll(&mut wait, &waker).expect("it is the first").expect("a turn"));
                served.push(at);
            }
            let expected: Vec<_> = (0..4).filter(|at| (before | after) >> at & 1 == 0).collect();
            assert_eq!(served, expected);
            assert!(!topic.is_awaited() && topic.is_passable());
        }
    }
}

#[test]
fn a_wait_is_reported_to_the_control_plane_once() {
    let world = World::new(|_| {});
    let topic = unresolved(&world);
    let mut waits = queue(&world, &topic, 2);
    for (wait, _, waker) in &mut waits {
        assert!(poll(wait, waker).is_none());
    }
    assert_eq!(world.events(), ["clicks"]);
    // Those who come again and again are heard of, and fill no memory.
    for _ in 0..1000 {
        assert_eq!(queue(&world, &topic, 1).len(), 1);
    }
    assert_eq!(world.events(), ["clicks"]);
}

#[test]
fn a_passing_refusal_ends_the_waits_there_are_and_no_later_one() {
    let world = World::new(|_| {});
    let topic = unresolved(&world);
    let mut waits = queue(&world, &topic, 2);
    let refusal = Refusal::Topic(ErrorCode::TopicAuthorizationFailed);
    topic.refuse(&refusal, false);
    let mut late = queue(&world, &topic, 1);
    for (wait, count, waker) in &mut waits {
        assert_eq!(count.woken(), 1);
        assert_eq!(poll(wait, waker).unwrap().err().as_ref(), Some(&refusal));
    }
    topic.grow(1, None);
    topic.resolve();
    // The refused futures still exist; they stand in nobody's way.
    let (wait, count, waker) = &mut late[0];
    assert_eq!(count.woken(), 1);
    drop(poll(wait, waker).expect("it is the first").expect("a turn"));
    assert!(topic.is_passable() && topic.refusal().is_none());
}

#[test]
fn a_lasting_refusal_ends_all_waits_and_appends_with_its_first_reason() {
    let world = World::new(|_| {});
    let topic = unresolved(&world);
    let mut waits = queue(&world, &topic, 2);
    topic.grow(3, None);
    topic.resolve();
    topic.refuse(&Refusal::TopicGone, true);
    topic.refuse(&Refusal::Closed, true);
    // News from a broker that lags changes nothing.
    topic.grow(8, topic.refusal().as_ref());
    topic.resolve();
    for (wait, count, waker) in &mut waits {
        assert!(count.woken() >= 1);
        assert_eq!(poll(wait, waker).unwrap().err(), Some(Refusal::TopicGone));
    }
    assert_eq!(
        poll(&mut topic.wait(&world.accumulator), Waker::noop()).unwrap().err(),
        Some(Refusal::TopicGone)
    );
    assert!(!topic.is_awaited() && !topic.is_passable());
    for partition in 0..8 {
        let intent = Intent { partition: Some(partition), ..value(b"v") };
        let mut provision = Provision::default();
        let expected = Some(NotAppended::Refused(Refusal::TopicGone));
        let plain = world.accumulator.try_append(&topic, &intent, false, &mut provision);
        assert_eq!(plain.err(), expected);
        let in_turn = world.accumulator.append_in_turn(&topic, &intent, false, &mut provision);
        assert_eq!(in_turn.err(), expected);
    }
}

#[test]
fn a_waiter_is_woken_by_its_last_waker() {
    let world = World::new(|_| {});
    let topic = unresolved(&world);
    let ((old, first), (new, second)) = (counting(), counting());
    let mut wait = topic.wait(&world.accumulator);
    for waker in [&first, &second, &second] {
        assert!(poll(&mut wait, waker).is_none());
    }
    drop(first);
    assert_eq!(Arc::strong_count(&old), 1);
    topic.grow(1, None);
    topic.resolve();
    assert_eq!((old.woken(), new.woken()), (0, 1));
}

/// Uses the topic from inside `wake` and from its drop.
struct Reenters(Arc<Topic>, Mutex<Option<TopicWait>>);

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        drop(self.0.refusal());
    }
}

impl Drop for Reenters {
    fn drop(&mut self) {
        drop(self.0.refusal());
        drop(self.1.get_mut().unwrap().take());
    }
}

#[test]
fn wakers_are_woken_and_dropped_outside_the_lock() {
    let world = World::new(|_| {});
    let topic = unresolved(&world);
    let waker = || {
        let mut held = topic.wait(&world.accumulator);
        assert!(poll(&mut held, Waker::noop()).is_none());
        Waker::from(Arc::new(Reenters(Arc::clone(&topic), Mutex::new(Some(held)))))
    };
    let mut wait = topic.wait(&world.accumulator);
    assert!(poll(&mut wait, &waker()).is_none());
    assert!(poll(&mut wait, &waker()).is_none());
    drop(wait);
    let mut wait = topic.wait(&world.accumulator);
    assert!(poll(&mut wait, &waker()).is_none());
    topic.refuse(&Refusal::Topic(ErrorCode::TopicAuthorizationFailed), false);
    assert!(poll(&mut wait, &waker()).is_some_and(|answer| answer.is_err()));
    let mut wait = topic.wait(&world.accumulator);
    assert!(poll(&mut wait, &waker()).is_none());
    topic.grow(1, None);
    topic.resolve();
    // What the last waker held stands before it, and leaves with that waker.
    assert!(poll(&mut wait, Waker::noop()).is_none());
    assert!(poll(&mut wait, Waker::noop()).is_some());
}

/// Bytes that keyless records of one stripe brought to each partition.
fn spread(
    world: &World,
    topic: &Arc<Topic>,
    records: usize,
    stripe: usize,
) -> BTreeMap<i32, usize> {
    let mut provision = Provision { stripe, ..Provision::default() };
    let mut bytes = BTreeMap::new();
    for _ in 0..records {
        let intent = value(&[0; 90]);
        world.accumulator.try_append(topic, &intent, false, &mut provision).unwrap();
        if world.reserved() > 1 << 20 {
            drain(topic, &mut bytes);
        }
    }
    drain(topic, &mut bytes);
    bytes
}

fn drain(topic: &Topic, bytes: &mut BTreeMap<i32, usize>) {
    for lane in topic.lanes() {
        for batch in take_all(lane) {
            *bytes.entry(lane.partition()).or_default() += batch.body.len();
        }
    }
}

#[test]
fn keyless_records_stick_to_a_partition_for_batch_size_bytes() {
    let world = World::new(|config| config.batch_size = 2000);
    let topic = world.topic(5);
    let mut runs: Vec<(i32, usize)> = Vec::new();
    for _ in 0..1000 {
        let receipt = world.append_record(&topic, None, value(&[0; 93]).record);
        match runs.last_mut() {
            Some((partition, count)) if *partition == receipt.partition() => *count += 1,
            _ => runs.push((receipt.partition(), 1)),
        }
    }
    runs.pop();
    // A record takes 100 or 101 bytes.
    assert!(runs.iter().all(|(_, count)| *count == 20), "{runs:?}");
}

#[test]
fn keyless_records_are_spread_evenly() {
    const PARTITIONS: u32 = 7;
    let world = World::new(|config| config.batch_size = 500);
    let topic = world.topic(PARTITIONS);
    // 600 shares for each; that one gets 5 standard deviations less has a chance of about 10^-6,
    // and the seed is fixed.
    let bytes = spread(&world, &topic, 600 * 5 * PARTITIONS as usize, 3);
    let total: usize = bytes.values().sum();
    let fair = total / PARTITIONS as usize;
    assert_eq!(bytes.len(), PARTITIONS as usize);
    assert!(bytes.values().all(|bytes| bytes.abs_diff(fair) < fair / 5), "{bytes:?}");
}

#[test]
fn keyless_records_avoid_partitions_without_a_leader() {
    for (partitions, with_leader) in [(2, &[1][..]), (3, &[0, 2]), (100, &[57]), (1, &[0])] {
        let world = World::new(|config| config.batch_size = 300);
        let topic = world.topic(partitions);
        for lane in topic.lanes() {
            lane.set_available(with_leader.contains(&lane.partition()));
        }
        let bytes = spread(&world, &topic, 3000, 0);
        assert_eq!(bytes.keys().copied().collect::<Vec<_>>(), with_leader);
    }
}

#[test]
fn without_any_leader_keyless_records_still_find_a_partition() {
    for partitions in [1, 2, 5] {
        let world = World::new(|config| config.batch_size = 300);
        let topic = world.topic(partitions);
        topic.lanes().for_each(|lane| lane.set_available(false));
        assert_eq!(spread(&world, &topic, 500, 0).len(), partitions as usize);
    }
}

#[test]
fn keyed_records_do_not_use_up_the_sticky_share() {
    let world = World::new(|config| config.batch_size = 2000);
    let topic = world.topic(2);
    let sticky = world.append_record(&topic, None, value(b"first").record).partition();
    for _ in 0..100 {
        world.append(&topic, sticky, &[0; 90]);
    }
    let again = world.append_record(&topic, None, value(b"second").record).partition();
    assert_eq!(again, sticky);
}

#[test]
fn stripes_stick_apart_and_any_number_names_one() {
    let world = World::new(|_| {});
    let topic = world.topic(1000);
    let mut at = |stripe| {
        let mut provision = Provision { stripe, ..Provision::default() };
        let intent = value(b"v");
        let receipt = world.accumulator.try_append(&topic, &intent, true, &mut provision);
        receipt.unwrap().unwrap().partition()
    };
    let first: Vec<_> = (0..STRIPES).map(&mut at).collect();
    assert!(first.iter().collect::<std::collections::BTreeSet<_>>().len() > STRIPES / 2);
    let again: Vec<_> = (0..STRIPES).map(|stripe| at(stripe + 5 * STRIPES)).collect();
    assert_eq!(first, again);
    at(usize::MAX);
}
