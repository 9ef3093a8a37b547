//! Runs the binary, bounded in time, in a folder of its own.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing that a test starts may take longer.
const BOUND: Duration = Duration::from_secs(120);

/// A folder, removed with the test.
pub(crate) struct Desk {
    dir: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file")
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sordini"));
        command.args(args).current_dir(self.dir.path()).env_remove("SORDINI_LOG");
        command
    }

    /// Runs to its end with an empty stdin.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ended {
        self.run_with(args, b"")
    }

    /// Runs to its end with `stdin`.
    pub(crate) fn run_with<S: AsRef<OsStr>>(&self, args: &[S], stdin: &[u8]) -> Ended {
        let mut running = self.start(args);
        let mut input = running.stdin();
        let bytes = stdin.to_vec();
        let writer = thread::spawn(move || {
            // A command that reads no stdin closes it.
            let _ = input.write_all(&bytes);
        });
        let ended = running.end();
        writer.join().expect("the writer ends with its reader");
        ended
    }

    /// Starts, with all three streams piped.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: &[S]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Runs to its end with a stdout that takes nothing.
    #[cfg(target_os = "linux")]
    pub(crate) fn run_on_a_full_stdout(&self, args: &[&str]) -> Ended {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("the device");
        let child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Running { child: Some(child) }.end()
    }

    /// As [`Desk::start`], where no file may grow beyond 100 KiB: a disk that is full, and has room
    /// again after [`Running::make_room`].
    #[cfg(target_os = "linux")]
    pub(crate) fn start_on_a_small_disk(&self, args: &[&str]) -> Running {
        let limited = "trap '' XFSZ; ulimit -S -f 200; exec \"$0\" \"$@\"";
        Running::start(
            Command::new("sh")
                .args(["-c", limited, env!("CARGO_BIN_EXE_sordini")])
                .args(args)
                .current_dir(self.dir.path())
                .env_remove("SORDINI_LOG"),
        )
    }

    /// A broker on a free port with its data in `data`.
    pub(crate) fn serve(&self, more: &[&str]) -> Serving {
        let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--data", "data"];
        args.extend_from_slice(more);
        Serving::new(self.start(&args))
    }
}

/// A process that may still run; killed when dropped.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    /// Starts it with all three streams in the test's hands.
    fn start(command: &mut Command) -> Self {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: Some(streams.spawn().expect("the program starts")) }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("not ended yet")
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child().stdin.take().expect("stdin is piped")
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child().stdout.take().expect("stdout is piped")
    }

    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.child().stderr.take().expect("stderr is piped")
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn make_room(&mut self) {
        let id = self.child().id().to_string();
        let args = ["--pid", &id, "--fsize=unlimited"];
        let done = Command::new("prlimit").args(args).status().expect("prlimit of util-linux");
        assert!(done.success(), "prlimit {id}");
    }

    /// Sends a signal by its name, such as INT.
    pub(crate) fn signal(&mut self, name: &str) {
        let id = self.child().id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(sent.success(), "kill -s {name} {id}");
    }

    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().expect("not ended yet");
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let mut child = self.child.take().expect("not ended yet");
        drop(child.stdin.take());
        let id = child.id();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let _ = done.send(child.wait_with_output());
        });
        match ended.recv_timeout(BOUND) {
            Ok(output) => Ended(output.expect("its output")),
            Err(_) => {
                let _ = Command::new("kill").args(["-s", "KILL", &id.to_string()]).status();
                panic!("it did not end within {BOUND:?}");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a process ended.
pub(crate) struct Ended(Output);

impl Ended {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().expect("an exit code, no signal")
    }

    pub(crate) fn stdout(&self) -> &[u8] {
        &self.0.stdout
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub(crate) fn lines(&self) -> Vec<Vec<u8>> {
        lines(self.stdout())
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        let stdout = String::from_utf8_lossy(&self.0.stdout[..self.0.stdout.len().min(2000)]);
        assert_eq!(self.code(), code, "stdout: {stdout}\nstderr: {}", self.stderr());
        self
    }

    /// The exit code is `code`, and stderr says each of `words`.
    #[track_caller]
    pub(crate) fn expect_error(self, code: i32, words: &[&str]) -> Self {
        let ended = self.expect(code);
        for word in words {
            assert!(ended.stderr().contains(word), "{word:?} is not in: {}", ended.stderr());
        }
        ended
    }

    /// The one line of JSON on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.stdout()).expect("stdout is one JSON value")
    }
}

/// A `sordini serve` that is ready.
pub(crate) struct Serving {
    running: Running,
    pub(crate) address: String,
}

impl Serving {
    pub(crate) fn new(mut running: Running) -> Self {
        let mut line = String::new();
        let mut stdout = BufReader::new(running.stdout());
        stdout.read_line(&mut line).expect("its first line");
        let address = line.trim_end().to_owned();
        if address.is_empty() {
            panic!("it did not start: {}", running.end().stderr());
        }
        Self { running, address }
    }

    pub(crate) fn port(&self) -> &str {
        self.address.rsplit_once(':').expect("a port").1
    }

    pub(crate) fn kill(self) {
        self.running.kill();
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn make_room(&mut self) {
        self.running.make_room();
    }

    pub(crate) fn signal(&mut self, name: &str) {
        self.running.signal(name);
    }

    pub(crate) fn stderr(&mut self) -> ChildStderr {
        self.running.stderr()
    }

    pub(crate) fn terminate(mut self) -> Ended {
        self.running.signal("TERM");
        self.running.end()
    }
}

/// The lines of `bytes`, without their LFs.
pub(crate) fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    assert_eq!(all.pop().as_deref(), Some(&b""[..]), "the last line has an LF");
    all
}

pub(crate) fn sorted(mut lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    lines.sort();
    lines
}

/// Lines `0` to `count - 1` as a file's content.
pub(crate) fn numbers(count: usize) -> String {
    (0..count).map(|number| format!("{number}\n")).collect()
}

/// Reads lines from `from` until one satisfies `enough`, in a thread, bounded in time.
pub(crate) fn read_until(
    from: impl Read + Send + 'static,
    mut enough: impl FnMut(&str) -> bool + Send + 'static,
) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if enough(&line.expect("a line")) {
                let _ = done.send(());
                return;
            }
        }
    });
    ended.recv_timeout(BOUND).expect("the lines come");
}

/// The lines of a stream as they come.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub(crate) fn of(from: impl Read + Send + 'static) -> Self {
        let (told, heard) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let _ = told.send(line.expect("a line"));
            }
        });
        Self(heard)
    }

    /// The next line that contains `part`; what stands before it is passed over.
    pub(crate) fn next_with(&self, part: &str) -> String {
        loop {
            let line = self.0.recv_timeout(BOUND).expect("the line comes");
            if line.contains(part) {
                return line;
            }
        }
    }

    /// What is left, once the stream has ended.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0.iter().collect()
    }
}

/// Asks again until `ready` says yes.
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let until = Instant::now() + BOUND;
    while !ready() {
        assert!(Instant::now() < until, "{what} did not come");
        thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
