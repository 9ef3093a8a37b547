//! One partition's open and sealed batches, behind the only lock of the hot path.
//!
//! S10: the lock is a leaf. Under it nothing is called but the batch's own encoding: memory is
//! reserved before, signals are sent after.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use crate::accumulator::number::TransactionNumber;
use crate::batch::BatchId;
use crate::batch::completion::{BatchCompletion, Delivery};
use crate::batch::open::{Fitted, Open, Placed};
use crate::batch::sealed::Sealed;
use crate::error::Refusal;
use crate::memory::Segment;
use crate::record::Record;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::time::{Instant, Now};
use crate::wire::record::upper_bound;

/// One partition's accumulator.
#[derive(Debug)]
pub struct Lane {
    topic: u32,
    partition: i32,
    /// False while the partition has no leader: keyless records go elsewhere then.
    available: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    sealed: VecDeque<Sealed>,
    /// Bytes of keyless records since the last switch to another partition.
    sticky: usize,
    /// The last batch took all that `batch.size` allows.
    full: bool,
    /// Larger batches were found too large by the broker.
    cap: Option<usize>,
    refusal: Option<Refusal>,
}

/// What an append is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) coarse: i64,
    pub(crate) batch_size: usize,
    /// Which transaction the record belongs to, and which is open.
    pub(crate) transaction: TransactionNumber,
    pub(crate) open: &'a AtomicU64,
    /// Does the record count towards the sticky partition's share?
    pub(crate) sticky: bool,
}

/// What an append may take beside the record.
#[derive(Debug)]
pub(crate) struct Supply<'a> {
    pub(crate) terms: Terms<'a>,
    /// A segment to open or grow a batch with.
    pub(crate) spare: &'a mut Option<Segment>,
    /// The time, if it was read.
    pub(crate) now: Option<Now>,
    pub(crate) ids: &'a AtomicU64,
}

/// What the caller has to do once the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// A batch was opened or sealed: tell the control plane.
    pub(crate) notify: bool,
    /// The sticky partition has had its share.
    pub(crate) switch: bool,
    pub(crate) opened: u64,
}

impl Aftermath {
    #[inline]
    pub(crate) fn is_something(&self) -> bool {
        self.notify || self.switch || self.opened > 0
    }
}

/// The result of one append.
#[derive(Debug)]
pub(crate) enum Appended {
    Done(Placed),
    Needs(Need),
    Refused(Refusal),
}

/// What an append lacks. It is fetched without the lock, and the append is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A spare segment of at least `least` bytes. That is enough wherever the record comes to
    /// stand, whatever happens to the lane meanwhile.
    Segment { least: usize, wanted: usize, opens: bool },
    /// The time, to open a batch.
    Time,
}

/// What is left in a lane after a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// How many sealed batches.
    pub sealed: usize,
    /// When the open batch was opened.
    pub open: Option<Instant>,
    /// When the oldest batch was opened.
    pub oldest: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(topic: u32, partition: i32) -> Self {
        Self { topic, partition, available: AtomicBool::new(true), state: Mutex::default() }
    }

    /// The topic's number within its producer.
    #[must_use]
    pub fn topic(&self) -> u32 {
        self.topic
    }

    /// The partition's number within its topic.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Has the partition a leader, as far as is known?
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    pub(crate) fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(|poisoned| self.recover(poisoned));
        Locked { state, partition: self.partition, aftermath: Aftermath::default() }
    }

    /// After an append that panicked. All that it can have left half done is the open batch: that
    /// is set aside, to be failed in its turn, and the next append opens a new one, which shares
    /// nothing with it.
    #[cold]
    fn recover<'a>(
        &'a self,
        poisoned: PoisonError<MutexGuard<'a, State>>,
    ) -> MutexGuard<'a, State> {
        let mut state = poisoned.into_inner();
        let salvaged = state.open.take().and_then(Open::salvage);
        state.sealed.extend(salvaged);
        state.full = false;
        self.state.clear_poison();
        state
    }

    /// Lets no batch grow beyond `limit` bytes from now on, header included and uncompressed, but
    /// for a record that is larger itself. Lower limits stay.
    pub(crate) fn cap(&self, limit: usize) {
        let mut locked = self.lock();
        let cap = locked.state.cap.map_or(limit, |cap| cap.min(limit));
        locked.state.cap = Some(cap);
        if let Some(open) = &mut locked.state.open {
            open.cap(cap);
        }
    }

    /// Takes the oldest sealed batch; with `seal_open` the open one, where none is sealed.
    pub(crate) fn take(&self, seal_open: bool) -> (Option<Sealed>, View) {
        let mut locked = self.lock();
        let mut batch = locked.state.sealed.pop_front();
        if batch.is_none() && seal_open {
            batch = locked.state.open.take().map(Open::seal);
            locked.state.full = false;
        }
        (batch, locked.view())
    }

    /// What is in the lane.
    #[must_use]
    pub fn view(&self) -> View {
        self.lock().view()
    }

    /// Seals the open batch if it was opened before `mark`, and counts the batches that were.
    pub(crate) fn seal_before(&self, mark: BatchId) -> usize {
        let mut locked = self.lock();
        if locked.state.open.as_ref().is_some_and(|open| open.id() < mark) {
            locked.seal_open();
        }
        locked.state.sealed.iter().filter(|sealed| sealed.id < mark).count()
    }

    /// Seals the open batch, if there is one.
    pub(crate) fn seal(&self) {
        self.lock().seal_open();
    }

    /// Refuses every later append with `refusal`; the first refusal stays.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        self.lock().state.refusal.get_or_insert_with(|| refusal.clone());
    }
}

/// A lane under its lock.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    state: MutexGuard<'a, State>,
    partition: i32,
    aftermath: Aftermath,
}

impl Locked<'_> {
    /// Has the sticky partition had its share?
    pub(crate) fn switches(&self) -> bool {
        self.aftermath.switch
    }

    /// Ends the lock and says what is to be done now.
    #[inline]
    pub(crate) fn unlock(self) -> Aftermath {
        self.aftermath
    }

    fn view(&self) -> View {
        let open = self.state.open.as_ref().map(Open::opened);
        let oldest = self.state.sealed.front().map(|sealed| sealed.opened).or(open);
        View { sealed: self.state.sealed.len(), open, oldest }
    }

    fn seal_open(&mut self) {
        if let Some(open) = self.state.open.take() {
            self.state.sealed.push_back(open.seal());
            self.state.full = false;
            self.aftermath.notify = true;
        }
    }

    /// The receipt of a record that was just appended.
    #[inline]
    pub(crate) fn receipt(&self, placed: &Placed) -> Delivery {
        Delivery::new(Arc::clone(self.completion()), placed.index, placed.timestamp)
    }

    /// The completion of the batch that the last append went to.
    #[inline]
    pub(crate) fn completion(&self) -> &Arc<BatchCompletion> {
        self.state.open.as_ref().expect("S1: the batch just appended to is open").completion()
    }

    /// Encodes `record` into the open batch as that stands. `None`, and nothing is changed, where
    /// that is not possible: [`Locked::append`] says why, or makes it so.
    #[inline(always)]
    pub(crate) fn append_straight(
        &mut self,
        record: &Record<'_>,
        terms: &Terms<'_>,
    ) -> Option<Placed> {
        let state = &mut *self.state;
        if state.refusal.is_some() || !terms.is_open() {
            return None;
        }
        let open = state.open.as_mut()?;
        let fitted = open.fit(record, terms.coarse);
        if !open.admits(&fitted) || !open.has_room(&fitted) {
            return None;
        }
        let placed = open.push(record, fitted);
        self.count(placed.len, terms);
        Some(placed)
    }

    /// Encodes `record` into the open batch, sealing and opening batches as needed.
    #[inline]
    pub(crate) fn append(&mut self, record: &Record<'_>, supply: &mut Supply<'_>) -> Appended {
        match self.append_straight(record, &supply.terms) {
            Some(placed) => Appended::Done(placed),
            None => self.append_anew(record, supply),
        }
    }

    #[inline(never)]
    fn append_anew(&mut self, record: &Record<'_>, supply: &mut Supply<'_>) -> Appended {
        if let Some(refusal) = &self.state.refusal {
            return Appended::Refused(refusal.clone());
        }
        if !supply.terms.is_open() {
            return Appended::Refused(Refusal::TransactionEnded);
        }
        let fitted = match self.fit(record, supply) {
            Ok(fitted) => fitted,
            Err(need) => return Appended::Needs(need),
        };
        let open = self.state.open.as_mut().expect("S1: the record was fitted to it");
        if !open.has_room(&fitted) {
            let least = upper_bound(record);
            let Some(segment) = supply.spare.take_if(|spare| spare.room() >= least) else {
                let wanted = open.wanted_segment();
                return Appended::Needs(Need::Segment { least, wanted, opens: false });
            };
            open.grow(segment);
        }
        let placed = open.push(record, fitted);
        self.count(placed.len, &supply.terms);
        Appended::Done(placed)
    }

    /// Counts the bytes of a record that was appended towards the sticky partition's share.
    #[inline]
    fn count(&mut self, len: usize, terms: &Terms<'_>) {
        if terms.sticky {
            self.state.sticky += len;
            if self.state.sticky >= terms.batch_size {
                self.state.sticky = 0;
                self.aftermath.switch = true;
            }
        }
    }

    /// Measures the record for the open batch, or for a new one where it may not join that.
    fn fit(&mut self, record: &Record<'_>, supply: &mut Supply<'_>) -> Result<Fitted, Need> {
        if let Some(open) = &self.state.open {
            let fitted = open.fit(record, supply.terms.coarse);
            if open.admits(&fitted) {
                return Ok(fitted);
            }
            self.seal_open();
            self.state.full = true;
        }
        let least = upper_bound(record);
        let batch_size = supply.terms.batch_size;
        let limit = self.state.cap.map_or(batch_size, |cap| cap.min(batch_size));
        if supply.spare.as_ref().is_none_or(|spare| spare.room() < least) {
            let wanted = Open::first_segment(limit, self.state.full);
            return Err(Need::Segment { least, wanted, opens: true });
        }
        let now = supply.now.take().ok_or(Need::Time)?;
        let segment = supply.spare.take().expect("S6: it was just looked at");
        let id = BatchId(supply.ids.fetch_add(1, Ordering::Relaxed));
        let open = Open::new(id, now, self.partition, limit, record, segment);
        let fitted = open.fit(record, now.wall.0);
        self.state.open = Some(open);
        self.aftermath.notify = true;
        self.aftermath.opened += 1;
        Ok(fitted)
    }
}

impl Terms<'_> {
    /// Is the record's transaction the open one? Asked under the lock: whoever ends a transaction
    /// takes that once after, and so finds all that was accepted before.
    #[inline]
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) == self.transaction.get()
    }
}
