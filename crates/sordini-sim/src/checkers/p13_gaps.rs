//! P13: in gapless mode nothing of a partition is written behind a record that failed. Without it
//! gaps are allowed, and this checks nothing.

use std::collections::BTreeMap;

use super::{Evidence, Findings, Places};
use crate::history::{Done, Tp};

pub(super) fn check(evidence: &Evidence, places: &Places, findings: &mut Findings) {
    if !evidence.promise.gapless {
        return;
    }
    let mut first_failure: BTreeMap<(u16, Tp), (u64, u64)> = BTreeMap::new();
    for record in &evidence.records {
        let (Some(accepted), Some(tp)) = (&record.accepted, record.tp()) else { continue };
        if matches!(record.done, Some((_, _, Done::Failed { .. }))) {
            let failed = (accepted.order, record.id);
            let first = first_failure.entry((record.producer, tp)).or_insert(failed);
            *first = failed.min(*first);
        }
    }
    for record in &evidence.records {
        let (Some(accepted), Some(tp)) = (&record.accepted, record.tp()) else { continue };
        let Some((order, failed)) = first_failure.get(&(record.producer, tp)) else { continue };
        if accepted.order > *order && !places.of(record.id).is_empty() {
            let text = format!("record {} is in {tp:?}, and record {failed} failed", record.id);
            findings.violation("P13", accepted.at, text);
        }
    }
}
