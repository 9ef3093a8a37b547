//! Faults on order: what a test makes the broker do wrong, by kind of request.
//!
//! ```
//! use std::time::Duration;
//! use sordini_broker::{Faults, protocol::{ApiKey, ErrorCode}};
//!
//! let faults = Faults::default();
//! // The second Produce request is answered with an error and not appended.
//! faults.on(ApiKey::Produce).nth(2).error(ErrorCode::NotLeaderOrFollower);
//! // The next three to partition 0 of "t" are appended, and an error is answered all the same.
//! faults.on(ApiKey::Produce).partition("t", 0).times(3).after_append()
//!     .error(ErrorCode::NotEnoughReplicasAfterAppend);
//! // Every Metadata answer comes late.
//! faults.on(ApiKey::Metadata).always().delay(Duration::from_millis(50));
//! // One Produce request is appended, and its answer never sent.
//! faults.on(ApiKey::Produce).drop_response_after_append();
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sordini_protocol::{ApiKey, ErrorCode};

use crate::broker::ConnectionId;

/// Orders faults. Clones share the orders; see the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    rules: Vec<Rule>,
    next_id: u64,
}

#[derive(Debug)]
struct Rule {
    id: u64,
    filter: Filter,
    seen: u64,
    hits: u64,
    action: Action,
}

#[derive(Clone, Debug)]
struct Filter {
    key: ApiKey,
    topic: Option<String>,
    partition: Option<i32>,
    connection: Option<ConnectionId>,
    first: u64,
    times: Option<u64>,
    after: bool,
    leader: Option<LeaderHint>,
}

#[derive(Clone, Debug)]
enum Action {
    Error(ErrorCode),
    Delay(Duration),
    Drop,
    Close,
    Raw(Bytes),
}

/// The leader that a Produce error names (KIP-951).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader's id.
    pub id: i32,
    /// Its epoch.
    pub epoch: i32,
    /// Its host and port, if the answer is to name them.
    pub endpoint: Option<(String, u16)>,
}

/// An order in the making: which requests it strikes. By default the next one, before it is
/// applied.
#[must_use = "an order without an action strikes nothing: end it with .error(..) or another action"]
#[derive(Debug)]
pub struct FaultBuilder {
    faults: Faults,
    filter: Filter,
}

/// An order that was given.
#[derive(Clone, Debug)]
pub struct FaultHandle {
    faults: Faults,
    id: u64,
}

/// An error for one topic or partition, or for all (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorStrike {
    pub code: ErrorCode,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub leader: Option<LeaderHint>,
}

impl ErrorStrike {
    /// Whether it strikes this partition.
    pub(crate) fn covers(&self, topic: &str, partition: i32) -> bool {
        self.topic.as_deref().is_none_or(|name| name == topic)
            && self.partition.is_none_or(|index| index == partition)
    }
}

/// What strikes one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strike {
    /// Answered instead of applying.
    pub before: Vec<ErrorStrike>,
    /// Answered after applying.
    pub after: Vec<ErrorStrike>,
    pub delay: Duration,
    pub drop_response: bool,
    pub close_before: bool,
    pub close_after: bool,
    pub raw: Option<Bytes>,
}

impl Faults {
    /// Begins an order for requests of this kind.
    pub fn on(&self, key: ApiKey) -> FaultBuilder {
        let filter = Filter {
            key,
            topic: None,
            partition: None,
            connection: None,
            first: 1,
            times: Some(1),
            after: false,
            leader: None,
        };
        FaultBuilder { faults: self.clone(), filter }
    }

    /// Withdraws all orders.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What strikes a request that names these topics and partitions (none, for APIs that are
    /// not about partitions).
    pub(crate) fn strike(
        &self,
        key: ApiKey,
        connection: ConnectionId,
        partitions: &[(String, i32)],
    ) -> Strike {
        let mut strike = Strike::default();
        for rule in &mut self.lock().rules {
            if rule.matches(key, connection, partitions) {
                rule.apply(&mut strike);
            }
        }
        strike
    }
}

impl Rule {
    fn matches(&mut self, key: ApiKey, conn: ConnectionId, partitions: &[(String, i32)]) -> bool {
        let filter = &self.filter;
        let topic = filter.topic.as_deref();
        let about = topic.is_none()
            || partitions.iter().any(|(name, index)| {
                topic == Some(name) && filter.partition.is_none_or(|wanted| wanted == *index)
            });
        if filter.key != key || filter.connection.is_some_and(|wanted| wanted != conn) || !about {
            return false;
        }
        self.seen += 1;
        let spent = filter.times.is_some_and(|times| self.hits >= times);
        let struck = self.seen >= filter.first && !spent;
        self.hits += u64::from(struck);
        struck
    }

    fn apply(&self, strike: &mut Strike) {
        match &self.action {
            Action::Error(code) => {
                let error = ErrorStrike {
                    code: *code,
                    topic: self.filter.topic.clone(),
                    partition: self.filter.partition,
                    leader: self.filter.leader.clone(),
                };
                let list = if self.filter.after { &mut strike.after } else { &mut strike.before };
                list.push(error);
            }
            Action::Delay(duration) => strike.delay += *duration,
            Action::Drop => strike.drop_response = true,
            Action::Close if self.filter.after => strike.close_after = true,
            Action::Close => strike.close_before = true,
            Action::Raw(bytes) => strike.raw = Some(bytes.clone()),
        }
    }
}

impl FaultBuilder {
    /// Strikes from the `n`-th matching request on (1 is the next).
    pub fn nth(mut self, n: u64) -> Self {
        self.filter.first = n.max(1);
        self
    }

    /// Strikes `n` requests; 1 by default.
    pub fn times(mut self, n: u64) -> Self {
        self.filter.times = Some(n);
        self
    }

    /// Strikes every request from the first on.
    pub fn always(mut self) -> Self {
        self.filter.times = None;
        self
    }

    /// Strikes only requests that name this topic; an error goes to this topic only.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.filter.topic = Some(topic.into());
        self
    }

    /// Strikes only requests that name this partition; an error goes to this partition only.
    pub fn partition(self, topic: impl Into<String>, partition: i32) -> Self {
        let mut order = self.topic(topic);
        order.filter.partition = Some(partition);
        order
    }

    /// Strikes only requests of this connection.
    pub fn connection(mut self, connection: ConnectionId) -> Self {
        self.filter.connection = Some(connection);
        self
    }

    /// The request is applied first: an error is then answered, or the connection closed, all
    /// the same.
    pub fn after_append(mut self) -> Self {
        self.filter.after = true;
        self
    }

    /// An error of Produce names this as the partition's leader.
    pub fn leader(mut self, id: i32, epoch: i32, endpoint: Option<(&str, u16)>) -> Self {
        let endpoint = endpoint.map(|(host, port)| (host.to_owned(), port));
        self.filter.leader = Some(LeaderHint { id, epoch, endpoint });
        self
    }

    /// Answers with this error code.
    pub fn error(self, code: ErrorCode) -> FaultHandle {
        self.order(Action::Error(code))
    }

    /// Applies the request, and holds the answer back; the connection waits behind it.
    pub fn delay(self, duration: Duration) -> FaultHandle {
        self.order(Action::Delay(duration))
    }

    /// Applies the request and never sends the answer, nor any later one on this connection,
    /// which stays open: to the client it has gone silent.
    pub fn drop_response_after_append(self) -> FaultHandle {
        self.order(Action::Drop)
    }

    /// Closes the connection instead of applying; after [`FaultBuilder::after_append`], instead
    /// of answering.
    pub fn close_connection(self) -> FaultHandle {
        self.order(Action::Close)
    }

    /// Applies the request and writes these bytes instead of the answer, as they are: without a
    /// size before them.
    pub fn respond_raw(self, bytes: impl Into<Bytes>) -> FaultHandle {
        self.order(Action::Raw(bytes.into()))
    }

    fn order(self, action: Action) -> FaultHandle {
        let mut table = self.faults.lock();
        table.next_id += 1;
        let id = table.next_id;
        table.rules.push(Rule { id, filter: self.filter, seen: 0, hits: 0, action });
        drop(table);
        FaultHandle { faults: self.faults, id }
    }
}

impl FaultHandle {
    /// How many requests were struck; 0 after [`Faults::clear`].
    #[must_use]
    pub fn hits(&self) -> u64 {
        let table = self.faults.lock();
        table.rules.iter().find(|rule| rule.id == self.id).map_or(0, |rule| rule.hits)
    }

    /// Withdraws the order.
    pub fn cancel(&self) {
        self.faults.lock().rules.retain(|rule| rule.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnectionId = ConnectionId(1);

    fn errors(faults: &Faults, key: ApiKey) -> usize {
        faults.strike(key, CONN, &[]).before.len()
    }

    #[test]
    fn an_order_strikes_the_nth_request_of_its_kind_once() {
        let faults = Faults::default();
        let order = faults.on(ApiKey::Produce).nth(2).error(ErrorCode::CorruptMessage);
        assert_eq!(errors(&faults, ApiKey::Metadata), 0);
        let struck: Vec<_> = (0..4).map(|_| errors(&faults, ApiKey::Produce)).collect();
        assert_eq!(struck, [0, 1, 0, 0]);
        assert_eq!(order.hits(), 1);
    }

    #[test]
    fn orders_repeat_until_they_are_withdrawn() {
        let faults = Faults::default();
        let always = faults.on(ApiKey::Fetch).always().error(ErrorCode::UnknownServerError);
        faults.on(ApiKey::Fetch).times(2).delay(Duration::from_millis(3));
        let struck: Vec<_> = (0..3).map(|_| faults.strike(ApiKey::Fetch, CONN, &[])).collect();
        let delays: Vec<_> = struck.iter().map(|s| s.delay.as_millis()).collect();
        assert_eq!(delays, [3, 3, 0]);
        assert!(struck.iter().all(|s| s.before.len() == 1));
        always.cancel();
        assert_eq!(errors(&faults, ApiKey::Fetch), 0);
    }

    #[test]
    fn an_order_for_a_partition_strikes_only_requests_that_name_it() {
        let faults = Faults::default();
        faults.on(ApiKey::Produce).partition("t", 1).after_append().error(ErrorCode::None);
        let other = [("t".to_owned(), 0), ("u".to_owned(), 1)];
        assert_eq!(faults.strike(ApiKey::Produce, CONN, &other), Strike::default());
        let named = [("t".to_owned(), 0), ("t".to_owned(), 1)];
        let strike = faults.strike(ApiKey::Produce, CONN, &named);
        assert!(strike.before.is_empty());
        assert!(strike.after[0].covers("t", 1) && !strike.after[0].covers("t", 0));
    }
}
