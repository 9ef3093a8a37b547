//! Which values go together: contradictions, and what Java settles by itself.

use std::time::Duration;

use super::error::{Said, Warning};
use super::known::shown;
use super::value::show_millis;
use super::{Acks, Codec, Config, ConfigError, table};

/// More batches than this of one producer and partition a broker does not remember (KIP-98).
const MAX_IN_FLIGHT_IDEMPOTENT: u32 = 5;

/// The longest `delivery.timeout.ms`.
const DELIVERY_TIMEOUT_MOST: Duration = Duration::from_millis(i32::MAX as u64);

/// What was said explicitly, as opposed to defaulted.
pub(super) trait Given {
    fn given(&self, name: &str) -> bool;
}

/// Settles what the caller left open, as Java does, and says so.
pub(super) fn settle(config: &mut Config, given: &impl Given) -> Vec<Warning> {
    let mut warnings = Vec::new();
    settle_idempotence(config, given, &mut warnings);
    settle_delivery_timeout(config, given, &mut warnings);
    warn_of_levels(config, given, &mut warnings);
    let mut raise = |base_name, base: Duration, max_name, max: &mut Duration| {
        if base > *max && !given.given(max_name) {
            *max = base;
            let text = format!("{base_name}={} is above it, so it was raised", show_millis(base));
            warnings.push(Warning::new(max_name, text));
        }
    };
    let c = config;
    raise("retry.backoff.ms", c.retry_backoff, "retry.backoff.max.ms", &mut c.retry_backoff_max);
    raise(
        "reconnect.backoff.ms",
        c.reconnect_backoff,
        "reconnect.backoff.max.ms",
        &mut c.reconnect_backoff_max,
    );
    raise(
        "socket.connection.setup.timeout.ms",
        c.socket_connection_setup_timeout,
        "socket.connection.setup.timeout.max.ms",
        &mut c.socket_connection_setup_timeout_max,
    );
    warnings
}

fn settle_idempotence(config: &mut Config, given: &impl Given, warnings: &mut Vec<Warning>) {
    const NAME: &str = "enable.idempotence";
    // Java judges max.in.flight before acks and retries turn idempotence off, and so do we: a
    // program must not start to lose order because another of its settings changed.
    let too_many = config.max_in_flight_requests_per_connection > MAX_IN_FLIGHT_IDEMPOTENT;
    let transactional = config.transactional_id.is_some();
    if !config.enable_idempotence || given.given(NAME) || too_many || transactional {
        return;
    }
    let cause = if config.acks != Acks::All {
        format!("acks={}", table::show_acks(config.acks))
    } else if config.retries == 0 {
        "retries=0".to_owned()
    } else {
        return;
    };
    config.enable_idempotence = false;
    let text = format!(
        "turned off by {cause}: retries may now duplicate or reorder records; set {NAME}=false to \
         say that you know"
    );
    warnings.push(Warning::new(NAME, text));
}

fn settle_delivery_timeout(config: &mut Config, given: &impl Given, warnings: &mut Vec<Warning>) {
    const NAME: &str = "delivery.timeout.ms";
    let least = config.linger.saturating_add(config.request_timeout);
    if config.delivery_timeout >= least || given.given(NAME) || least > DELIVERY_TIMEOUT_MOST {
        return;
    }
    config.delivery_timeout = least;
    let text = format!(
        "raised to {}, since linger.ms={} and request.timeout.ms={} must fit into it",
        show_millis(least),
        show_millis(config.linger),
        show_millis(config.request_timeout)
    );
    warnings.push(Warning::new(NAME, text));
}

/// The codecs are pure Rust and do not have every level of their C originals: see
/// `wire::compress`.
fn warn_of_levels(config: &Config, given: &impl Given, warnings: &mut Vec<Warning>) {
    let name = level_name(config.compression_type);
    if !given.given(name) {
        return;
    }
    let text = match config.compression_type {
        Codec::Lz4 => "has no effect: LZ4 has one speed here, about that of level 1".to_owned(),
        Codec::Zstd if config.compression_zstd_level > 4 => {
            format!("{} works as 4, the highest level here", config.compression_zstd_level)
        }
        Codec::Zstd if config.compression_zstd_level < -7 => {
            format!("{} works as -7, the lowest level here", config.compression_zstd_level)
        }
        _ => return,
    };
    warnings.push(Warning::new(name, text));
}

/// Judges the values alone.
pub(super) fn values(config: &Config) -> Result<(), ConfigError> {
    if config.bootstrap_servers.is_empty() {
        return Err(ConfigError::Missing { name: "bootstrap.servers" });
    }
    ranges(config)?;
    idempotence(config)?;
    times(config)?;
    if config.batch_size > config.buffer_memory {
        return Err(contradiction(
            config,
            &["batch.size", "buffer.memory"],
            format!(
                "a batch must fit into the memory; use a buffer.memory of {} or more (the default \
                 is {}), or a batch.size of at most {}",
                config.batch_size,
                Config::default().buffer_memory,
                config.buffer_memory
            ),
        ));
    }
    Ok(())
}

/// Judges what was said about a codec that is not in use.
pub(super) fn levels(config: &Config, given: &impl Given) -> Result<(), ConfigError> {
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let name = level_name(codec);
        if codec != config.compression_type && given.given(name) {
            let right = format!(
                "the level is for another codec; set compression.type={} or leave {name} out",
                codec.name()
            );
            return Err(contradiction(config, &["compression.type", name], right));
        }
    }
    Ok(())
}

const fn level_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Lz4 => "compression.lz4.level",
        Codec::Zstd => "compression.zstd.level",
        Codec::None | Codec::Gzip | Codec::Snappy => "compression.gzip.level",
    }
}

/// Typed values are held to the limits of their texts, by writing each and reading it again.
fn ranges(config: &Config) -> Result<(), ConfigError> {
    let mut scratch = config.clone();
    for setting in table::SUPPORTED {
        let value = (setting.show)(config);
        (setting.set)(&mut scratch, &value).map_err(|expected| ConfigError::Invalid {
            said: Said::new(setting.name, shown(setting.name, &value)),
            expected: expected.into_owned(),
        })?;
    }
    Ok(())
}

fn idempotence(config: &Config) -> Result<(), ConfigError> {
    const NAME: &str = "enable.idempotence";
    const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";
    if !config.enable_idempotence {
        return match config.transactional_id {
            None => Ok(()),
            Some(_) => {
                let right = format!("transactions need idempotence; leave {NAME} out");
                Err(contradiction(config, &["transactional.id", NAME], right))
            }
        };
    }
    let transactional = config.transactional_id.is_some();
    let (other, right) = if config.max_in_flight_requests_per_connection > MAX_IN_FLIGHT_IDEMPOTENT
    {
        (
            IN_FLIGHT,
            format!(
                "at most {MAX_IN_FLIGHT_IDEMPOTENT} with idempotence, since a broker \
                             remembers no more batches; lower it or set {NAME}=false"
            ),
        )
    } else if config.acks != Acks::All {
        ("acks", format!("idempotence needs acks=all; set that or {NAME}=false"))
    } else if config.retries == 0 {
        (
            "retries",
            format!(
                "idempotence makes retries safe and needs some; leave retries out or \
                             set {NAME}=false"
            ),
        )
    } else {
        return Ok(());
    };
    // Here idempotence is not to be had without.
    if transactional {
        let value = match other {
            IN_FLIGHT => "5 or less",
            "acks" => "acks=all",
            _ => "retries of 1 or more",
        };
        let right = format!("transactions need idempotence, and that {value}; leave {other} out");
        return Err(contradiction(config, &["transactional.id", other], right));
    }
    Err(contradiction(config, &[NAME, other], right))
}

/// No `delivery.timeout.ms` is long enough; the greater part of it is to blame.
fn too_long(config: &Config) -> ConfigError {
    let linger = ("linger.ms", config.linger);
    let request = ("request.timeout.ms", config.request_timeout);
    let (greater, other) = if linger.1 > request.1 { (linger, request) } else { (request, linger) };
    ConfigError::Invalid {
        said: Said::new(greater.0, show_millis(greater.1)),
        expected: format!(
            "milliseconds: at most {}, since it must fit into delivery.timeout.ms together with \
             {}={}, and that takes {} at most",
            show_millis(DELIVERY_TIMEOUT_MOST.saturating_sub(other.1)),
            other.0,
            show_millis(other.1),
            show_millis(DELIVERY_TIMEOUT_MOST)
        ),
    }
}

fn times(config: &Config) -> Result<(), ConfigError> {
    let least = config.linger.saturating_add(config.request_timeout);
    if least > DELIVERY_TIMEOUT_MOST {
        return Err(too_long(config));
    }
    if config.delivery_timeout < least {
        let right = format!(
            "delivery.timeout.ms covers lingering and at least one request; use {} or more",
            show_millis(least)
        );
        let names = ["delivery.timeout.ms", "linger.ms", "request.timeout.ms"];
        return Err(contradiction(config, &names, right));
    }
    let c = config;
    let pairs = [
        ("retry.backoff.ms", c.retry_backoff, "retry.backoff.max.ms", c.retry_backoff_max),
        (
            "reconnect.backoff.ms",
            c.reconnect_backoff,
            "reconnect.backoff.max.ms",
            c.reconnect_backoff_max,
        ),
        (
            "socket.connection.setup.timeout.ms",
            c.socket_connection_setup_timeout,
            "socket.connection.setup.timeout.max.ms",
            c.socket_connection_setup_timeout_max,
        ),
    ];
    for (base_name, base, max_name, max) in pairs {
        if base > max {
            let right = format!(
                "the first value can't exceed the greatest; use {max_name}={} or \
                                 more, or a lower {base_name}",
                show_millis(base)
            );
            return Err(contradiction(config, &[base_name, max_name], right));
        }
    }
    Ok(())
}

fn contradiction(config: &Config, names: &[&str], right: String) -> ConfigError {
    let defaults = Config::default();
    let said = names.iter().filter_map(|name| table::find(name)).map(|setting| {
        let value = (setting.show)(config);
        let said = Said::new(setting.name, shown(setting.name, &value));
        if value == (setting.show)(&defaults) { said.by_default() } else { said }
    });
    ConfigError::Contradiction { said: said.collect(), right }
}
