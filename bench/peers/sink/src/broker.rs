//! What the sink knows: topics that it made up, and what it has counted.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sordini_protocol::Uuid;

#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) produce_requests: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
    pub(crate) wire_bytes: AtomicU64,
    pub(crate) seq_errors: AtomicU64,
    pub(crate) crc_errors: AtomicU64,
    pub(crate) bad_batches: AtomicU64,
}

/// A producer's id and epoch, and the sequence that it must go on with.
#[derive(Default)]
pub(crate) struct Sequence {
    pub(crate) producer: (i64, i16),
    pub(crate) next: i32,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) next_offset: AtomicI64,
    pub(crate) sequence: Mutex<Sequence>,
}

pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Default)]
pub(crate) struct Broker {
    /// One for each node.
    pub(crate) ports: Vec<u16>,
    pub(crate) default_partitions: usize,
    pub(crate) latency: Duration,
    pub(crate) verify: bool,
    pub(crate) produce_max: i16,
    pub(crate) next_producer: AtomicI64,
    pub(crate) stats: Stats,
    pub(crate) topics: Mutex<HashMap<String, Arc<Topic>>>,
}

/// More partitions than this no topic gets by its name.
const MOST: usize = 100_000;

impl Broker {
    /// The topic of that name, made at the first call.
    pub(crate) fn topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Arc::clone(topic);
        }
        let count = name
            .rsplit_once('-')
            .and_then(|(_, count)| count.parse::<usize>().ok())
            .filter(|count| (1..=MOST).contains(count))
            .unwrap_or(self.default_partitions);
        let mut id = [0u8; 16];
        // A version and variant that UUIDs have.
        (id[0], id[6], id[8]) = (0xbe, 0x40, 0x80);
        id[12..].copy_from_slice(&(topics.len() as u32 + 1).to_be_bytes());
        let topic = Arc::new(Topic {
            name: name.to_owned(),
            id: Uuid(id),
            partitions: (0..count).map(|_| Partition::default()).collect(),
        });
        topics.insert(name.to_owned(), Arc::clone(&topic));
        topic
    }

    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.values().find(|topic| topic.id == id).cloned()
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.keys().cloned().collect()
    }

    /// What was counted since the start, as a line of JSON.
    pub(crate) fn stats_line(&self) -> String {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        let stats = &self.stats;
        let mut line = format!("{{\"cpu_s\":{seconds:.6}");
        for (name, count) in [
            ("connections", &stats.connections),
            ("requests", &stats.requests),
            ("produce_requests", &stats.produce_requests),
            ("batches", &stats.batches),
            ("records", &stats.records),
            ("batch_bytes", &stats.batch_bytes),
            ("wire_bytes", &stats.wire_bytes),
            ("seq_errors", &stats.seq_errors),
            ("crc_errors", &stats.crc_errors),
            ("bad_batches", &stats.bad_batches),
        ] {
            let _ = write!(line, ",\"{name}\":{}", count.load(Relaxed));
        }
        line + "}\n"
    }
}
