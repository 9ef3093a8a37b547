//! How a batch ends: acknowledged or failed, told once.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sordini_protocol::{ErrorCode, mutant};

use crate::accumulator::counters::add;
use crate::batch::body::Body;
use crate::batch::completion::{Deduplicated, Outcome};
use crate::batch::sealed::{Returned, Sealed};
use crate::batch::stages::{Compressed, JobId, Meta, Ready, Stamped};
use crate::config::Codec;
use crate::error::{Cause, DeliveryError, Fate, Obstacle, Refusal};
use crate::idempotence::Identity;
use crate::producer::Producer;
use crate::producer::io::{Delivered, Output, Trace};
use crate::producer::table::PartitionKey;
use crate::sequencing::slot::Slot;

/// A batch that ends: what is known of it, and its bytes if they are here.
pub(super) struct Ending {
    pub(super) meta: Meta,
    pub(super) bytes: Option<(Codec, Arc<Body>)>,
}

/// A batch that failed while a codec worked on it, and is to be handed back.
pub(super) struct Owed {
    error: Arc<DeliveryError>,
    count: u32,
    base_timestamp: i64,
}

impl Owed {
    pub(super) fn pay(self, compressed: Compressed) -> Returned {
        let Self { error, count, base_timestamp } = self;
        let Compressed { body, codec, .. } = compressed;
        Returned { error, body: Arc::new(body), codec, count, base_timestamp }
    }
}

impl From<Stamped> for Ending {
    fn from(batch: Stamped) -> Self {
        Self { meta: batch.meta, bytes: Some((batch.codec, batch.body)) }
    }
}

impl From<Ready> for Ending {
    fn from(batch: Ready) -> Self {
        Self { meta: batch.meta, bytes: Some((batch.codec, batch.body)) }
    }
}

impl Ending {
    /// What is left to tell of a slot that leaves its line; `None` if its records have their
    /// outcome.
    pub(super) fn of(slot: Slot) -> Option<Self> {
        match slot {
            // The codec has the bytes, and gives them back when it is done.
            Slot::Compressing(batch) => Some(Self { meta: batch.meta, bytes: None }),
            Slot::Ready(batch) => Some(batch.into()),
            Slot::Waiting { batch, .. } | Slot::InFlight { batch, .. } => Some(batch.into()),
            Slot::Expired { .. } | Slot::Acknowledged { .. } => None,
        }
    }
}

impl Producer {
    /// The batch was acknowledged, as far as `acks` asks.
    pub(super) fn deliver_written(
        &mut self,
        key: PartitionKey,
        meta: Meta,
        base_offset: Option<i64>,
        log_append_time: Option<i64>,
        duplicate: bool,
    ) {
        let deduplicated = match (duplicate, meta.ambiguous) {
            (true, _) => Deduplicated::Yes,
            (false, true) => Deduplicated::Possible,
            (false, false) => Deduplicated::No,
        };
        let counters = self.accumulator.counters();
        add(&counters.batches_written, 1);
        add(&counters.records_written, u64::from(meta.count()));
        add(&counters.duplicates, u64::from(duplicate));
        let outcome = Outcome::Written { base_offset, log_append_time, deduplicated };
        self.left_the_way(&meta);
        self.note_recovery(key, meta.attempts);
        self.deliver(meta, outcome, None);
    }

    fn note_recovery(&mut self, key: PartitionKey, attempts: u32) {
        if attempts > 1
            && let Some(topic) = self.topics.get(&key.0).map(|topic| Arc::clone(topic.name()))
        {
            self.trace(Trace::Recovered { topic, partition: key.1, attempts });
        }
    }

    /// The batch failed; it is out of its line.
    pub(super) fn deliver_failed(
        &mut self,
        key: PartitionKey,
        ending: Ending,
        fate: Fate,
        cause: Cause,
    ) {
        self.left_the_way(&ending.meta);
        self.conclude(key, ending, fate, cause);
    }

    /// A batch that never left its lane failed.
    pub(super) fn deliver_failed_sealed(&mut self, key: PartitionKey, batch: Sealed, cause: Cause) {
        self.flush_progress(&Meta::from(&batch));
        self.conclude(key, batch.into_ready().into(), Fate::NotWritten, cause);
    }

    fn conclude(&mut self, key: PartitionKey, ending: Ending, fate: Fate, cause: Cause) {
        let Ending { meta, bytes } = ending;
        // S7: a batch that the network may have is never called not written.
        let fate = if meta.ambiguous && !mutant!(M7) { Fate::Unknown } else { fate };
        // A frame that the driver has, and has reported no byte of, may be on the wire by now:
        // what is possibly written was possibly sent.
        let attempts = match fate {
            Fate::NotWritten => meta.attempts,
            Fate::Unknown => meta.attempts.max(1),
        };
        if mutant!(M15) {
            std::mem::forget(bytes.as_ref().map(|(_, body)| Arc::clone(body)));
        }
        let counters = self.accumulator.counters();
        let counter: &AtomicU64 = match fate {
            Fate::NotWritten => &counters.records_not_written,
            Fate::Unknown => &counters.records_unknown,
        };
        add(counter, u64::from(meta.count()));
        let topic = self.topics.get(&key.0).map_or_else(|| "".into(), |topic| topic.name().clone());
        let error = Arc::new(DeliveryError { fate, cause, attempts, topic, partition: key.1 });
        self.trace(Trace::Failed(Arc::clone(&error)));
        self.note_failure(&error);
        if self.return_failed && bytes.is_none() {
            let job = JobId { topic: key.0, partition: key.1, batch: meta.id };
            let (count, base_timestamp) = (meta.count(), meta.base_timestamp);
            self.owed.insert(job, Owed { error: Arc::clone(&error), count, base_timestamp });
        }
        let returned = bytes.filter(|_| self.return_failed).map(|(codec, body)| Returned {
            error: Arc::clone(&error),
            body,
            codec,
            count: meta.count(),
            base_timestamp: meta.base_timestamp,
        });
        self.deliver(meta, Outcome::Failed(error), returned);
    }

    fn deliver(&mut self, meta: Meta, outcome: Outcome, returned: Option<Returned>) {
        let Meta { completion, records, .. } = meta;
        let delivered = Delivered { completion, records, outcome, returned };
        self.outputs.push_back(Output::Deliver(delivered));
    }

    fn left_the_way(&mut self, meta: &Meta) {
        assert!(self.on_way > 0, "S5: more batches ended than were taken");
        self.on_way -= 1;
        self.flush_progress(meta);
    }

    fn flush_progress(&mut self, meta: &Meta) {
        for flush in &mut self.flushes {
            if meta.id < flush.mark {
                flush.remaining = flush.remaining.saturating_sub(1);
            }
        }
    }

    /// A batch was replaced by two: there is one more to wait for.
    pub(super) fn note_split(&mut self, meta: &Meta) {
        self.on_way += 1;
        for flush in &mut self.flushes {
            flush.remaining += usize::from(meta.id < flush.mark);
        }
        add(&self.accumulator.counters().splits, 1);
    }

    /// What stands in the way of a partition that got nothing sent.
    pub(super) fn obstacle(&self, key: PartitionKey) -> Obstacle {
        let leader = self.cluster.leader(key.0, key.1);
        let broken = |name: &Arc<str>| {
            self.reconnects
                .get(name)
                .and_then(|state| state.cause.clone())
                .map(|cause| Obstacle::Connection { address: Arc::clone(name), cause })
        };
        let address = leader.and_then(|node| self.cluster.brokers().get(&node));
        if let Some(obstacle) = address.and_then(|at| broken(&at.to_string().into())) {
            return obstacle;
        }
        if let Identity::Acquiring(state) = &self.identity
            && let Some(code) = state.last
        {
            return Obstacle::NoProducerId(code);
        }
        if let Some(obstacle) = self.transaction_obstacle(key) {
            return obstacle;
        }
        match (leader, address) {
            (Some(_), Some(address)) => Obstacle::Silent { tried: address.to_string().into() },
            (Some(_), None) => self.silence(),
            (None, _) => self.reconnects.keys().find_map(broken).unwrap_or(Obstacle::NoLeader),
        }
    }

    /// Every address that was tried has yet to answer.
    pub(super) fn silence(&self) -> Obstacle {
        const NAMED: usize = 5;
        let mut tried = String::new();
        for name in self.reconnects.keys().take(NAMED) {
            let separator = if tried.is_empty() { "" } else { ", " };
            let _ = write!(tried, "{separator}{name}");
        }
        match self.reconnects.len().saturating_sub(NAMED) {
            0 if tried.is_empty() => return Obstacle::NoAnswer,
            0 => {}
            more => {
                let _ = write!(tried, " and {more} more");
            }
        }
        Obstacle::Silent { tried: tried.into() }
    }

    /// Fails every unresolved record.
    pub(super) fn fail_all(&mut self, cause: &Cause) {
        let keys: Vec<PartitionKey> = self.partitions.keys().collect();
        for key in keys {
            self.fail_partition(key, cause);
        }
    }

    /// Fails every unresolved record of a partition. What is in flight may yet be appended.
    pub(super) fn fail_partition(&mut self, key: PartitionKey, cause: &Cause) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        for slot in partition.line.drain() {
            let fate = if slot.in_flight() { Fate::Unknown } else { Fate::NotWritten };
            if let Some(ending) = Ending::of(slot) {
                self.deliver_failed(key, ending, fate, cause.clone());
            }
        }
        self.fail_lane(key, cause);
    }

    /// Fails what waits in a partition's lane.
    pub(super) fn fail_lane(&mut self, key: PartitionKey, cause: &Cause) {
        loop {
            let Some(partition) = self.partitions.get_mut(&key) else { return };
            let (batch, view) = partition.lane.take(true);
            partition.view = view;
            let Some(batch) = batch else { return };
            self.deliver_failed_sealed(key, batch, cause.clone());
        }
    }

    /// The producer cannot go on.
    pub(super) fn fail_for_good(&mut self, code: ErrorCode) {
        if matches!(self.identity, Identity::Fatal(_)) {
            return;
        }
        self.identity = Identity::Fatal(code);
        self.trace(Trace::Fatal(code));
        self.accumulator.refuse_all(&Refusal::Fatal(code));
        self.on_lanes_due();
        self.fail_all(&Cause::Fatal(code));
    }

    pub(super) fn trace_epoch(&mut self, key: PartitionKey, epoch: i16) {
        if let Some(topic) = self.topics.get(&key.0).map(|topic| Arc::clone(topic.name())) {
            self.trace(Trace::EpochBumped { topic, partition: key.1, epoch });
        }
    }
}
