//! The cluster's side: its nodes' lives, what it says, and what really happened in it.

use std::time::Duration;

use sordini_broker::{ClusterOutput, ClusterTrace, Output, Peer, PeerMessage, TopicConfig};
use sordini_protocol::Uuid;

use super::{Event, Power, World};
use crate::checkers::Happening;
use crate::faults::Fault;
use crate::history::Tp;
use crate::net::Door;

impl World<'_> {
    pub(super) fn drain_cluster(&mut self) {
        while let Some(output) = self.cluster.poll_output() {
            match output {
                ClusterOutput::Broker { node, output: Output::Send { connection, frame } } => {
                    if self.is_doubled(node) {
                        self.net.answer(self.now, connection.0, frame.clone());
                    }
                    self.net.answer(self.now, connection.0, frame);
                }
                ClusterOutput::Broker { output: Output::Done { .. }, .. } => {}
                ClusterOutput::Broker { output: Output::Close { connection, .. }, .. } => {
                    self.net.node_closes(self.now, connection.0);
                }
                ClusterOutput::Peer { from, to, message } => self.carry(from, to, &message),
                ClusterOutput::Trace(trace) => self.note(trace),
            }
        }
        self.take_scheduled();
    }

    /// Does this answer of the node go out twice?
    fn is_doubled(&mut self, node: i32) -> bool {
        if self.healed {
            return false;
        }
        let Some((number, left)) = self.doubled.get_mut(&node).filter(|(_, left)| *left > 0) else {
            return false;
        };
        *left -= 1;
        let number = *number;
        self.felt.insert(number);
        true
    }

    /// Carries a message among nodes: late, lost or twice, as the faults of now say.
    fn carry(&mut self, from: Peer, to: Peer, message: &PeerMessage) {
        let number = |peer: Peer| match peer {
            Peer::Controller => 0,
            Peer::Node(node) => node,
        };
        let (source, target) = (number(from), number(to));
        let mut delay = Duration::from_micros(100 + self.peer_rng.below(200));
        let mut copies = 1;
        for rule in &self.peer_rules {
            let struck = match rule.fault {
                Fault::PeerCut(of, at) => {
                    of.is_none_or(|it| it == source) && at.is_none_or(|it| it == target)
                }
                Fault::PeerLoss(rate) => self.peer_rng.chance(u64::from(rate)),
                Fault::PeerDelay(micros) => {
                    delay += self.peer_rng.tailed(Duration::from_micros(micros));
                    self.felt.insert(rule.number);
                    continue;
                }
                Fault::PeerDouble(rate) => {
                    if self.peer_rng.chance(u64::from(rate)) {
                        copies = 2;
                        self.felt.insert(rule.number);
                    }
                    continue;
                }
                _ => false,
            };
            if struck {
                self.felt.insert(rule.number);
                return;
            }
        }
        for copy in 0..copies {
            let delay = delay * (1 + 3 * copy);
            self.after(delay, Event::Peer { from, to, message: message.clone() });
        }
    }

    fn note(&mut self, trace: ClusterTrace) {
        let at = self.now;
        match &trace {
            ClusterTrace::Created { topic, id, .. } => {
                if let Some(number) = topic_number(topic) {
                    self.topics.insert(*id, number);
                }
            }
            ClusterTrace::Deleted { topic, .. } => {
                if let Some(topic) = topic_number(topic) {
                    self.clients.iter_mut().for_each(|client| client.monitor.deleted(topic));
                    self.evidence.happenings.push((at, Happening::Deleted { topic }));
                }
            }
            ClusterTrace::Truncated { node, at: of, to, was, .. } => {
                if let Some(tp) = self.tp(of.id, of.partition) {
                    let happening = Happening::Truncated { node: *node, tp, to: *to, was: *was };
                    self.evidence.happenings.push((at, happening));
                }
            }
            ClusterTrace::Elected { at: of, leader, leader_epoch, clean } => {
                self.coverage.elections += 1;
                if let Some(tp) = self.tp(of.id, of.partition) {
                    let (leader, leader_epoch) = (*leader, *leader_epoch);
                    let clean = *clean;
                    let happening = Happening::Elected { tp, leader, leader_epoch, clean };
                    self.evidence.happenings.push((at, happening));
                }
            }
            ClusterTrace::Halted { node, .. } | ClusterTrace::Stopped { node } => {
                let node = *node;
                self.leaving.remove(&node);
                if self.wanted.remove(&node) || self.healed {
                    self.after(Duration::from_millis(5), Event::StartNode(node));
                }
                self.power.insert(node, Power::Down);
                self.evidence.happenings.push((at, Happening::Stopped { node, power: false }));
                self.net.node_died(at, node, false);
            }
            _ => {}
        }
        self.coverage.trace(&trace);
        self.remember(at, &trace);
        self.tell_cluster(&trace);
        if let ClusterTrace::Appended { as_leader: true, .. } = &trace {
            self.traces.push((at, trace));
        }
    }

    /// A partition of a topic that is there now, or was.
    pub(super) fn tp(&self, id: Uuid, partition: i32) -> Option<Tp> {
        Some((*self.topics.get(&id)?, partition))
    }

    pub(super) fn create_topic(&mut self, number: u16) {
        let plan = &self.plan.topics[usize::from(number)];
        let mut config = TopicConfig::default();
        let insync = plan.min_insync.to_string();
        config.set("min.insync.replicas", &insync).expect("a number of replicas");
        if let Some(bytes) = plan.max_message_bytes {
            config.set("max.message.bytes", &bytes.to_string()).expect("a number of bytes");
        }
        if plan.log_append_time {
            config.set("message.timestamp.type", "LogAppendTime").expect("a type of timestamps");
        }
        let made = self.cluster.create_topic(&plan.name, plan.partitions, plan.replication, config);
        if let Err(error) = made {
            assert!(self.healed || self.now.as_nanos() > 150_000_000, "a topic: {error}");
        }
        self.drain_cluster();
    }

    // ---- the nodes' lives

    pub(super) fn start_node(&mut self, node: i32) {
        if self.cluster.is_running(node) {
            // It is about to stop: it is started again when it has.
            if self.leaving.contains(&node) {
                self.wanted.insert(node);
            }
            return;
        }
        let storage = self.disks.get(&node).map(crate::disks::Disk::storage);
        let Some(storage) = storage else { return };
        let now = self.broker_now();
        // A disk that fails keeps the node down until it is healed.
        let started = self.cluster.start(now, node, storage).is_ok();
        let was = self.power.insert(node, if started { Power::On } else { Power::Down });
        if was == Some(Power::Off) {
            self.net.node_is_back(self.now, node);
        }
        self.drain_cluster();
    }

    /// The process is gone; with `power`, the machine too.
    pub(super) fn stop_node(&mut self, node: i32, power: bool) {
        if !self.cluster.is_running(node) {
            return;
        }
        self.hash.number(0xdead);
        self.cluster.kill(node);
        self.paused.remove(&node);
        self.leaving.remove(&node);
        self.power.insert(node, if power { Power::Off } else { Power::Down });
        self.evidence.happenings.push((self.now, Happening::Stopped { node, power }));
        self.net.node_died(self.now, node, power);
        self.drain_cluster();
    }

    pub(super) fn pause_node(&mut self, node: i32) {
        if self.cluster.is_running(node) {
            self.cluster.pause(node);
            self.paused.insert(node);
        }
    }

    pub(super) fn resume_node(&mut self, node: i32) {
        if !self.paused.remove(&node) {
            return;
        }
        let now = self.broker_now();
        self.cluster.resume(now, node);
        self.drain_cluster();
        let of_it = |(id, conn): (&u64, &crate::net::Conn)| (conn.node == node).then_some(*id);
        let conns: Vec<u64> = self.net.conns.iter().filter_map(of_it).collect();
        conns.into_iter().for_each(|id| self.accept(id));
    }

    /// How a node receives those who connect.
    pub(super) fn door(&self, node: i32) -> Option<Door> {
        match self.power.get(&node)? {
            Power::On => Some(Door::Open),
            Power::Down => Some(Door::Closed),
            Power::Off => Some(Door::Gone),
        }
    }
}

/// The number of a topic of the plan, by its name.
pub(super) fn topic_number(name: &str) -> Option<u16> {
    name.strip_prefix('t')?.parse().ok()
}
