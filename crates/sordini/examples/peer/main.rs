//! Sordini behind the command line of the comparison (`cargo xtask compare`, bench/README.md): sends
//! a load, and prints one line of JSON with rate, processor time, memory and latency.
//!
//! ```console
//! $ cargo run --release --example peer -- --bootstrap localhost:9092 --records 5000000 --mode extend
//! ```
//!
//! Beside the shared options: `--mode enqueue|extend|detached`; `--threads N`, the runtime's workers
//! beside the thread that sends; `--window N`, how many records may lack their receipt.

mod args;
mod load;
mod meter;

use std::hint::black_box;
use std::time::{Duration, Instant};

use sordini::{BatchDeliveries, Delivery, Outcome, Producer, Record, RunOutcome, Topic};
use tokio::sync::mpsc;

use crate::args::{Args, Failure, Mode};
use crate::load::{Load, Pace};
use crate::meter::{Phase, Tally};

/// So many records go in, or are looked after, at a time.
const CHUNK: usize = 512;

/// How long the end of a run may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let args = Args::parse(std::env::args().skip(1))?;
    let mut runtime = match args.threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(args.threads.max(1)).enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> Result<(), Failure> {
    let producer = args.producer()?.build().await?;
    let topic = producer.topic(&args.topic)?;
    let load: &'static Load = Box::leak(Box::new(Load::new(args.size, args.keys)));
    let warmup = Args { rate: None, records: args.warmup, ..args.clone() };
    drop(send(&producer, &topic, &warmup, load).await?);
    let phase = Phase::begin()?;
    let tally = send(&producer, &topic, args, load).await?;
    println!("{}", phase.line(args, &tally)?);
    let report = producer.close(PATIENCE).await;
    if report.is_clean() { Ok(()) } else { Err(report.to_string().into()) }
}

async fn send(
    producer: &Producer,
    topic: &Topic,
    args: &Args,
    load: &'static Load,
) -> Result<Tally, Failure> {
    match args.mode {
        Mode::Enqueue => enqueue(producer, topic, args, load).await,
        Mode::Extend => extend(producer, topic, args, load).await,
        Mode::Detached => detached(producer, topic, args, load).await,
    }
}

fn record(load: &Load, number: u64) -> Record<'_> {
    let record = Record::new(load.value(number));
    match load.key(number) {
        Some(key) => record.key(key),
        None => record,
    }
}

/// Says from when each record's latency counts, waiting for its time where there is a rate.
struct Release {
    pace: Option<Pace>,
    sample: u64,
}

impl Release {
    fn new(args: &Args) -> Self {
        Self { pace: args.rate.map(Pace::new), sample: args.sample }
    }

    /// `None` where nobody asks for the latency.
    fn next(&mut self, number: u64) -> Option<Instant> {
        let sampled = number.is_multiple_of(self.sample);
        match &mut self.pace {
            Some(pace) => Some(pace.wait(number)).filter(|_| sampled),
            None => sampled.then(Instant::now),
        }
    }

    /// Is `next` not due yet, so that receipts are to be looked after now?
    fn is_over(&self, next: u64) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.is_over(next))
    }
}

/// Receipts on their way to the task that awaits them.
struct Chunk {
    receipts: Vec<Delivery>,
    /// For each receipt whose latency is measured, its place and from when that counts.
    since: Vec<(usize, Instant)>,
}

impl Chunk {
    fn new(sample: u64) -> Self {
        let sampled = CHUNK / usize::try_from(sample).unwrap_or(CHUNK).min(CHUNK) + 1;
        Self { receipts: Vec::with_capacity(CHUNK), since: Vec::with_capacity(sampled) }
    }
}

/// A task of its own awaits the receipts, which reach it in chunks.
async fn enqueue(
    producer: &Producer,
    topic: &Topic,
    args: &Args,
    load: &Load,
) -> Result<Tally, Failure> {
    let (receipts, mut accepted) = mpsc::channel::<Chunk>((args.window / CHUNK).max(1));
    let watch = tokio::spawn(async move {
        let mut tally = Tally::new();
        while let Some(chunk) = accepted.recv().await {
            let mut since = chunk.since.into_iter().peekable();
            for (at, delivery) in chunk.receipts.into_iter().enumerate() {
                match delivery.await {
                    Ok(written) => tally.written(written.offset),
                    Err(error) => failed(&mut tally, 1, &error),
                }
                if let Some((_, since)) = since.next_if(|(sampled, _)| *sampled == at) {
                    tally.latencies.add(since.elapsed());
                }
            }
        }
        tally
    });
    let mut release = Release::new(args);
    let mut chunk = Chunk::new(args.sample);
    for number in 0..args.records {
        if let Some(since) = release.next(number) {
            chunk.since.push((chunk.receipts.len(), since));
        }
        chunk.receipts.push(topic.enqueue(record(load, number)).await?);
        if chunk.receipts.len() == CHUNK || release.is_over(number + 1) {
            let full = std::mem::replace(&mut chunk, Chunk::new(args.sample));
            receipts.send(full).await?;
        }
    }
    receipts.send(chunk).await?;
    drop(receipts);
    // What became of the records, the receipts say.
    let _ = producer.flush().await;
    Ok(watch.await?)
}

/// As `enqueue`, with a range of receipts for each run of records that went in together.
async fn extend(
    producer: &Producer,
    topic: &Topic,
    args: &Args,
    load: &'static Load,
) -> Result<Tally, Failure> {
    let (receipts, mut accepted) =
        mpsc::channel::<(BatchDeliveries, Option<Instant>)>((args.window / CHUNK).max(1));
    let watch = tokio::spawn(async move {
        let mut tally = Tally::new();
        while let Some((deliveries, since)) = accepted.recv().await {
            let records = deliveries.len();
            deliveries.await.iter().for_each(|run| read(&mut tally, run));
            if let Some(since) = since {
                let latency = since.elapsed();
                (0..records).for_each(|_| tally.latencies.add(latency));
            }
        }
        tally
    });
    let mut release = Release::new(args);
    let mut appender = topic.appender();
    let mut number = 0;
    while number < args.records {
        let since = release.next(number);
        let mut end = number + 1;
        while end < args.records && end - number < CHUNK as u64 && !release.is_over(end) {
            end += 1;
        }
        let run = (number..end).map(|number| record(load, number));
        receipts.send((appender.extend(run).await?, since)).await?;
        number = end;
    }
    drop(receipts);
    // What became of the records, the receipts say.
    let _ = producer.flush().await;
    Ok(watch.await?)
}

/// Reads every record's offset out of the range.
fn read(tally: &mut Tally, run: &RunOutcome) {
    match &run.outcome {
        Outcome::Written { base_offset, .. } => {
            for place in 0..i64::from(run.count) {
                tally.written(black_box(base_offset.map(|base| base + place)));
            }
        }
        Outcome::Failed(error) => failed(tally, u64::from(run.count), error),
    }
}

/// Without receipts: the counters tell what became of the records.
async fn detached(
    producer: &Producer,
    topic: &Topic,
    args: &Args,
    load: &Load,
) -> Result<Tally, Failure> {
    let before = producer.metrics();
    let mut release = Release::new(args);
    for number in 0..args.records {
        release.next(number);
        topic.enqueue_detached(record(load, number)).await?;
    }
    let _ = producer.flush().await;
    let after = producer.metrics();
    let mut tally = Tally::new();
    tally.written = after.records_written - before.records_written;
    tally.failed = args.records - tally.written;
    Ok(tally)
}

fn failed(tally: &mut Tally, records: u64, error: &dyn std::error::Error) {
    if tally.failed == 0 {
        eprintln!("a record failed: {error}");
    }
    tally.failed += records;
}
