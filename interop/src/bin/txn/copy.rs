//! Consume, transform, produce: what was read and what was written commit together.

use std::collections::BTreeMap;
use std::io::Write;

use sordini::fetch::{Event, FetchedRecord, Notice, Plan, Start, Tail};
use sordini::{GroupMetadata, OffsetToCommit, OwnedTransaction, Record};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use crate::api::{self, Told, say};
use crate::args::Args;
use crate::failed::Failed;
use crate::{group, read};

/// Records of a partition.
type Read = Result<(i32, Vec<FetchedRecord>), Failed>;

/// What of the input goes into one transaction.
#[derive(Default)]
struct Taken {
    records: Vec<(i32, FetchedRecord)>,
    /// Where to go on in each partition.
    next: BTreeMap<i32, i64>,
}

pub(crate) async fn run(args: &Args) -> Result<(), Failed> {
    let mut producer = api::producer(args).await?;
    // A life for each time that the position has to be read anew.
    loop {
        let positions = group::positions(args).await?;
        let mut readers = JoinSet::new();
        let (sender, mut input) = channel(4);
        for (partition, start) in positions {
            readers.spawn(tail(tail_of(args, partition, start)?, partition, sender.clone()));
        }
        drop(sender);
        let per = args.number("per")?;
        let mut waiting = Vec::new().into_iter();
        let aborted = loop {
            let taken = take(&mut input, &mut waiting, per).await?;
            if taken.records.is_empty() {
                let (_, ended) = api::abort(api::begin(producer).await?).await;
                return ended;
            }
            let transaction = api::begin(producer).await?;
            let (again, told) = copy(args, transaction, &taken).await;
            producer = again;
            match told? {
                Told::Committed => committed(taken.records.len())?,
                Told::Aborted(cause) | Told::Unknown(cause) => break cause,
            }
        };
        say(&format!("reading again from the group's offsets: {aborted}"));
        // The next begin ends what is left of the transaction, so that its offsets are stable.
        let (again, ended) = api::abort(api::begin(producer).await?).await;
        ended?;
        producer = again;
    }
}

fn committed(records: usize) -> Result<(), Failed> {
    println!("committed {records}");
    std::io::stdout().flush().map_err(Failed::other)
}

fn tail_of(args: &Args, partition: i32, start: Option<i64>) -> Result<Tail, Failed> {
    let mut plan = Plan::new(args.get("from")?);
    plan.partition = Some(partition);
    plan.start = start.map_or(Start::Earliest, Start::Offset);
    plan.stop_at_end = true;
    Tail::new(plan, read::settings(args)?).map_err(Failed::other)
}

/// Reads a partition to its end. Ends early if nobody wants more.
async fn tail(mut tail: Tail, partition: i32, sender: Sender<Read>) {
    loop {
        let read = match tail.next().await {
            Ok(Some(Event::Records { records, .. })) => Ok((partition, records)),
            Ok(Some(Event::Notice(Notice::Moved { from, to, .. }))) => {
                Err(Failed::Broken(format!("the input moved from {from} to {to}")))
            }
            Ok(Some(_)) => continue,
            Ok(None) => return,
            Err(error) => Err(Failed::other(error)),
        };
        if sender.send(read).await.is_err() {
            return;
        }
    }
}

/// Up to `per` records of what has come, at least one but at the end.
async fn take(
    input: &mut Receiver<Read>,
    waiting: &mut std::vec::IntoIter<(i32, FetchedRecord)>,
    per: usize,
) -> Result<Taken, Failed> {
    if waiting.len() == 0
        && let Some(read) = input.recv().await
    {
        let (partition, records) = read?;
        let records = records.into_iter().map(|record| (partition, record));
        *waiting = records.collect::<Vec<_>>().into_iter();
    }
    let mut taken = Taken::default();
    for (partition, record) in waiting.by_ref().take(per) {
        taken.next.insert(partition, record.offset + 1);
        taken.records.push((partition, record));
    }
    Ok(taken)
}

async fn copy(
    args: &Args,
    transaction: OwnedTransaction,
    taken: &Taken,
) -> (sordini::TransactionalProducer, Result<Told, Failed>) {
    match fill(args, &transaction, taken).await {
        Ok(None) => api::commit(transaction).await,
        Ok(Some(cause)) => {
            let (producer, aborted) = api::abort(transaction).await;
            (producer, aborted.map(|()| Told::Aborted(cause)))
        }
        Err(failed) => (transaction.abort().await.0, Err(failed)),
    }
}

/// Why the transaction can only be aborted, if so.
async fn fill(
    args: &Args,
    transaction: &OwnedTransaction,
    taken: &Taken,
) -> Result<Option<String>, Failed> {
    let topic = transaction.topic(args.get("to")?).map_err(Failed::other)?;
    for (partition, read) in &taken.records {
        let value = [b"copy of ", read.value.as_deref().unwrap_or_default()].concat();
        let mut record = Record::new(value).partition(*partition);
        if let Some(key) = &read.key {
            record = record.key(key.clone());
        }
        if let Err(error) = topic.enqueue_detached(record).await {
            return Ok(Some(error.to_string()));
        }
    }
    let from = args.get("from")?;
    let offsets = taken.next.iter();
    let offsets = offsets.map(|(partition, next)| (from, *partition, OffsetToCommit::new(*next)));
    match transaction.send_offsets(&group_metadata(args)?, offsets).await {
        Ok(()) => Ok(None),
        Err(error) => api::offsets_refused(error).map(Some),
    }
}

fn group_metadata(args: &Args) -> Result<GroupMetadata, Failed> {
    let mut group = GroupMetadata::new(args.get("group")?);
    if let Some(member) = args.maybe("member") {
        group = group.member(member, args.number("generation")?);
    }
    if let Some(instance) = args.maybe("instance") {
        group = group.instance(instance);
    }
    Ok(group)
}
