//! Reads a topic's partitions, and asks for topics to be made: what the command line's `tail` and
//! `topic` need, and no more. It is no consumer: no groups, no commits, no assignment.
//!
//! `machine` is the logic, without clock and socket; [`Tail`] drives it under tokio. [`Admin`] is
//! a plain request and response client. Nothing here is part of the crate's promise of stability.
//!
//! Answers are hostile bytes: a frame is refused by its length before memory is given to it, counts
//! are bounded by the decoder, decompression by its cap.

mod admin;
mod batches;
mod driver;
mod error;
mod link;
mod machine;
mod partition;
mod settings;
mod socket;
mod wire;

pub use admin::{Admin, NewTopic, TopicDescription, TopicPartition};
pub use batches::FetchedRecord;
pub use driver::{Event, Tail};
pub use error::{FetchError, SettingError};
pub use machine::{Notice, Plan, Start};
pub use settings::{Address, Isolation, Settings};

#[cfg(test)]
mod tests;
