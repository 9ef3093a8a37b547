//! Lives through a plan, and judges it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sordini_core::time::Instant;

use crate::checkers::{self, Violation};
use crate::coverage::Coverage;
use crate::history::{Done, Rejected, Submitted};
use crate::plan::Plan;
use crate::report::Report;
use crate::settings;
use crate::timeline::Timeline;
use crate::world::World;

/// Lives through `plan` as [`run`] does, and tells what happened.
#[must_use]
pub fn tell(plan: &Plan) -> (Report, Timeline) {
    live(plan, Wanted::Timeline)
}

/// Lives through `plan`. The same plan gives the same report.
///
/// A panic in a producer or in the cluster is caught, and is a violation that names the broken
/// invariant if the assertion does, else P8.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    live(plan, Wanted::Report).0
}

/// What is wanted of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Report,
    /// The report, and what happened.
    Timeline,
}

fn live(plan: &Plan, wanted: Wanted) -> (Report, Timeline) {
    let config = match settings::configure(&plan.settings, plan.nodes) {
        Ok(config) => config,
        Err(error) => {
            let text = format!("the settings make no producer: {error}");
            return (spoiled(plan, &text), Timeline::default());
        }
    };
    let mut world = World::new(plan, config);
    if wanted == Wanted::Timeline {
        world.record();
    }
    let lived = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut report = Report {
        seed: plan.seed,
        hash: world.hash(),
        records: 0,
        written: 0,
        last_failure: None,
        virtual_time: Duration::from_nanos(world.now().as_nanos()),
        steps: world.steps(),
        faults: Default::default(),
        violations: Vec::new(),
        seen: Default::default(),
        witnesses: Vec::new(),
        loss_told: false,
        coverage: Coverage::default(),
    };
    let mut timeline;
    for number in world.felt() {
        let kind = plan.faults[number].fault.kind();
        *report.faults.entry(kind).or_default() += 1;
    }
    if let Err(panic) = lived {
        let message = text_of(&*panic);
        let text = format!("{message} ({})", world.whereabouts());
        let invariant = invariant_of(&message);
        report.violations.push(Violation { invariant, text, at: world.now() });
        timeline = world.take_timeline();
        // What is half done may panic again while it is taken apart: it is left alone.
        std::mem::forget(world);
    } else {
        timeline = world.take_timeline();
        judge(world, &mut report);
    }
    timeline.tell_end(&report);
    (report, timeline)
}

fn judge(mut world: World<'_>, report: &mut Report) {
    report.loss_told = world.was_loss_told();
    world.coverage.faults.clone_from(&report.faults);
    let ended = world.now();
    let closed = catch_unwind(AssertUnwindSafe(|| {
        let mut coverage = Coverage::default();
        let (evidence, live) = world.close_books(&mut coverage);
        (evidence, live, coverage)
    }));
    match closed {
        Ok((evidence, live, coverage)) => {
            let findings = checkers::check(&evidence);
            report.coverage = coverage;
            report.records =
                evidence.records.iter().filter(|it| it.accepted.is_some()).count() as u64;
            report.written = evidence.records.iter().filter(|it| it.is_ok()).count() as u64;
            report.last_failure = evidence.records.iter().rev().find_map(failure_of);
            report.violations = live;
            report.violations.extend(findings.violations);
            report.seen = findings.seen;
            report.witnesses = findings.witnesses;
        }
        Err(panic) => {
            let text = text_of(&*panic);
            report.violations.push(Violation { invariant: "P8", text, at: ended });
        }
    }
}

/// What a record's sender was told that did not get it delivered.
fn failure_of(record: &Submitted) -> Option<String> {
    match (&record.done, &record.rejected) {
        (Some((_, _, Done::Failed { text, .. })), _) | (_, Some(Rejected::Refused(text))) => {
            Some(text.clone())
        }
        _ => None,
    }
}

fn spoiled(plan: &Plan, text: &str) -> Report {
    Report {
        seed: plan.seed,
        hash: 0,
        records: 0,
        written: 0,
        last_failure: None,
        virtual_time: Duration::ZERO,
        steps: 0,
        faults: Default::default(),
        violations: vec![Violation { invariant: "P8", text: text.to_owned(), at: Instant::ZERO }],
        seen: Default::default(),
        witnesses: Vec::new(),
        loss_told: false,
        coverage: Coverage::default(),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

/// The invariant that an assertion's message names: `S4: ..`.
fn invariant_of(message: &str) -> &'static str {
    const NAMED: [&str; 12] =
        ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S10", "P2", "P7", "P8"];
    let names =
        |name: &&&str| message.strip_prefix(**name).is_some_and(|rest| rest.starts_with(':'));
    NAMED.iter().find(names).copied().unwrap_or("P8")
}
