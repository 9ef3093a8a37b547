//! Brokers that are killed while records are in flight, and brokers that never come back.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use sordini_interop::kafka::{Kafka, VERSIONS};
use sordini_interop::lines::Lines;
use sordini_interop::process::{self, Finished, Input, Running};
use sordini_interop::sordini::{Serve, produce, summary};
use sordini_interop::times::Times;
use sordini_interop::{Need, can_run, foreign, judge};
use tempfile::TempDir;

fn file(lines: &Lines) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("lines.tsv");
    fs::write(&path, lines.keyed()).expect("written");
    (dir, path)
}

fn assert_all_delivered(finished: &Finished, lines: &Lines) {
    let summary = summary(finished);
    let number = |name: &str| summary[name].as_u64();
    let count = lines.count as u64;
    assert_eq!(finished.code(), Some(0), "{finished}");
    assert_eq!(number("accepted"), Some(count), "{finished}");
    assert_eq!(number("delivered"), Some(count), "{finished}");
    assert!(number("retries") > Some(0), "the kills hit nothing: {finished}");
}

#[test]
fn a_killed_leader_loses_and_doubles_nothing() {
    if !can_run("a_killed_leader_loses_and_doubles_nothing", &[Need::Kafka]) {
        return;
    }
    let settings = ["broker.session.timeout.ms=3000", "broker.heartbeat.interval.ms=500"];
    let kafka = Kafka::up(VERSIONS[0], 3, &settings);
    kafka.topic("lines", 6, 3, &["min.insync.replicas=2"]);
    let lines = Lines { count: 200_000, keys: 997, size: 100 };
    let (_dir, path) = file(&lines);
    // 200,000 lines at 3,000 a second last 67 s.
    let mut command = produce(kafka.bootstrap(), "lines", &["-K", "\t", "--rate", "3000"]);
    let producing = process::start(command.arg(path), Input::Nothing);

    let mut times = Times::from_seed();
    for partition in [0, 3] {
        sleep(times.about(Duration::from_secs(6)));
        let leader = kafka.leader("lines", partition);
        // Stopped first, so that batches are in flight to it when it dies.
        kafka.pause(leader);
        sleep(times.about(Duration::from_millis(300)));
        kafka.kill(leader);
        sleep(times.about(Duration::from_secs(4)));
        kafka.start(leader);
    }
    let finished = producing.finish(Duration::from_secs(300));
    assert_all_delivered(&finished, &lines);
    judge::read_topic(kafka.bootstrap(), "lines").assert_exactly(&lines);
}

#[test]
fn the_embedded_broker_killed_under_load_loses_and_doubles_nothing() {
    if !can_run("the_embedded_broker_killed_under_load", &[Need::Kafka]) {
        return;
    }
    let mut serve = Serve::up(&["--partitions", "6"]);
    let lines = Lines { count: 60_000, keys: 97, size: 100 };
    let (_dir, path) = file(&lines);
    let mut command = produce(&serve.bootstrap(), "lines", &["-K", "\t", "--rate", "4000"]);
    let producing = process::start(command.arg(path), Input::Nothing);
    let mut times = Times::from_seed();
    for _ in 0..2 {
        sleep(times.about(Duration::from_secs(3)));
        // Stopped first, so that batches are in flight to it when it dies.
        serve.pause();
        sleep(times.about(Duration::from_millis(300)));
        serve.kill();
        sleep(times.about(Duration::from_millis(500)));
        serve.start();
    }
    let finished = producing.finish(Duration::from_secs(300));
    assert_all_delivered(&finished, &lines);
    judge::read_topic(&serve.bootstrap(), "lines").assert_exactly(&lines);
    drop(serve.stop());
    judge::assert_sound(&judge::dump_topic(serve.data(), "lines", judge::ALL_FILES));
}

const BUFFER_MEMORY: u64 = 8 << 20;

fn produce_with_short_patience(serve: &Serve, failed: &Path, input: &Path) -> Running {
    let mut command = produce(&serve.bootstrap(), "lines", &["-K", "\t", "--rate", "100000"]);
    command.arg("--failed").arg(failed);
    for setting in [
        "delivery.timeout.ms=10000",
        "request.timeout.ms=2000",
        "max.block.ms=3000",
        &format!("buffer.memory={BUFFER_MEMORY}"),
    ] {
        command.args(["-X", setting]);
    }
    process::start(command.arg(input), Input::Nothing)
}

#[test]
fn with_all_brokers_gone_every_record_resolves_and_failed_holds_the_lines() {
    if !can_run("with_all_brokers_gone_every_record_resolves", &[Need::Kcat]) {
        return;
    }
    let mut serve = Serve::up(&["--partitions", "3"]);
    // Ten seconds of input, and much more than the buffer holds: reading has to stop.
    let lines = Lines { count: 1_000_000, keys: 97, size: 100 };
    let (dir, path) = file(&lines);
    let failed = dir.path().join("failed");
    let producing = produce_with_short_patience(&serve, &failed, &path);
    process::wait_until("a megabyte is stored", Duration::from_secs(60), || {
        serve.stored("lines") > 1 << 20
    });
    serve.kill();
    let finished = producing.finish(Duration::from_secs(60));

    assert_eq!(finished.code(), Some(1), "{finished}");
    let summary = summary(&finished);
    let number = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name}: {summary}"));
    let (delivered, lost) = (number("delivered"), number("failed") + number("unknown"));
    assert_eq!(number("accepted"), delivered + lost, "{finished}");
    assert!(lost > 0 && delivered > 0, "{finished}");
    assert_eq!(summary["complete"], Value::Bool(false), "{finished}");
    assert!(finished.stderr.contains(&serve.bootstrap()), "no broker is named: {finished}");
    let limit = BUFFER_MEMORY + (32 << 20);
    assert!(finished.peak_memory <= limit, "{} bytes resident: {finished}", finished.peak_memory);

    serve.start();
    assert_accounted_for(&serve, &lines, &failed, number("accepted"));
}

/// What was accepted is in the log or among the failed lines (in both where nobody could know),
/// and the failed lines are in the order of the input.
fn assert_accounted_for(serve: &Serve, lines: &Lines, failed: &Path, accepted: u64) {
    let failed = fs::read(failed).expect("--failed was written");
    let input = lines.keyed();
    let input: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    let failed: Vec<&[u8]> = failed.split_inclusive(|byte| *byte == b'\n').collect();
    let mut rest = input.iter();
    for line in &failed {
        assert!(rest.any(|of_input| of_input == line), "{} is out of order", show(line));
    }
    let mut present: HashSet<&[u8]> = failed.into_iter().collect();
    let stored = foreign::kcat_read(&serve.bootstrap(), "lines", 3);
    present.extend(stored.split_inclusive(|byte| *byte == b'\n'));
    for line in &input[..usize::try_from(accepted).expect("a count")] {
        assert!(present.contains(line), "{} is nowhere", show(line));
    }
}

fn show(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}
