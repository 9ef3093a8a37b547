//! Single appends and runs: what is accepted, what is refused, what is told to whom.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use super::{NOON, Seen, World, batches, read, take_all, value};
use crate::accumulator::topic::Topic;
use crate::accumulator::{Intent, NotAppended, Provision};
use crate::batch::completion::{BatchDeliveries, Deduplicated, Outcome};
use crate::batch::open::EXPLOSIVE;
use crate::config::ConfigBuilder;
use crate::error::Refusal;
use crate::memory::MemoryWait;
use crate::partitioner::{Choice, Keyed, Partitioner, RoundRobin};
use crate::record::{Header, Record};
use crate::time::{Instant, Timestamp};
use crate::wire::{batch_header, record};

fn poll(wait: &mut MemoryWait) -> Poll<crate::memory::Segment> {
    Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_record_is_read_as_it_was_handed_in() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    let headers = [
        Header { name: "trace", value: Some(b"1") },
        Header { name: "", value: Some(b"") },
        Header { name: "trace", value: None },
        Header { name: "trace", value: Some(b"1") },
    ];
    let key = Some(&b"k"[..]);
    let records = [
        Record { key, value: Some(b"v"), headers: &headers, timestamp: Some(1) },
        Record { key: Some(b""), value: Some(b""), headers: &[], timestamp: Some(i64::MAX / 2) },
        Record { key: None, value: None, headers: &headers[1..2], timestamp: Some(0) },
        Record { key, value: None, headers: &[], timestamp: Some(77) },
        Record::default(),
    ];
    for record in records {
        world.append_record(&topic, Some(0), record).detach();
    }
    let mut taken = take_all(topic.lane(0).unwrap());
    assert_eq!(taken.len(), 1);
    let seen = read(taken.remove(0));
    assert_eq!(seen, records.map(|record| Seen::of(&record, NOON)));
}

#[test]
fn timestamps_too_far_apart_for_one_batch_go_to_two() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    // Only a clock can be before 1970.
    world.clock.set(i64::MIN);
    let stamps = [i64::MIN, i64::MAX, 0, i64::MAX - 1, 5];
    for timestamp in stamps {
        let timestamp = Some(timestamp).filter(|it| *it >= 0);
        world.append_record(&topic, Some(0), Record { timestamp, ..Record::default() }).detach();
    }
    let taken = take_all(topic.lane(0).unwrap());
    let seen: Vec<_> = taken.into_iter().map(read).collect();
    let counts: Vec<_> = seen.iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 4], "from MIN no delta reaches MAX");
    let seen: Vec<_> = seen.iter().flatten().map(|seen| seen.timestamp).collect();
    assert_eq!(seen, stamps);
}

#[test]
fn a_negative_timestamp_is_refused_with_its_value_and_the_remedy() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    for timestamp in [-1, -77, i64::MIN] {
        let record = Record { timestamp: Some(timestamp), ..Record::default() };
        let intents = [Intent { record, partition: Some(0) }; 2];
        let refusal = NotAppended::Refused(Refusal::NegativeTimestamp { timestamp });
        let mut provision = Provision::default();
        let one = world.accumulator.try_append(&topic, &intents[0], false, &mut provision);
        assert_eq!(one.map(drop), Err(refusal.clone()));
        let run = world.accumulator.append_run(&topic, &intents, None, &mut provision);
        assert_eq!(run, (0, Err(refusal)));
    }
    let text = Refusal::NegativeTimestamp { timestamp: -77 }.to_string();
    assert!(text.contains("-77") && text.contains("since 1970"), "{text}");
    assert_eq!(world.reserved(), 0);
    world
        .append_record(&topic, Some(0), Record { timestamp: Some(0), ..Record::default() })
        .detach();
}

#[test]
fn a_record_without_a_timestamp_takes_the_time_not_its_neighbours() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    let far = NOON + 1_000_000_000_000;
    let first = Record { timestamp: Some(far), ..Record::default() };
    world.append_record(&topic, Some(0), first).detach();
    world.append_record(&topic, Some(0), Record::default()).detach();
    world.accumulator.set_coarse_time(Timestamp(NOON + 3));
    world.append_record(&topic, Some(0), Record::default()).detach();
    // A clock that was set back does not make a record older than its batch.
    world.accumulator.set_coarse_time(Timestamp(NOON - 500));
    world.append_record(&topic, Some(0), Record::default()).detach();
    let stamps = |batch| read(batch).iter().map(|seen| seen.timestamp).collect::<Vec<_>>();
    let taken: Vec<_> = take_all(topic.lane(0).unwrap()).into_iter().map(stamps).collect();
    assert_eq!(taken, [[far, NOON, NOON + 3, NOON]]);
}

#[test]
fn the_receipt_tells_the_records_timestamp() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    let own = Record { timestamp: Some(9), ..Record::default() };
    let receipts = [own, Record::default()].map(|of| world.append_record(&topic, Some(0), of));
    let batch = topic.lane(0).unwrap().take(true).0.unwrap();
    let deduplicated = Deduplicated::No;
    let written = Outcome::Written { base_offset: Some(5), log_append_time: None, deduplicated };
    batch.completion.resolve(0..2, written);
    let told = receipts.map(|receipt| receipt.outcome().unwrap().unwrap());
    assert_eq!(told.map(|told| (told.offset, told.timestamp)), [(Some(5), 9), (Some(6), NOON)]);
}

#[test]
fn only_the_record_that_opens_a_batch_reads_the_clock() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    for _ in 0..150 {
        world.append(&topic, 0, &[1; 90]);
    }
    assert_eq!(world.clock.reads(), 1, "growing a batch needs no time");
    let all = vec![value(&[2; 90]); 500];
    let mut provision = Provision::default();
    world.accumulator.append_run(&topic, &all, None, &mut provision).1.unwrap();
    let opened = world.accumulator.counters().snapshot().batches_opened;
    assert_eq!(world.clock.reads() as u64, opened);
    // A segment brought along is not a reason to look at the clock either.
    let mut provision =
        Provision { segment: world.accumulator.memory().try_take(1024, 0), ..Provision::default() };
    world.accumulator.try_append(&topic, &value(b"x"), false, &mut provision).unwrap();
    assert_eq!(world.clock.reads() as u64, opened);
    assert!(provision.segment.is_some(), "it was not needed");
}

#[test]
fn a_batch_is_as_old_as_its_first_record() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    world.append(&topic, 0, b"first");
    world.clock.set(NOON + 10);
    world.append(&topic, 0, b"second");
    let (batch, view) = topic.lane(0).unwrap().take(true);
    assert_eq!(batch.unwrap().opened, Instant::from_millis(NOON as u64));
    assert_eq!((view.open, view.oldest, view.sealed), (None, None, 0));
}

#[test]
fn a_batch_takes_what_batch_size_allows_and_no_byte_more() {
    for batch_size in [200, 1000, 5000, 16_384, 100_000] {
        let world = World::new(|config| config.batch_size = batch_size);
        let topic = world.topic(1);
        for _ in 0..3 * batch_size / 90 {
            world.append(&topic, 0, &[7; 80]);
        }
        let lens: Vec<_> =
            take_all(topic.lane(0).unwrap()).iter().map(|of| 61 + of.body.len()).collect();
        let (last, full) = lens.split_last().unwrap();
        assert!(full.iter().all(|len| (batch_size - 90..=batch_size).contains(len)), "{lens:?}");
        assert!(*last <= batch_size);
    }
}

#[test]
fn batch_size_0_is_one_record_per_batch() {
    let world = World::new(|config| config.batch_size = 0);
    let topic = world.topic(1);
    for text in ["a", "b", "c"] {
        world.append(&topic, 0, text.as_bytes());
    }
    assert_eq!(batches(topic.lane(0).unwrap()), [["a"], ["b"], ["c"]]);
}

#[test]
fn a_record_larger_than_batch_size_goes_alone() {
    let world = World::new(|config| config.batch_size = 300);
    let topic = world.topic(1);
    let large = "x".repeat(100_000);
    for text in ["a", &large, "b", "c"] {
        world.append(&topic, 0, text.as_bytes());
    }
    assert_eq!(batches(topic.lane(0).unwrap()), [vec!["a"], vec![&large], vec!["b", "c"]]);
    assert_eq!(world.reserved(), 0);
}

#[test]
fn a_batch_never_outgrows_max_request_size() {
    let world = World::new(|config| {
        config.batch_size = 1 << 20;
        config.max_request_size = 10_000;
    });
    let topic = world.topic(1);
    for _ in 0..500 {
        world.append(&topic, 0, &[7; 80]);
    }
    let taken = take_all(topic.lane(0).unwrap());
    assert!(taken.len() > 1 && taken.iter().all(|batch| 61 + batch.body.len() <= 10_000));
}

#[test]
fn a_busy_lanes_batch_takes_one_segment_and_an_idle_ones_1_kib() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    world.append(&topic, 0, b"idle");
    assert_eq!(world.reserved(), 1024);
    for _ in 0..400 {
        world.append(&topic, 0, &[7; 90]);
    }
    let taken = take_all(topic.lane(0).unwrap());
    let segments: Vec<_> = taken.iter().map(|batch| batch.body.parts().count()).collect();
    assert_eq!(segments, [3, 1, 1], "the first one grew, and was full");
    drop(taken);
    // Taken before it was full: the lane is not busy any more.
    world.append(&topic, 0, b"idle");
    assert_eq!(world.reserved(), 1024);
}

/// Why the record is refused, alone and in a run alike. Empties the lanes.
fn refusal(world: &World, topic: &Arc<Topic>, intent: &Intent<'_>) -> Option<Refusal> {
    let single = world.accumulator.try_append(topic, intent, true, &mut Provision::default()).err();
    topic.lanes().for_each(|lane| drop(take_all(lane)));
    let (count, run) =
        world.accumulator.append_run(topic, &[*intent], None, &mut Provision::default());
    topic.lanes().for_each(|lane| drop(take_all(lane)));
    assert_eq!((count, run.err()), (usize::from(single.is_none()), single.clone()));
    match single {
        Some(NotAppended::Refused(refusal)) => Some(refusal),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_limits_that_settings_take_are_enough_for_an_empty_record() {
    let least = record::upper_bound(&Record::default()) + batch_header::LEN;
    for name in ["max.request.size", "buffer.memory"] {
        let with = |size: usize| {
            let mut builder = ConfigBuilder::new();
            builder.set("bootstrap.servers", "h:1").expect("an address");
            builder.set("batch.size", "0").expect("supported");
            builder.set(name, &size.to_string()).map(|_| builder.build().expect("it can work").0)
        };
        assert!(with(least - 1).is_err(), "{name}: no record could be accepted");
        let config = with(least).expect("one can");
        let world = World::new(|it| *it = config.clone());
        let topic = world.topic(1);
        let empty = Intent { record: Record::default(), partition: None };
        assert_eq!(refusal(&world, &topic, &empty), None, "{name}");
        assert!(refusal(&world, &topic, &value(b"x")).is_some(), "{name}");
    }
}

#[test]
fn a_record_over_a_limit_is_refused_by_the_settings_name() {
    for (buffer_memory, max_request_size, name) in
        [(32 << 20, 5000, "max.request.size"), (5000, 1 << 20, "buffer.memory")]
    {
        let world = World::new(|config| {
            config.buffer_memory = buffer_memory;
            config.max_request_size = max_request_size;
            config.batch_size = 100;
        });
        let topic = world.topic(1);
        let mut largest = 0;
        for len in 4800..5000 {
            let bytes = vec![0; len];
            let bare = refusal(&world, &topic, &value(&bytes));
            let headers = [Header { name: "h", value: Some(&bytes) }];
            let record = Record { headers: &headers, ..Record::default() };
            let with_headers = refusal(&world, &topic, &Intent { record, partition: None });
            match bare {
                None => largest = len,
                Some(Refusal::TooLarge { size, limit, setting }) => {
                    assert_eq!((limit, setting), (5000, name));
                    assert!(size > 5000);
                    assert!(with_headers.is_some(), "headers only add to it");
                }
                other => panic!("{other:?}"),
            }
        }
        // 61 bytes of header, and a few of lengths.
        assert!((4900..4939).contains(&largest), "{largest}");
        assert_eq!(world.reserved(), 0);
    }
}

#[test]
fn a_record_as_large_as_the_memory_is_accepted_or_refused_and_never_waits() {
    let world = World::new(|config| {
        config.buffer_memory = 70_000;
        config.batch_size = 16_384;
    });
    let topic = world.topic(1);
    for len in (69_000..70_100).step_by(7) {
        let bytes = vec![0; len];
        let fits = refusal(&world, &topic, &value(&bytes)).is_none();
        assert_eq!(fits, len + 25 + 61 <= 70_000, "{len}");
    }
}

#[test]
fn a_partition_that_does_not_exist_is_refused() {
    let world = World::new(|_| {});
    let topic = world.topic(3);
    for partition in [3, -1, i32::MAX, i32::MIN] {
        let intent = Intent { partition: Some(partition), ..value(b"v") };
        let expected = Refusal::UnknownPartition { partition, partitions: 3 };
        assert_eq!(refusal(&world, &topic, &intent), Some(expected));
    }
    assert_eq!(world.reserved(), 0);
}

#[test]
fn a_closed_producer_refuses_and_keeps_what_it_accepted() {
    let world = World::new(|_| {});
    let topic = world.topic(2);
    world.append(&topic, 0, b"before");
    world.accumulator.close();
    world.accumulator.close();
    assert_eq!(batches(topic.lane(0).unwrap()), [["before"]]);
    assert_eq!(refusal(&world, &topic, &value(b"after")), Some(Refusal::Closed));
}

#[test]
fn a_refused_lane_refuses_under_its_own_lock_with_the_first_reason() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    world.append(&topic, 0, b"before");
    // As between the gate's look and the lane's: the refusal is seen where records are accepted.
    topic.lane(0).unwrap().refuse(&Refusal::TopicGone);
    topic.lane(0).unwrap().refuse(&Refusal::Closed);
    assert_eq!(batches(topic.lane(0).unwrap()), [["before"]]);
    assert_eq!(refusal(&world, &topic, &value(b"after")), Some(Refusal::TopicGone));
    assert_eq!(world.reserved(), 0, "a segment fetched for a refused record went back");
}

#[test]
fn every_topic_refuses_once_all_are_told_to_future_ones_and_lanes_included() {
    let world = World::new(|_| {});
    let known = world.topic(2);
    world.accumulator.refuse_all(&Refusal::Closed);
    known.grow(9, known.refusal().as_ref());
    let late = world.accumulator.topic("late");
    late.grow(1, late.refusal().as_ref());
    late.resolve();
    for (topic, partition) in [(&known, 1), (&known, 8), (&late, 0)] {
        let intent = Intent { partition: Some(partition), ..value(b"v") };
        assert_eq!(refusal(&world, topic, &intent), Some(Refusal::Closed));
        let mut provision = Provision::default();
        let in_turn = world.accumulator.append_in_turn(topic, &intent, false, &mut provision);
        assert_eq!(in_turn.err(), Some(NotAppended::Refused(Refusal::Closed)));
    }
}

#[test]
fn a_retired_name_is_another_topics() {
    let world = World::new(|_| {});
    let old = world.topic(1);
    world.accumulator.retire(&old);
    let new = world.accumulator.topic("clicks");
    assert_ne!(old.index(), new.index());
    world.accumulator.retire(&old);
    assert_eq!(world.accumulator.topic("clicks").index(), new.index());
}

#[test]
fn the_control_plane_hears_of_a_batch_opened_or_sealed_and_of_nothing_else() {
    let world = World::new(|config| config.batch_size = 1000);
    let topic = world.topic(2);
    world.append(&topic, 1, &[0; 90]);
    assert_eq!(world.events(), ["1"], "opened");
    for _ in 0..8 {
        world.append(&topic, 1, &[0; 90]);
        assert_eq!(world.events(), [""; 0], "joined");
    }
    world.append(&topic, 1, &[0; 90]);
    assert_eq!(world.events(), ["1"], "sealed, and another opened");
    world.append(&topic, 0, &[0; 90]);
    topic.lane(1).unwrap().seal();
    assert_eq!(world.events(), ["0"], "who seals from outside knows");
    let opened = world.accumulator.counters().snapshot().batches_opened;
    assert_eq!(opened, 3);
}

#[test]
fn the_control_plane_hears_of_a_batch_sealed_for_a_record_that_found_no_memory() {
    let world = World::new(|config| {
        config.batch_size = 1000;
        config.buffer_memory = 1024;
    });
    let topic = world.topic(1);
    world.append(&topic, 0, &[0; 800]);
    assert_eq!(world.events(), ["0"]);
    let mut provision = Provision::default();
    let full = world.accumulator.try_append(&topic, &value(&[0; 800]), false, &mut provision);
    assert!(matches!(full, Err(NotAppended::NoMemory { .. })));
    assert_eq!(world.events(), ["0", "pressure"]);
    assert_eq!(topic.lane(0).unwrap().view().sealed, 1);
}

#[test]
fn a_batch_opened_anywhere_brings_the_time_to_all() {
    let world = World::new(|_| {});
    let topic = world.topic(2);
    world.append(&topic, 0, b"noon");
    world.clock.set(NOON + 60_000);
    world.append(&topic, 1, b"a minute later");
    world.append(&topic, 0, b"a minute later");
    let seen = read(topic.lane(0).unwrap().take(true).0.unwrap());
    assert_eq!(seen.iter().map(|seen| seen.timestamp).collect::<Vec<_>>(), [NOON, NOON + 60_000]);
}

#[test]
fn a_wake_is_called_once_until_the_control_plane_looks() {
    let world = World::new(|_| {});
    let topic = world.topic(3);
    assert!(!world.accumulator.ready().is_due());
    for partition in 0..3 {
        world.append(&topic, partition, b"v");
    }
    assert!(world.accumulator.ready().is_due());
    assert_eq!(world.wake.0.load(Ordering::SeqCst), 1);
    assert_eq!(world.events(), ["0", "1", "2"]);
    assert!(!world.accumulator.ready().is_due());
    topic.lane(0).unwrap().seal();
    world.append(&topic, 0, b"v");
    assert_eq!(world.wake.0.load(Ordering::SeqCst), 2);
}

#[test]
fn a_caller_who_tries_again_and_again_fills_no_memory_with_events() {
    let world = World::new(|config| {
        config.buffer_memory = 4096;
        config.batch_size = 4096;
    });
    let topic = world.topic(1);
    let bytes = [0; 3000];
    world.append(&topic, 0, &bytes);
    for _ in 0..10_000 {
        let mut provision = Provision::default();
        let full = world.accumulator.try_append(&topic, &value(&bytes), true, &mut provision);
        assert!(matches!(full, Err(NotAppended::NoMemory { .. })));
    }
    assert_eq!(world.events(), ["0", "pressure"]);
    assert_eq!(world.events(), [""; 0]);
}

#[test]
fn who_waits_for_memory_is_heard_of_though_the_control_plane_has_just_looked() {
    let world = World::new(|config| {
        config.buffer_memory = 4096;
        config.batch_size = 4096;
    });
    let topic = world.topic(1);
    world.append(&topic, 0, &[0; 3000]);
    let mut provision = Provision::default();
    let full = world.accumulator.try_append(&topic, &value(&[0; 3000]), true, &mut provision);
    let Err(NotAppended::NoMemory { least }) = full else { panic!("{full:?}") };
    assert_eq!(world.events(), ["0", "pressure"]);
    // Nobody waits yet, so that the control plane may think that the pressure is gone.
    assert!(!world.accumulator.memory().contended());
    let mut wait = world.accumulator.memory().wait(least);
    assert!(poll(&mut wait).is_pending());
    assert_eq!(world.events(), ["pressure"]);
    drop(take_all(topic.lane(0).unwrap()));
    let Poll::Ready(segment) = poll(&mut wait) else { panic!("memory came back") };
    provision.segment = Some(segment);
    world.accumulator.try_append(&topic, &value(&[0; 3000]), true, &mut provision).unwrap();
    assert!(provision.segment.is_none());
    drop(take_all(topic.lane(0).unwrap()));
    assert_eq!(world.reserved(), 0);
}

#[test]
fn a_segment_waited_for_will_do_whatever_became_of_the_lane() {
    // The least asked for at every fill of the batch suffices to open another one as well.
    for filled in (0..900).step_by(5) {
        let world = World::new(|config| config.buffer_memory = 1 << 20);
        let topic = world.topic(1);
        world.append(&topic, 0, &vec![0; filled]);
        // Near a class's border, where the byte or two of an offset or a timestamp would count.
        for len in 1000..1024 {
            let bytes = vec![1; len];
            let intent = Intent {
                record: Record { value: Some(&bytes), ..Record::default() },
                partition: None,
            };
            let hog = world
                .accumulator
                .memory()
                .try_take(world.accumulator.memory().limit() - world.reserved(), 0);
            let mut provision = Provision::default();
            let full = world.accumulator.try_append(&topic, &intent, false, &mut provision);
            let Err(NotAppended::NoMemory { least }) = full else { continue };
            drop(hog);
            provision.segment = world.accumulator.memory().try_take(least, 0);
            // Meanwhile the batch was taken, and somebody else has all the memory.
            drop(take_all(topic.lane(0).unwrap()));
            let free = world.accumulator.memory().limit() - world.reserved();
            let hog = world.accumulator.memory().try_take(free, 0).unwrap();
            world.accumulator.try_append(&topic, &intent, false, &mut provision).unwrap();
            drop(hog);
        }
    }
}

#[test]
fn nobody_waits_for_memory_while_holding_some() {
    let world = World::new(|config| {
        config.buffer_memory = 20 << 10;
        config.batch_size = 100;
    });
    let topic = world.topic(1);
    let memory = world.accumulator.memory();
    let mut provision = Provision { segment: memory.try_take(1024, 0), ..Provision::default() };
    let hog = memory.try_take(4096, 0);
    let large = vec![0; 18_000];
    let full = world.accumulator.try_append(&topic, &value(&large), false, &mut provision);
    let Err(NotAppended::NoMemory { least }) = full else { panic!("{full:?}") };
    assert!(provision.segment.is_none(), "a spare that is too small goes back");
    drop(hog);
    let mut wait = memory.wait(least);
    let Poll::Ready(segment) = poll(&mut wait) else { panic!("it is all free") };
    provision.segment = Some(segment);
    world.accumulator.try_append(&topic, &value(&large), false, &mut provision).unwrap();
}

#[test]
fn flush_seals_what_was_accepted_before_the_mark_and_nothing_later() {
    let world = World::new(|_| {});
    let topic = world.topic(2);
    world.append(&topic, 0, b"before");
    let mark = world.accumulator.mark();
    world.append(&topic, 0, b"joins the batch that was open");
    world.append(&topic, 1, b"after");
    let lanes = [0, 1].map(|at| topic.lane(at).unwrap());
    assert_eq!(lanes.map(|lane| lane.seal_before(mark)), [1, 0]);
    assert_eq!(lanes.map(|lane| lane.view().sealed), [1, 0]);
    assert_eq!(lanes.map(|lane| lane.view().open.is_some()), [false, true]);
    world.append(&topic, 0, b"after");
    assert_eq!(lanes.map(|lane| lane.seal_before(mark)), [1, 0]);
    assert_eq!(lanes.map(|lane| lane.seal_before(world.accumulator.mark())), [2, 1]);
}

#[test]
fn only_full_batches_are_taken_unless_the_open_one_is_asked_for() {
    let world = World::new(|config| config.batch_size = 200);
    let topic = world.topic(1);
    let lane = topic.lane(0).unwrap();
    for _ in 0..3 {
        world.append(&topic, 0, &[0; 100]);
    }
    assert_eq!(lane.view().sealed, 2);
    let (first, second) = (lane.take(false).0.unwrap(), lane.take(true).0.unwrap());
    assert!(first.id < second.id);
    assert!(lane.take(false).0.is_none());
    assert!(lane.take(true).0.unwrap().id > second.id);
    assert!(lane.take(true).0.is_none());
}

/// Looks into every lane whenever it is asked, as a partitioner could that itself produces.
struct Nosy {
    topic: OnceLock<Arc<Topic>>,
    asked: AtomicUsize,
}

impl Partitioner for Nosy {
    fn partition(&self, record: Keyed<'_>, partitions: u32) -> Choice {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(topic) = self.topic.get() {
            assert!(topic.lanes().all(|lane| lane.view().sealed < 1000));
        }
        let first = record.value.and_then(|value| value.first()).copied().unwrap_or(0);
        Choice::Partition(i32::from(first) % partitions as i32)
    }
}

#[test]
fn a_partitioner_is_asked_under_no_lock_and_once_a_record() {
    let nosy = Arc::new(Nosy { topic: OnceLock::new(), asked: AtomicUsize::new(0) });
    let world = World::with(|_| {}, Some(Arc::clone(&nosy) as _));
    let topic = world.topic(3);
    nosy.topic.set(Arc::clone(&topic)).unwrap();
    let values: Vec<[u8; 2]> = (0..200u8).map(|at| [at / 5, at]).collect();
    let intents: Vec<_> = values.iter().map(|of| value(of)).collect();
    let mut provision = Provision::default();
    for intent in &intents {
        world.accumulator.try_append(&topic, intent, false, &mut provision).unwrap();
    }
    assert_eq!(nosy.asked.swap(0, Ordering::SeqCst), 200);
    let (count, result) = world.accumulator.append_run(&topic, &intents, None, &mut provision);
    assert_eq!((count, result), (200, Ok(())));
    assert_eq!(nosy.asked.load(Ordering::SeqCst), 200);
}

#[test]
fn round_robin_goes_round_in_runs_too() {
    let world = World::with(|_| {}, Some(Arc::new(RoundRobin::new())));
    let topic = world.topic(3);
    let values: Vec<_> = (0..30).map(|at| at.to_string()).collect();
    let intents: Vec<_> = values.iter().map(|of| value(of.as_bytes())).collect();
    let mut provision = Provision::default();
    for run in intents.chunks(7) {
        world.accumulator.append_run(&topic, run, None, &mut provision).1.unwrap();
    }
    for partition in 0..3 {
        let expected: Vec<_> = (partition..30).step_by(3).map(|at| at.to_string()).collect();
        assert_eq!(batches(topic.lane(partition).unwrap()), [expected]);
    }
}

#[test]
fn a_run_stops_at_the_first_record_that_is_refused() {
    let world = World::new(|config| config.max_request_size = 1000);
    let topic = world.topic(2);
    let large = [0; 2000];
    let at = |partition| Intent { partition: Some(partition), ..value(b"v") };
    for bad in [Intent { partition: Some(0), ..value(&large) }, at(2)] {
        let run = [at(0), at(0), at(1), bad, at(0)];
        let mut receipts = BatchDeliveries::default();
        let mut provision = Provision::default();
        let (count, result) =
            world.accumulator.append_run(&topic, &run, Some(&mut receipts), &mut provision);
        assert_eq!((count, receipts.len()), (3, 3));
        assert!(matches!(result, Err(NotAppended::Refused(_))));
    }
    assert_eq!(batches(topic.lane(0).unwrap()), [["v"; 4]]);
    assert_eq!(batches(topic.lane(1).unwrap()), [["v"; 2]]);
}

#[test]
fn a_run_that_finds_no_memory_goes_on_where_it_stopped() {
    let world = World::new(|config| {
        config.buffer_memory = 8192;
        config.batch_size = 1000;
    });
    let topic = world.topic(1);
    let values: Vec<_> = (0..100).map(|at| format!("{at:0>400}")).collect();
    let intents: Vec<_> = values.iter().map(|of| value(of.as_bytes())).collect();
    let mut receipts = BatchDeliveries::default();
    let mut done = 0;
    let mut seen = Vec::new();
    while done < intents.len() {
        let mut provision = Provision::default();
        let (count, result) = world.accumulator.append_run(
            &topic,
            &intents[done..],
            Some(&mut receipts),
            &mut provision,
        );
        done += count;
        assert_eq!(result.is_ok(), done == intents.len());
        assert!(world.reserved() <= 8192 && provision.segment.is_none());
        seen.extend(batches(topic.lane(0).unwrap()).concat());
    }
    assert_eq!(seen, values);
    assert_eq!(receipts.len(), 100);
}

#[test]
fn an_append_before_the_partitions_are_known_is_told_to_wait() {
    let world = World::new(|_| {});
    let topic = world.accumulator.topic("clicks");
    let mut provision = Provision::default();
    let single = world.accumulator.try_append(&topic, &value(b"v"), false, &mut provision);
    assert_eq!(single.err(), Some(NotAppended::Unresolved));
    let run = world.accumulator.append_run(&topic, &[value(b"v")], None, &mut provision);
    assert_eq!(run, (0, Err(NotAppended::Unresolved)));
    // A broker that says "no partitions" has said nothing.
    topic.resolve();
    let single = world.accumulator.try_append(&topic, &value(b"v"), false, &mut provision);
    assert_eq!(single.err(), Some(NotAppended::Unresolved));
}

/// Gives partitions in turn, and counts how often it was asked.
#[derive(Default)]
struct InTurn(AtomicUsize);

impl Partitioner for InTurn {
    fn partition(&self, _: Keyed<'_>, partitions: u32) -> Choice {
        let turn = self.0.fetch_add(1, Ordering::SeqCst);
        Choice::Partition((turn % partitions as usize) as i32)
    }
}

/// A data plane of one small batch a record, all of whose memory somebody holds.
fn starved(partitions: u32) -> (World, Arc<Topic>, Arc<InTurn>, crate::memory::Segment) {
    let in_turn = Arc::new(InTurn::default());
    let small = |config: &mut crate::config::Config| {
        config.buffer_memory = 16 << 10;
        config.batch_size = 0;
    };
    let world = World::with(small, Some(Arc::clone(&in_turn) as _));
    let topic = world.topic(partitions);
    let hog = world.accumulator.memory().try_take(16 << 10, 0).expect("it is all free");
    (world, topic, in_turn, hog)
}

fn filled(topic: &Topic) -> Vec<usize> {
    topic.lanes().map(|lane| take_all(lane).len()).collect()
}

#[test]
fn a_partitioner_is_asked_once_for_a_record_that_waits_for_memory() {
    // KAFKA-9965
    let (world, topic, in_turn, hog) = starved(4);
    let mut provision = Provision::new(0);
    let mut append = || world.accumulator.try_append(&topic, &value(b"v"), false, &mut provision);
    for _ in 0..3 {
        assert!(matches!(append(), Err(NotAppended::NoMemory { .. })));
    }
    drop(hog);
    append().unwrap();
    assert_eq!(filled(&topic), [1, 0, 0, 0]);
    append().unwrap();
    assert_eq!(filled(&topic), [0, 1, 0, 0], "the next record is asked for");
    assert_eq!(in_turn.0.load(Ordering::SeqCst), 2);
}

#[test]
fn a_partitioner_is_asked_once_for_each_record_of_a_run_that_waits_for_memory() {
    let (world, topic, in_turn, hog) = starved(3);
    let mut provision = Provision::new(0);
    let run = [value(b"v"); 6];
    let mut rest = &run[..];
    let (done, result) = world.accumulator.append_run(&topic, rest, None, &mut provision);
    assert!(done == 0 && matches!(result, Err(NotAppended::NoMemory { .. })));
    drop(hog);
    // One alone, as after a wait; then the others.
    world.accumulator.try_append(&topic, &rest[0], false, &mut provision).unwrap();
    rest = &rest[1..];
    assert_eq!(world.accumulator.append_run(&topic, rest, None, &mut provision), (5, Ok(())));
    assert_eq!(filled(&topic), [2, 2, 2]);
    assert_eq!(in_turn.0.load(Ordering::SeqCst), 6);
}

#[test]
fn a_choice_made_for_fewer_partitions_is_made_anew() {
    let (world, topic, in_turn, hog) = starved(1);
    let mut provision = Provision::new(0);
    let mut append = || world.accumulator.try_append(&topic, &value(b"v"), false, &mut provision);
    append().expect_err("no memory");
    topic.grow(2, None);
    drop(hog);
    append().unwrap();
    assert_eq!(filled(&topic), [0, 1]);
    assert_eq!(in_turn.0.load(Ordering::SeqCst), 2);
}

#[test]
fn a_record_that_is_refused_after_a_wait_leaves_no_choice_to_the_next() {
    let (world, topic, in_turn, hog) = starved(2);
    let mut provision = Provision::new(0);
    let mut append = || world.accumulator.try_append(&topic, &value(b"v"), false, &mut provision);
    append().expect_err("no memory");
    drop(hog);
    topic.lane(0).unwrap().refuse(&Refusal::TopicGone);
    assert_eq!(append().map(drop), Err(NotAppended::Refused(Refusal::TopicGone)));
    append().unwrap();
    assert_eq!(filled(&topic), [0, 1]);
    assert_eq!(in_turn.0.load(Ordering::SeqCst), 2);
}

fn panics(append: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(append)).is_err()
}

fn explosive() -> Intent<'static> {
    let record = Record { key: Some(EXPLOSIVE), value: Some(b"half"), ..Record::default() };
    Intent { record, partition: Some(0) }
}

#[test]
fn a_panic_under_a_lanes_lock_sets_its_batch_aside_whole_and_no_other() {
    let world = World::new(|_| {});
    let topic = world.topic(2);
    let lane = topic.lane(0).unwrap();
    world.append(&topic, 0, b"sealed");
    lane.seal();
    for (partition, value) in [(0, b"a"), (0, b"b"), (1, b"x")] {
        world.append(&topic, partition, value);
    }
    world.events();
    let mut provision = Provision::default();
    assert!(panics(|| {
        let _ = world.accumulator.try_append(&topic, &explosive(), false, &mut provision);
    }));
    assert_eq!(world.events(), ["0"], "the control plane hears of it");
    world.append(&topic, 0, b"c");
    world.append(&topic, 1, b"y");
    let taken = take_all(lane);
    assert_eq!(taken.iter().map(|it| it.damaged).collect::<Vec<_>>(), [false, true, false]);
    let texts = |batch| read(batch).iter().map(Seen::text).collect::<Vec<_>>();
    let texts: Vec<_> = taken.into_iter().map(texts).collect();
    assert_eq!(texts, [vec!["sealed"], vec!["a", "b"], vec!["c"]]);
    assert_eq!(batches(topic.lane(1).unwrap()), [["x", "y"]]);
    assert_eq!(world.reserved(), 0);
}

#[test]
fn a_panic_in_the_append_that_opens_a_batch_leaves_nothing() {
    let world = World::new(|_| {});
    let topic = world.topic(1);
    let mut provision = Provision::default();
    assert!(panics(|| {
        let _ = world.accumulator.try_append(&topic, &explosive(), false, &mut provision);
    }));
    let lane = topic.lane(0).unwrap();
    assert_eq!((lane.view().oldest, world.reserved()), (None, 0));
    world.append(&topic, 0, b"next");
    assert_eq!(batches(lane), [["next"]]);
}
