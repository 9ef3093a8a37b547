//! Order and exactly-once under every kind of failure, five batches in flight.

mod common;

use std::time::Duration;

use common::{broker_with, impatient, numbers, producer, values, within};
use sordini::{Producer, Record};
use sordini_broker::Server;
use sordini_protocol::{ApiKey, ErrorCode};

/// Sends `count` records as one batch each, without waiting in between.
async fn send_singly(producer: &Producer, count: usize) {
    let topic = producer.topic("t").expect("a legal name");
    let mut deliveries = Vec::new();
    for value in numbers(count) {
        deliveries.push(within(topic.enqueue(value)).await.expect("there is room"));
    }
    for delivery in deliveries {
        within(delivery).await.expect("it is written in the end");
    }
}

async fn one_record_a_batch(broker: &Server) -> Producer {
    let described = impatient(broker).batch_size(0);
    described
        .request_timeout(Duration::from_millis(300))
        .build()
        .await
        .expect("the settings are right")
}

#[tokio::test]
async fn five_batches_of_one_partition_are_in_flight_at_a_slow_broker() {
    let broker = broker_with(1).await;
    let producer = one_record_a_batch(&broker).await;
    within(producer.send("t", "0")).await.expect("the first ack opens the window");
    broker.monitor().clear();
    let slow = broker.faults().on(ApiKey::Produce).always().delay(Duration::from_millis(20));
    let topic = producer.topic("t").expect("a legal name");
    for value in 1..=50 {
        within(topic.enqueue(value.to_string())).await.expect("there is room").detach();
    }
    let _ = within(producer.flush()).await;
    slow.cancel();
    assert_eq!(broker.monitor().max_in_flight("t", 0), 5);
    let expected: Vec<String> = (0..=50).map(|i| i.to_string()).collect();
    assert_eq!(values(&broker, "t", 0).await, expected);
}

#[tokio::test]
async fn until_the_first_acknowledgement_one_batch_is_in_flight() {
    let broker = broker_with(1).await;
    let producer = one_record_a_batch(&broker).await;
    let slow = broker.faults().on(ApiKey::Produce).always().delay(Duration::from_millis(50));
    let topic = producer.topic("t").expect("a legal name");
    let first = within(topic.enqueue("0")).await.expect("there is room");
    within(topic.enqueue("1")).await.expect("there is room").detach();
    within(first).await.expect("it is written");
    assert_eq!(broker.monitor().max_in_flight("t", 0), 1);
    slow.cancel();
    let _ = within(producer.flush()).await;
}

/// Something that goes wrong with the n-th request from now on, and its name.
type Failure<'a> = (&'static str, Box<dyn Fn(u64) + 'a>);

fn failures(broker: &Server) -> Vec<Failure<'_>> {
    let at = |n: u64| broker.faults().on(ApiKey::Produce).nth(n);
    let mut failures: Vec<Failure<'_>> = Vec::new();
    for code in [
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::LeaderNotAvailable,
        ErrorCode::NotEnoughReplicas,
        ErrorCode::NetworkException,
        ErrorCode::CorruptMessage,
        ErrorCode::KafkaStorageError,
        ErrorCode::RequestTimedOut,
        ErrorCode::UnknownTopicOrPartition,
    ] {
        failures.push((code.name(), Box::new(move |n| drop(at(n).error(code)))));
    }
    for code in [ErrorCode::NotEnoughReplicasAfterAppend, ErrorCode::RequestTimedOut] {
        let after = move |n| drop(at(n).after_append().error(code));
        failures.push(("an error after the append", Box::new(after)));
    }
    failures.push(("closed before the append", Box::new(move |n| drop(at(n).close_connection()))));
    let closed = move |n| drop(at(n).after_append().close_connection());
    failures.push(("closed after the append", Box::new(closed)));
    let silent = move |n| drop(at(n).drop_response_after_append());
    failures.push(("silent after the append", Box::new(silent)));
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_survives_every_kind_of_failure_and_nothing_is_doubled() {
    let reference = broker_with(1).await;
    let kinds = failures(&reference).len();
    for kind in 0..kinds {
        // The first batch, one in the middle of the window, and two in a row.
        for struck in [&[1][..], &[8], &[9, 10]] {
            let broker = broker_with(1).await;
            let producer = one_record_a_batch(&broker).await;
            let all = failures(&broker);
            let (name, strike) = &all[kind];
            struck.iter().for_each(|n| strike(*n));
            send_singly(&producer, 60).await;
            assert_eq!(values(&broker, "t", 0).await, numbers(60), "{name} at {struck:?}");
            assert!(producer.metrics().retries > 0, "{name} at {struck:?}: nothing was struck");
        }
    }
}

#[tokio::test]
async fn a_batch_that_fails_for_good_stalls_nobody_and_leaves_the_rest_in_order() {
    let broker = broker_with(2).await;
    let producer = one_record_a_batch(&broker).await;
    within(producer.send("t", Record::new("first").partition(0))).await.expect("written");
    broker.faults().on(ApiKey::Produce).partition("t", 0).nth(3).error(ErrorCode::InvalidRecord);
    let topic = producer.topic("t").expect("a legal name");
    let mut deliveries = Vec::new();
    for value in numbers(40) {
        for partition in 0..2 {
            let record = Record::new(value.as_str()).partition(partition);
            deliveries.push(within(topic.enqueue(record)).await.expect("there is room"));
        }
    }
    let mut failed = Vec::new();
    for (index, delivery) in deliveries.into_iter().enumerate() {
        if let Err(error) = within(delivery).await {
            assert_eq!(error.fate, sordini::Fate::NotWritten, "{error}");
            failed.push((index / 2).to_string());
        }
    }
    assert!(!failed.is_empty());
    let mut left = vec!["first".to_owned()];
    left.extend(numbers(40).into_iter().filter(|value| !failed.contains(value)));
    assert_eq!(values(&broker, "t", 0).await, left);
    assert_eq!(values(&broker, "t", 1).await, numbers(40), "the other partition went on");
    assert!(producer.metrics().epoch_bumps > 0);
}

#[tokio::test]
async fn a_leader_that_an_error_names_is_used_at_once() {
    // Two brokers that know the topic by the same id; the first one says that it moved (KIP-951).
    let start = |node| Server::builder().node_id(node).id_seed(7).start();
    let old = start(1).await.expect("a broker");
    let new = start(2).await.expect("a broker");
    for broker in [&old, &new] {
        broker.create_topic("t", 1, &[]).await.expect("a new topic");
    }
    let producer = producer(&old).await;
    within(producer.send("t", "at the old one")).await.expect("it is written");
    // From now on nobody tells where the leader is but the error itself.
    for broker in [&old, &new] {
        broker.faults().on(ApiKey::Metadata).always().drop_response_after_append();
    }
    let moved = old.faults().on(ApiKey::Produce).always();
    let endpoint = ("127.0.0.1", new.addr().port());
    let moved = moved.leader(2, 100, Some(endpoint)).error(ErrorCode::NotLeaderOrFollower);
    within(producer.send("t", "at the new one")).await.expect("it is written");
    assert_eq!(moved.hits(), 1, "the old leader was not tried again");
    assert_eq!(values(&old, "t", 0).await, ["at the old one"]);
    assert_eq!(values(&new, "t", 0).await, ["at the new one"]);
}

#[tokio::test]
async fn without_idempotence_one_request_in_flight_keeps_the_order() {
    let broker = broker_with(1).await;
    let described = impatient(&broker).batch_size(0).idempotence(false);
    let described = described.set("max.in.flight.requests.per.connection", "1");
    let producer = described.expect("supported").build().await.expect("the settings are right");
    broker.faults().on(ApiKey::Produce).nth(5).times(3).error(ErrorCode::NotLeaderOrFollower);
    send_singly(&producer, 50).await;
    assert_eq!(values(&broker, "t", 0).await, numbers(50));
    assert!(broker.produce_log().iter().all(|batch| batch.producer_id == -1));
}

#[tokio::test]
async fn keys_stay_in_order_over_partitions() {
    let broker = broker_with(3).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    broker.faults().on(ApiKey::Produce).nth(3).times(2).close_connection();
    for value in numbers(3000) {
        let key = format!("key {}", value.len() + value.parse::<usize>().expect("a number") % 17);
        within(topic.enqueue(Record::new(value).key(key))).await.expect("room").detach();
    }
    assert!(within(producer.flush()).await.is_clean());
    let mut total = 0;
    for partition in 0..3 {
        let mut last = std::collections::BTreeMap::new();
        for record in broker.records("t", partition).await.expect("the partition exists") {
            let value = String::from_utf8(record.value.expect("a value")).expect("text");
            let value: i64 = value.parse().expect("a number");
            let before = last.insert(record.key, value).unwrap_or(-1);
            assert!(before < value, "{before} stands before {value}");
            total += 1;
        }
    }
    assert_eq!(total, 3000);
}
