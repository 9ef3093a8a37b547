//! The network: byte streams between producers and nodes, which fragment, stall, break at any
//! byte, or lead nowhere. What it decides it schedules; it calls nobody.

mod pipe;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sordini_core::connection::ConnId;
use sordini_core::time::Instant;

use crate::faults::{Fault, Link, Way};
use crate::rng::Rng;
use crate::scenery::Dead;
use pipe::{Pipe, pieces, take};

/// How long an address is waited for before the next of the name is tried too.
const HEAD_START: Duration = Duration::from_millis(250);

/// What is to happen on the network.
#[derive(Debug)]
pub(crate) enum NetEvent {
    /// The connection is up.
    Established(u64),
    /// It could not be made.
    ConnectFailed(u64, &'static str),
    /// The producer's socket takes bytes.
    Write(u64),
    /// Bytes reach the node.
    ToNode(u64, Bytes),
    /// Bytes reach the producer.
    ToProducer(u64, Bytes),
    /// The node learns that the connection is over.
    NodeGone(u64),
    /// The producer learns that the connection is over.
    ProducerGone(u64, &'static str),
}

/// What a node does to those who knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// The machine runs, and nobody listens.
    Closed,
    /// There is no machine.
    Gone,
}

/// The rules of one link, as the active faults make them.
#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    delay: Duration,
    up_cut: bool,
    down_cut: bool,
    refuse: bool,
    hang: bool,
    fragment: Option<u16>,
    chunk: Option<u16>,
}

/// A connection, seen from both ends.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) producer: u16,
    pub(crate) core: ConnId,
    pub(crate) node: i32,
    /// The producer holds it for open (or for being made).
    pub(crate) producer_open: bool,
    /// The node holds it for open.
    pub(crate) node_open: bool,
    pub(crate) established: bool,
    /// Its first packet got no answer; it is sent again.
    hanging: bool,
    /// The broker was told of it.
    pub(crate) accepted: bool,
    /// What reached the node and was not yet handled.
    pub(crate) inbox: BytesMut,
    queue: VecDeque<Bytes>,
    queued: u64,
    written: u64,
    writing: bool,
    up: Pipe,
    down: Pipe,
    /// Leads nowhere, and nobody is told.
    vanished: bool,
    /// The fault that holds what it carries to the node.
    held_by: Option<usize>,
}

/// What a socket took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Bytes since the connection was made.
    pub(crate) through: u64,
    /// The connection broke on it.
    pub(crate) broke: bool,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) conns: BTreeMap<u64, Conn>,
    pub(crate) scheduled: Vec<(Instant, NetEvent)>,
    active: Vec<(usize, Fault)>,
    /// Connections to be broken at a byte: the fault, its link, its way and the bytes.
    armed: Vec<(usize, Link, Way, u32)>,
    /// Faults of which something was felt.
    pub(crate) felt: Vec<usize>,
    rng: Rng,
    latency: Duration,
    next: u64,
    /// Which producer of the plan each one is a later life of, where they have several.
    pub(crate) kin: Vec<u16>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::stream(seed, 10);
        let latency = Duration::from_micros(rng.pick(&[20, 200, 200, 1000, 15_000]));
        Self {
            conns: BTreeMap::new(),
            scheduled: Vec::new(),
            active: Vec::new(),
            armed: Vec::new(),
            felt: Vec::new(),
            rng,
            latency,
            next: 1,
            kin: Vec::new(),
        }
    }

    fn kin(&self, producer: u16) -> u16 {
        self.kin.get(usize::from(producer)).copied().unwrap_or(producer)
    }

    fn rules(&mut self, producer: u16, node: i32) -> Rules {
        let producer = self.kin(producer);
        let mut rules = Rules::default();
        for (number, fault) in &self.active {
            let link = match fault {
                Fault::Delay(link, _)
                | Fault::Clog(link, _)
                | Fault::Partition(link, _)
                | Fault::Fragment(link, _)
                | Fault::SlowWriter(link, _)
                | Fault::Refuse(link)
                | Fault::Hang(link) => *link,
                Fault::NoNames(producer) => Link { producer: *producer, node: None },
                _ => continue,
            };
            if !link.covers(producer, node) {
                continue;
            }
            if !self.felt.contains(number) && !matches!(fault, Fault::Refuse(_) | Fault::Hang(_)) {
                self.felt.push(*number);
            }
            match fault {
                Fault::Delay(_, micros) => rules.delay += Duration::from_micros(*micros),
                Fault::Clog(_, way) | Fault::Partition(_, way) => {
                    rules.up_cut |= way.is_up();
                    rules.down_cut |= way.is_down();
                }
                Fault::Fragment(_, size) => rules.fragment = Some(*size),
                Fault::SlowWriter(_, size) => rules.chunk = Some(*size),
                Fault::Refuse(_) => rules.refuse = true,
                Fault::Hang(_) => rules.hang = true,
                _ => {}
            }
        }
        rules
    }

    fn feel(&mut self, of: impl Fn(&Fault) -> bool) {
        for (number, fault) in &self.active {
            if of(fault) && !self.felt.contains(number) {
                self.felt.push(*number);
            }
        }
    }

    fn delay(&mut self, rules: &Rules) -> Duration {
        let extra = if rules.delay.is_zero() { rules.delay } else { self.rng.tailed(rules.delay) };
        self.latency + extra + Duration::from_nanos(self.rng.below(20_000))
    }

    fn at(&mut self, at: Instant, event: NetEvent) {
        self.scheduled.push((at, event));
    }

    // ---- faults

    pub(crate) fn begin(&mut self, now: Instant, number: usize, fault: Fault) {
        match fault {
            Fault::ResetAll(link) => {
                let all = self.open(link);
                if !all.is_empty() {
                    self.felt.push(number);
                }
                all.into_iter().for_each(|conn| self.reset(now, conn, "reset"));
            }
            Fault::ResetAt(link, way, bytes) => self.armed.push((number, link, way, bytes)),
            Fault::HalfOpen(link) => {
                for conn in self.open(link) {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.vanished = true;
                        self.felt.push(number);
                    }
                }
            }
            Fault::OldLate(link) => {
                for conn in self.open(link) {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.held_by = Some(number);
                        self.felt.push(number);
                    }
                }
            }
            fault => self.active.push((number, fault)),
        }
    }

    pub(crate) fn end(&mut self, now: Instant, number: usize) {
        self.active.retain(|(of, _)| *of != number);
        self.armed.retain(|(of, ..)| *of != number);
        let held = self.conns.values_mut().filter(|conn| conn.held_by == Some(number));
        held.for_each(|conn| conn.held_by = None);
        let all: Vec<u64> = self.conns.keys().copied().collect();
        all.into_iter().for_each(|conn| self.release(now, conn));
    }

    /// Ends all faults, the unnoticed ones too: the system gives up connections that lead nowhere.
    pub(crate) fn heal(&mut self, now: Instant) {
        self.active.clear();
        self.armed.clear();
        let all: Vec<u64> = self.conns.keys().copied().collect();
        for conn in all {
            if self.conns.get(&conn).is_some_and(|it| it.vanished && it.producer_open) {
                self.reset(now, conn, "timed out");
            }
            self.release(now, conn);
        }
    }

    /// Lets go of what a cut held, if there is none any more.
    fn release(&mut self, now: Instant, id: u64) {
        let Some(conn) = self.conns.get(&id) else { return };
        let rules = self.rules(conn.producer, conn.node);
        let due = now.saturating_add(self.latency);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.vanished) else { return };
        if conn.hanging && !rules.hang && !rules.up_cut && !rules.down_cut {
            conn.hanging = false;
            // A system sends the first packet again after a second, three, seven.
            let again = due.saturating_add(Duration::from_millis(self.rng.below(1000)));
            self.scheduled.push((again, NetEvent::Established(id)));
            return;
        }
        if !rules.up_cut && conn.held_by.is_none() {
            let (bytes, end) = conn.up.release();
            let at = conn.up.due(due);
            if !bytes.is_empty() {
                self.scheduled.push((at, NetEvent::ToNode(id, bytes)));
            }
            if end.is_some() {
                self.scheduled.push((at, NetEvent::NodeGone(id)));
            }
        }
        if !rules.down_cut {
            let (bytes, end) = conn.down.release();
            let at = conn.down.due(due);
            if !bytes.is_empty() {
                self.scheduled.push((at, NetEvent::ToProducer(id, bytes)));
            }
            if let Some(cause) = end {
                self.scheduled.push((at, NetEvent::ProducerGone(id, cause)));
            }
        }
    }

    fn open(&self, link: Link) -> Vec<u64> {
        let covered = |conn: &Conn| {
            let producer = self.kin(conn.producer);
            conn.producer_open && conn.established && link.covers(producer, conn.node)
        };
        self.conns.iter().filter(|(_, conn)| covered(conn)).map(|(id, _)| *id).collect()
    }

    /// Breaks a connection at both ends, now at the producer's.
    fn reset(&mut self, now: Instant, id: u64, cause: &'static str) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.up.clear();
        conn.down.clear();
        let later = now.saturating_add(self.latency);
        self.at(now, NetEvent::ProducerGone(id, cause));
        self.at(later, NetEvent::NodeGone(id));
    }

    // ---- connections

    /// A producer connects. `door` is `None` where no node has that name; `dead`: another address
    /// of the name is tried first. As drivers do, the next is tried when that one fails, or after a
    /// head start, and the connection fails when both have.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        (producer, core): (u16, ConnId),
        node: i32,
        door: Option<Door>,
        dead: Option<Dead>,
    ) -> u64 {
        let id = self.next;
        self.next += 1;
        let rules = self.rules(producer, node);
        let kin = self.kin(producer);
        let names = |fault: &Fault| match fault {
            Fault::NoNames(of) => of.is_none_or(|of| of == kin),
            _ => false,
        };
        let unresolved = self.active.iter().any(|(_, fault)| names(fault));
        self.conns.insert(
            id,
            Conn {
                producer,
                core,
                node,
                producer_open: true,
                node_open: false,
                established: false,
                hanging: false,
                accepted: false,
                inbox: BytesMut::new(),
                queue: VecDeque::new(),
                queued: 0,
                written: 0,
                writing: false,
                up: Pipe::default(),
                down: Pipe::default(),
                vanished: false,
                held_by: None,
            },
        );
        let mut due = now.saturating_add(self.delay(&rules));
        due = due.saturating_add(match dead {
            None => Duration::ZERO,
            Some(Dead::Refuses) => self.latency,
            Some(Dead::Silent) => HEAD_START,
        });
        match door {
            _ if unresolved => {
                self.at(due, NetEvent::ConnectFailed(id, "the name could not be resolved"));
            }
            None => self.at(due, NetEvent::ConnectFailed(id, "no such host")),
            Some(Door::Gone) => self.hang(id),
            _ if rules.hang => {
                self.feel(|fault| matches!(fault, Fault::Hang(_)));
                self.hang(id);
            }
            _ if rules.up_cut || rules.down_cut => self.hang(id),
            // What does not answer may answer yet.
            Some(Door::Closed) if dead == Some(Dead::Silent) => self.hang(id),
            _ if rules.refuse => {
                self.feel(|fault| matches!(fault, Fault::Refuse(_)));
                self.at(due, NetEvent::ConnectFailed(id, "connection refused"));
            }
            Some(Door::Closed) => self.at(due, NetEvent::ConnectFailed(id, "connection refused")),
            Some(Door::Open) => self.at(due, NetEvent::Established(id)),
        }
        id
    }

    fn hang(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.hanging = true;
        }
    }

    /// The connection is up.
    pub(crate) fn established(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.established = true;
            conn.node_open = true;
        }
    }

    /// The producer queues a frame.
    pub(crate) fn transmit(&mut self, now: Instant, id: u64, bytes: Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.queued += bytes.len() as u64;
        conn.queue.push_back(bytes);
        if !conn.writing {
            conn.writing = true;
            self.at(now, NetEvent::Write(id));
        }
    }

    /// Takes an armed break for this connection and way.
    fn disarm(&mut self, id: u64, way: Way, len: usize) -> Option<usize> {
        let conn = self.conns.get(&id)?;
        let (producer, node) = (self.kin(conn.producer), conn.node);
        let mut found = None;
        for (at, (_, link, of, left)) in self.armed.iter_mut().enumerate() {
            if *of != way || !link.covers(producer, node) {
                continue;
            }
            if (*left as usize) < len {
                found = Some((at, *left as usize));
                break;
            }
            *left -= len as u32;
        }
        let (at, bytes) = found?;
        let (number, ..) = self.armed.remove(at);
        self.felt.push(number);
        Some(bytes)
    }

    /// The socket takes what it takes. `None` if there is nothing to tell the producer.
    pub(crate) fn write(&mut self, now: Instant, id: u64) -> Option<Took> {
        let (producer, node) = {
            let conn = self.conns.get_mut(&id).filter(|conn| conn.producer_open)?;
            conn.writing = false;
            (conn.producer, conn.node)
        };
        let rules = self.rules(producer, node);
        let conn = self.conns.get_mut(&id)?;
        let waiting = usize::try_from(conn.queued - conn.written).unwrap_or(usize::MAX);
        let mut count = waiting.min(rules.chunk.map_or(usize::MAX, usize::from));
        // A socket's buffer: where nothing is taken from it, it fills up.
        if rules.up_cut || conn.vanished {
            count = count.min(200_000usize.saturating_sub(conn.up.held()));
        }
        let broke = self.disarm(id, Way::Up, count);
        let count = broke.unwrap_or(count);
        let conn = self.conns.get_mut(&id)?;
        let bytes = take(&mut conn.queue, count);
        conn.written += count as u64;
        let through = conn.written;
        let more = conn.queued > conn.written;
        if !bytes.is_empty() {
            self.carry_up(now, id, bytes, &rules);
        }
        if broke.is_some() {
            let later = now.saturating_add(self.latency);
            let at = self.conns.get_mut(&id).map_or(later, |conn| conn.up.due(later));
            self.at(at, NetEvent::NodeGone(id));
        } else if more {
            let conn = self.conns.get_mut(&id)?;
            conn.writing = true;
            let pause = if count == 0 { 20_000 } else { 30 };
            self.at(now.saturating_add(Duration::from_micros(pause)), NetEvent::Write(id));
        }
        Some(Took { through, broke: broke.is_some() })
    }

    fn carry_up(&mut self, now: Instant, id: u64, bytes: Bytes, rules: &Rules) {
        let due = now.saturating_add(self.delay(rules));
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.vanished {
            return conn.up.hold(&bytes);
        }
        if rules.up_cut || conn.held_by.is_some() || conn.up.held() > 0 {
            return conn.up.hold(&bytes);
        }
        let at = conn.up.due(due);
        pieces(bytes, rules.fragment, |nth, piece| {
            let at = at.saturating_add(Duration::from_micros(10 * nth));
            conn.up.due(at);
            self.scheduled.push((at, NetEvent::ToNode(id, piece)));
        });
    }

    /// A node answers.
    pub(crate) fn answer(&mut self, now: Instant, id: u64, bytes: Bytes) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.node_open) else { return };
        let rules = self.rules(conn.producer, conn.node);
        let broke = self.disarm(id, Way::Down, bytes.len());
        let due = now.saturating_add(self.delay(&rules));
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.vanished) else { return };
        let bytes = bytes.slice(..broke.unwrap_or(bytes.len()));
        if rules.down_cut || conn.down.held() > 0 {
            conn.down.hold(&bytes);
            if broke.is_some() {
                conn.down.end("reset by peer");
            }
            return;
        }
        let at = conn.down.due(due);
        pieces(bytes, rules.fragment, |nth, piece| {
            let at = at.saturating_add(Duration::from_micros(10 * nth));
            conn.down.due(at);
            self.scheduled.push((at, NetEvent::ToProducer(id, piece)));
        });
        if broke.is_some() {
            let at = conn.down.due(at);
            self.at(at, NetEvent::ProducerGone(id, "reset by peer"));
            self.at(at, NetEvent::NodeGone(id));
        }
    }

    /// A node closes the connection, behind what it answered.
    pub(crate) fn node_closes(&mut self, now: Instant, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.node_open = false;
        self.end_down(now, id, "closed by the broker");
    }

    fn end_down(&mut self, now: Instant, id: u64, cause: &'static str) {
        let Some(conn) = self.conns.get(&id).filter(|conn| !conn.vanished) else { return };
        let cut = self.rules(conn.producer, conn.node).down_cut;
        let due = now.saturating_add(self.latency);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if cut || conn.down.held() > 0 {
            conn.down.end(cause);
        } else {
            let at = conn.down.due(due);
            self.at(at, NetEvent::ProducerGone(id, cause));
        }
    }

    /// A producer closes the connection. What it had written arrives all the same, however late;
    /// what it had not is gone.
    pub(crate) fn producer_closes(&mut self, now: Instant, id: u64) {
        let Some(conn) = self.conns.get(&id) else { return };
        let cut = self.rules(conn.producer, conn.node).up_cut;
        let due = now.saturating_add(self.latency);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.producer_open = false;
        conn.queue.clear();
        conn.queued = conn.written;
        if conn.vanished || !conn.established {
            return;
        }
        if cut || conn.up.held() > 0 {
            conn.up.end("closed by the producer");
        } else {
            let at = conn.up.due(due);
            self.at(at, NetEvent::NodeGone(id));
        }
    }

    /// A node's process is gone. With its machine: nobody is told before it is back.
    pub(crate) fn node_died(&mut self, now: Instant, node: i32, with_machine: bool) {
        let of = |conn: &Conn| conn.node == node && conn.node_open;
        let all: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| of(conn)).map(|(id, _)| *id).collect();
        for id in all {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.node_open = false;
                conn.inbox.clear();
            }
            if !with_machine {
                self.end_down(now, id, "reset by peer");
            }
        }
    }

    /// A node's machine is back: it knows nothing of old connections.
    pub(crate) fn node_is_back(&mut self, now: Instant, node: i32) {
        let stale = |conn: &Conn| {
            conn.node == node && conn.producer_open && conn.established && !conn.node_open
        };
        let all: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| stale(conn)).map(|(id, _)| *id).collect();
        all.into_iter().for_each(|id| self.end_down(now, id, "reset by peer"));
        let hanging = |conn: &Conn| conn.node == node && conn.producer_open && conn.hanging;
        let all: Vec<u64> =
            self.conns.iter().filter(|(_, conn)| hanging(conn)).map(|(id, _)| *id).collect();
        all.into_iter().for_each(|id| self.release(now, id));
    }

    /// Forgets a connection that is over at both ends.
    pub(crate) fn forget_if_over(&mut self, id: u64) {
        let over = |conn: &Conn| !conn.producer_open && !conn.node_open;
        if self.conns.get(&id).is_some_and(over) {
            self.conns.remove(&id);
        }
    }

    /// Does a later connection of the same producer to the same node exist?
    pub(crate) fn is_superseded(&self, id: u64) -> bool {
        let Some(conn) = self.conns.get(&id) else { return false };
        self.conns
            .range(id + 1..)
            .any(|(_, it)| it.producer == conn.producer && it.node == conn.node && it.established)
    }
}
