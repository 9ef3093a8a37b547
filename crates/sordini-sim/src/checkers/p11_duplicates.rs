//! P11: with idempotence a record is in the log at most once. Without, it may be there as often
//! as it was sent.

use std::collections::BTreeMap;

use super::{Anomaly, Evidence, Findings, Places};

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
            findings.saw(Anomaly::Duplicate, id, || format!("record {id} is at {there:?}"));
        }
    }
    // What the application sent again itself, no setting protects.
    for (origin, count) in by_origin.into_iter().filter(|(_, count)| *count > 1) {
        findings.saw(Anomaly::Duplicate, origin, || {
            format!("record {origin} was sent again by its application, and is there {count} times")
        });
    }
}
