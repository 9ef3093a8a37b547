//! What outlives a process that has all nodes and the controller in it: the controller's log, as
//! one text that is replaced on every decision.

use std::fmt::Write as _;
use std::str::{FromStr, Lines};
use std::sync::Arc;

use sordini_protocol::Uuid;

use super::controller::Controller;
use super::image::{NO_NODE, PartitionImage, TopicImage};
use super::world::Cluster;
use crate::broker::IdSource;
use crate::catalog::{seal, topic_name_error, unseal};
use crate::topic_config::TopicConfig;

const HEADING: &str = "sordini-cluster 1";

/// Two states of a controller are equal if their revisions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision(u64, i64, u64);

impl Cluster {
    /// Changes with what [`Cluster::saved`] returns.
    pub(crate) fn revision(&self) -> Revision {
        let Controller { image, next_producer_id, .. } = &self.controller;
        Revision(image.version, *next_producer_id, self.incarnations)
    }

    /// All that [`Cluster::restore`] needs.
    pub(crate) fn saved(&self) -> String {
        let Controller { image, next_producer_id, topics_created, .. } = &self.controller;
        let mut text = format!(
            "{HEADING}\nnodes {}\ncluster {}\nversion {}\nlives {}\ntopics-created \
             {topics_created}\nproducer-ids {next_producer_id}\n",
            self.config.nodes, self.cluster_id, image.version, self.incarnations
        );
        for (name, topic) in &image.topics {
            let _ = writeln!(text, "topic {name} {}", topic.id);
            for (setting, value) in topic.config.iter() {
                let _ = writeln!(text, "config {setting}={value}");
            }
            for partition in &topic.partitions {
                let (replicas, isr) = (list(&partition.replicas), list(&partition.isr));
                let PartitionImage { leader, leader_epoch, partition_epoch, .. } = partition;
                let _ = writeln!(
                    text,
                    "partition {replicas} {isr} {leader} {leader_epoch} {partition_epoch}"
                );
            }
        }
        seal(text)
    }

    /// Takes up what an earlier cluster of as many nodes decided, before any node is started. Each
    /// partition waits for who led it, until [`Cluster::all_are_back`]. `None` if the text is
    /// damaged.
    pub(crate) fn restore(&mut self, text: &str) -> Option<()> {
        let mut lines = unseal(text)?;
        let nodes: i32 = head(&mut lines)?;
        self.cluster_id = value(&mut lines, "cluster ")?;
        let version: u64 = value(&mut lines, "version ")?;
        self.incarnations = value(&mut lines, "lives ")?;
        let controller = &mut self.controller;
        controller.topics_created = value(&mut lines, "topics-created ")?;
        controller.next_producer_id = value(&mut lines, "producer-ids ")?;
        // The same seed gives other ids than in the lives before.
        controller.ids = IdSource::new(self.config.seed, u64::MAX - self.incarnations);
        let topics = topics(lines, nodes)?;
        let image = controller.change();
        image.version = version.checked_add(1)?;
        for topic in topics {
            image.names.insert(topic.id, topic.name.to_string());
            image.topics.insert(topic.name.to_string(), Arc::new(topic));
        }
        for topic in Arc::make_mut(&mut controller.image).topics.values_mut() {
            let topic = Arc::make_mut(topic);
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                if partition.leader != NO_NODE {
                    controller.former.insert((topic.id, index), partition.leader);
                    partition.leader = NO_NODE;
                    partition.leader_epoch = partition.leader_epoch.checked_add(1)?;
                    partition.partition_epoch = partition.partition_epoch.checked_add(1)?;
                }
            }
        }
        Some(())
    }

    /// All nodes were started: who is not here by now is not waited for.
    pub(crate) fn all_are_back(&mut self) {
        self.controller.former.clear();
        for node in 1..=self.config.nodes {
            self.controller.reconsider(node);
        }
        self.publish();
    }

    /// How many nodes a saved cluster has; `None` if the text is damaged.
    pub(crate) fn saved_nodes(text: &str) -> Option<i32> {
        head(&mut unseal(text)?)
    }
}

fn list(nodes: &[i32]) -> String {
    nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// The number of nodes.
fn head(lines: &mut Lines<'_>) -> Option<i32> {
    (lines.next()? == HEADING).then_some(())?;
    value(lines, "nodes ").filter(|nodes| *nodes > 0)
}

fn value<T: FromStr>(lines: &mut Lines<'_>, name: &str) -> Option<T> {
    lines.next()?.strip_prefix(name)?.parse().ok()
}

fn topics(lines: Lines<'_>, nodes: i32) -> Option<Vec<TopicImage>> {
    let mut topics: Vec<TopicImage> = Vec::new();
    for line in lines {
        if let Some(topic) = line.strip_prefix("topic ") {
            let (name, id) = topic.split_once(' ')?;
            topic_name_error(name).is_none().then_some(())?;
            let (name, id): (Arc<str>, Uuid) = (Arc::from(name), id.parse().ok()?);
            let config = TopicConfig::default();
            topics.push(TopicImage { id, name, config, partitions: Vec::new() });
        } else if let Some(partition) = line.strip_prefix("partition ") {
            topics.last_mut()?.partitions.push(partition_of(partition, nodes)?);
        } else {
            let (name, value) = line.strip_prefix("config ")?.split_once('=')?;
            topics.last_mut()?.config.set(name, value).ok()?;
        }
    }
    Some(topics)
}

fn partition_of(line: &str, nodes: i32) -> Option<PartitionImage> {
    let mut words = line.split(' ');
    let mut members = || -> Option<Vec<i32>> {
        let ids: Option<Vec<i32>> = words.next()?.split(',').map(|id| id.parse().ok()).collect();
        ids.filter(|ids| ids.iter().all(|id| (1..=nodes).contains(id)))
    };
    let (replicas, isr) = (members()?, members()?);
    let leader = words.next()?.parse().ok()?;
    let leader_epoch = words.next()?.parse().ok()?;
    let partition_epoch = words.next()?.parse().ok()?;
    words.next().is_none().then_some(PartitionImage {
        replicas,
        isr,
        leader,
        leader_epoch,
        partition_epoch,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::{ClusterConfig, ClusterOutput};
    use crate::storage::MemoryStorage;
    use crate::time::{Instant, Now};

    fn now() -> Now {
        Now { mono: Instant(1), wall_ms: 1_700_000_000_000 }
    }

    fn carry(cluster: &mut Cluster) {
        while let Some(output) = cluster.poll_output() {
            if let ClusterOutput::Peer { from, to, message } = output {
                cluster.handle_peer(now(), from, to, message);
            }
        }
    }

    type Disks = BTreeMap<i32, MemoryStorage>;

    fn start(cluster: &mut Cluster, disks: &Disks, nodes: &[i32]) {
        for node in nodes {
            cluster.start(now(), *node, Box::new(disks[node].clone())).expect("its storage");
            carry(cluster);
        }
    }

    /// A cluster with partitions that different nodes lead, and what they have.
    fn lived() -> (Cluster, Disks) {
        let mut cluster = Cluster::new(ClusterConfig::default());
        let disks: Disks = (1..=3).map(|node| (node, MemoryStorage::new())).collect();
        start(&mut cluster, &disks, &[1, 2, 3]);
        let mut config = TopicConfig::default();
        config.set("retention.ms", "5").expect("setting");
        cluster.create_topic("a.b-1", 5, 3, config).expect("topic");
        cluster.create_topic("t", 1, 2, TopicConfig::default()).expect("topic");
        carry(&mut cluster);
        (cluster, disks)
    }

    #[test]
    fn what_was_decided_comes_back_and_who_led_leads_again_in_a_later_epoch() {
        let (old, disks) = lived();
        let mut new = Cluster::new(ClusterConfig::default());
        new.restore(&old.saved()).expect("sound");
        start(&mut new, &disks, &[1, 2, 3]);
        new.all_are_back();
        carry(&mut new);
        assert_eq!(new.topic_id("a.b-1"), old.topic_id("a.b-1"));
        assert_eq!(new.partitions("a.b-1"), 5);
        for partition in 0..5 {
            let ((was, before), (is, epoch)) = (
                old.leader("a.b-1", partition).expect("led"),
                new.leader("a.b-1", partition).expect("led"),
            );
            assert_eq!(is, was, "partition {partition}");
            assert!(epoch > before, "partition {partition}: {epoch} is not above {before}");
            assert_eq!(new.isr("a.b-1", partition), old.isr("a.b-1", partition));
        }
        assert!(new.version() > old.version());
        assert!(new.saved().contains("config retention.ms=5\n"));
        let third = new.create_topic("u", 1, 1, TopicConfig::default()).expect("topic");
        assert_ne!(Some(third), old.topic_id("a.b-1"), "ids do not come again");
        assert_ne!(Some(third), old.topic_id("t"), "ids do not come again");
    }

    #[test]
    fn a_leader_that_does_not_come_back_is_replaced_by_who_is_in_sync() {
        let (old, disks) = lived();
        let mut new = Cluster::new(ClusterConfig::default());
        new.restore(&old.saved()).expect("sound");
        start(&mut new, &disks, &[1, 3]);
        let of_two: Vec<i32> =
            (0..5).filter(|p| old.leader("a.b-1", *p).is_some_and(|(id, _)| id == 2)).collect();
        assert!(!of_two.is_empty());
        assert!(of_two.iter().all(|p| new.leader("a.b-1", *p).is_none()), "it is waited for");
        new.all_are_back();
        for partition in of_two {
            assert!(new.leader("a.b-1", partition).is_some(), "but not for ever");
            assert!(!new.isr("a.b-1", partition).contains(&2));
        }
    }

    #[test]
    fn a_damaged_state_is_refused_at_every_byte() {
        let sound = lived().0.saved();
        assert_eq!(Cluster::saved_nodes(&sound), Some(3));
        for at in 0..sound.len() {
            let mut damaged = sound.clone().into_bytes();
            damaged[at] ^= 1;
            let mut cluster = Cluster::new(ClusterConfig::default());
            let damaged = std::str::from_utf8(&damaged).expect("still ASCII");
            assert_eq!(cluster.restore(damaged), None, "at {at}");
            assert_eq!(cluster.restore(&sound[..at]), None, "cut at {at}");
        }
    }
}
