use std::time::Duration;

use crate::fetch::{Address, Isolation, Settings};

#[test]
fn settings_have_the_names_of_kafkas_consumer() {
    let mut settings = Settings::default();
    for (name, value) in [
        ("bootstrap.servers", "a:1, [::1]:2,PLAINTEXT://c:3"),
        ("client.id", "me"),
        ("isolation.level", "read_committed"),
        ("fetch.max.bytes", "77"),
        ("fetch.max.wait.ms", "5"),
        ("security.protocol", "PLAINTEXT"),
    ] {
        assert_eq!(settings.set(name, value), Ok(None), "{name}");
    }
    let addresses = [("a", 1), ("::1", 2), ("c", 3)].map(|(host, port)| Address::new(host, port));
    assert_eq!(settings.bootstrap, addresses);
    assert_eq!(settings.bootstrap_text(), "a:1,[::1]:2,c:3");
    assert_eq!(settings.isolation, Isolation::ReadCommitted);
    assert_eq!(settings.fetch_max_bytes, 77);
    assert_eq!(settings.fetch_max_wait, Duration::from_millis(5));
}

#[test]
fn a_setting_that_changes_nothing_is_warned_about() {
    let warning = Settings::default().set("group.id", "g").expect("it is known");
    assert!(warning.expect("a warning").contains("group.id"));
}

#[test]
fn what_can_not_be_obeyed_is_an_error_that_says_why() {
    for (name, value, why) in [
        ("fetch.max.byte", "1", "did you mean fetch.max.bytes?"),
        ("colour", "red", "there is no setting"),
        ("fetch.max.bytes", "0", "from 1 to"),
        ("fetch.max.bytes", "1k", "from 1 to"),
        ("request.timeout.ms", "-1", "from 0 to"),
        ("isolation.level", "none", "read_committed or read_uncommitted"),
        ("security.protocol", "SSL", "only PLAINTEXT"),
        ("sasl.mechanism", "PLAIN", "SASL"),
        ("bootstrap.servers", "here", "no port"),
        ("bootstrap.servers", "::1:9092", "brackets"),
        ("bootstrap.servers", ":9092", "no host"),
        ("bootstrap.servers", "a:0", "between 1 and 65535"),
    ] {
        let error = Settings::default().set(name, value).expect_err(name).to_string();
        assert!(error.contains(why), "{name}={value}: {error}");
    }
    assert!(Settings::default().check().is_err(), "no address was given");
}

#[test]
fn one_properties_file_serves_a_producer_and_a_reader() {
    let mut settings = Settings::default();
    let text = "bootstrap.servers=a:1\nacks=all\nlinger.ms=5\nfetch.max.bytes=9\ngroup.id=g\n";
    let warnings = settings.properties(text).expect("all names are known");
    assert_eq!(warnings.len(), 1, "group.id: {warnings:?}");
    assert_eq!((settings.bootstrap_text().as_str(), settings.fetch_max_bytes), ("a:1", 9));
    let error = settings.properties("fetch.max.byte=9").expect_err("it is unknown").to_string();
    assert!(error.contains("fetch.max.bytes"), "{error}");
}
