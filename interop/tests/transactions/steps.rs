//! Transactions step by step.

use std::time::Duration;

use sordini_interop::dialogue::Dialogue;
use sordini_interop::transactions::Client;

const ANSWER: Duration = Duration::from_secs(90);

/// Of each topic that is written to.
pub(crate) const PARTITIONS: u64 = 3;

/// A program that does one step for each line.
pub(crate) struct Steps(Dialogue);

impl Steps {
    pub(crate) fn new(client: Client, bootstrap: &str, topic: &str, id: &str) -> Self {
        let mut command = client.program("steps");
        command.args(["--bootstrap", bootstrap, "--topic", topic, "--id", id]);
        command.args(["--partitions", &PARTITIONS.to_string()]);
        Self(Dialogue::start(&mut command))
    }

    /// What a step comes to.
    pub(crate) fn ask(&mut self, step: &str) -> String {
        self.0.ask(step, ANSWER)
    }

    /// Steps that all must succeed.
    pub(crate) fn all(&mut self, steps: &[&str]) {
        for step in steps {
            assert_eq!(self.ask(step), "ok", "{step}");
        }
    }
}
