//! What was accepted and has no outcome yet, what the outcomes were, and the lines that failed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use sordini::{
    BatchDeliveries, Cause, DeliveryError, ErrorCode, Fate, Obstacle, Outcome, RunOutcome,
};

use super::failed::FailedLines;
use crate::exit::Failure;
use crate::input::lines;

/// Records whose receipts are kept at most. With one receipt each of about 40 bytes this stays far
/// below what the producer's own buffer takes.
const RECORDS_MAX: usize = 128 * 1024;

/// Bytes of lines that are kept at most for `--failed`, until their records have an outcome.
const KEPT_MAX: usize = 8 << 20;

/// How the lines fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) rejected: u64,
    /// Bytes of keys and values accepted.
    pub(super) bytes: u64,
}

/// Lines that stand one behind the other in the input and were dealt with together.
#[derive(Debug)]
enum Entry {
    /// Accepted; `lines` are theirs, where they are kept.
    Sent { deliveries: BatchDeliveries, records: usize, lines: Bytes },
    /// Not accepted, and waiting for its place in the file.
    Rejected { lines: Bytes },
}

/// All lines from the first that has no outcome yet, in the order of the input.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    records: usize,
    kept: usize,
    tally: Tally,
    failed: FailedLines,
    first_failure: Option<String>,
}

impl Ledger {
    /// An empty ledger; the lines that are not delivered go to `failed`.
    pub(super) fn new(failed: FailedLines) -> Self {
        Self {
            entries: VecDeque::new(),
            records: 0,
            kept: 0,
            tally: Tally::default(),
            failed,
            first_failure: None,
        }
    }

    /// Empties `--failed` of what an earlier run left in it.
    ///
    /// # Errors
    /// If that can't be done.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.failed.begin()
    }

    /// Whether `--failed` lacks lines, which could not be written.
    pub(super) fn lacks_lines(&self) -> bool {
        self.failed.lacks_lines()
    }

    /// Whether there is a `--failed`.
    pub(super) fn keeps_lines(&self) -> bool {
        self.failed.is_wanted()
    }

    /// The counts so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Why the first record that failed did.
    pub(super) fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    /// Records `lines` (whole, with their LFs) as accepted; `bytes` are those of their keys and
    /// values.
    pub(super) fn sent(&mut self, deliveries: BatchDeliveries, lines: Bytes, bytes: u64) {
        let records = deliveries.len();
        self.tally.accepted += records as u64;
        self.tally.bytes += bytes;
        self.records += records;
        let lines = if self.failed.is_wanted() { lines } else { Bytes::new() };
        self.kept += lines.len();
        self.entries.push_back(Entry::Sent { deliveries, records, lines });
    }

    /// Records `count` lines as rejected; with 0 it is a part of one, the others of which follow.
    ///
    /// # Errors
    /// If `--failed` can't be written.
    pub(super) fn rejected(&mut self, lines: Bytes, count: u64) -> Result<(), Failure> {
        self.tally.rejected += count;
        if !self.failed.is_wanted() {
            return Ok(());
        }
        if self.entries.is_empty() {
            return self.failed.write(&lines);
        }
        self.kept += lines.len();
        self.entries.push_back(Entry::Rejected { lines });
        Ok(())
    }

    /// Whether a receipt more may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.records < RECORDS_MAX && self.kept < KEPT_MAX
    }

    /// Takes in the outcomes that are there, without waiting.
    ///
    /// # Errors
    /// If `--failed` can't be written.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        let mut context = Context::from_waker(Waker::noop());
        while let Some(entry) = self.entries.front_mut() {
            match entry {
                Entry::Rejected { .. } => self.close_rejected()?,
                Entry::Sent { deliveries, .. } => match Pin::new(deliveries).poll(&mut context) {
                    Poll::Ready(outcomes) => self.close_sent(&outcomes)?,
                    Poll::Pending => break,
                },
            }
        }
        // They are to be found there whatever becomes of this process.
        self.failed.finish()
    }

    /// Waits until the oldest lines have their outcome; false where `patience` ran out before.
    ///
    /// # Errors
    /// If `--failed` can't be written.
    ///
    /// # Cancellation
    /// Safe.
    pub(super) async fn wait_for_oldest(&mut self, patience: Duration) -> Result<bool, Failure> {
        match self.entries.front_mut() {
            None => {}
            Some(Entry::Rejected { .. }) => self.close_rejected()?,
            Some(Entry::Sent { deliveries, .. }) => {
                match tokio::time::timeout(patience, deliveries).await {
                    Ok(outcomes) => self.close_sent(&outcomes)?,
                    Err(_) => return Ok(false),
                }
            }
        }
        self.failed.finish()?;
        Ok(true)
    }

    /// Whether every line has its outcome.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes what of `--failed` is still in memory.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.failed.finish()
    }

    fn close_rejected(&mut self) -> Result<(), Failure> {
        let Some(Entry::Rejected { lines }) = self.entries.pop_front() else { return Ok(()) };
        self.kept -= lines.len();
        self.failed.write(&lines)
    }

    fn close_sent(&mut self, outcomes: &[RunOutcome]) -> Result<(), Failure> {
        let Some(Entry::Sent { records, lines, .. }) = self.entries.pop_front() else {
            return Ok(());
        };
        self.records -= records;
        self.kept -= lines.len();
        let mut rest = lines.as_ref();
        let mut kept = Ok(());
        for run in outcomes {
            let count = run.count as usize;
            let (these, after) = split_lines(rest, count);
            rest = after;
            match &run.outcome {
                Outcome::Written { .. } => self.tally.delivered += count as u64,
                Outcome::Failed(error) => {
                    match error.fate {
                        Fate::NotWritten => self.tally.failed += count as u64,
                        Fate::Unknown => self.tally.unknown += count as u64,
                    }
                    self.first_failure.get_or_insert_with(|| explained(error));
                    // All of them are counted, whether they can be kept or not.
                    kept = kept.and_then(|()| self.failed.write(these));
                }
            }
        }
        kept
    }
}

/// The error, with what to do about it where it does not say so itself.
pub(super) fn explained(error: &DeliveryError) -> String {
    let remedy = match &error.cause {
        Cause::Rejected(code) | Cause::Expired { last: Obstacle::Broker(code), .. } => {
            remedy(*code, &error.topic)
        }
        _ => None,
    };
    match remedy {
        Some(remedy) => format!("{error}; {remedy}"),
        None => error.to_string(),
    }
}

/// What to do about a broker's answer to records of `topic`.
pub(super) fn remedy(code: ErrorCode, topic: &str) -> Option<String> {
    Some(match code {
        ErrorCode::MessageTooLarge => {
            "raise the topic's max.message.bytes, or send less in a line".into()
        }
        ErrorCode::InvalidTimestamp => "a time in the batch is further from now than the topic's \
             message.timestamp.before.max.ms or message.timestamp.after.max.ms allow, and a batch \
             is refused as a whole; with -X batch.size=0 only such lines fail"
            .into(),
        ErrorCode::KafkaStorageError => "see to the broker's disk: is it full?".into(),
        ErrorCode::UnknownTopicOrPartition => format!(
            "was it deleted? `sordini topic create {topic}` makes it anew, with the same -b or \
             --data"
        ),
        _ => return None,
    })
}

/// The first `count` lines of `block`, and the others.
fn split_lines(block: &[u8], count: usize) -> (&[u8], &[u8]) {
    let bytes = lines(block).take(count).map(|line| line.len() + 1).sum::<usize>();
    block.split_at(bytes.min(block.len()))
}
