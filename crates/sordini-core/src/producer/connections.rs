//! Connections: making them, losing them, and what was on them.

use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::frame::put_request;
use sordini_protocol::messages::api_versions::ApiVersionsRequest;
use sordini_protocol::{EncodeError, Request as Message};

use crate::accumulator::counters::add;
use crate::acks::retry::backoff;
use crate::config::Address;
use crate::connection::produce::Frame;
use crate::connection::versions::FIRST_TRY;
use crate::connection::{Asked, ConnId, Connection, Phase};
use crate::producer::io::{Output, Trace};
use crate::producer::{Producer, SOFTWARE_NAME, SOFTWARE_VERSION};
use crate::time::Instant;
use crate::transaction::Coordinator;

/// What is remembered of an address between connections.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    pub(super) failures: u32,
    pub(super) not_before: Instant,
    /// Why the last connection failed, until one is ready.
    pub(super) cause: Option<Arc<str>>,
}

impl Producer {
    /// The connection to a node, once it is ready; starts one if there is none.
    pub(super) fn connection_to(&mut self, node: i32) -> Option<ConnId> {
        let address = self.cluster.brokers().get(&node)?.clone();
        if let Some(conn) = self.nodes.get(&node)
            && let Some(connection) = self.connections.get_mut(conn)
        {
            if connection.address == address {
                return connection.versions().map(|_| connection.id);
            }
            // The broker moved; whoever is there now answers what was asked, and no more.
            connection.node = None;
            self.nodes.remove(&node);
        }
        let adopted = self
            .connections
            .values_mut()
            .find(|connection| connection.node.is_none() && connection.address == address);
        if let Some(connection) = adopted {
            connection.node = Some(node);
            self.nodes.insert(node, connection.id);
            return connection.versions().map(|_| connection.id);
        }
        self.connect(Some(node), &address);
        None
    }

    /// A ready connection to whichever broker, `but` for one; starts one if there is none and none
    /// is coming.
    pub(super) fn any_connection(&mut self, but: Option<ConnId>) -> Option<ConnId> {
        let now = self.now;
        let ready = self.connections.values().filter(|connection| connection.can_send(now));
        let ready = ready.filter(|connection| Some(connection.id) != but);
        if let Some(least) = ready.min_by_key(|connection| connection.in_flight()) {
            return Some(least.id);
        }
        // One at a time; a connection that is being made to a leader may never come up, and does
        // not count.
        let seeking = self.seeking.and_then(|conn| self.connections.get(&conn));
        if seeking.is_some_and(|connection| connection.versions().is_none()) {
            return None;
        }
        let candidates = self.candidates();
        let count = candidates.len();
        for offset in 0..count {
            let at = (self.next_candidate + offset) % count;
            let (node, address) = candidates[at].clone();
            if self.reconnect_at(&address) <= now {
                self.next_candidate = at + 1;
                self.seeking = Some(ConnId(self.next_conn));
                self.connect(node, &address);
                return None;
            }
        }
        None
    }

    /// Where to look for a broker: those of the metadata, then those of the settings. Never where
    /// there is a connection, though it is slow or muted: a second one would reorder.
    fn candidates(&self) -> Vec<(Option<i32>, Address)> {
        let known = self.cluster.brokers().iter();
        let mut all: Vec<_> = known.map(|(node, address)| (Some(*node), address.clone())).collect();
        for address in &self.config.bootstrap_servers {
            if !all.iter().any(|(_, known)| known == address) {
                all.push((None, address.clone()));
            }
        }
        all.retain(|(_, address)| !self.connections.values().any(|at| at.address == *address));
        all
    }

    /// When the next of the candidates may be tried.
    pub(super) fn next_candidate_at(&self) -> Option<Instant> {
        self.candidates().iter().map(|(_, address)| self.reconnect_at(address)).min()
    }

    /// When a connection to a coordinator, or to whoever finds it, may be tried.
    pub(super) fn attempt_at(&self, coordinator: Coordinator) -> Option<Instant> {
        match coordinator {
            Coordinator::Anyone => self.next_candidate_at(),
            Coordinator::Node(node) => {
                self.cluster.brokers().get(&node).map(|address| self.reconnect_at(address))
            }
        }
    }

    /// When an address may be connected to.
    pub(super) fn reconnect_at(&self, address: &Address) -> Instant {
        let name: Arc<str> = address.to_string().into();
        self.reconnects.get(&name).map_or(Instant::ZERO, |state| state.not_before)
    }

    fn connect(&mut self, node: Option<i32>, address: &Address) {
        let name: Arc<str> = address.to_string().into();
        let state = self.reconnects.entry(name).or_default();
        if state.not_before > self.now {
            return;
        }
        let failures = state.failures;
        let first = self.config.socket_connection_setup_timeout;
        let doubled = first.saturating_mul(1 << failures.min(8));
        let limit = self.config.socket_connection_setup_timeout_max;
        let setup = doubled.min(limit.max(first));
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let deadline = self.now.saturating_add(setup);
        self.connections.insert(conn, Connection::new(conn, node, address.clone(), deadline));
        if let Some(node) = node {
            self.nodes.insert(node, conn);
        }
        self.outputs.push_back(Output::Connect { conn, address: address.clone(), failures });
    }

    pub(super) fn on_connected(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn)
            && matches!(connection.phase, Phase::Connecting)
        {
            self.ask_versions(conn, FIRST_TRY);
        }
    }

    /// Asks which versions the broker speaks (KIP-35), saying who asks (KIP-511).
    pub(super) fn ask_versions(&mut self, conn: ConnId, version: i16) {
        let request = ApiVersionsRequest {
            client_software_name: SOFTWARE_NAME.into(),
            client_software_version: SOFTWARE_VERSION.into(),
            ..ApiVersionsRequest::default()
        };
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.phase = Phase::Negotiating(version);
        }
        self.ask(conn, &request, version, Asked::ApiVersions(version));
    }

    /// Sends a request that gets a response.
    pub(super) fn ask<R: Message>(
        &mut self,
        conn: ConnId,
        request: &R,
        version: i16,
        asked: Asked,
    ) {
        let timeout = self.config.request_timeout;
        let client_id = Some(self.config.client_id.as_str());
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let mut bytes = Vec::with_capacity(128);
        let correlation = connection.next_correlation();
        let encoded: Result<(), EncodeError> =
            put_request(&mut bytes, request, version, correlation, client_id);
        if let Err(error) = encoded {
            self.kill(conn, &format!("a request could not be encoded: {error}"));
            return;
        }
        connection.sent(asked, bytes.len(), true, self.now, timeout);
        add(&self.accumulator.counters().bytes_sent, bytes.len() as u64);
        self.outputs.push_back(Output::Transmit { conn, frame: Frame::of(bytes) });
    }

    /// The connection turned out to be to a broker that we understand.
    pub(super) fn on_ready(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.framing.negotiated();
        let name = Arc::clone(&connection.name);
        if let Some(state) = self.reconnects.get_mut(&name) {
            *state = Reconnect::default();
        }
        add(&self.accumulator.counters().connections_made, 1);
        self.trace(Trace::Connected { conn, address: name });
    }

    /// Closes a connection that cannot be trusted or does not answer.
    pub(super) fn kill(&mut self, conn: ConnId, cause: &str) {
        if self.connections.contains_key(&conn) {
            self.outputs.push_back(Output::Disconnect { conn });
            self.on_disconnected(conn, &cause.into());
        }
    }

    /// Closes a connection that nothing needs.
    pub(super) fn retire(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.remove(&conn) {
            self.forget_node(connection.node, conn);
            self.outputs.push_back(Output::Disconnect { conn });
        }
    }

    fn forget_node(&mut self, node: Option<i32>, conn: ConnId) {
        if let Some(node) = node
            && self.nodes.get(&node) == Some(&conn)
        {
            self.nodes.remove(&node);
        }
    }

    pub(super) fn on_disconnected(&mut self, conn: ConnId, cause: &Arc<str>) {
        let Some(mut connection) = self.connections.remove(&conn) else { return };
        self.forget_node(connection.node, conn);
        let hint = connection.framing.looks_like().filter(|hint| !cause.contains(hint.as_str()));
        let hint = hint.map(|hint| format!("{cause}; {hint}"));
        let cause = hint.map_or_else(|| Arc::clone(cause), Into::into);
        let name = Arc::clone(&connection.name);
        self.back_off(&name, &cause);
        add(&self.accumulator.counters().connections_lost, 1);
        let address = Arc::clone(&name);
        self.trace(Trace::Disconnected { conn, address, cause: Arc::clone(&cause) });

        let bounds = self.retry_bounds();
        self.refresh.connection_lost(conn, self.now, bounds, &mut self.rng);
        if self.identity_conn == Some(conn) {
            self.identity_conn = None;
            self.identity.failed(None, self.now, bounds, &mut self.rng);
        }
        for (asked, begun) in connection.abandon() {
            self.on_asked_lost(asked, begun, &name, &cause);
        }
        if let (Some(node), Some(transactions)) = (connection.node, &mut self.transactions) {
            transactions.node_lost(node);
        }
        // Whoever led from there may do so no more.
        self.refresh.want();
        if !self.topics.is_empty() {
            let obstacle = crate::error::Obstacle::Connection { address: name, cause };
            let unresolved = self.topics.values().filter(|topic| topic.partitions() == 0);
            unresolved.for_each(|topic| topic.set_obstacle(obstacle.clone()));
        }
    }

    fn back_off(&mut self, name: &Arc<str>, cause: &Arc<str>) {
        let state = self.reconnects.entry(Arc::clone(name)).or_default();
        state.failures += 1;
        state.cause = Some(Arc::clone(cause));
        let (first, max): (Duration, Duration) =
            (self.config.reconnect_backoff, self.config.reconnect_backoff_max);
        let pause = backoff(first, max, state.failures, &mut self.rng);
        state.not_before = self.now.saturating_add(pause);
    }
}
