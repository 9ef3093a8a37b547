//! What a producer was told: plain settings, apart from the components that obey them.
//!
//! A [`Config`] is a comparable, printable struct of typed values whose names, units and defaults
//! are those of Java's producer, 4.4 (read from its `ProducerConfig`; the list is committed as
//! `testdata/producer-config-4.4.0.tsv` and compared in a test). It is made by a [`ConfigBuilder`],
//! which also remembers what was *said* as opposed to *defaulted*: three rules depend on that
//! difference (see [`ConfigBuilder::build`]).
//!
//! Every setting of Java's producer is in one of four classes:
//!
//! 1. supported: it has a field here;
//! 2. known and harmless: accepted with a [`Warning`] that says why it changes nothing;
//! 3. known and refused: to accept it would change what the caller gets, so it is an error with
//!    the reason; names of librdkafka are answered with the name that the setting has here;
//! 4. unknown: an error with the nearest known name. Nothing is ignored silently.

mod address;
mod builder;
mod check;
mod error;
mod known;
mod nearest;
mod properties;
mod table;
mod value;

use std::time::Duration;

pub use address::{Address, AddressError};
pub use builder::ConfigBuilder;
pub use error::{ConfigError, Origin, Said, Warning};
pub use properties::{Entry as Property, parse as parse_properties};

/// Which acknowledgement a Produce request waits for: `acks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[allow(clippy::exhaustive_enums, reason = "the protocol has no fourth value")]
pub enum Acks {
    /// `0`: no response; a record counts as written once its bytes left this process.
    None,
    /// `1`: the leader has appended the record to its own log.
    Leader,
    /// `all` (`-1`): all replicas in sync have it, at least `min.insync.replicas` of them.
    #[default]
    All,
}

impl Acks {
    /// The value of the Produce request's field `acks`.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What `compression.zstd.level` is unless it is set.
pub(crate) const ZSTD_LEVEL: i32 = 2;

/// How batches are compressed: `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[allow(clippy::exhaustive_enums, reason = "record batch v2 has these five codecs")]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in the xerial framing that Kafka uses.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (KIP-110); brokers from Kafka 2.1 on.
    Zstd,
}

impl Codec {
    /// The low three bits of a record batch's attributes.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Which of the built-in partitioners chooses: `partitioner.class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum PartitionerKind {
    /// Keys by murmur2, keyless records uniformly and sticky (Java: no class given).
    #[default]
    Default,
    /// Every record to the next partition, keys ignored.
    RoundRobin,
}

/// The settings in force. Field names are Kafka's with dots as underscores and units as types.
///
/// [`Config::default`] has Java's defaults and no `bootstrap.servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `bootstrap.servers`: where to ask first. No default; at least one is required.
    pub bootstrap_servers: Vec<Address>,
    /// `client.id`: sent with each request; empty by default.
    pub client_id: String,
    /// `acks`: default [`Acks::All`].
    pub acks: Acks,
    /// `enable.idempotence`: default true, but turned off by other values of `acks` or `retries`
    /// unless it was given (KIP-98, KIP-679).
    pub enable_idempotence: bool,
    /// `retries`: default and maximum 2 147 483 647; `delivery.timeout.ms` ends them.
    pub retries: u32,
    /// `max.in.flight.requests.per.connection`: 1 or more, at most 5 with idempotence; default 5.
    pub max_in_flight_requests_per_connection: u32,
    /// `batch.size`: uncompressed bytes per batch; 0 means one record per batch; default 16 384.
    /// Where a broker refuses a batch as too large, the partition's later ones are half its size.
    pub batch_size: usize,
    /// `linger.ms`: how long an open batch waits for company, at most; default 5 ms (KIP-1030). Up to
    /// a millisecond of it is left for the timer that ends it, which runtimes are late with.
    pub linger: Duration,
    /// `buffer.memory`: bytes of records not yet resolved; default 32 MiB.
    pub buffer_memory: usize,
    /// `max.block.ms`: how long a send waits for memory and for metadata together; default 60 s.
    pub max_block: Duration,
    /// `max.request.size`: bytes of a request and, uncompressed, of a record; default 1 MiB.
    pub max_request_size: usize,
    /// `request.timeout.ms`: from the last byte written to the response; default 30 s.
    pub request_timeout: Duration,
    /// `delivery.timeout.ms`: from acceptance to the outcome, everything included; default 120 s.
    pub delivery_timeout: Duration,
    /// `retry.backoff.ms`: first pause before a retry; default 100 ms. A pause is never
    /// shorter than 1 ms, even with 0.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: the pause doubles up to this (KIP-580); default 1 s.
    pub retry_backoff_max: Duration,
    /// `reconnect.backoff.ms`: first pause before a reconnect to one broker; default 50 ms. A
    /// pause is never shorter than 1 ms, even with 0.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`: the pause doubles up to this; default 1 s.
    pub reconnect_backoff_max: Duration,
    /// `metadata.max.age.ms`: metadata is asked again after this; default 5 min.
    pub metadata_max_age: Duration,
    /// `metadata.max.idle.ms`: a topic unused for this long is forgotten; 5 s or more; default
    /// 5 min (KIP-526).
    pub metadata_max_idle: Duration,
    /// `connections.max.idle.ms`: an unused connection is closed after this; `None` (a negative
    /// number) keeps it; default 9 min.
    pub connections_max_idle: Option<Duration>,
    /// `socket.connection.setup.timeout.ms`: for connect and handshakes together, first attempt;
    /// default 10 s (KIP-601).
    pub socket_connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`: doubles up to this; default 30 s.
    pub socket_connection_setup_timeout_max: Duration,
    /// `send.buffer.bytes`: SO_SNDBUF; `None` (-1) leaves the system's; default 128 KiB.
    pub send_buffer_bytes: Option<usize>,
    /// `receive.buffer.bytes`: SO_RCVBUF; `None` (-1) leaves the system's; default 32 KiB.
    pub receive_buffer_bytes: Option<usize>,
    /// `compression.type`: default [`Codec::None`].
    pub compression_type: Codec,
    /// `compression.gzip.level`: 1 to 9, or -1 for the codec's own choice; default -1 (KIP-390).
    pub compression_gzip_level: i32,
    /// `compression.lz4.level`: 1 to 17; default 9.
    pub compression_lz4_level: i32,
    /// `compression.zstd.level`: -131 072 to 22; default 2, where Kafka's is 3: that takes half as
    /// long again or more here, and pays for prose, but not for small records. What is below -7 works
    /// as that, what is above 4 as 4.
    pub compression_zstd_level: i32,
    /// `partitioner.class`: one of the built-in ones by Java's class name.
    pub partitioner_class: PartitionerKind,
    /// `partitioner.ignore.keys`: keyed records are spread as keyless ones are; default false.
    pub partitioner_ignore_keys: bool,
    /// `allow.auto.create.topics`: whether Metadata asks the broker to create what is missing;
    /// default true. Java's producer always asks and has no name for it; this one is its
    /// consumer's and librdkafka's.
    pub allow_auto_create_topics: bool,
    /// `transactional.id`: names the producer across its lives, so that an earlier life of it is
    /// fenced; `None`, the default, means no transactions (KIP-98).
    pub transactional_id: Option<String>,
    /// `transaction.timeout.ms`: a transaction that is open for so long is aborted, here and by its
    /// coordinator; default 60 s. Brokers refuse more than their `transaction.max.timeout.ms`.
    pub transaction_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap_servers: Vec::new(),
            client_id: String::new(),
            acks: Acks::All,
            enable_idempotence: true,
            retries: i32::MAX as u32,
            max_in_flight_requests_per_connection: 5,
            batch_size: 16_384,
            linger: Duration::from_millis(5),
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
            max_request_size: 1 << 20,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            metadata_max_idle: Duration::from_secs(300),
            connections_max_idle: Some(Duration::from_secs(540)),
            socket_connection_setup_timeout: Duration::from_secs(10),
            socket_connection_setup_timeout_max: Duration::from_secs(30),
            send_buffer_bytes: Some(128 << 10),
            receive_buffer_bytes: Some(32 << 10),
            compression_type: Codec::None,
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_zstd_level: ZSTD_LEVEL,
            partitioner_class: PartitionerKind::Default,
            partitioner_ignore_keys: false,
            allow_auto_create_topics: true,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Starts from Java's defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::new()
    }

    /// Whether these values go together.
    ///
    /// # Errors
    /// The first [`ConfigError::Contradiction`], [`ConfigError::Invalid`] or
    /// [`ConfigError::Missing`] found.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::values(self)
    }

    /// All settings in force, by Kafka's names and in Kafka's spelling, sorted by name.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        table::SUPPORTED.iter().map(|setting| (setting.name, (setting.show)(self))).collect()
    }

    /// The level for the codec in force, where it has levels.
    #[must_use]
    pub const fn compression_level(&self) -> Option<i32> {
        match self.compression_type {
            Codec::Gzip => Some(self.compression_gzip_level),
            Codec::Lz4 => Some(self.compression_lz4_level),
            Codec::Zstd => Some(self.compression_zstd_level),
            Codec::None | Codec::Snappy => None,
        }
    }
}

#[cfg(test)]
mod tests;
