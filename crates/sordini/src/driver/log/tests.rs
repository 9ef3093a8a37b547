use std::sync::{Arc, Mutex};
use std::time::Duration;

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::producer::io::Trace;
use sordini_core::transaction::error::{AbortCause, TransactionOutcome};
use sordini_protocol::ErrorCode;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{BURST, Log, plain};

const LIMIT: Duration = Duration::from_secs(120);

/// The levels of what was logged for a target of this beginning.
#[derive(Clone, Default)]
struct Levels(Arc<Mutex<Vec<Level>>>, &'static str);

impl Subscriber for Levels {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(self.1)
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        self.0.lock().expect("no panic").push(*event.metadata().level());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_cause_is_logged_whole_and_a_peers_flood_is_cut_and_said_to_be() {
    let addresses = (0..20).map(|at| format!("[2001:db8::{at}]:9092: Connection refused"));
    let cause = addresses.collect::<Vec<_>>().join("; ");
    assert!(cause.len() > 700);
    assert_eq!(plain(&cause), cause);
    assert_eq!(plain("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    let flood = plain(&"x".repeat(100_000));
    assert!(flood.len() < 3000 && flood.ends_with("x [cut]"));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_ends_otherwise_than_it_was_told_to_is_warned_of() {
    let levels = Levels::default();
    let _here = tracing::subscriber::set_default(levels.clone());
    let mut log = Log::new("client", LIMIT);
    let transaction = TransactionNumber::NONE;
    let cases = [
        (TransactionOutcome::Committed, Level::DEBUG),
        (TransactionOutcome::Aborted(AbortCause::Requested), Level::DEBUG),
        (TransactionOutcome::Aborted(AbortCause::Abandoned), Level::WARN),
        (TransactionOutcome::Aborted(AbortCause::Coordinator), Level::WARN),
        (TransactionOutcome::Unknown, Level::ERROR),
    ];
    for (outcome, _) in &cases {
        log.trace(&Trace::TransactionEnded { transaction, outcome: outcome.clone() });
    }
    assert_eq!(*levels.0.lock().expect("no panic"), cases.map(|(_, level)| level));
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_fails_is_warned_of_and_never_floods() {
    let levels = Levels::default();
    let _here = tracing::subscriber::set_default(levels.clone());
    let mut log = Log::new("client", LIMIT);
    let cause = "compression failed: the codec panicked".into();
    let failed = Trace::CodecFailed { topic: "t".into(), partition: 0, cause };
    (0..100).for_each(|_| log.trace(&failed));
    assert_eq!(*levels.0.lock().expect("no panic"), [Level::WARN; BURST as usize]);
}

fn retried(partition: i32, code: ErrorCode) -> Trace {
    Trace::Retry { topic: "t".into(), partition, code: Some(code), attempts: 1 }
}

fn recovered(partition: i32) -> Trace {
    Trace::Recovered { topic: "t".into(), partition, attempts: 2 }
}

/// What was warned of, and how often it was told that it is over, where a second passes between
/// one trace and the next.
async fn troubles(traces: impl IntoIterator<Item = Trace>) -> (usize, usize) {
    let levels = Levels(Arc::default(), "sordini::trouble");
    let _here = tracing::subscriber::set_default(levels.clone());
    let mut log = Log::new("client", LIMIT);
    for trace in traces {
        log.trace(&trace);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let levels = levels.0.lock().expect("no panic");
    let count = |level| levels.iter().filter(|it| **it == level).count();
    (count(Level::WARN), count(Level::INFO))
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_for_long_is_told_once_and_that_it_is_over_once() {
    let disk = ErrorCode::KafkaStorageError;
    let long = || (0..100).flat_map(|_| [0, 1, 2].map(|partition| retried(partition, disk)));
    assert_eq!(troubles(long()).await, (1, 0), "once for all partitions");
    let over = [recovered(1), recovered(0), recovered(0), recovered(2), recovered(2)];
    assert_eq!(troubles(long().chain(over)).await, (1, 1), "when the last is written");
    let other = [retried(0, ErrorCode::NotEnoughReplicas), retried(1, disk)];
    assert_eq!(troubles((0..9).flat_map(|_| other.clone())).await, (2, 0), "each cause");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_warned_of_but_a_batch_that_waits_for_long() {
    let moved = |partition| retried(partition, ErrorCode::NotLeaderOrFollower);
    // There is always one that waits, and none for more than a second.
    let chain = (0..9).flat_map(|partition| [moved(partition + 1), recovered(partition)]);
    assert_eq!(troubles([moved(0)].into_iter().chain(chain)).await, (0, 0));
    // Lost before it was sent, and sent at once: there will be no word of a recovery.
    let unsent = || Trace::Retry { topic: "t".into(), partition: 0, code: None, attempts: 0 };
    assert_eq!(troubles((0..9).map(|_| unsent())).await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_passes_soon_or_comes_and_goes_is_no_flood() {
    let moved = retried(0, ErrorCode::NotLeaderOrFollower);
    let brief = [moved.clone(), moved.clone(), recovered(0)];
    assert_eq!(troubles((0..100).flat_map(|_| brief.clone())).await, (0, 0), "brief");
    let long = [vec![moved; 4], vec![recovered(0)]].concat();
    let (warned, over) = troubles((0..100).flat_map(|_| long.clone())).await;
    assert!((2..=500 / 30 + 1).contains(&warned), "{warned} in 500 seconds");
    assert_eq!(over, warned, "only what was told is over");
}
