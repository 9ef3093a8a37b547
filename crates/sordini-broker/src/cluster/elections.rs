//! Who leads. A leader is a usable member of the ISR; without one there is none, or, where
//! records may be lost for availability, any usable replica (an unclean election).
//!
//! A member that is fenced leaves the ISR, but the last one stays: it alone is known to have
//! what was committed, and leads again when it is back. (Kafka's eligible leader replicas,
//! KIP-966, which remember the members before it, are not modelled.)

use std::sync::Arc;

use super::controller::Controller;
use super::image::{NO_NODE, PartitionImage};
use super::peer::Doubtful;
use super::trace::ClusterTrace;

impl Controller {
    fn is_usable(&self, node: i32) -> bool {
        self.image.brokers.get(&node).is_some_and(super::image::BrokerImage::is_usable)
    }

    /// Looks again at all partitions of a node that came, or went.
    pub(super) fn reconsider(&mut self, node: i32) {
        let mut concerned = Vec::new();
        for (name, topic) in &self.image.topics {
            for (index, partition) in topic.partitions.iter().enumerate() {
                if partition.replicas.contains(&node) {
                    let former = self.former.get(&(topic.id, index)).copied();
                    concerned.push((name.clone(), index, partition.clone(), former));
                }
            }
        }
        for (name, index, partition, former) in concerned {
            let former = former.filter(|former| partition.isr.contains(former));
            if let Some(former) = former.filter(|_| partition.leader == NO_NODE) {
                // It alone has what it did not wait for its followers to have.
                if self.is_usable(former) {
                    self.set_partition(&name, index, former, partition.isr, true);
                }
                continue;
            }
            let mut isr = partition.isr.clone();
            if !self.is_usable(node) && isr.len() > 1 {
                isr.retain(|member| *member != node);
            }
            let (leader, clean) = self.choose(&name, &partition, &isr);
            if !clean {
                isr = vec![leader];
            }
            self.set_partition(&name, index, leader, isr, clean);
        }
    }

    /// Takes a node that may have lost something of logs out of their ISRs: as their leader it would
    /// have the others cut theirs. The last member stays, as nobody else is known to have more.
    pub(super) fn distrust(&mut self, node: i32, doubtful: &Doubtful) {
        let mut concerned = Vec::new();
        for (name, topic) in &self.image.topics {
            for (index, partition) in topic.partitions.iter().enumerate() {
                if partition.isr.contains(&node) && doubtful.names(name, index) {
                    concerned.push((name.clone(), index, partition.clone()));
                }
            }
        }
        if *doubtful == Doubtful::All && !concerned.is_empty() {
            tracing::warn!(
                node,
                partitions = concerned.len(),
                "the node's folder is new, or its catalog is gone: its replicas are copied from nodes \
                 that are in sync; what it alone had is lost"
            );
        }
        for (name, index, PartitionImage { leader, mut isr, .. }) in concerned {
            isr.retain(|id| *id != node);
            if leader != node && !isr.is_empty() {
                self.set_partition(&name, index, leader, isr, true);
            }
        }
    }

    /// The leader, and whether it is in sync.
    fn choose(&self, topic: &str, partition: &PartitionImage, isr: &[i32]) -> (i32, bool) {
        if isr.contains(&partition.leader) && self.is_usable(partition.leader) {
            return (partition.leader, true);
        }
        let usable = |node: &&i32| self.is_usable(**node);
        let in_sync = |node: &&i32| isr.contains(*node);
        if let Some(node) = partition.replicas.iter().filter(in_sync).find(usable) {
            return (*node, true);
        }
        if self.may_elect_unclean(topic)
            && let Some(node) = partition.replicas.iter().find(usable)
        {
            return (*node, false);
        }
        (NO_NODE, true)
    }

    fn may_elect_unclean(&self, topic: &str) -> bool {
        let config = self.image.topics.get(topic).map(|topic| &topic.config);
        let set = config.and_then(|config| {
            let mut set = config.iter();
            set.find(|(name, _)| *name == "unclean.leader.election.enable")
                .map(|(_, v)| v == "true")
        });
        set.unwrap_or(self.config.unclean_elections)
    }

    /// Changes a partition, if that is a change: another leader begins another epoch.
    pub(super) fn set_partition(
        &mut self,
        topic: &str,
        index: usize,
        leader: i32,
        isr: Vec<i32>,
        clean: bool,
    ) {
        let Some(at) = self.name(topic, index) else { return };
        let current = self.image.partition(topic, at.partition);
        if current.is_none_or(|current| current.leader == leader && current.isr == isr) {
            return;
        }
        let Some(topic) = self.change().topics.get_mut(topic) else { return };
        let Some(partition) = Arc::make_mut(topic).partitions.get_mut(index) else { return };
        let (elected, resized) = (partition.leader != leader, partition.isr != isr);
        partition.leader_epoch += i32::from(elected);
        partition.partition_epoch += 1;
        (partition.leader, partition.isr) = (leader, isr.clone());
        let (leader_epoch, partition_epoch) = (partition.leader_epoch, partition.partition_epoch);
        if elected {
            self.trace(ClusterTrace::Elected { at: at.clone(), leader, leader_epoch, clean });
        }
        if resized {
            self.trace(ClusterTrace::Isr { at, isr, leader_epoch, partition_epoch });
        }
    }

    /// Moves leadership to a usable member of the ISR. Returns whether it is there now.
    pub(super) fn move_leader(&mut self, topic: &str, index: i32, to: i32) -> bool {
        let Some(current) = self.image.partition(topic, index) else { return false };
        if !current.isr.contains(&to) || !self.is_usable(to) {
            return false;
        }
        let (isr, index) = (current.isr.clone(), usize::try_from(index).unwrap_or(usize::MAX));
        self.set_partition(topic, index, to, isr, true);
        true
    }

    /// Makes a usable replica the leader whether it is in sync or not.
    pub(super) fn elect_unclean(&mut self, topic: &str, index: i32, node: i32) -> bool {
        let Some(current) = self.image.partition(topic, index) else { return false };
        if !current.replicas.contains(&node) || !self.is_usable(node) {
            return false;
        }
        let clean = current.isr.contains(&node);
        let isr = if clean { current.isr.clone() } else { vec![node] };
        self.set_partition(topic, usize::try_from(index).unwrap_or(usize::MAX), node, isr, clean);
        true
    }
}
