//! The reader and the topic client over real sockets, against the embedded broker.

use std::time::Duration;

use sordini_broker::Server;
use sordini_protocol::{ApiKey, ErrorCode};

use crate::fetch::{Admin, Event, FetchError, NewTopic, Plan, Settings, Start, Tail};
use crate::{Producer, Record};

const COUNT: usize = 500;

fn settings(server: &Server) -> Settings {
    let mut settings = Settings::default();
    settings.set("bootstrap.servers", &server.bootstrap()).expect("an address");
    settings.api_timeout = Duration::from_secs(20);
    settings
}

/// Writes [`COUNT`] records with key, header and timestamp to three partitions.
async fn fill(server: &Server, topic: &str) {
    let producer = Producer::builder(&server.bootstrap())
        .set("compression.type", "lz4")
        .and_then(|builder| builder.set("batch.size", "1000"))
        .expect("settings");
    let producer = producer.build().await.expect("a producer");
    let topic = producer.topic(topic).expect("a name");
    for number in 0..COUNT {
        let partition = i32::try_from(number % 3).expect("small");
        let record = Record::new(number.to_string()).key("k").header("h", "v").timestamp(7);
        topic.enqueue(record.partition(partition)).await.expect("accepted").detach();
    }
    assert!(producer.close(Duration::from_secs(20)).await.is_clean());
}

/// Reads to the end: per partition the numbers in their order.
async fn read(settings: Settings, plan: Plan) -> Result<Vec<Vec<usize>>, FetchError> {
    let mut tail = Tail::new(plan, settings).expect("settings");
    let mut found = vec![Vec::new(); 3];
    while let Some(event) = tail.next().await? {
        let Event::Records { partition, records } = event else { continue };
        for record in records {
            let value = record.value.expect("a value");
            let number = std::str::from_utf8(&value).expect("UTF-8").parse().expect("a number");
            assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
            assert_eq!(record.headers.len(), 1);
            assert_eq!(record.timestamp, 7);
            found[usize::try_from(partition).expect("from 0")].push(number);
        }
    }
    Ok(found)
}

fn expected() -> Vec<Vec<usize>> {
    (0..3).map(|partition| (partition..COUNT).step_by(3).collect()).collect()
}

fn to_the_end() -> Plan {
    let mut plan = Plan::new("t");
    plan.stop_at_end = true;
    plan
}

#[tokio::test]
async fn brokers_from_2_1_to_4_4_are_read() {
    for release in ["2.1", "2.4", "2.8", "3.3", "3.9", "4.0", "4.4"] {
        let server = Server::builder().kafka_version(release).start().await.expect("a broker");
        fill(&server, "t").await;
        let found = read(settings(&server), to_the_end()).await;
        assert_eq!(found, Ok(expected()), "Kafka {release}");
        server.shutdown().await.expect("it stops");
    }
}

#[tokio::test]
async fn small_answers_add_up_to_all_records_once() {
    let server = Server::in_memory().await.expect("a broker");
    fill(&server, "t").await;
    let mut settings = settings(&server);
    settings.set("max.partition.fetch.bytes", "1").expect("a number");
    settings.set("fetch.max.bytes", "1").expect("a number");
    assert_eq!(read(settings, to_the_end()).await, Ok(expected()));
    server.shutdown().await.expect("it stops");
}

#[tokio::test]
async fn what_a_broker_does_wrong_for_a_while_is_read_over() {
    let server = Server::in_memory().await.expect("a broker");
    fill(&server, "t").await;
    let faults = server.faults();
    faults.on(ApiKey::Metadata).close_connection();
    faults.on(ApiKey::Metadata).nth(2).error(ErrorCode::LeaderNotAvailable);
    faults.on(ApiKey::ListOffsets).error(ErrorCode::NotLeaderOrFollower);
    faults.on(ApiKey::Fetch).error(ErrorCode::NotLeaderOrFollower);
    faults.on(ApiKey::Fetch).nth(2).partition("t", 1).error(ErrorCode::KafkaStorageError);
    faults.on(ApiKey::Fetch).nth(3).respond_raw(&b"\0\0\0\x03\xff\xff\xff"[..]);
    faults.on(ApiKey::Fetch).nth(4).close_connection();
    let mut settings = settings(&server);
    // Many answers, so that each fault has one to strike.
    settings.set("max.partition.fetch.bytes", "2000").expect("a number");
    assert_eq!(read(settings, to_the_end()).await, Ok(expected()));
    server.shutdown().await.expect("it stops");
}

#[tokio::test]
async fn what_a_broker_refuses_for_good_is_said() {
    let server = Server::in_memory().await.expect("a broker");
    fill(&server, "t").await;
    server.faults().on(ApiKey::Fetch).always().error(ErrorCode::TopicAuthorizationFailed);
    let refused = read(settings(&server), to_the_end()).await.expect_err("it is refused");
    let FetchError::Refused { code, .. } = refused else { panic!("{refused}") };
    assert_eq!(code, ErrorCode::TopicAuthorizationFailed);
    server.shutdown().await.expect("it stops");
}

#[tokio::test]
async fn a_peer_that_hangs_up_on_plaintext_may_speak_tls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Read first: bytes left unread would make it a reset.
            let _ = stream.readable().await;
            let _ = stream.try_read(&mut [0; 512]);
        }
    });
    let mut settings = Settings::default();
    settings.set("bootstrap.servers", &address).expect("an address");
    settings.api_timeout = Duration::from_millis(300);
    let hint = "closed it without a word, as a TLS or SASL listener does";
    let error = read(settings.clone(), to_the_end()).await.expect_err("no broker");
    assert!(error.to_string().contains(hint), "{error}");
    let error = Admin::new(settings).expect("settings").topics().await.expect_err("no broker");
    assert!(error.to_string().contains(hint), "{error}");
}

#[tokio::test]
async fn an_advertised_host_that_does_not_resolve_is_named_with_the_bootstrap_address() {
    let server = Server::builder().advertise("no-such-host.invalid:0").start().await;
    let server = server.expect("a broker");
    server.create_topic("t", 1, &[]).await.expect("a new topic");
    let bootstrap = server.addr().to_string();
    let mut settings = Settings::default();
    settings.set("bootstrap.servers", &bootstrap).expect("an address");
    settings.api_timeout = Duration::from_millis(500);
    let error = read(settings, to_the_end()).await.expect_err("the leader can't be reached");
    let text = error.to_string();
    assert!(text.contains("the host no-such-host.invalid can't be resolved"), "{text}");
    assert!(text.contains(&format!("the broker at {bootstrap} advertises")), "{text}");
}

#[tokio::test]
async fn next_can_be_dropped_at_any_time_and_loses_nothing() {
    let server = Server::in_memory().await.expect("a broker");
    fill(&server, "t").await;
    let mut settings = settings(&server);
    settings.set("max.partition.fetch.bytes", "2000").expect("a number");
    let mut tail = Tail::new(to_the_end(), settings).expect("settings");
    let mut count = 0;
    loop {
        // Polled once and dropped, again and again, with the broker's answers in between.
        let event = tokio::select! {
            biased;
            event = tail.next() => event.expect("it can be read"),
            () = tokio::task::yield_now() => continue,
        };
        match event {
            Some(Event::Records { records, .. }) => count += records.len(),
            Some(Event::Notice(notice)) => panic!("{notice:?}"),
            None => break,
        }
    }
    assert_eq!(count, COUNT);
    server.shutdown().await.expect("it stops");
}

#[tokio::test]
async fn a_reader_at_the_end_sees_what_comes_next() {
    let server = Server::in_memory().await.expect("a broker");
    fill(&server, "t").await;
    let mut plan = Plan::new("t");
    plan.start = Start::Latest;
    let mut tail = Tail::new(plan, settings(&server)).expect("settings");
    let bootstrap = server.bootstrap();
    let write = async {
        let producer = Producer::builder(&bootstrap).build().await.expect("a producer");
        loop {
            producer.send("t", Record::new("new")).await.expect("written");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let event = tokio::select! {
        event = tail.next() => event.expect("it can be read"),
        () = write => unreachable!("it writes on"),
    };
    let Some(Event::Records { records, .. }) = event else { panic!("{event:?}") };
    assert!(records.iter().all(|record| record.value.as_deref() == Some(&b"new"[..])));
    server.shutdown().await.expect("it stops");
}

#[tokio::test]
async fn topics_are_made_with_their_settings_described_and_deleted() {
    for release in ["2.4", "4.4"] {
        let server = Server::builder().kafka_version(release).start().await.expect("a broker");
        let mut admin = Admin::new(settings(&server)).expect("settings");
        let mut topic = NewTopic::new("t");
        topic.partitions = Some(3);
        topic.configs = vec![("max.message.bytes".into(), "123456".into())];
        admin.create(&topic).await.expect("it is made");
        let again = admin.create(&topic).await.expect_err("it is there");
        let FetchError::Refused { code, .. } = again else { panic!("{again}") };
        assert_eq!(code, ErrorCode::TopicAlreadyExists);
        fill(&server, "t").await;
        let found = admin.describe("t").await.expect("it is there");
        assert_eq!(found.configs, topic.configs);
        let offsets: Vec<_> = found.partitions.iter().map(|one| one.offsets).collect();
        assert_eq!(offsets, [Some((0, 167)), Some((0, 167)), Some((0, 166))], "Kafka {release}");
        let names: Vec<_> =
            admin.topics().await.expect("a list").into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["t"]);
        admin.delete("t").await.expect("it is deleted");
        let gone = FetchError::UnknownTopic { topic: "t".into() };
        assert_eq!(admin.describe("t").await, Err(gone.clone()));
        assert_eq!(admin.delete("t").await, Err(gone));
        server.shutdown().await.expect("it stops");
    }
}

#[tokio::test]
async fn a_request_about_topics_is_tried_again_until_the_time_is_up() {
    let server = Server::in_memory().await.expect("a broker");
    server.faults().on(ApiKey::Metadata).times(2).close_connection();
    let mut settings = settings(&server);
    let mut admin = Admin::new(settings.clone()).expect("settings");
    assert_eq!(admin.topics().await, Ok(vec![]));
    server.faults().on(ApiKey::Metadata).always().close_connection();
    settings.api_timeout = Duration::from_millis(300);
    let mut admin = Admin::new(settings).expect("settings");
    let error = admin.topics().await.expect_err("nobody answers").to_string();
    assert!(error.contains(&server.bootstrap()) && error.contains("300 ms"), "{error}");
    server.shutdown().await.expect("it stops");
}
