//! The follower's side of replication: fetch, cut off what parts from the leader, append.

use std::collections::BTreeSet;

use sordini_protocol::{ErrorCode, Uuid};

use super::peer::{FetchedPartition, Message, Peer, ReplicaAnswer, ReplicaData, ReplicaFetch};
use super::trace::ClusterTrace;
use crate::broker::Broker;
use crate::log::batch::Header;
use crate::log::{LogError, PartitionLog};
use crate::time::{Instant, Now};

/// How long a partition is left alone after an error.
const BACKOFF_MS: i64 = 100;
/// How much longer than the leader holds a fetch its answer is waited for.
const PATIENCE_MS: i64 = 500;

/// A follower's state in one partition.
#[derive(Debug)]
pub(crate) struct Following {
    leader: i32,
    /// Not fetched before, after an error.
    ready_at: Instant,
}

/// The fetching from one leader: one request at a time, for all its partitions.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    partitions: BTreeSet<(Uuid, i32)>,
    /// The request that is on its way, and when it counts as lost.
    sent: Option<(u64, Instant)>,
    /// When to look again, if none is.
    next: Option<Instant>,
}

impl Following {
    pub(super) fn new(now: Now, leader: i32) -> Self {
        Self { leader, ready_at: now.mono }
    }
}

impl Fetcher {
    /// Fetches a partition from now on.
    pub(super) fn follow(&mut self, at: (Uuid, i32)) {
        self.partitions.insert(at);
        // What is on its way knows nothing of it, and may be held for long: ask anew.
        (self.sent, self.next) = (None, Some(Instant(0)));
    }

    /// Fetches a partition no more; `false` if there is none left.
    pub(super) fn forget(&mut self, at: (Uuid, i32)) -> bool {
        self.partitions.remove(&at);
        !self.partitions.is_empty()
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        match (self.sent, self.next) {
            (Some((_, lost_at)), _) => Some(lost_at),
            (None, next) => next,
        }
    }
}

impl Broker {
    /// Sends the fetches that are due.
    pub(super) fn fetch_due(&mut self, now: Now) {
        let Some(node) = self.node_mut() else { return };
        let due = |fetcher: &Fetcher| fetcher.due().is_some_and(|at| at <= now.mono);
        let due: Vec<i32> =
            node.fetchers.iter().filter(|(_, fetcher)| due(fetcher)).map(|(id, _)| *id).collect();
        for leader in due {
            self.fetch_from(now, leader);
        }
    }

    fn fetch_from(&mut self, now: Now, leader: i32) {
        let Some(node) = self.node_mut() else { return };
        let (Some(fetcher), Some(broker_epoch)) =
            (node.fetchers.remove(&leader), node.broker_epoch)
        else {
            return;
        };
        let (partitions, next) = self.positions(now, &fetcher.partitions);
        let Some(node) = self.node_mut() else { return };
        let mut fetcher = Fetcher { sent: None, next, ..fetcher };
        if !partitions.is_empty() {
            let seq = node.next_seq();
            let wait = node.config.replica_fetch_wait;
            fetcher.sent = Some((seq, now.mono.after(wait).after_millis(PATIENCE_MS)));
            let fetch = ReplicaFetch { broker_epoch, seq, partitions };
            node.outbox.push((Peer::Node(leader), Message::Fetch(fetch)));
        }
        node.fetchers.insert(leader, fetcher);
    }

    /// Where the partitions stand that may be fetched now, and when the next of the others may.
    fn positions(
        &mut self,
        now: Now,
        partitions: &BTreeSet<(Uuid, i32)>,
    ) -> (Vec<FetchedPartition>, Option<Instant>) {
        let mut ready = Vec::with_capacity(partitions.len());
        let mut next: Option<Instant> = None;
        for (topic, index) in partitions {
            let Some(name) = self.names.get(topic) else { continue };
            let Some(topics) = self.topics.get_mut(name) else { continue };
            let Some(partition) = topics.partitions.get_mut(index) else { continue };
            let Some(ready_at) = partition.following().map(|following| following.ready_at) else {
                continue;
            };
            if ready_at > now.mono {
                next = Some(next.map_or(ready_at, |next| next.min(ready_at)));
                continue;
            }
            let log = &partition.log;
            ready.push(FetchedPartition {
                topic: *topic,
                partition: *index,
                leader_epoch: partition.leader_epoch,
                offset: log.log_end(),
                last_epoch: log.epochs().latest().unwrap_or(-1),
                high_watermark: log.high_watermark(),
            });
        }
        (ready, next)
    }

    /// A leader has answered a fetch.
    pub(super) fn leader_answers(&mut self, now: Now, leader: i32, answer: ReplicaAnswer) {
        let Some(node) = self.node_mut() else { return };
        let Some(fetcher) = node.fetchers.get_mut(&leader) else { return };
        let awaited = fetcher.sent.is_some_and(|(seq, _)| seq == answer.seq);
        if !awaited || node.broker_epoch != Some(answer.broker_epoch) {
            return;
        }
        fetcher.sent = None;
        fetcher.next = Some(now.mono);
        for data in &answer.partitions {
            self.take_data(now, leader, data);
        }
        self.fetch_from(now, leader);
    }

    fn take_data(&mut self, now: Now, leader: i32, data: &ReplicaData) {
        let Some(name) = self.names.get(&data.topic).cloned() else { return };
        let fsync = self.config.fsync;
        let Some((partition, _)) = self.partition(&name, data.partition) else { return };
        let leader_epoch = partition.leader_epoch;
        let of_term = leader_epoch == data.leader_epoch;
        if partition.following().is_none_or(|following| following.leader != leader) || !of_term {
            return;
        }
        let high_before = partition.log.high_watermark();
        let mut taken = self.take_log(now, &name, data);
        let Some((partition, storage)) = self.partition(&name, data.partition) else { return };
        if fsync && taken.is_ok() {
            taken = partition.log.sync(storage);
        }
        if taken.is_ok() {
            partition.log.advance_high_watermark(data.high_watermark);
        }
        let (offline, offset) = (partition.log.offline().is_some(), partition.log.high_watermark());
        let failed = taken.is_err() || data.error != ErrorCode::None;
        if let Some(following) = partition.following().filter(|_| failed) {
            following.ready_at = now.mono.after_millis(BACKOFF_MS);
        }
        if let Err(error) = &taken
            && offline
        {
            self.halt(error.to_string());
        }
        if offset > high_before
            && let Some(node) = self.node_mut()
        {
            let event = |node, at| ClusterTrace::HighWatermark {
                node,
                at,
                offset,
                leader_epoch,
                as_leader: false,
            };
            node.trace((data.topic, data.partition), event);
        }
    }

    /// Makes the log what the leader says.
    fn take_log(&mut self, now: Now, name: &str, data: &ReplicaData) -> Result<(), LogError> {
        let Some((partition, storage)) = self.partition(name, data.partition) else {
            return Ok(());
        };
        let log = &mut partition.log;
        let was = log.log_end();
        if data.error == ErrorCode::OffsetOutOfRange {
            // The leader's log ends before ours begins to part, or begins behind our end.
            if was > data.log_end {
                log.truncate_to(storage, data.log_end, now.wall_ms)?;
            } else {
                log.restart_at(storage, data.log_start, now.wall_ms)?;
            }
        } else if let Some((epoch, end)) = data.diverging {
            let to = truncation_point(log, epoch, end);
            log.truncate_to(storage, to, now.wall_ms)?;
        }
        let to = log.log_end();
        if to != was
            && let Some(node) = self.node_mut()
        {
            let event = |node, at| ClusterTrace::Truncated { node, at, to, was, by_storage: false };
            node.trace((data.topic, data.partition), event);
        }
        self.append_fetched(now, name, data)
    }

    fn append_fetched(&mut self, now: Now, name: &str, data: &ReplicaData) -> Result<(), LogError> {
        let mut rest = data.records.clone();
        while let Some(header) = Header::new(&rest) {
            let Some(size) = header.size().filter(|size| *size <= rest.len()) else { break };
            let batch = rest.split_to(size);
            let Some((partition, storage)) = self.partition(name, data.partition) else { break };
            partition.log.append_as_follower(storage, &batch, now.wall_ms)?;
            let Some(node) = self.node_mut() else { break };
            node.trace((data.topic, data.partition), |node, at| ClusterTrace::Appended {
                node,
                at,
                base_offset: header.base_offset(),
                leader_epoch: header.leader_epoch(),
                as_leader: false,
                batch,
            });
        }
        Ok(())
    }
}

/// Where to cut, given the leader's last epoch at or below ours and its end.
fn truncation_point(log: &PartitionLog, epoch: i32, end: i64) -> i64 {
    let (own_epoch, own_end) = log.epochs().end_offset_for(epoch, log.log_end());
    match own_epoch {
        // Nothing of that epoch is here: all up to the leader's end may be common.
        -1 => end.max(0).min(log.log_end()),
        // Ours is older still: the leader is asked again about that one.
        older if older != epoch => own_end.min(log.log_end()),
        _ => own_end.min(end),
    }
}
