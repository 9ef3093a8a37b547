//! krafka: enqueue on the main thread, one task awaits the delivery handles in order.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bench_common::*;
use krafka::prelude::Compression;
use krafka::producer::{Acks as KAcks, DeliveryHandle, Producer};
use krafka::{Kafka, Record};

struct Load {
    pool: Vec<bytes::Bytes>,
    keys: Vec<bytes::Bytes>,
}

async fn run(p: &Producer, a: &Args, acks: &Arc<Acks>, n: u64, load: &Load) {
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel::<(u64, DeliveryHandle)>();
    let theirs = acks.clone();
    let waiter = tokio::spawn(async move {
        while let Some((at, handle)) = rx.recv().await {
            let r = handle.await;
            if let Err(e) = &r
                && theirs.errors.load(Relaxed) < 3
            {
                eprintln!("delivery: {e}");
            }
            theirs.done(r.is_ok(), at);
        }
    });
    let mut pace = Pace::new(a);
    for i in 0..n {
        // Blocks only this thread; the client runs on the workers.
        let at = pace.wait(i);
        let mut r = Record::new(a.topic.as_str(), load.pool[i as usize % POOL].clone());
        if a.keys {
            r = r.key(load.keys[i as usize % KEYS].clone());
        }
        match p.enqueue(r).await {
            Ok(handle) => drop(tx.send((at, handle))),
            Err(e) => {
                if acks.errors.load(Relaxed) < 3 {
                    eprintln!("enqueue: {e}");
                }
                acks.done(false, at);
            }
        }
    }
    drop(tx);
    p.flush().await.expect("flush");
    waiter.await.expect("the waiter ends");
}

async fn producer(a: &Args) -> Producer {
    let mut kafka = Kafka::builder(a.bootstrap.clone()).client_id("bench");
    if a.inflight > 0 {
        kafka = kafka.max_in_flight_requests(a.inflight);
    }
    let kafka = kafka.connect().await.expect("connect");
    let mut b = kafka
        .producer()
        .acks(match a.acks.as_str() {
            "all" | "-1" => KAcks::All,
            "0" => KAcks::None,
            _ => KAcks::Leader,
        })
        .idempotent(a.idempotent)
        .compression(match a.compression.as_str() {
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            "snappy" => Compression::Snappy,
            "gzip" => Compression::Gzip,
            _ => Compression::None,
        });
    if a.linger_ms >= 0.0 {
        b = b.linger(Duration::from_secs_f64(a.linger_ms / 1e3));
    }
    if !a.defaults && a.batch_bytes > 0 {
        b = b.batch_size(a.batch_bytes);
    }
    if !a.defaults && a.buffer_bytes > 0 {
        b = b.buffer_memory(a.buffer_bytes);
    }
    b.build().await.expect("producer")
}

fn main() {
    let a = Args::parse();
    let mut rt = tokio::runtime::Builder::new_multi_thread();
    let rt = rt.worker_threads(2).enable_all().build().expect("a runtime");
    rt.block_on(async {
        let p = producer(&a).await;
        let load = Load {
            pool: pool(a.size).into_iter().map(Into::into).collect(),
            keys: keys().into_iter().map(Into::into).collect(),
        };
        let warmup = Args { rate: 0.0, ..a.clone() };
        run(&p, &warmup, &Arc::new(Acks::default()), a.warmup, &load).await;
        let acks = Arc::new(Acks::default());
        let phase = Phase::start();
        run(&p, &a, &acks, a.records, &load).await;
        phase.report("krafka", &a, &acks);
        let _ = p.close().await;
    });
}
