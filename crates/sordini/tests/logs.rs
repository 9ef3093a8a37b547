//! What the driver logs: enough to see what happened, never a payload, never a flood, never a
//! control character of a peer. Its own test binary, since the subscriber is global.

mod common;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{broker_with, impatient, silence, within};
use sordini::{Producer, Record};
use sordini_protocol::{ApiKey, ErrorCode};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};

static LINES: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

/// Keeps every event and the fields of every span of the crate, as text.
struct Capture;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

fn keep(level: Level, text: String) {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).push((level, text));
}

/// The lines that contain `part`.
fn lines(part: &str) -> Vec<(Level, String)> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|(_, line)| line.contains(part)).cloned().collect()
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sordini")
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text(span.metadata().name().to_owned());
        span.record(&mut text);
        keep(*span.metadata().level(), text.0);
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        keep(*event.metadata().level(), text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

async fn eventually(part: &str) -> Vec<(Level, String)> {
    within(async {
        loop {
            let found = lines(part);
            if !found.is_empty() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

#[tokio::test]
async fn logs_tell_what_happened_and_nothing_of_what_was_sent() {
    tracing::subscriber::set_global_default(Capture).expect("the only one");
    let broker = broker_with(1).await;
    let described = impatient(&broker).client_id("the\nclient");
    let described = described.set("metric.reporters", "x").expect("harmless");
    let producer = described.build().await.expect("the settings are right");
    assert_eq!(lines("metric.reporters")[0].0, Level::WARN, "warnings of settings are logged");
    assert_eq!(lines("the\u{fffd}client").len(), 1, "control characters are not obeyed");

    let secret = || Record::new("secret value").key("secret key").header("secret", "secret");
    within(producer.send("t", secret())).await.expect("it is written");
    assert_eq!(eventually("connected").await[0].0, Level::INFO);

    broker.faults().on(ApiKey::Produce).times(50).error(ErrorCode::NotEnoughReplicas);
    within(producer.send("t", secret())).await.expect("it is written in the end");
    let retries = lines("NOT_ENOUGH_REPLICAS");
    assert!(!retries.is_empty() && retries.len() <= 10, "{} lines", retries.len());

    broker.faults().on(ApiKey::Produce).close_connection();
    within(producer.send("t", secret())).await.expect("it is written in the end");
    assert_eq!(eventually("disconnected").await[0].0, Level::WARN);

    broker.faults().on(ApiKey::Produce).error(ErrorCode::InvalidRecord);
    within(producer.send("t", secret())).await.expect_err("it is refused");
    assert_eq!(eventually("INVALID_RECORD").await[0].0, Level::ERROR);

    // A thousand sends, each awaited before the next, for longer than the log looks.
    let began = std::time::Instant::now();
    while lines("hold one record each").is_empty() {
        within(producer.send("t", secret())).await.expect("it is written");
        assert!(began.elapsed() < common::LIMIT, "the hint never came");
    }

    silence(&broker);
    within(producer.enqueue("t", secret())).await.expect("there is room").detach();
    assert!(!within(producer.close(Duration::from_millis(20))).await.is_clean());
    let unattended = impatient(&broker)
        .request_timeout(Duration::from_millis(20))
        .delivery_timeout(Duration::from_millis(50));
    let unattended: Producer = unattended.build().await.expect("the settings are right");
    within(unattended.enqueue("t", secret())).await.expect("there is room").detach();
    drop(unattended);
    let end = eventually("dropped without close()").await;
    assert_eq!(end[0].0, Level::WARN);
    assert!(end[0].1.contains("unknown=1"), "{end:?}");

    assert_eq!(lines("secret"), [], "nothing that was sent is ever logged");
}
