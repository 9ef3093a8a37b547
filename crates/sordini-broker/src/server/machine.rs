//! What the server's thread owns: a broker on its own, or all nodes of a cluster.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use bytes::Bytes;

use super::controller_log::ControllerLog;
use crate::broker::{Broker, ConnectionId, OpenError, Output};
use crate::cluster::{Cluster, ClusterOutput};
use crate::storage::Storage;
use crate::time::{Instant, Now};

/// Where a connection's id names its node: the bits above the counter.
const NODE_SHIFT: u32 = 40;

/// The `counter`-th connection of a node.
pub(super) fn connection_id(node: i32, counter: u64) -> ConnectionId {
    ConnectionId(u64::from(node.unsigned_abs()) << NODE_SHIFT | counter)
}

fn node_of(connection: ConnectionId) -> i32 {
    i32::try_from(connection.0 >> NODE_SHIFT).unwrap_or(0)
}

/// Opens a node's storage, empty or as its last life left it.
pub(super) type OpenStorage = Box<dyn FnMut(i32) -> Result<Box<dyn Storage>, OpenError> + Send>;

/// See the module.
pub(super) enum Machine {
    Sole(Box<Broker>),
    Nodes(Box<Nodes>),
}

/// The nodes of a cluster in one process: what they tell each other arrives at once.
pub(super) struct Nodes {
    cluster: Cluster,
    open: OpenStorage,
    log: ControllerLog,
    connections: BTreeSet<ConnectionId>,
    outputs: VecDeque<Output>,
}

impl Nodes {
    /// Starts all nodes.
    pub(super) fn start(
        cluster: Cluster,
        open: OpenStorage,
        log: ControllerLog,
        now: Now,
    ) -> Result<Self, OpenError> {
        let (connections, outputs) = (BTreeSet::new(), VecDeque::new());
        let mut started = Self { cluster, open, log, connections, outputs };
        for node in 1..=started.cluster.nodes() {
            started.start_node(now, node)?;
        }
        started.with(now, Cluster::all_are_back);
        Ok(started)
    }

    /// Runs `ask` with the cluster, and carries what comes of it.
    pub(super) fn with<T>(&mut self, now: Now, ask: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = ask(&mut self.cluster);
        self.carry(now);
        result
    }

    /// Starts a node on its storage, as its last life left it.
    pub(super) fn start_node(&mut self, now: Now, node: i32) -> Result<(), OpenError> {
        self.kill_node(node);
        let storage = (self.open)(node)?;
        let started = self.cluster.start(now, node, storage);
        self.carry(now);
        started
    }

    /// Kills a node: its clients see their connections close.
    pub(super) fn kill_node(&mut self, node: i32) {
        self.cluster.kill(node);
        let gone: Vec<ConnectionId> =
            self.connections.iter().copied().filter(|id| node_of(*id) == node).collect();
        for connection in gone {
            self.connections.remove(&connection);
            let reason = "the node was killed".to_owned();
            self.outputs.push_back(Output::Close { connection, reason });
        }
    }

    /// Delivers what the peers tell each other until they fall silent. Nobody hears what the
    /// controller decided before it is kept.
    fn carry(&mut self, now: Now) {
        self.keep();
        while let Some(output) = self.cluster.poll_output() {
            match output {
                ClusterOutput::Peer { from, to, message } => {
                    self.cluster.handle_peer(now, from, to, message);
                    self.keep();
                }
                ClusterOutput::Broker { output, .. } => self.outputs.push_back(output),
                ClusterOutput::Trace(event) => tracing::trace!(?event),
            }
        }
    }

    /// Keeps what the controller decided. A controller that can't is no controller: a restart
    /// would go back to what was, so the nodes stop before they act on what is not kept.
    fn keep(&mut self) {
        let Err(error) = self.log.keep(&self.cluster) else { return };
        tracing::error!(%error, "what the controller decided can't be kept: all nodes stop");
        while self.cluster.poll_output().is_some() {}
        for node in 1..=self.cluster.nodes() {
            self.kill_node(node);
        }
    }

    /// Shuts all nodes down in order. What is kept is who led before: all stop for good, so nobody
    /// needs to hand on what it leads.
    fn close(&mut self, now: Now) {
        self.log.end();
        for connection in std::mem::take(&mut self.connections) {
            self.cluster.disconnected(node_of(connection), connection);
        }
        for node in 1..=self.cluster.nodes() {
            self.with(now, |cluster| cluster.shut_down(now, node));
        }
    }
}

impl Machine {
    pub(super) fn connected(&mut self, id: ConnectionId) {
        match self {
            Self::Sole(broker) => broker.connected(id),
            Self::Nodes(nodes) if nodes.cluster.is_running(node_of(id)) => {
                nodes.connections.insert(id);
                nodes.cluster.connected(node_of(id), id);
            }
            Self::Nodes(nodes) => {
                let reason = "the node does not run".to_owned();
                nodes.outputs.push_back(Output::Close { connection: id, reason });
            }
        }
    }

    pub(super) fn disconnected(&mut self, id: ConnectionId) {
        match self {
            Self::Sole(broker) => broker.disconnected(id),
            Self::Nodes(nodes) => {
                nodes.connections.remove(&id);
                nodes.cluster.disconnected(node_of(id), id);
            }
        }
    }

    pub(super) fn handle_frame(&mut self, now: Now, id: ConnectionId, frame: Bytes) {
        match self {
            Self::Sole(broker) => broker.handle_frame(now, id, frame),
            Self::Nodes(nodes) => {
                nodes.with(now, |cluster| cluster.handle_frame(now, node_of(id), id, frame));
            }
        }
    }

    pub(super) fn transmitted(&mut self, now: Now, id: ConnectionId, bytes: usize) {
        match self {
            Self::Sole(broker) => broker.transmitted(now, id, bytes),
            Self::Nodes(nodes) => {
                nodes.with(now, |cluster| cluster.transmitted(now, node_of(id), id, bytes));
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Sole(broker) => broker.poll_timeout(),
            Self::Nodes(nodes) => nodes.cluster.poll_timeout(),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        match self {
            Self::Sole(broker) => broker.handle_timeout(now),
            Self::Nodes(nodes) => nodes.with(now, |cluster| cluster.handle_timeout(now)),
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::Sole(broker) => broker.poll_output(),
            Self::Nodes(nodes) => nodes.outputs.pop_front(),
        }
    }

    /// Writes and syncs all there is.
    pub(super) fn close(&mut self, now: Now) -> Result<(), OpenError> {
        match self {
            Self::Sole(broker) => broker.close(),
            Self::Nodes(nodes) => {
                nodes.close(now);
                Ok(())
            }
        }
    }

    /// The broker on its own.
    pub(super) fn sole(&mut self) -> Option<&mut Broker> {
        match self {
            Self::Sole(broker) => Some(broker),
            Self::Nodes(_) => None,
        }
    }

    /// The nodes of a cluster.
    pub(super) fn nodes(&mut self) -> Option<&mut Nodes> {
        match self {
            Self::Sole(_) => None,
            Self::Nodes(nodes) => Some(nodes),
        }
    }
}

/// A storage that can't be opened, as a broker that can't.
pub(super) fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> OpenError {
    OpenError::Storage(io::Error::other(error))
}
