//! `cargo xtask test`: everything CI runs, step by step, with one line of sums at the end.

mod steps;

use std::time::Instant;

use crate::Result;
use steps::STEPS;

/// How a step ended; the texts are for a person to read.
pub(crate) enum Outcome {
    Passed,
    /// What this machine lacks.
    Skipped(String),
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Outcome>,
}

/// Runs the steps named, or all; stops at the first that fails unless `--keep-going`.
pub(crate) fn run(args: &[String]) -> Result {
    let mut keep_going = false;
    let mut chosen = Vec::new();
    for arg in args {
        if arg == "--keep-going" {
            keep_going = true;
        } else if let Some(step) = STEPS.iter().find(|step| step.name == arg) {
            chosen.push(step);
        } else {
            let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            return Err(format!("no step `{arg}`; steps: {}; or --keep-going", names.join(" ")));
        }
    }
    if chosen.is_empty() {
        chosen = STEPS.iter().collect();
    }
    let (mut passed, mut skipped, mut failed) = (0, Vec::new(), Vec::new());
    for step in chosen {
        println!("\n==== {}: {}", step.name, step.about);
        let start = Instant::now();
        let outcome = (step.run)();
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(Outcome::Passed) => {
                println!("==== {} passed, {seconds:.1} s", step.name);
                passed += 1;
            }
            Ok(Outcome::Skipped(why)) => {
                println!("==== {} SKIPPED: {why}", step.name);
                skipped.push(step.name);
            }
            Err(error) => {
                println!("==== {} FAILED, {seconds:.1} s: {error}", step.name);
                failed.push(step.name);
                if !keep_going {
                    break;
                }
            }
        }
    }
    println!();
    if !skipped.is_empty() {
        println!("skipped: {}", skipped.join(" "));
    }
    println!("{passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(" "))) }
}
