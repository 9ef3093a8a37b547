//! A group's position, asked of its coordinator: OffsetFetch with RequireStable (KIP-447), so that
//! a transaction that has not ended yet is waited for.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sordini_protocol::messages::find_coordinator::FindCoordinatorRequest;
use sordini_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use sordini_protocol::{ErrorCode, Message, Request, frame};

use crate::args::Args;
use crate::failed::Failed;

const ANSWER: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(300);
const MOST_BYTES: usize = 1 << 24;

/// Where the group goes on in each partition of `--from`; `None` where it never committed.
pub(crate) async fn positions(args: &Args) -> Result<Vec<(i32, Option<i64>)>, Failed> {
    let (bootstrap, group) = (args.get("bootstrap")?.to_owned(), args.get("group")?.to_owned());
    let (topic, count) = (args.get("from")?.to_owned(), args.number("partitions")?);
    let asking = move || {
        let until = Instant::now() + PATIENCE;
        loop {
            match ask_all(&bootstrap, &group, &topic, count) {
                Ok(positions) => return Ok(positions),
                Err(error) if Instant::now() >= until => return Err(Failed::Other(error)),
                // An election, a log being loaded, an offset that is not stable yet.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    tokio::task::spawn_blocking(asking).await.map_err(Failed::other)?
}

fn ask_all(
    bootstrap: &str,
    group: &str,
    topic: &str,
    count: i32,
) -> Result<Vec<(i32, Option<i64>)>, String> {
    let mut last = "no address".to_owned();
    for address in bootstrap.split(',') {
        match coordinator(address, group).and_then(|it| fetch(&it, group, topic, count)) {
            Ok(positions) => return Ok(positions),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn coordinator(address: &str, group: &str) -> Result<String, String> {
    let request =
        FindCoordinatorRequest { key: group.to_owned(), ..FindCoordinatorRequest::default() };
    let answer = ask(address, &request, 3)?;
    if answer.error_code != 0 {
        return Err(refused("FindCoordinator", answer.error_code));
    }
    Ok(format!("{}:{}", answer.host, answer.port))
}

fn fetch(
    address: &str,
    group: &str,
    topic: &str,
    count: i32,
) -> Result<Vec<(i32, Option<i64>)>, String> {
    let asked =
        OffsetFetchRequestTopic { name: topic.to_owned(), partition_indexes: (0..count).collect() };
    let request = OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(vec![asked]),
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let answer = ask(address, &request, 7)?;
    if answer.error_code != 0 {
        return Err(refused("OffsetFetch", answer.error_code));
    }
    let mut positions = Vec::new();
    for found in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
        if found.error_code != 0 {
            return Err(refused("OffsetFetch", found.error_code));
        }
        let offset = Some(found.committed_offset).filter(|offset| *offset >= 0);
        positions.push((found.partition_index, offset));
    }
    match i32::try_from(positions.len()) == Ok(count) {
        true => Ok(positions),
        false => Err(format!("OffsetFetch told of {} partitions of {count}", positions.len())),
    }
}

fn refused(api: &str, code: i16) -> String {
    format!("{api} was answered with {:?}", ErrorCode::from_code(code))
}

fn ask<R: Request>(address: &str, request: &R, version: i16) -> Result<R::Response, String> {
    let mut out = Vec::new();
    frame::put_request(&mut out, request, version, 1, Some("txn")).map_err(|e| e.to_string())?;
    let bytes = exchange(address, &out).map_err(|error| format!("{address}: {error}"))?;
    let (_, mut reader) =
        frame::response_header::<R>(bytes.into(), version).map_err(|e| e.to_string())?;
    Message::decode(&mut reader, version).map_err(|error| error.to_string())
}

fn exchange(address: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(request)?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let size = frame::size(prefix, MOST_BYTES).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
