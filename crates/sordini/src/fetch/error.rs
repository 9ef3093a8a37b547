//! Why reading, or an administrative request, ended.

use std::fmt;
use std::time::Duration;

use sordini_protocol::ErrorCode;

/// Why a topic can't be read (any further), or a request was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchError {
    /// No broker gave a useful answer for as long as `default.api.timeout.ms` allows.
    NoAnswer {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// The cluster does not know the topic.
    UnknownTopic {
        /// The topic's name.
        topic: String,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The topic's name.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// How many the topic has.
        count: usize,
    },
    /// The topic was deleted and made again while it was read.
    TopicRemade {
        /// The topic's name.
        topic: String,
    },
    /// The broker refused.
    Refused {
        /// What was asked for.
        what: String,
        /// Kafka's error.
        code: ErrorCode,
        /// The broker's own words, where it has any.
        message: Option<String>,
    },
    /// A record batch is not what it must be.
    Corrupt {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: i32,
        /// The batch's base offset, or where reading stood.
        offset: i64,
        /// What is wrong with it.
        cause: String,
    },
    /// A broker lacks an API, or offers only versions of it that are not spoken here.
    TooOld {
        /// The broker's address.
        address: String,
        /// The API's name.
        api: String,
    },
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { what, waited, last } => write!(
                f,
                "{what}: no answer within {} ms (default.api.timeout.ms); {last}",
                waited.as_millis()
            ),
            Self::UnknownTopic { topic } => write!(
                f,
                "the topic {topic:?} does not exist; `sordini topic list` shows those that do"
            ),
            Self::UnknownPartition { topic, partition, count } => write!(
                f,
                "the topic {topic:?} has no partition {partition}: it has {count}, counted from 0"
            ),
            Self::TopicRemade { topic } => write!(
                f,
                "the topic {topic:?} was deleted and made again; start anew to read the new one"
            ),
            Self::Refused { what, code, message } => {
                write!(f, "{what}: the broker answered {}", code.name())?;
                match message {
                    Some(message) => write!(f, " ({})", printable(message)),
                    None => Ok(()),
                }
            }
            Self::Corrupt { topic, partition, offset, cause } => {
                write!(f, "{topic}-{partition} can't be read at offset {offset}: {cause}")
            }
            Self::TooOld { address, api } => write!(
                f,
                "the broker at {address} offers no version of {api} that is spoken here; \
                 Kafka 2.1 and newer are"
            ),
        }
    }
}

impl std::error::Error for FetchError {}

/// A setting that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError(pub(super) String);

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingError {}

/// `text` from a peer without its control characters (a terminal would obey them), cut to 256
/// characters.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars().take(256);
    shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
