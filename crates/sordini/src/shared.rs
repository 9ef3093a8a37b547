//! What the handles of one producer and its driver have in common.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sordini_core::accumulator::Accumulator;
use sordini_core::accumulator::ready::Wake;
use sordini_core::accumulator::topic::STRIPES;
use sordini_core::batch::sealed::Returned;
use sordini_core::config::Config;
use sordini_core::producer::io::{Command, Finished, Token};
use sordini_core::time::{Clock, Instant, Now, Timestamp};
use tokio::sync::oneshot;

use crate::alarm::Alarms;
use crate::history::History;
use crate::report::FailedRecord;

/// What a handle asks of the driver, and who waits for the answer.
pub(crate) struct Request {
    pub(crate) token: Token,
    pub(crate) command: Command,
    pub(crate) done: Option<oneshot::Sender<Finished>>,
}

/// The state shared by handles and driver.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) accumulator: Arc<Accumulator>,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) history: History,
    next_token: AtomicU64,
    requests: Mutex<VecDeque<Request>>,
    /// Stripes in use, less one; a power of two less one.
    stripe_mask: AtomicUsize,
    /// Handed back and not yet taken; their memory stays charged to `buffer.memory` meanwhile.
    failed: Mutex<Vec<Returned>>,
    ended: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        accumulator: Arc<Accumulator>,
        clock: Arc<SystemClock>,
        bell: Arc<Bell>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            accumulator,
            clock,
            alarms: Alarms::new(bell.clone()),
            bell,
            history: History::default(),
            next_token: AtomicU64::new(0),
            requests: Mutex::default(),
            stripe_mask: AtomicUsize::new(0),
            failed: Mutex::default(),
            ended: AtomicBool::new(false),
        })
    }

    /// Asks the driver for something. Without one there is no answer, which the receiver sees.
    pub(crate) fn ask(
        &self,
        command: impl FnOnce(Token) -> Command,
    ) -> oneshot::Receiver<Finished> {
        let (done, finished) = oneshot::channel();
        let token = self.token();
        self.request(Request { token, command: command(token), done: Some(done) });
        finished
    }

    /// Asks the driver for something that nobody waits for.
    pub(crate) fn tell(&self, command: impl FnOnce(Token) -> Command) {
        let token = self.token();
        self.request(Request { token, command: command(token), done: None });
    }

    fn token(&self) -> Token {
        Token(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    fn request(&self, request: Request) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        requests.push_back(request);
        drop(requests);
        self.bell.wake();
    }

    pub(crate) fn next_request(&self) -> Option<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The driver is gone: nothing that is asked from now on would be answered.
    pub(crate) fn end(&self) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.store(true, Ordering::SeqCst);
        let unanswered = std::mem::take(&mut *requests);
        drop(requests);
        drop(unanswered);
        self.alarms.silence();
    }

    pub(crate) fn keep_failed(&self, batch: Returned) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
    }

    pub(crate) fn take_failed(&self) -> Vec<FailedRecord> {
        let failed = {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *failed)
        };
        failed.iter().flat_map(FailedRecord::of_batch).collect()
    }

    /// Which of the sticky partitions this thread's keyless records go to.
    #[inline]
    pub(crate) fn stripe(&self) -> usize {
        let mask = self.stripe_mask.load(Ordering::Relaxed);
        if mask == 0 { 0 } else { thread_number() & mask }
    }

    /// Sets how many sticky partitions a topic has at a time, from the bytes a second that pass.
    ///
    /// A stripe costs its share of company in a batch, and saves threads from meeting on a lane:
    /// worth it only where every stripe fills its batches within the linger time anyway.
    pub(crate) fn set_rate(&self, bytes_a_second: u64) {
        let linger = self.config.linger.max(Duration::from_millis(1)).min(Duration::from_secs(1));
        let bytes = u128::from(bytes_a_second) * linger.as_micros() / 1_000_000;
        let batches = usize::try_from(bytes).unwrap_or(usize::MAX) / self.config.batch_size.max(1);
        let stripes = (batches / 2).clamp(1, STRIPES);
        self.stripe_mask.store((1 << stripes.ilog2()) - 1, Ordering::Relaxed);
    }
}

/// Counts from 1.
#[inline]
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(0) });
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// Lets a task that never has to wait yield now and then, so that the driver on the same thread
/// gets its turn: once in 64 small records or 64 KiB, and then only as tokio's budget says.
pub(crate) async fn pace(bytes: usize) {
    if is_time_to_yield(bytes) {
        tokio::task::coop::consume_budget().await;
    }
}

/// Counts a record of so many bytes, and as 1 KiB more: 64 KiB in all are a thread's share.
#[inline]
pub(crate) fn is_time_to_yield(bytes: usize) -> bool {
    const SHARE: usize = 64 << 10;
    thread_local!(static LEFT: Cell<usize> = const { Cell::new(SHARE) });
    LEFT.with(|left| {
        let after = left.get().checked_sub(bytes.saturating_add(SHARE / 64));
        left.set(after.unwrap_or(SHARE));
        after.is_none()
    })
}

/// Wakes the driver's task.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<Option<Waker>>);

impl Bell {
    /// From now on the bell wakes this task.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *registered {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The system's clocks. The monotonic one is tokio's, so that a paused runtime pauses it too.
#[derive(Debug)]
pub(crate) struct SystemClock {
    origin: tokio::time::Instant,
}

impl SystemClock {
    pub(crate) fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// The point of tokio's clock at `instant`; `None` if it is never reached.
    pub(crate) fn to_tokio(&self, instant: Instant) -> Option<tokio::time::Instant> {
        if instant == Instant::NEVER {
            return None;
        }
        self.origin.checked_add(Duration::from_nanos(instant.as_nanos()))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Instant::from_nanos(mono),
            wall: Timestamp(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use sordini_core::config::Config;
    use sordini_core::producer::{Components, Producer as Machine};
    use sordini_core::{partitioner, time};

    use super::{Bell, Shared, SystemClock};

    fn shared() -> Arc<Shared> {
        let config = Config::default();
        let clock = Arc::new(SystemClock::start());
        let bell = Arc::new(Bell::default());
        let components = Components {
            partitioner: partitioner::from_config(&config),
            clock: clock.clone(),
            wake: bell.clone(),
            seed: 1,
            return_failed: false,
        };
        let machine = Machine::new(config.clone(), components);
        Shared::new(config, Arc::clone(machine.accumulator()), clock, bell)
    }

    /// The stripes that eight threads get.
    fn stripes(shared: &Arc<Shared>) -> usize {
        let on_a_thread = |_| {
            let shared = Arc::clone(shared);
            thread::spawn(move || shared.stripe())
        };
        let threads: Vec<_> = (0..8).map(on_a_thread).collect();
        let mut stripes: Vec<usize> =
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.len()
    }

    #[test]
    fn threads_share_a_sticky_partition_unless_each_would_fill_its_own() {
        let shared = shared();
        assert_eq!(stripes(&shared), 1);
        // Five milliseconds of 3 MB/s are less than a batch of 16 KiB.
        shared.set_rate(3_000_000);
        assert_eq!(stripes(&shared), 1);
        shared.set_rate(20_000_000);
        assert_eq!(stripes(&shared), 2);
        shared.set_rate(u64::MAX);
        assert_eq!(stripes(&shared), 8);
        shared.set_rate(0);
        assert_eq!(stripes(&shared), 1);
    }

    #[test]
    fn what_is_never_reached_needs_no_timer() {
        let clock = SystemClock::start();
        assert_eq!(clock.to_tokio(time::Instant::NEVER), None);
        assert!(clock.to_tokio(time::Instant::from_millis(5)).is_some());
    }
}
