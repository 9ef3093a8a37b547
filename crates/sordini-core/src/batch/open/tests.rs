//! A batch that takes records: how far it goes, to the byte.

use super::*;
use crate::memory::Memory;
use crate::time::Timestamp;

const NOW: Now = Now { mono: Instant::from_millis(5), wall: Timestamp(1000) };
const NO_LIMIT: usize = usize::MAX;
const KIB: usize = 1 << 10;

fn record(timestamp: Option<i64>) -> Record<'static> {
    Record { value: Some(b"a value of some length"), timestamp, ..Record::default() }
}

/// A batch that has its first segment, of 1 KiB.
fn open(limit: usize) -> Open {
    let segment = Memory::new(KIB).try_take(1, 0).expect("there is memory");
    Open::new(BatchId(9), NOW, 4, limit, &record(Some(2000)), segment)
}

/// Appends a record in a segment of its own; its length.
fn append(open: &mut Open, memory: &Arc<Memory>) -> usize {
    let fitted = open.fit(&record(Some(2000)), 0);
    open.grow(memory.try_take(fitted.len(), 0).expect("there is memory"));
    open.push(&record(Some(2000)), fitted).len
}

#[test]
fn a_batch_keeps_the_name_and_the_time_that_it_was_opened_with() {
    let open = open(NO_LIMIT);
    assert_eq!((open.id(), open.opened()), (BatchId(9), Instant::from_millis(5)));
    assert_eq!(open.completion().partition(), 4);
}

#[test]
fn a_record_without_a_timestamp_takes_the_time_but_none_before_the_batchs() {
    let open = open(NO_LIMIT);
    assert_eq!(open.fit(&record(None), 1700).timestamp, 1700);
    assert_eq!(open.fit(&record(None), 900).timestamp, 1000);
    assert_eq!(open.fit(&record(Some(-7)), 1700).timestamp, -7);
}

#[test]
fn a_batch_is_full_at_its_limit_to_the_byte() {
    let memory = Memory::new(1 << 20);
    let mut full = open(NO_LIMIT);
    let whole = (0..3).map(|_| append(&mut full, &memory)).sum::<usize>() + batch_header::LEN;
    let third = full.fit(&record(Some(2000)), 0).len();
    for (limit, admitted) in [(whole + third, true), (whole + third - 1, false)] {
        full.limit = NO_LIMIT;
        full.cap(limit);
        full.cap(limit + 9);
        assert_eq!(full.admits(&full.fit(&record(Some(2000)), 0)), admitted, "{limit}");
    }
    assert!(open(0).admits(&open(0).fit(&record(Some(2000)), 0)), "the first always");
}

#[test]
fn no_batch_has_more_records_than_its_header_can_count() {
    let mut open = open(NO_LIMIT);
    for (count, admitted) in [(MAX_COUNT - 1, true), (MAX_COUNT, false), (MAX_COUNT + 1, false)] {
        open.count = count;
        assert_eq!(open.admits(&open.fit(&record(Some(2000)), 0)), admitted, "{count}");
    }
}

#[test]
fn a_timestamp_too_far_from_the_first_one_needs_another_batch() {
    let memory = Memory::new(1 << 20);
    let mut open = open(NO_LIMIT);
    append(&mut open, &memory);
    assert!(open.admits(&open.fit(&record(Some(i64::MAX)), 0)));
    assert!(open.admits(&open.fit(&record(Some(i64::MIN + 2000)), 0)));
    assert!(!open.admits(&open.fit(&record(Some(i64::MIN + 1999)), 0)));
}

#[test]
fn a_segment_takes_what_fits_it_to_the_byte() {
    let memory = Memory::new(1 << 20);
    let mut open = open(NO_LIMIT);
    let fitted = open.fit(&record(Some(2000)), 0);
    let mut segment = memory.try_take(KIB, 0).expect("there is memory");
    let room = segment.room();
    segment.append(&vec![0; room - fitted.len()]);
    open.grow(segment);
    assert!(open.has_room(&fitted));
    open.last.append(&[0]);
    assert!(!open.has_room(&fitted));
}

#[test]
fn segments_grow_fourfold_as_far_as_the_batch_may() {
    let memory = Memory::new(1 << 20);
    for (limit, sizes) in [
        (1 << 20, [4, 16, 64, 64].map(|kib| kib * KIB)),
        ((256 << 10) + 1, [4, 16, 64, 64].map(|kib| kib * KIB)),
        (256 << 10, [4, 16, 16, 16].map(|kib| kib * KIB)),
        (batch_header::LEN + 3000, [3000; 4]),
        (0, [KIB; 4]),
    ] {
        let mut open = open(limit);
        for size in sizes {
            assert_eq!(open.wanted_segment(), size, "of {limit}");
            open.grow(memory.try_take(1, 0).expect("there is memory"));
        }
    }
    let mut open = open(batch_header::LEN + 3000);
    let len = append(&mut open, &memory) + append(&mut open, &memory);
    assert_eq!(open.wanted_segment(), 3000 - len);
}

#[test]
fn a_batch_begins_small_unless_the_last_one_was_full() {
    let sizes = |batch_size| [false, true].map(|full| Open::first_segment(batch_size, full));
    assert_eq!(sizes(16 << 10), [KIB, (16 << 10) - batch_header::LEN]);
    assert_eq!(sizes(256 << 10), [KIB, 16 * KIB]);
    assert_eq!(sizes(1 << 20), [KIB, 64 * KIB]);
    assert_eq!(sizes(100), [100 - batch_header::LEN; 2]);
    assert_eq!(sizes(0), [0; 2]);
}

#[test]
fn an_append_that_panicked_costs_the_records_before_it_no_byte() {
    let memory = Memory::new(1 << 20);
    let mut open = open(NO_LIMIT);
    append(&mut open, &memory);
    append(&mut open, &memory);
    let before: Vec<u8> =
        open.before.iter().chain([&open.last]).flat_map(|of| of.bytes().to_vec()).collect();
    open.last.append(b"half an append");
    let salvaged = open.salvage().expect("two records");
    assert_eq!((salvaged.count(), salvaged.damaged), (2, true));
    assert_eq!(salvaged.body.to_vec(), before);
}

#[test]
fn a_first_append_that_panicked_leaves_nothing() {
    let mut open = open(NO_LIMIT);
    open.last.append(&[0]);
    assert!(open.salvage().is_none());
}
