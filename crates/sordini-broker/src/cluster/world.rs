//! The cluster as a whole: nodes that start and die, and the way of each input and output.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sordini_protocol::Uuid;

use super::controller::Controller;
use super::node::Node;
use super::peer::{Peer, PeerMessage};
use super::trace::{ClusterTrace, PartitionId};
use super::{ClusterConfig, ClusterError, ClusterOutput};
use crate::broker::{Broker, ConnectionId, IdSource, NewTopic, OpenError, Output};
use crate::coordinator::TransactionVersion;
use crate::faults::Faults;
use crate::monitor::Monitor;
use crate::storage::Storage;
use crate::time::{Instant, Now};
use crate::topic_config::TopicConfig;

/// A node's place, whether it runs or not.
pub(super) struct Seat {
    pub(super) broker: Option<Broker>,
    pub(super) faults: Faults,
    pub(super) monitor: Monitor,
    host: String,
    port: u16,
    skew_ms: i64,
    paused: bool,
    /// What arrived while the node was paused.
    held: VecDeque<(Peer, PeerMessage)>,
    /// Where each log really ended, so that a loss of the disk's shows.
    ends: BTreeMap<PartitionId, i64>,
}

/// Several brokers, a controller, replication. See the crate's documentation of clusters.
///
/// As with [`Broker`], inputs go in, and after each of them [`poll_output`](Self::poll_output)
/// is called until it is empty. A node's disk belongs to the caller, who hands it in at each
/// start.
pub struct Cluster {
    pub(super) config: ClusterConfig,
    pub(super) cluster_id: Uuid,
    pub(super) controller: Controller,
    pub(super) seats: BTreeMap<i32, Seat>,
    outputs: VecDeque<ClusterOutput>,
    /// Counts changes of finalised features: all nodes tell the same.
    features_epoch: i64,
    /// Lives of nodes so far.
    pub(super) incarnations: u64,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.config.nodes).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster whose nodes have not been started.
    #[must_use]
    pub fn new(config: ClusterConfig) -> Self {
        let seat = |node: i32| {
            let template = &config.broker;
            let port =
                template.advertised_port.saturating_add(u16::try_from(node - 1).unwrap_or(0));
            let seat = Seat {
                broker: None,
                faults: Faults::default(),
                monitor: Monitor::new(template.produce_log_limit),
                host: template.advertised_host.clone(),
                port,
                skew_ms: 0,
                paused: false,
                held: VecDeque::new(),
                ends: BTreeMap::new(),
            };
            (node, seat)
        };
        let seats = (1..=config.nodes).map(seat).collect();
        let mut controller = Controller::new(config.clone());
        let cluster_id = controller.ids.uuid();
        Self {
            config,
            cluster_id,
            controller,
            seats,
            outputs: VecDeque::new(),
            features_epoch: 1,
            incarnations: 0,
        }
    }

    /// Says where clients reach a node; by default the template's host, and its port and up.
    /// Takes effect at the node's next start.
    pub fn set_address(&mut self, node: i32, host: String, port: u16) {
        if let Some(seat) = self.seats.get_mut(&node) {
            (seat.host, seat.port) = (host, port);
        }
    }

    /// Starts a node on `storage`: empty, or as its earlier life left it. One that runs is killed
    /// first.
    ///
    /// # Errors
    /// If the storage fails, or the node's catalog is damaged.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn start(
        &mut self,
        now: Now,
        node: i32,
        storage: Box<dyn Storage>,
    ) -> Result<(), OpenError> {
        self.kill(node);
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let seat = self.seats.get_mut(&node).expect("a node of 1..=ClusterConfig::nodes");
        let mut broker_config = self.config.broker.clone();
        broker_config.node_id = node;
        broker_config.advertised_host.clone_from(&seat.host);
        broker_config.advertised_port = seat.port;
        let mut ids = IdSource::new(self.config.seed, incarnation);
        broker_config.id_seed = ids.next();
        let own = Node::new(&self.config, self.cluster_id, incarnation);
        let now = Now { wall_ms: now.wall_ms.saturating_add(seat.skew_ms), ..now };
        let mut broker = Broker::open_as(broker_config, storage, now, Some(Box::new(own)))?;
        broker.faults = seat.faults.clone();
        broker.monitor = seat.monitor.clone();
        broker.features_epoch = self.features_epoch;
        broker.node_started(now);
        seat.broker = Some(broker);
        self.drain(node);
        Ok(())
    }

    /// The node's process is gone, with all it had in memory. Its clients see their connections
    /// close: the caller knows them.
    pub fn kill(&mut self, node: i32) {
        let Some(seat) = self.seats.get_mut(&node) else { return };
        if let Some(broker) = &mut seat.broker {
            broker.drop_connections();
        }
        seat.broker = None;
        seat.paused = false;
        seat.held.clear();
    }

    /// Shuts a node down in order: its leaders move first, then its logs are closed, and it stops
    /// ([`ClusterTrace::Stopped`]; [`Cluster::is_running`]). Takes the controller's answers.
    pub fn shut_down(&mut self, now: Now, node: i32) {
        self.on(now, node, Broker::leave);
    }

    /// The node stands still (SIGSTOP): its timers do not fire, and what its peers send waits.
    pub fn pause(&mut self, node: i32) {
        if let Some(seat) = self.seats.get_mut(&node).filter(|seat| seat.broker.is_some()) {
            seat.paused = true;
        }
    }

    /// The node goes on.
    pub fn resume(&mut self, now: Now, node: i32) {
        let Some(seat) = self.seats.get_mut(&node) else { return };
        seat.paused = false;
        for (from, message) in std::mem::take(&mut seat.held) {
            self.handle_peer(now, from, Peer::Node(node), message);
        }
    }

    /// Whether the node's process is there, paused or not.
    #[must_use]
    pub fn is_running(&self, node: i32) -> bool {
        self.seats.get(&node).is_some_and(|seat| seat.broker.is_some())
    }

    /// Finalises another level of `transaction.version`; all nodes have it at once, and those that
    /// are started later.
    pub fn set_transaction_version(&mut self, version: TransactionVersion) {
        self.config.broker.transaction_version = version;
        self.features_epoch += 1;
        for broker in self.seats.values_mut().filter_map(|seat| seat.broker.as_mut()) {
            broker.set_transaction_version(version);
            broker.features_epoch = self.features_epoch;
        }
    }

    /// Sets how far a node's wall clock is ahead of [`Now::wall_ms`], in ms.
    pub fn set_wall_skew(&mut self, node: i32, ms: i64) {
        if let Some(seat) = self.seats.get_mut(&node) {
            seat.skew_ms = ms;
        }
    }

    /// A client has connected to a node. Ids of connections are unique over the cluster.
    pub fn connected(&mut self, node: i32, connection: ConnectionId) {
        if let Some(broker) = self.broker_mut(node) {
            broker.connected(connection);
        }
    }

    /// A client is gone; its requests that wait are dropped.
    pub fn disconnected(&mut self, node: i32, connection: ConnectionId) {
        if let Some(broker) = self.broker_mut(node) {
            broker.disconnected(connection);
        }
    }

    /// A whole request has arrived at a node: a frame without its size.
    pub fn handle_frame(&mut self, now: Now, node: i32, connection: ConnectionId, frame: Bytes) {
        self.on(now, node, |broker, now| broker.handle_frame(now, connection, frame));
    }

    /// So many bytes of answers were written to the client.
    pub fn transmitted(&mut self, now: Now, node: i32, connection: ConnectionId, bytes: usize) {
        self.on(now, node, |broker, now| broker.transmitted(now, connection, bytes));
    }

    /// A message between peers has arrived.
    pub fn handle_peer(&mut self, now: Now, from: Peer, to: Peer, message: PeerMessage) {
        match (from, to) {
            (Peer::Node(node), Peer::Controller) => {
                self.controller.handle(now, node, message.0);
                self.drain_controller();
            }
            (_, Peer::Node(node)) => {
                let Some(seat) = self.seats.get_mut(&node) else { return };
                if seat.paused {
                    seat.held.push_back((from, message));
                    return;
                }
                self.on(now, node, |broker, now| broker.handle_peer(now, from, message.0));
            }
            (Peer::Controller, Peer::Controller) => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let seats = self.seats.values().filter(|seat| !seat.paused);
        let nodes = seats.filter_map(|seat| seat.broker.as_ref()?.poll_timeout());
        nodes.chain(self.controller.next_expiry()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.controller.next_expiry().is_some_and(|at| at <= now.mono) {
            self.controller.expire(now);
            self.drain_controller();
        }
        for node in 1..=self.config.nodes {
            let seat = self.seats.get(&node).filter(|seat| !seat.paused);
            let due = seat.and_then(|seat| seat.broker.as_ref()?.poll_timeout());
            if due.is_some_and(|at| at <= now.mono) {
                self.on(now, node, Broker::handle_timeout);
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ClusterOutput> {
        self.outputs.pop_front()
    }

    /// Creates a topic; -1 partitions or replicas are the default. Nodes must have registered.
    ///
    /// # Errors
    /// If it is there already, the name is not valid, or there are not enough nodes.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replication: i16,
        config: TopicConfig,
    ) -> Result<Uuid, ClusterError> {
        let settings = config.iter().map(|(n, v)| (n.to_owned(), Some(v.to_owned()))).collect();
        let new = NewTopic { partitions, replication, settings, ..NewTopic::by_default(name) };
        let created = self.controller.create_topic(&new, false);
        self.publish();
        Ok(created?.id)
    }

    /// Deletes a topic; its id never comes back.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), ClusterError> {
        let deleted = self.controller.delete_topic(name);
        self.publish();
        Ok(deleted?)
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// If there is no such topic, or it has as many.
    pub fn add_partitions(&mut self, name: &str, total: i32) -> Result<(), ClusterError> {
        let grown = self.controller.add_partitions(name, total, &[], false);
        self.publish();
        Ok(grown?)
    }

    /// Changes one of a topic's settings.
    ///
    /// # Errors
    /// If there is no such topic or setting, or it does not take this value.
    pub fn set_topic_config(
        &mut self,
        topic: &str,
        setting: &str,
        value: &str,
    ) -> Result<(), ClusterError> {
        let changed = self.controller.set_topic_config(topic, setting, value);
        self.publish();
        Ok(changed?)
    }

    /// Moves leadership to a live member of the ISR. Returns whether the controller agreed; the
    /// nodes hear of it by message.
    pub fn move_leader(&mut self, topic: &str, partition: i32, to: i32) -> bool {
        let moved = self.controller.move_leader(topic, partition, to);
        self.publish();
        moved
    }

    /// Makes a live replica the leader, whether it is in sync or not. Returns whether the
    /// controller agreed.
    pub fn elect_unclean(&mut self, topic: &str, partition: i32, node: i32) -> bool {
        let elected = self.controller.elect_unclean(topic, partition, node);
        self.publish();
        elected
    }

    pub(super) fn publish(&mut self) {
        self.controller.publish();
        self.drain_controller();
    }

    pub(super) fn broker_mut(&mut self, node: i32) -> Option<&mut Broker> {
        self.seats.get_mut(&node)?.broker.as_mut()
    }

    /// Gives a running node an input, and takes what comes of it.
    pub(super) fn on(&mut self, now: Now, node: i32, input: impl FnOnce(&mut Broker, Now)) {
        let Some(seat) = self.seats.get_mut(&node) else { return };
        let Some(broker) = &mut seat.broker else { return };
        input(broker, Now { wall_ms: now.wall_ms.saturating_add(seat.skew_ms), ..now });
        self.drain(node);
    }

    fn drain_controller(&mut self) {
        self.outputs.extend(self.controller.traces.drain(..).map(ClusterOutput::Trace));
        for (node, message) in self.controller.outbox.drain(..) {
            let (from, to) = (Peer::Controller, Peer::Node(node));
            self.outputs.push_back(ClusterOutput::Peer { from, to, message: PeerMessage(message) });
        }
    }

    fn drain(&mut self, node: i32) {
        let Some(seat) = self.seats.get_mut(&node) else { return };
        let Some(broker) = &mut seat.broker else { return };
        let Some(own) = &mut broker.node else { return };
        for event in own.traces.drain(..) {
            note_end(&mut seat.ends, &mut self.outputs, node, event);
        }
        for (to, message) in own.outbox.drain(..) {
            let (from, message) = (Peer::Node(node), PeerMessage(message));
            self.outputs.push_back(ClusterOutput::Peer { from, to, message });
        }
        let ended = own.ended.take();
        while let Some(output) = broker.poll_output() {
            self.outputs.push_back(ClusterOutput::Broker { node, output });
        }
        let Some(event) = ended else { return };
        for connection in broker.drop_connections() {
            let output = Output::Close { connection, reason: "the node stops".to_owned() };
            self.outputs.push_back(ClusterOutput::Broker { node, output });
        }
        if self.config.traced {
            self.outputs.push_back(ClusterOutput::Trace(event));
        }
        self.kill(node);
    }
}

/// Passes an event on, and keeps track of where the log ends, so that what a disk lost shows when
/// the log is opened again.
fn note_end(
    ends: &mut BTreeMap<PartitionId, i64>,
    outputs: &mut VecDeque<ClusterOutput>,
    node: i32,
    event: ClusterTrace,
) {
    match &event {
        ClusterTrace::Appended { at, base_offset, batch, .. } => {
            let delta = crate::log::batch::Header::new(batch).map_or(0, |h| h.last_offset_delta());
            ends.insert(at.clone(), base_offset + i64::from(delta) + 1);
        }
        ClusterTrace::Opened { at, log_end, .. } => {
            let was = ends.insert(at.clone(), *log_end).unwrap_or(0);
            if was > *log_end {
                outputs.push_back(ClusterOutput::Trace(ClusterTrace::Truncated {
                    node,
                    at: at.clone(),
                    to: *log_end,
                    was,
                    by_storage: true,
                }));
            }
        }
        ClusterTrace::Truncated { at, to, .. } => {
            ends.insert(at.clone(), *to);
        }
        _ => {}
    }
    outputs.push_back(ClusterOutput::Trace(event));
}
