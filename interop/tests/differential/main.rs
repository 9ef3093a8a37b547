//! The same requests to the embedded broker and to real Kafka get the same answers: error codes,
//! offsets, silence or a closed connection, and a log of the same length.

mod batch;
mod client;
mod generated;
mod script;
mod written;

use std::collections::{BTreeMap, BTreeSet};

use sordini_interop::kafka::{Kafka, VERSIONS};
use sordini_interop::sordini::Serve;
use sordini_interop::{Need, can_run};
use sordini_protocol::ErrorCode;

use script::{Answer, Script, Subject, TOPICS};

const GENERATED: u64 = 300;

const STRICT: &str = "Kafka stores it, and readers get wrong offsets; no sound client sends it";
const BLIND: &str = "Kafka drops one of the two without a word, a loss that a test should show";

/// What may differ: how the script's name begins, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("a record delta too large", STRICT),
    ("a record delta too small", STRICT),
    ("a producer id below none", "Kafka stores it as if it were no id; no sound client sends it"),
    ("null records", "Kafka never answers, and the client waits for its time-out"),
    ("one partition twice", BLIND),
];

fn play(bootstrap: &str, scripts: &[Script]) -> Vec<Vec<Answer>> {
    let mut subject = Subject::new(bootstrap, scripts);
    let mut partitions: BTreeMap<_, i32> = TOPICS.map(|topic| (topic, 0)).into();
    let mut played = Vec::new();
    for script in scripts {
        let partition = partitions.get_mut(&script.topic).expect("a topic of the list");
        played.push(subject.play(script, *partition));
        *partition += 1;
    }
    played
}

/// A story of one script that was answered differently.
fn difference(script: &Script, real: &[Answer], ours: &[Answer]) -> String {
    let mut story = format!("\n{} ({:?})", script.name, script.topic);
    for (at, (real, ours)) in real.iter().zip(ours).enumerate() {
        let step = script.steps.get(at).map_or("the end".to_owned(), |step| format!("{step:?}"));
        story += &format!("\n  {step}\n      Kafka: {real}");
        if real != ours {
            story += &format!("\n   EMBEDDED: {ours}");
        }
    }
    story
}

/// The codes that were seen, so that the scripts are known to reach what they are meant to.
fn codes(played: &[Vec<Answer>]) -> BTreeSet<i16> {
    let answers = played.iter().flatten();
    answers
        .flat_map(|answer| match answer {
            Answer::Produced(parts) => parts.iter().map(|part| part.code.code()).collect(),
            Answer::Given { code, .. } => vec![code.code()],
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn the_embedded_broker_answers_as_kafka_does() {
    if !can_run("the_embedded_broker_answers_as_kafka_does", &[Need::Kafka]) {
        return;
    }
    let mut scripts = written::all();
    let by_hand = scripts.len();
    scripts.extend(generated::all(GENERATED));
    let kafka = Kafka::up(VERSIONS[0], 1, &["auto.create.topics.enable=false"]);
    let real = play(kafka.bootstrap(), &scripts);
    let serve = Serve::up(&["--no-auto-create"]);
    let ours = play(&serve.bootstrap(), &scripts);
    let steps: usize = real.iter().map(Vec::len).sum();
    println!("{} scripts, {by_hand} by hand, {steps} answers", scripts.len());
    let mut stories = String::new();
    let mut excused = BTreeSet::new();
    for ((script, real), ours) in scripts.iter().zip(&real).zip(&ours) {
        if real == ours {
            continue;
        }
        match DIFFERENCES.iter().find(|(name, _)| script.name.starts_with(name)) {
            Some((name, why)) => {
                excused.insert(*name);
                println!("differs, and may: {name}: {why}");
            }
            None => stories += &difference(script, real, ours),
        }
    }
    assert!(stories.is_empty(), "answered differently:{stories}");
    let idle: Vec<_> = DIFFERENCES.iter().filter(|(name, _)| !excused.contains(name)).collect();
    assert!(idle.is_empty(), "no longer different: {idle:?}");
    let seen = codes(&real);
    for code in [
        ErrorCode::None,
        ErrorCode::OutOfOrderSequenceNumber,
        ErrorCode::InvalidProducerEpoch,
        ErrorCode::UnknownTopicId,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::MessageTooLarge,
        ErrorCode::CorruptMessage,
        ErrorCode::InvalidRecord,
        ErrorCode::InvalidTimestamp,
        ErrorCode::InvalidRequiredAcks,
        ErrorCode::UnsupportedCompressionType,
    ] {
        assert!(seen.contains(&code.code()), "no script met {}", code.name());
    }
}
