//! What the core reports, as tracing events: no payloads, broker text without control characters,
//! and never a flood.

use std::collections::BTreeMap;
use std::time::Duration;

use sordini_core::accumulator::counters::Metrics;
use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::producer::io::Trace;
use sordini_core::transaction::error::{AbortCause, TransactionOutcome};
use sordini_protocol::ErrorCode;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::driver::trouble::Troubles;

/// At most this many events of one kind in a period.
const BURST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

pub(super) struct Log {
    span: tracing::Span,
    windows: BTreeMap<Kind, Window>,
    troubles: Troubles,
    hinted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Connection,
    Retry,
    Failed,
    Epoch,
    Codec,
    DataLoss,
    Transaction,
}

struct Window {
    began: Instant,
    events: u32,
    suppressed: u64,
}

impl Log {
    pub(super) fn new(client_id: &str, delivery_timeout: Duration) -> Self {
        let span = tracing::info_span!(parent: None, "producer", client_id = %plain(client_id));
        let troubles = Troubles::new(delivery_timeout);
        Self { span, windows: BTreeMap::new(), troubles, hinted: false }
    }

    /// May one more event of this kind be logged now? Says how many were not.
    fn admits(&mut self, kind: Kind) -> bool {
        let now = Instant::now();
        let window =
            self.windows.entry(kind).or_insert(Window { began: now, events: 0, suppressed: 0 });
        if now.duration_since(window.began) >= PERIOD {
            if window.suppressed > 0 {
                info!(?kind, count = window.suppressed, "events were not logged");
            }
            *window = Window { began: now, events: 0, suppressed: 0 };
        }
        window.events += 1;
        let admitted = window.events <= BURST;
        window.suppressed += u64::from(!admitted);
        admitted
    }

    pub(super) fn trace(&mut self, trace: &Trace) {
        let span = self.span.clone();
        let _in = span.enter();
        match trace {
            Trace::Connected { address, .. } => {
                if self.admits(Kind::Connection) {
                    info!(%address, "connected");
                }
            }
            Trace::Disconnected { address, cause, .. } => {
                if self.admits(Kind::Connection) {
                    warn!(%address, cause = %plain(cause), "disconnected");
                }
            }
            Trace::Retry { topic, partition, code, attempts } => {
                let cause = code.map_or("connection lost", ErrorCode::name);
                // What was never sent is not sent again: that it is written then is no recovery.
                if *attempts > 0 {
                    self.troubles.retried(topic, *partition, cause);
                }
                if self.admits(Kind::Retry) {
                    info!(%topic, partition, cause, attempts, "batch is sent again");
                } else {
                    debug!(%topic, partition, attempts, "batch is sent again");
                }
            }
            Trace::Recovered { topic, partition, .. } => {
                self.troubles.recovered(topic, *partition);
            }
            Trace::Failed(failure) => {
                self.troubles.failed(&failure.topic, failure.partition);
                if self.admits(Kind::Failed) {
                    let fate = failure.fate;
                    error!(%fate, cause = %plain(&failure.to_string()), "batch failed");
                }
            }
            Trace::EpochBumped { topic, partition, epoch } => {
                if self.admits(Kind::Epoch) {
                    info!(%topic, partition, epoch, "partition takes a new epoch");
                }
            }
            Trace::DataLoss { topic, partition, code } => {
                if self.admits(Kind::DataLoss) {
                    error!(
                        %topic,
                        partition,
                        code = code.name(),
                        "the broker's log does not continue where this producer's records ended: \
                         acknowledged records may be lost"
                    );
                }
            }
            Trace::CodecFailed { topic, partition, cause } => {
                if self.admits(Kind::Codec) {
                    warn!(%topic, partition, %cause, "batch goes uncompressed");
                }
            }
            Trace::ProducerId { producer_id, epoch } => {
                debug!(producer_id, epoch, "producer id acquired");
            }
            Trace::TransactionBegun(transaction) => debug!(%transaction, "transaction begun"),
            Trace::TransactionEnded { transaction, outcome } => {
                self.transaction(*transaction, outcome);
            }
            Trace::TopicGone { topic } => warn!(%topic, "topic was deleted or made anew"),
            Trace::Fatal(code) => error!(code = code.name(), "the producer cannot go on"),
            other => debug!(?other),
        }
    }

    /// What the application asked for is no news; what it did not is.
    fn transaction(&mut self, transaction: TransactionNumber, outcome: &TransactionOutcome) {
        match outcome {
            TransactionOutcome::Committed => debug!(%transaction, "transaction committed"),
            TransactionOutcome::Aborted(AbortCause::Requested) => {
                debug!(%transaction, "transaction aborted");
            }
            TransactionOutcome::Aborted(cause) => {
                if self.admits(Kind::Transaction) {
                    warn!(%transaction, cause = %plain(&cause.to_string()), "transaction aborted");
                }
            }
            TransactionOutcome::Unknown => {
                if self.admits(Kind::Transaction) {
                    error!(%transaction, "it is not known whether the transaction was committed");
                }
            }
        }
    }

    /// Says once that the application awaits each send, if it looks like that: full speed, and
    /// one record in each batch.
    pub(super) fn batches(&mut self, before: &Metrics, now: &Metrics) {
        const MANY: u64 = 100;
        let batches = now.batches_written - before.batches_written;
        let records = now.records_written - before.records_written;
        if self.hinted || batches < MANY || records >= batches + batches / 4 {
            return;
        }
        self.hinted = true;
        let _in = self.span.enter();
        info!(
            batches,
            records,
            "batches hold one record each: where every send is awaited before the next, none has \
             company; enqueue records and await their deliveries later"
        );
    }

    /// The last handle was dropped without `close`: this is where failures are still seen.
    pub(super) fn unattended_end(&self, metrics: &Metrics) {
        let _in = self.span.enter();
        let failed = metrics.records_not_written + metrics.records_unknown;
        if failed > 0 {
            warn!(
                written = metrics.records_written,
                not_written = metrics.records_not_written,
                unknown = metrics.records_unknown,
                "the producer was dropped without close(), and records were not acknowledged"
            );
        }
    }
}

/// Text of a peer, without what a terminal would obey, and no more than fits a log. What the
/// errors of this crate say themselves, addresses included, is shorter.
fn plain(text: &str) -> String {
    const MOST: usize = 2048;
    let mut chars = text.chars();
    let shown = chars.by_ref().take(MOST);
    let mut shown: String = shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if chars.next().is_some() {
        shown.push_str(" [cut]");
    }
    shown
}

#[cfg(test)]
mod tests;
