//! `cargo xtask compare`: producers side by side on this machine, against a broker that costs nearly
//! nothing (bench/peers/sink), case by case, in interleaved rounds.

mod build;
mod cases;
mod machine;
mod peers;
mod round;
mod table;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::{Result, shell};
use cases::{CASES, Case};
use peers::{PEERS, Peer};
use round::Sink;

/// What to do, from the command line.
struct Plan {
    cases: Vec<&'static Case>,
    peers: Vec<Peer>,
    rounds: u32,
    /// A real broker for the cases that want one.
    broker: Option<String>,
    out: PathBuf,
    build: bool,
}

const USAGE: &str = "\
cargo xtask compare [--cases a,b,..] [--peers sordini,java,..] [--rounds 5] [--broker HOST:PORT]
                    [--peer 'NAME=COMMAND ARGS'] [--out FILE] [--no-build]
cargo xtask compare report FILE ..     the tables again, of runs done before
cargo xtask compare list               the cases and the peers";

pub(crate) fn run(args: &[String]) -> Result {
    match args.first().map(String::as_str) {
        Some("report") => return report(&args[1..]),
        Some("list") => return list(),
        Some("help" | "--help") => return print(USAGE),
        _ => {}
    }
    let plan = Plan::parse(args)?;
    if plan.build {
        build::all(&plan.peers)?;
    }
    let mut results = Vec::new();
    for case in &plan.cases {
        run_case(&plan, case, &mut results)?;
    }
    println!("{}", table::all(&results)?);
    Ok(())
}

fn print(text: &str) -> Result {
    println!("{text}");
    Ok(())
}

fn list() -> Result {
    for case in CASES {
        println!("{:8} {}{}", case.name, case.title, if case.chosen { "" } else { " *" });
    }
    println!("(* only where named by --cases)\n");
    PEERS.iter().for_each(|peer| println!("{:20} {}", peer.name, peer.about));
    Ok(())
}

fn report(files: &[String]) -> Result {
    let mut results = Vec::new();
    for file in files {
        let text = shell::read(&PathBuf::from(file))?;
        for line in text.lines() {
            let result = serde_json::from_str(line).map_err(|e| format!("{file}: {e}"))?;
            results.push(result);
        }
    }
    println!("{}", table::all(&results)?);
    Ok(())
}

/// Every peer in turn, so that what else the machine does falls on all alike.
fn run_case(plan: &Plan, case: &Case, results: &mut Vec<Value>) -> Result {
    let sink = if case.real_broker { None } else { Some(Sink::start(case)?) };
    let Some(bootstrap) = sink.as_ref().map(Sink::bootstrap).or(plan.broker.as_deref()) else {
        println!("case {} skipped: it wants a real broker (--broker)", case.name);
        return Ok(());
    };
    for round in 0..plan.rounds {
        for peer in plan.peers.iter().filter(|peer| case.takes(peer)) {
            let mut result = round::once(peer, case, bootstrap, sink.as_ref())?;
            result["round"] = round.into();
            println!("{}", table::line(&result));
            keep(plan, &result)?;
            results.push(result);
        }
    }
    Ok(())
}

/// Appends one line to the file of results.
fn keep(plan: &Plan, result: &Value) -> Result {
    use std::io::Write;
    let failed = |e| format!("{}: {e}", plan.out.display());
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(&plan.out).map_err(failed)?;
    writeln!(file, "{result}").map_err(failed)
}

impl Plan {
    fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self {
            cases: CASES.iter().filter(|case| case.chosen).collect(),
            peers: PEERS.to_vec(),
            rounds: 5,
            broker: None,
            out: build::folder()?.join("results.jsonl"),
            build: true,
        };
        let mut added = Vec::new();
        let mut args = args.iter();
        while let Some(option) = args.next() {
            if option == "--no-build" {
                plan.build = false;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{option} lacks its value\n{USAGE}"))?;
            match option.as_str() {
                "--cases" => plan.cases = named(value, CASES, |case| case.name)?,
                "--peers" => {
                    let chosen = named(value, PEERS, |peer| peer.name)?;
                    plan.peers = chosen.into_iter().cloned().collect();
                }
                "--peer" => added.push(Peer::added(value)?),
                "--rounds" => {
                    plan.rounds = value.parse().map_err(|e| format!("--rounds {value}: {e}"))?;
                }
                "--broker" => plan.broker = Some(value.clone()),
                "--out" => plan.out = PathBuf::from(value),
                _ => return Err(format!("what is {option}?\n{USAGE}")),
            }
        }
        plan.peers.extend(added);
        Ok(plan)
    }
}

/// The entries of a comma-separated list of names.
fn named<T>(list: &str, all: &'static [T], name: fn(&T) -> &str) -> Result<Vec<&'static T>> {
    let find = |wanted: &str| {
        all.iter().find(|entry| name(entry) == wanted).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(name).collect();
            format!("{wanted} is none of {}", known.join(" "))
        })
    };
    list.split(',').map(find).collect()
}
