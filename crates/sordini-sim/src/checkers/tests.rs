//! Each checker by itself: a history made by hand that keeps all promises passes, and the same
//! with one thing wrong is flagged. A checker that flags nothing proves nothing.

use std::time::Duration;

use sordini_core::config::{Acks, Config};
use sordini_core::guarantees::{Guarantees, Order};
use sordini_core::time::Instant;

use super::{
    Append, Evidence, Findings, Happening, Logged, MemoryUse, Naming, Pause, Probe, Promise, check,
};
use crate::history::{Done, History, Rejected, Shape, Tp};

const TP: Tp = (0, 0);

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn promise(acks: Acks, idempotent: bool) -> Promise {
    Promise {
        acks,
        idempotent,
        in_flight: 5,
        gapless: false,
        survivable: true,
        delivery_timeout: Duration::from_secs(10),
    }
}

/// With `acks=0` P12 looks at connections.
#[test]
fn the_order_that_users_are_told_of_is_the_one_that_is_checked() {
    let settings = [
        ("acks", ["all", "1", "0"]),
        ("enable.idempotence", ["true", "false", "false"]),
        ("retries", ["0", "1", "9"]),
        ("max.in.flight.requests.per.connection", ["1", "2", "5"]),
    ];
    let mut met = [0, 0];
    for number in 0..81 {
        let mut builder = Config::builder();
        let mut digits = number;
        for (name, values) in settings {
            builder.set(name, values[digits % 3]).expect("a setting");
            digits /= 3;
        }
        builder.set("bootstrap.servers", "n1:9092").expect("an address");
        let Ok((config, _)) = builder.build() else { continue };
        let told = Guarantees::of(&config).order.holds == Order::Kept;
        let checked = Promise::of(&config, true).is_ordered() && config.acks != Acks::None;
        assert_eq!(told, checked, "{:?}", config.entries());
        met[usize::from(told)] += 1;
    }
    assert!(met[0] > 9 && met[1] > 9, "{met:?}");
}

/// Records 0, 1 and 2 of one producer, written to one partition, in order.
fn good() -> Evidence {
    good_for(promise(Acks::All, true))
}

fn good_for(promise: Promise) -> Evidence {
    let mut history = History::default();
    for id in 0..3 {
        let shape = Shape { len: 40, headers: 2, key: Some(1), ..Shape::default() };
        assert_eq!(history.invoke(at(10 * id), 0, 0, Some(0), shape), id);
        history.accept(id, at(10 * id), 0);
        let offset = (promise.acks != Acks::None).then_some(id as i64);
        let done = Done::Written { offset, timestamp: -1, duplicate: false };
        assert!(history.complete(id, at(10 * id + 500), done));
        history.get_mut(id).expect("it is there").sent = 1;
    }
    let mut evidence = Evidence::new(promise);
    let log = history.records.iter().map(|record| Logged {
        offset: record.id as i64,
        timestamp: 5,
        id: Some(record.id),
        content: record.content(),
    });
    evidence.logs.insert(TP, log.collect());
    evidence.appends.push(append(1, 0, vec![0, 1, 2]));
    evidence.records = history.records;
    evidence.memory.push(MemoryUse { limit: 100, peak: 90, at_end: 0, most_in_flight: 5 });
    evidence.ended = at(20_000);
    evidence
}

fn append(node: i32, base_offset: i64, ids: Vec<u64>) -> Append {
    Append { at: at(100), node, tp: TP, base_offset, leader_epoch: 0, producer_id: 7, ids }
}

fn failed(definite: bool) -> Done {
    Done::Failed { definite, text: "it failed".to_owned() }
}

fn log(evidence: &mut Evidence) -> &mut Vec<Logged> {
    evidence.logs.get_mut(&TP).expect("it is there")
}

fn set_done(evidence: &mut Evidence, id: usize, done: Done) {
    evidence.records[id].done.as_mut().expect("it is done").2 = done;
}

/// Leaves a record out of the log; offsets stay dense.
fn lose(evidence: &mut Evidence, id: u64) {
    log(evidence).retain(|logged| logged.id != Some(id));
    renumber(evidence);
}

fn renumber(evidence: &mut Evidence) {
    for (offset, logged) in log(evidence).iter_mut().enumerate() {
        logged.offset = offset as i64;
    }
}

/// Makes what is told about offsets fit the log.
fn tell_places(evidence: &mut Evidence) {
    let places: Vec<_> = log(evidence).iter().map(|it| (it.id, it.offset)).collect();
    for (id, place) in places {
        let record = id.and_then(|id| evidence.records.get_mut(id as usize));
        if let Some((_, _, Done::Written { offset, .. })) = record.and_then(|it| it.done.as_mut()) {
            *offset = Some(place);
        }
    }
}

fn broken(evidence: &Evidence) -> Vec<&'static str> {
    let mut all: Vec<_> = check(evidence).violations.iter().map(|it| it.invariant).collect();
    all.dedup();
    all
}

fn clean(evidence: &Evidence) -> Findings {
    let findings = check(evidence);
    assert_eq!(findings.violations, []);
    findings
}

#[test]
fn a_history_that_keeps_all_promises_passes() {
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        let findings = clean(&good_for(promise(acks, false)));
        assert_eq!(findings.seen, super::Seen::default());
    }
    clean(&good());
}

#[test]
fn p1_flags_what_is_changed_foreign_misplaced_or_missing_between() {
    let spoil: [fn(&mut Evidence); 6] = [
        |it| log(it)[1].content.value.as_mut().expect("a value")[20] ^= 1,
        |it| log(it)[1].content.headers[0].1 = None,
        |it| log(it)[1].id = Some(77),
        |it| log(it)[1].offset = 9,
        |it| {
            let lines = it.logs.remove(&TP).expect("it is there");
            it.logs.insert((0, 1), lines);
        },
        |it| it.records[1].shape.timestamp = Some(4),
    ];
    for (nth, spoil) in spoil.into_iter().enumerate() {
        let mut evidence = good();
        spoil(&mut evidence);
        assert!(broken(&evidence).contains(&"P1"), "case {nth}");
    }
}

#[test]
fn p1_flags_a_time_that_was_told_and_does_not_stand_there() {
    let of_broker = |told: i64, duplicate: bool| {
        let mut evidence = good();
        evidence.broker_times.insert(TP.0);
        for (id, record) in evidence.records.iter_mut().enumerate() {
            record.shape.timestamp = Some(1);
            let offset = Some(id as i64);
            let timestamp = if id == 1 { told } else { 5 };
            record.done.as_mut().expect("it is done").2 =
                Done::Written { offset, timestamp, duplicate };
        }
        evidence
    };
    clean(&of_broker(5, false));
    clean(&of_broker(-1, true));
    assert_eq!(broken(&of_broker(6, false)), ["P1"]);
    assert_eq!(broken(&of_broker(-1, false)), ["P1"]);
    // A disk lost what was acknowledged, and an attempt before it stands there.
    let mut lossy = of_broker(6, false);
    lossy.promise.survivable = false;
    assert_eq!(broken(&lossy), ["P1"], "nothing was lost");
    lossy.happenings.push(cut(1, 2));
    assert_eq!(broken(&lossy), ["P1"], "not where it stands");
    lossy.happenings.push(cut(1, 1));
    clean(&lossy);
}

#[test]
fn p2_flags_what_has_no_outcome_a_late_one_or_a_send_that_never_returned() {
    let mut evidence = good();
    evidence.records[2].done = None;
    assert_eq!(broken(&evidence), ["P2"]);

    let mut evidence = good();
    evidence.records[2].done.as_mut().expect("it is done").0 = at(10_100);
    assert_eq!(broken(&evidence), ["P2"]);
    // A producer that was stopped may be as much later.
    evidence.pauses.push(Pause { producer: 0, from: at(3000), until: at(3200) });
    clean(&evidence);

    let mut evidence = good();
    evidence.records[2].accepted = None;
    evidence.records[2].done = None;
    lose(&mut evidence, 2);
    evidence.appends[0].ids.pop();
    assert_eq!(broken(&evidence), ["P2"]);
    evidence.records[2].rejected = Some(Rejected::GaveUp);
    clean(&evidence);
}

#[test]
fn p3_flags_a_definite_failure_that_is_in_a_log_or_was_in_one() {
    let mut evidence = good();
    set_done(&mut evidence, 2, failed(true));
    assert_eq!(broken(&evidence), ["P3"]);
    // Cut off since, and yet no "definitely not".
    lose(&mut evidence, 2);
    assert_eq!(broken(&evidence), ["P3"]);
    // Nor does it matter once the topic is gone.
    evidence.happenings.push((at(700), Happening::Deleted { topic: 0 }));
    clean(&evidence);
    evidence.happenings.clear();
    // M35: a failure whose fate is open says nothing.
    set_done(&mut evidence, 2, failed(false));
    clean(&evidence);
    set_done(&mut evidence, 2, failed(true));
    evidence.appends[0].ids.pop();
    clean(&evidence);
}

#[test]
fn p4_flags_an_offset_that_is_wrong_or_missing() {
    let mut evidence = good();
    log(&mut evidence).swap(0, 1);
    renumber(&mut evidence);
    assert!(broken(&evidence).contains(&"P4"));

    let mut evidence = good();
    let untold = Done::Written { offset: None, timestamp: -1, duplicate: false };
    set_done(&mut evidence, 1, untold);
    assert_eq!(broken(&evidence), ["P4"]);
    // A duplicate that the broker recognised has no offset to be told.
    let known = Done::Written { offset: None, timestamp: -1, duplicate: true };
    set_done(&mut evidence, 1, known);
    clean(&evidence);
}

#[test]
fn p5_flags_outcomes_out_of_order_where_nothing_was_sent_again() {
    let mut evidence = good();
    let swap = |evidence: &mut Evidence| {
        evidence.records[0].done.as_mut().expect("it is done").1 = 1;
        evidence.records[1].done.as_mut().expect("it is done").1 = 0;
    };
    swap(&mut evidence);
    assert_eq!(broken(&evidence), ["P5"]);
    evidence.records[0].sent = 2;
    clean(&evidence);
    // The leader moved between them: their answers came by two connections.
    evidence.records[0].sent = 1;
    evidence.records[0].sent_to = Some(2);
    clean(&evidence);

    let mut plain = good_for(promise(Acks::All, false));
    swap(&mut plain);
    clean(&plain);
}

#[test]
fn p6_flags_memory_beyond_its_limit_or_kept_and_too_many_requests() {
    let spoil: [fn(&mut MemoryUse); 3] =
        [|it| it.peak = 101, |it| it.at_end = 1, |it| it.most_in_flight = 6];
    for spoil in spoil {
        let mut evidence = good();
        spoil(&mut evidence.memory[0]);
        assert_eq!(broken(&evidence), ["P6"]);
    }
}

fn cut(node: i32, to: i64) -> (Instant, Happening) {
    (at(600), Happening::Truncated { node, tp: TP, to, was: 3 })
}

#[test]
fn p10_flags_a_loss_that_was_not_allowed() {
    let mut evidence = good();
    lose(&mut evidence, 2);
    assert_eq!(broken(&evidence), ["P10"]);
    // However the replicas were cut: acks=all survives that.
    evidence.happenings.push(cut(1, 0));
    assert_eq!(broken(&evidence), ["P10"]);
    evidence.happenings.push((at(1), Happening::Deleted { topic: 0 }));
    clean(&evidence);
}

#[test]
fn p10_flags_a_loss_that_is_told_of_and_was_none() {
    let mut evidence = good();
    evidence.happenings.push((at(1), Happening::LossTold { producer: 0, tp: TP }));
    assert_eq!(broken(&evidence), ["P10"]);
    evidence.misled = true;
    clean(&evidence);
}

#[test]
fn p10_wants_to_see_the_event_that_took_what_one_leader_acknowledged() {
    let mut evidence = good_for(promise(Acks::Leader, false));
    lose(&mut evidence, 2);
    assert_eq!(broken(&evidence), ["P10"]);
    // Another node was cut, or this one behind the record.
    evidence.happenings.push(cut(2, 0));
    evidence.happenings.push(cut(1, 3));
    assert_eq!(broken(&evidence), ["P10"]);
    evidence.happenings.push(cut(1, 2));
    assert_eq!(clean(&evidence).seen.loss, 1);
    // Nobody appended it at all.
    evidence.appends.clear();
    assert_eq!(broken(&evidence), ["P10"]);
}

#[test]
fn p10_wants_to_see_a_broken_connection_where_nobody_acknowledged() {
    let mut evidence = good_for(promise(Acks::None, false));
    lose(&mut evidence, 2);
    assert_eq!(broken(&evidence), ["P10"]);
    evidence.happenings.push((at(1), Happening::ConnectionLost { producer: 0, node: 1 }));
    evidence.happenings.push((at(700), Happening::ConnectionLost { producer: 1, node: 1 }));
    assert_eq!(broken(&evidence), ["P10"]);
    evidence.happenings.push((at(700), Happening::ConnectionLost { producer: 0, node: 1 }));
    assert_eq!(clean(&evidence).seen.loss, 1);
}

#[test]
fn p11_flags_duplicates_with_idempotence_and_too_many_without() {
    let double = |mut evidence: Evidence| {
        let again = Logged { offset: 3, ..log(&mut evidence)[1].clone() };
        log(&mut evidence).push(again);
        evidence
    };
    assert_eq!(broken(&double(good())), ["P11"]);
    let mut plain = double(good_for(promise(Acks::All, false)));
    assert_eq!(broken(&plain), ["P11"], "it was sent once");
    plain.records[1].sent = 2;
    assert_eq!(clean(&plain).seen.duplicate, 1);
}

#[test]
fn p11_sees_what_the_application_sent_again_itself() {
    let mut evidence = good();
    evidence.records[2].origin = 0;
    assert_eq!(clean(&evidence).seen.duplicate, 1);
}

#[test]
fn p10_flags_a_loss_unless_a_disk_lost_what_only_a_retry_told_of() {
    let mut evidence = good();
    lose(&mut evidence, 2);
    evidence.appends = vec![append(1, 0, vec![0, 1])];
    evidence.promise.survivable = false;
    evidence.happenings.push(cut(1, 3));
    assert_eq!(broken(&evidence), ["P10"], "it was not cut off");
    evidence.happenings.push(cut(1, 2));
    assert_eq!(clean(&evidence).seen.loss, 1);
    evidence.promise.survivable = true;
    assert_eq!(broken(&evidence), ["P10"]);
}

#[test]
fn p10_flags_a_loss_unless_the_identity_was_given_twice() {
    let mut evidence = good();
    lose(&mut evidence, 2);
    evidence.promise.survivable = false;
    evidence.appends = vec![append(1, 0, vec![0, 1])];
    evidence.book.instances.push(crate::book::Instance::new(4));
    assert_eq!(broken(&evidence), ["P10"]);
    let mut anew = |kin, ms| {
        evidence.book.forgotten = vec![(kin, at(ms))];
        evidence.clone()
    };
    assert_eq!(broken(&anew(4, 600)), ["P10"], "after it was told");
    assert_eq!(broken(&anew(3, 200)), ["P10"], "another id");
    let mut taken = anew(4, 200);
    assert_eq!(clean(&taken).seen.loss, 1);
    taken.appends.push(append(1, 2, vec![2]));
    assert_eq!(broken(&taken), ["P10"], "it was appended");
}

#[test]
fn p12_flags_an_inversion_where_order_is_promised() {
    let invert = |mut evidence: Evidence| {
        log(&mut evidence).swap(1, 2);
        renumber(&mut evidence);
        tell_places(&mut evidence);
        evidence
    };
    assert_eq!(broken(&invert(good())), ["P12"]);
    let mut plain = invert(good_for(promise(Acks::All, false)));
    assert_eq!(broken(&plain), ["P12"], "nothing was sent again that could have been overtaken");
    let mut moved = plain.clone();
    moved.records[1].sent_to = Some(2);
    assert_eq!(clean(&moved).seen.reorder, 1, "two leaders, two connections");
    plain.records[1].sent = 2;
    assert_eq!(clean(&plain).seen.reorder, 1);
    plain.promise.in_flight = 1;
    plain.memory[0].most_in_flight = 1;
    assert_eq!(broken(&plain), ["P12"]);
    // What was meant for one topic may come to another of its name, and only when it is sent again.
    let mut anew = invert(good());
    anew.happenings.push((at(1), Happening::Deleted { topic: 0 }));
    anew.records[1].sent = 2;
    assert_eq!(broken(&anew), ["P12"], "a request named the topic by its id");
    anew.naming = Naming::Name;
    assert_eq!(clean(&anew).seen.reorder, 1);
    anew.records[1].sent = 1;
    assert_eq!(broken(&anew), ["P12"]);
    anew.records[1].sent = 2;
    anew.happenings.clear();
    assert_eq!(broken(&anew), ["P12"]);
}

#[test]
fn p12_flags_an_inversion_unless_what_is_in_doubt_went_under_a_producer_id_before() {
    let mut evidence = good();
    log(&mut evidence).swap(1, 2);
    renumber(&mut evidence);
    tell_places(&mut evidence);
    evidence.appends = vec![append(1, 0, vec![0]), append(1, 1, vec![2]), append(1, 2, vec![1])];
    set_done(&mut evidence, 1, failed(false));
    assert_eq!(broken(&evidence), ["P12"], "one id, whose epochs fence what is late");
    evidence.appends[1].producer_id = 1000;
    assert_eq!(clean(&evidence).seen.reorder, 1);
    let offset = Some(2);
    set_done(&mut evidence, 1, Done::Written { offset, timestamp: -1, duplicate: false });
    assert_eq!(broken(&evidence), ["P12"], "it was not in doubt");
}

#[test]
fn p12_flags_an_inversion_unless_a_disk_lost_what_the_broker_knew() {
    let mut evidence = good();
    log(&mut evidence).swap(1, 2);
    lose(&mut evidence, 0);
    renumber(&mut evidence);
    tell_places(&mut evidence);
    evidence.promise.survivable = false;
    evidence.happenings.push(cut(1, 0));
    assert_eq!(broken(&evidence), ["P12"], "nothing was sent again");
    evidence.records[1].sent = 2;
    assert_eq!(clean(&evidence).seen.reorder, 1);
    evidence.promise.survivable = true;
    assert!(broken(&evidence).contains(&"P12"), "disks keep what was acknowledged");
    let mut kept = good();
    log(&mut kept).swap(1, 2);
    renumber(&mut kept);
    tell_places(&mut kept);
    kept.promise.survivable = false;
    kept.records[1].sent = 2;
    assert_eq!(broken(&kept), ["P12"], "nothing was lost");
}

#[test]
fn p13_flags_what_follows_a_failure_in_gapless_mode_only() {
    let mut evidence = good();
    set_done(&mut evidence, 1, failed(false));
    clean(&evidence);
    evidence.promise.gapless = true;
    assert_eq!(broken(&evidence), ["P13"]);
    lose(&mut evidence, 2);
    set_done(&mut evidence, 2, failed(false));
    clean(&evidence);
}

#[test]
fn p20_flags_what_does_not_go_on() {
    let mut evidence = good();
    let probe = |failed: Option<&str>| Probe {
        at: at(1),
        asked: "it goes on".to_owned(),
        failed: failed.map(str::to_owned),
    };
    evidence.probes.push(probe(None));
    clean(&evidence);
    evidence.probes.push(probe(Some("it does not")));
    assert_eq!(broken(&evidence), ["P20"]);
}

fn refused(producer: u16, code: i16, led: bool) -> (Instant, Happening) {
    (at(1), Happening::Refused { producer, tp: TP, code, node: 1, id: 0, led })
}

#[test]
fn p11_flags_a_broker_that_forgot_one_of_the_last_five_batches() {
    let mut evidence = good();
    // All by the producer of the three records.
    evidence.appends = (0..6).map(|n| append(1, n, vec![n.min(2) as u64])).collect();
    evidence.appends.iter_mut().for_each(|append| append.at = at(0));
    evidence.happenings.push(refused(0, 45, true));
    // It is the sixth from the end.
    clean(&evidence);
    evidence.appends.pop();
    assert_eq!(broken(&evidence), ["P11"]);
    evidence.happenings.insert(0, cut(1, 0));
    clean(&evidence);
}

#[test]
fn p21_flags_epochs_without_a_reason() {
    let mut evidence = good();
    evidence.happenings.push((at(1), Happening::Bumped { producer: 0, tp: TP }));
    assert_eq!(broken(&evidence), ["P21"]);
    evidence.happenings.push(refused(1, 45, true));
    evidence.happenings.push(refused(0, 6, true));
    evidence.happenings.push(refused(0, 45, false));
    assert_eq!(broken(&evidence), ["P21"]);
    evidence.happenings.push(refused(0, 45, true));
    clean(&evidence);
}
