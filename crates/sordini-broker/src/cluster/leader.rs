//! The leader's side of replication: who has how much, what is committed, who is in sync.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sordini_protocol::{ErrorCode, Uuid};

use super::image::{Image, NO_NODE, PartitionImage};
use super::peer::{AlterIsr, FetchedPartition, Message, Peer};
use super::peer::{ReplicaAnswer, ReplicaData, ReplicaFetch};
use super::trace::ClusterTrace;
use crate::api::check_leader_epoch;
use crate::broker::Broker;
use crate::log::PartitionLog;
use crate::log::batch::Header;
use crate::time::{Instant, Now};

/// Bytes of one partition in an answer to a follower, Kafka's `replica.fetch.max.bytes`.
const PARTITION_BYTES: usize = 1 << 20;
/// Bytes of an answer to a follower, Kafka's `replica.fetch.response.max.bytes`.
const ANSWER_BYTES: usize = 10 << 20;

/// A leader's knowledge of one partition's replicas.
#[derive(Debug)]
pub(crate) struct Leading {
    /// The log end when the term began: who has not reached it may lack what was committed.
    start: i64,
    isr: Vec<i32>,
    pending: Option<PendingIsr>,
    followers: BTreeMap<i32, Progress>,
}

/// A wish that the controller has not answered.
#[derive(Debug)]
struct PendingIsr {
    isr: Vec<i32>,
    seq: u64,
    sent: Instant,
}

/// How far a follower is.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Its log end; -1 before its first fetch in this term.
    log_end: i64,
    /// The life of the node that fetched last.
    broker_epoch: u64,
    /// When it last had all there was.
    caught_up: Instant,
    /// When it last fetched, and the log end then.
    fetched: (Instant, i64),
}

/// A follower's fetch that waits for records.
#[derive(Debug)]
pub(super) struct HeldFetch {
    pub deadline: Instant,
    fetch: ReplicaFetch,
}

impl Leading {
    /// A term begins.
    pub(super) fn new(now: Now, log: &PartitionLog, me: i32, image: &PartitionImage) -> Self {
        let start = log.log_end();
        let others = image.replicas.iter().filter(|id| **id != me);
        let followers = others.map(|id| {
            // A member gets its time to show up; who is not one has to prove itself.
            let caught_up = if image.isr.contains(id) { now.mono } else { Instant(0) };
            let fetched = (Instant(0), i64::MAX);
            (*id, Progress { log_end: -1, broker_epoch: 0, caught_up, fetched })
        });
        let followers = followers.collect();
        Self { start, isr: image.isr.clone(), pending: None, followers }
    }

    /// Where the term began.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The controller's word on who is in sync.
    pub(super) fn set_isr(&mut self, isr: Vec<i32>) {
        self.isr = isr;
        self.pending = None;
    }

    /// Whether `node` is in sync, or will be if the controller agrees: batches must reach both
    /// (KIP-497).
    fn is_maximal_member(&self, node: i32) -> bool {
        let wished = self.pending.as_ref().is_some_and(|pending| pending.isr.contains(&node));
        wished || self.isr.contains(&node)
    }

    /// Members that are in sync, and how many `min.insync.replicas` asks for: never more than
    /// there are replicas.
    fn in_sync(&self, log: &PartitionLog) -> (i64, i64) {
        let replicas = self.followers.len() + 1;
        let min = log.config().min_insync_replicas();
        let min = min.min(i64::try_from(replicas).unwrap_or(i64::MAX));
        (i64::try_from(self.isr.len()).unwrap_or(i64::MAX), min)
    }

    /// The offset before which all members have all.
    fn committed(&self, now: Now, end: i64, view: &Image, lag_max: Duration) -> i64 {
        let holds_back = |(id, progress): &(&i32, &Progress)| {
            // Waiting for those who are about to join keeps the ISR able to grow under load.
            let joins = || {
                progress.is_eligible(view, **id)
                    && progress.log_end >= 0
                    && progress.is_caught_up(now, end, lag_max)
            };
            self.is_maximal_member(**id) || joins()
        };
        let ends = self.followers.iter().filter(holds_back).map(|(_, progress)| progress.log_end);
        ends.fold(end, i64::min)
    }
}

impl Progress {
    /// Whether the follower that fetched may join: alive, and not another life of it.
    fn is_eligible(&self, view: &Image, id: i32) -> bool {
        let broker = view.brokers.get(&id);
        broker.is_some_and(|broker| broker.is_usable() && broker.epoch == self.broker_epoch)
    }

    fn is_caught_up(&self, now: Now, end: i64, lag_max: Duration) -> bool {
        self.log_end == end || now.mono.since(self.caught_up) <= lag_max
    }

    /// A fetch says how far the follower is.
    fn note(&mut self, now: Now, broker_epoch: u64, offset: i64, end: i64) {
        if offset >= end {
            self.caught_up = now.mono;
        } else if offset >= self.fetched.1 {
            self.caught_up = self.caught_up.max(self.fetched.0);
        }
        self.fetched = (now.mono, end);
        self.log_end = offset;
        self.broker_epoch = broker_epoch;
    }
}

/// Why acks=all can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooFewInSync {
    pub have: i64,
    pub min: i64,
}

impl Broker {
    /// Whether enough replicas are in sync to take a batch with acks=all.
    pub(crate) fn check_in_sync(&mut self, topic: &str, index: i32) -> Result<(), TooFewInSync> {
        let Some((partition, _)) = self.partition(topic, index) else { return Ok(()) };
        let Some(replica) = &partition.replica else { return Ok(()) };
        let super::replica::Role::Leader(leading) = &replica.role else { return Ok(()) };
        let (have, min) = leading.in_sync(&partition.log);
        if have < min { Err(TooFewInSync { have, min }) } else { Ok(()) }
    }

    /// A batch was appended here as the leader; it is given if events are wanted.
    pub(crate) fn appended_as_leader(
        &mut self,
        now: Now,
        topic: &str,
        index: i32,
        batch: Option<Bytes>,
    ) {
        let Some(id) = self.topics.get(topic).map(|topic| topic.id) else { return };
        let Some(node) = self.node_mut() else { return };
        node.news.insert((id, index));
        if let Some(batch) = batch
            && let Some(header) = Header::new(&batch)
        {
            node.trace((id, index), |node, at| ClusterTrace::Appended {
                node,
                at,
                base_offset: header.base_offset(),
                leader_epoch: header.leader_epoch(),
                as_leader: true,
                batch,
            });
        }
        self.advance(now, topic, index);
    }

    /// Whether events are wanted, so that nothing is copied for them otherwise.
    pub(crate) fn is_traced(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.config.traced)
    }

    /// Moves the high watermark of a partition that is led here to where its members are.
    pub(super) fn advance(&mut self, now: Now, topic: &str, index: i32) {
        let Some(node) = &self.node else { return };
        let (lag_max, strict) = (node.config.replica_lag_time_max, node.config.strict_min_isr);
        let view = Arc::clone(&node.view);
        let id = self.topics.get(topic).map(|topic| topic.id);
        let Some((partition, _)) = self.partition(topic, index) else { return };
        let Some(replica) = &partition.replica else { return };
        let super::replica::Role::Leader(leading) = &replica.role else { return };
        let (have, min) = leading.in_sync(&partition.log);
        if strict && have < min {
            return;
        }
        let before = partition.log.high_watermark();
        let committed = leading.committed(now, partition.log.log_end(), &view, lag_max);
        partition.log.advance_high_watermark(committed);
        let (offset, leader_epoch) = (partition.log.high_watermark(), partition.leader_epoch);
        let Some(id) = id.filter(|_| offset > before) else { return };
        self.note_readable(id, index, u64::MAX);
        let Some(node) = self.node_mut() else { return };
        node.settled.insert((id, index));
        let event = |node, at| ClusterTrace::HighWatermark {
            node,
            at,
            offset,
            leader_epoch,
            as_leader: true,
        };
        node.trace((id, index), event);
    }

    /// A follower asks for what it lacks, and says by that what it has.
    pub(super) fn follower_fetches(&mut self, now: Now, follower: i32, fetch: ReplicaFetch) {
        let Some(node) = self.node_mut() else { return };
        let age = (fetch.broker_epoch, fetch.seq);
        if node.fetched.get(&follower).is_some_and(|newest| *newest >= age) {
            return;
        }
        node.fetched.insert(follower, age);
        node.held.remove(&follower);
        let deadline = now.mono.after(node.config.replica_fetch_wait);
        for wanted in &fetch.partitions {
            self.note_progress(now, follower, fetch.broker_epoch, wanted);
        }
        let answer = self.answer_for(&fetch, |_| true);
        if answer.is_empty() {
            if let Some(node) = self.node_mut() {
                node.held.insert(follower, HeldFetch { deadline, fetch });
            }
            return;
        }
        self.send_answer(follower, &fetch, answer);
    }

    fn send_answer(&mut self, follower: i32, fetch: &ReplicaFetch, partitions: Vec<ReplicaData>) {
        let (broker_epoch, seq) = (fetch.broker_epoch, fetch.seq);
        let answer = ReplicaAnswer { broker_epoch, seq, partitions };
        if let Some(node) = self.node_mut() {
            node.outbox.push((Peer::Node(follower), Message::FetchAnswer(answer)));
        }
    }

    /// Takes note of how far a follower is, if its log is a prefix of this one.
    fn note_progress(&mut self, now: Now, from: i32, broker_epoch: u64, wanted: &FetchedPartition) {
        let Some(view) = self.node.as_ref().map(|node| Arc::clone(&node.view)) else { return };
        let Some(name) = self.names.get(&wanted.topic).cloned() else { return };
        let Some((partition, _)) = self.partition(&name, wanted.partition) else { return };
        if partition.leader_epoch != wanted.leader_epoch
            || diverging(&partition.log, wanted).is_some()
        {
            return;
        }
        let (end, high) = (partition.log.log_end(), partition.log.high_watermark());
        let inside = (partition.log.log_start()..=end).contains(&wanted.offset);
        let Some(leading) = partition.leading().filter(|_| inside) else { return };
        let Some(progress) = leading.followers.get_mut(&from) else { return };
        progress.note(now, broker_epoch, wanted.offset, end);
        let joins = wanted.offset >= high.max(leading.start) && progress.is_eligible(&view, from);
        if joins && leading.pending.is_none() && !leading.isr.contains(&from) {
            let mut isr = leading.isr.clone();
            isr.push(from);
            self.wish_isr(now, &name, wanted.partition, isr);
        }
        self.advance(now, &name, wanted.partition);
    }

    /// What there is for a follower, of the partitions that are `looked_at`.
    fn answer_for(
        &mut self,
        fetch: &ReplicaFetch,
        looked_at: impl Fn(&(Uuid, i32)) -> bool,
    ) -> Vec<ReplicaData> {
        let mut budget = ANSWER_BYTES;
        let mut worth_it = false;
        let mut found = Vec::new();
        let wanted = fetch.partitions.iter();
        for wanted in wanted.filter(|wanted| looked_at(&(wanted.topic, wanted.partition))) {
            let data = self.data_for(wanted, budget);
            budget = budget.saturating_sub(data.records.len());
            worth_it |= data.is_urgent();
            if data.is_urgent() || data.high_watermark != wanted.high_watermark {
                found.push(data);
            }
        }
        if worth_it { found } else { Vec::new() }
    }

    fn data_for(&mut self, wanted: &FetchedPartition, budget: usize) -> ReplicaData {
        let mut data = ReplicaData {
            topic: wanted.topic,
            partition: wanted.partition,
            leader_epoch: wanted.leader_epoch,
            error: ErrorCode::None,
            high_watermark: wanted.high_watermark,
            log_start: 0,
            log_end: 0,
            diverging: None,
            records: Bytes::new(),
        };
        if let Err(error) = self.fill(wanted, budget, &mut data) {
            data.error = error;
        }
        data
    }

    fn fill(
        &mut self,
        wanted: &FetchedPartition,
        budget: usize,
        data: &mut ReplicaData,
    ) -> Result<(), ErrorCode> {
        let name = self.names.get(&wanted.topic).cloned().ok_or(ErrorCode::UnknownTopicId)?;
        let (partition, storage) =
            self.partition(&name, wanted.partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        check_leader_epoch(wanted.leader_epoch, partition.leader_epoch)?;
        let high = partition.log.high_watermark();
        if !partition.is_led_here() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let log = &partition.log;
        (data.high_watermark, data.log_start, data.log_end) =
            (high, log.log_start(), log.log_end());
        data.diverging = diverging(log, wanted);
        if data.diverging.is_none() {
            let (max, end) = (budget.min(PARTITION_BYTES), log.log_end());
            data.records =
                log.read(storage, wanted.offset, max, true, end).map_err(|error| error.code())?;
        }
        Ok(())
    }

    /// Answers the fetches that wait for partitions which have news.
    pub(crate) fn tell_followers(&mut self, _now: Now) {
        let Some(node) = self.node_mut() else { return };
        if node.news.is_empty() {
            return;
        }
        let news = std::mem::take(&mut node.news);
        let about = |held: &HeldFetch| {
            held.fetch.partitions.iter().any(|at| news.contains(&(at.topic, at.partition)))
        };
        let due: Vec<i32> =
            node.held.iter().filter(|(_, held)| about(held)).map(|(id, _)| *id).collect();
        for follower in due {
            let Some(held) = self.node_mut().and_then(|node| node.held.remove(&follower)) else {
                continue;
            };
            let answer = self.answer_for(&held.fetch, |at| news.contains(at));
            if !answer.is_empty() {
                self.send_answer(follower, &held.fetch, answer);
            } else if let Some(node) = self.node_mut() {
                node.held.insert(follower, held);
            }
        }
    }

    /// Answers the fetches that have waited long enough, with nothing but high watermarks.
    pub(super) fn release_held(&mut self, now: Now) {
        let Some(node) = self.node_mut() else { return };
        let due = |held: &&HeldFetch| held.deadline <= now.mono;
        let due: Vec<i32> =
            node.held.iter().filter(|(_, held)| due(held)).map(|(id, _)| *id).collect();
        for follower in due {
            let Some(held) = self.node_mut().and_then(|node| node.held.remove(&follower)) else {
                continue;
            };
            let data = held.fetch.partitions.iter().map(|wanted| self.data_for(wanted, 0));
            let told: Vec<ReplicaData> = data.collect();
            let wanted = held.fetch.partitions.iter();
            let news = told.into_iter().zip(wanted).filter(|(data, wanted)| {
                data.is_urgent() || data.high_watermark != wanted.high_watermark
            });
            let news = news.map(|(data, _)| data).collect();
            self.send_answer(follower, &held.fetch, news);
        }
    }

    /// Wants members that lag for too long out of the ISR, and repeats wishes that got lost.
    pub(super) fn check_isr(&mut self, now: Now) {
        let Some(node) = self.node_mut() else { return };
        if node.isr_check_at > now.mono {
            return;
        }
        let lag_max = node.config.replica_lag_time_max;
        let patience = node.config.heartbeat;
        node.isr_check_at = now.mono.after(patience.min(lag_max / 2));
        let mut wishes = Vec::new();
        for (name, topic) in &mut self.topics {
            for (index, partition) in &mut topic.partitions {
                let end = partition.log.log_end();
                let Some(leading) = partition.leading() else { continue };
                if let Some(pending) = &leading.pending {
                    if now.mono.since(pending.sent) >= patience {
                        wishes.push((name.clone(), *index, pending.isr.clone()));
                    }
                    continue;
                }
                let keeps = |id: &i32| {
                    let progress = leading.followers.get(id);
                    progress.is_none_or(|progress| progress.is_caught_up(now, end, lag_max))
                };
                let isr: Vec<i32> = leading.isr.iter().copied().filter(|id| keeps(id)).collect();
                if isr.len() < leading.isr.len() {
                    wishes.push((name.clone(), *index, isr));
                }
            }
        }
        for (name, index, isr) in wishes {
            self.wish_isr(now, &name, index, isr);
            self.advance(now, &name, index);
        }
    }

    /// Asks the controller for another ISR. Members are meant in the life that is known here: of
    /// one who joins, the life that fetched.
    fn wish_isr(&mut self, now: Now, topic: &str, index: i32, isr: Vec<i32>) {
        let id = self.topics.get(topic).map(|topic| topic.id);
        let Some(node) = self.node_mut() else { return };
        let (me, view, seq) = (node.id, Arc::clone(&node.view), node.next_seq());
        let (Some(broker_epoch), Some(topic_id)) = (node.broker_epoch, id) else { return };
        let Some((partition, _)) = self.partition(topic, index) else { return };
        let leader_epoch = partition.leader_epoch;
        let partition_epoch = partition.replica.as_ref().map_or(0, |r| r.partition_epoch);
        let Some(leading) = partition.leading() else { return };
        let life = |member: &i32| match leading.followers.get(member) {
            Some(progress) if !leading.isr.contains(member) => progress.broker_epoch,
            _ if *member == me => broker_epoch,
            _ => view.brokers.get(member).map_or(0, |broker| broker.epoch),
        };
        let members = isr.iter().map(|member| (*member, life(member))).collect();
        leading.pending = Some(PendingIsr { isr, seq, sent: now.mono });
        let wish = AlterIsr {
            broker_epoch,
            seq,
            topic: topic_id,
            partition: index,
            leader_epoch,
            partition_epoch,
            isr: members,
        };
        if let Some(node) = self.node_mut() {
            node.tell_controller(Message::AlterIsr(wish));
        }
    }

    /// The controller has judged a wish.
    pub(super) fn isr_answered(
        &mut self,
        now: Now,
        seq: u64,
        topic: Uuid,
        index: i32,
        state: Option<PartitionImage>,
    ) {
        let Some(name) = self.names.get(&topic).cloned() else { return };
        let Some((partition, _)) = self.partition(&name, index) else { return };
        let leader_epoch = partition.leader_epoch;
        let Some(replica) = &mut partition.replica else { return };
        let super::replica::Role::Leader(leading) = &mut replica.role else { return };
        let is_newest = leading.pending.as_ref().is_some_and(|pending| pending.seq == seq);
        match state.filter(|state| state.leader != NO_NODE) {
            Some(state)
                if state.leader_epoch == leader_epoch
                    && state.partition_epoch > replica.partition_epoch =>
            {
                replica.partition_epoch = state.partition_epoch;
                leading.set_isr(state.isr);
            }
            // Refused, and no older copy of the wish can come true any more.
            Some(state) if is_newest && state.partition_epoch == replica.partition_epoch => {
                leading.pending = None;
            }
            _ => return,
        }
        self.advance(now, &name, index);
    }
}

impl ReplicaData {
    /// Whether the follower can't wait for it.
    fn is_urgent(&self) -> bool {
        self.error != ErrorCode::None || self.diverging.is_some() || !self.records.is_empty()
    }
}

/// Where a follower's log and this one part, if they do (KIP-595).
fn diverging(log: &PartitionLog, wanted: &FetchedPartition) -> Option<(i32, i64)> {
    if wanted.last_epoch < 0 {
        return None;
    }
    let (epoch, end) = log.epochs().end_offset_for(wanted.last_epoch, log.log_end());
    (epoch < wanted.last_epoch || end < wanted.offset).then_some((epoch, end))
}
