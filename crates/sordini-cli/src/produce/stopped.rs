//! How far a run of lines came, and why reading ended.

use sordini::SendError;

use crate::exit::Failure;

/// What a run of lines came to: how many were accepted, and why the next one was not.
pub(super) type Taken = (usize, Result<(), NotTaken>);

/// Why a line was not accepted.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// For this reason, which may be its own or that of all.
    Line(SendError),
    /// Nor is any behind it.
    Rest(Stopped),
}

impl From<SendError> for NotTaken {
    fn from(error: SendError) -> Self {
        Self::Line(error)
    }
}

/// Why reading ended before the input did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// A signal asked for it.
    Signal,
    /// Going on makes no sense, for this reason.
    Because(String),
}

impl Stopped {
    /// The reason, for who has to do without the rest of the input.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Signal => "reading stopped",
            Self::Because(why) => why,
        }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Because(failure.message)
    }
}
