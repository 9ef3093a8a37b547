//! A topic's settings: those of Kafka that matter to a producer, each known by its Kafka name.

use std::collections::BTreeMap;
use std::fmt;

/// What a setting's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of at least this; -1 where that is the bound means "no limit".
    Number {
        /// The least that is allowed.
        min: i64,
        /// The most that is allowed.
        max: i64,
        /// Type number of Kafka's DescribeConfigs: 3 = int, 5 = long.
        type_code: i8,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Some of these words, with commas between.
    Words(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// Kafka's default.
    pub default: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Whether this broker acts on it; the others are kept and reported only.
    pub honoured: bool,
}

const fn long(name: &'static str, default: &'static str, min: i64) -> Setting {
    let kind = Kind::Number { min, max: i64::MAX, type_code: 5 };
    Setting { name, default, kind, honoured: true }
}

const fn int(name: &'static str, default: &'static str, min: i64) -> Setting {
    let kind = Kind::Number { min, max: i32::MAX as i64, type_code: 3 };
    Setting { name, default, kind, honoured: true }
}

const fn ignored(setting: Setting) -> Setting {
    Setting { honoured: false, ..setting }
}

const CODECS: &[&str] = &["producer", "uncompressed", "none", "gzip", "snappy", "lz4", "zstd"];
const CREATE_TIME: &str = "CreateTime";
const LOG_APPEND_TIME: &str = "LogAppendTime";

/// The settings that are known, sorted by name.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        default: "delete",
        kind: Kind::Words(&["delete", "compact"]),
        honoured: true,
    },
    Setting {
        name: "compression.type",
        default: "producer",
        kind: Kind::Word(CODECS),
        honoured: true,
    },
    ignored(long("delete.retention.ms", "86400000", 0)),
    ignored(long("file.delete.delay.ms", "60000", 0)),
    ignored(long("flush.messages", "9223372036854775807", 1)),
    ignored(long("flush.ms", "9223372036854775807", 0)),
    ignored(int("index.interval.bytes", "4096", 0)),
    int("max.message.bytes", "1048588", 0),
    long("message.timestamp.after.max.ms", "3600000", 0),
    long("message.timestamp.before.max.ms", "9223372036854775807", 0),
    Setting {
        name: "message.timestamp.type",
        default: CREATE_TIME,
        kind: Kind::Word(&[CREATE_TIME, LOG_APPEND_TIME]),
        honoured: true,
    },
    int("min.insync.replicas", "1", 1),
    Setting { name: "preallocate", default: "false", kind: Kind::Bool, honoured: false },
    long("retention.bytes", "-1", -1),
    long("retention.ms", "604800000", -1),
    int("segment.bytes", "1073741824", 14),
    ignored(int("segment.index.bytes", "10485760", 4)),
    ignored(long("segment.jitter.ms", "0", 0)),
    long("segment.ms", "604800000", 1),
    Setting {
        name: "unclean.leader.election.enable",
        default: "false",
        kind: Kind::Bool,
        honoured: false,
    },
];

/// Why a setting was refused. Displayed as Kafka words it: the setting, its value, the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No topic setting has this name.
    Unknown {
        /// The name.
        name: String,
    },
    /// The value is not one that the setting takes.
    Invalid {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// What the setting takes.
        expected: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => write!(f, "Unknown topic config name: {name}"),
            Self::Invalid { name, value, expected } => {
                write!(f, "Invalid value {value} for configuration {name}: expected {expected}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// A topic's settings: what was set, over Kafka's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicConfig {
    set: BTreeMap<&'static str, String>,
}

/// The codec that a topic's batches are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetCodec {
    /// The producer's own.
    Producer,
    /// This one, by its number in a batch's attributes; 0 is none.
    Codec(u8),
}

impl TopicConfig {
    /// The setting of this name.
    #[must_use]
    pub fn setting(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Sets one setting.
    ///
    /// # Errors
    /// If there is no such setting, or it does not take this value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let Some(setting) = Self::setting(name) else {
            return Err(ConfigError::Unknown { name: name.to_owned() });
        };
        let value = value.trim();
        check(setting, value).map_err(|expected| ConfigError::Invalid {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
        })?;
        self.set.insert(setting.name, value.to_owned());
        Ok(())
    }

    /// The settings that were set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.set.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// A setting's value, and whether it was set rather than Kafka's default.
    #[must_use]
    pub fn value(&self, setting: &Setting) -> (String, bool) {
        match self.set.get(setting.name) {
            Some(value) => (value.clone(), true),
            None => (setting.default.to_owned(), false),
        }
    }

    fn text(&self, name: &str) -> &str {
        let default = || Self::setting(name).map_or("", |setting| setting.default);
        self.set.get(name).map_or_else(default, String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(i64::MAX)
    }

    /// Largest batch in bytes, its 61-byte header included.
    #[must_use]
    pub fn max_message_bytes(&self) -> i64 {
        self.number("max.message.bytes")
    }

    /// Bytes of a segment, at most 2^31 - 1.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        u64::try_from(self.number("segment.bytes")).unwrap_or(u64::MAX)
    }

    /// Milliseconds after which a segment is ended.
    #[must_use]
    pub fn segment_ms(&self) -> i64 {
        self.number("segment.ms")
    }

    /// Bytes of a partition that are kept; `None` is all.
    #[must_use]
    pub fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(self.number("retention.bytes")).ok()
    }

    /// Milliseconds that records are kept; `None` is for ever.
    #[must_use]
    pub fn retention_ms(&self) -> Option<i64> {
        Some(self.number("retention.ms")).filter(|ms| *ms >= 0)
    }

    /// Whether timestamps are the broker's, not the producer's.
    #[must_use]
    pub fn log_append_time(&self) -> bool {
        self.text("message.timestamp.type") == LOG_APPEND_TIME
    }

    /// How far a record's timestamp may lie before the broker's clock, ms.
    #[must_use]
    pub fn timestamp_before_max_ms(&self) -> i64 {
        self.number("message.timestamp.before.max.ms")
    }

    /// How far a record's timestamp may lie after the broker's clock, ms.
    #[must_use]
    pub fn timestamp_after_max_ms(&self) -> i64 {
        self.number("message.timestamp.after.max.ms")
    }

    /// Whether records need keys. They are never compacted here.
    #[must_use]
    pub fn compacts(&self) -> bool {
        self.text("cleanup.policy").split(',').any(|word| word.trim() == "compact")
    }

    /// Whether old segments are removed.
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.text("cleanup.policy").split(',').any(|word| word.trim() == "delete")
    }

    /// Replicas that must have a batch before acks=all is answered.
    #[must_use]
    pub fn min_insync_replicas(&self) -> i64 {
        self.number("min.insync.replicas")
    }

    /// The codec that batches are stored in.
    #[must_use]
    pub fn target_codec(&self) -> TargetCodec {
        match self.text("compression.type") {
            "uncompressed" | "none" => TargetCodec::Codec(0),
            "gzip" => TargetCodec::Codec(1),
            "snappy" => TargetCodec::Codec(2),
            "lz4" => TargetCodec::Codec(3),
            "zstd" => TargetCodec::Codec(4),
            _ => TargetCodec::Producer,
        }
    }
}

fn check(setting: &Setting, value: &str) -> Result<(), String> {
    let among = |words: &[&str], word: &str| words.contains(&word);
    match setting.kind {
        Kind::Number { min, max, .. } => {
            let inside = value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n));
            inside.then_some(()).ok_or_else(|| format!("a number from {min} to {max}"))
        }
        Kind::Word(words) => {
            among(words, value).then_some(()).ok_or_else(|| format!("one of {}", words.join(", ")))
        }
        Kind::Words(words) => value
            .split(',')
            .all(|word| among(words, word.trim()))
            .then_some(())
            .ok_or_else(|| format!("some of {}, with commas between", words.join(", "))),
        Kind::Bool => {
            among(&["true", "false"], value).then_some(()).ok_or_else(|| "true or false".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_setting_takes() {
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
        for setting in SETTINGS {
            check(setting, setting.default).expect(setting.name);
        }
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = TopicConfig::default();
        assert_eq!(config.max_message_bytes(), 1_048_588);
        assert_eq!(config.segment_bytes(), 1 << 30);
        assert_eq!(config.retention_bytes(), None);
        assert_eq!(config.retention_ms(), Some(604_800_000));
        assert_eq!(config.target_codec(), TargetCodec::Producer);
        assert!(!config.log_append_time() && config.deletes() && !config.compacts());
    }

    #[test]
    fn a_bad_setting_is_named_with_its_value() {
        let mut config = TopicConfig::default();
        let unknown = config.set("retention.hours", "1").expect_err("unknown");
        assert_eq!(unknown.to_string(), "Unknown topic config name: retention.hours");
        for (name, value) in [
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("max.message.bytes", "4294967296"),
            ("compression.type", "brotli"),
            ("cleanup.policy", "delete,shrink"),
            ("message.timestamp.type", "createtime"),
            ("preallocate", "yes"),
        ] {
            let text = config.set(name, value).expect_err(name).to_string();
            assert!(text.contains(name) && text.contains(value), "{text}");
        }
        assert_eq!(config, TopicConfig::default());
    }

    #[test]
    fn settings_that_were_set_prevail() {
        let mut config = TopicConfig::default();
        config.set("cleanup.policy", "compact, delete").expect("policy");
        config.set("compression.type", "zstd").expect("codec");
        config.set("retention.ms", "-1").expect("retention");
        config.set("message.timestamp.type", "LogAppendTime").expect("type");
        assert!(config.compacts() && config.deletes() && config.log_append_time());
        assert_eq!(config.target_codec(), TargetCodec::Codec(4));
        assert_eq!(config.retention_ms(), None);
    }
}
