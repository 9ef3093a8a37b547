#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "threads are what some of these tests are about"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::{BatchCompletion, BatchDeliveries, Deduplicated, Delivery, Outcome, RunOutcome};
use crate::error::{Cause, DeliveryError, Fate};

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counting() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn sealed(total: u32) -> Arc<BatchCompletion> {
    let batch = Arc::new(BatchCompletion::new(3));
    batch.seal(total);
    batch
}

fn written(base_offset: i64) -> Outcome {
    let deduplicated = Deduplicated::No;
    Outcome::Written { base_offset: Some(base_offset), log_append_time: None, deduplicated }
}

fn failed() -> Outcome {
    Outcome::Failed(Arc::new(DeliveryError {
        fate: Fate::Unknown,
        cause: Cause::Closed,
        attempts: 2,
        topic: "clicks".into(),
        partition: 3,
    }))
}

fn receipt(batch: &Arc<BatchCompletion>, index: u32) -> Delivery {
    Delivery::new(Arc::clone(batch), index, 1000 + i64::from(index))
}

#[test]
fn a_receipt_can_be_sent_to_and_shared_with_any_task() {
    fn anywhere<T: Send + Sync + Unpin + 'static>() {}
    anywhere::<Delivery>();
    anywhere::<BatchDeliveries>();
    anywhere::<BatchCompletion>();
}

#[test]
fn a_receipt_is_as_small_as_the_design_says() {
    assert_eq!(size_of::<Delivery>(), 24);
}

#[test]
fn each_receipt_tells_its_own_records_place() {
    let batch = sealed(3);
    batch.resolve(0..3, written(40));
    for index in 0..3 {
        assert_eq!(receipt(&batch, index).partition(), 3);
        let told = poll(&mut receipt(&batch, index), Waker::noop()).unwrap().unwrap();
        assert_eq!((told.partition, told.offset), (3, Some(40 + i64::from(index))));
        assert_eq!(told.timestamp, 1000 + i64::from(index));
    }
}

#[test]
fn the_brokers_time_stands_where_the_topic_stamps_it() {
    let batch = sealed(1);
    let (log_append_time, deduplicated) = (Some(77), Deduplicated::Possible);
    batch.resolve(0..1, Outcome::Written { base_offset: None, log_append_time, deduplicated });
    let told = receipt(&batch, 0).outcome().unwrap().unwrap();
    assert_eq!((told.offset, told.timestamp, told.deduplicated), (None, 77, deduplicated));
}

#[test]
fn an_outcome_can_be_asked_for_any_number_of_times() {
    let batch = sealed(2);
    batch.resolve(0..2, failed());
    let mut delivery = receipt(&batch, 1);
    for _ in 0..3 {
        assert_eq!(delivery.outcome().unwrap().unwrap_err().fate, Fate::Unknown);
        assert_eq!(poll(&mut delivery, Waker::noop()).unwrap().unwrap_err().attempts, 2);
    }
}

#[test]
#[should_panic(expected = "S5")]
fn no_record_is_resolved_twice() {
    let batch = sealed(4);
    batch.resolve(0..2, written(0));
    batch.resolve(1..3, written(0));
}

#[test]
#[should_panic(expected = "S5")]
fn no_record_is_resolved_twice_by_a_run_around_it() {
    let batch = sealed(4);
    batch.resolve(1..2, written(0));
    batch.resolve(0..4, written(0));
}

#[test]
#[should_panic(expected = "S1")]
fn an_open_batch_has_no_outcome() {
    BatchCompletion::new(0).resolve(0..1, written(0));
}

#[test]
fn a_refused_resolve_leaves_the_receipts_usable() {
    let batch = sealed(2);
    batch.resolve(0..1, written(5));
    let again = Arc::clone(&batch);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        again.resolve(0..2, failed());
    }));
    assert!(refused.is_err());
    assert!(receipt(&batch, 0).outcome().unwrap().is_ok());
    batch.resolve(1..2, written(6));
    assert!(batch.is_done());
}

#[test]
fn halves_of_a_batch_resolve_in_any_order() {
    for halves in [[0..2, 2..5], [2..5, 0..2]] {
        let batch = sealed(5);
        let (count, waker) = counting();
        let mut all: Vec<_> = (0..5).map(|index| receipt(&batch, index)).collect();
        assert!(all.iter_mut().all(|delivery| poll(delivery, &waker).is_none()));
        let [first, second] = halves;
        batch.resolve(first.clone(), written(10 * i64::from(first.start)));
        assert_eq!(count.woken(), first.len(), "only those are woken who have something to see");
        assert!(!batch.is_done());
        for (index, delivery) in all.iter_mut().enumerate() {
            let ready = poll(delivery, &waker).is_some();
            assert_eq!(ready, first.contains(&(index as u32)));
        }
        batch.resolve(second.clone(), written(10 * i64::from(second.start)));
        assert!(batch.is_done());
        let offsets: Vec<_> =
            all.iter_mut().map(|all| poll(all, &waker).unwrap().unwrap().offset.unwrap()).collect();
        assert_eq!(offsets, [0, 1, 20, 21, 22]);
    }
}

#[test]
fn a_receipt_dropped_or_replaced_takes_no_others_waker_along() {
    let batch = sealed(3);
    let (count, waker) = counting();
    let mut kept = receipt(&batch, 0);
    let mut dropped = receipt(&batch, 1);
    assert!(poll(&mut kept, &waker).is_none() && poll(&mut dropped, &waker).is_none());
    drop(dropped);
    let mut late = receipt(&batch, 2);
    assert!(poll(&mut late, &waker).is_none());
    drop(late);
    batch.resolve(0..3, written(0));
    assert_eq!(count.woken(), 1);
}

#[test]
fn a_receipt_outliving_a_partial_resolve_frees_only_its_own_place() {
    let batch = sealed(3);
    let (count, waker) = counting();
    let (mut first, mut second) = (receipt(&batch, 1), receipt(&batch, 2));
    assert!(poll(&mut first, &waker).is_none());
    batch.resolve(0..1, written(0));
    // The place that `first` was given may be given to `second` now, unless it is still owned.
    assert!(poll(&mut second, &waker).is_none());
    drop(first);
    batch.resolve(1..3, written(1));
    assert_eq!(count.woken(), 1, "only the second waits");
}

#[test]
fn a_receipt_keeps_one_waker_that_of_the_last_poll() {
    let batch = sealed(1);
    let ((old, first), (new, second)) = (counting(), counting());
    let mut delivery = receipt(&batch, 0);
    for waker in [&first, &first, &second, &second] {
        assert!(poll(&mut delivery, waker).is_none());
    }
    assert_eq!(batch.lock().waiters.len(), 1);
    drop(first);
    assert_eq!(Arc::strong_count(&old), 1);
    assert_eq!(Arc::strong_count(&new), 3, "held here, by its waker, and in the one place");
    batch.resolve(0..1, written(0));
    assert_eq!((old.woken(), new.woken()), (0, 1));
}

#[test]
fn places_of_dropped_receipts_are_used_again() {
    let batch = sealed(1000);
    for index in 0..1000 {
        assert!(poll(&mut receipt(&batch, index), Waker::noop()).is_none());
    }
    assert_eq!(batch.lock().waiters.len(), 1);
}

/// Looks at the batch from inside `wake`, and from its drop, as a task does that ends there.
struct Reenters(Arc<BatchCompletion>, Mutex<Option<Delivery>>);

impl Wake for Reenters {
    fn wake(self: Arc<Self>) {
        drop(self.0.outcomes(0..1));
    }
}

impl Drop for Reenters {
    fn drop(&mut self) {
        drop(self.0.outcomes(0..1));
        drop(self.1.get_mut().unwrap().take());
    }
}

#[test]
fn wakers_are_woken_and_dropped_outside_the_lock() {
    let batch = sealed(4);
    let waker = |held| Waker::from(Arc::new(Reenters(Arc::clone(&batch), Mutex::new(held))));
    let waiting = |index| {
        let mut delivery = receipt(&batch, index);
        assert!(poll(&mut delivery, Waker::noop()).is_none());
        Some(delivery)
    };
    let mut delivery = receipt(&batch, 0);
    // Replaced by a later poll.
    assert!(poll(&mut delivery, &waker(waiting(1))).is_none());
    assert!(poll(&mut delivery, &waker(waiting(2))).is_none());
    // Dropped with its receipt.
    drop(delivery);
    // Woken.
    let mut delivery = receipt(&batch, 0);
    assert!(poll(&mut delivery, &waker(waiting(3))).is_none());
    batch.resolve(0..4, written(0));
    assert!(poll(&mut delivery, Waker::noop()).is_some());
}

fn collect(parts: &[(&Arc<BatchCompletion>, u32)]) -> BatchDeliveries {
    let mut all = BatchDeliveries::default();
    parts.iter().for_each(|(batch, index)| all.push(batch, *index));
    all
}

fn shape(runs: &[RunOutcome]) -> Vec<(u32, Option<i64>)> {
    let base = |outcome: &Outcome| match outcome {
        Outcome::Written { base_offset, .. } => *base_offset,
        Outcome::Failed(_) => None,
    };
    runs.iter().map(|run| (run.count, base(&run.outcome))).collect()
}

#[test]
fn receipts_of_a_burst_are_runs_in_the_order_they_were_handed_in() {
    let (a, b) = (sealed(4), sealed(2));
    let mut all = collect(&[(&a, 1), (&a, 2), (&b, 0), (&b, 1), (&a, 3)]);
    assert_eq!((all.len(), all.runs.len(), all.is_empty()), (5, 3, false));
    let (count, waker) = counting();
    assert!(poll(&mut all, &waker).is_none());
    b.resolve(0..2, failed());
    a.resolve(0..4, written(100));
    assert!(count.woken() >= 1);
    let runs = poll(&mut all, &waker).unwrap();
    assert_eq!(shape(&runs), [(2, Some(101)), (2, None), (1, Some(103))]);
    assert!(runs.iter().all(|run| run.partition == 3));
}

#[test]
fn receipts_of_a_burst_do_not_wait_for_the_rest_of_their_batch() {
    let batch = sealed(4);
    let mut all = collect(&[(&batch, 0), (&batch, 1)]);
    assert!(poll(&mut all, Waker::noop()).is_none());
    batch.resolve(0..2, written(5));
    assert_eq!(shape(&poll(&mut all, Waker::noop()).expect("both are told")), [(2, Some(5))]);
    assert!(!batch.is_done());
}

#[test]
fn no_receipts_are_ready_at_once() {
    assert!(BatchDeliveries::default().is_empty());
    assert_eq!(poll(&mut BatchDeliveries::default(), Waker::noop()), Some(Vec::new()));
}

#[test]
fn receipts_of_a_burst_are_woken_whichever_half_of_a_split_resolves_first() {
    for halves in [[0..2, 2..4], [2..4, 0..2]] {
        let batch = sealed(4);
        let mut all = collect(&[(&batch, 0), (&batch, 1), (&batch, 2), (&batch, 3)]);
        let (count, waker) = counting();
        assert!(poll(&mut all, &waker).is_none());
        let [first, last] = halves;
        batch.resolve(first.clone(), written(i64::from(first.start)));
        // A task polls when it is woken, and may poll when it is not.
        assert!(poll(&mut all, &waker).is_none());
        let before = count.woken();
        batch.resolve(last.clone(), written(i64::from(last.start)));
        assert_eq!(count.woken(), before + 1, "the last resolve must wake the task");
        assert_eq!(shape(&poll(&mut all, &waker).unwrap()), [(2, Some(0)), (2, Some(2))]);
    }
}

#[test]
fn receipts_of_a_burst_are_woken_after_part_of_the_batch_that_is_not_theirs() {
    let batch = sealed(4);
    let mut all = collect(&[(&batch, 0), (&batch, 1)]);
    let (count, waker) = counting();
    assert!(poll(&mut all, &waker).is_none());
    batch.resolve(2..4, written(2));
    assert!(poll(&mut all, &waker).is_none());
    let before = count.woken();
    batch.resolve(0..2, written(0));
    assert_eq!(count.woken(), before + 1);
}

#[test]
fn a_burst_waits_for_one_batch_after_the_other() {
    let (a, b) = (sealed(1), sealed(1));
    let mut all = collect(&[(&a, 0), (&b, 0)]);
    let (count, waker) = counting();
    assert!(poll(&mut all, &waker).is_none());
    a.resolve(0..1, written(0));
    assert_eq!(count.woken(), 1);
    assert!(poll(&mut all, &waker).is_none());
    b.resolve(0..1, written(9));
    assert_eq!(count.woken(), 2);
    assert_eq!(shape(&poll(&mut all, &waker).unwrap()), [(1, Some(0)), (1, Some(9))]);
}

#[test]
fn dropping_a_burst_that_waits_leaves_no_waker_behind() {
    let batch = sealed(1);
    let mut all = collect(&[(&batch, 0)]);
    let (count, waker) = counting();
    assert!(poll(&mut all, &waker).is_none());
    drop((all, waker));
    assert_eq!(Arc::strong_count(&count), 1);
    batch.resolve(0..1, written(0));
    assert_eq!(count.woken(), 0);
}

#[test]
fn threads_that_wait_drop_and_resolve_lose_no_wake_up() {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    const RECORDS: u32 = 8;
    for round in 0..500u32 {
        let batch = sealed(RECORDS);
        std::thread::scope(|scope| {
            for waiter in 0..3 {
                let batch = &batch;
                scope.spawn(move || {
                    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                    for index in (waiter..RECORDS).step_by(3) {
                        let mut delivery = receipt(batch, index);
                        if (round + index) % 4 == 0 {
                            let _ = poll(&mut delivery, &waker);
                            continue;
                        }
                        while poll(&mut delivery, &waker).is_none() {
                            std::thread::park();
                        }
                    }
                });
            }
            scope.spawn(|| {
                let middle = round % (RECORDS - 1) + 1;
                let mut halves = [0..middle, middle..RECORDS];
                halves.rotate_left((round % 2) as usize);
                for half in halves {
                    std::thread::yield_now();
                    batch.resolve(half, written(0));
                }
            });
        });
        assert!(batch.is_done());
    }
}
