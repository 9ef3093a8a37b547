//! A cluster as a client sees it, over real sockets.
#![allow(clippy::disallowed_methods, reason = "tests of what is on the disk touch it")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Client, batch, produce};
use sordini_broker::protocol::ErrorCode;
use sordini_broker::protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use sordini_broker::server::ClusterServer;
use sordini_broker::{ClusterConfig, TopicConfig};

fn config() -> ClusterConfig {
    let mut config = ClusterConfig::default();
    config.default_replication = 3;
    config.session_timeout = Duration::from_millis(400);
    config.heartbeat = Duration::from_millis(100);
    config
}

async fn with_topic(folder: Option<std::path::PathBuf>) -> ClusterServer {
    let cluster = ClusterServer::start(config(), "127.0.0.1:0", folder).await.expect("start");
    let made = cluster.with(|cluster, _| cluster.create_topic("t", 1, 3, TopicConfig::default()));
    made.await.expect("runs").expect("topic");
    cluster
}

async fn metadata(addr: SocketAddr) -> MetadataResponse {
    let ask = MetadataRequest { topics: None, ..Default::default() };
    Client::connect_to(addr).await.ask(&ask, 13).await
}

/// The address of the topic's leader, by what this node says.
async fn leader(asked: SocketAddr) -> Option<(i32, SocketAddr)> {
    let answer = metadata(asked).await;
    let id = answer.topics.first()?.partitions.first()?.leader_id;
    let broker = answer.brokers.iter().find(|broker| broker.node_id == id)?;
    Some((id, format!("{}:{}", broker.host, broker.port).parse().expect("address")))
}

async fn produce_all(addr: SocketAddr, value: &str) -> (ErrorCode, i64) {
    let mut client = Client::connect_to(addr).await;
    let id = client.topic_id("t").await;
    let answer = client.ask(&produce(id, 0, batch(&[value]), -1), 13).await;
    let answer = &answer.responses[0].partition_responses[0];
    (ErrorCode::from_code(answer.error_code), answer.base_offset)
}

#[tokio::test]
async fn every_node_has_a_listener_and_names_the_others() {
    let cluster = with_topic(None).await;
    assert_eq!(cluster.addrs().len(), 3);
    assert_eq!(cluster.bootstrap().split(',').count(), 3);
    for addr in cluster.addrs() {
        let ports: Vec<i32> = metadata(*addr).await.brokers.iter().map(|b| b.port).collect();
        let bound: Vec<i32> = cluster.addrs().iter().map(|a| i32::from(a.port())).collect();
        assert_eq!(ports, bound);
    }
}

#[tokio::test]
async fn what_all_have_survives_the_leader_and_the_leader_comes_back() {
    let folder = tempfile::tempdir().expect("folder");
    let cluster = with_topic(Some(folder.path().to_owned())).await;
    let (first, addr) = leader(cluster.addrs()[0]).await.expect("a leader");
    assert_eq!(produce_all(addr, "a").await, (ErrorCode::None, 0));
    cluster.kill_node(first).await.expect("kill");
    let other = cluster.addrs()[usize::from(first == 1)];
    let mut found = None;
    for _ in 0..200 {
        found = leader(other).await.filter(|(id, _)| *id != first);
        if found.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, addr) = found.expect("another leader");
    assert_eq!(produce_all(addr, "b").await, (ErrorCode::None, 1));
    cluster.start_node(first).await.expect("start");
    for _ in 0..200 {
        let isr = cluster.with(|cluster, _| cluster.isr("t", 0).len()).await.expect("runs");
        if isr == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let records = cluster.with(move |cluster, _| cluster.records(first, "t", 0).map(|r| r.len()));
    assert_eq!(records.await.expect("runs").expect("records"), 2);
    drop(cluster);
    for node in 1..=3 {
        let closed = folder.path().join(format!("node-{node}/.kafka_cleanshutdown"));
        assert!(closed.exists(), "node {node} was closed in order");
    }
}

/// Whoever lost its log does not lead, as it did before: the others would cut theirs to match.
#[tokio::test]
async fn a_log_that_one_node_lost_between_two_runs_is_copied_from_the_others() {
    // One that was emptied, one with a bit of its last batch flipped.
    let emptied = |_: Vec<u8>| Vec::new();
    let flipped = |mut bytes: Vec<u8>| {
        *bytes.last_mut().expect("a batch") ^= 1;
        bytes
    };
    let damages: [fn(Vec<u8>) -> Vec<u8>; 2] = [emptied, flipped];
    for (node, damage) in (1..=3).flat_map(|node| damages.map(|damage| (node, damage))) {
        let folder = tempfile::tempdir().expect("folder");
        let cluster = with_topic(Some(folder.path().to_owned())).await;
        let (_, addr) = leader(cluster.addrs()[0]).await.expect("a leader");
        assert_eq!(produce_all(addr, "a").await, (ErrorCode::None, 0));
        cluster.shutdown().await;
        let log = folder.path().join(format!("node-{node}/t-0/00000000000000000000.log"));
        let bytes = std::fs::read(&log).expect("the log");
        std::fs::write(&log, damage(bytes)).expect("damaged");
        let folder = folder.path().to_owned();
        let cluster = ClusterServer::start(config(), "127.0.0.1:0", Some(folder)).await;
        let cluster = cluster.expect("start");
        let mut counts = Vec::new();
        for _ in 0..200 {
            counts.clear();
            for node in 1..=3 {
                let count =
                    cluster.with(move |it, _| it.records(node, "t", 0).map_or(0, |all| all.len()));
                counts.push(count.await.expect("runs"));
            }
            if counts == [1, 1, 1] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(counts, [1, 1, 1], "node {node} lost it");
        let isr = cluster.with(|cluster, _| cluster.isr("t", 0).len()).await.expect("runs");
        assert!(isr >= 2, "the others go on");
        drop(cluster);
    }
}
