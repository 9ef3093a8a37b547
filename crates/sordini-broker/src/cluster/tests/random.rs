//! Random schedules: messages between peers are lost, doubled, late and out of order, links are
//! cut, nodes die, freeze and come back, leaders move. Whatever happens, what was acknowledged
//! by acks=all stays where it was said to be.

use super::*;
use crate::broker::IdSource;
use crate::log::batch::Header;

const SEEDS: u64 = 200;
const CLIENTS: usize = 3;
const CHAOS_MS: u64 = 4_000;

/// Chances in a thousand, drawn per seed.
struct Odds {
    drop: u64,
    double: u64,
    delay_ms: u64,
    fault: u64,
}

struct Client {
    producer_id: i64,
    sequence: i32,
    /// What is being produced, and where it was sent.
    pending: Option<(TestBatch, ProduceRequest, Sent)>,
    acked: Vec<(i64, String)>,
}

struct Sent {
    connection: ConnectionId,
    at: Instant,
}

struct Chaos {
    world: World,
    random: IdSource,
    odds: Odds,
    /// Messages under way, by time of arrival.
    flying: BTreeMap<(Instant, u64), (Peer, Peer, PeerMessage)>,
    launched: u64,
    clients: Vec<Client>,
    /// Nodes that do not run, and those that stand still, until when.
    down: BTreeMap<i32, Instant>,
    frozen: BTreeMap<i32, Instant>,
    cut_until: Instant,
    power_loss: bool,
    reckless: bool,
    truth: Truth,
}

/// What the traces say, kept outside the cluster.
#[derive(Default)]
struct Truth {
    /// Unclean elections are allowed: what was committed may change.
    reckless: bool,
    logs: BTreeMap<(i32, PartitionId), BTreeMap<i64, Bytes>>,
    committed: BTreeMap<PartitionId, BTreeMap<i64, Bytes>>,
    leaders: BTreeMap<(PartitionId, i32), i32>,
    highs: BTreeMap<(i32, PartitionId, i32), i64>,
    own_high: BTreeMap<(i32, PartitionId), i64>,
    elections: usize,
    unclean: usize,
    truncations: usize,
}

impl Truth {
    fn note(&mut self, event: &ClusterTrace) {
        match event {
            ClusterTrace::Appended { node, at, base_offset, batch, .. } => {
                self.logs
                    .entry((*node, at.clone()))
                    .or_default()
                    .insert(*base_offset, batch.clone());
            }
            ClusterTrace::Opened { node, at, .. } => {
                self.own_high.remove(&(*node, at.clone()));
            }
            ClusterTrace::Truncated { node, at, to, by_storage, .. } => {
                self.truncations += 1;
                self.logs.entry((*node, at.clone())).or_default().retain(|base, _| base < to);
                let high = self.own_high.get(&(*node, at.clone())).copied().unwrap_or(0);
                let may = self.reckless || *by_storage || *to >= high;
                assert!(may, "node {node} cuts {at:?} to {to} below {high}");
            }
            ClusterTrace::Elected { at, clean, leader, .. } => {
                assert!(self.reckless || *clean, "unclean election of {leader} for {at:?}");
                self.elections += 1;
                self.unclean += usize::from(!clean);
            }
            ClusterTrace::Leads { node, at, leader_epoch, .. } => {
                let first = self.leaders.entry((at.clone(), *leader_epoch)).or_insert(*node);
                assert_eq!(first, node, "two leaders of epoch {leader_epoch} of {at:?}");
            }
            ClusterTrace::HighWatermark { node, at, offset, leader_epoch, as_leader } => {
                self.own_high.insert((*node, at.clone()), *offset);
                if *as_leader && !self.reckless {
                    let high = self.highs.entry((*node, at.clone(), *leader_epoch)).or_default();
                    assert!(offset > high, "the high watermark of {at:?} went back");
                    *high = *offset;
                    self.commit(*node, at, *offset);
                }
            }
            _ => {}
        }
    }

    fn commit(&mut self, node: i32, at: &PartitionId, offset: i64) {
        let Some(log) = self.logs.get(&(node, at.clone())) else { return };
        let committed = self.committed.entry(at.clone()).or_default();
        for (base, batch) in log.range(..offset) {
            let known = committed.entry(*base).or_insert_with(|| batch.clone());
            assert_eq!(known, batch, "what was committed at {base} of {at:?} changed");
        }
    }
}

impl Chaos {
    fn new(seed: u64, reckless: bool) -> Self {
        let mut random = IdSource::new(seed, 77);
        let power_loss = random.next().is_multiple_of(3) || reckless;
        let odds = Odds {
            drop: [0, 0, 20, 100][(random.next() % 4) as usize],
            double: [0, 20, 200][(random.next() % 3) as usize],
            delay_ms: [1, 10, 60][(random.next() % 3) as usize],
            fault: [5, 20, 60][(random.next() % 3) as usize],
        };
        let mut settings = ClusterConfig {
            session_timeout: Duration::from_millis(600),
            heartbeat: Duration::from_millis(100),
            replica_lag_time_max: Duration::from_millis(500),
            replica_fetch_wait: Duration::from_millis(50),
            strict_min_isr: !random.next().is_multiple_of(4),
            seed,
            ..config(3)
        };
        settings.broker.fsync = power_loss && !reckless;
        settings.unclean_elections = reckless;
        let mut world = World::new(settings);
        world.create("t", 1, &[("min.insync.replicas", "2"), ("segment.bytes", "1500")]);
        let client = |i| Client {
            producer_id: 100 + i as i64,
            sequence: 0,
            pending: None,
            acked: Vec::new(),
        };
        let mut chaos = Self {
            world,
            random,
            odds,
            flying: BTreeMap::new(),
            launched: 0,
            clients: (0..CLIENTS).map(client).collect(),
            down: BTreeMap::new(),
            frozen: BTreeMap::new(),
            cut_until: Instant(0),
            power_loss,
            reckless,
            truth: Truth { reckless, ..Truth::default() },
        };
        chaos.collect();
        chaos
    }

    fn chance(&mut self, in_thousand: u64) -> bool {
        self.random.next() % 1000 < in_thousand
    }

    fn now(&self) -> Instant {
        self.world.now.mono
    }

    fn later(&mut self, ms: u64) -> Instant {
        self.now().after(Duration::from_micros(self.random.next() % (ms * 1000)))
    }

    fn collect(&mut self) {
        self.world.collect();
        for event in std::mem::take(&mut self.world.traces) {
            self.truth.note(&event);
        }
        while let Some((from, to, message)) = self.world.wire.pop_front() {
            let lost = self.chance(self.odds.drop) || self.world.cut.contains(&(from, to));
            let copies = if lost { 0 } else { 1 + usize::from(self.chance(self.odds.double)) };
            for _ in 0..copies {
                let at = self.later(self.odds.delay_ms);
                self.launched += 1;
                self.flying.insert((at, self.launched), (from, to, message.clone()));
            }
        }
    }

    /// Lets `millis` pass, with faults or without.
    fn run(&mut self, millis: u64, faults: bool) {
        let end = self.now().after(Duration::from_millis(millis));
        let mut tick = self.now();
        while self.now() < end {
            let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
            let timer = self.world.cluster.poll_timeout();
            let next = [Some(tick), flying, timer].into_iter().flatten().min().unwrap_or(tick);
            let next = next.max(self.now());
            self.world.now.wall_ms += next.since(self.now()).as_millis() as i64;
            self.world.now.mono = next;
            if flying.is_some_and(|at| at <= next) {
                let (_, (from, to, message)) = self.flying.pop_first().expect("one");
                let now = self.world.now;
                self.world.cluster.handle_peer(now, from, to, message);
            } else if timer.is_some_and(|at| at <= next) {
                let now = self.world.now;
                self.world.cluster.handle_timeout(now);
            } else {
                tick = next.after(Duration::from_millis(10));
                self.recover();
                if faults {
                    self.break_something();
                }
                (0..CLIENTS).for_each(|client| self.drive(client));
            }
            self.collect();
        }
    }

    fn recover(&mut self) {
        let now = self.now();
        let back: Vec<i32> =
            self.down.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in back {
            self.down.remove(&node);
            let disk = Box::new(self.world.disks[&node].clone());
            self.world.cluster.start(self.world.now, node, disk).expect("start");
        }
        let awake: Vec<i32> =
            self.frozen.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in awake {
            self.frozen.remove(&node);
            let now = self.world.now;
            self.world.cluster.resume(now, node);
        }
        if self.cut_until <= now {
            self.world.cut.clear();
        }
    }

    fn break_something(&mut self) {
        if !self.chance(self.odds.fault) {
            return;
        }
        let node = 1 + (self.random.next() % 3) as i32;
        let other = 1 + (self.random.next() % 3) as i32;
        let until = self.later(1500);
        match self.random.next() % 6 {
            0 | 1 if !self.down.contains_key(&node) => {
                self.world.cluster.kill(node);
                self.frozen.remove(&node);
                if self.power_loss {
                    let keep = self.random.next() as usize;
                    self.world.disks[&node].lose_power(|_, len| keep % (len + 1));
                }
                self.down.insert(node, until);
            }
            2 if !self.down.contains_key(&node) => {
                self.world.cluster.pause(node);
                self.frozen.insert(node, until);
            }
            3 => {
                self.world.isolate(node, true);
                self.cut_until = until;
            }
            4 => {
                let link = (Peer::Node(node), Peer::Node(other));
                self.world.cut.insert(link);
                self.cut_until = until;
            }
            _ => {
                self.world.cluster.move_leader("t", 0, node);
            }
        }
    }

    fn drive(&mut self, client: usize) {
        let now = self.now();
        if self.clients[client].pending.is_none() {
            let state = &self.clients[client];
            let value = format!("{client}:{}", state.sequence);
            let mut batch = batch(&[&value]);
            if !self.reckless {
                // Sequence numbers would stop a client for good whose records were lost.
                batch = batch.producer(state.producer_id, 0, state.sequence);
            }
            let request = self.world.produce_request("t", &batch, -1);
            let request = ProduceRequest { timeout_ms: 300, ..request };
            let sent = Sent { connection: ConnectionId(0), at: Instant(0) };
            self.clients[client].pending = Some((batch, request, sent));
        }
        let (batch, request, sent) = self.clients[client].pending.take().expect("just set");
        let connection = sent.connection;
        let answer = self.world.answer::<ProduceRequest>(connection, 13).map(|r| first(&r));
        match answer.map(|answer| (code(&answer), answer.base_offset)) {
            Some((ErrorCode::None, offset)) => {
                let state = &mut self.clients[client];
                state.acked.push((offset, format!("{client}:{}", state.sequence)));
                state.sequence += 1;
            }
            Some((code, _)) => {
                // A deposed leader that has not heard of it lacks what its successor has.
                let stale = code == ErrorCode::OutOfOrderSequenceNumber;
                assert!(stale || code.is_retriable(), "{code:?}");
                let sent = Sent { at: Instant(0), ..sent };
                self.clients[client].pending = Some((batch, request, sent));
            }
            None if now.since(sent.at) < Duration::from_millis(600) => {
                self.clients[client].pending = Some((batch, request, sent));
            }
            None => {
                let guess = 1 + (self.random.next() % 3) as i32;
                let node = self.world.cluster.leader("t", 0).map_or(guess, |leader| leader.0);
                let node = if self.chance(100) { guess } else { node };
                // A frozen node's clients wait; a dead one's are refused.
                let reached =
                    self.world.cluster.is_running(node) && !self.frozen.contains_key(&node);
                let connection = self.world.connect(node);
                if reached {
                    self.world.correlation_id += 1;
                    let id = self.world.correlation_id;
                    let mut frame = Vec::new();
                    frame::put_request(&mut frame, &request, 13, id, None).expect("encode");
                    let frame = Bytes::from(frame).slice(4..);
                    let now = self.world.now;
                    self.world.cluster.handle_frame(now, node, connection, frame);
                }
                let sent = Sent { connection, at: now };
                self.clients[client].pending = Some((batch, request, sent));
            }
        }
    }

    fn heal(&mut self) {
        self.odds = Odds { drop: 0, double: 0, delay_ms: 2, fault: 0 };
        let now = self.now();
        self.down.values_mut().for_each(|at| *at = now);
        self.frozen.values_mut().for_each(|at| *at = now);
        self.cut_until = now;
    }

    fn judge(&mut self) -> usize {
        let leader = self.world.leader();
        assert_eq!(self.world.cluster.isr("t", 0).len(), 3, "all are in sync again");
        if !self.reckless {
            self.judge_acked(leader);
        }
        self.judge_replicas(leader);
        self.clients.iter().map(|client| client.acked.len()).sum()
    }

    fn judge_acked(&mut self, leader: i32) {
        let values = self.world.values(leader);
        let all: BTreeSet<&String> = values.iter().collect();
        assert_eq!(all.len(), values.len(), "no record is there twice");
        for client in &self.clients {
            for (offset, value) in &client.acked {
                assert_eq!(values.get(*offset as usize), Some(value), "at {offset}");
            }
        }
    }

    fn judge_replicas(&mut self, leader: i32) {
        let leader_records = self.world.cluster.records(leader, "t", 0).expect("records");
        let high = self.world.cluster.high_watermark(leader, "t", 0).expect("leader");
        for node in 1..=3 {
            let mut records = self.world.cluster.records(node, "t", 0).expect("records");
            records.retain(|record| record.offset < high);
            assert_eq!(records, leader_records[..records.len()], "node {node}");
            assert_eq!(records.len() as i64, high);
        }
        let logs: Vec<_> = self.truth.logs.values().collect();
        for log in &logs {
            let below = |log: &BTreeMap<i64, Bytes>| -> Vec<Bytes> {
                log.range(..high).map(|(_, batch)| batch.clone()).collect()
            };
            assert_eq!(below(log), below(logs[0]), "replicas are identical to the byte");
        }
        for (base, stored) in logs[0].range(..high) {
            assert_eq!(Header::new(stored).map(|h| h.base_offset()), Some(*base));
        }
    }
}

/// What a seed came to.
fn run(seed: u64, reckless: bool) -> (usize, Truth) {
    let mut chaos = Chaos::new(seed, reckless);
    chaos.run(CHAOS_MS, true);
    chaos.heal();
    let before: Vec<usize> = chaos.clients.iter().map(|client| client.acked.len()).collect();
    chaos.run(2_000, false);
    for (client, before) in chaos.clients.iter().zip(before) {
        assert!(client.acked.len() > before + 10, "all go on after the faults");
    }
    // The clients stop, so that the replicas can become equal.
    chaos.clients.iter_mut().for_each(|client| client.pending = None);
    chaos.world.pump();
    let flying = std::mem::take(&mut chaos.flying);
    chaos.world.wire.extend(flying.into_values());
    chaos.world.advance(2_000);
    for event in std::mem::take(&mut chaos.world.traces) {
        chaos.truth.note(&event);
    }
    (chaos.judge(), chaos.truth)
}

/// Runs many seeds; the result is the sum of what was acknowledged, elections, unclean ones, and
/// truncations.
fn run_all(seeds: u64, reckless: bool) -> [usize; 4] {
    let mut total = [0; 4];
    let mut failed = Vec::new();
    for seed in 0..seeds {
        let Ok((acked, truth)) = std::panic::catch_unwind(|| run(seed, reckless)) else {
            failed.push(seed);
            continue;
        };
        let seen = [acked, truth.elections, truth.unclean, truth.truncations];
        total.iter_mut().zip(seen).for_each(|(sum, count)| *sum += count);
    }
    assert!(failed.is_empty(), "seeds {failed:?} fail");
    total
}

fn seeds(otherwise: u64) -> u64 {
    option_env!("CLUSTER_SEEDS").map_or(otherwise, |seeds| seeds.parse().expect("a number"))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_doubled_or_moved() {
    let seeds = seeds(SEEDS);
    let [acked, elections, unclean, truncations] = run_all(seeds, false);
    assert!(acked > 100 * seeds as usize && elections > 2 * seeds as usize, "{acked} {elections}");
    assert!(unclean == 0 && truncations > 0);
}

#[test]
fn replicas_agree_in_the_end_whatever_was_lost() {
    let [_, _, unclean, truncations] = run_all(seeds(SEEDS / 4), true);
    assert!(unclean > 0 && truncations > 0);
}
