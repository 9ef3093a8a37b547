//! The producer's handles.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sordini_core::accumulator::counters::Metrics;
use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::batch::completion::{Delivery, Written};
use sordini_core::config::Config;
use sordini_core::guarantees::Guarantees;
use sordini_core::producer::io::Command;
use sordini_core::time::Clock;

use crate::builder::ProducerBuilder;
use crate::error::{ProduceError, SendError};
use crate::record::Record;
use crate::report::{CloseReport, FailedRecord, FlushReport};
use crate::shared::Shared;
use crate::topic::Topic;

/// Appends records to Kafka topics. A handle: clones share one producer, from any thread.
///
/// - [`send`](Self::send) is one await per record: written, or an error that says its fate.
/// - [`enqueue`](Self::enqueue) accepts a record in order and returns a [`Delivery`] to await
///   later: what a pipeline uses, since awaiting each send leaves one record in each batch.
/// - [`topic`](Self::topic) gives a handle that spares the look-up by name for each record.
///
/// An accepted record ends exactly once: written, or failed with a fate. When the last handle
/// ([`Topic`]s count) is dropped, what was accepted is still delivered in the background, for up
/// to `delivery.timeout.ms`; [`close`](Self::close) waits for that and tells how it went.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sordini::{Producer, Record};
///
/// let producer = Producer::builder("localhost:9092").set("linger.ms", "5")?.build().await?;
/// let written = producer.send("clicks", Record::new("/home").key("user-7")).await?;
/// println!("partition {} offset {:?}", written.partition, written.offset);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// Held by every handle; its drop is the last handle's.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let patience = self.shared.config.delivery_timeout;
        let deadline = self.shared.clock.now().mono.saturating_add(patience);
        self.shared.accumulator.close();
        self.shared.tell(|token| Command::Close { token, deadline });
    }
}

impl Handle {
    /// A handle for the topic, whose records belong to `transaction`.
    pub(crate) fn topic(
        self: &Arc<Self>,
        name: &str,
        transaction: TransactionNumber,
    ) -> Result<Topic, SendError> {
        check_topic_name(name)?;
        let lanes = self.shared.accumulator.topic(name);
        Ok(Topic::new(Arc::clone(self), lanes, transaction))
    }

    pub(crate) fn flush(&self) -> impl Future<Output = FlushReport> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        let before = shared.accumulator.counters().snapshot();
        let mark = shared.accumulator.mark();
        let flushed = shared.ask(|token| Command::Flush { token, mark });
        async move {
            // An error means that the driver is gone, and with it everything is resolved.
            let _ = flushed.await;
            FlushReport::between(before, shared.accumulator.counters().snapshot())
        }
    }

    pub(crate) fn close(
        &self,
        within: Duration,
    ) -> impl Future<Output = CloseReport> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        shared.accumulator.close();
        // Whoever waits for memory or partitions waits in vain.
        shared.alarms.silence();
        let deadline = shared.clock.now().mono.saturating_add(within);
        let closed = shared.ask(|token| Command::Close { token, deadline });
        async move {
            let _ = closed.await;
            CloseReport::new(shared.accumulator.counters().snapshot(), shared.take_failed())
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.config().client_id)
            .field("accumulator", &self.handle.shared.accumulator)
            .finish_non_exhaustive()
    }
}

impl Producer {
    /// Starts to describe a producer; `bootstrap` is `host:port`, or several separated by commas.
    ///
    /// Wrong addresses, as all wrong settings, are reported by `build`.
    pub fn builder(bootstrap: &str) -> ProducerBuilder {
        ProducerBuilder::new(bootstrap)
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// A handle for the topic. Asks no broker: a topic that does not exist fails the first send.
    ///
    /// # Errors
    /// [`SendError::InvalidTopic`] if no topic can have this name.
    pub fn topic(&self, name: &str) -> Result<Topic, SendError> {
        self.handle.topic(name, TransactionNumber::NONE)
    }

    /// Appends a record and waits until it is written, or has failed.
    ///
    /// # Errors
    /// [`ProduceError::NotAccepted`] if the record never left this process,
    /// [`ProduceError::Delivery`] if it did and was not acknowledged.
    ///
    /// # Cancellation
    /// A future dropped before the record was accepted takes it back. After that the record is
    /// delivered or fails as if the future were still awaited; which of the two it was can't be
    /// seen from outside: use [`enqueue`](Self::enqueue) where it matters.
    pub async fn send<'a>(
        &self,
        topic: &str,
        record: impl Into<Record<'a>>,
    ) -> Result<Written, ProduceError> {
        self.topic(topic)?.send(record).await
    }

    /// Appends a record in the order of the calls, and returns its receipt once it is accepted:
    /// at once, unless memory or the topic's partitions have to be waited for, for `max.block.ms`
    /// at most.
    ///
    /// # Errors
    /// A [`SendError`]: the record was not accepted.
    ///
    /// # Cancellation
    /// A future dropped before it was ready takes the record back, and its place in the queue.
    pub async fn enqueue<'a>(
        &self,
        topic: &str,
        record: impl Into<Record<'a>>,
    ) -> Result<Delivery, SendError> {
        self.topic(topic)?.enqueue(record).await
    }

    /// Appends a record without waiting.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), with [`SendError::BufferFull`] or [`SendError::Metadata`] at
    /// once where that would wait. Those who wait are never overtaken.
    pub fn try_enqueue<'a>(
        &self,
        topic: &str,
        record: impl Into<Record<'a>>,
    ) -> Result<Delivery, SendError> {
        self.topic(topic)?.try_enqueue(record)
    }

    /// The topic's partitions, in order; waits until they are known, for `max.block.ms` at most.
    ///
    /// # Errors
    /// [`SendError::UnknownTopic`], [`SendError::Metadata`], or why the topic is refused.
    ///
    /// # Cancellation
    /// Safe: dropping the future ends the wait.
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<PartitionInfo>, SendError> {
        self.topic(topic)?.partitions().await
    }

    /// Sends what is accepted without waiting for company, and waits until every record accepted
    /// before this call (not before the first poll) has its outcome.
    ///
    /// # Cancellation
    /// Safe: dropping the future ends the wait, not the sending.
    pub fn flush(&self) -> impl Future<Output = FlushReport> + Send + 'static {
        self.handle.flush()
    }

    /// Refuses new records from now on, delivers what was accepted, and fails what is not
    /// acknowledged after `within`. All clones are closed with it. Calling it again waits for the
    /// same end, and may bring it forward.
    ///
    /// # Cancellation
    /// Safe: the producer goes on closing; only the report is not seen.
    pub fn close(&self, within: Duration) -> impl Future<Output = CloseReport> + Send + 'static {
        self.handle.close(within)
    }

    /// With `return_failed`: the records that failed since the last call, which takes them off
    /// `buffer.memory`. Records that nobody takes go on using it up.
    #[must_use]
    pub fn take_failed(&self) -> Vec<FailedRecord> {
        self.shared().take_failed()
    }

    /// What this producer has done so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared().accumulator.counters().snapshot()
    }

    /// What the settings promise, with the reasons.
    #[must_use]
    pub fn guarantees(&self) -> Guarantees {
        Guarantees::of(self.config())
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared().config
    }
}

/// One partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Its number, from 0.
    pub partition: i32,
    /// Had it a leader when the cluster was last asked?
    pub has_leader: bool,
}

/// The rule of Kafka's brokers: 1 to 249 of ASCII letters, digits, `.`, `_` and `-`, and neither
/// `.` nor `..`.
pub(crate) fn check_topic_name(name: &str) -> Result<(), SendError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > 249 {
        "it is longer than 249 bytes"
    } else if matches!(name, "." | "..") {
        "it names a folder"
    } else if !name.bytes().all(legal) {
        "only ASCII letters, digits, '.', '_' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(SendError::InvalidTopic { topic: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::check_topic_name;

    #[test]
    fn topic_names_follow_the_brokers_rule() {
        for name in ["clicks", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check_topic_name(name).is_err(), "{name}");
        }
    }
}
