//! P15: no reader of committed records ever sees one of a transaction that is open or aborted, and
//! none sees a record that a marker of another transaction governs (torn).

use std::collections::{BTreeMap, BTreeSet};

use super::{Anomaly, Evidence, Findings, Places};
use crate::book::{Entry, Line};
use crate::history::Tp;

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    let owners = evidence.book.owners();
    for (tp, lines) in &evidence.book.lines {
        let governed = govern(lines);
        mixed(evidence, *tp, &governed, &owners, findings);
        if evidence.promise.survivable {
            index(evidence, *tp, &governed, findings);
        }
    }
    if evidence.promise.is_durable() {
        glimpses(evidence, &owners, findings);
    }
}

/// The records between two markers of a producer, and what the second says of them.
struct Governed {
    writer: i64,
    records: Vec<u64>,
    /// `None`: there is no marker yet.
    commit: Option<bool>,
}

fn govern(lines: &[Line]) -> Vec<Governed> {
    let mut open: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    let mut all = Vec::new();
    for line in lines {
        let writer = line.writer.0;
        match line.entry {
            Entry::Record(id) => open.entry(writer).or_default().push(id),
            Entry::Marker { commit } => {
                let records = open.remove(&writer).unwrap_or_default();
                all.push(Governed { writer, records, commit: Some(commit) });
            }
        }
    }
    let rest = open.into_iter();
    all.extend(rest.map(|(writer, records)| Governed { writer, records, commit: None }));
    all
}

/// One marker ends one transaction.
fn mixed(
    evidence: &Evidence,
    tp: Tp,
    governed: &[Governed],
    owners: &BTreeMap<u64, usize>,
    findings: &mut Findings,
) {
    for group in governed {
        let mut of: Vec<Option<&usize>> = group.records.iter().map(|id| owners.get(id)).collect();
        of.dedup();
        if of.len() < 2 {
            continue;
        }
        let text = || {
            format!(
                "{tp:?}: one marker of producer id {} governs records of {} transactions, record \
                 {:?} the first",
                group.writer,
                of.len(),
                group.records.first()
            )
        };
        if evidence.promise.is_durable() {
            findings.violation("P15", evidence.ended, text());
        } else if let Some(id) = group.records.first() {
            findings.saw(Anomaly::Torn, *id, text);
        }
    }
}

/// What the broker lets readers see is what the markers say.
fn index(evidence: &Evidence, tp: Tp, governed: &[Governed], findings: &mut Findings) {
    let Some(visible) = evidence.book.visible.get(&tp) else { return };
    let visible: BTreeSet<u64> = visible.iter().copied().collect();
    for group in governed {
        for id in &group.records {
            let wanted = group.commit == Some(true);
            // Behind the last stable offset what is committed may be held back.
            if visible.contains(id) && !wanted {
                let text = format!(
                    "record {id} of {tp:?} is visible, and its marker says {:?}",
                    group.commit
                );
                findings.violation("P15", evidence.ended, text);
            } else if wanted && !visible.contains(id) && evidence.book.stuck.is_empty() {
                let text = format!("record {id} of {tp:?} is committed, and not visible");
                findings.violation("P15", evidence.ended, text);
            }
        }
    }
}

/// What was ever seen is there for good, and was to be committed when it was seen.
fn glimpses(evidence: &Evidence, owners: &BTreeMap<u64, usize>, findings: &mut Findings) {
    let book = &evidence.book;
    for glimpse in &book.glimpses {
        let Some(visible) = book.visible.get(&glimpse.tp) else { continue };
        let visible: BTreeSet<u64> = visible.iter().copied().collect();
        for id in &glimpse.ids {
            let transaction = owners.get(id).and_then(|at| book.transactions.get(*at));
            let asked = transaction.and_then(|it| it.commit);
            let early = transaction.is_some() && asked.is_none_or(|asked| asked > glimpse.at);
            if early || !visible.contains(id) {
                let text = format!(
                    "record {id} of {:?} was visible; to be committed since {asked:?}; visible at \
                     the end: {}",
                    glimpse.tp,
                    visible.contains(id)
                );
                findings.violation("P15", glimpse.at, text);
                break;
            }
        }
    }
}
