//! P2: each accepted record gets its outcome, no later than `delivery.timeout.ms` and a tick; each
//! other send is refused at once or given up by its caller.

use std::time::Duration;

use super::{Evidence, Findings, Places};
use crate::history::Submitted;

/// What a timer may be late by itself.
const TICK: Duration = Duration::from_millis(2);

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    for record in &evidence.records {
        let id = record.id;
        let Some(accepted) = &record.accepted else {
            if record.rejected.is_none() {
                let text = format!("the send of record {id} never returned");
                findings.violation("P2", record.invoked, text);
            }
            continue;
        };
        let Some((done, ..)) = &record.done else {
            let text = format!("record {id} has no outcome");
            findings.violation("P2", accepted.at, text);
            continue;
        };
        let took = done.saturating_since(accepted.at);
        let limit = evidence.promise.delivery_timeout + TICK + paused(evidence, record);
        if took > limit {
            let text = format!("record {id} got its outcome after {took:?}, at most {limit:?}");
            findings.violation("P2", *done, text);
        }
    }
}

/// How long the producer could not run while it had the record.
fn paused(evidence: &Evidence, record: &Submitted) -> Duration {
    let (Some(accepted), Some((done, ..))) = (&record.accepted, &record.done) else {
        return Duration::ZERO;
    };
    let of = evidence.pauses.iter().filter(|it| it.producer == record.producer);
    of.map(|it| it.until.min(*done).saturating_since(it.from.max(accepted.at))).sum()
}
