//! Coordinators whose log lost what was committed, and what a cluster's operator does then.
//!
//! Where faults go beyond what replication survives, `__transaction_state` loses records as any
//! topic does. Its coordinator then knows nothing of a transaction that is open in partitions, or
//! something older, and nobody ends it: it hangs, in Kafka as here. Kafka's remedies are an abort
//! by hand (KIP-664) and another transactional id; whoever lost nothing gets neither.

use std::collections::{BTreeMap, BTreeSet};

use sordini_broker::ClusterTrace;
use sordini_core::time::Instant;
use sordini_protocol::records::Batch;

use super::World;
use crate::history::Tp;
use crate::timeline::Weight;

/// The topic of the coordinators of transactions.
pub(super) const TRANSACTION_STATE: &str = "__transaction_state";
/// Bytes before the id in a record's key: its version, and the id's length.
const BEFORE_ID: usize = 4;

/// What the logs of coordinators hold, and whom they forgot.
#[derive(Debug, Default)]
pub(super) struct Memories {
    logs: BTreeMap<i32, Memory>,
    /// Transactional ids of which something committed was lost, and when that was found.
    forgotten: Vec<(String, Instant)>,
}

/// What the log of a partition of `__transaction_state` holds.
#[derive(Debug, Default)]
struct Memory {
    /// The newest term that began.
    leader_epoch: i32,
    /// The end of what was committed.
    committed: i64,
    /// Whom the records are about.
    ids: BTreeMap<i64, String>,
}

impl Memories {
    /// When something that was committed of the id was found to be lost, in order.
    fn lost<'a>(&'a self, id: &'a str) -> impl DoubleEndedIterator<Item = Instant> + 'a {
        self.forgotten.iter().filter(move |(of, _)| of == id).map(|(_, at)| *at)
    }

    pub(super) fn note(&mut self, now: Instant, trace: &ClusterTrace) {
        match trace {
            ClusterTrace::Appended { at, as_leader: true, leader_epoch, batch, .. }
                if &*at.topic == TRANSACTION_STATE =>
            {
                if let Some(memory) = self.memory(at.partition, *leader_epoch) {
                    memory.ids.extend(ids(batch));
                }
            }
            ClusterTrace::HighWatermark { at, offset, leader_epoch, as_leader: true, .. }
                if &*at.topic == TRANSACTION_STATE =>
            {
                if let Some(memory) = self.memory(at.partition, *leader_epoch) {
                    memory.committed = memory.committed.max(*offset);
                }
            }
            ClusterTrace::Leads { at, leader_epoch, start, .. }
                if &*at.topic == TRANSACTION_STATE =>
            {
                if let Some(memory) = self.memory(at.partition, *leader_epoch) {
                    memory.leader_epoch = *leader_epoch;
                    let mut gone = memory.ids.split_off(start);
                    let uncommitted = gone.split_off(&memory.committed.max(*start));
                    drop(uncommitted);
                    memory.committed = memory.committed.min(*start);
                    let gone: BTreeSet<String> = gone.into_values().collect();
                    self.forgotten.extend(gone.into_iter().map(|id| (id, now)));
                }
            }
            _ => {}
        }
    }

    /// What a partition holds, unless a later term has begun.
    fn memory(&mut self, partition: i32, leader_epoch: i32) -> Option<&mut Memory> {
        let memory = self.logs.entry(partition).or_default();
        Some(memory).filter(|memory| leader_epoch >= memory.leader_epoch)
    }
}

/// Offsets of a batch, and the transactional ids that its records are about.
fn ids(batch: &[u8]) -> Vec<(i64, String)> {
    let Ok(batch) = Batch::parse(batch) else { return Vec::new() };
    let Ok(plain) = batch.decompress(1 << 20) else { return Vec::new() };
    let records = plain.iter().flatten();
    let of = records.filter_map(|record| {
        let id = record.key?.get(BEFORE_ID..)?;
        Some((record.offset, String::from_utf8_lossy(id).into_owned()))
    });
    of.collect()
}

impl World<'_> {
    /// When the coordinator of a transactional id was last found to have lost something of it;
    /// never where replication survives all that goes wrong.
    pub(super) fn forgotten(&self, kin: u16) -> Option<Instant> {
        let id = self.config_of(kin).transactional_id.filter(|_| !self.plan.survivable)?;
        self.memories.lost(&id).next_back()
    }

    /// Takes down what coordinators lost.
    pub(super) fn note_forgotten(&mut self) {
        for kin in (0..self.plan.workload.producers).filter(|_| !self.plan.survivable) {
            let Some(id) = self.config_of(kin).transactional_id else { continue };
            self.book.forgotten.extend(self.memories.lost(&id).map(|at| (kin, at)));
        }
    }

    /// Aborts by hand what hangs in partitions because the coordinator lost it. Returns whether
    /// there was any.
    pub(super) fn abort_forgotten(&mut self) -> bool {
        let now = self.broker_now();
        let mut any = false;
        for tp in self.partitions() {
            let name = self.plan.topics[usize::from(tp.0)].name.clone();
            let Some((leader, _)) = self.cluster.leader(&name, tp.1) else { continue };
            let open = self.cluster.broker(leader).map(|it| it.open_transactions(&name, tp.1));
            for open in open.and_then(Result::ok).unwrap_or_default() {
                let id = open.producer_id;
                if !self.is_forgotten(tp, id, open.first_offset) {
                    continue;
                }
                let done = self.cluster.abort_transaction(now, leader, &name, tp.1, id);
                let what = format!(
                    "aborts in {name}-{} what the coordinator of producer id {id} lost: {done:?}",
                    tp.1
                );
                self.tell(Weight::World, "operator".to_owned(), what);
                self.coverage.meet("operator: aborted what a coordinator lost", 1);
                any |= done.is_ok();
            }
        }
        self.drain_cluster();
        any
    }

    /// Did the coordinator of this producer id lose something of it since the transaction began
    /// here?
    fn is_forgotten(&self, tp: Tp, producer_id: i64, first_offset: i64) -> bool {
        let has_it = |at: &usize| {
            let epochs = &self.clients[*at].monitor.epochs;
            epochs.range((producer_id, i16::MIN)..=(producer_id, i16::MAX)).next().is_some()
        };
        let owner = (0..self.transactors.len()).find(has_it);
        let Some(lost) = owner.and_then(|at| self.forgotten(self.transactors[at].kin)) else {
            return false;
        };
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
mod tests {
    use std::sync::Arc;

    use sordini_broker::cluster::PartitionId;
    use sordini_protocol::Uuid;

    use super::*;

    fn at(partition: i32) -> PartitionId {
        PartitionId { id: Uuid::default(), topic: Arc::from(TRANSACTION_STATE), partition }
    }

    fn leads(leader_epoch: i32, start: i64) -> ClusterTrace {
        ClusterTrace::Leads { node: 1, at: at(0), leader_epoch, start }
    }

    fn committed(leader_epoch: i32, offset: i64) -> ClusterTrace {
        ClusterTrace::HighWatermark { node: 1, at: at(0), offset, leader_epoch, as_leader: true }
    }

    /// Memories of `a` at 0, `b` at 1 and `c` at 2, of which what is before 2 is committed.
    fn memories() -> Memories {
        let mut memories = Memories::default();
        let memory = memories.logs.entry(0).or_default();
        memory.ids.extend([(0, "a"), (1, "b"), (2, "c")].map(|(at, id)| (at, id.to_owned())));
        memories.note(Instant::ZERO, &leads(1, 3));
        memories.note(Instant::ZERO, &committed(1, 2));
        memories
    }

    fn lost(memories: &Memories) -> Vec<&str> {
        memories.forgotten.iter().map(|(id, _)| id.as_str()).collect()
    }

    #[test]
    fn only_whose_committed_records_are_lost_is_forgotten() {
        for (start, expected) in [(3, &[][..]), (2, &[]), (1, &["b"]), (0, &["a", "b"])] {
            let mut memories = memories();
            let now = Instant::from_millis(7);
            memories.note(now, &leads(2, start));
            assert_eq!(lost(&memories), expected, "a term that begins at {start}");
            assert!(expected.iter().all(|id| memories.lost(id).eq([now])));
        }
    }

    #[test]
    fn an_older_term_that_is_heard_of_late_loses_nothing() {
        let mut memories = memories();
        memories.note(Instant::ZERO, &leads(0, 0));
        memories.note(Instant::ZERO, &committed(0, 3));
        memories.note(Instant::ZERO, &leads(2, 2));
        assert_eq!(lost(&memories), [""; 0]);
    }

    #[test]
    fn the_ids_are_read_from_what_a_coordinator_writes() {
        let plan = crate::plan(1, &crate::Profile::default(), &[]).expect("a plan");
        let habits = crate::Transacting::plain(2);
        let mut plan = crate::Plan { faults: Vec::new(), chaos: 1500, ..plan };
        plan.settings = habits.settings();
        plan.transactions = Some(habits);
        let config = crate::settings::configure(&plan.settings, plan.nodes).expect("settings");
        let mut world = World::new(&plan, config);
        world.run();
        let known = world.memories.logs.values().flat_map(|memory| memory.ids.values());
        let known: std::collections::BTreeSet<&str> = known.map(String::as_str).collect();
        let expected: Vec<String> =
            (0..plan.workload.producers).map(|kin| format!("t-{kin}")).collect();
        assert!(known.iter().eq(&expected), "{known:?}");
        assert!(world.memories.logs.values().any(|memory| memory.committed > 0));
        assert_eq!(world.forgotten(0), None);
    }
}
