//! Numbers, each in one transaction to every partition; every fifth is aborted.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use sordini::{
    OpenTransaction, Record, TransactionNumber, TransactionOutcome, TransactionTopic,
    TransactionalProducer,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::api::{self, Told, say};
use crate::args::Args;
use crate::failed::Failed;
use crate::log::Log;
use crate::read;

/// How a number's transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    /// With all records acknowledged.
    AbortWritten,
    /// With its batches queued or on their way.
    AbortInFlight,
    /// The guard is dropped, and the next begin sees to it.
    Drop,
    /// Nobody ever hears of the guard again.
    Forget,
}

impl End {
    fn of(number: u64) -> Self {
        match (number % 5, number / 5 % 4) {
            (4, 0) => Self::AbortWritten,
            (4, 1) => Self::AbortInFlight,
            (4, 2) => Self::Drop,
            (4, _) => Self::Forget,
            _ => Self::Commit,
        }
    }
}

pub(crate) async fn run(args: &Args) -> Result<(), Failed> {
    let (mut log, left) = Log::open(Path::new(args.get("log")?))?;
    let count: u64 = args.number("transactions")?;
    let rate: u64 = args.number("rate")?;
    log.line("start")?;
    let mut writer = Writer { producer: api::producer(args).await?, left: None };
    resolve(args, &mut log, &left.doubtful).await?;
    let (begun, end) = (Instant::now(), crate::input_end());
    for number in left.next..count {
        let due = begun + Duration::from_millis((number - left.next) * 1000 / rate);
        tokio::select! {
            biased;
            () = end.notified() => break,
            () = sleep_until(due) => {}
        }
        writer = write(args, &mut log, writer, number).await?;
    }
    // What the last guard left is finished by a begin.
    let last = api::begin(writer.producer).await?;
    recovered(&last, writer.left)?;
    api::abort(last).await.1?;
    log.line("end")
}

struct Writer {
    producer: TransactionalProducer,
    /// The transaction whose guard went without a commit or an abort.
    left: Option<TransactionNumber>,
}

/// After the initialisation nothing of the lives before can change any more: what was in doubt is
/// there in all partitions or in none.
async fn resolve(args: &Args, log: &mut Log, doubtful: &BTreeSet<u64>) -> Result<(), Failed> {
    if doubtful.is_empty() {
        return Ok(());
    }
    let partitions: usize = args.number("partitions")?;
    for (number, there) in read::find(args, doubtful).await? {
        let what = match there.len() {
            0 => "none",
            all if all == partitions => "all",
            _ => "torn",
        };
        log.line(&format!("found {number} {what}"))?;
        if what == "torn" {
            return Err(Failed::Broken(format!("{number} is only in the partitions {there:?}")));
        }
    }
    Ok(())
}

async fn write(args: &Args, log: &mut Log, writer: Writer, number: u64) -> Result<Writer, Failed> {
    let Writer { mut producer, left } = writer;
    let (topic, partitions) = (args.get("topic")?, args.number("partitions")?);
    let end = End::of(number);
    log.line(&format!("intent {number} {}", if end == End::Commit { "commit" } else { "abort" }))?;
    if matches!(end, End::Drop | End::Forget) {
        let transaction = producer.begin().await.map_err(Failed::other)?;
        recovered(&transaction, left)?;
        let left = Some(transaction.number());
        if let Err(error) = fill(&transaction, topic, partitions, number).await {
            say(&error);
        }
        match end {
            End::Drop => drop(transaction),
            _ => std::mem::forget(transaction),
        }
        log.line(&format!("outcome {number} aborted"))?;
        return Ok(Writer { producer, left });
    }
    let transaction = api::begin(producer).await?;
    recovered(&transaction, left)?;
    let filled = fill(&transaction, topic, partitions, number).await;
    if let (End::AbortWritten, Ok(())) = (end, &filled) {
        let _ = transaction.flush().await;
    }
    let (producer, told) = match (end, filled) {
        (End::Commit, Ok(())) => api::commit(transaction).await,
        (_, filled) => {
            let cause = filled.err().unwrap_or_else(|| "as intended".to_owned());
            let (producer, aborted) = api::abort(transaction).await;
            (producer, aborted.map(|()| Told::Aborted(cause)))
        }
    };
    let told = told.inspect_err(|_| {
        // It may be known, but a producer that is done is not asked twice: the judge takes either.
        let _ = log.line(&format!("outcome {number} unknown"));
    })?;
    let outcome = match told {
        Told::Committed => "committed",
        Told::Aborted(cause) => {
            if end == End::Commit {
                say(&format!("{number} was aborted: {cause}"));
            }
            "aborted"
        }
        Told::Unknown(cause) => {
            say(&format!("{number}: {cause}"));
            "unknown"
        }
    };
    log.line(&format!("outcome {number} {outcome}"))?;
    Ok(Writer { producer, left: None })
}

/// What a guard left is told of by the next begin. Only transactions that were never to commit end
/// without being looked at.
fn recovered(transaction: &OpenTransaction, left: Option<TransactionNumber>) -> Result<(), Failed> {
    let told = transaction.recovered();
    for before in told {
        if before.outcome == TransactionOutcome::Committed {
            let number = before.transaction;
            return Err(Failed::Broken(format!("transaction {number} committed by itself")));
        }
    }
    match left.filter(|left| told.iter().all(|it| it.transaction != *left)) {
        Some(left) => Err(Failed::Broken(format!("nobody tells of transaction {left}"))),
        None => Ok(()),
    }
}

/// The number to every partition; now and then by three tasks at a time.
async fn fill(
    transaction: &OpenTransaction,
    topic: &str,
    partitions: i32,
    number: u64,
) -> Result<(), String> {
    let topic = transaction.topic(topic).map_err(|error| error.to_string())?;
    if !number.is_multiple_of(3) {
        return some(topic, number, 0..partitions).await;
    }
    let mut tasks = JoinSet::new();
    for third in 0..3 {
        let range = partitions * third / 3..partitions * (third + 1) / 3;
        tasks.spawn(some(topic.clone(), number, range));
    }
    tasks.join_all().await.into_iter().collect()
}

async fn some(
    topic: TransactionTopic,
    number: u64,
    partitions: std::ops::Range<i32>,
) -> Result<(), String> {
    for partition in partitions {
        let record = Record::new(number.to_string()).partition(partition);
        topic.enqueue_detached(record).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
