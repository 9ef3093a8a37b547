//! Names a command for its answer.

use crate::time::Instant;

/// Names a command for its answer; the driver chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Waiter {
    /// Whom to answer.
    pub token: Token,
    /// Since when.
    pub since: Instant,
    /// When to answer at the latest.
    pub deadline: Instant,
}
