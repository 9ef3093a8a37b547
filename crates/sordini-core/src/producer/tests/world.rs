//! The machine in a world of virtual time: scripted brokers, a network that does as it is told,
//! and an application that appends. Every step checks what must hold at all times; `end` checks
//! what must have become of everything.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use sordini_protocol::messages::produce::ProduceRequest;
use sordini_protocol::records::{BatchHeader, RecordIter};
use sordini_protocol::{ApiKey, Message, Uuid, frame};

use super::monitor::Monitor;
use super::peer::{Answer, Batch, Model, Node, Reaction, Seen, Tp, value_of};
use crate::accumulator::ready::Wake;
use crate::accumulator::topic::{Topic, TopicWait, Turn};
use crate::accumulator::{Intent, NotAppended, Provision};
use crate::acks::retry::Rng;
use crate::batch::completion::{Delivery, Outcome, Written};
use crate::batch::sealed::Returned;
use crate::batch::stages::Compressed;
use crate::config::{Address, Codec, Config};
use crate::connection::ConnId;
use crate::connection::produce::Frame;
use crate::error::{Cause, DeliveryError, Fate, Refusal};
use crate::memory::{MemoryWait, Segment};
use crate::partitioner::Murmur2;
use crate::producer::io::{Command, Finished, Input, Output, Token, Trace};
use crate::producer::{Components, Producer};
use crate::record::Record;
use crate::sequencing::slot::Slot;
use crate::time::{Clock, Instant, Now, Timestamp};
use crate::wire::batch_header;
use crate::wire::compress::Compressor;

/// A wall clock's distance from the monotonic one, in milliseconds.
const EPOCH: i64 = 1_700_000_000_000;

/// More inputs than this at one moment is a machine that turns in circles.
const INPUTS_AT_ONCE: usize = 30_000;

#[derive(Debug, Default)]
struct Time(AtomicU64);

impl Time {
    fn now(&self) -> Now {
        let mono = Instant::from_nanos(self.0.load(Ordering::Relaxed));
        Now { mono, wall: Timestamp(EPOCH + (mono.as_nanos() / 1_000_000) as i64) }
    }
}

impl Clock for Time {
    fn now(&self) -> Now {
        Self::now(self)
    }
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl std::task::Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Event {
    Connected(ConnId),
    ConnectFailed(ConnId, Arc<str>),
    Disconnected(ConnId, Arc<str>),
    /// The network takes what is queued.
    Write(ConnId),
    /// Bytes reach the broker, whatever became of the connection since.
    Arrive(ConnId, Bytes),
    Receive {
        conn: ConnId,
        bytes: Bytes,
        correlation: Option<i32>,
        acks: Vec<(Tp, i64)>,
    },
    Compressed(Compressed),
}

/// The network between the machine and a broker.
#[derive(Default)]
struct Link {
    up: bool,
    /// What is queued, flat, and the frames that keep it alive until it is written.
    frames: VecDeque<(Vec<u8>, Frame)>,
    offset: usize,
    queued: u64,
    written: u64,
    /// The network takes no more than this, and then breaks.
    limit: Option<u64>,
}

/// An answer, what it answers, and what it acknowledges.
type Held = (Bytes, Option<i32>, Vec<(Tp, i64)>);

/// The broker's end; it outlives the link, as bytes under way do.
struct Session {
    node: i32,
    inbox: BytesMut,
    closed: bool,
    /// What is under way keeps its order, both ways.
    next_arrival: Instant,
    next_answer: Instant,
    held: Vec<Held>,
}

/// How the network behaves.
pub(super) struct Net {
    pub(super) latency: Duration,
    /// Bytes may be under way for so much longer, and outlive their connection.
    pub(super) jitter: Duration,
    /// At most so many bytes are taken at a time.
    pub(super) chunk: Option<usize>,
    /// Bytes arrive so many at a time.
    pub(super) fragment: Option<usize>,
    /// The network takes nothing.
    pub(super) stalled: bool,
    pub(super) compress: Duration,
    /// Codecs panic.
    pub(super) codec_panics: bool,
    /// Timers fire so much later than asked.
    pub(super) timer_lag: Duration,
    /// The next Produce request breaks its connection after so many bytes.
    pub(super) cut_produce: Option<usize>,
    /// Chance in percent that a connection breaks while it writes.
    pub(super) breaks: u64,
}

/// One record that the application handed in.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) topic: String,
    /// Where it was appended.
    pub(super) partition: Option<i32>,
    pub(super) delivery: Option<Delivery>,
    pub(super) refused: Option<Refusal>,
    accepted_at: Instant,
    pub(super) resolved_at: Option<Instant>,
}

enum Wait {
    Topic(Pin<Box<TopicWait>>),
    Memory(Pin<Box<MemoryWait>>, Option<Turn>),
}

struct Waiting {
    id: u64,
    topic: Arc<Topic>,
    partition: Option<i32>,
    len: usize,
    wait: Wait,
}

pub(super) struct World {
    pub(super) producer: Producer,
    pub(super) model: Model,
    pub(super) net: Net,
    pub(super) monitor: Monitor,
    pub(super) records: Vec<Sent>,
    pub(super) traces: Vec<(u64, Trace)>,
    pub(super) returned: Vec<Returned>,
    pub(super) finished: Vec<(Token, Finished)>,
    /// Connections asked for: when, and where to.
    pub(super) connects: Vec<(u64, String)>,
    pub(super) rng: Rng,
    /// The process was paused: outcomes may come later than they should.
    pub(super) late: bool,
    time: Arc<Time>,
    wake: Arc<Flag>,
    /// Somebody who waits was woken.
    woken: Arc<Flag>,
    queue: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    timer: Option<Instant>,
    links: BTreeMap<ConnId, Link>,
    sessions: BTreeMap<ConnId, Session>,
    waiting: Vec<Waiting>,
    inputs_now: usize,
    next_token: u64,
    /// Which records each flush waits for.
    flushes: BTreeMap<Token, Vec<u64>>,
    order: BTreeMap<Tp, Vec<u64>>,
    ended: bool,
}

/// A configuration for stories: batches of one record, no linger, no jitter that matters.
pub(super) fn plain() -> Config {
    Config {
        bootstrap_servers: vec![Address::new("b1", 9092)],
        linger: Duration::ZERO,
        batch_size: 1,
        ..Config::default()
    }
}

/// The header of some batch, to read records behind.
fn read_header() -> BatchHeader {
    let contents = batch_header::Contents {
        codec: Codec::None,
        count: 1,
        base_timestamp: 0,
        max_timestamp: 0,
    };
    let bytes = batch_header::encode(contents, batch_header::Stamp::NONE, 0, []);
    BatchHeader::parse(&bytes).expect("a header")
}

impl World {
    /// One broker, the topic "t" with one partition, and batches of one record.
    pub(super) fn new() -> Self {
        Self::with(1, 1, |_| {})
    }

    pub(super) fn with(nodes: i32, partitions: i32, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = plain();
        set(&mut config);
        Self::build(nodes, partitions, config, 1)
    }

    /// As `with`, with failed records handed back.
    pub(super) fn returning(nodes: i32, partitions: i32, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = plain();
        set(&mut config);
        Self::make(nodes, partitions, config, 1, true)
    }

    pub(super) fn build(nodes: i32, partitions: i32, config: Config, seed: u64) -> Self {
        Self::make(nodes, partitions, config, seed, false)
    }

    fn make(nodes: i32, partitions: i32, config: Config, seed: u64, return_failed: bool) -> Self {
        config.check().expect("a sound configuration");
        let time = Arc::new(Time::default());
        time.0.store(1_000_000_000, Ordering::Relaxed);
        let wake = Arc::new(Flag::default());
        let components = Components {
            partitioner: Arc::new(Murmur2),
            clock: Arc::clone(&time) as Arc<dyn Clock>,
            wake: Arc::clone(&wake) as Arc<dyn Wake>,
            seed,
            return_failed,
        };
        let mut model = Model::new(nodes, seed);
        if partitions > 0 {
            model.create("t", partitions);
        }
        Self {
            producer: Producer::new(config, components),
            model,
            net: Net {
                latency: Duration::from_millis(1),
                jitter: Duration::ZERO,
                chunk: None,
                fragment: None,
                stalled: false,
                compress: Duration::from_millis(2),
                codec_panics: false,
                timer_lag: Duration::ZERO,
                cut_produce: None,
                breaks: 0,
            },
            monitor: Monitor::default(),
            records: Vec::new(),
            traces: Vec::new(),
            returned: Vec::new(),
            finished: Vec::new(),
            connects: Vec::new(),
            rng: Rng::new(seed ^ 0x5eed),
            late: false,
            time,
            wake,
            woken: Arc::default(),
            queue: BTreeMap::new(),
            next_event: 0,
            timer: None,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            inputs_now: 0,
            next_token: 0,
            flushes: BTreeMap::new(),
            order: BTreeMap::new(),
            ended: false,
        }
    }

    // ---- time

    pub(super) fn now(&self) -> Instant {
        self.time.now().mono
    }

    /// Milliseconds since the world began.
    pub(super) fn ms(&self) -> u64 {
        self.now().as_nanos() / 1_000_000 - 1000
    }

    fn advance_to(&mut self, at: Instant) {
        if at > self.now() {
            self.time.0.store(at.as_nanos(), Ordering::Relaxed);
            self.inputs_now = 0;
        }
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.next_event += 1;
        self.queue.insert((at, self.next_event), event);
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now().saturating_add(delay), event);
    }

    // ---- the machine

    pub(super) fn feed(&mut self, input: Input<'_>) {
        let now = self.time.now();
        self.inputs_now += 1;
        assert!(self.inputs_now < INPUTS_AT_ONCE, "P8: a busy loop at {} ms", self.ms());
        self.producer.handle_input(now, input);
        self.drain();
    }

    fn fire_timers(&mut self) {
        let now = self.time.now();
        self.inputs_now += 1;
        assert!(self.inputs_now < INPUTS_AT_ONCE, "P8: a busy loop at {} ms", self.ms());
        self.producer.handle_timeout(now);
        self.drain();
        let soon = now.mono.saturating_add(Duration::from_nanos(1));
        let next = self.producer.poll_timeout();
        assert!(
            next.is_none_or(|at| at > soon),
            "P8: what is due was left due at {} ms",
            self.ms()
        );
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.producer.poll_output() {
            self.carry_out(output);
        }
        if let Some(at) = self.producer.poll_timeout() {
            assert!(at > self.now(), "P8: poll_timeout is not later than now");
        }
        self.check_timers();
    }

    /// Whatever a partition waits for has a timer, and nothing is late.
    fn check_timers(&self) {
        let producer = &self.producer;
        if producer.is_closed() {
            return;
        }
        let timeout = producer.config().delivery_timeout;
        for (key, partition) in producer.partitions.iter() {
            let wanted = producer.partition_deadline(partition);
            let set = partition.timer.filter(|at| producer.timers.contains(&(*at, key)));
            let early = wanted.is_none_or(|wanted| set.is_some_and(|set| set <= wanted));
            assert!(early, "C5: {key:?} wants {wanted:?}, has {set:?} at {:?}", self.now());
            for meta in partition.line.slots().iter().filter_map(Slot::meta) {
                let until = meta.opened.saturating_add(timeout);
                let soon = self.now().saturating_add(Duration::from_nanos(1));
                let told = producer.poll_timeout().is_some_and(|at| at <= soon);
                let late = until <= self.now() && !told;
                assert!(!late, "B4: {key:?} has a batch that is late: {partition:?}");
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn, address, .. } => self.connect(conn, &address),
            Output::Disconnect { conn } => {
                assert!(self.links.remove(&conn).is_some(), "closed, but not open");
                self.monitor.gone(conn);
            }
            Output::Transmit { conn, frame } => self.transmit(conn, frame),
            Output::Compress(job) => {
                let delay = self.net.compress;
                let compressed = if self.net.codec_panics {
                    job.run_with(|_| panic!("a codec, as ordered"))
                } else {
                    job.run(&mut Compressor::default())
                };
                self.after(delay, Event::Compressed(compressed));
            }
            Output::Deliver(delivered) => {
                let failed = matches!(delivered.outcome, Outcome::Failed(_));
                let returned = delivered.resolve();
                assert!(failed || returned.is_none(), "what was written is not handed back");
                self.returned.extend(returned);
                let now = self.now();
                for record in self.records.iter_mut().filter(|it| it.resolved_at.is_none()) {
                    if record.delivery.as_ref().is_some_and(|it| it.outcome().is_some()) {
                        record.resolved_at = Some(now);
                    }
                }
            }
            Output::HandBack(returned) => self.returned.push(returned),
            Output::Finish { token, result } => {
                for id in self.flushes.remove(&token).unwrap_or_default() {
                    assert!(self.is_resolved(id), "B13: flushed, but record {id} is not resolved");
                }
                self.finished.push((token, result));
            }
            Output::Trace(trace) => self.traces.push((self.ms(), trace)),
        }
    }

    fn connect(&mut self, conn: ConnId, address: &Address) {
        self.connects.push((self.ms(), address.to_string()));
        self.links.insert(conn, Link::default());
        let nodes = self.model.nodes.iter();
        let node =
            nodes.into_iter().find(|(_, it)| it.host == address.host && it.port == address.port);
        let delay = self.net.latency;
        match node {
            Some((_, node)) if node.vanished => {}
            Some((id, node)) if node.up => {
                let session = Session {
                    node: *id,
                    inbox: BytesMut::new(),
                    closed: false,
                    next_arrival: Instant::ZERO,
                    next_answer: Instant::ZERO,
                    held: Vec::new(),
                };
                // A silent broker's machine still takes connections.
                self.sessions.insert(conn, session);
                self.after(delay, Event::Connected(conn));
            }
            Some(_) => self.after(delay, Event::ConnectFailed(conn, "refused".into())),
            // Nobody there: no answer at all.
            None => {}
        }
    }

    fn transmit(&mut self, conn: ConnId, frame: Frame) {
        let bytes: Vec<u8> = frame.slices().flatten().copied().collect();
        assert_eq!(bytes.len(), frame.len());
        self.watch(conn, &bytes);
        let is_produce = bytes[4..6] == [0, 0];
        let link = self.links.get_mut(&conn).expect("a frame for a connection that is open");
        assert!(link.up, "a frame before the connection was up");
        if is_produce && let Some(cut) = self.net.cut_produce.take() {
            link.limit = Some(link.queued + cut.min(bytes.len()) as u64);
        }
        link.queued += bytes.len() as u64;
        link.frames.push_back((bytes, frame));
        self.after(Duration::ZERO, Event::Write(conn));
    }

    /// Shows a frame to the monitor.
    fn watch(&mut self, conn: ConnId, bytes: &[u8]) {
        let body = Bytes::copy_from_slice(&bytes[4..]);
        let (api, header, mut reader) = frame::request_header(body).expect("P7: a request");
        if api != ApiKey::Produce {
            return;
        }
        let version = header.request_api_version;
        let request = ProduceRequest::decode(&mut reader, version).expect("P7: Produce");
        let limit = self.producer.config().max_request_size;
        let lone = request.topic_data.len() == 1 && request.topic_data[0].partition_data.len() == 1;
        assert!(lone || bytes.len() <= limit + 128, "P7: a request of {} bytes", bytes.len());
        let mut batches = Vec::new();
        for topic in request.topic_data {
            for part in topic.partition_data {
                let bytes = part.records.expect("P7: records");
                let name =
                    if version >= 13 { self.name_of(topic.topic_id) } else { topic.name.clone() };
                let id = self.model.id_of(&name, topic.topic_id);
                let batch = Batch::read((name, part.index), id, bytes);
                for id in &batch.ids {
                    let record = &self.records[*id as usize];
                    assert_eq!(record.topic, batch.tp.0, "P1: record {id} is on a wrong topic");
                    assert_eq!(record.partition, Some(batch.tp.1), "P1: on a wrong partition");
                }
                batches.push(batch);
            }
        }
        let records = &self.records;
        let settled = |id: u64| {
            records[id as usize].delivery.as_ref().is_some_and(|it| it.outcome().is_some())
        };
        self.monitor.sent((conn, header.correlation_id), &batches, &self.model.too_large, &settled);
        if request.acks == 0 {
            self.monitor.answered((conn, header.correlation_id), &[]);
        }
    }

    fn name_of(&self, id: Uuid) -> String {
        let known = self.model.topics.iter().find(|(_, topic)| topic.id == id);
        known.map_or_else(|| "t".into(), |(name, _)| name.clone())
    }

    // ---- the network

    fn write(&mut self, conn: ConnId) {
        if self.net.stalled {
            return;
        }
        let chance = self.net.breaks > 0 && self.rng.below(1000) < self.net.breaks;
        let Some(link) = self.links.get_mut(&conn) else { return };
        let mut count = self.net.chunk.unwrap_or(usize::MAX);
        count = count.min((link.queued - link.written) as usize);
        if chance && count > 0 {
            link.limit = Some(link.written + self.rng.below(count as u64 + 1));
        }
        if let Some(limit) = link.limit {
            count = count.min(limit.saturating_sub(link.written) as usize);
        }
        let mut bytes = BytesMut::new();
        while bytes.len() < count {
            let (flat, _) = link.frames.front().expect("bytes are queued");
            let take = (count - bytes.len()).min(flat.len() - link.offset);
            bytes.extend_from_slice(&flat[link.offset..link.offset + take]);
            link.offset += take;
            if link.offset == flat.len() {
                link.offset = 0;
                link.frames.pop_front();
            }
        }
        link.written += count as u64;
        let (through, more) = (link.written, link.queued > link.written);
        let broken = link.limit.is_some_and(|limit| through >= limit);
        if count > 0 {
            let jitter = self.net.jitter.as_nanos() as u64;
            let jitter = if jitter == 0 { 0 } else { self.rng.below(jitter) };
            let delay = self.net.latency + Duration::from_nanos(jitter);
            let due = self.now().saturating_add(delay);
            let session = self.sessions.get_mut(&conn).expect("it was made");
            session.next_arrival = session.next_arrival.max(due);
            let due = session.next_arrival;
            self.at(due, Event::Arrive(conn, bytes.freeze()));
            self.feed(Input::Transmitted { conn, through });
        }
        if broken {
            self.disconnect(conn, "reset while writing");
        } else if more && self.links.contains_key(&conn) {
            self.after(Duration::from_micros(5), Event::Write(conn));
        }
    }

    /// Goes on writing after a stall.
    pub(super) fn unstall(&mut self) {
        self.net.stalled = false;
        let conns: Vec<ConnId> = self.links.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.after(Duration::ZERO, Event::Write(conn)));
    }

    fn disconnect(&mut self, conn: ConnId, cause: &str) {
        if self.links.remove(&conn).is_some() {
            self.monitor.gone(conn);
            self.feed(Input::Disconnected { conn, cause: cause.into() });
        }
    }

    /// Breaks every connection to `node`.
    pub(super) fn kill_links(&mut self, node: i32) {
        for conn in self.conns(node) {
            self.disconnect(conn, "reset by the test");
        }
    }

    /// The open connections to `node`.
    pub(super) fn conns(&self, node: i32) -> Vec<ConnId> {
        let of = |conn: &&ConnId| self.sessions.get(conn).is_some_and(|it| it.node == node);
        self.links.keys().filter(of).copied().collect()
    }

    fn arrive(&mut self, conn: ConnId, bytes: &Bytes) {
        let at_ms = self.ms();
        let latency = self.net.latency;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.closed {
            return;
        }
        session.inbox.extend_from_slice(bytes);
        loop {
            let Some(session) = self.sessions.get_mut(&conn) else { return };
            let Some(prefix) = session.inbox.first_chunk::<4>() else { return };
            let size = i32::from_be_bytes(*prefix) as usize;
            if session.inbox.len() < 4 + size || session.closed {
                return;
            }
            session.inbox.advance(4);
            let frame = session.inbox.split_to(size).freeze();
            let correlation =
                frame.get(4..8).map(|it| i32::from_be_bytes(*it.first_chunk().expect("4")));
            let node = session.node;
            let Some(reply) = self.model.handle(node, frame, at_ms) else { continue };
            let session = self.sessions.get_mut(&conn).expect("it is there");
            session.closed |= reply.close;
            let delay = latency + Duration::from_millis(reply.delay_ms);
            let due = self.time.now().mono.saturating_add(delay).max(session.next_answer);
            session.next_answer = due;
            if !reply.bytes.is_empty() {
                if self.model.nodes[&node].held {
                    session.held.push((reply.bytes.into(), correlation, reply.acks));
                } else {
                    self.answer(conn, due, reply.bytes.into(), correlation, reply.acks);
                }
            }
            if reply.close {
                self.at(due, Event::Disconnected(conn, "closed by the broker".into()));
            }
        }
    }

    fn answer(
        &mut self,
        conn: ConnId,
        due: Instant,
        bytes: Bytes,
        correlation: Option<i32>,
        acks: Vec<(Tp, i64)>,
    ) {
        let size = self.net.fragment.unwrap_or(usize::MAX).max(1);
        let mut rest = bytes;
        while rest.len() > size {
            let bytes = rest.split_to(size);
            self.at(due, Event::Receive { conn, bytes, correlation: None, acks: Vec::new() });
        }
        self.at(due, Event::Receive { conn, bytes: rest, correlation, acks });
    }

    /// Lets go of the answers that `node` holds, and holds none any more.
    pub(super) fn release(&mut self, node: i32) {
        self.node(node).held = false;
        let due = self.now().saturating_add(self.net.latency);
        for conn in self.conns(node) {
            let session = self.sessions.get_mut(&conn).expect("it is open");
            for (bytes, correlation, acks) in std::mem::take(&mut session.held) {
                self.answer(conn, due, bytes, correlation, acks);
            }
        }
    }

    /// Bytes that nobody asked for, from `node`.
    pub(super) fn inject(&mut self, node: i32, bytes: &[u8]) {
        for conn in self.conns(node) {
            self.feed(Input::Received { conn, bytes });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Connected(conn) => {
                if let Some(link) = self.links.get_mut(&conn) {
                    link.up = true;
                    self.feed(Input::Connected { conn });
                }
            }
            Event::ConnectFailed(conn, cause) => {
                if self.links.remove(&conn).is_some() {
                    self.feed(Input::ConnectFailed { conn, cause });
                }
            }
            Event::Disconnected(conn, cause) => self.disconnect(conn, &cause),
            Event::Write(conn) => self.write(conn),
            Event::Arrive(conn, bytes) => self.arrive(conn, &bytes),
            Event::Receive { conn, bytes, correlation, acks } => {
                if self.links.contains_key(&conn) {
                    if let Some(correlation) = correlation {
                        self.monitor.answered((conn, correlation), &acks);
                    }
                    self.feed(Input::Received { conn, bytes: &bytes });
                }
            }
            Event::Compressed(compressed) => self.feed(Input::Compressed(compressed)),
        }
    }

    // ---- stepping

    /// Does the next thing; false if there is none before `until`.
    fn step(&mut self, until: Instant) -> bool {
        if self.wake.0.swap(false, Ordering::Relaxed) {
            self.feed(Input::LanesDue);
            return true;
        }
        if self.woken.0.swap(false, Ordering::Relaxed) {
            while self.poll_waiting() {}
            return true;
        }
        let event = self.queue.first_key_value().map(|(key, _)| *key);
        let lag = self.net.timer_lag;
        let timer = self.producer.poll_timeout().map(|at| at.saturating_add(lag));
        // A timer that is late is not made later by what happens before it fires.
        self.timer = self.timer.into_iter().chain(timer).min();
        let first = event.map(|(at, _)| at).into_iter().chain(self.timer).min();
        let Some(first) = first.filter(|at| *at <= until) else { return false };
        self.advance_to(first);
        match event {
            Some(key) if key.0 <= first => {
                let event = self.queue.remove(&key).expect("it was seen");
                self.happen(event);
            }
            _ => {
                self.timer = None;
                self.fire_timers();
            }
        }
        true
    }

    /// Time passes, and nobody does anything.
    pub(super) fn pause(&mut self, pause: Duration) {
        self.advance_to(self.now().saturating_add(pause));
    }

    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now().saturating_add(Duration::from_millis(ms));
        while self.step(end) {}
        self.advance_to(end);
    }

    /// Runs until it holds, at most `ms`.
    pub(super) fn run_until(&mut self, ms: u64, mut holds: impl FnMut(&Self) -> bool) {
        let end = self.now().saturating_add(Duration::from_millis(ms));
        while !holds(self) {
            let went = self.step(end);
            assert!(went, "nothing more happens until {} ms: {:?}", self.ms(), self.producer);
        }
    }

    fn is_settled(&self) -> bool {
        self.waiting.is_empty()
            && self.records.iter().all(|it| it.delivery.is_none() || it.resolved_at.is_some())
    }

    /// Runs until every record has its outcome.
    pub(super) fn settle(&mut self) {
        let budget = self.producer.config().delivery_timeout.as_millis() as u64;
        self.run_until(budget.saturating_mul(2).saturating_add(200_000), Self::is_settled);
    }

    // ---- the application

    pub(super) fn topic(&mut self, name: &str) -> Arc<Topic> {
        self.producer.accumulator().topic(name)
    }

    /// Hands in a record for partition 0 of "t".
    pub(super) fn send(&mut self) -> u64 {
        self.send_to("t", Some(0))
    }

    pub(super) fn send_many(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.send()).collect()
    }

    pub(super) fn send_to(&mut self, topic: &str, partition: Option<i32>) -> u64 {
        let topic = self.topic(topic);
        self.send_on(&topic, partition, 16)
    }

    pub(super) fn send_on(
        &mut self,
        topic: &Arc<Topic>,
        partition: Option<i32>,
        len: usize,
    ) -> u64 {
        let id = self.records.len() as u64;
        self.records.push(Sent {
            topic: topic.name().to_string(),
            partition: None,
            delivery: None,
            refused: None,
            accepted_at: Instant::ZERO,
            resolved_at: None,
        });
        self.append(id, topic, partition, len, None, None);
        id
    }

    fn append(
        &mut self,
        id: u64,
        topic: &Arc<Topic>,
        partition: Option<i32>,
        len: usize,
        turn: Option<Turn>,
        segment: Option<Segment>,
    ) {
        let accumulator = Arc::clone(self.producer.accumulator());
        let value = value_of(id, len);
        let intent =
            Intent { record: Record { value: Some(&value), ..Record::default() }, partition };
        let mut provision = Provision::new(0);
        provision.segment = segment;
        let result = if turn.is_some() || provision.segment.is_some() {
            accumulator.append_in_turn(topic, &intent, true, &mut provision)
        } else {
            accumulator.try_append(topic, &intent, true, &mut provision)
        };
        let now = self.now();
        let wait = match result {
            Ok(delivery) => {
                let delivery = delivery.expect("a receipt was asked for");
                let record = &mut self.records[id as usize];
                record.partition = Some(delivery.partition());
                record.accepted_at = now;
                let tp = (record.topic.clone(), delivery.partition());
                self.order.entry(tp).or_default().push(id);
                record.delivery = Some(delivery);
                return;
            }
            Err(NotAppended::Refused(refusal)) => {
                self.records[id as usize].refused = Some(refusal);
                return;
            }
            Err(NotAppended::Unresolved) => Wait::Topic(Box::pin(topic.wait(&accumulator))),
            Err(NotAppended::NoMemory { least }) => {
                Wait::Memory(Box::pin(accumulator.memory().wait(least)), turn)
            }
        };
        self.waiting.push(Waiting { id, topic: Arc::clone(topic), partition, len, wait });
        // It takes its place in the queue at once.
        self.poll_waiting();
    }

    /// Polls those who wait; true if one went on.
    fn poll_waiting(&mut self) -> bool {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        for at in 0..self.waiting.len() {
            let (turn, segment) = match &mut self.waiting[at].wait {
                Wait::Topic(wait) => match wait.as_mut().poll(&mut cx) {
                    Poll::Pending => continue,
                    Poll::Ready(Ok(turn)) => (Some(turn), None),
                    Poll::Ready(Err(refusal)) => {
                        let waiting = self.waiting.remove(at);
                        self.records[waiting.id as usize].refused = Some(refusal);
                        return true;
                    }
                },
                Wait::Memory(wait, turn) => match wait.as_mut().poll(&mut cx) {
                    Poll::Pending => continue,
                    Poll::Ready(segment) => (turn.take(), Some(segment)),
                },
            };
            let Waiting { id, topic, partition, len, .. } = self.waiting.remove(at);
            self.append(id, &topic, partition, len, turn, segment);
            return true;
        }
        false
    }

    /// Everybody who waits gives up, as after max.block.ms.
    pub(super) fn give_up_waiting(&mut self) -> usize {
        std::mem::take(&mut self.waiting).len()
    }

    pub(super) fn flush(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        let accepted = (0..self.records.len() as u64)
            .filter(|id| self.records[*id as usize].delivery.is_some());
        self.flushes.insert(token, accepted.collect());
        let mark = self.producer.accumulator().mark();
        self.feed(Input::Command(Command::Flush { token, mark }));
        token
    }

    pub(super) fn close(&mut self, within_ms: u64) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        let deadline = self.now().saturating_add(Duration::from_millis(within_ms));
        self.feed(Input::Command(Command::Close { token, deadline }));
        token
    }

    pub(super) fn is_finished(&self, token: Token) -> bool {
        self.finished.iter().any(|(done, _)| *done == token)
    }

    // ---- what became of it

    pub(super) fn outcome(&self, id: u64) -> Result<Written, Arc<DeliveryError>> {
        let record = &self.records[id as usize];
        let delivery = record.delivery.as_ref().unwrap_or_else(|| panic!("{id} was not accepted"));
        delivery.outcome().unwrap_or_else(|| panic!("record {id} has no outcome"))
    }

    pub(super) fn is_resolved(&self, id: u64) -> bool {
        self.records[id as usize].resolved_at.is_some()
    }

    /// The ids of the records that were handed back, in that order. They are let go.
    pub(super) fn take_returned(&mut self) -> Vec<u64> {
        let mut ids = Vec::new();
        for returned in self.returned.drain(..) {
            let (bytes, base_timestamp) = returned.records().expect("they decompress");
            let header = BatchHeader {
                base_timestamp,
                records_count: returned.count() as i32,
                last_offset_delta: returned.count() as i32 - 1,
                ..read_header()
            };
            for record in RecordIter::new(&header, &bytes) {
                let value = record.expect("a record").value.expect("a value");
                ids.push(u64::from_be_bytes(*value.first_chunk().expect("an id")));
            }
        }
        ids
    }

    pub(super) fn fate(&self, id: u64) -> Fate {
        self.outcome(id).expect_err("it failed").fate
    }

    pub(super) fn cause(&self, id: u64) -> Cause {
        self.outcome(id).expect_err("it failed").cause.clone()
    }

    /// All of them were written, each once, in order.
    pub(super) fn assert_written(&self, ids: &[u64]) {
        for id in ids {
            if let Err(error) = self.outcome(*id) {
                panic!("record {id}: {error}");
            }
        }
    }

    pub(super) fn node(&mut self, id: i32) -> &mut Node {
        self.model.nodes.get_mut(&id).expect("the broker exists")
    }

    pub(super) fn react(&mut self, api: ApiKey, reaction: Reaction) {
        self.node(1).react(api, [reaction]);
    }

    /// What the next batches of partition 0 of "t" are answered.
    pub(super) fn script(&mut self, answers: impl IntoIterator<Item = Answer>) {
        self.model.answers.entry(("t".into(), 0)).or_default().extend(answers);
    }

    pub(super) fn log(&mut self) -> Vec<u64> {
        self.model.part(&("t".into(), 0)).log.ids.clone()
    }

    /// The Produce requests that brokers saw.
    pub(super) fn produces(&self) -> Vec<&Seen> {
        self.model.seen.iter().filter(|it| it.api == ApiKey::Produce).collect()
    }

    pub(super) fn count(&self, api: ApiKey) -> usize {
        self.model.seen.iter().filter(|it| it.api == api).count()
    }

    pub(super) fn metric(&self, of: impl Fn(&crate::accumulator::counters::Metrics) -> u64) -> u64 {
        of(&self.producer.accumulator().counters().snapshot())
    }

    // ---- the end

    /// Everything resolves, the machine closes, and every promise is looked at.
    pub(super) fn end(mut self) {
        self.settle();
        let token = self.close(3_600_000);
        self.run_until(10_000, |world| world.is_finished(token));
        self.run(1000);
        self.check();
    }

    /// As `end`, for a machine that was closed or abandoned.
    pub(super) fn check(mut self) {
        self.ended = true;
        self.returned.clear();
        assert!(self.producer.is_closed());
        assert_eq!(self.producer.on_way, 0, "S1: batches left on the way");
        assert!(self.producer.requests.is_empty(), "requests left");
        assert_eq!(self.producer.poll_timeout(), None, "a closed machine wants nothing");
        assert!(self.links.is_empty(), "connections left");
        assert!(self.flushes.is_empty(), "flushes without an answer");
        assert_eq!(self.producer.accumulator().memory().reserved(), 0, "P6: memory left");
        let timeout = self.producer.config().delivery_timeout;
        let slack = Duration::from_millis(1) + self.net.timer_lag;
        for (id, record) in self.records.iter().enumerate() {
            let Some(delivery) = &record.delivery else { continue };
            let outcome = delivery.outcome();
            let outcome = outcome.unwrap_or_else(|| panic!("P2: record {id} has no outcome"));
            let took = record.resolved_at.expect("P2").saturating_since(record.accepted_at);
            assert!(self.late || took <= timeout + slack, "P2: record {id} took {took:?}");
            let tp = (record.topic.clone(), record.partition.expect("accepted"));
            self.check_record(id as u64, &tp, outcome);
        }
        if self.producer.config().enable_idempotence && !self.model.lossy {
            self.check_order();
        }
        let lost = self.metric(|it| it.data_loss_events);
        assert!(lost == 0 || self.model.lossy, "A17: {lost} losses were told of, and none was");
    }

    fn check_record(&self, id: u64, tp: &Tp, outcome: Result<Written, Arc<DeliveryError>>) {
        let part = self.model.topics.get(&tp.0).and_then(|it| it.parts.get(tp.1 as usize));
        let offsets = part.map(|part| part.log.offsets(id)).unwrap_or_default();
        if self.producer.config().enable_idempotence && !self.model.lossy {
            assert!(offsets.len() <= 1, "P11: record {id} is doubled");
        }
        match outcome {
            Ok(written) => {
                if let Some(offset) = written.offset.filter(|_| !self.model.lossy) {
                    assert!(offsets.contains(&offset), "P4: record {id} is not at {offset}");
                } else if !self.model.lossy && self.producer.config().enable_idempotence {
                    assert_eq!(offsets.len(), 1, "P10: record {id} was lost");
                }
            }
            Err(error) if error.fate == Fate::NotWritten => {
                assert!(offsets.is_empty(), "P3: record {id} is in the log: {error}");
            }
            Err(_) => {}
        }
    }

    /// How many records are in a log more than once, and behind one that was accepted later.
    pub(super) fn disorder(&self) -> (u64, u64) {
        let (mut doubled, mut overtaken) = (0, 0);
        for (tp, accepted) in &self.order {
            let Some(topic) = self.model.topics.get(&tp.0) else { continue };
            let log = &topic.parts[tp.1 as usize].log.ids;
            let place = |id: &u64| accepted.iter().position(|it| it == id);
            let places: Vec<_> = log.iter().filter_map(place).collect();
            let distinct: std::collections::BTreeSet<_> = places.iter().collect();
            doubled += (places.len() - distinct.len()) as u64;
            overtaken += places.windows(2).filter(|pair| pair[0] > pair[1]).count() as u64;
        }
        (doubled, overtaken)
    }

    /// P12: a partition's records stand in the order in which they were accepted.
    fn check_order(&self) {
        for (tp, accepted) in &self.order {
            let Some(topic) = self.model.topics.get(&tp.0) else { continue };
            let log = &topic.parts[tp.1 as usize].log.ids;
            let place = |id: &u64| accepted.iter().position(|it| it == id);
            let places: Vec<_> = log.iter().filter_map(place).collect();
            assert!(places.is_sorted(), "P12: {tp:?} is out of order: {places:?}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.ended && !std::thread::panicking() {
            panic!("a story stops before its end");
        }
    }
}
