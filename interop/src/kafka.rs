//! A real Apache Kafka, as `interop/kafka/kafka` brings it up.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{self, Finished, Input};
use crate::root;

/// The newest version, and the last one before KRaft became the only way.
pub const VERSIONS: [&str; 2] = ["4.4.0", "3.9.2"];

const TOOL: Duration = Duration::from_secs(120);

/// One node or three of one version; ends with this value, or with the test's process.
pub struct Kafka {
    version: String,
    bootstrap: String,
    dir: TempDir,
    guard: Child,
    // Closing it tells the guard to end the nodes, so it must live as long as this value.
    lifeline: Option<ChildStdin>,
}

impl Kafka {
    /// Starts it and waits until it serves. `settings` are broker settings, `name=value`.
    ///
    /// # Panics
    /// If it does not come up, with what the script printed.
    #[must_use]
    pub fn up(version: &str, nodes: u32, settings: &[&str]) -> Self {
        Self::up_with(version, nodes, settings, &[])
    }

    /// [`Kafka::up`] with features finalized from the first start on, `name=level`.
    ///
    /// # Panics
    /// If it does not come up, with what the script printed.
    #[must_use]
    pub fn up_with(version: &str, nodes: u32, settings: &[&str], features: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut guard = guard(dir.path(), version);
        let lifeline = guard.stdin.take();
        let mut kafka =
            Self { version: version.to_owned(), bootstrap: String::new(), dir, guard, lifeline };
        let mut up = kafka.script("up");
        up.args(["--nodes", &nodes.to_string(), "--port", &free_base().to_string()]);
        for setting in settings {
            up.args(["--set", setting]);
        }
        for feature in features {
            up.args(["--feature", feature]);
        }
        // The first time it fetches a hundred megabytes.
        let up = process::run(&mut up, Input::Nothing, Duration::from_secs(600)).ok();
        let line = up.text().lines().find_map(|line| line.strip_prefix("BOOTSTRAP="));
        line.expect("`kafka up` prints BOOTSTRAP=").clone_into(&mut kafka.bootstrap);
        kafka
    }

    /// The addresses of all nodes, as a client's `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where a node keeps its logs: `TOPIC-PARTITION` folders.
    #[must_use]
    pub fn data(&self, node: u32) -> PathBuf {
        self.dir.path().join(format!("node-{node}/data"))
    }

    /// Creates a topic. `configs` are topic settings, `name=value`.
    pub fn topic(&self, name: &str, partitions: u32, replication: u32, configs: &[&str]) {
        let mut topic = self.script("topic");
        topic.arg(name).args(["--partitions", &partitions.to_string()]);
        topic.args(["--replication", &replication.to_string()]);
        for config in configs {
            topic.args(["--config", config]);
        }
        drop(process::run(&mut topic, Input::Nothing, TOOL).ok());
    }

    /// The node that leads a partition.
    ///
    /// # Panics
    /// If it has no leader.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: u32) -> u32 {
        let args = ["--bootstrap-server", self.bootstrap(), "--describe", "--topic", topic];
        let described = tool("TopicCommand", &args, Input::Nothing).ok();
        let wanted = format!("Partition: {partition}\t");
        let line = described.text().lines().find(|line| line.contains(&wanted));
        let leader = line.and_then(|line| line.split("Leader: ").nth(1)?.split('\t').next());
        leader
            .and_then(|leader| leader.trim().parse().ok())
            .unwrap_or_else(|| panic!("no leader of {topic} [{partition}]: {described}"))
    }

    /// The level at which a feature is finalized, as Java's admin client tells; `None` if these
    /// brokers do not know it.
    ///
    /// # Panics
    /// If it has no level.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<u16> {
        let args = ["--bootstrap-server", self.bootstrap(), "describe"];
        let described = tool("FeatureCommand", &args, Input::Nothing).ok();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut lines = described.text().lines().map(words);
        let line = lines.find(|words| words.get(1).is_some_and(|word| word == name))?;
        let level = line.iter().skip_while(|word| *word != "FinalizedVersionLevel:").nth(1);
        let level = level.and_then(|word| word.parse().ok());
        Some(level.unwrap_or_else(|| panic!("no level of {name}: {described}")))
    }

    /// Finalizes a feature at another level while the cluster runs.
    pub fn set_feature(&self, name: &str, level: u16) {
        let verb = if self.feature(name) > Some(level) { "downgrade" } else { "upgrade" };
        let feature = format!("{name}={level}");
        let args = ["--bootstrap-server", self.bootstrap(), verb, "--feature", &feature];
        drop(tool("FeatureCommand", &args, Input::Nothing).ok());
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn pause(&self, node: u32) {
        self.node("pause", node);
    }

    /// SIGCONT: it goes on where it was.
    pub fn resume(&self, node: u32) {
        self.node("resume", node);
    }

    /// SIGTERM, and its clean end awaited.
    pub fn stop(&self, node: u32) {
        self.node("stop", node);
    }

    /// SIGKILL.
    pub fn kill(&self, node: u32) {
        self.node("kill", node);
    }

    /// Starts a killed node again, and waits until it serves.
    pub fn start(&self, node: u32) {
        self.node("start", node);
    }

    fn node(&self, verb: &str, node: u32) {
        let mut script = self.script(verb);
        script.args(["--node", &node.to_string()]);
        drop(process::run(&mut script, Input::Nothing, TOOL).ok());
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = script(&self.version);
        command.arg(verb).arg("--dir").arg(self.dir.path());
        command
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        drop(self.guard.wait());
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the nodes' logs are kept: {}", self.dir.path().display());
        }
    }
}

/// Runs a Kafka tool by the last part of its class's name, with the newest version's jars.
#[must_use]
pub fn tool(class: &str, args: &[&str], input: Input) -> Finished {
    let mut run = script(VERSIONS[0]);
    run.arg("run").arg(class).args(args);
    process::run(&mut run, input, TOOL)
}

/// interop/kafka/txn/Txn.java with the newest client; it becomes the process itself.
#[must_use]
pub fn txn(verb: &str) -> Command {
    let mut run = script(VERSIONS[0]);
    run.arg("txn").arg(verb);
    run
}

/// Runs interop/kafka/verify/Verify.java.
pub(crate) fn verify(args: &[&str]) -> Finished {
    let mut run = script(VERSIONS[0]);
    run.arg("verify").args(args);
    process::run(&mut run, Input::Nothing, Duration::from_secs(600))
}

fn script(version: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("interop/kafka/kafka")).env("KAFKA_VERSION", version);
    command.env("KAFKA_STOP_WAIT", "30");
    command
}

/// A process that ends the nodes once its input is closed: by the value that holds it, or by the
/// end of the test's process, however that comes. A session of its own keeps signals to the
/// terminal away from it.
fn guard(dir: &Path, version: &str) -> Child {
    let mut guard = Command::new("setsid");
    guard.args([
        "bash",
        "-c",
        r#"cat; [ ! -f "$2/env" ] || bash "$1" down --dir "$2"; rm -rf "$2""#,
    ]);
    guard.arg("kafka-guard").arg(root().join("interop/kafka/kafka")).arg(dir);
    guard.env("KAFKA_VERSION", version).env("KAFKA_STOP_WAIT", "3");
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    guard.spawn().expect("setsid and bash are there")
}

/// A port such that it and those that `kafka up` derives from it are free. Below the range that
/// the system takes outgoing ports from, and not the same for two test processes.
fn free_base() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).expect("less than 200");
    for _ in 0..200 {
        let base = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 200 * 50;
        let ports = [0, 1, 2, 10, 11, 12];
        if ports.iter().all(|n| TcpListener::bind((Ipv4Addr::LOCALHOST, base + n)).is_ok()) {
            return base;
        }
    }
    panic!("no free ports between 20000 and 30000");
}
