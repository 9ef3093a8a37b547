//! The world: a clock that stands still between events, a network that is a queue, the machine.

mod broker;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sordini_core::accumulator::topic::Topic;
use sordini_core::accumulator::{Intent, NotAppended, Provision, ready::Wake};
use sordini_core::batch::completion::{Delivery, Outcome};
use sordini_core::batch::stages::Compressed;
use sordini_core::config::ConfigBuilder;
use sordini_core::connection::ConnId;
use sordini_core::partitioner;
use sordini_core::producer::io::{Command, Finished, Input, Output, Token};
use sordini_core::producer::{Components, Producer};
use sordini_core::record::Record;
use sordini_core::time::{Clock, Instant, Now, Timestamp};
use sordini_core::wire::compress::Compressor;

use broker::Broker;

/// How many records the scenario appends.
pub const RECORDS: u64 = 300;
const STEP: Duration = Duration::from_millis(1);
const STEPS_MAX: u32 = 10_000;
const START_MS: i64 = 1_772_431_200_000;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// FNV-1a over every event, in order.
    pub hash: u64,
    /// Records acknowledged.
    pub written: u64,
}

/// Appends records, some of them refused once by a broker that does not lead, flushes, closes.
///
/// # Panics
/// If a record fails, or the machine does not come to an end.
#[must_use]
pub fn run() -> Seen {
    let mut world = World::new();
    let topic = world.producer.accumulator().topic("clicks");
    let deliveries = world.append_all(&topic);
    let mark = world.producer.accumulator().mark();
    world.command(Command::Flush { token: Token(1), mark });
    world.run_until_finished(Token(1), &Finished::Flushed);
    let written = deliveries.iter().filter(|delivery| matches!(delivery.outcome(), Some(Ok(_))));
    assert_eq!(written.count() as u64, RECORDS, "a record was not written");
    let deadline = world.now().mono.saturating_add(Duration::from_secs(30));
    world.command(Command::Close { token: Token(2), deadline });
    world.run_until_finished(Token(2), &Finished::Closed);
    assert!(world.broker.has_refused, "the scenario did not come to a retry");
    Seen { hash: world.hash.0, written: world.written }
}

struct Hash(u64);

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Both the producer's clock and its alarm.
struct Outside {
    now: Mutex<Now>,
    due: AtomicBool,
}

impl Clock for Outside {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Outside {
    fn wake(&self) {
        self.due.store(true, Ordering::Relaxed);
    }
}

/// What will happen, a step of the clock later.
enum Coming {
    Connected(ConnId),
    Transmitted(ConnId, u64),
    Received(ConnId, Vec<u8>),
    Compressed(Compressed),
    Command(Command),
}

struct World {
    outside: Arc<Outside>,
    producer: Producer,
    broker: Broker,
    coming: VecDeque<Coming>,
    transmitted: u64,
    finished: Vec<(Token, Finished)>,
    hash: Hash,
    written: u64,
}

impl World {
    fn new() -> Self {
        let outside =
            Arc::new(Outside { now: Mutex::new(Now::default()), due: AtomicBool::new(false) });
        let mut config = ConfigBuilder::new();
        // No codec: lz4's search differs with the width of a word, and so do its bytes.
        for (name, value) in [
            ("bootstrap.servers", "broker.example:9092"),
            ("batch.size", "600"),
            ("linger.ms", "3"),
        ] {
            config.set(name, value).expect("a setting of Java's");
        }
        let (config, _) = config.build().expect("the settings agree");
        let components = Components {
            partitioner: partitioner::from_config(&config),
            clock: Arc::clone(&outside) as Arc<dyn Clock>,
            wake: Arc::clone(&outside) as Arc<dyn Wake>,
            seed: 7,
            return_failed: false,
        };
        let world = Self {
            producer: Producer::new(config, components),
            outside,
            broker: Broker::default(),
            coming: VecDeque::new(),
            transmitted: 0,
            finished: Vec::new(),
            hash: Hash(0xcbf2_9ce4_8422_2325),
            written: 0,
        };
        world.advance(STEP);
        world
    }

    fn now(&self) -> Now {
        self.outside.now()
    }

    fn advance(&self, by: Duration) {
        let mut now = self.outside.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.mono = now.mono.saturating_add(by);
        let since = now.mono.saturating_since(Instant::ZERO).as_millis();
        now.wall = Timestamp(START_MS + i64::try_from(since).expect("a short run"));
    }

    fn append_all(&mut self, topic: &Arc<Topic>) -> Vec<Delivery> {
        let accumulator = Arc::clone(self.producer.accumulator());
        let mut turn = pin!(topic.wait(&accumulator));
        let mut context = Context::from_waker(Waker::noop());
        // Waits for the topic's partitions, as a caller's task does.
        let turn = loop {
            match turn.as_mut().poll(&mut context) {
                Poll::Ready(turn) => break turn.expect("the topic exists"),
                Poll::Pending => self.step(),
            }
        };
        drop(turn);
        let mut deliveries = Vec::new();
        for number in 0..RECORDS {
            let key = format!("session-{}", number % 17);
            let value = format!("{{\"click\":{number},\"page\":\"/items/{}\"}}", number * 7 % 31);
            let keyed = (number % 3 != 0).then_some(key.as_bytes());
            let record = Record { key: keyed, value: Some(value.as_bytes()), ..Record::default() };
            let intent = Intent { record, partition: None };
            let delivery =
                match accumulator.try_append(topic, &intent, true, &mut Provision::default()) {
                    Ok(delivery) => delivery.expect("a receipt was asked for"),
                    Err(NotAppended::Refused(refusal)) => panic!("refused: {refusal:?}"),
                    Err(other) => panic!("not appended: {other:?}"),
                };
            deliveries.push(delivery);
            if number % 20 == 19 {
                self.step();
            }
        }
        deliveries
    }

    fn command(&mut self, command: Command) {
        self.coming.push_back(Coming::Command(command));
    }

    fn run_until_finished(&mut self, token: Token, how: &Finished) {
        for _ in 0..STEPS_MAX {
            if self.finished.iter().any(|(known, result)| *known == token && result == how) {
                return;
            }
            self.step();
        }
        panic!("{token:?} is not {how:?} after {STEPS_MAX} steps: {:?}", self.producer);
    }

    /// The next thing happens: what is due within a step of the clock, or what is coming, or what
    /// is due later.
    fn step(&mut self) {
        let deadline = self.producer.poll_timeout();
        let until = |now: Now| deadline.map(|at| at.saturating_since(now.mono));
        if until(self.now()).is_some_and(|until| until <= STEP) {
            self.let_pass(until(self.now()));
        } else if self.outside.due.swap(false, Ordering::Relaxed) {
            self.advance(STEP);
            self.producer.handle_input(self.now(), Input::LanesDue);
        } else if let Some(coming) = self.coming.pop_front() {
            self.advance(STEP);
            self.happen(self.now(), coming);
        } else {
            self.let_pass(until(self.now()));
        }
        self.hash.add(format!("{:?}", self.now()).as_bytes());
        while let Some(output) = self.producer.poll_output() {
            self.perform(output);
        }
        self.hash.add(format!("{:?}", self.producer.poll_timeout()).as_bytes());
    }

    fn let_pass(&mut self, until: Option<Duration>) {
        let until = until.expect("nothing is coming and nothing is due: the machine stands still");
        self.advance(until);
        self.producer.handle_timeout(self.now());
    }

    fn happen(&mut self, now: Now, coming: Coming) {
        match coming {
            Coming::Connected(conn) => self.producer.handle_input(now, Input::Connected { conn }),
            Coming::Transmitted(conn, through) => {
                self.producer.handle_input(now, Input::Transmitted { conn, through });
            }
            Coming::Received(conn, bytes) => {
                self.producer.handle_input(now, Input::Received { conn, bytes: &bytes });
            }
            Coming::Compressed(done) => self.producer.handle_input(now, Input::Compressed(done)),
            Coming::Command(command) => self.producer.handle_input(now, Input::Command(command)),
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { conn, address, failures } => {
                self.hash.add(format!("connect {conn:?} {address:?} {failures}").as_bytes());
                self.transmitted = 0;
                self.coming.push_back(Coming::Connected(conn));
            }
            Output::Disconnect { conn } => self.hash.add(format!("disconnect {conn:?}").as_bytes()),
            Output::Transmit { conn, frame } => {
                let bytes: Vec<u8> = frame.slices().flatten().copied().collect();
                self.hash.add(&bytes);
                self.transmitted += bytes.len() as u64;
                self.coming.push_back(Coming::Transmitted(conn, self.transmitted));
                let mut answer = self.broker.answer(bytes);
                // In two pieces, as a network may.
                let rest = answer.split_off(answer.len() / 2);
                self.coming.push_back(Coming::Received(conn, answer));
                self.coming.push_back(Coming::Received(conn, rest));
            }
            Output::Compress(job) => {
                self.coming.push_back(Coming::Compressed(job.run(&mut Compressor::default())))
            }
            Output::Deliver(delivered) => {
                let (records, outcome) = (&delivered.records, &delivered.outcome);
                self.hash.add(format!("deliver {records:?} {outcome:?}").as_bytes());
                if matches!(outcome, Outcome::Written { .. }) {
                    self.written += u64::from(records.end - records.start);
                }
                drop(delivered.resolve());
            }
            Output::HandBack(_) => unreachable!("nothing is to be handed back here"),
            Output::Finish { token, result } => {
                self.hash.add(format!("finish {token:?} {result:?}").as_bytes());
                self.finished.push((token, result));
            }
            Output::Trace(trace) => self.hash.add(format!("{trace:?}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RECORDS, run};

    #[test]
    fn two_runs_see_the_same_events() {
        let first = run();
        assert_eq!(first, run());
        assert_eq!(first.written, RECORDS);
    }
}
