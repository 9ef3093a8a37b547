//! The memory of all batches: pooled segments, charged to `buffer.memory`, with waiters in order.
//!
//! S6: `reserved` is the sum of the capacities of live segments and of grants not yet taken.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The pooled sizes, in bytes. A batch grows through them, so that an idle partition's batch costs
/// 1 KiB and a busy one's few pool operations.
pub const CLASSES: [usize; 4] = [1 << 10, 4 << 10, 16 << 10, 64 << 10];

/// The budget and the pool.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    inner: Mutex<Inner>,
    /// True while somebody waits; read without the lock by appends that must not overtake.
    contended: AtomicBool,
    reserved: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    reserved: usize,
    /// Bytes of the free lists, within the limit together with `reserved`.
    idle: usize,
    free: [Vec<Vec<u8>>; CLASSES.len()],
    waiters: VecDeque<Waiter>,
    next_waiter: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    size: usize,
    granted: bool,
    waker: Option<Waker>,
}

/// A run of bytes of a batch. Its capacity is fixed and charged until it is dropped.
#[derive(Debug)]
pub struct Segment {
    bytes: Vec<u8>,
    charged: usize,
    memory: Arc<Memory>,
}

impl Segment {
    /// The bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// The buffer, to append at most [`Segment::room`] bytes to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.memory.give_back(bytes, self.charged);
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
        Arc::new(Self {
            limit,
            inner: Mutex::default(),
            contended: AtomicBool::new(false),
            reserved: AtomicUsize::new(0),
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
        self.reserve(&mut inner, size);
        let bytes = inner.buffer(size, self.limit);
        drop(inner);
        Some(self.segment(bytes, size))
    }

    fn segment(self: &Arc<Self>, bytes: Option<Vec<u8>>, size: usize) -> Segment {
        let bytes = bytes.unwrap_or_else(|| Vec::with_capacity(size));
        Segment { bytes, charged: size, memory: Arc::clone(self) }
    }

    fn reserve(&self, inner: &mut Inner, size: usize) {
        inner.reserved += size;
        self.reserved.store(inner.reserved, Ordering::Relaxed);
    }

    /// Waits in order for a segment of at least `least` bytes.
    ///
    /// `least` must not exceed [`Memory::limit`]: no release could ever satisfy it.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place, and passes a grant on to the next waiter.
    pub fn wait(self: &Arc<Self>, least: usize) -> MemoryWait {
        assert!(least <= self.limit, "S6: a request beyond the limit would wait for ever");
        let size = capacity_for(least, 0, self.limit);
        MemoryWait { memory: Arc::clone(self), size, id: None }
    }

    /// Puts `parts` in the place of `old` segments: at most what the old ones were charged stays
    /// charged, in one step, so that a batch that changes its form (compressed, split) neither
    /// waits for memory nor takes more of it.
    pub fn exchange(self: &Arc<Self>, old: Vec<Segment>, parts: Vec<Vec<u8>>) -> Vec<Segment> {
        let mut freed: usize = old.iter().map(|segment| segment.charged).sum();
        let mut new = Vec::with_capacity(parts.len());
        for bytes in parts {
            let charged = bytes.len().min(freed);
            freed -= charged;
            new.push(Segment { bytes, charged, memory: Arc::clone(self) });
        }
        let mut last = freed;
        for mut segment in old.into_iter().rev() {
            // What goes on being charged is split off the old charges, which are then returned.
            segment.charged = segment.charged.min(last);
            last -= segment.charged;
        }
        new
    }

    fn give_back(&self, mut bytes: Vec<u8>, charged: usize) {
        let wakers = {
            let mut inner = self.lock();
            assert!(inner.reserved >= charged, "S6: more memory returned than reserved");
            inner.reserved -= charged;
            if let Some(class) = class_of(bytes.capacity()) {
                bytes.clear();
                inner.idle += bytes.capacity();
                inner.free[class].push(bytes);
            }
            let wakers = self.grant(&mut inner);
            self.reserved.store(inner.reserved, Ordering::Relaxed);
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Grants memory to waiters from the front, as far as it goes.
    fn grant(&self, inner: &mut Inner) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let Inner { reserved, waiters, .. } = inner;
        for waiter in waiters.iter_mut().filter(|waiter| !waiter.granted) {
            if *reserved + waiter.size > self.limit {
                break;
            }
            *reserved += waiter.size;
            waiter.granted = true;
            wakers.extend(waiter.waker.take());
        }
        wakers
    }
}

impl Inner {
    /// A recycled buffer of exactly `size` bytes, or `None` after making room for a new one.
    fn buffer(&mut self, size: usize, limit: usize) -> Option<Vec<u8>> {
        let recycled = class_of(size).and_then(|class| self.free[class].pop());
        if let Some(bytes) = recycled {
            self.idle -= size;
            return Some(bytes);
        }
        while self.reserved + self.idle > limit {
            let Some(class) = self.free.iter().rposition(|list| !list.is_empty()) else { break };
            self.free[class].pop();
            self.idle -= CLASSES[class];
        }
        None
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

impl Future for MemoryWait {
    type Output = Segment;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Segment> {
        let this = &mut *self;
        let mut inner = this.memory.lock();
        let id = *this.id.get_or_insert_with(|| {
            let id = inner.next_waiter;
            inner.next_waiter += 1;
            inner.waiters.push_back(Waiter { id, size: this.size, granted: false, waker: None });
            this.memory.contended.store(true, Ordering::Relaxed);
            id
        });
        // Only this newcomer can be granted here: whoever could be was, when memory came back.
        let others = this.memory.grant(&mut inner);
        assert!(others.is_empty(), "S6: a grant was overlooked");
        this.memory.reserved.store(inner.reserved, Ordering::Relaxed);
        let at = inner.waiters.iter().position(|waiter| waiter.id == id).expect("S6: lost waiter");
        if !inner.waiters[at].granted {
            let waker = &mut inner.waiters[at].waker;
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        inner.waiters.remove(at);
        this.memory.contended.store(!inner.waiters.is_empty(), Ordering::Relaxed);
        this.id = None;
        let bytes = inner.buffer(this.size, this.memory.limit);
        drop(inner);
        Poll::Ready(this.memory.segment(bytes, this.size))
    }
}

impl Drop for MemoryWait {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let wakers = {
            let mut inner = self.memory.lock();
            let at = inner.waiters.iter().position(|waiter| waiter.id == id);
            let Some(waiter) = at.and_then(|at| inner.waiters.remove(at)) else { return };
            if waiter.granted {
                inner.reserved -= waiter.size;
            }
            self.memory.contended.store(!inner.waiters.is_empty(), Ordering::Relaxed);
            let wakers = self.memory.grant(&mut inner);
            self.memory.reserved.store(inner.reserved, Ordering::Relaxed);
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}
