//! `cargo xtask soak`: the runs that take too long for CI, each many times, resumable.
//!
//! `target/soak.tsv` keeps how often each run has passed; a run that was stopped goes on from
//! there. A failure ends the soak and leaves its number, which is the seed, in the message.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::{Result, shell};

struct Run {
    name: &'static str,
    about: &'static str,
    times: u32,
    /// Runs it once; the number is its seed.
    once: fn(u32) -> Result,
}

const RUNS: &[Run] = &[
    Run {
        name: "core-worlds",
        about: "ten thousand random worlds for the control plane",
        times: 20,
        once: core_worlds,
    },
    Run {
        name: "sim-worlds",
        about: "4,400 simulated worlds; no promise is broken, no behaviour stays away",
        times: 25,
        once: sim_worlds,
    },
    Run {
        name: "killed-leader",
        about: "three nodes of real Kafka, the leader killed at random times",
        times: 20,
        once: |seed| interop("a_killed_leader", seed),
    },
    Run {
        name: "killed-embedded",
        about: "the embedded broker killed under load at random times",
        times: 40,
        once: |seed| interop("the_embedded_broker_killed", seed),
    },
    Run {
        name: "real-chaos",
        about: "three nodes of real Kafka in trouble for ten minutes, judged by the checkers",
        times: 3,
        once: |seed| interop("a_real_cluster_in_trouble", seed),
    },
    Run {
        name: "transactions",
        about: "10,000 numbered transactions on each of three clusters in trouble, the writer killed",
        times: 3,
        once: |seed| interop("each_transaction_is_there_whole", seed),
    },
    Run {
        name: "copied",
        about: "100,000 records consumed, transformed, produced; the copier killed 20 times",
        times: 3,
        once: |seed| interop("a_killed_copier", seed),
    },
    Run {
        name: "java-transactions",
        about: "Java's own transactions in trouble: what the cluster does to a sound client",
        times: 1,
        once: |seed| interop("java_s", seed),
    },
    Run {
        name: "million",
        about: "one million lines to real Kafka, judged by the Java consumer",
        times: 5,
        once: |seed| interop("every_line_arrives_once", seed),
    },
];

pub(crate) fn run(args: &[String]) -> Result {
    let mut chosen = Vec::new();
    for arg in args {
        match (arg.as_str(), RUNS.iter().find(|run| run.name == arg)) {
            ("--fresh", _) => forget()?,
            ("--list", _) => return list(),
            (_, Some(run)) => chosen.push(run),
            (_, None) => return Err(format!("no run `{arg}`; see --list; or --fresh")),
        }
    }
    if chosen.is_empty() {
        chosen = RUNS.iter().collect();
    }
    for run in chosen {
        for seed in passed()?.get(run.name).copied().unwrap_or(0)..run.times {
            println!("\n==== soak {} {} of {}: {}", run.name, seed + 1, run.times, run.about);
            (run.once)(seed).map_err(|error| format!("{} with seed {seed}: {error}", run.name))?;
            note(run.name, seed + 1)?;
        }
    }
    list()
}

/// The core's own soak test: its worlds begin at the seed times their number.
fn core_worlds(seed: u32) -> Result {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--release", "--package", "sordini-core", "--lib", "--"]);
    cargo.args(["--ignored", "--nocapture", "chaos"]);
    cargo.env("SORDINI_SOAK_SEED", seed.to_string());
    shell::run(&mut cargo)
}

/// The simulator's soak test: its worlds begin at the seed times their number.
fn sim_worlds(seed: u32) -> Result {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--release", "--package", "sordini-sim", "--test", "soak", "--"]);
    cargo.args(["--ignored", "--nocapture"]);
    cargo.env("SORDINI_SOAK_FIRST", (u64::from(seed) * 4000).to_string());
    shell::run(&mut cargo)
}

/// One test of the interop crate, at full size and with a seed for its random times.
fn interop(test: &str, seed: u32) -> Result {
    if let Some(missing) = shell::missing_for_kafka() {
        return Err(format!("missing here: {missing}"));
    }
    let mut build = shell::cargo();
    build.args(["build", "--release", "--quiet", "--package", "sordini-cli"]);
    shell::run(&mut build)?;
    let mut cargo = shell::cargo();
    cargo.args(["test", "--package", "sordini-interop", test, "--"]);
    cargo.args(["--test-threads=1", "--nocapture", "--include-ignored"]);
    cargo.env("SORDINI_SOAK_SEED", seed.to_string()).env("SORDINI_LINES", "1000000");
    cargo.env("SORDINI_REQUIRE_KAFKA", "1").env("SORDINI_TRANSACTIONS", "whole");
    cargo.env("SORDINI_BIN", shell::target().join("release/sordini"));
    shell::run(&mut cargo)
}

fn state() -> PathBuf {
    shell::target().join("soak.tsv")
}

fn passed() -> Result<BTreeMap<String, u32>> {
    if !state().exists() {
        return Ok(BTreeMap::new());
    }
    let parse = |line: &str| {
        let (name, times) = line.split_once('\t')?;
        Some((name.to_owned(), times.parse().ok()?))
    };
    let text = shell::read(&state())?;
    text.lines()
        .map(|line| parse(line).ok_or(format!("{}: not a state: {line}", state().display())))
        .collect()
}

fn note(name: &str, times: u32) -> Result {
    let mut all = passed()?;
    all.insert(name.to_owned(), times);
    let text: String = all.iter().map(|(name, times)| format!("{name}\t{times}\n")).collect();
    // Beside it and renamed, so that a soak killed here resumes from the old or the new count.
    let new = state().with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, state()))
        .map_err(|e| format!("{}: {e}", state().display()))
}

fn forget() -> Result {
    if state().exists() {
        fs::remove_file(state()).map_err(|e| format!("{}: {e}", state().display()))?;
    }
    Ok(())
}

fn list() -> Result {
    let passed = passed()?;
    for run in RUNS {
        let times = passed.get(run.name).copied().unwrap_or(0);
        println!("{:16} {times:3} of {:3} passed   {}", run.name, run.times, run.about);
    }
    Ok(())
}
