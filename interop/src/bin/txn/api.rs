//! All that these programs ask of the transactional API, in their own few words.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sordini::{
    AbortError, BeginError, CommitError, FatalError, InitError, OffsetsError, OwnedTransaction,
    Producer, ResolveError, TransactionOutcome, TransactionalProducer,
};

use crate::args::Args;
use crate::failed::Failed;

/// How long the same call is made again before it is a hang.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a program knows of a transaction that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Committed,
    Aborted(String),
    Unknown(String),
}

/// A transactional producer, initialised.
pub(crate) async fn producer(args: &Args) -> Result<TransactionalProducer, Failed> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut builder =
            Producer::builder(args.get("bootstrap")?).transactional_id(args.get("id")?);
        for (name, value) in &args.settings {
            builder = builder.set(name, value).map_err(Failed::other)?;
        }
        match builder.build_transactional().await {
            Ok(producer) => return Ok(producer),
            Err(InitError::TimedOut { last, .. }) if Instant::now() < until => say(&last),
            Err(InitError::Fatal { error, .. }) => return Err(fatal(&error)),
            Err(error) => return Err(Failed::other(error)),
        }
    }
}

/// Begins, as often as it takes.
pub(crate) async fn begin(mut producer: TransactionalProducer) -> Result<OwnedTransaction, Failed> {
    let until = Instant::now() + PATIENCE;
    loop {
        let refused = match producer.begin_owned().await {
            Ok(transaction) => return Ok(transaction),
            Err(refused) => refused,
        };
        producer = refused.producer;
        match refused.error {
            error @ (BeginError::Unfinished { .. } | BeginError::TimedOut { .. })
                if Instant::now() < until =>
            {
                say(&error);
            }
            BeginError::Fatal(error) => return Err(fatal(&error)),
            error => return Err(Failed::other(error)),
        }
    }
}

/// Commits, and if that does not tell, asks until something does.
pub(crate) async fn commit(
    transaction: OwnedTransaction,
) -> (TransactionalProducer, Result<Told, Failed>) {
    let (producer, result) = transaction.commit().await;
    let told = match result {
        Ok(_) => Ok(Told::Committed),
        Err(CommitError::Aborted { cause, .. }) => Ok(Told::Aborted(cause.to_string())),
        Err(CommitError::Fatal { error, .. }) => Err(fatal(&error)),
        Err(CommitError::Unknown { transaction, .. }) => {
            let until = Instant::now() + PATIENCE;
            loop {
                match producer.resolve(transaction).await {
                    Ok(outcome) => break Ok(told(outcome)),
                    Err(ResolveError::Undecided { last, .. }) if Instant::now() < until => {
                        say(&last);
                    }
                    Err(ResolveError::Fatal { error, .. }) => break Err(fatal(&error)),
                    Err(error) => break Err(Failed::other(error)),
                }
            }
        }
        Err(error) => Err(Failed::other(error)),
    };
    (producer, told)
}

/// Aborts. Confirmed or not, it is never committed.
pub(crate) async fn abort(
    transaction: OwnedTransaction,
) -> (TransactionalProducer, Result<(), Failed>) {
    let (producer, result) = transaction.abort().await;
    let done = match result {
        Ok(()) => Ok(()),
        Err(error @ AbortError::Unconfirmed { .. }) => {
            say(&error);
            Ok(())
        }
        Err(AbortError::Fatal { error, .. }) => Err(fatal(&error)),
        Err(error) => Err(Failed::other(error)),
    };
    (producer, done)
}

/// Offsets that were not taken: is there more to do than to abort?
pub(crate) fn offsets_refused(error: OffsetsError) -> Result<String, Failed> {
    match error {
        OffsetsError::Fatal { error, .. } => Err(fatal(&error)),
        error @ (OffsetsError::Invalid { .. } | OffsetsError::Closed { .. }) => {
            Err(Failed::other(error))
        }
        error => Ok(error.to_string()),
    }
}

pub(crate) fn told(outcome: TransactionOutcome) -> Told {
    match outcome {
        TransactionOutcome::Committed => Told::Committed,
        TransactionOutcome::Aborted(cause) => Told::Aborted(cause.to_string()),
        TransactionOutcome::Unknown => Told::Unknown("it stays unknown".to_owned()),
    }
}

fn fatal(error: &Arc<FatalError>) -> Failed {
    match error.fenced {
        Some(_) => Failed::Fenced(error.to_string()),
        None => Failed::Other(error.to_string()),
    }
}

pub(crate) fn say(what: &dyn Display) {
    eprintln!("txn: {what}");
}
