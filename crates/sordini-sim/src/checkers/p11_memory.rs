//! P11, the broker's part: a leader recognises a retry of one of the last five batches that it
//! appended for a producer and partition; it does not call it out of order.

use sordini_protocol::ErrorCode;

use super::{Append, Evidence, Findings, Happening, Places};
use crate::history::Tp;

/// Batches that a broker remembers of a producer and partition.
const REMEMBERED: usize = 5;

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    if evidence.misled {
        return;
    }
    for (at, happening) in &evidence.happenings {
        let Happening::Refused { tp, code, node, id, .. } = happening else { continue };
        if *code != ErrorCode::OutOfOrderSequenceNumber.code() {
            continue;
        }
        let of_it = |append: &&Append| append.node == *node && append.tp == *tp && append.at <= *at;
        let appends: Vec<&Append> = evidence.appends.iter().filter(of_it).collect();
        let Some(place) = appends.iter().rposition(|it| it.ids.first() == Some(id)) else {
            continue;
        };
        let producer = |append: &Append| {
            let first = append.ids.first().and_then(|id| usize::try_from(*id).ok());
            first.and_then(|id| evidence.records.get(id)).map(|record| record.producer)
        };
        let mine = producer(appends[place]);
        let since = appends[place + 1..].iter().filter(|it| producer(it) == mine).count();
        if since < REMEMBERED && !is_excused(evidence, appends[place], *node, *tp) {
            let text = format!(
                "node {node} calls the batch of record {id} out of order in {tp:?}, and appended \
                 it, with {since} more of that producer since"
            );
            findings.violation("P11", *at, text);
        }
    }
}

/// May the node have forgotten the batch: with the end of its log, or with its life?
fn is_excused(evidence: &Evidence, append: &Append, node: i32, tp: Tp) -> bool {
    evidence.happenings.iter().any(|(at, happening)| match happening {
        Happening::Truncated { node: of, tp: there, .. } => {
            *of == node && *there == tp && *at >= append.at
        }
        Happening::Stopped { node: of, .. } => *of == node && *at >= append.at,
        Happening::Deleted { topic } => *topic == tp.0,
        _ => false,
    })
}
