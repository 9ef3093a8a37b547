//! Every future of the API, dropped at each of its awaits: what was not accepted is taken back,
//! what was is delivered, and nobody else's place, memory or answer is lost.

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{broker, broker_with, impatient, numbers, producer, silence, values, within};
use sordini::{Producer, Record};
use sordini_broker::Server;
use sordini_protocol::ApiKey;

/// Polls `future` at most `polls` times, as often as it is woken or a millisecond passes, and
/// drops it. The output, if it came to that.
async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let once = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx)));
        if let Poll::Ready(output) = once.await {
            return Some(output);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

/// A future that was dropped at its first await.
fn dropped_at_once(future: impl Future) {
    let pending = pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending();
    assert!(pending, "there was something to wait for");
}

/// The producer still works, and all of its memory is free.
async fn is_sound(broker: &Server, producer: &Producer) {
    let last = Record::new("the last").partition(0);
    let last = within(producer.enqueue("t", last)).await.expect("there is room");
    let _ = within(producer.flush()).await;
    within(last).await.expect("it is written");
    assert_eq!(values(broker, "t", 0).await.last().map(String::as_str), Some("the last"));
    let report = within(producer.close(Duration::from_secs(30))).await;
    assert!(report.is_clean());
}

#[tokio::test]
async fn a_send_that_waits_for_its_topic_can_be_dropped_at_each_await() {
    for polls in 1..8 {
        let broker = broker_with(1).await;
        let producer = producer(&broker).await;
        let topic = producer.topic("t").expect("a legal name");
        let slow = broker.faults().on(ApiKey::Metadata).delay(Duration::from_millis(4));
        // Others wait before and behind it.
        let before = tokio::spawn({
            let topic = topic.clone();
            async move { topic.enqueue("before").await.map(drop) }
        });
        tokio::task::yield_now().await;
        let accepted = dropped_after(polls, topic.enqueue("dropped")).await.is_some();
        let behind = within(topic.enqueue("behind")).await.expect("it is served");
        within(before).await.expect("no panic").expect("it is served");
        within(behind).await.expect("it is written");
        slow.cancel();
        let mut expected = vec!["before"];
        expected.extend(accepted.then_some("dropped"));
        expected.push("behind");
        assert_eq!(values(&broker, "t", 0).await, expected, "dropped after {polls} polls");
        is_sound(&broker, &producer).await;
    }
}

#[tokio::test]
async fn a_send_that_waits_for_memory_can_be_dropped_at_each_await() {
    for polls in 1..8 {
        let broker = broker_with(1).await;
        let small = impatient(&broker).batch_size(1024).buffer_memory(3072);
        let producer = small.build().await.expect("the settings are right");
        let topic = producer.topic("t").expect("a legal name");
        within(topic.send("first")).await.expect("it is written");
        let _slow = broker.faults().on(ApiKey::Produce).times(2).delay(Duration::from_millis(4));
        let mut filled = 0;
        while topic.try_enqueue(vec![b'f'; 500]).is_ok() {
            filled += 1;
        }
        let dropped = vec![b'd'; 500];
        let accepted = dropped_after(polls, topic.enqueue(dropped)).await.is_some();
        let behind = within(topic.enqueue("behind")).await.expect("it is served");
        within(behind).await.expect("it is written");
        let stored = values(&broker, "t", 0).await;
        assert_eq!(stored.len(), 2 + filled + usize::from(accepted), "after {polls} polls");
        assert_eq!(stored.iter().any(|value| value.starts_with('d')), accepted);
        is_sound(&broker, &producer).await;
    }
}

#[tokio::test]
async fn a_send_that_was_accepted_is_delivered_though_its_future_is_dropped() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    within(topic.partitions()).await.expect("it exists");
    dropped_at_once(topic.send("v"));
    assert_eq!(within(producer.flush()).await.written, 1);
    assert_eq!(values(&broker, "t", 0).await, ["v"]);
    is_sound(&broker, &producer).await;
}

#[tokio::test]
async fn sends_by_name_and_detached_ones_take_back_what_was_not_accepted() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    dropped_at_once(producer.send("t", "a"));
    dropped_at_once(producer.enqueue("t", "b"));
    dropped_at_once(topic.send("c"));
    dropped_at_once(topic.enqueue_detached("d"));
    is_sound(&broker, &producer).await;
    assert_eq!(values(&broker, "t", 0).await, ["the last"]);
}

#[tokio::test]
async fn a_delivery_can_be_dropped_while_others_of_its_batch_wait() {
    let broker = broker_with(1).await;
    let lazy = impatient(&broker).linger(Duration::from_millis(20));
    let producer = lazy.build().await.expect("the settings are right");
    let mut deliveries = Vec::new();
    for value in numbers(10) {
        deliveries.push(within(producer.enqueue("t", value)).await.expect("there is room"));
    }
    let kept = deliveries.split_off(5);
    for delivery in deliveries {
        dropped_after(1, delivery).await;
    }
    for delivery in kept {
        within(delivery).await.expect("it is written");
    }
    is_sound(&broker, &producer).await;
}

#[tokio::test]
async fn the_receipts_of_a_run_can_be_dropped() {
    let broker = broker_with(2).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    within(topic.partitions()).await.expect("it exists");
    let runs = within(topic.appender().extend(numbers(1000))).await.expect("there is room");
    dropped_after(1, runs).await;
    assert_eq!(within(producer.flush()).await.not_written, 0);
    let stored = values(&broker, "t", 0).await.len() + values(&broker, "t", 1).await.len();
    assert_eq!(stored, 1000);
    is_sound(&broker, &producer).await;
}

#[tokio::test]
async fn an_extend_can_be_dropped_at_each_await_and_what_it_accepted_is_a_prefix() {
    for polls in 1..12 {
        let broker = broker_with(1).await;
        let small = impatient(&broker).batch_size(1024).buffer_memory(4096);
        let producer = small.build().await.expect("the settings are right");
        let topic = producer.topic("t").expect("a legal name");
        let mut appender = topic.appender();
        let all = dropped_after(polls, appender.extend(numbers(2000))).await.is_some();
        let _ = within(producer.flush()).await;
        let stored = values(&broker, "t", 0).await;
        assert_eq!(stored[..], numbers(2000)[..stored.len()], "dropped after {polls} polls");
        assert!(!all || stored.len() == 2000);
        is_sound(&broker, &producer).await;
    }
}

#[tokio::test]
async fn a_flush_that_is_dropped_ends_the_wait_and_not_the_sending() {
    let broker = broker_with(1).await;
    let lazy = impatient(&broker).linger(Duration::from_secs(50));
    let producer = lazy.build().await.expect("the settings are right");
    let delivery = within(producer.enqueue("t", "v")).await.expect("there is room");
    drop(producer.flush());
    within(delivery).await.expect("it is sent at once all the same");
    let another = within(producer.enqueue("t", "w")).await.expect("there is room");
    dropped_at_once(producer.flush());
    within(another).await.expect("it is sent at once all the same");
    is_sound(&broker, &producer).await;
}

#[tokio::test]
async fn a_close_that_is_dropped_closes_all_the_same() {
    let broker = broker_with(1).await;
    let lazy = impatient(&broker).linger(Duration::from_secs(50));
    let producer = lazy.build().await.expect("the settings are right");
    let delivery = within(producer.enqueue("t", "v")).await.expect("there is room");
    drop(producer.close(Duration::from_secs(30)));
    assert!(within(producer.enqueue("t", "w")).await.is_err());
    within(delivery).await.expect("it is delivered");
    assert_eq!(within(producer.close(Duration::from_secs(30))).await.written, 1);
}

#[tokio::test]
async fn a_dropped_close_leaves_failed_records_to_the_next() {
    let broker = broker_with(1).await;
    let _silent = silence(&broker);
    let keeping = impatient(&broker).return_failed(true);
    let producer = keeping.build().await.expect("the settings are right");
    within(producer.enqueue("t", "v")).await.expect("there is room").detach();
    drop(producer.close(Duration::from_millis(20)));
    let report = within(producer.close(Duration::from_secs(3600))).await;
    assert_eq!(report.failed.len(), 1);
}

#[tokio::test]
async fn waiting_for_partitions_can_be_dropped_at_each_await() {
    for polls in 1..6 {
        let broker = broker_with(1).await;
        let producer = producer(&broker).await;
        let _slow = broker.faults().on(ApiKey::Metadata).delay(Duration::from_millis(3));
        dropped_after(polls, producer.partitions_for("t")).await;
        assert_eq!(within(producer.partitions_for("t")).await.expect("it exists").len(), 1);
        is_sound(&broker, &producer).await;
    }
}

#[tokio::test]
async fn a_topic_that_nobody_waits_for_any_more_is_left_alone() {
    let broker = Server::builder().auto_create(false).start().await.expect("a broker");
    let producer = producer(&broker).await;
    dropped_after(20, producer.enqueue("nope", "v")).await;
    broker.create_topic("t", 1, &[]).await.expect("a new topic");
    is_sound(&broker, &producer).await;
}

#[tokio::test]
async fn a_build_that_is_dropped_leaves_nothing() {
    let broker = broker().await;
    drop(impatient(&broker).build());
    let producer = impatient(&broker).build().await.expect("the settings are right");
    drop(producer);
    tokio::task::yield_now().await;
    assert_eq!(broker.monitor().connections(), 0, "nobody is asked before the first record");
}

#[tokio::test]
async fn an_iterator_that_panics_inside_extend_spoils_no_batch() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    let mut appender = topic.appender();
    // What was taken from it in full runs before is accepted.
    let records = (0..100).map(|i| {
        assert!(i < 40, "an iterator, as ordered");
        i.to_string()
    });
    let extended = tokio::spawn(async move { appender.extend(records).await.map(drop) });
    assert!(within(extended).await.expect_err("it panicked").is_panic());
    within(topic.send("after")).await.expect("it is written");
    assert!(within(producer.flush()).await.is_clean());
    let mut expected = numbers(32);
    expected.push("after".to_owned());
    assert_eq!(values(&broker, "t", 0).await, expected);
}
