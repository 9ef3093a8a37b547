//! The machine with a clock that stands still and a network that is a function call.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::accumulator::ready::Wake;
use sordini_core::accumulator::topic::Topic;
use sordini_core::accumulator::{Accumulator, Ahead, Intent, Provision};
use sordini_core::batch::completion::{BatchDeliveries, Delivery, Receipt};
use sordini_core::config::ConfigBuilder;
use sordini_core::connection::ConnId;
use sordini_core::connection::produce::Frame;
use sordini_core::partitioner;
use sordini_core::producer::io::{Input, Output};
use sordini_core::producer::{Components, Producer};
use sordini_core::time::{Clock, Instant, Now, Timestamp};

use crate::broker::Broker;

/// Both the producer's clock and its alarm.
struct Outside(AtomicBool);

const NOW: Now = Now { mono: Instant::from_millis(1000), wall: Timestamp(1_772_431_200_000) };

impl Clock for Outside {
    fn now(&self) -> Now {
        NOW
    }
}

impl Wake for Outside {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Frames, with the connection that each goes to.
pub(crate) type Frames = Vec<(ConnId, Frame)>;

/// What brokers answer, by connection.
pub(crate) type Answers = Vec<(ConnId, Vec<u8>)>;

pub(crate) struct World {
    outside: Arc<Outside>,
    producer: Producer,
    accumulator: Arc<Accumulator>,
    topic: Arc<Topic>,
    broker: Broker,
    /// Bytes that the only connection took.
    transmitted: u64,
}

/// Segments of each size that earlier batches have left.
const EARLIER: usize = 1200;

impl World {
    /// A producer that knows its topic of so many partitions; nothing lingers.
    pub(crate) fn new(partitions: u32, settings: &[(&str, &str)]) -> Self {
        let outside = Arc::new(Outside(AtomicBool::new(false)));
        let mut config = ConfigBuilder::new();
        let given = [("bootstrap.servers", "broker.example:9092"), ("linger.ms", "0")];
        for (name, value) in given.iter().chain(settings) {
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
        let producer = Producer::new(config, components);
        let accumulator = Arc::clone(producer.accumulator());
        let topic = accumulator.topic("clicks");
        let memory = accumulator.memory();
        // In the stream of batches segments come from those of earlier ones.
        for size in [1 << 10, 4 << 10, 16 << 10] {
            let taken: Vec<_> = (0..EARLIER).map_while(|_| memory.try_take(size, size)).collect();
            drop(taken);
        }
        let broker = Broker::new(partitions);
        let mut world = Self { outside, producer, accumulator, topic, broker, transmitted: 0 };
        let topic = Arc::clone(&world.topic);
        let accumulator = Arc::clone(&world.accumulator);
        let mut wait = pin!(topic.wait(&accumulator));
        while wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            world.deliver();
        }
        world
    }

    pub(crate) fn append(&self, intent: &Intent<'_>) -> Delivery {
        self.enqueue(intent)
    }

    pub(crate) fn append_detached(&self, intent: &Intent<'_>) {
        self.enqueue::<()>(intent);
    }

    /// As `Topic::enqueue` does.
    #[inline]
    fn enqueue<R: Receipt>(&self, intent: &Intent<'_>) -> R {
        let none = TransactionNumber::NONE;
        match self.accumulator.append_straight(&self.topic, intent, 0, none) {
            Ok(receipt) => receipt,
            Err(ahead) => self.enqueue_anew(intent, ahead),
        }
    }

    #[inline(never)]
    fn enqueue_anew<R: Receipt>(&self, intent: &Intent<'_>, ahead: Ahead) -> R {
        let mut provision = Provision::new(0).with_ahead(ahead);
        let appended = self.accumulator.try_append(&self.topic, intent, R::WANTED, &mut provision);
        R::of_made(appended.expect("there is memory"))
    }

    pub(crate) fn append_run(
        &self,
        intents: &[Intent<'_>],
        receipts: &mut BatchDeliveries,
        provision: &mut Provision,
    ) {
        let appended = self.accumulator.append_run(&self.topic, intents, Some(receipts), provision);
        assert_eq!(appended, (intents.len(), Ok(())), "there is memory");
    }

    /// Lets each partition's first batch be acknowledged: before that it goes alone.
    pub(crate) fn prove(&mut self, append: fn(&Self) -> Vec<Delivery>) {
        drop(append(self));
        self.deliver();
    }

    /// Takes all batches from their lanes, into requests that the network takes at once.
    pub(crate) fn take(&mut self) -> Frames {
        let mut frames = Vec::new();
        while self.outside.0.swap(false, Ordering::Relaxed) {
            self.hand_in(Input::LanesDue, &mut frames);
        }
        let mut written = 0;
        while let Some((conn, frame)) = frames.get(written) {
            self.transmitted += frame.len() as u64;
            let input = Input::Transmitted { conn: *conn, through: self.transmitted };
            self.hand_in(input, &mut frames);
            written += 1;
        }
        frames
    }

    fn hand_in(&mut self, input: Input<'_>, frames: &mut Frames) {
        self.producer.handle_input(NOW, input);
        let mut connected = None;
        while let Some(output) = self.producer.poll_output() {
            match output {
                Output::Connect { conn, .. } => connected = Some(conn),
                Output::Disconnect { .. } => self.transmitted = 0,
                Output::Transmit { conn, frame } => frames.push((conn, frame)),
                Output::Deliver(delivered) => drop(delivered.resolve()),
                Output::Trace(_) => {}
                other => unreachable!("not in these programs: {other:?}"),
            }
        }
        if let Some(conn) = connected {
            self.transmitted = 0;
            self.hand_in(Input::Connected { conn }, frames);
        }
    }

    /// How many batches are in the requests.
    pub(crate) fn batches(&self, frames: &Frames) -> usize {
        frames.iter().map(|(_, frame)| Broker::batches(bytes(frame))).sum()
    }

    pub(crate) fn answers(&mut self, frames: Frames) -> Answers {
        let answer = |(conn, frame)| (conn, self.broker.answer(bytes(&frame)));
        frames.into_iter().map(answer).collect()
    }

    /// Hands in answers, and resolves what they tell of. Returns the requests that follow.
    pub(crate) fn receive(&mut self, answers: &Answers) -> Frames {
        let mut frames = Vec::new();
        for (conn, bytes) in answers {
            self.hand_in(Input::Received { conn: *conn, bytes }, &mut frames);
        }
        frames
    }

    /// Lets everything happen until nothing more does.
    pub(crate) fn deliver(&mut self) {
        loop {
            let mut frames = self.take();
            if frames.is_empty() {
                return;
            }
            while !frames.is_empty() {
                let answers = self.answers(frames);
                frames = self.receive(&answers);
            }
        }
    }
}

fn bytes(frame: &Frame) -> Vec<u8> {
    frame.slices().flatten().copied().collect()
}
