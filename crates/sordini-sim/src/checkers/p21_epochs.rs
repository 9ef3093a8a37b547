//! P21: a producer takes a new epoch only where something asked for it: a batch that failed after
//! it was sent, or a broker that no longer knew the old one. No cascades: what is refused while
//! an older batch is on its way may be refused for that one's sake, and asks for nothing.

use std::collections::BTreeMap;

use sordini_protocol::ErrorCode;

use super::{Evidence, Findings, Happening, Places};
use crate::history::Done;

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    let mut bumps: BTreeMap<u16, u64> = BTreeMap::new();
    let mut reasons: BTreeMap<u16, u64> = BTreeMap::new();
    for (_, happening) in &evidence.happenings {
        match happening {
            Happening::Bumped { producer, .. } => *bumps.entry(*producer).or_default() += 1,
            // Brokers that lie say it of a batch whose elders they have, too.
            Happening::Refused { producer, code, led, .. }
                if (*led || evidence.misled) && asks_for_an_epoch(*code) =>
            {
                *reasons.entry(*producer).or_default() += 1;
            }
            _ => {}
        }
    }
    for record in &evidence.records {
        let failed = matches!(record.done, Some((_, _, Done::Failed { .. })));
        if failed && record.sent > 0 {
            *reasons.entry(record.producer).or_default() += 1;
        }
    }
    for (producer, bumps) in bumps {
        let reasons = reasons.get(&producer).copied().unwrap_or(0);
        if bumps > reasons {
            let text = format!("producer {producer} took {bumps} epochs for {reasons} reasons");
            findings.violation("P21", evidence.ended, text);
        }
    }
}

fn asks_for_an_epoch(code: i16) -> bool {
    matches!(
        ErrorCode::from_code(code),
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::UnknownProducerId
    )
}
