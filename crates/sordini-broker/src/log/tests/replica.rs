//! A follower's log: a leader's batches as they are, and the end cut off.

use super::*;

/// Batch `i` of a leader's log: two producers in turn, two records each, an epoch every five.
fn leaders_batch(i: i32) -> Vec<u8> {
    let values = [format!("a{i}"), format!("b{i}")];
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let producer = i64::from(i % 2);
    let mut bytes = TestBatch::of(&values).producer(producer, 0, i / 2 * 2).encode();
    let mut header = Header::new(&bytes).expect("header");
    header.assign(i64::from(i) * 2, i / 5);
    bytes[..HEADER_LEN].copy_from_slice(header.bytes());
    bytes
}

fn open_follower(storage: &mut dyn Storage) -> PartitionLog {
    let small = options(&[("segment.bytes", "400")]);
    PartitionLog::open(storage, DIR, small, 0, Left::Open, 1000).expect("open").0
}

/// A follower's log of so many batches.
fn follower(storage: &mut dyn Storage, batches: i32) -> PartitionLog {
    let mut log = open_follower(storage);
    for i in 0..batches {
        log.append_as_follower(storage, &leaders_batch(i), 1000).expect("append");
    }
    log
}

/// All that a log is to its readers and writers.
fn face(
    log: &PartitionLog,
    storage: &mut dyn Storage,
) -> (i64, Vec<(i64, i64)>, Producers, String) {
    let mut producers = log.producers().clone();
    producers.seen_all(0);
    (log.log_end(), batches(log, storage, 0), producers, log.epochs().to_text())
}

#[test]
fn a_log_that_was_cut_is_as_if_the_rest_had_never_been() {
    const ALL: i32 = 17;
    for kept in 0..=ALL {
        let mut storage = MemoryStorage::new();
        let mut log = follower(&mut storage, ALL);
        assert!(log.segment_count() > 3);
        log.advance_high_watermark(i64::from(kept) * 2);
        log.truncate_to(&mut storage, i64::from(kept) * 2, 1000).expect("cut");
        let mut other = MemoryStorage::new();
        let never = follower(&mut other, kept);
        assert_eq!(face(&log, &mut storage), face(&never, &mut other), "{kept} kept");
        assert_eq!(log.high_watermark(), i64::from(kept) * 2);
        check_indexes(&storage);
        for i in kept..ALL {
            log.append_as_follower(&mut storage, &leaders_batch(i), 1000).expect("append");
        }
        let whole = face(&log, &mut storage);
        let again = open_follower(&mut storage);
        assert_eq!(face(&again, &mut storage), whole, "and it is read back");
    }
}

#[test]
fn a_cut_inside_a_batch_takes_the_batch() {
    let mut storage = MemoryStorage::new();
    let mut log = follower(&mut storage, 4);
    log.truncate_to(&mut storage, 5, 1000).expect("cut");
    assert_eq!(log.log_end(), 4);
}

#[test]
fn a_term_that_never_had_a_record_is_cut_off_too() {
    let mut storage = MemoryStorage::new();
    let mut log = follower(&mut storage, 2);
    log.become_leader(&mut storage, 9).expect("lead");
    assert_eq!(log.epochs().latest(), Some(9));
    log.truncate_to(&mut storage, 4, 1000).expect("nothing to cut but the epoch");
    assert_eq!((log.log_end(), log.epochs().latest()), (4, Some(0)));
}

#[test]
fn only_what_continues_the_log_and_is_sound_is_appended() {
    let mut storage = MemoryStorage::new();
    let mut log = follower(&mut storage, 2);
    let mut damaged = leaders_batch(2);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for bad in [leaders_batch(1), leaders_batch(3), damaged, Vec::new(), vec![0; 61]] {
        let error = log.append_as_follower(&mut storage, &bad, 1000).expect_err("refused");
        assert_eq!(error.code(), ErrorCode::CorruptMessage);
    }
    assert_eq!(log.log_end(), 4);
    log.append_as_follower(&mut storage, &leaders_batch(2), 1000).expect("the next");
}

#[test]
fn a_log_begins_anew_where_its_leader_begins() {
    let mut storage = MemoryStorage::new();
    let mut log = follower(&mut storage, 9);
    log.restart_at(&mut storage, 20, 1000).expect("restart");
    assert_eq!((log.log_start(), log.log_end(), log.segment_count()), (20, 20, 1));
    assert!(log.producers().is_empty() && log.epochs().latest().is_none());
    log.append_as_follower(&mut storage, &leaders_batch(10), 1000).expect("append");
    let again = open_follower(&mut storage);
    assert_eq!((again.log_start(), again.log_end()), (20, 22));
}

#[test]
fn a_node_that_dies_while_it_cuts_keeps_a_sound_prefix() {
    const ALL: i32 = 17;
    for steps in 0..60 {
        let memory = MemoryStorage::new();
        drop(follower(&mut memory.clone(), ALL));
        let faults = StorageFaults::new();
        let mut storage = FaultyStorage::new(memory.clone(), faults.clone());
        let mut log = open_follower(&mut storage);
        faults.stop_after(steps);
        let cut = log.truncate_to(&mut storage, 6, 1000);
        assert!(cut.is_ok() || log.offline().is_some(), "a failure takes the log offline");
        let mut left = memory.clone();
        let again = open_follower(&mut left);
        let kept = again.log_end() / 2;
        assert!((3..=i64::from(ALL)).contains(&kept), "{kept}");
        let mut other = MemoryStorage::new();
        let prefix = follower(&mut other, kept as i32);
        assert_eq!(face(&again, &mut left), face(&prefix, &mut other), "{steps} steps");
    }
}
