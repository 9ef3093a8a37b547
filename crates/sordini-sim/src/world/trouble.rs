//! Faults begin and end; and when all is over, everything is healed.

use std::time::Duration;

use sordini_broker::protocol::ApiKey;
use sordini_core::time::Instant;

use super::{Event, PeerRule, Power, World};
use crate::checkers::Happening;
use crate::clock::millis;
use crate::faults::{Fault, Twist};
use crate::rng::{Rng, mix};
use crate::timeline::Weight;

impl World<'_> {
    pub(super) fn fault_begins(&mut self, number: usize) {
        if self.healed {
            return;
        }
        let Some(planned) = self.plan.faults.get(number).copied() else { return };
        self.hash.number(0xfa_0000 + number as u64);
        self.tell_fault(number, false);
        if planned.fault.lasts() {
            self.queue.push(Instant::from_millis(planned.until), Event::FaultEnds(number));
        }
        self.strike(number, planned.fault, Instant::from_millis(planned.until));
        self.take_scheduled();
    }

    fn strike(&mut self, number: usize, fault: Fault, until: Instant) {
        match fault {
            Fault::PeerCut(..)
            | Fault::PeerDelay(_)
            | Fault::PeerLoss(_)
            | Fault::PeerDouble(_) => {
                self.peer_rules.push(PeerRule { number, fault });
            }
            Fault::Kill(node) => {
                self.strike_node(number, node, |world| world.stop_node(node, false));
            }
            Fault::PowerLoss(node) => self.strike_node(number, node, |world| world.cut_power(node)),
            Fault::ShutDown(node) => self.strike_node(number, node, |world| {
                let now = world.broker_now();
                world.cluster.shut_down(now, node);
                world.leaving.insert(node);
                world.drain_cluster();
            }),
            Fault::BitRot(node) => {
                self.stop_node(node, false);
                if self.disks.get_mut(&node).is_some_and(crate::disks::Disk::rot) {
                    self.felt.insert(number);
                }
            }
            Fault::StopAtWrite(node, nth) => {
                if let Some(disk) = self.disks.get(&node) {
                    disk.faults.stop_after(u64::from(nth));
                }
            }
            Fault::Pause(node) => self.strike_node(number, node, |world| world.pause_node(node)),
            Fault::NodeSkew(node, ms) => {
                self.felt.insert(number);
                self.cluster.set_wall_skew(node, ms);
            }
            Fault::DiskFull(node, bytes) => {
                if let Some(disk) = self.disks.get(&node) {
                    disk.faults.full_after(u64::from(bytes));
                    self.felt.insert(number);
                }
            }
            Fault::DiskError(node, op, times) => {
                if let Some(disk) = self.disks.get(&node) {
                    disk.fail(op, times);
                    self.felt.insert(number);
                }
            }
            Fault::MoveLeader(topic, partition) => self.move_leader(number, topic, partition),
            Fault::UncleanElection(topic, partition) => self.elect(number, topic, partition),
            Fault::Twist { node, api, nth, times, twist } => {
                self.twist(number, node, api, (nth, times), twist);
            }
            fault => self.strike_elsewhere(number, fault, until),
        }
    }

    /// Faults of producers, of topics and of the network.
    fn strike_elsewhere(&mut self, number: usize, fault: Fault, until: Instant) {
        match fault {
            Fault::Freeze(kin) => {
                let Some(client) = self.instance_of(kin) else { return };
                self.felt.insert(number);
                let now = self.now;
                let it = &mut self.clients[usize::from(client)];
                it.frozen_until = Some(it.frozen_until.unwrap_or(now).max(until));
                self.excuse_pause(client, now, until);
            }
            Fault::ProducerSkew(kin, ms) => {
                let Some(client) = self.instance_of(kin) else { return };
                self.felt.insert(number);
                self.clients[usize::from(client)].clock.set_skew(ms);
            }
            Fault::LateTimers(kin, micros) => {
                let Some(client) = self.instance_of(kin) else { return };
                self.felt.insert(number);
                let late = Duration::from_micros(micros);
                self.clients[usize::from(client)].late = late;
                let now = self.now;
                self.excuse_pause(client, now, until.saturating_add(late));
            }
            Fault::SlowCodec(micros) => {
                self.felt.insert(number);
                self.codec_delay = Duration::from_micros(micros);
            }
            Fault::AddPartitions(topic, more) => {
                let name = &self.plan.topics[usize::from(topic)].name;
                let total = self.cluster.partitions(name) + i32::from(more);
                if self.cluster.add_partitions(name, total).is_ok() {
                    self.felt.insert(number);
                }
                self.drain_cluster();
            }
            Fault::DeleteTopic(topic) => {
                let name = &self.plan.topics[usize::from(topic)].name;
                if self.cluster.delete_topic(name).is_ok() {
                    self.felt.insert(number);
                }
                self.drain_cluster();
            }
            fault => self.strike_transactions(number, fault),
        }
    }

    fn strike_node(&mut self, number: usize, node: i32, strike: impl FnOnce(&mut Self)) {
        if self.cluster.is_running(node) {
            self.felt.insert(number);
            strike(self);
        }
    }

    fn cut_power(&mut self, node: i32) {
        if self.cluster.is_running(node) {
            self.stop_node(node, true);
        } else {
            let happening = Happening::Stopped { node, power: true };
            self.evidence.happenings.push((self.now, happening));
        }
        if let Some(disk) = self.disks.get_mut(&node) {
            disk.lose_power();
        }
    }

    /// Moves to the next member of the ISR.
    fn move_leader(&mut self, number: usize, topic: u16, partition: i32) {
        let name = &self.plan.topics[usize::from(topic)].name;
        let leader = self.cluster.leader(name, partition).map_or(-1, |(leader, _)| leader);
        let isr = self.cluster.isr(name, partition);
        let mut rng = Rng::new(mix(self.plan.seed ^ number as u64));
        let others: Vec<i32> = isr.into_iter().filter(|node| *node != leader).collect();
        if !others.is_empty() && self.cluster.move_leader(name, partition, rng.pick(&others)) {
            self.felt.insert(number);
        }
        self.drain_cluster();
    }

    /// Prefers a replica that is not in sync.
    fn elect(&mut self, number: usize, topic: u16, partition: i32) {
        let name = &self.plan.topics[usize::from(topic)].name;
        let isr = self.cluster.isr(name, partition);
        let leader = self.cluster.leader(name, partition).map_or(-1, |(leader, _)| leader);
        let replicas = self.cluster.replicas(name, partition);
        let behind =
            replicas.iter().find(|node| !isr.contains(node) && self.cluster.is_live(**node));
        let other = replicas.iter().find(|node| **node != leader && self.cluster.is_live(**node));
        let Some(node) = behind.or(other).copied() else { return };
        if self.cluster.elect_unclean(name, partition, node) {
            self.felt.insert(number);
        }
        self.drain_cluster();
    }

    fn twist(&mut self, number: usize, node: i32, api: ApiKey, when: (u16, u16), twist: Twist) {
        let (nth, times) = (u64::from(when.0), u64::from(when.1));
        if twist == Twist::Twice {
            self.doubled.insert(node, (number, when.1));
            return;
        }
        let faults = self.cluster.faults(node);
        let order = faults.on(api).nth(nth).times(times);
        let handle = match twist {
            Twist::Error(code) => order.error(code),
            Twist::ErrorAfter(code) => order.after_append().error(code),
            Twist::Hold(ms) => order.delay(Duration::from_millis(ms)),
            Twist::Silence => order.drop_response_after_append(),
            Twist::CloseBefore => order.close_connection(),
            Twist::CloseAfter => order.after_append().close_connection(),
            Twist::Garbage(len) => {
                let mut rng = Rng::new(mix(self.plan.seed ^ number as u64));
                let bytes: Vec<u8> = (0..len).map(|_| rng.bits() as u8).collect();
                order.respond_raw(bytes)
            }
            Twist::Twice => unreachable!("it is no order to the node"),
        };
        self.orders.insert(number, handle);
    }

    pub(super) fn fault_ends(&mut self, number: usize) {
        let Some(planned) = self.plan.faults.get(number).copied() else { return };
        if self.healed {
            return;
        }
        self.hash.number(0xfe_0000 + number as u64);
        // When all is healed, those that were over long ago end once more.
        if (planned.at..=planned.until).contains(&millis(self.now)) && planned.fault.lasts() {
            self.tell_fault(number, true);
        }
        match planned.fault {
            Fault::PeerCut(..)
            | Fault::PeerDelay(_)
            | Fault::PeerLoss(_)
            | Fault::PeerDouble(_) => {
                self.peer_rules.retain(|rule| rule.number != number);
            }
            Fault::Kill(node)
            | Fault::PowerLoss(node)
            | Fault::ShutDown(node)
            | Fault::BitRot(node) => {
                self.start_node(node);
            }
            Fault::StopAtWrite(node, _) => {
                if self.disks.get(&node).is_some_and(|disk| disk.faults.has_stopped()) {
                    self.felt.insert(number);
                    self.cut_power(node);
                }
                self.mend(node);
                self.start_node(node);
            }
            Fault::Pause(node) => self.resume_node(node),
            Fault::NodeSkew(node, _) => self.cluster.set_wall_skew(node, 0),
            Fault::DiskFull(node, _) | Fault::DiskError(node, ..) => {
                self.mend(node);
                self.start_node(node);
            }
            Fault::Twist { .. } => {
                if let Some(order) = self.orders.remove(&number) {
                    // An order that met no request was felt by nobody.
                    if order.hits() > 0 {
                        self.felt.insert(number);
                    }
                    order.cancel();
                }
                self.doubled.retain(|_, (of, _)| *of != number);
            }
            Fault::ProducerSkew(kin, _) => {
                self.clients_of(kin).for_each(|client| client.clock.set_skew(0));
            }
            Fault::LateTimers(kin, _) => {
                self.clients_of(kin).for_each(|client| client.late = Duration::ZERO);
            }
            Fault::SlowCodec(_) => self.codec_delay = Duration::from_micros(20),
            Fault::DeleteTopic(topic) => {
                let name = &self.plan.topics[usize::from(topic)].name;
                if self.cluster.topic_id(name).is_none() {
                    self.create_topic(topic);
                }
            }
            fault => self.relieve_transactions(number, fault),
        }
        self.take_scheduled();
    }

    /// All lives of a producer of the plan.
    fn clients_of(&mut self, kin: u16) -> impl Iterator<Item = &mut super::Client> {
        let kins: Vec<u16> = (0..self.clients.len() as u16)
            .map(|at| self.transactors.get(usize::from(at)).map_or(at, |it| it.kin))
            .collect();
        let all = self.clients.iter_mut().zip(kins);
        all.filter(move |(_, of)| *of == kin).map(|(client, _)| client)
    }

    fn mend(&self, node: i32) {
        if let Some(disk) = self.disks.get(&node) {
            disk.faults.clear();
        }
    }

    /// Nothing goes wrong any more: what was stopped goes on.
    pub(super) fn heal(&mut self) {
        self.hash.number(0xea);
        self.tell(Weight::World, "FAULT".to_owned(), "all is healed".to_owned());
        for number in 0..self.plan.faults.len() {
            self.fault_ends(number);
        }
        self.healed = true;
        self.note_healed(self.now);
        self.net.heal(self.now);
        self.peer_rules.clear();
        for node in 1..=self.plan.nodes {
            self.cluster.faults(node).clear();
            self.mend(node);
            // A partition whose disk failed is offline until its node is started again.
            if self.power.get(&node) == Some(&Power::On) && self.disk_failed(node) {
                self.stop_node(node, false);
            }
            self.resume_node(node);
            self.start_node(node);
        }
        for client in &mut self.clients {
            client.late = Duration::ZERO;
            client.frozen_until = client.frozen_until.filter(|until| *until > self.now);
        }
        self.take_scheduled();
    }

    fn disk_failed(&self, node: i32) -> bool {
        self.plan.faults.iter().any(|planned| match planned.fault {
            Fault::DiskFull(of, _) | Fault::DiskError(of, ..) | Fault::StopAtWrite(of, _) => {
                of == node
            }
            _ => false,
        })
    }
}
