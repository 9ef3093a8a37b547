//! A Kafka producer as a state machine: no clock, thread or socket.
//!
//! Two planes. The data plane ([`accumulator`]) is shared by the callers' threads: it encodes each
//! record into its partition's open batch. The control plane ([`producer::Producer`]) has one
//! owner, is fed inputs and drained of outputs, and decides everything else.
//!
//! The modules stand in the order in which they may use each other: a file uses only what stands
//! above it.
#![forbid(unsafe_code)]

// The blank lines keep rustfmt from sorting what is in order.
mod sync;

pub mod time;

pub mod token;

pub mod error;

pub mod config;

pub mod guarantees;

pub mod record;

pub mod wire;

pub mod partitioner;

pub mod memory;

pub mod batch;

pub mod accumulator;

pub mod sequencing;

pub mod acks;

pub mod idempotence;

pub mod transaction;

pub mod connection;

pub mod cluster;

pub mod producer;

#[cfg(all(test, shuttle))]
mod tests;
