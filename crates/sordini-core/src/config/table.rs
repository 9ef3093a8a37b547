//! The supported settings: how each is read and shown. Sorted by name.

use super::value::{
    Expected, boolean, bytes, integer, millis, show_millis, show_socket_buffer, socket_buffer,
};
use super::{Acks, Address, Codec, Config, PartitionerKind};

const INT: i64 = i32::MAX as i64;
const LONG: i64 = i64::MAX;

/// What a batch of one empty record is held to take, in bytes: below that no record is accepted.
const LEAST_BATCH: i64 = 82;

/// One supported setting.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) set: fn(&mut Config, &str) -> Result<(), Expected>,
    pub(super) show: fn(&Config) -> String,
}

/// A setting in milliseconds: name, field, least and most.
macro_rules! duration {
    ($name:literal, $field:ident, $least:literal, $most:expr) => {
        Setting {
            name: $name,
            set: |config, text| {
                config.$field = millis(text, $least, $most)?;
                Ok(())
            },
            show: |config| show_millis(config.$field),
        }
    };
}

/// A setting whose text is that of its field's type: name, field and reader.
macro_rules! plain {
    ($name:literal, $field:ident, $read:expr) => {
        Setting {
            name: $name,
            set: |config, text| {
                config.$field = ($read)(text)?;
                Ok(())
            },
            show: |config| config.$field.to_string(),
        }
    };
}

pub(super) const SUPPORTED: &[Setting] = &[
    Setting { name: "acks", set: set_acks, show: |config| show_acks(config.acks).to_owned() },
    plain!("allow.auto.create.topics", allow_auto_create_topics, boolean),
    plain!("batch.size", batch_size, |text| bytes(text, 0, INT)),
    Setting {
        name: "bootstrap.servers",
        set: set_bootstrap_servers,
        show: |config| {
            let addresses: Vec<_> =
                config.bootstrap_servers.iter().map(Address::to_string).collect();
            addresses.join(",")
        },
    },
    plain!("buffer.memory", buffer_memory, |text| bytes(text, LEAST_BATCH, LONG)),
    Setting {
        name: "client.dns.lookup",
        set: set_client_dns_lookup,
        show: |_| "use_all_dns_ips".to_owned(),
    },
    plain!("client.id", client_id, client_id),
    plain!("compression.gzip.level", compression_gzip_level, gzip_level),
    plain!("compression.lz4.level", compression_lz4_level, |text| level(text, 1, 17)),
    Setting {
        name: "compression.type",
        set: set_compression_type,
        show: |config| config.compression_type.name().to_owned(),
    },
    plain!("compression.zstd.level", compression_zstd_level, |text| level(text, -131_072, 22)),
    Setting {
        name: "connections.max.idle.ms",
        set: |config, text| {
            let idle = integer(text, i64::MIN, LONG)?;
            config.connections_max_idle =
                u64::try_from(idle).ok().map(std::time::Duration::from_millis);
            Ok(())
        },
        show: |config| config.connections_max_idle.map_or_else(|| "-1".to_owned(), show_millis),
    },
    duration!("delivery.timeout.ms", delivery_timeout, 0, INT),
    plain!("enable.idempotence", enable_idempotence, boolean),
    duration!("linger.ms", linger, 0, LONG),
    duration!("max.block.ms", max_block, 0, LONG),
    plain!(
        "max.in.flight.requests.per.connection",
        max_in_flight_requests_per_connection,
        |text| count(text, 1)
    ),
    plain!("max.request.size", max_request_size, |text| bytes(text, LEAST_BATCH, INT)),
    duration!("metadata.max.age.ms", metadata_max_age, 0, LONG),
    duration!("metadata.max.idle.ms", metadata_max_idle, 5000, LONG),
    Setting {
        name: "partitioner.class",
        set: set_partitioner_class,
        show: |config| show_partitioner_class(config.partitioner_class).to_owned(),
    },
    plain!("partitioner.ignore.keys", partitioner_ignore_keys, boolean),
    Setting {
        name: "receive.buffer.bytes",
        set: |config, text| {
            config.receive_buffer_bytes = socket_buffer(text)?;
            Ok(())
        },
        show: |config| show_socket_buffer(config.receive_buffer_bytes),
    },
    duration!("reconnect.backoff.max.ms", reconnect_backoff_max, 0, LONG),
    duration!("reconnect.backoff.ms", reconnect_backoff, 0, LONG),
    duration!("request.timeout.ms", request_timeout, 1, INT),
    plain!("retries", retries, |text| count(text, 0)),
    duration!("retry.backoff.max.ms", retry_backoff_max, 0, LONG),
    duration!("retry.backoff.ms", retry_backoff, 0, LONG),
    Setting {
        name: "send.buffer.bytes",
        set: |config, text| {
            config.send_buffer_bytes = socket_buffer(text)?;
            Ok(())
        },
        show: |config| show_socket_buffer(config.send_buffer_bytes),
    },
    duration!(
        "socket.connection.setup.timeout.max.ms",
        socket_connection_setup_timeout_max,
        0,
        LONG
    ),
    duration!("socket.connection.setup.timeout.ms", socket_connection_setup_timeout, 0, LONG),
    duration!("transaction.timeout.ms", transaction_timeout, 1, INT),
    Setting {
        name: "transactional.id",
        set: set_transactional_id,
        show: |config| config.transactional_id.clone().unwrap_or_else(|| "null".to_owned()),
    },
];

/// The supported setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SUPPORTED.iter().find(|setting| setting.name == name)
}

pub(super) const fn show_acks(acks: Acks) -> &'static str {
    match acks {
        Acks::None => "0",
        Acks::Leader => "1",
        Acks::All => "all",
    }
}

fn set_acks(config: &mut Config, text: &str) -> Result<(), Expected> {
    config.acks = match text {
        "0" => Acks::None,
        "1" => Acks::Leader,
        "all" | "-1" => Acks::All,
        _ => return Err("0, 1 or all".into()),
    };
    Ok(())
}

fn set_bootstrap_servers(config: &mut Config, text: &str) -> Result<(), Expected> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let addresses = parts.map(Address::parse).collect::<Result<Vec<_>, _>>();
    match addresses {
        Ok(addresses) if !addresses.is_empty() => {
            config.bootstrap_servers = addresses;
            Ok(())
        }
        Ok(_) => Err("host:port, one or more, separated by commas".into()),
        Err(error) => Err(format!("host:port, separated by commas ({error})").into()),
    }
}

fn set_client_dns_lookup(_: &mut Config, text: &str) -> Result<(), Expected> {
    match text {
        "use_all_dns_ips" => Ok(()),
        _ => Err("use_all_dns_ips: every address of a host is tried, names are not made \
                  canonical, which only Kerberos needs"
            .into()),
    }
}

fn client_id(text: &str) -> Result<String, Expected> {
    // The request header's length is an i16.
    match i16::try_from(text.len()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("at most 32767 bytes".into()),
    }
}

fn set_transactional_id(config: &mut Config, text: &str) -> Result<(), Expected> {
    config.transactional_id = match text {
        "" | "null" => None,
        // Its length on the wire is an i16.
        id if i16::try_from(id.len()).is_ok() => Some(id.to_owned()),
        _ => return Err("at most 32767 bytes".into()),
    };
    Ok(())
}

fn set_compression_type(config: &mut Config, text: &str) -> Result<(), Expected> {
    let all = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let found = all.into_iter().find(|codec| codec.name() == text);
    config.compression_type = found.ok_or("none, gzip, snappy, lz4 or zstd")?;
    Ok(())
}

fn level(text: &str, least: i32, most: i32) -> Result<i32, Expected> {
    let value = integer(text, i64::from(least), i64::from(most))?;
    Ok(i32::try_from(value).unwrap_or(least))
}

fn gzip_level(text: &str) -> Result<i32, Expected> {
    match level(text, -1, 9) {
        Ok(0) | Err(_) => Err("an integer from 1 to 9, or -1 for the codec's own choice".into()),
        ok => ok,
    }
}

fn count(text: &str, least: i64) -> Result<u32, Expected> {
    Ok(u32::try_from(integer(text, least, INT)?).unwrap_or(0))
}

const ROUND_ROBIN: &str = "org.apache.kafka.clients.producer.RoundRobinPartitioner";

fn set_partitioner_class(config: &mut Config, text: &str) -> Result<(), Expected> {
    config.partitioner_class = match text {
        "" | "null" => PartitionerKind::Default,
        ROUND_ROBIN => PartitionerKind::RoundRobin,
        _ => {
            return Err(format!(
                "nothing (the default partitioner) or {ROUND_ROBIN}; a Java class can't be \
                 loaded here: hand an own partitioner to the builder"
            )
            .into());
        }
    };
    Ok(())
}

const fn show_partitioner_class(kind: PartitionerKind) -> &'static str {
    match kind {
        PartitionerKind::Default => "null",
        PartitionerKind::RoundRobin => ROUND_ROBIN,
    }
}
