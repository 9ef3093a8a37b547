//! Takes batches from their lanes and puts them into Produce requests.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::accumulator::counters::add;
use crate::batch::sealed::Sealed;
use crate::batch::stages::{Job, JobId};
use crate::config::{Acks, Codec};
use crate::connection::produce::{Part, Preface, frame};
use crate::connection::{Asked, ConnId};
use crate::error::Cause;
use crate::idempotence::Identity;
use crate::producer::Producer;
use crate::producer::io::Output;
use crate::producer::responses::Request;
use crate::producer::table::PartitionKey;
use crate::sequencing::slot::{RequestId, Slot, SlotKey};
use crate::wire::batch_header;

/// Bytes that a partition takes in a request beside its batch, at most; a topic's name besides.
const FRAMING: usize = 32;

impl Producer {
    /// Sends what the partitions led by `node` have, as far as its connection takes it.
    pub(super) fn pump(&mut self, node: i32) {
        loop {
            if !self.has_runnable(node) {
                return;
            }
            let Some(conn) = self.connection_to(node) else { return };
            let max = self.config.max_in_flight_requests_per_connection as usize;
            let connection = &self.connections[&conn];
            if !connection.can_send(self.now) || connection.produce_in_flight() >= max {
                return;
            }
            let versions = connection.versions();
            if versions.and_then(|versions| self.produce_version(&versions)).is_none() {
                return;
            }
            if !self.send_request(node, conn) {
                return;
            }
        }
    }

    /// Composes and sends one request; false if no partition had a batch for it after all.
    fn send_request(&mut self, node: i32, conn: ConnId) -> bool {
        let request = RequestId(self.next_request);
        let mut parts = Vec::new();
        let mut entries = Vec::new();
        let mut visited = Vec::new();
        let mut size = 0;
        let turns = self.runnable.get(&node).map_or(0, VecDeque::len);
        for _ in 0..turns {
            let Some(key) = self.next_runnable(node) else { break };
            let Some(place) = self.prepare(key) else {
                visited.push(key);
                continue;
            };
            let len = self.part_len(key, place);
            visited.push(key);
            if !parts.is_empty() && size + len > self.config.max_request_size {
                self.requeue_first(node, key);
                break;
            }
            size += len;
            let (part, slot) = self.part(key, place, request);
            parts.push(part);
            entries.push((key, slot));
        }
        let sent = !parts.is_empty();
        if sent {
            self.note_produced();
            self.transmit(conn, request, parts, entries);
        }
        for key in visited {
            self.touch(key);
        }
        sent
    }

    fn part_len(&self, key: PartitionKey, place: usize) -> usize {
        let name = self.topics.get(&key.0).map_or(0, |topic| topic.name().len());
        let body = match self.partitions[&key].line.slots().get(place) {
            Some(Slot::Ready(batch)) => batch.body.len(),
            Some(Slot::Waiting { batch, .. }) => batch.body.len(),
            _ => 0,
        };
        batch_header::LEN + body + FRAMING + name
    }

    /// Finds, or takes from the lane, the batch that goes next.
    fn prepare(&mut self, key: PartitionKey) -> Option<usize> {
        self.claim(key);
        let now = self.now;
        loop {
            let due = self.is_lane_due(self.partitions.get(&key)?);
            let partition = self.partitions.get_mut(&key)?;
            if let Some(place) = partition.line.next_to_send(now) {
                return Some(place);
            }
            if !due || !partition.line.has_room() {
                return None;
            }
            let (batch, view) = partition.lane.take(true);
            partition.view = view;
            let batch = batch?;
            if batch.damaged {
                self.deliver_failed_sealed(key, batch, Cause::Damaged);
                continue;
            }
            self.enlist(key, batch);
            return self.partitions.get(&key)?.line.next_to_send(now);
        }
    }

    /// Gives the line an identity to stamp with, if it needs one.
    fn claim(&mut self, key: PartitionKey) {
        let guarded = self.is_guarded();
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let outdated = match self.identity {
            Identity::Assigned(identity) => partition.line.is_outdated(identity),
            _ => false,
        };
        if !partition.line.needs_identity(self.now) && !outdated {
            return;
        }
        let old = partition.line.identity();
        let Some(identity) = self.identity.renewed(old) else { return };
        match guarded {
            true => partition.line.claim_guarded(identity, self.now),
            false => partition.line.claim(identity, self.now),
        }
        // A coordinator's new epoch is no news of the partition's.
        if old.is_some() && self.transactions.is_none() {
            add(&self.accumulator.counters().epoch_bumps, 1);
            self.trace_epoch(key, identity.epoch);
        }
    }

    /// Puts a batch into its partition's line, through the codec if there is one.
    fn enlist(&mut self, key: PartitionKey, batch: Sealed) {
        let counters = self.accumulator.counters();
        add(&counters.records_taken, u64::from(batch.count()));
        let len = batch.body.len() as u64;
        add(&counters.bytes_uncompressed, len);
        let codec = self.config.compression_type;
        let slot = if codec == Codec::None {
            add(&counters.bytes_compressed, len);
            Slot::Ready(batch.into_ready())
        } else {
            let id = JobId { topic: key.0, partition: key.1, batch: batch.id };
            let (compressing, body) = batch.into_compressing();
            let level = self.config.compression_level();
            let memory = Arc::clone(self.accumulator.memory());
            self.outputs.push_back(Output::Compress(Job::new(id, body, codec, level, memory)));
            Slot::Compressing(compressing)
        };
        self.on_way += 1;
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.line.push(slot);
        }
    }

    fn part(&mut self, key: PartitionKey, place: usize, request: RequestId) -> (Part, SlotKey) {
        let topic = self.topics.get(&key.0).expect("a partition has its topic");
        let name = Arc::clone(topic.name());
        let id = self.cluster.topic(key.0).map_or(sordini_protocol::Uuid::ZERO, |info| info.id);
        let partition = self.partitions.get_mut(&key).expect("the caller looked it up");
        let batch = partition.line.send(place, request, self.now);
        let part = Part {
            topic: key.0,
            name,
            id,
            partition: key.1,
            header: batch.header,
            body: Arc::clone(&batch.body),
        };
        (part, batch.meta.key())
    }

    fn transmit(
        &mut self,
        conn: ConnId,
        request: RequestId,
        mut parts: Vec<Part>,
        mut entries: Vec<(PartitionKey, SlotKey)>,
    ) {
        self.next_request += 1;
        parts.sort_unstable_by_key(|part| (part.topic, part.partition));
        entries.sort_unstable_by_key(|(key, _)| *key);
        let acks = self.config.acks;
        let timeout = self.config.request_timeout;
        let connection = self.connections.get(&conn).expect("the caller looked it up");
        let versions = connection.versions().expect("the caller found it ready");
        // Version 13 names topics by their ids alone.
        let by_name = parts.iter().any(|part| part.id.is_zero());
        let version = self.produce_version(&versions).expect("the caller found one that serves");
        let version = if by_name { version.min(12) } else { version };
        let connection = self.connections.get_mut(&conn).expect("it was there a line ago");
        let preface = Preface {
            version,
            correlation: connection.next_correlation(),
            client_id: &self.config.client_id,
            transactional_id: self.config.transactional_id.as_deref(),
            acks: acks.code(),
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        };
        let topics = parts.chunk_by(|part, next| part.topic == next.topic).map(|parts| {
            let Part { topic, name, id, .. } = &parts[0];
            (*topic, Arc::clone(name), *id)
        });
        let topics = topics.collect();
        let frame = frame(preface, parts);
        let asked = Asked::Produce(request, version);
        connection.sent(asked, frame.len(), acks != Acks::None, self.now, timeout);
        self.requests.insert(request, Request { entries, topics });
        let counters = self.accumulator.counters();
        add(&counters.produce_requests, 1);
        add(&counters.bytes_sent, frame.len() as u64);
        self.outputs.push_back(Output::Transmit { conn, frame });
    }
}
