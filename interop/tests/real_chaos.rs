//! Real Kafka, three nodes, killed, paused and stopped for minutes; the simulator's checkers judge
//! what the application was told against what a Java consumer reads back.
//!
//! What needs no view inside is judged: P1 to P5, P10 to P13 and P20. A soak: `cargo xtask soak real-chaos`; SORDINI_CHAOS_SECONDS makes it
//! shorter, and then too little may happen.

#[path = "differential/client.rs"]
mod client;

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use client::Client;
use serde_json::Value;
use sordini::{Deduplicated, Delivery, DeliveryError, Fate, Producer, Record, Written};
use sordini_interop::kafka::{Kafka, VERSIONS};
use sordini_interop::{Need, can_run, judge};
use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sordini_sim::checkers::{Evidence, Logged, Probe, Promise, check};
use sordini_sim::history::{Content, Done, History, Rejected, Shape, identify};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, sleep_until};

const TOPIC: &str = "chaos";
const PARTITIONS: i32 = 12;
const PRODUCERS: u16 = 5;
/// Records a second, of each producer.
const RATE: u64 = 300;

/// Batches whose answer was lost, by what their retry found.
#[derive(Clone, Copy, Debug, Default)]
struct Ambiguous {
    was_there: u64,
    was_not: u64,
}

/// What the application knows; one lock, since this program is not what is measured.
struct Notes {
    began: Instant,
    /// The wall clock then, milliseconds.
    began_ms: i64,
    history: History,
    ambiguous: Ambiguous,
}

impl Notes {
    fn now(&self) -> sordini_core::time::Instant {
        let passed = u64::try_from(self.began.elapsed().as_nanos()).expect("not for centuries");
        sordini_core::time::Instant::from_nanos(passed)
    }
}

type Shared = Arc<Mutex<Notes>>;

async fn producer(bootstrap: &str, number: u16) -> Producer {
    // Small batches and a short patience, so that much is in flight when something breaks.
    let linger = ["0", "3"][usize::from(number) % 2];
    let settings = [
        ("linger.ms", linger),
        ("batch.size", "1000"),
        ("request.timeout.ms", "4000"),
        ("delivery.timeout.ms", "120000"),
        ("retry.backoff.ms", "5"),
        ("retry.backoff.max.ms", "50"),
        ("compression.type", ["none", "lz4"][usize::from(number) % 2]),
    ];
    let mut builder = Producer::builder(bootstrap);
    for (name, value) in settings {
        builder = builder.set(name, value).expect("a setting");
    }
    builder.build().await.expect("a producer")
}

/// A record's looks: keyed, explicit and free in turn, each with a timestamp of its own. Not an old
/// one: Kafka deletes by it.
fn shape(began_ms: i64, number: u64) -> (Shape, Option<i32>) {
    let key = number.is_multiple_of(3).then_some((number % 101) as u32);
    let explicit = (number % 3 == 1).then_some((number / 3 % PARTITIONS as u64) as i32);
    let timestamp = Some(began_ms + number as i64);
    let headers = (number % 4) as u8;
    (Shape { len: 60 + (number % 80) as u32, key, null: false, headers, timestamp }, explicit)
}

fn record(content: Content, shape: &Shape, explicit: Option<i32>) -> Record<'static> {
    let mut record = Record::new(content.value.expect("no tombstones here"));
    if let Some(key) = content.key {
        record = record.key(key);
    }
    for (name, value) in content.headers {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        };
    }
    if let Some(partition) = explicit {
        record = record.partition(partition);
    }
    record.timestamp(shape.timestamp.expect("each has one"))
}

/// Sends one record; who collects the outcomes hears of it.
async fn send(producer: &Producer, sender: &Sender, explicit: Option<i32>) {
    let Sender { number, shared, collector } = sender;
    let (id, content, shape, explicit) = {
        let mut notes = shared.lock().expect("no panic");
        let number_of_all = notes.history.records.len() as u64;
        let (shape, drawn) = shape(notes.began_ms, number_of_all);
        let explicit = explicit.or(drawn);
        let now = notes.now();
        let id = notes.history.invoke(now, *number, 0, explicit, shape);
        (id, notes.history.get(id).expect("just made").content(), shape, explicit)
    };
    let accepted = producer.enqueue(TOPIC, record(content, &shape, explicit)).await;
    let mut notes = shared.lock().expect("no panic");
    let now = notes.now();
    match accepted {
        Ok(delivery) => {
            notes.history.accept(id, now, delivery.partition());
            collector.send((id, delivery)).expect("it collects to the end");
        }
        Err(error) => notes.history.reject(id, Rejected::Refused(error.to_string())),
    }
}

/// Where a producer's records are noted.
#[derive(Clone)]
struct Sender {
    number: u16,
    shared: Shared,
    collector: UnboundedSender<(u64, Delivery)>,
}

impl Sender {
    fn new(number: u16, shared: &Shared) -> Self {
        let (collector, deliveries) = unbounded_channel();
        tokio::spawn(collect(Arc::clone(shared), deliveries));
        Self { number, shared: Arc::clone(shared), collector }
    }
}

/// Notes outcomes in the order in which they come about (P5).
async fn collect(shared: Shared, mut deliveries: UnboundedReceiver<(u64, Delivery)>) {
    let mut open: VecDeque<(u64, Delivery)> = VecDeque::new();
    poll_fn(|context| {
        let mut ended = false;
        while let Poll::Ready(received) = deliveries.poll_recv(context) {
            match received {
                Some(delivery) => open.push_back(delivery),
                None => {
                    ended = true;
                    break;
                }
            }
        }
        let mut at = 0;
        while at < open.len() {
            match Pin::new(&mut open[at].1).poll(context) {
                Poll::Ready(outcome) => {
                    at = at + 1 - told(&mut open, at, outcome, context, &shared);
                }
                Poll::Pending => at += 1,
            }
        }
        if ended && open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Notes the outcome at `at`, after those that came about before it: they are there by now,
/// though they were not a moment ago. Returns how many were noted.
fn told(
    open: &mut VecDeque<(u64, Delivery)>,
    mut at: usize,
    outcome: Result<Written, Arc<DeliveryError>>,
    context: &mut Context<'_>,
    shared: &Shared,
) -> usize {
    let (mut count, mut before) = (1, 0);
    while before < at {
        match Pin::new(&mut open[before].1).poll(context) {
            Poll::Ready(earlier) => {
                let noted = told(open, before, earlier, context, shared);
                (at, count, before) = (at - noted, count + noted, 0);
            }
            Poll::Pending => before += 1,
        }
    }
    let (id, _) = open.remove(at).expect("it is there");
    note(shared, id, outcome);
    count
}

fn note(shared: &Shared, id: u64, outcome: Result<Written, Arc<DeliveryError>>) {
    let mut notes = shared.lock().expect("no panic");
    let record = notes.history.get_mut(id).expect("it was sent");
    let own = record.shape.timestamp;
    let done = match outcome {
        Ok(written) => {
            if written.deduplicated != Deduplicated::No {
                record.sent = 2;
                // Kafka tells the append time of a batch that it had already: another time than
                // the record's own, of which each has its own.
                let known = Some(written.timestamp) != own;
                notes.ambiguous.was_there += u64::from(known);
                notes.ambiguous.was_not += u64::from(!known);
            }
            let duplicate = written.deduplicated == Deduplicated::Yes;
            Done::Written { offset: written.offset, timestamp: written.timestamp, duplicate }
        }
        Err(error) => {
            Done::Failed { definite: error.fate == Fate::NotWritten, text: error.to_string() }
        }
    };
    let now = notes.now();
    assert!(notes.history.complete(id, now, done), "record {id} has two outcomes");
}

/// What is done to the nodes, in turn, until the time is over; all of them run at its end.
fn trouble(kafka: &Kafka, until: std::time::Instant) -> u32 {
    let mut done = 0;
    while std::time::Instant::now() < until {
        let node = kafka.leader(TOPIC, done * 5 % PARTITIONS as u32);
        match done % 3 {
            0 => {
                kafka.kill(node);
                std::thread::sleep(Duration::from_secs(6));
                kafka.start(node);
            }
            1 => {
                // Longer than the session, so that it comes back as a leader of the past.
                kafka.pause(node);
                std::thread::sleep(Duration::from_secs(9));
                kafka.resume(node);
            }
            _ => {
                kafka.stop(node);
                kafka.start(node);
            }
        }
        done += 1;
        std::thread::sleep(Duration::from_secs(10));
    }
    done
}

/// The partitions' leader epochs, added up: how often a leader was elected.
fn elections(kafka: &Kafka) -> i64 {
    let mut total = 0;
    for partition in 0..PARTITIONS {
        let asked = ListOffsetsPartition {
            partition_index: partition,
            timestamp: -1,
            ..ListOffsetsPartition::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: TOPIC.to_owned(), partitions: vec![asked] }],
            ..ListOffsetsRequest::default()
        };
        // Only the leader answers: one of them does.
        let answers = kafka.bootstrap().split(',').filter_map(|address| {
            let answer = Client::new(address).ask(&request, 5).ok()?;
            let found = answer.topics.first()?.partitions.first()?.clone();
            (found.error_code == 0).then_some(i64::from(found.leader_epoch))
        });
        total += answers.max().unwrap_or(0);
    }
    total
}

/// Bytes of a field that the Java program prints as text, or in base64 where it is none.
fn bytes(object: &Value, name: &str) -> Option<Vec<u8>> {
    match (&object[name], &object[&format!("{name}_base64")]) {
        (Value::String(text), _) => Some(text.clone().into_bytes()),
        (_, Value::String(text)) => {
            Some(data_encoding::BASE64.decode(text.as_bytes()).expect("base64"))
        }
        _ => None,
    }
}

/// A record as the Java program prints it: its partition, the term of the leader that appended
/// it, and what it is.
fn logged(object: &Value) -> (i32, i32, Logged) {
    let number = |name: &str| object[name].as_i64().expect("a number");
    let headers = object["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let header = |it: &Value| (it["name"].as_str().expect("a name").to_owned(), bytes(it, "value"));
    let content = Content {
        key: bytes(object, "key"),
        value: bytes(object, "value"),
        headers: headers.iter().map(header).collect(),
    };
    let found = content.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref()));
    let id = identify(content.value.as_deref(), found);
    let logged = Logged { offset: number("offset"), timestamp: number("timestamp"), id, content };
    let small = |name: &str| i32::try_from(number(name)).expect("a small number");
    (small("partition"), small("leader_epoch"), logged)
}

/// Sends until told.
async fn produce(producer: Producer, sender: Sender, until: Instant) {
    let began = Instant::now();
    let mut sent = 0;
    while Instant::now() < until {
        for _ in 0..RATE / 100 {
            send(&producer, &sender, None).await;
            sent += 1;
        }
        sleep_until(began + Duration::from_millis(sent * 1000 / RATE)).await;
    }
}

async fn settle(shared: &Shared) {
    for _ in 0..3000 {
        if shared.lock().expect("no panic").history.pending() == 0 {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("records without an outcome after five minutes");
}

/// After the trouble: each producer writes to each partition, and is answered.
async fn probes(producers: &[(Producer, Sender)], shared: &Shared) -> Vec<Probe> {
    let before = shared.lock().expect("no panic").history.records.len();
    for (producer, sender) in producers {
        for partition in 0..PARTITIONS {
            send(producer, sender, Some(partition)).await;
        }
    }
    settle(shared).await;
    let notes = shared.lock().expect("no panic");
    let probe = |it: &sordini_sim::history::Submitted| Probe {
        at: it.invoked,
        asked: format!("producer {} sends to {:?}", it.producer, it.explicit),
        failed: (!it.is_ok()).then(|| format!("{:?}", it.done)),
    };
    notes.history.records[before..].iter().map(probe).collect()
}

#[test]
#[ignore = "a soak: ten minutes"]
fn a_real_cluster_in_trouble_keeps_every_promise() {
    if !can_run("a_real_cluster_in_trouble_keeps_every_promise", &[Need::Kafka]) {
        return;
    }
    let seconds = std::env::var("SORDINI_CHAOS_SECONDS").ok().and_then(|it| it.parse().ok());
    let lasts = Duration::from_secs(seconds.unwrap_or(600));
    let settings = ["broker.session.timeout.ms=3000", "broker.heartbeat.interval.ms=500"];
    let kafka = &Kafka::up(VERSIONS[0], 3, &settings);
    kafka.topic(TOPIC, PARTITIONS as u32, 3, &["min.insync.replicas=2"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio");
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let notes = Notes {
        began: Instant::now(),
        began_ms: i64::try_from(wall.expect("after 1970").as_millis()).expect("not for ages"),
        history: History::default(),
        ambiguous: Ambiguous::default(),
    };
    let shared: Shared = Arc::new(Mutex::new(notes));
    let made = |number| async move { producer(kafka.bootstrap(), number).await };
    let producers: Vec<(Producer, Sender)> = (0..PRODUCERS)
        .map(|number| {
            let _inside = runtime.enter();
            (runtime.block_on(made(number)), Sender::new(number, &shared))
        })
        .collect();
    let until = Instant::now() + lasts;
    let sending = producers.iter().cloned();
    let sending: Vec<_> =
        sending.map(|(producer, sender)| runtime.spawn(produce(producer, sender, until))).collect();
    let troubles = trouble(kafka, until.into_std());
    let probes = runtime.block_on(async {
        for sender in sending {
            sender.await.expect("no panic");
        }
        settle(&shared).await;
        probes(&producers, &shared).await
    });
    let metrics: Vec<_> = producers.iter().map(|(producer, _)| producer.metrics()).collect();
    let config = producers[0].0.config().clone();
    for (producer, _) in &producers {
        drop(runtime.block_on(producer.close(Duration::from_secs(30))));
    }
    drop((producers, runtime));
    let elections = elections(kafka);
    let (mut logs, mut terms) = (BTreeMap::new(), BTreeMap::new());
    for line in judge::read_records(kafka.bootstrap(), TOPIC).lines() {
        let (partition, term, record) = logged(&serde_json::from_str(line).expect("JSON"));
        if let Some(id) = record.id {
            terms.insert(id, term);
        }
        logs.entry((0, partition)).or_insert_with(Vec::new).push(record);
    }
    let notes = Arc::into_inner(shared).expect("nobody else").into_inner().expect("no panic");
    let mut evidence = Evidence::new(Promise::of(&config, true));
    evidence.ended = notes.now();
    evidence.records = notes.history.records;
    for record in &mut evidence.records {
        // Answers of two leaders come by two connections, in any order.
        record.sent_to = terms.get(&record.id).copied();
    }
    evidence.logs = logs;
    evidence.probes = probes;
    let findings = check(&evidence);
    let retries: u64 = metrics.iter().map(|it| it.retries).sum();
    let unknown: u64 = metrics.iter().map(|it| it.records_unknown).sum();
    println!(
        "{} records, {troubles} troubles, {elections} elections, {retries} retries, {:?}, \
         {unknown} of unknown fate; violations: {}",
        evidence.records.len(),
        notes.ambiguous,
        findings.violations.len()
    );
    for violation in &findings.violations {
        println!("{} broken: {}", violation.invariant, violation.text);
    }
    assert!(findings.violations.is_empty(), "promises were broken");
    if seconds.is_none() {
        assert!(elections >= 6 && retries >= 1000, "too little happened");
        assert!(notes.ambiguous.was_there > 0 && notes.ambiguous.was_not > 0, "nothing ambiguous");
    }
}
