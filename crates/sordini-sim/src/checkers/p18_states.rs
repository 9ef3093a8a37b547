//! P18: a producer that is done stays so, what can't be asked for is refused, and no record is
//! accepted for a transaction that was to end.

use std::collections::BTreeMap;

use sordini_core::time::Instant;

use super::{Evidence, Findings, Places};
use crate::book::{CallKind, Told, Use};

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    let book = &evidence.book;
    let mut done: BTreeMap<u16, Instant> = BTreeMap::new();
    for call in &book.calls {
        if let Some(answer) = call.answer.as_ref().filter(|answer| answer.fatal.is_some()) {
            let at = done.entry(call.producer).or_insert(answer.at);
            *at = answer.at.min(*at);
        }
    }
    for call in &book.calls {
        let Some(answer) = &call.answer else { continue };
        let over = done.get(&call.producer).is_some_and(|at| *at < call.at);
        let refused = matches!(answer.told, Told::Refused(_));
        if over && answer.fatal.is_none() && !refused {
            let text = format!(
                "producer {} was done, and {:?} was answered {:?}",
                call.producer, call.kind, answer.told
            );
            findings.violation("P18", call.at, text);
        }
        let offsets = call.kind == CallKind::SendOffsets && call.used == Use::Misuse;
        if offsets && answer.told == Told::Done {
            let text = format!("offsets of a transaction that is over were sent: {call:?}");
            findings.violation("P18", call.at, text);
        }
    }
    for transaction in &book.transactions {
        let Some(end) = transaction.end else { continue };
        for id in &transaction.records {
            let record = usize::try_from(*id).ok().and_then(|id| evidence.records.get(id));
            let accepted = record.and_then(|record| record.accepted.as_ref());
            if accepted.is_some_and(|accepted| accepted.at > end) {
                let text = format!("record {id} was accepted for a transaction that was to end");
                findings.violation("P18", end, text);
            }
        }
    }
}
