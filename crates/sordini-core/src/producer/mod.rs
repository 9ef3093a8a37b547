//! The control plane: one owner, no lock, no clock, no socket.
//!
//! Four kinds of methods. *Inputs*: [`Producer::handle_input`] and [`Producer::handle_timeout`]
//! tell what happened. *Outputs*: after each of them, call [`Producer::poll_output`] until it
//! returns `None` (S8), then [`Producer::poll_timeout`] for when to call `handle_timeout`.
//! *Getters* change nothing. [`Producer::abandon`] ends it from outside.
//!
//! This directory routes: what an acknowledgement means, which batch may go, who writes, is
//! decided in the modules above.

mod commands;
mod compose;
mod connections;
mod coordinators;
mod deadlines;
mod discovery;
pub mod io;
mod outcomes;
mod partitions;
mod responses;
mod table;
mod transactions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::ErrorCode;

use crate::accumulator::Accumulator;
use crate::accumulator::ready::Wake;
use crate::accumulator::topic::Topic;
use crate::acks::retry::{Rng, backoff};
use crate::batch::stages::JobId;
use crate::cluster::Cluster;
use crate::cluster::refresh::Refresh;
use crate::config::Config;
use crate::connection::versions::Features;
use crate::connection::{ConnId, Connection};
use crate::idempotence::Identity;
use crate::partitioner::Partitioner;
use crate::producer::commands::Life;
use crate::producer::connections::Reconnect;
use crate::producer::io::{Input, Output, Trace};
use crate::producer::partitions::Partition;
use crate::producer::responses::Request;
use crate::producer::table::{PartitionKey, Table};
use crate::sequencing::slot::RequestId;
use crate::time::{Clock, Instant, Now};
use crate::transaction::errand::AskId;
use crate::transaction::{Ask, Transactions};

/// The name that is told to brokers (KIP-511).
const SOFTWARE_NAME: &str = "sordini";
const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the machine is built with, beside its settings.
pub struct Components {
    /// Chooses partitions.
    pub partitioner: Arc<dyn Partitioner>,
    /// Read by appends that open a batch.
    pub clock: Arc<dyn Clock>,
    /// Called when [`Input::LanesDue`] is due.
    pub wake: Arc<dyn Wake>,
    /// Seeds all of the machine's randomness.
    pub seed: u64,
    /// Failed records are handed back with their outcome.
    pub return_failed: bool,
}

/// The machine.
pub struct Producer {
    config: Config,
    return_failed: bool,
    accumulator: Arc<Accumulator>,
    rng: Rng,
    outputs: VecDeque<Output>,
    /// The time of the last input.
    now: Instant,
    life: Life,
    topics: BTreeMap<u32, Arc<Topic>>,
    partitions: Table<Partition>,
    /// Partitions that have something to send, by their leader, in turn.
    runnable: BTreeMap<i32, VecDeque<PartitionKey>>,
    timers: BTreeSet<(Instant, PartitionKey)>,
    cluster: Cluster,
    refresh: Refresh,
    identity: Identity,
    identity_conn: Option<ConnId>,
    /// Of a producer with a `transactional.id`.
    transactions: Option<Transactions>,
    asks: BTreeMap<AskId, Ask>,
    asks_made: u64,
    /// What the cluster has finalized, as far as was told.
    features: Features,
    /// The last connection that was made to find any broker.
    seeking: Option<ConnId>,
    connections: BTreeMap<ConnId, Connection>,
    nodes: BTreeMap<i32, ConnId>,
    reconnects: BTreeMap<Arc<str>, Reconnect>,
    requests: BTreeMap<RequestId, Request>,
    flushes: Vec<commands::Flush>,
    closes: Vec<io::Token>,
    next_conn: u64,
    next_request: u64,
    next_candidate: usize,
    first_sequence: i32,
    first_epoch: i16,
    /// Batches taken from their lanes and not yet resolved.
    on_way: usize,
    /// An append found no memory.
    pressed: bool,
    /// What is to be handed back once its codec is done.
    owed: BTreeMap<JobId, outcomes::Owed>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("life", &self.life)
            .field("identity", &self.identity)
            .field("connections", &self.connections.len())
            .field("partitions", &self.partitions.len())
            .field("on_way", &self.on_way)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// A machine that does nothing until it is fed. `config` must have passed
    /// [`Config::check`].
    #[must_use]
    pub fn new(config: Config, components: Components) -> Self {
        let Components { partitioner, clock, wake, seed, return_failed } = components;
        let mut rng = Rng::new(seed);
        let accumulator = Accumulator::new(&config, partitioner, clock, wake, rng.bits());
        let transactions =
            config.transactional_id.as_ref().map(|_| Transactions::new(config.transaction_timeout));
        let identity = match transactions {
            Some(_) => Identity::Unassigned,
            None => Identity::new(config.enable_idempotence),
        };
        let next_candidate = rng.below(config.bootstrap_servers.len().max(1) as u64) as usize;
        Self {
            return_failed,
            accumulator,
            rng,
            outputs: VecDeque::new(),
            now: Instant::ZERO,
            life: Life::Open,
            topics: BTreeMap::new(),
            partitions: Table::default(),
            runnable: BTreeMap::new(),
            timers: BTreeSet::new(),
            cluster: Cluster::default(),
            refresh: Refresh::default(),
            identity,
            identity_conn: None,
            transactions,
            asks: BTreeMap::new(),
            asks_made: 0,
            features: Features::default(),
            seeking: None,
            connections: BTreeMap::new(),
            nodes: BTreeMap::new(),
            reconnects: BTreeMap::new(),
            requests: BTreeMap::new(),
            flushes: Vec::new(),
            closes: Vec::new(),
            next_conn: 0,
            next_request: 0,
            next_candidate,
            first_sequence: 0,
            first_epoch: 0,
            on_way: 0,
            pressed: false,
            owed: BTreeMap::new(),
            config,
        }
    }

    /// Makes each partition's first sequence begin at `first`, to test what lies near 2^31.
    #[doc(hidden)]
    pub fn begin_sequences_at(&mut self, first: i32) {
        assert!(first >= 0, "a sequence is 31 bits wide");
        self.first_sequence = first;
    }

    /// Takes `first` for the epoch of producer ids that come with a lower one, to test what lies
    /// near 32767.
    #[doc(hidden)]
    pub fn begin_epochs_at(&mut self, first: i16) {
        assert!(first >= 0, "an epoch is 15 bits wide");
        self.first_epoch = first;
    }

    /// The data plane, to be shared with the callers' threads.
    #[must_use]
    pub fn accumulator(&self) -> &Arc<Accumulator> {
        &self.accumulator
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        assert!(self.outputs.is_empty(), "S8: outputs are drained between inputs");
        self.now = self.now.max(now.mono);
        match input {
            Input::Connected { conn } => self.on_connected(conn),
            Input::ConnectFailed { conn, cause } | Input::Disconnected { conn, cause } => {
                self.on_disconnected(conn, &cause);
            }
            Input::Received { conn, bytes } => self.on_received(conn, bytes),
            Input::Transmitted { conn, through } => self.on_transmitted(conn, through),
            Input::LanesDue => self.on_lanes_due(),
            Input::Compressed(compressed) => self.on_compressed(compressed),
            Input::Command(command) => self.on_command(command),
        }
        self.drive();
    }

    /// The time told by [`Producer::poll_timeout`] has come; calling it earlier does no harm.
    pub fn handle_timeout(&mut self, now: Now) {
        assert!(self.outputs.is_empty(), "S8: outputs are drained between inputs");
        self.now = self.now.max(now.mono);
        self.on_deadlines();
        self.drive();
    }

    /// The next effect, in their one order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Producer::handle_timeout`], if nothing comes before; always later than the
    /// last input. Hand in first what has arrived: after a pause of the whole process an answer
    /// may lie in the socket that the deadline would declare missing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline()
    }

    /// Is every record resolved, and the machine closed?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.life, Life::Closed)
    }

    /// Does any batch wait to be sent or acknowledged, open ones included?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.on_way > 0 || self.partitions.values().any(Partition::has_waiting)
    }

    /// Does what the new state of things allows.
    fn drive(&mut self) {
        if self.is_closed() {
            return;
        }
        self.transact();
        self.discover();
        self.pump_all();
        if self.relieve() {
            self.pump_all();
        }
        // What failed on the way may have ended what transactions waited for.
        self.transact();
        // What was tried may have shown what is missing: a leader, or a new producer id.
        self.discover();
        self.finish_commands();
    }

    fn pump_all(&mut self) {
        let nodes: Vec<i32> = self.runnable.keys().copied().collect();
        for node in nodes {
            self.pump(node);
        }
    }

    fn trace(&mut self, trace: Trace) {
        self.outputs.push_back(Output::Trace(trace));
    }

    fn retry_bounds(&self) -> (Duration, Duration) {
        (self.config.retry_backoff, self.config.retry_backoff_max)
    }

    /// When to try again after `failures` in a row.
    fn retry_after(&mut self, failures: u32) -> Instant {
        let (first, max) = self.retry_bounds();
        let pause = backoff(first, max, failures, &mut self.rng);
        self.now.saturating_add(pause)
    }

    /// The code that ended the producer, if one did.
    #[must_use]
    pub fn fatal(&self) -> Option<ErrorCode> {
        match self.identity {
            Identity::Fatal(code) => Some(code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
