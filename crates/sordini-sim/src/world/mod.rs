//! The world: producers, a cluster, the network between them, and time, in one thread.

mod application;
mod cluster;
mod coordinators;
mod events;
mod finish;
mod forgotten;
mod pace;
mod producers;
mod settling;
mod telling;
mod transactor;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sordini_broker::{Cluster, ClusterConfig, ClusterTrace, FaultHandle, Peer, PeerMessage};
use sordini_core::batch::stages::Compressed;
use sordini_core::config::Config;
use sordini_core::time::Instant;
use sordini_core::wire::compress::Compressor;
use sordini_protocol::Uuid;

use crate::book::{Book, Instance};
use crate::checkers::{Evidence, Promise, Violation};
use crate::clock;
use crate::coverage::Coverage;
use crate::disks::Disk;
use crate::hash::EventHash;
use crate::heap::EventQueue;
use crate::history::History;
use crate::net::{Net, NetEvent};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::timeline::Timeline;
use application::Application;
use coordinators::Armed;
use forgotten::Memories;
use producers::Client;
use transactor::Transactor;

/// More steps than this at one moment is something that turns in circles (P8).
const STEPS_AT_ONCE: u64 = 40_000;

/// What is to happen.
enum Event {
    Net(NetEvent),
    Peer {
        from: Peer,
        to: Peer,
        message: PeerMessage,
    },
    Compressed(u16, Compressed),
    /// An application goes on.
    Work(u16),
    /// A send has waited for `max.block.ms`.
    GiveUp(u16, u64),
    FaultBegins(usize),
    FaultEnds(usize),
    Heal,
    StartNode(i32),
    /// Somebody reads what is committed.
    Glimpse,
}

/// A message among nodes that the active faults concern.
#[derive(Clone, Copy, Debug)]
struct PeerRule {
    number: usize,
    fault: crate::faults::Fault,
}

/// Whether a node runs, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// The process is gone, the machine runs.
    Down,
    /// The machine is gone.
    Off,
}

pub(crate) struct World<'a> {
    plan: &'a Plan,
    config: Config,
    now: Instant,
    queue: EventQueue<Event>,
    hash: EventHash,
    steps: u64,
    steps_now: u64,
    net: Net,
    cluster: Cluster,
    disks: BTreeMap<i32, Disk>,
    power: BTreeMap<i32, Power>,
    paused: BTreeSet<i32>,
    /// Nodes that are shutting down, and those of them that are to be started again.
    leaving: BTreeSet<i32>,
    wanted: BTreeSet<i32>,
    clients: Vec<Client>,
    applications: Vec<Application>,
    /// One for each producer, where there are transactions.
    transactors: Vec<Transactor>,
    book: Book,
    /// What logs hold of transactions, and what of it they lost.
    memories: Memories,
    /// What is to be done when a request of a kind arrives.
    armed: Vec<Armed>,
    /// Processes that faults have stopped, to be started at their end.
    fallen: BTreeMap<usize, coordinators::Fallen>,
    history: History,
    /// Topics by id, and which ids are of now.
    topics: BTreeMap<Uuid, u16>,
    traces: Vec<(Instant, ClusterTrace)>,
    evidence: Evidence,
    pub(crate) coverage: Coverage,
    peer_rules: Vec<PeerRule>,
    peer_rng: Rng,
    codec_delay: Duration,
    compressor: Compressor,
    /// Nodes of which so many answers go out twice, and the fault that makes them.
    doubled: BTreeMap<i32, (usize, u16)>,
    /// Orders to nodes, by the fault.
    orders: BTreeMap<usize, FaultHandle>,
    felt: BTreeSet<usize>,
    healed: bool,
    /// Promises that were broken before everybody's eyes.
    live: Vec<Violation>,
    /// What happens, where somebody wants it told.
    timeline: Option<Timeline>,
}

impl<'a> World<'a> {
    pub(crate) fn new(plan: &'a Plan, config: Config) -> Self {
        let mut rng = Rng::stream(plan.seed, 20);
        let mut cluster_config = ClusterConfig::default();
        cluster_config.nodes = plan.nodes;
        cluster_config.seed = plan.seed;
        cluster_config.traced = true;
        cluster_config.broker.fsync = plan.fsync;
        cluster_config.broker.auto_create_topics = false;
        cluster_config.broker.produce_log_limit = 1;
        cluster_config.broker.versions = plan.scenery.versions();
        cluster_config.broker.produce_quota = plan.scenery.quota;
        cluster_config.unclean_elections = plan.unclean;
        cluster_config.heartbeat = Duration::from_millis(300);
        cluster_config.session_timeout = Duration::from_millis(rng.pick(&[900, 1500, 3000]));
        cluster_config.replica_lag_time_max = Duration::from_millis(rng.pick(&[800, 2000, 5000]));
        cluster_config.replica_fetch_wait = Duration::from_millis(rng.pick(&[100, 500]));
        cluster_config.strict_min_isr = rng.chance(700);
        let nodes = 1..=plan.nodes;
        let promise = Promise::of(&config, plan.survivable);
        coordinators::configure(&mut cluster_config.broker, plan);
        let kin = 0..plan.workload.producers;
        let clients = kin.clone().map(|at| Client::new(plan, &config_of(plan, &config, at), at));
        let clients: Vec<Client> = clients.collect();
        let transactional = kin.filter(|_| plan.transactions.is_some());
        let instances = transactional.clone().map(Instance::new).collect();
        let request_timeout = config.request_timeout;
        let describes = plan.scenery.describes();
        let book = Book { instances, request_timeout, describes, ..Book::default() };
        Self {
            now: Instant::from_millis(1),
            queue: EventQueue::default(),
            hash: EventHash::default(),
            steps: 0,
            steps_now: 0,
            net: Net::new(plan.seed),
            cluster: Cluster::new(cluster_config),
            disks: nodes.clone().map(|node| (node, Disk::new(plan.seed, node))).collect(),
            power: nodes.map(|node| (node, Power::Off)).collect(),
            paused: BTreeSet::new(),
            leaving: BTreeSet::new(),
            wanted: BTreeSet::new(),
            applications: (0..clients.len()).map(|at| Application::new(plan, at as u16)).collect(),
            clients,
            transactors: transactional.map(|at| Transactor::new(plan, at, at)).collect(),
            book,
            memories: Memories::default(),
            armed: Vec::new(),
            fallen: BTreeMap::new(),
            history: History::default(),
            topics: BTreeMap::new(),
            traces: Vec::new(),
            evidence: Evidence::new(promise),
            coverage: Coverage::default(),
            peer_rules: Vec::new(),
            peer_rng: Rng::stream(plan.seed, 21),
            codec_delay: Duration::from_micros(20),
            compressor: Compressor::default(),
            doubled: BTreeMap::new(),
            orders: BTreeMap::new(),
            felt: BTreeSet::new(),
            healed: false,
            live: Vec::new(),
            timeline: None,
            plan,
            config,
        }
    }

    /// The settings of a producer.
    fn config_of(&self, kin: u16) -> Config {
        config_of(self.plan, &self.config, kin)
    }

    /// Lives through it, and hands over what happened.
    pub(crate) fn run(&mut self) {
        self.begin();
        let chaos = Instant::from_millis(self.plan.chaos);
        self.run_until(chaos, |_| false);
        self.finish();
    }

    fn begin(&mut self) {
        self.tick();
        for node in 1..=self.plan.nodes {
            self.cluster.set_address(node, crate::settings::host(node), crate::settings::PORT);
            self.start_node(node);
        }
        // Topics are made once all nodes are known.
        self.run_until(Instant::from_millis(100), |world| {
            (1..=world.plan.nodes).all(|node| world.cluster.is_live(node))
        });
        for at in 0..self.plan.topics.len() {
            self.create_topic(at as u16);
        }
        self.begin_transactions();
        for (number, fault) in self.plan.faults.iter().enumerate() {
            self.queue.push(Instant::from_millis(fault.at.max(150)), Event::FaultBegins(number));
        }
        self.queue.push(Instant::from_millis(self.plan.chaos), Event::Heal);
        for at in 0..self.clients.len() {
            self.queue.push(Instant::from_millis(120), Event::Work(at as u16));
        }
    }

    // ---- time

    fn broker_now(&self) -> sordini_broker::Now {
        let mono = sordini_broker::Instant(self.now.as_nanos());
        sordini_broker::Now { mono, wall_ms: clock::wall(self.now) }
    }

    /// Tells everybody's clock the time.
    fn tick(&mut self) {
        for client in self.clients.iter().filter(|client| !client.is_gone()) {
            client.clock.set(self.now);
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.queue.push(self.now.saturating_add(delay), event);
    }

    fn advance_to(&mut self, at: Instant) {
        if at > self.now {
            self.now = at;
            self.steps_now = 0;
            self.tick();
        }
    }

    /// Runs until `end` or until it holds. Returns whether it holds.
    fn run_until(&mut self, end: Instant, mut holds: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if holds(self) {
                return true;
            }
            if !self.step(end) {
                self.advance_to(end);
                return false;
            }
        }
    }

    /// Does the next thing; false if there is none up to `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.steps += 1;
        self.steps_now += 1;
        assert!(
            self.steps_now < STEPS_AT_ONCE,
            "P8: a busy loop at {} ms: {}",
            clock::millis(self.now),
            self.who_is_busy()
        );
        if self.serve_producers() {
            return true;
        }
        let event = self.queue.next_at();
        let cluster = self.cluster.poll_timeout().map(|at| Instant::from_nanos(at.0));
        let producer = self.next_producer_timer();
        let timer = producer.map(|(at, _)| at);
        let Some(first) = [event, cluster, timer].into_iter().flatten().min() else { return false };
        if first > end {
            return false;
        }
        self.advance_to(first);
        if event.is_some_and(|at| at <= self.now) {
            if let Some((_, event)) = self.queue.pop() {
                self.happen(event);
            }
        } else if cluster.is_some_and(|at| at <= self.now) {
            self.hash.number(0xc1);
            let now = self.broker_now();
            self.cluster.handle_timeout(now);
            self.drain_cluster();
        } else if let Some((_, client)) = producer {
            self.fire_timer(client);
        }
        true
    }

    fn who_is_busy(&self) -> String {
        let cluster = self.cluster.poll_timeout();
        let producers: Vec<_> = self.clients.iter().map(|it| it.producer.poll_timeout()).collect();
        let next = self.queue.next_at();
        format!("events {next:?}, cluster {cluster:?}, producers {producers:?}")
    }

    /// How many things were done.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.value()
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Faults of which something was felt, by their number in the plan.
    pub(crate) fn felt(&self) -> BTreeSet<usize> {
        let mut felt = self.felt.clone();
        felt.extend(self.net.felt.iter().copied());
        felt
    }
}

/// The settings of a producer: each has a `transactional.id` of its own.
fn config_of(plan: &Plan, config: &Config, kin: u16) -> Config {
    let mut own = config.clone();
    if plan.transactions.is_some() {
        own.transactional_id = config.transactional_id.as_ref().map(|id| format!("{id}-{kin}"));
    }
    own
}
