//! The programs that run transactions, and clusters of both generations of the protocol.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::dialogue::Dialogue;
use crate::foreign::{Franz, Librdkafka};
use crate::judge::{self, Isolation};
use crate::kafka::{Kafka, VERSIONS, txn};
use crate::numbers::{Fate, Seen, Told, judge_committed, judge_uncommitted};
use crate::process::{self, Input};
use crate::trouble::SHORT_SESSIONS;

const DEADLINE: Duration = Duration::from_secs(120);

/// Which protocol a cluster of three nodes speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "tests choose one")]
pub enum Generation {
    /// Kafka 4.4.0: an epoch for each transaction (KIP-890).
    New,
    /// Kafka 4.4.0 with `transaction.version` 1: the protocol of before.
    OldOnNew,
    /// Kafka 3.9.2, which has no other.
    Old,
}

impl Generation {
    fn version(self) -> &'static str {
        match self {
            Self::New | Self::OldOnNew => VERSIONS[0],
            Self::Old => VERSIONS[1],
        }
    }

    fn level(self) -> Option<u16> {
        match self {
            Self::New => Some(2),
            Self::OldOnNew => Some(1),
            Self::Old => None,
        }
    }

    /// Three nodes that notice soon when one is gone.
    ///
    /// # Panics
    /// If they do not come up, or speak another protocol.
    #[must_use]
    pub fn up(self) -> Kafka {
        let feature = self.level().map(|level| format!("transaction.version={level}"));
        let features: Vec<&str> = feature.as_deref().into_iter().collect();
        let kafka = Kafka::up_with(self.version(), 3, &SHORT_SESSIONS, &features);
        assert_eq!(kafka.feature("transaction.version"), self.level(), "{self:?}");
        kafka
    }
}

/// Whose programs: they take the same arguments and behave alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "tests choose one")]
pub enum Client {
    /// interop/kafka/txn/Txn.java, the newest Java client.
    Java,
    /// interop/src/bin/txn.
    Sordini,
}

impl Client {
    /// The program for a verb of Txn.java.
    ///
    /// # Panics
    /// If it was not built: cargo builds it with the tests.
    #[must_use]
    pub fn program(self, verb: &str) -> Command {
        match self {
            Self::Java => txn(verb),
            Self::Sordini => {
                let test = std::env::current_exe().expect("this test has a path");
                let profile = test.parent().and_then(Path::parent).expect("PROFILE/deps/TEST");
                let mut command = Command::new(profile.join("txn"));
                command.arg(verb);
                command
            }
        }
    }
}

/// Where a writer of numbers writes, and what it remembers.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Whose.
    pub client: Client,
    /// Of the cluster.
    pub bootstrap: String,
    /// Has as many partitions as `partitions`.
    pub topic: String,
    /// Each gets each number.
    pub partitions: u64,
    /// The transactional id.
    pub id: String,
    /// Its log.
    pub log: PathBuf,
}

impl Writer {
    /// One life: it goes on after the last number in its log, up to `transactions` numbers in all,
    /// at most `rate` a second.
    #[must_use]
    pub fn start(&self, transactions: u64, rate: u64) -> Dialogue {
        let mut command = self.client.program("write");
        command.args(["--bootstrap", &self.bootstrap, "--topic", &self.topic, "--id", &self.id]);
        command.args(["--partitions", &self.partitions.to_string()]);
        command.args(["--transactions", &transactions.to_string(), "--rate", &rate.to_string()]);
        command.arg("--log").arg(&self.log);
        // Nothing here takes so long: a coordinator that fences does not do it for the time.
        command.args(["-X", "transaction.timeout.ms=600000"]);
        Dialogue::start(&mut command)
    }

    /// What its log says.
    ///
    /// # Panics
    /// If that is no log.
    #[must_use]
    pub fn told(&self) -> Told {
        let text = std::fs::read(&self.log).unwrap_or_default();
        Told::parse(&String::from_utf8_lossy(&text)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What Java's consumers read of the topic.
    ///
    /// # Panics
    /// If they cannot.
    #[must_use]
    pub fn read(&self) -> Views {
        let read = |isolation| {
            let (lines, verdict) = judge::read_records_as(&self.bootstrap, &self.topic, isolation);
            (Seen::from_json(&lines).unwrap_or_else(|error| panic!("{error}")), verdict)
        };
        let (committed, verdict) = read(Isolation::ReadCommitted);
        let (all, _) = read(Isolation::ReadUncommitted);
        Views { committed, all, open: verdict.open(), partitions: self.partitions }
    }
}

/// A topic of numbers as two readers see it.
#[derive(Clone, Debug)]
pub struct Views {
    /// read_committed.
    pub committed: Seen,
    /// read_uncommitted.
    pub all: Seen,
    /// Partitions with a transaction that has not ended.
    pub open: Vec<u64>,
    partitions: u64,
}

impl Views {
    /// What contradicts the writer's log; empty if nothing does.
    #[must_use]
    pub fn faults(&self, told: &Told) -> Vec<String> {
        let mut faults = judge_committed(told, &self.committed, self.partitions);
        faults.extend(judge_uncommitted(told, &self.committed, &self.all));
        faults.extend(self.open.iter().map(|it| format!("partition {it}: an open transaction")));
        // Else nothing was there to be hidden.
        if self.all.records() <= self.committed.records() {
            faults.push("no aborted transaction left a record".to_owned());
        }
        faults
    }

    /// Nothing contradicts the writer's log.
    ///
    /// # Panics
    /// If something does, with all of it.
    pub fn assert_sound(&self, told: &Told) {
        let faults = self.faults(told);
        assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
    }
}

/// Java, librdkafka and franz-go each write transactions, and each reads what each wrote, committed
/// or not; a group's offsets that librdkafka committed with its records are those that Java finds.
/// `create` makes a topic of three partitions.
///
/// # Panics
/// If somebody sees something else than was written.
pub fn written_and_read_by_all(bootstrap: &str, create: impl Fn(&str)) {
    const PARTITIONS: u64 = 3;
    const COUNT: u64 = 20;
    let (franz, librdkafka) = (Franz::build(), Librdkafka::install());
    let dir = tempfile::tempdir().expect("a temporary folder");
    for writer in ["java", "librdkafka", "franz-go"] {
        let topic = &format!("numbers-by-{writer}");
        create(topic);
        let told = match writer {
            "java" => {
                let java = Writer {
                    client: Client::Java,
                    bootstrap: bootstrap.to_owned(),
                    topic: topic.clone(),
                    partitions: PARTITIONS,
                    id: topic.clone(),
                    log: dir.path().join("log"),
                };
                let mut running = java.start(COUNT, 1000);
                process::wait_until("java writes", DEADLINE, || running.ended().is_some());
                assert!(running.ended().is_some_and(|status| status.success()), "java failed");
                java.told()
            }
            "librdkafka" => {
                let told = librdkafka.write_numbers(bootstrap, topic, PARTITIONS, COUNT, "group");
                // Number 19 was aborted with its offset.
                let expected = vec![Some(18), None, None];
                assert_eq!(librdkafka.committed(bootstrap, topic, PARTITIONS, "group"), expected);
                assert_eq!(committed_offsets(bootstrap, topic, PARTITIONS, "group"), expected);
                told
            }
            _ => franz.write_numbers(bootstrap, topic, PARTITIONS, COUNT),
        };
        assert_eq!((told.count(Fate::Committed), told.count(Fate::Aborted)), (16, 4), "{writer}");
        let read = |isolation| {
            let (lines, _) = judge::read_records_as(bootstrap, topic, isolation);
            let java = Seen::from_json(&lines).unwrap_or_else(|error| panic!("{error}"));
            let by_franz = franz.read_numbers(bootstrap, topic, PARTITIONS, isolation);
            let by_librdkafka = librdkafka.read_numbers(bootstrap, topic, PARTITIONS, isolation);
            assert!(by_franz == java, "{isolation:?}, franz-go and Java: {by_franz:?}, {java:?}");
            assert!(by_librdkafka == java, "{isolation:?}, librdkafka and Java: {by_librdkafka:?}");
            java
        };
        let (committed, all) = (read(Isolation::ReadCommitted), read(Isolation::ReadUncommitted));
        assert_eq!(judge_committed(&told, &committed, PARTITIONS), [""; 0], "{writer}");
        assert_eq!(judge_uncommitted(&told, &committed, &all), [""; 0], "{writer}");
        assert!(all.records() > committed.records(), "{writer}: nothing aborted was to be seen");
    }
}

/// The offsets that a group has committed in a topic, partition by partition, as Java tells.
///
/// # Panics
/// If it cannot tell.
#[must_use]
pub fn committed_offsets(
    bootstrap: &str,
    topic: &str,
    partitions: u64,
    group: &str,
) -> Vec<Option<u64>> {
    let mut command = txn("committed");
    command.args(["--bootstrap", bootstrap, "--topic", topic, "--group", group]);
    command.args(["--partitions", &partitions.to_string()]);
    let told = process::run(&mut command, Input::Nothing, DEADLINE).ok();
    serde_json::from_str(told.text()).unwrap_or_else(|error| panic!("{error}: {told}"))
}
