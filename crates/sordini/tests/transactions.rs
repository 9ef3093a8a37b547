//! Transactions as programs see them: what becomes visible, what is told of what was left behind,
//! and what each call says when it fails.

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use common::within;
use sordini::fetch::{Event, Isolation, Plan, Settings, Tail};
use sordini::{
    AbortCause, AbortError, BeginError, CommitError, GroupMetadata, Lacked, Obstacle,
    OffsetToCommit, OffsetsError, ProduceError, Producer, ProducerBuilder, Record, ResolveError,
    SendError, TransactionNumber, TransactionOutcome, TransactionalProducer,
};
use sordini_broker::Server;
use sordini_protocol::{ApiKey, ErrorCode};

async fn broker() -> Server {
    let broker = common::broker().await;
    broker.create_topic("a", 2, &[]).await.expect("a new topic");
    broker.create_topic("b", 1, &[]).await.expect("a new topic");
    broker
}

fn builder(broker: &Server) -> ProducerBuilder {
    common::impatient(broker).transactional_id("orders-1")
}

async fn producer(broker: &Server) -> TransactionalProducer {
    within(builder(broker).build_transactional()).await.expect("the id is to be had")
}

/// The values of a topic as a reader sees them now, sorted.
async fn seen(broker: &Server, topic: &str, isolation: Isolation) -> Vec<String> {
    let mut settings = Settings::default();
    settings.isolation = isolation;
    settings.set("bootstrap.servers", &broker.bootstrap()).expect("an address");
    let mut plan = Plan::new(topic);
    plan.stop_at_end = true;
    let mut tail = Tail::new(plan, settings).expect("the settings are right");
    let mut values = Vec::new();
    while let Some(event) = within(tail.next()).await.expect("it can be read") {
        if let Event::Records { records, .. } = event {
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
            values.extend(records.iter().map(|one| text(one.value.as_deref().unwrap_or_default())));
        }
    }
    values.sort_unstable();
    values
}

async fn committed(broker: &Server, topic: &str) -> Vec<String> {
    seen(broker, topic, Isolation::ReadCommitted).await
}

/// A commit returns when the coordinator has decided; the markers that show it to readers follow.
async fn becomes(broker: &Server, topic: &str, expected: &[&str]) {
    within(async {
        while committed(broker, topic).await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The record was refused since its transaction has ended.
#[track_caller]
fn assert_ended(error: &SendError, number: TransactionNumber) {
    let SendError::TransactionEnded { topic, transaction, .. } = error else { panic!("{error}") };
    assert_eq!((topic.as_str(), *transaction), ("b", number));
}

/// Lets a future begin, and cancels it.
fn cancelled(future: impl Future) {
    let pending = pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending();
    assert!(pending, "there was something to wait for");
}

#[tokio::test]
async fn records_of_a_transaction_become_visible_together_and_those_of_an_aborted_one_never() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let first = within(producer.begin()).await.expect("none is open");
    let topic = first.topic("a").expect("a legal name");
    let sends = (0..4).map(|value: i32| {
        let topic = topic.clone();
        tokio::spawn(async move { topic.send(value.to_string()).await })
    });
    for send in sends.collect::<Vec<_>>() {
        within(send).await.expect("no panic").expect("it is appended");
    }
    within(first.send("b", "4")).await.expect("it is appended");
    assert!(committed(&broker, "a").await.is_empty(), "before the commit");
    assert_eq!(seen(&broker, "a", Isolation::ReadUncommitted).await, ["0", "1", "2", "3"]);
    let number = first.number();
    let ended = within(first.commit()).await.expect("nothing stands in its way");
    assert_eq!(ended.transaction, number);
    assert_eq!(producer.outcome(number), Some(TransactionOutcome::Committed));

    let second = within(producer.begin()).await.expect("none is open");
    assert!(second.recovered().is_empty(), "{:?}", second.recovered());
    within(second.send("a", "5")).await.expect("it is appended");
    within(second.send("b", "6")).await.expect("it is appended");
    within(second.abort()).await.expect("nothing stands in its way");

    let third = within(producer.begin()).await.expect("none is open");
    within(third.enqueue("b", "7")).await.expect("there is room").detach();
    within(third.commit()).await.expect("it waits for its records");
    becomes(&broker, "a", &["0", "1", "2", "3"]).await;
    becomes(&broker, "b", &["4", "7"]).await;
    assert_eq!(seen(&broker, "b", Isolation::ReadUncommitted).await, ["4", "6", "7"]);
    let report = within(producer.close(Duration::from_secs(10))).await;
    assert_eq!((report.written, report.is_clean()), (8, true));
}

#[tokio::test]
async fn each_way_of_appending_is_within_the_transaction() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let transaction = within(producer.begin()).await.expect("none is open");
    let topic = transaction.topic("b").expect("a legal name");
    assert_eq!((topic.name(), topic.transaction()), ("b", transaction.number()));
    assert_eq!(within(topic.partitions()).await.expect("it is there").len(), 1);
    within(topic.enqueue_detached("1")).await.expect("there is room");
    topic.try_enqueue("2").expect("there is room").detach();
    let run = within(topic.appender().extend(["3", "4"])).await.expect("there is room");
    assert_eq!(run.len(), 2);
    assert!(within(transaction.flush()).await.is_clean());
    assert!(committed(&broker, "b").await.is_empty());
    within(transaction.commit()).await.expect("nothing stands in its way");
    becomes(&broker, "b", &["1", "2", "3", "4"]).await;
}

#[tokio::test]
async fn a_transaction_without_records_ends_as_it_is_told_to() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let empty = within(producer.begin()).await.expect("none is open");
    within(empty.commit()).await.expect("nothing to do");
    let empty = within(producer.begin()).await.expect("none is open");
    within(empty.abort()).await.expect("nothing to do");
    assert_eq!(broker.monitor().requests(ApiKey::EndTxn), 0, "no coordinator knows of it");
}

#[tokio::test]
async fn a_handle_of_an_ended_transaction_appends_nothing_to_the_next() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let first = within(producer.begin()).await.expect("none is open");
    let stale = first.topic("b").expect("a legal name");
    let number = first.number();
    within(stale.send("1")).await.expect("it is appended");
    within(first.commit()).await.expect("nothing stands in its way");

    let second = within(producer.begin()).await.expect("none is open");
    within(second.send("b", "2")).await.expect("it is appended");
    let refused = within(stale.send("lost")).await.expect_err("its transaction has ended");
    let ProduceError::NotAccepted(ended) = refused else { panic!("{refused}") };
    assert_ended(&ended, number);
    assert_eq!(stale.try_enqueue("lost").map(drop), Err(ended.clone()));
    let refused = within(stale.appender().extend(["lost"])).await.expect_err("it has ended");
    assert_eq!(refused.error, ended);
    within(second.commit()).await.expect("nothing stands in its way");
    assert_eq!(seen(&broker, "b", Isolation::ReadUncommitted).await, ["1", "2"]);
}

#[tokio::test]
async fn what_a_dropped_or_a_forgotten_guard_leaves_is_aborted_and_told_of_once() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let dropped = within(producer.begin()).await.expect("none is open");
    let first = dropped.number();
    within(dropped.send("b", "1")).await.expect("it is appended");
    drop(dropped);
    let forgotten = within(producer.begin()).await.expect("the first is aborted");
    let second = forgotten.number();
    let abandoned = TransactionOutcome::Aborted(AbortCause::Abandoned);
    let told = forgotten.recovered();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].transaction, &told[0].outcome), (first, &abandoned));
    within(forgotten.send("b", "2")).await.expect("it is appended");
    std::mem::forget(forgotten);

    let third = within(producer.begin()).await.expect("the second is aborted");
    let told = third.recovered();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].transaction, &told[0].outcome), (second, &abandoned));
    within(third.send("b", "3")).await.expect("it is appended");
    within(third.commit()).await.expect("nothing stands in its way");
    becomes(&broker, "b", &["3"]).await;
}

#[tokio::test]
async fn a_begin_that_is_cancelled_leaves_nothing_in_the_way() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    cancelled(producer.begin());
    cancelled(producer.begin());
    let transaction = within(producer.begin()).await.expect("none is in the way");
    let aborted = TransactionOutcome::Aborted(AbortCause::Abandoned);
    assert!(transaction.recovered().iter().all(|one| one.outcome == aborted));
    within(transaction.send("b", "1")).await.expect("it is appended");
    within(transaction.commit()).await.expect("nothing stands in its way");
    becomes(&broker, "b", &["1"]).await;
}

#[tokio::test]
async fn a_commit_that_is_cancelled_goes_on_and_is_told_of() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let transaction = within(producer.begin()).await.expect("none is open");
    let first = transaction.number();
    within(transaction.send("b", "1")).await.expect("it is appended");
    cancelled(transaction.commit());
    assert_eq!(within(producer.resolve(first)).await, Ok(TransactionOutcome::Committed));

    let transaction = within(producer.begin()).await.expect("none is open");
    assert!(transaction.recovered().is_empty(), "resolve() has told of it");
    let second = transaction.number();
    // Still on its way when the commit is cancelled.
    within(transaction.enqueue("b", "2")).await.expect("there is room").detach();
    cancelled(transaction.commit());
    let transaction = within(producer.begin()).await.expect("it waits for the commit");
    let told = transaction.recovered();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].transaction, &told[0].outcome), (second, &TransactionOutcome::Committed));
    within(transaction.abort()).await.expect("nothing stands in its way");
    becomes(&broker, "b", &["1", "2"]).await;
}

#[tokio::test]
async fn a_commit_that_was_never_polled_aborts() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let transaction = within(producer.begin()).await.expect("none is open");
    let number = transaction.number();
    within(transaction.send("b", "1")).await.expect("it is appended");
    drop(transaction.commit());
    let outcome = within(producer.resolve(number)).await.expect("it ends");
    assert_eq!(outcome, TransactionOutcome::Aborted(AbortCause::Abandoned));
    assert!(committed(&broker, "b").await.is_empty());
}

#[tokio::test]
async fn an_owned_transaction_gives_its_producer_back_in_every_case() {
    let broker = broker().await;
    let producer = producer(&broker).await;
    let owned = within(producer.begin_owned()).await.expect("none is open");
    let task = tokio::spawn(async move {
        owned.send("b", "1").await.expect("it is appended");
        owned.commit().await
    });
    let (producer, result) = within(task).await.expect("no panic");
    result.expect("nothing stands in its way");
    let owned = within(producer.begin_owned()).await.expect("none is open");
    within(owned.send("b", "2")).await.expect("it is appended");
    let (producer, result) = within(owned.abort()).await;
    result.expect("nothing stands in its way");
    let owned = within(producer.begin_owned()).await.expect("none is open");
    broker.faults().on(ApiKey::Produce).error(ErrorCode::InvalidRecord);
    within(owned.enqueue("b", "3")).await.expect("there is room").detach();
    let (producer, result) = within(owned.commit()).await;
    assert!(matches!(result, Err(CommitError::Aborted { .. })), "{result:?}");
    let owned = within(producer.begin_owned()).await.expect("it can go on");
    within(owned.send("b", "4")).await.expect("it is appended");
    // The producer goes with it; what it has begun is aborted.
    drop(owned);
    becomes(&broker, "b", &["1"]).await;
}

#[tokio::test]
async fn a_record_that_fails_costs_its_transaction_and_not_the_producer() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let transaction = within(producer.begin()).await.expect("none is open");
    let number = transaction.number();
    within(transaction.send("b", "1")).await.expect("it is appended");
    broker.faults().on(ApiKey::Produce).error(ErrorCode::InvalidRecord);
    within(transaction.send("b", "2")).await.expect_err("the broker refuses it");
    let refused = within(transaction.send("b", "3")).await.expect_err("nothing can save it");
    let ProduceError::NotAccepted(ended) = refused else { panic!("{refused}") };
    assert_ended(&ended, number);
    let offsets = [("b", 0, OffsetToCommit::new(1))];
    let refused = within(transaction.send_offsets(&GroupMetadata::new("g"), offsets)).await;
    assert!(matches!(refused, Err(OffsetsError::MustAbort { .. })), "{refused:?}");
    let error = within(transaction.commit()).await.expect_err("a record failed");
    let CommitError::Aborted { transaction, ref cause, .. } = error else { panic!("{error}") };
    assert_eq!(transaction, number);
    assert!(matches!(cause, AbortCause::Delivery(_)), "{cause}");
    assert!(error.to_string().contains("INVALID_RECORD"), "{error}");

    let transaction = within(producer.begin()).await.expect("it goes on");
    assert!(transaction.recovered().is_empty(), "the commit has told of it");
    within(transaction.send("b", "4")).await.expect("it is appended");
    within(transaction.commit()).await.expect("nothing stands in its way");
    becomes(&broker, "b", &["4"]).await;
}

/// A topic that is deleted in the midst of a transaction: the records wait for it to come back, and
/// their transaction's time is up before theirs.
#[tokio::test]
async fn a_transaction_whose_time_is_up_says_what_its_records_waited_for() {
    let broker = broker().await;
    let builder = builder(&broker).set("transaction.timeout.ms", "300").expect("supported");
    let mut producer = within(builder.build_transactional()).await.expect("the id is to be had");
    let gone = ErrorCode::UnknownTopicOrPartition;
    let answer = broker.faults().on(ApiKey::Produce).always().error(gone);
    let transaction = within(producer.begin()).await.expect("none is open");
    within(transaction.enqueue("b", "1")).await.expect("there is room").detach();
    let error = within(transaction.commit()).await.expect_err("its record is not written");
    let CommitError::Aborted { cause: AbortCause::TimedOut { lacked, .. }, .. } = &error else {
        panic!("{error}")
    };
    let last = Obstacle::Broker(gone);
    assert_eq!(*lacked, Lacked::Records { topic: "b".into(), partition: 0, last });
    for told in ["b-0", "UNKNOWN_TOPIC_OR_PARTITION", "transaction.timeout.ms"] {
        assert!(error.to_string().contains(told), "{error}");
    }
    drop(answer);
}

#[tokio::test]
async fn a_second_instance_fences_the_first_which_is_told_at_its_next_call() {
    let broker = broker().await;
    let mut old = producer(&broker).await;
    let transaction = within(old.begin()).await.expect("none is open");
    within(transaction.send("b", "of the old one")).await.expect("it is appended");
    let mut new = producer(&broker).await;
    let error = within(transaction.commit()).await.expect_err("it is fenced");
    let CommitError::Fatal { ref outcome, error: ref fatal, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(outcome, TransactionOutcome::Aborted(_)), "{outcome}");
    assert!(fatal.fenced.is_some(), "{error}");
    let error = within(old.begin()).await.expect_err("it is done");
    assert!(matches!(error, BeginError::Fatal(_)), "{error}");
    let transaction = within(new.begin()).await.expect("it has the id");
    within(transaction.send("b", "of the new one")).await.expect("it is appended");
    within(transaction.commit()).await.expect("nothing stands in its way");
    becomes(&broker, "b", &["of the new one"]).await;
    let _ = within(old.close(Duration::from_secs(10))).await;
}

#[tokio::test]
async fn a_transaction_whose_producer_is_fenced_can_still_be_aborted_or_dropped() {
    let broker = broker().await;
    let mut old = producer(&broker).await;
    let transaction = within(old.begin()).await.expect("none is open");
    within(transaction.send("b", "1")).await.expect("it is appended");
    let mut new = producer(&broker).await;
    let error = within(transaction.abort()).await.expect_err("it is fenced");
    assert!(matches!(error, AbortError::Fatal { .. }), "{error}");
    let mut newer = producer(&broker).await;
    let transaction = within(new.begin()).await;
    drop(transaction);
    let transaction = within(newer.begin()).await.expect("it has the id");
    within(transaction.commit()).await.expect("nothing stands in its way");
    assert!(committed(&broker, "b").await.is_empty());
}

#[tokio::test]
async fn offsets_are_checked_before_they_are_sent() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let transaction = within(producer.begin()).await.expect("none is open");
    let group = GroupMetadata::new("g");
    for (partition, offset) in [(-1, 0), (0, -1)] {
        let offsets = [("b", partition, OffsetToCommit::new(offset))];
        let refused = within(transaction.send_offsets(&group, offsets)).await;
        let error = refused.expect_err("there is no such offset");
        assert!(matches!(error, OffsetsError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(&format!("b-{partition} has no offset {offset}")));
    }
    let none: [(&str, i32, OffsetToCommit); 0] = [];
    assert_eq!(within(transaction.send_offsets(&group, none)).await, Ok(()));
    assert_eq!(broker.monitor().requests(ApiKey::TxnOffsetCommit), 0);
    let offsets =
        [("a", 1, OffsetToCommit::new(7).metadata("note")), ("b", 0, OffsetToCommit::new(1))];
    within(transaction.send_offsets(&group, offsets)).await.expect("the group takes them");
    within(transaction.commit()).await.expect("nothing stands in its way");
    assert_eq!(broker.monitor().requests(ApiKey::TxnOffsetCommit), 1);
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_in_time_and_resolved_later() {
    let broker = broker().await;
    let builder = builder(&broker)
        .max_block(Duration::from_millis(300))
        .request_timeout(Duration::from_millis(200))
        .delivery_timeout(Duration::from_millis(300));
    let mut producer = within(builder.build_transactional()).await.expect("the id is to be had");
    let transaction = within(producer.begin()).await.expect("none is open");
    within(transaction.send("b", "1")).await.expect("it is appended");
    let lost = broker.faults().on(ApiKey::EndTxn).always().drop_response_after_append();
    let number = transaction.number();
    let error = within(transaction.commit()).await.expect_err("no answer comes");
    let CommitError::Unknown { transaction, waited, .. } = error else { panic!("{error}") };
    assert_eq!(transaction, number);
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert!(error.to_string().contains("resolve()"), "{error}");
    assert_eq!(producer.outcome(number), None);
    let undecided = within(producer.resolve(number)).await;
    assert!(matches!(undecided, Err(ResolveError::Undecided { .. })), "{undecided:?}");
    let unfinished = within(producer.begin()).await.map(drop).expect_err("the commit goes on");
    assert!(matches!(unfinished, BeginError::Unfinished { .. }), "{unfinished}");
    lost.cancel();
    let outcome = loop {
        match within(producer.resolve(number)).await {
            Err(ResolveError::Undecided { .. }) => {}
            other => break other.expect("the coordinator answers"),
        }
    };
    assert_eq!(outcome, TransactionOutcome::Committed);
    becomes(&broker, "b", &["1"]).await;
}

#[tokio::test]
async fn what_nobody_has_begun_can_not_be_resolved() {
    let broker = broker().await;
    let mut other = producer(&broker).await;
    let number = within(other.begin()).await.expect("none is open").number();
    let producer =
        within(common::impatient(&broker).transactional_id("orders-2").build_transactional());
    let producer = producer.await.expect("the id is to be had");
    assert_eq!(producer.outcome(number), None);
    let error = within(producer.resolve(number)).await.expect_err("it has begun none");
    assert!(matches!(error, ResolveError::NotRemembered { .. }), "{error}");
}

#[tokio::test]
async fn a_driver_that_goes_leaves_no_call_waiting() {
    let broker = broker().await;
    let parts = builder(&broker).build_transactional_parts();
    let (producer, driver) = parts.expect("the settings are right");
    let driver = tokio::spawn(driver);
    let producer = within(producer.initialize()).await.expect("the id is to be had");
    let transaction = within(producer.begin_owned()).await.expect("none is open");
    let number = transaction.number();
    within(transaction.send("b", "1")).await.expect("it is appended");
    broker.faults().on(ApiKey::EndTxn).always().drop_response_after_append();
    let ending = tokio::spawn(transaction.commit());
    while broker.monitor().requests(ApiKey::EndTxn) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    driver.abort();
    let (producer, result) = within(ending).await.expect("no panic");
    assert!(matches!(result, Err(CommitError::Unknown { .. })), "{result:?}");
    let resolved = within(producer.resolve(number)).await;
    let unknown =
        matches!(resolved, Ok(TransactionOutcome::Unknown) | Err(ResolveError::Closed { .. }));
    assert!(unknown, "{resolved:?}");
    let refused = within(producer.begin_owned()).await.expect_err("its driver has gone");
    assert_eq!(refused.error, BeginError::Closed);
    let _ = within(refused.producer.close(Duration::from_secs(10))).await;
}

#[tokio::test]
async fn closing_aborts_what_was_left_open() {
    let broker = broker().await;
    let mut producer = producer(&broker).await;
    let transaction = within(producer.begin()).await.expect("none is open");
    let topic = transaction.topic("b").expect("a legal name");
    within(topic.send(Record::new("1"))).await.expect("it is appended");
    std::mem::forget(transaction);
    let report = within(producer.close(Duration::from_secs(10))).await;
    assert_eq!(report.written, 1);
    let refused = within(topic.enqueue("2")).await.map(drop).expect_err("it is closed");
    assert_eq!(refused, SendError::Closed);
    // The next instance need not wait for the transaction's time-out.
    let mut next = self::producer(&broker).await;
    let transaction = within(next.begin()).await.expect("none is open");
    within(transaction.send("b", "3")).await.expect("it is appended");
    within(transaction.commit()).await.expect("nothing stands in its way");
    becomes(&broker, "b", &["3"]).await;
}

/// Only for the compiler: what has to cross tasks can.
#[test]
fn handles_and_owned_transactions_cross_tasks() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<sordini::TransactionTopic>();
    crosses::<sordini::OwnedTransaction>();
    crosses::<TransactionalProducer>();
    fn is_send<T: Send>(_: T) {}
    let producer = |builder: ProducerBuilder| is_send(builder.build_transactional());
    producer(Producer::builder("h:1"));
}
