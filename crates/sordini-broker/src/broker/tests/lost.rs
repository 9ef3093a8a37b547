//! What a log has lost since its broker was stopped in order: told, and not given out again.

use super::*;
use crate::log::marker::TransactionResult;

const FIRST: &str = "t-0/00000000000000000000.log";

/// A topic of one partition, stopped in order with so many records, each in a batch of its own.
fn stopped(memory: &MemoryStorage, settings: &[(&str, &str)], records: i32) {
    let settings: Vec<(String, String)> =
        settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let mut rig = Rig::on(memory.clone(), |_| {});
    rig.broker.make_topic(rig.now, "t", 1, &settings).expect("topic");
    for at in 0..records {
        assert_eq!(rig.produce(&batch(&["v"]).producer(7, 0, at)).base_offset, i64::from(at));
    }
    rig.broker.close().expect("close");
}

fn cut(memory: &MemoryStorage, path: &str, len: usize) {
    let mut bytes = memory.contents(path).expect("the file");
    bytes.truncate(len);
    memory.overwrite(path, bytes);
}

/// What the start told of partition 0 as lost: first offset, the one behind, how many.
fn told(rig: &Rig) -> Option<(i64, i64, u64)> {
    let (_, report) = rig.broker.recovered().iter().find(|(dir, _)| dir == "t-0")?;
    report.lost.as_ref().map(|lost| (lost.from, lost.to, lost.offsets))
}

fn offsets(rig: &mut Rig) -> Vec<i64> {
    rig.broker.records("t", 0).expect("records").iter().map(|record| record.offset).collect()
}

fn log_end(rig: &mut Rig) -> i64 {
    rig.broker.partition_state("t", 0).expect("partition").log_end
}

#[test]
fn what_a_log_lost_after_a_clean_end_is_told_and_its_offsets_are_not_given_out_again() {
    let whole = MemoryStorage::new();
    stopped(&whole, &[], 6);
    let size = whole.contents(FIRST).expect("log").len() / 6;
    for len in [6 * size - 1, 5 * size, 4 * size + 7, size, 5, 0] {
        let memory = MemoryStorage::new();
        stopped(&memory, &[], 6);
        cut(&memory, FIRST, len);
        let kept = (len / size) as i64;
        let mut rig = Rig::on(memory.clone(), |_| {});
        assert_eq!(told(&rig), Some((kept, 6, 6 - kept as u64)), "cut to {len}");
        let lost = rig.broker.recovered()[0].1.lost.clone().expect("lost");
        assert_eq!((lost.file.as_str(), lost.position), (FIRST, kept as u64 * size as u64));
        assert_eq!(log_end(&mut rig), 6, "cut to {len}");
        // A reader who stands in what is lost is not left there.
        let answer = rig.ask(&rig.fetch_request(kept, 1, 0), 16);
        let records = fetched(&answer).records.clone().expect("a batch");
        assert_eq!(crate::log::batch::end_of(&records), Some(6), "cut to {len}");
        // Nor is what was lost taken for written, if its producer is still there.
        let next = rig.produce(&batch(&["v"]).producer(7, 0, kept as i32));
        assert_eq!((next.error_code, next.base_offset), (0, 6), "cut to {len}");
        let expected: Vec<i64> = (0..kept).chain([6]).collect();
        assert_eq!(offsets(&mut rig), expected, "cut to {len}");
        // It is told once, whether that start is followed by a kill or not.
        let clean = len % 2 == 0;
        if clean {
            rig.broker.close().expect("close");
        }
        drop(rig);
        let mut rig = Rig::on(memory, |_| {});
        assert_eq!((told(&rig), log_end(&mut rig)), (None, 7), "cut to {len}");
        assert_eq!(offsets(&mut rig), expected, "cut to {len}");
    }
}

/// Without its index the records of an aborted transaction would be taken for committed.
#[test]
fn an_index_of_aborted_transactions_that_is_gone_is_made_anew() {
    let small = [("segment.bytes".to_owned(), "400".to_owned())];
    let is_index = |path: &String| path.starts_with("t-0/") && path.ends_with(".txnindex");
    for emptied in [false, true] {
        let memory = MemoryStorage::new();
        let mut rig = Rig::on(memory.clone(), |_| {});
        rig.broker.make_topic(rig.now, "t", 1, &small).expect("topic");
        for at in 0..6 {
            rig.transact((7, at, 0));
            let ends = [TransactionResult::Commit, TransactionResult::Abort];
            rig.end(7, at + 1, ends[at as usize % 2]);
        }
        let committed = |rig: &mut Rig| rig.broker.committed_records("t", 0).expect("records");
        let before = committed(&mut rig);
        assert_eq!(before.len(), 3);
        rig.broker.close().expect("close");
        let indexes: Vec<String> = memory.paths().into_iter().filter(is_index).collect();
        assert!(indexes.len() > 1, "{indexes:?}");
        for path in &indexes {
            match emptied {
                true => memory.overwrite(path, Vec::new()),
                false => memory.clone().remove(path).expect("removed"),
            }
        }
        let mut rig = Rig::on(memory.clone(), |_| {});
        assert_eq!(committed(&mut rig), before, "emptied: {emptied}");
        assert_eq!(told(&rig), None, "no record is lost");
        rig.broker.close().expect("close");
        // As it was, so that the next start has nothing to do.
        let rig = Rig::on(memory, |_| {});
        assert!(rig.broker.recovered().is_empty(), "{:?}", rig.broker.recovered());
    }
}

#[test]
fn what_a_log_lost_of_its_beginning_and_its_middle_is_told() {
    let small = [("segment.bytes", "300")];
    let memory = MemoryStorage::new();
    stopped(&memory, &small, 20);
    let logs = || memory.paths().into_iter().filter(|path| path.ends_with(".log"));
    let paths: Vec<String> = logs().collect();
    assert!(paths.len() > 4, "{paths:?}");
    let base = |path: &str| -> i64 {
        path.trim_start_matches("t-0/").trim_end_matches(".log").parse().expect("base")
    };
    let size = memory.contents(FIRST).expect("log").len() / base(&paths[1]) as usize;
    let last = paths.last().expect("a segment").clone();
    // A whole batch of a segment, a segment, the first one, the last one, and all of them.
    type Case<'a> = (&'a [String], Option<usize>, (i64, i64));
    let cases: [Case<'_>; 5] = [
        (&paths[1..2], Some(size), (base(&paths[1]) + 1, base(&paths[2]))),
        (&paths[1..2], None, (base(&paths[1]), base(&paths[2]))),
        (&paths[..1], None, (0, base(&paths[1]))),
        (&paths[paths.len() - 1..], None, (base(&last), 20)),
        (&paths[..], None, (0, 20)),
    ];
    for (struck, left, (from, to)) in cases {
        let memory = MemoryStorage::new();
        stopped(&memory, &small, 20);
        for path in struck {
            match left {
                Some(len) => cut(&memory, path, len),
                None => memory.clone().remove(path).expect("removed"),
            }
        }
        let mut rig = Rig::on(memory.clone(), |_| {});
        assert_eq!(told(&rig), Some((from, to, (to - from) as u64)), "{struck:?} {left:?}");
        assert_eq!(log_end(&mut rig), 20, "{struck:?} {left:?}");
        let kept: Vec<i64> = (0..20).filter(|at| !(from..to).contains(at)).collect();
        assert_eq!(offsets(&mut rig), kept, "{struck:?} {left:?}");
        assert_eq!(rig.produce(&batch(&["v"])).base_offset, 20);
    }
}

/// Whatever befell one segment, what is sound in the others is served.
#[test]
fn damage_in_one_segment_takes_nothing_from_the_others() {
    let small = [("segment.bytes", "300")];
    let whole = MemoryStorage::new();
    stopped(&whole, &small, 20);
    let paths: Vec<String> =
        whole.paths().into_iter().filter(|path| path.ends_with(".log")).collect();
    let base = |path: &str| -> i64 { path[4..24].parse().expect("base") };
    let size = whole.contents(FIRST).expect("log").len() / base(&paths[1]) as usize;
    for (struck, path) in paths.iter().enumerate() {
        let next = paths.get(struck + 1).map_or(20, |next| base(next));
        let bytes = whole.contents(path).expect("log");
        let mut flipped = bytes.clone();
        *flipped.last_mut().expect("a byte") ^= 1;
        let longer = [&bytes[..], b"x"].concat();
        let lacking = bytes[..bytes.len() - 1].to_vec();
        let border = bytes[..bytes.len() - size].to_vec();
        let shorter = bytes[..bytes.len() - size - 1].to_vec();
        let mut cases = vec![(longer, 0), (lacking, 1), (border, 1), (shorter, 2), (vec![], next)];
        if struck == paths.len() - 1 {
            cases.push((flipped, 1));
        }
        for (left, gone) in cases {
            let memory = MemoryStorage::new();
            stopped(&memory, &small, 20);
            memory.overwrite(path, left.clone());
            let case = format!("{path} of {} bytes", left.len());
            let mut rig = Rig::on(memory.clone(), |_| {});
            let from = (next - gone).max(base(path));
            let lost = (from < next).then(|| (from, next, (next - from) as u64));
            assert_eq!(told(&rig), lost, "{case}");
            if let Some((_, report)) = rig.broker.recovered().iter().find(|(dir, _)| dir == "t-0")
                && let Some(lost) = &report.lost
            {
                assert_eq!(&lost.file, path, "{case}");
                assert_eq!(lost.position, (from - base(path)) as u64 * size as u64, "{case}");
            }
            let kept: Vec<i64> = (0..20).filter(|at| !(from..next).contains(at)).collect();
            assert_eq!((offsets(&mut rig), log_end(&mut rig)), (kept, 20), "{case}");
            assert_eq!(rig.produce(&batch(&["v"])).base_offset, 20, "{case}");
            rig.broker.close().expect("close");
            drop(rig);
            // What is lost later is told alone.
            let last = memory.paths().into_iter().rfind(|path| path.ends_with(".log"));
            let last = last.expect("a segment");
            let len = memory.contents(&last).expect("log").len();
            cut(&memory, &last, len - 1);
            assert_eq!(told(&Rig::on(memory, |_| {})), Some((20, 21, 1)), "{case}");
        }
    }
}

/// The end of a clean stop holds for later lives too: nothing takes an offset back.
#[test]
fn a_loss_is_told_after_a_kill_as_well() {
    let memory = MemoryStorage::new();
    stopped(&memory, &[], 6);
    let mut rig = Rig::on(memory.clone(), |_| {});
    assert_eq!(rig.produce(&batch(&["v"]).producer(7, 0, 6)).base_offset, 6);
    drop(rig);
    cut(&memory, FIRST, 10);
    let mut rig = Rig::on(memory, |_| {});
    assert_eq!((told(&rig), log_end(&mut rig)), (Some((0, 6, 6)), 6));
}

#[test]
fn what_retention_or_a_deletion_took_is_not_told_as_lost() {
    let settings = [("segment.bytes", "300"), ("retention.ms", "1000")];
    for clean in [true, false] {
        let memory = MemoryStorage::new();
        stopped(&memory, &settings, 20);
        let mut rig = Rig::on(memory.clone(), |_| {});
        rig.advance(120_000);
        assert_eq!(rig.broker.partition_state("t", 0).expect("partition").log_start, 20);
        if clean {
            rig.broker.close().expect("close");
        }
        drop(rig);
        let mut rig = Rig::on(memory.clone(), |_| {});
        assert_eq!((told(&rig), log_end(&mut rig)), (None, 20));
        rig.broker.delete_topic("t").expect("deleted");
        drop(rig.with_topic(1));
        let mut rig = Rig::on(memory, |_| {});
        assert_eq!((told(&rig), log_end(&mut rig)), (None, 0), "another topic of that name");
    }
}

#[test]
fn a_log_that_holds_more_than_when_it_was_closed_has_lost_nothing() {
    let memory = MemoryStorage::new();
    stopped(&memory, &[], 6);
    let mut bytes = memory.contents(FIRST).expect("log");
    bytes.extend([7; 30]);
    memory.overwrite(FIRST, bytes);
    let mut rig = Rig::on(memory, |_| {});
    assert_eq!((told(&rig), log_end(&mut rig)), (None, 6));
    assert_eq!(rig.broker.recovered()[0].1.truncated_bytes, 30);
}
