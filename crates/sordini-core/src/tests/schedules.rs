//! Threads against each other under a scheduler: a seed says which of them goes on at each lock and
//! atomic. A schedule in which everybody waits is a failure.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use crate::accumulator::lane::Lane;
use crate::accumulator::ready::{Event, Wake};
use crate::accumulator::topic::Topic;
use crate::accumulator::{Accumulator, Intent, NotAppended, Provision};
use crate::batch::completion::{BatchCompletion, Deduplicated, Delivery, Outcome};
use crate::batch::sealed::Sealed;
use crate::config::Config;
use crate::error::Refusal;
use crate::memory::Memory;
use crate::partitioner;
use crate::record::Record;
use crate::time::{Clock, Instant, Now, Timestamp};

/// Runs `promise` under schedules that switch anywhere, and under such as switch at few points but
/// at any of them.
fn check(promise: impl Fn() + Send + Sync + 'static) {
    const ANYWHERE: usize = 10_000;
    const SELDOM: usize = 5_000;
    let promise = Arc::new(promise);
    let again = Arc::clone(&promise);
    shuttle::check_random(move || promise(), ANYWHERE);
    shuttle::check_pct(move || again(), SELDOM, 3);
}

/// Wakes the thread that plays the driver.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().expect("no panic") = true;
        self.ring.notify_one();
    }
}

impl Bell {
    fn wait(&self) {
        let rung = self.rung.lock().expect("no panic");
        let mut rung = self.ring.wait_while(rung, |rung| !*rung).expect("no panic");
        *rung = false;
    }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Now {
        Now { mono: Instant::from_millis(1), wall: Timestamp(1_700_000_000_000) }
    }
}

/// A data plane, and what wakes its driver.
fn plane(change: impl FnOnce(&mut Config)) -> (Arc<Accumulator>, Arc<Bell>) {
    let mut config = Config::default();
    change(&mut config);
    let bell = Arc::new(Bell::default());
    let partitioner = partitioner::from_config(&config);
    let wake = Arc::clone(&bell) as Arc<dyn Wake>;
    (Accumulator::new(&config, partitioner, Arc::new(Noon), wake, 7), bell)
}

/// Appends one record to partition 0 as a handle does: waits for the partitions, then for memory.
fn append(accumulator: &Arc<Accumulator>, topic: &Arc<Topic>) -> Result<Delivery, Refusal> {
    let record = Record { value: Some(b"value"), ..Record::default() };
    let intent = Intent { record, partition: Some(0) };
    let mut provision = Provision::default();
    let mut turn = None;
    loop {
        let appended = match &turn {
            None => accumulator.try_append(topic, &intent, true, &mut provision),
            Some(_) => accumulator.append_in_turn(topic, &intent, true, &mut provision),
        };
        match appended {
            Ok(delivery) => return Ok(delivery.expect("it was asked for")),
            Err(NotAppended::Refused(refusal)) => return Err(refusal),
            Err(NotAppended::Unresolved) => turn = Some(block_on(topic.wait(accumulator))?),
            Err(NotAppended::NoMemory { least }) => {
                provision.segment = Some(block_on(accumulator.memory().wait(least)));
            }
        }
    }
}

fn written(base_offset: i64) -> Outcome {
    Outcome::Written {
        base_offset: Some(base_offset),
        log_append_time: None,
        deduplicated: Deduplicated::No,
    }
}

/// A log of one partition: acknowledges what it is given.
#[derive(Default)]
struct Log(u32);

impl Log {
    fn take(&mut self, lane: &Lane) {
        std::iter::from_fn(|| lane.take(true).0).for_each(|batch| self.write(batch));
    }

    fn write(&mut self, batch: Sealed) {
        let (completion, records) = (Arc::clone(&batch.completion), batch.records.clone());
        // Its memory is free before its records have their outcome, as in a producer.
        drop(batch);
        let base = self.0;
        self.0 += records.end - records.start;
        completion.resolve(records, written(i64::from(base)));
    }
}

/// A driver that acts only when it is woken, until the log has `records`: makes partition 0 known
/// when that is waited for, and takes what it is told of.
fn drive(accumulator: &Accumulator, bell: &Bell, records: u32) {
    let mut log = Log::default();
    let mut known = None;
    while log.0 < records {
        bell.wait();
        for event in accumulator.ready().drain() {
            match event {
                Event::Topic(topic) => {
                    topic.grow(1, None);
                    topic.resolve();
                }
                Event::Lane(lane) => {
                    log.take(&lane);
                    known = Some(lane);
                }
                Event::Pressure => known.iter().for_each(|lane| log.take(lane)),
            }
        }
    }
}

/// Polls once, without a task to be woken.
fn poll_once<F: Future + Unpin>(future: &mut F) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Two threads append and await what they appended, while a driver takes.
fn append_against_take(change: impl Fn(&mut Config)) {
    const EACH: u32 = 3;
    let (accumulator, bell) = plane(change);
    let topic = accumulator.topic("t");
    let appenders = [0, 1].map(|_| {
        let (accumulator, topic) = (Arc::clone(&accumulator), Arc::clone(&topic));
        thread::spawn(move || {
            let append = |_| append(&accumulator, &topic).expect("nobody closes");
            let deliveries: Vec<Delivery> = (0..EACH).map(append).collect();
            let offset =
                |delivery: Delivery| block_on(delivery).expect("written").offset.expect("told");
            deliveries.into_iter().map(offset).collect::<Vec<i64>>()
        })
    });
    drive(&accumulator, &bell, 2 * EACH);
    let mut all = Vec::new();
    for appender in appenders {
        let offsets = appender.join().expect("no panic");
        assert!(offsets.is_sorted(), "a thread's records changed their order: {offsets:?}");
        all.extend(offsets);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..i64::from(2 * EACH)), "each record is there once");
    assert_eq!(accumulator.memory().reserved(), 0);
}

#[test]
fn what_is_appended_while_others_take_is_there_once_in_order_and_told() {
    check(|| append_against_take(|config| config.batch_size = 1 << 14));
}

#[test]
fn what_is_appended_in_small_batches_and_little_memory_is_there_once_in_order_and_told() {
    check(|| {
        append_against_take(|config| {
            config.batch_size = 1;
            config.buffer_memory = 1024;
        });
    });
}

#[test]
fn what_was_accepted_before_a_close_is_taken() {
    check(|| {
        let (accumulator, _bell) = plane(|_| {});
        let topic = accumulator.topic("t");
        topic.grow(1, None);
        topic.resolve();
        let appender = {
            let (accumulator, topic) = (Arc::clone(&accumulator), Arc::clone(&topic));
            thread::spawn(move || {
                (0..3).take_while(|_| append(&accumulator, &topic).is_ok()).count()
            })
        };
        accumulator.close();
        accumulator.refuse_all(&Refusal::Closed);
        // Nothing is accepted from here on: what there is can be taken.
        let (lane, mut log) = (topic.lane(0).expect("it is counted"), Log::default());
        log.take(lane);
        let accepted = appender.join().expect("no panic");
        assert_eq!(log.0 as usize, accepted);
    });
}

#[test]
fn a_push_wakes_whoever_sleeps() {
    check(|| {
        let (accumulator, bell) = plane(|_| {});
        let pushers = [0, 1].map(|_| {
            let accumulator = Arc::clone(&accumulator);
            thread::spawn(move || accumulator.ready().push(Event::Pressure))
        });
        // Two that are pushed while nobody looks are one.
        let mut seen = 0;
        while seen == 0 {
            bell.wait();
            seen += accumulator.ready().drain().len();
        }
        pushers.into_iter().for_each(|pusher| pusher.join().expect("no panic"));
        let left = accumulator.ready().is_due();
        let rest = accumulator.ready().drain().len();
        assert!(rest == 0 || left, "an event that nobody is told of");
        assert!((1..=2).contains(&(seen + rest)));
    });
}

#[test]
fn an_outcome_wakes_who_waits_though_others_let_go() {
    check(|| {
        let batch = Arc::new(BatchCompletion::new(0));
        let receipt = |index| Delivery::new(Arc::clone(&batch), index, 0);
        let (first, second, third) = (receipt(0), receipt(1), receipt(2));
        batch.seal(3);
        let waits =
            |delivery: Delivery| thread::spawn(move || block_on(delivery).expect("written").offset);
        // Takes a place, lets go of it, and somebody else may take it meanwhile.
        let mut first = first;
        let lets_go = thread::spawn(move || poll_once(&mut first));
        let (second, third) = (waits(second), waits(third));
        // Split: the halves are resolved apart.
        batch.resolve(1..3, written(7));
        batch.resolve(0..1, written(6));
        lets_go.join().expect("no panic");
        assert_eq!(second.join().expect("no panic"), Some(7));
        assert_eq!(third.join().expect("no panic"), Some(8));
        assert!(batch.is_done());
    });
}

#[test]
fn an_outcome_wakes_the_last_task_that_asked() {
    check(|| {
        let batch = Arc::new(BatchCompletion::new(0));
        batch.seal(1);
        let mut delivery = Delivery::new(Arc::clone(&batch), 0, 0);
        let resolver = {
            let batch = Arc::clone(&batch);
            thread::spawn(move || batch.resolve(0..1, written(5)))
        };
        // Asked by one task, then handed to another.
        let _ = poll_once(&mut delivery);
        assert_eq!(block_on(delivery).expect("written").offset, Some(5));
        resolver.join().expect("no panic");
    });
}

#[test]
fn a_grant_that_is_dropped_goes_to_the_next_in_line() {
    check(|| {
        let memory = Memory::new(1024);
        let held = memory.try_take(1, 1).expect("nobody has any");
        let quits = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                let mut wait = memory.wait(1);
                let _ = poll_once(&mut wait);
                // It may be granted between the poll and the drop.
                drop(wait);
            })
        };
        let stays = [0, 1].map(|_| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || drop(block_on(memory.wait(1))))
        });
        drop(held);
        quits.join().expect("no panic");
        stays.into_iter().for_each(|stays| stays.join().expect("no panic"));
        assert_eq!(memory.reserved(), 0);
        assert!(!memory.contended());
    });
}

#[test]
fn who_waits_for_memory_is_not_overtaken() {
    check(|| {
        let memory = Memory::new(4096);
        let held = [0, 1].map(|_| memory.try_take(1, 1).expect("there is room for four"));
        let (stands, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let waiter = {
            let (memory, stands, served) =
                (Arc::clone(&memory), Arc::clone(&stands), Arc::clone(&served));
            thread::spawn(move || {
                let mut wait = memory.wait(4000);
                let waits = !poll_once(&mut wait);
                stands.store(waits, Ordering::SeqCst);
                let segment = block_on(wait);
                served.fetch_add(1, Ordering::SeqCst);
                drop(segment);
            })
        };
        let hasty = {
            let (memory, stands, served) =
                (Arc::clone(&memory), Arc::clone(&stands), Arc::clone(&served));
            thread::spawn(move || {
                let behind = stands.load(Ordering::SeqCst);
                // There is room for one of this size, but the other one wants all there is, and
                // says that it was served while it has it.
                if let Some(segment) = memory.try_take(1, 1) {
                    assert!(!behind || served.load(Ordering::SeqCst) == 1, "it was overtaken");
                    drop(segment);
                }
            })
        };
        held.into_iter().for_each(drop);
        waiter.join().expect("no panic");
        hasty.join().expect("no panic");
        assert_eq!(memory.reserved(), 0);
    });
}

#[test]
fn a_partition_that_is_counted_has_its_lane() {
    check(|| {
        let (accumulator, _bell) = plane(|_| {});
        let topic = accumulator.topic("t");
        let grows = {
            let topic = Arc::clone(&topic);
            thread::spawn(move || [1, 3, 8].into_iter().for_each(|count| topic.grow(count, None)))
        };
        for _ in 0..3 {
            let count = topic.partitions();
            assert!((0..count).all(|partition| topic.lane(partition).is_some()));
        }
        grows.join().expect("no panic");
    });
}

#[test]
fn who_waits_for_a_topic_passes_though_others_in_front_let_go() {
    check(|| {
        let (accumulator, bell) = plane(|_| {});
        let topic = accumulator.topic("t");
        let quits = {
            let (accumulator, topic) = (Arc::clone(&accumulator), Arc::clone(&topic));
            thread::spawn(move || {
                let mut wait = topic.wait(&accumulator);
                let _ = poll_once(&mut wait);
                drop(wait);
            })
        };
        let stays = [0, 1].map(|_| {
            let (accumulator, topic) = (Arc::clone(&accumulator), Arc::clone(&topic));
            thread::spawn(move || append(&accumulator, &topic).expect("nobody closes"))
        });
        drive(&accumulator, &bell, 2);
        quits.join().expect("no panic");
        let offset = |delivery: Delivery| block_on(delivery).expect("written").offset;
        let offsets = stays.map(|stays| offset(stays.join().expect("no panic")));
        assert!(offsets == [Some(0), Some(1)] || offsets == [Some(1), Some(0)], "{offsets:?}");
        assert!(!topic.is_awaited());
    });
}
