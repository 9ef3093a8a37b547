//! P20: once the faults are over, everything goes on: what was tried then worked in time.

use super::{Evidence, Findings, Places};

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    for probe in &evidence.probes {
        if let Some(failed) = &probe.failed {
            findings.violation("P20", probe.at, format!("{}: {failed}", probe.asked));
        }
    }
}
