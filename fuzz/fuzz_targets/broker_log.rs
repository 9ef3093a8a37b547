//! What a disk hands the embedded broker at its start: a segment, its indexes, a snapshot and a
//! checkpoint of any bytes. Recovery keeps a readable prefix, and doing it twice changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sordini_broker::TopicConfig;
use sordini_broker::log::{Left, LogOptions, PartitionLog};
use sordini_broker::storage::MemoryStorage;

/// The files, in the order of the input's parts.
const FILES: [&str; 7] = [
    "00000000000000000000.log",
    "00000000000000000003.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000003.snapshot",
    "00000000000000000003.producers",
    "leader-epoch-checkpoint",
];

fn open(storage: &mut MemoryStorage, left: Left) -> PartitionLog {
    let options = LogOptions {
        config: TopicConfig::default(),
        strict_first_sequence: false,
        producer_expiration_ms: 1000,
        durable: false,
    };
    PartitionLog::open(storage, "t-0", options, 0, left, 0).expect("memory does not fail").0
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, mut rest)) = data.split_first() else { return };
    let mut storage = MemoryStorage::new();
    for name in FILES {
        let Some((len, tail)) = rest.split_first_chunk::<2>() else { break };
        let len = usize::from(u16::from_be_bytes(*len)).min(tail.len());
        storage.overwrite(&format!("t-0/{name}"), tail[..len].to_vec());
        rest = &tail[len..];
    }
    let left = match flags % 3 {
        0 => Left::Open,
        1 => Left::Closed,
        _ => Left::Changed,
    };
    let log = open(&mut storage, left);
    let (start, end) = (log.log_start(), log.log_end());
    assert!(start <= end);
    let mut at = start;
    while at < end {
        let Ok(bytes) = log.read(&mut storage, at, 1 << 16, true, end) else { break };
        let last = sordini_protocol::records::Batches::new(&bytes).filter_map(Result::ok).last();
        let Some(last) = last else { break };
        let next = last.header().base_offset + i64::from(last.header().last_offset_delta) + 1;
        assert!(next > at, "reading goes on");
        at = next;
    }
    let _ = log.find_timestamp(&mut storage, 0);
    let _ = log.find_max_timestamp(&mut storage);
    let again = open(&mut storage, Left::Open);
    let first = open(&mut storage, Left::Open);
    assert_eq!((again.log_start(), again.log_end()), (first.log_start(), first.log_end()));
});
