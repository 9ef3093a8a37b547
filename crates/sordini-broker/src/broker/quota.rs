//! How fast clients may produce: Kafka's `producer_byte_rate`, for all clients of a broker
//! together.
//!
//! A request beyond the quota is taken, and answered at once with how long its client should have
//! waited (`throttle_time_ms`). Since Kafka 2.0 (KIP-219) the broker does not rely on that: it
//! reads nothing more of the connection for as long.

use std::time::Duration;

use crate::api::Request;
use crate::time::{Instant, Now};

/// A limit on the bytes of record batches that are produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceQuota {
    /// Bytes per second, over all clients; at least 1.
    pub bytes_per_second: u64,
    /// How much may come at once, in seconds' worth, before anybody is throttled.
    pub burst: Duration,
    /// Whether the connection is muted for the time that is answered. Without, only the client's
    /// own patience keeps it from going on.
    pub mutes: bool,
}

/// What was produced, in time: when the bytes so far would have come at the rate of the quota.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter(Instant);

impl Meter {
    /// Charges a request; the result is how long its client has to wait.
    pub(super) fn charge(&mut self, now: Now, quota: &ProduceQuota, request: &Request) -> Duration {
        let Request::Produce(produce) = request else { return Duration::ZERO };
        let data = produce.topic_data.iter().flat_map(|topic| &topic.partition_data);
        let bytes = data.map(|data| data.records.as_ref().map_or(0, bytes::Bytes::len));
        let bytes = u64::try_from(bytes.sum::<usize>()).unwrap_or(u64::MAX);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(quota.bytes_per_second.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.0 = self.0.max(now.mono).after(cost);
        self.0.since(now.mono).saturating_sub(quota.burst)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sordini_protocol::messages::produce::{
        PartitionProduceData, ProduceRequest, TopicProduceData,
    };

    use super::*;

    fn produce(bytes: usize) -> Request {
        let records = Some(Bytes::from(vec![0; bytes]));
        let partition_data = vec![PartitionProduceData { index: 0, records }];
        let topic_data = vec![TopicProduceData { partition_data, ..TopicProduceData::default() }];
        Request::Produce(ProduceRequest { topic_data, ..ProduceRequest::default() })
    }

    #[test]
    fn who_stays_within_the_rate_never_waits_and_who_does_not_waits_for_the_rest() {
        let burst = Duration::from_secs(1);
        let quota = ProduceQuota { bytes_per_second: 1000, burst, mutes: true };
        let mut meter = Meter::default();
        let at = |ms: i64| Now { mono: Instant(1).after_millis(ms), wall_ms: ms };
        assert_eq!(meter.charge(at(0), &quota, &produce(1000)), Duration::ZERO, "a burst");
        assert_eq!(meter.charge(at(0), &quota, &produce(500)), Duration::from_millis(500));
        assert_eq!(meter.charge(at(1500), &quota, &produce(1000)), Duration::ZERO, "paid off");
        assert_eq!(meter.charge(at(9000), &quota, &produce(3000)), Duration::from_secs(2));
    }
}
