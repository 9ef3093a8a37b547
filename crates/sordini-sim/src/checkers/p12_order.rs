//! P12: one producer's records stand in a partition in the order in which they were handed in.
//!
//! With idempotence, or one request in flight. Without idempotence that holds for what was
//! acknowledged: the bytes of a request that was given up may arrive on a connection that was
//! given up, at any later time. With `acks=0` it holds within one connection.
//!
//! Several requests in flight without idempotence: what was sent again, or to another node since
//! the leader moved, may be overtaken.
//!
//! Where topics are named by their names, what is sent again may come to a topic that was made anew
//! meanwhile, whose brokers hold no state and take any batch for the first. The same goes where a log
//! lost what of the producer was acknowledged, and with it what its broker knew of the producer.
//!
//! An idempotent producer whose epochs are used up goes on under another id, which fences nothing of
//! the one before: what went under that one and is in doubt may arrive at any later time.

use std::collections::BTreeMap;

use sordini_core::config::Acks;

use super::{Anomaly, Evidence, Findings, Happening, Naming, Places};
use crate::history::{Done, Submitted, Tp};

pub(super) fn check(evidence: &Evidence, places: &Places, findings: &mut Findings) {
    for (tp, log) in &evidence.logs {
        let mut lines: BTreeMap<u16, Vec<&Submitted>> = BTreeMap::new();
        let mut known = std::collections::BTreeSet::new();
        for id in log.iter().filter_map(|logged| logged.id) {
            let record = usize::try_from(id).ok().and_then(|id| evidence.records.get(id));
            let Some(record) = record.filter(|_| known.insert(id)) else { continue };
            if evidence.promise.idempotent || record.is_ok() {
                lines.entry(record.producer).or_default().push(record);
            }
        }
        for (producer, line) in lines {
            let lost = evidence.records.iter().any(|it| {
                let of_it = it.producer == producer && it.tp() == Some(*tp) && it.is_ok();
                of_it && places.of(it.id).is_empty()
            });
            let memory = match lost && !evidence.promise.survivable {
                true => Memory::Lost,
                false => Memory::Kept,
            };
            judge(evidence, *tp, (producer, memory), &line, findings);
        }
    }
}

/// What brokers know of a producer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Kept,
    /// It went with what was acknowledged to it: any batch is then taken for the first.
    Lost,
}

fn judge(
    evidence: &Evidence,
    tp: Tp,
    (producer, memory): (u16, Memory),
    line: &[&Submitted],
    findings: &mut Findings,
) {
    let place = |record: &Submitted| record.accepted.as_ref().map_or(0, |it| it.order);
    let connected = evidence.promise.acks == Acks::None && reconnected(evidence, producer);
    // The record handed in last of those so far.
    let mut last: Option<&Submitted> = None;
    for record in line {
        let Some(before) = last.filter(|last| place(last) > place(record)) else {
            last = Some(record);
            continue;
        };
        let moved = before.sent_to != record.sent_to;
        let again = before.sent > 1 || record.sent > 1 || moved || connected;
        let by_name = evidence.naming == Naming::Name && evidence.was_deleted(tp.0);
        let allowed = if evidence.promise.acks == Acks::None {
            connected
        } else {
            let unordered = !evidence.promise.is_ordered() || by_name || memory == Memory::Lost;
            (unordered && again) || is_of_an_earlier_id(evidence, tp, record, before)
        };
        if allowed {
            findings.saw(Anomaly::Reorder, record.id, || {
                format!("record {} stands behind record {} in {tp:?}", record.id, before.id)
            });
        } else {
            let text = format!(
                "producer {producer}, {tp:?}: record {} stands behind record {}, which was handed \
                 in later (sent {} and {} times)",
                record.id, before.id, record.sent, before.sent
            );
            findings.violation("P12", record.invoked, text);
            return;
        }
    }
}

/// Was the record, which is in doubt, written under another producer id than the one before it?
fn is_of_an_earlier_id(
    evidence: &Evidence,
    tp: Tp,
    record: &Submitted,
    before: &Submitted,
) -> bool {
    let in_doubt = matches!(record.done, Some((_, _, Done::Failed { definite: false, .. })));
    let writer = |id: u64| {
        let append = evidence.appends.iter().rfind(|it| it.tp == tp && it.ids.contains(&id))?;
        Some(append.producer_id).filter(|id| *id >= 0)
    };
    let ids = || writer(record.id).zip(writer(before.id));
    evidence.promise.idempotent && in_doubt && ids().is_some_and(|(one, other)| one != other)
}

fn reconnected(evidence: &Evidence, of: u16) -> bool {
    evidence.happenings.iter().any(|(_, happening)| match happening {
        Happening::ConnectionLost { producer, .. } => *producer == of,
        // The next request goes to another node, by another connection.
        Happening::Elected { .. } => true,
        _ => false,
    })
}
