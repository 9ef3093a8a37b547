//! The producer against a cluster whose leaders die, move and lose their followers, over real
//! sockets. The records that the new leader has are read afterwards, and nothing else is believed.

mod common;

use std::time::Duration;

use common::{numbers, within};
use sordini::{Cause, Delivery, Fate, Producer, ProducerBuilder, Record};
use sordini_broker::protocol::{ApiKey, ErrorCode};
use sordini_broker::server::ClusterServer;
use sordini_broker::{ClusterConfig, FaultHandle, TopicConfig};

/// So long that nobody waits for it in a test that ends.
const NEVER: Duration = Duration::from_secs(600);

/// Three nodes in memory that notice soon when one of them is gone.
async fn cluster() -> ClusterServer {
    let mut config = ClusterConfig::default();
    config.session_timeout = Duration::from_millis(500);
    config.heartbeat = Duration::from_millis(100);
    config.broker.auto_create_topics = false;
    let cluster = ClusterServer::start(config, "127.0.0.1:0", None).await;
    cluster.expect("three nodes in memory")
}

/// Makes the topic `t` of one partition with three replicas.
async fn make_topic(cluster: &ClusterServer, min_insync: &'static str) {
    let mut config = TopicConfig::default();
    config.set("min.insync.replicas", min_insync).expect("a setting");
    let made = cluster.with(move |cluster, _| cluster.create_topic("t", 1, 3, config)).await;
    made.expect("it runs").expect("a new topic");
}

async fn leader(cluster: &ClusterServer) -> Option<i32> {
    let leader = cluster.with(|cluster, _| cluster.leader("t", 0)).await.expect("it runs");
    leader.map(|(node, _)| node)
}

async fn the_leader(cluster: &ClusterServer) -> i32 {
    leader(cluster).await.expect("there is a leader")
}

/// Comes back when `ready` says yes.
async fn until(what: &str, mut ready: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(common::LIMIT, waiting).await;
    assert!(waited.is_ok(), "{what}: this never comes");
}

async fn until_all_in_sync(cluster: &ClusterServer) {
    let isr = || async { cluster.with(|cluster, _| cluster.isr("t", 0).len()).await };
    until("all are in sync", async || isr().await == Ok(3)).await;
}

/// The values of a node's replica, in the order of their offsets.
async fn values_at(cluster: &ClusterServer, node: i32) -> Vec<String> {
    let records = cluster.with(move |cluster, _| cluster.records(node, "t", 0)).await;
    let records = records.expect("it runs").expect("the node has a replica");
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default()).expect("text");
    records.into_iter().map(|record| text(record.value)).collect()
}

/// All replicas have these records, once all are in sync.
async fn expect_everywhere(cluster: &ClusterServer, expected: &[String]) {
    until_all_in_sync(cluster).await;
    for node in 1..=3 {
        until("the replica catches up", async || {
            values_at(cluster, node).await.len() >= expected.len()
        })
        .await;
        assert_eq!(values_at(cluster, node).await, expected, "node {node}");
    }
}

/// One record is one batch; failures are tried again soon.
fn singly(cluster: &ClusterServer) -> ProducerBuilder {
    let described = Producer::builder(&cluster.bootstrap())
        .set("retry.backoff.ms", "5")
        .and_then(|b| b.set("retry.backoff.max.ms", "20"))
        .and_then(|b| b.set("reconnect.backoff.ms", "5"))
        .and_then(|b| b.set("reconnect.backoff.max.ms", "20"));
    described.expect("supported settings").linger(Duration::ZERO).batch_size(0)
}

async fn built(described: ProducerBuilder) -> Producer {
    described.build().await.expect("the settings are right")
}

async fn enqueue(producer: &Producer, values: &[String]) -> Vec<Delivery> {
    let topic = producer.topic("t").expect("a legal name");
    let mut deliveries = Vec::new();
    for value in values {
        let record = Record::new(value.as_str()).partition(0);
        deliveries.push(within(topic.enqueue(record)).await.expect("there is room"));
    }
    deliveries
}

async fn expect_written(deliveries: Vec<Delivery>) {
    for (index, delivery) in deliveries.into_iter().enumerate() {
        let written = within(delivery).await;
        assert!(written.is_ok(), "record {index} of these: {written:?}");
    }
}

/// Has each node fetch its producer ids: the first who asks is told to come again.
async fn warm_up(cluster: &ClusterServer) {
    let made = cluster.with(|c, _| c.create_topic("warm", 1, 3, TopicConfig::default())).await;
    made.expect("it runs").expect("a new topic");
    for (node, addr) in (1..).zip(cluster.addrs()) {
        let described = singly(cluster).set("bootstrap.servers", &addr.to_string());
        let producer = built(described.expect("an address")).await;
        within(producer.send("warm", "up")).await.expect("it is written");
        let asked = cluster.monitor(node).expect("the node").requests(ApiKey::InitProducerId);
        assert!(asked >= 2, "node {node} has none: {asked}");
    }
}

/// Records of which five batches are on their way to a leader that answers nobody any more.
async fn five_in_flight(
    cluster: &ClusterServer,
    producer: &Producer,
    values: &[String],
) -> (i32, FaultHandle, Vec<Delivery>) {
    // The first acknowledgement opens the window.
    let mut deliveries = enqueue(producer, &values[..1]).await;
    until("the first is written", async || producer.metrics().records_written == 1).await;
    let node = the_leader(cluster).await;
    let faults = cluster.faults(node).expect("the node");
    let mute = faults.on(ApiKey::Produce).always().delay(NEVER);
    deliveries.extend(enqueue(producer, &values[1..]).await);
    let monitor = cluster.monitor(node).expect("the node");
    until("five are in flight", async || monitor.max_in_flight("t", 0) == 5).await;
    (node, mute, deliveries)
}

#[tokio::test]
async fn a_leader_that_dies_with_five_batches_in_flight_costs_no_record_and_no_order() {
    let cluster = cluster().await;
    make_topic(&cluster, "2").await;
    let producer = built(singly(&cluster)).await;
    let (node, mute, deliveries) = five_in_flight(&cluster, &producer, &numbers(40)).await;
    // What the leader took before its end is with its followers: they must know it again.
    until("one was appended", async || values_at(&cluster, node).await.len() == 2).await;
    cluster.kill_node(node).await.expect("it runs");
    mute.cancel();
    expect_written(deliveries).await;
    assert!(producer.metrics().retries > 0);
    assert_ne!(the_leader(&cluster).await, node);
    cluster.start_node(node).await.expect("it starts again");
    expect_everywhere(&cluster, &numbers(40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_die_one_after_the_other_cost_no_record_and_no_order() {
    let cluster = cluster().await;
    make_topic(&cluster, "2").await;
    let producer = built(singly(&cluster)).await;
    let all = numbers(600);
    let mut deliveries = Vec::new();
    for part in all.chunks(200) {
        until_all_in_sync(&cluster).await;
        let (half, rest) = part.split_at(100);
        deliveries.extend(enqueue(&producer, half).await);
        let node = the_leader(&cluster).await;
        cluster.kill_node(node).await.expect("it runs");
        deliveries.extend(enqueue(&producer, rest).await);
        until("another leads", async || leader(&cluster).await.is_some_and(|n| n != node)).await;
        cluster.start_node(node).await.expect("it starts again");
    }
    expect_written(deliveries).await;
    assert!(producer.metrics().connections_lost >= 3, "{:?}", producer.metrics());
    expect_everywhere(&cluster, &all).await;
}

#[tokio::test]
async fn a_leader_that_moved_is_followed_by_what_the_error_says_without_a_pause() {
    let cluster = cluster().await;
    make_topic(&cluster, "1").await;
    warm_up(&cluster).await;
    // A pause, or a look at the metadata after one, would outlast the test.
    let never = NEVER.as_millis().to_string();
    let described = singly(&cluster)
        .set("retry.backoff.ms", &never)
        .and_then(|b| b.set("retry.backoff.max.ms", &never))
        .expect("supported settings");
    let producer = built(described.delivery_timeout(3 * NEVER)).await;
    expect_written(enqueue(&producer, &numbers(1)).await).await;
    let old = the_leader(&cluster).await;
    let asked = |node| cluster.monitor(node).expect("the node").requests(ApiKey::Metadata);
    let before: u64 = (1..=3).map(asked).sum();
    let new = old % 3 + 1;
    let moved = cluster.with(move |cluster, _| cluster.move_leader("t", 0, new)).await;
    assert!(moved.expect("it runs"));
    let all = numbers(30);
    expect_written(enqueue(&producer, &all[1..]).await).await;
    let log = cluster.monitor(old).expect("the node").produce_log();
    let refused =
        |code| log.iter().filter(|batch| batch.outcome.map(|o| o.0) == Some(code)).count();
    assert!(refused(ErrorCode::NotLeaderOrFollower) >= 5, "the old leader had all of the window");
    assert_eq!((1..=3).map(asked).sum::<u64>(), before, "the error itself said who leads");
    expect_everywhere(&cluster, &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_move_under_load_cost_no_record_and_no_order() {
    let cluster = cluster().await;
    make_topic(&cluster, "2").await;
    let producer = built(singly(&cluster)).await;
    let all = numbers(1200);
    let mut deliveries = Vec::new();
    for (index, part) in all.chunks(50).enumerate() {
        deliveries.extend(enqueue(&producer, part).await);
        let to = i32::try_from(index % 3).expect("small") + 1;
        let moved = cluster.with(move |cluster, _| cluster.move_leader("t", 0, to)).await;
        assert!(moved.expect("it runs"), "all are in sync");
        let done = deliveries.len() as u64 - 25;
        until("some arrive", async || producer.metrics().records_written >= done).await;
    }
    expect_written(deliveries).await;
    assert!(producer.metrics().retries > 0);
    expect_everywhere(&cluster, &all).await;
}

#[tokio::test]
async fn too_few_replicas_in_sync_delay_records_until_they_are_back() {
    let cluster = cluster().await;
    make_topic(&cluster, "3").await;
    let producer = built(singly(&cluster)).await;
    let all = numbers(20);
    expect_written(enqueue(&producer, &all[..1]).await).await;
    let node = the_leader(&cluster).await;
    let follower = node % 3 + 1;
    cluster.kill_node(follower).await.expect("it runs");
    // Until it is known to be gone, batches would be appended, and wait for it.
    let isr = || async { cluster.with(|cluster, _| cluster.isr("t", 0).len()).await };
    until("it is missed", async || isr().await == Ok(2)).await;
    let deliveries = enqueue(&producer, &all[1..]).await;
    let monitor = cluster.monitor(node).expect("the node");
    let refused = || {
        let log = monitor.produce_log();
        let codes = log.iter().filter_map(|batch| batch.outcome).map(|outcome| outcome.0);
        codes.filter(|code| *code == ErrorCode::NotEnoughReplicas).count()
    };
    until("it is refused, again and again", async || refused() >= 3).await;
    assert_eq!(the_leader(&cluster).await, node, "nothing else is wrong");
    cluster.start_node(follower).await.expect("it starts again");
    expect_written(deliveries).await;
    expect_everywhere(&cluster, &all).await;
}

#[tokio::test]
async fn answers_that_are_cut_off_double_nothing_and_keep_the_order() {
    let cluster = cluster().await;
    make_topic(&cluster, "2").await;
    let described = singly(&cluster).request_timeout(Duration::from_secs(1));
    let producer = built(described).await;
    let faults = cluster.faults(the_leader(&cluster).await).expect("the node");
    let on = || faults.on(ApiKey::Produce);
    let cuts = [
        on().nth(1).after_append().close_connection(),
        on().nth(9).times(2).after_append().close_connection(),
        on().nth(30).close_connection(),
        on().nth(40).drop_response_after_append(),
    ];
    expect_written(enqueue(&producer, &numbers(100)).await).await;
    assert_eq!(cuts.each_ref().map(FaultHandle::hits), [1, 2, 1, 1], "each was met");
    assert!(producer.metrics().retries > 0 && producer.metrics().connections_lost >= 5);
    expect_everywhere(&cluster, &numbers(100)).await;
}

#[tokio::test]
async fn records_of_a_topic_that_was_made_anew_fail_and_none_gets_into_the_new_one() {
    let cluster = cluster().await;
    make_topic(&cluster, "2").await;
    let producer = built(singly(&cluster).request_timeout(Duration::from_secs(1))).await;
    let (_, mute, deliveries) = five_in_flight(&cluster, &producer, &numbers(20)).await;
    let again = cluster.with(|cluster, _| {
        cluster.delete_topic("t")?;
        cluster.create_topic("t", 1, 3, TopicConfig::default())
    });
    again.await.expect("it runs").expect("made anew");
    mute.cancel();
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(within(delivery).await);
    }
    assert!(outcomes[0].is_ok(), "it was written before");
    let mut unknown = 0;
    for outcome in &outcomes[1..] {
        let error = outcome.as_ref().expect_err("its topic is gone");
        assert_eq!(error.cause, Cause::TopicGone, "{error}");
        if error.fate == Fate::Unknown {
            assert!(error.attempts > 0, "{error}");
            unknown += 1;
        }
    }
    // The first of the five was appended, and nobody can say so any more.
    assert_eq!(outcomes[1].as_ref().expect_err("see above").fate, Fate::Unknown);
    assert!((1..=5).contains(&unknown), "{unknown}");
    expect_written(enqueue(&producer, &["new".to_owned()]).await).await;
    expect_everywhere(&cluster, &["new".to_owned()]).await;
}

#[tokio::test]
async fn when_all_nodes_are_gone_every_record_ends_and_what_is_said_of_it_is_true() {
    let cluster = cluster().await;
    make_topic(&cluster, "2").await;
    let described = singly(&cluster)
        .request_timeout(Duration::from_secs(1))
        .delivery_timeout(Duration::from_secs(2));
    let producer = built(described).await;
    let (_, mute, deliveries) = five_in_flight(&cluster, &producer, &numbers(30)).await;
    for node in 1..=3 {
        cluster.kill_node(node).await.expect("it runs");
    }
    mute.cancel();
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(within(delivery).await);
    }
    for node in 1..=3 {
        cluster.start_node(node).await.expect("it starts again");
    }
    until_all_in_sync(&cluster).await;
    let stored = values_at(&cluster, the_leader(&cluster).await).await;
    let mut fates = std::collections::BTreeMap::new();
    for (value, outcome) in numbers(30).iter().zip(outcomes) {
        let count = stored.iter().filter(|stored| *stored == value).count();
        match outcome {
            Ok(_) => assert_eq!(count, 1, "{value} was written"),
            Err(error) => {
                assert!(matches!(error.cause, Cause::Expired { .. }), "{error}");
                let most = usize::from(error.fate == Fate::Unknown);
                assert!(count <= most, "{value} is there {count} times: {error}");
                *fates.entry(error.fate).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(stored, numbers(2), "one that was answered, one that was not");
    assert!((1..=5).contains(&fates[&Fate::Unknown]), "{fates:?}");
    assert!(fates[&Fate::NotWritten] >= 24, "{fates:?}");
    // The producer goes on, once the cluster does.
    expect_written(enqueue(&producer, &["later".to_owned()]).await).await;
}
