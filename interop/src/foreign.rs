//! Clients that we did not write: Java's console tools, librdkafka (kcat and its Python binding) and
//! franz-go.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::judge::Isolation;
use crate::kafka::tool;
use crate::lines::Lines;
use crate::numbers::{Seen, Told};
use crate::process::{self, Input};
use crate::root;

const DEADLINE: Duration = Duration::from_secs(120);

/// The lines of a text, sorted: to compare what came by several partitions.
#[must_use]
pub fn sorted_lines(text: &[u8]) -> Vec<&[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

/// Java's console producer; a line is a key, a tab and a value.
pub fn java_write(bootstrap: &str, topic: &str, keyed: Vec<u8>) {
    let args =
        ["--bootstrap-server", bootstrap, "--topic", topic, "--reader-property", "parse.key=true"];
    drop(tool("ConsoleProducer", &args, Input::Bytes(keyed)).ok());
}

/// Java's console consumer, assigned to a partition: `count` records from its start.
#[must_use]
pub fn java_read(bootstrap: &str, topic: &str, partition: u32, count: usize) -> Vec<u8> {
    let (partition, count) = (partition.to_string(), count.to_string());
    let args = [
        "--bootstrap-server",
        bootstrap,
        "--topic",
        topic,
        "--partition",
        &partition,
        "--offset",
        "earliest",
        "--max-messages",
        &count,
        "--timeout-ms",
        "60000",
        "--formatter-property",
        "print.key=true",
    ];
    tool("ConsoleConsumer", &args, Input::Nothing).ok().stdout
}

/// kcat's producer, with a codec and settings of librdkafka; a line is a key, a tab and a value.
pub fn kcat_write(bootstrap: &str, topic: &str, codec: &str, settings: &[&str], keyed: Vec<u8>) {
    let mut kcat = Command::new("kcat");
    kcat.args(["-P", "-b", bootstrap, "-t", topic, "-K", "\t", "-z", codec]);
    for setting in settings {
        kcat.args(["-X", setting]);
    }
    let finished = process::run(&mut kcat, Input::Bytes(keyed), DEADLINE).ok();
    assert!(!finished.stderr.contains("Delivery failed"), "{finished}");
}

/// kcat's consumer, assigned to each partition from its start to its end.
#[must_use]
pub fn kcat_read(bootstrap: &str, topic: &str, partitions: u32) -> Vec<u8> {
    let mut read = Vec::new();
    for partition in 0..partitions {
        let mut kcat = Command::new("kcat");
        kcat.args(["-C", "-b", bootstrap, "-t", topic, "-p", &partition.to_string()]);
        kcat.args(["-o", "beginning", "-e", "-q", "-X", "check.crcs=true", "-f", "%k\t%s\n"]);
        read.extend(process::run(&mut kcat, Input::Nothing, DEADLINE).ok().stdout);
    }
    read
}

/// The franz-go program of interop/franz, built.
pub struct Franz {
    program: PathBuf,
    _dir: TempDir,
}

impl Franz {
    /// Builds it; the first time its modules are fetched.
    ///
    /// # Panics
    /// If it cannot be built.
    #[must_use]
    pub fn build() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let program = dir.path().join("franz");
        let mut go = go();
        go.arg("build").arg("-o").arg(&program).arg(".");
        drop(process::run(&mut go, Input::Nothing, Duration::from_secs(300)).ok());
        Self { program, _dir: dir }
    }

    /// Produces with franz-go's defaults (idempotent) and a codec.
    pub fn write(&self, bootstrap: &str, topic: &str, codec: &str, keyed: Vec<u8>) {
        let mut write = Command::new(&self.program);
        write.args(["produce", bootstrap, topic, codec]);
        drop(process::run(&mut write, Input::Bytes(keyed), DEADLINE).ok());
    }

    /// `count` records from all partitions: a key, a tab and a value a line.
    #[must_use]
    pub fn read(&self, bootstrap: &str, topic: &str, count: usize) -> Vec<u8> {
        let mut read = Command::new(&self.program);
        read.args(["consume", bootstrap, topic, &count.to_string()]);
        let printed = process::run(&mut read, Input::Nothing, DEADLINE).ok().stdout;
        // Before key and value stand the partition and the offset.
        let mut lines = Vec::with_capacity(printed.len());
        for line in printed.split_inclusive(|byte| *byte == b'\n') {
            lines.extend(line.splitn(3, |byte| *byte == b'\t').nth(2).unwrap_or_default());
        }
        lines
    }
}

/// Every foreign client writes with every codec that it offers, and reads what the others wrote;
/// `stored` is asked about each topic that a codec was named for. Topics are created by the
/// clients, where they do that, with the broker's default number of partitions: one is expected.
///
/// # Panics
/// If somebody reads something else than was written.
pub fn write_and_read_with_all(bootstrap: &str, stored: impl Fn(&str, &str)) {
    let franz = Franz::build();
    let lines = Lines { count: 1_000, keys: 20, size: 150 };
    let check = |topic: &str| {
        let written = lines.keyed();
        let written = sorted_lines(&written);
        let readers = [
            ("java", java_read(bootstrap, topic, 0, lines.count)),
            ("kcat", kcat_read(bootstrap, topic, 1)),
            ("franz-go", franz.read(bootstrap, topic, lines.count)),
        ];
        for (reader, read) in readers {
            assert!(sorted_lines(&read) == written, "{reader} read something else from {topic}");
        }
    };
    java_write(bootstrap, "by-java", lines.keyed());
    check("by-java");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for settings in [&["enable.idempotence=false"][..], &["enable.idempotence=true"]] {
            let topic = format!("by-kcat-{codec}-{}", settings[0].len());
            kcat_write(bootstrap, &topic, codec, settings, lines.keyed());
            stored(&topic, codec);
            if settings == ["enable.idempotence=true"] {
                check(&topic);
            }
        }
        let topic = format!("by-franz-{codec}");
        franz.write(bootstrap, &topic, codec, lines.keyed());
        stored(&topic, codec);
        assert!(sorted_lines(&kcat_read(bootstrap, &topic, 1)) == sorted_lines(&lines.keyed()));
    }
}

/// franz-go's own tests against a broker; what they printed.
///
/// # Panics
/// If one fails, or if none ran.
pub fn kgo_tests(bootstrap: &str) {
    let mut go = go();
    go.args(["test", "-count=1", "-v", "-timeout=9m", "-run"]);
    go.arg("TestPing|TestClient_Produce|TestIssue769");
    go.arg("github.com/twmb/franz-go/pkg/kgo");
    go.env("KGO_SEEDS", bootstrap).env("KGO_TEST_RF", "1").env("KGO_LOG_LEVEL", "warn");
    let finished = process::run(&mut go, Input::Nothing, Duration::from_secs(600)).ok();
    for test in ["TestPing", "TestClient_Produce", "TestIssue769"] {
        assert!(finished.text().contains(&format!("--- PASS: {test} ")), "{test}: {finished}");
    }
}

fn go() -> Command {
    let mut go = Command::new("go");
    go.current_dir(root().join("interop/franz")).env("GOFLAGS", "-mod=readonly");
    go
}

/// What a foreign client's reader printed of numbers in a topic.
fn numbers(mut reader: Command) -> Seen {
    let read = process::run(&mut reader, Input::Nothing, DEADLINE).ok();
    Seen::from_lines(read.text()).unwrap_or_else(|error| panic!("{error}: {read}"))
}

/// What a foreign client's writer says of its numbers, once it has come to its end.
fn written(mut writer: Command) -> Told {
    let wrote = process::run(&mut writer, Input::Nothing, DEADLINE).ok();
    let told = Told::parse(wrote.text()).unwrap_or_else(|error| panic!("{error}: {wrote}"));
    assert!(told.ended, "{wrote}");
    told
}

impl Franz {
    /// So many numbers, each in one transaction to every partition; every fifth is aborted.
    #[must_use]
    pub fn write_numbers(&self, bootstrap: &str, topic: &str, partitions: u64, count: u64) -> Told {
        let mut write = Command::new(&self.program);
        write.args(["write", bootstrap, topic, &partitions.to_string(), topic, &count.to_string()]);
        written(write)
    }

    /// All numbers of a topic, each partition of which ends with a marker.
    #[must_use]
    pub fn read_numbers(
        &self,
        bootstrap: &str,
        topic: &str,
        partitions: u64,
        isolation: Isolation,
    ) -> Seen {
        let mut read = Command::new(&self.program);
        read.args(["read", bootstrap, topic, &partitions.to_string(), isolation.name()]);
        numbers(read)
    }
}

/// librdkafka with its transactions, which kcat does not offer: by its Python binding.
pub struct Librdkafka(TempDir);

impl Librdkafka {
    /// Installs it into a folder of its own; its wheel has librdkafka in it.
    ///
    /// # Panics
    /// If it cannot be installed.
    #[must_use]
    pub fn install() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.arg("--root-user-action=ignore").arg("--target").arg(dir.path());
        pip.arg("-r").arg(root().join("interop/librdkafka/requirements.txt"));
        drop(process::run(&mut pip, Input::Nothing, Duration::from_secs(300)).ok());
        Self(dir)
    }

    fn run(&self, verb: &str, bootstrap: &str, topic: &str, partitions: u64) -> Command {
        let mut python = Command::new("python3");
        python.arg(root().join("interop/librdkafka/numbers.py")).env("PYTHONPATH", self.0.path());
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python.args([verb, bootstrap, topic, &partitions.to_string()]);
        python
    }

    /// So many numbers, each in one transaction to every partition; every fifth is aborted. Each
    /// commits itself as the offset of `group` in partition 0.
    #[must_use]
    pub fn write_numbers(
        &self,
        bootstrap: &str,
        topic: &str,
        partitions: u64,
        count: u64,
        group: &str,
    ) -> Told {
        let mut write = self.run("write", bootstrap, topic, partitions);
        write.args([topic, &count.to_string(), group]);
        written(write)
    }

    /// All numbers of a topic.
    #[must_use]
    pub fn read_numbers(
        &self,
        bootstrap: &str,
        topic: &str,
        partitions: u64,
        isolation: Isolation,
    ) -> Seen {
        let mut read = self.run("read", bootstrap, topic, partitions);
        read.arg(isolation.name());
        numbers(read)
    }

    /// The group's committed offsets, partition by partition.
    ///
    /// # Panics
    /// If it cannot tell.
    #[must_use]
    pub fn committed(
        &self,
        bootstrap: &str,
        topic: &str,
        partitions: u64,
        group: &str,
    ) -> Vec<Option<u64>> {
        let mut ask = self.run("committed", bootstrap, topic, partitions);
        let told = process::run(ask.arg(group), Input::Nothing, DEADLINE).ok();
        serde_json::from_str(told.text()).unwrap_or_else(|error| panic!("{error}: {told}"))
    }
}
