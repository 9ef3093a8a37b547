//! Transactions in a log: what holds readers back, what is refused, and what a restart, a crash or
//! a cut leaves of it.

use std::collections::BTreeMap;

use super::*;
use crate::log::aborted::{AbortedTransaction, ENTRY_LEN};
use crate::log::marker::TransactionResult::{self, Abort, Commit};
use crate::log::producers::ProducerEntry;
use crate::records;

const TRANSACTIONAL: i16 = 1 << 4;

fn data(id: i64, epoch: i16, sequence: i32) -> TestBatch {
    TestBatch::of(&["v"]).producer(id, epoch, sequence).attributes(TRANSACTIONAL)
}

fn marker(producer_id: i64, producer_epoch: i16, result: TransactionResult) -> Marker {
    Marker { producer_id, producer_epoch, coordinator_epoch: 3, result }
}

/// Begins a verification, as for a Produce request of version 12.
fn verify(log: &mut PartitionLog, batch: &TestBatch, number: u64) -> Option<Guard> {
    verify_as(log, batch, number, true).expect("the epoch is not old")
}

fn verify_as(
    log: &mut PartitionLog,
    batch: &TestBatch,
    number: u64,
    bumps_epoch: bool,
) -> Result<Option<Guard>, LogError> {
    let header = Header::new(&batch.encode()).expect("header");
    let wanted = ToVerify {
        producer_id: header.producer_id(),
        producer_epoch: header.producer_epoch(),
        base_sequence: header.base_sequence(),
        bumps_epoch,
    };
    log.start_verification(&wanted, Guard(number), 1000)
}

fn append_with(
    log: &mut PartitionLog,
    storage: &mut dyn Storage,
    batch: &TestBatch,
    origin: Origin,
) -> Result<Appended, LogError> {
    let bytes = batch.encode();
    let header = Header::new(&bytes).expect("header");
    log.append_as(storage, header, &bytes[HEADER_LEN..], 0, 1000, origin)
}

/// Verifies a batch and appends it.
fn write(
    log: &mut PartitionLog,
    storage: &mut dyn Storage,
    batch: &TestBatch,
) -> Result<Appended, LogError> {
    let guard = verify(log, batch, log.log_end() as u64);
    append_with(log, storage, batch, Origin::Client(guard))
}

fn end(
    log: &mut PartitionLog,
    storage: &mut dyn Storage,
    marker: &Marker,
    transaction_version: i16,
) -> Result<Appended, LogError> {
    log.append_marker(storage, marker, transaction_version, 0, 1000)
}

fn refusal(result: Result<Appended, LogError>) -> ErrorCode {
    result.expect_err("refused").code()
}

/// Offsets of the records that a read_committed reader sees, who reads a little at a time.
fn visible(log: &PartitionLog, storage: &mut dyn Storage) -> Vec<i64> {
    let (mut at, mut seen) = (log.log_start(), Vec::new());
    while at < log.last_stable() {
        let bytes = log.read(storage, at, 200, true, log.last_stable()).expect("read");
        let end = batch::end_of(&bytes).expect("a batch");
        records::collect_committed(&bytes, log.aborted_transactions(at, end), &mut seen)
            .expect("sound");
        at = end;
    }
    seen.iter().map(|record| record.offset).collect()
}

#[test]
fn an_open_transaction_holds_readers_back_until_its_marker_is_committed() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    base_of(append(&mut log, &mut storage, &TestBatch::of(&["plain"])));
    base_of(write(&mut log, &mut storage, &data(7, 0, 0)));
    base_of(append(&mut log, &mut storage, &TestBatch::of(&["plain"])));
    base_of(write(&mut log, &mut storage, &data(8, 0, 0)));
    log.advance_high_watermark(4);
    assert_eq!(log.last_stable(), 1, "the first open transaction");
    base_of(end(&mut log, &mut storage, &marker(7, 1, Commit), 2));
    assert_eq!(log.last_stable(), 1, "its end is not committed");
    log.advance_high_watermark(5);
    assert_eq!(log.last_stable(), 3, "the next open one");
    base_of(end(&mut log, &mut storage, &marker(8, 1, Abort), 2));
    base_of(append(&mut log, &mut storage, &TestBatch::of(&["plain"])));
    assert_eq!((log.high_watermark(), log.last_stable()), (7, 7));
    assert_eq!(visible(&log, &mut storage), [0, 1, 2, 6], "neither markers nor what was aborted");
    let aborted =
        AbortedTransaction { producer_id: 8, first_offset: 3, last_offset: 5, last_stable: 6 };
    assert_eq!(log.aborted_transactions(0, 7), [aborted]);
    assert_eq!(log.aborted_transactions(0, 3), [], "before it begins");
    assert_eq!(log.aborted_transactions(6, 7), [], "after its end");
}

#[test]
fn what_begins_a_transaction_needs_the_guard_of_its_verification() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    let first = data(7, 0, 0);
    let unverified = append_with(&mut log, &mut storage, &first, Origin::Client(None));
    assert_eq!(refusal(unverified), ErrorCode::InvalidTxnState);
    let guard = verify_as(&mut log, &first, 1, false).expect("the epoch is not old");
    assert_eq!(guard, Some(Guard(1)));
    let other = append_with(&mut log, &mut storage, &first, Origin::Client(Some(Guard(9))));
    assert_eq!(refusal(other), ErrorCode::InvalidTxnState);
    // The transaction ends while its coordinator's word is on the way here.
    base_of(end(&mut log, &mut storage, &marker(7, 0, Abort), 1));
    let late = append_with(&mut log, &mut storage, &first, Origin::Client(guard));
    assert_eq!(refusal(late), ErrorCode::InvalidTxnState);
    let guard = verify_as(&mut log, &first, 2, false).expect("the epoch is not old");
    base_of(append_with(&mut log, &mut storage, &first, Origin::Client(guard)));
    assert_eq!(verify(&mut log, &data(7, 0, 1), 3), None, "the transaction is open here");
    base_of(append_with(&mut log, &mut storage, &data(7, 0, 1), Origin::Client(None)));
}

#[test]
fn the_marker_before_a_transaction_does_not_end_its_verification() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    base_of(write(&mut log, &mut storage, &data(7, 4, 0)));
    // With an epoch for each transaction the next one can be told from the one that ends.
    let next = data(7, 5, 0);
    let guard = verify(&mut log, &next, 9);
    base_of(end(&mut log, &mut storage, &marker(7, 5, Commit), 2));
    base_of(append_with(&mut log, &mut storage, &next, Origin::Client(guard)));
    log.advance_high_watermark(log.log_end());
    assert_eq!(log.last_stable(), 2);
}

#[test]
fn markers_fence_older_epochs_and_older_coordinators() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    base_of(end(&mut log, &mut storage, &marker(7, 5, Abort), 1));
    let old = verify_as(&mut log, &data(7, 4, 0), 1, true).expect_err("old");
    assert_eq!(old.code(), ErrorCode::InvalidProducerEpoch);
    let old = TestBatch::of(&["v"]).producer(7, 4, 0);
    assert_eq!(refusal(append(&mut log, &mut storage, &old)), ErrorCode::InvalidProducerEpoch);
    let zombie = append_with(&mut log, &mut storage, &data(7, 4, 0), Origin::Client(None));
    assert_eq!(refusal(zombie), ErrorCode::InvalidProducerEpoch, "not INVALID_TXN_STATE");
    for version in [1, 2] {
        let old = end(&mut log, &mut storage, &marker(7, 4, Commit), version);
        assert_eq!(refusal(old), ErrorCode::InvalidProducerEpoch);
    }
    let zombie = Marker { coordinator_epoch: 2, ..marker(7, 6, Commit) };
    let fenced = end(&mut log, &mut storage, &zombie, 2);
    assert_eq!(refusal(fenced), ErrorCode::TransactionCoordinatorFenced);
    assert_eq!(log.log_end(), 1, "nothing of it is in the log");
    assert_eq!(log.producers().get(7).expect("known").coordinator_epoch, 3);
}

#[test]
fn a_marker_of_version_2_ends_only_a_transaction_of_an_earlier_epoch() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    base_of(write(&mut log, &mut storage, &data(7, 4, 0)));
    let late = end(&mut log, &mut storage, &marker(7, 4, Abort), 2);
    assert_eq!(refusal(late), ErrorCode::InvalidProducerEpoch, "of the transaction before");
    base_of(end(&mut log, &mut storage, &marker(7, 5, Commit), 2));
    base_of(end(&mut log, &mut storage, &marker(7, 5, Commit), 2));
    log.advance_high_watermark(3);
    assert_eq!(log.last_stable(), 3, "a marker that comes twice is written twice");
    // In version 1 the epoch stays the same, and so the sequence goes on.
    base_of(write(&mut log, &mut storage, &data(8, 0, 0)));
    base_of(end(&mut log, &mut storage, &marker(8, 0, Abort), 1));
    let guard = verify_as(&mut log, &data(8, 0, 1), 77, false).expect("the epoch is not old");
    base_of(append_with(&mut log, &mut storage, &data(8, 0, 1), Origin::Client(guard)));
    assert_eq!(log.aborted_transactions(0, 5).len(), 1);
}

#[test]
fn the_highest_epoch_can_still_be_ended() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    base_of(write(&mut log, &mut storage, &data(7, i16::MAX, 0)));
    base_of(end(&mut log, &mut storage, &marker(7, i16::MAX, Abort), 2));
    log.advance_high_watermark(2);
    assert_eq!(log.last_stable(), 2);
}

#[test]
fn sequences_begin_at_0_in_a_transaction_of_its_own_epoch() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    let lost_first = write(&mut log, &mut storage, &data(7, 0, 3));
    assert_eq!(refusal(lost_first), ErrorCode::OutOfOrderSequenceNumber, "unknown producer");
    // Of an old client's producer any first sequence is taken where nothing is known of it.
    let guard = verify_as(&mut log, &data(8, 0, 3), 1, false).expect("the epoch is not old");
    base_of(append_with(&mut log, &mut storage, &data(8, 0, 3), Origin::Client(guard)));
    // Known by a marker only.
    base_of(end(&mut log, &mut storage, &marker(9, 1, Commit), 2));
    let later = write(&mut log, &mut storage, &data(9, 1, 1));
    assert_eq!(refusal(later), ErrorCode::OutOfOrderSequenceNumber);
    base_of(write(&mut log, &mut storage, &data(9, 1, 0)));
    base_of(end(&mut log, &mut storage, &marker(9, 2, Commit), 2));
    let goes_on = write(&mut log, &mut storage, &data(9, 2, 1));
    assert_eq!(refusal(goes_on), ErrorCode::OutOfOrderSequenceNumber, "a new epoch");
    base_of(write(&mut log, &mut storage, &data(9, 2, 0)));
}

#[test]
fn a_batch_is_not_taken_before_one_whose_verification_failed() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    let guard = verify_as(&mut log, &data(7, 0, 5), 1, false).expect("the epoch is not old");
    assert_eq!(verify_as(&mut log, &data(7, 0, 8), 2, false).expect("not old"), guard);
    let second = append_with(&mut log, &mut storage, &data(7, 0, 8), Origin::Client(guard));
    assert_eq!(refusal(second), ErrorCode::OutOfOrderSequenceNumber);
    base_of(append_with(&mut log, &mut storage, &data(7, 0, 5), Origin::Client(guard)));
}

#[test]
fn inside_a_transaction_all_batches_are_transactional() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    base_of(write(&mut log, &mut storage, &data(7, 0, 0)));
    let plain = TestBatch::of(&["v"]).producer(7, 0, 1);
    assert_eq!(refusal(append(&mut log, &mut storage, &plain)), ErrorCode::InvalidTxnState);
    base_of(end(&mut log, &mut storage, &marker(7, 0, Commit), 1));
    base_of(append(&mut log, &mut storage, &plain));
}

#[test]
fn coordinators_batches_have_epochs_but_no_sequences() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[]);
    let offsets = data(7, 2, -1);
    let guard = verify(&mut log, &offsets, 1);
    for origin in [Origin::Coordinator(guard), Origin::Coordinator(None)] {
        base_of(append_with(&mut log, &mut storage, &offsets, origin));
    }
    let old = append_with(&mut log, &mut storage, &data(7, 1, -1), Origin::Coordinator(None));
    assert_eq!(refusal(old), ErrorCode::InvalidProducerEpoch);
    log.close(&mut storage).expect("close");
    let (log, report) = open_with(&mut storage, options(&[]), true);
    assert_eq!((report.damaged_snapshots, log.last_stable()), (0, 0), "still open");
    assert_eq!(log.producers().get(7).expect("known").last_sequence(), -1);
}

/// What the log holds of one step of [`Script`].
#[derive(Clone, Copy, Debug)]
enum Step {
    Plain,
    Data { id: i64, epoch: i16, sequence: i32 },
    End { id: i64, epoch: i16, result: TransactionResult },
}

/// Transactions of a few producers, interleaved; one batch of one record a step.
struct Script(Vec<Step>);

impl Script {
    fn new(seed: u64, steps: usize) -> Self {
        let mut state = seed | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut producers: BTreeMap<i64, (i16, i32)> = BTreeMap::new();
        let steps = (0..steps).map(|_| {
            let id = random(4) as i64;
            let (epoch, next) = producers.entry(id).or_default();
            match random(5) {
                0 => Step::Plain,
                1 | 2 if *next > 0 => {
                    let result = if random(2) == 0 { Abort } else { Commit };
                    (*epoch, *next) = (*epoch + 1, 0);
                    Step::End { id, epoch: *epoch, result }
                }
                _ => {
                    *next += 1;
                    Step::Data { id, epoch: *epoch, sequence: *next - 1 }
                }
            }
        });
        Self(steps.collect())
    }

    /// Plays the first steps, and says how many the log took.
    fn play(&self, log: &mut PartitionLog, storage: &mut dyn Storage, steps: usize) -> usize {
        let from = log.log_end() as usize;
        for (at, step) in self.0.iter().enumerate().take(steps).skip(from) {
            let done = match *step {
                Step::Plain => append(log, storage, &TestBatch::of(&["plain"])),
                Step::Data { id, epoch, sequence } => {
                    write(log, storage, &data(id, epoch, sequence))
                }
                Step::End { id, epoch, result } => end(log, storage, &marker(id, epoch, result), 2),
            };
            match done {
                Ok(appended) => assert_eq!(base_of(Ok(appended)), at as i64),
                Err(LogError::Refused { message, .. }) => panic!("step {at}: {message}"),
                Err(_) => return at,
            }
            log.advance_high_watermark(log.log_end());
        }
        steps
    }

    /// The offsets that a read_committed reader of the first steps sees, by the script alone.
    fn visible(&self, steps: usize) -> Vec<i64> {
        let steps = &self.0[..steps];
        let mut seen = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Plain => seen.push(at as i64),
                Step::End { .. } => {}
                Step::Data { id, .. } => {
                    let mut ends = steps[at..].iter().filter_map(|later| match later {
                        Step::End { id: of, result, .. } if of == id => Some(*result),
                        _ => None,
                    });
                    match ends.next() {
                        Some(Commit) => seen.push(at as i64),
                        Some(Abort) => {}
                        // The first open transaction ends what is seen.
                        None => return seen,
                    }
                }
            }
        }
        seen
    }
}

/// All that a log with transactions is to its readers and writers.
#[derive(Debug, PartialEq)]
struct Face {
    end: i64,
    batches: Vec<(i64, i64)>,
    last_stable: i64,
    open: Vec<(i64, i64)>,
    aborted: Vec<AbortedTransaction>,
    visible: Vec<i64>,
    producers: Vec<(i64, ProducerEntry)>,
}

fn face(log: &PartitionLog, storage: &mut dyn Storage) -> Face {
    let producers = log.producers().iter();
    Face {
        end: log.log_end(),
        batches: batches(log, storage, 0),
        last_stable: log.last_stable(),
        open: log.producers().open_transactions().collect(),
        aborted: log.aborted_transactions(0, i64::MAX),
        visible: visible(log, storage),
        producers: producers
            .map(|(id, entry)| (id, ProducerEntry { seen_ms: 0, ..entry.clone() }))
            .collect(),
    }
}

/// A log that never saw anything but the first steps.
fn never_more(script: &Script, settings: &[(&str, &str)], steps: usize) -> Face {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, settings);
    assert_eq!(script.play(&mut log, &mut storage, steps), steps);
    face(&log, &mut storage)
}

/// The bytes of all `.txnindex` files, in the order of the segments.
fn index_files(storage: &MemoryStorage) -> Vec<u8> {
    let mut paths = storage.paths();
    paths.sort();
    let files = paths.iter().filter(|path| path.ends_with(aborted::SUFFIX));
    files.flat_map(|path| storage.contents(path).expect("a file")).collect()
}

fn copy(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new();
    for path in storage.paths() {
        copy.overwrite(&path, storage.contents(&path).expect("a file"));
    }
    copy
}

const SMALL: [(&str, &str); 1] = [("segment.bytes", "500")];
const STEPS: usize = 120;

#[test]
fn readers_see_what_was_committed_and_nothing_else() {
    for seed in 1..30 {
        let script = Script::new(seed * 0x9E37_79B9, STEPS);
        let mut storage = MemoryStorage::new();
        let mut log = open(&mut storage, &SMALL);
        for steps in 1..=STEPS {
            script.play(&mut log, &mut storage, steps);
            assert_eq!(visible(&log, &mut storage), script.visible(steps), "{seed}: {steps} steps");
        }
        assert!(log.segment_count() > 5);
        let aborted = log.aborted_transactions(0, i64::MAX);
        assert_eq!(index_files(&storage).len(), aborted.len() * ENTRY_LEN);
    }
}

#[test]
fn transactions_and_what_was_aborted_survive_restarts() {
    for seed in 1..12 {
        let script = Script::new(seed * 0x1234_5677, STEPS);
        let mut storage = MemoryStorage::new();
        let mut log = open(&mut storage, &SMALL);
        script.play(&mut log, &mut storage, STEPS);
        let (before, files) = (face(&log, &mut storage), index_files(&storage));
        assert!(!before.open.is_empty() && before.aborted.len() > 3);
        // Killed; closed; an index lost or damaged; no snapshots.
        for (clean, harm) in [(false, 0), (true, 0), (true, 1), (false, 1), (false, 2)] {
            let mut storage = copy(&storage);
            if clean {
                let (mut log, _) = open_with(&mut storage, options(&SMALL), false);
                log.close(&mut storage).expect("close");
            }
            for path in storage.paths() {
                match harm {
                    1 if path.ends_with(aborted::SUFFIX) => {
                        let mut bytes = storage.contents(&path).expect("a file");
                        bytes.truncate(bytes.len() - 1);
                        storage.overwrite(&path, bytes);
                    }
                    2 if path.ends_with(snapshot::SUFFIX) => storage.remove(&path).expect("remove"),
                    _ => {}
                }
            }
            let (log, report) = open_with(&mut storage, options(&SMALL), clean);
            assert_eq!(face(&log, &mut storage), before, "{seed} {clean} {harm}");
            assert_eq!(index_files(&storage), files, "{seed} {clean} {harm}");
            assert_eq!(report.reindexed > 0, !clean || harm > 0);
        }
    }
}

#[test]
fn a_crash_at_each_write_leaves_the_transactions_of_what_is_in_the_log() {
    const SHORT: usize = 40;
    let script = Script::new(0xABCD_EF01, SHORT);
    let mut whole = false;
    for steps in 0.. {
        let memory = MemoryStorage::new();
        let faults = StorageFaults::new();
        let mut storage = FaultyStorage::new(memory.clone(), faults.clone());
        let mut log = open(&mut storage, &SMALL);
        faults.stop_after(steps);
        script.play(&mut log, &mut storage, SHORT);
        whole |= !faults.has_stopped();
        let mut left = memory.clone();
        let (mut log, _) = open_with(&mut left, options(&SMALL), false);
        let kept = log.log_end() as usize;
        assert_eq!(face(&log, &mut left), never_more(&script, &SMALL, kept), "{steps} steps");
        script.play(&mut log, &mut left, SHORT);
        assert_eq!(face(&log, &mut left), never_more(&script, &SMALL, SHORT), "{steps} steps");
        if whole {
            break;
        }
    }
}

#[test]
fn a_cut_takes_back_what_was_ended_behind_it() {
    let script = Script::new(0x7654_3211, STEPS);
    for kept in (0..=STEPS).step_by(3) {
        let mut storage = MemoryStorage::new();
        let mut log = open(&mut storage, &SMALL);
        script.play(&mut log, &mut storage, STEPS);
        log.truncate_to(&mut storage, kept as i64, 1000).expect("cut");
        let never = never_more(&script, &SMALL, kept);
        assert_eq!(face(&log, &mut storage), never, "{kept} kept");
        assert_eq!(index_files(&storage).len(), never.aborted.len() * ENTRY_LEN);
        script.play(&mut log, &mut storage, STEPS);
        let whole = face(&log, &mut storage);
        assert_eq!(whole, never_more(&script, &SMALL, STEPS), "{kept} kept");
        for clean in [false, true] {
            let (mut log, _) = open_with(&mut storage, options(&SMALL), clean);
            assert_eq!(face(&log, &mut storage), whole, "{kept} kept, and read back");
            log.close(&mut storage).expect("close");
        }
    }
}

#[test]
fn a_follower_has_the_transactions_of_its_leader() {
    let script = Script::new(0x0F0F_1357, STEPS);
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &SMALL);
    script.play(&mut log, &mut storage, STEPS);
    let mut disk = MemoryStorage::new();
    let other = [("segment.bytes", "700")];
    let opened = PartitionLog::open(&mut disk, DIR, options(&other), 0, Left::Open, 1000);
    let (mut follower, _) = opened.expect("open");
    for offset in 0..STEPS as i64 {
        let batch = log.read(&mut storage, offset, 1, true, offset + 1).expect("read");
        follower.append_as_follower(&mut disk, &batch, 1000).expect("append");
    }
    follower.advance_high_watermark(log.log_end());
    assert_eq!(face(&follower, &mut disk), face(&log, &mut storage));
    assert_eq!(index_files(&disk), index_files(&storage));
}

#[test]
fn a_loss_of_power_takes_no_abort_that_was_synced() {
    let script = Script::new(0x2468_ACE1, STEPS);
    for steps in (10..=STEPS).step_by(10) {
        let memory = MemoryStorage::new();
        let mut storage: Box<dyn Storage> = Box::new(memory.clone());
        let durable = || LogOptions { durable: true, ..options(&SMALL) };
        let (mut log, _) = open_with(storage.as_mut(), durable(), false);
        storage.sync_dir("").expect("sync the broker's folder");
        script.play(&mut log, storage.as_mut(), steps);
        log.sync(storage.as_mut()).expect("sync");
        let point = log.recovery_point();
        memory.lose_power(|_, tail| tail / 2);
        let opened = PartitionLog::open(storage.as_mut(), DIR, durable(), point, Left::Open, 1000);
        let (log, _) = opened.expect("open");
        assert_eq!(face(&log, storage.as_mut()), never_more(&script, &SMALL, steps), "{steps}");
    }
}

#[test]
fn retention_waits_for_no_transaction_and_the_offsets_stay_in_the_log() {
    let mut storage = MemoryStorage::new();
    let mut log = open(&mut storage, &[("segment.bytes", "200"), ("retention.bytes", "300")]);
    base_of(write(&mut log, &mut storage, &data(7, 0, 0)));
    base_of(write(&mut log, &mut storage, &data(8, 0, 0)));
    base_of(end(&mut log, &mut storage, &marker(8, 1, Abort), 2));
    for _ in 0..10 {
        base_of(append(&mut log, &mut storage, &TestBatch::of(&["plain"])));
    }
    assert_eq!(log.last_stable(), 0);
    assert!(log.enforce_retention(&mut storage, 1000).expect("retention") > 0);
    assert!(log.log_start() > 3);
    assert_eq!(log.last_stable(), log.log_start());
    assert_eq!(log.aborted_transactions(log.log_start(), i64::MAX), []);
    assert!(index_files(&storage).is_empty());
    base_of(end(&mut log, &mut storage, &marker(7, 1, Commit), 2));
    log.advance_high_watermark(log.log_end());
    assert_eq!(log.last_stable(), log.log_end());
}

#[test]
fn a_log_opens_where_there_is_no_room_for_its_indexes_and_writes_them_later() {
    // Killed; and closed in order, with indexes that were lost since.
    for (clean, durable) in [(false, false), (true, false), (false, true), (true, true)] {
        let script = Script::new(0x1234_5677, STEPS);
        let (memory, faults) = (MemoryStorage::new(), StorageFaults::new());
        let mut storage = FaultyStorage::new(memory.clone(), faults.clone());
        let options = || LogOptions { durable, ..options(&SMALL) };
        let (mut log, _) = open_with(&mut storage, options(), false);
        script.play(&mut log, &mut storage, STEPS);
        if clean {
            log.close(&mut storage).expect("close");
            for path in memory.paths().iter().filter(|path| path.ends_with(".index")) {
                storage.remove(path).expect("remove");
            }
        }
        let (before, files) = (face(&log, &mut storage), index_files(&memory));
        assert!(before.aborted.len() > 3);
        faults.fail(StorageOp::Append, "index", 0, u64::MAX, 3, io::ErrorKind::StorageFull);
        let mut opened = None;
        for _ in 0..2 {
            let (mut log, _) = open_with(&mut storage, options(), clean);
            assert_eq!(face(&log, &mut storage), before, "{clean} {durable}");
            log.roll(&mut storage, 1000).expect_err("no room");
            log.close(&mut storage).expect_err("no room");
            assert_eq!(log.recovery_point(), 0, "nothing counts as written");
            opened = Some(log);
        }
        faults.clear();
        let mut log = opened.expect("it was opened");
        log.roll(&mut storage, 1000).expect("there is room");
        assert_eq!(index_files(&memory), files, "{clean} {durable}");
        check_indexes(&memory);
        log.close(&mut storage).expect("close");
        let (log, report) = open_with(&mut storage, options(), true);
        assert_eq!(report, Recovery::default(), "all is there");
        assert_eq!(face(&log, &mut storage), before, "{clean} {durable}");
    }
}
