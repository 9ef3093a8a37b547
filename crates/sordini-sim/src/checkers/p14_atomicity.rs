//! P14: to a reader of committed records a transaction is visible as a whole or not at all, in all
//! partitions alike: one that was told to be committed is, one that was told to be aborted or that
//! nobody asked to commit is not. A group's offsets move with it.
//!
//! Where the faults go beyond what replication survives, what is torn is counted, not condemned.

use std::collections::BTreeSet;

use super::{Anomaly, Evidence, Findings, Places};
use crate::book::{Book, Told, Transaction};

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    let book = &evidence.book;
    let visible: BTreeSet<u64> = book.visible.values().flatten().copied().collect();
    for transaction in &book.transactions {
        judge(evidence, transaction, &visible, findings);
    }
    if evidence.promise.is_durable() {
        for kin in book.instances.iter().map(|it| it.kin).collect::<BTreeSet<u16>>() {
            judge_offsets(evidence, book, kin, findings);
        }
    }
}

/// Which outcomes of a transaction would be in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    All,
    None,
    Either,
}

pub(super) fn owed(transaction: &Transaction) -> Owed {
    let committed = transaction.was_told(&Told::Committed);
    let aborted = transaction.was_told(&Told::Aborted);
    match (committed, aborted) {
        (true, _) => Owed::All,
        (false, true) => Owed::None,
        (false, false) if transaction.commit.is_some() => Owed::Either,
        (false, false) => Owed::None,
    }
}

fn judge(
    evidence: &Evidence,
    transaction: &Transaction,
    visible: &BTreeSet<u64>,
    findings: &mut Findings,
) {
    let records = transaction.records.iter();
    let records = records.filter_map(|id| evidence.records.get(usize::try_from(*id).ok()?));
    let accepted = records.filter(|record| record.accepted.is_some());
    let (there, missing): (Vec<_>, Vec<_>) =
        accepted.partition(|record| visible.contains(&record.id));
    // What went with its topic is missing for another reason.
    let missing: Vec<_> =
        missing.into_iter().filter(|it| !evidence.was_deleted(it.topic)).map(|it| it.id).collect();
    let there: Vec<_> = there.into_iter().map(|it| it.id).collect();
    let name = format!("transaction {} of producer {}", transaction.number, transaction.producer);
    let wrong = match owed(transaction) {
        Owed::All if !missing.is_empty() => "was committed",
        Owed::None if !there.is_empty() => "was not committed",
        Owed::Either if !missing.is_empty() && !there.is_empty() => "is torn",
        _ => return,
    };
    let text = || {
        format!(
            "{name} {wrong}: record {:?} and others, {} in all, are visible, record {:?} and \
             others, {} in all, are not; told {:?}",
            there.first(),
            there.len(),
            missing.first(),
            missing.len(),
            transaction.told
        )
    };
    if evidence.promise.is_durable() {
        findings.violation("P14", transaction.at, text());
    } else if let Some(id) = there.first().or(missing.first()) {
        findings.saw(Anomaly::Torn, *id, text);
    }
}

/// The group's offsets are those of its last committed transaction, in all partitions.
fn judge_offsets(evidence: &Evidence, book: &Book, kin: u16, findings: &mut Findings) {
    let of_kin = |it: &&Transaction| book.kin(it.producer) == Some(kin);
    let all: Vec<&Transaction> = book.transactions.iter().filter(of_kin).collect();
    // Within a transaction the last offsets count that went along, or may have.
    let last = |it: &Transaction| {
        let done = |call: usize| {
            let answer = book.calls.get(call).and_then(|call| call.answer.as_ref());
            answer.map(|answer| answer.told == Told::Done)
        };
        let sure = it.offsets.iter().rev().find(|sent| done(sent.call) == Some(true));
        let sure = sure.map(|sent| sent.offset);
        let maybe: Vec<i64> = it
            .offsets
            .iter()
            .filter(|sent| Some(sent.offset) >= sure && !is_refused(book, sent.call))
            .map(|sent| sent.offset)
            .collect();
        (sure, maybe)
    };
    let committed = all.iter().filter(|it| owed(it) == Owed::All);
    let least = committed.filter_map(|it| last(it).0).max();
    let allowed: BTreeSet<i64> = all
        .iter()
        .filter(|it| owed(it) != Owed::None)
        .flat_map(|it| last(it).1)
        .filter(|offset| least.is_none_or(|least| *offset >= least))
        .collect();
    let now: BTreeSet<Option<i64>> = (0..crate::transactions::INPUT_PARTITIONS)
        .map(|partition| book.offsets.get(&(kin, partition)).copied())
        .collect();
    let fits = |now: &Option<i64>| match now {
        Some(offset) => allowed.contains(offset),
        None => least.is_none(),
    };
    if now.len() > 1 || !now.iter().all(fits) {
        let text = format!(
            "the offsets of group {kin} are {now:?}; the last that were surely committed are \
             {least:?}, possible are {allowed:?}"
        );
        findings.violation("P14", evidence.ended, text);
    }
}

/// Surely not part of it: refused before anybody was asked.
fn is_refused(book: &Book, call: usize) -> bool {
    let answer = book.calls.get(call).and_then(|call| call.answer.as_ref());
    answer.is_some_and(|answer| matches!(answer.told, Told::Refused(_)) && answer.fatal.is_none())
}
