//! How a transactional producer comes to be, and what is said where it does not.

mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::within;
use sordini::{BuildError, InitError, Producer, ProducerBuilder};

/// A port where connections are taken, and nothing is ever answered.
fn mute() -> (TcpListener, ProducerBuilder) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    (listener, Producer::builder(&address).transactional_id("orders-1"))
}

#[tokio::test]
async fn each_kind_of_producer_is_built_by_its_own_call_and_the_other_one_is_named() {
    let (_listener, builder) = mute();
    let refused = builder.build().await.expect_err("it has a transactional.id");
    assert!(matches!(refused, BuildError::Transactional { .. }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("transactional.id=orders-1"), "{said}");
    assert!(said.contains("build_transactional()"), "{said}");

    for builder in [Producer::builder("h:1"), Producer::builder("h:1").transactional_id("")] {
        let refused = builder.build_transactional().await.expect_err("it has no transactional.id");
        assert_eq!(refused, InitError::Build(BuildError::NotTransactional));
        assert!(refused.to_string().contains("transactional.id"), "{refused}");
    }
    let by_name = Producer::builder("h:1").set("transactional.id", "x").expect("a known name");
    assert!(matches!(by_name.build_parts(), Err(BuildError::Transactional { .. })));
}

#[tokio::test]
async fn transactions_are_not_built_on_settings_that_can_not_carry_them() {
    for (name, value) in [("enable.idempotence", "false"), ("acks", "1")] {
        let (_listener, builder) = mute();
        let builder = builder.set(name, value).expect("a known name");
        let refused = builder.build_transactional().await.expect_err("not with these settings");
        assert!(matches!(refused, InitError::Build(BuildError::Config(_))), "{refused}");
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

#[tokio::test]
async fn an_initialisation_that_nobody_answers_ends_with_max_block_ms_and_names_the_id() {
    let (_listener, builder) = mute();
    let builder = builder.max_block(Duration::from_millis(100));
    let error = within(builder.build_transactional()).await.expect_err("nobody answers");
    let InitError::TimedOut { ref transactional_id, waited, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(transactional_id, "orders-1");
    assert!(waited >= Duration::from_millis(100), "{waited:?}");
    assert!(error.to_string().contains("max.block.ms"), "{error}");
}

#[tokio::test]
async fn a_timeout_that_the_brokers_refuse_is_told_with_its_value_and_both_settings() {
    let broker = common::broker().await;
    let builder = Producer::builder(&broker.bootstrap()).transactional_id("orders-1");
    let builder = builder.set("transaction.timeout.ms", "900001").expect("a known name");
    let error = within(builder.build_transactional()).await.expect_err("15 minutes is the most");
    let InitError::TimeoutTooLong { timeout, .. } = error else { panic!("{error}") };
    assert_eq!(timeout, Duration::from_millis(900_001));
    let told = ["transaction.timeout.ms=900001", "transaction.max.timeout.ms", "lower", "orders-1"];
    for told in told {
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test]
async fn an_id_of_any_length_makes_an_error_of_a_length_that_can_be_read() {
    let id = "\u{e9}".repeat(15_000);
    let refused = Producer::builder("h:1").transactional_id(&id).build().await;
    let said = refused.expect_err("it has a transactional.id").to_string();
    assert!(said.len() < 1000 && said.contains("(30000 bytes)"), "{said}");
    let (_listener, builder) = mute();
    let builder = builder.transactional_id(&id).max_block(Duration::from_millis(10));
    let said = within(builder.build_transactional()).await.expect_err("nobody answers");
    assert!(said.to_string().len() < 1000, "{said}");
}

#[tokio::test]
async fn an_initialisation_whose_driver_goes_ends_with_it() {
    let (_listener, builder) = mute();
    let (producer, driver) = builder.build_transactional_parts().expect("the settings are right");
    let driver = tokio::spawn(driver);
    let initialized = tokio::spawn(producer.initialize());
    tokio::task::yield_now().await;
    driver.abort();
    let error = within(initialized).await.expect("no panic").expect_err("its driver has gone");
    assert!(matches!(error, InitError::Closed { .. }), "{error}");
    assert!(error.to_string().contains("transactional.id=orders-1"), "{error}");
}

#[test]
fn without_a_runtime_none_is_built() {
    let (_listener, builder) = mute();
    let mut build = std::pin::pin!(builder.build_transactional());
    let polled = build.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    let std::task::Poll::Ready(Err(error)) = polled else { panic!("it waits for something") };
    assert_eq!(error, InitError::Build(BuildError::NoRuntime));
}
