//! What a coordinator's log has lost, to damage or with its folder, by what the partitions that
//! were written to still know: they have seen later epochs than it has, and hold transactions open
//! that it does not know.
//!
//! For a broker on its own, which has all of them at hand. In a cluster other replicas keep the log.

use std::collections::{BTreeMap, BTreeSet};

use super::transaction::Transaction;
use super::transactions::Loaded;
use crate::broker::Broker;
use crate::time::Now;

impl Broker {
    /// Brings ids up to the epochs that partitions have seen. With less they would hand out epochs
    /// that every partition refuses, and order markers that none takes.
    pub(super) fn outrun(&self, loaded: &mut Loaded, wall_ms: i64) {
        if self.node.is_some() || loaded.ids.is_empty() {
            return;
        }
        let mut newest = BTreeMap::new();
        let partitions = self.topics.values().flat_map(|topic| topic.partitions.values());
        for (producer, entry) in partitions.flat_map(|at| at.log.producers().iter()) {
            let epoch = newest.entry(producer).or_insert(entry.epoch);
            *epoch = entry.epoch.max(*epoch);
        }
        for (id, transaction) in &mut loaded.ids {
            let known = transaction.now();
            let (from, producer) = (known.producer_epoch, known.producer_id);
            let Some(seen) = newest.get(&producer).copied().filter(|seen| *seen > from) else {
                continue;
            };
            tracing::warn!(id, producer, from, seen, "an id's last states are lost");
            *transaction = Transaction::resting(known.outrun(seen, wall_ms), wall_ms);
        }
    }

    /// Aborts transactions that partitions hold open and no id knows: nobody else would ever end
    /// them, and readers of committed records would wait for that.
    pub(crate) fn end_unknown_transactions(&mut self, now: Now) {
        let mut known = BTreeSet::new();
        for led in self.coordinator.led.values() {
            // Whose they are can't be told while a part of the ids is not known.
            let Some(loaded) = &led.loaded else { return };
            for transaction in loaded.ids.values() {
                let producer = transaction.now().producer_id;
                let open = transaction.open_partitions().into_iter().flatten();
                known.extend(open.map(|(topic, index)| (producer, topic.clone(), *index)));
            }
        }
        let mut unknown = Vec::new();
        for (topic, found) in &self.topics {
            for (index, partition) in &found.partitions {
                for (producer, entry) in partition.log.producers().iter() {
                    let whose = (producer, topic.clone(), *index);
                    if entry.open_transaction.is_some() && !known.contains(&whose) {
                        unknown.push(whose);
                    }
                }
            }
        }
        for (producer, topic, index) in unknown {
            let refused = self.abort_transaction(now, &topic, index, producer).err();
            tracing::warn!(topic, index, producer, ?refused, "a transaction of no id is aborted");
        }
    }
}
