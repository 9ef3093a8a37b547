//! Settings that have no field: what is done with each, and why.

use super::ConfigError;
use super::error::{Said, Warning};

/// What happens to a known name without a field.
pub(super) enum Fate {
    /// Accepted with a warning, whatever the value.
    Harmless(&'static str),
    /// Accepted silently with one of these values, since they ask for what happens anyway;
    /// accepted with the warning otherwise.
    HarmlessUnless(&'static [&'static str], &'static str),
    /// Accepted silently with one of these values; refused otherwise.
    RefusedUnless(&'static [&'static str], &'static str),
    /// Refused, whatever the value.
    Refused(&'static str),
    /// Another client's name: what to write here.
    Elsewhere(&'static str),
}

use Fate::{Elsewhere, Harmless, HarmlessUnless, Refused, RefusedUnless};

const UNSET: &[&str] = &["", "null"];
const BYTES_SERIALIZERS: &[&str] = &[
    "org.apache.kafka.common.serialization.StringSerializer",
    "org.apache.kafka.common.serialization.ByteArraySerializer",
    "org.apache.kafka.common.serialization.ByteBufferSerializer",
    "org.apache.kafka.common.serialization.BytesSerializer",
];
const SERIALIZER: &str =
    "keys and values are bytes here and no class can be loaded; serialize before you send";
const METRICS: &str = "counters are read with Producer::metrics; nothing samples or reports them";
const TELEMETRY: &str = "no client telemetry (KIP-714) is pushed, whatever the value";
const REBOOTSTRAP: &str =
    "not built yet: a client whose known brokers are all gone tries them and the bootstrap list";
const TWO_PHASE: &str = "a prepared transaction can't be completed by a broker up to Kafka 4.4 \
                         (KIP-939: KeepPreparedTxn is not served); leave it at false";
const CONSUMER: &str = "a consumer's setting; a producer has no use for it";
const SASL: &str = "SASL is not built yet; connections are plaintext and not authenticated, and to \
                    ignore the setting would hide that";
const TLS: &str = "TLS is not built yet; connections are plaintext, and to ignore the setting \
                   would hide that";
const LOGGING: &str = "logs are tracing events; the application's subscriber filters them";

/// Java's producer settings without a field, then a consumer's, then librdkafka's.
const KNOWN: &[(&str, Fate)] = &[
    (
        "bootstrap.resolve.timeout.ms",
        Harmless(
            "names are resolved when a connection is needed, again and again until max.block.ms or delivery.timeout.ms",
        ),
    ),
    (
        "buffer.memory.allocation.strategy",
        Harmless("memory is always taken in segments as a batch grows"),
    ),
    ("client.rack", Harmless("only used by partitioner.rack.aware, which is not built")),
    (
        "config.providers",
        RefusedUnless(UNSET, "values are taken literally; resolve the references before"),
    ),
    ("enable.metrics.push", HarmlessUnless(&["false"], TELEMETRY)),
    (
        "interceptor.classes",
        RefusedUnless(
            UNSET,
            "interceptors see and change each record, and no class can be loaded here",
        ),
    ),
    ("key.serializer", RefusedUnless(BYTES_SERIALIZERS, SERIALIZER)),
    (
        "metadata.cluster.check.enable",
        HarmlessUnless(
            &["false"],
            "not built yet: a broker is not told which cluster and node are expected",
        ),
    ),
    ("metadata.recovery.rebootstrap.trigger.ms", Harmless(REBOOTSTRAP)),
    ("metadata.recovery.strategy", HarmlessUnless(&["none", "NONE"], REBOOTSTRAP)),
    ("metric.reporters", Harmless(METRICS)),
    ("metrics.num.samples", Harmless(METRICS)),
    ("metrics.recording.level", Harmless(METRICS)),
    ("metrics.sample.window.ms", Harmless(METRICS)),
    (
        "partitioner.adaptive.partitioning.enable",
        HarmlessUnless(
            &["false"],
            "keyless records are spread uniformly; the brokers' load is not weighed yet",
        ),
    ),
    (
        "partitioner.availability.timeout.ms",
        RefusedUnless(&["0"], "keyless records do not avoid slow brokers yet; leave it at 0"),
    ),
    (
        "partitioner.rack.aware",
        RefusedUnless(&["false"], "racks are not considered; leave it at false"),
    ),
    (
        "security.protocol",
        RefusedUnless(
            &["PLAINTEXT", "plaintext"],
            "only PLAINTEXT is built so far; neither TLS nor SASL is there",
        ),
    ),
    ("security.providers", RefusedUnless(UNSET, TLS)),
    ("transaction.two.phase.commit.enable", RefusedUnless(&["false"], TWO_PHASE)),
    ("value.serializer", RefusedUnless(BYTES_SERIALIZERS, SERIALIZER)),
    // Consumers' settings, in files shared by both kinds of client.
    ("auto.commit.interval.ms", Harmless(CONSUMER)),
    ("auto.offset.reset", Harmless(CONSUMER)),
    ("check.crcs", Harmless(CONSUMER)),
    ("enable.auto.commit", Harmless(CONSUMER)),
    ("fetch.max.bytes", Harmless(CONSUMER)),
    ("fetch.max.wait.ms", Harmless(CONSUMER)),
    ("fetch.min.bytes", Harmless(CONSUMER)),
    ("group.id", Harmless(CONSUMER)),
    ("group.instance.id", Harmless(CONSUMER)),
    ("group.protocol", Harmless(CONSUMER)),
    ("heartbeat.interval.ms", Harmless(CONSUMER)),
    ("isolation.level", Harmless(CONSUMER)),
    ("key.deserializer", Harmless(CONSUMER)),
    ("max.partition.fetch.bytes", Harmless(CONSUMER)),
    ("max.poll.interval.ms", Harmless(CONSUMER)),
    ("max.poll.records", Harmless(CONSUMER)),
    ("session.timeout.ms", Harmless(CONSUMER)),
    ("value.deserializer", Harmless(CONSUMER)),
    ("schema.registry.url", Refused("no schema registry is asked; serialize before you send")),
    // librdkafka's names.
    ("api.version.fallback.ms", Harmless("versions are negotiated with each broker")),
    (
        "api.version.request",
        RefusedUnless(&["true"], "versions are always negotiated (brokers from 2.1 on)"),
    ),
    ("batch.num.messages", Elsewhere("batches are limited in bytes only, by batch.size")),
    ("broker.address.family", Harmless("addresses of both families are tried")),
    ("broker.address.ttl", Harmless("names are resolved again for each connection")),
    ("broker.version.fallback", Harmless("versions are negotiated with each broker")),
    ("compression.codec", Elsewhere("compression.type")),
    (
        "compression.level",
        Elsewhere("compression.gzip.level, compression.lz4.level or compression.zstd.level"),
    ),
    ("debug", Harmless(LOGGING)),
    ("delivery.report.only.error", Harmless("a delivery that nobody awaits costs nothing")),
    (
        "enable.gapless.guarantee",
        RefusedUnless(
            &["false"],
            "a failed batch does not stop the producer; with return_failed its records are handed back",
        ),
    ),
    ("log_level", Harmless(LOGGING)),
    ("max.in.flight", Elsewhere("max.in.flight.requests.per.connection")),
    ("message.copy.max.bytes", Harmless("each record is encoded once, straight into its batch")),
    ("message.max.bytes", Elsewhere("max.request.size")),
    ("message.send.max.retries", Elsewhere("retries")),
    ("message.timeout.ms", Elsewhere("delivery.timeout.ms")),
    ("metadata.broker.list", Elsewhere("bootstrap.servers")),
    ("metadata.request.timeout.ms", Elsewhere("request.timeout.ms")),
    (
        "partitioner",
        Elsewhere(
            "keys are hashed by murmur2 as in Java (librdkafka's murmur2_random); others by partitioner.class, partitioner.ignore.keys or the builder's partitioner()",
        ),
    ),
    ("produce.offset.report", Harmless("every delivery has its offset")),
    (
        "queue.buffering.backpressure.threshold",
        Harmless("batches grow by themselves while a broker is slow"),
    ),
    ("queue.buffering.max.kbytes", Elsewhere("buffer.memory, in bytes")),
    ("queue.buffering.max.messages", Elsewhere("buffer.memory, in bytes; records are not counted")),
    ("queue.buffering.max.ms", Elsewhere("linger.ms")),
    ("queuing.strategy", Refused("the order of a partition is always that of acceptance")),
    ("request.required.acks", Elsewhere("acks")),
    ("socket.connection.setup.timeout", Elsewhere("socket.connection.setup.timeout.ms")),
    ("socket.keepalive.enable", HarmlessUnless(&["true"], "keepalive is always on")),
    ("socket.max.fails", Harmless("a connection is dropped at its first timed-out request")),
    ("socket.nagle.disable", HarmlessUnless(&["true"], "TCP_NODELAY is always on")),
    ("socket.receive.buffer.bytes", Elsewhere("receive.buffer.bytes")),
    ("socket.send.buffer.bytes", Elsewhere("send.buffer.bytes")),
    ("socket.timeout.ms", Elsewhere("request.timeout.ms")),
    ("statistics.interval.ms", Harmless(METRICS)),
    (
        "sticky.partitioning.linger.ms",
        Elsewhere("keyless records change partition after batch.size bytes, not by time"),
    ),
    ("topic.metadata.refresh.interval.ms", Elsewhere("metadata.max.age.ms")),
];

/// All names that have no field, for the nearest-name search and for tests.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

fn fate(name: &str) -> Option<&'static Fate> {
    let exact = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, fate)| fate);
    exact.or_else(|| {
        if name.starts_with("sasl.") {
            Some(&Refused(SASL))
        } else if name.starts_with("ssl.") {
            Some(&Refused(TLS))
        } else {
            None
        }
    })
}

/// Judges a known setting without a field; `None` if the name is not known at all.
pub(super) fn judge(name: &str, value: &str) -> Option<Result<Option<Warning>, ConfigError>> {
    let refused = |reason: &str| {
        Err(ConfigError::Refused {
            said: Said::new(name, shown(name, value)),
            reason: reason.to_owned(),
        })
    };
    Some(match fate(name)? {
        Harmless(text) => Ok(Some(Warning::new(name, *text))),
        HarmlessUnless(silent, _) | RefusedUnless(silent, _) if silent.contains(&value) => Ok(None),
        HarmlessUnless(_, text) => Ok(Some(Warning::new(name, *text))),
        RefusedUnless(_, reason) | Refused(reason) => refused(reason),
        Elsewhere(here) => Err(ConfigError::Elsewhere { name: name.to_owned(), here }),
    })
}

/// The value as it may be shown: never one that could be a secret.
pub(super) fn shown(name: &str, value: &str) -> String {
    const SECRET: [&str; 8] = [
        "password",
        "passphrase",
        "secret",
        "jaas",
        "ssl.key",
        "keystore.key",
        "certificate",
        "sasl.username",
    ];
    let name = name.to_ascii_lowercase();
    if SECRET.iter().any(|part| name.contains(part)) {
        "(hidden)".to_owned()
    } else {
        value.escape_debug().take(256).collect()
    }
}
