//! Programs that answer each line of their input with a line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A program with its input kept open; killed if the test lets go of it. Its standard error goes to
/// the test's own.
pub struct Dialogue {
    child: Child,
    // None once it was told that there is no more.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Dialogue {
    /// Starts a program.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Nobody listens any more: the program's end comes next.
                let _ = sender.send(line);
            }
        });
        Self { input: child.stdin.take(), child, lines }
    }

    /// Says a line and waits for the answer.
    ///
    /// # Panics
    /// If there is none before the deadline.
    pub fn ask(&mut self, line: &str, deadline: Duration) -> String {
        self.say(line);
        self.hear(deadline).unwrap_or_else(|| panic!("no answer to `{line}` within {deadline:?}"))
    }

    /// Says a line; a program that has ended does not hear it.
    pub fn say(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// The next line that it prints; `None` if it prints none before the deadline or its end.
    #[must_use]
    pub fn hear(&mut self, deadline: Duration) -> Option<String> {
        self.lines.recv_timeout(deadline).ok()
    }

    /// The last of the lines that it has printed and nobody has heard.
    #[must_use]
    pub fn latest(&mut self) -> Option<String> {
        self.lines.try_iter().last()
    }

    /// How many lines a program that has ended had printed that nobody has heard.
    #[must_use]
    pub fn rest(&mut self) -> u64 {
        // Ends with the program's output.
        self.lines.iter().count() as u64
    }

    /// There is no more to say.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Panics
    /// If the system refuses to say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// SIGKILL, and its end awaited.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Ends its input and waits for its end; `None` if that did not come before the deadline.
    pub fn finish(&mut self, deadline: Duration) -> Option<ExitStatus> {
        self.end_input();
        let end = Instant::now() + deadline;
        loop {
            let status = self.ended();
            if status.is_some() || Instant::now() >= end {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        self.kill();
    }
}
