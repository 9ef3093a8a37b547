//! A driver that panics: its own test binary, since the panic comes from a global subscriber.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{broker_with, impatient, silence, within};
use sordini::{Cause, SendError};
use sordini_protocol::{ApiKey, ErrorCode};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static ARMED: AtomicBool = AtomicBool::new(false);

/// Panics at the first event of the driver once it is armed, in the driver's task.
struct Explosive;

impl Subscriber for Explosive {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sordini::driver")
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        assert!(!ARMED.swap(false, Ordering::SeqCst), "as ordered: {}", event.metadata().name());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_driver_that_panics_resolves_everything() {
    tracing::subscriber::set_global_default(Explosive).expect("the only one");
    let broker = broker_with(2).await;
    let producer = impatient(&broker).build().await.expect("the settings are right");
    within(producer.send("t", "before")).await.expect("it is written");

    let silent = silence(&broker);
    let to = |partition| sordini::Record::new("v").partition(partition);
    let in_flight = within(producer.enqueue("t", to(0))).await.expect("there is room");
    let sent = broker.monitor().requests(ApiKey::Produce);
    while broker.monitor().requests(ApiKey::Produce) == sent {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    silent.cancel();
    // The next event is about this one's failure; by then others wait.
    let flush = producer.flush();
    ARMED.store(true, Ordering::SeqCst);
    broker.faults().on(ApiKey::Produce).always().error(ErrorCode::InvalidRecord);
    let report = within(producer.close(Duration::from_millis(50))).await;
    assert_eq!((report.written, report.not_written + report.unknown), (1, 1));
    let error = within(in_flight).await.expect_err("the driver is gone");
    assert!(matches!(error.cause, Cause::DriverGone | Cause::Closed), "{error}");
    let _ = within(flush).await;
    assert!(!ARMED.load(Ordering::SeqCst), "it did panic");
    let refused = within(producer.enqueue("t", "late")).await.map(drop);
    assert_eq!(refused, Err(SendError::Closed));
}
