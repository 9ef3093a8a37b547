//! Requests that wait: a Fetch for bytes, a Produce for a sync or for other replicas.

use std::collections::{BTreeMap, BTreeSet};

use sordini_protocol::messages::fetch::FetchRequest;
use sordini_protocol::messages::produce::ProduceResponse;
use sordini_protocol::{ErrorCode, Uuid};

use super::connection::{Current, Meta, Waiting};
use super::{Broker, ConnectionId};
use crate::api::{Response, fetch, produce};
use crate::faults::{LeaderHint, Strike};
use crate::time::{Instant, Now};

/// A Fetch that found less than it wants.
#[derive(Debug)]
pub(crate) struct WaitingFetch {
    pub request: FetchRequest,
    pub deadline: Instant,
    /// Bytes that are missing.
    pub missing: u64,
    pub partitions: BTreeSet<(Uuid, i32)>,
}

/// A Produce whose batches are appended but not synced.
#[derive(Debug)]
pub(crate) struct WaitingProduce {
    pub response: ProduceResponse,
    pub pending: Vec<PendingBatch>,
}

/// A Produce whose batches are appended, but not by all replicas that are in sync.
#[derive(Debug)]
pub(crate) struct WaitingCommit {
    pub response: ProduceResponse,
    pub pending: Vec<PendingBatch>,
    pub deadline: Instant,
}

/// A batch that is appended, and not yet safe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingBatch {
    pub topic: Uuid,
    pub partition: i32,
    /// Place in the response: topic, and partition in it.
    pub at: usize,
    pub index: usize,
    /// The offset behind the batch.
    pub end: i64,
    /// The term in which it was taken.
    pub leader_epoch: i32,
}

impl Broker {
    /// Notes that `bytes` of a partition became readable.
    pub(crate) fn note_readable(&mut self, topic: Uuid, partition: i32, bytes: u64) {
        let total = self.advanced.entry((topic, partition)).or_default();
        *total = total.saturating_add(bytes);
    }

    /// Looks at waiting fetches again whose partitions got enough new bytes. Returns whether any
    /// was answered.
    pub(super) fn wake_fetches(&mut self, now: Now) -> bool {
        let advanced = std::mem::take(&mut self.advanced);
        if advanced.is_empty() {
            return false;
        }
        let mut due = Vec::new();
        for (id, connection) in &mut self.connections {
            if let Some(Current { state: Waiting::Fetch(fetch), .. }) = &mut connection.current {
                let gained = gained(fetch, &advanced);
                fetch.missing = fetch.missing.saturating_sub(gained);
                if gained > 0 && fetch.missing == 0 {
                    due.push(*id);
                }
            }
        }
        let mut answered = false;
        for id in due {
            answered |= self.retry_fetch(now, id);
        }
        answered
    }

    fn retry_fetch(&mut self, now: Now, connection: ConnectionId) -> bool {
        let Some(state) = self.connections.get_mut(&connection) else { return false };
        let Some(current) = state.current.take() else { return false };
        let Current { meta, strike, state: Waiting::Fetch(mut fetch) } = current else {
            state.current = Some(current);
            return false;
        };
        let read = fetch::read(self, meta.version, &fetch.request);
        if read.missing > 0 {
            fetch.missing = read.missing;
            if let Some(state) = self.connections.get_mut(&connection) {
                state.current = Some(Current { meta, strike, state: Waiting::Fetch(fetch) });
            }
            return false;
        }
        self.timers.remove(&(fetch.deadline, connection));
        self.answer(now, connection, meta, strike, Response::Fetch(read.response));
        true
    }

    /// Answers a fetch with what there is.
    pub(super) fn finish_fetch(
        &mut self,
        now: Now,
        connection: ConnectionId,
        meta: Meta,
        strike: Strike,
        fetch: &WaitingFetch,
    ) {
        let read = fetch::read(self, meta.version, &fetch.request);
        self.answer(now, connection, meta, strike, Response::Fetch(read.response));
    }

    /// Notes that a partition has a batch that is not synced.
    pub(crate) fn note_unsynced(&mut self, topic: Uuid, partition: i32) {
        self.unsynced.insert((topic, partition));
    }

    /// Syncs the partitions that have something to sync, once each, and answers the produce
    /// requests that wait for that.
    pub(super) fn sync_waiting(&mut self, now: Now) {
        let mut failed: BTreeMap<(Uuid, i32), String> = BTreeMap::new();
        for (topic, partition) in std::mem::take(&mut self.unsynced) {
            if let Some(why) = self.sync_partition(topic, partition) {
                failed.insert((topic, partition), why);
            }
        }
        for connection in std::mem::take(&mut self.awaiting_sync) {
            let Some(state) = self.connections.get_mut(&connection) else { continue };
            let Some(current) = state.current.take() else { continue };
            let Current { meta, strike, state: Waiting::Sync(mut produce) } = current else {
                state.current = Some(current);
                continue;
            };
            for batch in &produce.pending {
                if let Some(why) = failed.get(&(batch.topic, batch.partition)) {
                    let (place, code) = ((batch.at, batch.index), ErrorCode::KafkaStorageError);
                    produce::fail_stored(&mut produce.response, place, code, why, None);
                }
            }
            self.answer(now, connection, meta, strike, Response::Produce(produce.response));
        }
    }

    /// Syncs one partition and makes what it holds readable; the result is what went wrong.
    fn sync_partition(&mut self, topic: Uuid, index: i32) -> Option<String> {
        let Some(name) = self.names.get(&topic).cloned() else {
            return Some("the topic was deleted before its records were synced".to_owned());
        };
        let (partition, storage) = self.partition(&name, index)?;
        if let Err(error) = partition.log.sync(storage) {
            return Some(error.to_string());
        }
        let before = partition.log.high_watermark();
        partition.log.advance_high_watermark(partition.log.log_end());
        if partition.log.high_watermark() > before {
            self.note_readable(topic, index, u64::MAX);
        }
        None
    }
}

impl Broker {
    /// Looks again at produce requests that wait for partitions whose high watermark or leader
    /// changed. Returns whether any was answered.
    pub(super) fn settle_produces(&mut self, now: Now) -> bool {
        let Some(node) = self.node.as_mut().filter(|node| !node.settled.is_empty()) else {
            return false;
        };
        let settled = std::mem::take(&mut node.settled);
        let about = |batch: &PendingBatch| settled.contains(&(batch.topic, batch.partition));
        let mut due = Vec::new();
        for (id, connection) in &self.connections {
            if let Some(Current { state: Waiting::Commit(produce), .. }) = &connection.current
                && produce.pending.iter().any(about)
            {
                due.push(*id);
            }
        }
        let mut answered = false;
        for connection in due {
            answered |= self.retry_commit(now, connection);
        }
        answered
    }

    fn retry_commit(&mut self, now: Now, connection: ConnectionId) -> bool {
        let Some(state) = self.connections.get_mut(&connection) else { return false };
        let Some(current) = state.current.take() else { return false };
        let Current { meta, strike, state: Waiting::Commit(mut produce) } = current else {
            state.current = Some(current);
            return false;
        };
        self.settle(meta.version, &mut produce);
        if !produce.pending.is_empty() {
            if let Some(state) = self.connections.get_mut(&connection) {
                state.current = Some(Current { meta, strike, state: Waiting::Commit(produce) });
            }
            return false;
        }
        self.timers.remove(&(produce.deadline, connection));
        self.answer(now, connection, meta, strike, Response::Produce(produce.response));
        true
    }

    /// Takes the batches off whose fate is known, and puts their errors into the response.
    pub(crate) fn settle(&mut self, version: i16, produce: &mut WaitingCommit) {
        let response = &mut produce.response;
        produce.pending.retain(|batch| match self.fate(version, batch) {
            Fate::Open => true,
            Fate::Committed => false,
            Fate::Failed(code, why, leader) => {
                let place = (batch.at, batch.index);
                produce::fail_stored(response, place, code, why, leader.as_ref());
                false
            }
        });
    }

    fn fate(&mut self, version: i16, batch: &PendingBatch) -> Fate {
        let name = self.names.get(&batch.topic).cloned();
        let led = match &name {
            Some(name) => self.led(name, batch.partition),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        let reached = led.and_then(|(partition, _)| {
            let same_term = partition.leader_epoch == batch.leader_epoch;
            let reached = partition.log.high_watermark() >= batch.end;
            same_term.then_some(reached).ok_or(ErrorCode::NotLeaderOrFollower)
        });
        match (reached, name) {
            (Ok(false), _) => Fate::Open,
            (Ok(true), Some(name)) if self.check_in_sync(&name, batch.partition).is_err() => {
                let why = "appended, but fewer replicas are in sync than min.insync.replicas";
                Fate::Failed(ErrorCode::NotEnoughReplicasAfterAppend, why, None)
            }
            (Ok(true), _) => Fate::Committed,
            (Err(code), name) => {
                let hint = name.filter(|_| produce::names_leader(version));
                let hint = hint.and_then(|name| self.leader_hint(&name, batch.partition));
                Fate::Failed(code, "the leader changed before the batch was committed", hint)
            }
        }
    }

    /// Answers a produce request whose time is up.
    pub(super) fn give_up_commit(
        &mut self,
        now: Now,
        connection: ConnectionId,
        meta: Meta,
        strike: Strike,
        mut produce: WaitingCommit,
    ) {
        for batch in &produce.pending {
            let why = "the replicas that are in sync did not all have the batch in time";
            let (place, code) = ((batch.at, batch.index), ErrorCode::RequestTimedOut);
            produce::fail_stored(&mut produce.response, place, code, why, None);
        }
        self.answer(now, connection, meta, strike, Response::Produce(produce.response));
    }
}

/// What became of a batch that waits.
enum Fate {
    Open,
    Committed,
    Failed(ErrorCode, &'static str, Option<LeaderHint>),
}

fn gained(fetch: &WaitingFetch, advanced: &BTreeMap<(Uuid, i32), u64>) -> u64 {
    let bytes = fetch.partitions.iter().filter_map(|partition| advanced.get(partition));
    bytes.fold(0, |sum, bytes| sum.saturating_add(*bytes))
}
