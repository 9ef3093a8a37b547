//! The data plane against a model: every accepted record is in exactly one taken batch, whole, and
//! a lane's order is the order of acceptance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::{NOON, Seen, World, read, take_all};
use crate::accumulator::topic::Topic;
use crate::accumulator::{Intent, NotAppended, Provision};
use crate::batch::BatchId;
use crate::batch::completion::{BatchDeliveries, Delivery};
use crate::batch::sealed::Sealed;
use crate::partitioner::{Choice, Keyed, Murmur2, Partitioner, RoundRobin};
use crate::record::{Header, Record};
use crate::time::Timestamp;

const PARTITIONS: u32 = 3;

/// A record to append, owned. Its value begins with its number.
#[derive(Debug, Clone)]
struct Draft {
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    len: usize,
    timestamp: Option<i64>,
    headers: usize,
}

fn drafts() -> impl Strategy<Value = Draft> {
    let key = prop::option::of(prop::collection::vec(0..4u8, 0..3));
    let len = prop_oneof![8 => 0..60usize, 2 => 0..1200usize, 1 => 4000..9000usize];
    let stamp = prop_oneof![
        6 => Just(None),
        3 => (NOON - 50..NOON + 50).prop_map(Some),
        1 => prop_oneof![Just(0), Just(i64::MAX), Just(1), 0..=i64::MAX].prop_map(Some),
    ];
    (prop::option::of(0..PARTITIONS as i32), key, len, stamp, 0..3usize).prop_map(
        |(partition, key, len, timestamp, headers)| Draft {
            partition,
            key,
            len,
            timestamp,
            headers,
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Append(Draft, bool),
    Run(Vec<Draft>, bool),
    Take { partition: u32, seal: bool },
    Seal(u32),
    SealBefore(u32),
    Free,
    Tick(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (drafts(), any::<bool>()).prop_map(|(draft, receipt)| Step::Append(draft, receipt)),
        3 => (prop::collection::vec(drafts(), 0..90), any::<bool>())
            .prop_map(|(drafts, receipts)| Step::Run(drafts, receipts)),
        3 => (0..PARTITIONS, any::<bool>())
            .prop_map(|(partition, seal)| Step::Take { partition, seal }),
        1 => (0..PARTITIONS).prop_map(Step::Seal),
        1 => (0..PARTITIONS).prop_map(Step::SealBefore),
        1 => Just(Step::Free),
        1 => (-3..3i64).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 1..60)
}

/// What was accepted and not yet taken, and what was taken.
struct Model {
    world: World,
    topic: Arc<Topic>,
    accepted: Vec<Draft>,
    receipts: Vec<(usize, Delivery)>,
    bursts: Vec<(usize, usize, BatchDeliveries)>,
    taken: Vec<(i32, Sealed)>,
    last_id: [Option<BatchId>; PARTITIONS as usize],
    now: i64,
}

fn body(draft: &Draft, number: usize) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    value.push(b' ');
    value.resize(value.len() + draft.len, b'x');
    value
}

fn with_intents<T>(drafts: &[Draft], first: usize, act: impl FnOnce(&[Intent<'_>]) -> T) -> T {
    const HEADERS: [Header<'_>; 2] =
        [Header { name: "h", value: None }, Header { name: "h", value: Some(b"1") }];
    let values: Vec<_> =
        drafts.iter().enumerate().map(|(at, draft)| body(draft, first + at)).collect();
    let intents: Vec<_> = drafts
        .iter()
        .zip(&values)
        .map(|(draft, value)| Intent {
            record: Record {
                key: draft.key.as_deref(),
                value: Some(value),
                headers: &HEADERS[..draft.headers],
                timestamp: draft.timestamp,
            },
            partition: draft.partition,
        })
        .collect();
    act(&intents)
}

impl Model {
    fn new(batch_size: usize, buffer_memory: usize) -> Self {
        let world = World::new(|config| {
            config.batch_size = batch_size;
            config.buffer_memory = buffer_memory;
        });
        let topic = world.topic(PARTITIONS);
        Self {
            world,
            topic,
            accepted: Vec::new(),
            receipts: Vec::new(),
            bursts: Vec::new(),
            taken: Vec::new(),
            last_id: [None; PARTITIONS as usize],
            now: NOON,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(draft, receipt) => self.append(draft, receipt),
            Step::Run(drafts, receipts) => self.run(&drafts, receipts),
            Step::Take { partition, seal } => {
                let batch = self.topic.lane(partition).unwrap().take(seal).0;
                batch.into_iter().for_each(|batch| self.keep(partition, batch));
            }
            Step::Seal(partition) => self.topic.lane(partition).unwrap().seal(),
            Step::SealBefore(partition) => {
                let mark = self.world.accumulator.mark();
                let lane = self.topic.lane(partition).unwrap();
                let count = lane.seal_before(mark);
                assert_eq!((lane.view().sealed, lane.view().open), (count, None));
            }
            Step::Free => self.free(),
            Step::Tick(millis) => {
                self.now += millis;
                self.world.clock.set(self.now);
                self.world.accumulator.set_coarse_time(Timestamp(self.now));
            }
        }
    }

    fn append(&mut self, draft: Draft, receipt: bool) {
        let Self { world, topic, .. } = self;
        let number = self.accepted.len();
        let mut provision = Provision::default();
        let appended = with_intents(std::slice::from_ref(&draft), number, |intents| {
            world.accumulator.try_append(topic, &intents[0], receipt, &mut provision)
        });
        match appended {
            Ok(delivery) => {
                assert_eq!(delivery.is_some(), receipt);
                self.receipts.extend(delivery.map(|delivery| (number, delivery)));
                self.accepted.push(draft);
            }
            Err(NotAppended::NoMemory { .. }) => self.free(),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn run(&mut self, drafts: &[Draft], receipts: bool) {
        let Self { world, topic, .. } = self;
        let first = self.accepted.len();
        let mut burst = BatchDeliveries::default();
        let mut provision = Provision::default();
        let (count, result) = with_intents(drafts, first, |intents| {
            let burst = receipts.then_some(&mut burst);
            world.accumulator.append_run(topic, intents, burst, &mut provision)
        });
        assert!(matches!(result, Ok(()) | Err(NotAppended::NoMemory { .. })), "{result:?}");
        assert_eq!(result.is_ok(), count == drafts.len());
        assert_eq!(burst.len(), if receipts { count } else { 0 });
        self.accepted.extend_from_slice(&drafts[..count]);
        if receipts {
            self.bursts.push((first, count, burst));
        }
        if result.is_err() {
            self.free();
        }
    }

    /// Takes everything, so that memory comes back.
    fn free(&mut self) {
        for partition in 0..PARTITIONS {
            for batch in take_all(self.topic.lane(partition).unwrap()) {
                self.keep(partition, batch);
            }
        }
    }

    /// Keeps a batch for the end, its bytes moved off the budget.
    fn keep(&mut self, partition: u32, mut batch: Sealed) {
        let last = self.last_id[partition as usize].replace(batch.id);
        assert!(last < Some(batch.id), "batches are taken in the order they were opened");
        let elsewhere = crate::memory::Memory::new(usize::MAX);
        let parts = batch.body.parts().map(<[u8]>::to_vec).collect();
        batch.body.0 = elsewhere.exchange(Vec::new(), parts);
        self.taken.push((partition as i32, batch));
    }

    fn finish(mut self) {
        self.free();
        assert_eq!(self.world.reserved(), 0);
        // Where each record came to stand: its lane, its completion, its place.
        let mut places = vec![None; self.accepted.len()];
        let mut last = [None; PARTITIONS as usize];
        for (partition, batch) in self.taken {
            let completion = Arc::clone(&batch.completion);
            assert_eq!((completion.partition(), batch.records.start), (partition, 0));
            for (index, seen) in read(batch).into_iter().enumerate() {
                let text = seen.text();
                let number: usize = text.split(' ').next().unwrap().parse().unwrap();
                let draft = &self.accepted[number];
                assert!(draft.partition.is_none_or(|asked| asked == partition));
                if let (None, Some(key)) = (draft.partition, &draft.key) {
                    let keyed = Keyed::new("clicks", Some(key), None);
                    let choice = Murmur2.partition(keyed, PARTITIONS);
                    assert_eq!(choice, Choice::Partition(partition));
                }
                check_content(draft, number, &seen);
                let before = last[partition as usize].replace(number);
                assert!(before < Some(number), "a lane's order is that of acceptance");
                let place = (Arc::as_ptr(&completion), index as u32, Arc::clone(&completion));
                assert!(places[number].replace(place).is_none(), "{number} was taken twice");
            }
        }
        let places: Vec<_> = places
            .into_iter()
            .map(|place| place.expect("every accepted record is taken"))
            .collect();
        for (number, delivery) in self.receipts {
            let (batch, index) = delivery.batch();
            assert_eq!((Arc::as_ptr(batch), index), (places[number].0, places[number].1));
        }
        for (first, count, burst) in self.bursts {
            let mut expected = BatchDeliveries::default();
            places[first..first + count].iter().for_each(|(_, at, of)| expected.push(of, *at));
            assert_eq!(format!("{burst:?}"), format!("{expected:?}"));
        }
    }
}

fn check_content(draft: &Draft, number: usize, seen: &Seen) {
    let drafts = std::slice::from_ref(draft);
    let expected =
        with_intents(drafts, number, |intents| Seen::of(&intents[0].record, seen.timestamp));
    assert_eq!(*seen, expected);
    if draft.timestamp.is_none() {
        assert!((seen.timestamp - NOON).abs() < 1000, "{}", seen.timestamp);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn every_accepted_record_is_in_one_batch_in_its_lanes_order(
        batch_size in prop_oneof![Just(0usize), 100..3000usize, Just(16_384)],
        buffer_memory in 16_384..200_000usize,
        steps in steps(),
    ) {
        let mut model = Model::new(batch_size, buffer_memory);
        for step in steps {
            model.step(step);
            prop_assert!(model.world.reserved() <= buffer_memory);
        }
        model.finish();
    }

    #[test]
    fn a_run_is_its_records_appended_one_by_one(
        drafts in prop::collection::vec(drafts(), 0..200),
        batch_size in prop_oneof![Just(0usize), 100..3000usize, Just(16_384)],
        lens in prop::collection::vec(1..90usize, 1..10),
        round_robin: bool,
    ) {
        let sides = [false, true].map(|runs| {
            let counting = Arc::new(Counting::new(round_robin));
            let change = |config: &mut crate::config::Config| config.batch_size = batch_size;
            let world = World::with(change, Some(Arc::clone(&counting) as _));
            let topic = world.topic(PARTITIONS);
            with_intents(&drafts, 0, |intents| {
                let mut provision = Provision::default();
                let mut rest = intents;
                let mut lens = lens.iter().cycle();
                while let (true, Some(len)) = (runs && !rest.is_empty(), lens.next()) {
                    let (run, behind) = rest.split_at(rest.len().min(*len));
                    let all = world.accumulator.append_run(&topic, run, None, &mut provision);
                    assert_eq!(all, (run.len(), Ok(())));
                    rest = behind;
                }
                for intent in rest {
                    world.accumulator.try_append(&topic, intent, false, &mut provision).unwrap();
                }
            });
            let batches = |lane: &Arc<_>| take_all(lane).into_iter().map(read).collect::<Vec<_>>();
            let lanes: Vec<_> = topic.lanes().map(batches).collect();
            (lanes, counting.asked.load(Ordering::SeqCst))
        });
        let [singles, runs] = sides;
        let asked = drafts.iter().filter(|draft| draft.partition.is_none()).count();
        prop_assert_eq!(singles.1, asked);
        prop_assert_eq!(singles, runs);
    }
}

/// Counts how often it is asked.
struct Counting {
    asked: AtomicUsize,
    inner: Box<dyn Partitioner>,
}

impl Counting {
    fn new(round_robin: bool) -> Self {
        let inner: Box<dyn Partitioner> =
            if round_robin { Box::new(RoundRobin::new()) } else { Box::new(Murmur2) };
        Self { asked: AtomicUsize::new(0), inner }
    }
}

impl Partitioner for Counting {
    fn partition(&self, record: Keyed<'_>, partitions: u32) -> Choice {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.partition(record, partitions)
    }
}
