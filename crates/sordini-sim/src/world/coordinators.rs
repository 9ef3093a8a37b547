//! The coordinators' side of a world with transactions: how the brokers are set, what strikes
//! coordinators and those who ask them, and what readers of committed records see meanwhile.

use std::time::Duration;

use sordini_broker::protocol::ApiKey;
use sordini_broker::{BrokerConfig, TopicConfig, TransactionVersion};

use super::forgotten::TRANSACTION_STATE;
use super::{Event, World};
use crate::book::{Entry, Glimpse, Line, Marked};
use crate::faults::{Deed, Fault};
use crate::history::{Tp, identify};
use crate::plan::Plan;
use crate::rng::{Rng, mix};
use crate::transactions::{INPUT_PARTITIONS, INPUTS, group};

/// The topics that coordinators keep their state in.
const COORDINATED: [&str; 2] = [TRANSACTION_STATE, "__consumer_offsets"];
/// How often committed records are read while faults strike.
const GLIMPSES: Duration = Duration::from_millis(1300);

/// What is to be done when the so-many-th request of a kind arrives anywhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    number: usize,
    api: ApiKey,
    left: u16,
    deed: Deed,
}

/// What a fault has stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fallen {
    Node(i32),
    /// A producer with the transactional id of this number.
    Producer(u16),
}

fn version(level: i16) -> TransactionVersion {
    TransactionVersion::from_level(level).unwrap_or_default()
}

/// Sets the brokers of a world with transactions.
pub(super) fn configure(config: &mut BrokerConfig, plan: &Plan) {
    let Some(habits) = &plan.transactions else { return };
    config.transaction_version = version(habits.version);
    config.transaction_abort_interval = Duration::from_millis(habits.looks);
    config.transaction_partitions = 2;
    config.offsets_partitions = 2;
}

impl World<'_> {
    pub(super) fn begin_transactions(&mut self) {
        if self.plan.transactions.is_none() {
            return;
        }
        let replication = self.plan.nodes.min(3) as i16;
        let config = TopicConfig::default();
        let made = self.cluster.create_topic(INPUTS, INPUT_PARTITIONS, replication, config);
        made.expect("the cluster is whole");
        self.drain_cluster();
        self.net.kin = (0..self.plan.workload.producers).collect();
        self.after(GLIMPSES, Event::Glimpse);
    }

    // ---- faults

    /// Faults of coordinators and of processes with transactional ids.
    pub(super) fn strike_transactions(&mut self, number: usize, fault: Fault) {
        match fault {
            Fault::CrashProducer(kin) => {
                if let Some(client) = self.instance_of(kin).filter(|_| self.has_transactions()) {
                    self.felt.insert(number);
                    self.crash(client);
                    self.fallen.insert(number, Fallen::Producer(kin));
                }
            }
            Fault::TwinProducer(kin) => {
                if self.has_transactions() && kin < self.plan.workload.producers {
                    self.felt.insert(number);
                    self.spawn(kin);
                }
            }
            Fault::MoveCoordinators => self.move_coordinators(number),
            Fault::Version(level) => {
                self.felt.insert(number);
                self.set_version(level);
            }
            Fault::AtRequest { api, nth, deed } => {
                self.armed.push(Armed { number, api, left: nth, deed });
            }
            fault => self.net.begin(self.now, number, fault),
        }
    }

    /// They end.
    pub(super) fn relieve_transactions(&mut self, number: usize, fault: Fault) {
        self.armed.retain(|armed| armed.number != number);
        match self.fallen.remove(&number) {
            Some(Fallen::Node(node)) => self.start_node(node),
            Some(Fallen::Producer(kin)) => {
                self.spawn(kin);
            }
            None => {}
        }
        if let (Fault::Version(_), Some(habits)) = (fault, &self.plan.transactions) {
            self.set_version(habits.version);
        }
        self.net.end(self.now, number);
    }

    fn has_transactions(&self) -> bool {
        self.plan.transactions.is_some()
    }

    fn set_version(&mut self, level: i16) {
        self.cluster.set_transaction_version(version(level));
        self.drain_cluster();
    }

    /// Every coordinator's partition moves to another that is in sync.
    fn move_coordinators(&mut self, number: usize) {
        let mut rng = Rng::new(mix(self.plan.seed ^ number as u64));
        for topic in COORDINATED {
            for partition in 0..self.cluster.partitions(topic) {
                let leader = self.cluster.leader(topic, partition).map_or(-1, |(leader, _)| leader);
                let isr = self.cluster.isr(topic, partition);
                let others: Vec<i32> = isr.into_iter().filter(|node| *node != leader).collect();
                if !others.is_empty()
                    && self.cluster.move_leader(topic, partition, rng.pick(&others))
                {
                    self.felt.insert(number);
                }
            }
        }
        self.drain_cluster();
    }

    /// What is to be done at this request, if anything.
    pub(super) fn deed(&mut self, frame: &[u8]) -> Option<(usize, Deed)> {
        if self.armed.is_empty() || self.healed {
            return None;
        }
        let api = frame.first_chunk::<2>().map(|it| i16::from_be_bytes(*it))?;
        let of_kind = self.armed.iter().position(|armed| armed.api.code() == api)?;
        let armed = self.armed.get_mut(of_kind)?;
        armed.left = armed.left.saturating_sub(1);
        if armed.left > 0 {
            return None;
        }
        let armed = self.armed.remove(of_kind);
        Some((armed.number, armed.deed))
    }

    pub(super) fn do_deed(&mut self, number: usize, deed: Deed, conn: u64, node: i32) {
        match deed {
            Deed::KillBefore | Deed::KillAfter => {
                if self.cluster.is_running(node) {
                    self.felt.insert(number);
                    self.stop_node(node, false);
                    self.fallen.insert(number, Fallen::Node(node));
                }
            }
            Deed::Crash => {
                let client = self.net.conns.get(&conn).map(|conn| conn.producer);
                let Some(client) = client.filter(|_| self.has_transactions()) else { return };
                if let Some(transactor) = self.transactors.get(usize::from(client)) {
                    self.felt.insert(number);
                    self.fallen.insert(number, Fallen::Producer(transactor.kin));
                    self.crash(client);
                }
            }
            Deed::Move => self.move_coordinators(number),
        }
    }

    // ---- readers

    /// Reads what is committed, wherever it can be read.
    pub(super) fn glimpse(&mut self) {
        if self.healed {
            return;
        }
        for tp in self.partitions() {
            let name = self.plan.topics[usize::from(tp.0)].name.clone();
            if self.plan.deletes(tp.0) {
                continue;
            }
            let Some((leader, _)) = self.cluster.leader(&name, tp.1) else { continue };
            if let Ok(ids) = self.visible_at(leader, &name, tp.1) {
                self.book.glimpses.push(Glimpse { at: self.now, tp, ids });
            }
        }
        self.after(GLIMPSES, Event::Glimpse);
    }

    fn visible_at(&mut self, node: i32, topic: &str, partition: i32) -> Result<Vec<u64>, String> {
        let records = self.cluster.committed_records(node, topic, partition);
        let records = records.map_err(|error| error.to_string())?;
        let id = |record: &sordini_broker::StoredRecord| {
            let headers = record.headers.iter();
            let headers = headers.map(|(name, value)| (name.as_slice(), value.as_deref()));
            identify(record.value.as_deref(), headers)
        };
        Ok(records.iter().filter_map(id).collect())
    }

    // ---- evidence

    /// Takes down what became of transactions.
    pub(super) fn close_book(&mut self, wrong: &mut Vec<String>) {
        if !self.has_transactions() {
            return;
        }
        for tp in self.partitions() {
            let name = self.plan.topics[usize::from(tp.0)].name.clone();
            let Some((leader, _)) = self.cluster.leader(&name, tp.1) else { continue };
            match self.visible_at(leader, &name, tp.1) {
                Ok(ids) => {
                    self.book.visible.insert(tp, ids);
                }
                Err(error) => wrong.push(format!("{name}-{} can't be read: {error}", tp.1)),
            }
            let lines = self.lines_at(leader, tp, &name);
            self.book.lines.insert(tp, lines);
        }
        for kin in 0..self.plan.workload.producers {
            for partition in 0..INPUT_PARTITIONS {
                if let Some(offset) = self.group_offset(kin, partition) {
                    self.book.offsets.insert((kin, partition), offset);
                }
            }
        }
        for (at, trace) in &self.traces {
            if let Some((tp, writer, commit)) = self.marker_of(trace) {
                self.book.markers.push(Marked { at: *at, tp, writer, commit });
            }
        }
        self.note_forgotten();
        self.book.stuck = self.stuck();
    }

    /// Records and markers of a partition, in order, as far as they are committed.
    fn lines_at(&mut self, node: i32, tp: Tp, topic: &str) -> Vec<Line> {
        use sordini_broker::log::marker::TransactionResult;
        let Some(broker) = self.cluster.broker(node) else { return Vec::new() };
        let end = broker.partition_state(topic, tp.1).map_or(0, |state| state.high_watermark);
        let records = broker.records(topic, tp.1).unwrap_or_default();
        let markers = broker.markers(topic, tp.1).unwrap_or_default();
        let of_records = records.into_iter().filter_map(|record| {
            let headers = record.headers.iter();
            let headers = headers.map(|(name, value)| (name.as_slice(), value.as_deref()));
            let id = identify(record.value.as_deref(), headers)?;
            let writer = (record.producer_id, record.producer_epoch);
            Some(Line { offset: record.offset, writer, entry: Entry::Record(id) })
        });
        let of_markers = markers.into_iter().map(|(offset, marker)| {
            let writer = (marker.producer_id, marker.producer_epoch);
            let commit = marker.result == TransactionResult::Commit;
            Line { offset, writer, entry: Entry::Marker { commit } }
        });
        let mut lines: Vec<Line> = of_records.chain(of_markers).collect();
        lines.retain(|line| line.offset < end);
        lines.sort_by_key(|line| line.offset);
        lines
    }

    fn group_offset(&mut self, kin: u16, partition: i32) -> Option<i64> {
        let group = group(kin);
        (1..=self.plan.nodes).find_map(|node| {
            self.cluster.broker(node)?.committed_offset(&group, INPUTS, partition).ok().flatten()
        })
    }

    /// Partitions of which a reader of committed records can't read all.
    pub(super) fn stuck(&mut self) -> Vec<(Tp, String)> {
        let mut stuck = Vec::new();
        for tp in self.partitions() {
            let name = self.plan.topics[usize::from(tp.0)].name.clone();
            let Some((leader, _)) = self.cluster.leader(&name, tp.1) else { continue };
            let Some(state) = self.cluster.state(leader, &name, tp.1) else { continue };
            if state.last_stable < state.high_watermark {
                let open = self.cluster.broker(leader).map(|it| it.open_transactions(&name, tp.1));
                let text = format!(
                    "the last stable offset is {}, the high watermark {}; open: {:?}",
                    state.last_stable,
                    state.high_watermark,
                    open.and_then(Result::ok)
                );
                stuck.push((tp, text));
            }
        }
        stuck
    }
}
