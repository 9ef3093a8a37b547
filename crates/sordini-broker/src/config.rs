//! What a broker is told before it starts.

use std::time::Duration;

use crate::broker::ProduceQuota;
use crate::coordinator::TransactionVersion;
use crate::topic_config::TopicConfig;
use crate::versions::Versions;

/// A broker's settings. All have defaults that suit tests and a developer's machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// This broker's id in the cluster, 1 by default.
    pub node_id: i32,
    /// The host that clients are told to connect to.
    pub advertised_host: String,
    /// The port that clients are told to connect to.
    pub advertised_port: u16,
    /// Partitions of a topic that is created without a number, 3 by default.
    pub default_partitions: i32,
    /// Whether a topic that a client asks for is created, if the client allows it.
    pub auto_create_topics: bool,
    /// Acknowledge a batch only after it has survived a sync. Off by default, as in Kafka.
    pub fsync: bool,
    /// Refuse a first sequence other than 0 of a producer that a partition knows nothing of.
    /// Off by default, as in Kafka, whose leniency hides a lost first batch.
    pub strict_first_sequence: bool,
    /// Settings of topics that are created without them.
    pub topic_defaults: TopicConfig,
    /// The API versions that are offered.
    pub versions: Versions,
    /// Where ids come from: any value, best an unpredictable one. The same seed on the same
    /// folder gives the same ids.
    pub id_seed: u64,
    /// Most partitions of all topics together.
    pub max_partitions: usize,
    /// Most requests of one connection that wait behind the one that is being processed.
    pub max_queued_requests: usize,
    /// Most bytes of answers to one connection that [`Broker::transmitted`](crate::Broker) has not
    /// confirmed; beyond, its requests wait. No limit by default: a caller that does not confirm
    /// must leave it so.
    pub max_unsent_bytes: usize,
    /// Most bytes of a Fetch response, Kafka's `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// Most bytes that a compressed batch may become.
    pub max_decompressed_bytes: usize,
    /// Producers idle for as long are forgotten, Kafka's `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// The finalised level of `transaction.version`; 2 by default, as in Kafka 4.
    pub transaction_version: TransactionVersion,
    /// Partitions of `__transaction_state`, Kafka's `transaction.state.log.num.partitions`: 3,
    /// where Kafka has 50. Counts when the topic is created.
    pub transaction_partitions: i32,
    /// Partitions of `__consumer_offsets`, Kafka's `offsets.topic.num.partitions`: 3, where Kafka
    /// has 50. Counts when the topic is created.
    pub offsets_partitions: i32,
    /// The longest time-out that a transactional producer may ask for, Kafka's
    /// `transaction.max.timeout.ms`: 15 min.
    pub transaction_max_timeout_ms: i32,
    /// How often transactions that are open for too long are looked for, Kafka's
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: 10 s.
    pub transaction_abort_interval: Duration,
    /// Transactional ids unused for as long are forgotten, Kafka's
    /// `transactional.id.expiration.ms`: 7 days.
    pub transactional_id_expiration_ms: i64,
    /// How fast clients may produce; no limit by default.
    pub produce_quota: Option<ProduceQuota>,
    /// Most batches that [`crate::Monitor`] remembers.
    pub produce_log_limit: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            node_id: 1,
            advertised_host: "127.0.0.1".to_owned(),
            advertised_port: 9092,
            default_partitions: 3,
            auto_create_topics: true,
            fsync: false,
            strict_first_sequence: false,
            topic_defaults: TopicConfig::default(),
            versions: Versions::default(),
            id_seed: 0,
            max_partitions: 10_000,
            max_queued_requests: 1000,
            max_unsent_bytes: usize::MAX,
            fetch_max_bytes: 55 * 1024 * 1024,
            max_decompressed_bytes: 128 * 1024 * 1024,
            producer_expiration_ms: 24 * 60 * 60 * 1000,
            transaction_version: TransactionVersion::default(),
            transaction_partitions: 3,
            offsets_partitions: 3,
            transaction_max_timeout_ms: 15 * 60 * 1000,
            transaction_abort_interval: Duration::from_secs(10),
            transactional_id_expiration_ms: 7 * 24 * 60 * 60 * 1000,
            produce_quota: None,
            produce_log_limit: 10_000,
        }
    }
}
