//! P20 for transactions: each call is answered within its time, and once all is healed no open
//! transaction holds readers back for longer than its time-out.

use std::time::Duration;

use super::{Evidence, Findings, Places};
use crate::book::Call;

/// What a timer may be late by itself.
const TICK: Duration = Duration::from_millis(2);

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    let book = &evidence.book;
    for call in &book.calls {
        let died = book.instances.get(usize::from(call.producer)).and_then(|it| it.died);
        match &call.answer {
            None if died.is_none() => {
                let text =
                    format!("{:?} of producer {} was never answered", call.kind, call.producer);
                findings.violation("P20", call.at, text);
            }
            Some(answer) => {
                let limit = call.deadline.saturating_add(TICK + paused(evidence, call));
                if answer.at > limit {
                    let text = format!(
                        "{:?} of producer {} was answered at {:?}, at the latest {limit:?}",
                        call.kind, call.producer, answer.at
                    );
                    findings.violation("P20", call.at, text);
                }
            }
            None => {}
        }
    }
    for (tp, text) in &book.stuck {
        findings.violation("P20", evidence.ended, format!("{tp:?}: {text}"));
    }
}

/// How long the producer could not run while it had the call.
fn paused(evidence: &Evidence, call: &Call) -> Duration {
    let Some(answer) = &call.answer else { return Duration::ZERO };
    let of = evidence.pauses.iter().filter(|it| it.producer == call.producer);
    of.map(|it| it.until.min(answer.at).saturating_since(it.from.max(call.at))).sum()
}
