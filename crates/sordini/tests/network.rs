//! Connections: several addresses, small buffers, many partitions in one request, idle ones.

mod common;

use std::time::Duration;

use common::{broker_with, impatient, numbers, values, within};
use sordini::{Producer, Record};
use sordini_protocol::ApiKey;
use tokio::net::TcpListener;

#[tokio::test]
async fn batches_larger_than_the_socket_buffers_arrive_whole() {
    let broker = broker_with(2).await;
    let described = impatient(&broker)
        .set("send.buffer.bytes", "4096")
        .and_then(|builder| builder.set("receive.buffer.bytes", "4096"))
        .expect("supported settings")
        .batch_size(900_000);
    let producer = described.build().await.expect("the settings are right");
    let topic = producer.topic("t").expect("a legal name");
    // On an idle connection nothing but the write itself can see to it that it goes on.
    for partition in 0..2 {
        within(topic.send(Record::new("").partition(partition))).await.expect("it is written");
        let alone = Record::new(vec![b'x'; 800_000]).partition(partition);
        within(topic.send(alone)).await.expect("it is written");
    }
    let large: Vec<String> = (0..10).map(|i| format!("{i}").repeat(400_000)).collect();
    for (i, value) in large.iter().enumerate() {
        let record = Record::new(value).partition(i as i32 % 2);
        within(topic.enqueue(record)).await.expect("there is room").detach();
    }
    assert!(within(producer.flush()).await.is_clean());
    let metrics = producer.metrics();
    assert_eq!((metrics.retries, metrics.connections_lost), (0, 0), "no write was forgotten");
    let zero = values(&broker, "t", 0).await.split_off(2);
    let stored = [zero, values(&broker, "t", 1).await.split_off(2)].concat();
    let (even, odd): (Vec<_>, Vec<_>) = large.chunks(2).map(|two| (&two[0], &two[1])).unzip();
    assert!(stored.iter().eq(even.into_iter().chain(odd)));
}

#[tokio::test]
async fn one_request_carries_many_partitions() {
    let broker = broker_with(20).await;
    let described = impatient(&broker).linger(Duration::from_millis(30));
    let producer = described.build().await.expect("the settings are right");
    let topic = producer.topic("t").expect("a legal name");
    within(topic.partitions()).await.expect("it exists");
    for partition in 0..20 {
        let record = Record::new("v").partition(partition);
        within(topic.enqueue(record)).await.expect("there is room").detach();
    }
    assert_eq!(within(producer.flush()).await.written, 20);
    let requests = broker.monitor().requests(ApiKey::Produce);
    assert!(requests < 5, "{requests} requests for 20 partitions");
}

#[tokio::test]
async fn a_bootstrap_server_that_is_down_is_passed_over() {
    let broker = broker_with(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let dead = listener.local_addr().expect("its address");
    drop(listener);
    let bootstrap = format!("{dead},no-such-host.invalid:1,{}", broker.bootstrap());
    for _ in 0..5 {
        let producer = Producer::builder(&bootstrap).build().await.expect("right settings");
        within(producer.send("t", "v")).await.expect("one of them is a broker");
    }
}

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_at_each() {
    // The broker listens on IPv4 alone, and localhost has both families where IPv6 is on.
    let broker = broker_with(1).await;
    let bootstrap = format!("localhost:{}", broker.addr().port());
    let producer = Producer::builder(&bootstrap).build().await.expect("right settings");
    within(producer.send("t", "v")).await.expect("127.0.0.1 is one of them");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_made_again() {
    let broker = broker_with(1).await;
    let described = impatient(&broker).set("connections.max.idle.ms", "30").expect("supported");
    let producer = described.build().await.expect("the settings are right");
    within(producer.send("t", "a")).await.expect("it is written");
    let connections = broker.monitor().connections();
    tokio::time::sleep(Duration::from_millis(200)).await;
    within(producer.send("t", "b")).await.expect("it is written");
    assert!(broker.monitor().connections() > connections);
    assert_eq!(values(&broker, "t", 0).await, ["a", "b"]);
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_left_after_the_setup_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("its address").to_string();
    let described = Producer::builder(&address)
        .set("socket.connection.setup.timeout.ms", "50")
        .expect("supported")
        .max_block(Duration::from_millis(300));
    let producer = described.build().await.expect("the settings are right");
    let error = within(producer.send("t", "v")).await.expect_err("nobody speaks");
    let text = error.to_string();
    assert!(
        text.contains("did not answer ApiVersions in time") && text.contains(&address),
        "{text}"
    );
}

#[tokio::test]
async fn a_broker_that_comes_back_is_found_and_nothing_is_lost_or_doubled() {
    let folder = std::env::temp_dir().join(format!("sordini-network-{}", std::process::id()));
    let start = |port: u16| {
        let folder = folder.clone();
        within(async move {
            loop {
                let server = sordini_broker::Server::builder().data_dir(&folder);
                match server.listen(format!("127.0.0.1:{port}")).start().await {
                    Ok(server) => return server,
                    // The one that was killed lets go of its port when its task next runs.
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        })
    };
    let broker = start(0).await;
    broker.create_topic("t", 1, &[]).await.expect("a new topic");
    let port = broker.addr().port();
    let producer = impatient(&broker).batch_size(200).build().await.expect("right settings");
    let topic = producer.topic("t").expect("a legal name");
    let sender = tokio::spawn(async move {
        for value in numbers(1500) {
            topic.enqueue(value).await.expect("there is room").detach();
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    });
    let mut broker = Some(broker);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        broker.take().expect("it runs").kill();
        broker = Some(start(port).await);
    }
    within(sender).await.expect("no panic");
    assert!(within(producer.flush()).await.is_clean());
    let broker = broker.expect("it runs");
    assert_eq!(values(&broker, "t", 0).await, numbers(1500));
    assert!(producer.metrics().connections_lost >= 2);
    drop(broker);
    std::fs::remove_dir_all(&folder).expect("the broker has let go of it");
}
