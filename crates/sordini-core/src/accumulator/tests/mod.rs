//! What the tests of the data plane share: a clock that is set, a wake that counts, and readers of
//! what was taken.

mod allocations;
mod append;
mod cost;
mod model;
mod threads;
mod topic;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use sordini_protocol::records::Batch;

use super::lane::Lane;
use super::ready::{Event, Wake};
use super::topic::Topic;
use super::{Accumulator, Intent, Provision};
use crate::batch::completion::Delivery;
use crate::batch::sealed::Sealed;
use crate::config::Config;
use crate::partitioner::{self, Partitioner};
use crate::record::Record;
use crate::time::{Clock, Instant, Now, Timestamp};
use crate::wire::batch_header::Stamp;

#[derive(Default)]
pub(super) struct SetClock {
    millis: AtomicI64,
    reads: AtomicUsize,
}

impl SetClock {
    fn set(&self, millis: i64) {
        self.millis.store(millis, Ordering::SeqCst);
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl Clock for SetClock {
    fn now(&self) -> Now {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let millis = self.millis.load(Ordering::SeqCst);
        Now { mono: Instant::from_millis(millis.max(0) as u64), wall: Timestamp(millis) }
    }
}

#[derive(Default)]
pub(super) struct CountWake(AtomicUsize);

impl Wake for CountWake {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A data plane without a control plane.
struct World {
    accumulator: Arc<Accumulator>,
    clock: Arc<SetClock>,
    wake: Arc<CountWake>,
}

const NOON: i64 = 1_700_000_000_000;

impl World {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with(change, None)
    }

    fn with(change: impl FnOnce(&mut Config), chosen: Option<Arc<dyn Partitioner>>) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let partitioner = chosen.unwrap_or_else(|| partitioner::from_config(&config));
        let clock = Arc::new(SetClock::default());
        clock.set(NOON);
        let wake = Arc::new(CountWake::default());
        let accumulator = Accumulator::new(
            &config,
            partitioner,
            Arc::clone(&clock) as _,
            Arc::clone(&wake) as _,
            7,
        );
        Self { accumulator, clock, wake }
    }

    fn topic(&self, partitions: u32) -> Arc<Topic> {
        let topic = self.accumulator.topic("clicks");
        topic.grow(partitions, None);
        topic.resolve();
        topic
    }

    /// Appends a value to a partition; there must be room.
    fn append(&self, topic: &Arc<Topic>, partition: i32, value: &[u8]) {
        let record = Record { value: Some(value), ..Record::default() };
        self.append_record(topic, Some(partition), record).detach();
    }

    fn append_record(
        &self,
        topic: &Arc<Topic>,
        partition: Option<i32>,
        record: Record<'_>,
    ) -> Delivery {
        let intent = Intent { record, partition };
        let appended = self.accumulator.try_append(topic, &intent, true, &mut Provision::default());
        appended.expect("there is room").expect("a receipt was asked for")
    }

    /// What the events since the last look were: lanes by partition, and the rest by name.
    fn events(&self) -> Vec<String> {
        let name = |event: Event| match event {
            Event::Lane(lane) => lane.partition().to_string(),
            Event::Topic(topic) => topic.name().to_string(),
            Event::Pressure => "pressure".to_owned(),
        };
        self.accumulator.ready().drain().into_iter().map(name).collect()
    }

    fn reserved(&self) -> usize {
        self.accumulator.memory().reserved()
    }
}

fn value(value: &[u8]) -> Intent<'_> {
    Intent { record: Record { value: Some(value), ..Record::default() }, partition: None }
}

fn take_all(lane: &Lane) -> Vec<Sealed> {
    std::iter::from_fn(|| lane.take(true).0).collect()
}

/// A record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Seen {
    fn of(record: &Record<'_>, timestamp: i64) -> Self {
        let header = |header: &crate::record::Header<'_>| {
            (header.name.to_owned(), header.value.map(Into::into))
        };
        Self {
            timestamp: record.timestamp.unwrap_or(timestamp),
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record.headers.iter().map(header).collect(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// Reads a batch with sordini-protocol's reader and with kafka-protocol's, which must agree.
fn read(batch: Sealed) -> Vec<Seen> {
    let count = batch.count();
    let stamped = batch.into_ready().stamp(Stamp::NONE);
    let bytes = [&stamped.header[..], &stamped.body.to_vec()].concat();
    let batch = Batch::parse(&bytes).expect("a batch");
    batch.verify_crc().expect("its checksum");
    assert_eq!(batch.header().batch_size(), bytes.len());
    let records = batch.decompress(bytes.len()).expect("not compressed");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("names are text");
    let seen: Vec<Seen> = records
        .iter()
        .map(|record| {
            let record = record.expect("a record");
            let headers = record.headers.iter();
            Seen {
                timestamp: record.timestamp,
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                headers: headers.map(|of| (text(of.key), of.value.map(Into::into))).collect(),
            }
        })
        .collect();
    assert_eq!(seen.len(), count as usize);
    assert_eq!(batch.header().base_timestamp, seen[0].timestamp);
    let latest = seen.iter().map(|seen| seen.timestamp).max();
    assert_eq!(Some(batch.header().max_timestamp), latest);
    check_with_kafka_protocol(&bytes, &seen);
    seen
}

fn check_with_kafka_protocol(bytes: &[u8], seen: &[Seen]) {
    let mut buffer = bytes::Bytes::copy_from_slice(bytes);
    let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut buffer).expect("a batch");
    assert_eq!(set.records.len(), seen.len());
    for ((at, other), seen) in set.records.iter().enumerate().zip(seen) {
        assert_eq!((other.offset, other.timestamp), (at as i64, seen.timestamp));
        assert_eq!(other.key.as_deref(), seen.key.as_deref());
        assert_eq!(other.value.as_deref(), seen.value.as_deref());
        // It keeps the last of headers with one name, at the place of the first.
        for (name, value) in &other.headers {
            let last = seen.headers.iter().rfind(|(known, _)| **known == **name);
            assert_eq!(last.map(|(_, value)| value.as_deref()), Some(value.as_deref()));
        }
        assert!(seen.headers.iter().all(|(name, _)| other.headers.keys().any(|of| **of == **name)));
    }
}

/// The values in a lane, batch by batch; the lane is empty after.
fn batches(lane: &Lane) -> Vec<Vec<String>> {
    let texts = |batch| read(batch).iter().map(Seen::text).collect();
    take_all(lane).into_iter().map(texts).collect()
}
