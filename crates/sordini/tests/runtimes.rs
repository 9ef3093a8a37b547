//! Every flavour of runtime, runtimes that go away, drivers that end, and no runtime at all.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use common::{broker, broker_with, impatient, numbers, producer, silence, values, within};
use sordini::{BuildError, Cause, DeliveryError, Fate, Producer, SendError};
use sordini_broker::Server;
use sordini_protocol::ApiKey;
use tokio::runtime::{Builder, Runtime};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor that is not tokio's: no timers, no I/O, one future.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Fails the test, instead of hanging it, if `work` blocks.
fn promptly<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::channel();
    thread::spawn(move || drop(done.send(work())));
    result.recv_timeout(common::LIMIT).expect("this blocks")
}

/// A producer on a runtime of its own, at a broker that does not answer Produce.
fn stuck() -> (Runtime, Server, Runtime, Producer) {
    let brokers = runtime();
    let broker = brokers.block_on(broker_with(1));
    silence(&broker);
    let producers = runtime();
    let small = impatient(&broker).batch_size(1024).buffer_memory(2048);
    let producer = producers.block_on(small.build()).expect("the settings are right");
    (brokers, broker, producers, producer)
}

#[test]
fn a_runtime_that_is_gone_resolves_everything_and_blocks_nobody() {
    promptly(|| {
        let (brokers, broker, producers, producer) = stuck();
        let topic = producer.topic("t").expect("a legal name");
        let sent = producers.block_on(topic.enqueue("sent")).expect("there is room");
        while broker.monitor().requests(ApiKey::Produce) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let queued = producers.block_on(topic.enqueue("queued")).expect("there is room");
        let waiting = thread::spawn({
            let topic = topic.clone();
            move || loop {
                // At some point this waits for memory.
                match block_on(topic.enqueue(vec![b'x'; 500])) {
                    Ok(delivery) => delivery.detach(),
                    Err(error) => return error,
                }
            }
        });
        thread::sleep(Duration::from_millis(20));
        let flush = producer.flush();
        let close = producer.close(Duration::from_secs(3600));
        drop(producers);

        assert_eq!(waiting.join().expect("no panic"), SendError::Closed);
        let error = block_on(sent).expect_err("it was never answered");
        assert_eq!((error.fate, &error.cause), (Fate::Unknown, &Cause::DriverGone));
        let error = block_on(queued).expect_err("it was never sent");
        assert_eq!((error.fate, &error.cause), (Fate::NotWritten, &Cause::DriverGone));
        assert!(!block_on(flush).is_clean());
        let report = block_on(close);
        assert_eq!((report.written, report.unknown), (0, 1));
        assert_eq!(block_on(topic.enqueue("late")).map(drop), Err(SendError::Closed));
        assert_eq!(block_on(producer.close(Duration::from_secs(1))), report);
        drop((producer, topic));
        drop(broker);
        drop(brokers);
    });
}

#[test]
fn a_producer_outlives_its_runtime_without_anything_pending() {
    promptly(|| {
        let brokers = runtime();
        let broker = brokers.block_on(broker_with(1));
        let producers = runtime();
        let producer = producers.block_on(producer(&broker));
        producers.block_on(producer.send("t", "v")).expect("it is written");
        drop(producers);
        assert_eq!(block_on(producer.enqueue("t", "v")).map(drop), Err(SendError::Closed));
        assert_eq!(block_on(producer.close(Duration::ZERO)).written, 1);
    });
}

#[test]
fn sends_work_on_any_executor() {
    promptly(|| {
        let runtime = runtime();
        let broker = runtime.block_on(broker_with(1));
        let small = impatient(&broker).batch_size(1024).buffer_memory(4096);
        let producer = runtime.block_on(small.build()).expect("the settings are right");
        let topic = producer.topic("t").expect("a legal name");
        for value in numbers(2000) {
            block_on(topic.enqueue(value)).expect("room comes").detach();
        }
        assert!(block_on(producer.flush()).is_clean());
        assert_eq!(runtime.block_on(values(&broker, "t", 0)), numbers(2000));

        silence(&broker);
        let impatient = impatient(&broker).max_block(Duration::from_millis(50));
        let impatient = impatient.batch_size(1024).buffer_memory(2048);
        let producer = runtime.block_on(impatient.build()).expect("the settings are right");
        let error = loop {
            if let Err(error) = block_on(producer.enqueue("t", vec![b'x'; 500])) {
                break error;
            }
        };
        assert!(matches!(error, SendError::BufferFull { .. }), "{error}");
    });
}

#[test]
fn without_a_runtime_nothing_is_built() {
    let error = block_on(Producer::builder("localhost:1").build()).expect_err("no runtime");
    assert_eq!(error, BuildError::NoRuntime);
}

#[tokio::test(flavor = "current_thread")]
async fn sends_that_never_wait_do_not_starve_the_driver_on_one_thread() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    within(topic.send("0")).await.expect("it is written");
    // Far less than buffer.memory: no send ever has to wait for the driver.
    for value in &numbers(100_001)[1..] {
        within(topic.enqueue(value.as_str())).await.expect("there is room").detach();
    }
    assert!(producer.metrics().records_taken > 1, "the driver had its turn meanwhile");
    assert!(within(producer.flush()).await.is_clean());
    assert_eq!(values(&broker, "t", 0).await.len(), 100_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_share_one_producer() {
    let broker = broker_with(6).await;
    let producer = producer(&broker).await;
    let send = |task: usize| {
        let topic = producer.topic("t").expect("a legal name");
        tokio::spawn(async move {
            for value in 0..2000 {
                let value = format!("{task}/{value}");
                topic.enqueue(value).await.expect("there is room").detach();
            }
        })
    };
    for task in (0..8).map(send).collect::<Vec<_>>() {
        within(task).await.expect("no panic");
    }
    let report = within(producer.close(Duration::from_secs(30))).await;
    assert_eq!((report.written, report.is_clean()), (16_000, true));
    let mut all = Vec::new();
    for partition in 0..6 {
        all.extend(values(&broker, "t", partition).await);
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 16_000);
}

#[tokio::test]
async fn a_driver_of_ones_own_drives() {
    let broker = broker_with(1).await;
    let (producer, driver) = impatient(&broker).build_parts().expect("the settings are right");
    let send = producer.send("t", "v");
    let driver = tokio::spawn(driver);
    within(send).await.expect("it is written");
    let _ = within(producer.close(Duration::from_secs(10))).await;
    within(driver).await.expect("it ends with its producer");
}

#[tokio::test]
async fn a_dropped_driver_resolves_everything() {
    let broker = broker().await;
    let (producer, driver) = impatient(&broker).build_parts().expect("the settings are right");
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.enqueue("t", "v").await.map(drop) }
    });
    tokio::task::yield_now().await;
    let flush = producer.flush();
    drop(driver);
    assert_eq!(within(waiting).await.expect("no panic"), Err(SendError::Closed));
    let _ = within(flush).await;
    assert_eq!(within(producer.enqueue("t", "v")).await.map(drop), Err(SendError::Closed));
    assert!(within(producer.close(Duration::from_secs(60))).await.is_clean());
}

#[tokio::test]
async fn a_runtime_whose_clock_is_paused_pauses_linger() {
    let broker = broker_with(1).await;
    let minute = Duration::from_secs(60);
    let lazy = impatient(&broker).linger(minute);
    let producer = lazy.build().await.expect("the settings are right");
    let delivery = within(producer.enqueue("t", "v")).await.expect("there is room");
    tokio::time::pause();
    let written: Result<_, Arc<DeliveryError>> = delivery.await;
    written.expect("the paused clock jumps over the minute");
}
