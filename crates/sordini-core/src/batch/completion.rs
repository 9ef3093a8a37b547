//! One completion per batch, and for each record an index into it.
//!
//! S5: a record's outcome is set exactly once.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::DeliveryError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Whether the broker recognised the record as one that it had already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deduplicated {
    /// No: there was one attempt, or every earlier one was definitely refused.
    No,
    /// An earlier attempt's outcome is unknown; the broker answers a duplicate like a first append.
    Possible,
    /// Yes: it answered DUPLICATE_SEQUENCE_NUMBER.
    Yes,
}

/// What became of a run of records of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// They were acknowledged, as far as `acks` asks.
    Written {
        /// The first record's offset; `None` with `acks=0`, and for a duplicate whose offset the
        /// broker did not tell.
        base_offset: Option<i64>,
        /// The broker's append time in milliseconds, if the topic stamps that.
        log_append_time: Option<i64>,
        /// Were they there already?
        deduplicated: Deduplicated,
    },
    /// They were not acknowledged.
    Failed(Arc<DeliveryError>),
}

/// An acknowledged record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The partition it is in.
    pub partition: i32,
    /// Its offset; `None` with `acks=0`, and for a duplicate whose offset the broker did not tell.
    pub offset: Option<i64>,
    /// Its timestamp in milliseconds: the record's own, or the broker's append time where the
    /// topic has `message.timestamp.type=LogAppendTime`.
    pub timestamp: i64,
    /// Whether the broker had it already.
    pub deduplicated: Deduplicated,
}

/// The index of no record, and the number of no place: a batch has at most `i32::MAX` records.
const NOBODY: u32 = u32::MAX;

/// The shared completion of one batch.
#[derive(Debug)]
pub struct BatchCompletion {
    partition: i32,
    done: AtomicBool,
    /// The outcome of all records at once, which is the rule: receipts read it without the lock.
    whole: OnceLock<Outcome>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// How many records the batch has; `None` while it is open.
    total: Option<u32>,
    resolved: u32,
    /// In the order of the records; one, unless the batch was split.
    runs: Vec<Run>,
    /// A place belongs to one receipt until that receipt is ready or dropped. All are gone once
    /// every record has its outcome.
    waiters: Vec<Waiter>,
    /// Places of `waiters` that belong to nobody.
    free: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Run {
    records: Range<u32>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Waiter {
    /// The record whose receipt owns the place.
    index: u32,
    waker: Option<Waker>,
}

impl BatchCompletion {
    /// The completion of a batch of `partition` that is open.
    #[must_use]
    pub fn new(partition: i32) -> Self {
        let done = AtomicBool::new(false);
        Self { partition, done, whole: OnceLock::new(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch was sealed with `total` records.
    pub fn seal(&self, total: u32) {
        let before = self.lock().total.replace(total);
        assert!(before.is_none(), "S1: sealed twice");
    }

    /// Sets the outcome of a run of records, and wakes those who wait for them.
    ///
    /// # Panics
    /// If one of them has an outcome already (S5), or the batch is open (S1).
    pub fn resolve(&self, records: Range<u32>, outcome: Outcome) {
        let mut waiters = {
            let mut inner = self.lock();
            let total = inner.total.expect("S1: an open batch has no outcome");
            let at = inner.runs.partition_point(|run| run.records.end <= records.start);
            let clear = inner.runs.get(at).is_none_or(|run| records.end <= run.records.start);
            assert!(clear && records.end <= total, "S5: a record was resolved twice");
            inner.resolved += records.end - records.start;
            if records == (0..total) {
                let _ = self.whole.set(outcome.clone());
            }
            inner.runs.insert(at, Run { records: records.clone(), outcome });
            if inner.resolved == total {
                self.done.store(true, Ordering::Release);
                std::mem::take(&mut inner.waiters)
            } else {
                let concerned = |waiter: &&mut Waiter| records.contains(&waiter.index);
                let concerned = inner.waiters.iter_mut().filter(concerned);
                let take = |waiter: &mut Waiter| Waiter {
                    index: waiter.index,
                    waker: waiter.waker.take(),
                };
                concerned.map(take).collect()
            }
        };
        // Outside the lock: a waker may run anything.
        waiters.iter_mut().filter_map(|waiter| waiter.waker.take()).for_each(Waker::wake);
    }

    /// Have all records of the batch an outcome?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// The partition the batch is for.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The outcomes of `records` in their order, each with the run of records that it holds for;
    /// those that have none yet are left out.
    #[must_use]
    pub fn outcomes(&self, records: Range<u32>) -> Vec<(Range<u32>, Outcome)> {
        let inner = self.lock();
        let clip = |run: &Run| {
            let part = run.records.start.max(records.start)..run.records.end.min(records.end);
            let skipped = part.start.saturating_sub(run.records.start);
            (!part.is_empty()).then(|| (part, run.outcome.starting_at(skipped)))
        };
        inner.runs.iter().filter_map(clip).collect()
    }
}

impl Outcome {
    /// The outcome of the run's records from its `skipped`-th on.
    fn starting_at(&self, skipped: u32) -> Self {
        let mut outcome = self.clone();
        if let Self::Written { base_offset: Some(base), .. } = &mut outcome {
            *base += i64::from(skipped);
        }
        outcome
    }
}

impl Inner {
    fn outcome(&self, index: u32) -> Option<(u32, &Outcome)> {
        let at = self.runs.partition_point(|run| run.records.end <= index);
        let run = self.runs.get(at).filter(|run| run.records.contains(&index))?;
        Some((index - run.records.start, &run.outcome))
    }

    /// The first of `records` that has no outcome yet.
    fn first_open(&self, records: &Range<u32>) -> Option<u32> {
        let mut first = records.start;
        for run in &self.runs {
            if run.records.contains(&first) {
                first = run.records.end;
            }
        }
        (first < records.end).then_some(first)
    }

    /// Registers `waker` for the record at `index`, in the place `slot` if it owns one already.
    /// The waker that was there is to be dropped outside the lock.
    fn register(&mut self, index: u32, slot: &mut u32, waker: &Waker) -> Option<Waker> {
        if let Some(waiter) = self.waiters.get_mut(*slot as usize) {
            if waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                return None;
            }
            return waiter.waker.replace(waker.clone());
        }
        let waiter = Waiter { index, waker: Some(waker.clone()) };
        if let Some(free) = self.free.pop() {
            *slot = free;
            self.waiters[free as usize] = waiter;
        } else {
            *slot = self.waiters.len() as u32;
            self.waiters.push(waiter);
        }
        None
    }

    /// Frees a place; the waker that was there is to be dropped outside the lock.
    fn unregister(&mut self, slot: u32) -> Option<Waker> {
        let waiter = self.waiters.get_mut(slot as usize)?;
        self.free.push(slot);
        waiter.index = NOBODY;
        waiter.waker.take()
    }
}

/// The receipt of an accepted record: await it for what became of the record.
///
/// Dropping it does not take the record back: an accepted record is delivered or fails whether or
/// not anybody asks.
#[derive(Debug)]
#[must_use = "the record's failure is seen only here; call detach() where that is meant"]
pub struct Delivery {
    batch: Arc<BatchCompletion>,
    place: Place,
    timestamp: i64,
}

/// A record's index in its batch, and the place among those who wait that its receipt owns, or
/// [`NOBODY`]. One word: of two halves that were just written, a copy would wait for both.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    #[inline]
    fn new(index: u32, slot: u32) -> Self {
        Self(u64::from(index) | u64::from(slot) << 32)
    }

    #[inline]
    fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("index", &self.index()).field("slot", &self.slot()).finish()
    }
}

/// What whoever hands in a record keeps of it: a [`Delivery`], or nothing.
pub trait Receipt: Sized {
    /// What is taken of the batch while its lane is locked. The rest is put together behind the
    /// lock: a value that was just written in parts is slow to copy.
    type Hold;

    /// Is a [`Delivery`] wanted?
    const WANTED: bool;

    /// Under the lane's lock.
    fn hold(batch: &Arc<BatchCompletion>) -> Self::Hold;

    /// The receipt of the `index`-th record of the batch that is held, which carries `timestamp`.
    fn of_held(hold: Self::Hold, index: u32, timestamp: i64) -> Self;

    /// Of a delivery that was made where [`WANTED`](Self::WANTED).
    fn of_made(delivery: Option<Delivery>) -> Self;
}

impl Receipt for Delivery {
    type Hold = Arc<BatchCompletion>;

    const WANTED: bool = true;

    #[inline]
    fn hold(batch: &Arc<BatchCompletion>) -> Self::Hold {
        Arc::clone(batch)
    }

    #[inline]
    fn of_held(hold: Self::Hold, index: u32, timestamp: i64) -> Self {
        Self::new(hold, index, timestamp)
    }

    #[inline]
    fn of_made(delivery: Option<Delivery>) -> Self {
        delivery.expect("a receipt was asked for")
    }
}

impl Receipt for () {
    type Hold = ();

    const WANTED: bool = false;

    #[inline]
    fn hold(_: &Arc<BatchCompletion>) {}

    #[inline]
    fn of_held((): (), _: u32, _: i64) {}

    #[inline]
    fn of_made(_: Option<Delivery>) {}
}

impl Delivery {
    /// The receipt of the `index`-th record of `batch`, which carries `timestamp`.
    #[inline]
    pub fn new(batch: Arc<BatchCompletion>, index: u32, timestamp: i64) -> Self {
        Self { batch, place: Place::new(index, NOBODY), timestamp }
    }

    /// The outcome, if it is known already.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Written, Arc<DeliveryError>>> {
        match self.batch.whole.get() {
            Some(outcome) => Some(self.tell_place(self.place.index(), outcome)),
            None => self.tell(&self.batch.lock()),
        }
    }

    fn tell(&self, inner: &Inner) -> Option<Result<Written, Arc<DeliveryError>>> {
        let (place, outcome) = inner.outcome(self.place.index())?;
        Some(self.tell_place(place, outcome))
    }

    /// What the `place`-th record of a run learns from its outcome.
    #[inline]
    fn tell_place(&self, place: u32, outcome: &Outcome) -> Result<Written, Arc<DeliveryError>> {
        match outcome {
            Outcome::Written { base_offset, log_append_time, deduplicated } => Ok(Written {
                partition: self.batch.partition,
                offset: base_offset.map(|base| base + i64::from(place)),
                timestamp: log_append_time.unwrap_or(self.timestamp),
                deduplicated: *deduplicated,
            }),
            Outcome::Failed(error) => Err(Arc::clone(error)),
        }
    }

    /// The outcome if the record has it by now, or a place among those who wait for it.
    #[inline(never)]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Written, Arc<DeliveryError>>> {
        let mut inner = self.batch.lock();
        if let Some(outcome) = self.tell(&inner) {
            return Poll::Ready(outcome);
        }
        let (index, mut slot) = (self.place.index(), self.place.slot());
        let stale = inner.register(index, &mut slot, cx.waker());
        self.place = Place::new(index, slot);
        // A waker may own a task, and its drop run anything: not under the lock.
        drop(inner);
        drop(stale);
        Poll::Pending
    }

    /// Gives up its place among those who wait.
    #[inline(never)]
    fn leave(&mut self) {
        let stale = self.batch.lock().unregister(self.place.slot());
        drop(stale);
    }

    /// The partition that the record was appended to.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// The completion of the record's batch, and the record's index in it.
    #[must_use]
    pub fn batch(&self) -> (&Arc<BatchCompletion>, u32) {
        (&self.batch, self.place.index())
    }

    /// Lets go of the receipt: the record is still delivered, or fails unseen (but counted).
    pub fn detach(self) {}
}

impl Future for Delivery {
    type Output = Result<Written, Arc<DeliveryError>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.batch.whole.get() {
            Some(outcome) => Poll::Ready(self.tell_place(self.place.index(), outcome)),
            None => self.wait(cx),
        }
    }
}

impl Drop for Delivery {
    #[inline]
    fn drop(&mut self) {
        if self.place.slot() != NOBODY {
            self.leave();
        }
    }
}

/// The receipts of records that were handed in together: one reference per run of records that
/// went to one batch.
#[derive(Debug, Default)]
#[must_use = "failures are seen only here; call detach() where that is meant"]
pub struct BatchDeliveries {
    runs: Vec<(Arc<BatchCompletion>, Range<u32>)>,
    waiting: Option<Delivery>,
}

impl BatchDeliveries {
    /// Adds the record at `index` of `batch`.
    pub fn push(&mut self, batch: &Arc<BatchCompletion>, index: u32) {
        if let Some((last, records)) = self.runs.last_mut()
            && Arc::ptr_eq(last, batch)
            && records.end == index
        {
            records.end += 1;
            return;
        }
        self.runs.push((Arc::clone(batch), index..index + 1));
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(_, records)| records.len()).sum()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Lets go of the receipts.
    pub fn detach(self) {}
}

/// What became of a run of records that were handed in together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutcome {
    /// How many records, in the order they were handed in.
    pub count: u32,
    /// The partition they were appended to.
    pub partition: i32,
    /// What became of them.
    pub outcome: Outcome,
}

impl Future for BatchDeliveries {
    type Output = Vec<RunOutcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let open = this.runs.iter().find_map(|(batch, records)| {
                let index = (!batch.is_done()).then(|| batch.lock().first_open(records))??;
                Some((batch, index))
            });
            let Some((batch, index)) = open else { break };
            let same = |waiting: &Delivery| {
                waiting.place.index() == index && Arc::ptr_eq(&waiting.batch, batch)
            };
            if !this.waiting.as_ref().is_some_and(same) {
                this.waiting = None;
            }
            let new = || Delivery::new(Arc::clone(batch), index, 0);
            if Pin::new(this.waiting.get_or_insert_with(new)).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        this.waiting = None;
        let mut all = Vec::with_capacity(this.runs.len());
        for (batch, records) in &this.runs {
            for (run, outcome) in batch.outcomes(records.clone()) {
                let count = run.end - run.start;
                all.push(RunOutcome { count, partition: batch.partition, outcome });
            }
        }
        Poll::Ready(all)
    }
}

#[cfg(test)]
mod tests;
