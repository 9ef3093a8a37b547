//! barnabas: spawns nothing, so it batches and sends only inside the caller's calls. `produce` sends
//! what is full or due and waits for its answers; a record counts as delivered when the call that
//! flushed it returns (`queued` says what is left).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use barnabas_client::ProducerRecord;
use barnabas_tokio::{Producer, Tokio};
use bench_common::*;
use kafka_protocol::records::Compression;

struct Load {
    pool: Vec<bytes::Bytes>,
    keys: Vec<bytes::Bytes>,
}

async fn run(p: &mut Producer, a: &Args, acks: &Acks, n: u64, load: &Load) {
    let mut pace = Pace::new(a);
    let mut out: VecDeque<u64> = VecDeque::new();
    let tick = ((a.rate / 1000.0) as u64).max(1);
    for i in 0..n {
        out.push_back(pace.wait(i));
        let key = a.keys.then(|| load.keys[i as usize % KEYS].clone());
        let record = ProducerRecord::new(key, Some(load.pool[i as usize % POOL].clone()));
        if let Err(e) = p.produce(&a.topic, record).await {
            eprintln!("produce: {e:?}");
        }
        if a.rate > 0.0 && (i + 1) % tick == 0 {
            p.tick().await.expect("tick");
        }
        if p.queued() == 0 {
            out.drain(..).for_each(|t| acks.done(true, t));
        }
    }
    let r = p.flush().await;
    if let Err(e) = &r {
        eprintln!("flush: {e:?}");
    }
    out.drain(..).for_each(|t| acks.done(r.is_ok(), t));
}

async fn producer(a: &Args) -> Producer {
    let mut p: Producer = Producer::builder(Tokio)
        .bootstrap([a.bootstrap.clone()])
        .client_id("bench")
        .compression(match a.compression.as_str() {
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        })
        .build()
        .await
        .expect("producer");
    if a.linger_ms >= 0.0 {
        p.set_linger(Duration::from_secs_f64(a.linger_ms / 1e3));
    }
    if !a.defaults && a.batch_bytes > 0 {
        p.set_batch_size(a.batch_bytes);
    }
    p
}

fn main() {
    let a = Args::parse();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    rt.block_on(async {
        let mut p = producer(&a).await;
        let load = Load {
            pool: pool(a.size).into_iter().map(Into::into).collect(),
            keys: keys().into_iter().map(Into::into).collect(),
        };
        let warmup = Args { rate: 0.0, ..a.clone() };
        run(&mut p, &warmup, &Acks::default(), a.warmup, &load).await;
        let acks = Acks::default();
        let phase = Phase::start();
        run(&mut p, &a, &acks, a.records, &load).await;
        phase.report("barnabas", &a, &acks);
    });
}
