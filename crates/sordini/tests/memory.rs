//! buffer.memory: waiting for it, in order and in time, and getting all of it back.

mod common;

use std::time::Duration;

use common::{broker_with, impatient, numbers, silence, values, within};
use sordini::partitioner::RoundRobin;
use sordini::{Producer, ProducerBuilder, SendError};
use sordini_broker::Server;
use sordini_protocol::ApiKey;

fn small(broker: &Server) -> ProducerBuilder {
    impatient(broker).batch_size(1024).buffer_memory(4096)
}

async fn fill(producer: &Producer) -> usize {
    let topic = producer.topic("t").expect("a legal name");
    let mut accepted = 0;
    within(topic.partitions()).await.expect("the topic exists");
    while topic.try_enqueue(vec![b'x'; 200]).is_ok() {
        accepted += 1;
    }
    accepted
}

#[tokio::test]
async fn a_full_buffer_is_an_error_after_max_block_and_not_before() {
    let broker = broker_with(1).await;
    let max_block = Duration::from_millis(100);
    let producer = small(&broker).max_block(max_block).build().await.expect("settings");
    let _silent = silence(&broker);
    assert!(fill(&producer).await > 0);
    let error = within(producer.enqueue("t", vec![b'x'; 200])).await.expect_err("no room");
    let SendError::BufferFull { waited, limit: 4096, .. } = error else { panic!("{error:?}") };
    assert!(waited >= max_block, "{waited:?}");
}

#[tokio::test]
async fn those_who_wait_for_memory_are_served_in_the_order_they_came() {
    let broker = broker_with(1).await;
    let producer = small(&broker).build().await.expect("the settings are right");
    let slow = broker.faults().on(ApiKey::Produce).always().delay(Duration::from_millis(300));
    let filled = fill(&producer).await;
    let topic = producer.topic("t").expect("a legal name");
    let mut sends = Vec::new();
    for value in numbers(50) {
        let mut send = Box::pin({
            let topic = topic.clone();
            let record = format!("{value:>200}");
            async move { topic.enqueue(record).await }
        });
        // Each takes its place in the queue before the next one comes.
        let waits = futures_poll_once(send.as_mut()).await;
        assert!(waits.is_none(), "there is no room");
        sends.push(send);
    }
    assert!(topic.try_enqueue("x").is_err(), "nobody overtakes");
    slow.cancel();
    // Awaited from the last to the first: the order is the queue's, not that of polling.
    let mut tasks: Vec<_> = sends.into_iter().rev().map(tokio::spawn).collect();
    while let Some(task) = tasks.pop() {
        within(task).await.expect("no panic").expect("room comes").detach();
    }
    let _ = within(producer.flush()).await;
    let stored = values(&broker, "t", 0).await;
    let waited: Vec<&str> = stored[filled..].iter().map(|value| value.trim()).collect();
    assert_eq!(waited, numbers(50));
}

async fn futures_poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_waiter_that_goes_away_gives_its_place_to_the_next() {
    let broker = broker_with(1).await;
    let producer = small(&broker).build().await.expect("the settings are right");
    let slow = broker.faults().on(ApiKey::Produce).always().delay(Duration::from_millis(200));
    fill(&producer).await;
    let topic = producer.topic("t").expect("a legal name");
    let mut first = Box::pin(topic.enqueue(vec![b'a'; 200]));
    assert!(futures_poll_once(first.as_mut()).await.is_none());
    let mut second = Box::pin(topic.enqueue(vec![b'b'; 200]));
    assert!(futures_poll_once(second.as_mut()).await.is_none());
    drop(first);
    slow.cancel();
    within(second).await.expect("it is served").detach();
    let _ = within(producer.flush()).await;
    let stored = values(&broker, "t", 0).await;
    assert!(stored.last().is_some_and(|last| last.starts_with('b')), "the first took it back");
    assert!(!stored.iter().any(|value| value.starts_with('a')));
}

#[tokio::test]
async fn memory_comes_back_when_records_fail() {
    let broker = broker_with(1).await;
    let described = small(&broker)
        .request_timeout(Duration::from_millis(50))
        .delivery_timeout(Duration::from_millis(100));
    let producer = described.build().await.expect("the settings are right");
    let silent = silence(&broker);
    let filled = fill(&producer).await;
    // Waits until the first ones expire.
    within(producer.enqueue("t", vec![b'x'; 200])).await.expect("room comes").detach();
    silent.cancel();
    let _ = within(producer.flush()).await;
    assert!(producer.metrics().records_unknown + producer.metrics().records_not_written > 0);
    assert_eq!(fill(&producer).await, filled, "all of the memory is there again");
}

#[tokio::test]
async fn close_refuses_those_who_wait_for_memory_at_once() {
    let broker = broker_with(1).await;
    let producer = small(&broker).build().await.expect("the settings are right");
    let _silent = silence(&broker);
    fill(&producer).await;
    let topic = producer.topic("t").expect("a legal name");
    let mut waiting = Box::pin(topic.enqueue(vec![b'x'; 200]));
    assert!(futures_poll_once(waiting.as_mut()).await.is_none());
    let closing = producer.close(Duration::from_secs(3600));
    assert_eq!(within(waiting).await.map(drop), Err(SendError::Closed));
    drop(closing);
}

#[tokio::test]
async fn exhausted_memory_sends_what_lingers() {
    let broker = broker_with(8).await;
    let hour = Duration::from_secs(3600);
    let described = small(&broker).linger(hour).delivery_timeout(2 * hour);
    let producer = described.build().await.expect("the settings are right");
    // Eight open batches of one segment each are twice what there is.
    for round in 0..4 {
        for partition in 0..8 {
            let record = sordini::Record::new(vec![b'x'; 600]).partition(partition);
            let accepted = within(producer.enqueue("t", record)).await;
            accepted.unwrap_or_else(|error| panic!("round {round}: {error}")).detach();
        }
    }
}

#[tokio::test]
async fn partitions_stay_in_turn_when_memory_is_short() {
    // KAFKA-9965: a partitioner that counts is asked once for each record, however it waits.
    let broker = broker_with(4).await;
    let producer = small(&broker).partitioner(RoundRobin::new()).build().await;
    let producer = producer.expect("the settings are right");
    let topic = producer.topic("t").expect("a legal name");
    for value in numbers(40) {
        within(topic.enqueue(format!("{value:>900}"))).await.expect("room in the end").detach();
    }
    let records = (40..80).map(|value| format!("{value:>900}"));
    within(topic.appender().extend(records)).await.expect("room in the end").detach();
    assert!(within(producer.flush()).await.is_clean());
    for partition in 0..4 {
        let written = values(&broker, "t", partition).await;
        let written: Vec<usize> =
            written.iter().map(|it| it.trim().parse().expect("a number")).collect();
        let turns: Vec<usize> = (partition as usize..80).step_by(4).collect();
        assert_eq!(written, turns);
    }
}
