//! The binary `sordini`, as its users call it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, Finished, Input, Running};

/// The program under test: `SORDINI_BIN`, or what cargo built beside this test.
#[must_use]
pub fn sordini() -> Command {
    Command::new(binary())
}

/// Where it is.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SORDINI_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let path = profile.join("sordini");
    assert!(path.exists(), "{} is missing: `cargo build -p sordini-cli`", path.display());
    path
}

/// `sordini produce` with a JSON summary.
#[must_use]
pub fn produce(bootstrap: &str, topic: &str, args: &[&str]) -> Command {
    let mut command = sordini();
    command.args(["produce", "--json", "-b", bootstrap, topic]).args(args);
    command
}

/// The summary that `--json` prints: one line on standard output.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn summary(finished: &Finished) -> Value {
    let line = finished.text().lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("no summary ({e}): {finished}"))
}

/// `sordini serve`: the embedded broker, at a port of its own that it keeps over a restart.
pub struct Serve {
    running: Option<Running>,
    port: u16,
    data: tempfile::TempDir,
    args: Vec<String>,
}

impl Serve {
    /// Starts it on a new folder and waits until it serves.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn up(args: &[&str]) -> Self {
        let mut serve = Self {
            running: None,
            // One for each node of a cluster, of which tests have three at most.
            port: process::free_ports(3),
            data: tempfile::tempdir().expect("a temporary folder"),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        };
        serve.start();
        serve
    }

    /// Its address.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Bytes in the .log files of a topic.
    #[must_use]
    pub fn stored(&self, topic: &str) -> u64 {
        let files = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files(self.data())
            .iter()
            .filter(|folder| name(folder).starts_with(&format!("{topic}-")))
            .flat_map(|folder| files(folder))
            .filter(|file| name(file).ends_with(".log"))
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    ///
    /// # Panics
    /// If it is not running.
    pub fn pause(&self) {
        self.running.as_ref().expect("it was started").signal("STOP");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// SIGTERM, and its end awaited.
    ///
    /// # Panics
    /// If it does not end, or not well.
    pub fn stop(&mut self) -> Finished {
        let running = self.running.take().expect("it was started");
        running.signal("TERM");
        let finished = running.finish(Duration::from_secs(30));
        assert!(matches!(finished.code(), Some(0 | 143)), "{finished}");
        finished
    }

    /// Starts it again on its folder, at its port.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(&mut self) {
        let mut command = sordini();
        command.arg("serve").args(["--listen", &self.bootstrap()]);
        command.arg("--data").arg(self.data.path()).args(&self.args);
        let mut running = process::start(&mut command, Input::Nothing);
        process::wait_until("sordini serve listens", Duration::from_secs(60), || {
            assert!(running.is_running(), "sordini serve ended at once");
            process::listens(self.port)
        });
        self.running = Some(running);
    }
}
