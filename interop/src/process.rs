//! Programs with a deadline.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// The exit status; `None` if it was still running at the deadline, and was killed.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
    /// The greatest resident memory seen while it ran, in bytes.
    pub peak_memory: u64,
    command: String,
}

impl Finished {
    /// The exit code; `None` after a signal or the deadline.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// This, if the program ended well.
    ///
    /// # Panics
    /// If it did not, with all that it printed.
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(self.status.is_some_and(|status| status.success()), "{self}");
        self
    }

    /// Standard output as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => writeln!(f, "`{}` ended: {status}", self.command)?,
            None => writeln!(f, "`{}` was killed at its deadline", self.command)?,
        }
        let stdout = String::from_utf8_lossy(&self.stdout);
        let tail: Vec<&str> = stdout.lines().rev().take(20).collect();
        for line in tail.iter().rev() {
            writeln!(f, "  out: {line}")?;
        }
        for line in self.stderr.lines() {
            writeln!(f, "  err: {line}")?;
        }
        Ok(())
    }
}

/// What a program reads.
pub enum Input {
    /// Nothing: its standard input is at its end.
    Nothing,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// A file.
    File(PathBuf),
}

type Drained = JoinHandle<Vec<u8>>;

/// A program that runs beside the test; killed if the test lets go of it.
pub struct Running {
    child: Child,
    output: Option<(Drained, Drained)>,
    command: String,
}

/// Starts a program.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn start(command: &mut Command, input: Input) -> Running {
    let shown = shown(command);
    let stdin = match &input {
        Input::Nothing => Stdio::null(),
        Input::Bytes(_) => Stdio::piped(),
        Input::File(path) => std::fs::File::open(path).expect("the input file opens").into(),
    };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start `{shown}`: {e}"));
    if let Input::Bytes(bytes) = input {
        let mut pipe = child.stdin.take().expect("piped");
        // The program may end before it has read all: its verdict tells, not this write.
        thread::spawn(move || drop(pipe.write_all(&bytes)));
    }
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    Running { child, output: Some((stdout, stderr)), command: shown }
}

/// Starts a program and waits for its end.
#[must_use]
pub fn run(command: &mut Command, input: Input, deadline: Duration) -> Finished {
    start(command, input).finish(deadline)
}

fn drain(mut pipe: impl Read + Send + 'static) -> Drained {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        bytes
    })
}

impl Running {
    /// Waits for the end, at most for the time given; then kills it.
    ///
    /// # Panics
    /// If the system refuses to say how it ended.
    #[must_use]
    pub fn finish(mut self, deadline: Duration) -> Finished {
        let end = Instant::now() + deadline;
        let mut peak_memory = 0;
        let status = loop {
            peak_memory = peak_memory.max(self.memory());
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break Some(status);
            }
            if Instant::now() >= end {
                self.kill();
                break None;
            }
            thread::sleep(Duration::from_millis(20));
        };
        let (stdout, stderr) = self.output.take().expect("taken only here");
        Finished {
            status,
            stdout: stdout.join().expect("the reader ends with the pipe"),
            stderr: String::from_utf8_lossy(&stderr.join().expect("as above")).into_owned(),
            peak_memory,
            command: self.command.clone(),
        }
    }

    /// Is it running still?
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and its end awaited.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// A signal by its name: TERM, STOP.
    ///
    /// # Panics
    /// If there is no program `kill`.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(self.child.id().to_string());
        drop(kill.output().expect("`kill` is there"));
    }

    /// The peak of its resident memory so far, in bytes; 0 where the system does not tell.
    fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls until it holds.
///
/// # Panics
/// If it does not before the deadline; only a hang should reach that.
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Does anybody listen there?
#[must_use]
pub fn listens(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// A port that was free a moment ago, for a server that must come back at the same one.
///
/// # Panics
/// If the system has none.
#[must_use]
pub fn free_port() -> u16 {
    free_ports(1)
}

/// As [`free_port`], with `count - 1` free ones behind it.
///
/// # Panics
/// If the system has none.
#[must_use]
pub fn free_ports(count: u16) -> u16 {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let first = listener.local_addr().expect("bound").port();
        let mut rest = (1..count).map(|more| first.checked_add(more));
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if rest.all(|port| port.is_some_and(free)) {
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
