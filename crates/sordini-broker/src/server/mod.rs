//! The broker behind a socket: a tokio listener, two tasks per connection, and one thread that
//! owns the broker and its disk, so that no slow write stops the runtime.
//!
//! ```
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use sordini_broker::Server;
//!
//! let broker = Server::in_memory().await?;
//! let bootstrap = broker.bootstrap(); // "127.0.0.1:<port>"
//! # drop(bootstrap);
//! broker.shutdown().await?;
//! # Ok(()) }
//! ```
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the server is where the clock, the thread and the entropy come from"
)]

mod builder;
mod cluster;
mod connection;
mod controller_log;
mod core;
mod machine;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use crate::broker::{Broker, InspectError, OpenError, PartitionState};
use crate::faults::Faults;
use crate::log::Recovery;
use crate::monitor::{Monitor, SeenBatch};
use crate::records::StoredRecord;
use core::Command;
use machine::Machine;

pub use builder::{Limits, ServerBuilder, StartError};
pub use cluster::ClusterServer;

/// A running broker. Dropping it stops it, after everything appended is on disk.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    advertised: (String, u16),
    commands: mpsc::Sender<Command>,
    faults: Faults,
    monitor: Monitor,
    recovered: Vec<(String, Recovery)>,
    /// Dropped or changed: the listener stops.
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// The broker has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the embedded broker has stopped")]
pub struct Stopped;

/// Why a running broker can't be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// There is nothing to look at.
    #[error(transparent)]
    Inspect(#[from] InspectError),
}

impl Server {
    /// Begins to describe a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// A broker in memory on a free port of 127.0.0.1, with all defaults.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn in_memory() -> Result<Self, StartError> {
        Self::builder().in_memory().start().await
    }

    /// Where clients are told to connect, as `host:port`: what `bootstrap.servers` takes.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let (host, port) = &self.advertised;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The address that is listened on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Orders faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Asks what was seen.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// The batches received, in the order of arrival.
    #[must_use]
    pub fn produce_log(&self) -> Vec<SeenBatch> {
        self.monitor.produce_log()
    }

    /// What opening found and did, of each partition's folder where there was anything.
    #[must_use]
    pub fn recovered(&self) -> &[(String, Recovery)] {
        &self.recovered
    }

    /// Runs `ask` with the broker, between two requests.
    ///
    /// # Errors
    /// If the broker has stopped.
    ///
    /// # Cancellation
    /// Dropping the future does not stop `ask` from running; its result is lost.
    pub async fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Broker) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |machine: &mut Machine| {
            if let Some(broker) = machine.sole() {
                let _ = answer.send(ask(broker));
            }
        });
        self.commands.send(Command::Run(run)).map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Creates a topic with these settings.
    ///
    /// # Errors
    /// If it is there already, a name or setting is not valid, or the broker has stopped.
    ///
    /// # Cancellation
    /// The topic is created all the same.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), AskError> {
        let name = name.to_owned();
        let settings: Vec<(String, String)> =
            settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let now = core::now();
        let made = self.with(move |b| b.make_topic(now, &name, partitions, &settings)).await?;
        Ok(made?)
    }

    /// All records of a partition, decoded.
    ///
    /// # Errors
    /// If there is no such partition, its log can't be read, or the broker has stopped.
    ///
    /// # Cancellation
    /// Nothing is lost but the answer.
    pub async fn records(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<StoredRecord>, AskError> {
        let topic = topic.to_owned();
        Ok(self.with(move |broker| broker.records(&topic, partition)).await??)
    }

    /// A partition's offsets and epoch.
    ///
    /// # Errors
    /// If there is no such partition, or the broker has stopped.
    ///
    /// # Cancellation
    /// Nothing is lost but the answer.
    pub async fn partition_state(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<PartitionState, AskError> {
        let topic = topic.to_owned();
        Ok(self.with(move |broker| broker.partition_state(&topic, partition)).await??)
    }

    /// Changes one of a topic's settings.
    ///
    /// # Errors
    /// If there is no such topic or setting, it does not take this value, or the broker has
    /// stopped.
    ///
    /// # Cancellation
    /// The setting is changed all the same.
    pub async fn set_topic_config(
        &self,
        topic: &str,
        setting: &str,
        value: &str,
    ) -> Result<(), AskError> {
        let (topic, setting, value) = (topic.to_owned(), setting.to_owned(), value.to_owned());
        Ok(self.with(move |broker| broker.set_topic_config(&topic, &setting, &value)).await??)
    }

    /// Begins a new leader epoch of a partition, as an election does; returns the epoch that now
    /// holds.
    ///
    /// # Errors
    /// If there is no such partition, the storage fails, or the broker has stopped.
    ///
    /// # Cancellation
    /// The epoch begins all the same.
    pub async fn set_leader_epoch(
        &self,
        topic: &str,
        partition: i32,
        epoch: i32,
    ) -> Result<i32, AskError> {
        let topic = topic.to_owned();
        Ok(self.with(move |broker| broker.set_leader_epoch(&topic, partition, epoch)).await??)
    }

    /// Stops listening, closes all connections, writes and syncs all there is.
    ///
    /// # Errors
    /// As the storage fails: nothing acknowledged is lost, but the next start has to scan.
    ///
    /// # Cancellation
    /// The broker stops all the same.
    pub async fn shutdown(mut self) -> Result<(), OpenError> {
        let _ = self.stop.send(true);
        let (done, finished) = oneshot::channel();
        if self.commands.send(Command::Stop { clean: true, done: Some(done) }).is_err() {
            return Ok(());
        }
        let result = finished.await.unwrap_or(Ok(()));
        self.join();
        result
    }

    /// Stops as if the process were killed: nothing more is written or synced.
    pub fn kill(mut self) {
        let _ = self.stop.send(true);
        let _ = self.commands.send(Command::Stop { clean: false, done: None });
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the broker has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.commands.send(Command::Stop { clean: true, done: None });
        self.join();
    }
}
