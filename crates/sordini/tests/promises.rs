//! One test for each promise of each public method.

mod common;

use std::time::Duration;

use common::{broker, broker_with, impatient, numbers, producer, silence, values, within};
use sordini::{
    Acks, BuildError, Cause, Codec, Deduplicated, Fate, Outcome, ProduceError, Producer, Record,
    SendError, guarantees,
};
use sordini_protocol::{ApiKey, ErrorCode};

fn is_handle<T: Clone + Send + Sync + 'static>() {}
fn is_send<T: Send>(value: T) -> T {
    value
}

#[test]
fn handles_can_be_cloned_and_sent_between_threads() {
    is_handle::<Producer>();
    is_handle::<sordini::Topic>();
    fn is_sync<T: Send + Sync + 'static>() {}
    is_sync::<sordini::Delivery>();
    is_sync::<sordini::BatchDeliveries>();
}

#[tokio::test]
async fn a_record_that_is_sent_is_written_where_it_says() {
    let broker = broker_with(3).await;
    let producer = producer(&broker).await;
    let written = within(is_send(producer.send("t", "hello"))).await.expect("it is written");
    assert_eq!(written.offset, Some(0));
    assert_eq!(written.deduplicated, Deduplicated::No);
    assert_eq!(values(&broker, "t", written.partition).await, ["hello"]);
}

#[tokio::test]
async fn every_part_of_a_record_arrives() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let full = Record::new("value").key("key").timestamp(1_700_000_000_123);
    let full = full.header("h", "1").null_header("h").header("", vec![0xff]);
    let written = within(producer.send("t", full)).await.expect("it is written");
    assert_eq!(written.timestamp, 1_700_000_000_123);
    within(producer.send("t", Record::tombstone(""))).await.expect("it is written");
    within(producer.send("t", "")).await.expect("it is written");

    let stored = broker.records("t", 0).await.expect("the partition exists");
    assert_eq!(stored[0].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(stored[0].value.as_deref(), Some(&b"value"[..]));
    assert_eq!(stored[0].timestamp, 1_700_000_000_123);
    let headers = [(b"h".to_vec(), Some(b"1".to_vec())), (b"h".to_vec(), None)];
    assert_eq!(stored[0].headers[..2], headers);
    assert_eq!(stored[0].headers[2], (Vec::new(), Some(vec![0xff])));
    assert_eq!((stored[1].key.as_deref(), stored[1].value.as_deref()), (Some(&b""[..]), None));
    assert_eq!((stored[2].key.as_deref(), stored[2].value.as_deref()), (None, Some(&b""[..])));
}

#[tokio::test]
async fn a_topic_that_stamps_records_tells_its_time() {
    let broker = broker().await;
    let stamps = [("message.timestamp.type", "LogAppendTime")];
    broker.create_topic("t", 1, &stamps).await.expect("a new topic");
    let producer = producer(&broker).await;
    let record = Record::new("v").timestamp(1);
    let written = within(producer.send("t", record)).await.expect("it is written");
    assert!(written.timestamp > 1_700_000_000_000, "{}", written.timestamp);
}

#[tokio::test]
async fn enqueue_keeps_the_order_of_the_calls() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    for value in numbers(5000) {
        within(is_send(topic.enqueue(value))).await.expect("there is room").detach();
    }
    assert!(within(producer.flush()).await.is_clean());
    assert_eq!(values(&broker, "t", 0).await, numbers(5000));
}

#[tokio::test]
async fn a_delivery_tells_the_outcome_whenever_it_is_asked() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let first = within(producer.enqueue("t", "a")).await.expect("there is room");
    let second = within(producer.enqueue("t", "b")).await.expect("there is room");
    let late = within(second).await.expect("it is written");
    let early = first.outcome().expect("the first came before").expect("it is written");
    assert_eq!((early.offset, late.offset), (Some(0), Some(1)));
    assert_eq!(within(first).await, Ok(early));
}

#[tokio::test]
async fn a_detached_record_is_delivered_all_the_same() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let topic = producer.topic("t").expect("a legal name");
    within(topic.enqueue_detached("a")).await.expect("there is room");
    within(topic.enqueue("b")).await.expect("there is room").detach();
    drop(within(topic.enqueue("c")).await.expect("there is room"));
    assert_eq!(within(producer.flush()).await.written, 3);
    assert_eq!(values(&broker, "t", 0).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn try_enqueue_never_waits() {
    let broker = broker_with(1).await;
    let small = impatient(&broker).batch_size(1024).buffer_memory(4096);
    let producer = small.build().await.expect("the settings are right");
    let topic = producer.topic("t").expect("a legal name");
    let unknown = topic.try_enqueue("a").expect_err("the partitions are not known yet");
    assert!(matches!(unknown, SendError::Metadata { .. }), "{unknown}");
    // The refusal asked for them.
    while topic.try_enqueue("a").is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let _silent = silence(&broker);
    let full = loop {
        if let Err(error) = topic.try_enqueue(vec![b'x'; 500]) {
            break error;
        }
    };
    assert!(matches!(full, SendError::BufferFull { limit: 4096, .. }), "{full}");
}

#[tokio::test]
async fn an_appender_keeps_the_order_and_tells_of_every_record() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let mut appender = producer.topic("t").expect("a legal name").appender();
    let deliveries = within(is_send(appender.extend(numbers(10_000)))).await.expect("room");
    assert_eq!(deliveries.len(), 10_000);
    let mut next = 0;
    for run in within(deliveries).await {
        let Outcome::Written { base_offset, .. } = run.outcome else { panic!("{run:?}") };
        assert_eq!((run.partition, base_offset), (0, Some(next)));
        next += i64::from(run.count);
    }
    assert_eq!(next, 10_000);
    assert_eq!(values(&broker, "t", 0).await, numbers(10_000));
}

#[tokio::test]
async fn an_appender_says_which_records_it_accepted_before_an_error() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let mut appender = producer.topic("t").expect("a legal name").appender();
    let records = (0..100).map(|i| vec![b'x'; if i == 70 { 2 << 20 } else { 10 }]);
    let error = within(appender.extend(records)).await.expect_err("number 70 is too large");
    assert!(matches!(error.error, SendError::TooLarge { setting: "max.request.size", .. }));
    assert_eq!(error.accepted.len(), 70);
    assert_eq!(within(producer.flush()).await.written, 70);
}

#[tokio::test]
async fn partitions_for_lists_them_in_order() {
    let broker = broker_with(5).await;
    let producer = producer(&broker).await;
    let partitions = within(is_send(producer.partitions_for("t"))).await.expect("it exists");
    let ids: Vec<i32> = partitions.iter().map(|partition| partition.partition).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    assert!(partitions.iter().all(|partition| partition.has_leader));
}

#[tokio::test]
async fn flush_does_not_wait_for_linger() {
    let broker = broker_with(1).await;
    let hour = Duration::from_secs(3600);
    let lazy = impatient(&broker).linger(hour).delivery_timeout(2 * hour);
    let producer = lazy.build().await.expect("the settings are right");
    let delivery = within(producer.enqueue("t", "a")).await.expect("there is room");
    let report = within(is_send(producer.flush())).await;
    assert_eq!((report.written, report.is_clean()), (1, true));
    assert!(delivery.outcome().expect("flushed").is_ok());
}

#[tokio::test]
async fn flush_waits_for_what_came_before_the_call_and_not_for_what_comes_after() {
    let broker = broker_with(2).await;
    let hour = Duration::from_secs(3600);
    let lazy = impatient(&broker).linger(hour).delivery_timeout(2 * hour);
    let producer = lazy.build().await.expect("the settings are right");
    let to = |partition| Record::new("a").partition(partition);
    let before = within(producer.enqueue("t", to(0))).await.expect("there is room");
    let flush = producer.flush();
    let after = within(producer.enqueue("t", to(1))).await.expect("there is room");
    let _ = within(flush).await;
    assert!(before.outcome().is_some());
    assert!(after.outcome().is_none(), "it still waits for company");
    let _ = within(producer.flush()).await;
    assert!(after.outcome().is_some());
}

#[tokio::test]
async fn flush_tells_what_failed() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    broker.faults().on(ApiKey::Produce).error(ErrorCode::InvalidRecord);
    within(producer.enqueue("t", "a")).await.expect("there is room").detach();
    let report = within(producer.flush()).await;
    assert_eq!((report.written, report.not_written, report.unknown), (0, 1, 0));
    assert!(!report.is_clean());
}

#[tokio::test]
async fn close_delivers_what_was_accepted_and_refuses_what_comes_later() {
    let broker = broker_with(1).await;
    let hour = Duration::from_secs(3600);
    let lazy = impatient(&broker).linger(hour).delivery_timeout(2 * hour);
    let producer = lazy.build().await.expect("the settings are right");
    let clone = producer.clone();
    let topic = producer.topic("t").expect("a legal name");
    let deliveries = within(topic.appender().extend(numbers(100))).await.expect("there is room");
    let report = within(is_send(producer.close(Duration::from_secs(30)))).await;
    assert_eq!((report.written, report.is_clean()), (100, true));
    assert_eq!(report.to_string(), "100 written, 0 not written, 0 possibly written");
    let outcomes = within(deliveries).await;
    assert!(outcomes.iter().all(|run| matches!(run.outcome, Outcome::Written { .. })));
    assert_eq!(values(&broker, "t", 0).await, numbers(100));

    for refused in [
        within(clone.enqueue("t", "x")).await.map(drop),
        within(clone.enqueue("new", "x")).await.map(drop),
        topic.try_enqueue("x").map(drop),
        within(topic.enqueue_detached("x")).await,
        within(clone.partitions_for("other")).await.map(drop),
    ] {
        assert_eq!(refused, Err(SendError::Closed));
    }
    let again = within(clone.close(Duration::ZERO)).await;
    assert_eq!(again, report, "close is shared by clones and can be called again");
    let _ = within(clone.flush()).await;
}

#[tokio::test]
async fn close_gives_up_at_its_deadline_and_hands_the_records_back() {
    let broker = broker_with(1).await;
    let _silent = silence(&broker);
    let keeping = impatient(&broker).return_failed(true).compression(Codec::Gzip);
    let producer = keeping.build().await.expect("the settings are right");
    let record = Record::new("v").key("k").header("h", "1").null_header("n").timestamp(77);
    let sent = within(producer.enqueue("t", record.clone())).await.expect("there is room");
    while broker.monitor().requests(ApiKey::Produce) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting = within(producer.enqueue("t", "later")).await.expect("there is room");
    let report = within(producer.close(Duration::from_millis(50))).await;
    assert_eq!((report.written, report.not_written, report.unknown), (0, 1, 1));
    assert_eq!(report.failed.len(), 2);
    assert_eq!(report.failed[0].to_record(), record.partition(0));
    assert_eq!(report.failed[0].error.fate, Fate::Unknown);
    assert_eq!(
        report.failed[1].error.fate,
        Fate::NotWritten,
        "one is in flight until the first ack"
    );
    let error = within(sent).await.expect_err("the broker was silent");
    assert_eq!((error.fate, &error.cause), (Fate::Unknown, &Cause::Closed));
    assert_eq!(within(waiting).await.expect_err("never sent").fate, Fate::NotWritten);
}

#[tokio::test]
async fn a_second_close_may_bring_the_end_forward() {
    let broker = broker_with(1).await;
    let _silent = silence(&broker);
    let producer = producer(&broker).await;
    within(producer.enqueue("t", "a")).await.expect("there is room").detach();
    let patient = producer.close(Duration::from_secs(3600));
    let report = within(producer.close(Duration::from_millis(20))).await;
    assert_eq!(report.written, 0);
    assert_eq!(within(patient).await, report);
}

#[tokio::test]
async fn failed_records_can_be_taken_and_sent_again() {
    let broker = broker_with(3).await;
    let keeping = impatient(&broker).return_failed(true);
    let producer = keeping.build().await.expect("the settings are right");
    broker.faults().on(ApiKey::Produce).error(ErrorCode::InvalidRecord);
    let record = Record::new("v").key("k").partition(2);
    within(producer.send("t", record)).await.expect_err("the broker refuses it");
    let failed = producer.take_failed();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].error.cause, Cause::Rejected(ErrorCode::InvalidRecord));
    within(producer.send("t", failed[0].to_record())).await.expect("it is written now");
    assert_eq!(values(&broker, "t", 2).await, ["v"]);
    assert!(producer.take_failed().is_empty(), "what was taken is gone");
}

#[tokio::test]
async fn dropping_the_last_handle_delivers_in_the_background() {
    let broker = broker_with(1).await;
    let hour = Duration::from_secs(3600);
    let lazy = impatient(&broker).linger(hour).delivery_timeout(2 * hour);
    let producer = lazy.build().await.expect("the settings are right");
    let topic = producer.topic("t").expect("a legal name");
    drop(producer);
    let delivery = within(topic.enqueue("a")).await.expect("a topic keeps its producer open");
    drop(topic);
    within(delivery).await.expect("it is delivered nevertheless, and at once");
}

#[tokio::test]
async fn settings_are_taken_by_name_by_type_and_from_files() {
    let file = "acks=1\nlinger.ms: 7\nclient.id=from-file\nbootstrap.servers=localhost:1";
    let described = Producer::builder("no port here")
        .from_properties(file)
        .and_then(|builder| builder.set("batch.size", "1000"))
        .expect("these are supported")
        .client_id("typed")
        .acks(Acks::All);
    let (config, warnings) = described.config().expect("no contradiction");
    assert_eq!((config.acks, config.linger), (Acks::All, Duration::from_millis(7)));
    assert_eq!((config.batch_size, &*config.client_id), (1000, "typed"));
    assert_eq!(config.bootstrap_servers[0].to_string(), "localhost:1");
    assert_eq!(warnings, []);
    let producer = described.build().await.expect("the settings are right");
    assert_eq!(producer.config(), &config);
    assert_eq!(producer.guarantees().delivery.holds, guarantees::Delivery::ExactlyOnce);
}

#[tokio::test]
async fn wrong_settings_build_nothing() {
    let errors = [
        Producer::builder("localhost").build().await.map(drop),
        Producer::builder("localhost:1").idempotence(true).retries(0).build().await.map(drop),
    ];
    for error in errors {
        assert!(matches!(error, Err(BuildError::Config(_))), "{error:?}");
    }
    let unknown = Producer::builder("localhost:1").set("linger", "5").expect_err("unknown");
    assert!(unknown.to_string().contains("linger.ms"), "{unknown}");
}

#[tokio::test]
async fn an_own_partitioner_decides() {
    struct Last;
    impl sordini::Partitioner for Last {
        fn partition(
            &self,
            _: sordini::partitioner::Keyed<'_>,
            partitions: u32,
        ) -> sordini::partitioner::Choice {
            sordini::partitioner::Choice::Partition(partitions as i32 - 1)
        }
    }
    let broker = broker_with(4).await;
    let described = impatient(&broker).partitioner(Last);
    let producer = described.build().await.expect("the settings are right");
    let written = within(producer.send("t", Record::new("v").key("k"))).await.expect("written");
    assert_eq!(written.partition, 3);
    let explicit = Record::new("v").partition(1);
    assert_eq!(within(producer.send("t", explicit)).await.expect("written").partition, 1);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    within(producer.send("t", "a")).await.expect("it is written");
    broker.faults().on(ApiKey::Produce).error(ErrorCode::NotLeaderOrFollower);
    within(producer.send("t", "b")).await.expect("it is written after a retry");
    broker.faults().on(ApiKey::Produce).error(ErrorCode::InvalidRecord);
    within(producer.send("t", "c")).await.expect_err("it is refused");
    let metrics = producer.metrics();
    assert_eq!((metrics.records_written, metrics.records_not_written), (2, 1));
    assert_eq!((metrics.retries, metrics.records_unknown), (1, 0));
    assert!(metrics.bytes_sent > 0 && metrics.connections_made >= 1);
}

#[tokio::test]
async fn an_unanswered_send_says_that_the_record_may_be_written() {
    let broker = broker_with(1).await;
    let _silent = silence(&broker);
    let described = impatient(&broker)
        .request_timeout(Duration::from_millis(50))
        .delivery_timeout(Duration::from_millis(200));
    let producer = described.build().await.expect("the settings are right");
    let error = within(producer.send("t", "a")).await.expect_err("nobody answers");
    let ProduceError::Delivery(error) = error else { panic!("{error}") };
    assert_eq!(error.fate, Fate::Unknown);
    assert!(matches!(error.cause, Cause::Expired { .. }), "{error}");
    assert!(error.attempts >= 2, "{error}");
}

#[tokio::test]
async fn with_acks_0_a_record_is_written_when_it_has_left() {
    let broker = broker_with(1).await;
    let producer = impatient(&broker).acks(Acks::None).build().await.expect("settings");
    let written = within(producer.send("t", "a")).await.expect("it has left");
    assert_eq!(written.offset, None);
    let _ = within(producer.close(Duration::from_secs(10))).await;
    while values(&broker, "t", 0).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn every_codec_arrives() {
    for (codec, id) in [(Codec::Gzip, 1), (Codec::Snappy, 2), (Codec::Lz4, 3), (Codec::Zstd, 4)] {
        let broker = broker_with(1).await;
        let described = impatient(&broker).compression(codec).batch_size(100_000);
        let described = described.linger(Duration::from_millis(20));
        let producer = described.build().await.expect("the settings are right");
        let mut appender = producer.topic("t").expect("a legal name").appender();
        within(appender.extend(numbers(30_000))).await.expect("there is room").detach();
        assert_eq!(within(producer.close(Duration::from_secs(30))).await.written, 30_000);
        let stored = broker.records("t", 0).await.expect("the partition exists");
        assert!(stored.iter().all(|record| record.codec == id), "{codec:?}");
        assert_eq!(values(&broker, "t", 0).await, numbers(30_000), "{codec:?}");
        assert!(producer.metrics().bytes_compressed < producer.metrics().bytes_uncompressed);
    }
}

#[tokio::test]
async fn a_negative_timestamp_is_refused_and_the_error_says_what_to_give() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    let before_1970 = std::time::UNIX_EPOCH - Duration::from_millis(20);
    let records = [Record::new("v").timestamp(-20), Record::new("v").system_time(before_1970)];
    for record in records {
        let error = within(producer.enqueue("t", record)).await.expect_err("it is negative");
        assert!(matches!(error, SendError::NegativeTimestamp { timestamp: -20, .. }), "{error:?}");
        assert!(error.to_string().contains("-20 is negative; give milliseconds since 1970"));
    }
    within(producer.send("t", Record::new("v").timestamp(0))).await.expect("1970 is taken");
}
