//! librdkafka through the crate rdkafka. --mode base (poll on the sending thread), threaded, future.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use bench_common::*;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryFuture, FutureProducer, FutureRecord, Producer,
    ProducerContext, ThreadedProducer,
};

/// The buffer is full: how long before the next try.
const FULL: Duration = Duration::from_micros(200);

const END: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Ctx(Arc<[Acks; 2]>);

impl ClientContext for Ctx {}
impl ProducerContext for Ctx {
    /// the time of sending, and the phase in the lowest bit
    type DeliveryOpaque = usize;
    fn delivery(&self, r: &DeliveryResult<'_>, opaque: usize) {
        self.0[opaque & 1].done(r.is_ok(), (opaque >> 1) as u64);
    }
}

fn config(a: &Args) -> ClientConfig {
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", &a.bootstrap)
        .set("acks", &a.acks)
        .set("enable.idempotence", if a.idempotent { "true" } else { "false" })
        .set("compression.codec", &a.compression);
    if a.linger_ms >= 0.0 {
        c.set("linger.ms", a.linger_ms.to_string());
    }
    if a.inflight > 0 {
        c.set("max.in.flight", a.inflight.to_string());
    }
    if !a.defaults {
        if a.batch_bytes > 0 {
            c.set("batch.size", a.batch_bytes.to_string())
                .set("message.max.bytes", (a.batch_bytes + 65536).to_string())
                .set("batch.num.messages", "1000000");
        }
        if a.buffer_bytes > 0 {
            c.set("queue.buffering.max.messages", "2000000")
                .set("queue.buffering.max.kbytes", (a.buffer_bytes / 1024).to_string());
        }
    }
    c
}

trait Sender {
    fn try_send(&self, r: BaseRecord<'_, [u8], [u8], usize>) -> bool;
    fn poll(&self);
    fn flush(&self);
}

impl Sender for BaseProducer<Ctx> {
    fn try_send(&self, r: BaseRecord<'_, [u8], [u8], usize>) -> bool {
        fits(self.send(r).map_err(|e| e.0))
    }
    fn poll(&self) {
        Self::poll(self, Duration::ZERO);
    }
    fn flush(&self) {
        Producer::flush(self, END).expect("flush");
    }
}

impl Sender for ThreadedProducer<Ctx> {
    fn try_send(&self, r: BaseRecord<'_, [u8], [u8], usize>) -> bool {
        fits(self.send(r).map_err(|e| e.0))
    }
    fn poll(&self) {}
    fn flush(&self) {
        Producer::flush(self, END).expect("flush");
    }
}

fn fits(r: Result<(), KafkaError>) -> bool {
    match r {
        Ok(()) => true,
        Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => false,
        Err(e) => panic!("send: {e}"),
    }
}

struct Load {
    pool: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

/// Which records, and into which of the two counts.
#[derive(Clone, Copy)]
struct Part {
    phase: usize,
    records: u64,
}

fn run<S: Sender>(p: &S, a: &Args, acks: &Acks, part: Part, load: &Load) {
    let mut pace = Pace::new(a);
    for i in 0..part.records {
        let at = pace.wait(i) as usize;
        loop {
            let mut r = BaseRecord::with_opaque_to(&a.topic, at << 1 | part.phase)
                .payload(&load.pool[i as usize % POOL][..]);
            if a.keys {
                r = r.key(&load.keys[i as usize % KEYS][..]);
            }
            if p.try_send(r) {
                break;
            }
            p.poll();
            std::thread::sleep(FULL);
        }
        if i % 64 == 0 || a.rate > 0.0 {
            p.poll();
        }
    }
    p.flush();
    while acks.total() < part.records {
        p.poll();
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn both<S: Sender>(p: S, name: &str, a: &Args, acks: &Arc<[Acks; 2]>) {
    let load = Load { pool: pool(a.size), keys: keys() };
    let warmup = Args { rate: 0.0, ..a.clone() };
    run(&p, &warmup, &acks[0], Part { phase: 0, records: a.warmup }, &load);
    let phase = Phase::start();
    run(&p, a, &acks[1], Part { phase: 1, records: a.records }, &load);
    phase.report(name, a, &acks[1]);
}

/// A future per record; one task awaits them in the order of sending.
async fn futures(p: &FutureProducer, a: &Args, acks: Arc<[Acks; 2]>, part: Part, load: &Load) {
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel::<(u64, DeliveryFuture)>();
    let waiter = tokio::spawn(async move {
        while let Some((at, f)) = rx.recv().await {
            let ok = matches!(f.await, Ok(Ok(_)));
            acks[part.phase].done(ok, at);
        }
    });
    let mut pace = Pace::new(a);
    for i in 0..part.records {
        let at = pace.wait(i);
        loop {
            let mut r: FutureRecord<'_, [u8], [u8]> =
                FutureRecord::to(&a.topic).payload(&load.pool[i as usize % POOL][..]);
            if a.keys {
                r = r.key(&load.keys[i as usize % KEYS][..]);
            }
            match p.send_result(r) {
                Ok(f) => {
                    let _ = tx.send((at, f));
                    break;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(FULL);
                }
                Err((e, _)) => panic!("send: {e}"),
            }
        }
    }
    drop(tx);
    p.flush(END).expect("flush");
    waiter.await.expect("the waiter ends");
}

fn main() {
    let a = Args::parse();
    let acks = Arc::new([Acks::default(), Acks::default()]);
    let ctx = Ctx(acks.clone());
    match a.mode.as_str() {
        "threaded" => {
            let p: ThreadedProducer<Ctx> = config(&a).create_with_context(ctx).expect("producer");
            both(p, "librdkafka-threaded", &a, &acks);
        }
        "future" => {
            let mut rt = tokio::runtime::Builder::new_multi_thread();
            let rt = rt.enable_all().build().expect("a runtime");
            rt.block_on(async {
                let p: FutureProducer = config(&a).create().expect("producer");
                let load = Load { pool: pool(a.size), keys: keys() };
                let warmup = Args { rate: 0.0, ..a.clone() };
                let part = Part { phase: 0, records: a.warmup };
                futures(&p, &warmup, acks.clone(), part, &load).await;
                let phase = Phase::start();
                let part = Part { phase: 1, records: a.records };
                futures(&p, &a, acks.clone(), part, &load).await;
                phase.report("librdkafka-future", &a, &acks[1]);
            });
        }
        _ => {
            let p: BaseProducer<Ctx> = config(&a).create_with_context(ctx).expect("producer");
            both(p, "librdkafka-base", &a, &acks);
        }
    }
}
