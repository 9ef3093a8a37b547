//! The command line that all producers of the comparison share (bench/README.md).

use std::str::FromStr;
use std::time::Duration;

use sordini::{Producer, ProducerBuilder};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Which way the records go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `Topic::enqueue`, and a receipt for each record.
    Enqueue,
    /// `Appender::extend`, and receipts in ranges.
    Extend,
    /// `Topic::enqueue_detached`, without receipts.
    Detached,
}

/// What a run does. A setting that is `None` stays at the library's default.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) records: u64,
    pub(crate) warmup: u64,
    pub(crate) size: usize,
    pub(crate) keys: bool,
    /// Records a second; `None` for as fast as it goes.
    pub(crate) rate: Option<f64>,
    /// The latency of every how many-th record is measured.
    pub(crate) sample: u64,
    /// Worker threads beside the one that sends; with 0 all runs on that one.
    pub(crate) threads: usize,
    /// At most this many records lack their receipt.
    pub(crate) window: usize,
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// The options that are settings: the name, Kafka's name, and whether they stand with
/// `--defaults true`, where nothing but the case itself is set.
const SETTINGS: [(&str, &str, bool); 7] = [
    ("acks", "acks", true),
    ("idempotent", "enable.idempotence", true),
    ("compression", "compression.type", true),
    ("linger-ms", "linger.ms", true),
    ("inflight", "max.in.flight.requests.per.connection", true),
    ("batch-bytes", "batch.size", false),
    ("buffer-bytes", "buffer.memory", false),
];

/// Options that other programs of the comparison need.
const IGNORED: [&str; 1] = ["partitions"];

impl Args {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut given = Given::read(args)?;
        let defaults = given.get("defaults", false)?;
        let mut settings = Vec::new();
        for (option, name, always) in SETTINGS {
            if let Some(value) = given.take(option).filter(|_| always || !defaults) {
                settings.push((name, value));
            }
        }
        IGNORED.iter().for_each(|name| drop(given.take(name)));
        let mode = match given.take("mode").as_deref() {
            None | Some("enqueue") => Mode::Enqueue,
            Some("extend") => Mode::Extend,
            Some("detached") => Mode::Detached,
            Some(mode) => return Err(format!("--mode {mode}: enqueue, extend or detached").into()),
        };
        let args = Self {
            mode,
            bootstrap: given.get("bootstrap", "127.0.0.1:9092".to_owned())?,
            topic: given.get("topic", "bench".to_owned())?,
            records: given.get("records", 1_000_000)?,
            warmup: given.get("warmup", 0)?,
            size: given.get("size", 100)?,
            keys: given.get("key-mode", "none".to_owned())? == "random",
            rate: Some(given.get("rate", 0.0)?).filter(|rate| *rate > 0.0),
            sample: given.get("sample", 1u64)?.max(1),
            threads: given.get("threads", 1)?,
            window: given.get("window", 1 << 16)?,
            settings,
        };
        match given.0.first() {
            Some((name, _)) => Err(format!("--{name} is not known here").into()),
            None => Ok(args),
        }
    }

    /// A producer with the settings that were given.
    pub(crate) fn producer(&self) -> Result<ProducerBuilder, Failure> {
        let mut builder = Producer::builder(&self.bootstrap).client_id("bench");
        for (name, value) in &self.settings {
            builder = match *name {
                // The others take fractions; ours is a typed setter.
                "linger.ms" => builder.linger(Duration::try_from_secs_f64(
                    value.parse::<f64>().map_err(|e| format!("linger.ms {value}: {e}"))? / 1e3,
                )?),
                name => builder.set(name, value)?,
            };
        }
        Ok(builder)
    }
}

/// Options as they were given, each with its value.
struct Given(Vec<(String, String)>);

impl Given {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut given = Vec::new();
        while let Some(option) = args.next() {
            let name = option.strip_prefix("--").ok_or_else(|| format!("what is {option}?"))?;
            let value = args.next().ok_or_else(|| format!("{option} lacks its value"))?;
            given.push((name.to_owned(), value));
        }
        Ok(Self(given))
    }

    /// The last word on an option.
    fn take(&mut self, name: &str) -> Option<String> {
        let value = self.0.iter().rfind(|(given, _)| given == name).map(|(_, value)| value.clone());
        self.0.retain(|(given, _)| given != name);
        value
    }

    fn get<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, Failure>
    where
        T::Err: std::fmt::Display,
    {
        let Some(value) = self.take(name) else { return Ok(default) };
        value.parse().map_err(|error| format!("--{name} {value}: {error}").into())
    }
}
