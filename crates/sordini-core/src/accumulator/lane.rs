//! One partition's open and sealed batches, behind the only lock of the hot path.
//!
//! S10: the lock is a leaf. Under it nothing is called but the batch's own encoding: memory is
//! reserved before, signals are sent after.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::BatchId;
use crate::batch::completion::Delivery;
use crate::batch::open::Open;
use crate::batch::sealed::Sealed;
use crate::error::Refusal;
use crate::memory::Segment;
use crate::record::Record;
use crate::time::{Instant, Now};

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
    refusal: Option<Refusal>,
}

/// What an append needs beside the record.
#[derive(Debug)]
pub(crate) struct Supply<'a> {
    /// A segment to open or grow a batch with, and the time it was taken.
    pub(crate) spare: Option<(Segment, Now)>,
    pub(crate) coarse: i64,
    pub(crate) batch_size: usize,
    pub(crate) ids: &'a AtomicU64,
    /// Is a receipt asked for?
    pub(crate) receipt: bool,
    /// Does the record count towards the sticky partition's share?
    pub(crate) sticky: bool,
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

/// The result of one append.
#[derive(Debug)]
pub(crate) enum Appended {
    Done(Option<Delivery>),
    /// Come again with a spare of at least `least` bytes.
    NeedSegment {
        least: usize,
        wanted: usize,
    },
    Refused(Refusal),
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

    pub(crate) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, partition: self.partition, aftermath: Aftermath::default() }
    }

    /// Takes the oldest sealed batch; with `seal_open` the open one, where none is sealed.
    pub(crate) fn take(&self, seal_open: bool) -> (Option<Sealed>, View) {
        let mut locked = self.lock();
        let mut batch = locked.state.sealed.pop_front();
        if batch.is_none() && seal_open {
            batch = locked.state.open.take().map(Open::seal);
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
            self.aftermath.notify = true;
        }
    }

    /// Encodes `record` into the open batch, sealing and opening batches as needed.
    pub(crate) fn append(&mut self, record: &Record<'_>, supply: &mut Supply<'_>) -> Appended {
        if let Some(refusal) = &self.state.refusal {
            return Appended::Refused(refusal.clone());
        }
        let mut fitted = self.state.open.as_ref().map(|open| open.fit(record, supply.coarse));
        if let (Some(open), Some(fit)) = (&self.state.open, &fitted)
            && !open.admits(fit, supply.batch_size)
        {
            self.seal_open();
            fitted = None;
        }
        let Some(fitted) = fitted.or_else(|| self.open(record, supply)) else {
            let least = crate::wire::record::upper_bound(record);
            return Appended::NeedSegment { least, wanted: 1024.min(supply.batch_size) };
        };
        let open = self.state.open.as_mut().expect("S1: it was just opened");
        if !open.has_room(&fitted) {
            let Some((segment, _)) =
                supply.spare.take_if(|(segment, _)| segment.room() >= fitted.len())
            else {
                let wanted = Open::wanted_segment(open.segments(), supply.batch_size, open.len());
                return Appended::NeedSegment { least: fitted.len(), wanted };
            };
            open.grow(segment);
        }
        let placed = open.push(record, fitted);
        if supply.sticky {
            self.state.sticky += placed.len;
            if self.state.sticky >= supply.batch_size {
                self.state.sticky = 0;
                self.aftermath.switch = true;
            }
        }
        let open = self.state.open.as_ref().expect("S1: it is open");
        let receipt = || Delivery::new(open.completion().clone(), placed.index, placed.timestamp);
        Appended::Done(supply.receipt.then(receipt))
    }

    /// Opens a batch with the spare segment, if that is large enough for `record`.
    fn open(
        &mut self,
        record: &Record<'_>,
        supply: &mut Supply<'_>,
    ) -> Option<crate::batch::open::Fitted> {
        let least = crate::wire::record::upper_bound(record);
        let (segment, now) = supply.spare.take_if(|(segment, _)| segment.room() >= least)?;
        let id = BatchId(supply.ids.fetch_add(1, Ordering::Relaxed));
        let mut open = Open::new(id, now, self.partition, record);
        open.grow(segment);
        let fitted = open.fit(record, supply.coarse);
        self.state.open = Some(open);
        self.aftermath.notify = true;
        self.aftermath.opened += 1;
        Some(fitted)
    }
}
