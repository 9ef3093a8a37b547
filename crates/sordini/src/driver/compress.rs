//! Compression off the driver's task, where a batch is large enough to be worth the trip.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sordini_core::accumulator::ready::Wake;
use sordini_core::batch::stages::{Compressed, Job};
use sordini_core::wire::compress::Compressor;

use crate::shared::Bell;

/// Up to this size compressing costs less than handing the batch to another thread and back.
const INLINE: usize = 16 << 10;

/// At most this many threads, and never more than there are processors.
const MOST_WORKERS: usize = 4;

/// Runs jobs, some at once, the others in order.
pub(super) struct Compressors {
    waiting: VecDeque<Job>,
    running: usize,
    most: usize,
    inline: Vec<Compressed>,
    compressor: Compressor,
    done: Arc<Done>,
}

struct Done {
    results: Mutex<Vec<Option<Compressed>>>,
    /// Those that no job uses just now.
    idle: Mutex<Vec<Compressor>>,
    bell: Arc<Bell>,
}

/// Reports even if the job panics, which a codec's panic does not make it do.
struct Report {
    done: Arc<Done>,
    result: Option<Compressed>,
}

impl Report {
    fn run(mut self, job: Job) {
        let idle = || self.done.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut compressor = idle().pop().unwrap_or_default();
        self.result = Some(job.run(&mut compressor));
        idle().push(compressor);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let result = self.result.take();
        self.done.results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        self.done.bell.wake();
    }
}

impl Compressors {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: 0,
            most: thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS),
            inline: Vec::new(),
            compressor: Compressor::default(),
            done: Arc::new(Done { results: Mutex::default(), idle: Mutex::default(), bell }),
        }
    }

    pub(super) fn start(&mut self, job: Job) {
        if job.len() <= INLINE {
            self.inline.push(job.run(&mut self.compressor));
            self.done.bell.wake();
        } else {
            self.waiting.push_back(job);
            self.dispatch();
        }
    }

    fn dispatch(&mut self) {
        while self.running < self.most
            && let Some(job) = self.waiting.pop_front()
        {
            self.running += 1;
            let report = Report { done: Arc::clone(&self.done), result: None };
            tokio::task::spawn_blocking(move || report.run(job));
        }
    }

    /// What is done since the last call.
    ///
    /// # Panics
    /// If a job panicked beside its codec: the batch is gone, and the driver must end and say so.
    pub(super) fn done(&mut self) -> Vec<Compressed> {
        let mut done = std::mem::take(&mut self.inline);
        let results = {
            let mut results = self.done.results.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *results)
        };
        self.running -= results.len();
        done.extend(
            results.into_iter().map(|result| result.expect("S1: a job gives its batch back")),
        );
        self.dispatch();
        done
    }
}
