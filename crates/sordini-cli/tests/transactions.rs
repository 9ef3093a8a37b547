//! `produce --transaction`: a transaction's lines are in the topic together, or all in `--failed`.

mod support;

use std::io::Write;
use std::process::ChildStdin;

use support::{Desk, Running, lines, numbers, sorted, wait_for};

const ID: [&str; 2] = ["-X", "transactional.id=import"];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

/// What readers of this isolation level see of topic `t` now.
fn seen(desk: &Desk, address: &str, level: &str) -> Vec<Vec<u8>> {
    let args = ["tail", "t", "-b", address, "--exit-at-end", "--isolation", level];
    sorted(desk.run(&args).expect(0).lines())
}

/// A commit returns when the coordinator has decided; the markers that show it to readers follow.
fn becomes(desk: &Desk, address: &str, expected: &[Vec<u8>]) {
    wait_for("what is committed", || seen(desk, address, "read_committed") == expected);
}

/// The input's numbers as lines, sorted as text.
fn expected(numbers: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    sorted(numbers.into_iter().map(|number| number.to_string().into_bytes()).collect())
}

/// A run that has fifty lines in a transaction of topic `t`, and waits for more.
fn hold_open(desk: &Desk, address: &str, args: &[&str]) -> (Running, ChildStdin) {
    let mut running = desk.start(args);
    let mut input = running.stdin();
    input.write_all(numbers(50).as_bytes()).expect("it reads");
    input.flush().expect("it reads");
    wait_for("the lines", || {
        let read = desk.run(&["tail", "t", "-b", address, "--exit-at-end"]);
        read.code() == 0 && read.lines().len() == 50
    });
    (running, input)
}

#[test]
fn so_many_lines_make_a_transaction_and_the_last_one_has_fewer() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let to = ["-b", &broker.address, "--json", "--failed", "left"];
    let args = with(&["produce", "t", "in", "--transaction", "30"], &to);
    desk.write("in", numbers(100));
    let ended = desk.run(&with(&args, &ID)).expect(0);
    let summary = ended.json();
    assert_eq!(summary["transactions"]["committed"], 4, "{summary}");
    assert_eq!(summary["transactions"]["aborted"], 0, "{summary}");
    assert_eq!(summary["transactions"]["unknown"], 0, "{summary}");
    assert_eq!((&summary["delivered"], &summary["accepted"]), (&100.into(), &100.into()));
    becomes(&desk, &broker.address, &expected(0..100));
    assert_eq!(desk.read("left"), b"", "what is committed was taken out again");
}

#[test]
fn the_whole_input_is_in_the_topic_or_not_at_all() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let to = ["-b", &broker.address, "--json", "--failed", "left", "--from-json"];
    let args = with(&["produce", "t", "in", "--transaction", "all"], &to);
    let args = with(&args, &ID);
    let good = |number: usize| format!("{{\"value\":\"{number}\"}}\n");
    let mut input: String = (0..1000).map(good).collect();
    desk.write("in", &input);
    let summary = desk.run(&args).expect(0).json();
    assert_eq!(summary["transactions"]["committed"], 1, "{summary}");
    becomes(&desk, &broker.address, &expected(0..1000));

    input.push_str("no object\n");
    input.extend((0..10).map(good));
    desk.write("in", &input);
    let ended = desk.run(&args).expect_error(1, &["line 1001", "whole input"]);
    let summary = ended.json();
    assert_eq!(summary["transactions"]["aborted"], 1, "{summary}");
    assert_eq!(summary["delivered"], 0, "{summary}");
    assert_eq!(summary["failed"], 1000, "{summary}");
    assert_eq!(summary["rejected"], 11, "{summary}");
    assert_eq!(desk.read("left"), input.as_bytes(), "unchanged, and in order");
    becomes(&desk, &broker.address, &expected(0..1000));
}

#[test]
fn a_line_that_is_rejected_costs_its_transaction_and_no_other() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let line = |number: usize| match number {
        14 => "no object\n".to_owned(),
        number => format!("{{\"value\":\"{number}\"}}\n"),
    };
    desk.write("in", (0..30).map(line).collect::<String>());
    let to = ["-b", &broker.address, "--json", "--failed", "left", "--from-json"];
    let args = with(&["produce", "t", "in", "--transaction", "10"], &to);
    let summary = desk.run(&with(&args, &ID)).expect_error(1, &["line 15"]).json();
    // 0 to 9; 10 to 13 with the broken one; 15 to 24; 25 to 29.
    assert_eq!(summary["transactions"]["committed"], 3, "{summary}");
    assert_eq!(summary["transactions"]["aborted"], 1, "{summary}");
    assert_eq!((&summary["failed"], &summary["rejected"]), (&4.into(), &1.into()));
    assert_eq!(summary["complete"], true, "{summary}");
    assert_eq!(desk.read("left"), (10..15).map(line).collect::<String>().as_bytes());
    let visible = expected((0..10).chain(15..30));
    becomes(&desk, &broker.address, &visible);
}

#[test]
fn a_line_that_is_too_long_to_be_held_is_kept_whole_with_all_that_were_read() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let long = "b".repeat(2_500_000);
    let input = format!("a1\na2\n{long}\na3\n");
    desk.write("in", &input);
    let to = ["-b", &broker.address, "--json", "--failed", "left"];
    let args = with(&["produce", "t", "in", "--transaction", "all"], &to);
    let told = ["line 3", "max.request.size"];
    let summary = desk.run(&with(&args, &ID)).expect_error(1, &told).json();
    assert_eq!(summary["failed"], 2, "{summary}");
    // Reading stops there: the line behind may have been read by then, or not.
    let read = match summary["rejected"].as_u64() {
        Some(1) if summary["complete"] == false => input.trim_end_matches("a3\n"),
        Some(2) => &input,
        _ => panic!("{summary}"),
    };
    assert!(desk.read("left") == read.as_bytes(), "{} bytes", desk.read("left").len());
    assert!(seen(&desk, &broker.address, "read_uncommitted").len() <= 2);
}

#[test]
fn ctrl_c_aborts_the_open_transaction_and_hands_its_lines_back() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let to = ["-b", &broker.address, "--json", "--failed", "left"];
    let args = with(&["produce", "t", "--transaction", "all"], &to);
    let (mut running, input) = hold_open(&desk, &broker.address, &with(&args, &ID));
    assert!(seen(&desk, &broker.address, "read_committed").is_empty(), "it is open");
    running.signal("INT");
    let ended = running.end().expect(130);
    drop(input);
    let summary = ended.json();
    assert_eq!(summary["transactions"]["aborted"], 1, "{summary}");
    assert_eq!((&summary["failed"], &summary["complete"]), (&50.into(), &false.into()));
    assert_eq!(lines(&desk.read("left")).len(), 50);
    assert!(seen(&desk, &broker.address, "read_committed").is_empty());
    assert_eq!(seen(&desk, &broker.address, "read_uncommitted"), expected(0..50), "the default");
}

#[test]
fn an_offset_in_an_open_transaction_is_not_said_to_be_missing() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let b = broker.address.as_str();
    let args = ["produce", "t", "-b", b, "-p", "0", "--transaction", "all"];
    let (mut running, input) = hold_open(&desk, b, &with(&args, &ID));
    let from = ["tail", "t", "-b", b, "--partition", "0", "--from", "9", "--exit-at-end"];
    let committed = desk.run(&with(&from, &["--isolation", "read_committed"]));
    let told = ["can't be read at offset 9 yet", "before 0", "the last stable offset"];
    let committed = committed.expect_error(0, &told);
    assert!(committed.stdout().is_empty() && !committed.stderr().contains("no offset"));
    assert_eq!(desk.run(&from).expect(0).lines().len(), 41, "it is there");
    running.signal("INT");
    running.end().expect(130);
    drop(input);
}

#[test]
fn a_run_after_one_that_was_killed_aborts_what_that_had_open() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let to = ["-b", &broker.address, "--failed", "left"];
    let args = with(&["produce", "t", "--transaction", "all"], &to);
    let (running, _input) = hold_open(&desk, &broker.address, &with(&args, &ID));
    wait_for("the open transaction's lines in the file", || {
        desk.read("left") == numbers(50).as_bytes()
    });
    running.kill();
    assert_eq!(desk.read("left"), numbers(50).as_bytes());
    desk.write("in", "next\n");
    let args = ["produce", "t", "in", "--transaction", "all", "-b", &broker.address];
    desk.run(&with(&args, &ID)).expect(0);
    becomes(&desk, &broker.address, &[b"next".to_vec()]);
}

#[test]
fn two_runs_with_one_id_do_not_both_write() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let args = ["produce", "t", "--transaction", "all", "-b", &broker.address, "--failed", "left"];
    let (older, input) = hold_open(&desk, &broker.address, &with(&args, &ID));
    desk.write("in", "newer\n");
    let args = ["produce", "t", "in", "--transaction", "all", "-b", &broker.address];
    desk.run(&with(&args, &ID)).expect(0);
    drop(input);
    older.end().expect_error(1, &["transactional.id"]);
    assert_eq!(lines(&desk.read("left")).len(), 50);
    becomes(&desk, &broker.address, &[b"newer".to_vec()]);
}

#[test]
fn what_is_wrong_is_told_once_and_first() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    desk.write("in", "1\n");
    let to = ["-b", &broker.address];
    let produce = with(&["produce", "t", "in", "--transaction", "1"], &to);

    let ended = desk.run(&with(&with(&produce, &["-p", "99"]), &ID)).expect(1);
    let told = ended.stderr();
    let errors: Vec<&str> = told.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors.as_slice() else { panic!("{told}") };
    assert!(error.contains("partition 99 does not exist"), "{error}");
    assert!(error.contains("-p takes 0 to") && !error.contains("reading stopped"), "{error}");

    let late = with(&with(&produce, &ID), &["-X", "transaction.timeout.ms=900001"]);
    desk.run(&late).expect_error(2, &["=900001", "transaction.max.timeout.ms", "lower"]);

    let long = format!("transactional.id={}", "x".repeat(30_000));
    let ended = desk.run(&["produce", "t", "in", "-X", &long]).expect(2);
    assert!(ended.stderr().contains("(30000 bytes)") && ended.stderr().len() < 1000);

    for (option, value, allowed) in [
        ("--transaction", "-1", "from 1 up"),
        ("-p", "-1", "from 0 up"),
        ("--rate", "-1", "from 1 up"),
    ] {
        let ended = desk.run(&["produce", "t", "in", option, value]).expect(2);
        let told = ended.stderr();
        assert!(told.contains("'-1'") && told.contains(allowed), "{told}");
        assert!(!told.contains("-- -1"), "{told}");
    }
}

#[test]
fn a_file_that_lines_can_not_be_taken_out_of_again_is_refused() {
    let desk = Desk::new();
    desk.write("in", "1\n");
    let args = ["produce", "t", "in", "--transaction", "all", "--failed", "/dev/null"];
    desk.run(&with(&args, &ID)).expect_error(2, &["--failed /dev/null", "name a file"]);
}

#[test]
fn a_line_without_an_end_is_not_read_for_ever() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    // More than the 64 MiB after which a line is taken to have no end.
    let head = "1\n2\n";
    let input = [head.as_bytes(), &vec![b'y'; 70 << 20]].concat();
    let to = ["-b", &broker.address, "--json", "--failed", "left"];
    let plain = with(&["produce", "t"], &to);
    let whole = with(&with(&plain, &["--transaction", "all"]), &ID);
    for (args, kept) in [(plain, ""), (whole, head)] {
        let ended = desk.run_with(&args, &input);
        let ended = ended.expect_error(1, &["line 3 of stdin", "no end", "max.request.size"]);
        let summary = ended.json();
        assert_eq!((&summary["rejected"], &summary["complete"]), (&1.into(), &false.into()));
        let left = desk.read("left");
        assert!(left.starts_with(format!("{kept}yyyy").as_bytes()), "{kept:?}");
        let read = left.len() - kept.len();
        assert!((64 << 20..70 << 20).contains(&read), "{read} bytes");
    }
}
