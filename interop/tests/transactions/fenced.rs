//! Two processes with one transactional id.

use sordini_interop::judge::{Isolation, read_records_as};
use sordini_interop::numbers::{Seen, Told, judge_committed};
use sordini_interop::transactions::{Client, Generation};
use sordini_interop::{Need, can_run};

use crate::steps::{PARTITIONS, Steps};

/// Whatever it asks for next, the older one is fenced, and what it had written is never seen.
fn fences(client: Client, generation: Generation, asked: &[&str]) {
    let kafka = generation.up();
    for (number, step) in asked.iter().enumerate() {
        let topic = format!("fenced-{number}");
        kafka.topic(&topic, 3, 3, &["min.insync.replicas=2"]);
        let mut older = Steps::new(client, kafka.bootstrap(), &topic, &topic);
        let mut newer = Steps::new(client, kafka.bootstrap(), &topic, &topic);
        older.all(&["init", "begin", "send 0", "commit"]);
        // Only outside a transaction can one begin.
        if *step != "begin" {
            older.all(&["begin", "send 1"]);
        }
        newer.all(&["init"]);
        let answer = older.ask(step);
        println!("{client:?} on {generation:?}: {step}: {answer}");
        assert!(answer.starts_with("fenced "), "{step}: {answer}");
        newer.all(&["begin", "send 2", "commit"]);
        // It stays so.
        assert!(older.ask("begin") != "ok" || older.ask("commit") != "ok");

        let log = "intent 0 commit\noutcome 0 committed\nintent 1 abort\nintent 2 commit\n\
                   outcome 2 committed\n";
        let (lines, verdict) = read_records_as(kafka.bootstrap(), &topic, Isolation::ReadCommitted);
        let (told, seen) = (Told::parse(log).expect("a log"), Seen::from_json(&lines));
        assert_eq!(judge_committed(&told, &seen.expect("numbers"), PARTITIONS), [""; 0]);
        assert_eq!(verdict.open(), [0; 0]);
    }
}

#[test]
#[ignore = "a soak: what the cluster itself does to a sound client"]
fn java_s_older_one_is_fenced() {
    if can_run("java_s_older_one_is_fenced", &[Need::Kafka]) {
        // Its begin asks nobody.
        for generation in [Generation::New, Generation::Old] {
            fences(Client::Java, generation, &["commit", "abort", "offsets group 0 1"]);
        }
    }
}

#[test]
fn the_older_of_two_with_one_id_is_fenced_whatever_it_asks_for() {
    if can_run("the_older_of_two_with_one_id_is_fenced", &[Need::Kafka]) {
        for generation in [Generation::New, Generation::Old] {
            let asked = ["commit", "abort", "begin", "offsets group 0 1"];
            fences(Client::Sordini, generation, &asked);
        }
    }
}
