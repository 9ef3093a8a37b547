//! Deadlines of sends that wait. The driver's one timer serves them all, so that a send can wait
//! on any executor, and no wait outlives the driver.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sordini_core::accumulator::ready::Wake;
use sordini_core::time::Instant;

/// All alarms that are set.
pub(crate) struct Alarms {
    inner: Mutex<Inner>,
    wake: Arc<dyn Wake>,
}

#[derive(Default)]
struct Inner {
    set: BTreeMap<(Instant, u64), Option<Waker>>,
    next: u64,
    /// The producer is closed, or its driver is gone: nothing is worth waiting for.
    silent: bool,
}

impl Alarms {
    pub(crate) fn new(wake: Arc<dyn Wake>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), wake })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An alarm that rings at `deadline`, or when the driver ends.
    pub(crate) fn set(self: &Arc<Self>, deadline: Instant) -> Alarm {
        let mut inner = self.lock();
        let key = (deadline, inner.next);
        inner.next += 1;
        let mut earliest = false;
        if !inner.silent {
            earliest = inner.set.first_key_value().is_none_or(|(first, _)| key < *first);
            inner.set.insert(key, None);
        }
        drop(inner);
        if earliest {
            self.wake.wake();
        }
        Alarm { alarms: Arc::clone(self), key }
    }

    /// When the next one rings.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.lock().set.first_key_value().map(|((at, _), _)| *at)
    }

    /// Rings those that are due.
    pub(crate) fn ring(&self, now: Instant) {
        let mut inner = self.lock();
        let later = inner.set.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut inner.set, later);
        drop(inner);
        due.into_values().flatten().for_each(Waker::wake);
    }

    /// Rings all, and lets every later one ring at once.
    pub(crate) fn silence(&self) {
        let mut inner = self.lock();
        inner.silent = true;
        let all = std::mem::take(&mut inner.set);
        drop(inner);
        all.into_values().flatten().for_each(Waker::wake);
    }
}

/// A future that is ready once its alarm has rung.
pub(crate) struct Alarm {
    alarms: Arc<Alarms>,
    key: (Instant, u64),
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.alarms.lock().set.get_mut(&self.key) {
            Some(Some(waker)) => waker.clone_from(cx.waker()),
            Some(waker) => *waker = Some(cx.waker().clone()),
            None => return Poll::Ready(()),
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.alarms.lock().set.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use sordini_core::accumulator::ready::Wake;
    use sordini_core::time::Instant;

    use super::Alarms;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn is_ready(alarm: std::pin::Pin<&mut impl Future>) -> bool {
        matches!(alarm.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
    }

    #[test]
    fn alarms_ring_in_time_and_not_before() {
        let wake = Arc::new(Count::default());
        let alarms = Alarms::new(wake.clone());
        let mut late = pin!(alarms.set(at(20)));
        let mut soon = pin!(alarms.set(at(10)));
        assert_eq!(wake.0.load(Ordering::Relaxed), 2, "each was the earliest when it was set");
        assert_eq!(alarms.next(), Some(at(10)));
        alarms.ring(at(9));
        assert!(!is_ready(soon.as_mut()));
        alarms.ring(at(10));
        assert!(is_ready(soon.as_mut()) && !is_ready(late.as_mut()));
        assert_eq!(alarms.next(), Some(at(20)));
    }

    #[test]
    fn a_dropped_alarm_leaves_nothing_behind() {
        let alarms = Alarms::new(Arc::new(Count::default()));
        drop(alarms.set(at(10)));
        assert_eq!(alarms.next(), None);
    }

    #[test]
    fn once_silenced_every_alarm_rings_at_once() {
        let alarms = Alarms::new(Arc::new(Count::default()));
        let mut before = pin!(alarms.set(Instant::NEVER));
        alarms.silence();
        let mut after = pin!(alarms.set(Instant::NEVER));
        assert!(is_ready(before.as_mut()) && is_ready(after.as_mut()));
    }
}
