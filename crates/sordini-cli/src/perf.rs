//! `sordini perf`: how fast this producer is against a cluster.

use std::time::{Duration, Instant};

use serde::Serialize;
use sordini::{BuildError, Producer, Record, Topic};
use tokio::task::JoinSet;

use crate::connect::{Said, explained, parse_topic, patiently, until_known, waited_for};
use crate::exit::{FAILED, Failure, Outcome};
use crate::output::print_line;
use crate::signals::Signals;
use crate::summary::shown;
use crate::terminal::{self, Progress, grouped};

const EXAMPLES: &str = "\
Examples:
  sordini perf -b localhost:9092 bench --records 5000000 --size 100
  sordini perf -b localhost:9092 bench --records 100000 --size 1000 --rate 10000 -X linger.ms=0
  sordini perf -b localhost:9092 bench --records 1000000 --size 100 -X compression.type=lz4 --json

Values are random letters and digits, without keys. The latency is from the call that hands a record
in to its acknowledgement, waiting for memory included, of records sampled evenly over the run: without
--rate the producer's buffer is always full, and the latency says how long that queue is.
CPU is that of this whole process.

The first Ctrl-C delivers what was handed in and prints what was measured until then; the second
ends at once.
Exit code: 0 all delivered; 1 something was not; 2 usage or settings; 130 after Ctrl-C, 143 after SIGTERM.";

/// The largest value, in bytes: no broker takes a record of more than 2 GiB.
const SIZE_MAX: usize = 1 << 30;
/// Records in one call of the appender.
const RUN: u64 = 256;
/// Records whose latency is measured, about.
const SAMPLES: u64 = 20_000;
/// Samples that are waited for at a time.
const SAMPLES_OPEN: usize = 10_000;

/// Measure how fast records are delivered to a topic
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The brokers to ask first, separated by commas
    #[arg(short, long = "bootstrap-server", value_name = "HOST:PORT,..")]
    bootstrap: Option<String>,

    /// The topic to append to; it is created where the cluster allows it
    #[arg(value_parser = parse_topic)]
    topic: String,

    /// How many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,

    /// Bytes of each value
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    size: usize,

    /// At most so many records a second
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,

    /// Print the result as one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    said: Said,
}

/// Bytes of a value: what fits into memory several times over.
fn parse_size(text: &str) -> Result<usize, String> {
    let size = text.parse::<usize>().map_err(|error| error.to_string())?;
    if size <= SIZE_MAX { Ok(size) } else { Err(format!("{SIZE_MAX} bytes is the most")) }
}

/// What was measured. The field names are those of `--json`; the latencies are microseconds.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    records: u64,
    delivered: u64,
    failed: u64,
    unknown: u64,
    retries: u64,
    seconds: f64,
    records_per_second: f64,
    mb_per_second: f64,
    records_per_batch: f64,
    latency_us: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_us_per_record: Option<f64>,
    guarantee: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Latency {
    samples: usize,
    p50: u64,
    p95: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    max: u64,
}

impl Latency {
    /// The percentiles of `samples`, each the smallest sample that is not exceeded by so many.
    fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let at = |per_mille: usize| {
            let rank = (samples.len() * per_mille).div_ceil(1000).max(1);
            samples.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            samples: samples.len(),
            p50: at(500),
            p95: at(950),
            p99: at(990),
            p99_9: at(999),
            max: at(1000),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let mut signals = Signals::listen(terminal::clear).map_err(Failure::failed)?;
    let producer = producer(&args).await?;
    signals.announce(waited_for(producer.config()));
    let topic = producer.topic(&args.topic).map_err(Failure::usage)?;
    // Finding the cluster is no part of what is measured.
    tokio::select! {
        found = patiently(topic.partitions(), || until_known(&args.topic, producer.config())) => {
            found.map_err(|error| Failure::failed(explained(&error)))?;
        }
        _ = signals.wait() => {}
    }
    let before = cpu_time();
    let began = Instant::now();
    let progress = Progress::start(Some(args.records));
    let mut samples = Samples::new();
    let sent = tokio::select! {
        biased;
        // What was accepted until then is delivered, and told of.
        _ = signals.wait() => Ok(()),
        sent = send_all(&args, &producer, &topic, &progress, &mut samples) => sent,
    };
    let _ = producer.flush().await;
    let elapsed = began.elapsed();
    let cpu = cpu_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let latency = Latency::of(samples.join_all().await.into_iter().flatten().collect());
    drop(progress);
    let measured = measure(&args, &producer, elapsed, cpu, latency);
    let _ = producer.close(Duration::from_secs(5)).await;
    print_line(&if args.json { json(&measured) } else { text(&args, &measured) })?;
    sent?;
    if let Some(signal) = signals.seen() {
        return Err(Failure::quiet(signal.exit_code()));
    }
    if measured.delivered == args.records { Ok(()) } else { Err(Failure::quiet(FAILED)) }
}

async fn producer(args: &Args) -> Result<Producer, Failure> {
    let mut settings = args.said.settings.iter();
    let said = args.said.config.is_some() || settings.any(|(name, _)| name == "bootstrap.servers");
    if args.bootstrap.is_none() && !said {
        return Err(Failure::usage(
            "perf brings no broker of its own: name one with -b HOST:PORT (bootstrap.servers)",
        ));
    }
    let mut builder = Producer::builder(args.bootstrap.as_deref().unwrap_or_default());
    builder = builder.client_id("sordini-perf");
    if let Some(text) = args.said.config_text()? {
        let name = args.said.config_name();
        builder = builder
            .from_properties(&text)
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    }
    for (name, value) in &args.said.settings {
        builder = builder.set(name, value).map_err(Failure::usage)?;
    }
    if let Some(bootstrap) = &args.bootstrap {
        builder = builder.set("bootstrap.servers", bootstrap).map_err(Failure::usage)?;
    }
    builder.build().await.map_err(|error| match error {
        BuildError::Transactional { .. } => {
            Failure::usage("perf appends without transactions; leave transactional.id out")
        }
        error => Failure::usage(error),
    })
}

type Samples = JoinSet<Option<u64>>;

/// Hands in all records; the latencies are still being waited for.
async fn send_all(
    args: &Args,
    producer: &Producer,
    topic: &Topic,
    progress: &Progress,
    samples: &mut Samples,
) -> Outcome {
    let values = Values::new(args.size);
    let mut appender = topic.appender();
    let every = (args.records / SAMPLES).max(1);
    let run = args.rate.map_or(RUN, |rate| (rate / 100).clamp(1, RUN));
    let began = tokio::time::Instant::now();
    let mut sent = 0;
    while sent < args.records {
        if let Some(rate) = args.rate {
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            tokio::time::sleep_until(began + due).await;
        }
        let end = (sent + run).min(args.records);
        // The first of a stretch is sampled, alone; the others go in together.
        if sent.is_multiple_of(every) || sent / every != end / every {
            sample(topic, values.get(sent), samples).await?;
            sent += 1;
        }
        let records = (sent..end).map(|number| Record::new(values.get(number)));
        match appender.extend(records).await {
            Ok(deliveries) => deliveries.detach(),
            Err(error) => return Err(Failure::failed(error)),
        }
        sent = end;
        progress.show(sent, || {
            let delivered = producer.metrics().records_written;
            let seconds = began.elapsed().as_secs_f64().max(0.001);
            let rate = delivered as f64 / seconds;
            let megabytes = rate * args.size as f64 / 1e6;
            format!("{} records/s, {megabytes:.1} MB/s", grouped(rate as u64))
        });
    }
    Ok(())
}

/// Hands in one record and lets a task wait for its acknowledgement.
async fn sample(topic: &Topic, value: &[u8], samples: &mut Samples) -> Outcome {
    let began = Instant::now();
    let delivery = topic.enqueue(Record::new(value)).await.map_err(Failure::failed)?;
    if samples.len() < SAMPLES_OPEN {
        samples.spawn(async move {
            let written = delivery.await.is_ok();
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            written.then_some(micros)
        });
    }
    Ok(())
}

/// Values of one size, made of random letters and digits.
struct Values {
    letters: Vec<u8>,
    size: usize,
}

impl Values {
    /// How many different values there are.
    const KINDS: usize = 1021;

    fn new(size: usize) -> Self {
        const ALPHABET: &[u8; 64] =
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
        // xorshift64: the bytes need only not compress to nothing.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let letter = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ALPHABET[(state >> 58) as usize]
        };
        let letters = std::iter::repeat_with(letter).take(size + Self::KINDS).collect();
        Self { letters, size }
    }

    fn get(&self, number: u64) -> &[u8] {
        let start = (number % Self::KINDS as u64) as usize;
        &self.letters[start..start + self.size]
    }
}

fn measure(
    args: &Args,
    producer: &Producer,
    elapsed: Duration,
    cpu: Option<Duration>,
    latency_us: Latency,
) -> Measured {
    let metrics = producer.metrics();
    let seconds = elapsed.as_secs_f64().max(0.000_001);
    let delivered = metrics.records_written;
    let rate = delivered as f64 / seconds;
    Measured {
        records: args.records,
        delivered,
        failed: metrics.records_not_written,
        unknown: metrics.records_unknown,
        retries: metrics.retries,
        seconds: elapsed.as_secs_f64(),
        records_per_second: rate,
        mb_per_second: rate * args.size as f64 / 1e6,
        records_per_batch: delivered as f64 / metrics.batches_written.max(1) as f64,
        latency_us,
        cpu_us_per_record: cpu
            .filter(|_| delivered > 0)
            .map(|cpu| cpu.as_secs_f64() * 1e6 / delivered as f64),
        guarantee: producer.guarantees().level,
    }
}

fn json(measured: &Measured) -> String {
    // Numbers and one string: nothing of it can fail to be written.
    serde_json::to_string(measured).unwrap_or_default()
}

fn text(args: &Args, measured: &Measured) -> String {
    let micros = |value| shown(Duration::from_micros(value));
    let latency = &measured.latency_us;
    let latencies = match latency.samples {
        0 => "none was measured".into(),
        samples => format!(
            "p50 {}, p95 {}, p99 {}, p99.9 {}, max {} ({} samples)",
            micros(latency.p50),
            micros(latency.p95),
            micros(latency.p99),
            micros(latency.p99_9),
            micros(latency.max),
            grouped(samples as u64)
        ),
    };
    let cpu = match measured.cpu_us_per_record {
        Some(cpu) => format!("\ncpu: {cpu:.3} us per record"),
        None => String::new(),
    };
    format!(
        "{}: {} of {} records of {} bytes delivered in {} ({} records/s, {:.1} MB/s)\n\
         failed {}, unknown {}, retries {}, {:.1} records per batch\n\
         latency: {latencies}{cpu}\n\
         guarantee: {}",
        args.topic,
        grouped(measured.delivered),
        grouped(measured.records),
        args.size,
        shown(Duration::from_secs_f64(measured.seconds)),
        grouped(measured.records_per_second as u64),
        measured.mb_per_second,
        grouped(measured.failed),
        grouped(measured.unknown),
        grouped(measured.retries),
        measured.records_per_batch,
        measured.guarantee,
    )
}

/// What this process has used of the processors so far, where the system tells: user and system
/// time of /proc/self/stat, in ticks of 10 ms (USER_HZ, 100 on every Linux).
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in parentheses and may hold blanks.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_seen() {
        let latency = Latency::of((1..=1000).rev().collect());
        let expected =
            Latency { samples: 1000, p50: 500, p95: 950, p99: 990, p99_9: 999, max: 1000 };
        assert_eq!(latency, expected);
        assert_eq!(Latency::of(vec![7]).p50, 7);
        assert_eq!(Latency::of(vec![]), Latency::default());
    }

    #[test]
    fn values_have_their_size_and_differ() {
        for size in [0, 1, 100] {
            let values = Values::new(size);
            assert_eq!(values.get(u64::MAX).len(), size);
        }
        let values = Values::new(100);
        assert_ne!(values.get(0), values.get(1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_the_cpu_time() {
        assert!(cpu_time().is_some());
    }
}
