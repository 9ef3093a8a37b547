//! Logs that lost what was committed of transactions, and what a cluster's operator does then.
//!
//! Where faults go beyond what replication survives, `__transaction_state` loses records as any
//! topic does. Its coordinator then knows nothing of a transaction that is open in partitions, or
//! something older, and nobody ends it. Or a partition loses the marker of a transaction that its
//! coordinator has long completed. Either hangs, in Kafka as here. Kafka's remedies are an abort by
//! hand (KIP-664) and another transactional id; whoever lost nothing gets neither.

use std::collections::{BTreeMap, BTreeSet};

use sordini_broker::ClusterTrace;
use sordini_broker::cluster::PartitionId;
use sordini_core::time::Instant;
use sordini_protocol::records::Batch;

use super::World;
use crate::history::Tp;
use crate::timeline::Weight;

/// The topic of the coordinators of transactions.
pub(super) const TRANSACTION_STATE: &str = "__transaction_state";
/// Bytes before the id in a record's key: its version, and the id's length.
const BEFORE_ID: usize = 4;

/// What logs hold of transactions, and what of it was lost.
#[derive(Debug, Default)]
pub(super) struct Memories {
    logs: BTreeMap<PartitionId, Memory>,
    /// Transactional ids of which something committed was lost, and when that was found.
    forgotten: Vec<(String, Instant)>,
    /// Partitions and producer ids of which a committed marker was lost, and when that was found.
    unended: Vec<(PartitionId, i64, Instant)>,
}

/// What the log of a partition holds of transactions.
#[derive(Debug, Default)]
struct Memory {
    /// The newest term that began.
    leader_epoch: i32,
    /// The end of what was committed.
    committed: i64,
    entries: BTreeMap<i64, Entry>,
}

/// What a record says of transactions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    /// A coordinator's, where a transactional id stands.
    State(String),
    /// A marker: the transaction of this producer id is over.
    End(i64),
}

impl Memories {
    /// When something that was committed of the id was found to be lost, in order.
    fn lost<'a>(&'a self, id: &'a str) -> impl DoubleEndedIterator<Item = Instant> + 'a {
        self.forgotten.iter().filter(move |(of, _)| of == id).map(|(_, at)| *at)
    }

    /// When a committed marker of the producer id was last found to be lost in the partition.
    fn lost_end(&self, topic: &str, partition: i32, producer_id: i64) -> Option<Instant> {
        let of_it = |(at, id, _): &&(PartitionId, i64, Instant)| {
            &*at.topic == topic && at.partition == partition && *id == producer_id
        };
        self.unended.iter().rfind(of_it).map(|(_, _, at)| *at)
    }

    pub(super) fn note(&mut self, now: Instant, trace: &ClusterTrace) {
        match trace {
            ClusterTrace::Appended { at, as_leader: true, leader_epoch, batch, .. } => {
                let entries = entries(at, batch);
                if let Some(memory) = self.memory(at, *leader_epoch) {
                    memory.entries.extend(entries);
                }
            }
            ClusterTrace::HighWatermark { at, offset, leader_epoch, as_leader: true, .. } => {
                if let Some(memory) = self.memory(at, *leader_epoch) {
                    memory.committed = memory.committed.max(*offset);
                }
            }
            ClusterTrace::Leads { at, leader_epoch, start, .. } => {
                self.begin_term(now, at, *leader_epoch, *start);
            }
            _ => {}
        }
    }

    /// A term begins with a log that ends at `start`: what was committed beyond is lost.
    fn begin_term(&mut self, now: Instant, at: &PartitionId, leader_epoch: i32, start: i64) {
        let Some(memory) = self.memory(at, leader_epoch) else { return };
        memory.leader_epoch = leader_epoch;
        let mut lost = memory.entries.split_off(&start);
        let uncommitted = lost.split_off(&memory.committed.max(start));
        drop(uncommitted);
        memory.committed = memory.committed.min(start);
        for entry in lost.into_values().collect::<BTreeSet<Entry>>() {
            match entry {
                Entry::State(id) => self.forgotten.push((id, now)),
                Entry::End(producer_id) => self.unended.push((at.clone(), producer_id, now)),
            }
        }
    }

    /// What a partition holds, unless a later term has begun.
    fn memory(&mut self, at: &PartitionId, leader_epoch: i32) -> Option<&mut Memory> {
        let memory = self.logs.entry(at.clone()).or_default();
        Some(memory).filter(|memory| leader_epoch >= memory.leader_epoch)
    }
}

/// Offsets of a batch, and what its records say of transactions.
fn entries(at: &PartitionId, batch: &[u8]) -> Vec<(i64, Entry)> {
    let Ok(batch) = Batch::parse(batch) else { return Vec::new() };
    let header = batch.header();
    if header.is_control() {
        return vec![(header.base_offset, Entry::End(header.producer_id))];
    }
    if &*at.topic != TRANSACTION_STATE {
        return Vec::new();
    }
    let Ok(plain) = batch.decompress(1 << 20) else { return Vec::new() };
    let records = plain.iter().flatten();
    let of = records.filter_map(|record| {
        let id = record.key?.get(BEFORE_ID..)?;
        Some((record.offset, Entry::State(String::from_utf8_lossy(id).into_owned())))
    });
    of.collect()
}

impl World<'_> {
    /// Takes note of what logs hold, where they may lose it: never where replication survives all
    /// that goes wrong.
    pub(super) fn remember(&mut self, now: Instant, trace: &ClusterTrace) {
        if self.plan.transactions.is_some() && !self.plan.survivable {
            self.memories.note(now, trace);
        }
    }

    /// When the coordinator of a transactional id was last found to have lost something of it.
    pub(super) fn forgotten(&self, kin: u16) -> Option<Instant> {
        self.memories.lost(&self.config_of(kin).transactional_id?).next_back()
    }

    /// Takes down what coordinators lost.
    pub(super) fn note_forgotten(&mut self) {
        for kin in 0..self.plan.workload.producers {
            let Some(id) = self.config_of(kin).transactional_id else { continue };
            self.book.forgotten.extend(self.memories.lost(&id).map(|at| (kin, at)));
        }
    }

    /// Aborts by hand what hangs in partitions because a log lost its end. Returns whether there
    /// was any.
    pub(super) fn abort_hanging(&mut self) -> bool {
        let now = self.broker_now();
        let mut any = false;
        for tp in self.partitions() {
            let name = self.plan.topics[usize::from(tp.0)].name.clone();
            let Some((leader, _)) = self.cluster.leader(&name, tp.1) else { continue };
            let open = self.cluster.broker(leader).map(|it| it.open_transactions(&name, tp.1));
            for open in open.and_then(Result::ok).unwrap_or_default() {
                let id = open.producer_id;
                if !self.hangs(tp, id, open.first_offset) {
                    continue;
                }
                let done = self.cluster.abort_transaction(now, leader, &name, tp.1, id);
                let what = format!(
                    "aborts in {name}-{} the transaction of producer id {id}, whose end is lost: \
                     {done:?}",
                    tp.1
                );
                self.tell(Weight::World, "operator".to_owned(), what);
                self.coverage.meet("operator: aborted a hanging transaction", 1);
                any |= done.is_ok();
            }
        }
        self.drain_cluster();
        any
    }

    /// Was something of the transaction lost since it began here: by the coordinator of its producer
    /// id, or its marker by the partition?
    fn hangs(&self, tp: Tp, producer_id: i64, first_offset: i64) -> bool {
        let has_it = |at: &usize| {
            let epochs = &self.clients[*at].monitor.epochs;
            epochs.range((producer_id, i16::MIN)..=(producer_id, i16::MAX)).next().is_some()
        };
        let owner = (0..self.transactors.len()).find(has_it);
        let forgotten = owner.and_then(|at| self.forgotten(self.transactors[at].kin));
        let topic = &self.plan.topics[usize::from(tp.0)].name;
        let unended = self.memories.lost_end(topic, tp.1, producer_id);
        let Some(lost) = forgotten.max(unended) else { return false };
        let began = self.traces.iter().rev().find_map(|(at, trace)| match trace {
            ClusterTrace::Appended { at: of, base_offset, .. }
                if *base_offset == first_offset && self.tp(of.id, of.partition) == Some(tp) =>
            {
                Some(*at)
            }
            _ => None,
        });
        began.is_some_and(|began| began <= lost)
    }
}

#[cfg(test)]
mod tests;
