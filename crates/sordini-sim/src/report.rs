//! What a run showed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::checkers::{Anomaly, Seen, Violation, Witness};
use crate::coverage::Coverage;
use crate::faults::FaultKind;

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The world's seed.
    pub seed: u64,
    /// The event hash: equal for equal runs.
    pub hash: u64,
    /// Records that were accepted.
    pub records: u64,
    /// Records that were acknowledged.
    pub written: u64,
    /// What the sender of the last record was told that was not.
    pub last_failure: Option<String>,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// Steps of the world's loop.
    pub steps: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// What the settings allow, and was seen.
    pub seen: Seen,
    /// One record for each anomaly that was seen.
    pub witnesses: Vec<Witness>,
    /// A producer told of a loss of what was acknowledged (A17).
    pub loss_told: bool,
    /// Behaviour that was met.
    pub coverage: Coverage,
}

impl Report {
    /// Was every promise kept?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Does it show that anomaly, as the settings allow?
    #[must_use]
    pub fn shows(&self, anomaly: Anomaly) -> bool {
        match anomaly {
            Anomaly::Loss => self.seen.loss > 0,
            Anomaly::Duplicate => self.seen.duplicate > 0,
            Anomaly::Reorder => self.seen.reorder > 0,
            Anomaly::Torn => self.seen.torn > 0,
        }
    }

    /// The invariant that was broken first, if one was.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        self.violations.first().map(|violation| violation.invariant)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} records in {:.1} virtual seconds, {} kinds of faults, hash {:016x}",
            self.seed,
            self.records,
            self.virtual_time.as_secs_f64(),
            self.faults.len(),
            self.hash
        )?;
        let Seen { loss, duplicate, reorder, torn } = self.seen;
        if loss + duplicate + reorder + torn > 0 {
            writeln!(
                f,
                "seen, as the settings allow: {loss} lost, {duplicate} doubled, {reorder} \
                 reordered, {torn} torn"
            )?;
        }
        for violation in &self.violations {
            let at = violation.at.as_nanos() / 1_000_000;
            writeln!(f, "{} broken at {at} ms: {}", violation.invariant, violation.text)?;
        }
        Ok(())
    }
}
