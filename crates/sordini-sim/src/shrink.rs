//! A failing plan with fewer faults that fails the same way.

use crate::checkers::Anomaly;
use crate::plan::Plan;
use crate::report::Report;
use crate::run::run;
use crate::scenery::Scenery;

/// Most runs that one reduction costs.
const MOST_RUNS: usize = 400;

/// What is to be kept while a plan is reduced.
#[derive(Clone, Copy)]
enum Point {
    Broken(&'static str),
    Seen(Anomaly),
}

impl Point {
    fn of(report: &Report) -> Option<Self> {
        let seen = || report.witnesses.first().map(|it| Self::Seen(it.anomaly));
        report.broken().map(Self::Broken).or_else(seen)
    }

    fn is_in(self, report: &Report) -> bool {
        match self {
            Self::Broken(invariant) => report.violations.iter().any(|it| it.invariant == invariant),
            Self::Seen(anomaly) => report.is_clean() && report.shows(anomaly),
        }
    }
}

/// The smallest plan found that still breaks the invariant that `plan` breaks first: without
/// faults that are not needed, with fewer records and a shorter chaos if that is enough. Of a plan
/// that breaks nothing, one that still shows the anomaly that was seen first; a plan that shows
/// nothing comes back as it is.
#[must_use]
pub fn shrink(plan: &Plan) -> Plan {
    let Some(point) = Point::of(&run(plan)) else { return plan.clone() };
    let mut runs = 0;
    let mut fails = |plan: &Plan| {
        runs += 1;
        runs <= MOST_RUNS && point.is_in(&run(plan))
    };
    let mut best = plan.clone();
    drop_faults(&mut best, &mut fails);
    simplify(&mut best, &mut fails);
    drop_faults(&mut best, &mut fails);
    best
}

/// Delta debugging: takes out halves, then quarters, down to single faults.
fn drop_faults(best: &mut Plan, fails: &mut impl FnMut(&Plan) -> bool) {
    let mut size = best.faults.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < best.faults.len() {
            let mut less = best.clone();
            less.faults.drain(at..(at + size).min(best.faults.len()));
            if fails(&less) {
                *best = less;
            } else {
                at += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
}

/// Less of everything else, where the failure does not need it.
fn simplify(best: &mut Plan, fails: &mut impl FnMut(&Plan) -> bool) {
    let mut attempt = |change: &dyn Fn(&mut Plan)| {
        let mut less = best.clone();
        change(&mut less);
        if less != *best && fails(&less) {
            *best = less;
        }
    };
    attempt(&|plan| plan.workload.close = None);
    attempt(&|plan| plan.workload.flushes = 0);
    attempt(&|plan| plan.workload.headers = 0);
    attempt(&|plan| plan.workload.null = 0);
    attempt(&|plan| plan.workload.producers = 1);
    attempt(&|plan| plan.first_sequence = 0);
    attempt(&|plan| plan.scenery = Scenery::default());
    attempt(&|plan| plan.scenery.release = Scenery::default().release);
    attempt(&|plan| plan.scenery.quota = None);
    attempt(&|plan| plan.scenery.first_epoch = 0);
    attempt(&|plan| plan.scenery.dead_addresses.clear());
    attempt(&|plan| plan.topics.iter_mut().for_each(|topic| topic.log_append_time = false));
    for _ in 0..4 {
        attempt(&|plan| plan.workload.records = (plan.workload.records / 2).max(1));
    }
}
