//! P5: where order is promised, the outcomes of one partition come in the order of its records;
//! but a record that was sent again, or failed, may be told later than one behind it, and one that
//! failed earlier than one before it (docs/guarantees.md). Answers of two nodes come by two
//! connections, in any order.

use std::collections::BTreeMap;

use super::{Evidence, Findings, Places};
use crate::history::{Submitted, Tp};

/// A record's place among those accepted, that of its outcome, and the record.
type Told<'a> = (u64, u64, &'a Submitted);

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    if !evidence.promise.is_ordered() {
        return;
    }
    let mut lines: BTreeMap<(u16, Tp, Option<i32>), Vec<Told<'_>>> = BTreeMap::new();
    for record in &evidence.records {
        if let (Some(accepted), Some((_, number, _)), Some(tp)) =
            (&record.accepted, &record.done, record.tp())
            && record.is_ok()
            && record.sent <= 1
        {
            let line = lines.entry((record.producer, tp, record.sent_to)).or_default();
            line.push((accepted.order, *number, record));
        }
    }
    for ((producer, tp, _), mut line) in lines {
        line.sort_unstable_by_key(|(order, ..)| *order);
        if let Some(pair) = line.windows(2).find(|pair| pair[0].1 > pair[1].1) {
            let (earlier, later) = (pair[0].2.id, pair[1].2.id);
            let text = format!(
                "producer {producer}, {tp:?}: record {later} was told before record {earlier}, \
                 which was handed in earlier, and both were sent once"
            );
            findings.violation("P5", evidence.ended, text);
        }
    }
}
