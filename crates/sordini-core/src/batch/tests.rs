//! A batch from open to stamped, and in halves.

use std::sync::Arc;

use proptest::prelude::*;
use sordini_protocol::records::Batch;

use super::BatchId;
use super::body::Body;
use super::completion::{Deduplicated, Outcome};
use super::open::Open;
use super::sealed::{Returned, Sealed};
use super::split::halve;
use super::stages::{Job, JobId, Ready, Stamped};
use crate::config::Codec;
use crate::error::{Cause, DeliveryError, Fate, Obstacle};
use crate::memory::Memory;
use crate::record::{Header, Record};
use crate::time::{Instant, Now, Timestamp};
use crate::wire::batch_header::Stamp;
use crate::wire::compress::Compressor;
use crate::wire::record::upper_bound;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// A record as read: timestamp, key, value, headers.
type Seen = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn sealed(memory: &Arc<Memory>, records: &[Record<'_>]) -> Sealed {
    let now = Now { mono: Instant::from_millis(5), wall: Timestamp(1000) };
    let first = memory.try_take(upper_bound(&records[0]), 4096).expect("there is memory");
    let mut open = Open::new(BatchId(9), now, 4, usize::MAX, &records[0], first);
    for record in records {
        let fitted = open.fit(record, 1000);
        if !open.has_room(&fitted) {
            open.grow(memory.try_take(fitted.len(), 4096).expect("there is memory"));
        }
        assert!(open.admits(&fitted));
        open.push(record, fitted);
    }
    open.seal()
}

fn ready(memory: &Arc<Memory>, batch: Sealed, codec: Codec) -> Ready {
    if codec == Codec::None {
        return batch.into_ready();
    }
    let id = JobId { topic: 0, partition: 4, batch: batch.id };
    let (compressing, body) = batch.into_compressing();
    compressing.into_ready(
        Job::new(id, body, codec, None, Arc::clone(memory)).run(&mut Compressor::default()),
    )
}

fn bytes(batch: &Stamped) -> Vec<u8> {
    [&batch.header[..], &batch.body.to_vec()].concat()
}

/// Reads a batch whose header must say what is in it.
fn read(batch: &Stamped) -> Vec<Seen> {
    let bytes = bytes(batch);
    let read = Batch::parse(&bytes).expect("a batch");
    read.verify_crc().expect("its checksum");
    let records = read.decompress(64 << 20).expect("it decompresses");
    let seen: Vec<Seen> = records
        .iter()
        .map(|record| {
            let record = record.expect("a record");
            let name = |name: &[u8]| String::from_utf8(name.to_vec()).expect("text");
            let headers = record.headers.iter().map(|of| (name(of.key), of.value.map(Into::into)));
            let (key, value) = (record.key.map(Into::into), record.value.map(Into::into));
            (record.timestamp, key, value, headers.collect())
        })
        .collect();
    let header = read.header();
    assert_eq!(header.last_offset_delta + 1, header.records_count);
    assert_eq!(
        (seen.len(), seen.len() as u32),
        (header.records_count as usize, batch.meta.count())
    );
    assert_eq!(header.base_timestamp, seen[0].0);
    assert_eq!(Some(header.max_timestamp), seen.iter().map(|seen| seen.0).max());
    assert_eq!((header.base_timestamp, header.max_timestamp), {
        (batch.meta.base_timestamp, batch.meta.max_timestamp)
    });
    assert_eq!((header.producer_id, header.base_sequence), {
        (batch.stamp.producer_id, batch.stamp.base_sequence)
    });
    seen
}

fn stamp(base_sequence: i32) -> Stamp {
    Stamp { producer_id: 77, epoch: 3, base_sequence, transactional: false }
}

type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, usize);

const HEADERS: [Header<'_>; 3] = [
    Header { name: "h", value: Some(b"1") },
    Header { name: "h", value: None },
    Header { name: "", value: Some(b"") },
];

fn records(parts: &[Parts]) -> Vec<Record<'_>> {
    parts.iter().map(as_record).collect()
}

fn as_record((key, value, timestamp, headers): &Parts) -> Record<'_> {
    let headers = &HEADERS[..*headers];
    Record { key: key.as_deref(), value: value.as_deref(), headers, timestamp: *timestamp }
}

fn parts() -> impl Strategy<Value = Vec<Parts>> {
    let bytes = |len| {
        prop::option::of(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..len),
            (any::<u8>(), 0..2 * len).prop_map(|(byte, len)| vec![byte; len]),
        ])
    };
    // Any two differ by less than 2^63; going back and forth all the same.
    let stamp = prop::option::of(prop_oneof![
        -3..3i64,
        Just(i64::MIN / 2),
        Just(i64::MAX / 2),
        i64::MIN / 2..i64::MAX / 2,
    ]);
    prop::collection::vec((bytes(20), bytes(300), stamp, 0..4usize), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn halves_are_the_batch_and_nothing_else(
        parts in parts(),
        codec in prop::sample::select(&CODECS[..]),
        base_sequence in prop_oneof![Just(0), Just(i32::MAX), i32::MAX - 80..=i32::MAX, 0..=i32::MAX],
    ) {
        let memory = Memory::new(1 << 20);
        let whole = ready(&memory, sealed(&memory, &records(&parts)), codec);
        let mut whole = whole.stamp(stamp(base_sequence));
        whole.meta.attempts = 2;
        let (seen, count) = (read(&whole), whole.meta.count());
        let (reserved, completion) = (memory.reserved(), Arc::clone(&whole.meta.completion));
        let halves = match halve(whole, None, &memory) {
            Ok(halves) => halves,
            Err((whole, _)) => {
                prop_assert_eq!(count, 1, "only one record cannot be cut");
                prop_assert_eq!(read(&whole), seen);
                prop_assert_eq!(memory.reserved(), reserved);
                return Ok(());
            }
        };
        prop_assert!(memory.reserved() <= reserved, "a split takes no more memory");
        let both: Vec<_> = halves.iter().flat_map(read).collect();
        prop_assert_eq!(both, seen);
        let mut next = (0, i64::from(base_sequence));
        for half in &halves {
            let (records, sequence) = (&half.meta.records, half.stamp.base_sequence);
            prop_assert!(!records.is_empty());
            prop_assert_eq!((records.start, i64::from(sequence)), (next.0, next.1 % (1 << 31)));
            next = (records.end, next.1 + i64::from(half.meta.count()));
            prop_assert_eq!((half.stamp.producer_id, half.stamp.epoch), (77, 3));
            prop_assert_eq!((half.meta.attempts, half.meta.ambiguous), (2, false));
            prop_assert_eq!((half.meta.id, half.meta.opened), (BatchId(9), Instant::from_millis(5)));
            prop_assert!(Arc::ptr_eq(&half.meta.completion, &completion));
        }
        prop_assert_eq!(next.0, count);
        drop(halves);
        prop_assert_eq!(memory.reserved(), 0);
    }

    #[test]
    fn halves_of_halves_end_in_single_records(parts in parts()) {
        let memory = Memory::new(1 << 20);
        let whole = ready(&memory, sealed(&memory, &records(&parts)), Codec::Gzip);
        let whole = whole.stamp(stamp(i32::MAX - 5));
        let seen = read(&whole);
        let mut queue = vec![whole];
        let mut singles = Vec::new();
        while let Some(batch) = queue.pop() {
            match halve(batch, None, &memory) {
                Ok([first, second]) => queue.extend([second, first]),
                Err((single, _)) => singles.push(single),
            }
        }
        prop_assert_eq!(singles.len(), seen.len());
        for (at, (single, seen)) in singles.iter().zip(seen).enumerate() {
            prop_assert_eq!(read(single), [seen]);
            let sequence = (i64::from(i32::MAX) - 5 + at as i64) % (1 << 31);
            prop_assert_eq!(i64::from(single.stamp.base_sequence), sequence);
        }
    }
}

fn of_values(memory: &Arc<Memory>, values: &[&[u8]]) -> Sealed {
    let record = |value: &&'static [u8]| Record { value: Some(value), ..Record::default() };
    let values: Vec<&'static [u8]> = values.iter().map(|of| &*of.to_vec().leak()).collect();
    sealed(memory, &values.iter().map(record).collect::<Vec<_>>())
}

#[test]
fn a_batch_without_idempotence_has_halves_without_sequences() {
    let memory = Memory::new(1 << 20);
    let whole = of_values(&memory, &[b"a", b"b", b"c"]).into_ready().stamp(Stamp::NONE);
    let halves = halve(whole, None, &memory).expect("it has three records");
    assert!(halves.iter().all(|half| half.stamp == Stamp::NONE));
    assert_eq!(halves.map(|half| half.meta.count()), [1, 2]);
}

#[test]
#[should_panic(expected = "S3")]
fn a_batch_that_may_be_in_the_log_is_not_cut() {
    let memory = Memory::new(1 << 20);
    let mut whole = of_values(&memory, &[b"a", b"b"]).into_ready().stamp(stamp(0));
    whole.meta.ambiguous = true;
    drop(halve(whole, None, &memory));
}

#[test]
#[should_panic(expected = "S3")]
fn a_batch_that_may_be_in_the_log_keeps_its_stamp() {
    let memory = Memory::new(1 << 20);
    let mut whole = of_values(&memory, &[b"a"]).into_ready().stamp(stamp(0));
    whole.meta.ambiguous = true;
    drop(whole.unstamp());
}

#[test]
#[should_panic(expected = "S1")]
fn a_batch_without_records_is_not_sealed() {
    let segment = Memory::new(1024).try_take(1, 0).expect("there is memory");
    drop(Open::new(BatchId(0), Now::default(), 0, 0, &Record::default(), segment).seal());
}

#[test]
fn bytes_that_do_not_read_as_they_were_written_are_not_cut() {
    let memory = Memory::new(1 << 20);
    for spoil in [0, 3, 5] {
        let mut whole = of_values(&memory, &[b"aa", b"bb"]);
        whole.body.0[0].bytes_mut()[spoil] ^= 0x55;
        let result = halve(whole.into_ready().stamp(stamp(0)), None, &memory);
        // A changed payload cannot be told from what was meant; a changed length can.
        if let Err((back, error)) = result {
            assert_eq!(back.meta.count(), 2);
            assert!(!error.to_string().is_empty());
        } else {
            assert_ne!(spoil, 0, "a record's length");
        }
    }
    let mut whole = of_values(&memory, &[b"aa", b"bb"]);
    whole.body.0[0].append(&[0]);
    assert!(halve(whole.into_ready().stamp(stamp(0)), None, &memory).is_err(), "one byte more");
}

#[test]
fn a_body_still_held_by_a_dead_connections_frame_is_copied_not_taken() {
    let memory = Memory::new(1 << 20);
    let whole = of_values(&memory, &[b"a", b"b"]).into_ready().stamp(stamp(0));
    let frame = Arc::clone(&whole.body);
    let before = frame.to_vec();
    let halves = halve(whole, None, &memory).expect("it has two records");
    assert_eq!(frame.to_vec(), before);
    assert_eq!(halves.iter().flat_map(read).count(), 2);
    assert_eq!(memory.reserved(), 4096, "as long as the frame lives");
    drop(frame);
    assert_eq!(memory.reserved(), 0);
}

#[test]
fn a_new_stamp_changes_the_header_and_no_other_byte() {
    let memory = Memory::new(1 << 20);
    let first = of_values(&memory, &[b"a", b"b"]).into_ready().stamp(stamp(0));
    let (header, body) = (first.header, first.body.to_vec());
    let again = first.unstamp().stamp(stamp(0));
    assert_eq!((again.header, again.body.to_vec()), (header, body.clone()));
    let other = again.unstamp().stamp(Stamp {
        producer_id: 78,
        epoch: 4,
        base_sequence: 9,
        transactional: false,
    });
    assert_eq!(other.body.to_vec(), body);
    assert_ne!(other.header, header);
    assert_eq!(read(&other).len(), 2);
}

#[test]
fn what_does_not_shrink_goes_as_it_is() {
    let memory = Memory::new(1 << 20);
    let noise: Vec<u8> =
        (0..2000u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let noise = noise.iter().scan(7u8, |last, byte| {
        *last = last.wrapping_mul(31).wrapping_add(*byte);
        Some(*last)
    });
    let noise: Vec<u8> = noise.collect();
    for codec in CODECS {
        let batch = of_values(&memory, &[b"x"]);
        let before = batch.body.to_vec();
        let small = ready(&memory, batch, codec);
        assert_eq!((small.codec, small.body.to_vec()), (Codec::None, before), "{codec:?}");
        let batch = of_values(&memory, &[&noise]);
        let packed = ready(&memory, batch, codec);
        let len = packed.body.len();
        assert!(len <= 2010, "{codec:?} made it larger: {len}");
        assert_eq!(packed.len(), 61 + len);
    }
}

#[test]
fn a_codec_must_save_a_byte_and_may_fail() {
    let memory = Memory::new(1 << 20);
    let job = || {
        let batch = of_values(&memory, &[b"value"]);
        let id = JobId { topic: 0, partition: 4, batch: batch.id };
        let (_, body) = batch.into_compressing();
        Job::new(id, body, Codec::Lz4, None, Arc::clone(&memory))
    };
    let len = job().len();
    assert!(len > 5 && !job().is_empty());
    let nothing = Body(Vec::new());
    assert!(
        Job::new(
            job().run(&mut Compressor::default()).id,
            nothing,
            Codec::Lz4,
            None,
            Arc::clone(&memory)
        )
        .is_empty()
    );
    for (made, codec) in [(len - 1, Codec::Lz4), (len, Codec::None), (len + 1, Codec::None)] {
        let done = job().run_with(|_| Ok(vec![0; made]));
        assert_eq!((done.codec, done.body.len()), (codec, made.min(len)));
        assert_eq!(done.failure, None);
    }
    let done = job().run_with(|_| panic!("a codec's defect"));
    assert_eq!((done.codec, done.body.len()), (Codec::None, len));
    assert!(done.failure.is_some());
}

#[test]
fn a_body_is_its_segments_in_order() {
    let memory = Memory::new(1 << 20);
    let segment = |bytes: &[u8]| {
        let mut segment = memory.try_take(bytes.len(), 0).expect("there is memory");
        segment.append(bytes);
        segment
    };
    let body = Body(vec![segment(b"ab"), segment(b""), segment(b"cde")]);
    assert_eq!(body.parts().collect::<Vec<_>>(), [&b"ab"[..], b"", b"cde"]);
    assert_eq!((body.len(), body.is_empty(), body.to_vec()), (5, false, b"abcde".to_vec()));
    assert!(Body(Vec::new()).is_empty() && Body(vec![segment(b"")]).is_empty());
}

#[test]
fn a_part_of_a_batch_counts_its_own_records() {
    let memory = Memory::new(1 << 20);
    let mut part = of_values(&memory, &[b"a", b"b", b"c"]);
    part.records = 1..3;
    assert_eq!((part.count(), part.into_ready().meta.count()), (2, 2));
}

#[test]
fn what_shrinks_frees_its_memory() {
    let memory = Memory::new(1 << 20);
    let batch = of_values(&memory, &[&[7; 100_000]]);
    let before = memory.reserved();
    assert!(before >= 100_000);
    let packed = ready(&memory, batch, Codec::Zstd);
    assert_eq!(packed.codec, Codec::Zstd);
    assert_eq!(memory.reserved(), packed.body.len());
    assert!(packed.body.len() < 1000 && !packed.is_empty());
}

#[test]
fn a_batch_keeps_what_its_receipts_need_through_all_its_states() {
    let memory = Memory::new(1 << 20);
    let batch = of_values(&memory, &[b"a", b"b"]);
    assert_eq!((batch.count(), batch.completion.partition()), (2, 4));
    let whole = ready(&memory, batch, Codec::Gzip).stamp(stamp(5));
    assert_eq!((whole.meta.attempts, whole.meta.ambiguous), (0, false));
    assert_eq!(whole.meta.obstacle, Obstacle::NoAnswer);
    let deduplicated = Deduplicated::No;
    let written = Outcome::Written { base_offset: None, log_append_time: None, deduplicated };
    whole.meta.completion.resolve(whole.meta.records.clone(), written);
    assert!(whole.meta.completion.is_done());
}

#[test]
fn records_handed_back_are_plain_and_charged_until_they_are_dropped() {
    for codec in CODECS {
        let memory = Memory::new(1 << 20);
        let batch = of_values(&memory, &[&[1; 3000], &[2; 3000]]);
        let plain = batch.body.to_vec();
        let ready = ready(&memory, batch, codec);
        assert_eq!(ready.codec, codec);
        let error = Arc::new(DeliveryError {
            fate: Fate::NotWritten,
            cause: Cause::Closed,
            attempts: 0,
            topic: "clicks".into(),
            partition: 4,
        });
        let returned = Returned {
            error,
            body: ready.body,
            codec,
            count: ready.meta.count(),
            base_timestamp: ready.meta.base_timestamp,
        };
        assert_eq!((returned.count(), returned.records()), (2, Some((plain, 1000))));
        assert!(memory.reserved() > 0);
        drop(returned);
        assert_eq!(memory.reserved(), 0);
    }
}
