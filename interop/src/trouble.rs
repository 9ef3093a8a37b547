//! What is done to a cluster while a transaction goes on.

use std::thread::sleep;
use std::time::Duration;

use crate::dialogue::Dialogue;
use crate::kafka::{Kafka, txn};
use crate::process;
use crate::times::Times;

/// Broker settings that make a node that is gone noticed soon.
pub const SHORT_SESSIONS: [&str; 2] =
    ["broker.session.timeout.ms=3000", "broker.heartbeat.interval.ms=500"];

const ANSWER: Duration = Duration::from_secs(90);

/// Where in a cluster things are, as Java's admin client tells.
pub struct Where(Dialogue);

impl Where {
    /// Asks this cluster.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self(Dialogue::start(txn("where").args(["--bootstrap", bootstrap])))
    }

    /// The node that leads a partition.
    pub fn leader(&mut self, topic: &str, partition: u64) -> u32 {
        self.node(&format!("leader {topic} {partition}"))
    }

    /// The coordinator of a transactional id that was used before.
    pub fn coordinator(&mut self, transactional_id: &str) -> u32 {
        self.node(&format!("transaction {transactional_id}"))
    }

    fn node(&mut self, question: &str) -> u32 {
        let mut found = None;
        // An election takes a moment, and so does the loading of a coordinator's log.
        process::wait_until(question, ANSWER, || {
            found = self.0.ask(question, ANSWER).parse().ok();
            found.is_some()
        });
        found.expect("it was waited for")
    }
}

/// Kills, pauses and stops, in turn, the node that coordinates a transactional id and the leaders
/// of a topic. Each time all nodes run again before it goes on.
pub struct Trouble<'a> {
    kafka: &'a Kafka,
    at: Where,
    topic: &'a str,
    partitions: u64,
    transactional_id: &'a str,
    times: Times,
    blows: u64,
}

impl<'a> Trouble<'a> {
    /// For this topic and this id.
    #[must_use]
    pub fn new(
        kafka: &'a Kafka,
        topic: &'a str,
        partitions: u64,
        transactional_id: &'a str,
    ) -> Self {
        let (at, times) = (Where::new(kafka.bootstrap()), Times::from_seed());
        Self { kafka, at, topic, partitions, transactional_id, times, blows: 0 }
    }

    /// How many blows there were.
    #[must_use]
    pub fn blows(&self) -> u64 {
        self.blows
    }

    /// One more.
    pub fn strike(&mut self) {
        let node = match self.blows % 2 {
            0 => self.at.coordinator(self.transactional_id),
            _ => self.at.leader(self.topic, self.times.below(self.partitions)),
        };
        match self.blows % 3 {
            0 => {
                // Stopped first, so that requests are on their way to it when it dies.
                self.kafka.pause(node);
                sleep(self.times.about(Duration::from_millis(200)));
                self.kafka.kill(node);
                sleep(self.times.about(Duration::from_secs(3)));
                self.kafka.start(node);
            }
            1 => {
                // Longer than its session, so that it comes back as a leader of the past.
                self.kafka.pause(node);
                sleep(self.times.about(Duration::from_secs(5)));
                self.kafka.resume(node);
            }
            _ => {
                self.kafka.stop(node);
                self.kafka.start(node);
            }
        }
        self.blows += 1;
        sleep(self.times.about(Duration::from_secs(2)));
    }
}
