//! The settings of a reader, by the names that Kafka's consumer has for them.

use std::fmt;
use std::time::Duration;

use sordini_core::config::{ConfigBuilder, parse_properties};

use super::error::SettingError;
use super::machine::Millis;

/// Which records are handed out: `isolation.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the protocol has no third value")]
pub enum Isolation {
    /// All up to the high watermark, those of open and aborted transactions included.
    ReadUncommitted,
    /// All up to the last stable offset, without those of aborted transactions.
    ReadCommitted,
}

impl Isolation {
    pub(super) fn code(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// `host:port`, not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Address {
    /// A name or an IP address (IPv6 without brackets).
    pub host: String,
    /// 1 to 65 535.
    pub port: u16,
}

impl Address {
    /// An address from its parts.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    fn parse(text: &str) -> Result<Self, SettingError> {
        let bad = |why: &str| {
            SettingError(format!(
                "bootstrap.servers={text:?} {why}; write host:port, as in localhost:9092"
            ))
        };
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = bare.rsplit_once(':').ok_or_else(|| bad("has no port"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(bad("needs brackets around its IPv6 address"));
        }
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(bad("names no host"));
        }
        match port.parse() {
            Ok(port @ 1..) => Ok(Self::new(host, port)),
            _ => Err(bad("has no port between 1 and 65535")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How to reach the cluster, and how much to ask for at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// `bootstrap.servers`: no default; at least one is required.
    pub bootstrap: Vec<Address>,
    /// `client.id`: default `sordini`.
    pub client_id: String,
    /// `isolation.level`: default read_uncommitted, as Java's.
    pub isolation: Isolation,
    /// `fetch.max.bytes`: of one answer; default 8 MiB.
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`: of one partition in an answer; default 1 MiB.
    pub partition_max_bytes: i32,
    /// `fetch.max.wait.ms`: how long a broker waits for records; default 500 ms.
    pub fetch_max_wait: Duration,
    /// `request.timeout.ms`: until an answer must be there; default 30 s.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long nothing useful may come before it is an error; default
    /// 60 s.
    pub api_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`: default 10 s.
    pub connect_timeout: Duration,
    /// `retry.backoff.ms`: before the first retry; doubles up to `retry.backoff.max.ms`; 100 ms.
    pub backoff: Duration,
    /// `retry.backoff.max.ms`: default 1 s.
    pub backoff_max: Duration,
    /// `metadata.max.age.ms`: default 5 min.
    pub metadata_max_age: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            client_id: "sordini".into(),
            isolation: Isolation::ReadUncommitted,
            fetch_max_bytes: 8 << 20,
            partition_max_bytes: 1 << 20,
            fetch_max_wait: Duration::from_millis(500),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
        }
    }
}

/// Names that [`Settings::set`] obeys.
const SUPPORTED: [&str; 13] = [
    "bootstrap.servers",
    "client.id",
    "isolation.level",
    "fetch.max.bytes",
    "max.partition.fetch.bytes",
    "fetch.max.wait.ms",
    "request.timeout.ms",
    "default.api.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "metadata.max.age.ms",
    "security.protocol",
];

/// Names of Java's consumer that change nothing for a reader without a group.
const HARMLESS: [&str; 22] = [
    "allow.auto.create.topics",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "client.dns.lookup",
    "client.rack",
    "connections.max.idle.ms",
    "enable.auto.commit",
    "enable.metrics.push",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "interceptor.classes",
    "key.deserializer",
    "max.poll.interval.ms",
    "max.poll.records",
    "receive.buffer.bytes",
    "send.buffer.bytes",
    "session.timeout.ms",
    "value.deserializer",
];

impl Settings {
    /// Sets what Kafka's consumer calls `name`. `Ok(Some(..))` is a warning: the setting is known,
    /// and changes nothing here.
    ///
    /// # Errors
    /// If the name is unknown (with the nearest known one), or the value is not one of it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<String>, SettingError> {
        let value = value.trim();
        match name {
            "bootstrap.servers" => self.bootstrap = addresses(value)?,
            "client.id" if value.len() <= 1000 => self.client_id = value.into(),
            "client.id" => return Err(invalid(name, "a value", "at most 1000 bytes")),
            "isolation.level" => {
                self.isolation = match value {
                    "read_committed" => Isolation::ReadCommitted,
                    "read_uncommitted" => Isolation::ReadUncommitted,
                    _ => return Err(invalid(name, value, "read_committed or read_uncommitted")),
                }
            }
            "fetch.max.bytes" => self.fetch_max_bytes = bytes(name, value)?,
            "max.partition.fetch.bytes" => self.partition_max_bytes = bytes(name, value)?,
            "fetch.max.wait.ms" => self.fetch_max_wait = millis(name, value)?,
            "request.timeout.ms" => self.request_timeout = millis(name, value)?,
            "default.api.timeout.ms" => self.api_timeout = millis(name, value)?,
            "socket.connection.setup.timeout.ms" => self.connect_timeout = millis(name, value)?,
            "retry.backoff.ms" => self.backoff = millis(name, value)?,
            "retry.backoff.max.ms" => self.backoff_max = millis(name, value)?,
            "metadata.max.age.ms" => self.metadata_max_age = millis(name, value)?,
            "security.protocol" if value == "PLAINTEXT" => {}
            "security.protocol" => {
                return Err(SettingError(format!(
                    "security.protocol={value} is refused: only PLAINTEXT is spoken so far"
                )));
            }
            _ if name.starts_with("ssl.") || name.starts_with("sasl.") => {
                return Err(SettingError(format!(
                    "{name} is refused: TLS and SASL are not spoken so far"
                )));
            }
            _ if HARMLESS.contains(&name) => {
                return Ok(Some(format!("{name} changes nothing for a reader without a group")));
            }
            _ => return Err(unknown(name)),
        }
        Ok(None)
    }

    /// Sets all settings of a Java `.properties` file, and returns the warnings. Those that only
    /// producers have are passed over: one file may serve both.
    ///
    /// # Errors
    /// If the file can't be read as such, or the first error of [`Settings::set`].
    pub fn properties(&mut self, text: &str) -> Result<Vec<String>, SettingError> {
        let entries = parse_properties(text).map_err(|error| SettingError(error.to_string()))?;
        let mut warnings = Vec::new();
        for entry in entries {
            let name = entry.name.as_str();
            let here = SUPPORTED.contains(&name) || HARMLESS.contains(&name);
            if here || ConfigBuilder::new().set(name, &entry.value).is_err() {
                warnings.extend(self.set(name, &entry.value)?);
            }
        }
        Ok(warnings)
    }

    /// Whether the settings can be used.
    ///
    /// # Errors
    /// If no address is given.
    pub fn check(&self) -> Result<(), SettingError> {
        if self.bootstrap.is_empty() {
            return Err(SettingError("bootstrap.servers is missing; give -b HOST:PORT".into()));
        }
        Ok(())
    }

    pub(super) fn api_timeout_ms(&self) -> Millis {
        as_millis(self.api_timeout)
    }

    pub(super) fn request_timeout_ms(&self) -> Millis {
        as_millis(self.request_timeout)
    }

    pub(super) fn connect_timeout_ms(&self) -> Millis {
        as_millis(self.connect_timeout)
    }

    pub(super) fn fetch_max_wait_ms(&self) -> Millis {
        as_millis(self.fetch_max_wait)
    }

    pub(super) fn metadata_max_age_ms(&self) -> Millis {
        as_millis(self.metadata_max_age)
    }

    /// How long to wait after so many failures before this one: doubling, up to the maximum.
    pub(super) fn pause(&self, failures: u32) -> Millis {
        let most = as_millis(self.backoff_max);
        as_millis(self.backoff).saturating_mul(1 << failures.min(20)).min(most)
    }

    /// The addresses of `bootstrap.servers` as one text.
    #[must_use]
    pub fn bootstrap_text(&self) -> String {
        let all: Vec<_> = self.bootstrap.iter().map(ToString::to_string).collect();
        all.join(",")
    }

    /// What to add where `address` can't be reached that `by` told of: the user never wrote it.
    pub(super) fn advice(&self, address: &Address, by: Option<&Address>) -> String {
        match by.filter(|_| !self.bootstrap.contains(address)) {
            Some(by) => format!(
                "; the broker at {by} advertises this address, which the setting \
                 advertised.listeners decides"
            ),
            None => String::new(),
        }
    }
}

fn as_millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 4)
}

fn addresses(value: &str) -> Result<Vec<Address>, SettingError> {
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(Address::parse).collect()
}

fn invalid(name: &str, value: &str, expected: &str) -> SettingError {
    SettingError(format!("{name}={value} is invalid: expected {expected}"))
}

fn bytes(name: &str, value: &str) -> Result<i32, SettingError> {
    match value.parse() {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err(invalid(name, value, "a number of bytes from 1 to 2147483647")),
    }
}

fn millis(name: &str, value: &str) -> Result<Duration, SettingError> {
    match value.parse::<u32>() {
        Ok(millis) if i32::try_from(millis).is_ok() => Ok(Duration::from_millis(millis.into())),
        _ => Err(invalid(name, value, "a number of milliseconds from 0 to 2147483647")),
    }
}

fn unknown(name: &str) -> SettingError {
    let known = SUPPORTED.iter().chain(&HARMLESS);
    let nearest = known.min_by_key(|known| distance(known, name));
    SettingError(match nearest {
        Some(nearest) if distance(nearest, name) <= 1 + name.len() / 4 => {
            format!("there is no setting {name:?} of a reader; did you mean {nearest}?")
        }
        _ => format!(
            "there is no setting {name:?} of a reader; those obeyed here are {}",
            SUPPORTED.join(", ")
        ),
    })
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
