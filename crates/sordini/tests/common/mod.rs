//! What the tests of the public API share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::future::Future;
use std::time::Duration;

use sordini::{Producer, ProducerBuilder};
use sordini_broker::Server;
use sordini_protocol::ApiKey;

/// No test waits longer: it would wait for ever.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The future's output, in bounded time.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("this never ends")
}

pub(crate) async fn broker() -> Server {
    Server::in_memory().await.expect("a broker in memory")
}

/// A broker with the topic `t` of so many partitions.
pub(crate) async fn broker_with(partitions: i32) -> Server {
    let broker = broker().await;
    broker.create_topic("t", partitions, &[]).await.expect("a new topic");
    broker
}

/// A producer's description with short times, for brokers that answer badly.
pub(crate) fn impatient(broker: &Server) -> ProducerBuilder {
    Producer::builder(&broker.bootstrap())
        .set("retry.backoff.ms", "5")
        .and_then(|b| b.set("retry.backoff.max.ms", "20"))
        .and_then(|b| b.set("reconnect.backoff.ms", "5"))
        .and_then(|b| b.set("reconnect.backoff.max.ms", "20"))
        .expect("supported settings")
        .linger(Duration::ZERO)
}

pub(crate) async fn producer(broker: &Server) -> Producer {
    impatient(broker).build().await.expect("the settings are right")
}

/// The values of a partition, as text, in the order of their offsets.
pub(crate) async fn values(broker: &Server, topic: &str, partition: i32) -> Vec<String> {
    let records = broker.records(topic, partition).await.expect("the partition exists");
    let value = |value: Option<Vec<u8>>| value.map(|v| String::from_utf8(v).expect("text"));
    records.into_iter().map(|record| value(record.value).unwrap_or_default()).collect()
}

/// Makes the broker answer no Produce request for now; every batch sent stays in flight.
pub(crate) fn silence(broker: &Server) -> sordini_broker::FaultHandle {
    broker.faults().on(ApiKey::Produce).always().drop_response_after_append()
}

/// `0..count` as text.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
}
