//! A replica's role, and how it changes when the view does.

use std::collections::BTreeMap;
use std::sync::Arc;

use sordini_protocol::Uuid;

use super::follower::Following;
use super::image::{Image, PartitionImage, TopicImage};
use super::leader::Leading;
use super::trace::ClusterTrace;
use crate::broker::{Broker, Partition, Topic};
use crate::log::LogError;
use crate::time::Now;

/// A partition's part in the cluster.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Of the newest state that was seen.
    pub(super) partition_epoch: i32,
    pub(super) role: Role,
}

/// Leader, or follower.
#[derive(Debug)]
pub(crate) enum Role {
    Leader(Leading),
    Follower(Following),
}

impl Partition {
    /// Whether clients are served from here: a broker on its own always leads.
    pub(crate) fn is_led_here(&self) -> bool {
        self.replica.as_ref().is_none_or(|replica| matches!(replica.role, Role::Leader(_)))
    }

    /// Whether the committed end is known: a new leader's is not, until the ISR has caught up with
    /// where its term began.
    pub(crate) fn knows_its_end(&self) -> bool {
        let role = self.replica.as_ref().map(|replica| &replica.role);
        let Some(Role::Leader(leading)) = role else { return true };
        self.log.high_watermark() >= leading.start()
    }

    pub(super) fn leading(&mut self) -> Option<&mut Leading> {
        match &mut self.replica.as_mut()?.role {
            Role::Leader(leading) => Some(leading),
            Role::Follower(_) => None,
        }
    }

    pub(super) fn following(&mut self) -> Option<&mut Following> {
        match &mut self.replica.as_mut()?.role {
            Role::Leader(_) => None,
            Role::Follower(following) => Some(following),
        }
    }
}

impl Broker {
    /// Takes a newer image as the view, and acts on what changed.
    pub(super) fn apply_image(&mut self, now: Now, image: Arc<Image>) {
        let Some(node) = self.node_mut() else { return };
        // An image from before this life of the node speaks of another one.
        if node.broker_epoch.is_none_or(|epoch| image.version < epoch)
            || image.version <= node.view.version
        {
            return;
        }
        let old = std::mem::replace(&mut node.view, Arc::clone(&image));
        for (name, topic) in &old.topics {
            if image.topics.get(name).is_none_or(|newer| newer.id != topic.id) {
                self.drop_topic(name);
            }
        }
        if old.version == 0 {
            self.set_strays_aside(&image);
        }
        for (name, topic) in &image.topics {
            let same = old.topics.get(name).is_some_and(|older| Arc::ptr_eq(older, topic));
            if !same && let Err(error) = self.apply_topic(now, topic) {
                self.halt(format!("{name}: {error}"));
                return;
            }
        }
        self.fetch_due(now);
    }

    /// Stops the node, whose storage can't be trusted.
    pub(crate) fn halt(&mut self, reason: String) {
        if let Some(node) = self.node_mut() {
            node.halt(reason);
        }
    }

    fn drop_topic(&mut self, name: &str) {
        let Some(topic) = self.topics.remove(name) else { return };
        self.names.remove(&topic.id);
        for index in topic.partitions.into_keys() {
            self.forget_role(topic.id, index);
            self.bury(&format!("{name}-{index}"));
        }
    }

    /// Those who wait for a partition, or fetch it, look again.
    fn forget_role(&mut self, id: Uuid, index: i32) {
        self.note_readable(id, index, u64::MAX);
        let Some(node) = self.node_mut() else { return };
        node.settled.insert((id, index));
        node.news.insert((id, index));
        node.fetchers.retain(|_, fetcher| fetcher.forget((id, index)));
    }

    fn set_strays_aside(&mut self, image: &Image) {
        let known = |dir: &str| {
            let (name, index) = dir.rsplit_once('-')?;
            let index: i32 = index.parse().ok()?;
            image.partition(name, index)
        };
        let id = self.config.node_id;
        for dir in self.partition_dirs() {
            if known(&dir).is_none_or(|partition| !partition.replicas.contains(&id)) {
                self.bury(&dir);
            }
        }
    }

    fn apply_topic(&mut self, now: Now, topic: &TopicImage) -> Result<(), LogError> {
        let name = topic.name.as_ref();
        if !self.topics.contains_key(name) {
            let entry = Topic { id: topic.id, partitions: BTreeMap::new() };
            self.topics.insert(name.to_owned(), entry);
            self.names.insert(topic.id, name.to_owned());
        }
        for (index, image) in (0i32..).zip(&topic.partitions) {
            if !image.replicas.contains(&self.config.node_id) {
                continue;
            }
            let here = self.topics.get(name).is_some_and(|t| t.partitions.contains_key(&index));
            if !here {
                self.open_replica(now, topic, index)?;
            }
            self.apply_partition(now, topic, index, image)?;
        }
        Ok(())
    }

    fn open_replica(&mut self, now: Now, topic: &TopicImage, index: i32) -> Result<(), LogError> {
        let name = topic.name.as_ref();
        let log = self.open_found(now, name, index, topic.id, &topic.config)?;
        let (log_start, log_end) = (log.log_start(), log.log_end());
        let partition = Partition { log, leader_epoch: -1, replica: None };
        if let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.insert(index, partition);
        }
        if let Some(node) = self.node_mut() {
            let at = (topic.id, index);
            node.trace(at, |node, at| ClusterTrace::Opened { node, at, log_start, log_end });
        }
        Ok(())
    }

    fn apply_partition(
        &mut self,
        now: Now,
        topic: &TopicImage,
        index: i32,
        image: &PartitionImage,
    ) -> Result<(), LogError> {
        let (name, id, me) = (topic.name.as_ref(), topic.id, self.config.node_id);
        let Some((partition, storage)) = self.partition(name, index) else { return Ok(()) };
        if *partition.log.config() != topic.config {
            partition.log.set_config(topic.config.clone());
        }
        let known = partition.replica.as_ref().map(|replica| replica.partition_epoch);
        if known.is_some_and(|known| known >= image.partition_epoch) {
            return Ok(());
        }
        let new_term = known.is_none() || image.leader_epoch > partition.leader_epoch;
        let partition_epoch = image.partition_epoch;
        if !new_term {
            if let Some(replica) = &mut partition.replica {
                replica.partition_epoch = partition_epoch;
            }
            if let Some(leading) = partition.leading() {
                leading.set_isr(image.isr.clone());
                self.advance(now, name, index);
            }
            return Ok(());
        }
        partition.leader_epoch = image.leader_epoch;
        let role = if image.leader == me {
            partition.log.become_leader(storage, image.leader_epoch)?;
            Role::Leader(Leading::new(now, &partition.log, me, image))
        } else {
            Role::Follower(Following::new(now, image.leader))
        };
        let (leads, start) = (matches!(role, Role::Leader(_)), partition.log.log_end());
        partition.replica = Some(Replica { partition_epoch, role });
        self.forget_role(id, index);
        let Some(node) = self.node_mut() else { return Ok(()) };
        if leads {
            let leader_epoch = image.leader_epoch;
            let event = |node, at| ClusterTrace::Leads { node, at, leader_epoch, start };
            node.trace((id, index), event);
            self.advance(now, name, index);
        } else if image.leader >= 0 {
            node.fetchers.entry(image.leader).or_default().follow((id, index));
        }
        Ok(())
    }
}
