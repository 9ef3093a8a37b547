//! The producers' settings: drawn, extremes included, or given by the user.

use sordini_broker::BrokerConfig;
use sordini_core::config::{Config, ConfigError};

use crate::rng::Rng;

/// The settings do not make a producer of a simulated world.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No producer takes them.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Where the cluster is, the simulator knows best.
    #[error(
        "bootstrap.servers={0} means nothing here: the simulator's producers know their simulated \
         cluster, and nothing is ever sent to a real one; leave it out"
    )]
    Bootstrap(String),
    /// The simulated brokers would refuse every producer.
    #[error(
        "transaction.timeout.ms={0} is more than the simulated brokers allow \
         (transaction.max.timeout.ms={1}, as by default); lower it"
    )]
    TransactionTimeout(u128, i32),
}

/// `bootstrap.servers` of a cluster of `nodes`.
#[must_use]
pub(crate) fn bootstrap(nodes: i32) -> String {
    let all: Vec<_> = (1..=nodes).map(|node| format!("{}:{PORT}", host(node))).collect();
    all.join(",")
}

/// Every node listens there.
pub(crate) const PORT: u16 = 9092;

/// A node's host name.
pub(crate) fn host(node: i32) -> String {
    format!("n{node}")
}

/// The node at a host.
pub(crate) fn node_at(host: &str) -> Option<i32> {
    host.strip_prefix('n')?.parse().ok()
}

/// The configuration that `settings` make, for a cluster of `nodes`.
///
/// # Errors
/// As the producer itself would refuse them.
pub fn configure(settings: &[(String, String)], nodes: i32) -> Result<Config, SettingsError> {
    let mut builder = Config::builder();
    builder.set("bootstrap.servers", &bootstrap(nodes))?;
    for (name, value) in settings {
        if name.trim() == "bootstrap.servers" {
            return Err(SettingsError::Bootstrap(value.clone()));
        }
        builder.set(name, value)?;
    }
    let config = builder.build()?.0;
    let (timeout, most) = (config.transaction_timeout.as_millis(), transaction_max_timeout_ms());
    if config.transactional_id.is_some() && timeout > most.unsigned_abs().into() {
        return Err(SettingsError::TransactionTimeout(timeout, most));
    }
    Ok(config)
}

/// The simulated brokers' `transaction.max.timeout.ms`.
fn transaction_max_timeout_ms() -> i32 {
    BrokerConfig::default().transaction_max_timeout_ms
}

/// How safe the drawn settings are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    /// `acks=all` and idempotence.
    Safe,
    /// No idempotence, any acks.
    Plain,
}

/// Draws settings; those in `fixed` are taken as they are.
pub(crate) fn draw(
    rng: &mut Rng,
    safety: Safety,
    fixed: &[(String, String)],
) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = fixed.to_vec();
    let mut set = |name: &str, value: String| {
        if !settings.iter().any(|(known, _)| known == name) {
            settings.push((name.to_owned(), value));
        }
    };
    let mut number = |name: &str, of: &[u64]| {
        let value = rng.pick(of);
        set(name, value.to_string());
        value
    };
    let linger = number("linger.ms", &[0, 0, 1, 5, 5, 40, 300]);
    number("batch.size", &[0, 1, 200, 1000, 16_384, 16_384, 60_000]);
    let request = number("request.timeout.ms", &[300, 1000, 1000, 5000, 30_000]);
    let delivery = rng.pick(&[1500, 4000, 10_000, 30_000, 120_000]).max(linger + request);
    set("delivery.timeout.ms", delivery.to_string());
    let mut number = |name: &str, of: &[u64]| set(name, rng.pick(of).to_string());
    number("max.in.flight.requests.per.connection", &[1, 2, 5, 5, 5]);
    number("buffer.memory", &[70_000, 300_000, 32 << 20]);
    number("max.request.size", &[5000, 60_000, 1 << 20, 1 << 20]);
    number("max.block.ms", &[0, 100, 2000, 60_000]);
    number("retry.backoff.ms", &[1, 20, 100, 100]);
    number("retry.backoff.max.ms", &[200, 1000]);
    number("reconnect.backoff.ms", &[1, 50]);
    number("reconnect.backoff.max.ms", &[100, 1000]);
    number("metadata.max.age.ms", &[300, 5000, 300_000]);
    number("connections.max.idle.ms", &[2000, 540_000, 540_000]);
    number("socket.connection.setup.timeout.ms", &[200, 1000, 10_000]);
    number("socket.connection.setup.timeout.max.ms", &[10_000]);
    let codec = rng.pick(&["none", "none", "none", "lz4", "snappy", "gzip", "zstd"]);
    set("compression.type", codec.to_owned());
    match safety {
        Safety::Safe => {
            set("acks", "all".to_owned());
            set("enable.idempotence", "true".to_owned());
            let tries = rng.pick(&["2147483647", "2147483647", "2147483647", "5"]);
            set("retries", tries.to_owned());
        }
        Safety::Plain => {
            set("acks", rng.pick(&["0", "1", "all"]).to_owned());
            set("enable.idempotence", "false".to_owned());
            set("retries", rng.pick(&["0", "3", "2147483647"]).to_owned());
        }
    }
    // A batch must fit into the memory; the smaller of the two draws gives way.
    settings
}
