//! Wakers that say which connection woke the driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use sordini_core::accumulator::ready::Wake as _;
use sordini_core::connection::ConnId;

use crate::shared::Bell;

/// The connections that have something to do.
#[derive(Debug)]
pub(super) struct ReadyList {
    conns: Mutex<Vec<ConnId>>,
    bell: Arc<Bell>,
}

impl ReadyList {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { conns: Mutex::default(), bell }
    }

    /// Puts a connection on the list and wakes the driver.
    pub(super) fn push(&self, conn: ConnId) {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        self.bell.wake();
    }

    pub(super) fn take(&self) -> Vec<ConnId> {
        std::mem::take(&mut *self.conns.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Puts its connection on the list, once until the connection is looked at.
#[derive(Debug)]
pub(super) struct ConnWaker {
    conn: ConnId,
    list: Arc<ReadyList>,
    listed: AtomicBool,
}

impl ConnWaker {
    pub(super) fn new(conn: ConnId, list: &Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { conn, list: Arc::clone(list), listed: AtomicBool::new(false) })
    }

    /// The connection is being looked at: wake-ups from now on count again.
    pub(super) fn arm(&self) {
        self.listed.store(false, Ordering::SeqCst);
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for ConnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::SeqCst) {
            self.list.push(self.conn);
        }
    }
}
