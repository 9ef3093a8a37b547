//! The controller: who is alive, who leads, who is in sync, which topics there are. KRaft in
//! miniature: one, always up, its log durable; what it decides is an [`Image`] with a version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sordini_protocol::Uuid;

use super::ClusterConfig;
use super::image::{BrokerImage, Image, PartitionImage};
use super::peer::{AlterIsr, Doubtful, Message};
use super::trace::{ClusterTrace, PartitionId};
use crate::broker::IdSource;
use crate::time::{Instant, Now};

/// Producer ids given to a node at a time, as many as Kafka does.
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Requests passed on by nodes that are remembered.
const SERVED_KEPT: usize = 256;

/// What the controller knows of a node beside what all may know.
#[derive(Debug)]
struct Registration {
    incarnation: u64,
    heard: Instant,
    /// The image at which the node led nothing any more and may go.
    leaves_at: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(super) config: ClusterConfig,
    pub(super) image: Arc<Image>,
    /// Who led each partition when all nodes stopped together, until all are back.
    pub(super) former: BTreeMap<(Uuid, usize), i32>,
    nodes: BTreeMap<i32, Registration>,
    /// The newest wish of a leader that was judged, by partition and leader: its life, and its
    /// number. Numbers of two nodes say nothing of each other.
    judged: BTreeMap<(Uuid, i32, i32), (u64, u64)>,
    pub(super) next_producer_id: i64,
    /// The newest requests that nodes passed on: node, its life, number.
    served: VecDeque<(i32, u64, u64)>,
    pub(super) ids: IdSource,
    pub(super) topics_created: u64,
    published: u64,
    pub(super) outbox: Vec<(i32, Message)>,
    pub(super) traces: Vec<ClusterTrace>,
}

impl Controller {
    pub(super) fn new(config: ClusterConfig) -> Self {
        let ids = IdSource::new(config.seed, 0);
        Self {
            config,
            image: Arc::default(),
            former: BTreeMap::new(),
            nodes: BTreeMap::new(),
            judged: BTreeMap::new(),
            next_producer_id: 0,
            served: VecDeque::new(),
            ids,
            topics_created: 0,
            published: 0,
            outbox: Vec::new(),
            traces: Vec::new(),
        }
    }

    /// Takes a node's message.
    pub(super) fn handle(&mut self, now: Now, node: i32, message: Message) {
        match message {
            Message::Register { incarnation, host, port, doubtful } => {
                self.register(now, node, incarnation, (host, port), &doubtful);
            }
            Message::Heartbeat { broker_epoch, version, leaving } => {
                self.heartbeat(now, node, broker_epoch, version, leaving);
            }
            Message::AlterIsr(wish) => self.alter_isr(node, wish),
            Message::AllocateIds { broker_epoch, seq } => {
                self.allocate_ids(node, broker_epoch, seq);
            }
            Message::Forward { broker_epoch, seq, version, request } => {
                if self.is_first((node, broker_epoch, seq))
                    && let Some(response) = super::admin::serve(self, now, version, &request)
                {
                    let response = Arc::new(response);
                    self.outbox.push((node, Message::Forwarded { broker_epoch, seq, response }));
                }
            }
            other => tracing::debug!(?other, "not for the controller"),
        }
        self.publish();
    }

    /// When [`Controller::expire`] is to be called.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let alive = self.nodes.iter().filter(|(id, _)| self.image.live(**id).is_some());
        alive.map(|(_, node)| node.heard.after(self.config.session_timeout)).min()
    }

    /// Fences the nodes that were silent for too long.
    pub(super) fn expire(&mut self, now: Now) {
        let silent: Vec<i32> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.heard.after(self.config.session_timeout) <= now.mono)
            .map(|(id, _)| *id)
            .filter(|id| self.image.live(*id).is_some())
            .collect();
        for node in silent {
            self.fence(node);
        }
        self.publish();
    }

    /// Sends the image to all, if it changed.
    pub(super) fn publish(&mut self) {
        if self.published == self.image.version {
            return;
        }
        self.published = self.image.version;
        for node in self.nodes.keys() {
            self.outbox.push((*node, Message::Image(Arc::clone(&self.image))));
        }
    }

    /// The image, to be changed: its next version.
    pub(super) fn change(&mut self) -> &mut Image {
        let image = Arc::make_mut(&mut self.image);
        if image.version == self.published {
            image.version += 1;
        }
        image
    }

    pub(super) fn trace(&mut self, event: ClusterTrace) {
        if self.config.traced {
            self.traces.push(event);
        }
    }

    fn register(
        &mut self,
        now: Now,
        node: i32,
        incarnation: u64,
        (host, port): (String, u16),
        doubtful: &Doubtful,
    ) {
        let known = self.nodes.get(&node).map_or(0, |node| node.incarnation);
        if incarnation > known {
            // Its earlier life is over, whether its session is or not: what it had in memory is
            // gone, so it can't be in sync.
            self.fence(node);
            let heard = now.mono;
            self.nodes.insert(node, Registration { incarnation, heard, leaves_at: None });
            let image = self.change();
            let epoch = image.version;
            let entry = BrokerImage { epoch, host, port, fenced: true, leaving: false };
            image.brokers.insert(node, entry);
            self.distrust(node, doubtful);
            self.publish();
            self.trace(ClusterTrace::Registered { node, broker_epoch: epoch });
        } else if incarnation < known {
            return;
        }
        if let Some(broker) = self.image.brokers.get(&node) {
            let (broker_epoch, image) = (broker.epoch, Arc::clone(&self.image));
            let answer = Message::Registered { incarnation, broker_epoch, image };
            self.outbox.push((node, answer));
        }
    }

    fn heartbeat(&mut self, now: Now, node: i32, epoch: u64, version: u64, leaving: bool) {
        let Some(broker) = self.image.brokers.get(&node).filter(|b| b.epoch == epoch) else {
            return;
        };
        let (fenced, was_leaving) = (broker.fenced, broker.leaving);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.heard = now.mono;
        }
        if leaving && !was_leaving {
            self.begin_leave(node);
        } else if fenced && !leaving && !was_leaving && version >= epoch {
            self.unfence(node);
        }
        let leaves_at = self.nodes.get(&node).and_then(|node| node.leaves_at);
        let may_leave = leaves_at.is_some_and(|at| version >= at);
        if may_leave {
            self.fence(node);
        }
        let image = (version < self.image.version).then(|| Arc::clone(&self.image));
        let answer = Message::HeartbeatAnswer { broker_epoch: epoch, image, may_leave };
        self.outbox.push((node, answer));
    }

    fn begin_leave(&mut self, node: i32) {
        if let Some(broker) = self.change().brokers.get_mut(&node) {
            broker.leaving = true;
        }
        self.reconsider(node);
        let version = self.image.version;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.leaves_at = Some(version);
        }
    }

    fn unfence(&mut self, node: i32) {
        if let Some(broker) = self.change().brokers.get_mut(&node) {
            broker.fenced = false;
        }
        self.trace(ClusterTrace::Unfenced { node });
        self.reconsider(node);
    }

    fn fence(&mut self, node: i32) {
        if self.image.live(node).is_none() {
            return;
        }
        if let Some(broker) = self.change().brokers.get_mut(&node) {
            broker.fenced = true;
        }
        self.trace(ClusterTrace::Fenced { node });
        self.reconsider(node);
    }

    fn allocate_ids(&mut self, node: i32, broker_epoch: u64, seq: u64) {
        let first = self.next_producer_id;
        self.next_producer_id = first.saturating_add(PRODUCER_ID_BLOCK);
        let ids = Message::Ids { broker_epoch, seq, first, count: PRODUCER_ID_BLOCK };
        self.outbox.push((node, ids));
    }

    /// Judges a leader's wish. Each is judged once and in the order of their numbers: an old one
    /// that arrives late may not come true after its leader was refused, and gave it up.
    fn alter_isr(&mut self, node: i32, wish: AlterIsr) {
        let (topic, partition, seq) = (wish.topic, wish.partition, wish.seq);
        let age = (wish.broker_epoch, seq);
        if self.judged.get(&(topic, partition, node)).is_some_and(|judged| *judged >= age) {
            return;
        }
        self.judged.insert((topic, partition, node), age);
        let name = self.image.names.get(&topic).cloned();
        let state = name.and_then(|name| {
            let current = self.image.partition(&name, partition)?.clone();
            if self.is_granted(node, &wish, &current) {
                let isr: Vec<i32> =
                    current.replicas.iter().copied().filter(|id| wish.has(*id)).collect();
                let at = usize::try_from(partition).ok()?;
                self.set_partition(&name, at, current.leader, isr, true);
            }
            self.image.partition(&name, partition).cloned()
        });
        self.outbox.push((node, Message::IsrAnswer { seq, topic, partition, state }));
    }

    fn is_granted(&self, node: i32, wish: &AlterIsr, current: &PartitionImage) -> bool {
        let is_member = |(id, epoch): &(i32, u64)| {
            let broker = self.image.brokers.get(id);
            current.replicas.contains(id)
                && broker.is_some_and(|broker| broker.epoch == *epoch && broker.is_usable())
        };
        current.leader == node
            && current.leader_epoch == wish.leader_epoch
            && current.partition_epoch == wish.partition_epoch
            && wish.has(node)
            && wish.isr.iter().all(is_member)
    }

    /// A topic is gone, and with it its leaders' wishes.
    pub(super) fn forget_judged(&mut self, topic: Uuid) {
        self.judged.retain(|(id, _, _), _| *id != topic);
    }

    /// Whether a request that was passed on comes for the first time: a copy is not applied again.
    fn is_first(&mut self, request: (i32, u64, u64)) -> bool {
        if self.served.contains(&request) {
            return false;
        }
        if self.served.len() == SERVED_KEPT {
            self.served.pop_front();
        }
        self.served.push_back(request);
        true
    }

    /// Names a partition in a trace.
    pub(super) fn name(&self, topic: &str, index: usize) -> Option<PartitionId> {
        let topic = self.image.topics.get(topic)?;
        let partition = i32::try_from(index).ok()?;
        Some(PartitionId { id: topic.id, topic: Arc::clone(&topic.name), partition })
    }
}

impl AlterIsr {
    fn has(&self, node: i32) -> bool {
        self.isr.iter().any(|(id, _)| *id == node)
    }
}
