use std::io;

use super::batch::{HEADER_LEN, Header};
use super::*;
use crate::storage::{FaultyStorage, MemoryStorage, StorageFaults, StorageOp};
use crate::test_batch::TestBatch;

const DIR: &str = "t-0";

fn options(settings: &[(&str, &str)]) -> LogOptions {
    let mut config = TopicConfig::default();
    for (name, value) in settings {
        config.set(name, value).expect("setting");
    }
    LogOptions {
        config,
        strict_first_sequence: false,
        producer_expiration_ms: 1000,
        durable: false,
    }
}

fn open_with(
    storage: &mut dyn Storage,
    options: LogOptions,
    clean: bool,
) -> (PartitionLog, Recovery) {
    let left = if clean { Left::Closed } else { Left::Open };
    let (mut log, report) = PartitionLog::open(storage, DIR, options, 0, left, 1000).expect("open");
    let next = log.epochs().latest().map_or(0, |epoch| epoch + 1);
    log.become_leader(storage, next).expect("lead");
    (log, report)
}

pub(super) fn open(storage: &mut dyn Storage, settings: &[(&str, &str)]) -> PartitionLog {
    open_with(storage, options(settings), false).0
}

pub(super) fn append(
    log: &mut PartitionLog,
    storage: &mut dyn Storage,
    batch: &TestBatch,
) -> Result<Appended, LogError> {
    let bytes = batch.encode();
    let header = Header::new(&bytes).expect("header");
    let appended = log.append(storage, header, &bytes[HEADER_LEN..], 0, 1000);
    log.advance_high_watermark(log.log_end());
    appended
}

fn base_of(appended: Result<Appended, LogError>) -> i64 {
    match appended.expect("appended") {
        Appended::New { base, .. } => base,
        Appended::Duplicate(batch) => panic!("a duplicate of {batch:?}"),
    }
}

/// Offsets of the first and last record of each batch from `from` on.
fn batches(log: &PartitionLog, storage: &mut dyn Storage, from: i64) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    let mut at = from;
    while at < log.log_end() {
        let bytes = log.read(storage, at, 1 << 20, true, log.log_end()).expect("read");
        let mut rest = &bytes[..];
        while let Some(header) = Header::new(rest) {
            found.push((header.base_offset(), header.last_offset()));
            at = header.last_offset() + 1;
            rest = &rest[header.size().expect("size")..];
        }
    }
    found
}

/// What Kafka's DumpLogSegments checks of the index files, done by hand.
fn check_indexes(storage: &MemoryStorage) {
    for path in storage.paths().iter().filter(|path| path.ends_with(".log")) {
        let log = storage.contents(path).expect("log");
        let base: i64 = path[DIR.len() + 1..].trim_end_matches(".log").parse().expect("base");
        let at = |position: usize| Header::new(&log[position..]).expect("a batch begins here");
        let index = storage.contents(&path.replace(".log", ".index")).expect("index");
        for entry in index.chunks(8) {
            let relative = u32::from_be_bytes(entry[..4].try_into().expect("4 bytes"));
            let position = u32::from_be_bytes(entry[4..].try_into().expect("4 bytes"));
            let header = at(position as usize);
            assert_eq!(header.last_offset(), base + i64::from(relative), "{path}");
        }
        let times = storage.contents(&path.replace(".log", ".timeindex")).expect("times");
        let mut before = -1;
        for entry in times.chunks(12) {
            let timestamp = i64::from_be_bytes(entry[..8].try_into().expect("8 bytes"));
            let relative = u32::from_be_bytes(entry[8..].try_into().expect("4 bytes"));
            assert!(timestamp > before, "{path}: out of order");
            before = timestamp;
            let mut position = 0;
            let found = loop {
                let header = at(position);
                if header.last_offset() >= base + i64::from(relative) {
                    break header;
                }
                position += header.size().expect("size");
            };
            assert_eq!(found.last_offset(), base + i64::from(relative), "{path}: not found");
            assert_eq!(found.max_timestamp(), timestamp, "{path}: mismatch");
        }
    }
}

#[test]
fn batches_are_stored_verbatim_but_for_offset_and_epoch() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    let batch = TestBatch::of(&["a", "bb"]).producer(7, 0, 0);
    assert_eq!(base_of(append(&mut log, &mut storage, &batch)), 0);
    let next = TestBatch::of(&["c"]).producer(7, 0, 2);
    assert_eq!(base_of(append(&mut log, &mut storage, &next)), 2);
    let stored = storage.contents("t-0/00000000000000000000.log").expect("log");
    let mut expected = batch.encode();
    expected[..8].copy_from_slice(&0i64.to_be_bytes());
    expected[12..16].copy_from_slice(&0i32.to_be_bytes());
    let mut second = next.encode();
    second[..8].copy_from_slice(&2i64.to_be_bytes());
    second[12..16].copy_from_slice(&0i32.to_be_bytes());
    expected.extend_from_slice(&second);
    assert_eq!(stored, expected);
    let ends = (log.log_start(), log.log_end(), log.high_watermark(), log.last_stable());
    assert_eq!(ends, (0, 3, 3, 3));
}

#[test]
fn a_torn_last_batch_is_cut_off_at_every_byte() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    for i in 0..3 {
        let batch = TestBatch::of(&["one", "two"]).producer(7, 0, i * 2);
        base_of(append(&mut log, &mut storage, &batch));
    }
    let path = "t-0/00000000000000000000.log";
    let whole = storage.contents(path).expect("log");
    let last = whole.len() / 3 * 2;
    for cut in last..=whole.len() {
        let mut storage = MemoryStorage::new();
        storage.overwrite(path, whole[..cut].to_vec());
        let (mut log, report) = open_with(&mut storage, options(&[]), false);
        let kept = if cut == whole.len() { 6 } else { 4 };
        assert_eq!(log.log_end(), kept, "cut at {cut}");
        let torn = (cut - whole.len() / 3 * (kept as usize / 2)) as u64;
        assert_eq!(report.truncated_bytes, torn);
        let told = report.cut.map(|cut| (cut.bytes, cut.damage));
        assert_eq!(told, (torn > 0).then_some((torn, Damage::AtEnd)), "cut at {cut}");
        // The retry of what was lost is taken, that of what was kept is recognised.
        let retry = TestBatch::of(&["one", "two"]).producer(7, 0, 4);
        let appended = append(&mut log, &mut storage, &retry).expect("append");
        match appended {
            Appended::New { base, .. } => assert!(kept == 4 && base == 4, "cut at {cut}"),
            Appended::Duplicate(batch) => assert!(kept == 6 && batch.first_offset() == 4),
        }
        let again = open_with(&mut storage, options(&[]), false);
        assert_eq!((again.0.log_end(), again.1.truncated_bytes), (6, 0), "recovery is idempotent");
    }
}

/// The last entry of the index may point to the very batch that is cut.
#[test]
fn a_cleanly_closed_log_that_lost_its_end_keeps_all_that_is_whole() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    let value = "x".repeat(3000);
    for at in 0..8 {
        base_of(append(&mut log, &mut storage, &TestBatch::of(&[&value]).producer(7, 0, at)));
    }
    log.close(&mut storage).expect("closed");
    let (closed, path) = (storage, "t-0/00000000000000000000.log");
    let whole = closed.contents(path).expect("log");
    let size = whole.len() / 8;
    let mut indexed = 0;
    for cut in (size..=whole.len()).step_by(size).flat_map(|end| [end - 7, end]) {
        let mut storage = MemoryStorage::new();
        for path in closed.paths() {
            storage.overwrite(&path, closed.contents(&path).expect("a file"));
        }
        storage.overwrite(path, whole[..cut].to_vec());
        let (mut log, report) = open_with(&mut storage, options(&[]), true);
        let kept = (cut / size) as i64;
        assert_eq!(log.log_end(), kept, "cut at {cut}");
        let lost = report.cut.map(|cut| (cut.offset, cut.bytes));
        assert_eq!(lost, (cut % size > 0).then_some((kept, (cut % size) as u64)), "at {cut}");
        assert_eq!(batches(&log, &mut storage, 0).len() as i64, kept, "cut at {cut}");
        indexed += storage.contents("t-0/00000000000000000000.index").expect("index").len() / 8;
        let next = TestBatch::of(&["next"]).producer(8, 0, 0);
        assert_eq!(base_of(append(&mut log, &mut storage, &next)), kept, "cut at {cut}");
        check_indexes(&storage);
    }
    assert!(indexed > 8, "batches were in the index");
}

const SEGMENT: &str = "t-0/00000000000000000000.log";

/// The bytes of a log's only segment, all of whose batches have one size.
fn some_batches(count: i32) -> Vec<u8> {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    for i in 0..count {
        base_of(append(&mut log, &mut storage, &TestBatch::of(&["abc"]).producer(7, 0, i)));
    }
    storage.contents(SEGMENT).expect("log")
}

/// A log of these bytes, with a bit of one of them flipped.
fn damaged(whole: &[u8], at: usize) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let mut damaged = whole.to_vec();
    damaged[at] ^= 0x10;
    storage.overwrite(SEGMENT, damaged);
    storage
}

#[test]
fn a_flipped_bit_ends_the_log_before_its_batch() {
    let whole = some_batches(4);
    let size = whole.len() / 4;
    for at in size..2 * size {
        let mut storage = damaged(&whole, at);
        let (log, report) = open_with(&mut storage, options(&[]), false);
        let in_batch = at - size;
        if (12..16).contains(&in_batch) {
            // The leader epoch is under no checksum.
            assert_eq!(log.log_end(), 4);
        } else if in_batch < 8 && log.log_end() != 1 {
            // Nor is the base offset: a later one leaves a gap, which readers step over.
            let found = batches(&log, &mut storage, 0);
            assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].0), "offsets ascend");
        } else {
            assert_eq!(log.log_end(), 1, "a bit of byte {in_batch}");
            let cut = report.cut.expect("it was cut");
            assert_eq!((cut.file.as_str(), cut.position, cut.offset), (SEGMENT, size as u64, 1));
            assert_eq!(cut.damage, Damage::Within, "no crash leaves that: byte {in_batch}");
        }
    }
}

#[test]
fn a_last_batch_that_is_all_there_and_damaged_is_not_told_as_a_write_that_was_cut_short() {
    let whole = some_batches(3);
    let last = whole.len() / 3 * 2;
    for at in last + HEADER_LEN..whole.len() {
        let mut storage = damaged(&whole, at);
        let (log, report) = open_with(&mut storage, options(&[]), false);
        assert_eq!(log.log_end(), 2);
        let cut = report.cut.expect("it was cut");
        assert_eq!((cut.file.as_str(), cut.position, cut.offset), (SEGMENT, last as u64, 2));
        assert_eq!(cut.damage, Damage::LastBatch, "byte {at}");
    }
}

#[test]
fn hostile_bytes_never_panic_the_recovery() {
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let sound = TestBatch::of(&["x"]).producer(3, 0, 0).encode();
    for _ in 0..300 {
        let mut storage = MemoryStorage::new();
        for name in [
            "00000000000000000000.log",
            "00000000000000000000.index",
            "00000000000000000000.timeindex",
            "00000000000000000000.txnindex",
            "00000000000000000001.log",
            "00000000000000000001.snapshot",
            "00000000000000000001.producers",
            "leader-epoch-checkpoint",
            "99999999999999999999.log",
        ] {
            let mut bytes = sound.clone();
            for _ in 0..random() % 4 {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() as usize % (bytes.len() + 1));
            storage.overwrite(&format!("t-0/{name}"), bytes);
        }
        let clean = random() % 2 == 0;
        let (mut log, _) = open_with(&mut storage, options(&[]), clean);
        let end = log.log_end();
        if base_of(append(&mut log, &mut storage, &TestBatch::of(&["y"]))) != end {
            panic!("appends go to the end");
        }
        batches(&log, &mut storage, log.log_start());
        let _ = log.find_timestamp(&mut storage, 0);
        let _ = log.find_max_timestamp(&mut storage);
        log.close(&mut storage).expect("close");
    }
}

#[test]
fn segments_roll_by_size_and_every_index_entry_is_sound() {
    let mut storage = MemoryStorage::new();
    let settings = [("segment.bytes", "20000")];
    let mut log = open(&mut storage, &settings);
    for i in 0..400 {
        // Timestamps go back and forth, as producers' clocks do.
        let timestamp = 1000 + i64::from(i) - 7 * i64::from(i % 3);
        let batch = TestBatch::of(&["some value of a batch"; 5]).timestamp(timestamp);
        base_of(append(&mut log, &mut storage, &batch.producer(7, 0, i * 5)));
    }
    assert!(log.segment_count() > 3, "{} segments", log.segment_count());
    log.close(&mut storage).expect("close");
    check_indexes(&storage);
    for clean in [true, false] {
        let (log, report) = open_with(&mut storage, options(&settings), clean);
        assert_eq!(report.truncated_bytes, 0);
        assert_eq!(log.log_end(), 2000);
        let found = batches(&log, &mut storage, 0);
        let expected: Vec<_> = (0..400).map(|i| (i * 5, i * 5 + 4)).collect();
        assert_eq!(found, expected);
        for from in [0, 3, 4, 5, 999, 1000, 1999] {
            assert_eq!(batches(&log, &mut storage, from)[0].0, from / 5 * 5);
        }
        check_indexes(&storage);
    }
}

#[test]
fn indexes_that_are_lost_or_damaged_are_rebuilt() {
    let mut storage = MemoryStorage::new();
    let settings = [("segment.bytes", "20000")];
    let mut log = open(&mut storage, &settings);
    for i in 0..200 {
        let batch = TestBatch::of(&["some value of a batch"; 5]).timestamp(1000 + i);
        base_of(append(&mut log, &mut storage, &batch));
    }
    log.close(&mut storage).expect("close");
    let index = "t-0/00000000000000000000.index";
    let sound = storage.contents(index).expect("index");
    let mut backwards = sound.clone();
    backwards.extend_from_slice(&[0; 8]);
    for damaged in [None, Some(Vec::new()), Some(sound[..13].to_vec()), Some(backwards)] {
        match damaged {
            None => storage.remove(index).expect("remove"),
            Some(bytes) => storage.overwrite(index, bytes),
        }
        let empty = storage.contents(index).is_some_and(|bytes| bytes.is_empty());
        let (log, _) = open_with(&mut storage, options(&settings), true);
        assert_eq!(log.log_end(), 1000);
        assert_eq!(batches(&log, &mut storage, 777)[0], (775, 779));
        if !empty {
            // An empty index is a sound one, only slower.
            assert_eq!(storage.contents(index).expect("index"), sound);
        }
        check_indexes(&storage);
        storage.overwrite(index, sound.clone());
    }
}

#[test]
fn five_batches_of_a_producer_are_recognised_after_a_restart() {
    for clean in [true, false] {
        let mut storage = MemoryStorage::new();
        // One batch a segment: the window spans segments, so only the snapshot can know it.
        let settings = [("segment.bytes", "100")];
        let mut log = open(&mut storage, &settings);
        for i in 0..8 {
            base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"]).producer(9, 2, i)));
        }
        if clean {
            log.close(&mut storage).expect("close");
        }
        let (mut log, _) = open_with(&mut storage, options(&settings), clean);
        for i in (3..8).rev() {
            let retry = TestBatch::of(&["v"]).producer(9, 2, i);
            let Ok(Appended::Duplicate(batch)) = append(&mut log, &mut storage, &retry) else {
                panic!("sequence {i} is a duplicate (clean: {clean})");
            };
            assert_eq!(batch.first_offset(), i64::from(i));
        }
        let forgotten = TestBatch::of(&["v"]).producer(9, 2, 2);
        let refused = append(&mut log, &mut storage, &forgotten).expect_err("the sixth is not");
        assert_eq!(refused.code(), ErrorCode::OutOfOrderSequenceNumber);
    }
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_log() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    for i in 0..3 {
        base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"]).producer(9, 0, i)));
    }
    log.close(&mut storage).expect("close");
    let path = "t-0/00000000000000000003.snapshot";
    let mut bytes = storage.contents(path).expect("snapshot");
    bytes[20] ^= 1;
    storage.overwrite(path, bytes);
    let (log, report) = open_with(&mut storage, options(&[]), true);
    assert_eq!(report.damaged_snapshots, 1);
    let entry = log.producers().get(9).expect("known from the log");
    assert_eq!((entry.batches.len(), entry.last_sequence()), (3, 2));
}

#[test]
fn snapshots_of_former_shutdowns_do_not_pile_up() {
    let mut storage = MemoryStorage::new();
    for i in 0..5 {
        let (mut log, _) = open_with(&mut storage, options(&[]), true);
        base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"]).producer(9, 0, i)));
        log.close(&mut storage).expect("close");
    }
    let snapshots = storage.paths().into_iter().filter(|path| path.ends_with(".snapshot"));
    assert!(snapshots.count() <= 2);
}

#[test]
fn a_full_disk_leaves_no_trace_of_the_batch_that_did_not_fit() {
    let memory = MemoryStorage::new();
    let faults = StorageFaults::new();
    let mut storage = FaultyStorage::new(memory.clone(), faults.clone());
    let mut log = open(&mut storage, &[]);
    let batch = |i| TestBatch::of(&["a value"]).producer(9, 0, i);
    base_of(append(&mut log, &mut storage, &batch(0)));
    let before = memory.contents("t-0/00000000000000000000.log");
    for room in 0..batch(1).encode().len() as u64 {
        faults.full_after(room);
        let error = append(&mut log, &mut storage, &batch(1)).expect_err("no room");
        assert_eq!(error.code(), ErrorCode::KafkaStorageError);
        assert_eq!(memory.contents("t-0/00000000000000000000.log"), before);
        assert_eq!(log.log_end(), 1);
    }
    faults.make_room();
    assert_eq!(base_of(append(&mut log, &mut storage, &batch(1))), 1, "the retry is no duplicate");
}

#[test]
fn a_torn_batch_that_cannot_be_cut_off_takes_the_log_offline() {
    let faults = StorageFaults::new();
    let mut storage = FaultyStorage::new(MemoryStorage::new(), faults.clone());
    let mut log = open(&mut storage, &[]);
    base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"])));
    faults.fail(StorageOp::Append, ".log", 0, 1, 30, io::ErrorKind::Other);
    faults.fail(StorageOp::Truncate, ".log", 0, 1, 0, io::ErrorKind::Other);
    append(&mut log, &mut storage, &TestBatch::of(&["v"])).expect_err("torn");
    let error = append(&mut log, &mut storage, &TestBatch::of(&["v"])).expect_err("offline");
    assert!(matches!(error, LogError::Offline { .. }), "{error}");
    let error = log.read(&mut storage, 0, 100, true, 1).expect_err("offline");
    assert_eq!(error.code(), ErrorCode::KafkaStorageError);
    let (log, report) = open_with(&mut storage, options(&[]), false);
    assert_eq!((log.log_end(), report.truncated_bytes), (1, 30));
}

#[test]
fn a_failed_sync_takes_the_log_offline_for_good() {
    let faults = StorageFaults::new();
    let mut storage = FaultyStorage::new(MemoryStorage::new(), faults.clone());
    let mut log = open(&mut storage, &[]);
    base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"])));
    faults.fail(StorageOp::Sync, ".log", 0, 1, 0, io::ErrorKind::Other);
    log.sync(&mut storage).expect_err("sync fails");
    let error = log.sync(&mut storage).expect_err("and is never tried again");
    assert!(matches!(error, LogError::Offline { .. }), "{error}");
    append(&mut log, &mut storage, &TestBatch::of(&["v"])).expect_err("offline");
}

#[test]
fn a_failed_sync_of_an_ended_segment_takes_the_log_offline() {
    let faults = StorageFaults::new();
    let mut storage = FaultyStorage::new(MemoryStorage::new(), faults.clone());
    let durable = LogOptions { durable: true, ..options(&[("segment.bytes", "100")]) };
    let (mut log, _) = open_with(&mut storage, durable, false);
    base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"])));
    faults.fail(StorageOp::Sync, "00000000.log", 0, 1, 0, io::ErrorKind::Other);
    append(&mut log, &mut storage, &TestBatch::of(&["v"])).expect_err("the roll syncs");
    assert!(log.offline().is_some());
}

#[test]
fn a_roll_without_room_fails_and_is_tried_again() {
    let faults = StorageFaults::new();
    let memory = MemoryStorage::new();
    let mut storage = FaultyStorage::new(memory.clone(), faults.clone());
    let settings = [("segment.bytes", "100")];
    let mut log = open(&mut storage, &settings);
    base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"]).producer(1, 0, 0)));
    for room in [0, 5, 20, 60, 90, 140] {
        faults.full_after(room);
        append(&mut log, &mut storage, &TestBatch::of(&["v"]).producer(1, 0, 1))
            .expect_err("no room to roll and append");
    }
    faults.make_room();
    assert_eq!(
        base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"]).producer(1, 0, 1))),
        1
    );
    check_indexes(&memory);
    let (log, report) = open_with(&mut storage, options(&settings), false);
    assert_eq!((log.log_end(), report.truncated_bytes), (2, 0));
}

#[test]
fn power_loss_leaves_all_that_was_synced() {
    let memory = MemoryStorage::new();
    let mut storage: Box<dyn Storage> = Box::new(memory.clone());
    let durable = || LogOptions { durable: true, ..options(&[("segment.bytes", "500")]) };
    let (mut log, _) = open_with(storage.as_mut(), durable(), false);
    storage.sync_dir("").expect("sync the broker's folder");
    let mut synced = 0;
    for i in 0..40 {
        base_of(append(&mut log, storage.as_mut(), &TestBatch::of(&["v"]).producer(1, 0, i)));
        if i % 3 == 0 {
            log.sync(storage.as_mut()).expect("sync");
            synced = log.log_end();
        }
    }
    memory.lose_power(|_, tail| tail / 2);
    let point = 0;
    let (log, _) =
        PartitionLog::open(storage.as_mut(), DIR, durable(), point, Left::Open, 0).expect("open");
    assert!(log.log_end() >= synced, "{} of {synced}", log.log_end());
    let found = batches(&log, storage.as_mut(), 0);
    assert_eq!(found, (0..log.log_end()).map(|i| (i, i)).collect::<Vec<_>>(), "a prefix");
}

#[test]
fn old_segments_are_removed_by_size_and_by_age() {
    let mut storage = MemoryStorage::new();
    let settings = [("segment.bytes", "200"), ("retention.bytes", "500")];
    let mut log = open(&mut storage, &settings);
    for i in 0..20 {
        base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"]).timestamp(1000 + i)));
    }
    let before = log.size();
    assert!(log.enforce_retention(&mut storage, 1000).expect("retention") > 0);
    assert!(log.size() >= 500 && log.size() < before);
    assert!(log.log_start() > 0);
    assert_eq!(batches(&log, &mut storage, log.log_start())[0].0, log.log_start());
    let gone = log.read(&mut storage, 0, 100, true, 20).expect_err("gone");
    assert_eq!(gone.code(), ErrorCode::OffsetOutOfRange);
    // By age even the newest go, when their time has come.
    log.set_config(options(&[("retention.ms", "50")]).config);
    assert_eq!(log.enforce_retention(&mut storage, 1050).expect("retention"), 0);
    assert!(log.enforce_retention(&mut storage, 2000).expect("retention") > 0);
    assert_eq!((log.log_start(), log.log_end(), log.segment_count()), (20, 20, 1));
    let (log, _) = open_with(&mut storage, options(&[]), false);
    assert_eq!((log.log_start(), log.log_end()), (20, 20), "offsets are never used again");
}

#[test]
fn nothing_uncommitted_is_removed() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[("segment.bytes", "100"), ("retention.bytes", "0")]);
    for i in 0..5 {
        let bytes = TestBatch::of(&["v"]).timestamp(i).encode();
        let header = Header::new(&bytes).expect("header");
        log.append(&mut storage, header, &bytes[HEADER_LEN..], 0, 0).expect("append");
    }
    assert_eq!(log.enforce_retention(&mut storage, 0).expect("retention"), 0);
    log.advance_high_watermark(2);
    assert_eq!(log.enforce_retention(&mut storage, 0).expect("retention"), 2);
    assert_eq!(log.log_start(), 2);
}

#[test]
fn offsets_are_found_by_timestamp() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[("segment.bytes", "3000")]);
    for i in 0..200i64 {
        let batch =
            TestBatch::of(&["v1", "v2", "v3"]).timestamps(&[i * 10, i * 10 + 3, i * 10 + 6]);
        base_of(append(&mut log, &mut storage, &batch));
    }
    let mut at = |timestamp| {
        log.find_timestamp(&mut storage, timestamp)
            .expect("find")
            .map(|found| (found.offset, found.timestamp))
    };
    assert_eq!(at(0), Some((0, 0)));
    assert_eq!(at(1), Some((1, 3)));
    assert_eq!(at(1237), Some((372, 1240)));
    assert_eq!(at(1996), Some((599, 1996)));
    assert_eq!(at(1997), None);
    let max = log.find_max_timestamp(&mut storage).expect("find").expect("there");
    assert_eq!((max.offset, max.timestamp), (599, 1996));
}

#[test]
fn reads_stop_at_the_upper_bound_and_the_limit() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    let size = TestBatch::of(&["v"]).encode().len();
    for _ in 0..10 {
        base_of(append(&mut log, &mut storage, &TestBatch::of(&["v"])));
    }
    let mut read = |from, max, one, upper| {
        log.read(&mut storage, from, max, one, upper).map(|bytes| bytes.len() / size)
    };
    assert_eq!(read(0, usize::MAX / 2, true, 10).expect("all"), 10);
    assert_eq!(read(0, usize::MAX / 2, true, 4).expect("committed"), 4);
    assert_eq!(read(3, 2 * size + 5, true, 10).expect("whole batches only"), 2);
    assert_eq!(read(3, 1, true, 10).expect("at least one"), 1);
    assert_eq!(read(3, 1, false, 10).expect("none fits"), 0);
    assert_eq!(read(4, 1000, true, 4).expect("nothing committed"), 0);
    assert_eq!(read(10, 1000, true, 10).expect("the end"), 0);
    read(11, 1000, true, 10).expect_err("behind the end");
    read(-1, 1000, true, 10).expect_err("before the start");
}

#[test]
fn leader_epochs_survive_and_are_rebuilt_from_the_batches() {
    let mut storage = MemoryStorage::new();
    let (mut log, _) =
        PartitionLog::open(&mut storage, DIR, options(&[]), 0, Left::Open, 0).expect("open");
    for (epoch, count) in [(0, 2), (3, 1), (4, 0), (5, 2)] {
        log.become_leader(&mut storage, epoch).expect("lead");
        for _ in 0..count {
            let bytes = TestBatch::of(&["v"]).encode();
            let header = Header::new(&bytes).expect("header");
            log.append(&mut storage, header, &bytes[HEADER_LEN..], epoch, 0).expect("append");
        }
    }
    assert_eq!(log.epochs().end_offset_for(0, 5), (0, 2));
    assert_eq!(log.epochs().end_offset_for(3, 5), (3, 3));
    for lost in [false, true] {
        if lost {
            storage.remove("t-0/leader-epoch-checkpoint").expect("remove");
        }
        let opened = PartitionLog::open(&mut storage, DIR, options(&[]), 0, Left::Open, 0);
        let (log, _) = opened.expect("open");
        assert_eq!(log.epochs().end_offset_for(0, 5), (0, 2), "lost: {lost}");
        assert_eq!(log.epochs().end_offset_for(4, 5), (3, 3), "lost: {lost}");
        assert_eq!(log.epochs().latest(), Some(5), "lost: {lost}");
    }
}

mod replica;
mod transactions;
