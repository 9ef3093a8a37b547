//! A topic's handle: the fast path of appending.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::accumulator::topic::{Topic as Lanes, Turn};
use sordini_core::accumulator::{Ahead, Intent, NotAppended, Provision};
use sordini_core::batch::completion::{BatchDeliveries, Delivery, Receipt, Written};
use sordini_core::error::Refusal;
use sordini_core::memory::Segment;
use sordini_core::time::{Clock, Instant};

use crate::alarm::Alarm;
use crate::error::{ProduceError, SendError};
use crate::producer::{Handle, PartitionInfo};
use crate::record::{Headers, Record, with_intents};
use crate::shared::{Shared, is_time_to_yield, pace};

/// A topic of one producer. Cheap to clone; keeps the producer open as long as it lives.
///
/// A handle never comes to mean another topic: if the topic is deleted, or made anew, its sends
/// fail with [`SendError::TopicGone`].
#[derive(Clone)]
pub struct Topic {
    handle: Arc<Handle>,
    lanes: Arc<Lanes>,
    /// What its records belong to; none, for the topics of an ordinary producer.
    transaction: TransactionNumber,
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic").field("name", self.lanes.name()).finish_non_exhaustive()
    }
}

impl Topic {
    pub(crate) fn new(
        handle: Arc<Handle>,
        lanes: Arc<Lanes>,
        transaction: TransactionNumber,
    ) -> Self {
        Self { handle, lanes, transaction }
    }

    #[inline]
    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.lanes.name()
    }

    /// As [`Producer::send`](crate::Producer::send).
    ///
    /// # Errors
    /// [`ProduceError::NotAccepted`] if the record never left this process,
    /// [`ProduceError::Delivery`] if it did and was not acknowledged.
    ///
    /// # Cancellation
    /// A future dropped before the record was accepted takes it back; after that the record is
    /// delivered or fails unseen.
    pub async fn send<'a>(&self, record: impl Into<Record<'a>>) -> Result<Written, ProduceError> {
        Ok(self.enqueue(record).await?.await?)
    }

    /// As [`Producer::enqueue`](crate::Producer::enqueue).
    ///
    /// # Errors
    /// A [`SendError`]: the record was not accepted.
    ///
    /// # Cancellation
    /// A future dropped before it was ready takes the record back, and its place in the queue.
    #[inline]
    pub fn enqueue<'a>(&self, record: impl Into<Record<'a>>) -> Enqueue<'_, 'a> {
        Enqueue(Submit::new(self, record.into()))
    }

    /// As [`enqueue`](Self::enqueue), without a receipt: failures are only counted, and handed
    /// back by [`take_failed`](crate::Producer::take_failed) where that is on. The cheapest way.
    ///
    /// # Errors
    /// A [`SendError`]: the record was not accepted.
    ///
    /// # Cancellation
    /// As [`enqueue`](Self::enqueue).
    #[inline]
    pub fn enqueue_detached<'a>(&self, record: impl Into<Record<'a>>) -> EnqueueDetached<'_, 'a> {
        EnqueueDetached(Submit::new(self, record.into()))
    }

    /// As [`Producer::try_enqueue`](crate::Producer::try_enqueue).
    ///
    /// # Errors
    /// A [`SendError`]: the record was not accepted. [`SendError::BufferFull`] and
    /// [`SendError::Metadata`] may pass.
    pub fn try_enqueue<'a>(&self, record: impl Into<Record<'a>>) -> Result<Delivery, SendError> {
        match self.submit(&record.into(), true, &mut self.provision()) {
            Ok(delivery) => Ok(delivery.expect("a receipt was asked for")),
            Err(why) => {
                if why == NotAppended::Unresolved {
                    // Polling once tells the control plane that the topic is wanted.
                    let wait = pin!(self.lanes.wait(&self.shared().accumulator));
                    drop(wait.poll(&mut Context::from_waker(Waker::noop())));
                }
                Err(self.gave_up(&why, Duration::ZERO))
            }
        }
    }

    /// Appends many records at a time; see [`Appender`].
    #[must_use]
    pub fn appender(&self) -> Appender {
        Appender { topic: self.clone() }
    }

    /// As [`Producer::partitions_for`](crate::Producer::partitions_for).
    ///
    /// # Errors
    /// [`SendError::UnknownTopic`], [`SendError::Metadata`], or why the topic is refused.
    ///
    /// # Cancellation
    /// Safe: dropping the future ends the wait.
    pub async fn partitions(&self) -> Result<Vec<PartitionInfo>, SendError> {
        if self.lanes.partitions() == 0 {
            drop(self.turn(&mut self.patience()).await?);
        }
        let info = |lane: &Arc<sordini_core::accumulator::lane::Lane>| PartitionInfo {
            partition: lane.partition(),
            has_leader: lane.is_available(),
        };
        Ok(self.lanes.lanes().map(info).collect())
    }

    fn provision(&self) -> Provision {
        Provision::new(self.shared().stripe()).within(self.transaction)
    }

    fn try_append(
        &self,
        intent: &Intent<'_>,
        receipt: bool,
        provision: &mut Provision,
    ) -> Result<Option<Delivery>, NotAppended> {
        self.shared().accumulator.try_append(&self.lanes, intent, receipt, provision)
    }

    /// Appends the record if nothing has to be waited for.
    fn submit(
        &self,
        record: &Record<'_>,
        receipt: bool,
        provision: &mut Provision,
    ) -> Result<Option<Delivery>, NotAppended> {
        let mut headers = Headers::new();
        self.try_append(&record.intent(&mut headers), receipt, provision)
    }

    /// Waits for what is missing, first the partitions and then memory, and appends.
    async fn submit_slowly(
        &self,
        mut why: NotAppended,
        intent: &Intent<'_>,
        receipt: bool,
        provision: &mut Provision,
    ) -> Result<Option<Delivery>, SendError> {
        let mut patience = self.patience();
        // Kept while memory is waited for: those who come later wait behind.
        let mut turn = None;
        loop {
            match why {
                NotAppended::Refused(refusal) => return Err(self.refused(refusal)),
                NotAppended::Unresolved => turn = Some(self.turn(&mut patience).await?),
                NotAppended::NoMemory { least } => {
                    provision.segment = Some(self.segment(least, &mut patience).await?);
                }
            }
            let accumulator = &self.shared().accumulator;
            let appended = if turn.is_some() {
                accumulator.append_in_turn(&self.lanes, intent, receipt, provision)
            } else {
                self.try_append(intent, receipt, provision)
            };
            match appended {
                Ok(delivery) => return Ok(delivery),
                Err(again) => why = again,
            }
        }
    }

    fn patience(&self) -> Patience {
        let since = self.shared().clock.now().mono;
        let deadline = since.saturating_add(self.shared().config.max_block);
        Patience { since, alarm: self.shared().alarms.set(deadline) }
    }

    async fn turn(&self, patience: &mut Patience) -> Result<Turn, SendError> {
        let wait = self.lanes.wait(&self.shared().accumulator);
        match patience.wait(wait).await {
            Some(turn) => turn.map_err(|refusal| self.refused(refusal)),
            None => Err(self.gave_up(&NotAppended::Unresolved, self.waited(patience))),
        }
    }

    async fn segment(&self, least: usize, patience: &mut Patience) -> Result<Segment, SendError> {
        let wait = self.shared().accumulator.memory().wait(least);
        match patience.wait(wait).await {
            Some(segment) => Ok(segment),
            None => Err(self.gave_up(&NotAppended::NoMemory { least }, self.waited(patience))),
        }
    }

    fn waited(&self, patience: &Patience) -> Duration {
        self.shared().clock.now().mono.saturating_since(patience.since)
    }

    fn refused(&self, refusal: Refusal) -> SendError {
        SendError::refused(self.name(), self.transaction, refusal)
    }

    /// The error of a wait that ended without what it was for.
    fn gave_up(&self, why: &NotAppended, waited: Duration) -> SendError {
        let max_block = self.shared().config.max_block;
        match why {
            NotAppended::Refused(refusal) => self.refused(refusal.clone()),
            _ if self.shared().accumulator.is_closed() => SendError::Closed,
            NotAppended::Unresolved => {
                SendError::unresolved(self.name(), waited, max_block, self.lanes.obstacle())
            }
            NotAppended::NoMemory { .. } => {
                let limit = self.shared().accumulator.memory().limit();
                SendError::BufferFull { waited, limit, max_block }
            }
        }
    }
}

/// A record on its way to its batch: what [`Topic::enqueue`] returns. It does nothing until it is
/// polled.
#[derive(Debug)]
#[must_use = "a record does nothing until it is sent: await it"]
pub struct Enqueue<'t, 'a>(Submit<'t, 'a, Delivery>);

impl Future for Enqueue<'_, '_> {
    type Output = Result<Delivery, SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

/// The same without a receipt: what [`Topic::enqueue_detached`] returns. It does nothing until it
/// is polled.
#[derive(Debug)]
#[must_use = "a record does nothing until it is sent: await it"]
pub struct EnqueueDetached<'t, 'a>(Submit<'t, 'a, ()>);

impl Future for EnqueueDetached<'_, '_> {
    type Output = Result<(), SendError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

/// Written by hand: nearly every record is appended at the first poll, in one inlined piece from the
/// caller's code to the lane, and moves through no future's state on its way.
struct Submit<'t, 'a, R> {
    topic: &'t Topic,
    record: Record<'a>,
    stage: Stage<'a, R>,
}

type Submitted<R> = Result<R, SendError>;

enum Stage<'a, R> {
    New,
    /// The thread's other tasks get their turn first.
    Yielding,
    /// Boxed, so that the future of a send that need not wait stays small.
    Waiting(Pin<Box<dyn Future<Output = Submitted<R>> + Send + 'a>>),
    Done,
}

impl<R> std::fmt::Debug for Submit<'_, '_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submit").field("topic", self.topic).finish_non_exhaustive()
    }
}

impl<'t, 'a, R: Receipt> Submit<'t, 'a, R> {
    #[inline]
    fn new(topic: &'t Topic, record: Record<'a>) -> Self {
        Self { topic, record, stage: Stage::New }
    }

    #[inline(always)]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Submitted<R>> {
        if !matches!(self.stage, Stage::New) || is_time_to_yield(self.record.payload_len()) {
            return self.poll_slowly(cx);
        }
        // Now, while that takes no more than a store.
        self.stage = Stage::Done;
        let Some(intent) = self.record.plain_intent() else {
            return self.append(Ahead::default(), cx);
        };
        let Topic { handle, lanes, transaction } = self.topic;
        let shared = &handle.shared;
        match shared.accumulator.append_straight(lanes, &intent, shared.stripe(), *transaction) {
            Ok(receipt) => Poll::Ready(Ok(receipt)),
            Err(ahead) => self.append(ahead, cx),
        }
    }

    /// Appends what could not be appended straight.
    #[inline(never)]
    fn append(&mut self, ahead: Ahead, cx: &mut Context<'_>) -> Poll<Submitted<R>> {
        let mut provision = self.topic.provision().with_ahead(ahead);
        match self.topic.submit(&self.record, R::WANTED, &mut provision) {
            Ok(delivery) => Poll::Ready(Ok(R::of_made(delivery))),
            Err(why) => self.wait(why, provision, cx),
        }
    }

    #[inline(never)]
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Submitted<R>> {
        match &mut self.stage {
            Stage::New | Stage::Yielding => {
                self.stage = Stage::Yielding;
                ready!(pin!(tokio::task::coop::consume_budget()).poll(cx));
                self.stage = Stage::Done;
                self.append(Ahead::default(), cx)
            }
            Stage::Waiting(wait) => {
                let submitted = ready!(wait.as_mut().poll(cx));
                self.stage = Stage::Done;
                Poll::Ready(submitted)
            }
            Stage::Done => panic!("a send was polled after it was done"),
        }
    }

    fn wait(
        &mut self,
        why: NotAppended,
        mut provision: Provision,
        cx: &mut Context<'_>,
    ) -> Poll<Submitted<R>> {
        if let NotAppended::Refused(refusal) = why {
            return Poll::Ready(Err(self.topic.refused(refusal)));
        }
        let topic = self.topic.clone();
        let record = std::mem::replace(&mut self.record, Record::null());
        self.stage = Stage::Waiting(Box::pin(async move {
            let mut headers = Headers::new();
            let intent = record.intent(&mut headers);
            let submitted = topic.submit_slowly(why, &intent, R::WANTED, &mut provision).await;
            submitted.map(R::of_made)
        }));
        self.poll_slowly(cx)
    }
}

/// What is left of `max.block.ms`.
struct Patience {
    since: Instant,
    alarm: Alarm,
}

impl Patience {
    /// What `wait` yields, or `None` if the alarm rings first.
    async fn wait<F: Future>(&mut self, wait: F) -> Option<F::Output> {
        let mut wait = pin!(wait);
        poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => pin!(&mut self.alarm).poll(cx).map(|()| None),
        })
        .await
    }
}

/// Appends runs of records: those that go to one partition are encoded under one lock, and have
/// one receipt for each batch they touch. For producers of bursts.
#[derive(Clone, Debug)]
pub struct Appender {
    topic: Topic,
}

/// A run of records that was not appended to its end.
#[derive(Debug, thiserror::Error)]
#[error("{} records were accepted, and then: {error}", .accepted.len())]
#[non_exhaustive]
pub struct ExtendError {
    /// The receipts of those before, which were accepted.
    pub accepted: BatchDeliveries,
    /// Why the next one was not.
    #[source]
    pub error: SendError,
}

impl Appender {
    /// How many records are taken from the iterator at a time.
    const RUN: usize = 32;

    /// The topic that it appends to.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Appends the records in order, waiting for memory where needed, each for `max.block.ms` at
    /// most. The receipts resolve to what became of each run of records.
    ///
    /// # Errors
    /// An [`ExtendError`] with the receipts of the records before the one that was not accepted;
    /// of the iterator up to 32 records more may have been taken.
    ///
    /// # Cancellation
    /// What was accepted before the future was dropped stays accepted, and its receipts are lost.
    pub async fn extend<'a, I>(&mut self, records: I) -> Result<BatchDeliveries, ExtendError>
    where
        I: IntoIterator,
        I::Item: Into<Record<'a>>,
    {
        let mut accepted = BatchDeliveries::default();
        let mut records = records.into_iter();
        // Kept over a wait for memory: it knows what the partitioner said.
        let mut provision = self.topic.provision();
        let mut run: Vec<Record<'a>> = Vec::with_capacity(Self::RUN);
        loop {
            run.extend(records.by_ref().take(Self::RUN).map(Into::into));
            if run.is_empty() {
                return Ok(accepted);
            }
            let mut done = 0;
            while done < run.len() {
                let (count, result) = self.append(&run[done..], &mut accepted, &mut provision);
                done += count;
                let result = match result {
                    Ok(()) => Ok(()),
                    Err(NotAppended::Refused(refusal)) => Err(self.topic.refused(refusal)),
                    Err(why) => {
                        let next = &run[done];
                        let appended = self.append_next(next, why, &mut accepted, &mut provision);
                        appended.await.map(|()| done += 1)
                    }
                };
                if let Err(error) = result {
                    return Err(ExtendError { accepted, error });
                }
            }
            // A run counts as one record of a burst of 64: it costs about as little.
            pace(run.iter().map(Record::payload_len).sum()).await;
            run.clear();
        }
    }

    fn append(
        &self,
        run: &[Record<'_>],
        accepted: &mut BatchDeliveries,
        provision: &mut Provision,
    ) -> (usize, Result<(), NotAppended>) {
        let Topic { handle, lanes, .. } = &self.topic;
        // The task may have gone to another thread.
        provision.stripe = handle.shared.stripe();
        let appended = with_intents(run, |intents| {
            let accumulator = &handle.shared.accumulator;
            accumulator.append_run(lanes, intents, Some(accepted), provision)
        });
        // Memory that was not needed is nobody's while this one waits.
        provision.segment = None;
        appended
    }

    /// Waits for what the next record lacks, and appends it alone.
    async fn append_next(
        &self,
        record: &Record<'_>,
        why: NotAppended,
        accepted: &mut BatchDeliveries,
        provision: &mut Provision,
    ) -> Result<(), SendError> {
        let mut headers = Headers::new();
        let intent = record.intent(&mut headers);
        let appended = Box::pin(self.topic.submit_slowly(why, &intent, true, provision)).await;
        provision.segment = None;
        if let Some(delivery) = appended? {
            let (batch, index) = delivery.batch();
            accepted.push(batch, index);
        }
        Ok(())
    }
}
