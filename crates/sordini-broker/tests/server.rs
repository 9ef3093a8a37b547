//! The server as a client sees it, over real sockets.

mod common;

use std::io;
use std::time::Duration;

use common::{Client, batch, produce};
use sordini_broker::protocol::messages::api_versions::ApiVersionsRequest;
use sordini_broker::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use sordini_broker::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use sordini_broker::protocol::messages::produce::ProduceRequest;
use sordini_broker::protocol::{ApiKey, ErrorCode, Uuid};
use sordini_broker::server::{Limits, StartError};
use sordini_broker::{Server, storage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No test may hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads until the other side closes; the result is all that came.
async fn drained(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("closed in time").ok();
    all
}

#[tokio::test]
async fn one_line_makes_a_broker_that_a_client_can_use() {
    let broker = Server::in_memory().await.expect("start");
    let mut client = Client::connect(&broker).await;
    let ask = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("clicks".to_owned()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    client.ask(&ask, 13).await;
    let topic = client.ask(&ask, 13).await.topics[0].clone();
    assert_eq!((topic.error_code, topic.partitions.len()), (0, 3));
    for value in ["a", "b"] {
        let stored = client.ask(&produce(topic.topic_id, 0, batch(&[value]), -1), 13).await;
        assert_eq!(stored.responses[0].partition_responses[0].error_code, 0);
    }
    let fetch = long_poll(topic.topic_id, 0, 10_000);
    let fetched = client.ask(&fetch, 18).await.responses[0].partitions[0].clone();
    assert_eq!(fetched.high_watermark, 2);
    let records = broker.records("clicks", 0).await.expect("records");
    let values: Vec<_> = records.into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [b"a", b"b"]);
    assert_eq!(broker.produce_log().len(), 2);
    broker.shutdown().await.expect("shutdown");
}

/// A fetch of partition 0 from `offset` on, which waits for a byte.
fn long_poll(topic_id: Uuid, offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn pipelined_requests_are_read_ahead_and_answered_in_order() {
    let broker = Server::in_memory().await.expect("start");
    broker.create_topic("t", 1, &[]).await.expect("topic");
    let mut client = Client::connect(&broker).await;
    let topic = client.topic_id("t").await;
    client.send(&long_poll(topic, 0, 60_000), 18).await;
    for i in 0..5 {
        client.send(&produce(topic, 0, batch(&[&format!("v{i}")]), -1), 13).await;
    }
    while broker.monitor().max_in_flight("t", 0) < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(broker.records("t", 0).await.expect("records"), [], "they wait behind the fetch");
    let mut other = Client::connect(&broker).await;
    other.ask(&produce(topic, 0, batch(&["first"]), -1), 13).await;
    assert_eq!(client.receive::<FetchRequest>(18).await.error_code, 0);
    for i in 1..=5 {
        let response = client.receive::<ProduceRequest>(13).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, i);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_thousands_of_requests_waits_and_is_not_turned_out() {
    let broker = Server::in_memory().await.expect("start");
    broker.create_topic("t", 1, &[]).await.expect("topic");
    let mut client = Client::connect(&broker).await;
    let topic = client.topic_id("t").await;
    client.send(&long_poll(topic, 0, 60_000), 18).await;
    for _ in 0..3000 {
        client.send(&ApiVersionsRequest::default(), 0).await;
    }
    while broker.monitor().max_requests_in_flight() < 500 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut other = Client::connect(&broker).await;
    other.ask(&produce(topic, 0, batch(&["v"]), -1), 13).await;
    assert_eq!(client.receive::<FetchRequest>(18).await.error_code, 0);
    for _ in 0..3000 {
        assert_eq!(client.receive::<ApiVersionsRequest>(0).await.error_code, 0);
    }
}

#[tokio::test]
async fn records_survive_a_kill_and_a_clean_stop_on_disk() {
    let folder = tempfile::tempdir().expect("tempdir");
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for round in 0..4 {
        let broker =
            Server::builder().data_dir(folder.path()).partitions(1).start().await.expect("start");
        if round == 0 {
            broker.create_topic("t", 1, &[("segment.bytes", "500")]).await.expect("topic");
        }
        let mut client = Client::connect(&broker).await;
        let topic = client.topic_id("t").await;
        for i in 0..10 {
            let value = format!("{round}-{i}");
            let stored = client.ask(&produce(topic, 0, batch(&[&value]), -1), 13).await;
            assert_eq!(stored.responses[0].partition_responses[0].error_code, 0);
            expected.push(value.into_bytes());
        }
        let stored = broker.records("t", 0).await.expect("records");
        let values: Vec<_> = stored.into_iter().filter_map(|record| record.value).collect();
        assert_eq!(values, expected);
        if round % 2 == 0 {
            broker.kill();
        } else {
            broker.shutdown().await.expect("shutdown");
        }
    }
}

#[tokio::test]
async fn dropping_a_server_frees_its_folder_and_port() {
    let folder = tempfile::tempdir().expect("tempdir");
    let broker = Server::builder().data_dir(folder.path()).start().await.expect("start");
    let addr = broker.addr();
    let second = Server::builder().data_dir(folder.path()).start().await;
    assert!(matches!(second, Err(StartError::Folder(storage::OpenFolderError::Locked { .. }))));
    let mut client = TcpStream::connect(addr).await.expect("connect");
    drop(broker);
    assert_eq!(drained(&mut client).await, b"");
    let listen = addr.to_string();
    let again = Server::builder().data_dir(folder.path()).listen(listen).start().await;
    assert_eq!(again.expect("start again").addr(), addr);
}

#[tokio::test]
async fn a_taken_port_and_a_remote_address_are_named_with_their_remedy() {
    let broker = Server::in_memory().await.expect("start");
    let taken = broker.addr().to_string();
    let error = Server::builder().listen(&taken).start().await.expect_err("taken").to_string();
    assert!(error.contains(&taken), "{error}");
    let error = Server::builder().listen("0.0.0.0:0").start().await.expect_err("remote");
    assert!(matches!(error, StartError::Remote { .. }));
    assert!(error.to_string().contains("there is no authentication yet"), "{error}");
    let remote = Server::builder().listen("0.0.0.0:0").allow_remote(true);
    let error = remote.start().await.expect_err("nothing to advertise");
    assert!(matches!(error, StartError::Advertise { .. }), "{error}");
}

#[tokio::test]
async fn what_is_advertised_is_what_clients_are_told() {
    let broker = Server::builder().advertise("broker.test:0").start().await.expect("start");
    let port = broker.addr().port();
    assert_eq!(broker.bootstrap(), format!("broker.test:{port}"));
    let mut client = Client::connect(&broker).await;
    let node = client.ask(&MetadataRequest::default(), 13).await.brokers[0].clone();
    assert_eq!((node.host.as_str(), node.port), ("broker.test", i32::from(port)));
    for bad in ["", "host", ":1", "host:port", "host:99999"] {
        let error = Server::builder().advertise(bad).start().await.expect_err(bad);
        assert!(matches!(error, StartError::Advertise { .. }), "{bad}: {error}");
    }
}

#[tokio::test]
async fn bad_settings_do_not_start() {
    let bad = Server::builder().topic_default("retention.hours", "1").start().await;
    assert!(matches!(bad, Err(StartError::Setting(_))));
    let bad = Server::builder().kafka_version("1.0").start().await;
    assert!(matches!(bad, Err(StartError::Release(_))));
    for partitions in [0, -1, 10_001] {
        let bad = Server::builder().partitions(partitions).start().await;
        assert!(matches!(bad, Err(StartError::Partitions(_))));
    }
}

#[tokio::test]
async fn bytes_that_are_not_kafkas_end_the_connection_and_no_other() {
    let broker = Server::in_memory().await.expect("start");
    let mut bystander = Client::connect(&broker).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\x80\x00\x00\x00",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x03abc",
        b"\x00\x00\x00\x08\x7f\xff\x00\x00\x00\x00\x00\x00",
    ] {
        let mut stream = TcpStream::connect(broker.addr()).await.expect("connect");
        stream.write_all(bytes).await.expect("write");
        assert_eq!(drained(&mut stream).await, b"", "{bytes:?}");
    }
    assert_eq!(bystander.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
}

#[tokio::test]
async fn a_request_that_does_not_come_or_does_not_end_is_not_waited_for() {
    let mut limits = Limits::default();
    limits.handshake = Duration::from_millis(50);
    limits.transfer = Duration::from_millis(50);
    let broker = Server::builder().limits(limits).start().await.expect("start");
    for bytes in [&b""[..], b"\x00", b"\x00\x00\x00\x10", b"\x00\x00\x00\x10\x00\x12\x00\x00"] {
        let mut stream = TcpStream::connect(broker.addr()).await.expect("connect");
        stream.write_all(bytes).await.expect("write");
        assert_eq!(drained(&mut stream).await, b"", "{bytes:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_not_one_that_waits_for_records() {
    let mut limits = Limits::default();
    limits.idle = Duration::from_secs(1);
    let broker = Server::builder().limits(limits).start().await.expect("start");
    broker.create_topic("t", 1, &[]).await.expect("topic");
    let mut client = Client::connect(&broker).await;
    let topic_id = client.topic_id("t").await;
    let fetch = long_poll(topic_id, 0, 2500);
    assert_eq!(client.ask(&fetch, 18).await.error_code, 0, "it outlived the idle time");
    assert_eq!(drained(&mut client.stream).await, b"");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_until_one_ends() {
    let mut limits = Limits::default();
    limits.connections = 2;
    let broker = Server::builder().limits(limits).start().await.expect("start");
    let mut first = Client::connect(&broker).await;
    let mut second = Client::connect(&broker).await;
    first.ask(&ApiVersionsRequest::default(), 0).await;
    second.ask(&ApiVersionsRequest::default(), 0).await;
    let mut third = TcpStream::connect(broker.addr()).await.expect("connect");
    assert_eq!(drained(&mut third).await, b"");
    drop(first);
    // The place is free when the server has noticed.
    for _ in 0..1000 {
        let mut again = Client::connect(&broker).await;
        if again.try_ask(&ApiVersionsRequest::default(), 0).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the place never became free");
}

#[tokio::test]
async fn faults_are_ordered_in_one_line() {
    let broker = Server::in_memory().await.expect("start");
    broker.create_topic("t", 1, &[]).await.expect("topic");
    let order = broker.faults().on(ApiKey::Produce).nth(2).error(ErrorCode::NotLeaderOrFollower);
    let mut client = Client::connect(&broker).await;
    let topic = client.topic_id("t").await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        let answer = client.ask(&produce(topic, 0, batch(&["v"]), -1), 13).await;
        codes.push(answer.responses[0].partition_responses[0].error_code);
    }
    assert_eq!(codes, [0, ErrorCode::NotLeaderOrFollower.code(), 0]);
    assert_eq!(order.hits(), 1);
    broker.faults().on(ApiKey::Produce).close_connection();
    client.send(&produce(topic, 0, batch(&["v"]), -1), 13).await;
    assert_eq!(drained(&mut client.stream).await, b"");
    assert_eq!(broker.records("t", 0).await.expect("records").len(), 2);
}

#[tokio::test]
async fn a_full_disk_is_answered_with_an_error() {
    let faults = storage::StorageFaults::new();
    let disk = storage::FaultyStorage::new(storage::MemoryStorage::new(), faults.clone());
    let broker = Server::builder().storage(disk).start().await.expect("start");
    broker.create_topic("t", 1, &[]).await.expect("topic");
    let mut client = Client::connect(&broker).await;
    let topic = client.topic_id("t").await;
    faults.fail(storage::StorageOp::Append, ".log", 0, 1, 17, io::ErrorKind::StorageFull);
    let mut codes = Vec::new();
    for _ in 0..2 {
        let answer = client.ask(&produce(topic, 0, batch(&["v"]), -1), 13).await;
        codes.push(answer.responses[0].partition_responses[0].error_code);
    }
    assert_eq!(codes, [ErrorCode::KafkaStorageError.code(), 0]);
    assert_eq!(broker.records("t", 0).await.expect("records").len(), 1);
}

#[tokio::test]
async fn an_older_release_is_imitated() {
    let broker = Server::builder()
        .kafka_version("2.1")
        .max_version(ApiKey::InitProducerId, -1)
        .start()
        .await
        .expect("start");
    let mut client = Client::connect(&broker).await;
    let offered = client.ask(&ApiVersionsRequest::default(), 0).await.api_keys;
    let max = |key: ApiKey| {
        offered.iter().find(|api| api.api_key == key.code()).map(|api| api.max_version)
    };
    assert_eq!(max(ApiKey::Produce), Some(7));
    assert_eq!(max(ApiKey::InitProducerId), None);
    client.send(&MetadataRequest::default(), 9).await;
    assert_eq!(drained(&mut client.stream).await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_with_fsync_lose_nothing() {
    let folder = tempfile::tempdir().expect("tempdir");
    let builder = Server::builder().data_dir(folder.path()).fsync(true).partitions(1);
    let broker = builder.start().await.expect("start");
    broker.create_topic("t", 1, &[]).await.expect("topic");
    let mut clients = Vec::new();
    for c in 0..8 {
        let mut client = Client::connect(&broker).await;
        clients.push(tokio::spawn(async move {
            let topic = client.topic_id("t").await;
            for i in 0..20 {
                let value = format!("{c}-{i}");
                let answer = client.ask(&produce(topic, 0, batch(&[&value]), -1), 13).await;
                assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            }
        }));
    }
    for client in clients {
        timeout(PATIENCE, client).await.expect("in time").expect("client");
    }
    broker.kill();
    let broker = Server::builder().data_dir(folder.path()).start().await.expect("start");
    let records = broker.records("t", 0).await.expect("records");
    let mut values: Vec<_> = records.into_iter().filter_map(|record| record.value).collect();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 160);
}

#[test]
fn a_runtime_that_ends_before_the_server_hangs_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("rt");
    let broker = runtime.block_on(Server::in_memory()).expect("start");
    drop(runtime);
    drop(broker);
}
