//! Each partition: its lane, its line, and whether it has something to send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::mutant;

use crate::accumulator::lane::{Lane, View};
use crate::accumulator::ready::Event;
use crate::accumulator::topic::Topic;
use crate::batch::stages::Compressed;
use crate::error::Refusal;
use crate::producer::Producer;
use crate::producer::commands::Life;
use crate::producer::io::{Output, Trace};
use crate::producer::table::PartitionKey;
use crate::sequencing::line::Line;
use crate::sequencing::slot::{Slot, SlotKey};
use crate::time::Instant;

/// One partition, as the control plane sees it.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) lane: Arc<Lane>,
    pub(super) line: Line,
    /// What was in the lane when it was last looked at.
    pub(super) view: View,
    /// It stands in the queue of this node; an entry in another node's queue is out of date.
    queued: Option<i32>,
    pub(super) timer: Option<Instant>,
}

impl Partition {
    /// Does anything wait in the lane?
    pub(super) fn has_waiting(&self) -> bool {
        self.view.oldest.is_some()
    }
}

/// Timers of runtimes are rounded up to this, tokio's among them: without regard to it a batch would
/// linger for a millisecond more than it may.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

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
    }

    fn on_topic_wanted(&mut self, topic: &Arc<Topic>) {
        if !matches!(self.life, Life::Open) {
            topic.refuse(&Refusal::Closed, true);
            return;
        }
        self.topics.insert(topic.index(), Arc::clone(topic));
        self.cluster.touch(topic.index(), topic.name(), self.now);
        self.refresh.want_topic();
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
        for lane in topic.lanes() {
            let key = (topic.index(), lane.partition());
            if self.partitions.contains_key(&key) {
                continue;
            }
            let partition = Partition {
                lane: Arc::clone(lane),
                line: self.new_line(),
                view: View::default(),
                queued: None,
                timer: None,
            };
            self.partitions.insert(key, partition);
        }
    }

    fn new_line(&self) -> Line {
        let window = self.config.max_in_flight_requests_per_connection as usize;
        let line =
            Line::new(self.config.enable_idempotence, window).starting_at(self.first_sequence);
        match self.transactions {
            Some(_) => line.in_transactions(),
            None => line,
        }
    }

    /// Forgets a partition whose topic is no more; nothing is left in it.
    pub(super) fn forget_partition(&mut self, key: PartitionKey) {
        let Some(partition) = self.partitions.remove(&key) else { return };
        assert!(partition.line.is_empty(), "S1: batches of a partition were forgotten");
        if let Some(timer) = partition.timer {
            self.timers.remove(&(timer, key));
        }
    }

    /// When a batch that was opened then is sent, if nothing else makes it go before.
    fn lingers_until(&self, opened: Instant) -> Instant {
        let linger = self.config.linger;
        opened.saturating_add(linger.saturating_sub(TIMER_GRAIN.min(linger / 2)))
    }

    /// Is the lane's oldest batch to be sent now, whatever could still join it?
    pub(super) fn is_lane_due(&self, partition: &Partition) -> bool {
        let lingered = |opened: Instant| self.lingers_until(opened) <= self.now;
        partition.view.sealed > 0 || partition.view.open.is_some_and(lingered)
    }

    /// Could the partition send something now, were its leader ready?
    pub(super) fn is_runnable(&self, partition: &Partition) -> bool {
        let line = &partition.line;
        if !self.may_send((partition.lane.topic(), partition.lane.partition())) {
            return false;
        }
        if line.needs_identity(self.now) {
            let has_batch = !line.is_empty() || self.is_lane_due(partition);
            return has_batch && self.identity_is_ready();
        }
        line.next_to_send(self.now).is_some() || (line.has_room() && self.is_lane_due(partition))
    }

    /// Looks at a partition whose state changed: queues it with its leader if it can send, and
    /// sets its timer.
    pub(super) fn touch(&mut self, key: PartitionKey) {
        self.enroll(key);
        let leader = self.cluster.leader(key.0, key.1);
        let Some(partition) = self.partitions.get(&key) else { return };
        let runnable = self.is_runnable(partition);
        let drained = mutant!(M25) && partition.line.is_proven() && partition.line.is_empty();
        let timer = self.partition_deadline(partition).filter(|_| !drained);
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        if partition.timer != timer {
            if let Some(old) = std::mem::replace(&mut partition.timer, timer) {
                self.timers.remove(&(old, key));
            }
            if let Some(timer) = timer {
                self.timers.insert((timer, key));
            }
        }
        if !runnable {
            return;
        }
        // The leader may have changed since it was queued.
        let before = std::mem::replace(&mut partition.queued, leader);
        match leader {
            Some(node) if before == leader => debug_assert!(self.runnable.contains_key(&node)),
            Some(node) => self.runnable.entry(node).or_default().push_back(key),
            None => self.refresh.want(),
        }
    }

    /// Touches every partition: something changed that concerns all.
    pub(super) fn touch_all(&mut self) {
        let keys: Vec<PartitionKey> = self.partitions.keys().collect();
        for key in keys {
            self.touch(key);
        }
    }

    /// Does `node` lead a partition that has something to send? Takes out of its queue what does
    /// not belong there any more.
    pub(super) fn has_runnable(&mut self, node: i32) -> bool {
        while let Some(&key) = self.runnable.get(&node).and_then(VecDeque::front) {
            let queued = |partition: &&Partition| partition.queued == Some(node);
            let partition = self.partitions.get(&key).filter(queued);
            let led = self.cluster.leader(key.0, key.1) == Some(node);
            if led && partition.is_some_and(|partition| self.is_runnable(partition)) {
                return true;
            }
            let out_of_date = partition.is_none();
            self.dequeue(node, key);
            if !out_of_date {
                self.touch(key);
            }
        }
        self.runnable.remove(&node);
        false
    }

    /// Takes the first entry out of `node`'s queue, which is `key`.
    fn dequeue(&mut self, node: i32, key: PartitionKey) {
        self.runnable.get_mut(&node).and_then(VecDeque::pop_front);
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.queued.take_if(|queued| *queued == node);
        }
    }

    /// The next partition in `node`'s queue that is still led by it and has something to send.
    pub(super) fn next_runnable(&mut self, node: i32) -> Option<PartitionKey> {
        if !self.has_runnable(node) {
            return None;
        }
        let key = *self.runnable.get(&node)?.front()?;
        self.dequeue(node, key);
        Some(key)
    }

    /// Puts a partition back at the front of `node`'s queue.
    pub(super) fn requeue_first(&mut self, node: i32, key: PartitionKey) {
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.queued = Some(node);
            self.runnable.entry(node).or_default().push_front(key);
        }
    }

    /// When the partition has to be looked at again, if nothing happens before.
    pub(super) fn partition_deadline(&self, partition: &Partition) -> Option<Instant> {
        let line = &partition.line;
        let view = &partition.view;
        // A line that waits for nothing but a new epoch takes it when the lane has something.
        let takes = line.has_room() || line.needs_identity(self.now);
        let linger = view.open.filter(|_| view.sealed == 0 && takes);
        let oldest_on_way = line.slots().iter().find_map(Slot::meta).map(|meta| meta.opened);
        let oldest = [oldest_on_way, view.oldest].into_iter().flatten().min();
        let linger = linger.map(|opened| self.lingers_until(opened));
        let expiry = oldest.map(|opened| opened.saturating_add(self.config.delivery_timeout));
        // What may go since a while waits for something else; what has expired waits for nothing.
        let waits = [linger, line.next_retry()].into_iter().flatten().filter(|at| *at > self.now);
        waits.chain(expiry).min()
    }

    /// The timer of a partition fired.
    pub(super) fn disarm(&mut self, key: PartitionKey) {
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.timer = None;
        }
    }

    /// With memory exhausted and no answer to come that would free any, seals open batches before
    /// their linger is over: from the oldest on, until there is one that can be sent now. True if
    /// any was sealed.
    pub(super) fn relieve(&mut self) -> bool {
        if !self.pressed || !self.requests.is_empty() {
            return false;
        }
        self.pressed = self.accumulator.memory().contended();
        let lingering = |(key, partition): (PartitionKey, &Partition)| {
            partition.view.open.filter(|_| partition.view.sealed == 0).map(|opened| (opened, key))
        };
        let mut lingering: Vec<_> = self.partitions.iter().filter_map(lingering).collect();
        lingering.sort_unstable();
        let mut any = false;
        for (_, key) in lingering {
            let Some(partition) = self.partitions.get_mut(&key) else { continue };
            partition.lane.seal();
            partition.view = partition.lane.view();
            any = true;
            self.touch(key);
            if self.can_go_now(key) {
                break;
            }
        }
        any
    }

    /// Has the partition something to send, and a connection that takes it?
    fn can_go_now(&self, key: PartitionKey) -> bool {
        let runnable = self.partitions.get(&key).is_some_and(|at| self.is_runnable(at));
        let node = self.cluster.leader(key.0, key.1).filter(|_| runnable);
        let conn = node.and_then(|node| self.nodes.get(&node));
        let connection = conn.and_then(|conn| self.connections.get(conn));
        connection.is_some_and(|connection| connection.can_send(self.now))
    }

    fn trace_codec(&mut self, key: PartitionKey, compressed: &Compressed) {
        let topic = self.topics.get(&key.0).map(|topic| Arc::clone(topic.name()));
        if let (Some(error), Some(topic)) = (&compressed.failure, topic) {
            let cause = error.to_string().into();
            self.trace(Trace::CodecFailed { topic, partition: key.1, cause });
        }
    }

    /// A codec is done.
    pub(super) fn on_compressed(&mut self, compressed: Compressed) {
        let id = compressed.id;
        let key = (id.topic, id.partition);
        self.trace_codec(key, &compressed);
        if let Some(owed) = self.owed.remove(&id) {
            self.outputs.push_back(Output::HandBack(owed.pay(compressed)));
            return;
        }
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
