//! The guards of an open transaction.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::batch::completion::{Delivery, Written};
use sordini_core::producer::io::{Command, Finished};
use sordini_core::transaction::error::{Ended, FatalError, TransactionError, TransactionOutcome};
use sordini_core::transaction::offsets::{GroupMetadata, GroupOffsets, OffsetToCommit};

use crate::error::{ProduceError, SendError};
use crate::history::Recovered;
use crate::producer::Handle;
use crate::record::Record;
use crate::report::FlushReport;
use crate::shared::Shared;
use crate::transactional::{
    AbortError, CommitError, OffsetsError, Patience, TransactionTopic, TransactionalProducer, ended,
};

/// A transaction that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Which.
    pub transaction: TransactionNumber,
}

/// A transaction that is open, and borrows its producer. What can be done with it stands at
/// [`OpenTransaction`]; [`commit`](Self::commit) or [`abort`](Self::abort) ends it.
///
/// Dropping it has the transaction aborted: the producer is told so, and nothing is waited for.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'producer> {
    open: OpenTransaction,
    /// One transaction of a producer is open at a time.
    producer: PhantomData<&'producer mut TransactionalProducer>,
}

impl Deref for Transaction<'_> {
    type Target = OpenTransaction;

    fn deref(&self) -> &OpenTransaction {
        &self.open
    }
}

impl Transaction<'_> {
    pub(super) fn new(open: OpenTransaction) -> Self {
        Self { open, producer: PhantomData }
    }

    /// Sends what was accepted, waits until it is written, and makes all of it visible, together
    /// with the offsets that were sent. If any of it failed, the transaction is aborted instead.
    /// Waits for the longer of `max.block.ms` and `delivery.timeout.ms` at most.
    ///
    /// # Errors
    /// A [`CommitError`], by what to do: aborted, do it again; unknown, ask; this producer is done.
    ///
    /// # Cancellation
    /// A future that was never polled aborts. After that the commit goes on: the producer's
    /// [`outcome`](TransactionalProducer::outcome) and [`resolve`](TransactionalProducer::resolve)
    /// tell how it went, and so does the next [`begin`](TransactionalProducer::begin).
    pub async fn commit(self) -> Result<Committed, CommitError> {
        self.open.commit().await
    }

    /// Aborts: what is queued fails, what is on its way is waited for, and nothing of it becomes
    /// visible to readers of committed records. Waits for the longer of `max.block.ms` and
    /// `delivery.timeout.ms` at most.
    ///
    /// # Errors
    /// An [`AbortError`]: not confirmed in time, or this producer is done. The transaction is not
    /// committed in any case.
    ///
    /// # Cancellation
    /// Safe: the abort goes on, and the next [`begin`](TransactionalProducer::begin) waits for it.
    pub async fn abort(self) -> Result<(), AbortError> {
        self.open.abort().await
    }
}

/// A transaction that is open, and has its producer: for tasks and structs. What can be done with
/// it stands at [`OpenTransaction`]; [`commit`](Self::commit) or [`abort`](Self::abort) ends it and
/// gives the producer back.
///
/// Dropping it has the transaction aborted, and closes the producer; nothing is waited for.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct OwnedTransaction {
    // Dropped in this order: the abort is asked for before the close.
    open: OpenTransaction,
    producer: TransactionalProducer,
}

impl Deref for OwnedTransaction {
    type Target = OpenTransaction;

    fn deref(&self) -> &OpenTransaction {
        &self.open
    }
}

impl OwnedTransaction {
    pub(super) fn new(open: OpenTransaction, producer: TransactionalProducer) -> Self {
        Self { open, producer }
    }

    /// As [`Transaction::commit`]; gives the producer back in every case.
    ///
    /// # Errors
    /// In the result: a [`CommitError`].
    ///
    /// # Cancellation
    /// The producer is dropped with the future: it ends what it has begun, and closes.
    pub async fn commit(self) -> (TransactionalProducer, Result<Committed, CommitError>) {
        let result = self.open.commit().await;
        (self.producer, result)
    }

    /// As [`Transaction::abort`]; gives the producer back in every case.
    ///
    /// # Errors
    /// In the result: an [`AbortError`].
    ///
    /// # Cancellation
    /// The producer is dropped with the future: it ends what it has begun, and closes.
    pub async fn abort(self) -> (TransactionalProducer, Result<(), AbortError>) {
        let result = self.open.abort().await;
        (self.producer, result)
    }
}

/// An open transaction, as both guards have it: [`Transaction`] and [`OwnedTransaction`].
pub struct OpenTransaction {
    handle: Arc<Handle>,
    transaction: TransactionNumber,
    recovered: Vec<Recovered>,
    on_drop: OnDrop,
}

/// What is to be asked of the machine when the guard goes.
#[derive(Debug)]
enum OnDrop {
    Abort,
    /// The end was asked for; the machine sees to it.
    Nothing,
}

impl fmt::Debug for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTransaction")
            .field("number", &self.transaction)
            .field("recovered", &self.recovered)
            .finish_non_exhaustive()
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        if let OnDrop::Abort = self.on_drop {
            let deadline = Patience::of_an_end(self.shared()).deadline;
            let transaction = self.transaction;
            let token = None;
            self.shared().tell(|_| Command::AbortTransaction { token, transaction, deadline });
        }
    }
}

impl OpenTransaction {
    pub(super) fn new(
        handle: Arc<Handle>,
        transaction: TransactionNumber,
        recovered: Vec<Recovered>,
    ) -> Self {
        Self { handle, transaction, recovered, on_drop: OnDrop::Abort }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Its number among the transactions of this producer, for
    /// [`outcome`](TransactionalProducer::outcome) and [`resolve`](TransactionalProducer::resolve).
    #[must_use]
    pub fn number(&self) -> TransactionNumber {
        self.transaction
    }

    /// The transactions before this one whose end nobody has seen, the oldest first: their guard
    /// was dropped or forgotten, or a call was cancelled or did not wait long enough. Each is told
    /// of once; the last 64 are remembered.
    #[must_use]
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }

    /// A handle for a topic within the transaction, for any number of tasks. Asks no broker.
    ///
    /// # Errors
    /// [`SendError::InvalidTopic`] if no topic can have this name.
    pub fn topic(&self, name: &str) -> Result<TransactionTopic, SendError> {
        let topic = self.handle.topic(name, self.transaction)?;
        Ok(TransactionTopic::new(topic, self.transaction))
    }

    /// As [`TransactionTopic::send`], to the topic of this name.
    ///
    /// # Errors
    /// [`ProduceError::NotAccepted`] if the record never left this process,
    /// [`ProduceError::Delivery`] if it did and was not acknowledged.
    ///
    /// # Cancellation
    /// A future dropped before the record was accepted takes it back; after that the record is
    /// part of the transaction.
    pub async fn send<'a>(
        &self,
        topic: &str,
        record: impl Into<Record<'a>>,
    ) -> Result<Written, ProduceError> {
        self.topic(topic)?.send(record).await
    }

    /// As [`TransactionTopic::enqueue`], to the topic of this name.
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

    /// Makes a consumer group's offsets part of the transaction: where the group goes on reading
    /// moves if, and only if, the transaction is committed (KIP-98, KIP-447). For programs that
    /// read, transform and write; call it once before the commit, with the offsets of the next
    /// records to read. Without any offset it does nothing. Waits for `max.block.ms` at most.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # use sordini::Producer;
    /// # let broker = sordini_broker::Server::in_memory().await?;
    /// # broker.create_topic("orders", 1, &[]).await?;
    /// # let builder = Producer::builder(&broker.bootstrap()).transactional_id("billing-1");
    /// # let mut producer = builder.build_transactional().await?;
    /// use sordini::{GroupMetadata, OffsetToCommit};
    ///
    /// let transaction = producer.begin().await?;
    /// transaction.enqueue("invoices", "1 book, paid").await?;
    /// let read = [("orders", 0, OffsetToCommit::new(8))]; // up to offset 7
    /// transaction.send_offsets(&GroupMetadata::new("billing"), read).await?;
    /// transaction.commit().await?;
    /// # Ok(()) })
    /// # }
    /// ```
    ///
    /// # Errors
    /// An [`OffsetsError`], by what to do: abort; send them again; this producer is done.
    ///
    /// # Cancellation
    /// After the first poll the offsets are sent as if the future were still awaited. A commit
    /// waits for them, and aborts if they were refused.
    pub async fn send_offsets<T: AsRef<str>>(
        &self,
        group: &GroupMetadata,
        offsets: impl IntoIterator<Item = (T, i32, OffsetToCommit)>,
    ) -> Result<(), OffsetsError> {
        let mut checked = Vec::new();
        for (topic, partition, to_commit) in offsets {
            let (topic, offset) = (topic.as_ref(), to_commit.offset);
            if partition < 0 || offset < 0 {
                return Err(OffsetsError::Invalid { topic: topic.to_owned(), partition, offset });
            }
            checked.push((Arc::from(topic), partition, to_commit));
        }
        if checked.is_empty() {
            return Ok(());
        }
        let offsets = Arc::new(GroupOffsets { group: group.clone(), offsets: checked });
        let transaction = self.transaction;
        let deadline = Patience::of_a_call(self.shared()).deadline;
        let asked = self.shared().ask(|token| Command::SendOffsets {
            token,
            transaction,
            offsets,
            deadline,
        });
        let result = match asked.await {
            Ok(Finished::OffsetsSent(result)) => result,
            _ => Err(TransactionError::Closed),
        };
        result.map_err(|error| OffsetsError::new(transaction, error))
    }

    /// Sends what is accepted without waiting for company, and waits until every record accepted
    /// before this call (not before the first poll) has its outcome. A commit does that itself.
    ///
    /// # Cancellation
    /// Safe: dropping the future ends the wait, not the sending.
    pub fn flush(&self) -> impl Future<Output = FlushReport> + Send + use<> {
        self.handle.flush()
    }

    async fn commit(mut self) -> Result<Committed, CommitError> {
        self.on_drop = OnDrop::Nothing;
        let shared = self.shared();
        let transaction = self.transaction;
        let patience = Patience::of_an_end(shared);
        let deadline = patience.deadline;
        let asked = shared.ask(|token| Command::CommitTransaction { token, transaction, deadline });
        let (outcome, fatal) = self.told(ended(asked).await);
        match (outcome, fatal) {
            // Whatever befell the producer after that is the next call's.
            (TransactionOutcome::Committed, _) => Ok(Committed { transaction }),
            (outcome, Some(error)) => Err(CommitError::Fatal { transaction, outcome, error }),
            (TransactionOutcome::Aborted(cause), None) => {
                Err(CommitError::Aborted { transaction, cause })
            }
            (TransactionOutcome::Unknown, None) => {
                Err(CommitError::Unknown { transaction, waited: patience.waited(shared) })
            }
        }
    }

    async fn abort(mut self) -> Result<(), AbortError> {
        self.on_drop = OnDrop::Nothing;
        let shared = self.shared();
        let transaction = self.transaction;
        let patience = Patience::of_an_end(shared);
        let deadline = patience.deadline;
        let asked = shared.ask(|token| Command::AbortTransaction {
            token: Some(token),
            transaction,
            deadline,
        });
        let answer = ended(asked).await;
        let (closed, last) = match &answer {
            Err(TransactionError::Closed) => (true, None),
            Err(
                TransactionError::TimedOut { last, .. } | TransactionError::Unfinished { last, .. },
            ) => (false, Some(last.clone())),
            _ => (false, None),
        };
        match self.told(answer) {
            (_, Some(error)) => Err(AbortError::Fatal { transaction, error }),
            (TransactionOutcome::Aborted(_), None) => Ok(()),
            _ if closed => Err(AbortError::Closed { transaction }),
            _ => {
                let waited = patience.waited(shared);
                Err(AbortError::Unconfirmed { transaction, waited, last })
            }
        }
    }

    /// What the answer says of the transaction, and whether the producer is done with it. Where it
    /// says nothing, what is remembered does.
    fn told(
        &self,
        answer: Result<Ended, TransactionError>,
    ) -> (TransactionOutcome, Option<Arc<FatalError>>) {
        let history = &self.shared().history;
        let remembered =
            || history.outcome(self.transaction).unwrap_or(TransactionOutcome::Unknown);
        let (outcome, fatal) = match answer {
            Ok(ended) => (ended.outcome, ended.fatal),
            Err(TransactionError::MustAbort(cause)) => (TransactionOutcome::Aborted(cause), None),
            Err(TransactionError::Fatal(error)) => (remembered(), Some(error)),
            Err(_) => (remembered(), None),
        };
        history.told(self.transaction, &outcome);
        (outcome, fatal)
    }
}
