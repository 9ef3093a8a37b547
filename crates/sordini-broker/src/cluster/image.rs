//! What the controller decided, as nodes see it: an image of brokers, topics and partitions with
//! a version. Images share what did not change, so that a node finds the changes by address.

use std::collections::BTreeMap;
use std::sync::Arc;

use sordini_protocol::Uuid;

use crate::topic_config::TopicConfig;

/// "No node": the leader of a partition that has none.
pub(crate) const NO_NODE: i32 = -1;

/// The cluster's metadata at one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    /// Counts the controller's decisions.
    pub version: u64,
    pub brokers: BTreeMap<i32, BrokerImage>,
    pub topics: BTreeMap<String, Arc<TopicImage>>,
    /// Names by id.
    pub names: BTreeMap<Uuid, String>,
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerImage {
    /// The version at which this life of the node registered.
    pub epoch: u64,
    pub host: String,
    pub port: u16,
    /// Silent for too long, or not yet caught up: it leads nothing and joins no ISR.
    pub fenced: bool,
    /// On its way out: it gets no new part.
    pub leaving: bool,
}

impl BrokerImage {
    /// Whether the node may lead, and be in sync.
    pub(crate) fn is_usable(&self) -> bool {
        !self.fenced && !self.leaving
    }
}

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicImage {
    pub id: Uuid,
    pub name: Arc<str>,
    pub config: TopicConfig,
    pub partitions: Vec<PartitionImage>,
}

/// A partition: who has it, who is in sync, who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionImage {
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    /// [`NO_NODE`] if nobody may lead.
    pub leader: i32,
    pub leader_epoch: i32,
    /// Counts all changes of the partition, of its leader or of its ISR.
    pub partition_epoch: i32,
}

impl Image {
    /// A topic by its id.
    pub(crate) fn topic(&self, id: &Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names.get(id)?)
    }

    /// A partition.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<&PartitionImage> {
        let index = usize::try_from(index).ok()?;
        self.topics.get(topic)?.partitions.get(index)
    }

    /// A node that clients may be sent to.
    pub(crate) fn live(&self, node: i32) -> Option<&BrokerImage> {
        self.brokers.get(&node).filter(|broker| !broker.fenced)
    }

    /// The nodes that clients may be sent to, by id.
    pub(crate) fn live_nodes(&self) -> impl Iterator<Item = (i32, &BrokerImage)> {
        self.brokers.iter().filter(|(_, broker)| !broker.fenced).map(|(id, broker)| (*id, broker))
    }

    /// Bytes that an image would have on the wire, roughly.
    pub(crate) fn size(&self) -> usize {
        let partitions: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        32 + self.brokers.len() * 32 + self.topics.len() * 48 + partitions * 40
    }
}
