//! Topics within a transaction.

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::batch::completion::{Delivery, Written};

use crate::error::{ProduceError, SendError};
use crate::producer::PartitionInfo;
use crate::record::Record;
use crate::topic::{Appender, Enqueue, EnqueueDetached, Topic};

/// A topic within one transaction: for any number of tasks, cheap to clone, borrowing nothing. It
/// keeps the producer open, but not the transaction: once that has ended, or can only be aborted,
/// sends fail with [`SendError::TransactionEnded`].
///
/// A [`Delivery`] says that its record was appended. Readers of committed records see it once the
/// transaction is committed, and not before.
#[derive(Clone, Debug)]
pub struct TransactionTopic {
    topic: Topic,
    transaction: TransactionNumber,
}

impl TransactionTopic {
    pub(super) fn new(topic: Topic, transaction: TransactionNumber) -> Self {
        Self { topic, transaction }
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.topic.name()
    }

    /// The transaction that its records belong to.
    #[must_use]
    pub fn transaction(&self) -> TransactionNumber {
        self.transaction
    }

    /// Appends a record within the transaction and waits until it is appended, or has failed: as
    /// [`Producer::send`](crate::Producer::send). Awaiting each leaves one record in each batch;
    /// commit waits for all anyway.
    ///
    /// # Errors
    /// [`ProduceError::NotAccepted`] if the record never left this process,
    /// [`ProduceError::Delivery`] if it did and was not acknowledged.
    ///
    /// # Cancellation
    /// A future dropped before the record was accepted takes it back; after that the record is
    /// part of the transaction.
    pub async fn send<'a>(&self, record: impl Into<Record<'a>>) -> Result<Written, ProduceError> {
        self.topic.send(record).await
    }

    /// Appends a record within the transaction, in the order of the calls: as
    /// [`Producer::enqueue`](crate::Producer::enqueue). The receipt need not be awaited: commit
    /// waits for all, and fails with the first.
    ///
    /// # Errors
    /// A [`SendError`]: the record was not accepted.
    ///
    /// # Cancellation
    /// A future dropped before it was ready takes the record back, and its place in the queue.
    pub fn enqueue<'a>(&self, record: impl Into<Record<'a>>) -> Enqueue<'_, 'a> {
        self.topic.enqueue(record)
    }

    /// As [`enqueue`](Self::enqueue), without a receipt; the cheapest way.
    ///
    /// # Errors
    /// A [`SendError`]: the record was not accepted.
    ///
    /// # Cancellation
    /// As [`enqueue`](Self::enqueue).
    pub fn enqueue_detached<'a>(&self, record: impl Into<Record<'a>>) -> EnqueueDetached<'_, 'a> {
        self.topic.enqueue_detached(record)
    }

    /// Appends a record within the transaction without waiting: as
    /// [`Producer::try_enqueue`](crate::Producer::try_enqueue).
    ///
    /// # Errors
    /// A [`SendError`]: the record was not accepted. [`SendError::BufferFull`] and
    /// [`SendError::Metadata`] may pass.
    pub fn try_enqueue<'a>(&self, record: impl Into<Record<'a>>) -> Result<Delivery, SendError> {
        self.topic.try_enqueue(record)
    }

    /// Appends many records at a time within the transaction; see [`Appender`].
    #[must_use]
    pub fn appender(&self) -> Appender {
        self.topic.appender()
    }

    /// As [`Producer::partitions_for`](crate::Producer::partitions_for).
    ///
    /// # Errors
    /// [`SendError::UnknownTopic`], [`SendError::Metadata`], or why the topic is refused.
    ///
    /// # Cancellation
    /// Safe: dropping the future ends the wait.
    pub async fn partitions(&self) -> Result<Vec<PartitionInfo>, SendError> {
        self.topic.partitions().await
    }
}
