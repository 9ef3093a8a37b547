//! The promises, one file each, checked over what really happened.
//!
//! A checker is a function of [`Evidence`], which a world collects outside the system under test.
//! It adds to [`Findings`]: a *violation* where a promise was broken, something *seen* where the
//! settings do not promise otherwise. So every checker can be tested with a history made by hand,
//! and used on histories that come from elsewhere.

mod p01_integrity;
mod p02_completion;
mod p03_definite_failure;
mod p04_offsets;
mod p05_callback_order;
mod p06_memory;
mod p10_durability;
mod p11_duplicates;
mod p11_memory;
mod p12_order;
mod p13_gaps;
mod p14_atomicity;
mod p15_isolation;
mod p16_truth;
mod p17_fencing;
mod p18_states;
mod p20_liveness;
mod p20_transactions;
mod p21_epochs;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use sordini_core::config::{Acks, Config};
use sordini_core::time::Instant;
use sordini_protocol::ErrorCode;

use crate::book::Book;
use crate::history::{Content, Submitted, Tp};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `P1` to `P21`, or the structural invariant (`S4`) that an assertion named.
    pub invariant: &'static str,
    /// What was seen, with its numbers.
    pub text: String,
    /// When, as far as it has a time.
    pub at: Instant,
}

/// Things that happened to data and that the settings allow; how many records each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Acknowledged, and not in the log.
    pub loss: u64,
    /// In the log more than once.
    pub duplicate: u64,
    /// Behind a record that was handed in later.
    pub reorder: u64,
    /// Of a transaction of which only a part is visible.
    pub torn: u64,
}

/// Something that happens to data and that some settings allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Acknowledged records are not in the log.
    Loss,
    /// Records are in the log more than once.
    Duplicate,
    /// Records stand behind later ones.
    Reorder,
    /// Records of a transaction of which only a part is visible.
    Torn,
}

/// A record that shows an anomaly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Which.
    pub anomaly: Anomaly,
    /// The record's number.
    pub record: u64,
    /// What was seen of it.
    pub text: String,
}

/// What the checkers found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Allowed anomalies.
    pub seen: Seen,
    /// The first record that showed it, for each anomaly.
    pub witnesses: Vec<Witness>,
    dropped: u64,
}

/// More violations of a run than this say nothing new.
const MOST: usize = 50;

impl Findings {
    /// The settings allow it, and `record` shows it.
    pub fn saw(&mut self, anomaly: Anomaly, record: u64, text: impl FnOnce() -> String) {
        match anomaly {
            Anomaly::Loss => self.seen.loss += 1,
            Anomaly::Duplicate => self.seen.duplicate += 1,
            Anomaly::Reorder => self.seen.reorder += 1,
            Anomaly::Torn => self.seen.torn += 1,
        }
        if !self.witnesses.iter().any(|it| it.anomaly == anomaly) {
            self.witnesses.push(Witness { anomaly, record, text: text() });
        }
    }

    /// A promise was broken.
    pub fn violation(&mut self, invariant: &'static str, at: Instant, text: String) {
        if self.violations.len() < MOST {
            self.violations.push(Violation { invariant, text, at });
        } else {
            self.dropped += 1;
        }
    }
}

/// What the settings and the weather promise together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`.
    pub idempotent: bool,
    /// `max.in.flight.requests.per.connection`.
    pub in_flight: u32,
    /// Nothing of a partition is written behind a record that failed, in one session.
    pub gapless: bool,
    /// The faults stay within what replication survives: no unclean election, no disk that loses
    /// what counts as kept.
    pub survivable: bool,
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
}

impl Violation {
    /// The record that its text names first, if it names one.
    #[must_use]
    pub fn record(&self) -> Option<u64> {
        let (_, rest) = self.text.split_once("record ")?;
        let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
        digits.parse().ok()
    }
}

impl Promise {
    /// What `config` promises where the faults are `survivable`.
    #[must_use]
    pub fn of(config: &Config, survivable: bool) -> Self {
        Self {
            acks: config.acks,
            idempotent: config.enable_idempotence,
            in_flight: config.max_in_flight_requests_per_connection,
            gapless: false,
            survivable,
            delivery_timeout: config.delivery_timeout,
        }
    }

    /// Records of a partition stay in the order in which they were handed in.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.idempotent || self.in_flight == 1
    }

    /// What is acknowledged stays.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.acks == Acks::All && self.survivable
    }
}

/// A record of the log that is left when all is healed, below the high watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Where.
    pub offset: i64,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// The number that it carries.
    pub id: Option<u64>,
    /// Its bytes.
    pub content: Content,
}

/// A leader appended a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// When.
    pub at: Instant,
    /// Which node.
    pub node: i32,
    /// Where.
    pub tp: Tp,
    /// The offset of the first.
    pub base_offset: i64,
    /// In which term.
    pub leader_epoch: i32,
    /// Under which producer id; -1 for none.
    pub producer_id: i64,
    /// The records' numbers.
    pub ids: Vec<u64>,
}

/// Something that happened to the cluster or to connections, and that excuses something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A replica cut its log from `was` to `to`.
    Truncated {
        /// Which node.
        node: i32,
        /// Where.
        tp: Tp,
        /// The new end.
        to: i64,
        /// The old end.
        was: i64,
    },
    /// A partition has a new leader.
    Elected {
        /// Where.
        tp: Tp,
        /// Who; -1 for none.
        leader: i32,
        /// Its term.
        leader_epoch: i32,
        /// It was in sync.
        clean: bool,
    },
    /// A producer's connection ended, or could not be made.
    ConnectionLost {
        /// Whose.
        producer: u16,
        /// To whom.
        node: i32,
    },
    /// A node's process or machine stopped.
    Stopped {
        /// Which.
        node: i32,
        /// What was not synced is gone.
        power: bool,
    },
    /// A broker refused a batch.
    Refused {
        /// Whose.
        producer: u16,
        /// Where.
        tp: Tp,
        /// With this code.
        code: i16,
        /// Which node.
        node: i32,
        /// The batch's first record.
        id: u64,
        /// No older batch of its partition and epoch was on its way when it was sent.
        led: bool,
    },
    /// A topic was deleted.
    Deleted {
        /// Which.
        topic: u16,
    },
    /// A producer took a new epoch for a partition.
    Bumped {
        /// Which producer.
        producer: u16,
        /// Which partition.
        tp: Tp,
    },
    /// A producer told of a loss (A17).
    LossTold {
        /// Which producer.
        producer: u16,
        /// Which partition.
        tp: Tp,
    },
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { node, tp, to, was } => {
                write!(f, "node {node} cut its log of {tp:?} from {was} to {to}")
            }
            Self::Elected { tp, leader: -1, .. } => write!(f, "{tp:?} had no leader"),
            Self::Elected { tp, leader, leader_epoch, clean } => {
                let how = if *clean { "" } else { ", which was not in sync" };
                write!(f, "node {leader}{how} took over {tp:?} in epoch {leader_epoch}")
            }
            Self::ConnectionLost { producer, node } => {
                write!(f, "producer {producer} had no connection to node {node} any more")
            }
            Self::Stopped { node, power: true } => write!(f, "node {node} lost power"),
            Self::Stopped { node, power: false } => write!(f, "node {node} stopped"),
            Self::Refused { tp, code, node, .. } => {
                let code = ErrorCode::from_code(*code);
                write!(f, "node {node} refused a batch of {tp:?} with {}", code.name())
            }
            Self::Deleted { topic } => write!(f, "topic {topic} was deleted"),
            Self::Bumped { producer, tp } => {
                write!(f, "producer {producer} took a new epoch for {tp:?}")
            }
            Self::LossTold { producer, tp } => {
                write!(f, "producer {producer} told of a loss in {tp:?}")
            }
        }
    }
}

/// What a producer's memory did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// `buffer.memory`.
    pub limit: usize,
    /// The most that was ever reserved.
    pub peak: usize,
    /// What was reserved at the end.
    pub at_end: usize,
    /// The most Produce requests that one connection had unanswered.
    pub most_in_flight: usize,
}

/// A time in which a producer could not run: outcomes may be as much later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Whose.
    pub producer: u16,
    /// From when.
    pub from: Instant,
    /// Until when.
    pub until: Instant,
}

/// A promise of liveness that was put to the test after the healing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When.
    pub at: Instant,
    /// What was asked, for a person.
    pub asked: String,
    /// What was wrong with the answer, if anything.
    pub failed: Option<String>,
}

/// How Produce requests name topics. A topic that is deleted and made anew has another id and the
/// same name: what was meant for the one may come to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the protocol knows no third way")]
pub enum Naming {
    /// By their ids: Kafka 4.1 and newer.
    #[default]
    Id,
    /// By their names: older brokers, and the old protocol of transactions.
    Name,
}

/// What really happened, kept outside the system under test.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What was promised.
    pub promise: Promise,
    /// Every send.
    pub records: Vec<Submitted>,
    /// The logs that are left.
    pub logs: BTreeMap<Tp, Vec<Logged>>,
    /// Every append of a leader to a topic that was not deleted since, truncated suffixes
    /// included, in order.
    pub appends: Vec<Append>,
    /// Transactions: what was asked and told, and what became of them.
    pub book: Book,
    /// How Produce requests name their topics.
    pub naming: Naming,
    /// Topics whose brokers set the timestamps (`LogAppendTime`).
    pub broker_times: BTreeSet<u16>,
    /// What happened, in order.
    pub happenings: Vec<(Instant, Happening)>,
    /// Each producer's memory.
    pub memory: Vec<MemoryUse>,
    /// When producers were paused, or their timers late.
    pub pauses: Vec<Pause>,
    /// Brokers were made to answer that they do not know a producer's sequence, though they did.
    pub misled: bool,
    /// What was tried after the healing.
    pub probes: Vec<Probe>,
    /// When the world ended.
    pub ended: Instant,
}

impl Evidence {
    /// Nothing happened yet.
    #[must_use]
    pub fn new(promise: Promise) -> Self {
        Self {
            promise,
            records: Vec::new(),
            logs: BTreeMap::new(),
            appends: Vec::new(),
            book: Book::default(),
            naming: Naming::default(),
            broker_times: BTreeSet::new(),
            happenings: Vec::new(),
            memory: Vec::new(),
            pauses: Vec::new(),
            misled: false,
            probes: Vec::new(),
            ended: Instant::ZERO,
        }
    }

    /// Where each record stands in the logs.
    fn places(&self) -> Places {
        let mut places = vec![Vec::new(); self.records.len()];
        for (tp, log) in &self.logs {
            for logged in log {
                let id = logged.id.and_then(|id| usize::try_from(id).ok());
                if let Some(of) = id.and_then(|id| places.get_mut(id)) {
                    of.push((*tp, logged.offset));
                }
            }
        }
        Places(places)
    }

    fn was_deleted_after(&self, topic: u16, since: Instant) -> bool {
        let mut later = self.happenings.iter().filter(|(at, _)| *at >= since);
        later.any(|(_, it)| *it == Happening::Deleted { topic })
    }

    fn was_deleted(&self, topic: u16) -> bool {
        self.happenings.iter().any(|(_, it)| *it == Happening::Deleted { topic })
    }
}

/// Where each record stands, by its number.
struct Places(Vec<Vec<(Tp, i64)>>);

impl Places {
    fn of(&self, id: u64) -> &[(Tp, i64)] {
        usize::try_from(id).ok().and_then(|id| self.0.get(id)).map_or(&[], Vec::as_slice)
    }
}

/// Puts everything to every test.
#[must_use]
pub fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    let places = evidence.places();
    let all: [fn(&Evidence, &Places, &mut Findings); 19] = [
        p01_integrity::check,
        p02_completion::check,
        p03_definite_failure::check,
        p04_offsets::check,
        p05_callback_order::check,
        p06_memory::check,
        p10_durability::check,
        p11_duplicates::check,
        p11_memory::check,
        p12_order::check,
        p13_gaps::check,
        p14_atomicity::check,
        p15_isolation::check,
        p16_truth::check,
        p17_fencing::check,
        p18_states::check,
        p20_liveness::check,
        p20_transactions::check,
        p21_epochs::check,
    ];
    for checker in all {
        checker(evidence, &places, &mut findings);
    }
    findings
}
