//! One run of one peer, and the sink it talks to.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::build;
use super::cases::Case;
use super::peers::Peer;
use crate::Result;

/// How often a running peer's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The broker that costs nearly nothing, for one case. Dropping it ends it.
pub(super) struct Sink {
    process: Child,
    bootstrap: String,
    stats: String,
}

impl Sink {
    pub(super) fn start(case: &Case) -> Result<Self> {
        let program = build::folder()?.join("release/bench-sink");
        let mut process = Command::new(&program)
            .args(["--latency-ms", &case.broker_delay_ms.to_string()])
            .args(["--brokers", &case.brokers.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        let stdout = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        let told = BufReader::new(stdout).read_line(&mut line);
        let told = told.map_err(|e| e.to_string()).and_then(|_| {
            serde_json::from_str::<Value>(&line).map_err(|e| format!("{line:?}: {e}"))
        });
        let mut sink = Self { process, bootstrap: String::new(), stats: String::new() };
        let told = told.map_err(|e| format!("the sink did not say where it listens: {e}"))?;
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        (sink.bootstrap, sink.stats) = (text("bootstrap"), text("stats"));
        Ok(sink)
    }

    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What it has counted since it was started.
    fn counts(&self) -> Result<Value> {
        let failed = |e: std::io::Error| format!("the sink's counts: {e}");
        let mut stream = TcpStream::connect(&self.stats).map_err(failed)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(failed)?;
        serde_json::from_str(&text).map_err(|e| format!("the sink's counts: {e}"))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It has nothing to save, and may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the peer once; a failure of its is a result too.
pub(super) fn once(
    peer: &Peer,
    case: &Case,
    bootstrap: &str,
    sink: Option<&Sink>,
) -> Result<Value> {
    let folder = build::folder()?;
    let words = peer.command(&folder);
    let (program, first) = words.split_first().ok_or("a peer without a command")?;
    let errors = folder.join("stderr.txt");
    let to = fs::File::create(&errors).map_err(|e| format!("{}: {e}", errors.display()))?;
    let before = sink.map(Sink::counts).transpose()?;
    let stolen = steal();
    let mut process = Command::new(program)
        .args(first)
        .args(case.arguments(bootstrap, peer))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(to)
        .spawn()
        .map_err(|e| format!("cannot start {program}: {e}; without --no-build it is built"))?;
    let memory = watch(&mut process, Duration::from_secs(case.limit))?;
    let mut printed = String::new();
    if let Some(mut stdout) = process.stdout.take() {
        stdout.read_to_string(&mut printed).map_err(|e| format!("{}: {e}", peer.name))?;
    }
    let told = printed.lines().rev().find(|line| line.starts_with('{'));
    let mut result = told.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| {
        let why = fs::read_to_string(&errors).unwrap_or_default();
        let why = why.lines().last().unwrap_or("it took too long, or said nothing").to_owned();
        json!({ "failed": why })
    });
    result["peer"] = peer.name.into();
    result["case"] = case.name.into();
    result["steal"] = (steal() - stolen).into();
    let (early, late) = growth(&memory);
    result["early_kb"] = early.into();
    result["late_kb"] = late.into();
    if let (Some(before), Some(sink)) = (before, sink) {
        result["sink"] = difference(&before, &sink.counts()?);
    }
    Ok(result)
}

/// Waits for the process, which is killed after `limit`: its resident memory in KiB, look by look.
fn watch(process: &mut Child, limit: Duration) -> Result<Vec<u64>> {
    let start = Instant::now();
    let mut memory = Vec::new();
    loop {
        if process.try_wait().map_err(|e| format!("waiting for a peer: {e}"))?.is_some() {
            return Ok(memory);
        }
        if start.elapsed() > limit {
            process.kill().map_err(|e| format!("ending a peer: {e}"))?;
        }
        memory.extend(resident(process.id()));
        thread::sleep(LOOK);
    }
}

fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The largest of the second and of the last quarter: the first is for warming up.
fn growth(memory: &[u64]) -> (u64, u64) {
    let quarter = memory.len() / 4;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
    (most(&memory[quarter..2 * quarter]), most(&memory[memory.len() - quarter..]))
}

/// Seconds that other guests of the machine took, all processors together, since it was started.
fn steal() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(8));
    ticks.and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default() / 100.0
}

fn difference(before: &Value, after: &Value) -> Value {
    let Some(names) = after.as_object() else { return Value::Null };
    let of = |name: &String| {
        let number = |value: &Value| value[name].as_f64().unwrap_or_default();
        (name.clone(), json!(number(after) - number(before)))
    };
    Value::Object(names.keys().map(of).collect())
}
