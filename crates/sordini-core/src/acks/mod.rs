//! What an acknowledgement, or its absence, means.

pub mod retry;
pub mod verdict;
