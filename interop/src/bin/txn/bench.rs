//! What transactions cost, measured as Txn.java measures it.

use std::time::{Duration, Instant};

use sordini::{Producer, Record, Topic, TransactionalProducer};

use crate::api::{self, Told};
use crate::args::Args;
use crate::failed::Failed;

/// What is written, and how much of it at a time.
struct Load {
    topic: String,
    partitions: u64,
    value: Vec<u8>,
    per: u64,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failed> {
    let (records, per): (u64, u64) = (args.number("records")?, args.number("per")?);
    let size: usize = args.number("size")?;
    // Bytes of no use to a codec, the same in each run.
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 56) as u8
    };
    let load = Load {
        topic: args.get("topic")?.to_owned(),
        partitions: args.number("partitions")?,
        value: (0..size).map(|_| byte()).collect(),
        per,
    };
    // A tenth more, before the clock starts: connections and metadata.
    let before = (records / 10).max(per);
    let (seconds, mut commits) = match per {
        0 => {
            let producer = plain(args).await?;
            let topic = producer.topic(&load.topic).map_err(Failed::other)?;
            write(&producer, &topic, &load, before).await?;
            let begun = Instant::now();
            write(&producer, &topic, &load, records).await?;
            (begun.elapsed().as_secs_f64(), Vec::new())
        }
        _ => {
            let producer = api::producer(args).await?;
            let (producer, _) = transactions(producer, &load, before).await?;
            let begun = Instant::now();
            let (_, commits) = transactions(producer, &load, records).await?;
            (begun.elapsed().as_secs_f64(), commits)
        }
    };
    commits.sort_unstable();
    println!(
        "{{\"client\":\"sordini\",\"records\":{records},\"per\":{per},\"size\":{size},\"seconds\":\
         {seconds:.3},\"records_per_second\":{:.0},\"transactions\":{},\"commit_ms\":{{\"p50\":{},\
         \"p99\":{},\"max\":{}}}}}",
        records as f64 / seconds,
        commits.len(),
        ms(&commits, 50),
        ms(&commits, 99),
        ms(&commits, 100)
    );
    Ok(())
}

fn ms(sorted: &[Duration], percent: usize) -> String {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).map_or("null".to_owned(), |it| format!("{:.3}", it.as_secs_f64() * 1e3))
}

async fn plain(args: &Args) -> Result<Producer, Failed> {
    let mut builder = Producer::builder(args.get("bootstrap")?);
    for (name, value) in &args.settings {
        builder = builder.set(name, value).map_err(Failed::other)?;
    }
    builder.build().await.map_err(Failed::other)
}

async fn write(
    producer: &Producer,
    topic: &Topic,
    load: &Load,
    records: u64,
) -> Result<(), Failed> {
    for number in 0..records {
        let partition = (number % load.partitions) as i32;
        let record = Record::new(&load.value).partition(partition);
        topic.enqueue_detached(record).await.map_err(Failed::other)?;
    }
    flushed(producer.flush().await.is_clean())
}

async fn transactions(
    mut producer: TransactionalProducer,
    load: &Load,
    records: u64,
) -> Result<(TransactionalProducer, Vec<Duration>), Failed> {
    let mut commits = Vec::new();
    for first in (0..records).step_by(usize::try_from(load.per).map_err(Failed::other)?) {
        let open = api::begin(producer).await?;
        let topic = open.topic(&load.topic).map_err(Failed::other)?;
        for number in first..records.min(first + load.per) {
            let partition = (number % load.partitions) as i32;
            let record = Record::new(&load.value).partition(partition);
            topic.enqueue_detached(record).await.map_err(Failed::other)?;
        }
        // What commit does first, so that its latency is the protocol's alone.
        flushed(open.flush().await.is_clean())?;
        let at = Instant::now();
        let (again, told) = api::commit(open).await;
        commits.push(at.elapsed());
        producer = again;
        match told? {
            Told::Committed => {}
            Told::Aborted(why) | Told::Unknown(why) => return Err(Failed::Other(why)),
        }
    }
    Ok((producer, commits))
}

fn flushed(clean: bool) -> Result<(), Failed> {
    if clean { Ok(()) } else { Err(Failed::Other("records failed".to_owned())) }
}
