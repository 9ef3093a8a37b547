//! Topics: created, grown and deleted by the controller.

use std::collections::BTreeSet;
use std::sync::Arc;

use sordini_protocol::{ErrorCode, Uuid};

use super::controller::Controller;
use super::image::{NO_NODE, PartitionImage, TopicImage};
use super::trace::ClusterTrace;
use crate::api::{Request, Response, create_partitions, create_topics, delete_topics};
use crate::broker::{Created, NewTopic, TopicError, TopicKeeper};
use crate::time::Now;
use crate::topic_config::TopicConfig;

/// Answers a client's request that a node passed on.
pub(super) fn serve(
    controller: &mut Controller,
    now: Now,
    version: i16,
    request: &Request,
) -> Option<Response> {
    Some(match request {
        Request::CreateTopics(r) => {
            Response::CreateTopics(create_topics::handle(controller, now, version, r))
        }
        Request::DeleteTopics(r) => {
            Response::DeleteTopics(delete_topics::handle(controller, version, r))
        }
        Request::CreatePartitions(r) => {
            Response::CreatePartitions(create_partitions::handle(controller, now, r))
        }
        _ => return None,
    })
}

impl TopicKeeper for Controller {
    fn check_replicas(&self, new: &NewTopic) -> Result<(), TopicError> {
        self.check_assignments(&new.assignments)
    }

    fn create(&mut self, _: Now, new: &NewTopic, dry: bool) -> Result<Created, TopicError> {
        self.create_topic(new, dry)
    }

    fn check_assignments(&self, assignments: &[Vec<i32>]) -> Result<(), TopicError> {
        let known = |id: &i32| self.image.brokers.contains_key(id);
        let sound = |replicas: &Vec<i32>| {
            let distinct: BTreeSet<&i32> = replicas.iter().collect();
            !replicas.is_empty() && distinct.len() == replicas.len() && replicas.iter().all(known)
        };
        let even = assignments.windows(2).all(|pair| pair[0].len() == pair[1].len());
        if even && assignments.iter().all(sound) {
            return Ok(());
        }
        let message = "each partition must be assigned to as many nodes as the others, \
                       each of them known and named once";
        Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message))
    }

    fn grow(
        &mut self,
        _: Now,
        name: &str,
        count: i32,
        assignments: &[Vec<i32>],
        dry: bool,
    ) -> Result<(), TopicError> {
        self.add_partitions(name, count, assignments, dry)
    }

    fn delete(&mut self, name: &str) -> Result<(), TopicError> {
        self.delete_topic(name)
    }

    fn id_of(&self, name: &str) -> Option<Uuid> {
        self.image.topics.get(name).map(|topic| topic.id)
    }

    fn name_of(&self, id: &Uuid) -> Option<String> {
        self.image.names.get(id).cloned()
    }
}

impl Controller {
    /// Creates a topic, or (`dry`) says whether that would work; -1 partitions or replicas are
    /// the cluster's default.
    pub(super) fn create_topic(
        &mut self,
        new: &NewTopic,
        dry: bool,
    ) -> Result<Created, TopicError> {
        new.check_name(&self.image.topics)?;
        let partitions = match new.partitions {
            -1 => self.config.broker.default_partitions,
            n => n,
        };
        if partitions <= 0 {
            let message = format!("the number of partitions is {partitions}, it must be above 0");
            return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
        }
        self.check_room(partitions)?;
        let replication = match new.replication {
            -1 => self.config.default_replication,
            n => n,
        };
        let config = new.config(&self.config.broker.topic_defaults)?;
        let placed = if new.assignments.is_empty() {
            let shift = usize::try_from(self.topics_created).unwrap_or(0);
            self.place(0..partitions, replication, shift)?
        } else {
            new.assignments.iter().map(|replicas| self.place_at(replicas)).collect()
        };
        let replicas = placed.first().map_or(0, |partition| partition.replicas.len());
        let replication = i16::try_from(replicas).unwrap_or(i16::MAX);
        let id = if dry { Uuid::ZERO } else { self.ids.uuid() };
        if !dry {
            self.add_topic(&new.name, id, config.clone(), placed);
        }
        Ok(Created { id, partitions, replication, config })
    }

    fn add_topic(
        &mut self,
        name: &str,
        id: Uuid,
        config: TopicConfig,
        placed: Vec<PartitionImage>,
    ) {
        self.topics_created += 1;
        let topic: Arc<str> = Arc::from(name);
        let partitions = i32::try_from(placed.len()).unwrap_or(i32::MAX);
        let entry = TopicImage { id, name: Arc::clone(&topic), config, partitions: placed };
        let image = self.change();
        image.names.insert(id, name.to_owned());
        image.topics.insert(name.to_owned(), Arc::new(entry));
        self.trace(ClusterTrace::Created { topic, id, partitions });
        self.trace_leaders(name, 0);
    }

    fn trace_leaders(&mut self, topic: &str, from: usize) {
        let Some(partitions) = self.image.topics.get(topic).map(|topic| topic.partitions.clone())
        else {
            return;
        };
        for (index, partition) in partitions.into_iter().enumerate().skip(from) {
            let Some(at) = self.name(topic, index) else { continue };
            let PartitionImage { leader, leader_epoch, isr, partition_epoch, .. } = partition;
            self.trace(ClusterTrace::Elected { at: at.clone(), leader, leader_epoch, clean: true });
            self.trace(ClusterTrace::Isr { at, isr, leader_epoch, partition_epoch });
        }
    }

    fn check_room(&self, more: i32) -> Result<(), TopicError> {
        let have: usize = self.image.topics.values().map(|topic| topic.partitions.len()).sum();
        let max = self.config.broker.max_partitions;
        if usize::try_from(more).is_ok_and(|more| have.saturating_add(more) <= max) {
            return Ok(());
        }
        let message = format!("{more} more partitions exceed this cluster's limit of {max}");
        Err(TopicError::new(ErrorCode::InvalidPartitions, message))
    }

    /// Spreads partitions over the nodes, in turn. Fenced nodes get a replica only where there
    /// are not enough others.
    fn place(
        &self,
        indexes: std::ops::Range<i32>,
        replication: i16,
        shift: usize,
    ) -> Result<Vec<PartitionImage>, TopicError> {
        let usable: Vec<i32> = self.usable(true).collect();
        let spare: Vec<i32> = self.usable(false).collect();
        let count = usize::try_from(replication).unwrap_or(0);
        if count == 0 || count > usable.len() + spare.len() || usable.is_empty() {
            let message = format!(
                "replication factor {replication}: {} nodes are alive and {} are not",
                usable.len(),
                spare.len()
            );
            return Err(TopicError::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let place_one = |index: i32| {
            let start = shift + usize::try_from(index).unwrap_or(0);
            let turn = (0..usable.len()).map(|i| usable[(start + i) % usable.len()]);
            let isr: Vec<i32> = turn.take(count).collect();
            let lacking = count - isr.len();
            let replicas = isr.iter().chain(spare.iter().take(lacking));
            self.place_at(&replicas.copied().collect::<Vec<_>>())
        };
        Ok(indexes.map(place_one).collect())
    }

    /// A partition with these replicas: who is usable is in sync.
    fn place_at(&self, replicas: &[i32]) -> PartitionImage {
        let usable: BTreeSet<i32> = self.usable(true).collect();
        let isr: Vec<i32> = replicas.iter().copied().filter(|id| usable.contains(id)).collect();
        let leader = isr.first().copied().unwrap_or(NO_NODE);
        // Without a node that is alive, the first replica counts as the one that has all there is.
        let isr = if isr.is_empty() { replicas[..1].to_vec() } else { isr };
        let replicas = replicas.to_vec();
        PartitionImage { replicas, isr, leader, leader_epoch: 0, partition_epoch: 0 }
    }

    fn usable(&self, usable: bool) -> impl Iterator<Item = i32> {
        let brokers = self.image.brokers.iter();
        brokers.filter(move |(_, broker)| broker.is_usable() == usable).map(|(id, _)| *id)
    }

    /// Gives a topic more partitions.
    pub(super) fn add_partitions(
        &mut self,
        name: &str,
        total: i32,
        assignments: &[Vec<i32>],
        dry: bool,
    ) -> Result<(), TopicError> {
        let Some(topic) = self.image.topics.get(name) else { return Err(missing(name)) };
        let have = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if total <= have {
            let message = format!("topic {name} has {have} partitions; {total} are not more");
            return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
        }
        let replication = topic.partitions.first().map_or(1, |p| p.replicas.len());
        let shift = topic.partitions.first().and_then(|p| p.replicas.first()).copied().unwrap_or(1);
        self.check_room(total - have)?;
        let replication = i16::try_from(replication).unwrap_or(i16::MAX);
        let shift = usize::try_from(shift - 1).unwrap_or(0);
        let placed = if assignments.is_empty() {
            self.place(have..total, replication, shift)?
        } else {
            assignments.iter().map(|replicas| self.place_at(replicas)).collect()
        };
        if i32::try_from(placed.len()) != Ok(total - have) {
            let message = format!("{} assignments for {} partitions", placed.len(), total - have);
            return Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        if dry {
            return Ok(());
        }
        let first = usize::try_from(have).unwrap_or(0);
        if let Some(topic) = self.change().topics.get_mut(name) {
            let topic = Arc::make_mut(topic);
            topic.partitions.extend(placed);
            let grown = ClusterTrace::Grown { topic: Arc::clone(&topic.name), partitions: total };
            self.trace(grown);
        }
        self.trace_leaders(name, first);
        Ok(())
    }

    /// Deletes a topic; its id never comes back.
    pub(super) fn delete_topic(&mut self, name: &str) -> Result<(), TopicError> {
        if !self.image.topics.contains_key(name) {
            return Err(missing(name));
        }
        let image = self.change();
        if let Some(topic) = image.topics.remove(name) {
            image.names.remove(&topic.id);
            self.forget_judged(topic.id);
            let (topic, id) = (Arc::clone(&topic.name), topic.id);
            self.trace(ClusterTrace::Deleted { topic, id });
        }
        Ok(())
    }

    /// Changes one of a topic's settings.
    pub(super) fn set_topic_config(
        &mut self,
        name: &str,
        setting: &str,
        value: &str,
    ) -> Result<(), TopicError> {
        let Some(topic) = self.image.topics.get(name) else { return Err(missing(name)) };
        let mut config = topic.config.clone();
        config
            .set(setting, value)
            .map_err(|e| TopicError::new(ErrorCode::InvalidConfig, e.to_string()))?;
        if let Some(topic) = self.change().topics.get_mut(name) {
            Arc::make_mut(topic).config = config;
        }
        Ok(())
    }
}

fn missing(name: &str) -> TopicError {
    let message = format!("there is no topic {}", name.escape_default());
    TopicError::new(ErrorCode::UnknownTopicOrPartition, message)
}
