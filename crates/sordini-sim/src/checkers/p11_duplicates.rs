//! P11: with idempotence a record is in the log at most once. Without, it may be there as often
//! as it was sent.

use std::collections::BTreeMap;

use super::{Evidence, Findings, Places};

pub(super) fn check(evidence: &Evidence, places: &Places, findings: &mut Findings) {
    let mut by_origin: BTreeMap<u64, usize> = BTreeMap::new();
    for record in &evidence.records {
        let there = places.of(record.id);
        if there.is_empty() {
            continue;
        }
        *by_origin.entry(record.origin).or_default() += 1;
        if there.len() == 1 {
            continue;
        }
        let id = record.id;
        if evidence.promise.idempotent {
            let text = format!("record {id} is in the log {} times: {there:?}", there.len());
            findings.violation("P11", record.invoked, text);
        } else if there.len() > record.sent as usize {
            let text = format!("record {id} was sent {} times, is at {there:?}", record.sent);
            findings.violation("P11", record.invoked, text);
        } else {
            findings.seen.duplicate += 1;
        }
    }
    // What the application sent again itself, no setting protects.
    findings.seen.duplicate += by_origin.values().filter(|count| **count > 1).count() as u64;
}
