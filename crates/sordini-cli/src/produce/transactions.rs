//! Lines in transactions: those of one are in the topic together, or all of them in `--failed`.
//!
//! The lines of the open transaction stand in `--failed` until it is committed, and are taken out
//! again then. So whatever ends the command, they are in one of the two places, and a transaction
//! of any size needs no memory for them.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use sordini::{
    AbortCause, AbortError, Appender, CommitError, ExtendError, Lacked, Obstacle, OwnedTransaction,
    SendError, TransactionOutcome, TransactionalProducer,
};
use tokio::time::Instant;

use super::failed::FailedLines;
use super::ledger::{self, Tally};
use super::shape::{Parsed, Shape};
use super::stopped::{NotTaken, Stopped, Taken};
use crate::exit::Failure;
use crate::signals::Signals;
use crate::summary;

/// Which lines make a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// So many records each, the last one fewer.
    Every(NonZeroU64),
    /// The whole input.
    All,
}

impl FromStr for Grouping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(count)) => Ok(Self::Every(count)),
            _ => Err("it is neither all nor a number of records from 1 up".into()),
        }
    }
}

/// Hands lines to a transactional producer, and keeps account of them.
#[derive(Debug)]
pub(super) struct Transactions {
    state: State,
    topic: String,
    grouping: Grouping,
    /// When a transaction is committed though it is not full: well before it would be aborted.
    longest: Duration,
    failed: FailedLines,
    tally: Tally,
    ended: summary::Transactions,
    first_failure: Option<String>,
    retries: u64,
}

#[derive(Debug)]
enum State {
    Idle(TransactionalProducer),
    Open(Box<Open>),
    /// A call took the producer and did not give it back.
    Gone,
}

#[derive(Debug)]
struct Open {
    transaction: OwnedTransaction,
    appender: Appender,
    records: u64,
    began: Instant,
    /// How long `--failed` was before it.
    before: u64,
}

/// How a transaction ended.
enum Fate {
    Committed,
    /// Why it was aborted.
    Aborted(String),
    /// Why it is not known.
    Unknown(String),
}

impl Transactions {
    pub(super) fn new(
        producer: TransactionalProducer,
        topic: &str,
        grouping: Grouping,
        failed: FailedLines,
    ) -> Self {
        Self {
            longest: producer.config().transaction_timeout / 2,
            state: State::Idle(producer),
            topic: topic.to_owned(),
            grouping,
            failed,
            tally: Tally::default(),
            ended: summary::Transactions::default(),
            first_failure: None,
            retries: 0,
        }
    }

    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.failed.begin()
    }

    pub(super) fn lacks_lines(&self) -> bool {
        self.failed.lacks_lines()
    }

    pub(super) fn keeps_lines(&self) -> bool {
        self.failed.is_wanted()
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    pub(super) fn ended(&self) -> summary::Transactions {
        self.ended
    }

    pub(super) fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    /// How many records the transaction still takes.
    pub(super) fn room(&self) -> usize {
        let records = match &self.state {
            State::Open(open) => open.records,
            State::Idle(_) | State::Gone => 0,
        };
        match self.grouping {
            Grouping::Every(count) => {
                usize::try_from(count.get().saturating_sub(records)).unwrap_or(usize::MAX)
            }
            Grouping::All => usize::MAX,
        }
    }

    /// Opens a transaction, if none is open.
    pub(super) async fn ready(&mut self, signals: &mut Signals) -> Result<(), Stopped> {
        let producer = match std::mem::replace(&mut self.state, State::Gone) {
            State::Idle(producer) => producer,
            State::Open(open) => {
                self.state = State::Open(open);
                return Ok(());
            }
            State::Gone => return Err(Stopped::Because("the producer has gone".into())),
        };
        self.retries = producer.metrics().retries;
        let begun = tokio::select! {
            _ = signals.wait() => return Err(Stopped::Signal),
            begun = producer.begin_owned() => begun,
        };
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(refused) => {
                let why = refused.error.to_string();
                self.state = State::Idle(refused.producer);
                return Err(Stopped::Because(why));
            }
        };
        let topic = transaction.topic(&self.topic);
        let appender = topic.map_err(|error| Stopped::Because(error.to_string()))?.appender();
        let (began, before) = (Instant::now(), self.failed.length());
        let open = Open { transaction, appender, records: 0, began, before };
        self.state = State::Open(Box::new(open));
        Ok(())
    }

    pub(super) async fn take(
        &mut self,
        signals: &mut Signals,
        block: &Bytes,
        lines: &[Parsed<'_>],
        shape: &Shape,
    ) -> Taken {
        let lines = &lines[..lines.len().min(self.room())];
        let State::Open(open) = &mut self.state else { return (0, Ok(())) };
        let records = lines.iter().map(|one| shape.record(one));
        let taken = tokio::select! {
            // What was accepted meanwhile is aborted with the rest, and counted as not taken.
            _ = signals.wait() => return (0, Err(NotTaken::Rest(Stopped::Signal))),
            taken = open.appender.extend(records) => taken,
        };
        let (accepted, refused) = match taken {
            Ok(deliveries) => (deliveries.len(), Ok(())),
            Err(ExtendError { accepted, error, .. }) => (accepted.len(), Err(error)),
        };
        open.records += accepted as u64;
        let empty = open.records == 0;
        if accepted > 0 {
            self.tally.accepted += accepted as u64;
            self.tally.bytes += lines[..accepted].iter().map(Parsed::bytes).sum::<u64>();
            let written = self.failed.write(&block[lines[0].start..lines[accepted - 1].end]);
            // They are to be found there whatever becomes of this process.
            if let Err(failure) = written.and_then(|()| self.failed.finish()) {
                return (accepted, Err(NotTaken::Rest(failure.into())));
            }
        }
        let refused = match refused {
            Err(error @ SendError::TransactionEnded { .. }) => {
                self.abort(&error.to_string()).await;
                match empty {
                    // Else the next transaction would fare the same, and so on.
                    true => Err(NotTaken::Rest(Stopped::Because(self.why()))),
                    false => self.go_on().map_err(NotTaken::Rest),
                }
            }
            refused => refused.map_err(NotTaken::Line),
        };
        (accepted, refused)
    }

    /// Commits a transaction that is full, or open for so long that it must not wait for more.
    pub(super) async fn settle(&mut self) -> Result<(), Stopped> {
        let State::Open(open) = &self.state else { return Ok(()) };
        let due = match self.grouping {
            Grouping::Every(_) => self.room() == 0 || open.began.elapsed() >= self.longest,
            Grouping::All => false,
        };
        if due { self.commit().await } else { Ok(()) }
    }

    /// A line that is no record costs the transaction that it would be part of.
    pub(super) async fn reject(&mut self, lines: &[u8], count: u64) -> Result<(), Stopped> {
        self.abort("one of its lines is rejected").await;
        self.leave(lines, count)?;
        match self.grouping {
            // Of a line that comes in parts the others follow: it is kept whole.
            _ if count == 0 => Ok(()),
            Grouping::Every(_) => Ok(()),
            Grouping::All => Err(Stopped::Because(
                "a line is rejected, and with --transaction all that goes for the whole input"
                    .into(),
            )),
        }
    }

    /// Lines that are in no transaction.
    pub(super) fn leave(&mut self, lines: &[u8], count: u64) -> Result<(), Failure> {
        self.tally.rejected += count;
        self.failed.write(lines)
    }

    /// Commits what is open.
    pub(super) async fn commit(&mut self) -> Result<(), Stopped> {
        let Some(open) = self.take_open() else { return Ok(()) };
        let Open { transaction, records, before, .. } = open;
        let number = transaction.number();
        let (producer, result) = transaction.commit().await;
        let mut done = None;
        let fate = match result {
            Ok(_) => Fate::Committed,
            Err(CommitError::Aborted { cause, .. }) => Fate::Aborted(explained(&cause)),
            Err(error @ CommitError::Unknown { .. }) => match producer.resolve(number).await {
                Ok(TransactionOutcome::Committed) => Fate::Committed,
                Ok(TransactionOutcome::Aborted(cause)) => Fate::Aborted(explained(&cause)),
                Ok(TransactionOutcome::Unknown) => Fate::Unknown(error.to_string()),
                Err(unresolved) => Fate::Unknown(unresolved.to_string()),
            },
            Err(CommitError::Fatal { outcome, error, .. }) => {
                done = Some(error.to_string());
                match outcome {
                    TransactionOutcome::Committed => Fate::Committed,
                    TransactionOutcome::Aborted(_) => Fate::Aborted(error.to_string()),
                    TransactionOutcome::Unknown => Fate::Unknown(error.to_string()),
                }
            }
            Err(error) => Fate::Unknown(error.to_string()),
        };
        self.state = State::Idle(producer);
        let committed = matches!(fate, Fate::Committed);
        self.account(number.get(), records, fate);
        if committed {
            self.failed.shorten(before)?;
        }
        done.map_or(Ok(()), |why| Err(Stopped::Because(why)))
    }

    /// Aborts what is open, for this reason or for that which it met itself before.
    pub(super) async fn abort(&mut self, why: &str) {
        let Some(open) = self.take_open() else { return };
        let (number, records) = (open.transaction.number(), open.records);
        let (producer, result) = open.transaction.abort().await;
        let why = match (result, producer.outcome(number)) {
            (Err(AbortError::Fatal { error, .. }), _) => error.to_string(),
            (_, Some(TransactionOutcome::Aborted(AbortCause::Requested)) | None) => why.to_owned(),
            (_, Some(TransactionOutcome::Aborted(cause))) => explained(&cause),
            (_, Some(outcome)) => outcome.to_string(),
        };
        self.state = State::Idle(producer);
        self.account(number.get(), records, Fate::Aborted(why));
    }

    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.failed.finish()
    }

    /// Takes leave of the brokers, and tells how many batches were sent again.
    pub(super) async fn close(&mut self, within: Duration) -> u64 {
        self.abort("reading stopped").await;
        if let State::Idle(producer) = std::mem::replace(&mut self.state, State::Gone) {
            self.retries = producer.metrics().retries;
            let _ = producer.close(within).await;
        }
        self.retries
    }

    fn take_open(&mut self) -> Option<Open> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Open(open) => Some(*open),
            state => {
                self.state = state;
                None
            }
        }
    }

    fn account(&mut self, number: u64, records: u64, fate: Fate) {
        let why = match fate {
            Fate::Committed => {
                self.ended.committed += 1;
                self.tally.delivered += records;
                return;
            }
            Fate::Aborted(why) => {
                self.ended.aborted += 1;
                self.tally.failed += records;
                format!("transaction {number} was aborted: {why}")
            }
            Fate::Unknown(why) => {
                self.ended.unknown += 1;
                self.tally.unknown += records;
                why
            }
        };
        self.first_failure.get_or_insert(why);
    }

    /// Whether a next transaction makes sense after one that was not committed.
    fn go_on(&self) -> Result<(), Stopped> {
        match self.grouping {
            Grouping::Every(_) => Ok(()),
            Grouping::All => Err(Stopped::Because(self.why())),
        }
    }

    fn why(&self) -> String {
        self.first_failure.clone().unwrap_or_else(|| "the transaction was aborted".into())
    }
}

/// The cause, with what to do about it on this command line where it does not say so itself.
fn explained(cause: &AbortCause) -> String {
    match cause {
        AbortCause::Delivery(error) => ledger::explained(error),
        AbortCause::TimedOut { lacked: Lacked::Records { topic, last, .. }, .. } => {
            let remedy = match last {
                Obstacle::Broker(code) => ledger::remedy(*code, topic),
                _ => None,
            };
            let remedy = remedy.unwrap_or_else(|| {
                "mend that, or raise -X transaction.timeout.ms if it passes by itself".into()
            });
            format!("{cause}; {remedy}")
        }
        AbortCause::TimedOut { .. } => {
            format!("{cause}; raise -X transaction.timeout.ms, or take fewer lines together")
        }
        cause => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grouping_is_a_number_or_all() {
        assert_eq!("all".parse(), Ok(Grouping::All));
        let count = NonZeroU64::new(17).expect("not zero");
        assert_eq!("17".parse(), Ok(Grouping::Every(count)));
        for text in ["", "0", "-1", "none", "1.5"] {
            assert!(text.parse::<Grouping>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_transaction_whose_time_was_up_is_told_with_what_it_takes_to_have_another() {
        let told =
            |lacked| explained(&AbortCause::TimedOut { after: Duration::from_secs(60), lacked });
        let records = |last| Lacked::Records { topic: "t".into(), partition: 1, last };
        let gone = told(records(Obstacle::Broker(sordini::ErrorCode::UnknownTopicOrPartition)));
        assert!(gone.contains("t-1") && gone.contains("sordini topic create t"), "{gone}");
        assert!(!gone.contains("fewer lines"), "{gone}");
        let leaderless = told(records(Obstacle::NoLeader));
        assert!(leaderless.contains("has no leader; mend that"), "{leaderless}");
        assert!(told(Lacked::Nothing).contains("take fewer lines"), "{}", told(Lacked::Nothing));
    }
}
