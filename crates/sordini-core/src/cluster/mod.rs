//! What is known of the cluster: brokers, topics, who leads what.

pub mod refresh;

use std::collections::BTreeMap;
use std::sync::Arc;

use sordini_protocol::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use sordini_protocol::{ErrorCode, Uuid};

use crate::config::Address;
use crate::time::Instant;

/// A partition's leader, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The leader's node id; `None` while there is none.
    pub node: Option<i32>,
    /// The leader epoch; -1 where the broker does not tell.
    pub epoch: i32,
}

/// What is known of one topic.
#[derive(Debug)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; zero where the broker does not tell.
    pub id: Uuid,
    /// Another id that was seen for the name, once: a lagging broker may still tell an old one.
    suspect: Option<Uuid>,
    leaders: Vec<Leader>,
    /// When it was last produced to or waited for.
    pub last_used: Instant,
}

/// What a metadata response changed for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicNews {
    /// Its partitions are known. `whole`: all of them have a leader.
    Known {
        /// How many.
        partitions: u32,
        /// All have a leader.
        whole: bool,
    },
    /// Not now; ask again.
    Later(ErrorCode),
    /// Not for this client.
    Refused(ErrorCode),
    /// It is another topic than the one that was written to.
    Gone,
}

/// A broker's address as another broker tells it; `None` if it is none. It ends up in errors and
/// logs, so nothing is taken that could pass for a line of its own.
#[must_use]
pub fn told_address(host: String, port: i32) -> Option<Address> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    let legal = |c: char| !c.is_control() && !c.is_whitespace();
    let named = !host.is_empty() && host.len() <= 255 && host.chars().all(legal);
    named.then(|| Address::new(host, port))
}

/// The cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    brokers: BTreeMap<i32, Address>,
    topics: BTreeMap<u32, TopicInfo>,
}

impl Cluster {
    /// The brokers' addresses by node id.
    #[must_use]
    pub fn brokers(&self) -> &BTreeMap<i32, Address> {
        &self.brokers
    }

    /// Takes in the brokers of a metadata response. An empty list says nothing.
    pub fn set_brokers(&mut self, brokers: BTreeMap<i32, Address>) {
        if !brokers.is_empty() {
            self.brokers = brokers;
        }
    }

    /// Takes in a broker that a produce response named (KIP-951).
    pub fn set_broker(&mut self, node: i32, address: Address) {
        self.brokers.insert(node, address);
    }

    /// The topics by their number.
    #[must_use]
    pub fn topics(&self) -> &BTreeMap<u32, TopicInfo> {
        &self.topics
    }

    /// One topic.
    #[must_use]
    pub fn topic(&self, index: u32) -> Option<&TopicInfo> {
        self.topics.get(&index)
    }

    /// Notes that a topic is used.
    pub fn touch(&mut self, index: u32, name: &Arc<str>, now: Instant) {
        let new = || TopicInfo {
            name: Arc::clone(name),
            id: Uuid::ZERO,
            suspect: None,
            leaders: Vec::new(),
            last_used: now,
        };
        self.topics.entry(index).or_insert_with(new).last_used = now;
    }

    /// Forgets a topic.
    pub fn forget(&mut self, index: u32) {
        self.topics.remove(&index);
    }

    /// The node that leads a partition; `None` while none does, or while the node is no broker
    /// that the cluster has told of.
    #[must_use]
    pub fn leader(&self, topic: u32, partition: i32) -> Option<i32> {
        let at = usize::try_from(partition).ok()?;
        let node = self.topics.get(&topic)?.leaders.get(at)?.node?;
        self.brokers.contains_key(&node).then_some(node)
    }

    /// Takes in a leader that a produce response named (KIP-951). True if it is news.
    pub fn set_leader(&mut self, topic: u32, partition: i32, leader: Leader) -> bool {
        let Ok(at) = usize::try_from(partition) else { return false };
        let known = self.topics.get_mut(&topic).and_then(|topic| topic.leaders.get_mut(at));
        match known {
            Some(known) if leader.epoch > known.epoch => {
                *known = leader;
                true
            }
            _ => false,
        }
    }

    /// The node that is believed to lead a partition denies it.
    ///
    /// Before Kafka 2.8 there are no topic ids, and a topic may have been made anew while nobody
    /// listened. Its leader epochs then began anew, and would never be believed: what is told next
    /// is, and if that is old, its leader denies it as well.
    pub fn doubt(&mut self, topic: u32, partition: i32) {
        let Some(topic) = self.topics.get_mut(&topic).filter(|topic| topic.id.is_zero()) else {
            return;
        };
        let leader = usize::try_from(partition).ok().and_then(|at| topic.leaders.get_mut(at));
        if let Some(leader) = leader {
            leader.epoch = -1;
        }
    }

    /// Takes in what a metadata response says of a topic.
    pub fn update(&mut self, index: u32, response: &MetadataResponseTopic) -> Option<TopicNews> {
        let topic = self.topics.get_mut(&index)?;
        let code = ErrorCode::from_code(response.error_code);
        match code {
            ErrorCode::None => {}
            ErrorCode::InvalidTopicException
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed => return Some(TopicNews::Refused(code)),
            // With partitions known, what they are led by stays: a broker may lag, and what is
            // buffered waits for its own deadline.
            _ => {
                if code == ErrorCode::UnknownTopicOrPartition && topic.id.is_zero() {
                    // Without topic ids nothing else tells that a topic was made anew, and its
                    // leader epochs then begin anew too.
                    topic.leaders.iter_mut().for_each(|leader| leader.epoch = -1);
                }
                return Some(TopicNews::Later(code));
            }
        }
        let id = response.topic_id;
        if !id.is_zero() && !topic.id.is_zero() && id != topic.id {
            if topic.suspect == Some(id) {
                return Some(TopicNews::Gone);
            }
            topic.suspect = Some(id);
            return Some(TopicNews::Later(ErrorCode::InconsistentTopicId));
        }
        topic.suspect = None;
        if !id.is_zero() {
            topic.id = id;
        }
        topic.take_leaders(&response.partitions);
        if topic.leaders.is_empty() {
            return Some(TopicNews::Later(ErrorCode::LeaderNotAvailable));
        }
        let known = |node: &i32| self.brokers.contains_key(node);
        let whole = topic.leaders.iter().all(|leader| leader.node.as_ref().is_some_and(known));
        Some(TopicNews::Known { partitions: topic.leaders.len() as u32, whole })
    }
}

impl TopicInfo {
    /// Takes in leaders that are not older than what is known: leader epochs never go backwards,
    /// and a known epoch is not replaced by "not told".
    fn take_leaders(&mut self, partitions: &[MetadataResponsePartition]) {
        // Partitions are numbered from 0 without gaps; an index beyond the list would be a lie
        // that costs memory.
        let count = partitions.len();
        if self.leaders.len() < count {
            self.leaders.resize(count, Leader { node: None, epoch: -1 });
        }
        let without_id = self.id.is_zero();
        for partition in partitions {
            let at = usize::try_from(partition.partition_index).ok();
            let Some(known) = at.and_then(|at| self.leaders.get_mut(at)) else { continue };
            let node = (partition.leader_id >= 0).then_some(partition.leader_id);
            // A topic without an id may have been made anew, and begins with a low epoch. Where no
            // leader is believed in, there is none to deny it: whoever is told of is tried.
            let unled = without_id && known.node.is_none();
            if unled || partition.leader_epoch >= known.epoch {
                *known = Leader { node, epoch: partition.leader_epoch };
            }
        }
    }
}
