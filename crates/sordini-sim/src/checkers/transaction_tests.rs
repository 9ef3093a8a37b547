//! The checkers of transactions by themselves: a history made by hand that keeps all promises
//! passes, and the same with one thing wrong is flagged.

use std::time::Duration;

use sordini_core::config::Acks;
use sordini_core::time::Instant;

use super::{Append, Evidence, Happening, Logged, Pause, Promise, check};
use crate::book::{
    Answer, Book, Call, CallKind, Describes, Entry, Fatal, Glimpse, Instance, Line, Marked,
    SentOffsets, Told, Transaction, Use, Writer,
};
use crate::history::{Done, History, Shape, Tp};

const P0: Tp = (0, 0);
const P1: Tp = (0, 1);
const A: Writer = (7, 0);

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn call(ms: u64, kind: CallKind, transaction: Option<usize>, told: Told) -> Call {
    Call {
        at: at(ms),
        producer: 0,
        kind,
        transaction,
        used: Use::Proper,
        deadline: at(ms + 1000),
        answer: Some(Answer { at: at(ms + 5), told, fatal: None }),
    }
}

fn records(history: &mut History) {
    // Records 0 and 1 are of the first transaction, 2 and 3 of the second; one in each partition.
    for id in 0..4 {
        let ms = if id < 2 { 100 } else { 300 };
        let partition = (id % 2) as i32;
        let shape = Shape { len: 40, ..Shape::default() };
        assert_eq!(history.invoke(at(ms), 0, 0, Some(partition), shape), id);
        history.accept(id, at(ms), partition);
        let offset = Some(if id < 2 { 0 } else { 2 });
        let done = Done::Written { offset, timestamp: -1, duplicate: false };
        assert!(history.complete(id, at(ms + 20), done));
        history.get_mut(id).expect("it is there").sent = 1;
    }
}

/// Two transactions of one producer over two partitions: the first committed, with offsets, the
/// second aborted.
fn good() -> Evidence {
    let mut evidence = Evidence::new(Promise {
        acks: Acks::All,
        idempotent: true,
        in_flight: 5,
        gapless: false,
        survivable: true,
        delivery_timeout: Duration::from_secs(10),
    });
    let mut history = History::default();
    records(&mut history);
    for (tp, ids) in [(P0, [0, 2]), (P1, [1, 3])] {
        let lines = [
            (0, Entry::Record(ids[0])),
            (1, Entry::Marker { commit: true }),
            (2, Entry::Record(ids[1])),
            (3, Entry::Marker { commit: false }),
        ];
        let lines = lines.map(|(offset, entry)| Line { offset, writer: A, entry });
        evidence.book.lines.insert(tp, lines.to_vec());
        evidence.book.visible.insert(tp, vec![ids[0]]);
        let logged = ids.map(|id| {
            let record = &history.records[id as usize];
            let offset = if id < 2 { 0 } else { 2 };
            Logged { offset, timestamp: 5, id: Some(id), content: record.content() }
        });
        evidence.logs.insert(tp, logged.to_vec());
        for (offset, id) in [(0, ids[0]), (2, ids[1])] {
            let ms = if id < 2 { 110 } else { 310 };
            let (base_offset, ids) = (offset, vec![id]);
            evidence.appends.push(Append {
                at: at(ms),
                node: 1,
                tp,
                base_offset,
                leader_epoch: 0,
                producer_id: A.0,
                ids,
            });
        }
        for (ms, commit) in [(205, true), (405, false)] {
            evidence.book.markers.push(Marked { at: at(ms), tp, writer: A, commit });
        }
        evidence.book.glimpses.push(Glimpse { at: at(350), tp, ids: vec![ids[0]] });
    }
    evidence.records = history.records;
    evidence.book = told(std::mem::take(&mut evidence.book));
    evidence.ended = at(60_000);
    evidence
}

/// What the application asked, and was told.
fn told(mut book: Book) -> Book {
    let (initialized, identity) = (Some(at(50)), Some(A));
    book.instances.push(Instance { initialized, identity, ..Instance::new(0) });
    book.calls = vec![
        call(10, CallKind::Init, None, Told::Done),
        call(60, CallKind::Begin, None, Told::Begun),
        call(120, CallKind::SendOffsets, Some(0), Told::Done),
        call(200, CallKind::Commit, Some(0), Told::Committed),
        call(250, CallKind::Begin, None, Told::Begun),
        call(400, CallKind::Abort, Some(1), Told::Aborted),
    ];
    let first = Transaction {
        number: 1,
        at: at(65),
        records: vec![0, 1],
        offsets: vec![SentOffsets { offset: 10, call: 2 }],
        commit: Some(at(200)),
        end: Some(at(200)),
        told: vec![(at(205), Told::Committed)],
        ..Transaction::default()
    };
    let second = Transaction {
        number: 2,
        at: at(255),
        records: vec![2, 3],
        end: Some(at(400)),
        told: vec![(at(405), Told::Aborted)],
        ..Transaction::default()
    };
    book.transactions = vec![first, second];
    book.offsets = [((0, 0), 10), ((0, 1), 10)].into();
    book.healed = at(20_000);
    book
}

fn broken(evidence: &Evidence) -> Vec<&'static str> {
    let mut all: Vec<_> = check(evidence).violations.iter().map(|it| it.invariant).collect();
    all.dedup();
    all
}

#[track_caller]
fn clean(evidence: &Evidence) -> super::Seen {
    let findings = check(evidence);
    assert_eq!(findings.violations, []);
    findings.seen
}

fn line(evidence: &mut Evidence, tp: Tp, at: usize) -> &mut Line {
    &mut evidence.book.lines.get_mut(&tp).expect("it is there")[at]
}

fn show(evidence: &mut Evidence, tp: Tp, ids: &[u64]) {
    evidence.book.visible.insert(tp, ids.to_vec());
}

/// Another producer gets the id.
fn succeed(evidence: &mut Evidence, ms: u64, identity: Writer) {
    let (initialized, identity) = (Some(at(ms)), Some(identity));
    evidence.book.instances.push(Instance { initialized, identity, ..Instance::new(0) });
}

#[test]
fn transactions_that_keep_all_promises_pass() {
    assert_eq!(clean(&good()), super::Seen::default());
}

#[test]
fn p1_takes_markers_for_what_stands_between_records() {
    let mut evidence = good();
    line(&mut evidence, P0, 1).entry = Entry::Record(0);
    assert!(broken(&evidence).contains(&"P1"));
}

#[test]
fn p14_flags_a_commit_that_is_visible_in_part() {
    let mut evidence = good();
    show(&mut evidence, P1, &[]);
    assert!(broken(&evidence).contains(&"P14"));
    // What went with its topic is missing for another reason.
    evidence.book.glimpses.clear();
    evidence.book.lines.remove(&P1);
    evidence.logs.remove(&P1);
    evidence.happenings.push((at(1), Happening::Deleted { topic: 0 }));
    clean(&evidence);
}

#[test]
fn p14_flags_what_is_visible_of_an_abort_and_of_what_nobody_asked_to_commit() {
    let abort = |evidence: &mut Evidence| {
        line(evidence, P0, 3).entry = Entry::Marker { commit: true };
        show(evidence, P0, &[0, 2]);
    };
    let mut evidence = good();
    abort(&mut evidence);
    assert_eq!(broken(&evidence), ["P14"]);
    // Neither told to be aborted, nor asked to be committed: its process died.
    evidence.book.transactions[1].told.clear();
    assert_eq!(broken(&evidence), ["P14"]);
    // Asked, and its outcome not known: one partition only is torn.
    evidence.book.transactions[1].commit = Some(at(400));
    assert_eq!(broken(&evidence), ["P14"]);
    line(&mut evidence, P1, 3).entry = Entry::Marker { commit: true };
    show(&mut evidence, P1, &[1, 3]);
    clean(&evidence);
}

#[test]
fn p14_counts_what_is_torn_where_the_faults_are_not_survived() {
    let mut evidence = good();
    evidence.promise.survivable = false;
    show(&mut evidence, P1, &[]);
    assert_eq!(clean(&evidence).torn, 1);
}

#[test]
fn p14_flags_offsets_that_moved_without_their_transaction_or_not_with_it() {
    let mut evidence = good();
    evidence.book.offsets.insert((0, 1), 9);
    assert_eq!(broken(&evidence), ["P14"], "two partitions, two transactions");
    evidence.book.offsets.clear();
    assert_eq!(broken(&evidence), ["P14"], "committed, and lost");
    // Those of the transaction that was aborted.
    evidence.book.transactions[1].offsets.push(SentOffsets { offset: 11, call: 2 });
    evidence.book.offsets = [((0, 0), 11), ((0, 1), 11)].into();
    assert_eq!(broken(&evidence), ["P14"]);
    // It may have been committed, though nobody knows.
    evidence.book.transactions[1].commit = Some(at(400));
    evidence.book.transactions[1].told.clear();
    clean(&evidence);
    evidence.book.offsets = [((0, 0), 10), ((0, 1), 10)].into();
    clean(&evidence);
}

#[test]
fn p15_flags_one_marker_over_two_transactions() {
    let mut evidence = good();
    // The first transaction's end is missing in one partition: the second's governs both.
    evidence.book.lines.get_mut(&P1).expect("it is there").remove(1);
    let found = broken(&evidence);
    assert!(found.contains(&"P15"), "{found:?}");
}

#[test]
fn p15_flags_a_reader_that_is_told_otherwise_than_the_markers_say() {
    let mut evidence = good();
    show(&mut evidence, P0, &[0, 2]);
    assert!(broken(&evidence).contains(&"P15"), "aborted, and visible");
    show(&mut evidence, P0, &[]);
    assert!(broken(&evidence).contains(&"P15"), "committed, and not visible");
}

#[test]
fn p15_flags_what_was_seen_too_early_or_not_for_good() {
    let mut evidence = good();
    evidence.book.glimpses[0].at = at(199);
    assert_eq!(broken(&evidence), ["P15"], "nobody had asked to commit it");
    let mut evidence = good();
    evidence.book.glimpses[1].ids.push(3);
    assert_eq!(broken(&evidence), ["P15"], "it was aborted later");
}

#[test]
fn p16_flags_a_commit_that_a_failed_record_is_part_of() {
    let mut evidence = good();
    let failed = Done::Failed { definite: false, text: "it failed".to_owned() };
    evidence.records[1].done.as_mut().expect("it is done").2 = failed;
    assert_eq!(broken(&evidence), ["P16"]);
    let mut evidence = good();
    evidence.book.calls[2].answer.as_mut().expect("answered").told = Told::MustAbort;
    assert_eq!(broken(&evidence), ["P16"]);
    let mut evidence = good();
    evidence.book.transactions[0].told.push((at(300), Told::Aborted));
    assert_eq!(broken(&evidence), ["P16"]);
    let mut evidence = good();
    evidence.book.transactions[0].commit = None;
    let found = broken(&evidence);
    assert!(found.contains(&"P16"), "{found:?}");
}

#[test]
fn p17_flags_what_became_visible_after_another_had_the_id() {
    let mut evidence = good();
    succeed(&mut evidence, 203, (7, 1));
    // Asked before, and decided after.
    assert!(broken(&evidence).contains(&"P17"));
    evidence.book.markers.iter_mut().for_each(|marker| marker.at = at(202));
    clean(&evidence);
    // Asked after.
    evidence.book.instances[1].initialized = Some(at(150));
    assert!(broken(&evidence).contains(&"P17"));
    // Who had it before is no successor, whenever it heard of it.
    evidence.book.instances[1].identity = Some((6, 9));
    clean(&evidence);
}

#[test]
fn p17_flags_a_call_that_succeeds_though_another_has_the_id() {
    let mut evidence = good();
    succeed(&mut evidence, 500, (7, 1));
    clean(&evidence);
    for (kind, told) in [
        (CallKind::SendOffsets, Told::Done),
        (CallKind::Commit, Told::Committed),
        (CallKind::Begin, Told::Begun),
    ] {
        let mut evidence = evidence.clone();
        evidence.book.calls.push(call(40_000, kind, Some(1), told));
        assert!(broken(&evidence).contains(&"P17"), "{kind:?}");
        let fatal = Some(Fatal::Fenced);
        evidence.book.calls.last_mut().expect("a call").answer =
            Some(Answer { at: at(40_001), told: Told::Refused("fenced".to_owned()), fatal });
        clean(&evidence);
    }
    // A begin that can't ask, or comes so soon after another word that it need not.
    let mut old = evidence.clone();
    old.book.describes = Describes::No;
    old.book.calls.push(call(40_000, CallKind::Begin, None, Told::Begun));
    clean(&old);
    evidence.book.calls.push(call(600, CallKind::Begin, None, Told::Begun));
    clean(&evidence);
}

#[test]
fn p17_holds_as_far_as_the_coordinator_remembers() {
    let mut evidence = good();
    succeed(&mut evidence, 500, (7, 1));
    let asked = call(490, CallKind::Init, None, Told::Done);
    evidence.book.calls.push(Call { producer: 1, ..asked });
    evidence.book.calls.push(call(40_000, CallKind::Commit, Some(1), Told::Committed));
    // When it forgot, and whose id: only between the first of the two and the answer it matters.
    for (kin, ms, flagged) in
        [(0, 5, true), (0, 300, false), (0, 30_000, false), (0, 50_000, true), (1, 300, true)]
    {
        let mut evidence = evidence.clone();
        evidence.book.forgotten.push((kin, at(ms)));
        assert_eq!(broken(&evidence).contains(&"P17"), flagged, "id {kin} at {ms}");
    }
}

#[test]
fn p18_flags_a_producer_that_goes_on_after_its_end() {
    let mut evidence = good();
    let fatal = Some(Fatal::Fenced);
    let done = Answer { at: at(500), told: Told::Refused("fenced".to_owned()), fatal };
    evidence.book.calls.push(call(490, CallKind::Begin, None, Told::Late));
    evidence.book.calls.last_mut().expect("a call").answer = Some(done.clone());
    clean(&evidence);
    evidence.book.calls.push(call(510, CallKind::Begin, None, Told::Begun));
    assert_eq!(broken(&evidence), ["P18"]);
    evidence.book.calls.last_mut().expect("a call").answer = Some(done);
    clean(&evidence);
}

#[test]
fn p18_flags_what_is_taken_for_a_transaction_that_is_over() {
    let mut evidence = good();
    let mut late = call(450, CallKind::SendOffsets, Some(1), Told::Done);
    late.used = Use::Misuse;
    evidence.book.calls.push(late);
    assert_eq!(broken(&evidence), ["P18"]);
    let mut evidence = good();
    evidence.book.transactions[1].end = Some(at(299));
    assert_eq!(broken(&evidence), ["P18"]);
}

#[test]
fn p20_flags_a_call_without_an_answer_or_with_a_late_one_and_readers_that_are_held_back() {
    let mut evidence = good();
    evidence.book.calls[3].answer = None;
    assert_eq!(broken(&evidence), ["P20"]);
    evidence.book.instances[0].died = Some(at(500));
    clean(&evidence);

    let mut evidence = good();
    evidence.book.calls[3].deadline = at(201);
    assert_eq!(broken(&evidence), ["P20"]);
    evidence.pauses.push(Pause { producer: 0, from: at(200), until: at(204) });
    clean(&evidence);

    let mut evidence = good();
    evidence.book.stuck.push((P0, "held back".to_owned()));
    assert_eq!(broken(&evidence), ["P20"]);
}
