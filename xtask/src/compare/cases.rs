//! What is measured. The letters are those of bench/README.md.

use super::peers::{Peer, Skill};

/// Where a case's settings come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Settings {
    /// The best throughput settings found for each peer: linger 5 ms, 1,000,000 bytes to a batch.
    Throughput,
    /// The same for records of 1 KiB: 64 MiB of buffer.
    Large,
    /// The peer's own defaults; only acks, idempotence, compression and rate are set.
    Defaults,
    /// Those in the case's own arguments.
    Own,
}

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    args: &'static str,
    pub(super) settings: Settings,
    /// Which peers can do it.
    needs: Skill,
    /// How long the sink waits before each answer, in milliseconds.
    pub(super) broker_delay_ms: u32,
    pub(super) brokers: u32,
    pub(super) real_broker: bool,
    /// Seconds after which a run is killed.
    pub(super) limit: u64,
    /// Runs without being named.
    pub(super) chosen: bool,
}

impl Case {
    pub(super) fn takes(&self, peer: &Peer) -> bool {
        peer.skill >= self.needs
    }

    /// Has it a fixed rate, so that latency is what it is about?
    pub(super) fn is_paced(&self) -> bool {
        self.args.contains("--rate")
    }

    pub(super) fn arguments(&self, bootstrap: &str, peer: &Peer) -> Vec<String> {
        let java = peer.name == "java";
        let settings = match self.settings {
            Settings::Throughput => "--linger-ms 5 --batch-bytes 1000000 --buffer-bytes 268435456",
            // Java takes a whole batch of buffer for each partition.
            Settings::Large if java => "--linger-ms 5 --batch-bytes 262144 --buffer-bytes 67108864",
            Settings::Large => "--linger-ms 5 --batch-bytes 1000000 --buffer-bytes 67108864",
            Settings::Defaults => "--defaults true",
            Settings::Own => "",
        };
        let all = format!("--bootstrap {bootstrap} {} {settings}", self.args);
        all.split_whitespace().map(str::to_owned).collect()
    }
}

const BASE: Case = Case {
    name: "",
    title: "",
    args: "",
    settings: Settings::Throughput,
    needs: Skill::Batches,
    broker_delay_ms: 0,
    brokers: 1,
    real_broker: false,
    limit: 60,
    chosen: true,
};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "a",
        title: "100 B",
        args: "--sample 16 --records 3000000 --warmup 1000000",
        ..BASE
    },
    Case {
        name: "a-def",
        title: "100 B, the clients' defaults",
        args: "--sample 16 --records 2000000 --warmup 1000000",
        settings: Settings::Defaults,
        needs: Skill::Idempotence,
        ..BASE
    },
    Case {
        name: "b",
        title: "1 KiB",
        args: "--sample 16 --records 1500000 --warmup 500000 --size 1024",
        settings: Settings::Large,
        ..BASE
    },
    Case {
        name: "c",
        title: "100 B, lz4",
        args: "--sample 16 --records 2000000 --warmup 700000 --compression lz4",
        ..BASE
    },
    Case {
        name: "d",
        title: "100 B, zstd",
        args: "--sample 16 --records 1500000 --warmup 500000 --compression zstd",
        ..BASE
    },
    Case {
        name: "e0",
        title: "20,000 rec/s, linger 0",
        args: "--records 100000 --warmup 200000 --rate 20000 --linger-ms 0",
        settings: Settings::Own,
        needs: Skill::Rates,
        ..BASE
    },
    Case {
        name: "e0-def",
        title: "20,000 rec/s, the clients' defaults",
        args: "--records 100000 --warmup 200000 --rate 20000",
        settings: Settings::Defaults,
        needs: Skill::Rates,
        ..BASE
    },
    Case {
        name: "e2",
        title: "20,000 rec/s, linger 0, broker 2 ms away",
        args: "--records 100000 --warmup 200000 --rate 20000 --linger-ms 0",
        settings: Settings::Own,
        needs: Skill::Rates,
        broker_delay_ms: 2,
        ..BASE
    },
    Case {
        name: "e2-def",
        title: "20,000 rec/s, the clients' defaults, broker 2 ms away",
        args: "--records 100000 --warmup 200000 --rate 20000",
        settings: Settings::Defaults,
        needs: Skill::Rates,
        broker_delay_ms: 2,
        ..BASE
    },
    Case {
        name: "f",
        title: "100 B, real Kafka",
        args: "--sample 16 --records 1500000 --warmup 500000 --topic bench-6",
        real_broker: true,
        ..BASE
    },
    Case {
        name: "f-lat",
        title: "20,000 rec/s, linger 0, real Kafka",
        args: "--topic bench-6 --records 100000 --warmup 200000 --rate 20000 --linger-ms 0",
        settings: Settings::Own,
        needs: Skill::Rates,
        real_broker: true,
        ..BASE
    },
    Case {
        name: "g1",
        title: "keys, 1 partition",
        args: "--sample 16 --records 1500000 --warmup 500000 --key-mode random --topic bench-1 --partitions 1",
        needs: Skill::Keys,
        ..BASE
    },
    Case {
        name: "g100",
        title: "keys, 100 partitions",
        args: "--sample 16 --records 1500000 --warmup 500000 --key-mode random --topic bench-100 --partitions 100",
        needs: Skill::Keys,
        ..BASE
    },
    Case {
        name: "g1000",
        title: "keys, 1,000 partitions",
        args: "--sample 16 --records 1500000 --warmup 500000 --key-mode random --topic bench-1000 --partitions 1000",
        needs: Skill::Keys,
        ..BASE
    },
    Case {
        name: "g1000s",
        title: "keys, 1,000 partitions, 16 KiB batches",
        args: "--sample 16 --records 1500000 --warmup 500000 --key-mode random --topic bench-1000 --partitions 1000 --batch-bytes 16384 --buffer-bytes 268435456 --linger-ms 5",
        settings: Settings::Own,
        needs: Skill::Keys,
        ..BASE
    },
    Case {
        name: "g10000",
        title: "keys, 10,000 partitions, 16 KiB batches",
        args: "--sample 16 --records 3000000 --warmup 1000000 --key-mode random --topic bench-10000 --partitions 10000 --batch-bytes 16384 --buffer-bytes 268435456 --linger-ms 5",
        settings: Settings::Own,
        needs: Skill::Keys,
        chosen: false,
        ..BASE
    },
    Case {
        name: "h1",
        title: "100 B, acks=1",
        args: "--sample 16 --records 2000000 --warmup 700000 --acks 1 --idempotent false",
        needs: Skill::Idempotence,
        ..BASE
    },
    Case {
        name: "h0",
        title: "100 B, acks=0",
        args: "--sample 16 --records 2000000 --warmup 700000 --acks 0 --idempotent false",
        needs: Skill::Idempotence,
        ..BASE
    },
    Case {
        name: "i1",
        title: "one hot partition, broker 5 ms away, 16 KiB batches, one in flight",
        args: "--sample 16 --records 100000 --warmup 20000 --topic bench-1 --partitions 1 --batch-bytes 16384 --buffer-bytes 33554432 --linger-ms 5 --inflight 1",
        settings: Settings::Own,
        needs: Skill::Idempotence,
        broker_delay_ms: 5,
        ..BASE
    },
    Case {
        name: "i5",
        title: "the same, five in flight",
        args: "--sample 16 --records 400000 --warmup 100000 --topic bench-1 --partitions 1 --batch-bytes 16384 --buffer-bytes 33554432 --linger-ms 5 --inflight 5",
        settings: Settings::Own,
        needs: Skill::Idempotence,
        broker_delay_ms: 5,
        ..BASE
    },
    Case {
        name: "m",
        title: "ten minutes at 500,000 rec/s: does memory grow?",
        args: "--sample 16 --records 300000000 --warmup 1000000 --rate 500000",
        needs: Skill::Idempotence,
        limit: 900,
        chosen: false,
        ..BASE
    },
    Case {
        name: "n10",
        title: "keys, 100 partitions on 10 brokers",
        args: "--sample 16 --records 1500000 --warmup 500000 --key-mode random --topic bench-100 --partitions 100",
        needs: Skill::Keys,
        brokers: 10,
        ..BASE
    },
    Case {
        name: "n100",
        title: "keys, 1,000 partitions on 100 brokers",
        args: "--sample 16 --records 1500000 --warmup 500000 --key-mode random --topic bench-1000 --partitions 1000",
        needs: Skill::Keys,
        brokers: 100,
        ..BASE
    },
    Case {
        name: "r2",
        title: "100 B, broker 2 ms away",
        args: "--sample 16 --records 2000000 --warmup 700000",
        broker_delay_ms: 2,
        ..BASE
    },
];
