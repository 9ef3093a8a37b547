//! What goes wrong is said, told apart by the exit code, and loses nothing.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use support::{Desk, Lines, lines, numbers, sorted, text, wait_for};

/// Settings that give up soon.
const HASTE: [&str; 6] =
    ["-X", "max.block.ms=1500", "-X", "delivery.timeout.ms=2000", "-X", "request.timeout.ms=1000"];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

/// An address where `answer` is the answer to whatever is asked.
fn stranger(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 512];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer);
            // Held open: the answer itself must give it away.
            thread::spawn(move || stream.read(&mut [0; 512]));
        }
    });
    address
}

/// Waits until topic `t` has `count` lines.
fn wait_for_lines(desk: &Desk, address: &str, count: usize) {
    wait_for("the lines", || {
        let read = desk.run(&["tail", "t", "-b", address, "--exit-at-end"]);
        read.code() == 0 && read.lines().len() == count
    });
}

#[test]
fn usage_and_settings_are_exit_code_2_and_say_the_remedy() {
    let desk = Desk::new();
    desk.write("in", "1\n");
    desk.write("bad.properties", "linger.mss=5\n");
    desk.write("binary", b"\x7fELF\xff\xfe");
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["Usage"]),
        (&["tail", "t"], &["no folder sordini-data", "sordini produce"]),
        (&["topic", "list"], &["no folder sordini-data"]),
        (&["produce"], &["TOPIC"]),
        (&["produce", "t", "in", "-X", "linger.mss=5"], &["linger.mss", "did you mean linger.ms"]),
        (&["produce", "t", "in", "-X", "linger.ms=soon"], &["linger.ms=soon"]),
        (&["produce", "t", "in", "-X", "acks"], &["NAME=VALUE"]),
        (
            &["produce", "t", "in", "-X", "acks=1", "-X", "enable.idempotence=true"],
            &["acks=1", "enable.idempotence=true"],
        ),
        (&["produce", "t", "in", "-X", "security.protocol=SSL"], &["security.protocol=SSL"]),
        (&["produce", "t", "in", "--transaction", "all"], &["-X transactional.id=ID"]),
        (&["produce", "t", "in", "-X", "transactional.id=x"], &["=x", "--transaction"]),
        (&["produce", "t", "in", "--transaction", "0"], &["--transaction", "all", "from 1 up"]),
        (
            &[
                "produce",
                "t",
                "in",
                "--transaction",
                "9",
                "-X",
                "transactional.id=x",
                "-X",
                "acks=1",
            ],
            &["acks=1", "transactional.id=x", "leave acks out"],
        ),
        (&["produce", "t", "in", "--config", "bad.properties"], &["bad.properties", "linger.ms"]),
        (&["produce", "t", "in", "--config", "none.properties"], &["none.properties"]),
        (&["produce", "t", "nothing-here"], &["nothing-here", "there is no such file"]),
        (&["produce", "t", "in", "--failed", "none/left"], &["--failed none/left", "folder none"]),
        (&["produce", "t", "in", "--data", "in"], &["--data in is no folder"]),
        (&["tail", "t", "--data", "in"], &["--data in is no folder"]),
        (&["serve", "--listen", "127.0.0.1:0", "--data", "in"], &["--data in is no folder"]),
        (&["serve", "--listen", "foo"], &["'foo'", "HOST:PORT"]),
        (&["serve", "--listen", "h:70000"], &["'h:70000'", "65535"]),
        (&["produce", "t", "in", "-p", "abc"], &["'abc'", "from 0 up", "topic describe"]),
        (&["produce", "t", "in", "-p", "-1"], &["'-1'", "from 0 up"]),
        (&["tail", "t", "-p", "-1"], &["'-1'", "from 0 up"]),
        (&["tail", "t", "--from", "-1"], &["'-1'", "start", "end", "an offset"]),
        (&["produce", "t", "in", "--config", "binary"], &["--config binary", "no text"]),
        (&["produce", "t", "."], &["can't be read"]),
        (&["produce", "no/topic", "in"], &["no/topic"]),
        (&["produce", "t", "in", "-K", ""], &["separator is empty"]),
        (&["produce", "t", "in", "-p", "-1"], &["-1"]),
        (&["produce", "t", "in", "--rate", "0"], &["--rate"]),
        (&["produce", "t", "in", "-b", "nowhere"], &["nowhere", "host:port"]),
        (&["produce", "t", "in", "-b", "127.0.0.1:1", "--data", "d"], &["--data"]),
        (&["produce", "t", "in", "--failed", "in"], &["--failed", "also read"]),
        (&["produce", "t", "in", "--failed", "no/folder"], &["--failed no/folder"]),
        (&["tail", "t", "-X", "fetch.max.byte=1"], &["did you mean fetch.max.bytes"]),
        (&["tail", "t", "--from", "yesterday"], &["yesterday"]),
        (&["perf", "t", "--records", "1", "--size", "1"], &["-b HOST:PORT", "bootstrap.servers"]),
        (
            &["perf", "t", "-b", "h:1", "--records", "1", "--size", "18446744073709551615"],
            &["--size", "18446744073709551615", "1073741824"],
        ),
        (&["serve", "--listen", "nonsense"], &["nonsense"]),
        (&["serve", "--partitions", "0"], &["--partitions"]),
    ];
    for (args, words) in cases {
        let ended = desk.run(args);
        assert_eq!(ended.code(), 2, "{args:?}: {}", ended.stderr());
        for word in *words {
            assert!(ended.stderr().contains(word), "{args:?}: {word:?} not in {}", ended.stderr());
        }
    }
    assert_eq!(desk.read("in"), b"1\n", "nothing may have been written over");
}

#[test]
fn help_is_exit_code_0_and_teaches() {
    let desk = Desk::new();
    for command in ["produce", "tail", "topic", "serve", "perf"] {
        let help = desk.run(&[command, "--help"]).expect(0);
        let help = String::from_utf8_lossy(help.stdout()).into_owned();
        assert!(help.contains("Examples:") && help.contains("xit code"), "{command}: {help}");
    }
}

#[test]
fn a_folder_that_another_broker_has_is_exit_code_2() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    for args in [
        &["produce", "t", "--data", "data"][..],
        &["tail", "t", "--data", "data"],
        &["topic", "create", "t", "--data", "data"],
        &["serve", "--listen", "127.0.0.1:0", "--data", "data"],
    ] {
        desk.run(args).expect_error(2, &["data", "in use"]);
    }
    broker.terminate().expect(0);
    desk.run(&["topic", "create", "t", "--data", "data"]).expect(0);
}

#[test]
fn what_an_earlier_run_could_not_deliver_outlives_a_run_that_does_not_begin() {
    let desk = Desk::new();
    desk.write("left", "from yesterday\n");
    let broker = desk.serve(&[]);
    let args = ["produce", "t", "--failed", "left", "--data"];
    let ended = desk.run_with(&with(&args, &["data"]), b"1\n");
    ended.expect_error(2, &["in use", "`sordini serve`, talk to it: -b"]);
    desk.run_with(&with(&args, &["data", "-X", "acks=2"]), b"1\n").expect_error(2, &["acks=2"]);
    assert_eq!(desk.read("left"), b"from yesterday\n");
    // A run that begins has a list of its own.
    desk.run_with(&with(&args, &["other"]), b"1\n").expect(0);
    assert_eq!(desk.read("left"), b"");
    broker.terminate().expect(0);
    // What is no file has nothing to be emptied of.
    desk.run_with(&["produce", "t", "--failed", "/dev/null"], b"1\n").expect(0);
}

#[test]
fn why_a_record_was_not_delivered_is_said_once() {
    let desk = Desk::new();
    desk.run(&["topic", "create", "t", "--set", "max.message.bytes=500"]).expect(0);
    let ended = desk.run_with(&["produce", "t"], "x".repeat(1000).as_bytes());
    let words = ["error: 1 record was not delivered: record for t-", "raise the topic's max.mess"];
    let ended = ended.expect_error(1, &words);
    assert_eq!(ended.stderr().matches("MESSAGE_TOO_LARGE").count(), 1, "{}", ended.stderr());
    // Who asks for the log gets all of it.
    let ended = desk.run_with(&["produce", "t", "-v"], "x".repeat(1000).as_bytes());
    assert!(ended.stderr().matches("MESSAGE_TOO_LARGE").count() > 1, "{}", ended.stderr());
}

#[test]
fn a_line_over_the_limit_is_told_with_the_limit_and_the_others_are_delivered() {
    let desk = Desk::new();
    let input = format!("1\n{}\n2\n", "x".repeat(3000));
    let args = ["produce", "t", "-X", "max.request.size=2000", "--json"];
    let ended = desk.run_with(&args, input.as_bytes());
    let ended = ended.expect_error(1, &["line 2 of stdin", "2000 bytes", "max.request.size"]);
    assert_eq!(ended.json()["delivered"], 2);
    assert_eq!(ended.json()["rejected"], 1);
}

#[test]
fn a_folder_that_can_not_be_made_is_exit_code_2() {
    let desk = Desk::new();
    let file = desk.write("file", "");
    let inside = format!("{}/data", text(&file));
    let ended = desk.run(&["produce", "t", "--data", &inside]);
    let ended = ended.expect_error(2, &["can't be used", "file/data"]);
    assert!(!ended.stderr().contains("sordini serve"), "nobody serves it: {}", ended.stderr());
}

#[cfg(target_os = "linux")]
#[test]
fn what_stdout_does_not_take_is_an_error_and_no_success() {
    let desk = Desk::new();
    desk.run_with(&["produce", "t"], b"1\n").expect(0);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", "data"];
    for args in [
        &["help"][..],
        &["help", "tail"],
        &["--version"],
        &serve,
        &["serve", "--listen", "127.0.0.1:0", "--data", "nodes", "--nodes", "3"],
        &["topic", "list"],
        &["topic", "describe", "t"],
        &["tail", "t", "--exit-at-end"],
        &["sim", "--seeds", "1"],
    ] {
        desk.run_on_a_full_stdout(args).expect_error(1, &["stdout can't be written"]);
    }
}

#[test]
fn a_name_that_no_topic_can_have_makes_no_folder_and_no_file() {
    let desk = Desk::new();
    desk.write("in", "1\n");
    let long = "x".repeat(250);
    for name in ["bad name!", "", ".", "..", "a/b", "caf\u{e9}", &long] {
        let rule = ["1 to 249 ASCII letters", name];
        desk.run(&["produce", name, "in", "--failed", "left"]).expect_error(2, &rule);
        desk.run(&["topic", "create", name]).expect_error(2, &rule);
        desk.run(&["tail", name]).expect_error(2, &rule);
    }
    let left = std::fs::read_dir(desk.path(".")).expect("the folder");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["in"]);
}

#[test]
fn a_topics_setting_that_there_is_not_is_told_with_what_settings_look_like() {
    let desk = Desk::new();
    let refused = desk.run(&["topic", "create", "t", "--set", "foo=1"]);
    refused.expect_error(1, &["foo", "INVALID_CONFIG", "such as retention.ms=1000"]);
}

#[test]
fn listening_for_other_machines_needs_to_be_allowed() {
    let desk = Desk::new();
    let listen = ["serve", "--listen", "0.0.0.0:0", "--data", "d"];
    desk.run(&listen).expect_error(2, &["no authentication", "--allow-remote"]);
    let mut serving = desk.start(&with(&listen, &["--allow-remote", "--advertise", "127.0.0.1:0"]));
    support::read_until(serving.stdout(), |line| line.starts_with("127.0.0.1:"));
    serving.signal("TERM");
    serving.end().expect_error(0, &["no authentication"]);
}

#[test]
fn when_no_broker_is_there_the_failed_file_is_the_input() {
    let desk = Desk::new();
    let input = format!("{}\r\n\n\u{e9}no line feed", numbers(3000));
    desk.write("in", &input);
    let address = nobody();
    let args = ["produce", "t", "in", "-b", &address, "--json", "--failed", "left"];
    let ended = desk.run(&with(&args, &HASTE)).expect_error(1, &[&address, "reading stopped"]);
    assert!(desk.read("left") == input.as_bytes());
    let summary = ended.json();
    assert_eq!(summary["delivered"], 0);
    let count = |name: &str| summary[name].as_u64().expect("a number");
    assert_eq!(count("accepted") + count("rejected"), 3003);
    assert_eq!(count("accepted"), count("delivered") + count("failed") + count("unknown"));
}

/// The first `count` lines of `input`, and the others.
fn split_at_line(input: &str, count: u64) -> (&str, &str) {
    let lines = input.split_inclusive('\n').take(count as usize);
    input.split_at(lines.map(str::len).sum())
}

#[test]
fn what_stops_early_says_behind_which_line_to_go_on() {
    let desk = Desk::new();
    // Far more than is read ahead.
    let input = numbers(500_000);
    desk.write("in", &input);
    desk.run(&["topic", "create", "t", "--partitions", "1"]).expect(0);
    let elsewhere = ["produce", "t", "in", "-p", "7", "--json"];
    let ended =
        desk.run(&with(&elsewhere, &["--failed", "left"])).expect_error(1, &["partition 7"]);
    let summary = ended.json();
    assert_eq!(summary["complete"], false, "{summary}");
    assert_eq!(summary["last_line"]["input"], "in", "{summary}");
    let last = summary["last_line"]["line"].as_u64().expect("a number");
    assert_eq!(summary["rejected"].as_u64(), Some(last), "none was accepted");
    let (left, rest) = split_at_line(&input, last);
    assert!(desk.read("left") == left.as_bytes(), "line {last}");
    // Who goes on behind it, and then with what was left, has all of it.
    desk.write("rest", rest);
    desk.run(&["produce", "t", "left", "rest"]).expect(0);
    let read = desk.run(&["tail", "t", "--exit-at-end"]).expect(0);
    assert!(read.stdout() == input.as_bytes());

    // Without the file nothing is kept of them, so that all are behind the last one.
    let summary = desk.run(&elsewhere).expect(1).json();
    assert_eq!((&summary["rejected"], &summary["complete"]), (&0.into(), &false.into()));
    assert!(summary.get("last_line").is_none(), "{summary}");
    let text = desk.run(&["produce", "t", "in", "-p", "7", "--failed", "left"]).expect(1).lines();
    let told = "; the input was read to line ".as_bytes();
    assert!(text[0].windows(told.len()).any(|part| part == told));
}

#[test]
fn a_signal_costs_no_line_of_those_that_were_read_from_a_pipe() {
    for kept in [true, false] {
        let desk = Desk::new();
        let broker = desk.serve(&[]);
        let args = ["produce", "t", "-b", &broker.address, "--json", "--rate", "50"];
        let mut produce = desk.start(&match kept {
            true => with(&args, &["--failed", "left"]),
            false => args.to_vec(),
        });
        let mut pipe = produce.stdin();
        let input = numbers(5000);
        pipe.write_all(input.as_bytes()).expect("it reads");
        wait_for("the first lines", || {
            let read = desk.run(&["tail", "t", "-b", &broker.address, "--exit-at-end"]);
            read.code() == 0 && !read.lines().is_empty()
        });
        produce.signal("INT");
        let summary = produce.end().expect(130).json();
        drop(pipe);
        let read = desk.run(&["tail", "t", "-b", &broker.address, "--exit-at-end"]).expect(0);
        let delivered = lines(read.stdout()).len() as u64;
        assert!(delivered < 5000, "it read 50 a second");
        let last = summary["last_line"]["line"].as_u64().expect("a number");
        if kept {
            assert_eq!(last, 5000, "{summary}");
            assert!(desk.read("left") == split_at_line(&input, delivered).1.as_bytes());
        } else {
            assert_eq!(last, delivered, "{summary}");
        }
        broker.terminate().expect(0);
    }
}

/// What produce is in the middle of when it is told to stop: a broker that does not answer.
struct Stuck {
    broker: support::Serving,
    produce: support::Running,
    pipe: std::process::ChildStdin,
}

impl Stuck {
    /// `before` is delivered; then nothing is, and `input` is written.
    fn with(desk: &Desk, args: &[&str], before: &str, input: &[u8]) -> Self {
        let mut broker = desk.serve(&[]);
        desk.run(&["topic", "create", "t", "--partitions", "1", "-b", &broker.address]).expect(0);
        let to = ["produce", "t", "-b", &broker.address, "--json", "--failed", "left"];
        let mut produce = desk.start(&with(&with(&to, &["-X", "linger.ms=0"]), args));
        let mut pipe = produce.stdin();
        pipe.write_all(before.as_bytes()).expect("it reads");
        wait_for_lines(desk, &broker.address, before.lines().count());
        broker.signal("STOP");
        pipe.write_all(input).expect("it reads");
        // That it is read can't be seen from outside.
        thread::sleep(std::time::Duration::from_millis(500));
        Self { broker, produce, pipe }
    }

    /// Ends it by a signal, once the broker goes on if `resumed`.
    fn stop(mut self, resumed: bool) -> (serde_json::Value, std::process::ChildStdin) {
        self.produce.signal("INT");
        thread::sleep(std::time::Duration::from_millis(300));
        if resumed {
            self.broker.signal("CONT");
        }
        let summary = self.produce.end().expect(130).json();
        self.broker.signal("CONT");
        self.broker.terminate().expect(0);
        (summary, self.pipe)
    }
}

/// Every line is delivered or in the file, and that file ends where the pipe goes on.
#[test]
fn a_signal_costs_nothing_of_what_was_read_of_a_pipe_whatever_it_is() {
    let long = "x".repeat(5000);
    // A line that is too long to be held, behind lines whose outcome is not known; many of them, of
    // which the reader holds a part; half a line.
    let some: String = (0..40).map(|n| format!("{n}-{}\n", &long[..(n % 2) * 3000])).collect();
    for input in [format!("a\n{long}\nb\n"), format!("a\n{some}"), "a\nhalf a l".to_owned()] {
        for resumed in [false, true] {
            let desk = Desk::new();
            let limits = ["-X", "max.request.size=1000", "-X", "delivery.timeout.ms=2500"];
            let limits = with(&limits, &["-X", "request.timeout.ms=1000"]);
            let stuck = Stuck::with(&desk, &limits, "zero\n", input.as_bytes());
            let (summary, pipe) = stuck.stop(resumed);
            drop(pipe);
            let left = String::from_utf8(desk.read("left")).expect("text");
            let case = format!("{input:.20} {resumed} {summary}");
            let count = |name: &str| summary[name].as_u64().expect("a number");
            let whole = format!("zero\n{input}");
            let behind = split_at_line(&whole, count("delivered")).1;
            assert!(left == behind, "{case}: {left:.60}");
            let lines = 1 + input.lines().count() as u64;
            assert_eq!(count("accepted") + count("rejected"), lines, "{case}");
            assert_eq!(summary["last_line"]["line"].as_u64(), Some(lines), "{case}");
        }
    }
}

/// Its end is met by a run of lines that waits for memory, a part of which is in it.
#[test]
fn lines_of_a_transaction_whose_time_is_up_are_in_the_failed_file_once() {
    let desk = Desk::new();
    let input: String = (0..300).map(|n| format!("{n}-{}\n", "z".repeat(900))).collect();
    let all = ["--transaction", "all", "-X", "transactional.id=x", "-X", "batch.size=4096"];
    let small = ["-X", "buffer.memory=65536", "-X", "transaction.timeout.ms=3000"];
    let patient = ["-X", "request.timeout.ms=1000", "-X", "delivery.timeout.ms=20000"];
    let args = with(&with(&all, &small), &patient);
    let mut stuck = Stuck::with(&desk, &args, "zero\n", input.as_bytes());
    thread::sleep(std::time::Duration::from_millis(3500));
    stuck.broker.signal("CONT");
    let summary = stuck.produce.end().expect(1).json();
    let last = summary["last_line"]["line"].as_u64().expect("a number");
    let left = String::from_utf8(desk.read("left")).expect("text");
    // The last of them may be one that was read in part.
    assert!(format!("zero\n{input}").starts_with(&left), "{summary}");
    assert_eq!(left.lines().count() as u64, last, "{summary}");
    let count = |name: &str| summary[name].as_u64().expect("a number");
    assert!(count("accepted") > 1, "{summary}");
    assert_eq!(count("accepted") + count("rejected"), last, "{summary}");
    stuck.broker.terminate().expect(0);
}

/// However long it takes to hand it over, and where a file can be read again, to its end.
#[test]
fn of_a_long_line_nothing_is_lost_by_a_signal() {
    let long = "x".repeat(6_000_000);
    for (limit, from_file) in [("1000", true), ("20000000", false)] {
        let desk = Desk::new();
        let input = format!("a\n{long}");
        let limit = format!("max.request.size={limit}");
        let limits = ["-X", &limit, "-X", "delivery.timeout.ms=2500", "-X", "linger.ms=0"];
        let limits = with(&limits, &["-X", "request.timeout.ms=1000"]);
        let file = text(&desk.write("in", format!("{input}\nb\n"))).to_owned();
        let args = if from_file { with(&limits, &["-", &file]) } else { limits };
        let typed = if from_file { "" } else { &input };
        let stuck = Stuck::with(&desk, &args, "zero\n", typed.as_bytes());
        if from_file {
            // Its end lets the file follow.
            let Stuck { mut broker, mut produce, pipe } = stuck;
            drop(pipe);
            thread::sleep(std::time::Duration::from_millis(500));
            produce.signal("INT");
            let summary = produce.end().expect(130).json();
            broker.signal("CONT");
            broker.terminate().expect(0);
            let left = desk.read("left");
            let last = summary["last_line"]["line"].as_u64();
            let all = summary["complete"] == true;
            assert!(last == Some(2) || all, "{summary}");
            assert!(left.starts_with(format!("{input}\n").as_bytes()), "{summary}");
        } else {
            let (summary, pipe) = stuck.stop(false);
            drop(pipe);
            assert_eq!(summary["last_line"]["line"], 3, "{summary}");
            assert!(desk.read("left") == input.as_bytes(), "{summary}");
        }
    }
}

#[test]
fn what_comes_after_a_signal_stays_in_the_pipe() {
    let desk = Desk::new();
    let (mut from, to) = std::io::pipe().expect("a pipe");
    let args = ["produce", "t", "--json", "--failed", "left", "--rate", "1"];
    let mut command = desk.command(&args);
    let stdin = from.try_clone().expect("another end");
    let mut child = command
        .stdin(stdin)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    (&to).write_all(b"1\n2\n3\n").expect("written");
    wait_for("the folder", || desk.path("sordini-data").exists());
    thread::sleep(std::time::Duration::from_millis(500));
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.expect("kill").success());
    thread::sleep(std::time::Duration::from_millis(100));
    (&to).write_all(b"4\n").expect("written");
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    drop(to);
    let mut rest = String::new();
    from.read_to_string(&mut rest).expect("text");
    let read = desk.run(&["tail", "t", "--exit-at-end"]).expect(0).lines();
    let mut all = lines(&desk.read("left"));
    all.extend(read);
    all.extend(lines(rest.as_bytes()));
    assert_eq!(sorted(all), lines(b"1\n2\n3\n4\n"));
    assert!(rest.ends_with("4\n"), "{rest:?}");
}

#[test]
fn the_first_rejected_lines_are_told_and_with_v_all() {
    let desk = Desk::new();
    desk.write("in", "no object\n".repeat(8));
    for (more, count) in [(&["--json"][..], 5), (&["--json", "-v"], 8)] {
        let ended = desk.run(&with(&["produce", "t", "in", "--from-json"], more)).expect(1);
        assert_eq!(ended.stderr().matches("of in is rejected").count(), count, "{more:?}");
        assert_eq!(ended.stderr().contains("-v tells each"), count < 8, "{more:?}");
    }
}

#[test]
fn why_a_topic_that_is_only_looked_for_can_not_be_made_is_told() {
    let desk = Desk::new();
    desk.write("in", "1\n");
    desk.run(&["topic", "create", "a.b"]).expect(0);
    let why = ["a topic can't be created", "'a_b' collides with existing topic: a.b"];
    desk.run(&with(&["produce", "a_b", "in"], &HASTE)).expect_error(1, &why);
    let mut cluster = desk.serve(&["--nodes", "3"]);
    let b = cluster.address.clone();
    let said = Lines::of(cluster.stderr());
    desk.run(&["topic", "create", "a.b", "-b", &b]).expect(0);
    desk.run(&with(&["produce", "a_b", "in", "-b", &b], &HASTE)).expect(1);
    let line = said.next_with("can't be created");
    assert!(line.contains("collides with existing topic: a.b"), "{line}");
    cluster.terminate().expect(0);
}

#[test]
fn the_last_line_of_an_input_and_the_first_of_the_next_are_two_in_the_failed_file() {
    let desk = Desk::new();
    desk.write("a", "a1\na2");
    desk.write("long", format!("b1\n{}", "x".repeat(3000)));
    desk.write("c", "c1\nc2");
    let args = ["produce", "t", "a", "long", "c", "-X", "max.request.size=2000", "--from-json"];
    let args = with(&args, &["--failed", "left", "--json"]);
    let summary = desk.run(&args).expect(1).json();
    assert_eq!(summary["rejected"], 6, "{summary}");
    let left = format!("a1\na2\nb1\n{}\nc1\nc2", "x".repeat(3000));
    assert!(desk.read("left") == left.as_bytes());
}

#[cfg(unix)]
#[test]
fn a_failed_file_that_is_the_input_by_another_name_is_refused() {
    let desk = Desk::new();
    let file = desk.write("in", "1\n2\n");
    std::fs::hard_link(&file, desk.path("link")).expect("a link");
    let refused = ["--failed", "also read", "name another file"];
    desk.run(&["produce", "t", "in", "--failed", "link"]).expect_error(2, &refused);
    let mut command = desk.command(&["produce", "t", "--failed", "in"]);
    command.stdin(std::fs::File::open(&file).expect("the file"));
    let ended = command.output().expect("it runs");
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("also read, as stdin"));
    assert_eq!(desk.read("in"), b"1\n2\n");
}

#[test]
fn tail_and_topic_say_which_address_did_not_answer() {
    let desk = Desk::new();
    let address = nobody();
    let soon = ["-X", "default.api.timeout.ms=500"];
    for command in [&["tail", "t"][..], &["topic", "list"], &["topic", "describe", "t"]] {
        let args = [command, &["-b", &address], &soon[..]].concat();
        desk.run(&args).expect_error(1, &[&address, "default.api.timeout.ms"]);
    }
}

#[test]
fn a_peer_that_does_not_speak_kafka_is_named() {
    let desk = Desk::new();
    desk.write("in", "1\n");
    let strangers: [(&'static [u8], &str); 3] = [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "failed: it speaks HTTP, not Kafka's protocol; is the port right?",
        ),
        (
            b"\x15\x03\x03\x00\x02\x02\x28",
            "failed: it speaks TLS, and takes no plaintext; use its PLAINTEXT port",
        ),
        (b"\x7f\xff\xff\xff", "2147483647"),
    ];
    for (answer, word) in strangers {
        let address = stranger(answer);
        let produce = ["produce", "t", "in", "-b", &address];
        desk.run(&with(&produce, &HASTE)).expect_error(1, &[&address, word]);
        let tail = ["tail", "t", "-b", &address, "-X", "default.api.timeout.ms=500"];
        desk.run(&tail).expect_error(1, &[&address, word]);
    }
}

#[test]
fn an_advertised_host_that_does_not_resolve_is_named() {
    let desk = Desk::new();
    let broker = desk.serve(&["--advertise", "no-such-host.invalid:9092"]);
    // What it prints is what clients are told; it listens elsewhere.
    assert_eq!(broker.address, "no-such-host.invalid:9092");
    broker.terminate().expect_error(0, &["127.0.0.1"]);
}

#[test]
fn a_topic_that_may_not_be_created_and_a_partition_that_is_not_there_lose_nothing() {
    let desk = Desk::new();
    let broker = desk.serve(&["--no-auto-create"]);
    let b = broker.address.as_str();
    let input = numbers(100);
    desk.write("in", &input);
    let args = ["produce", "t", "in", "-b", b, "--failed", "left"];
    desk.run(&with(&args, &HASTE))
        .expect_error(1, &["\"t\"", "max.block.ms=1500", "sordini topic create t"]);
    assert_eq!(desk.read("left"), input.as_bytes());
    desk.run(&["tail", "t", "-b", b]).expect_error(1, &["\"t\" does not exist"]);
    desk.run(&["topic", "create", "t", "-b", b, "--partitions", "2"]).expect(0);
    desk.run(&with(&args, &["-p", "2"]))
        .expect_error(1, &["partition 2 does not exist: the topic \"t\" has 2", "-p takes 0 to 1"]);
    assert_eq!(desk.read("left"), input.as_bytes());
    desk.run(&["tail", "t", "-b", b, "--partition", "2"]).expect_error(1, &["no partition 2"]);
    desk.run(&args).expect(0);
    assert_eq!(desk.read("left"), b"", "nothing failed this time");
}

#[test]
fn what_is_waited_for_before_anything_is_accepted_is_said() {
    let desk = Desk::new();
    let broker = desk.serve(&["--no-auto-create"]);
    let (b, gone) = (broker.address.as_str(), nobody());
    desk.write("in", "1\n");
    let produce = ["produce", "t", "in", "-b", b];
    let perf = ["perf", "t", "--records", "1", "--size", "1", "-b", b];
    let whole = ["--transaction", "all", "-X", "transactional.id=import-7"];
    let whole = [&["produce", "t", "in", "-b", &gone][..], &whole].concat();
    for (args, words) in [
        (&produce[..], ["topic \"t\"", "60000 ms (max.block.ms)"]),
        (&perf, ["topic \"t\"", "60000 ms (max.block.ms)"]),
        (&whole, ["transactional.id=import-7", "60000 ms (max.block.ms)"]),
    ] {
        let mut running = desk.start(args);
        let line = Lines::of(running.stderr()).next_with("waiting for");
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        running.signal("INT");
        running.end().expect(130);
    }
}

#[test]
fn when_the_broker_dies_each_line_is_delivered_or_in_the_failed_file() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let address = broker.address.clone();
    let args = ["produce", "t", "-b", &address, "--json", "--failed", "left"];
    let mut produce = desk.start(&with(&args, &HASTE));
    let mut input = produce.stdin();
    input.write_all(numbers(5000).as_bytes()).expect("it reads");
    wait_for_lines(&desk, &address, 5000);
    broker.kill();
    let after: String = (5000..6000).map(|number| format!("{number}\n")).collect();
    input.write_all(after.as_bytes()).expect("it reads");
    drop(input);
    let ended = produce.end().expect_error(1, &["not delivered", &address]);
    let summary = ended.json();
    let count = |name: &str| summary[name].as_u64().expect("a number");
    assert_eq!(count("accepted") + count("rejected"), 6000);
    assert_eq!(count("delivered"), 5000);
    assert_eq!(desk.read("left"), after.as_bytes(), "in the order of the input");
    // Killed without warning, the broker has kept what it acknowledged.
    let read = desk.run(&["tail", "t", "--data", "data", "--exit-at-end"]).expect(0).lines();
    let read: BTreeSet<_> = read.into_iter().collect();
    let delivered = lines(numbers(5000).as_bytes());
    assert!(delivered.iter().all(|line| read.contains(line)));
}

#[test]
fn lines_that_the_broker_refuses_are_in_the_failed_file_in_the_inputs_order() {
    let desk = Desk::new();
    desk.run(&["topic", "create", "t", "--set", "max.message.bytes=500"]).expect(0);
    let long = "x".repeat(1000);
    let is_long = |n: usize| n % 7 == 3;
    let line = |n: usize| match is_long(n) {
        true => format!("key-{}:{n}-{long}\n", n % 11),
        false => format!("key-{}:{n}\n", n % 11),
    };
    let input: String = (0..400).map(line).collect();
    let args = ["produce", "t", "-K", ":", "--json", "--failed", "left"];
    let ended = desk.run_with(&args, input.as_bytes());
    let ended = ended.expect_error(1, &["57 records were not delivered", "MESSAGE_TOO_LARGE"]);
    let summary = ended.json();
    let counts = ["accepted", "delivered", "failed", "unknown", "rejected"];
    let counts = counts.map(|name| summary[name].as_u64().expect("a number"));
    assert_eq!(counts, [400, 343, 57, 0, 0]);
    let refused: String = (0..400).filter(|n| is_long(*n)).map(line).collect();
    assert!(desk.read("left") == refused.as_bytes());
    let read = desk.run(&["tail", "t", "-K", ":", "--exit-at-end"]).expect(0).lines();
    let delivered: String = (0..400).filter(|n| !is_long(*n)).map(line).collect();
    assert_eq!(sorted(read), sorted(lines(delivered.as_bytes())));
}

#[test]
fn the_first_signal_delivers_what_was_accepted() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let desk = Desk::new();
        let broker = desk.serve(&[]);
        let b = broker.address.clone();
        // Records would wait for a minute for company: the signal must send them.
        let args = ["produce", "t", "-b", &b, "--json", "-X", "linger.ms=60000"];
        let mut produce = desk.start(&args);
        let mut input = produce.stdin();
        input.write_all(numbers(100).as_bytes()).expect("it reads");
        wait_for("the topic", || desk.run(&["topic", "describe", "t", "-b", &b]).code() == 0);
        produce.signal(signal);
        // The pipe is still open: reading has ended without its end.
        let ended = produce.end().expect(code);
        drop(input);
        let summary = ended.json();
        assert_eq!(summary["complete"], false);
        assert_eq!(summary["accepted"], summary["delivered"], "{}", ended.stderr());
        let read = desk.run(&["tail", "t", "-b", &b, "--exit-at-end"]).expect(0);
        assert_eq!(summary["delivered"].as_u64(), Some(read.lines().len() as u64));
        broker.terminate().expect(0);
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_cluster_that_is_not_there() {
    let desk = Desk::new();
    let address = nobody();
    // max.block.ms is a minute, and nothing was accepted: there is nothing to wait for.
    let mut produce = desk.start(&["produce", "t", "-b", &address, "--json"]);
    let mut input = produce.stdin();
    input.write_all(b"1\n").expect("it reads");
    thread::sleep(std::time::Duration::from_millis(300));
    produce.signal("INT");
    let ended = produce.end().expect(130);
    assert_eq!(ended.json()["accepted"], 0);
}

#[test]
fn a_signal_ends_perf_with_what_was_measured_until_then() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let desk = Desk::new();
        let broker = desk.serve(&[]);
        let b = broker.address.clone();
        let args = ["perf", "-b", &b, "t", "--size", "10", "--rate", "1000", "--json"];
        let mut perf = desk.start(&with(&args, &["--records", "1000000000"]));
        wait_for("the first records", || {
            let read = desk.run(&["tail", "t", "-b", &b, "--exit-at-end"]);
            read.code() == 0 && !read.stdout().is_empty()
        });
        perf.signal(signal);
        let ended = perf.end().expect(code);
        let measured = ended.json();
        let count = |name: &str| measured[name].as_u64().expect("a number");
        assert_eq!((count("failed"), count("unknown")), (0, 0));
        assert!((1..1_000_000_000).contains(&count("delivered")), "{measured}");
        let samples = measured["latency_us"]["samples"].as_u64().expect("a number");
        assert!(samples > 0, "{measured}");
        let read = desk.run(&["tail", "t", "-b", &b, "--exit-at-end"]).expect(0);
        assert_eq!(read.lines().len() as u64, count("delivered"));
    }
}

#[test]
fn a_signal_ends_perfs_wait_for_a_cluster_that_is_not_there() {
    let desk = Desk::new();
    let address = nobody();
    let args = ["perf", "-b", &address, "t", "--records", "1", "--size", "1", "--json"];
    let mut perf = desk.start(&with(&args, &["-X", "max.block.ms=600000"]));
    thread::sleep(std::time::Duration::from_millis(300));
    perf.signal("INT");
    assert_eq!(perf.end().expect(130).json()["delivered"], 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_of_settings_that_does_not_end_is_refused() {
    let told = ["--config /dev/zero can't be read", "more than 1048576 bytes"];
    Desk::new().run(&["produce", "t", "--config", "/dev/zero"]).expect_error(2, &told);
}

#[cfg(target_os = "linux")]
#[test]
fn no_line_is_named_to_go_on_behind_where_the_failed_file_can_not_be_written() {
    let desk = Desk::new();
    desk.write("in", numbers(500_000));
    let args = ["produce", "t", "in", "--json", "--failed", "/dev/full", "--from-json"];
    let ended = desk.run(&args).expect_error(1, &["--failed /dev/full can't be written"]);
    let summary = ended.json();
    assert_eq!(summary["complete"], false, "{summary}");
    assert!(summary.get("last_line").is_none(), "{summary}");
}

#[test]
fn the_second_signal_ends_at_once() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let address = broker.address.clone();
    let mut produce = desk.start(&["produce", "t", "-b", &address]);
    let mut input = produce.stdin();
    input.write_all(b"1\n").expect("it reads");
    wait_for_lines(&desk, &address, 1);
    broker.kill();
    // Accepted, and nobody there to take it for the two minutes of delivery.timeout.ms.
    input.write_all(b"2\n").expect("it reads");
    thread::sleep(std::time::Duration::from_millis(300));
    let stderr = produce.stderr();
    produce.signal("INT");
    support::read_until(stderr, |line| {
        line.contains("a second Ctrl-C ends at once") && line.contains("delivery.timeout.ms")
    });
    produce.signal("TERM");
    let ended = produce.end().expect(143);
    assert_eq!(ended.stdout(), b"", "there is no summary");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_stays_full_is_told_while_records_wait_for_it_and_so_is_its_end() {
    let desk = Desk::new();
    let listen = ["serve", "--listen", "127.0.0.1:0", "--data", "data", "--partitions", "1"];
    let mut broker = support::Serving::new(desk.start_on_a_small_disk(&listen));
    let address = broker.address.clone();
    let mut produce = desk.start(&["produce", "t", "-b", &address, "-X", "batch.size=20000"]);
    let stderr = Lines::of(produce.stderr());
    produce.stdin().write_all(numbers(50_000).as_bytes()).expect("it reads");
    let trouble = stderr.next_with("not been taken");
    broker.make_room();
    stderr.next_with("taken again");
    produce.end().expect(0);
    let rest = stderr.rest();
    assert!(!rest.iter().any(|line| line.contains("taken")), "once: {rest:?}");
    let ended =
        broker.terminate().expect_error(0, &["t-0", "KAFKA_STORAGE_ERROR", "written again"]);
    assert_eq!(ended.stderr().matches("can't be written").count(), 1, "{}", ended.stderr());
    for part in ["WARN", "KAFKA_STORAGE_ERROR", "topic=t partition=0", "delivery.timeout.ms=120000"]
    {
        assert!(trouble.contains(part), "{part}: {trouble}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_wait_for_memory_is_not_told_as_one_for_the_topic() {
    let desk = Desk::new();
    let listen = ["serve", "--listen", "127.0.0.1:0", "--data", "data", "--partitions", "1"];
    let broker = support::Serving::new(desk.start_on_a_small_disk(&listen));
    // One run of lines is more than the disk and the memory take together.
    desk.write("in", format!("{}\n", "x".repeat(1000)).repeat(250));
    let mut args = vec!["produce", "t", "in", "-b", &broker.address];
    for setting in [
        "buffer.memory=40000",
        "batch.size=10000",
        "max.block.ms=4000",
        "request.timeout.ms=1000",
        "delivery.timeout.ms=6000",
    ] {
        args.extend(["-X", setting]);
    }
    let ended = desk.run(&args).expect_error(1, &["buffer.memory", "max.block.ms"]);
    assert!(!ended.stderr().contains("name the partitions"), "{}", ended.stderr());
    broker.terminate();
}

#[test]
fn serve_ends_cleanly_and_its_data_survives_a_kill() {
    let desk = Desk::new();
    let broker = desk.serve(&["--partitions", "2"]);
    let args = ["produce", "t", "-b", &broker.address];
    desk.run_with(&args, numbers(1000).as_bytes()).expect(0);
    broker.kill();
    let broker = desk.serve(&[]);
    let read = desk.run(&["tail", "t", "-b", &broker.address, "--exit-at-end"]).expect(0);
    assert_eq!(read.lines().len(), 1000);
    broker.terminate().expect(0);
    let read = desk.run(&["tail", "t", "--data", "data", "--exit-at-end"]).expect(0);
    assert_eq!(read.lines().len(), 1000);
}

#[test]
fn settings_may_come_from_a_file_and_the_command_line_outranks_it() {
    let desk = Desk::new();
    let broker = desk.serve(&[]);
    let nobody = nobody();
    let config = format!("bootstrap.servers={}\nacks=1\n# a comment\n", broker.address);
    desk.write("good.properties", config);
    desk.write("gone.properties", format!("bootstrap.servers={nobody}\nacks=1\n"));
    let args = ["produce", "t", "--json", "--config"];
    let ended = desk.run_with(&with(&args, &["good.properties"]), b"1\n").expect(0);
    let weak = ended.json()["guarantee"].clone();
    let strong = ["good.properties", "-X", "acks=all"];
    let ended = desk.run_with(&with(&args, &strong), b"2\n").expect(0);
    assert_ne!(ended.json()["guarantee"], weak, "the guarantee follows the settings");
    let elsewhere = ["gone.properties", "-b", &broker.address];
    desk.run_with(&with(&args, &elsewhere), b"3\n").expect(0);
    let read = desk.run(&["tail", "t", "--config", "good.properties", "--exit-at-end"]).expect(0);
    assert_eq!(read.lines().len(), 3);
}
