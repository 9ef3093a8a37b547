//! What a broker saw, for tests to ask: every batch that a Produce request brought, in the order
//! of arrival, and how many were in flight.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sordini_protocol::{ApiKey, ErrorCode};

use crate::broker::ConnectionId;
use crate::time::Instant;

/// A batch that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenBatch {
    /// Position in the order of arrival, over all connections.
    pub order: u64,
    /// When its request was received.
    pub at: Instant,
    /// The connection it came by.
    pub connection: ConnectionId,
    /// Its request's correlation id.
    pub correlation_id: i32,
    /// Version of its request.
    pub version: i16,
    /// acks of its request.
    pub acks: i16,
    /// Its topic, by name if that is known, else by id.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its producer, -1 for none.
    pub producer_id: i64,
    /// Its producer's epoch.
    pub producer_epoch: i16,
    /// Sequence number of its first record.
    pub base_sequence: i32,
    /// Records that its header states.
    pub records: i32,
    /// Its CRC: two transmissions of a batch are equal in it.
    pub crc: u32,
    /// Its bytes.
    pub size: usize,
    /// What was answered: the error code, and the base offset if there is one. `None` while it
    /// is being processed, or if no answer was made (acks 0, a closed connection).
    pub outcome: Option<(ErrorCode, Option<i64>)>,
}

/// Asks what the broker saw. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<SeenBatch>,
    limit: usize,
    next_order: u64,
    requests: BTreeMap<ApiKey, u64>,
    connections: u64,
    in_flight: BTreeMap<(String, i32), InFlight>,
    request_queue_max: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
    now: usize,
    max: usize,
}

impl Monitor {
    pub(crate) fn new(limit: usize) -> Self {
        Self { state: Arc::new(Mutex::new(State { limit, ..State::default() })) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batches received, in the order of arrival; the oldest are forgotten beyond
    /// [`BrokerConfig::produce_log_limit`](crate::BrokerConfig::produce_log_limit).
    #[must_use]
    pub fn produce_log(&self) -> Vec<SeenBatch> {
        self.lock().batches.iter().cloned().collect()
    }

    /// How many requests of this kind were received.
    #[must_use]
    pub fn requests(&self, key: ApiKey) -> u64 {
        self.lock().requests.get(&key).copied().unwrap_or(0)
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.lock().connections
    }

    /// The most batches of this partition that were received and not yet answered, over all
    /// connections.
    #[must_use]
    pub fn max_in_flight(&self, topic: &str, partition: i32) -> usize {
        self.lock().in_flight.get(&(topic.to_owned(), partition)).map_or(0, |count| count.max)
    }

    /// The most requests that one connection had received and not yet answered.
    #[must_use]
    pub fn max_requests_in_flight(&self) -> usize {
        self.lock().request_queue_max
    }

    /// Forgets all.
    pub fn clear(&self) {
        let mut state = self.lock();
        let limit = state.limit;
        let in_flight = std::mem::take(&mut state.in_flight);
        let kept = in_flight.into_iter().filter(|(_, count)| count.now > 0);
        let in_flight =
            kept.map(|(at, count)| (at, InFlight { max: count.now, ..count })).collect();
        let next_order = state.next_order;
        *state = State { limit, in_flight, next_order, ..State::default() };
    }

    pub(crate) fn connected(&self) {
        self.lock().connections += 1;
    }

    pub(crate) fn received(&self, key: ApiKey, queued: usize) {
        let mut state = self.lock();
        *state.requests.entry(key).or_default() += 1;
        state.request_queue_max = state.request_queue_max.max(queued);
    }

    /// Notes a batch; the result names it in [`Monitor::answered`].
    pub(crate) fn batch(&self, mut batch: SeenBatch) -> u64 {
        let mut state = self.lock();
        let order = state.next_order;
        state.next_order += 1;
        batch.order = order;
        let count = state.in_flight.entry((batch.topic.clone(), batch.partition)).or_default();
        count.now += 1;
        count.max = count.max.max(count.now);
        state.batches.push_back(batch);
        while state.batches.len() > state.limit {
            state.batches.pop_front();
        }
        order
    }

    pub(crate) fn outcome(&self, order: u64, code: ErrorCode, base_offset: Option<i64>) {
        let mut state = self.lock();
        let oldest = state.batches.front().map_or(0, |batch| batch.order);
        let index = order.checked_sub(oldest).and_then(|i| usize::try_from(i).ok());
        if let Some(batch) = index.and_then(|i| state.batches.get_mut(i)) {
            batch.outcome = Some((code, base_offset));
        }
    }

    /// Notes that a batch is no longer in flight.
    pub(crate) fn landed(&self, topic: &str, partition: i32) {
        let mut state = self.lock();
        if let Some(count) = state.in_flight.get_mut(&(topic.to_owned(), partition)) {
            count.now = count.now.saturating_sub(1);
        }
    }
}
