//! Why a program ends before its time.

use std::fmt::{self, Display};

#[derive(Debug)]
pub(crate) enum Failed {
    /// Another instance has the transactional id now, or the coordinator took it away.
    Fenced(String),
    /// Something is in the log that no transaction can have left there, or was told otherwise.
    Broken(String),
    Other(String),
}

impl Failed {
    pub(crate) fn other(what: impl Display) -> Self {
        Self::Other(what.to_string())
    }

    /// As Txn.java ends then.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Fenced(_) => 3,
            Self::Broken(_) => 4,
            Self::Other(_) => 1,
        }
    }
}

impl Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced(why) => write!(f, "fenced {why}"),
            Self::Broken(why) => write!(f, "broken {why}"),
            Self::Other(why) => write!(f, "failed {why}"),
        }
    }
}
