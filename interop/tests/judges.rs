//! The judges themselves: they find real Kafka sound, and they find what is not.

use std::time::Duration;

use sordini_interop::kafka::{Kafka, VERSIONS};
use sordini_interop::lines::Lines;
use sordini_interop::process::Input;
use sordini_interop::{Need, can_run, foreign, judge, transactions};

#[test]
fn judges_accept_what_java_wrote_and_find_a_planted_fault() {
    if !can_run("judges", &[Need::Kafka]) {
        return;
    }
    let kafka = Kafka::up(VERSIONS[0], 1, &[]);
    let lines = Lines { count: 3_000, keys: 7, size: 100 };
    kafka.topic("good", 3, 1, &[]);
    foreign::java_write(kafka.bootstrap(), "good", lines.keyed());
    judge::read_topic(kafka.bootstrap(), "good").assert_exactly(&lines);

    // The same lines with one twice, one missing and two exchanged.
    let mut bad: Vec<Vec<u8>> =
        lines.keyed().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    bad[70] = bad[63].clone();
    bad.swap(700, 707);
    foreign::java_write(kafka.bootstrap(), "bad", bad.concat());
    let verdict = judge::read_topic(kafka.bootstrap(), "bad");
    assert_eq!(verdict.number("duplicate_values"), 1);
    assert!(verdict.number("out_of_order") >= 2, "{verdict:?}");
    assert!(std::panic::catch_unwind(|| verdict.assert_exactly(&lines)).is_err());

    kafka.stop(1);
    let dumps = judge::dump_topic(&kafka.data(1), "good", judge::ALL_FILES);
    judge::assert_stored_as(&dumps, "none");
    torn_logs_are_found(&kafka);
}

fn torn_logs_are_found(kafka: &Kafka) {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let folder = copy.path().join("good-0");
    std::fs::create_dir(&folder).expect("a new folder");
    let name = "00000000000000000000.log";
    let from = (0..3).map(|n| kafka.data(1).join(format!("good-{n}")).join(name));
    let log = from.map(|path| std::fs::read(path).expect("a log")).find(|log| log.len() > 300);
    let mut log = log.expect("a partition with records");
    log[200] ^= 1;
    log.extend_from_slice(b"torn");
    std::fs::write(folder.join(name), log).expect("written");
    let dumps = judge::dump_topic(copy.path(), "good", judge::LOGS);
    assert!(dumps[0].unsound().is_some(), "{}", dumps[0].text);
}

#[test]
fn foreign_clients_pass_against_real_kafka() {
    let needs = [Need::Kafka, Need::Kcat, Need::Go];
    if !can_run("foreign_clients_pass_against_real_kafka", &needs) {
        return;
    }
    // What is asked of the embedded broker elsewhere is asked of Kafka here: a failure there is
    // the broker's then, not the test's.
    let kafka = Kafka::up(VERSIONS[0], 1, &[]);
    foreign::write_and_read_with_all(kafka.bootstrap(), |topic, codec| {
        judge::assert_stored_as(&judge::dump_topic(&kafka.data(1), topic, judge::LOGS), codec);
    });
    foreign::kgo_tests(kafka.bootstrap());
}

#[test]
fn foreign_transactions_pass_against_real_kafka() {
    let needs = [Need::Kafka, Need::Go, Need::Python];
    if !can_run("foreign_transactions_pass_against_real_kafka", &needs) {
        return;
    }
    let kafka = Kafka::up(VERSIONS[0], 1, &[]);
    transactions::written_and_read_by_all(kafka.bootstrap(), |topic| kafka.topic(topic, 3, 1, &[]));
}

#[test]
fn a_program_that_hangs_is_killed_at_its_deadline() {
    let mut sleep = std::process::Command::new("sleep");
    let finished =
        sordini_interop::process::run(sleep.arg("600"), Input::Nothing, Duration::from_millis(100));
    assert_eq!(finished.status, None);
}
