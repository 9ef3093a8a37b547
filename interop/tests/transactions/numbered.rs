//! Numbered transactions over twelve partitions, with nodes and the writer itself killed.

use std::fs;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{scope, sleep};
use std::time::Duration;

use sordini_interop::dialogue::Dialogue;
use sordini_interop::numbers::{Fate, Told};
use sordini_interop::process::wait_until;
use sordini_interop::times::Times;
use sordini_interop::transactions::{Client, Generation, Writer};
use sordini_interop::trouble::Trouble;
use sordini_interop::{Need, can_run};

use crate::{DEADLINE, assert_ends, assert_runs, is_whole};

const PARTITIONS: u64 = 12;

/// More fences than this are no coordinator's forgetfulness.
const MOST_FENCES: u64 = 3;

/// How much of it.
struct Size {
    transactions: u64,
    kills: u64,
    /// Transactions between two kills.
    gap: u64,
    /// Transactions a second, at most: so that troubles hit many of few.
    rate: u64,
    /// Troubles until it is enough.
    blows: u64,
}

impl Size {
    fn chosen() -> Self {
        if is_whole() {
            Self { transactions: 10_000, kills: 10, gap: 900, rate: 50, blows: u64::MAX }
        } else {
            Self { transactions: 1_000_000, kills: 2, gap: 60, rate: 20, blows: 3 }
        }
    }
}

/// The writer, life after life.
struct Living<'a> {
    writer: &'a Writer,
    size: &'a Size,
    running: Dialogue,
    fenced: u64,
}

impl<'a> Living<'a> {
    fn begin(writer: &'a Writer, size: &'a Size) -> Self {
        let running = writer.start(size.transactions, size.rate);
        Self { writer, size, running, fenced: 0 }
    }

    fn kill(&mut self) {
        self.running.kill();
        self.running = self.writer.start(self.size.transactions, self.size.rate);
    }

    /// Has it come to its end? One that was fenced lives again: a coordinator forgets, when it
    /// dies, which epoch was the last, and takes the repetition of an InitProducerId that it has
    /// carried out for a stranger's.
    fn has_ended(&mut self) -> bool {
        const FENCED: i32 = 3;
        let Some(status) = self.running.ended() else { return false };
        if status.code() != Some(FENCED) {
            return true;
        }
        self.fenced += 1;
        assert!(self.fenced <= MOST_FENCES, "the writer is fenced again and again");
        self.running = self.writer.start(self.size.transactions, self.size.rate);
        false
    }

    fn assert_runs(&mut self) {
        if self.has_ended() {
            assert_runs(&mut self.running);
        }
    }
}

/// The writer's lives, up to its last number or until it is told that it is enough; how many of
/// them ended with a fence.
fn live(writer: &Writer, size: &Size, enough: &Receiver<()>) -> u64 {
    let mut times = Times::from_seed();
    let mut living = Living::begin(writer, size);
    for _ in 0..size.kills {
        let goal = writer.told().intents() as u64 + size.gap;
        wait_until("the writer goes on", DEADLINE, || {
            living.assert_runs();
            writer.told().intents() as u64 >= goal
        });
        sleep(Duration::from_millis(times.below(200)));
        living.kill();
    }
    wait_until("the writer has begun again", DEADLINE, || {
        living.assert_runs();
        writer.told().lives as u64 > size.kills + living.fenced
    });
    // Disconnected, in the whole run.
    if enough.recv().is_err() {
        wait_until("the writer is done", DEADLINE * 12, || living.has_ended());
    }
    let Living { running, fenced, .. } = living;
    assert_ends(running);
    fenced
}

/// Runs it on a cluster of this generation and lets Java's consumers judge.
fn numbered(client: Client, generation: Generation) {
    let size = Size::chosen();
    let kafka = &generation.up();
    kafka.topic("numbers", 12, 3, &["min.insync.replicas=2"]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let writer = &Writer {
        client,
        bootstrap: kafka.bootstrap().to_owned(),
        topic: "numbers".to_owned(),
        partitions: PARTITIONS,
        id: "numbers-1".to_owned(),
        log: dir.path().join("log"),
    };
    let (end, enough) = channel();
    let (blows, fenced) = scope(|scope| {
        let size = &size;
        let living = scope.spawn(move || live(writer, size, &enough));
        // The id has a coordinator once it is used.
        wait_until("the first transactions", DEADLINE, || {
            living.is_finished() || writer.told().count(Fate::Committed) > 0
        });
        // The whole run ends by itself.
        let end = (size.blows < u64::MAX).then_some(end);
        let mut trouble = Trouble::new(kafka, "numbers", PARTITIONS, &writer.id);
        while trouble.blows() < size.blows && !living.is_finished() {
            trouble.strike();
        }
        if let Some(end) = end {
            // If nobody listens, it has failed, and says so itself.
            let _ = end.send(());
        }
        let fenced = living.join().unwrap_or_else(|panic| {
            // The log outlives the folder where it matters.
            eprintln!("{}", tail(&fs::read_to_string(&writer.log).unwrap_or_default()));
            std::panic::resume_unwind(panic);
        });
        (trouble.blows(), fenced)
    });
    let told = writer.told();
    writer.read().assert_sound(&told);
    println!(
        "{client:?} on {generation:?}: {} transactions, {} committed, {} aborted, {} in doubt, {} \
         found after a kill; {blows} troubles, {} lives, {fenced} of them fenced",
        told.intents(),
        told.count(Fate::Committed),
        told.count(Fate::Aborted),
        told.count(Fate::Doubtful),
        told.found,
        told.lives
    );
    assert!(told.ended && u64::from(told.lives) == size.kills + fenced + 1);
    assert!(blows >= if is_whole() { 10 } else { size.blows }, "too little happened");
    assert!(told.count(Fate::Committed) as u64 > size.kills * size.gap / 2, "too little committed");
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// A judge that nothing can displease judges nothing; and a cluster that Java's own producer does
/// not survive would prove nothing of ours.
#[test]
fn java_s_own_transactions_pass_and_a_wrong_expectation_does_not() {
    if !can_run("java_s_own_transactions_pass", &[Need::Kafka]) {
        return;
    }
    let kafka = Generation::New.up();
    kafka.topic("numbers", 12, 3, &["min.insync.replicas=2"]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let writer = Writer {
        client: Client::Java,
        bootstrap: kafka.bootstrap().to_owned(),
        topic: "numbers".to_owned(),
        partitions: PARTITIONS,
        id: "numbers-1".to_owned(),
        log: dir.path().join("log"),
    };
    let mut running = writer.start(50, 1000);
    wait_until("the writer is done", DEADLINE, || running.ended().is_some());
    assert_ends(running);
    let (told, views) = (writer.told(), writer.read());
    views.assert_sound(&told);
    assert_eq!((told.count(Fate::Committed), told.count(Fate::Aborted)), (40, 10));

    let sound = fs::read_to_string(&writer.log).expect("the log");
    for (was, claims) in [
        ("intent 4 abort\noutcome 4 aborted", "intent 4 commit\noutcome 4 committed"),
        ("outcome 5 committed", "outcome 5 aborted"),
        // It is aborted, and so only seen by who reads what is not committed.
        ("intent 44 abort\noutcome 44 aborted\n", ""),
    ] {
        assert!(sound.contains(was), "{sound}");
        let told = Told::parse(&sound.replace(was, claims)).expect("a log");
        assert_eq!(views.faults(&told).len(), 1, "`{claims}` in the place of `{was}`");
    }
    // What may be either is taken as it is.
    let told = Told::parse(&sound.replace("outcome 5 committed", "outcome 5 unknown"));
    assert_eq!(views.faults(&told.expect("a log")), [""; 0]);
}

#[test]
#[ignore = "a soak: what the cluster itself does to a sound client"]
fn java_survives_trouble_with_the_new_protocol() {
    if can_run("java_survives_trouble_with_the_new_protocol", &[Need::Kafka]) {
        numbered(Client::Java, Generation::New);
    }
}

#[test]
#[ignore = "a soak: what the cluster itself does to a sound client"]
fn java_survives_trouble_with_transaction_version_1() {
    if can_run("java_survives_trouble_with_transaction_version_1", &[Need::Kafka]) {
        numbered(Client::Java, Generation::OldOnNew);
    }
}

#[test]
#[ignore = "a soak: what the cluster itself does to a sound client"]
fn java_survives_trouble_with_the_old_protocol() {
    if can_run("java_survives_trouble_with_the_old_protocol", &[Need::Kafka]) {
        numbered(Client::Java, Generation::Old);
    }
}

#[test]
fn with_the_new_protocol_each_transaction_is_there_whole_or_not_at_all() {
    if can_run("with_the_new_protocol", &[Need::Kafka]) {
        numbered(Client::Sordini, Generation::New);
    }
}

#[test]
fn with_transaction_version_1_each_transaction_is_there_whole_or_not_at_all() {
    if can_run("with_transaction_version_1", &[Need::Kafka]) {
        numbered(Client::Sordini, Generation::OldOnNew);
    }
}

#[test]
fn with_the_old_protocol_each_transaction_is_there_whole_or_not_at_all() {
    if can_run("with_the_old_protocol", &[Need::Kafka]) {
        numbered(Client::Sordini, Generation::Old);
    }
}
