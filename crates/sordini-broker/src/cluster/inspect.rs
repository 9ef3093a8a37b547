//! Looking into a cluster: for checkers, tests and tools.

use super::world::Cluster;
use crate::broker::{Broker, InspectError, PartitionState};
use crate::faults::Faults;
use crate::monitor::Monitor;
use crate::records::StoredRecord;
use crate::time::Now;

impl Cluster {
    /// How many nodes there are, running or not.
    #[must_use]
    pub fn nodes(&self) -> i32 {
        i32::try_from(self.seats.len()).unwrap_or(i32::MAX)
    }

    /// A partition's leader and leader epoch, as the controller has them; `None` if it has no
    /// leader, or there is no such partition.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(i32, i32)> {
        let partition = self.controller.image.partition(topic, partition)?;
        (partition.leader >= 0).then_some((partition.leader, partition.leader_epoch))
    }

    /// Who is in sync, as the controller has it; empty if there is no such partition.
    #[must_use]
    pub fn isr(&self, topic: &str, partition: i32) -> Vec<i32> {
        let partition = self.controller.image.partition(topic, partition);
        partition.map_or_else(Vec::new, |partition| partition.isr.clone())
    }

    /// Who has a replica, first the one that is preferred as leader.
    #[must_use]
    pub fn replicas(&self, topic: &str, partition: i32) -> Vec<i32> {
        let partition = self.controller.image.partition(topic, partition);
        partition.map_or_else(Vec::new, |partition| partition.replicas.clone())
    }

    /// How many partitions a topic has, as the controller has it; 0 if there is none.
    #[must_use]
    pub fn partitions(&self, topic: &str) -> i32 {
        let topic = self.controller.image.topics.get(topic);
        topic.map_or(0, |topic| i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
    }

    /// A topic's id, as the controller has it.
    #[must_use]
    pub fn topic_id(&self, topic: &str) -> Option<sordini_protocol::Uuid> {
        self.controller.image.topics.get(topic).map(|topic| topic.id)
    }

    /// The version of the metadata that a running node has; the controller's is the largest.
    #[must_use]
    pub fn view_version(&self, node: i32) -> Option<u64> {
        self.seats.get(&node)?.broker.as_ref()?.node.as_ref().map(|node| node.view.version)
    }

    /// The version of the controller's metadata.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.controller.image.version
    }

    /// Whether the controller takes the node for alive.
    #[must_use]
    pub fn is_live(&self, node: i32) -> bool {
        self.controller.image.live(node).is_some()
    }

    /// A running node's high watermark.
    pub fn high_watermark(&mut self, node: i32, topic: &str, partition: i32) -> Option<i64> {
        self.state(node, topic, partition).map(|state| state.high_watermark)
    }

    /// A running node's log end.
    pub fn log_end(&mut self, node: i32, topic: &str, partition: i32) -> Option<i64> {
        self.state(node, topic, partition).map(|state| state.log_end)
    }

    /// Offsets and epoch of a running node's replica.
    pub fn state(&mut self, node: i32, topic: &str, partition: i32) -> Option<PartitionState> {
        self.broker_mut(node)?.partition_state(topic, partition).ok()
    }

    /// All records of a running node's replica, committed or not.
    ///
    /// # Errors
    /// If the node does not run, has no such replica, or its log can't be read.
    pub fn records(
        &mut self,
        node: i32,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<StoredRecord>, InspectError> {
        self.running(node, topic, partition)?.records(topic, partition)
    }

    /// The records of a running node's replica that a read_committed consumer sees, as far as the
    /// node knows them to be committed.
    ///
    /// # Errors
    /// If the node does not run, has no such replica, or its log can't be read.
    pub fn committed_records(
        &mut self,
        node: i32,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<StoredRecord>, InspectError> {
        self.running(node, topic, partition)?.committed_records(topic, partition)
    }

    fn running(
        &mut self,
        node: i32,
        topic: &str,
        partition: i32,
    ) -> Result<&mut Broker, InspectError> {
        let missing = || InspectError::NoPartition { topic: topic.to_owned(), partition };
        self.broker_mut(node).ok_or_else(missing)
    }

    /// A running node, for what only a broker can tell.
    pub fn broker(&mut self, node: i32) -> Option<&mut Broker> {
        self.broker_mut(node)
    }

    /// Aborts a producer's open transaction in a partition that the node leads, whatever its
    /// coordinator says: see [`Broker::abort_transaction`].
    ///
    /// # Errors
    /// As there, and if the node does not run.
    pub fn abort_transaction(
        &mut self,
        now: Now,
        node: i32,
        topic: &str,
        partition: i32,
        producer_id: i64,
    ) -> Result<(), InspectError> {
        let mut done = Err(InspectError::NoPartition { topic: topic.to_owned(), partition });
        self.on(now, node, |broker, now| {
            done = broker.abort_transaction(now, topic, partition, producer_id);
        });
        done
    }

    /// Orders faults of a node, whether it runs or not.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn faults(&self, node: i32) -> Faults {
        self.seats.get(&node).expect("a node of 1..=ClusterConfig::nodes").faults.clone()
    }

    /// Asks what a node saw, over all its lives.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn monitor(&self, node: i32) -> Monitor {
        self.seats.get(&node).expect("a node of 1..=ClusterConfig::nodes").monitor.clone()
    }
}
