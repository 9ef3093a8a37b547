//! P3: a record that failed definitely is in no log, and no leader ever appended it. A failure
//! whose fate is open has to be called so. What went with its topic is in no log.

use std::collections::BTreeMap;

use super::{Append, Evidence, Findings, Places};

pub(super) fn check(evidence: &Evidence, places: &Places, findings: &mut Findings) {
    let mut appended: BTreeMap<u64, &Append> = BTreeMap::new();
    for append in &evidence.appends {
        for id in &append.ids {
            appended.entry(*id).or_insert(append);
        }
    }
    for record in &evidence.records {
        let id = record.id;
        let never = record.accepted.is_none();
        if !never && !record.failed_definitely() {
            continue;
        }
        let at = record.done.as_ref().map_or(record.invoked, |(at, ..)| *at);
        let what = if never { "was not accepted" } else { "failed as not written" };
        if let Some((tp, offset)) = places.of(id).first() {
            let text =
                format!("record {id} {what}, and is in {tp:?} at {offset}: {:?}", record.done);
            findings.violation("P3", at, text);
        } else if let Some(append) = appended.get(&id)
            && !evidence.was_deleted_after(append.tp.0, append.at)
        {
            let text = format!(
                "record {id} {what}, and node {} appended it to {:?} at {} ms: {:?}",
                append.node,
                append.tp,
                crate::clock::millis(append.at),
                record.done
            );
            findings.violation("P3", at, text);
        }
    }
}
