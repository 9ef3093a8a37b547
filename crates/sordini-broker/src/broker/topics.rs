//! Creating, growing and deleting topics.

use std::collections::BTreeMap;

use sordini_protocol::{ErrorCode, Uuid};

use super::open::Before;
use super::{Broker, OpenError, Partition, Topic};
use crate::catalog::{TopicEntry, topic_name_error};
use crate::time::Now;
use crate::topic_config::TopicConfig;

/// Names that Kafka keeps for itself.
pub(crate) const INTERNAL_TOPICS: [&str; 3] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Why a topic can't be created, grown or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicError {
    pub code: ErrorCode,
    pub message: String,
}

impl TopicError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A topic to be created.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewTopic {
    pub name: String,
    /// Partitions, -1 for the broker's default.
    pub partitions: i32,
    /// Replicas of each, -1 for the default.
    pub replication: i16,
    /// The replicas of each partition, where the client wants to say; they come first.
    pub assignments: Vec<Vec<i32>>,
    pub settings: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// A topic with the defaults of who creates it.
    pub(crate) fn by_default(name: &str) -> Self {
        Self { name: name.to_owned(), partitions: -1, replication: -1, ..Self::default() }
    }

    /// Whether it may have its name beside the `topics` that there are.
    pub(crate) fn check_name<T>(&self, topics: &BTreeMap<String, T>) -> Result<(), TopicError> {
        let name = &self.name;
        if let Some(reason) = topic_name_error(name) {
            return Err(TopicError::new(ErrorCode::InvalidTopicException, reason));
        }
        if topics.contains_key(name) {
            let message = format!("Topic '{name}' already exists.");
            return Err(TopicError::new(ErrorCode::TopicAlreadyExists, message));
        }
        // In the names of metrics Kafka takes `.` and `_` for the same.
        let collides = |other: &&String| other.replace('.', "_") == name.replace('.', "_");
        if let Some(other) = topics.keys().find(collides) {
            let message = format!("Topic '{name}' collides with existing topic: {other}");
            return Err(TopicError::new(ErrorCode::InvalidTopicException, message));
        }
        Ok(())
    }

    /// The topic's settings: what is set, over the defaults.
    pub(crate) fn config(&self, defaults: &TopicConfig) -> Result<TopicConfig, TopicError> {
        let mut config = defaults.clone();
        for (name, value) in &self.settings {
            let value = value.as_deref().unwrap_or_default();
            config
                .set(name, value)
                .map_err(|e| TopicError::new(ErrorCode::InvalidConfig, e.to_string()))?;
        }
        Ok(config)
    }
}

/// Who keeps the topics: a broker on its own, or the controller of a cluster.
pub(crate) trait TopicKeeper {
    /// Whether a topic may have its replicas so.
    fn check_replicas(&self, new: &NewTopic) -> Result<(), TopicError>;
    /// Creates a topic, or (`validate_only`) says whether that would work.
    fn create(
        &mut self,
        now: Now,
        new: &NewTopic,
        validate_only: bool,
    ) -> Result<Created, TopicError>;
    /// Whether new partitions may have their replicas so.
    fn check_assignments(&self, assignments: &[Vec<i32>]) -> Result<(), TopicError>;
    /// Gives a topic more partitions, with these replicas if any are named.
    fn grow(
        &mut self,
        now: Now,
        name: &str,
        count: i32,
        assignments: &[Vec<i32>],
        validate_only: bool,
    ) -> Result<(), TopicError>;
    /// Deletes a topic.
    fn delete(&mut self, name: &str) -> Result<(), TopicError>;
    /// A topic's id.
    fn id_of(&self, name: &str) -> Option<Uuid>;
    /// A topic's name.
    fn name_of(&self, id: &Uuid) -> Option<String>;
}

impl TopicKeeper for Broker {
    fn check_replicas(&self, new: &NewTopic) -> Result<(), TopicError> {
        let id = self.config.node_id;
        if !matches!(new.replication, 1 | -1) {
            let message =
                format!("replication factor {}: this cluster has one broker", new.replication);
            return Err(TopicError::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if new.assignments.iter().all(|replicas| *replicas == [id]) {
            return Ok(());
        }
        let message = format!("partitions must be 0, 1, 2 .. and each be assigned to broker {id}");
        Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message))
    }

    fn create(
        &mut self,
        now: Now,
        new: &NewTopic,
        validate_only: bool,
    ) -> Result<Created, TopicError> {
        self.create_topic(now, new, validate_only)
    }

    fn check_assignments(&self, assignments: &[Vec<i32>]) -> Result<(), TopicError> {
        let id = self.config.node_id;
        if assignments.iter().all(|replicas| *replicas == [id]) {
            return Ok(());
        }
        let message = format!("new partitions can be assigned to broker {id} only");
        Err(TopicError::new(ErrorCode::InvalidReplicaAssignment, message))
    }

    fn grow(
        &mut self,
        now: Now,
        name: &str,
        count: i32,
        _: &[Vec<i32>],
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.grow_topic(now, name, count, validate_only)
    }

    fn delete(&mut self, name: &str) -> Result<(), TopicError> {
        self.delete_topic(name)
    }

    fn id_of(&self, name: &str) -> Option<Uuid> {
        self.topics.get(name).map(|topic| topic.id)
    }

    fn name_of(&self, id: &Uuid) -> Option<String> {
        self.topic_name(id).map(str::to_owned)
    }
}

/// A topic that was created.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub id: Uuid,
    pub partitions: i32,
    pub replication: i16,
    pub config: TopicConfig,
}

impl Broker {
    /// Creates a topic, or (`validate_only`) says whether that would work.
    pub(crate) fn create_topic(
        &mut self,
        now: Now,
        new: &NewTopic,
        validate_only: bool,
    ) -> Result<Created, TopicError> {
        new.check_name(&self.topics)?;
        let partitions = match new.partitions {
            -1 => self.config.default_partitions,
            n if n > 0 => n,
            n => {
                let message = format!("the number of partitions is {n}, it must be above 0");
                return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
            }
        };
        self.check_room(partitions)?;
        let config = new.config(&self.config.topic_defaults)?;
        let id = if validate_only { Uuid::ZERO } else { self.fresh_topic_id() };
        let created = Created { id, partitions, replication: 1, config };
        if !validate_only {
            self.add_topic(now, &new.name, &created).map_err(|error| storage_error(&error))?;
        }
        Ok(created)
    }

    fn check_room(&self, more: i32) -> Result<(), TopicError> {
        let have: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        let max = self.config.max_partitions;
        if usize::try_from(more).is_ok_and(|more| have.saturating_add(more) <= max) {
            return Ok(());
        }
        let message = format!("{more} more partitions exceed this broker's limit of {max}");
        Err(TopicError::new(ErrorCode::InvalidPartitions, message))
    }

    fn fresh_topic_id(&mut self) -> Uuid {
        loop {
            let id = self.ids.uuid();
            if !self.names.contains_key(&id) {
                return id;
            }
        }
    }

    fn add_topic(&mut self, now: Now, name: &str, created: &Created) -> Result<(), OpenError> {
        let count = usize::try_from(created.partitions).unwrap_or(0);
        for index in 0..count {
            let dir = format!("{name}-{index}");
            if !self.storage.list(&dir)?.is_empty() {
                self.set_aside(&dir)?;
            }
        }
        let entry =
            TopicEntry { id: created.id, config: created.config.clone(), epochs: vec![0; count] };
        self.catalog.topics.insert(name.to_owned(), entry);
        if let Err(error) = self.catalog.save(self.storage.as_mut()) {
            self.catalog.topics.remove(name);
            return Err(error.into());
        }
        self.names.insert(created.id, name.to_owned());
        self.topics.insert(name.to_owned(), Topic { id: created.id, partitions: BTreeMap::new() });
        let grown = self.add_partitions(now, name, created.partitions);
        if grown.is_err() {
            // Half a topic is none; its folders go when the name is used again.
            self.topics.remove(name);
            self.names.remove(&created.id);
            self.catalog.topics.remove(name);
            let _ = self.catalog.save(self.storage.as_mut());
        }
        grown
    }

    /// Opens the partitions that a topic lacks up to `count`; the catalog has them already.
    fn add_partitions(&mut self, now: Now, name: &str, count: i32) -> Result<(), OpenError> {
        let Some(entry) = self.catalog.topics.get(name).cloned() else { return Ok(()) };
        let have = self.topics.get(name).map_or(0, |topic| topic.partitions.len());
        for index in i32::try_from(have).unwrap_or(i32::MAX)..count {
            let dir = format!("{name}-{index}");
            let (mut log, _) =
                self.open_partition(now, &dir, entry.id, &entry.config, Before::default())?;
            log.become_leader(self.storage.as_mut(), 0)?;
            if let Some(topic) = self.topics.get_mut(name) {
                topic.partitions.insert(index, Partition::sole(log, 0));
            }
        }
        Ok(())
    }

    /// Gives a topic more partitions.
    pub(crate) fn grow_topic(
        &mut self,
        now: Now,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let Some(topic) = self.topics.get(name) else {
            let message = format!("there is no topic {}", name.escape_default());
            return Err(TopicError::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        let have = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if count <= have {
            let message = format!("topic {name} has {have} partitions; {count} are not more");
            return Err(TopicError::new(ErrorCode::InvalidPartitions, message));
        }
        self.check_room(count - have)?;
        if validate_only {
            return Ok(());
        }
        let before = self.catalog.clone();
        if let Some(entry) = self.catalog.topics.get_mut(name) {
            entry.epochs.resize(usize::try_from(count).unwrap_or(0), 0);
        }
        if let Err(error) = self.catalog.save(self.storage.as_mut()) {
            self.catalog = before;
            return Err(storage_error(&error.into()));
        }
        self.add_partitions(now, name, count).map_err(|error| storage_error(&error))
    }

    /// Deletes a topic; its id never comes back.
    pub(crate) fn delete_topic(&mut self, name: &str) -> Result<(), TopicError> {
        let Some(entry) = self.catalog.topics.remove(name) else {
            let message = format!("there is no topic {}", name.escape_default());
            return Err(TopicError::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        if let Err(error) = self.catalog.save(self.storage.as_mut()) {
            self.catalog.topics.insert(name.to_owned(), entry);
            return Err(storage_error(&error.into()));
        }
        self.names.remove(&entry.id);
        let partitions = self.topics.remove(name).map(|topic| topic.partitions).unwrap_or_default();
        for index in partitions.into_keys() {
            self.advanced.insert((entry.id, index), u64::MAX);
            let dir = format!("{name}-{index}");
            // What can't be removed now is set aside or removed at the next start.
            self.bury(&dir);
        }
        Ok(())
    }

    /// Changes one of a topic's settings.
    pub(crate) fn change_setting(
        &mut self,
        topic: &str,
        setting: &str,
        value: &str,
    ) -> Result<(), TopicError> {
        let Some(entry) = self.catalog.topics.get_mut(topic) else {
            let message = format!("there is no topic {}", topic.escape_default());
            return Err(TopicError::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        let mut config = entry.config.clone();
        config
            .set(setting, value)
            .map_err(|e| TopicError::new(ErrorCode::InvalidConfig, e.to_string()))?;
        let before = std::mem::replace(&mut entry.config, config.clone());
        if let Err(error) = self.catalog.save(self.storage.as_mut()) {
            if let Some(entry) = self.catalog.topics.get_mut(topic) {
                entry.config = before;
            }
            return Err(storage_error(&error.into()));
        }
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.partitions.values_mut().for_each(|p| p.log.set_config(config.clone()));
        }
        Ok(())
    }
}

fn storage_error(error: &OpenError) -> TopicError {
    TopicError::new(ErrorCode::KafkaStorageError, error.to_string())
}
