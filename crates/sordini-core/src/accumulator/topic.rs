//! A topic as appends see it: its lanes, and the queue of those who wait for its partitions.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::accumulator::Accumulator;
use crate::accumulator::lane::Lane;
use crate::accumulator::ready::Event;
use crate::error::{Obstacle, Refusal};

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
    pub fn partitions(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The lane of a partition below [`Topic::partitions`].
    #[must_use]
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
            gate.resolved = true;
            self.passable
                .store(gate.waiters.is_empty() && gate.refusal.is_none(), Ordering::Release);
            gate.waiters.front_mut().and_then(|waiter| waiter.waker.take())
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Refuses those who wait now; `lasting` also all who come later.
    pub(crate) fn refuse(&self, refusal: &Refusal, lasting: bool) {
        let wakers: Vec<Waker> = {
            let mut gate = self.gate();
            if lasting {
                gate.refusal.get_or_insert_with(|| refusal.clone());
                self.passable.store(false, Ordering::Release);
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
    pub(crate) fn sticky(&self, stripe: usize) -> u32 {
        let at = self.sticky[stripe % STRIPES].load(Ordering::Relaxed);
        if at < self.partitions() { at } else { self.switch(stripe, at) }
    }

    /// Draws another partition for `stripe`, unless somebody just did.
    pub(crate) fn switch(&self, stripe: usize, from: u32) -> u32 {
        let count = self.partitions();
        let mut to = self.draw(count);
        // A partition without a leader is passed over, unless chance finds no other.
        for _ in 0..8 {
            if (to != from || count == 1) && self.lane(to).is_some_and(|lane| lane.is_available()) {
                break;
            }
            to = self.draw(count);
        }
        let slot = &self.sticky[stripe % STRIPES];
        match slot.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => to,
            Err(now) => now,
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
        let waker = {
            let mut gate = self.gate();
            gate.waiters.retain(|waiter| waiter.id != id);
            if !gate.resolved {
                return;
            }
            self.passable
                .store(gate.waiters.is_empty() && gate.refusal.is_none(), Ordering::Release);
            gate.waiters.front_mut().and_then(|waiter| waiter.waker.take())
        };
        waker.into_iter().for_each(Waker::wake);
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

impl Future for TopicWait {
    type Output = Result<Turn, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut gate = this.topic.gate();
        if let Some(refusal) = gate.refusal.clone() {
            return Poll::Ready(Err(refusal));
        }
        let new = this.id.is_none();
        let id = *this.id.get_or_insert_with(|| {
            let id = gate.next;
            gate.next += 1;
            gate.waiters.push_back(Waiter { id, waker: None, refused: None });
            this.topic.passable.store(false, Ordering::Release);
            id
        });
        let resolved = gate.resolved;
        let first = gate.waiters.front().is_some_and(|waiter| waiter.id == id);
        let waiter = gate.waiters.iter_mut().find(|waiter| waiter.id == id);
        let waiter = waiter.expect("a waiter stays until it leaves");
        if let Some(refusal) = waiter.refused.take() {
            return Poll::Ready(Err(refusal));
        }
        if resolved && first {
            this.id = None;
            drop(gate);
            return Poll::Ready(Ok(Turn { topic: Arc::clone(&this.topic), id }));
        }
        waiter.waker = Some(cx.waker().clone());
        drop(gate);
        if new && !resolved {
            this.accumulator.ready().push(Event::Topic(Arc::clone(&this.topic)));
        }
        Poll::Pending
    }
}

impl Drop for TopicWait {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.topic.leave(id);
        }
    }
}
