//! Brokers in this process, which can be told how to misbehave.

mod support;

use sordini_broker::Server;
use sordini_broker::protocol::{ApiKey, ErrorCode};
use support::Desk;

const CREATE: [&str; 6] = ["topic", "create", "t", "--partitions", "2", "-b"];
const DESCRIBE: [&str; 5] = ["topic", "describe", "t", "--json", "-b"];

#[tokio::test(flavor = "multi_thread")]
async fn describe_waits_for_leaders_that_are_only_just_chosen() {
    let desk = Desk::new();
    let server = Server::builder().in_memory().start().await.expect("it starts");
    let address = server.bootstrap();
    desk.run(&[&CREATE[..], &[&address]].concat()).expect(0);
    let faults = server.faults();
    let metadata = faults.on(ApiKey::Metadata).topic("t").times(2);
    let metadata = metadata.error(ErrorCode::LeaderNotAvailable);
    let offsets = faults.on(ApiKey::ListOffsets).times(3).error(ErrorCode::NotLeaderOrFollower);
    let described = desk.run(&[&DESCRIBE[..], &[&address]].concat()).expect(0);
    assert_eq!((metadata.hits(), offsets.hits()), (2, 3), "the faults were met");
    assert_eq!(described.stderr(), "");
    let described = described.json();
    for partition in [0, 1] {
        let one = &described["partitions"][partition];
        assert_eq!((&one["start"], &one["end"]), (&0.into(), &0.into()), "{described}");
        assert!(one["leader"].is_i64(), "{described}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_says_which_partitions_did_not_tell_their_offsets() {
    let desk = Desk::new();
    let server = Server::builder().in_memory().start().await.expect("it starts");
    let address = server.bootstrap();
    desk.run(&[&CREATE[..], &[&address]].concat()).expect(0);
    let faults = server.faults();
    faults.on(ApiKey::ListOffsets).always().error(ErrorCode::KafkaStorageError);
    let described = desk.run(&[&DESCRIBE[..], &[&address]].concat());
    let words = ["partition 0 of t: its leader", "partition 1 of t: its leader"];
    let described = described.expect_error(0, &words).json();
    for partition in [0, 1] {
        assert!(described["partitions"][partition].get("end").is_none(), "{described}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advertised_host_that_does_not_resolve_is_named_with_the_address_that_advertises_it() {
    let desk = Desk::new();
    let server = Server::builder().in_memory().advertise("no-such-host.invalid:9092");
    let server = server.start().await.expect("it starts");
    let address = server.addr().to_string();
    let haste = ["max.block.ms=1500", "delivery.timeout.ms=2000", "request.timeout.ms=1000"];
    let haste = haste.map(|setting| ["-X", setting]).concat();
    let args = ["produce", "t", "--failed", "left", "-b", &address];
    let ended = desk.run_with(&[&args[..], &haste].concat(), b"1\n2\n");
    ended.expect_error(1, &["no-such-host.invalid", &address, "2 records were not delivered"]);
    assert_eq!(desk.read("left"), b"1\n2\n");
}
