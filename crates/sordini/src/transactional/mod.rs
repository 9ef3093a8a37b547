//! Transactions: appends to many partitions that become visible together or not at all.
//!
//! The state is the machine's. What is here asks it, one command for each call, and a guard holds
//! no more than a transaction's number: whatever becomes of the guard, the machine knows what is
//! open.

mod error;
mod guard;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use sordini_core::accumulator::counters::Metrics;
use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::config::Config;
use sordini_core::guarantees::Guarantees;
use sordini_core::producer::io::{Command, Finished};
use sordini_core::time::{Clock, Instant};
use sordini_core::transaction::error::{Ended, TransactionError, TransactionOutcome};
use tokio::sync::oneshot;

use crate::producer::Handle;
use crate::report::{CloseReport, FailedRecord};
use crate::shared::Shared;

pub use error::{
    AbortError, BeginError, BeginOwnedError, CommitError, InitError, OffsetsError, ResolveError,
};
pub use guard::{Committed, OpenTransaction, OwnedTransaction, Transaction};
pub use topic::TransactionTopic;

/// A transactional producer that has yet to take its `transactional.id`, from
/// [`build_transactional_parts`](crate::ProducerBuilder::build_transactional_parts).
#[derive(Debug)]
#[must_use = "it can do nothing before initialize()"]
pub struct Uninitialized {
    producer: TransactionalProducer,
}

impl Uninitialized {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { producer: TransactionalProducer { handle: Arc::new(Handle { shared }) } }
    }

    /// Makes this the one producer of its `transactional.id`; see
    /// [`build_transactional`](crate::ProducerBuilder::build_transactional). The driver has to be
    /// polled meanwhile.
    ///
    /// # Errors
    /// An [`InitError`]: the cluster refuses; no coordinator was found, or none answered, within
    /// `max.block.ms`.
    ///
    /// # Cancellation
    /// A future that is dropped leaves no producer. Earlier ones may be fenced all the same.
    pub async fn initialize(self) -> Result<TransactionalProducer, InitError> {
        let shared = self.producer.shared();
        let deadline = Patience::of_a_call(shared).deadline;
        let asked = shared.ask(|token| Command::InitTransactions { token, deadline });
        let result = match asked.await {
            Ok(Finished::Initialized(result)) => result,
            _ => Err(TransactionError::Closed),
        };
        match result {
            Ok(()) => Ok(self.producer),
            Err(error) => {
                let timeout = self.producer.config().transaction_timeout;
                Err(InitError::new(self.producer.transactional_id(), timeout, error))
            }
        }
    }
}

/// Appends records to Kafka topics in transactions: those of one become visible together, or never
/// (KIP-98). One transaction is open at a time; a program that needs several has several
/// producers, each with a `transactional.id` of its own.
///
/// Readers see the difference only with `isolation.level=read_committed`. And a transaction ends at
/// Kafka's border: what the program does besides is no part of it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// use sordini::{CommitError, Producer, Record};
///
/// let broker = sordini_broker::Server::in_memory().await?; // or a real one
/// let builder = Producer::builder(&broker.bootstrap()).transactional_id("orders-1");
/// let mut producer = builder.build_transactional().await?;
/// let transaction = producer.begin().await?;
/// transaction.topic("orders")?.enqueue(Record::new("1 book").key("order-7")).await?;
/// transaction.topic("stock")?.enqueue(Record::new("-1").key("book")).await?;
/// match transaction.commit().await {
///     Ok(_) => {}                               // both are visible
///     Err(CommitError::Aborted { .. }) => {}    // neither is: do it again
///     Err(CommitError::Unknown { transaction, .. }) => {
///         producer.resolve(transaction).await?; // ask again
///     }
///     Err(error) => return Err(error.into()),   // this producer is done
/// }
/// # assert_eq!(producer.metrics().records_written, 2);
/// # Ok(()) })
/// # }
/// ```
///
/// # Cancellation
///
/// What is open or ending is known to the producer, not to the guard or the future. A guard that
/// is dropped has its transaction aborted, without waiting. A guard that is forgotten, and a call
/// that is cancelled, leave it to the next [`begin`](Self::begin), which aborts what is open, waits
/// for what is ending, and tells by [`recovered`](OpenTransaction::recovered) what became of it.
pub struct TransactionalProducer {
    handle: Arc<Handle>,
}

impl std::fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionalProducer")
            .field("transactional_id", &self.transactional_id())
            .field("accumulator", &self.shared().accumulator)
            .finish_non_exhaustive()
    }
}

impl TransactionalProducer {
    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Begins a transaction. What an earlier guard left open is aborted first, and what is ending
    /// is waited for, all that for `max.block.ms` at most.
    ///
    /// # Errors
    /// A [`BeginError`]: an earlier transaction has yet to end (begin again), or this producer is
    /// done: fenced, or closed.
    ///
    /// # Cancellation
    /// Safe: a transaction that was begun meanwhile is aborted, and told of, by the next `begin`.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, BeginError> {
        Ok(Transaction::new(self.open().await?))
    }

    /// As [`begin`](Self::begin), for tasks and structs that can't borrow the producer: the
    /// transaction has it, and gives it back when it ends.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), with the producer.
    ///
    /// # Cancellation
    /// The producer is dropped with the future, and closes.
    #[allow(clippy::result_large_err, reason = "the producer itself, which is two words")]
    pub async fn begin_owned(self) -> Result<OwnedTransaction, BeginOwnedError> {
        match self.open().await {
            Ok(open) => Ok(OwnedTransaction::new(open, self)),
            Err(error) => Err(BeginOwnedError { producer: self, error }),
        }
    }

    async fn open(&self) -> Result<OpenTransaction, BeginError> {
        let shared = self.shared();
        let deadline = Patience::of_a_call(shared).deadline;
        let asked = shared.ask(|token| Command::BeginTransaction { token, deadline });
        let transaction = match asked.await {
            Ok(Finished::Begun(result)) => result?,
            _ => return Err(BeginError::Closed),
        };
        Ok(OpenTransaction::new(Arc::clone(&self.handle), transaction, shared.history.tell_rest()))
    }

    /// What became of a transaction, as far as it is known; `None` while it is open or ending, and
    /// for one that is not among the last 64. Asks nobody.
    #[must_use]
    pub fn outcome(&self, transaction: TransactionNumber) -> Option<TransactionOutcome> {
        self.shared().history.outcome(transaction)
    }

    /// Waits, for `max.block.ms` at most, until it is known what became of a transaction that is
    /// ending: one whose commit was [`Unknown`](CommitError::Unknown), or was cancelled.
    /// [`TransactionOutcome::Unknown`] means that it will never be known.
    ///
    /// # Errors
    /// A [`ResolveError`]: it is not known yet (ask again), or the transaction is none that could
    /// be asked about.
    ///
    /// # Cancellation
    /// Safe: dropping the future ends the wait, not the finding out.
    pub async fn resolve(
        &self,
        transaction: TransactionNumber,
    ) -> Result<TransactionOutcome, ResolveError> {
        let shared = self.shared();
        if let Some(outcome) = shared.history.outcome(transaction) {
            shared.history.told(transaction, &outcome);
            return Ok(outcome);
        }
        let patience = Patience::of_a_call(shared);
        let deadline = patience.deadline;
        let asked =
            shared.ask(|token| Command::ResolveTransaction { token, transaction, deadline });
        let outcome = match ended(asked).await {
            Ok(ended) => ended.outcome,
            Err(error) => return Err(ResolveError::new(transaction, error)),
        };
        shared.history.told(transaction, &outcome);
        Ok(outcome)
    }

    /// With `return_failed`: the records that failed since the last call, those of aborted
    /// transactions that were not yet written included, which takes them off `buffer.memory`.
    /// Records that nobody takes go on using it up.
    #[must_use]
    pub fn take_failed(&self) -> Vec<FailedRecord> {
        self.shared().take_failed()
    }

    /// What this producer has done so far. Records of aborted transactions count as written where
    /// they were.
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

    /// `transactional.id`: the name of this producer over all its lives.
    #[must_use]
    pub fn transactional_id(&self) -> &str {
        self.config().transactional_id.as_deref().unwrap_or_default()
    }

    /// Ends the producer: aborts what an earlier guard left open, waits for what is ending, and
    /// gives that up after `within`. Topic handles of its transactions accept nothing more.
    ///
    /// The report counts records, not transactions: those of an aborted one are written or not.
    ///
    /// # Cancellation
    /// Safe: the producer goes on closing; only the report is not seen.
    pub fn close(self, within: Duration) -> impl Future<Output = CloseReport> + Send + 'static {
        let report = self.handle.close(within);
        async move {
            // Held until then: a handle that is dropped says that nobody waits for the report.
            let _producer = self;
            report.await
        }
    }
}

/// How long a call waits.
struct Patience {
    since: Instant,
    deadline: Instant,
}

impl Patience {
    /// `max.block.ms`.
    fn of_a_call(shared: &Shared) -> Self {
        Self::of(shared, shared.config.max_block)
    }

    /// An end waits for the records too.
    fn of_an_end(shared: &Shared) -> Self {
        Self::of(shared, shared.config.max_block.max(shared.config.delivery_timeout))
    }

    fn of(shared: &Shared, limit: Duration) -> Self {
        let since = shared.clock.now().mono;
        Self { since, deadline: since.saturating_add(limit) }
    }

    fn waited(&self, shared: &Shared) -> Duration {
        shared.clock.now().mono.saturating_since(self.since)
    }
}

/// The answer to a command that ends a transaction. Without a driver there is none.
async fn ended(asked: oneshot::Receiver<Finished>) -> Result<Ended, TransactionError> {
    match asked.await {
        Ok(Finished::Ended(result)) => result,
        _ => Err(TransactionError::Closed),
    }
}
