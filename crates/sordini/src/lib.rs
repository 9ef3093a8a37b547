//! A Kafka producer for tokio that says what happened to each record.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod fetch;
