//! `transaction.version` is lowered and raised while a producer is at work.

use std::fmt::Write as _;

use sordini_interop::judge::{Isolation, read_records_as};
use sordini_interop::kafka::{Kafka, tool};
use sordini_interop::numbers::{Seen, Told, judge_committed};
use sordini_interop::process::Input;
use sordini_interop::transactions::{Client, Generation};
use sordini_interop::{Need, can_run};

use crate::steps::{PARTITIONS, Steps};

const TOPIC: &str = "changed";
const FEATURE: &str = "transaction.version";

/// A producer, what it was told, and the number of its next transaction.
struct Writer<'a> {
    kafka: &'a Kafka,
    steps: Steps,
    log: String,
    number: u32,
}

impl<'a> Writer<'a> {
    fn new(kafka: &'a Kafka) -> Self {
        let mut steps = Steps::new(Client::Sordini, kafka.bootstrap(), TOPIC, TOPIC);
        steps.all(&["init"]);
        Self { kafka, steps, log: String::new(), number: 0 }
    }

    /// Another process goes on with the id: it hears of the cluster anew.
    fn restart(&mut self) {
        self.steps = Steps::new(Client::Sordini, self.kafka.bootstrap(), TOPIC, TOPIC);
        self.steps.all(&["init"]);
    }

    /// A transaction that ends so; the level may be changed in its midst.
    fn transaction(&mut self, end: &str, level: Option<u16>) {
        let number = self.number;
        self.number += 1;
        self.steps.all(&["begin", &format!("send {number}")]);
        if let Some(level) = level {
            self.kafka.set_feature(FEATURE, level);
        }
        self.steps.all(&[end]);
        let ended = if end == "commit" { "committed" } else { "aborted" };
        writeln!(self.log, "intent {number} {end}\noutcome {number} {ended}").expect("a string");
    }

    /// How many epochs a commit and an abort take: one each in the new protocol, none in the old.
    fn epochs_used(&mut self) -> i32 {
        self.transaction("commit", None);
        let before = epoch(self.kafka);
        self.transaction("commit", None);
        self.transaction("abort", None);
        epoch(self.kafka) - before
    }

    /// Lets Java's consumer judge: all that was committed is there, and nothing else or open.
    fn judge(&self) {
        let bootstrap = self.kafka.bootstrap();
        let (lines, verdict) = read_records_as(bootstrap, TOPIC, Isolation::ReadCommitted);
        let (told, seen) = (Told::parse(&self.log).expect("a log"), Seen::from_json(&lines));
        assert_eq!(judge_committed(&told, &seen.expect("numbers"), PARTITIONS), [""; 0]);
        assert_eq!(verdict.open(), [0; 0]);
    }
}

fn cluster() -> Kafka {
    let kafka = Generation::New.up();
    kafka.topic(TOPIC, 3, 3, &["min.insync.replicas=2"]);
    kafka
}

/// What Java's admin client tells of an id, by the name of a column.
fn described(kafka: &Kafka, column: &str) -> i32 {
    let args = ["--bootstrap-server", kafka.bootstrap(), "describe", "--transactional-id", TOPIC];
    let described = tool("TransactionsCommand", &args, Input::Nothing).ok();
    let mut rows = described.text().lines().map(|line| line.split_whitespace());
    let at = rows.find_map(|mut row| row.position(|word| word == column));
    let number = at.and_then(|at| rows.next()?.nth(at)?.parse().ok());
    number.unwrap_or_else(|| panic!("no {column}: {described}"))
}

fn epoch(kafka: &Kafka) -> i32 {
    described(kafka, "ProducerEpoch")
}

#[test]
fn each_transaction_is_whole_when_the_protocol_changes_between_and_within_them() {
    if !can_run("each_transaction_is_whole_when_the_protocol_changes", &[Need::Kafka]) {
        return;
    }
    let kafka = cluster();
    let mut writer = Writer::new(&kafka);
    assert_eq!(writer.epochs_used(), 2, "the new protocol");
    for (level, epochs) in [(1, 0), (2, 2)] {
        // In the midst of one, then between two.
        for end in ["commit", "abort"] {
            writer.transaction(end, Some(level));
            kafka.set_feature(FEATURE, 3 - level);
            writer.transaction(end, None);
        }
        kafka.set_feature(FEATURE, level);
        writer.transaction("commit", None);
        writer.restart();
        assert_eq!(writer.epochs_used(), epochs, "{FEATURE}={level}");
    }
    writer.judge();
}

/// Kafka's coordinator is then left with a step that it can't write, which no client can mend.
#[test]
fn a_protocol_that_is_gone_in_the_midst_of_a_transaction_is_told_with_the_way_out() {
    if !can_run("a_protocol_that_is_gone", &[Need::Kafka]) {
        return;
    }
    let kafka = cluster();
    let mut writer = Writer::new(&kafka);
    writer.transaction("commit", None);
    writer.steps.all(&["begin", "send 1"]);
    kafka.set_feature(FEATURE, 0);
    let answer = writer.steps.ask("commit");
    assert!(answer.contains("UNSUPPORTED_VERSION") && answer.contains("restarted"), "{answer}");
    let coordinator = u32::try_from(described(&kafka, "CoordinatorId")).expect("a node");
    kafka.stop(coordinator);
    kafka.start(coordinator);
    writer.restart();
    writer.number = 2;
    writer.transaction("commit", None);
    writer.judge();
}
