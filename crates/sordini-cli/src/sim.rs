//! `sordini sim`: what can happen to records with these settings, tried out in simulated worlds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use serde::Serialize;
use sordini_sim::{
    Plan, Profile, Report, Shown, Tally, plan, preflight, run as live, shrink, tell,
};

use crate::connect::parse_pair;
use crate::exit::{FAILED, Failure, Outcome};
use crate::output::print_line;
use crate::signals::Signals;
use crate::terminal::{self, Progress, grouped};

const EXAMPLES: &str = "\
Each seed is a world of its own: producers with your settings (the real ones), one to three brokers
that replicate, a network, disks and clocks, all in virtual time; and what goes wrong in it: brokers
killed, leaders moved, connections cut at any byte, answers lost. Then all is healed, and every
record's fate is compared with what its application was told. The same seed is the same world.

Examples:
  sordini sim --seeds 1000                       settings drawn too: is every promise kept?
  sordini sim -X acks=1 --seeds 10000            what acks=1 can do to your records, and a seed for it
  sordini sim -X acks=1 --seed 42 --explain      that world, told as a story
  sordini sim --profile C-e --seeds 200          a world that is allowed to lose: unclean elections

A broken promise is a bug of ours, and ends with exit code 1: please report its seed. What is `seen`
is what your settings do not promise: loss (acknowledged, and gone), duplicate, reorder, torn.

Exit code: 0 every promise was kept; 1 one was broken; 2 usage or settings; 130 after Ctrl-C.";

/// Try settings in simulated clusters that break, and see what can happen to records
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// One world, by its number
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,

    /// So many worlds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,

    /// The number of the first world
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,

    /// What goes wrong: `default` is everything that acks=all survives; `calm` is nothing; `disks`
    /// adds disks that lose and rot; C-a to C-i each break what some setting does not promise
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_profile)]
    profile: Profile,

    /// Tell what happened, moment by moment; where a promise was broken, or something was seen, in
    /// a world reduced to the faults that matter. Of several worlds, of the first of these
    #[arg(long)]
    explain: bool,

    /// End with one line of JSON
    #[arg(long)]
    json: bool,

    /// A setting of the producer by its Kafka name, as in -X acks=1; the others then are as by
    /// default instead of drawn
    #[arg(short = 'X', value_name = "NAME=VALUE", value_parser = parse_pair)]
    settings: Vec<(String, String)>,
}

fn parse_profile(name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| {
        let controls = Profile::controls();
        let names: Vec<&str> = controls.iter().map(|profile| profile.name).collect();
        format!("there are default, calm, disks, {}", names.join(", "))
    })
}

/// The one line of `--json`.
#[derive(Debug, Serialize)]
struct Line {
    seeds: u64,
    records: u64,
    virtual_seconds: f64,
    violations: BTreeMap<&'static str, Found>,
    seen: BTreeMap<&'static str, Found>,
    faults: BTreeMap<&'static str, u64>,
    /// Equal for equal worlds.
    hash: String,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Found {
    count: u64,
    seed: Option<u64>,
}

fn found(shown: &BTreeMap<&'static str, Shown>) -> BTreeMap<&'static str, Found> {
    let found = |shown: &Shown| Found { count: shown.count, seed: shown.seed };
    shown.iter().map(|(name, shown)| (*name, found(shown))).collect()
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let mut signals = Signals::listen(terminal::clear).map_err(Failure::failed)?;
    // A broken promise is told with its world; the assertion's own message would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    let stop: &'static AtomicBool = Box::leak(Box::default());
    let work = tokio::task::spawn_blocking(move || worlds(&args, stop));
    let ended = tokio::select! {
        biased;
        ended = work => ended,
        signal = signals.wait() => {
            stop.store(true, Ordering::Relaxed);
            return Err(Failure::quiet(signal.exit_code()));
        }
    };
    ended.map_err(|error| Failure::failed(format!("the simulation ended: {error}")))?
}

fn worlds(args: &Args, stop: &AtomicBool) -> Outcome {
    check_settings(args)?;
    let began = Instant::now();
    let tally = match args.seed {
        Some(seed) => one(args, seed)?,
        None => many(args, stop)?,
    };
    if args.json {
        print_line(&json(&tally, began.elapsed().as_secs_f64()))?;
    } else {
        print_line(&text(args, &tally))?;
    }
    if tally.is_clean() { Ok(()) } else { Err(Failure::quiet(FAILED)) }
}

fn drawn(args: &Args, seed: u64) -> Result<Plan, Failure> {
    plan(seed, &args.profile, &args.settings).map_err(Failure::usage)
}

fn one(args: &Args, seed: u64) -> Result<Tally, Failure> {
    let mut tally = Tally::new();
    let plan = drawn(args, seed)?;
    let report = live(&plan);
    tally.add(&report);
    if args.explain {
        explain(&plan, &report)?;
    } else if !args.json {
        print_line(report.to_string().trim_end())?;
    }
    Ok(tally)
}

/// The world and what happened in it. Where a promise was broken or something was seen, that is
/// told of the smallest world found that shows it too.
fn explain(plan: &Plan, report: &Report) -> Outcome {
    print_line(&format!("{plan}{report}"))?;
    let why = match (report.is_clean(), report.witnesses.is_empty()) {
        (false, _) => "Reduced to what breaks the promise:",
        (true, false) => "Reduced to what shows it:",
        (true, true) => {
            let (_, timeline) = tell(plan);
            return print_line(&format!("What happened:\n{timeline}"));
        }
    };
    let less = shrink(plan);
    let (report, timeline) = tell(&less);
    print_line(&format!("{why}\n{less}{report}\nWhat happened:\n{timeline}"))
}

/// Refuses settings that can't be tried, or could not work anywhere.
fn check_settings(args: &Args) -> Outcome {
    plan(args.seed.unwrap_or(args.first), &args.profile, &args.settings).map_err(Failure::usage)?;
    if args.settings.is_empty() {
        return Ok(());
    }
    match preflight(&args.settings).map_err(Failure::usage)? {
        Some(unworkable) => Err(Failure::usage(unworkable)),
        None => Ok(()),
    }
}

/// Lives through all seeds, on all cores.
fn many(args: &Args, stop: &AtomicBool) -> Result<Tally, Failure> {
    let mut tally = Tally::new();
    let progress = Progress::start(Some(args.seeds));
    let next = AtomicU64::new(0);
    let (sender, reports) = mpsc::sync_channel::<Result<Report, Failure>>(64);
    let outcome: Outcome = std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.seeds {
                        return;
                    }
                    let lived = drawn(args, args.first + number).map(|plan| live(&plan));
                    if sender.send(lived).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in reports {
            let report = report?;
            if !report.is_clean() {
                terminal::warn(format!("seed {}: {}", report.seed, broken(&report)));
            }
            tally.add(&report);
            progress.show(tally.seeds, || {
                let hours = tally.virtual_time.as_secs_f64() / 3600.0;
                format!("{} records, {hours:.1} virtual hours", grouped(tally.records))
            });
        }
        Ok(())
    });
    outcome?;
    drop(progress);
    let seen = || tally.seen.values().find_map(|shown| shown.seed);
    if let Some(seed) = tally.failed.first().copied().or_else(seen).filter(|_| args.explain) {
        let plan = drawn(args, seed)?;
        let report = live(&plan);
        explain(&plan, &report)?;
    }
    Ok(tally)
}

fn broken(report: &Report) -> String {
    let first = report.violations.first();
    first.map(|it| format!("{} is broken: {}", it.invariant, it.text)).unwrap_or_default()
}

fn json(tally: &Tally, seconds: f64) -> String {
    let faults = tally.coverage.faults.iter().map(|(kind, count)| (kind.name(), *count));
    let line = Line {
        seeds: tally.seeds,
        records: tally.records,
        virtual_seconds: tally.virtual_time.as_secs_f64(),
        violations: found(&tally.violations),
        seen: found(&tally.seen),
        faults: faults.collect(),
        hash: format!("{:016x}", tally.hash),
        seconds,
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// What a person wants to know, with the command that shows more.
fn text(args: &Args, tally: &Tally) -> String {
    let again = |seed: u64| {
        let mut command = format!("sordini sim --seed {seed} --explain");
        if args.profile.name != "default" {
            command += &format!(" --profile {}", args.profile.name);
        }
        for (name, value) in &args.settings {
            command += &format!(" -X {name}={value}");
        }
        command
    };
    let kinds = tally.coverage.faults.values().filter(|count| **count > 0).count();
    let mut text = format!(
        "{} worlds, {} records, {:.1} virtual hours, {} faults of {kinds} kinds",
        grouped(tally.seeds),
        grouped(tally.records),
        tally.virtual_time.as_secs_f64() / 3600.0,
        grouped(tally.coverage.faults.values().sum()),
    );
    let mut tell = |name: &str, verb: &str, shown: &Shown| {
        if let Some(seed) = shown.seed {
            text += &format!("\n  {name} {verb}: {} ({})", grouped(shown.count), again(seed));
        }
    };
    for (name, shown) in &tally.violations {
        tell(name, "broken", shown);
    }
    for (name, shown) in &tally.seen {
        tell(name, "seen, as the settings allow, records", shown);
    }
    text += match tally.is_clean() {
        true => "\nEvery promise was kept.",
        false => "\nPromises were broken: that is a bug of Sordini's; please report the seed.",
    };
    text
}
