//! What standard input says, step by step; a line of answer for each.

use std::io::Write;

use sordini::{GroupMetadata, OffsetToCommit, OwnedTransaction, Record, TransactionalProducer};

use crate::api::{self, Told};
use crate::args::Args;
use crate::failed::Failed;

/// Where a transactional producer stands.
enum State {
    Uninitialised,
    Idle(TransactionalProducer),
    Open(OwnedTransaction),
}

pub(crate) async fn run(args: &Args) -> Result<(), Failed> {
    let mut state = State::Uninitialised;
    for line in std::io::stdin().lines() {
        let line = line.map_err(Failed::other)?;
        let words: Vec<&str> = line.split(' ').collect();
        let (next, result) = step(args, state, &words).await;
        state = next;
        let answer = result.map_or_else(|failed| failed.to_string(), |()| "ok".to_owned());
        println!("{}", answer.replace('\n', " "));
        std::io::stdout().flush().map_err(Failed::other)?;
    }
    Ok(())
}

async fn step(args: &Args, state: State, words: &[&str]) -> (State, Result<(), Failed>) {
    match (words, state) {
        (["init"], State::Uninitialised) => match api::producer(args).await {
            Ok(producer) => (State::Idle(producer), Ok(())),
            Err(failed) => (State::Uninitialised, Err(failed)),
        },
        (["begin"], State::Idle(producer)) => match api::begin(producer).await {
            Ok(open) => (State::Open(open), Ok(())),
            // A producer that cannot begin is done.
            Err(failed) => (State::Uninitialised, Err(failed)),
        },
        (["send", number], State::Open(open)) => {
            let sent = send(args, &open, number).await;
            (State::Open(open), sent)
        }
        (["offsets", group, partition, offset], State::Open(open)) => {
            let sent = offsets(args, &open, group, partition, offset).await;
            (State::Open(open), sent)
        }
        (["commit"], State::Open(open)) => {
            let (producer, told) = api::commit(open).await;
            let result = told.and_then(|told| match told {
                Told::Committed => Ok(()),
                Told::Aborted(why) | Told::Unknown(why) => Err(Failed::Other(why)),
            });
            (State::Idle(producer), result)
        }
        (["abort"], State::Open(open)) => {
            let (producer, result) = api::abort(open).await;
            (State::Idle(producer), result)
        }
        (_, state) => (state, Err(Failed::Other(format!("not now: {}", words.join(" "))))),
    }
}

async fn send(args: &Args, open: &OwnedTransaction, number: &str) -> Result<(), Failed> {
    for partition in 0..args.number("partitions")? {
        let record = Record::new(number).partition(partition);
        let _ = open.send(args.get("topic")?, record).await.map_err(Failed::other)?;
    }
    Ok(())
}

async fn offsets(
    args: &Args,
    open: &OwnedTransaction,
    group: &str,
    partition: &str,
    offset: &str,
) -> Result<(), Failed> {
    let number = |_| Failed::Other("want a partition and an offset".to_owned());
    let (partition, offset) = (partition.parse().map_err(number)?, offset.parse().map_err(number)?);
    let offsets = [(args.get("topic")?, partition, OffsetToCommit::new(offset))];
    match open.send_offsets(&GroupMetadata::new(group), offsets).await {
        Ok(()) => Ok(()),
        Err(error) => Err(Failed::Other(api::offsets_refused(error)?)),
    }
}
