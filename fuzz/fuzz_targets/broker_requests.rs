//! What clients send the embedded broker: frames of any bytes, several on one connection. It
//! answers or closes the connection, and its log stays sound.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sordini_broker::storage::MemoryStorage;
use sordini_broker::{Broker, BrokerConfig, ConnectionId, Instant, Now, Output};

fuzz_target!(|data: &[u8]| {
    let mut now = Now { mono: Instant(1), wall_ms: 1_700_000_000_000 };
    let mut config = BrokerConfig::default();
    config.id_seed = 1;
    config.max_decompressed_bytes = 1 << 20;
    config.max_partitions = 50;
    let mut broker = Broker::open(config, Box::new(MemoryStorage::new()), now).expect("open");
    broker.make_topic(now, "t", 2, &[]).expect("topic");
    let connection = ConnectionId(1);
    broker.connected(connection);
    let (mut sent, mut done) = (0, 0);
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(tail.len());
        broker.handle_frame(now, connection, Bytes::copy_from_slice(&tail[..len]));
        sent += 1;
        rest = &tail[len..];
        while let Some(output) = broker.poll_output() {
            done += match output {
                Output::Send { .. } | Output::Done { .. } => 1,
                Output::Close { .. } => return,
            };
        }
    }
    // No request waits longer than the longest wait.
    for _ in 0..sent + 2 {
        now.mono = now.mono.after_millis(700_000);
        now.wall_ms += 700_000;
        broker.handle_timeout(now);
        while let Some(output) = broker.poll_output() {
            done += usize::from(!matches!(output, Output::Close { .. }));
        }
    }
    assert_eq!(done, sent, "every request is answered");
    for partition in 0..2 {
        broker.records("t", partition).expect("what is stored can be read");
    }
});
