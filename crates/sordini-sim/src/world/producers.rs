//! The producers' side: the core is fed, and what it asks for is carried out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sordini_core::accumulator::ready::Wake;
use sordini_core::batch::completion::{BatchCompletion, Delivery, Outcome};
use sordini_core::config::{Address, Config};
use sordini_core::connection::ConnId;
use sordini_core::connection::produce::Frame;
use sordini_core::error::Fate;
use sordini_core::partitioner;
use sordini_core::producer::io::{Delivered, Finished, Input, Output, Token, Trace};
use sordini_core::producer::{Components, Producer};
use sordini_core::time::Instant;

use super::cluster::topic_number;
use super::pace::Pace;
use super::{Event, World};
use crate::checkers::{Happening, MemoryUse, Pause};
use crate::clock::{ClientClock, millis};
use crate::history::Done;
use crate::monitor::Monitor;
use crate::net::Door;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::settings;

/// A flag that somebody raises and the world lowers.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

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

/// A record with its place in its batch.
type Place = (u32, u64);

/// Whether a producer's process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Gone,
}

/// One producer and what surrounds it.
pub(super) struct Client {
    pub(super) producer: Producer,
    pub(super) clock: ClientClock,
    pub(super) monitor: Monitor,
    /// How often it does something of its own accord.
    pub(super) pace: Pace,
    wake: Arc<Flag>,
    /// Somebody who waits for memory or metadata may go on.
    pub(super) woken: Arc<Flag>,
    /// A receipt that somebody waits for is ready.
    pub(super) receipts: Arc<Flag>,
    /// Receipts that somebody holds.
    pub(super) kept: VecDeque<Delivery>,
    conns: BTreeMap<ConnId, u64>,
    /// When the next timer fires, late as it may be.
    timer: Option<Instant>,
    pub(super) late: Duration,
    pub(super) frozen_until: Option<Instant>,
    /// Records by their batch's completion.
    batches: BTreeMap<usize, Vec<Place>>,
    pub(super) finished: BTreeMap<Token, Finished>,
    pub(super) next_token: u64,
    peak: usize,
    pub(super) loss_told: bool,
    life: Life,
}

impl Client {
    pub(super) fn new(plan: &Plan, config: &Config, number: u16) -> Self {
        let clock = ClientClock::default();
        clock.set(Instant::from_millis(1));
        let wake = Arc::new(Flag::default());
        let components = Components {
            partitioner: partitioner::from_config(config),
            clock: Arc::new(clock.clone()),
            wake: Arc::clone(&wake) as Arc<dyn Wake>,
            seed: Rng::stream(plan.seed, 100 + u64::from(number)).bits(),
            return_failed: false,
        };
        Self {
            producer: {
                let mut producer = Producer::new(config.clone(), components);
                producer.begin_sequences_at(plan.first_sequence);
                producer.begin_epochs_at(plan.scenery.first_epoch);
                producer
            },
            clock,
            monitor: Monitor::new(config, plan.first_sequence),
            pace: Pace::new(config, plan.most_partitions(), plan.nodes as u64),
            wake,
            woken: Arc::default(),
            receipts: Arc::default(),
            kept: VecDeque::new(),
            conns: BTreeMap::new(),
            timer: None,
            late: Duration::ZERO,
            frozen_until: None,
            batches: BTreeMap::new(),
            finished: BTreeMap::new(),
            next_token: 0,
            peak: 0,
            loss_told: false,
            life: Life::Running,
        }
    }

    pub(super) fn forget(&mut self, core: ConnId, id: u64) {
        self.conns.remove(&core);
        self.monitor.gone(id);
    }

    /// The record `id` is the `index`-th of the batch of `completion`.
    pub(super) fn expect(&mut self, completion: &Arc<BatchCompletion>, index: u32, id: u64) {
        self.batches.entry(Arc::as_ptr(completion) as usize).or_default().push((index, id));
    }

    /// Whose outcome is told. The batch is forgotten with its last record.
    fn told(&mut self, delivered: &Delivered) -> Vec<u64> {
        let key = Arc::as_ptr(&delivered.completion) as usize;
        let Some(places) = self.batches.get_mut(&key) else { return Vec::new() };
        let mut ids = Vec::with_capacity(delivered.records.len());
        places.retain(|(index, id)| {
            let hit = delivered.records.contains(index);
            if hit {
                ids.push(*id);
            }
            !hit
        });
        if places.is_empty() {
            self.batches.remove(&key);
        }
        ids
    }

    pub(super) fn memory(&self) -> MemoryUse {
        let memory = self.producer.accumulator().memory();
        MemoryUse {
            limit: memory.limit(),
            peak: self.peak,
            at_end: if self.is_gone() { 0 } else { memory.reserved() },
            most_in_flight: self.monitor.most_in_flight,
        }
    }

    /// Is nothing of it to be expected any more?
    pub(super) fn is_over(&self) -> bool {
        self.is_gone() || self.producer.is_closed() || self.producer.fatal().is_some()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.life == Life::Gone
    }

    /// The process is gone. Returns its connections, and the records without an outcome.
    pub(super) fn die(&mut self) -> (Vec<u64>, Vec<u64>) {
        self.life = Life::Gone;
        self.kept.clear();
        self.frozen_until = None;
        self.timer = None;
        let conns: Vec<u64> = std::mem::take(&mut self.conns).into_values().collect();
        conns.iter().for_each(|id| self.monitor.gone(*id));
        let lost = std::mem::take(&mut self.batches).into_values().flatten();
        (conns, lost.map(|(_, id)| id).collect())
    }
}

impl World<'_> {
    pub(super) fn is_frozen(&self, client: u16) -> bool {
        self.clients[usize::from(client)].frozen_until.is_some_and(|until| until > self.now)
    }

    /// What reaches a frozen process waits; the order stays.
    pub(super) fn thaw_later(&mut self, client: u16, event: Event) {
        let until = self.clients[usize::from(client)].frozen_until.unwrap_or(self.now);
        self.queue.push(until, event);
    }

    /// Does what a producer asks for at once; true if there was something.
    pub(super) fn serve_producers(&mut self) -> bool {
        for at in 0..self.clients.len() {
            let client = at as u16;
            if self.is_frozen(client) || self.clients[at].is_gone() {
                continue;
            }
            if self.clients[at].wake.take() {
                self.turned(client);
                self.feed(client, Input::LanesDue);
                return true;
            }
            if self.clients[at].woken.take() {
                while self.poll_waiting(client) {}
                return true;
            }
        }
        false
    }

    /// The earliest timer of a producer, and whose it is.
    pub(super) fn next_producer_timer(&mut self) -> Option<(Instant, u16)> {
        let mut first: Option<(Instant, u16)> = None;
        let running = |(_, client): &(usize, &mut Client)| !client.is_gone();
        for (at, client) in self.clients.iter_mut().enumerate().filter(running) {
            let due = client.producer.poll_timeout();
            let due = due.map(|due| due.saturating_add(client.late));
            // A timer that is late is not made later by what happens before it fires.
            client.timer = client.timer.into_iter().chain(due).min();
            let frozen = client.frozen_until.unwrap_or(Instant::ZERO);
            if let Some(due) = client.timer.map(|due| due.max(frozen))
                && first.is_none_or(|(earliest, _)| due < earliest)
            {
                first = Some((due, at as u16));
            }
        }
        first
    }

    pub(super) fn fire_timer(&mut self, client: u16) {
        self.hash.number(0x71 + u64::from(client));
        let it = &mut self.clients[usize::from(client)];
        it.timer = None;
        let now = it.clock.now();
        it.producer.handle_timeout(now);
        self.turned(client);
        self.drain_producer(client);
        let it = &self.clients[usize::from(client)];
        let next = it.producer.poll_timeout();
        assert!(
            next.is_none_or(|at| at > self.now),
            "P8: producer {client} leaves due what is due at {} ms",
            millis(self.now)
        );
    }

    pub(super) fn feed(&mut self, client: u16, input: Input<'_>) {
        let it = &mut self.clients[usize::from(client)];
        if it.is_gone() {
            return;
        }
        let now = it.clock.now();
        if is_work(&input) {
            it.pace.give(self.now);
        }
        it.producer.handle_input(now, input);
        self.drain_producer(client);
    }

    /// P8: it did something of its own accord.
    fn turned(&mut self, client: u16) {
        if let Some(wrong) = self.clients[usize::from(client)].pace.turn(self.now) {
            self.violation("P8", format!("producer {client}: {wrong}"));
        }
    }

    fn drain_producer(&mut self, client: u16) {
        let at = usize::from(client);
        while let Some(output) = self.clients[at].producer.poll_output() {
            self.carry_out(client, output);
        }
        let it = &mut self.clients[at];
        it.peak = it.peak.max(it.producer.accumulator().memory().reserved());
        self.take_scheduled();
    }

    fn carry_out(&mut self, client: u16, output: Output) {
        match output {
            Output::Connect { conn, address, failures } => {
                self.connect(client, conn, &address, failures);
            }
            Output::Disconnect { conn } => {
                let it = &mut self.clients[usize::from(client)];
                let id = it.conns.get(&conn).copied();
                assert!(id.is_some(), "P7: {conn:?} is closed, but not open");
                let Some(id) = id else { return };
                it.forget(conn, id);
                let node = self.net.conns.get(&id).map_or(0, |conn| conn.node);
                self.net.producer_closes(self.now, id);
                self.net.forget_if_over(id);
                let lost = Happening::ConnectionLost { producer: client, node };
                self.evidence.happenings.push((self.now, lost));
            }
            Output::Transmit { conn, frame } => self.transmit(client, conn, &frame),
            Output::Compress(job) => {
                let delay = self.codec_delay;
                let compressed = job.run(&mut self.compressor);
                self.after(delay, Event::Compressed(client, compressed));
            }
            Output::Deliver(delivered) => self.deliver(client, delivered),
            Output::Finish { token, result } => {
                self.hash.number(0xf1 ^ token.0);
                self.check_finished(client, token);
                self.note_answer(client, token, &result);
                self.clients[usize::from(client)].finished.insert(token, result);
            }
            Output::HandBack(returned) => drop(returned),
            Output::Trace(trace) => self.note_producer(client, &trace),
        }
    }

    fn connect(&mut self, client: u16, conn: ConnId, address: &Address, failures: u32) {
        let node = settings::node_at(&address.host);
        let door = node.and_then(|node| self.door(node));
        let door = door.filter(|_| address.port == settings::PORT);
        let node = node.unwrap_or(0);
        // Each failure in a row begins at another address of the name.
        let dead = self.plan.scenery.dead_address(node).filter(|_| failures.is_multiple_of(2));
        let id = self.net.connect(self.now, (client, conn), node, door, dead);
        let it = &mut self.clients[usize::from(client)];
        it.conns.insert(conn, id);
        it.monitor.opened(id, node);
        self.turned(client);
        if dead.is_some() && door == Some(Door::Open) {
            self.coverage.meet("net: a dead address of a name was passed", 1);
        }
        if door == Some(Door::Gone) {
            self.coverage.meet("net: a connection to a machine that is off", 1);
        }
    }

    fn transmit(&mut self, client: u16, conn: ConnId, frame: &Frame) {
        let mut bytes = BytesMut::with_capacity(frame.len());
        frame.slices().for_each(|slice| bytes.extend_from_slice(slice));
        let bytes: Bytes = bytes.freeze();
        let it = &mut self.clients[usize::from(client)];
        let id = it.conns.get(&conn).copied();
        assert!(id.is_some(), "P7: a frame for {conn:?}, which is not open");
        let Some(id) = id else { return };
        it.monitor.transmit(self.now, id, &bytes, &self.topics, &mut self.history);
        self.tell_sent(client, id);
        self.net.transmit(self.now, id, bytes);
        self.turned(client);
    }

    fn deliver(&mut self, client: u16, delivered: Delivered) {
        let ids = self.clients[usize::from(client)].told(&delivered);
        if ids.len() != delivered.records.len() {
            let text = format!("{} outcomes for {} records", delivered.records.len(), ids.len());
            self.violation("P2", text);
        }
        self.tell_outcome(client, &ids, &delivered.outcome);
        let records = delivered.records.clone();
        let outcome = delivered.outcome.clone();
        let completion = Arc::clone(&delivered.completion);
        delivered.resolve();
        // What a receipt would say, record by record.
        for (nth, id) in ids.into_iter().enumerate() {
            let done = match &outcome {
                Outcome::Written { base_offset, log_append_time, deduplicated } => Done::Written {
                    offset: base_offset.map(|base| base + nth as i64),
                    timestamp: log_append_time.unwrap_or(-1),
                    duplicate: *deduplicated == sordini_core::batch::completion::Deduplicated::Yes,
                },
                Outcome::Failed(error) => Done::Failed {
                    definite: error.fate == Fate::NotWritten,
                    text: error.to_string(),
                },
            };
            self.hash.number(id << 1 | u64::from(matches!(done, Done::Written { .. })));
            let unknown = matches!(done, Done::Failed { definite: false, .. });
            if !self.history.complete(id, self.now, done) {
                self.violation("P2", format!("record {id} got a second outcome"));
            }
            if unknown && self.plan.workload.resend {
                self.applications[usize::from(client)].again.push_back(id);
            }
        }
        drop((records, completion));
    }

    fn note_producer(&mut self, client: u16, trace: &Trace) {
        self.coverage.producer(trace);
        self.note_transaction(client, trace);
        self.tell_producer(client, trace);
        let happening = match trace {
            Trace::EpochBumped { topic, partition, .. } => topic_number(topic)
                .map(|it| Happening::Bumped { producer: client, tp: (it, *partition) }),
            Trace::DataLoss { topic, partition, .. } => {
                self.clients[usize::from(client)].loss_told = true;
                topic_number(topic)
                    .map(|it| Happening::LossTold { producer: client, tp: (it, *partition) })
            }
            _ => None,
        };
        self.evidence.happenings.extend(happening.map(|it| (self.now, it)));
    }

    /// A promise was broken before everybody's eyes.
    pub(super) fn violation(&mut self, invariant: &'static str, text: String) {
        let at = self.now;
        self.live.push(crate::checkers::Violation { invariant, text, at });
    }

    /// The producer could not run from `from` until `until`.
    pub(super) fn excuse_pause(&mut self, client: u16, from: Instant, until: Instant) {
        self.evidence.pauses.push(Pause { producer: client, from, until });
    }
}

/// Does it give the producer something to do? Pieces of what it is doing do not.
fn is_work(input: &Input<'_>) -> bool {
    !matches!(input, Input::LanesDue | Input::Received { .. } | Input::Transmitted { .. })
}
