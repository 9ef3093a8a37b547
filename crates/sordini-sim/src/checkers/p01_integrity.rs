//! P1: each record of a log is one that was handed in, byte for byte, in the partition that it
//! was meant for. No phantom, no corruption, no wrong topic; offsets are dense.

use super::p10_durability::excuse;
use super::{Evidence, Findings, Logged, Places};
use crate::book::Entry;
use crate::history::{Done, Submitted, Tp};

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    for (tp, log) in &evidence.logs {
        let mut next = None;
        for logged in log {
            // Between the records stand the markers of transactions.
            if next.is_some_and(|next| {
                (next..logged.offset).any(|at| !is_marker(evidence, *tp, at))
                    || next > logged.offset
            }) {
                let text = format!("{tp:?}: offset {} follows {next:?} less one", logged.offset);
                findings.violation("P1", evidence.ended, text);
            }
            next = Some(logged.offset + 1);
            if let Some(wrong) = wrong(evidence, *tp, logged) {
                let text = format!("{tp:?} at {}: {wrong}", logged.offset);
                findings.violation("P1", evidence.ended, text);
            }
        }
    }
}

fn is_marker(evidence: &Evidence, tp: Tp, offset: i64) -> bool {
    let Some(lines) = evidence.book.lines.get(&tp) else { return false };
    let found = lines.binary_search_by_key(&offset, |line| line.offset);
    found.is_ok_and(|at| matches!(lines[at].entry, Entry::Marker { .. }))
}

/// What is wrong with a record of the log.
fn wrong(evidence: &Evidence, tp: Tp, logged: &Logged) -> Option<String> {
    let id = logged.id.and_then(|id| usize::try_from(id).ok());
    let Some(record) = id.and_then(|id| evidence.records.get(id)) else {
        return Some(format!("a record that nobody handed in: {:?}", logged.content));
    };
    let id = record.id;
    match record.tp() {
        None => return Some(format!("record {id} was never accepted")),
        Some(meant) if meant != tp => return Some(format!("record {id} was meant for {meant:?}")),
        Some(_) => {}
    }
    if record.explicit.is_some_and(|explicit| explicit != tp.1) {
        return Some(format!("record {id} was handed in for partition {:?}", record.explicit));
    }
    if record.content() != logged.content {
        return Some(format!("record {id} was changed: {:?}", logged.content));
    }
    wrong_time(evidence, record, tp, logged)
}

/// A time that was given stays; where the broker's clock decides, what was told is what stands
/// there. Elsewhere a time is told of a batch that a broker recognises (Kafka's answers carry what
/// it remembers of it), which says nothing of each record. Where what was acknowledged is lost, an
/// earlier attempt may be what stands there, with the time of its own append.
fn wrong_time(evidence: &Evidence, record: &Submitted, tp: Tp, logged: &Logged) -> Option<String> {
    let (id, time) = (record.id, logged.timestamp);
    if !evidence.broker_times.contains(&tp.0) {
        let given = record.shape.timestamp.filter(|given| *given != time)?;
        return Some(format!("record {id}: timestamp {time} for {given}"));
    }
    let Some((_, _, Done::Written { offset: Some(offset), timestamp: told, duplicate })) =
        &record.done
    else {
        return None;
    };
    let kept = || evidence.promise.survivable || excuse(evidence, record, tp).is_none();
    let wrong = *offset == logged.offset && !duplicate && *told != time && kept();
    wrong.then(|| format!("record {id}: timestamp {time}, and {told} was told"))
}
