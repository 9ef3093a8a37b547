//! P4: an offset that was told is where the record is. None is told only with `acks=0`, and for a
//! duplicate that the broker recognised without saying where it is.

use sordini_core::config::Acks;

use super::p10_durability::excuse;
use super::{Evidence, Findings, Places};
use crate::history::Done;

pub(super) fn check(evidence: &Evidence, places: &Places, findings: &mut Findings) {
    let promise = &evidence.promise;
    for record in &evidence.records {
        let Some((at, _, Done::Written { offset, duplicate, .. })) = &record.done else { continue };
        let Some(tp) = record.tp() else { continue };
        let id = record.id;
        let Some(offset) = *offset else {
            if promise.acks != Acks::None && !duplicate {
                let text = format!("record {id} was written, and no offset was told");
                findings.violation("P4", *at, text);
            }
            continue;
        };
        let promised = promise.is_durable()
            || promise.acks == Acks::Leader && excuse(evidence, record, tp).is_none();
        let there = places.of(id);
        // One that is nowhere is P10's.
        if promised && !there.is_empty() && !there.contains(&(tp, offset)) {
            let text = format!("record {id} was told to be in {tp:?} at {offset}, is in {there:?}");
            findings.violation("P4", *at, text);
        }
    }
}
