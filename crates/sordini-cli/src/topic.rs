//! `sordini topic`: list, create, delete and describe topics.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use sordini::ErrorCode;
use sordini::fetch::{Admin, FetchError, NewTopic, Settings, TopicDescription};
use tokio::time::Instant;

use crate::connect::{Said, Target, parse_pair, parse_topic, reader_settings};
use crate::embedded::Embedded;
use crate::exit::{Failure, Outcome};
use crate::output::print_line;
use crate::signals::Signals;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  sordini topic list
  sordini topic create clicks --partitions 6
  sordini topic create orders -b localhost:9092 --replication 3 --set min.insync.replicas=2
  sordini topic describe clicks
  sordini topic delete clicks

Without -b the embedded broker's folder is used: --data DIR, or ./sordini-data.
Exit code: 0; 1 if the cluster refused or did not answer; 2 for usage, settings, or a locked folder.";

/// List, create, delete and describe topics
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    said: Said,

    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the names of the topics
    List {
        /// Show Kafka's own topics too
        #[arg(long)]
        all: bool,
    },
    /// Create a topic
    Create {
        /// The topic's name
        #[arg(value_parser = parse_topic)]
        topic: String,
        /// How many partitions [default: the broker's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many replicas of each partition [default: the broker's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication: Option<i16>,
        /// A setting of the topic, such as --set message.timestamp.type=LogAppendTime
        #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
        set: Vec<(String, String)>,
    },
    /// Delete a topic and all its records
    Delete {
        /// The topic's name
        #[arg(value_parser = parse_topic)]
        topic: String,
    },
    /// Show a topic's partitions, offsets and settings
    Describe {
        /// The topic's name
        #[arg(value_parser = parse_topic)]
        topic: String,
    },
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let mut signals = Signals::listen(|| {}).map_err(Failure::failed)?;
    let creates = matches!(args.command, Command::Create { .. });
    // Nobody waits a minute for a list.
    let mut defaults = Settings::default();
    defaults.api_timeout = Duration::from_secs(15);
    let mut settings = reader_settings(defaults, &args.target, &args.said)?;
    let folder = args.target.folder();
    let embedded = match (settings.bootstrap.is_empty(), creates) {
        (true, true) => Some(Embedded::open(folder).await?),
        (true, false) => Some(Embedded::open_existing(folder).await?),
        (false, _) => None,
    };
    if let Some(embedded) = &embedded {
        settings.set("bootstrap.servers", embedded.address()).map_err(Failure::usage)?;
    }
    let mut admin = Admin::new(settings).map_err(Failure::usage)?;
    let outcome = tokio::select! {
        outcome = execute(&mut admin, args.command, args.json) => outcome,
        signal = signals.wait() => Err(Failure::quiet(signal.exit_code())),
    };
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    outcome
}

async fn execute(admin: &mut Admin, command: Command, json: bool) -> Outcome {
    match command {
        Command::List { all } => {
            for topic in admin.topics().await.map_err(Failure::failed)? {
                if topic.internal && !all {
                    continue;
                }
                if json { print_json(&topic)? } else { print_line(&topic.name)? }
            }
            Ok(())
        }
        Command::Create { topic, partitions, replication, set } => {
            let mut new = NewTopic::new(&topic);
            (new.partitions, new.replication, new.configs) = (partitions, replication, set);
            admin.create(&new).await.map_err(|error| Failure::failed(refused(&error)))?;
            done(&topic, "created", json)
        }
        Command::Delete { topic } => {
            admin.delete(&topic).await.map_err(Failure::failed)?;
            done(&topic, "deleted", json)
        }
        Command::Describe { topic } => {
            let ask = async || admin.describe(&topic).await;
            let topic = settled(ask, is_settled).await.map_err(Failure::failed)?;
            let printed = if json { print_json(&topic) } else { print_text(&topic) };
            printed?;
            warn_of_the_missing(&topic);
            Ok(())
        }
    }
}

/// Says what was done to a topic; a script that wants JSON gets it, with the same field as elsewhere.
fn done(topic: &str, what: &str, json: bool) -> Outcome {
    if json {
        return print_line(&serde_json::json!({ "name": topic, what: true }).to_string());
    }
    terminal::note(format!("{what} topic {topic}"));
    Ok(())
}

/// The error, with what to do about it on this command line where it does not say so itself.
fn refused(error: &FetchError) -> String {
    match error {
        FetchError::Refused { code: ErrorCode::InvalidConfig, .. } => format!(
            "{error}; --set takes a topic's settings by their Kafka names, such as retention.ms=1000 \
             or cleanup.policy=compact"
        ),
        _ => error.to_string(),
    }
}

/// How long `describe` gives a topic that was only just made to get its leaders.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has each partition a leader, and did it answer?
fn is_settled(answer: &Result<TopicDescription, FetchError>) -> bool {
    match answer {
        Ok(topic) => {
            topic.partitions.iter().all(|one| one.leader.is_some() && one.offsets.is_some())
        }
        Err(FetchError::Refused { code, .. }) => !code.is_retriable(),
        Err(_) => true,
    }
}

/// What a `?` and a `none` in the description stand for.
fn warn_of_the_missing(topic: &TopicDescription) {
    for one in topic.partitions.iter().filter(|one| one.offsets.is_none()) {
        let what = match one.leader {
            Some(leader) => format!("its leader, node {leader}, did not tell its offsets"),
            None => "it has no leader, and takes and gives no records until it has one".into(),
        };
        terminal::warn(format!("partition {} of {}: {what}", one.index, topic.name));
    }
}

/// Asks until the answer is `enough`, for [`PATIENCE`] at most; then the last answer has to do.
async fn settled<T>(mut ask: impl AsyncFnMut() -> T, enough: impl Fn(&T) -> bool) -> T {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(50);
    loop {
        let answer = ask().await;
        if enough(&answer) || Instant::now() + pause > until {
            return answer;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(400));
    }
}

#[derive(Serialize)]
struct JsonTopic<'a> {
    name: &'a str,
    id: Option<String>,
    internal: bool,
    partitions: Vec<JsonPartition<'a>>,
    settings: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct JsonPartition<'a> {
    partition: i32,
    leader: Option<i32>,
    replicas: &'a [i32],
    in_sync: &'a [i32],
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
}

fn print_json(topic: &TopicDescription) -> Outcome {
    let partitions = topic.partitions.iter().map(|one| JsonPartition {
        partition: one.index,
        leader: one.leader,
        replicas: &one.replicas,
        in_sync: &one.in_sync,
        start: one.offsets.map(|(start, _)| start),
        end: one.offsets.map(|(_, end)| end),
    });
    let settings = topic.configs.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    let shown = JsonTopic {
        name: &topic.name,
        id: topic.id.map(|id| id.to_string()),
        internal: topic.internal,
        partitions: partitions.collect(),
        settings: settings.collect(),
    };
    print_line(&serde_json::to_string(&shown).map_err(Failure::failed)?)
}

fn print_text(topic: &TopicDescription) -> Outcome {
    let id = topic.id.map(|id| format!("  id {id}")).unwrap_or_default();
    let mut text = format!("{}  {} partitions{id}\n", topic.name, topic.partitions.len());
    text.push_str("partition  leader  start        end          replicas  in sync\n");
    for one in &topic.partitions {
        let number = |value: Option<i64>| value.map_or("?".into(), |value| value.to_string());
        text.push_str(&format!(
            "{:<9}  {:<6}  {:<11}  {:<11}  {:<8}  {}\n",
            one.index,
            one.leader.map_or("none".into(), |leader| leader.to_string()),
            number(one.offsets.map(|(start, _)| start)),
            number(one.offsets.map(|(_, end)| end)),
            list(&one.replicas),
            list(&one.in_sync),
        ));
    }
    for (name, value) in &topic.configs {
        text.push_str(&format!("{name}={value}\n"));
    }
    print_line(text.trim_end())
}

fn list(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_until_it_is_enough() {
        let mut asked = 0;
        let ask = async || {
            asked += 1;
            asked
        };
        assert_eq!(settled(ask, |asked| *asked == 4).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_settles_is_shown_as_it_is_after_five_seconds() {
        let began = Instant::now();
        let mut asked = 0;
        let ask = async || {
            asked += 1;
            asked
        };
        let answer = settled(ask, |_| false).await;
        assert!((10..30).contains(&answer), "{answer}");
        assert!(began.elapsed() <= PATIENCE && began.elapsed() > PATIENCE / 2);
    }
}
