//! Runs seeds of a profile and prints what they met: `seeds [PROFILE] [FIRST] [COUNT] [NAME=VALUE..]`.
//!
//! In a build with `--cfg sordini_mutants`, `MUTANT=M36` plants that fault.
//!
//! With a COUNT of 1 it tells the world's story; a seed that fails is told reduced.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a program, not the simulator: it has arguments, a clock and an output"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sordini_sim::{Coverage, Profile, Report, plan, run, shrink};

fn median<T: Copy + Ord>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "default".to_owned());
    let mut number = |default: u64| args.next().map_or(default, |it| it.parse().expect("a number"));
    let (first, count) = (number(0), number(100));
    let overrides: Vec<(String, String)> = args
        .filter_map(|it| it.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect();
    let profile = Profile::named(&name).expect("a profile");
    let quiet = std::env::var("QUIET").is_ok();
    if quiet {
        std::panic::set_hook(Box::new(|_| {}));
    }
    #[cfg(sordini_mutants)]
    plant();
    let mut coverage = Coverage::default();
    let mut reports: Vec<(Report, Duration)> = Vec::new();
    for seed in first..first + count {
        let plan = plan(seed, &profile, &overrides).expect("settings");
        if count == 1 {
            print!("{plan}");
        }
        let began = Instant::now();
        let report = run(&plan);
        let took = began.elapsed();
        if count == 1 {
            print!("{report}");
        } else if !report.is_clean() {
            println!("seed {seed}: {}", first_line(&report));
        }
        if count == 1 && !report.is_clean() {
            let less = shrink(&plan);
            let (report, timeline) = sordini_sim::tell(&less);
            print!("\nReduced:\n{less}{report}{timeline}");
        }
        coverage.add(&report.coverage);
        reports.push((report, took));
    }
    tell(&reports, &coverage, quiet);
}

#[cfg(sordini_mutants)]
fn plant() {
    use sordini_protocol::mutant::{ABOUT, activate};
    let wanted = std::env::var("MUTANT").unwrap_or_default();
    let found = ABOUT.iter().find(|(mutant, ..)| format!("{mutant:?}") == wanted);
    activate(found.map(|(mutant, ..)| *mutant));
}

fn first_line(report: &Report) -> String {
    let first = &report.violations[0];
    let all = report.violations.len();
    let text: String = first.text.chars().take(260).collect();
    let names: BTreeSet<&str> = report.violations.iter().map(|it| it.invariant).collect();
    format!("{names:?} ({all}) {}: {text}", first.invariant)
}

fn tell(reports: &[(Report, Duration)], coverage: &Coverage, quiet: bool) {
    let mut records: Vec<u64> = reports.iter().map(|(it, _)| it.records).collect();
    let mut virtual_ms: Vec<u128> =
        reports.iter().map(|(it, _)| it.virtual_time.as_millis()).collect();
    let mut kinds: Vec<usize> = reports.iter().map(|(it, _)| it.faults.len()).collect();
    let mut cost: Vec<Duration> = reports.iter().map(|(_, took)| *took).collect();
    let mut steps: Vec<u64> = reports.iter().map(|(it, _)| it.steps).collect();
    let total: Duration = cost.iter().sum();
    let failed = reports.iter().filter(|(it, _)| !it.is_clean()).count();
    println!(
        "{} seeds, {failed} failed; medians: {} records, {} virtual ms, {} kinds, {:?}, {} steps; \
         {:?} in all, slowest {:?}",
        reports.len(),
        median(&mut records),
        median(&mut virtual_ms),
        median(&mut kinds),
        median(&mut cost),
        median(&mut steps),
        total,
        cost.last(),
    );
    let hash = reports.iter().fold(0, |hash: u64, (it, _)| hash.rotate_left(1) ^ it.hash);
    println!("hash of all {hash:016x}; never met: {:?}", coverage.missing());
    let showed = |of: fn(&Report) -> u64| reports.iter().filter(|(it, _)| of(it) > 0).count();
    println!(
        "seeds that show: loss {}, duplicate {}, reorder {}, torn {}; loss told {}",
        showed(|it| it.seen.loss),
        showed(|it| it.seen.duplicate),
        showed(|it| it.seen.reorder),
        showed(|it| it.seen.torn),
        showed(|it| u64::from(it.loss_told)),
    );
    if !quiet {
        println!("{coverage:#?}");
    }
}
