//! Peers that are no Kafka brokers, names that do not resolve, topics and partitions that do not
//! exist: each gets an error that names the thing and the remedy, and nothing is lost.

mod common;

use std::time::Duration;

use common::{broker, broker_with, impatient, producer, within};
use sordini::{ProduceError, Producer, Record, SendError};
use sordini_broker::Server;
use sordini_protocol::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A peer that waits for the first bytes and answers them with `answer`, on every connection.
async fn peer(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                // Kept open for a while: the client must not need the end of the stream to see
                // that this is no broker.
                if !answer.is_empty() {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            });
        }
    });
    address
}

/// What a send through this address ends with.
async fn error_of(address: &str) -> String {
    let described = Producer::builder(address).max_block(Duration::from_millis(300));
    let producer = described.build().await.expect("the settings are right");
    let error = within(producer.send("t", "v")).await.expect_err("no broker there");
    assert!(matches!(error, ProduceError::NotAccepted(SendError::Metadata { .. })), "{error:?}");
    let metrics = producer.metrics();
    assert_eq!(metrics.records_taken, 0, "the record never left");
    let text = error.to_string();
    assert!(text.contains(address), "the address is named: {text}");
    text
}

#[tokio::test]
async fn a_port_that_speaks_http_is_called_that() {
    let address = peer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let error = error_of(&address).await;
    let told = "it speaks HTTP, not Kafka's protocol; is the port right?";
    assert!(error.contains(&format!("failed: {told}")), "{error}");
}

#[tokio::test]
async fn a_port_that_speaks_tls_is_called_that() {
    // What OpenSSL answers to plaintext: an alert, fatal, unexpected message.
    let address = peer(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a]).await;
    let error = error_of(&address).await;
    let told = "it speaks TLS, and takes no plaintext; use its PLAINTEXT port";
    assert!(error.contains(&format!("failed: {told}")), "{error}");
}

#[tokio::test]
async fn a_port_that_hangs_up_on_plaintext_may_speak_tls() {
    let address = peer(b"").await;
    let error = error_of(&address).await;
    assert!(error.contains("closed") && error.contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_named() {
    // Connections are taken by the system alone.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let error = error_of(&address).await;
    assert!(error.ends_with(&format!("no broker answered in time (tried {address})")), "{error}");
}

#[tokio::test]
async fn an_answer_to_nothing_is_told_without_debug_output() {
    let error = error_of(&peer(b"\0\0\0\x08\xde\xad\xbe\xef1234").await).await;
    assert!(error.contains("correlation id -559038737"), "{error}");
    assert!(!error.contains("Some("), "{error}");
}

#[tokio::test]
async fn garbage_is_no_broker() {
    for garbage in
        [&b"garbage in, garbage out"[..], &[0xff; 64], &[0; 64], b"\0\0\0\x0cno sense at all"]
    {
        let error = error_of(&peer(garbage).await).await;
        assert!(error.contains("failed: "), "{error}");
    }
}

#[tokio::test]
async fn a_frame_of_2_gib_is_refused_by_its_length() {
    let error = error_of(&peer(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).await).await;
    assert!(error.contains("2147483647"), "{error}");
}

#[tokio::test]
async fn nobody_at_home_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let error = error_of(&address).await;
    assert!(error.contains("refused"), "{error}");
    assert_eq!(error.matches(&address).count(), 1, "it is named once: {error}");
    assert!(error.contains("within max.block.ms=300"), "{error}");
}

#[tokio::test]
async fn a_bootstrap_name_that_does_not_resolve_is_named() {
    let error = error_of("no-such-host.invalid:9092").await;
    assert!(error.contains("can't be resolved"), "{error}");
}

#[tokio::test]
async fn an_advertised_name_that_does_not_resolve_is_named_with_the_bootstrap_address() {
    let builder = Server::builder().advertise("no-such-host.invalid:0");
    let broker = builder.start().await.expect("a broker in memory");
    broker.create_topic("t", 1, &[]).await.expect("a new topic");
    let bootstrap = broker.addr().to_string();
    let described = Producer::builder(&bootstrap)
        .request_timeout(Duration::from_millis(200))
        .delivery_timeout(Duration::from_millis(500));
    let producer = described.build().await.expect("the settings are right");
    let error = within(producer.send("t", "v")).await.expect_err("the leader can't be reached");
    let text = error.to_string();
    assert!(text.contains("no-such-host.invalid") && text.contains(&bootstrap), "{text}");
    assert!(text.contains("advertised.listeners"), "{text}");
    let ProduceError::Delivery(failed) = error else { panic!("{error:?}") };
    assert_eq!((failed.fate, failed.attempts), (sordini::Fate::NotWritten, 0));
}

#[tokio::test]
async fn an_unknown_topic_is_waited_for_and_then_named() {
    let broker = Server::builder().auto_create(false).start().await.expect("a broker");
    let described = impatient(&broker).max_block(Duration::from_millis(100));
    let producer = described.build().await.expect("the settings are right");
    let error = within(producer.enqueue("nope", "v")).await.expect_err("it does not exist");
    let SendError::UnknownTopic { topic, waited, .. } = &error else { panic!("{error:?}") };
    assert_eq!(topic, "nope");
    assert!(error.to_string().ends_with("not created within max.block.ms=100"), "{error}");
    assert!(*waited >= Duration::from_millis(100), "{error}");
}

#[tokio::test]
async fn a_topic_that_appears_in_time_is_written_to() {
    let broker = Server::builder().auto_create(false).start().await.expect("a broker");
    let producer = producer(&broker).await;
    let send = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send("late", "v").await }
    });
    while broker.monitor().requests(ApiKey::Metadata) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    broker.create_topic("late", 1, &[]).await.expect("a new topic");
    within(send).await.expect("no panic").expect("it is written");
}

#[tokio::test]
async fn a_name_that_no_topic_can_have_is_refused_at_once() {
    let broker = broker().await;
    let producer = producer(&broker).await;
    let error = within(producer.send("no topic", "v")).await.expect_err("a blank");
    assert!(matches!(error, ProduceError::NotAccepted(SendError::InvalidTopic { .. })), "{error}");
    assert_eq!(broker.monitor().connections(), 0);
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_named_with_the_count() {
    let broker = broker_with(3).await;
    let producer = producer(&broker).await;
    for partition in [3, -1, i32::MAX] {
        let record = Record::new("v").partition(partition);
        let error = within(producer.enqueue("t", record)).await.expect_err("there are 0 to 2");
        let text = error.to_string();
        assert!(text.contains("the topic \"t\" has 3"), "{text}");
        let SendError::UnknownPartition { partition: named, partitions: 3, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(named, partition);
    }
    within(producer.send("t", Record::new("v").partition(2))).await.expect("it is written");
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_with_its_size_and_the_setting() {
    let broker = broker_with(1).await;
    let described = impatient(&broker).set("max.request.size", "1000").expect("supported");
    let producer = described.build().await.expect("the settings are right");
    let error = within(producer.enqueue("t", vec![0; 2000])).await.expect_err("too large");
    let SendError::TooLarge { size, limit: 1000, setting: "max.request.size", .. } = error else {
        panic!("{error:?}")
    };
    assert!(size > 2000);
    within(producer.send("t", vec![0; 800])).await.expect("this one fits");
}

#[tokio::test]
async fn a_broker_that_answers_nonsense_is_left_and_tried_again() {
    let broker = broker_with(1).await;
    let producer = producer(&broker).await;
    within(producer.send("t", "before")).await.expect("it is written");
    // Of a response the broker sends a length that no Kafka answer has.
    let nonsense =
        broker.faults().on(ApiKey::Produce).respond_raw(&b"\x7f\xff\xff\xffnonsense"[..]);
    within(producer.send("t", "v")).await.expect("the second attempt succeeds");
    assert_eq!(nonsense.hits(), 1);
    assert_eq!(common::values(&broker, "t", 0).await, ["before", "v"], "and it is there once");
    assert!(producer.metrics().connections_lost >= 1);
}
