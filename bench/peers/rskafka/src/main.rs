//! rskafka has no accumulator worth the name for this (one future per record, one client per
//! partition), so this peer batches itself: sticky partitions, `batch-bytes` to a batch, `inflight`
//! batches at once, each its own request. No idempotence; acks is always all.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_common::*;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;
use tokio::sync::Semaphore;

struct Load {
    pool: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

impl Load {
    fn record(&self, a: &Args, i: u64) -> Record {
        Record {
            key: a.keys.then(|| self.keys[i as usize % KEYS].clone()),
            value: Some(self.pool[i as usize % POOL].clone()),
            headers: BTreeMap::new(),
            timestamp: chrono::Utc::now(),
        }
    }
}

async fn run(parts: &[Arc<PartitionClient>], a: &Args, acks: &Arc<Acks>, n: u64, load: &Load) {
    let comp = match a.compression.as_str() {
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::NoCompression,
    };
    let batch_bytes = if a.batch_bytes > 0 { a.batch_bytes } else { 16384 };
    let inflight = if a.inflight > 0 { a.inflight } else { 5 };
    let linger = Duration::from_secs_f64(a.linger_ms.max(0.0) / 1e3);
    let sem = Arc::new(Semaphore::new(inflight));
    let mut pace = Pace::new(a);
    let mut part = 0;
    let mut buf: Vec<Record> = Vec::new();
    let mut at: Vec<u64> = Vec::new();
    let mut bytes = 0;
    let mut born = Instant::now();
    for i in 0..n {
        let due = pace.wait(i);
        if buf.is_empty() {
            born = Instant::now();
        }
        at.push(due);
        buf.push(load.record(a, i));
        bytes += a.size + 10;
        let tick_end = a.rate > 0.0 && (i + 1) % ((a.rate / 1000.0) as u64).max(1) == 0;
        if bytes >= batch_bytes || i + 1 == n || (tick_end && born.elapsed() >= linger) {
            let permit = sem.clone().acquire_owned().await.expect("never closed");
            let (recs, at) = (std::mem::take(&mut buf), std::mem::take(&mut at));
            let (p, acks) = (parts[part].clone(), acks.clone());
            part = (part + 1) % parts.len();
            bytes = 0;
            tokio::spawn(async move {
                let r = p.produce(recs, comp).await;
                if let Err(e) = &r {
                    eprintln!("produce: {e}");
                }
                at.iter().for_each(|t| acks.done(r.is_ok(), *t));
                drop(permit);
            });
        }
    }
    let _ = sem.acquire_many(inflight as u32).await.expect("never closed");
}

fn main() {
    let a = Args::parse();
    let mut rt = tokio::runtime::Builder::new_multi_thread();
    let rt = rt.worker_threads(2).enable_all().build().expect("a runtime");
    rt.block_on(async {
        let client = ClientBuilder::new(vec![a.bootstrap.clone()]).build().await.expect("client");
        let mut parts = Vec::new();
        for p in 0..a.partitions {
            let part = client.partition_client(&a.topic, p as i32, UnknownTopicHandling::Error);
            parts.push(Arc::new(part.await.expect("partition")));
        }
        let load = Load { pool: pool(a.size), keys: keys() };
        let warmup = Args { rate: 0.0, ..a.clone() };
        run(&parts, &warmup, &Arc::new(Acks::default()), a.warmup, &load).await;
        let acks = Arc::new(Acks::default());
        let phase = Phase::start();
        run(&parts, &a, &acks, a.records, &load).await;
        phase.report("rskafka", &a, &acks);
    });
}
