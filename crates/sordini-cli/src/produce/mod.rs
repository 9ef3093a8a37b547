//! `sordini produce`: lines into records, and what became of them.

mod failed;
mod feed;
mod ledger;
mod outlet;
mod shape;
mod source;
mod stoppable;
mod stopped;
mod transactions;

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sordini::{Config, Guarantees, InitError, Producer, ProducerBuilder, SendError};
use sordini_protocol::quote::quoted;

use crate::connect::{self, Said, Target, parse_pair, parse_partition, parse_topic, patiently};
use crate::embedded::Embedded;
use crate::exit::{FAILED, Failure, Outcome};
use crate::output::print_line;
use crate::separator::Separator;
use crate::signals::{Signal, Signals};
use crate::summary::Summary;
use crate::terminal::{self, grouped};

use failed::FailedLines;
use feed::Feed;
use ledger::Ledger;
use outlet::Outlet;
use shape::Shape;
use source::Inputs;
use stopped::Stopped;
use transactions::{Grouping, Transactions};

const EXAMPLES: &str = "\
Examples:
  sordini produce clicks clicks.jsonl            one record per line, into the embedded broker
  tail -f app.log | sordini produce -b localhost:9092 logs
  sordini produce users users.tsv -K '\\t'        the key stands before the first tab
  sordini produce -b k1:9092,k2:9092 orders orders.csv --failed left.csv -X compression.type=zstd
  sordini produce copy --from-json clicks.json   lines as `sordini tail --json` prints them
  sordini produce orders orders.csv --transaction all -X transactional.id=import-7

A line ends at LF; every other byte, CR included, is the record's. An empty line is an empty value.
The last line needs no LF. Nothing is changed, trimmed or decoded.

With --transaction, readers of committed records (`sordini tail --isolation read_committed`) see the
lines of a transaction together, or none of them. It is committed only if each of its lines was
accepted and written; else it is aborted, and all of its lines go to --failed. Those of the open one
stand there until it is committed. A number goes on with the next transaction after one that was
aborted; `all` stops. Where the input rests, a number also commits fewer lines, before
transaction.timeout.ms is half over.

The first Ctrl-C stops reading and delivers what was accepted, or aborts the open transaction; the
second ends at once, and lines without an outcome, and those behind them, are then not in --failed.

What stops before the end of the input says which line is the last that is counted. With --failed
each up to it was delivered or is in that file, as is all that was read of a pipe, were it half a
line: that file and what is still in the pipe, one behind the other, are what was not delivered.
Where that file can't be written, no line is named.
Without it, none behind that line was delivered. `tail -n +N FILE` gives the lines from N on.

Exit code: 0 all delivered; 1 something was not, or the input was not read to its end; 2 usage,
settings, a missing file or a locked folder; 130 after Ctrl-C, 143 after SIGTERM.
The summary as JSON has accepted (= delivered + failed + unknown), rejected (lines refused before
acceptance), complete (was the input read to its end?), where it was not last_line (input and line
of the last that is counted), retries, bytes, seconds and guarantee; with --transaction also
transactions (committed, aborted, unknown), and delivered means committed.";

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
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = parse_partition)]
    partition: Option<i32>,

    /// Put this header on each record; may be given more than once
    #[arg(short = 'H', long, value_name = "K=V", value_parser = parse_pair)]
    header: Vec<(String, String)>,

    /// Read at most N lines a second
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_rate)]
    rate: Option<u64>,

    /// Read each line as a JSON object, as `sordini tail --json` prints them
    ///
    /// Key, value, headers, timestamp and partition are taken over (-p outranks the partition);
    /// only "value" must be there. An "offset" is passed over; a line with any other field is
    /// rejected.
    #[arg(long)]
    from_json: bool,

    /// Write the lines that were not delivered to this file, unchanged, in the input's order
    ///
    /// Those are the failed, the possibly written (unknown) and the rejected ones, however long. The
    /// last line of an input gets its LF there if another input follows. But
    /// where a line has no end within 64 MiB (or 8 times max.request.size, if that is more), reading
    /// stops: what was read of it is in the file.
    #[arg(long, value_name = "FILE")]
    failed: Option<PathBuf>,

    /// Append N records each in one transaction, or the whole input in one; needs -X
    /// transactional.id=ID, a name that no other running producer has
    #[arg(long, value_name = "N|all", allow_negative_numbers = true)]
    transaction: Option<Grouping>,

    /// Print the summary as one line of JSON on stdout
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    said: Said,
}

fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = text.parse::<NonZeroU64>();
    rate.map(NonZeroU64::get).map_err(|_| "it is no number of lines from 1 up".into())
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let signals = Signals::listen(terminal::clear).map_err(Failure::failed)?;
    let inputs = Inputs::open(&args.files)?;
    refuse_own_input(&args, &inputs)?;
    let (builder, config, bootstrap) = describe_producer(&args)?;
    check_transactions(&args, &config)?;
    let failed = FailedLines::open(args.failed.as_deref())?;
    if args.transaction.is_some() {
        failed.check_erasable()?;
    }
    let embedded = match bootstrap {
        Bootstrap::Given => None,
        Bootstrap::Embedded => Some(Embedded::open(args.target.folder()).await?),
    };
    let builder = match &embedded {
        Some(embedded) => builder.set("bootstrap.servers", embedded.address()),
        None => Ok(builder),
    };
    let builder = builder.map_err(Failure::usage)?;
    signals.announce(waited_for(&args, &config));
    let outcome = match open_outlet(&args, &config, builder, failed, signals.clone()).await {
        Ok(outlet) => produce(&args, &config, outlet, inputs, signals).await,
        Err(failure) => Err(failure),
    };
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    outcome
}

/// What goes on after the first signal, and for how long.
fn waited_for(args: &Args, config: &Config) -> String {
    if args.transaction.is_some() {
        return format!(
            "stopping: the open transaction is aborted, or its commit waited for; a second Ctrl-C \
             ends at once, and leaves it to the cluster to end it within {} ms \
             (transaction.timeout.ms)",
            config.transaction_timeout.as_millis()
        );
    }
    connect::waited_for(config)
}

/// `--transaction` and `transactional.id` belong together.
fn check_transactions(args: &Args, config: &Config) -> Outcome {
    match (args.transaction, &config.transactional_id) {
        (Some(_), None) => Err(Failure::usage(
            "--transaction needs the producer's name over all its runs: -X transactional.id=ID, \
             one that no other running producer has",
        )),
        (None, Some(id)) => Err(Failure::usage(format!(
            "transactional.id={} needs --transaction: a number of records, or all; leave it out \
             to append without transactions",
            quoted(id)
        ))),
        _ => Ok(()),
    }
}

async fn open_outlet(
    args: &Args,
    config: &Config,
    builder: ProducerBuilder,
    failed: FailedLines,
    mut signals: Signals,
) -> Result<Outlet, Failure> {
    let Some(grouping) = args.transaction else {
        let producer = builder.build().await.map_err(Failure::usage)?;
        let within = farewell(producer.config());
        close_at_signal(producer.clone(), signals, within);
        let outlet = Outlet::each(producer, &args.topic, Ledger::new(failed));
        return outlet.map_err(|error| match error {
            SendError::InvalidTopic { .. } => Failure::usage(error),
            error => Failure::failed(error),
        });
    };
    let built = tokio::select! {
        signal = signals.wait() => return Err(Failure::quiet(signal.exit_code())),
        built = patiently(builder.build_transactional(), || {
            format!(
                "waiting for the coordinator of transactional.id={}, for up to {} ms (max.block.ms)",
                quoted(config.transactional_id.as_deref().unwrap_or_default()),
                config.max_block.as_millis()
            )
        }) => built,
    };
    let producer = built.map_err(|error| match error {
        InitError::Build(error) => Failure::usage(error),
        error @ InitError::TimeoutTooLong { .. } => Failure::usage(error),
        error => Failure::failed(error),
    })?;
    let transactions = Transactions::new(producer, &args.topic, grouping, failed);
    Ok(Outlet::InTransactions(transactions))
}

/// Where the brokers' addresses come from.
enum Bootstrap {
    Given,
    Embedded,
}

/// Stands for addresses until it is known whether there are any. Never connected to.
const NO_BOOTSTRAP: &str = "none.invalid:9";

/// The producer's settings: `--config`, then `-X`, then `-b`; each outranks what stands before it.
fn describe_producer(args: &Args) -> Result<(ProducerBuilder, Config, Bootstrap), Failure> {
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
    Ok((builder, config, if none { Bootstrap::Embedded } else { Bootstrap::Given }))
}

/// `--failed` would empty the file before it is read.
fn refuse_own_input(args: &Args, inputs: &Inputs) -> Outcome {
    let Some(path) = &args.failed else { return Ok(()) };
    // Of pipes, and where the system tells no files apart, the path is all there is.
    let by_path = path.canonicalize().ok().and_then(|path| {
        let same = |file: &&PathBuf| file.canonicalize().is_ok_and(|file| file == path);
        args.files.iter().find(same).map(|file| file.display().to_string())
    });
    match by_path.or_else(|| inputs.name_of(path).map(str::to_owned)) {
        Some(name) => Err(Failure::usage(format!(
            "--failed {} is also read, as {name}; name another file for the lines that fail",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// More than the outcomes of what was accepted may take.
fn farewell(config: &Config) -> Duration {
    config.delivery_timeout + Duration::from_secs(5)
}

async fn produce(
    args: &Args,
    config: &Config,
    outlet: Outlet,
    inputs: Inputs,
    signals: Signals,
) -> Outcome {
    let shape = Shape {
        separator: args.key_separator.clone(),
        tombstones: args.tombstones,
        partition: args.partition,
        headers: args.header.clone(),
        from_json: args.from_json,
    };
    // A line as JSON is longer than its record: a byte takes up to six characters.
    let limit = config.max_request_size.saturating_mul(if args.from_json { 8 } else { 1 });
    let began = Instant::now();
    let total = inputs.size;
    let source = inputs.start(limit).map_err(Failure::failed)?;
    let patience = config.max_block;
    let mut feed = Feed::new(outlet, shape, source, signals.clone(), patience, args.rate);
    feed.outlet().begin()?;
    let stopped = {
        let progress = terminal::Progress::start(total);
        let stopped = feed.run(&progress).await;
        feed.drain(&progress, farewell(config)).await;
        stopped
    };
    // Everything has its outcome; what is left is to take leave of the brokers.
    let retries = feed.outlet().close(Duration::from_secs(5)).await;
    let tally = feed.tally();
    let summary = Summary {
        accepted: tally.accepted,
        delivered: tally.delivered,
        failed: tally.failed,
        unknown: tally.unknown,
        rejected: tally.rejected,
        transactions: feed.outlet().transactions(),
        complete: feed.is_complete(),
        last_line: feed.last_line(),
        retries,
        bytes: tally.bytes,
        seconds: began.elapsed().as_secs_f64(),
        guarantee: Guarantees::of(config).level,
    };
    report(args, &summary, feed.outlet(), stopped, signals.seen())
}

/// Closing lets what was accepted be delivered, and ends what waits to be accepted.
fn close_at_signal(producer: Producer, mut signals: Signals, within: Duration) {
    tokio::spawn(async move {
        signals.wait().await;
        let _ = producer.close(within).await;
    });
}

/// Prints the summary and says how the process ends.
fn report(
    args: &Args,
    summary: &Summary,
    outlet: &Outlet,
    stopped: Result<(), Stopped>,
    signal: Option<Signal>,
) -> Outcome {
    let text = if args.json { summary.json() } else { summary.text(&args.topic) };
    let printed = print_line(&text);
    let failure = outlet.first_failure();
    if let Some(failure) = failure {
        terminal::error(match summary.failed + summary.unknown {
            // A transaction that had none yet.
            0 => failure.to_owned(),
            1 => format!("1 record was not delivered: {failure}"),
            count => format!(
                "{} records were not delivered; the first: {failure} (-v tells of all)",
                grouped(count)
            ),
        });
    }
    if let Err(Stopped::Because(why)) = &stopped
        && failure.is_none_or(|failure| !failure.ends_with(why.as_str()))
    {
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
