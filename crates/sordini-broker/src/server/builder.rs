//! How a server is described and started.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sordini_protocol::ApiKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::Server;
use super::connection::{self, Shared};
use super::controller_log;
use super::core;
use super::machine::{Machine, connection_id};
use crate::broker::{Broker, ConnectionId, OpenError};
use crate::config::BrokerConfig;
use crate::coordinator::TransactionVersion;
use crate::storage::{DiskStorage, MemoryStorage, OpenFolderError, Storage};
use crate::topic_config::ConfigError;
use crate::versions::{UnknownRelease, Versions};

/// Bytes of unwritten answers beyond which a connection's requests wait.
pub(super) const UNSENT_MAX: usize = 1024 * 1024;
/// How long the listener rests when the system has no sockets left.
const REST: Duration = Duration::from_millis(50);

/// What clients may take: sizes, numbers and times.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one request, Kafka's `socket.request.max.bytes`: 100 MiB.
    pub frame_bytes: usize,
    /// Bytes of a connection's requests that are read ahead of their processing: 128 MiB.
    pub queued_bytes: usize,
    /// The same of all connections together: 512 MiB.
    pub total_queued_bytes: usize,
    /// Connections at a time: 1000.
    pub connections: usize,
    /// How long a new connection may take to its first request: 10 s.
    pub handshake: Duration,
    /// How long a connection may be idle, Kafka's `connections.max.idle.ms`: 10 min.
    pub idle: Duration,
    /// How long a request or answer may take to be transferred, beside what its size needs at the
    /// slowest rate: 10 s.
    pub transfer: Duration,
    /// The slowest rate that is put up with, bytes a second: 64 KiB.
    pub slowest_bytes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 100 * 1024 * 1024,
            queued_bytes: 128 * 1024 * 1024,
            total_queued_bytes: 512 * 1024 * 1024,
            connections: 1000,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(600),
            transfer: Duration::from_secs(10),
            slowest_bytes_per_second: 64 * 1024,
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] OpenFolderError),
    /// What is in the folder can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The folder is a cluster's, or one of another number of nodes.
    #[error(
        "the folder {} holds a cluster of {nodes} nodes; serve it as such (--nodes {nodes}), or \
         choose another folder",
        folder.display()
    )]
    OtherCluster {
        /// The folder.
        folder: PathBuf,
        /// How many nodes it was made with.
        nodes: i32,
    },
    /// The folder is one node's of a cluster: a broker on its own would take its records for
    /// strays, and the other nodes would then cut theirs to match.
    #[error(
        "the folder {} is that of one node of a cluster; serve the folder above it (--nodes), or \
         choose another folder",
        folder.display()
    )]
    Node {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder is that of a broker on its own.
    #[error(
        "the folder {} holds the data of a single broker; serve it without --nodes, or choose \
         another folder",
        folder.display()
    )]
    Sole {
        /// The folder.
        folder: PathBuf,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}; choose another address, or stop what has it")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Others than this machine could connect.
    #[error(
        "listening on {address} lets other machines connect, and there is no authentication yet; \
         listen on 127.0.0.1, or allow remote clients (--allow-remote)"
    )]
    Remote {
        /// The address.
        address: SocketAddr,
    },
    /// Clients can't be told where to connect.
    #[error("clients can't connect to {advertised:?}; advertise HOST:PORT (--advertise)")]
    Advertise {
        /// What was to be advertised.
        advertised: String,
    },
    /// A setting of the broker is not valid.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// The release to imitate is not known.
    #[error(transparent)]
    Release(#[from] UnknownRelease),
    /// The number of partitions is not valid.
    #[error("topics can't have {0} partitions by default; the number must be from 1 to 10000")]
    Partitions(i32),
    /// The system gave no thread, or the broker's thread died.
    #[error("the broker's thread could not be started: {0}")]
    Thread(io::Error),
}

enum Place {
    Memory,
    Folder(PathBuf),
    Other(Box<dyn Storage>),
}

/// Describes a server; see [`Server::builder`].
#[must_use = "a builder does nothing until start() is awaited"]
pub struct ServerBuilder {
    config: BrokerConfig,
    limits: Limits,
    place: Place,
    listen: String,
    advertise: Option<String>,
    allow_remote: bool,
    topic_defaults: Vec<(String, String)>,
    release: Option<String>,
    caps: Vec<(ApiKey, i16)>,
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            config: BrokerConfig { max_unsent_bytes: UNSENT_MAX, ..BrokerConfig::default() },
            limits: Limits::default(),
            place: Place::Memory,
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            allow_remote: false,
            topic_defaults: Vec::new(),
            release: None,
            caps: Vec::new(),
        }
    }
}

impl ServerBuilder {
    /// Keeps everything in memory; the default.
    pub fn in_memory(mut self) -> Self {
        self.place = Place::Memory;
        self
    }

    /// Keeps everything in this folder, which is created if it is not there.
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.place = Place::Folder(folder.into());
        self
    }

    /// Keeps everything in this storage, such as one with faults.
    pub fn storage(mut self, storage: impl Storage + 'static) -> Self {
        self.place = Place::Other(Box::new(storage));
        self
    }

    /// Listens on this `HOST:PORT`; 127.0.0.1 and a free port by default.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Tells clients to connect to this `HOST:PORT`; what is listened on by default. Port 0 is
    /// the port that is listened on.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Lets other machines connect, though there is no authentication.
    pub fn allow_remote(mut self, allow: bool) -> Self {
        self.allow_remote = allow;
        self
    }

    /// Partitions of topics that are created without a number; 3 by default.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.config.default_partitions = partitions;
        self
    }

    /// Whether a topic that a client asks for is created; yes by default.
    pub fn auto_create(mut self, create: bool) -> Self {
        self.config.auto_create_topics = create;
        self
    }

    /// Whether a batch is acknowledged only after it has survived a sync; no by default, as in
    /// Kafka. Syncs are shared by all that wait for one.
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.config.fsync = fsync;
        self
    }

    /// Whether a first sequence other than 0 is refused where nothing is known of a producer; no
    /// by default, as in Kafka.
    pub fn strict_first_sequence(mut self, strict: bool) -> Self {
        self.config.strict_first_sequence = strict;
        self
    }

    /// A topic setting, by its Kafka name, that topics get when they are created.
    pub fn topic_default(mut self, setting: impl Into<String>, value: impl Into<String>) -> Self {
        self.topic_defaults.push((setting.into(), value.into()));
        self
    }

    /// Which protocol of transactions is finalised; [`TransactionVersion::V2`] by default. A
    /// release before 4.0 ([`kafka_version`](Self::kafka_version)) has the old one.
    pub fn transaction_version(mut self, version: TransactionVersion) -> Self {
        self.config.transaction_version = version;
        self
    }

    /// Offers the API versions of this Kafka release, `"2.1"` up to `"4.4"`.
    pub fn kafka_version(mut self, release: impl Into<String>) -> Self {
        self.release = Some(release.into());
        self
    }

    /// Offers an API only up to this version; -1: not at all.
    pub fn max_version(mut self, key: ApiKey, version: i16) -> Self {
        self.caps.push((key, version));
        self
    }

    /// The id of the broker, 1 by default.
    pub fn node_id(mut self, id: i32) -> Self {
        self.config.node_id = id;
        self
    }

    /// Where ids come from: the same seed gives the same ids. Unpredictable by default.
    pub fn id_seed(mut self, seed: u64) -> Self {
        self.config.id_seed = seed;
        self
    }

    /// What clients may take.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Most batches that [`crate::Monitor`] remembers; 10 000 by default.
    pub fn produce_log_limit(mut self, batches: usize) -> Self {
        self.config.produce_log_limit = batches;
        self
    }

    /// Starts the server on the current tokio runtime.
    ///
    /// # Errors
    /// If a setting is not valid, the folder can't be used, or the address can't be listened on.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled, as tokio does.
    ///
    /// # Cancellation
    /// Nothing is left behind but the folder, if one was created.
    pub async fn start(mut self) -> Result<Server, StartError> {
        self.apply_settings()?;
        let listener = self.bind().await?;
        let addr = listener.local_addr().map_err(|source| self.listen_error(source))?;
        if !addr.ip().is_loopback() && !self.allow_remote {
            return Err(StartError::Remote { address: addr });
        }
        let advertised = self.advertised(addr)?;
        (self.config.advertised_host, self.config.advertised_port) = advertised.clone();
        let limits = self.limits.clone();
        let (commands, receiver) = mpsc::channel();
        let (opened, opening) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("sordini-broker".to_owned())
            .spawn(move || match self.open() {
                Ok(broker) => {
                    let known = (broker.faults(), broker.monitor(), broker.recovered().to_vec());
                    if opened.send(Ok(known)).is_ok() {
                        core::run(Machine::Sole(Box::new(broker)), &receiver);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(StartError::Thread)?;
        let died = |_| StartError::Thread(io::Error::other("it died while opening"));
        let (faults, monitor, recovered) = opening.await.map_err(died)??;
        let (stop, stopped) = watch::channel(false);
        let shared = Shared::new(commands.clone(), limits);
        tokio::spawn(accept(listener, 0, shared, stopped));
        let thread = Some(thread);
        Ok(Server { addr, advertised, commands, faults, monitor, recovered, stop, thread })
    }

    fn apply_settings(&mut self) -> Result<(), StartError> {
        if !(1..=10_000).contains(&self.config.default_partitions) {
            return Err(StartError::Partitions(self.config.default_partitions));
        }
        for (setting, value) in &self.topic_defaults {
            self.config.topic_defaults.set(setting, value)?;
        }
        if let Some(release) = &self.release {
            self.config.versions = Versions::of_release(release)?;
        }
        for (key, version) in &self.caps {
            self.config.versions.cap(*key, *version);
        }
        if self.config.id_seed == 0 {
            self.config.id_seed = unpredictable();
        }
        Ok(())
    }

    async fn bind(&self) -> Result<TcpListener, StartError> {
        TcpListener::bind(&self.listen).await.map_err(|source| self.listen_error(source))
    }

    fn listen_error(&self, source: io::Error) -> StartError {
        StartError::Listen { address: self.listen.clone(), source }
    }

    fn advertised(&self, addr: SocketAddr) -> Result<(String, u16), StartError> {
        let Some(text) = &self.advertise else {
            if addr.ip().is_unspecified() {
                return Err(StartError::Advertise { advertised: addr.to_string() });
            }
            return Ok((addr.ip().to_string(), addr.port()));
        };
        let invalid = || StartError::Advertise { advertised: text.clone() };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().map_err(|_| invalid())?;
        if host.is_empty() {
            return Err(invalid());
        }
        Ok((host.to_owned(), if port == 0 { addr.port() } else { port }))
    }

    fn open(self) -> Result<Broker, StartError> {
        let storage: Box<dyn Storage> = match self.place {
            Place::Memory => Box::new(MemoryStorage::new()),
            Place::Folder(folder) => {
                let mut disk = DiskStorage::open(&folder)?;
                controller_log::refuse(&mut disk, &folder)?;
                Box::new(disk)
            }
            Place::Other(storage) => storage,
        };
        Ok(Broker::open(self.config, storage, core::now())?)
    }
}

/// A seed for ids. The one source of entropy that std offers; ids need no more.
pub(super) fn unpredictable() -> u64 {
    RandomState::new().hash_one(core::now().wall_ms)
}

/// Takes a node's connections until the server stops; a broker on its own is node 0.
pub(super) async fn accept(
    listener: TcpListener,
    node: i32,
    shared: Shared,
    mut stopped: watch::Receiver<bool>,
) {
    let mut next_id = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                next_id += 1;
                match shared.places.clone().try_acquire_owned() {
                    Ok(place) => spawn(&shared, connection_id(node, next_id), stream, place),
                    Err(_) => tracing::warn!(%peer, "refused: no place for a further connection"),
                }
            }
            // No file descriptors left, or a client that went away again: neither ends the server.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn spawn(shared: &Shared, id: ConnectionId, stream: TcpStream, place: OwnedSemaphorePermit) {
    tokio::spawn(connection::serve(shared.clone(), id, stream, place));
}
