//! The embedded broker: by the command line alone, and as foreign clients see it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use sordini_interop::lines::Lines;
use sordini_interop::process::{self, Finished, Input};
use sordini_interop::sordini::{Serve, produce, sordini, summary};
use sordini_interop::{Need, can_run, foreign, judge, root, transactions};

const DEADLINE: Duration = Duration::from_secs(120);

fn in_folder(folder: &Path, args: &[&str]) -> Finished {
    let mut command = sordini();
    command.current_dir(folder).args(args);
    process::run(&mut command, Input::Nothing, DEADLINE).ok()
}

fn lines_of(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// The lines' places in the file. Equal lines would make an order that cannot be seen.
fn places(text: &[u8]) -> HashMap<&[u8], usize> {
    let places: HashMap<&[u8], usize> =
        lines_of(text).into_iter().enumerate().map(|(place, line)| (line, place)).collect();
    assert_eq!(places.len(), lines_of(text).len(), "the example repeats a line");
    places
}

#[test]
fn two_commands_without_a_broker_keep_every_event_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = root().join("examples/clicks.jsonl");
    let events = fs::read(&file).expect("the example is there");
    let written =
        in_folder(folder.path(), &["produce", "--json", "clicks", file.to_str().expect("UTF-8")]);
    let count = lines_of(&events).len() as u64;
    assert!(count >= 10_000);
    assert_eq!(summary(&written)["delivered"].as_u64(), Some(count), "{written}");

    // Each tail starts the embedded broker anew on the folder.
    for _ in 0..2 {
        let tail = in_folder(folder.path(), &["tail", "clicks", "--exit-at-end"]);
        assert!(foreign::sorted_lines(&tail.stdout) == foreign::sorted_lines(&events));
    }
    let places = places(&events);
    for partition in ["0", "1", "2"] {
        let args = ["tail", "clicks", "--exit-at-end", "--partition", partition];
        let tail = in_folder(folder.path(), &args);
        let of_file: Vec<usize> = lines_of(&tail.stdout).iter().map(|line| places[line]).collect();
        assert!(!of_file.is_empty(), "partition {partition} is empty");
        assert!(of_file.is_sorted(), "partition {partition} is not in the order of the file");
    }
}

#[test]
fn a_keyed_file_comes_back_with_each_key_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = root().join("examples/clicks-keyed.tsv");
    let events = fs::read(&file).expect("the example is there");
    let file = file.to_str().expect("UTF-8");
    drop(in_folder(folder.path(), &["produce", "-K", "\t", "clicks", file]));
    let tail = in_folder(folder.path(), &["tail", "clicks", "--exit-at-end", "-K", "\t"]);
    assert!(foreign::sorted_lines(&tail.stdout) == foreign::sorted_lines(&events));
    let places = places(&events);
    let mut last_of_key: HashMap<&[u8], usize> = HashMap::new();
    for line in lines_of(&tail.stdout) {
        let key = line.split(|byte| *byte == b'\t').next().expect("a key");
        let place = places[line];
        if let Some(last) = last_of_key.insert(key, place) {
            assert!(last < place, "{} is out of order", String::from_utf8_lossy(line));
        }
    }
}

#[test]
fn foreign_clients_find_a_broker_and_dump_log_segments_finds_its_files_sound() {
    let needs = [Need::Kafka, Need::Kcat, Need::Go];
    if !can_run("foreign_clients_find_a_broker", &needs) {
        return;
    }
    let mut serve = Serve::up(&["--partitions", "1"]);
    let data = serve.data().to_owned();
    foreign::write_and_read_with_all(&serve.bootstrap(), |topic, codec| {
        judge::assert_stored_as(&judge::dump_topic(&data, topic, judge::LOGS), codec);
    });
    drop(serve.stop());
    for topic in ["by-java", "by-kcat-zstd-23", "by-franz-lz4"] {
        judge::assert_sound(&judge::dump_topic(&data, topic, judge::ALL_FILES));
    }
}

#[test]
fn franz_gos_own_tests_pass() {
    if !can_run("franz_gos_own_tests_pass", &[Need::Go]) {
        return;
    }
    let serve = Serve::up(&[]);
    foreign::kgo_tests(&serve.bootstrap());
}

#[test]
fn java_reads_every_codec_that_sordini_wrote_to_its_own_broker() {
    if !can_run("java_reads_every_codec", &[Need::Kafka]) {
        return;
    }
    let mut serve = Serve::up(&[]);
    let topics = ["none", "gzip", "snappy", "lz4", "zstd"];
    let lines = Lines { count: 20_000, keys: 50, size: 200 };
    for codec in topics {
        let setting = format!("compression.type={codec}");
        let mut command = produce(&serve.bootstrap(), codec, &["-K", "\t", "-X", &setting]);
        drop(process::run(&mut command, Input::Bytes(lines.keyed()), DEADLINE).ok());
        judge::read_topic(&serve.bootstrap(), codec).assert_exactly(&lines);
    }
    drop(serve.stop());
    for codec in topics {
        let dumps = judge::dump_topic(serve.data(), codec, judge::ALL_FILES);
        judge::assert_stored_as(&dumps, codec);
    }
}

#[test]
fn foreign_transactions_find_a_coordinator() {
    let needs = [Need::Kafka, Need::Go, Need::Python];
    if !can_run("foreign_transactions_find_a_coordinator", &needs) {
        return;
    }
    for nodes in [&["--partitions", "3"][..], &["--partitions", "3", "--nodes", "3"]] {
        let mut serve = Serve::up(nodes);
        transactions::written_and_read_by_all(&serve.bootstrap(), |topic| {
            let mut create = sordini();
            create.args(["topic", "create", "-b", &serve.bootstrap(), topic]);
            drop(process::run(create.args(["--partitions", "3"]), Input::Nothing, DEADLINE).ok());
        });
        drop(serve.stop());
    }
}
