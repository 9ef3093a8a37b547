//! P17: once a later producer has a transactional id, nothing of an earlier one becomes visible any
//! more, and the earlier one is told that it is fenced.
//!
//! A coordinator whose log lost that there is a later one tells nobody (`Book::forgotten`).

use std::collections::BTreeSet;
use std::time::Duration;

use sordini_core::time::Instant;

use super::{Evidence, Findings, Places};
use crate::book::{Book, Call, CallKind, Describes, Entry, Told, Transaction, Writer};
use crate::history::Tp;

/// A producer whose coordinator spoke to it within this time need not ask before it begins.
const FRESH: Duration = Duration::from_millis(10);

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    let book = &evidence.book;
    for producer in 0..book.instances.len() as u16 {
        let Some(since) = book.fenced_at(producer) else { continue };
        for transaction in book.transactions.iter().filter(|it| it.producer == producer) {
            if evidence.promise.is_durable() {
                visible(evidence, transaction, since, findings);
            }
        }
        for call in book.calls.iter().filter(|call| call.producer == producer) {
            told(evidence, call, since, findings);
        }
    }
}

fn visible(
    evidence: &Evidence,
    transaction: &Transaction,
    since: Instant,
    findings: &mut Findings,
) {
    let book = &evidence.book;
    let asked = transaction.commit.filter(|at| *at <= since);
    let own: BTreeSet<u64> = transaction.records.iter().copied().collect();
    for (tp, visible) in &book.visible {
        let Some(id) = visible.iter().find(|id| own.contains(id)) else { continue };
        let decided = decided(evidence, *tp, *id);
        if asked.is_none() || decided.is_some_and(|at| at > since) {
            let text = format!(
                "record {id} of producer {} became visible at {decided:?}, and another had its id \
                 since {since:?}; to be committed since {:?}",
                transaction.producer, transaction.commit
            );
            findings.violation("P17", since, text);
            return;
        }
    }
}

/// When the marker that governs a record was first written behind it.
fn decided(evidence: &Evidence, tp: Tp, id: u64) -> Option<Instant> {
    let book = &evidence.book;
    let lines = book.lines.get(&tp)?;
    let at = lines.iter().position(|line| line.entry == Entry::Record(id))?;
    let writer = lines[at].writer.0;
    let is_end = |line: &&crate::book::Line| {
        line.writer.0 == writer && matches!(line.entry, Entry::Marker { .. })
    };
    let governing: Writer = lines[at..].iter().find(is_end)?.writer;
    let append = evidence.appends.iter().find(|it| it.tp == tp && it.ids.contains(&id))?;
    let of_it = |it: &&crate::book::Marked| {
        it.tp == tp && it.writer == governing && it.commit && it.at >= append.at
    };
    book.markers.iter().find(of_it).map(|it| it.at)
}

fn has_records(evidence: &Evidence, book: &Book, call: &Call) -> bool {
    let transaction = call.transaction.and_then(|at| book.transactions.get(at));
    let records = transaction.into_iter().flat_map(|it| &it.records);
    let mut records =
        records.filter_map(|id| evidence.records.get(usize::try_from(*id).unwrap_or(usize::MAX)));
    records.any(|record| record.accepted.is_some())
}

fn told(evidence: &Evidence, call: &Call, since: Instant, findings: &mut Findings) {
    let book = &evidence.book;
    let Some(answer) = call.answer.as_ref().filter(|it| it.fatal.is_none()) else { return };
    let kin = book.kin(call.producer);
    let forgotten = kin.is_some_and(|kin| book.was_forgotten(kin, since, answer.at));
    if call.at <= since || forgotten {
        return;
    }
    // In quiet times no coordinator's word is on its way for long.
    let quiet = since.max(book.healed).saturating_add(FRESH + book.request_timeout);
    let wrong = match (call.kind, &answer.told) {
        (CallKind::Begin, Told::Begun) => call.at > quiet && book.describes == Describes::Yes,
        (CallKind::SendOffsets, Told::Done) => true,
        (CallKind::Commit, Told::Committed) => has_records(evidence, book, call),
        _ => false,
    };
    if wrong {
        let text = format!(
            "producer {}, whose id another has since {since:?}, was told {:?} to {:?} at {:?}",
            call.producer, answer.told, call.kind, call.at
        );
        findings.violation("P17", call.at, text);
    }
}
