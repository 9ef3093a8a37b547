//! The data plane: accumulate, then send. Shared by the callers' threads.
//!
//! A record is encoded into its partition's open batch on the caller's thread, under that
//! partition's lock and no other.

pub mod counters;
pub mod lane;
mod limits;
pub mod number;
pub mod ready;
mod target;
pub mod topic;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::accumulator::counters::{Counters, add};
use crate::accumulator::lane::{Aftermath, Appended, Lane, Locked, Need, Supply, Terms};
use crate::accumulator::limits::Limits;
use crate::accumulator::number::TransactionNumber;
use crate::accumulator::ready::{Event, Ready, Wake};
pub use crate::accumulator::target::Ahead;
use crate::accumulator::target::Target;
use crate::accumulator::topic::Topic;
use crate::batch::BatchId;
use crate::batch::completion::{BatchDeliveries, Delivery, Receipt};
use crate::config::Config;
use crate::error::Refusal;
use crate::memory::{Memory, Segment};
use crate::partitioner::{Choice, Keyed, Partitioner};
use crate::record::Record;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use crate::time::{Clock, Timestamp};

/// A record with the partition that the caller chose for it, if any.
#[derive(Debug, Clone, Copy)]
pub struct Intent<'a> {
    /// The record.
    pub record: Record<'a>,
    /// An explicit partition; `None` lets the partitioner choose.
    pub partition: Option<i32>,
}

/// Why an append did not happen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAppended {
    /// It never will.
    Refused(Refusal),
    /// The topic's partitions are not known, or others wait for them: [`Topic::wait`]. A segment
    /// that was brought along is given back.
    Unresolved,
    /// `buffer.memory` is exhausted, or others wait for it: [`Memory::wait`] for `least` bytes,
    /// and come again with that segment.
    NoMemory {
        /// Bytes needed.
        least: usize,
    },
}

/// What a caller brings along to an append.
#[derive(Debug, Default)]
pub struct Provision {
    /// A segment from [`Memory::wait`]. What an append does not need stays here.
    pub segment: Option<Segment>,
    /// Which of the sticky partitions keyless records go to (a thread's number, say).
    pub stripe: usize,
    /// The transaction that the records belong to.
    transaction: TransactionNumber,
    /// What the partitioner said of records that then found no memory.
    ahead: Ahead,
}

impl Provision {
    /// One without a segment. After [`NotAppended::NoMemory`] come again with the same provision,
    /// and with the records that were not appended: a partitioner may have state, and is not
    /// asked again for those it was asked for, unless the topic has got more partitions.
    #[must_use]
    pub fn new(stripe: usize) -> Self {
        Self { stripe, ..Self::default() }
    }

    /// The same for records of a transaction: they are refused unless it is the open one.
    #[must_use]
    pub fn within(self, transaction: TransactionNumber) -> Self {
        Self { transaction, ..self }
    }

    /// The same for a record that [`Accumulator::append_straight`] did not append.
    #[must_use]
    pub fn with_ahead(self, ahead: Ahead) -> Self {
        Self { ahead, ..self }
    }
}

/// The data plane of one producer.
pub struct Accumulator {
    memory: Arc<Memory>,
    ready: Arc<Ready>,
    clock: Arc<dyn Clock>,
    coarse: AtomicI64,
    batch_ids: AtomicU64,
    /// The open transaction. Read under a lane's lock; whoever changes it locks each lane after.
    transaction: AtomicU64,
    batch_size: usize,
    limits: Limits,
    partitioner: Arc<dyn Partitioner>,
    topics: Mutex<Topics>,
    closed: AtomicBool,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    created: u32,
    seed: u64,
    refusal: Option<Refusal>,
}

impl std::fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accumulator")
            .field("memory", &self.memory.reserved())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Held over an append: if that panics, the control plane hears of the lane all the same, and
/// fails what the panic left. Declared before the lock, so that it is told behind it.
struct Watch<'a> {
    ready: &'a Ready,
    lane: &'a Arc<Lane>,
}

impl Watch<'_> {
    /// The append went well.
    #[inline]
    fn end(self, locked: Locked<'_>) -> Aftermath {
        let aftermath = locked.unlock();
        std::mem::forget(self);
        aftermath
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.ready.push(Event::Lane(Arc::clone(self.lane)));
    }
}

/// More records than this are not appended under one lock.
const LONGEST_STRETCH: usize = 64;

impl Accumulator {
    pub(crate) fn new(
        config: &Config,
        partitioner: Arc<dyn Partitioner>,
        clock: Arc<dyn Clock>,
        wake: Arc<dyn Wake>,
        seed: u64,
    ) -> Arc<Self> {
        let ready = Arc::new(Ready::new(wake));
        let pressed = Arc::clone(&ready);
        Arc::new(Self {
            memory: Memory::watched(config.buffer_memory, move || pressed.push(Event::Pressure)),
            ready,
            clock,
            coarse: AtomicI64::new(i64::MIN),
            batch_ids: AtomicU64::new(0),
            transaction: AtomicU64::new(match config.transactional_id {
                Some(_) => TransactionNumber::CLOSED.get(),
                None => TransactionNumber::NONE.get(),
            }),
            // A batch that no request could hold would be split at once.
            batch_size: config.batch_size.min(config.max_request_size),
            limits: Limits::new(config),
            partitioner,
            topics: Mutex::new(Topics { seed, ..Topics::default() }),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
        })
    }

    /// The memory of all batches.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What the control plane should look at.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The live counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sets the time that records without a timestamp carry, but for those that open a batch.
    /// The driver refreshes it every millisecond while a batch is open.
    pub fn set_coarse_time(&self, now: Timestamp) {
        self.coarse.store(now.0, Ordering::Relaxed);
    }

    /// Every batch that is open now has a smaller id.
    #[must_use]
    pub fn mark(&self) -> BatchId {
        BatchId(self.batch_ids.load(Ordering::SeqCst))
    }

    /// From now on only records of this transaction are accepted. What a lane accepted before is
    /// in it once its lock was taken after this.
    pub(crate) fn admit_only(&self, transaction: TransactionNumber) {
        self.transaction.store(transaction.get(), Ordering::SeqCst);
    }

    /// Refuses all appends from now on. Idempotent.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Is the producer closed to new records?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The handle for the topic `name`, made at the first call. Sends nothing yet.
    pub fn topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.by_name.get(name) {
            return Arc::clone(topic);
        }
        let index = topics.created;
        topics.created += 1;
        let seed = topics.seed ^ u64::from(index).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let topic = Arc::new(Topic::new(index, name, seed));
        if let Some(refusal) = &topics.refusal {
            topic.refuse(refusal, true);
        }
        topics.by_name.insert(Arc::clone(topic.name()), Arc::clone(&topic));
        topic
    }

    /// Forgets the topic's name, so that the next handle is another topic's.
    pub(crate) fn retire(&self, topic: &Topic) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if topics.by_name.get(topic.name()).is_some_and(|known| known.index() == topic.index()) {
            topics.by_name.remove(topic.name());
        }
    }

    /// Refuses every append to every topic, present and future.
    pub(crate) fn refuse_all(&self, refusal: &Refusal) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.refusal.get_or_insert_with(|| refusal.clone());
        let all: Vec<_> = topics.by_name.values().cloned().collect();
        drop(topics);
        all.iter().for_each(|topic| topic.refuse(refusal, true));
    }

    /// Appends a record on the caller's thread. Ok is acceptance: the record will end exactly once,
    /// and its receipt (if asked for) says how.
    #[inline]
    pub fn try_append(
        &self,
        topic: &Arc<Topic>,
        intent: &Intent<'_>,
        receipt: bool,
        provision: &mut Provision,
    ) -> Result<Option<Delivery>, NotAppended> {
        if !topic.is_passable() {
            return Err(Self::held_up(topic, provision));
        }
        if provision.ahead.front().is_none() {
            let (stripe, transaction) = (provision.stripe, provision.transaction);
            let straight = if receipt {
                self.append_straight(topic, intent, stripe, transaction).map(Some)
            } else {
                self.append_straight(topic, intent, stripe, transaction).map(|()| None)
            };
            match straight {
                Ok(delivery) => return Ok(delivery),
                Err(ahead) => provision.ahead = ahead,
            }
        }
        self.append_in_turn(topic, intent, receipt, provision)
    }

    /// Appends to the open batch as that stands, which is all there is to do for nearly every
    /// record.
    ///
    /// # Errors
    /// That is not possible now: what the partitioner said, for [`Provision::with_ahead`] and
    /// [`Accumulator::try_append`].
    #[inline]
    pub fn append_straight<R: Receipt>(
        &self,
        topic: &Arc<Topic>,
        intent: &Intent<'_>,
        stripe: usize,
        transaction: TransactionNumber,
    ) -> Result<R, Ahead> {
        if !topic.is_passable() {
            return Err(Ahead::default());
        }
        let Ok(target) = self.plan(topic, intent) else { return Err(Ahead::default()) };
        if let Ok(lane) = target.find(topic, stripe) {
            let terms = self.terms(target, transaction);
            let watch = Watch { ready: &self.ready, lane };
            let mut locked = lane.lock();
            let placed = locked.append_straight(&intent.record, &terms);
            let placed = placed.map(|placed| (placed, R::hold(locked.completion())));
            self.follow_up(topic, lane, &watch.end(locked), stripe);
            if let Some((placed, hold)) = placed {
                return Ok(R::of_held(hold, placed.index, placed.timestamp));
            }
        }
        Err(Ahead::of_one(target, topic))
    }

    /// As [`Accumulator::try_append`], for the holder of a [`topic::Turn`].
    pub fn append_in_turn(
        &self,
        topic: &Arc<Topic>,
        intent: &Intent<'_>,
        receipt: bool,
        provision: &mut Provision,
    ) -> Result<Option<Delivery>, NotAppended> {
        let known = provision.ahead.front().filter(|_| provision.ahead.holds_for(topic));
        let target = match known {
            Some(target) => self.resume(target)?,
            None => self.plan(topic, intent)?,
        };
        let stripe = provision.stripe;
        let lane = target.lane(topic, stripe)?;
        let mut supply = self.supply(target, provision.transaction, &mut provision.segment);
        loop {
            let watch = Watch { ready: &self.ready, lane };
            let mut locked = lane.lock();
            let missed = match locked.append(&intent.record, &mut supply) {
                Appended::Done(placed) => {
                    if known.is_some() {
                        provision.ahead.advance();
                    }
                    let delivery = receipt.then(|| locked.receipt(&placed));
                    self.follow_up(topic, lane, &watch.end(locked), stripe);
                    return Ok(delivery);
                }
                missed => missed,
            };
            self.follow_up(topic, lane, &watch.end(locked), stripe);
            if let Err(error) = self.make_good(&mut supply, missed) {
                let ahead = known.map_or_else(|| Ahead::of_one(target, topic), |_| provision.ahead);
                provision.ahead = ahead.filter(&error);
                return Err(error);
            }
        }
    }

    /// Appends `intents` in order, each run of one partition under one lock, and stops at the
    /// first that cannot be appended now. Returns how many were appended.
    pub fn append_run(
        &self,
        topic: &Arc<Topic>,
        intents: &[Intent<'_>],
        deliveries: Option<&mut BatchDeliveries>,
        provision: &mut Provision,
    ) -> (usize, Result<(), NotAppended>) {
        if !topic.is_passable() {
            return (0, Err(Self::held_up(topic, provision)));
        }
        let mut receipts = deliveries;
        let mut done = 0;
        let mut ahead = std::mem::take(&mut provision.ahead);
        if !ahead.holds_for(topic) {
            ahead = Ahead { asked: (topic.index(), topic.partitions()), ..Ahead::default() };
        }
        while done < intents.len() {
            let target = match self.look_ahead(topic, &intents[done..], &mut ahead) {
                Ok(target) => target,
                Err(error) => return (done, Err(error)),
            };
            let stretch = &intents[done..intents.len().min(done + ahead.count)];
            let (count, result) =
                self.append_stretch(topic, stretch, target, &mut receipts, provision);
            done += count;
            ahead.count -= count;
            if let Err(error) = result {
                provision.ahead = ahead.filter(&error);
                return (done, Err(error));
            }
        }
        provision.ahead = ahead;
        (done, Ok(()))
    }

    /// Why nobody gets to a lane now without a turn. Whoever has the turn may wait for memory, and
    /// would wait for ever for what is held behind its back: a spare segment goes back.
    #[cold]
    fn held_up(topic: &Topic, provision: &mut Provision) -> NotAppended {
        provision.segment = None;
        topic.refusal().map_or(NotAppended::Unresolved, NotAppended::Refused)
    }

    /// Goes on with a record that was planned a while ago.
    fn resume(&self, target: Target) -> Result<Target, NotAppended> {
        if self.is_closed() {
            return Err(NotAppended::Refused(Refusal::Closed));
        }
        Ok(target)
    }

    /// Asks where the records at the front of `intents` go, up to the first that goes elsewhere.
    fn look_ahead(
        &self,
        topic: &Topic,
        intents: &[Intent<'_>],
        ahead: &mut Ahead,
    ) -> Result<Target, NotAppended> {
        if let Some(target) = ahead.target
            && ahead.count > 0
        {
            return self.resume(target);
        }
        let target = match ahead.next.take() {
            Some(target) => target,
            None => self.plan(topic, &intents[0])?,
        };
        ahead.target = Some(target);
        ahead.count = 1;
        for intent in intents.iter().take(LONGEST_STRETCH).skip(1) {
            // A record that is refused before the partitioner is asked is refused in its turn.
            let next = self.plan(topic, intent).ok();
            if next != Some(target) {
                ahead.next = next;
                break;
            }
            ahead.count += 1;
        }
        Ok(target)
    }

    /// Appends records of one target under one lock, until that is to be another partition.
    /// Returns how many were appended.
    fn append_stretch(
        &self,
        topic: &Arc<Topic>,
        intents: &[Intent<'_>],
        target: Target,
        receipts: &mut Option<&mut BatchDeliveries>,
        provision: &mut Provision,
    ) -> (usize, Result<(), NotAppended>) {
        let stripe = provision.stripe;
        let lane = match target.lane(topic, stripe) {
            Ok(lane) => lane,
            Err(error) => return (0, Err(error)),
        };
        let mut supply = self.supply(target, provision.transaction, &mut provision.segment);
        let mut done = 0;
        loop {
            let watch = Watch { ready: &self.ready, lane };
            let mut locked = lane.lock();
            let missed = loop {
                let Some(intent) = intents.get(done).filter(|_| !locked.switches()) else {
                    break None;
                };
                match locked.append(&intent.record, &mut supply) {
                    Appended::Done(placed) => {
                        if let Some(receipts) = receipts.as_mut() {
                            receipts.push(locked.completion(), placed.index);
                        }
                        done += 1;
                    }
                    missed => break Some(missed),
                }
            };
            self.follow_up(topic, lane, &watch.end(locked), stripe);
            let Some(missed) = missed else { return (done, Ok(())) };
            if let Err(error) = self.make_good(&mut supply, missed) {
                return (done, Err(error));
            }
        }
    }

    /// After an append that was not done: fetches what it lacked, if that is to be had.
    #[cold]
    fn make_good(&self, supply: &mut Supply<'_>, missed: Appended) -> Result<(), NotAppended> {
        match missed {
            Appended::Done(_) => Ok(()),
            Appended::Refused(refusal) => Err(NotAppended::Refused(refusal)),
            Appended::Needs(need) => self.fetch(supply, need),
        }
    }

    fn supply<'a>(
        &'a self,
        target: Target,
        transaction: TransactionNumber,
        spare: &'a mut Option<Segment>,
    ) -> Supply<'a> {
        let terms = self.terms(target, transaction);
        Supply { terms, spare, now: None, ids: &self.batch_ids }
    }

    #[inline]
    fn terms(&self, target: Target, transaction: TransactionNumber) -> Terms<'_> {
        Terms {
            coarse: self.coarse.load(Ordering::Relaxed),
            batch_size: self.batch_size,
            transaction,
            open: &self.transaction,
            sticky: target == Target::Any,
        }
    }

    /// Fetches what an append lacks, outside the lane's lock.
    fn fetch(&self, supply: &mut Supply<'_>, need: Need) -> Result<(), NotAppended> {
        let opens = match need {
            Need::Time => true,
            Need::Segment { least, wanted, opens } => {
                // A spare that is too small goes back first: nobody waits for memory while
                // holding some.
                *supply.spare = None;
                *supply.spare = self.memory.try_take(least, wanted);
                if supply.spare.is_none() {
                    // The oldest open batches are sealed now, whatever their linger.
                    self.ready.push(Event::Pressure);
                    return Err(NotAppended::NoMemory { least });
                }
                opens
            }
        };
        if opens {
            let now = self.clock.now();
            supply.terms.coarse = supply.terms.coarse.max(now.wall.0);
            self.coarse.fetch_max(now.wall.0, Ordering::Relaxed);
            supply.now = Some(now);
        }
        Ok(())
    }

    #[inline]
    fn follow_up(&self, topic: &Topic, lane: &Arc<Lane>, aftermath: &Aftermath, stripe: usize) {
        if aftermath.is_something() {
            self.see_to(topic, lane, aftermath, stripe);
        }
    }

    #[inline(never)]
    fn see_to(&self, topic: &Topic, lane: &Arc<Lane>, aftermath: &Aftermath, stripe: usize) {
        if aftermath.switch {
            topic.switch(stripe, lane.partition().cast_unsigned());
        }
        if aftermath.opened > 0 {
            add(&self.counters.batches_opened, aftermath.opened);
        }
        if aftermath.notify {
            self.ready.push(Event::Lane(Arc::clone(lane)));
        }
    }

    /// Checks the record, and asks where it is to go.
    #[inline]
    fn plan(&self, topic: &Topic, intent: &Intent<'_>) -> Result<Target, NotAppended> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(NotAppended::Refused(Refusal::Closed));
        }
        self.limits.check(&intent.record).map_err(NotAppended::Refused)?;
        if let Some(partition) = intent.partition {
            return Ok(Target::At(partition));
        }
        let record = &intent.record;
        let keyed = Keyed::new(topic.name(), record.key, record.value);
        Ok(match self.partitioner.partition(keyed, topic.partitions()) {
            Choice::Partition(partition) => Target::At(partition),
            Choice::Any => Target::Any,
        })
    }
}

#[cfg(test)]
mod tests;
