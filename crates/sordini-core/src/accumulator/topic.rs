//! A topic as appends see it: its lanes, and the queue of those who wait for its partitions.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::accumulator::Accumulator;
use crate::accumulator::lane::Lane;
use crate::accumulator::ready::Event;
use crate::error::{Obstacle, Refusal};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Keyless records stick to one partition per stripe; threads on different stripes do not meet.
pub const STRIPES: usize = 16;

/// Chunk `k` holds 2^k lanes, so that lanes never move and a look-up takes no lock.
const CHUNKS: usize = 31;

/// A topic of one producer. A handle never comes to mean another topic: where the topic is
/// deleted, or made again with another id, appends are refused with `TopicGone`.
#[derive(Debug)]
pub struct Topic {
    index: u32,
    name: Arc<str>,
    chunks: [OnceLock<Box<[Arc<Lane>]>>; CHUNKS],
    count: AtomicU32,
    sticky: [AtomicU32; STRIPES],
    /// State of the generator that draws sticky partitions.
    draw: AtomicU64,
    /// The partitions are known and nobody waits: appends need not look at the gate.
    passable: AtomicBool,
    gate: Mutex<Gate>,
}

#[derive(Debug)]
struct Gate {
    resolved: bool,
    refusal: Option<Refusal>,
    obstacle: Obstacle,
    waiters: VecDeque<Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    waker: Option<Waker>,
    /// A refusal that came while this one waited.
    refused: Option<Refusal>,
}

impl Topic {
    pub(crate) fn new(index: u32, name: &str, seed: u64) -> Self {
        Self {
            index,
            name: name.into(),
            chunks: [const { OnceLock::new() }; CHUNKS],
            count: AtomicU32::new(0),
            sticky: [const { AtomicU32::new(u32::MAX) }; STRIPES],
            draw: AtomicU64::new(seed),
            passable: AtomicBool::new(false),
            gate: Mutex::new(Gate {
                resolved: false,
                refusal: None,
                obstacle: Obstacle::NoAnswer,
                waiters: VecDeque::new(),
                next: 0,
            }),
        }
    }

    /// The topic's number within its producer.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many partitions the topic has; 0 while that is not known. Never shrinks.
    #[must_use]
    #[inline]
    pub fn partitions(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The lane of a partition below [`Topic::partitions`].
    #[must_use]
    #[inline]
    pub fn lane(&self, partition: u32) -> Option<&Arc<Lane>> {
        if partition >= self.partitions() {
            return None;
        }
        let chunk = (partition + 1).ilog2();
        self.chunks[chunk as usize].get()?.get((partition + 1 - (1 << chunk)) as usize)
    }

    /// All lanes, by partition.
    pub fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        (0..self.partitions()).filter_map(|partition| self.lane(partition))
    }

    /// Publishes lanes up to `count` partitions: the lanes first, then the count.
    pub(crate) fn grow(&self, count: u32, refusal: Option<&Refusal>) {
        if count <= self.partitions() {
            return;
        }
        for chunk in 0..=count.ilog2() {
            self.chunks[chunk as usize].get_or_init(|| {
                let first = (1 << chunk) - 1;
                let lane = |at| Arc::new(Lane::new(self.index, at));
                (first..first + (1 << chunk)).map(lane).collect()
            });
        }
        self.count.store(count, Ordering::Release);
        if let Some(refusal) = refusal {
            // A chunk may hold lanes from before the refusal that were not yet counted.
            self.lanes().for_each(|lane| lane.refuse(refusal));
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May an append go straight to a lane?
    #[inline]
    pub(crate) fn is_passable(&self) -> bool {
        self.passable.load(Ordering::Acquire)
    }

    /// Why appends are refused for good, if they are.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.gate().refusal.clone()
    }

    /// What last kept the topic's partitions from being known.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        self.gate().obstacle.clone()
    }

    pub(crate) fn set_obstacle(&self, obstacle: Obstacle) {
        self.gate().obstacle = obstacle;
    }

    /// The partitions are known: lets the first waiter pass.
    pub(crate) fn resolve(&self) {
        let waker = {
            let mut gate = self.gate();
            gate.resolved = self.partitions() > 0;
            self.publish(&gate);
            gate.waiters.front_mut().and_then(|waiter| waiter.waker.take())
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn publish(&self, gate: &Gate) {
        let passable = gate.resolved && gate.waiters.is_empty() && gate.refusal.is_none();
        self.passable.store(passable, Ordering::Release);
    }

    /// Refuses those who wait now; `lasting` also all who come later.
    pub(crate) fn refuse(&self, refusal: &Refusal, lasting: bool) {
        let wakers: Vec<Waker> = {
            let mut gate = self.gate();
            if lasting {
                gate.refusal.get_or_insert_with(|| refusal.clone());
                self.publish(&gate);
            }
            let waiters = gate.waiters.iter_mut();
            waiters
                .filter_map(|waiter| {
                    waiter.refused.get_or_insert_with(|| refusal.clone());
                    waiter.waker.take()
                })
                .collect()
        };
        wakers.into_iter().for_each(Waker::wake);
        if lasting {
            self.lanes().for_each(|lane| lane.refuse(refusal));
        }
    }

    /// Does anybody wait for the topic's partitions?
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.gate().waiters.is_empty()
    }

    /// The partition that keyless records of `stripe` stick to now.
    #[inline]
    pub(crate) fn sticky(&self, stripe: usize) -> u32 {
        let at = self.sticky[stripe % STRIPES].load(Ordering::Relaxed);
        if at < self.partitions() { at } else { self.switch(stripe, at) }
    }

    /// Draws another partition for `stripe`, unless somebody just did.
    pub(crate) fn switch(&self, stripe: usize, from: u32) -> u32 {
        let to = self.another(from);
        let slot = &self.sticky[stripe % STRIPES];
        match slot.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => to,
            Err(now) => now,
        }
    }

    /// A partition other than `from` that has a leader, each with the same chance; `from` where
    /// only that one has, and any where none has.
    fn another(&self, from: u32) -> u32 {
        let count = self.partitions();
        let has_leader = |at| self.lane(at).is_some_and(|lane| lane.is_available());
        for _ in 0..8 {
            let to = self.draw(count);
            if to != from && has_leader(to) {
                return to;
            }
        }
        // Few have a leader, or there is one partition only: look at them in turn.
        let start = self.draw(count);
        let mut others = (start..count).chain(0..start).filter(|&at| at != from);
        match others.clone().find(|&at| has_leader(at)) {
            Some(to) => to,
            None if from < count && has_leader(from) => from,
            None => others.next().unwrap_or(0),
        }
    }

    /// SplitMix64: one add and a mix, from whatever thread comes.
    fn draw(&self, below: u32) -> u32 {
        let mut z = self.draw.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = (z ^ (z >> 31)) >> 32;
        ((random * u64::from(below.max(1))) >> 32) as u32
    }

    /// Waits in order until the topic's partitions are known and those who came earlier have
    /// appended.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place.
    pub fn wait(self: &Arc<Self>, accumulator: &Arc<Accumulator>) -> TopicWait {
        TopicWait { topic: Arc::clone(self), accumulator: Arc::clone(accumulator), id: None }
    }

    /// Takes the waiter out, and lets the next one pass.
    fn leave(&self, id: u64) {
        let (left, next) = {
            let mut gate = self.gate();
            let at = gate.find(id);
            let left = at.and_then(|at| gate.waiters.remove(at));
            self.publish(&gate);
            let passes = gate.resolved && at == Some(0);
            let next = gate.waiters.front_mut().filter(|_| passes);
            (left, next.and_then(|waiter| waiter.waker.take()))
        };
        next.into_iter().for_each(Waker::wake);
        // Its waker may own a task, whose drop may run anything: not under the lock.
        drop(left);
    }
}

impl Gate {
    /// Where the waiter stands.
    fn find(&self, id: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }
}

/// A place in the queue for a topic's partitions; see [`Topic::wait`].
#[derive(Debug)]
#[must_use = "a wait does nothing unless polled"]
pub struct TopicWait {
    topic: Arc<Topic>,
    accumulator: Arc<Accumulator>,
    id: Option<u64>,
}

/// The right to append next. Dropping it lets the next waiter pass.
#[derive(Debug)]
#[must_use = "append before it is dropped"]
pub struct Turn {
    topic: Arc<Topic>,
    id: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.topic.leave(self.id);
    }
}

impl TopicWait {
    fn leave(&mut self) {
        if let Some(id) = self.id.take() {
            self.topic.leave(id);
        }
    }
}

impl Future for TopicWait {
    type Output = Result<Turn, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut guard = this.topic.gate();
        let gate = &mut *guard;
        let new = this.id.is_none() && gate.refusal.is_none();
        if new {
            this.id = Some(gate.next);
            gate.waiters.push_back(Waiter { id: gate.next, waker: None, refused: None });
            gate.next += 1;
            this.topic.publish(gate);
        }
        let at = this.id.and_then(|id| gate.find(id));
        let mut waiter = at.and_then(|at| gate.waiters.get_mut(at));
        let refused = waiter.as_mut().and_then(|waiter| waiter.refused.take());
        if let Some(refusal) = gate.refusal.clone().or(refused) {
            drop(guard);
            this.leave();
            return Poll::Ready(Err(refusal));
        }
        let waiter = waiter.expect("a waiter stays until it leaves");
        let resolved = gate.resolved;
        if resolved && at == Some(0) {
            drop(guard);
            let id = this.id.take().expect("it stands in the queue");
            return Poll::Ready(Ok(Turn { topic: Arc::clone(&this.topic), id }));
        }
        let known = waiter.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        let stale = if known { None } else { waiter.waker.replace(cx.waker().clone()) };
        drop(guard);
        drop(stale);
        if new && !resolved {
            this.accumulator.ready().push(Event::Topic(Arc::clone(&this.topic)));
        }
        Poll::Pending
    }
}

impl Drop for TopicWait {
    fn drop(&mut self) {
        self.leave();
    }
}
