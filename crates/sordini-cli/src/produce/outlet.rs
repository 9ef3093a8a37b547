//! Where lines go: into the topic as they come, or in transactions.

use std::time::Duration;

use bytes::Bytes;
use sordini::{Appender, ExtendError, Producer, SendError};

use super::ledger::{Ledger, Tally};
use super::shape::{Parsed, Shape};
use super::stopped::{Stopped, Taken};
use super::transactions::Transactions;
use crate::connect::{patiently, until_known};
use crate::exit::Failure;
use crate::signals::Signals;
use crate::summary;

/// Takes lines, and keeps account of them.
#[derive(Debug)]
pub(super) enum Outlet {
    Each(Each),
    InTransactions(Transactions),
}

/// Each line is a record of its own.
#[derive(Debug)]
pub(super) struct Each {
    producer: Producer,
    topic: String,
    appender: Appender,
    ledger: Ledger,
}

impl Outlet {
    /// Each line as a record of its own.
    ///
    /// # Errors
    /// If the topic's name is refused.
    pub(super) fn each(producer: Producer, topic: &str, ledger: Ledger) -> Result<Self, SendError> {
        let appender = producer.topic(topic)?.appender();
        Ok(Self::Each(Each { producer, topic: topic.to_owned(), appender, ledger }))
    }

    /// Empties `--failed` of an earlier run's lines: from here on this run writes to it.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        match self {
            Self::Each(each) => each.ledger.begin(),
            Self::InTransactions(transactions) => transactions.begin(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        match self {
            Self::Each(each) => each.ledger.tally(),
            Self::InTransactions(transactions) => transactions.tally(),
        }
    }

    pub(super) fn first_failure(&self) -> Option<&str> {
        match self {
            Self::Each(each) => each.ledger.first_failure(),
            Self::InTransactions(transactions) => transactions.first_failure(),
        }
    }

    /// Whether `--failed` lacks lines, which could not be written.
    pub(super) fn lacks_lines(&self) -> bool {
        match self {
            Self::Each(each) => each.ledger.lacks_lines(),
            Self::InTransactions(transactions) => transactions.lacks_lines(),
        }
    }

    /// Whether lines that are not delivered are kept, in `--failed`.
    pub(super) fn keeps_lines(&self) -> bool {
        match self {
            Self::Each(each) => each.ledger.keeps_lines(),
            Self::InTransactions(transactions) => transactions.keeps_lines(),
        }
    }

    /// What became of the transactions, where there are any.
    pub(super) fn transactions(&self) -> Option<summary::Transactions> {
        match self {
            Self::Each(_) => None,
            Self::InTransactions(transactions) => Some(transactions.ended()),
        }
    }

    /// How many lines may be handed in at a time.
    pub(super) fn most(&self) -> usize {
        match self {
            Self::Each(_) => usize::MAX,
            Self::InTransactions(transactions) => transactions.room(),
        }
    }

    /// Waits until lines can be taken.
    ///
    /// # Errors
    /// Why they never will be.
    pub(super) async fn ready(
        &mut self,
        signals: &mut Signals,
        patience: Duration,
    ) -> Result<(), Stopped> {
        match self {
            Self::Each(each) => each.ready(signals, patience).await,
            Self::InTransactions(transactions) => transactions.ready(signals).await,
        }
    }

    /// Hands in lines, which stand one behind the other in `block`.
    pub(super) async fn take(
        &mut self,
        signals: &mut Signals,
        block: &Bytes,
        lines: &[Parsed<'_>],
        shape: &Shape,
    ) -> Taken {
        match self {
            Self::Each(each) => each.take(block, lines, shape).await,
            Self::InTransactions(transactions) => {
                transactions.take(signals, block, lines, shape).await
            }
        }
    }

    /// Takes in the outcomes that are there; ends a transaction that is to end.
    ///
    /// # Errors
    /// If `--failed` can't be written, or no further transaction makes sense.
    pub(super) async fn settle(&mut self) -> Result<(), Stopped> {
        match self {
            Self::Each(each) => Ok(each.ledger.settle()?),
            Self::InTransactions(transactions) => transactions.settle().await,
        }
    }

    /// Lines that are no records, or (`count` is 0) a part of one. They are dealt with, whatever it
    /// returns.
    ///
    /// # Errors
    /// As [`Outlet::settle`].
    pub(super) async fn reject(&mut self, lines: Bytes, count: u64) -> Result<(), Stopped> {
        match self {
            Self::Each(each) => Ok(each.ledger.rejected(lines, count)?),
            Self::InTransactions(transactions) => transactions.reject(&lines, count).await,
        }
    }

    /// Waits until a part of a line that is too long to be held can go straight to its place in
    /// `--failed`: the lines before it have theirs.
    ///
    /// # Errors
    /// If a signal came meanwhile, or `--failed` can't be written.
    pub(super) async fn ready_for_part(&mut self, signals: &mut Signals) -> Result<(), Stopped> {
        match self {
            Self::Each(each) => each.ready_for_part(signals).await,
            Self::InTransactions(_) => Ok(()),
        }
    }

    /// Lines that were read, and will not be handed in.
    ///
    /// # Errors
    /// If `--failed` can't be written.
    pub(super) fn leave(&mut self, lines: Bytes, count: u64) -> Result<(), Failure> {
        match self {
            Self::Each(each) => each.ledger.rejected(lines, count),
            Self::InTransactions(transactions) => transactions.leave(&lines, count),
        }
    }

    /// The input has ended. What is open is committed.
    ///
    /// # Errors
    /// As [`Outlet::settle`].
    pub(super) async fn end(&mut self) -> Result<(), Stopped> {
        match self {
            Self::Each(_) => Ok(()),
            Self::InTransactions(transactions) => transactions.commit().await,
        }
    }

    /// Reading has stopped before the end. What is open is aborted.
    pub(super) async fn stop(&mut self, stopped: &Stopped) {
        if let Self::InTransactions(transactions) = self {
            transactions.abort(stopped.why()).await;
        }
    }

    /// The ledger that still waits for outcomes, where there is one.
    pub(super) fn waiting(&mut self) -> Option<&mut Ledger> {
        match self {
            Self::Each(each) => Some(&mut each.ledger),
            Self::InTransactions(_) => None,
        }
    }

    /// Writes what of `--failed` is still in memory.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        match self {
            Self::Each(each) => each.ledger.finish(),
            Self::InTransactions(transactions) => transactions.finish(),
        }
    }

    /// Takes leave of the brokers, and tells how many batches were sent again.
    pub(super) async fn close(&mut self, within: Duration) -> u64 {
        match self {
            Self::Each(each) => {
                let _ = each.producer.close(within).await;
                each.producer.metrics().retries
            }
            Self::InTransactions(transactions) => transactions.close(within).await,
        }
    }
}

impl Each {
    /// Waits for room in the ledger.
    async fn ready(&mut self, signals: &mut Signals, patience: Duration) -> Result<(), Stopped> {
        while !self.ledger.has_room() {
            let moved = tokio::select! {
                _ = signals.wait() => return Err(Stopped::Signal),
                moved = self.ledger.wait_for_oldest(patience) => moved?,
            };
            if !moved {
                let millis = patience.as_millis();
                return Err(Stopped::Because(format!(
                    "no record was acknowledged, and none failed, within {millis} ms (max.block.ms)"
                )));
            }
        }
        Ok(())
    }

    async fn take(&mut self, block: &Bytes, lines: &[Parsed<'_>], shape: &Shape) -> Taken {
        if self.ledger.is_empty() {
            // By itself: what is appended may also have to wait for memory.
            let known = self.appender.topic().partitions();
            let what = || until_known(&self.topic, self.producer.config());
            if let Err(error) = patiently(known, what).await {
                return (0, Err(error.into()));
            }
        }
        let records = lines.iter().map(|one| shape.record(one));
        let (deliveries, refused) = match self.appender.extend(records).await {
            Ok(deliveries) => (deliveries, Ok(())),
            Err(ExtendError { accepted, error, .. }) => (accepted, Err(error.into())),
        };
        let accepted = deliveries.len();
        if accepted > 0 {
            let span = block.slice(lines[0].start..lines[accepted - 1].end);
            let bytes = lines[..accepted].iter().map(Parsed::bytes).sum();
            self.ledger.sent(deliveries, span, bytes);
        }
        (accepted, refused)
    }

    async fn ready_for_part(&mut self, signals: &mut Signals) -> Result<(), Stopped> {
        while !self.ledger.is_empty() {
            tokio::select! {
                _ = signals.wait() => return Err(Stopped::Signal),
                // Every accepted record has an outcome in time: there is nothing to give up for.
                moved = self.ledger.wait_for_oldest(Duration::MAX) => drop(moved?),
            }
        }
        Ok(())
    }
}
