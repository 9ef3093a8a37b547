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

use common::{Client, batch, produce};
use sordini_broker::Server;
use sordini_broker::protocol::ErrorCode;

/// A mounted tmpfs, unmounted on drop.
struct SmallDisk {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).expect("mount point");
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { path, _folder: folder }),
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
