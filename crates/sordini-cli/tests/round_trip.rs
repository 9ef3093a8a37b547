//! What goes in by `produce` comes out by `tail`.

mod support;

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Value;
use support::{Desk, Lines, lines, numbers, read_until, sorted};

/// `tail TOPIC --exit-at-end` and `more`.
fn tail(desk: &Desk, topic: &str, more: &[&str]) -> Vec<Vec<u8>> {
    let mut args = vec!["tail", topic, "--exit-at-end"];
    args.extend_from_slice(more);
    desk.run(&args).expect(0).lines()
}

fn tail_json(desk: &Desk, topic: &str) -> Vec<Value> {
    let all = tail(desk, topic, &["--json"]);
    all.iter().map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

#[test]
fn lines_come_back_from_three_partitions_each_in_order_after_a_restart_too() {
    let desk = Desk::new();
    let events: String =
        (0..20_000).map(|n| format!("{{\"seq\":{n},\"page\":\"/items/{}\"}}\n", n % 77)).collect();
    desk.write("clicks.jsonl", &events);
    let summary = desk.run(&["produce", "clicks", "clicks.jsonl", "--json"]).expect(0).json();
    assert_eq!((&summary["accepted"], &summary["delivered"]), (&20_000.into(), &20_000.into()));
    assert_eq!(summary["complete"], true);
    let expected = sorted(lines(events.as_bytes()));
    // Each command opens the folder anew.
    for _ in 0..2 {
        assert_eq!(sorted(tail(&desk, "clicks", &[])), expected);
    }
    let mut filled = 0;
    for partition in ["0", "1", "2"] {
        let of = tail(&desk, "clicks", &["--partition", partition]);
        let seq = |line: &[u8]| {
            let event: Value = serde_json::from_slice(line).expect("an event");
            event["seq"].as_u64().expect("a number")
        };
        assert!(of.is_sorted_by_key(|line| seq(line)), "partition {partition} is out of order");
        filled += usize::from(!of.is_empty());
    }
    assert_eq!(filled, 3, "the lines are spread over all partitions");
}

#[test]
fn each_key_stays_in_one_partition_and_in_order() {
    let desk = Desk::new();
    let input: String = (0..9_000).map(|n| format!("user-{}\t{n}\n", n * 7 % 101)).collect();
    desk.write("keyed.tsv", &input);
    desk.run(&["produce", "keyed", "keyed.tsv", "-K", "\\t"]).expect(0);
    assert_eq!(sorted(tail(&desk, "keyed", &["-K", "\\t"])), sorted(lines(input.as_bytes())));
    let mut last: BTreeMap<String, (i64, u64)> = BTreeMap::new();
    for record in tail_json(&desk, "keyed") {
        let key = record["key"].as_str().expect("a key").to_owned();
        let number = record["value"].as_str().expect("a value").parse().expect("a number");
        let partition = record["partition"].as_i64().expect("a partition");
        if let Some((known, before)) = last.insert(key.clone(), (partition, number)) {
            assert_eq!(known, partition, "{key} changed its partition");
            assert!(before < number, "{key} is out of order");
        }
    }
    assert_eq!(last.len(), 101);
}

#[test]
fn every_byte_but_the_line_feed_is_the_records() {
    let desk = Desk::new();
    let input =
        b"\xff\xfe not UTF-8\r\n\r\n\n  spaces \t\n\0\n\xe2\x82\xac\nno line feed at the end";
    desk.write("bytes", input);
    desk.run(&["produce", "bytes", "bytes", "-p", "0"]).expect(0);
    let mut expected = input.to_vec();
    expected.push(b'\n');
    assert_eq!(tail(&desk, "bytes", &[]), lines(&expected));
    // The same through a pipe, and split at a separator of several bytes.
    desk.run_with(&["produce", "piped", "-p", "0"], input).expect(0);
    assert_eq!(tail(&desk, "piped", &[]), lines(&expected));
    desk.run_with(&["produce", "split", "-p", "0", "-K", "\\xe2\\x82"], input).expect(0);
    assert_eq!(tail(&desk, "split", &["-K", "\\xe2\\x82"]), lines(&expected));
}

#[test]
fn an_empty_value_is_empty_and_with_tombstones_it_is_null() {
    let desk = Desk::new();
    let input = b"a:\n\nb:1\n";
    desk.run_with(&["produce", "plain", "-p", "0", "-K", ":"], input).expect(0);
    desk.run_with(&["produce", "gone", "-p", "0", "-K", ":", "--tombstones"], input).expect(0);
    let values = |topic| -> Vec<(Value, Value)> {
        let records = tail_json(&desk, topic).into_iter();
        records.map(|record| (record["key"].clone(), record["value"].clone())).collect()
    };
    let null = Value::Null;
    let expected = |empty: Value| {
        vec![("a".into(), empty.clone()), (null.clone(), empty), ("b".into(), Value::from("1"))]
    };
    assert_eq!(values("plain"), expected("".into()));
    assert_eq!(values("gone"), expected(null.clone()));
}

#[test]
fn headers_are_on_each_record_in_their_order() {
    let desk = Desk::new();
    let args = ["produce", "h", "-H", "a=1", "-H", "b=x=y", "-H", "a=", "-p", "2"];
    desk.run_with(&args, b"v\nw\n").expect(0);
    let records = tail_json(&desk, "h");
    let headers = serde_json::json!([
        {"key": "a", "value": "1"}, {"key": "b", "value": "x=y"}, {"key": "a", "value": ""}
    ]);
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!((&record["headers"], &record["partition"]), (&headers, &2.into()));
    }
}

#[test]
fn what_tail_prints_as_json_is_produced_again_as_it_was() {
    let desk = Desk::new();
    let args = ["produce", "first", "-K", ":", "--tombstones", "-H", "h=1"];
    desk.run_with(&args, b"k:v\nk\xff:\xfe\ngone:\nno key\n:empty key\n").expect(0);
    let printed = desk.run(&["tail", "first", "--exit-at-end", "--json"]).expect(0);
    desk.write("first.json", printed.stdout());
    desk.run(&["produce", "second", "--from-json", "first.json"]).expect(0);
    let again = desk.run(&["tail", "second", "--exit-at-end", "--json"]).expect(0);
    // Offsets, partitions and timestamps too: each partition is replayed in its order.
    assert_eq!(sorted(again.lines()), sorted(printed.lines()));
    assert_eq!(again.lines().len(), 5);
}

#[test]
fn a_json_line_that_is_no_record_is_rejected_and_the_others_are_not() {
    let desk = Desk::new();
    let input =
        b"{\"value\":\"1\"}\nnot JSON\n{\"value\":\"2\"}\n{\"key\":\"k\"}\n{\"value\":\"3\"}\n\
        {\"value\":\"4\",\"ttl\":9}\n";
    let stamped = "{\"value\":\"a\"}\n{\"value\":\"b\",\"timestamp\":-5}\n{\"value\":\"c\"}\n";
    let args = ["produce", "stamped", "--from-json", "--json", "--failed", "early"];
    let summary = desk.run_with(&args, stamped.as_bytes()).expect(1).json();
    assert_eq!((&summary["delivered"], &summary["rejected"]), (&2.into(), &1.into()), "{summary}");
    assert_eq!(lines(&desk.read("early")).len(), 1, "a line with a bad time concerns itself alone");
    let args = ["produce", "j", "--from-json", "--json", "--failed", "left", "-p", "0"];
    let ended =
        desk.run_with(&args, input).expect_error(1, &["line 2 of stdin", "line 4", "line 6"]);
    assert!(ended.stderr().contains("unknown field `ttl`"), "{}", ended.stderr());
    let left = "not JSON\n{\"key\":\"k\"}\n{\"value\":\"4\",\"ttl\":9}\n";
    assert_eq!(desk.read("left"), left.as_bytes());
    let summary = ended.json();
    let counts = ["accepted", "delivered", "rejected"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(3), Some(3), Some(3)]);
    assert_eq!(tail(&desk, "j", &[]), [b"1", b"2", b"3"].map(|value| value.to_vec()));
}

#[test]
fn a_time_that_the_topic_does_not_take_is_told_with_how_to_fail_its_line_alone() {
    let desk = Desk::new();
    let late = "{\"value\":\"2\",\"timestamp\":9223372036854775807}\n";
    let input = format!("{{\"value\":\"1\"}}\n{late}{{\"value\":\"3\"}}\n");
    let args = ["produce", "t", "--from-json", "--failed", "left", "-p", "0"];
    let told = ["INVALID_TIMESTAMP", "message.timestamp.after.max.ms", "-X batch.size=0"];
    desk.run_with(&args, input.as_bytes()).expect_error(1, &told);
    assert_eq!(lines(&desk.read("left")).len(), 3, "brokers refuse whole batches");
    let alone = [&args[..], &["-X", "batch.size=0"]].concat();
    desk.run_with(&alone, input.as_bytes()).expect(1);
    assert_eq!(desk.read("left"), late.as_bytes(), "as the advice says");
}

#[test]
fn files_follow_each_other_and_a_dash_is_stdin() {
    let desk = Desk::new();
    desk.write("one", "1\n2");
    desk.write("three", "4\n");
    desk.run_with(&["produce", "t", "-p", "0", "one", "-", "three"], b"3\n").expect(0);
    assert_eq!(tail(&desk, "t", &[]), [b"1", b"2", b"3", b"4"].map(|value| value.to_vec()));
}

#[test]
fn tail_begins_where_it_is_told_to() {
    let desk = Desk::new();
    desk.run_with(&["produce", "t", "-p", "1"], numbers(10).as_bytes()).expect(0);
    let from = |from: &str| tail(&desk, "t", &["--from", from, "--partition", "1"]);
    assert_eq!(from("7"), [b"7", b"8", b"9"].map(|value| value.to_vec()));
    assert_eq!(from("start").len(), 10);
    assert_eq!(from("end").len(), 0);
    assert_eq!(tail(&desk, "t", &["--partition", "0"]).len(), 0);
    let beyond = desk.run(&["tail", "t", "--from", "99", "--partition", "1", "--exit-at-end"]);
    let beyond = beyond.expect_error(0, &["partition 1 has no offset 99 yet", "ends before 10"]);
    assert_eq!(beyond.stdout(), b"");
    let next = desk.run(&["tail", "t", "--from", "10", "--partition", "1", "--exit-at-end"]);
    assert_eq!(next.expect(0).stderr(), "", "the next record's offset is no mistake");
}

#[test]
fn tail_follows_what_comes() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let b = broker.address.as_str();
    desk.run(&["topic", "create", "live", "-b", b]).expect(0);
    let mut tail = desk.start(&["tail", "live", "-b", b]);
    let stdout = Lines::of(tail.stdout());
    desk.run_with(&["produce", "live", "-b", b], b"first\n").expect(0);
    desk.run_with(&["produce", "live", "-b", b], b"second\n").expect(0);
    stdout.next_with("second");
    tail.signal("INT");
    tail.end().expect(130);
    broker.terminate().expect(0);
}

#[test]
fn a_record_over_the_limit_is_rejected_and_reading_goes_on() {
    let desk = Desk::new();
    let long = "x".repeat(3000);
    // Longer than what is read at a time, and more than any record may be.
    let huge = "y".repeat(1_000_000);
    let input = format!("a\n{long}\nb\n{huge}\nc\n");
    let limits = ["-X", "max.request.size=2000", "-X", "batch.size=1000"];
    let mut args = vec!["produce", "t", "-p", "0", "--json", "--failed", "left"];
    args.extend_from_slice(&limits);
    let words = ["line 2 of stdin", "line 4 of stdin", "max.request.size"];
    let ended = desk.run_with(&args, input.as_bytes()).expect_error(1, &words);
    let summary = ended.json();
    let counts = ["accepted", "delivered", "rejected"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(3), Some(3), Some(2)]);
    assert_eq!(summary["complete"], true);
    assert!(desk.read("left") == format!("{long}\n{huge}\n").into_bytes());
    assert_eq!(tail(&desk, "t", &[]), [b"a", b"b", b"c"].map(|value| value.to_vec()));
}

#[test]
fn every_codec_can_be_read_back() {
    let desk = Desk::new();
    let input = numbers(5000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let setting = format!("compression.type={codec}");
        desk.run_with(&["produce", codec, "-X", &setting], input.as_bytes()).expect(0);
        assert_eq!(sorted(tail(&desk, codec, &[])), sorted(lines(input.as_bytes())), "{codec}");
    }
}

#[test]
fn a_closed_pipe_ends_tail_quietly() {
    let desk = Desk::new();
    desk.run_with(&["produce", "t"], numbers(200_000).as_bytes()).expect(0);
    let mut tail = desk.start(&["tail", "t"]);
    // Reads one line and closes the pipe; more than a pipe holds is still to come.
    read_until(tail.stdout(), |_| true);
    let ended = tail.end().expect(0);
    assert_eq!(ended.stderr(), "");
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_tail_ends_when_its_pipe_is_closed() {
    let desk = Desk::new();
    desk.run_with(&["produce", "t"], b"1\n").expect(0);
    let mut tail = desk.start(&["tail", "t"]);
    // Reads the only line and closes the pipe; no further line will ever be written to it.
    read_until(tail.stdout(), |_| true);
    let ended = tail.end().expect(0);
    assert_eq!(ended.stderr(), "");
}

#[test]
fn a_pipe_is_delivered_as_it_comes() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let b = broker.address.as_str();
    let mut produce = desk.start(&["produce", "t", "-b", b]);
    let mut input = produce.stdin();
    input.write_all(b"early\n").expect("it reads");
    desk.run(&["topic", "create", "t", "-b", b]);
    let mut tail = desk.start(&["tail", "t", "-b", b]);
    // The pipe stays open: the line must not wait for its end.
    read_until(tail.stdout(), |line| line == "early");
    drop(input);
    produce.end().expect(0);
}

#[test]
fn what_is_done_to_a_topic_is_told_as_json_to_who_wants_that() {
    let desk = Desk::new();
    for (verb, done) in [("create", "created"), ("delete", "deleted")] {
        let told = desk.run(&["topic", verb, "t", "--json"]).expect(0).json();
        assert_eq!(told, serde_json::json!({ "name": "t", done: true }));
    }
}

#[test]
fn topics_are_made_listed_described_and_deleted() {
    let desk = Desk::new();
    let create = ["topic", "create", "t", "--partitions", "5", "--set", "retention.ms=1000000"];
    desk.run(&create).expect(0);
    desk.run(&create).expect_error(1, &["TOPIC_ALREADY_EXISTS"]);
    desk.run_with(&["produce", "t", "-p", "4"], b"1\n2\n").expect(0);
    desk.run(&["topic", "create", "a"]).expect(0);
    assert_eq!(desk.run(&["topic", "list"]).expect(0).stdout(), b"a\nt\n");
    let described = desk.run(&["topic", "describe", "t", "--json"]).expect(0).json();
    let partitions = described["partitions"].as_array().expect("partitions");
    assert_eq!(partitions.len(), 5);
    assert_eq!((&partitions[4]["start"], &partitions[4]["end"]), (&0.into(), &2.into()));
    assert_eq!(described["settings"]["retention.ms"], "1000000");
    let text = desk.run(&["topic", "describe", "t"]).expect(0);
    assert!(String::from_utf8_lossy(text.stdout()).contains("retention.ms=1000000"));
    desk.run(&["topic", "delete", "t"]).expect(0);
    assert_eq!(desk.run(&["topic", "list"]).expect(0).stdout(), b"a\n");
    desk.run(&["topic", "describe", "t"]).expect_error(1, &["\"t\" does not exist"]);
    desk.run(&["topic", "delete", "t"]).expect_error(1, &["\"t\" does not exist"]);
}

#[test]
fn perf_measures_what_it_delivers() {
    let desk = Desk::new();
    let broker = desk.serve(&["--partitions", "2"]);
    let args = ["perf", "-b", &broker.address, "bench", "--records", "3000", "--size", "50"];
    let ended = desk.run(&[&args[..], &["--json"]].concat()).expect(0);
    let measured = ended.json();
    assert_eq!((&measured["records"], &measured["delivered"]), (&3000.into(), &3000.into()));
    for name in ["seconds", "records_per_second", "mb_per_second", "records_per_batch"] {
        assert!(measured[name].as_f64().expect(name) > 0.0, "{name}");
    }
    let latency = &measured["latency_us"];
    let at = |name: &str| latency[name].as_u64().expect("microseconds");
    assert!(at("samples") > 0 && at("p50") > 0);
    assert!(at("p50") <= at("p95") && at("p95") <= at("p99") && at("p99") <= at("p99.9"));
    assert!(at("p99.9") <= at("max"));
    let text = desk.run(&[&args[..], &["--rate", "5000"]].concat()).expect(0);
    assert!(String::from_utf8_lossy(text.stdout()).contains("p99.9"));
    let read = desk.run(&["tail", "bench", "-b", &broker.address, "--exit-at-end"]).expect(0);
    assert_eq!(read.lines().len(), 6000);
    assert!(read.lines().iter().all(|line| line.len() == 50));
}

#[test]
fn what_a_log_lost_between_two_runs_is_told_and_its_offsets_are_not_given_out_again() {
    let log = "sordini-data/t-0/00000000000000000000.log";
    // A batch each; the last one is torn, wrong, or gone, or all are.
    type Spoil = fn(&mut Vec<u8>, usize);
    let cases: [(Spoil, usize, &[&str]); 4] = [
        (|log, size| log.truncate(3 * size - 9), 2, &[]),
        (|log, size| log[3 * size - 2] ^= 1, 2, &["t-0/0", "is damaged at byte", "from offset 2"]),
        (|log, size| log.truncate(2 * size), 2, &[]),
        (|log, _| log.clear(), 0, &[]),
    ];
    for (spoil, kept, more) in cases {
        let desk = Desk::new();
        desk.run(&["topic", "create", "t", "--partitions", "1"]).expect(0);
        for line in [b"a\n", b"b\n", b"c\n"] {
            desk.run_with(&["produce", "t"], line).expect(0);
        }
        let mut bytes = desk.read(log);
        let size = bytes.len() / 3;
        spoil(&mut bytes, size);
        desk.write(log, &bytes);
        let read = desk.run(&["tail", "t", "--exit-at-end"]).expect(0);
        assert_eq!(read.lines().len(), kept);
        let lost = format!("the records of {} offsets, {kept} to 2, were there", 3 - kept);
        for word in [&[lost.as_str(), "from a copy", "not given out again"], more].concat() {
            assert!(read.stderr().contains(word), "{word:?} is not in: {}", read.stderr());
        }
        assert!(!read.stderr().contains("cut short"), "{}", read.stderr());
        // It is told once.
        let next = desk.run_with(&["produce", "t"], b"d\n").expect(0);
        assert!(!next.stderr().contains("warning"), "{}", next.stderr());
        let offsets: Vec<Value> =
            tail_json(&desk, "t").iter().map(|record| record["offset"].clone()).collect();
        let expected: Vec<Value> = (0..kept).chain([3]).map(Value::from).collect();
        assert_eq!(offsets, expected);
    }
}
