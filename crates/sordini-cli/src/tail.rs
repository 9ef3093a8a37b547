//! `sordini tail`: the records of a topic on stdout.

use std::str::FromStr;

use clap::ValueEnum;
use sordini::fetch::{Event, FetchedRecord, Isolation, Notice, Plan, Settings, Start, Tail};

use crate::connect::{Said, Target, parse_partition, parse_topic, reader_settings};
use crate::embedded::Embedded;
use crate::exit::{Failure, Outcome};
use crate::output::{Output, reader_gone};
use crate::separator::Separator;
use crate::signals::Signals;
use crate::{json, terminal};

const EXAMPLES: &str = "\
Examples:
  sordini tail clicks                          everything in the embedded broker's topic, and what comes
  sordini tail clicks --exit-at-end            everything that is there now
  sordini tail -b localhost:9092 clicks --from end
  sordini tail clicks -K : --partition 0 --from 1000
  sordini tail clicks --json --exit-at-end > clicks.json
  sordini produce copy --from-json clicks.json
  sordini tail orders --isolation read_committed
                                               no records of aborted or of open transactions

A value's bytes are printed as they are, then a line feed. Each partition comes in its order;
between partitions there is none. A null value prints as an empty line, or as null with --json.

Exit code: 0 at the end (--exit-at-end) or when nobody reads stdout any more; 1 if the topic can't
be read; 2 for usage, settings, or a locked or missing folder; 130 after Ctrl-C, 143 after SIGTERM.";

/// Print the records of a topic
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,

    /// The topic to read
    #[arg(value_parser = parse_topic)]
    topic: String,

    /// Only this partition, counted from 0
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = parse_partition)]
    partition: Option<i32>,

    /// Where to begin in each partition: start, end, or an offset
    #[arg(long, value_name = "start|end|OFFSET", default_value = "start")]
    #[arg(allow_negative_numbers = true)]
    from: From,

    /// Which records of transactions to show [default: read_uncommitted, as Kafka's consumers]
    #[arg(long, value_enum, value_name = "LEVEL")]
    isolation: Option<Level>,

    /// Stop at the ends as they are now, instead of waiting for more
    #[arg(long)]
    exit_at_end: bool,

    /// Print the key and this separator before each value (\t, \0, \\ and \xHH are escapes)
    #[arg(short = 'K', long, value_name = "S", allow_hyphen_values = true)]
    #[arg(conflicts_with = "json")]
    key_separator: Option<Separator>,

    /// Print each record as one JSON object: partition, offset, timestamp, key, headers, value
    ///
    /// Bytes that are no UTF-8 stand in base64, in key_base64 and value_base64.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct From(Start);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("start", _) => Ok(Self(Start::Earliest)),
            ("end", _) => Ok(Self(Start::Latest)),
            (_, Ok(offset @ 0..)) => Ok(Self(Start::Offset(offset))),
            _ => Err("it is neither start nor end nor an offset from 0 up".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// Without those of aborted transactions, and up to the first open one (the last stable offset)
    #[value(name = "read_committed")]
    ReadCommitted,
    /// All of them
    #[value(name = "read_uncommitted")]
    ReadUncommitted,
}

impl Level {
    /// Its name in Kafka.
    fn name(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }

    fn isolation(self) -> Isolation {
        match self {
            Self::ReadCommitted => Isolation::ReadCommitted,
            Self::ReadUncommitted => Isolation::ReadUncommitted,
        }
    }
}

/// How a record is printed.
#[derive(Clone, Debug)]
enum Form {
    Value,
    Keyed(Box<Separator>),
    Json,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let mut signals = Signals::listen(|| {}).map_err(Failure::failed)?;
    let mut settings = reader_settings(Settings::default(), &args.target, &args.said)?;
    if let Some(level) = args.isolation {
        args.said.refuse_another("isolation.level", level.name(), "--isolation")?;
        settings.isolation = level.isolation();
    }
    let embedded = match settings.bootstrap.is_empty() {
        true => Some(Embedded::open_existing(args.target.folder()).await?),
        false => None,
    };
    if let Some(embedded) = &embedded {
        settings.set("bootstrap.servers", embedded.address()).map_err(Failure::usage)?;
    }
    let mut plan = Plan::new(&args.topic);
    plan.partition = args.partition;
    plan.start = args.from.0;
    plan.stop_at_end = args.exit_at_end;
    let form = match (args.json, args.key_separator) {
        (true, _) => Form::Json,
        (false, Some(separator)) => Form::Keyed(Box::new(separator)),
        (false, None) => Form::Value,
    };
    let isolation = settings.isolation;
    let tail = Tail::new(plan, settings).map_err(Failure::usage)?;
    let outcome = tokio::select! {
        outcome = print(tail, isolation, &form) => outcome,
        () = reader_gone() => Ok(()),
        signal = signals.wait() => Err(Failure::quiet(signal.exit_code())),
    };
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    outcome
}

async fn print(mut tail: Tail, isolation: Isolation, form: &Form) -> Outcome {
    let mut output = Output::stdout();
    while let Some(event) = tail.next().await.map_err(Failure::failed)? {
        match event {
            Event::Records { partition, records } => {
                for record in &records {
                    append(form, partition, record, output.buffer())?;
                    output.flush_if_full()?;
                }
                output.flush()?;
            }
            Event::Notice(Notice::Moved { partition, from, to }) => {
                terminal::warn(told_of_move(isolation, partition, from, to));
            }
            Event::Notice(Notice::Trouble(cause)) => {
                terminal::warn(format!("{cause}; trying again"));
            }
            _ => {}
        }
    }
    output.flush()
}

fn told_of_move(isolation: Isolation, partition: i32, from: i64, to: i64) -> String {
    match isolation {
        _ if from <= to => format!(
            "partition {partition} has no offset {from} any more: it begins at {to}, and is read from there"
        ),
        Isolation::ReadUncommitted => format!(
            "partition {partition} has no offset {from} yet: it ends before {to}, and is read from there"
        ),
        // The offset may be there, behind the beginning of a transaction that is still open.
        Isolation::ReadCommitted => format!(
            "partition {partition} can't be read at offset {from} yet: read_committed ends before {to}, the \
             last stable offset, and reads from there"
        ),
    }
}

fn append(form: &Form, partition: i32, record: &FetchedRecord, out: &mut Vec<u8>) -> Outcome {
    match form {
        Form::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
        Form::Keyed(separator) => {
            // What `produce -K` reads back as it was: no key, no separator.
            if let Some(key) = &record.key {
                out.extend_from_slice(key);
                out.extend_from_slice(separator.as_bytes());
            }
            out.extend_from_slice(record.value.as_deref().unwrap_or_default());
        }
        Form::Json => {
            let shown = json::Shown {
                partition,
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
            };
            json::write(shown, out).map_err(Failure::failed)?;
        }
    }
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_is_a_word_or_an_offset() {
        assert_eq!("start".parse(), Ok(From(Start::Earliest)));
        assert_eq!("end".parse(), Ok(From(Start::Latest)));
        assert_eq!("17".parse(), Ok(From(Start::Offset(17))));
        for text in ["", "-1", "begin", "1.5"] {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }
}
