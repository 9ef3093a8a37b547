//! Consume, transform, produce: the input's position commits with the output.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use sordini_interop::dialogue::Dialogue;
use sordini_interop::judge::{Isolation, read_records_as};
use sordini_interop::kafka::{Kafka, txn};
use sordini_interop::lines::Lines;
use sordini_interop::process::{self, Input};
use sordini_interop::sordini::produce;
use sordini_interop::times::Times;
use sordini_interop::transactions::{Client, Generation, committed_offsets};
use sordini_interop::{Need, can_run};

use crate::{DEADLINE, assert_ends};

const PARTITIONS: u64 = 4;
/// Records in a transaction.
const PER: u64 = 100;

/// Whose name the offsets are committed in.
#[derive(Clone, Copy, Debug)]
enum Group {
    /// A group without members: the copier chose its partitions itself.
    Alone,
    /// A real member of Java's, with this `group.protocol`, that lives on meanwhile.
    Member(&'static str),
}

fn size() -> (usize, u64) {
    if crate::is_whole() { (100_000, 20) } else { (10_000, 4) }
}

/// A Java consumer that is in a group, and what it says of itself.
struct Member {
    running: Dialogue,
    says: Value,
}

impl Member {
    fn join(kafka: &Kafka, protocol: &str) -> Self {
        let mut command = txn("member");
        command.args(["--bootstrap", kafka.bootstrap(), "--topic", "in", "--group", "copiers"]);
        command.args(["--protocol", protocol, "--instance", "here"]);
        let mut running = Dialogue::start(&mut command);
        let line = running.hear(DEADLINE).expect("the member joins");
        Self { running, says: serde_json::from_str(&line).expect("JSON") }
    }

    /// As it stands now: a group may have begun another generation.
    fn args(&mut self) -> [String; 6] {
        if let Some(line) = self.running.latest() {
            self.says = serde_json::from_str(&line).expect("JSON");
        }
        let text = |name: &str| self.says[name].as_str().expect("a text").to_owned();
        let generation = self.says["generation"].to_string();
        [
            "--member".to_owned(),
            text("member"),
            "--generation".to_owned(),
            generation,
            "--instance".to_owned(),
            text("instance"),
        ]
    }
}

/// Each partition's values in the order of their offsets.
fn values(kafka: &Kafka, topic: &str) -> BTreeMap<u64, Vec<String>> {
    let (lines, verdict) = read_records_as(kafka.bootstrap(), topic, Isolation::ReadCommitted);
    assert_eq!(verdict.open(), [0; 0], "partitions of {topic} with an open transaction");
    let mut values: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let partition = record["partition"].as_u64().expect("a number");
        let value = record["value"].as_str().expect("a text").to_owned();
        values.entry(partition).or_default().push(value);
    }
    values
}

fn copier(client: Client, kafka: &Kafka, member: Option<&mut Member>) -> Dialogue {
    let mut command = client.program("copy");
    command.args(["--bootstrap", kafka.bootstrap(), "--from", "in", "--to", "out"]);
    command.args(["--partitions", &PARTITIONS.to_string(), "--per", &PER.to_string()]);
    command.args(["--id", "copier-1", "--group", "copiers"]);
    if let Some(member) = member {
        command.args(member.args());
    }
    Dialogue::start(&mut command)
}

/// Copies, killed at random; returns how many transactions committed, as the copier said.
fn copy(client: Client, kafka: &Kafka, count: u64, kills: u64, group: Group) -> u64 {
    let mut times = Times::from_seed();
    let mut member = match group {
        Group::Alone => None,
        Group::Member(protocol) => Some(Member::join(kafka, protocol)),
    };
    let gap = count / PER / (kills + 2);
    let mut committed = 0;
    for _ in 0..kills {
        let mut running = copier(client, kafka, member.as_mut());
        for _ in 0..1 + times.below(gap) {
            let said = running.hear(DEADLINE);
            assert!(said.is_some(), "it ended or hangs: {:?}", running.ended());
            committed += 1;
        }
        sleep(Duration::from_millis(times.below(100)));
        running.kill();
        committed += running.rest();
    }
    let mut running = copier(client, kafka, member.as_mut());
    process::wait_until("the copier is done", DEADLINE * 6, || running.ended().is_some());
    committed += running.rest();
    assert_ends(running);
    committed
}

/// What comes out is what went in, once and in order.
fn copies(client: Client, generation: Generation, group: Group) {
    let (count, kills) = size();
    let kafka = generation.up();
    for topic in ["in", "out"] {
        kafka.topic(topic, 4, 3, &["min.insync.replicas=2"]);
    }
    let lines = Lines { count, keys: 97, size: 60 };
    let mut writing = produce(kafka.bootstrap(), "in", &["-K", "\t"]);
    drop(process::run(&mut writing, Input::Bytes(lines.keyed()), DEADLINE).ok());
    let committed = copy(client, &kafka, count as u64, kills, group);

    let mut expected = values(&kafka, "in");
    assert_eq!(expected.values().map(Vec::len).sum::<usize>(), count);
    let ends: Vec<Option<u64>> = expected.values().map(|it| Some(it.len() as u64)).collect();
    for value in expected.values_mut().flatten() {
        value.insert_str(0, "copy of ");
    }
    let found = values(&kafka, "out");
    for (partition, expected) in &expected {
        let found = found.get(partition).map(Vec::as_slice).unwrap_or_default();
        let differs = expected.iter().zip(found).position(|(one, other)| one != other);
        assert_eq!(differs, None, "partition {partition} differs there");
        assert_eq!(expected.len(), found.len(), "records in partition {partition}");
    }
    let offsets = committed_offsets(kafka.bootstrap(), "in", PARTITIONS, "copiers");
    assert_eq!(offsets, ends, "the group's offsets");
    println!(
        "{client:?} on {generation:?}, {group:?}: {count} records in {committed} transactions, \
         killed {kills} times"
    );
}

#[test]
#[ignore = "a soak: what the cluster itself does to a sound client"]
fn java_s_copier_loses_and_doubles_nothing() {
    if can_run("java_s_copier_loses_and_doubles_nothing", &[Need::Kafka]) {
        copies(Client::Java, Generation::New, Group::Alone);
        copies(Client::Java, Generation::New, Group::Member("classic"));
    }
}

#[test]
#[ignore = "a soak: what the cluster itself does to a sound client"]
fn java_s_copier_loses_and_doubles_nothing_with_the_old_protocol() {
    if can_run("java_s_copier_loses_and_doubles_nothing_with_the_old_protocol", &[Need::Kafka]) {
        copies(Client::Java, Generation::Old, Group::Alone);
    }
}

#[test]
fn a_killed_copier_loses_and_doubles_nothing() {
    if can_run("a_killed_copier_loses_and_doubles_nothing", &[Need::Kafka]) {
        copies(Client::Sordini, Generation::New, Group::Alone);
    }
}

#[test]
fn a_killed_copier_loses_and_doubles_nothing_with_the_old_protocol() {
    if can_run("a_killed_copier_loses_and_doubles_nothing_with_the_old", &[Need::Kafka]) {
        copies(Client::Sordini, Generation::Old, Group::Alone);
    }
}

#[test]
fn a_killed_copier_of_a_java_member_loses_and_doubles_nothing() {
    if can_run("a_killed_copier_of_a_java_member", &[Need::Kafka]) {
        copies(Client::Sordini, Generation::New, Group::Member("classic"));
        copies(Client::Sordini, Generation::New, Group::Member("consumer"));
    }
}
