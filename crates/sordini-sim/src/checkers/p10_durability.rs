//! P10: what was acknowledged is in the log that is left.
//!
//! With `acks=all` and survivable faults, always. With `acks=1` it may be lost only where the
//! leader that had it cut its log, lost its disk's memory, or was replaced before others had it;
//! with `acks=0` only where the connection broke, a broker refused, stopped or was replaced. The
//! checker points to that event, or calls it a violation.
//!
//! A coordinator whose log lost an identity that it had given gives it again. A broker then takes a
//! new batch for the one that it had under that identity, and acknowledges it without an append.

use sordini_core::config::Acks;
use sordini_core::time::Instant;

use super::{Anomaly, Evidence, Findings, Happening, Places};
use crate::history::{Done, Submitted, Tp};

pub(super) fn check(evidence: &Evidence, places: &Places, findings: &mut Findings) {
    false_alarms(evidence, findings);
    for record in &evidence.records {
        let (Some(tp), Some((at, ..))) = (record.tp(), &record.done) else { continue };
        if !record.is_ok() || !places.of(record.id).is_empty() || evidence.was_deleted(tp.0) {
            continue;
        }
        let id = record.id;
        if evidence.promise.is_durable() {
            let text =
                format!("record {id} was acknowledged and is not in {tp:?}: {:?}", record.done);
            findings.violation("P10", *at, text);
        } else if let Some(excuse) = excuse(evidence, record, tp) {
            findings.saw(Anomaly::Loss, id, || {
                format!("record {id} was acknowledged and is not in {tp:?}: {excuse}")
            });
        } else if was_taken_for_another(evidence, record, *at) {
            findings.saw(Anomaly::Loss, id, || {
                format!(
                    "record {id} was acknowledged and is not in {tp:?}: its coordinator had lost \
                     identities that it had given"
                )
            });
        } else {
            let text = format!(
                "record {id} was acknowledged and is not in {tp:?}, and nothing happened that \
                 would explain it: {:?}",
                record.done
            );
            findings.violation("P10", *at, text);
        }
    }
}

/// Was it acknowledged without an append, after its coordinator lost what it had committed?
fn was_taken_for_another(evidence: &Evidence, record: &Submitted, told: Instant) -> bool {
    let kin = evidence.book.kin(record.producer);
    let forgotten = kin.is_some_and(|kin| evidence.book.was_forgotten(kin, Instant::ZERO, told));
    forgotten && !evidence.appends.iter().any(|it| it.ids.contains(&record.id))
}

/// A17: a loss is told of only where something could be lost.
fn false_alarms(evidence: &Evidence, findings: &mut Findings) {
    if evidence.misled || !evidence.promise.is_durable() {
        return;
    }
    for (at, happening) in &evidence.happenings {
        if let Happening::LossTold { producer, tp } = happening
            && !evidence.was_deleted(tp.0)
        {
            let text = format!("producer {producer} told of a loss in {tp:?}, and none was");
            findings.violation("P10", *at, text);
        }
    }
}

/// The event that took the record, where the settings allow that.
pub(super) fn excuse<'a>(
    evidence: &'a Evidence,
    record: &Submitted,
    tp: Tp,
) -> Option<&'a Happening> {
    let accepted = record.accepted.as_ref()?;
    let since = evidence.happenings.iter().filter(|(at, _)| *at >= accepted.at);
    let mut since = since.map(|(_, happening)| happening);
    if evidence.promise.acks == Acks::None {
        return since.find(|happening| match happening {
            Happening::ConnectionLost { producer, .. } => *producer == record.producer,
            Happening::Refused { producer, tp: at, .. } => {
                *producer == record.producer && *at == tp
            }
            Happening::Truncated { tp: at, .. } | Happening::Elected { tp: at, .. } => *at == tp,
            Happening::Stopped { .. } => true,
            _ => false,
        });
    }
    let (had, offset) = kept_at(evidence, record, tp)?;
    let later = evidence.happenings.iter().filter(|(at, _)| *at >= had.at);
    later.map(|(_, happening)| happening).find(|happening| match happening {
        Happening::Truncated { node, tp: at, to, .. } => {
            // Where disks lose what they kept, whoever was cut may have led afterwards.
            let concerned = had.node == Some(*node) || !evidence.promise.survivable;
            concerned && *at == tp && *to <= offset
        }
        Happening::Elected { tp: at, leader, clean, .. } => {
            // A clean election loses what only its leader had: never what acks=all acknowledged.
            *at == tp
                && had.node != Some(*leader)
                && (evidence.promise.acks == Acks::Leader || !clean)
        }
        Happening::Stopped { node, power: true } => had.node == Some(*node),
        _ => false,
    })
}

/// Since when, and on which node if that is known, an acknowledged record was in the log.
struct Had {
    at: Instant,
    node: Option<i32>,
}

/// A leader that acknowledged a record must have had it, and where. A disk that failed in the midst
/// of an append may have kept what nobody was told of, and a retry is recognised by that.
fn kept_at(evidence: &Evidence, record: &Submitted, tp: Tp) -> Option<(Had, i64)> {
    let mut appends = evidence.appends.iter();
    if let Some(append) = appends.rfind(|it| it.tp == tp && it.ids.contains(&record.id)) {
        let place = append.ids.iter().position(|id| *id == record.id)?;
        let had = Had { at: append.at, node: Some(append.node) };
        return Some((had, append.base_offset + place as i64));
    }
    match &record.done {
        Some((at, _, Done::Written { offset: Some(offset), .. }))
            if !evidence.promise.survivable =>
        {
            Some((Had { at: *at, node: None }, *offset))
        }
        _ => None,
    }
}
