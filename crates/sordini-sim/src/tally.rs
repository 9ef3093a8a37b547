//! Many runs, added up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::coverage::Coverage;
use crate::report::Report;

/// How often something was seen, and one seed that shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// How often.
    pub count: u64,
    /// The smallest seed that shows it.
    pub seed: Option<u64>,
}

impl Shown {
    fn add(&mut self, count: u64, seed: u64) {
        if count > 0 {
            self.count += count;
            self.seed = Some(self.seed.map_or(seed, |known| known.min(seed)));
        }
    }
}

/// Many runs, added up; in whatever order they come, the sum is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs.
    pub seeds: u64,
    /// Records that were accepted.
    pub records: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// Steps of the worlds' loops.
    pub steps: u64,
    /// Broken promises by invariant.
    pub violations: BTreeMap<&'static str, Shown>,
    /// Seeds that broke one.
    pub failed: Vec<u64>,
    /// What the settings allow, and was seen: `loss`, `duplicate`, `reorder`, `torn`, records each.
    pub seen: BTreeMap<&'static str, Shown>,
    /// Behaviour that was met, faults by kind among it.
    pub coverage: Coverage,
    /// All the runs' event hashes, combined: equal for equal seeds.
    pub hash: u64,
}

/// Failed seeds that are kept by number; the count of violations goes on.
const FAILED_KEPT: usize = 1000;

impl Tally {
    /// No runs, and each kind of anomaly at zero.
    #[must_use]
    pub fn new() -> Self {
        let seen = ["loss", "duplicate", "reorder", "torn"];
        Self { seen: seen.map(|name| (name, Shown::default())).into(), ..Self::default() }
    }

    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        let seed = report.seed;
        self.seeds += 1;
        self.records += report.records;
        self.virtual_time += report.virtual_time;
        self.steps += report.steps;
        for violation in &report.violations {
            self.violations.entry(violation.invariant).or_default().add(1, seed);
        }
        if !report.is_clean() && self.failed.len() < FAILED_KEPT {
            self.failed.push(seed);
            self.failed.sort_unstable();
        }
        let seen = report.seen;
        for (name, count) in [
            ("loss", seen.loss),
            ("duplicate", seen.duplicate),
            ("reorder", seen.reorder),
            ("torn", seen.torn),
        ] {
            self.seen.entry(name).or_default().add(count, seed);
        }
        self.coverage.add(&report.coverage);
        // Runs end in any order on several threads.
        self.hash = self.hash.wrapping_add(report.hash.rotate_left((seed % 64) as u32));
    }

    /// Was every promise kept?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}
