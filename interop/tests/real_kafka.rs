//! `sordini produce` to real Apache Kafka, judged by the Java consumer and the foreign clients.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use sordini_interop::kafka::{Kafka, VERSIONS};
use sordini_interop::lines::Lines;
use sordini_interop::process::{self, Input};
use sordini_interop::sordini::{produce, summary};
use sordini_interop::{Need, can_run, foreign, judge};
use tempfile::TempDir;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The newest Kafka, or the version that SORDINI_KAFKA names, for all tests of this file; its guard
/// ends it with this process.
fn newest() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| {
        let version = std::env::var("SORDINI_KAFKA").unwrap_or_else(|_| VERSIONS[0].to_owned());
        Kafka::up(&version, 1, &[])
    })
}

fn file(lines: &Lines) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("lines.tsv");
    fs::write(&path, lines.keyed()).expect("written");
    (dir, path)
}

/// Produces the lines with keys and checks the summary's counts.
fn produce_all(kafka: &Kafka, topic: &str, lines: &Lines, args: &[&str]) {
    let (_dir, path) = file(lines);
    let mut command = produce(kafka.bootstrap(), topic, &["-K", "\t"]);
    command.args(args).arg(path);
    let finished = process::run(&mut command, Input::Nothing, Duration::from_secs(900)).ok();
    let summary = summary(&finished);
    for (name, expected) in [
        ("accepted", lines.count),
        ("delivered", lines.count),
        ("failed", 0),
        ("unknown", 0),
        ("rejected", 0),
    ] {
        assert_eq!(summary[name].as_u64(), Some(expected as u64), "{name} in {summary}");
    }
    assert_eq!(summary["complete"].as_bool(), Some(true), "{summary}");
}

#[test]
fn every_line_arrives_once_and_in_order() {
    if !can_run("every_line_arrives_once_and_in_order", &[Need::Kafka]) {
        return;
    }
    // The full million in the soak, and wherever SORDINI_LINES says so.
    let count = std::env::var("SORDINI_LINES").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let lines = Lines { count, keys: 997, size: 100 };
    newest().topic("million", 6, 1, &[]);
    produce_all(newest(), "million", &lines, &[]);
    let verdict = judge::read_topic(newest().bootstrap(), "million");
    verdict.assert_exactly(&lines);
    assert_eq!(verdict.partitions_used(), 6);
}

#[test]
fn the_last_kafka_before_4_takes_them_too() {
    if !can_run("the_last_kafka_before_4_takes_them_too", &[Need::Kafka]) {
        return;
    }
    let kafka = Kafka::up(VERSIONS[1], 1, &[]);
    let lines = Lines { count: 50_000, keys: 100, size: 100 };
    kafka.topic("lines", 6, 1, &[]);
    produce_all(&kafka, "lines", &lines, &[]);
    judge::read_topic(kafka.bootstrap(), "lines").assert_exactly(&lines);
    for codec in CODECS {
        let lines = Lines { count: 2_000, keys: 10, size: 200 };
        let topic = format!("codec-{codec}");
        let setting = format!("compression.type={codec}");
        produce_all(&kafka, &topic, &lines, &["-X", &setting]);
        judge::read_topic(kafka.bootstrap(), &topic).assert_exactly(&lines);
    }
}

#[test]
fn every_codec_is_stored_as_such_and_read_by_java_librdkafka_and_franz_go() {
    let needs = [Need::Kafka, Need::Kcat, Need::Go];
    if !can_run("every_codec_is_read", &needs) {
        return;
    }
    let kafka = newest();
    let franz = foreign::Franz::build();
    for codec in CODECS {
        let lines = Lines { count: 5_000, keys: 50, size: 300 };
        let topic = format!("codec-{codec}");
        kafka.topic(&topic, 2, 1, &[]);
        produce_all(kafka, &topic, &lines, &["-X", &format!("compression.type={codec}")]);
        judge::read_topic(kafka.bootstrap(), &topic).assert_exactly(&lines);
        judge::assert_stored_as(&judge::dump_topic(&kafka.data(1), &topic, judge::LOGS), codec);
        let written = lines.keyed();
        let expected = foreign::sorted_lines(&written);
        let by_kcat = foreign::kcat_read(kafka.bootstrap(), &topic, 2);
        assert!(foreign::sorted_lines(&by_kcat) == expected, "kcat read something else: {codec}");
        let by_franz = franz.read(kafka.bootstrap(), &topic, lines.count);
        assert!(
            foreign::sorted_lines(&by_franz) == expected,
            "franz-go read something else: {codec}"
        );
    }
}

#[test]
fn keys_land_where_java_puts_them() {
    if !can_run("keys_land_where_java_puts_them", &[Need::Kafka]) {
        return;
    }
    let kafka = newest();
    let lines = Lines { count: 3_000, keys: 500, size: 40 };
    for topic in ["ours", "javas"] {
        kafka.topic(topic, 7, 1, &[]);
    }
    produce_all(kafka, "ours", &lines, &[]);
    foreign::java_write(kafka.bootstrap(), "javas", lines.keyed());
    let per_partition = |topic: &str| judge::read_topic(kafka.bootstrap(), topic).hashes();
    assert_eq!(per_partition("ours"), per_partition("javas"));
}

#[test]
fn what_java_wrote_is_what_tail_prints() {
    if !can_run("what_java_wrote_is_what_tail_prints", &[Need::Kafka]) {
        return;
    }
    let kafka = newest();
    let lines = Lines { count: 3_000, keys: 30, size: 120 };
    kafka.topic("tailed", 3, 1, &["compression.type=zstd"]);
    foreign::java_write(kafka.bootstrap(), "tailed", lines.keyed());
    let mut tail: Command = sordini_interop::sordini::sordini();
    tail.args(["tail", "-b", kafka.bootstrap(), "tailed", "--exit-at-end", "-K", "\t"]);
    let tail = process::run(&mut tail, Input::Nothing, Duration::from_secs(60)).ok();
    assert!(foreign::sorted_lines(&tail.stdout) == foreign::sorted_lines(&lines.keyed()), "{tail}");
}
