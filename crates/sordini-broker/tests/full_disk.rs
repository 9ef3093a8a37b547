//! A disk that is really full: a small tmpfs. It takes root to mount one; without, the test says
//! so and the storage seam's fault (tests/server.rs) is what is left.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "a test of the disk touches it, and says when it is skipped"
)]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Client, batch, produce};
use sordini_broker::Server;
use sordini_broker::protocol::ErrorCode;
use sordini_broker::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use sordini_broker::protocol::messages::delete_topics::DeleteTopicsRequest;

/// One test at a time: a process that is being started, to mount or unmount, has for a moment all
/// files open that its parent has, and keeps locks and removed files in being.
static TURN: Mutex<()> = Mutex::new(());

/// A mounted tmpfs, unmounted on drop.
struct SmallDisk {
    path: PathBuf,
    _folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).expect("mount point");
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => {
                Some(Self { path, _folder: folder, _turn: turn })
            }
            _ => None,
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

async fn start(folder: &Path) -> Server {
    Server::builder().data_dir(folder.join("data")).start().await.expect("start")
}

#[tokio::test]
async fn a_full_disk_is_never_a_false_success() {
    let Some(disk) = SmallDisk::mount("512k") else {
        eprintln!("SKIPPED: mounting a tmpfs takes root");
        return;
    };
    // Room that somebody makes before the broker is started again: that takes a little.
    let filler = disk.path.join("filler");
    std::fs::File::create(&filler)
        .and_then(|mut file| file.write_all(&[1; 64 * 1024]))
        .expect("fill");
    let broker = start(&disk.path).await;
    broker.create_topic("t", 1, &[]).await.expect("topic");
    let mut client = Client::connect(&broker).await;
    let topic = client.topic_id("t").await;
    let value = "x".repeat(10_000);
    let mut acknowledged = 0;
    let mut refused = 0;
    for i in 0..100 {
        let value = format!("{i} {value}");
        let answer = client.ask(&produce(topic, 0, batch(&[&value]), -1), 13).await;
        match ErrorCode::from_code(answer.responses[0].partition_responses[0].error_code) {
            ErrorCode::None => acknowledged += 1,
            other => {
                assert_eq!(other, ErrorCode::KafkaStorageError);
                refused += 1;
            }
        }
    }
    assert!(acknowledged > 10 && refused > 10, "{acknowledged} and {refused}");
    broker.kill();
    std::fs::remove_file(&filler).expect("make room");
    let broker = start(&disk.path).await;
    assert_eq!(broker.records("t", 0).await.expect("records").len(), acknowledged);
    drop(broker);
}

/// Takes all the room that is left, with records and then with a file.
async fn fill(disk: &SmallDisk, client: &mut Client, topic: &str) {
    let id = client.topic_id(topic).await;
    let value = "x".repeat(10_000);
    loop {
        let answer = client.ask(&produce(id, 0, batch(&[&value]), -1), 13).await;
        if answer.responses[0].partition_responses[0].error_code != 0 {
            break;
        }
    }
    fill_up(disk);
}

/// Takes all the room that is left with a file.
fn fill_up(disk: &SmallDisk) {
    let mut filler = std::fs::File::create(disk.path.join("filler")).expect("a file");
    while filler.write_all(&[1; 1024]).is_ok() {}
}

/// Bytes of what the broker keeps for upkeep.
fn reserve(disk: &SmallDisk) -> u64 {
    std::fs::metadata(disk.path.join("data/.reserve")).map_or(0, |found| found.len())
}

async fn delete(client: &mut Client, topic: &str) -> ErrorCode {
    let request = DeleteTopicsRequest { topic_names: vec![topic.to_owned()], ..Default::default() };
    let answer = client.ask(&request, 5).await;
    ErrorCode::from_code(answer.responses[0].error_code)
}

async fn create(client: &mut Client, topic: &str) -> ErrorCode {
    let name = topic.to_owned();
    let topic = CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer = client.ask(&request, 7).await;
    ErrorCode::from_code(answer.topics[0].error_code)
}

#[tokio::test]
async fn a_topic_can_be_deleted_where_the_disk_is_full() {
    // While it is served, after a kill, and after a clean stop.
    for restart in [None, Some(false), Some(true)] {
        let Some(disk) = SmallDisk::mount("1m") else {
            eprintln!("SKIPPED: mounting a tmpfs takes root");
            return;
        };
        let mut broker = start(&disk.path).await;
        broker.create_topic("kept", 1, &[]).await.expect("topic");
        broker.create_topic("t", 1, &[]).await.expect("topic");
        let mut client = Client::connect(&broker).await;
        fill(&disk, &mut client, "t").await;
        // Others ask for more meanwhile, and must not take the room that the deletion needs.
        for i in 0..50 {
            let told = create(&mut client, &format!("more-{i}")).await;
            assert_eq!(told, ErrorCode::KafkaStorageError);
        }
        if let Some(clean) = restart {
            drop(client);
            match clean {
                true => drop(broker.shutdown().await),
                false => broker.kill(),
            }
            broker = start(&disk.path).await;
            client = Client::connect(&broker).await;
        }
        assert_eq!(delete(&mut client, "t").await, ErrorCode::None, "{restart:?}");
        assert_eq!(create(&mut client, "next").await, ErrorCode::None, "there is room again");
        let id = client.topic_id("next").await;
        let answer = client.ask(&produce(id, 0, batch(&["v"]), -1), 13).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        drop(client);
        broker.shutdown().await.expect("stopped");
        let broker = start(&disk.path).await;
        let topics =
            broker.with(|broker| broker.topics().map(|(name, _)| name.to_owned()).collect());
        let topics: Vec<String> = topics.await.expect("it runs");
        assert_eq!(topics, ["kept", "next"]);
        assert_eq!(broker.records("next", 0).await.expect("records").len(), 1);
        drop(broker);
    }
}

const MANY: i32 = 40;

/// A topic of many partitions with `records` of 1 KB in each, on a disk that is then full.
async fn many(disk: &SmallDisk, settings: &[(&str, &str)], records: usize) -> (Server, Client) {
    let broker = start(&disk.path).await;
    broker.create_topic("t", MANY, settings).await.expect("topic");
    let mut client = Client::connect(&broker).await;
    let id = client.topic_id("t").await;
    for partition in 0..MANY {
        for _ in 0..records {
            let one = batch(&[&"x".repeat(1000)]);
            let answer = client.ask(&produce(id, partition, one, -1), 13).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        }
    }
    fill_up(disk);
    (broker, client)
}

/// Indexes and snapshots of all partitions together are more than the reserve.
#[tokio::test]
async fn a_full_disk_with_many_partitions_is_started_on_and_cleared() {
    let Some(disk) = SmallDisk::mount("6m") else {
        eprintln!("SKIPPED: mounting a tmpfs takes root");
        return;
    };
    let (broker, client) = many(&disk, &[], 9).await;
    drop(client);
    broker.kill();
    for _ in 0..2 {
        let broker = start(&disk.path).await;
        for partition in 0..MANY {
            assert_eq!(broker.records("t", partition).await.expect("records").len(), 9);
        }
        assert_eq!(reserve(&disk), 128 * 1024);
        broker.kill();
    }
    let broker = start(&disk.path).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(delete(&mut client, "t").await, ErrorCode::None);
    assert_eq!(create(&mut client, "next").await, ErrorCode::None, "there is room again");
}

#[tokio::test]
async fn segments_that_end_on_a_full_disk_do_not_take_the_room_that_a_deletion_needs() {
    let Some(disk) = SmallDisk::mount("6m") else {
        eprintln!("SKIPPED: mounting a tmpfs takes root");
        return;
    };
    let (broker, mut client) = many(&disk, &[("segment.bytes", "12000")], 9).await;
    let id = client.topic_id("t").await;
    for partition in 0..MANY {
        for _ in 0..4 {
            let one = batch(&[&"x".repeat(1000)]);
            let _ = client.ask(&produce(id, partition, one, -1), 13).await;
        }
    }
    assert_eq!(reserve(&disk), 128 * 1024);
    drop(client);
    broker.kill();
    let broker = start(&disk.path).await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(delete(&mut client, "t").await, ErrorCode::None);
    assert_eq!(create(&mut client, "next").await, ErrorCode::None, "there is room again");
}
