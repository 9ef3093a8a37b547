//! How a command ends: its exit code, and what it says.

use std::fmt::Display;

/// Something was not delivered, or could not be done.
pub(crate) const FAILED: u8 = 1;
/// The command line, a setting, a missing file or a locked folder.
pub(crate) const USAGE: u8 = 2;

/// A command that did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) code: u8,
    /// What to say on stderr; empty where all is said.
    pub(crate) message: String,
}

impl Failure {
    /// It could not be done: exit code 1.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { code: FAILED, message: message.to_string() }
    }

    /// It was not asked for in the right way: exit code 2.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// All is said, only the exit code remains.
    pub(crate) fn quiet(code: u8) -> Self {
        Self { code, message: String::new() }
    }
}

/// What a command ends with.
pub(crate) type Outcome = Result<(), Failure>;
