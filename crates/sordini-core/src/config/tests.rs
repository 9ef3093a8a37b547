use std::time::Duration;

use super::{Acks, Address, Codec, Config, ConfigBuilder, ConfigError, known, table};

fn builder() -> ConfigBuilder {
    let mut builder = Config::builder();
    builder.set("bootstrap.servers", "localhost:9092").expect("an address");
    builder
}

fn with(settings: &[(&str, &str)]) -> Result<(Config, Vec<super::Warning>), ConfigError> {
    let mut builder = builder();
    for (name, value) in settings {
        builder.set(name, value)?;
    }
    builder.build()
}

fn error(settings: &[(&str, &str)]) -> ConfigError {
    with(settings).expect_err("these settings are wrong")
}

/// Every line of Java's table: name, type, default.
fn java() -> Vec<[&'static str; 3]> {
    let table = include_str!("testdata/producer-config-4.4.0.tsv");
    let fields = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    fields.map(|fields| fields.try_into().expect("three fields a line")).collect()
}

#[test]
fn every_setting_of_java_is_in_one_class() {
    assert_eq!(java().len(), 120);
    for [name, _, _] in java() {
        let supported = table::find(name).is_some();
        let known = known::judge(name, "a value").is_some();
        assert!(supported != known, "{name}: supported {supported}, known {known}");
    }
}

#[test]
fn the_defaults_are_javas_name_by_name() {
    /// docs/decisions/0008.
    const OTHERS: [(&str, &str); 1] = [("compression.zstd.level", "2")];
    let ours = Config::default().entries();
    for [name, _, default] in java() {
        let Some((_, ours)) = ours.iter().find(|(ours, _)| *ours == name) else { continue };
        let other = OTHERS.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let java = if default == "(required)" { "" } else { default };
        assert_ne!(other, Some(java), "{name} is Java's");
        assert_eq!(ours, other.unwrap_or(java), "{name}");
    }
    let not_javas: Vec<_> = ours
        .iter()
        .map(|(name, _)| *name)
        .filter(|ours| java().iter().all(|[name, _, _]| name != ours))
        .collect();
    assert_eq!(not_javas, ["allow.auto.create.topics"]);
}

#[test]
fn a_default_given_explicitly_is_no_error_for_any_setting_of_java() {
    for [name, kind, default] in java() {
        let secure = ["sasl.", "ssl."].iter().any(|prefix| name.starts_with(prefix));
        if secure || default == "(required)" || kind == "CLASS" {
            continue;
        }
        let default = default.trim_matches(['[', ']']);
        let mut builder = builder();
        let result = builder.set(name, default);
        assert!(result.is_ok(), "{name}={default}: {result:?}");
    }
}

#[test]
fn entries_are_sorted_and_read_back_to_the_same_settings() {
    let settings = [
        ("acks", "1"),
        ("client.id", "ä b"),
        ("compression.type", "zstd"),
        ("connections.max.idle.ms", "-1"),
        ("linger.ms", "9223372036854775807"),
        ("delivery.timeout.ms", "2147483647"),
        ("send.buffer.bytes", "-1"),
    ];
    let mut first = builder();
    for (name, value) in settings {
        first.set(name, value).expect("a supported setting");
    }
    let entries = first.peek().entries();
    assert!(entries.is_sorted());
    let mut second = Config::builder();
    for (name, value) in &entries {
        second.set(name, value).expect("an entry is a setting");
    }
    assert_eq!(second.peek(), first.peek());
    assert_eq!(second.peek().acks, Acks::Leader);
    assert_eq!(second.peek().compression_type, Codec::Zstd);
    assert_eq!(second.peek().connections_max_idle, None);
}

#[test]
fn supported_settings_change_the_config() {
    let (config, warnings) = with(&[
        ("linger.ms", " 20 "),
        ("retries", "+3"),
        ("enable.idempotence", "TRUE"),
        ("compression.type", "gzip"),
        ("compression.gzip.level", "9"),
    ])
    .expect("these are right");
    assert_eq!(config.linger, Duration::from_millis(20));
    assert_eq!(config.retries, 3);
    assert_eq!(config.compression_level(), Some(9));
    assert_eq!(warnings, []);
}

#[test]
fn values_out_of_range_are_refused_with_what_is_expected() {
    for (name, value) in [
        ("acks", "ALL"),
        ("acks", "2"),
        ("linger.ms", "5.5"),
        ("linger.ms", "-1"),
        ("retries", "2147483648"),
        ("max.in.flight.requests.per.connection", "0"),
        ("batch.size", "4294967296"),
        ("buffer.memory", "lots"),
        ("buffer.memory", "81"),
        ("max.request.size", "81"),
        ("request.timeout.ms", "0"),
        ("compression.type", "brotli"),
        ("compression.gzip.level", "0"),
        ("compression.lz4.level", "18"),
        ("compression.zstd.level", "23"),
        ("enable.idempotence", "yes"),
        ("metadata.max.idle.ms", "4999"),
        ("send.buffer.bytes", "-2"),
        ("client.dns.lookup", "resolve_canonical_bootstrap_servers_only"),
        ("partitioner.class", "com.example.Mine"),
        ("bootstrap.servers", "localhost"),
        ("bootstrap.servers", " , "),
    ] {
        let error = error(&[(name, value)]);
        let ConfigError::Invalid { said, expected } = &error else {
            panic!("{name}={value}: {error:?}")
        };
        assert_eq!(said.name, name);
        assert!(!expected.is_empty());
        assert!(error.to_string().starts_with(&format!("{name}={}", value.trim())), "{error}");
    }
}

#[test]
fn typed_values_are_held_to_the_same_ranges() {
    let mut builder = builder();
    builder.with("max.in.flight.requests.per.connection", |config| {
        config.max_in_flight_requests_per_connection = 0;
    });
    let error = builder.build().expect_err("zero in flight sends nothing");
    assert!(error.to_string().starts_with("max.in.flight.requests.per.connection=0"), "{error}");
}

#[test]
fn harmless_settings_are_warned_about() {
    let settings =
        [("key.deserializer", "x"), ("metric.reporters", "x"), ("enable.metrics.push", "true")];
    let (config, warnings) = with(&settings).expect("harmless");
    assert_eq!(config, with(&[]).expect("nothing said").0);
    let names: Vec<_> = warnings.iter().map(|warning| warning.name.as_str()).collect();
    assert_eq!(names, settings.map(|(name, _)| name));
}

#[test]
fn settings_that_ask_for_what_happens_anyway_are_silent() {
    let (_, warnings) = with(&[
        ("key.serializer", "org.apache.kafka.common.serialization.StringSerializer"),
        ("security.protocol", "PLAINTEXT"),
        ("interceptor.classes", ""),
        ("enable.metrics.push", "false"),
        ("partitioner.class", ""),
    ])
    .expect("all of this happens anyway");
    assert_eq!(warnings, []);
}

#[test]
fn settings_that_would_change_the_outcome_are_refused_with_the_reason() {
    for (name, value) in [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.something.new", "x"),
        ("ssl.truststore.location", "/x"),
        ("transaction.two.phase.commit.enable", "true"),
        ("interceptor.classes", "com.example.Spy"),
        ("key.serializer", "io.confluent.kafka.serializers.KafkaAvroSerializer"),
        ("partitioner.availability.timeout.ms", "10"),
        ("config.providers", "file"),
        ("enable.gapless.guarantee", "true"),
    ] {
        let error = error(&[(name, value)]);
        assert!(
            matches!(&error, ConfigError::Refused { said, .. } if said.name == name),
            "{error}"
        );
    }
}

#[test]
fn secrets_never_appear_in_errors() {
    for name in [
        "sasl.jaas.config",
        "sasl.password",
        "ssl.key.password",
        "ssl.keystore.key",
        "ssl.keystore.certificate.chain",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "saslpassword",
    ] {
        let error = error(&[(name, "hunter2")]);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn names_of_other_clients_are_answered_with_ours() {
    for (theirs, here) in [
        ("queue.buffering.max.ms", "linger.ms"),
        ("message.timeout.ms", "delivery.timeout.ms"),
        ("compression.codec", "compression.type"),
        ("metadata.broker.list", "bootstrap.servers"),
        ("request.required.acks", "acks"),
        ("batch.num.messages", "batches are limited in bytes only, by batch.size"),
    ] {
        let error = error(&[(theirs, "1")]);
        assert_eq!(error, ConfigError::Elsewhere { name: theirs.to_owned(), here });
        if !here.contains(' ') {
            assert!(table::find(here).is_some(), "{here}");
        }
    }
}

#[test]
fn unknown_names_get_the_nearest_one() {
    for (name, nearest) in [
        ("lingerms", Some("linger.ms")),
        ("ack", Some("acks")),
        ("boostrap.servers", Some("bootstrap.servers")),
        ("max.in.flight.request.per.connection", Some("max.in.flight.requests.per.connection")),
        ("compresion.type", Some("compression.type")),
        ("transaction.id", Some("transactional.id")),
        ("colour", None),
        ("", None),
    ] {
        let error = error(&[(name, "1")]);
        assert_eq!(error, ConfigError::Unknown { name: name.to_owned(), nearest });
    }
}

#[test]
fn contradictions_name_both_settings_their_values_and_what_would_be_right() {
    const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";
    let idempotent = ("enable.idempotence", "true");
    for (settings, named, remedy) in [
        (vec![idempotent, ("acks", "1")], vec!["enable.idempotence=true", "acks=1"], "acks=all"),
        (vec![idempotent, ("retries", "0")], vec!["enable.idempotence=true", "retries=0"], "false"),
        (vec![idempotent, (IN_FLIGHT, "6")], vec!["enable.idempotence=true", "connection=6"], "5"),
        (vec![(IN_FLIGHT, "6")], vec!["enable.idempotence=true", "connection=6"], "at most 5"),
        (vec![("acks", "1"), (IN_FLIGHT, "6")], vec!["connection=6"], "at most 5"),
        (
            vec![("delivery.timeout.ms", "1000")],
            vec!["delivery.timeout.ms=1000", "linger.ms=5", "request.timeout.ms=30000"],
            "30005",
        ),
        (
            vec![("batch.size", "2000"), ("buffer.memory", "1000")],
            vec!["batch.size=2000", "buffer.memory=1000"],
            "1000",
        ),
        (
            vec![("compression.type", "zstd"), ("compression.gzip.level", "9")],
            vec!["compression.type=zstd", "compression.gzip.level=9"],
            "compression.type=gzip",
        ),
        (
            vec![("retry.backoff.ms", "200"), ("retry.backoff.max.ms", "100")],
            vec!["retry.backoff.ms=200", "retry.backoff.max.ms=100"],
            "retry.backoff.max.ms=200",
        ),
    ] {
        let error = error(&settings);
        assert!(matches!(error, ConfigError::Contradiction { .. }), "{error}");
        let text = error.to_string();
        let (said, right) = text.split_once(" contradict each other: ").expect("both parts");
        assert!(named.iter().all(|one| said.contains(one)), "{text}");
        assert!(right.contains(remedy), "{text}");
    }
}

#[test]
fn what_nobody_set_is_not_told_as_if_somebody_had() {
    let longest = "9223372036854775807";
    for (settings, blamed, most) in [
        (vec![("linger.ms", longest)], "linger.ms=9223372036854775807", "2147453647"),
        (vec![("request.timeout.ms", "2147483647")], "request.timeout.ms=2147483647", "2147483642"),
        (
            vec![("linger.ms", "2147483647"), ("delivery.timeout.ms", "2147483647")],
            "linger.ms=2147483647",
            "2147453647",
        ),
    ] {
        let text = error(&settings).to_string();
        assert!(text.starts_with(blamed) && text.contains(most), "{text}");
    }
    let fits = [("linger.ms", "2147453647")];
    let (config, _) = with(&fits).expect("the default gives way");
    assert_eq!(config.delivery_timeout, Duration::from_millis(2_147_483_647));
    let text = error(&[("buffer.memory", "82")]).to_string();
    let told = "batch.size=16384 (the default) and buffer.memory=82 contradict";
    assert!(text.starts_with(told) && text.contains("buffer.memory of 16384 or more"), "{text}");
}

#[test]
fn what_was_given_is_never_told_as_a_default() {
    let text = error(&[("enable.idempotence", "true"), ("acks", "1")]).to_string();
    assert!(text.starts_with("enable.idempotence=true and acks=1 contradict"), "{text}");
    let text = error(&[("compression.zstd.level", "2")]).to_string();
    let told = "compression.type=none (the default) and compression.zstd.level=2 contradict";
    assert!(text.starts_with(told), "{text}");
}

#[test]
fn without_an_explicit_word_java_turns_idempotence_off_and_so_do_we() {
    for (name, value) in [("acks", "1"), ("acks", "0"), ("retries", "0")] {
        let (config, warnings) = with(&[(name, value)]).expect("this is allowed");
        assert!(!config.enable_idempotence);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().contains(&format!("{name}={value}")), "{}", warnings[0]);
        let said = [(name, value), ("enable.idempotence", "false")];
        assert_eq!(with(&said).expect("this is allowed").1, []);
    }
}

#[test]
fn what_was_not_given_gives_way() {
    let (config, warnings) =
        with(&[("request.timeout.ms", "130000"), ("retry.backoff.ms", "5000")])
            .expect("the defaults give way");
    assert_eq!(config.delivery_timeout, Duration::from_millis(130_005));
    assert_eq!(config.retry_backoff_max, Duration::from_secs(5));
    assert_eq!(warnings.len(), 2);
    assert!(config.check().is_ok());
}

#[test]
fn a_level_that_the_codec_does_not_have_is_warned_about() {
    for (codec, level, warned) in [
        ("lz4", "9", true),
        ("zstd", "5", true),
        ("zstd", "-8", true),
        ("zstd", "4", false),
        ("gzip", "9", false),
    ] {
        let name = format!("compression.{codec}.level");
        let (_, warnings) =
            with(&[("compression.type", codec), (&name, level)]).expect("the level is Java's");
        assert_eq!(!warnings.is_empty(), warned, "{name}={level}");
    }
    assert_eq!(with(&[("compression.type", "lz4")]).expect("no level was given").1, []);
}

#[test]
fn a_producer_without_an_address_is_an_error() {
    let error = Config::builder().build().expect_err("no address");
    assert_eq!(error, ConfigError::Missing { name: "bootstrap.servers" });
}

#[test]
fn a_properties_file_sets_all_it_holds() {
    let mut builder = Config::builder();
    let warnings = builder
        .properties(
            "# a producer\nbootstrap.servers = a:1,\\\n    [::1]:2\nacks:1\nlinger.ms 7\nlinger.ms=8\n",
        )
        .expect("this file is right");
    let (config, all) = builder.build().expect("no contradiction");
    assert_eq!(config.bootstrap_servers, [Address::new("a", 1), Address::new("::1", 2)]);
    assert_eq!(config.linger, Duration::from_millis(8));
    assert_eq!(warnings.len(), 1, "linger.ms stands there twice");
    assert!(warnings[0].to_string().contains("line 6"), "{}", warnings[0]);
    assert_eq!(all.len(), 2, "and acks=1 turned idempotence off");
}

#[test]
fn addresses_are_read_as_they_are_written() {
    for text in ["localhost:9092", "10.0.0.1:1", "[fe80::1%eth0]:65535", "a_b-c.example:9"] {
        assert_eq!(Address::parse(text).expect("an address").to_string(), text);
    }
    assert_eq!(Address::parse("PLAINTEXT://h:1").expect("an address"), Address::new("h", 1));
    for text in ["h", "h:", "h:0", "h:65536", "h:x", ":1", "[]:1", "::1:9092", "h/x:1", "h h:1"] {
        let error = Address::parse(text).expect_err("no address");
        assert!(error.to_string().starts_with(&format!("{text:?}")), "{error}");
    }
}
