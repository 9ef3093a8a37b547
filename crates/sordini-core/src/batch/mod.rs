//! Batches: one type per state, moved by value.
//!
//! S1: a record is in exactly one of open, sealed, compressing, ready, stamped, resolved.

/// Names a batch for as long as it lives; rises in the order in which batches are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

pub mod body;

pub mod completion;

mod plain;

pub mod sealed;

pub mod open;

pub mod stages;

pub mod split;

#[cfg(test)]
mod tests;
