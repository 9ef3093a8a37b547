//! Each partition: its lane, its line, and whether it has something to send.

use std::sync::Arc;

use crate::accumulator::lane::{Lane, View};
use crate::accumulator::ready::Event;
use crate::accumulator::topic::Topic;
use crate::batch::stages::Compressed;
use crate::error::Refusal;
use crate::producer::Producer;
use crate::producer::commands::Life;
use crate::sequencing::line::Line;
use crate::sequencing::slot::{Slot, SlotKey};
use crate::time::Instant;

/// Names a partition within the producer: the topic's number, and the partition's.
pub(super) type PartitionKey = (u32, i32);

/// One partition, as the control plane sees it.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) lane: Arc<Lane>,
    pub(super) line: Line,
    /// What was in the lane when it was last looked at.
    pub(super) view: View,
    /// It stands in the queue of this node.
    queued: Option<i32>,
    timer: Option<Instant>,
    /// The topic is no more: what fails here goes nowhere else.
    pub(super) gone: bool,
}

impl Partition {
    /// Does anything wait in the lane?
    pub(super) fn has_waiting(&self) -> bool {
        self.view.oldest.is_some()
    }
}

impl Producer {
    /// Takes in what the data plane reports.
    pub(super) fn on_lanes_due(&mut self) {
        for event in self.accumulator.ready().drain() {
            match event {
                Event::Lane(lane) => {
                    let key = (lane.topic(), lane.partition());
                    self.note_use(lane.topic());
                    if let Some(partition) = self.partitions.get_mut(&key) {
                        partition.view = partition.lane.view();
                        self.touch(key);
                    }
                }
                Event::Topic(topic) => self.on_topic_wanted(&topic),
                Event::Pressure => self.pressed = true,
            }
        }
        self.relieve();
    }

    fn on_topic_wanted(&mut self, topic: &Arc<Topic>) {
        if !matches!(self.life, Life::Open) {
            topic.refuse(&Refusal::Closed, true);
            return;
        }
        self.topics.insert(topic.index(), Arc::clone(topic));
        self.cluster.touch(topic.index(), topic.name(), self.now);
        self.refresh.want();
    }

    /// A topic that was left out of refreshes while it was idle is asked for again.
    fn note_use(&mut self, topic: u32) {
        let Some(info) = self.cluster.topic(topic) else { return };
        if self.now.saturating_since(info.last_used) > self.config.metadata_max_idle {
            self.refresh.want();
        }
        let name = Arc::clone(&info.name);
        self.cluster.touch(topic, &name, self.now);
    }

    /// Makes lines for lanes that have none yet.
    pub(super) fn add_partitions(&mut self, topic: &Topic) {
        let window = self.config.max_in_flight_requests_per_connection as usize;
        for lane in topic.lanes() {
            let key = (topic.index(), lane.partition());
            self.partitions.entry(key).or_insert_with(|| Partition {
                lane: Arc::clone(lane),
                line: Line::new(self.config.enable_idempotence, window),
                view: View::default(),
                queued: None,
                timer: None,
                gone: false,
            });
        }
    }

    /// Is the lane's oldest batch to be sent now, whatever could still join it?
    fn is_lane_due(&self, partition: &Partition) -> bool {
        let lingered = |opened: Instant| opened.saturating_add(self.config.linger) <= self.now;
        partition.view.sealed > 0 || partition.view.open.is_some_and(lingered)
    }

    /// Could the partition send something now, were its leader ready?
    pub(super) fn is_runnable(&self, partition: &Partition) -> bool {
        let line = &partition.line;
        if line.needs_identity(self.now) {
            let has_batch = !line.is_empty() || self.is_lane_due(partition);
            return has_batch && self.identity_is_ready();
        }
        line.next_to_send(self.now).is_some() || (line.has_room() && self.is_lane_due(partition))
    }

    /// Looks at a partition whose state changed: queues it with its leader if it can send, and
    /// sets its timer.
    pub(super) fn touch(&mut self, key: PartitionKey) {
        let leader = self.cluster.leader(key.0, key.1).and_then(|leader| leader.node);
        let Some(partition) = self.partitions.get(&key) else { return };
        let runnable = self.is_runnable(partition);
        let timer = self.partition_deadline(partition).filter(|at| *at > self.now);
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        if partition.timer != timer {
            if let Some(old) = std::mem::replace(&mut partition.timer, timer) {
                self.timers.remove(&(old, key));
            }
            if let Some(timer) = timer {
                self.timers.insert((timer, key));
            }
        }
        if !runnable || partition.queued.is_some() {
            return;
        }
        match leader {
            Some(node) => {
                partition.queued = Some(node);
                self.runnable.entry(node).or_default().push_back(key);
            }
            None => self.refresh.want(),
        }
    }

    /// Touches every partition: something changed that concerns all.
    pub(super) fn touch_all(&mut self) {
        let keys: Vec<PartitionKey> = self.partitions.keys().copied().collect();
        for key in keys {
            self.touch(key);
        }
    }

    /// The next partition in `node`'s queue that is still led by it and has something to send.
    pub(super) fn next_runnable(&mut self, node: i32) -> Option<PartitionKey> {
        loop {
            let key = self.runnable.get_mut(&node)?.pop_front()?;
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.queued = None;
            }
            let leader = self.cluster.leader(key.0, key.1).and_then(|leader| leader.node);
            let runnable = self.partitions.get(&key).is_some_and(|at| self.is_runnable(at));
            if leader == Some(node) && runnable {
                return Some(key);
            }
            self.touch(key);
        }
    }

    /// Puts a partition back at the front of `node`'s queue.
    pub(super) fn requeue_first(&mut self, node: i32, key: PartitionKey) {
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.queued = Some(node);
            self.runnable.entry(node).or_default().push_front(key);
        }
    }

    /// When the partition has to be looked at again, if nothing happens before.
    fn partition_deadline(&self, partition: &Partition) -> Option<Instant> {
        let line = &partition.line;
        let view = &partition.view;
        let linger = view.open.filter(|_| view.sealed == 0 && line.has_room());
        let oldest_on_way = line.slots().iter().find_map(Slot::meta).map(|meta| meta.opened);
        let oldest = [oldest_on_way, view.oldest].into_iter().flatten().min();
        let linger = linger.map(|opened| opened.saturating_add(self.config.linger));
        let expiry = oldest.map(|opened| opened.saturating_add(self.config.delivery_timeout));
        let later = |at: &Instant| *at > self.now;
        [linger, line.next_retry(), expiry].into_iter().flatten().filter(later).min()
    }

    /// The timer of a partition fired.
    pub(super) fn disarm(&mut self, key: PartitionKey) {
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.timer = None;
        }
    }

    /// With memory exhausted and nothing on its way that would free any, seals the oldest open
    /// batch before its linger is over.
    pub(super) fn relieve(&mut self) {
        if !self.pressed || self.on_way > 0 {
            return;
        }
        self.pressed = self.accumulator.memory().contended();
        let waiting = self.partitions.iter().filter(|(_, partition)| partition.has_waiting());
        let oldest = waiting.min_by_key(|(_, partition)| partition.view.oldest);
        let Some((&key, partition)) = oldest else { return };
        partition.lane.seal();
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.view = partition.lane.view();
        }
        self.touch(key);
    }

    /// A codec is done.
    pub(super) fn on_compressed(&mut self, compressed: Compressed) {
        let id = compressed.id;
        let key = (id.topic, id.partition);
        let slot_key = SlotKey { batch: id.batch, first: 0 };
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        // A batch that expired meanwhile is no longer here; its bytes are freed with `compressed`.
        let Some(place) = partition.line.place(slot_key) else { return };
        let len = compressed.body.len() as u64;
        partition.line.compressed(place, compressed);
        crate::accumulator::counters::add(&self.accumulator.counters().bytes_compressed, len);
        self.touch(key);
    }
}
