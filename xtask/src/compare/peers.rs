//! Who is measured.

use std::path::Path;

use crate::{Result, shell};

/// What a peer can do, each including those before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skill {
    /// Send batches that the peer's program makes by itself.
    Batches,
    /// Partition by key.
    Keys,
    /// Idempotence, and acks of all kinds.
    Idempotence,
    /// A report for each record as it comes, so that latency at a rate means something.
    Rates,
}

/// Which toolchain builds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// The project's own example.
    Own,
    /// A package of the workspace bench/peers.
    Rust,
    Go,
    Java,
    /// Given by `--peer`.
    Given,
}

#[derive(Clone)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) language: Language,
    /// The program's name where it is built, and what it is told first.
    program: &'static str,
    pub(super) skill: Skill,
}

const fn peer(
    name: &'static str,
    language: Language,
    program: &'static str,
    skill: Skill,
    about: &'static str,
) -> Peer {
    Peer { name, about, language, program, skill }
}

pub(super) const PEERS: &[Peer] = &[
    peer(
        "sordini",
        Language::Own,
        "peer --mode enqueue",
        Skill::Rates,
        "Topic::enqueue, a Delivery awaited for each record",
    ),
    peer(
        "sordini-extend",
        Language::Own,
        "peer --mode extend",
        Skill::Rates,
        "Appender::extend, every record's offset read from its range",
    ),
    peer(
        "sordini-detached",
        Language::Own,
        "peer --mode detached",
        Skill::Idempotence,
        "Topic::enqueue_detached, no receipts",
    ),
    peer("java", Language::Java, "", Skill::Rates, "KafkaProducer.send with a callback"),
    peer(
        "librdkafka",
        Language::Rust,
        "peer-librdkafka --mode base",
        Skill::Idempotence,
        "rdkafka BaseProducer, polled by the sending thread",
    ),
    peer(
        "librdkafka-threaded",
        Language::Rust,
        "peer-librdkafka --mode threaded",
        Skill::Rates,
        "rdkafka ThreadedProducer, polled by its own thread",
    ),
    peer(
        "librdkafka-future",
        Language::Rust,
        "peer-librdkafka --mode future",
        Skill::Idempotence,
        "rdkafka FutureProducer, a future awaited for each record",
    ),
    peer("franz-go", Language::Go, "franz", Skill::Rates, "Produce with a promise"),
    peer(
        "krafka",
        Language::Rust,
        "peer-krafka",
        Skill::Rates,
        "enqueue, a handle awaited for each record",
    ),
    peer(
        "rskafka",
        Language::Rust,
        "peer-rskafka",
        Skill::Batches,
        "batches made by hand, not idempotent: what sending ready batches costs",
    ),
    peer(
        "barnabas",
        Language::Rust,
        "peer-barnabas",
        Skill::Keys,
        "sends within the call, no report for each record",
    ),
];

impl Peer {
    /// `NAME=COMMAND ARGS`. Such programs are few and live as long as this one.
    pub(super) fn added(text: &str) -> Result<Self> {
        let (name, program) = text.split_once('=').ok_or("--peer takes NAME=COMMAND")?;
        Ok(peer(
            String::leak(name.to_owned()),
            Language::Given,
            String::leak(program.to_owned()),
            Skill::Rates,
            "given by --peer",
        ))
    }

    /// The command and its first arguments; `folder` is where the comparison is built.
    pub(super) fn command(&self, folder: &Path) -> Vec<String> {
        let mut words: Vec<String> = self.program.split_whitespace().map(str::to_owned).collect();
        let place = match self.language {
            Language::Own => shell::target().join("release/examples"),
            Language::Rust => folder.join("release"),
            Language::Go => folder.to_owned(),
            Language::Given => return words,
            Language::Java => {
                let (classes, jars) = (folder.join("java/classes"), folder.join("java/lib/*"));
                let path = format!("{}:{}", classes.display(), jars.display());
                return ["java", "-Xms1g", "-Xmx2g", "-cp", &path, "Peer"]
                    .map(str::to_owned)
                    .to_vec();
            }
        };
        words[0] = place.join(&words[0]).display().to_string();
        words
    }
}
