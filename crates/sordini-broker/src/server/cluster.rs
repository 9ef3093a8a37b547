//! Several nodes in one process, each with a listener of its own: a real cluster to clients, for
//! tests of what happens when leaders change, without a JVM.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::builder::{Limits, StartError, UNSENT_MAX, accept, unpredictable};
use super::connection::Shared;
use super::controller_log::{self, ControllerLog};
use super::core::{self, Command};
use super::machine::{self, Machine, Nodes};
use crate::broker::OpenError;
use crate::cluster::{Cluster, ClusterConfig};
use crate::faults::Faults;
use crate::monitor::Monitor;
use crate::storage::{DiskStorage, MemoryStorage, Storage};
use crate::time::Now;

use super::Stopped;

/// A running cluster. Dropping it closes the nodes' logs and waits for that.
///
/// ```
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use sordini_broker::{ClusterConfig, server::ClusterServer};
///
/// let mut config = ClusterConfig::default();
/// config.default_replication = 3;
/// let cluster = ClusterServer::start(config, "127.0.0.1:0", None).await?;
/// // .. a client at cluster.bootstrap() ..
/// cluster.kill_node(1).await?;
/// cluster.start_node(1).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ClusterServer {
    addrs: Vec<SocketAddr>,
    commands: mpsc::Sender<Command>,
    faults: Vec<Faults>,
    monitors: Vec<Monitor>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl ClusterServer {
    /// Starts [`ClusterConfig::nodes`] nodes. `listen` is the first one's address; the others get
    /// the ports behind it, or free ones if it is 0. Records and what the controller decided are
    /// kept in `folder`, in a folder for each node, or in memory. A [`ClusterConfig::seed`] of 0
    /// stands for an unpredictable one.
    ///
    /// # Errors
    /// If an address can't be listened on or is not this machine's own, or the folder can't be
    /// used, is that of a broker on its own, or of a cluster with another number of nodes.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled, as tokio does.
    ///
    /// # Cancellation
    /// Nothing is left behind but the folders, if they were created.
    pub async fn start(
        mut config: ClusterConfig,
        listen: &str,
        folder: Option<PathBuf>,
    ) -> Result<Self, StartError> {
        let listeners = bind(listen, config.nodes).await?;
        let limits = Limits::default();
        config.broker.max_unsent_bytes = config.broker.max_unsent_bytes.min(UNSENT_MAX);
        if config.seed == 0 {
            config.seed = unpredictable();
        }
        let nodes = config.nodes;
        let mut cluster = Cluster::new(config);
        let mut addrs = Vec::new();
        for (node, listener) in (1i32..).zip(&listeners) {
            let failed = |source| StartError::Listen { address: listen.to_owned(), source };
            let addr = listener.local_addr().map_err(failed)?;
            cluster.set_address(node, addr.ip().to_string(), addr.port());
            addrs.push(addr);
        }
        let faults = (1..=nodes).map(|node| cluster.faults(node)).collect();
        let monitors = (1..=nodes).map(|node| cluster.monitor(node)).collect();
        let (commands, receiver) = mpsc::channel();
        let (opened, opening) = oneshot::channel();
        let thread = thread::Builder::new().name("sordini-cluster".to_owned()).spawn(move || {
            match open(cluster, folder) {
                Ok(nodes) => {
                    if opened.send(Ok(())).is_ok() {
                        core::run(Machine::Nodes(Box::new(nodes)), &receiver);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            }
        });
        let thread = Some(thread.map_err(StartError::Thread)?);
        let died = |_| StartError::Thread(std::io::Error::other("it died while opening"));
        opening.await.map_err(died)??;
        let (stop, stopped) = watch::channel(false);
        let shared = Shared::new(commands.clone(), limits);
        for (node, listener) in (1i32..).zip(listeners) {
            tokio::spawn(accept(listener, node, shared.clone(), stopped.clone()));
        }
        Ok(Self { addrs, commands, faults, monitors, stop, thread })
    }

    /// Where clients may connect, as `bootstrap.servers` takes it: all nodes.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addrs: Vec<String> = self.addrs.iter().map(ToString::to_string).collect();
        addrs.join(",")
    }

    /// The nodes' addresses, that of node 1 first.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Orders faults of a node; of none, if there is no such node.
    #[must_use]
    pub fn faults(&self, node: i32) -> Option<Faults> {
        self.faults.get(usize::try_from(node).ok()?.checked_sub(1)?).cloned()
    }

    /// Asks what a node saw, over all its lives.
    #[must_use]
    pub fn monitor(&self, node: i32) -> Option<Monitor> {
        self.monitors.get(usize::try_from(node).ok()?.checked_sub(1)?).cloned()
    }

    /// Runs `ask` with the cluster, between two requests.
    ///
    /// # Errors
    /// If the cluster has stopped.
    ///
    /// # Cancellation
    /// Dropping the future does not stop `ask` from running; its result is lost.
    pub async fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Cluster, Now) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let now = core::now();
        self.ask(move |nodes| nodes.with(now, |cluster| ask(cluster, now))).await
    }

    /// Kills a node, as SIGKILL does: its clients see their connections close, the others have to
    /// find out.
    ///
    /// # Errors
    /// If the cluster has stopped.
    ///
    /// # Cancellation
    /// The node is killed all the same.
    pub async fn kill_node(&self, node: i32) -> Result<(), Stopped> {
        self.ask(move |nodes| nodes.kill_node(node)).await
    }

    /// Starts a node again on what it left.
    ///
    /// # Errors
    /// If the storage fails, or the cluster has stopped.
    ///
    /// # Cancellation
    /// The node is started all the same.
    pub async fn start_node(&self, node: i32) -> Result<(), OpenError> {
        let started = self.ask(move |nodes| nodes.start_node(core::now(), node)).await;
        started.unwrap_or_else(|stopped| Err(machine::unusable(stopped)))
    }

    /// Stops listening, shuts all nodes down in order, and waits for that.
    ///
    /// # Cancellation
    /// The cluster stops all the same.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        let (done, finished) = oneshot::channel();
        if self.commands.send(Command::Stop { clean: true, done: Some(done) }).is_ok() {
            let _ = finished.await;
        }
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Nodes) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |machine: &mut Machine| {
            if let Some(nodes) = machine.nodes() {
                let _ = answer.send(ask(nodes));
            }
        });
        self.commands.send(Command::Run(run)).map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }
}

impl Drop for ClusterServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.commands.send(Command::Stop { clean: true, done: None });
        self.join();
    }
}

/// A listener for each node.
async fn bind(listen: &str, nodes: i32) -> Result<Vec<TcpListener>, StartError> {
    let failed = |source| StartError::Listen { address: listen.to_owned(), source };
    let mut listeners = vec![TcpListener::bind(listen).await.map_err(failed)?];
    let first = listeners[0].local_addr().map_err(failed)?;
    if !first.ip().is_loopback() {
        return Err(StartError::Remote { address: first });
    }
    let wants_any = listen.ends_with(":0");
    for node in 1..u16::try_from(nodes).unwrap_or(u16::MAX) {
        let port = if wants_any { Some(0) } else { first.port().checked_add(node) };
        let Some(port) = port else {
            let address = format!("{}:{}", first.ip(), u32::from(first.port()) + u32::from(node));
            let source = std::io::Error::other("there is no such port");
            return Err(StartError::Listen { address, source });
        };
        let address = SocketAddr::new(first.ip(), port);
        let listener = TcpListener::bind(address).await;
        let failed = |source| StartError::Listen { address: address.to_string(), source };
        listeners.push(listener.map_err(failed)?);
    }
    Ok(listeners)
}

/// Starts all nodes, on what an earlier cluster left in the folder.
fn open(mut cluster: Cluster, folder: Option<PathBuf>) -> Result<Nodes, StartError> {
    let log = ControllerLog::open(folder, &mut cluster)?;
    Ok(Nodes::start(cluster, storages(log.folder().map(PathBuf::from)), log, core::now())?)
}

/// Each node's storage, which outlives its lives.
fn storages(folder: Option<PathBuf>) -> machine::OpenStorage {
    let mut memory: std::collections::BTreeMap<i32, MemoryStorage> = Default::default();
    Box::new(move |node| match &folder {
        Some(folder) => {
            let disk = DiskStorage::open(folder.join(format!("node-{node}")));
            let mut disk = disk.map_err(machine::unusable)?;
            controller_log::mark(&mut disk, node)?;
            Ok(Box::new(disk) as Box<dyn Storage>)
        }
        None => Ok(Box::new(memory.entry(node).or_default().clone())),
    })
}
