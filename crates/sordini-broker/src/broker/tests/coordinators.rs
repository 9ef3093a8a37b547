//! Transactions and groups' offsets as clients of a broker on its own see them.

use sordini_protocol::messages::add_offsets_to_txn::*;
use sordini_protocol::messages::add_partitions_to_txn::*;
use sordini_protocol::messages::describe_transactions::*;
use sordini_protocol::messages::end_txn::*;
use sordini_protocol::messages::list_transactions::{
    ListTransactionsRequest, TransactionState as Listed,
};
use sordini_protocol::messages::offset_commit::*;
use sordini_protocol::messages::offset_fetch::*;
use sordini_protocol::messages::txn_offset_commit::*;

use super::*;
use crate::TransactionVersion;
use crate::coordinator::records;
use crate::coordinator::transaction::Metadata;
use crate::coordinator::{TRANSACTION_STATE, batch as coordinators};
use crate::log::batch::{HEADER_LEN, Header};
use crate::test_batch::offset_fetch;
use ErrorCode as E;

const TRANSACTIONAL: i16 = 1 << 4;

/// Id and epoch.
type Producer = (i64, i16);

impl Rig {
    fn find(&mut self, key_type: i8) {
        let coordinator_keys = vec!["T".to_owned()];
        let request = FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
        assert_eq!(self.ask(&request, 6).coordinators[0].error_code, 0);
    }

    fn init(&mut self, expected: Option<Producer>, timeout_ms: i32) -> Result<Producer, E> {
        let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some("T".to_owned()),
            transaction_timeout_ms: timeout_ms,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        let answer = self.ask(&request, 5);
        match E::from_code(answer.error_code) {
            E::None => Ok((answer.producer_id, answer.producer_epoch)),
            code => Err(code),
        }
    }

    /// A producer whose transactions time out after a minute, and a topic of two partitions.
    fn transactional(&mut self) -> Producer {
        self.find(1);
        self.find(0);
        self.init(None, 60_000).expect("a producer")
    }

    fn send_batch(&mut self, producer: Producer, at: (i32, i32), version: i16) -> E {
        let (index, sequence) = at;
        let records = batch(&["v"]).producer(producer.0, producer.1, sequence);
        let id = if version < 13 { Uuid::ZERO } else { self.topic_id() };
        let mut request = produce_to(id, index, &records.attributes(TRANSACTIONAL), -1);
        request.transactional_id = Some("T".to_owned());
        if version < 13 {
            request.topic_data[0].name = "t".to_owned();
        }
        self.send(CONN, &request, version);
        for _ in 0..50 {
            self.due();
            if let [Output::Send { frame, .. }] = self.outputs().as_slice() {
                return code(&answer(&decode::<ProduceRequest>(frame, version)));
            }
            self.advance(5);
        }
        panic!("no answer");
    }

    fn add(&mut self, producer: Producer, index: i32, version: i16) -> E {
        let topics =
            vec![AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: vec![index] }];
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "T".to_owned(),
            v3_and_below_producer_id: producer.0,
            v3_and_below_producer_epoch: producer.1,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        let answer = self.ask(&request, version);
        let topic = &answer.results_by_topic_v3_and_below[0];
        E::from_code(topic.results_by_partition[0].partition_error_code)
    }

    fn end_as(&mut self, producer: Producer, committed: bool, version: i16) -> Result<Producer, E> {
        let request = EndTxnRequest {
            transactional_id: "T".to_owned(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            committed,
        };
        let answer = self.ask(&request, version);
        match E::from_code(answer.error_code) {
            E::None => Ok((answer.producer_id, answer.producer_epoch)),
            code => Err(code),
        }
    }

    fn describe(&mut self, id: &str) -> TransactionState {
        let transactional_ids = vec![id.to_owned()];
        let request = DescribeTransactionsRequest { transactional_ids };
        self.ask(&request, 0).transaction_states.remove(0)
    }

    fn state(&mut self) -> String {
        self.describe("T").transaction_state
    }

    fn committed(&mut self, index: i32) -> usize {
        self.broker.committed_records("t", index).expect("records").len()
    }

    fn txn_offset(&mut self, producer: Producer, offset: i64, version: i16, generation: i32) -> E {
        let mut topic = TxnOffsetCommitRequestTopic {
            partitions: vec![TxnOffsetCommitRequestPartition {
                committed_offset: offset,
                committed_leader_epoch: -1,
                ..Default::default()
            }],
            ..Default::default()
        };
        if version < 6 {
            topic.name = "t".to_owned();
        } else {
            topic.topic_id = self.topic_id();
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: "T".to_owned(),
            group_id: "G".to_owned(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            generation_id_or_member_epoch: generation,
            topics: vec![topic],
            ..Default::default()
        };
        E::from_code(self.ask(&request, version).topics[0].partitions[0].error_code)
    }

    fn offset(&mut self, require_stable: bool) -> Result<i64, E> {
        let request = offset_fetch("G", self.topic_id(), require_stable);
        let answer = self.ask(&request, 10);
        let group = &answer.groups[0];
        match E::from_code(group.error_code) {
            E::None => {}
            code => return Err(code),
        }
        let partition = &group.topics[0].partitions[0];
        match E::from_code(partition.error_code) {
            E::None => Ok(partition.committed_offset),
            code => Err(code),
        }
    }
}

fn rig() -> Rig {
    Rig::new().with_topic(2)
}

#[test]
fn the_new_protocol_needs_no_call_that_adds() {
    let mut rig = rig();
    let (id, epoch) = rig.transactional();
    assert_eq!((epoch, rig.state().as_str()), (0, "Empty"));
    assert_eq!(rig.send_batch((id, 0), (0, 0), 13), E::None);
    assert_eq!(rig.send_batch((id, 0), (1, 0), 13), E::None);
    assert_eq!(rig.send_batch((id, 0), (0, 1), 13), E::None);
    let described = rig.describe("T");
    assert_eq!((described.transaction_state.as_str(), described.producer_epoch), ("Ongoing", 0));
    assert_eq!(
        (described.topics[0].topic.as_str(), &described.topics[0].partitions),
        ("t", &vec![0, 1])
    );
    assert_eq!(described.transaction_start_time_ms, rig.now.wall_ms);
    assert_eq!((rig.committed(0), rig.committed(1)), (0, 0));
    assert_eq!(rig.end_as((id, 0), true, 5), Ok((id, 1)));
    assert_eq!(
        (rig.state().as_str(), rig.committed(0), rig.committed(1)),
        ("CompleteCommit", 2, 1)
    );
    // The retry of it, and the abort of the next.
    assert_eq!(rig.end_as((id, 0), true, 5), Ok((id, 1)));
    assert_eq!(rig.end_as((id, 0), false, 5), Err(E::InvalidTxnState));
    assert_eq!(rig.send_batch((id, 1), (0, 0), 13), E::None);
    assert_eq!(rig.end_as((id, 1), false, 5), Ok((id, 2)));
    assert_eq!((rig.state().as_str(), rig.committed(0)), ("CompleteAbort", 2));
    // What was never begun may be aborted, to be sure.
    assert_eq!(rig.end_as((id, 2), false, 5), Ok((id, 3)));
    assert_eq!(rig.end_as((id, 3), true, 5), Err(E::InvalidTxnState));
}

#[test]
fn the_old_protocol_adds_partitions_and_is_checked() {
    let mut rig = rig();
    let producer = rig.transactional();
    assert_eq!(rig.send_batch(producer, (0, 0), 11), E::TransactionAbortable);
    assert_eq!(rig.send_batch(producer, (0, 0), 10), E::InvalidTxnState);
    assert_eq!(rig.add(producer, 0, 3), E::None);
    assert_eq!(rig.send_batch(producer, (0, 0), 11), E::None);
    assert_eq!(rig.send_batch(producer, (1, 0), 11), E::TransactionAbortable);
    assert_eq!(rig.add(producer, 7, 3), E::UnknownTopicOrPartition);
    assert_eq!(rig.end_as(producer, true, 4), Ok((-1, -1)));
    assert_eq!((rig.state().as_str(), rig.committed(0)), ("CompleteCommit", 1));
    assert_eq!(rig.end_as(producer, true, 4), Ok((-1, -1)));
    assert_eq!(rig.end_as(producer, false, 4), Err(E::InvalidTxnState));
    // The same epoch goes on, and its markers are told apart by what they end.
    assert_eq!(rig.add(producer, 0, 3), E::None);
    assert_eq!(rig.send_batch(producer, (0, 1), 11), E::None);
    assert_eq!(rig.end_as(producer, false, 4), Ok((-1, -1)));
    assert_eq!(rig.committed(0), 1);
}

#[test]
fn a_second_instance_fences_the_first() {
    let mut rig = rig();
    let old = rig.transactional();
    assert_eq!(rig.send_batch(old, (0, 0), 13), E::None);
    assert_eq!(rig.init(None, 60_000), Err(E::ConcurrentTransactions));
    let new = rig.init(None, 60_000).expect("the abort is over");
    assert_eq!(new, (old.0, 2), "one epoch by the fence, one by the start");
    assert_eq!(rig.send_batch(old, (0, 1), 13), E::InvalidProducerEpoch);
    assert_eq!(rig.send_batch(old, (1, 0), 13), E::InvalidProducerEpoch);
    assert_eq!(rig.add(old, 0, 3), E::ProducerFenced);
    assert_eq!(rig.add(old, 0, 1), E::InvalidProducerEpoch);
    assert_eq!(rig.end_as(old, true, 5), Err(E::ProducerFenced));
    assert_eq!(rig.end_as(old, true, 1), Err(E::InvalidProducerEpoch));
    assert_eq!(rig.init(Some(old), 60_000), Err(E::ProducerFenced));
    assert_eq!(rig.end_as((99, 0), true, 5), Err(E::InvalidProducerIdMapping));
    assert_eq!(rig.committed(0), 0);
    assert_eq!(rig.send_batch(new, (0, 0), 13), E::None);
    assert_eq!(rig.end_as(new, true, 5), Ok((new.0, 3)));
    assert_eq!(rig.committed(0), 1);
}

#[test]
fn a_client_goes_on_after_an_error_with_what_it_has() {
    let mut rig = rig();
    let producer = rig.transactional();
    let bumped = (producer.0, 1);
    assert_eq!(rig.init(Some(producer), 60_000), Ok(bumped));
    assert_eq!(rig.init(Some(producer), 60_000), Ok(bumped), "the retry of it");
    assert_eq!(rig.init(Some((producer.0, 5)), 60_000), Err(E::ProducerFenced));
}

#[test]
fn settings_of_an_init_are_judged_as_kafka_does() {
    let mut rig = rig();
    rig.transactional();
    assert_eq!(rig.init(None, 900_001), Err(E::InvalidTransactionTimeout));
    assert_eq!(rig.init(None, 0), Err(E::InvalidTransactionTimeout));
    assert_eq!(rig.init(Some((3, -1)), 60_000), Err(E::InvalidRequest));
    let empty = InitProducerIdRequest {
        transactional_id: Some(String::new()),
        transaction_timeout_ms: 1,
        ..Default::default()
    };
    assert_eq!(E::from_code(rig.ask(&empty, 5).error_code), E::InvalidRequest);
    assert_eq!(E::from_code(rig.describe("").error_code), E::InvalidRequest);
    assert_eq!(E::from_code(rig.describe("other").error_code), E::TransactionalIdNotFound);
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
    for version in [TransactionVersion::V1, TransactionVersion::V2] {
        let change = |config: &mut BrokerConfig| config.transaction_version = version;
        let mut rig = Rig::on(MemoryStorage::new(), change).with_topic(2);
        rig.transactional();
        let producer = rig.init(None, 20_000).expect("a producer");
        assert_eq!(rig.send_batch(producer, (0, 0), 13), E::None);
        rig.advance(10_000);
        rig.advance(10_000);
        assert_eq!(rig.state(), "Ongoing");
        rig.advance(10_000);
        assert_eq!(rig.state(), "CompleteAbort");
        assert_eq!(rig.describe("T").producer_epoch, producer.1 + 1);
        assert_eq!(rig.send_batch(producer, (0, 1), 13), E::InvalidProducerEpoch);
        assert_eq!(rig.end_as(producer, true, 4), Err(E::ProducerFenced));
        let state = rig.broker.partition_state("t", 0).expect("partition");
        assert_eq!((state.last_stable, rig.committed(0)), (state.log_end, 0));
    }
}

#[test]
fn an_id_that_is_not_used_is_forgotten() {
    let week = 7 * 24 * 60 * 60 * 1000;
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
    let first = rig.transactional();
    rig.advance(week);
    rig.advance(3_600_000);
    assert_eq!(E::from_code(rig.describe("T").error_code), E::TransactionalIdNotFound);
    let mut rig = Rig::on(memory, |_| {});
    assert_eq!(E::from_code(rig.describe("T").error_code), E::TransactionalIdNotFound);
    assert_eq!(rig.end_as(first, true, 5), Err(E::InvalidProducerIdMapping));
    let second = rig.init(None, 60_000).expect("a producer");
    assert!(second.0 > first.0 && second.1 == 0, "{second:?}");
}

#[test]
fn a_kill_at_any_point_leaves_what_was_decided() {
    // What is done before the kill, and what is there after it.
    type Step = fn(&mut Rig, Producer);
    let open: Step = |rig, producer| {
        assert_eq!(rig.send_batch(producer, (0, 0), 13), E::None);
    };
    let commit: Step = |rig, producer| {
        rig.end_as(producer, true, 5).expect("committed");
    };
    let abort: Step = |rig, producer| {
        rig.end_as(producer, false, 5).expect("aborted");
    };
    let cases: [(&[Step], &str, usize); 4] = [
        (&[], "Empty", 0),
        (&[open], "Ongoing", 0),
        (&[open, commit], "CompleteCommit", 1),
        (&[open, abort], "CompleteAbort", 0),
    ];
    for fsync in [false, true] {
        for (steps, state, visible) in cases {
            let memory = MemoryStorage::new();
            let mut rig = Rig::on(memory.clone(), |c| c.fsync = fsync).with_topic(2);
            let producer = rig.transactional();
            steps.iter().for_each(|step| step(&mut rig, producer));
            drop(rig);
            if fsync {
                memory.lose_power(|_, _| 0);
            }
            let mut rig = Rig::on(memory, |_| {});
            assert_eq!((rig.state().as_str(), rig.committed(0)), (state, visible));
            let expected = if steps.is_empty() || steps.len() == 1 { 0 } else { 1 };
            assert_eq!(rig.describe("T").producer_epoch, expected);
            if state == "Ongoing" {
                assert_eq!(rig.send_batch(producer, (0, 1), 13), E::None);
                assert_eq!(rig.end_as(producer, true, 5), Ok((producer.0, 1)));
                assert_eq!(rig.committed(0), 2);
            }
            if state == "CompleteCommit" {
                assert_eq!(rig.end_as(producer, true, 5), Ok((producer.0, 1)), "the retry");
            }
        }
    }
}

#[test]
fn what_was_prepared_before_a_kill_is_completed_after_it() {
    for (state, visible) in [("CompleteCommit", 1), ("CompleteAbort", 0)] {
        let memory = MemoryStorage::new();
        let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
        let producer = rig.transactional();
        assert_eq!(rig.send_batch(producer, (0, 0), 13), E::None);
        // The decision is in the log, and not a single marker.
        let mut prepared = Metadata::new(producer.0, 60_000, rig.now.wall_ms);
        prepared.state = match visible {
            1 => crate::coordinator::state::State::PrepareCommit,
            _ => crate::coordinator::state::State::PrepareAbort,
        };
        (prepared.producer_epoch, prepared.last_producer_epoch) = (1, 0);
        prepared.client_version = TransactionVersion::V2;
        prepared.started_ms = rig.now.wall_ms;
        prepared.partitions = [("t".to_owned(), 0)].into();
        rig.write_state(&prepared);
        let before = rig.broker.partition_state("t", 0).expect("partition").log_end;
        drop(rig);
        for _ in 0..2 {
            let mut rig = Rig::on(memory.clone(), |_| {});
            assert_eq!((rig.state().as_str(), rig.committed(0)), (state, visible));
            let end = rig.broker.partition_state("t", 0).expect("partition").log_end;
            assert_eq!(end, before + 1, "one marker, however often it starts");
            let retry = rig.end_as(producer, visible == 1, 5);
            assert_eq!(retry, Ok((producer.0, 1)));
        }
    }
}

/// A broker whose log of "T" is damaged at the batch of this number, after a clean end or a kill.
fn restart_damaged(memory: &MemoryStorage, mut rig: Rig, nth: usize, clean: bool) -> Rig {
    let count = rig.broker.partition_count(TRANSACTION_STATE);
    let index = crate::coordinator::partition_for("T", count).expect("partitions");
    if clean {
        rig.broker.close().expect("close");
    }
    drop(rig);
    let dir = format!("{TRANSACTION_STATE}-{index}");
    let path = format!("{dir}/00000000000000000000.log");
    let mut bytes = memory.contents(&path).expect("the log");
    let size = |at: usize| Header::new(&bytes[at..]).and_then(|h| h.size()).expect("a batch");
    let at = (0..nth).fold(0, |at, _| at + size(at));
    bytes[at + HEADER_LEN] ^= 1;
    memory.overwrite(&path, bytes);
    let rig = Rig::on(memory.clone(), |_| {});
    let (_, told) = rig.broker.recovered().iter().find(|(name, _)| *name == dir).expect("told");
    let cut = told.cut.as_ref().expect("it was cut");
    assert_eq!((cut.file.as_str(), cut.position), (path.as_str(), at as u64));
    assert_eq!((cut.offset, cut.damage), (nth as i64, crate::Damage::Within));
    rig
}

/// The log says of the id what it said long ago, and partitions have seen what came after.
#[test]
fn an_id_whose_last_states_were_damaged_is_usable_at_once() {
    for (clean, version) in [(true, 13), (false, 13), (true, 11), (false, 11)] {
        let memory = MemoryStorage::new();
        let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
        let mut producer = rig.transactional();
        // So many that the damage stands before the last entry of the log's index.
        for _ in 0..20 {
            if version < 12 {
                producer = rig.init(None, 60_000).expect("a producer");
                assert_eq!(rig.add(producer, 0, 3), E::None);
            }
            assert_eq!(rig.send_batch(producer, (0, 0), version), E::None);
            let ended = rig.end_as(producer, true, if version < 12 { 4 } else { 5 });
            let ended = ended.expect("committed");
            producer = if version < 12 { producer } else { ended };
        }
        if version < 12 {
            producer = rig.init(None, 60_000).expect("a producer");
            assert_eq!(rig.add(producer, 0, 3), E::None);
        }
        assert_eq!(rig.send_batch(producer, (0, 0), version), E::None, "and it is left open");

        let mut rig = restart_damaged(&memory, rig, 2, clean);
        let state = rig.broker.partition_state("t", 0).expect("partition");
        assert_eq!(state.last_stable, state.log_end, "readers of committed records can go on");
        let next = rig.init(None, 60_000).expect("the id is to be had");
        assert!(next > producer, "{next:?} fences {producer:?}");
        if version < 12 {
            assert_eq!(rig.add(next, 0, 3), E::None);
        }
        assert_eq!(rig.send_batch(next, (0, 0), version), E::None);
        rig.end_as(next, true, if version < 12 { 4 } else { 5 }).expect("committed");
        assert_eq!(rig.committed(0), 21, "and nothing of what was open");
    }
}

#[test]
fn a_transaction_whose_id_was_damaged_away_holds_no_reader_back() {
    for clean in [true, false] {
        let memory = MemoryStorage::new();
        let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
        let producer = rig.transactional();
        assert_eq!(rig.send_batch(producer, (0, 0), 13), E::None);
        let mut rig = restart_damaged(&memory, rig, 0, clean);
        let state = rig.broker.partition_state("t", 0).expect("partition");
        assert_eq!(state.last_stable, state.log_end);
        assert_eq!((rig.broker.records("t", 0).expect("records").len(), rig.committed(0)), (1, 0));
        let next = rig.init(None, 60_000).expect("the id is to be had");
        assert_ne!(next.0, producer.0, "nothing is known of it");
    }
}

impl Rig {
    /// Puts a state of "T" into the log, as an earlier life of the broker may have.
    fn write_state(&mut self, state: &Metadata) {
        let version = TransactionVersion::V2;
        let record = records::transaction("T", state, version);
        let bytes = coordinators::encode(&[record], self.now.wall_ms, None);
        let count = self.broker.partition_count(TRANSACTION_STATE);
        let index = crate::coordinator::partition_for("T", count).expect("partitions");
        let now = self.now;
        self.broker
            .append_as_coordinator(now, TRANSACTION_STATE, index, &bytes, None)
            .expect("appended");
    }
}

#[test]
fn the_last_epoch_gives_way_to_a_new_id() {
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
    let (id, _) = rig.transactional();
    let mut last = Metadata::new(id, 60_000, rig.now.wall_ms);
    last.producer_epoch = i16::MAX - 1;
    rig.write_state(&last);
    drop(rig);
    let mut rig = Rig::on(memory.clone(), |_| {});
    let producer = (id, i16::MAX - 1);
    assert_eq!(rig.send_batch(producer, (0, 0), 13), E::None);
    let next = rig.end_as(producer, true, 5).expect("committed");
    assert!(next.0 != id && next.1 == 0, "{next:?}");
    assert_eq!(rig.committed(0), 1);
    drop(rig);
    let mut rig = Rig::on(memory, |_| {});
    assert_eq!(rig.end_as(producer, true, 5), Ok(next), "the retry, after a restart");
    assert_eq!(rig.init(Some(producer), 60_000), Ok(next));
    assert_eq!(rig.send_batch(next, (0, 0), 13), E::None);
    assert_eq!(rig.end_as(next, true, 5), Ok((next.0, 1)));
}

#[test]
fn the_last_epoch_is_known_after_a_restart() {
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {});
    let producer = rig.transactional();
    let bumped = rig.init(Some(producer), 60_000).expect("bumped");
    drop(rig);
    let mut rig = Rig::on(memory, |_| {});
    assert_eq!(rig.init(Some(producer), 60_000), Ok(bumped), "the retry of a call that succeeded");
}

#[test]
fn offsets_of_a_transaction_count_when_it_is_committed() {
    for version in [3, 5, 6] {
        let memory = MemoryStorage::new();
        let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
        let producer = rig.transactional();
        assert_eq!(rig.offset(true), Ok(-1));
        let (end, mut next) = (if version < 5 { 4 } else { 5 }, producer);
        for (offset, committed) in [(5, true), (7, false), (9, true)] {
            let before = rig.offset(false).expect("offset");
            if version < 5 {
                assert_eq!(rig.txn_offset(next, offset, version, -1), E::InvalidTxnState);
                let request = AddOffsetsToTxnRequest {
                    transactional_id: "T".to_owned(),
                    producer_id: next.0,
                    producer_epoch: next.1,
                    group_id: "G".to_owned(),
                };
                assert_eq!(rig.ask(&request, 3).error_code, 0);
            }
            assert_eq!(rig.txn_offset(next, offset, version, -1), E::None);
            assert_eq!(rig.offset(true), Err(E::UnstableOffsetCommit));
            assert_eq!(rig.offset(false), Ok(before));
            // A restart in the midst of it changes nothing.
            drop(rig);
            rig = Rig::on(memory.clone(), |_| {});
            assert_eq!(rig.offset(true), Err(E::UnstableOffsetCommit));
            let ended = rig.end_as(next, committed, end).expect("ended");
            if version >= 5 {
                next = ended;
            }
            let expected = if committed { offset } else { before };
            assert_eq!(rig.offset(true), Ok(expected), "{version} {offset}");
        }
        drop(rig);
        let mut rig = Rig::on(memory, |_| {});
        assert_eq!(rig.offset(true), Ok(9));
        assert_eq!(rig.txn_offset((next.0, next.1 + 1), 1, version, -1), E::InvalidProducerEpoch);
    }
}

#[test]
fn a_simple_consumer_commits_and_finds_its_offsets() {
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(2);
    rig.find(0);
    let commit = |rig: &mut Rig, version: i16, generation, member: &str, metadata: &str| {
        let partition = |partition_index, committed_offset| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: if version >= 6 { 3 } else { -1 },
            committed_metadata: Some(metadata.to_owned()),
        };
        let mut topic = OffsetCommitRequestTopic {
            partitions: vec![partition(0, 40 + i64::from(version)), partition(9, 1)],
            ..Default::default()
        };
        match version {
            10 => topic.topic_id = rig.topic_id(),
            _ => topic.name = "t".to_owned(),
        }
        let request = OffsetCommitRequest {
            group_id: "G".to_owned(),
            generation_id_or_member_epoch: generation,
            member_id: member.to_owned(),
            topics: vec![topic],
            ..Default::default()
        };
        let answer = rig.ask(&request, version);
        let codes = answer.topics[0].partitions.iter().map(|p| E::from_code(p.error_code));
        codes.collect::<Vec<_>>()
    };
    assert_eq!(rig.offset(false), Ok(-1));
    let unknown = E::UnknownTopicOrPartition;
    assert_eq!(commit(&mut rig, 8, 3, "m", ""), [E::IllegalGeneration; 2]);
    assert_eq!(commit(&mut rig, 9, 3, "m", ""), [E::GroupIdNotFound; 2]);
    for version in 2..=10 {
        assert_eq!(commit(&mut rig, version, -1, "", "m"), [E::None, unknown], "{version}");
        assert_eq!(rig.offset(true), Ok(40 + i64::from(version)));
    }
    assert_eq!(commit(&mut rig, 10, 3, "m", ""), [E::UnknownMemberId; 2]);
    let long = "x".repeat(4097);
    assert_eq!(commit(&mut rig, 10, -1, "", &long), [E::OffsetMetadataTooLarge, unknown]);
    drop(rig);
    let mut rig = Rig::on(memory, |_| {});
    for version in 1..=9 {
        let topics =
            vec![OffsetFetchRequestTopic { name: "t".to_owned(), partition_indexes: vec![0, 1] }];
        let mut request = OffsetFetchRequest::default();
        if version < 8 {
            (request.group_id, request.topics) = ("G".to_owned(), Some(topics));
            let answer = rig.ask(&request, version);
            let found = &answer.topics[0].partitions;
            assert_eq!((found[0].committed_offset, found[1].committed_offset), (50, -1));
            assert_eq!(found[0].metadata.as_deref(), Some("m"));
            continue;
        }
        let all = |group: &str| OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            member_epoch: -1,
            topics: None,
            ..Default::default()
        };
        request.groups = vec![all("G"), all("H")];
        let answer = rig.ask(&request, version);
        assert_eq!(
            (answer.groups[0].topics[0].name.as_str(), answer.groups[1].topics.len()),
            ("t", 0)
        );
        let found = &answer.groups[0].topics[0].partitions;
        assert_eq!((found.len(), found[0].committed_offset), (1, 50));
        assert_eq!(found[0].committed_leader_epoch, 3);
    }
    // A topic of the same name is another topic.
    rig.broker.delete_topic("t").expect("deleted");
    let mut rig = rig.with_topic(2);
    assert_eq!(rig.offset(true), Ok(-1));
}

#[test]
fn offsets_before_a_coordinator_was_looked_for_have_none() {
    let mut rig = rig();
    assert_eq!(rig.offset(false), Err(E::NotCoordinator));
    assert_eq!(rig.init(None, 1), Err(E::NotCoordinator));
    assert_eq!(E::from_code(rig.describe("T").error_code), E::NotCoordinator);
}

#[test]
fn transactions_are_listed_as_they_are_filtered() {
    let mut rig = rig();
    let producer = rig.transactional();
    let list = |rig: &mut Rig, states: &[&str], ids: &[i64], duration_filter| {
        let request = ListTransactionsRequest {
            state_filters: states.iter().map(|s| (*s).to_owned()).collect(),
            producer_id_filters: ids.to_vec(),
            duration_filter,
            ..Default::default()
        };
        let answer = rig.ask(&request, 1);
        (answer.transaction_states, answer.unknown_state_filters)
    };
    let listed = Listed {
        transactional_id: "T".to_owned(),
        producer_id: producer.0,
        transaction_state: "Empty".to_owned(),
    };
    assert_eq!(list(&mut rig, &[], &[], -1), (vec![listed.clone()], vec![]));
    assert_eq!(list(&mut rig, &["Empty"], &[producer.0], -1).0, [listed]);
    assert_eq!(list(&mut rig, &["Ongoing"], &[], -1).0, []);
    assert_eq!(list(&mut rig, &[], &[99], -1).0, []);
    assert_eq!(list(&mut rig, &["No"], &[], -1), (vec![], vec!["No".to_owned()]));
    rig.send_batch(producer, (0, 0), 13);
    assert_eq!(list(&mut rig, &["Ongoing"], &[], 10).0.len(), 0);
    rig.advance(11);
    assert_eq!(list(&mut rig, &["Ongoing"], &[], 10).0.len(), 1);
}

#[test]
fn many_transactions_are_added_to_and_verified_in_one_request() {
    let mut rig = rig();
    let producer = rig.transactional();
    let topics =
        |index| vec![AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: vec![index] }];
    let of = |id: &str, verify_only, index| AddPartitionsToTxnTransaction {
        transactional_id: id.to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        verify_only,
        topics: topics(index),
    };
    let transactions = vec![of("T", false, 0), of("other", false, 0), of("T2", true, 9)];
    let request = AddPartitionsToTxnRequest { transactions, ..Default::default() };
    let codes = |answer: AddPartitionsToTxnResponse| {
        let results = answer.results_by_transaction.into_iter();
        let code = |r: AddPartitionsToTxnResult| {
            E::from_code(r.topic_results[0].results_by_partition[0].partition_error_code)
        };
        results.map(code).collect::<Vec<_>>()
    };
    let expected = [E::None, E::InvalidProducerIdMapping, E::UnknownTopicOrPartition];
    assert_eq!(codes(rig.ask(&request, 5)), expected);
    let transactions = vec![of("T", true, 0), of("T", true, 1)];
    let request = AddPartitionsToTxnRequest { transactions, ..Default::default() };
    assert_eq!(codes(rig.ask(&request, 5)), [E::None, E::TransactionAbortable]);
}

#[test]
fn the_feature_is_finalised_as_it_is_set() {
    let features = |change: fn(&mut BrokerConfig), version| {
        let mut rig = Rig::on(MemoryStorage::new(), change);
        let name = || "test".to_owned();
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            (request.client_software_name, request.client_software_version) = (name(), name());
        }
        let answer = rig.ask(&request, version);
        let finalized = answer.finalized_features.first().map(|f| f.max_version_level);
        let supported = answer.supported_features.first().map(|f| (f.min_version, f.max_version));
        (finalized, supported, answer.finalized_features_epoch > 0)
    };
    assert_eq!(features(|_| {}, 4), (Some(2), Some((0, 2)), true));
    assert_eq!(features(|_| {}, 3), (Some(2), None, true));
    let old = |config: &mut BrokerConfig| config.transaction_version = TransactionVersion::V0;
    assert_eq!(features(old, 4), (None, Some((0, 2)), true));
    let old = |config: &mut BrokerConfig| {
        config.versions = crate::Versions::of_release("3.9").expect("a release");
    };
    assert_eq!(features(old, 4), (None, None, false));
}
