//! The topics that coordinators keep their state in, and what they ask of others.

use sordini_protocol::{ErrorCode, Uuid};

use super::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::broker::{Broker, NewTopic};
use crate::config::BrokerConfig;
use crate::time::Now;

/// Replicas of an internal topic at most, Kafka's `transaction.state.log.replication.factor` and
/// `offsets.topic.replication.factor`.
const REPLICATION: i32 = 3;

impl Broker {
    /// Has an internal topic created, if it is not there. A broker on its own has it at once.
    pub(crate) fn ensure_topic(&mut self, now: Now, topic: &str) {
        if self.partition_count(topic) > 0 {
            return;
        }
        let replication = self.node.as_ref().map_or(1, |node| node.cluster_size().min(REPLICATION));
        let new = internal(topic, &self.config, i16::try_from(replication).unwrap_or(1));
        if let Some(node) = self.node_mut() {
            node.ask_for(now, &new);
        } else if let Err(error) = self.create_topic(now, &new, false) {
            tracing::warn!(topic, error = error.message, "an internal topic can't be created");
        }
        self.follow_leadership(now);
    }

    /// Whether there is such a partition, here or on another node.
    pub(crate) fn has_partition(&self, topic: &str, index: i32) -> bool {
        match &self.node {
            Some(node) => node.view.partition(topic, index).is_some(),
            None => self.topics.get(topic).is_some_and(|t| t.partitions.contains_key(&index)),
        }
    }

    /// The name and id of a topic that a request names by either.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION.
    pub(crate) fn find_topic(
        &self,
        by_id: bool,
        name: &str,
        id: Uuid,
    ) -> Result<(String, Uuid), ErrorCode> {
        if by_id {
            let name = self.topic_name(&id).ok_or(ErrorCode::UnknownTopicId)?;
            return Ok((name.to_owned(), id));
        }
        let topic = self.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok((name.to_owned(), topic.id))
    }
}

fn internal(topic: &str, config: &BrokerConfig, replication: i16) -> NewTopic {
    let mut settings = vec![("cleanup.policy", "compact")];
    let partitions = match topic {
        TRANSACTION_STATE => {
            settings.push(("min.insync.replicas", "2"));
            settings.push(("unclean.leader.election.enable", "false"));
            config.transaction_partitions
        }
        _ => {
            debug_assert_eq!(topic, CONSUMER_OFFSETS, "the other internal topic");
            config.offsets_partitions
        }
    };
    let settings = settings.into_iter();
    let settings = settings.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let name = topic.to_owned();
    NewTopic {
        name,
        partitions,
        replication,
        assignments: Vec::new(),
        settings: settings.collect(),
    }
}
