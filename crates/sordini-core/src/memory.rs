//! The memory of all batches: pooled segments, charged to `buffer.memory`, with waiters in order.
//!
//! S6: `reserved` is the sum of what live segments are charged and of grants not yet taken, and
//! together with the idle buffers never more than the limit.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// The pooled sizes, in bytes. A batch grows through them, so that an idle partition's batch costs
/// 1 KiB and a busy one's few pool operations.
pub const CLASSES: [usize; 4] = [1 << 10, 4 << 10, 16 << 10, 64 << 10];

/// Called when somebody starts to wait.
type OnWait = Box<dyn Fn() + Send + Sync>;

/// The budget and the pool.
pub struct Memory {
    limit: usize,
    inner: Mutex<Inner>,
    /// True while somebody waits; read without the lock.
    contended: AtomicBool,
    reserved: AtomicUsize,
    on_wait: Option<OnWait>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("limit", &self.limit)
            .field("reserved", &self.reserved())
            .field("contended", &self.contended())
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Inner {
    reserved: usize,
    /// Bytes of the free lists.
    idle: usize,
    free: [Vec<Vec<u8>>; CLASSES.len()],
    /// By id, those that were granted memory in front.
    waiters: VecDeque<Waiter>,
    next_waiter: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    size: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Waiting(Waker),
    /// With a recycled buffer, if there was one.
    Granted(Option<Vec<u8>>),
}

/// A run of bytes of a batch. Its size is fixed and charged until it is dropped.
#[derive(Debug)]
pub struct Segment {
    /// As long as the segment may become: what is written needs no look at a capacity, and what an
    /// earlier batch left behind `used` is never read.
    bytes: Vec<u8>,
    used: usize,
    charged: usize,
    memory: Arc<Memory>,
}

impl Segment {
    /// The bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// How many bytes still fit.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// What is behind the bytes written so far, to be written to: [`Segment::room`] bytes.
    #[inline]
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// That many bytes of the rest were written.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline]
    pub fn advance(&mut self, by: usize) {
        assert!(by <= self.room(), "S6: a segment was written beyond its end");
        self.used += by;
    }

    #[cfg(test)]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.rest()[..bytes.len()].copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    #[cfg(test)]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.used]
    }

    /// Forgets all but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.used = self.used.min(len);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.bytes.capacity() > 0 || self.charged > 0 {
            let mut bytes = std::mem::take(&mut self.bytes);
            self.memory.give_back(std::slice::from_mut(&mut bytes), self.charged);
        }
    }
}

/// The capacity a segment of at least `least` bytes gets: the first class that holds it and is not
/// below `wanted`, or that many whole KiB where it is larger than every class; never beyond `limit`
/// where `least` is not.
fn capacity_for(least: usize, wanted: usize, limit: usize) -> usize {
    let size = least.max(wanted);
    let class = CLASSES.into_iter().find(|&class| class >= size);
    class.unwrap_or_else(|| size.next_multiple_of(1024)).min(limit.max(least))
}

fn class_of(capacity: usize) -> Option<usize> {
    CLASSES.iter().position(|&class| class == capacity)
}

impl Memory {
    /// A pool of `limit` bytes (`buffer.memory`).
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Self::build(limit, None)
    }

    /// As [`Memory::new`]; calls `on_wait`, outside all locks, when somebody starts to wait.
    #[must_use]
    pub fn watched(limit: usize, on_wait: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Self::build(limit, Some(Box::new(on_wait)))
    }

    fn build(limit: usize, on_wait: Option<OnWait>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            inner: Mutex::default(),
            contended: AtomicBool::new(false),
            reserved: AtomicUsize::new(0),
            on_wait,
        })
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes of live segments and grants.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Does anybody wait for memory?
    #[must_use]
    pub fn contended(&self) -> bool {
        self.contended.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what changed under the lock visible without it.
    fn publish(&self, inner: &Inner) {
        self.reserved.store(inner.reserved, Ordering::Relaxed);
        self.contended.store(!inner.waiters.is_empty(), Ordering::Relaxed);
    }

    /// A segment of at least `least` bytes, about `wanted` where that is to be had; `None` if the
    /// budget is exhausted or somebody waits already, whom nobody may overtake.
    pub fn try_take(self: &Arc<Self>, least: usize, wanted: usize) -> Option<Segment> {
        let mut inner = self.lock();
        if !inner.waiters.is_empty() {
            return None;
        }
        let mut size = capacity_for(least, wanted, self.limit);
        if inner.reserved + size > self.limit {
            size = capacity_for(least, 0, self.limit);
            if inner.reserved + size > self.limit {
                return None;
            }
        }
        let bytes = inner.reserve(size, self.limit);
        self.publish(&inner);
        drop(inner);
        Some(self.segment(bytes, size))
    }

    fn segment(self: &Arc<Self>, bytes: Option<Vec<u8>>, size: usize) -> Segment {
        let bytes = bytes.unwrap_or_else(|| vec![0; size]);
        Segment { bytes, used: 0, charged: size, memory: Arc::clone(self) }
    }

    /// Waits in order for a segment of at least `least` bytes.
    ///
    /// # Panics
    /// If `least` exceeds [`Memory::limit`]: no release could ever satisfy it.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place, and passes a grant on to the next waiter.
    pub fn wait(self: &Arc<Self>, least: usize) -> MemoryWait {
        assert!(least <= self.limit, "S6: a request beyond the limit would wait for ever");
        let size = capacity_for(least, 0, self.limit);
        MemoryWait { memory: Arc::clone(self), size, id: None }
    }

    /// Puts `parts` in the place of `old` segments, so that a batch that changes its form
    /// (compressed, split) never waits for memory: the new segments take over the charge of the
    /// old ones as far as that goes, and what they do not need is returned, in one step.
    pub fn exchange(self: &Arc<Self>, old: Vec<Segment>, parts: Vec<Vec<u8>>) -> Vec<Segment> {
        let mut charge: usize = old.iter().map(|segment| segment.charged).sum();
        let mut new = Vec::with_capacity(parts.len());
        for mut bytes in parts {
            // A codec's buffer doubles as it grows; only what it holds is charged, and kept.
            bytes.shrink_to_fit();
            let charged = bytes.capacity().min(charge);
            charge -= charged;
            let used = bytes.len();
            new.push(Segment { bytes, used, charged, memory: Arc::clone(self) });
        }
        let emptied = |mut segment: Segment| {
            segment.charged = 0;
            std::mem::take(&mut segment.bytes)
        };
        let mut buffers: Vec<Vec<u8>> = old.into_iter().map(emptied).collect();
        self.give_back(&mut buffers, charge);
        new
    }

    /// Returns `charged` bytes, and takes the `buffers` that may stay as idle ones.
    fn give_back(&self, buffers: &mut [Vec<u8>], charged: usize) {
        let wakers = {
            let mut inner = self.lock();
            assert!(inner.reserved >= charged, "S6: more memory returned than reserved");
            inner.reserved -= charged;
            buffers.iter_mut().for_each(|bytes| inner.keep(bytes, self.limit));
            let wakers = inner.grant(self.limit);
            self.publish(&inner);
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    /// Reserves `size` bytes that are known to be free; a recycled buffer, or `None` after making
    /// room for a new one.
    fn reserve(&mut self, size: usize, limit: usize) -> Option<Vec<u8>> {
        self.reserved += size;
        let recycled = class_of(size).and_then(|class| self.free[class].pop());
        if recycled.is_some() {
            self.idle -= size;
            return recycled;
        }
        while self.reserved + self.idle > limit {
            let Some(class) = self.free.iter().rposition(|list| !list.is_empty()) else { break };
            self.free[class].pop();
            self.idle -= CLASSES[class];
        }
        None
    }

    /// Takes a buffer into the pool, if it is of a pooled size and within the limit.
    fn keep(&mut self, bytes: &mut Vec<u8>, limit: usize) {
        let size = bytes.capacity();
        let Some(class) = class_of(size) else { return };
        if self.reserved + self.idle + size <= limit {
            // A codec's bytes may be fewer.
            bytes.resize(size, 0);
            self.idle += size;
            self.free[class].push(std::mem::take(bytes));
        }
    }

    /// Grants memory to waiters from the front, as far as it goes. Whoever is returned is to be
    /// woken outside the lock.
    fn grant(&mut self, limit: usize) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut at = self.waiters.partition_point(Waiter::is_granted);
        while let Some(size) = self.waiters.get(at).map(|waiter| waiter.size) {
            if self.reserved + size > limit {
                break;
            }
            let buffer = self.reserve(size, limit);
            let place = &mut self.waiters[at].place;
            if let Place::Waiting(waker) = std::mem::replace(place, Place::Granted(buffer)) {
                wakers.push(waker);
            }
            at += 1;
        }
        wakers
    }

    /// Where the waiter stands.
    fn find(&self, id: u64) -> Option<usize> {
        self.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }
}

impl Waiter {
    fn is_granted(&self) -> bool {
        matches!(self.place, Place::Granted(_))
    }
}

/// A place in the queue for memory; see [`Memory::wait`].
#[derive(Debug)]
#[must_use = "a wait does nothing unless polled"]
pub struct MemoryWait {
    memory: Arc<Memory>,
    size: usize,
    id: Option<u64>,
}

impl MemoryWait {
    /// Takes the memory at once if it is free and nobody waits, or else a place in the queue.
    fn start(&mut self, cx: &Context<'_>) -> Poll<Segment> {
        let memory = &self.memory;
        let mut inner = memory.lock();
        if inner.waiters.is_empty() && inner.reserved + self.size <= memory.limit {
            let bytes = inner.reserve(self.size, memory.limit);
            memory.publish(&inner);
            drop(inner);
            return Poll::Ready(memory.segment(bytes, self.size));
        }
        let id = inner.next_waiter;
        inner.next_waiter += 1;
        let place = Place::Waiting(cx.waker().clone());
        inner.waiters.push_back(Waiter { id, size: self.size, place });
        self.id = Some(id);
        // Where grants not yet taken are all that stands in front, there may be room behind them.
        let own = inner.grant(memory.limit);
        memory.publish(&inner);
        drop(inner);
        if !own.is_empty() {
            return self.look(cx);
        }
        if let Some(on_wait) = &memory.on_wait {
            on_wait();
        }
        Poll::Pending
    }

    /// Takes what was granted, or goes on waiting.
    fn look(&mut self, cx: &Context<'_>) -> Poll<Segment> {
        let memory = &self.memory;
        let mut inner = memory.lock();
        let at = self.id.and_then(|id| inner.find(id)).expect("S6: a waiter stays until it leaves");
        if let Place::Waiting(waker) = &mut inner.waiters[at].place {
            let stale = (!waker.will_wake(cx.waker()))
                .then(|| std::mem::replace(waker, cx.waker().clone()));
            // A waker may own a task, and its drop run anything: not under the lock.
            drop(inner);
            drop(stale);
            return Poll::Pending;
        }
        let waiter = inner.waiters.remove(at);
        memory.publish(&inner);
        drop(inner);
        self.id = None;
        let bytes = match waiter.map(|waiter| waiter.place) {
            Some(Place::Granted(bytes)) => bytes,
            _ => None,
        };
        Poll::Ready(self.memory.segment(bytes, self.size))
    }
}

impl Future for MemoryWait {
    type Output = Segment;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Segment> {
        if self.id.is_some() { self.look(cx) } else { self.start(cx) }
    }
}

impl Drop for MemoryWait {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let (waiter, wakers) = {
            let mut inner = self.memory.lock();
            let at = inner.find(id);
            let mut waiter = at.and_then(|at| inner.waiters.remove(at));
            if let Some(Waiter { size, place: Place::Granted(bytes), .. }) = &mut waiter {
                inner.reserved -= *size;
                if let Some(bytes) = bytes {
                    inner.keep(bytes, self.memory.limit);
                }
            }
            let wakers = inner.grant(self.memory.limit);
            self.memory.publish(&inner);
            (waiter, wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        drop(waiter);
    }
}

#[cfg(test)]
mod tests;
