//! `sordini produce`: lines into records, and what became of them.

mod feed;
mod ledger;
mod shape;
mod source;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sordini::{Producer, ProducerBuilder, SendError};

use crate::connect::{Said, Target, parse_pair, parse_topic};
use crate::embedded::Embedded;
use crate::exit::{FAILED, Failure, Outcome};
use crate::output::print_line;
use crate::separator::Separator;
use crate::signals::{Signal, Signals};
use crate::summary::Summary;
use crate::terminal::{self, grouped};

use feed::{Feed, Stopped};
use ledger::Ledger;
use shape::Shape;
use source::Inputs;

const EXAMPLES: &str = "\
Examples:
  sordini produce clicks clicks.jsonl            one record per line, into the embedded broker
  tail -f app.log | sordini produce -b localhost:9092 logs
  sordini produce users users.tsv -K '\\t'        the key stands before the first tab
  sordini produce -b k1:9092,k2:9092 orders orders.csv --failed left.csv -X compression.type=zstd
  sordini produce copy --from-json clicks.json   lines as `sordini tail --json` prints them

A line ends at LF; every other byte, CR included, is the record's. An empty line is an empty value.
The last line needs no LF. Nothing is changed, trimmed or decoded.

The first Ctrl-C stops reading and delivers what was accepted; the second ends at once.
Exit code: 0 all delivered; 1 something was not, or the input was not read to its end; 2 usage,
settings, a missing file or a locked folder; 130 after Ctrl-C, 143 after SIGTERM.
The summary as JSON has accepted (= delivered + failed + unknown), rejected (lines refused before
acceptance), complete (was the input read to its end?), retries, bytes, seconds and guarantee.";

/// Append the lines of files, or of stdin, to a topic
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,

    /// The topic to append to
    #[arg(value_parser = parse_topic)]
    topic: String,

    /// The files to read, one after the other; none, or -, is stdin
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Split each line at the first S into key and value; without S in it, it has no key
    ///
    /// S may be several bytes; \t, \0, \\ and \xHH are escapes.
    #[arg(short = 'K', long, value_name = "S", allow_hyphen_values = true)]
    #[arg(conflicts_with = "from_json")]
    key_separator: Option<Separator>,

    /// Make an empty value a null value, which a compacted topic reads as a deletion
    #[arg(long, conflicts_with = "from_json")]
    tombstones: bool,

    /// Append to this partition, counted from 0, instead of the one that the key chooses
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// Put this header on each record; may be given more than once
    #[arg(short = 'H', long, value_name = "K=V", value_parser = parse_pair)]
    header: Vec<(String, String)>,

    /// Read at most N lines a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,

    /// Read each line as a JSON object, as `sordini tail --json` prints them
    ///
    /// Key, value, headers, timestamp and partition are taken over (-p outranks the partition);
    /// only "value" must be there.
    #[arg(long)]
    from_json: bool,

    /// Write the lines that were not delivered to this file, unchanged, in the input's order
    ///
    /// Those are the failed, the possibly written (unknown) and the rejected ones.
    #[arg(long, value_name = "FILE")]
    failed: Option<PathBuf>,

    /// Print the summary as one line of JSON on stdout
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    said: Said,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let signals = Signals::listen(terminal::clear).map_err(Failure::failed)?;
    let inputs = Inputs::open(&args.files)?;
    refuse_own_input(&args)?;
    let (builder, bootstrap) = describe_producer(&args)?;
    let ledger = Ledger::open(args.failed.as_deref())?;
    let embedded = match bootstrap {
        Bootstrap::Given => None,
        Bootstrap::Embedded => Some(Embedded::open(args.target.folder()).await?),
    };
    let builder = match &embedded {
        Some(embedded) => builder.set("bootstrap.servers", embedded.address()),
        None => Ok(builder),
    };
    let producer = builder.map_err(Failure::usage)?.build().await.map_err(Failure::usage)?;
    let outcome = produce(&args, &producer, inputs, ledger, signals).await;
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    outcome
}

/// Where the brokers' addresses come from.
enum Bootstrap {
    Given,
    Embedded,
}

/// Stands for addresses until it is known whether there are any. Never connected to.
const NO_BOOTSTRAP: &str = "none.invalid:9";

/// The producer's settings: `--config`, then `-X`, then `-b`; each outranks what stands before it.
fn describe_producer(args: &Args) -> Result<(ProducerBuilder, Bootstrap), Failure> {
    args.said.refuse_two_clusters(&args.target)?;
    let mut builder = Producer::builder(NO_BOOTSTRAP).client_id("sordini-cli");
    if let Some(text) = args.said.config_text()? {
        let name = args.said.config_name();
        builder = builder
            .from_properties(&text)
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    }
    for (name, value) in &args.said.settings {
        builder = builder.set(name, value).map_err(Failure::usage)?;
    }
    let bootstrap = match (&args.target.bootstrap, &args.target.data) {
        (Some(bootstrap), _) => Some(bootstrap.as_str()),
        // A folder that is named outranks a file's bootstrap.servers.
        (None, Some(_)) => Some(NO_BOOTSTRAP),
        (None, None) => None,
    };
    if let Some(bootstrap) = bootstrap {
        builder = builder.set("bootstrap.servers", bootstrap).map_err(Failure::usage)?;
    }
    let (config, _) = builder.config().map_err(Failure::usage)?;
    let none = config.bootstrap_servers.iter().all(|one| one.to_string() == NO_BOOTSTRAP);
    Ok((builder, if none { Bootstrap::Embedded } else { Bootstrap::Given }))
}

/// `--failed` would empty the file before it is read.
fn refuse_own_input(args: &Args) -> Outcome {
    let Some(failed) = &args.failed else { return Ok(()) };
    let Ok(failed) = failed.canonicalize() else { return Ok(()) };
    let same = |file: &&PathBuf| file.canonicalize().is_ok_and(|file| file == failed);
    match args.files.iter().find(same) {
        Some(file) => Err(Failure::usage(format!(
            "--failed {} is also read; name another file for the lines that fail",
            file.display()
        ))),
        None => Ok(()),
    }
}

async fn produce(
    args: &Args,
    producer: &Producer,
    inputs: Inputs,
    ledger: Ledger,
    signals: Signals,
) -> Outcome {
    let topic = producer.topic(&args.topic).map_err(|error| match error {
        SendError::InvalidTopic { .. } => Failure::usage(error),
        error => Failure::failed(error),
    })?;
    let shape = Shape {
        separator: args.key_separator.clone(),
        tombstones: args.tombstones,
        partition: args.partition,
        headers: args.header.clone(),
        from_json: args.from_json,
    };
    let config = producer.config();
    let patience = config.max_block;
    let within = config.delivery_timeout + Duration::from_secs(5);
    // A line as JSON is longer than its record: a byte takes up to six characters.
    let limit = config.max_request_size.saturating_mul(if args.from_json { 8 } else { 1 });
    close_at_signal(producer.clone(), signals.clone(), within);
    let began = Instant::now();
    let total = inputs.size;
    let source = inputs.start(limit).map_err(Failure::failed)?;
    let mut feed =
        Feed::new(topic.appender(), shape, ledger, source, signals.clone(), patience, args.rate);
    feed.begin()?;
    let stopped = {
        let progress = terminal::Progress::start(total);
        let stopped = feed.run(&progress).await;
        feed.drain(&progress, within).await;
        stopped
    };
    // Everything has its outcome; what is left is to take leave of the brokers.
    let _ = producer.close(Duration::from_secs(5)).await;
    let summary = summarise(producer, &feed, began.elapsed());
    report(args, &summary, &feed, stopped, signals.seen())
}

/// Closing lets what was accepted be delivered, and ends what waits to be accepted.
fn close_at_signal(producer: Producer, mut signals: Signals, within: Duration) {
    tokio::spawn(async move {
        signals.wait().await;
        let _ = producer.close(within).await;
    });
}

fn summarise(producer: &Producer, feed: &Feed, elapsed: Duration) -> Summary {
    let tally = feed.tally();
    Summary {
        accepted: tally.accepted,
        delivered: tally.delivered,
        failed: tally.failed,
        unknown: tally.unknown,
        rejected: tally.rejected,
        complete: feed.is_complete(),
        retries: producer.metrics().retries,
        bytes: tally.bytes,
        seconds: elapsed.as_secs_f64(),
        guarantee: producer.guarantees().level,
    }
}

/// Prints the summary and says how the process ends.
fn report(
    args: &Args,
    summary: &Summary,
    feed: &Feed,
    stopped: Result<(), Stopped>,
    signal: Option<Signal>,
) -> Outcome {
    let text = if args.json { summary.json() } else { summary.text(&args.topic) };
    let printed = print_line(&text);
    if let Some(failure) = feed.first_failure() {
        terminal::error(match summary.failed + summary.unknown {
            1 => format!("1 record was not delivered: {failure}"),
            count => format!(
                "{} records were not delivered; the first: {failure} (-v tells of all)",
                grouped(count)
            ),
        });
    }
    if let Err(Stopped::Because(why)) = &stopped {
        terminal::error(format!("reading stopped: {why}"));
    }
    if let Some(signal) = signal {
        return Err(Failure::quiet(signal.exit_code()));
    }
    match printed {
        Err(failure) if failure.code != 0 => Err(failure),
        _ if summary.is_success() && stopped.is_ok() => Ok(()),
        _ => Err(Failure::quiet(FAILED)),
    }
}
