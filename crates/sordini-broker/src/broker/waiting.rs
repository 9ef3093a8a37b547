//! Requests that wait: a Fetch for bytes, a Produce for a sync.

use std::collections::{BTreeMap, BTreeSet};

use sordini_protocol::Uuid;
use sordini_protocol::messages::fetch::FetchRequest;
use sordini_protocol::messages::produce::ProduceResponse;

use super::connection::{Current, Meta, Waiting};
use super::{Broker, ConnectionId};
use crate::api::{Response, fetch, produce};
use crate::faults::Strike;
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
    /// Partition, and place in the response: topic index, partition index.
    pub partitions: Vec<(Uuid, i32, usize, usize)>,
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
            for (topic, partition, at, index) in &produce.partitions {
                if let Some(why) = failed.get(&(*topic, *partition)) {
                    produce::fail_stored(&mut produce.response, *at, *index, why);
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

fn gained(fetch: &WaitingFetch, advanced: &BTreeMap<(Uuid, i32), u64>) -> u64 {
    let bytes = fetch.partitions.iter().filter_map(|partition| advanced.get(partition));
    bytes.fold(0, |sum, bytes| sum.saturating_add(*bytes))
}
