//! From settings to a running producer.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use sordini_core::config::{Acks, Codec, Config, ConfigBuilder, ConfigError, Warning};
use sordini_core::partitioner::{self, Partitioner};
use sordini_core::producer::{Components, Producer as Machine};

use crate::driver::Driver;
use crate::error::BuildError;
use crate::producer::Producer;
use crate::shared::{Bell, Shared, SystemClock};
use crate::transactional::{InitError, TransactionalProducer, Uninitialized};

/// Describes a producer, by typed setters or by Kafka's own names, and builds it.
///
/// A later word on the same setting replaces an earlier one. Errors of the typed setters and of
/// the address given to [`Producer::builder`] are reported by `build`.
#[must_use = "a builder does nothing until build() is called"]
pub struct ProducerBuilder {
    config: ConfigBuilder,
    bootstrap: Result<(), ConfigError>,
    partitioner: Option<Arc<dyn Partitioner>>,
    return_failed: bool,
}

impl std::fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ProducerBuilder {
    pub(crate) fn new(bootstrap: &str) -> Self {
        let mut config = Config::builder();
        let bootstrap = config.set("bootstrap.servers", bootstrap).map(drop);
        Self { config, bootstrap, partitioner: None, return_failed: false }
    }

    /// Sets one setting by its Kafka name, such as `linger.ms`.
    ///
    /// # Errors
    /// An unknown name (with the nearest one), a refused setting (with the reason), or a value
    /// that the setting does not take. What is known and harmless is accepted with a warning, in
    /// the log when the producer is built.
    pub fn set(mut self, name: &str, value: &str) -> Result<Self, ConfigError> {
        self.config.set(name, value)?;
        if name.trim() == "bootstrap.servers" {
            self.bootstrap = Ok(());
        }
        Ok(self)
    }

    /// Sets all that a Java `.properties` file holds.
    ///
    /// # Errors
    /// As [`set`](Self::set), or the line that is not of that format.
    pub fn from_properties(mut self, text: &str) -> Result<Self, ConfigError> {
        self.config.properties(text)?;
        if !self.config.peek().bootstrap_servers.is_empty() {
            self.bootstrap = Ok(());
        }
        Ok(self)
    }

    fn with(mut self, name: &'static str, change: impl FnOnce(&mut Config)) -> Self {
        self.config.with(name, change);
        self
    }

    /// `client.id`: the name under which brokers log and account for this producer.
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.with("client.id", |config| config.client_id = id.into())
    }

    /// `acks`: which acknowledgement counts as written; default all replicas in sync.
    pub fn acks(self, acks: Acks) -> Self {
        self.with("acks", |config| config.acks = acks)
    }

    /// `enable.idempotence`: whether brokers recognise retries; default true.
    pub fn idempotence(self, enable: bool) -> Self {
        self.with("enable.idempotence", |config| config.enable_idempotence = enable)
    }

    /// `retries`: how often a batch is sent again; default without limit but
    /// [`delivery_timeout`](Self::delivery_timeout).
    pub fn retries(self, retries: u32) -> Self {
        self.with("retries", |config| config.retries = retries)
    }

    /// `linger.ms`: how long a batch waits for company; default 5 ms.
    pub fn linger(self, linger: Duration) -> Self {
        self.with("linger.ms", |config| config.linger = linger)
    }

    /// `batch.size`: uncompressed bytes of a batch; default 16 KiB.
    pub fn batch_size(self, bytes: usize) -> Self {
        self.with("batch.size", |config| config.batch_size = bytes)
    }

    /// `buffer.memory`: bytes of records without an outcome; default 32 MiB.
    pub fn buffer_memory(self, bytes: usize) -> Self {
        self.with("buffer.memory", |config| config.buffer_memory = bytes)
    }

    /// `max.block.ms`: how long a send waits for memory and partitions; default 60 s.
    pub fn max_block(self, limit: Duration) -> Self {
        self.with("max.block.ms", |config| config.max_block = limit)
    }

    /// `delivery.timeout.ms`: when an accepted record fails at the latest; default 120 s.
    pub fn delivery_timeout(self, limit: Duration) -> Self {
        self.with("delivery.timeout.ms", |config| config.delivery_timeout = limit)
    }

    /// `request.timeout.ms`: how long one answer is waited for; default 30 s.
    pub fn request_timeout(self, limit: Duration) -> Self {
        self.with("request.timeout.ms", |config| config.request_timeout = limit)
    }

    /// `compression.type`: default none. Levels are set by name.
    pub fn compression(self, codec: Codec) -> Self {
        self.with("compression.type", |config| config.compression_type = codec)
    }

    /// `transactional.id`: the producer's name over all its lives (KIP-98). A new life of it fences
    /// the earlier ones, so no two that run at a time may have the same. With it the producer is
    /// built by [`build_transactional`](Self::build_transactional).
    pub fn transactional_id(self, id: impl Into<String>) -> Self {
        let id = Some(id.into()).filter(|id| !id.is_empty());
        self.with("transactional.id", |config| config.transactional_id = id)
    }

    /// `transaction.timeout.ms`: when a transaction that is still open is aborted; default 60 s.
    /// Brokers refuse more than their `transaction.max.timeout.ms`, 15 minutes by default.
    pub fn transaction_timeout(self, limit: Duration) -> Self {
        self.with("transaction.timeout.ms", |config| config.transaction_timeout = limit)
    }

    /// Replaces the partitioner that `partitioner.class` and `partitioner.ignore.keys` name.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Keeps the records that fail, for [`Producer::take_failed`] and the report of
    /// [`Producer::close`]. They go on counting towards `buffer.memory` until they are taken.
    /// Those that fail while a codec works on their batch follow a moment after their error.
    /// Default false.
    pub fn return_failed(mut self, yes: bool) -> Self {
        self.return_failed = yes;
        self
    }

    /// The settings so far, checked as a whole, and what deserves a warning.
    ///
    /// # Errors
    /// [`ConfigError`]: a wrong address, or settings that contradict each other.
    pub fn config(&self) -> Result<(Config, Vec<Warning>), ConfigError> {
        self.bootstrap.clone()?;
        self.config.build()
    }

    /// Starts the producer on the current tokio runtime. No broker is asked before the first
    /// record.
    ///
    /// # Errors
    /// Wrong settings, a `transactional.id` among them, or no runtime here.
    ///
    /// # Cancellation
    /// Safe: it does not wait for anything.
    pub async fn build(self) -> Result<Producer, BuildError> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Err(BuildError::NoRuntime);
        };
        let (producer, driver) = self.build_parts()?;
        runtime.spawn(driver);
        Ok(producer)
    }

    /// Starts a transactional producer on the current tokio runtime, and makes it the one producer
    /// of its `transactional.id` (KIP-98's initTransactions): earlier ones are fenced, and what
    /// they left open is aborted, or committed if they had got so far. Waits for that for
    /// `max.block.ms` at most.
    ///
    /// # Errors
    /// An [`InitError`]: wrong settings or no runtime here; the cluster refuses; no coordinator
    /// was found, or none answered, in time.
    ///
    /// # Cancellation
    /// A future that is dropped leaves no producer. Earlier ones may be fenced all the same.
    pub async fn build_transactional(self) -> Result<TransactionalProducer, InitError> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Err(BuildError::NoRuntime.into());
        };
        let (producer, driver) = self.build_transactional_parts()?;
        runtime.spawn(driver);
        producer.initialize().await
    }

    /// As [`build_parts`](Self::build_parts), for a transactional producer: what has to be
    /// initialised while the driver is polled.
    ///
    /// # Errors
    /// Wrong settings, or no `transactional.id` among them.
    pub fn build_transactional_parts(self) -> Result<(Uninitialized, Driver), BuildError> {
        let (config, warnings) = self.config()?;
        if config.transactional_id.is_none() {
            return Err(BuildError::NotTransactional);
        }
        let (shared, driver) = self.start(config, &warnings);
        Ok((Uninitialized::new(shared), driver))
    }

    /// The producer and the driver that moves its bytes, for those who spawn tasks themselves.
    /// Nothing is sent, and no wait ends, but while the driver is polled on a tokio runtime that
    /// has I/O and time enabled. Dropping the driver fails everything that is not acknowledged.
    ///
    /// # Errors
    /// Wrong settings, a `transactional.id` among them.
    pub fn build_parts(self) -> Result<(Producer, Driver), BuildError> {
        let (config, warnings) = self.config()?;
        if let Some(id) = config.transactional_id {
            return Err(BuildError::Transactional { id });
        }
        let (shared, driver) = self.start(config, &warnings);
        Ok((Producer::from_shared(shared), driver))
    }

    fn start(self, config: Config, warnings: &[Warning]) -> (Arc<Shared>, Driver) {
        for warning in warnings {
            tracing::warn!(setting = %warning.name, "{}", warning.text);
        }
        let partitioner = self.partitioner.unwrap_or_else(|| partitioner::from_config(&config));
        let clock = Arc::new(SystemClock::start());
        let bell = Arc::new(Bell::default());
        // The standard library's hash seeds are the operating system's random bytes; they spread
        // retries and sticky partitions, and guard nothing.
        let seed = RandomState::new().hash_one(std::process::id());
        let components = Components {
            partitioner,
            clock: clock.clone(),
            wake: bell.clone(),
            seed,
            return_failed: self.return_failed,
        };
        let machine = Machine::new(config.clone(), components);
        let shared = Shared::new(config, Arc::clone(machine.accumulator()), clock, bell);
        let driver = Driver::new(machine, Arc::clone(&shared));
        (shared, driver)
    }
}
