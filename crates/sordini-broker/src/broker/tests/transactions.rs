//! Transactions as clients see a partition: what is produced, what read_committed readers get.

use std::collections::BTreeMap;

use sordini_protocol::messages::describe_producers::{
    DescribeProducersRequest, ProducerState, TopicRequest,
};
use sordini_protocol::messages::fetch::AbortedTransaction;

use super::*;
use crate::api::produce::{Verdicts, handle_verified, transactional};
use crate::api::{Handled, Response};
use crate::faults::Strike;
use crate::log::marker::{Marker, TransactionResult};
use crate::log::verification::ToVerify;

const TRANSACTIONAL: i16 = 1 << 4;
const VERSION: i16 = 13;

fn of(producer: (i64, i16, i32)) -> TestBatch {
    let (id, epoch, sequence) = producer;
    batch(&["v"]).producer(id, epoch, sequence).attributes(TRANSACTIONAL)
}

impl Rig {
    /// Produces as if the coordinator had said `verdict` of every partition that it is asked about.
    fn produce_verified(
        &mut self,
        batch: &TestBatch,
        version: i16,
        verdict: ErrorCode,
    ) -> PartitionProduceResponse {
        let mut request = self.produce_request(batch, -1);
        request.transactional_id = Some("T".to_owned());
        request.topic_data[0].name = "t".to_owned();
        let found = transactional(&self.broker, version, &request).expect("one transaction");
        let mut verdicts = BTreeMap::new();
        for asked in found {
            let guard = self.broker.start_verification(
                self.now,
                &asked.topic,
                asked.partition,
                &asked.batch,
            );
            let said = match (guard, verdict) {
                (Ok(Some(guard)), ErrorCode::None) => Ok(guard),
                (Ok(None), _) => continue,
                (Err(code), _) | (Ok(Some(_)), code) => Err(code),
            };
            verdicts.insert((asked.topic, asked.partition), said);
        }
        let verdicts = Verdicts(verdicts);
        let (now, strike) = (self.now, Strike::default());
        let handled =
            handle_verified(&mut self.broker, now, version, &request, &strike, Some(&verdicts));
        match handled {
            Handled::Respond(Response::Produce(response)) => answer(&response),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn transact(&mut self, producer: (i64, i16, i32)) -> i64 {
        let answer = self.produce_verified(&of(producer), VERSION, ErrorCode::None);
        assert_eq!(code(&answer), ErrorCode::None, "{answer:?}");
        answer.base_offset
    }

    pub(super) fn end(&mut self, id: i64, epoch: i16, result: TransactionResult) {
        let (producer_id, producer_epoch) = (id, epoch);
        let marker = Marker { producer_id, producer_epoch, coordinator_epoch: 0, result };
        let (now, version) = (self.now, 2);
        let appended = self.broker.append_marker(now, "t", 0, &marker, version).expect("appended");
        assert_eq!(self.broker.committed(&appended), Committed::Yes);
        // What waits looks again, as after any input.
        self.broker.handle_timeout(self.now);
    }

    fn committed_request(&self, offset: i64, max_wait_ms: i32) -> FetchRequest {
        FetchRequest { isolation_level: 1, ..self.fetch_request(offset, 1, max_wait_ms) }
    }
}

#[test]
fn read_committed_ends_at_the_last_stable_offset_and_names_what_was_aborted() {
    let mut rig = Rig::new().with_topic(1);
    rig.transact((7, 0, 0));
    rig.transact((8, 0, 0));
    rig.end(7, 1, TransactionResult::Abort);
    rig.produce(&batch(&["plain"]));
    for version in 4..=18 {
        let mut request = rig.committed_request(0, 0);
        request.topics[0].topic = "t".to_owned();
        if version < 13 {
            request.topics[0].topic_id = Uuid::ZERO;
        } else {
            request.topics[0].topic.clear();
        }
        let response = rig.ask(&request, version);
        let data = fetched(&response);
        assert_eq!((data.high_watermark, data.last_stable_offset), (4, 1));
        let aborted = AbortedTransaction { producer_id: 7, first_offset: 0 };
        assert_eq!(data.aborted_transactions, Some(vec![aborted]));
        let size = of((7, 0, 0)).encode().len();
        assert_eq!(data.records.as_ref().map(Bytes::len), Some(size), "one batch");
        let uncommitted = FetchRequest { isolation_level: 0, ..request };
        let response = rig.ask(&uncommitted, version);
        let data = fetched(&response);
        assert_eq!(data.aborted_transactions, None);
        assert!(data.records.as_ref().is_some_and(|records| records.len() > 3 * size));
    }
    rig.end(8, 1, TransactionResult::Commit);
    let request = rig.committed_request(1, 0);
    let response = rig.ask(&request, 18);
    let data = fetched(&response);
    assert_eq!((data.high_watermark, data.last_stable_offset), (5, 5));
    let offsets = |records: Vec<crate::StoredRecord>| {
        records.iter().map(|record| record.offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(rig.broker.committed_records("t", 0).expect("records")), [1, 3]);
    assert_eq!(offsets(rig.broker.records("t", 0).expect("records")), [0, 1, 3]);
    let markers = rig.broker.markers("t", 0).expect("markers");
    let markers: Vec<_> = markers.iter().map(|(at, marker)| (*at, marker.result)).collect();
    assert_eq!(markers, [(2, TransactionResult::Abort), (4, TransactionResult::Commit)]);
}

#[test]
fn a_read_committed_fetch_waits_for_the_end_of_the_transaction() {
    let mut rig = Rig::new().with_topic(1);
    let request = rig.committed_request(0, 60_000);
    rig.send(CONN, &request, 18);
    rig.transact((7, 0, 0));
    rig.due();
    assert_eq!(rig.outputs(), [], "nothing of it is stable");
    let open = rig.broker.open_transactions("t", 0).expect("partition");
    assert_eq!(open.iter().map(|t| (t.producer_id, t.first_offset)).collect::<Vec<_>>(), [(7, 0)]);
    rig.end(7, 1, TransactionResult::Commit);
    let response = rig.response::<FetchRequest>(18);
    assert_eq!(fetched(&response).last_stable_offset, 2);
    assert!(fetched(&response).records.as_ref().is_some_and(|records| !records.is_empty()));
}

#[test]
fn the_latest_offset_of_read_committed_is_the_last_stable_one() {
    let mut rig = Rig::new().with_topic(1);
    rig.produce(&batch(&["plain"]));
    rig.transact((7, 0, 0));
    let mut ask = |isolation_level, timestamp| {
        let partition = ListOffsetsPartition {
            current_leader_epoch: -1,
            timestamp,
            ..ListOffsetsPartition::default()
        };
        let request = ListOffsetsRequest {
            isolation_level,
            topics: vec![ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] }],
            ..ListOffsetsRequest::default()
        };
        let answer = rig.ask(&request, 11);
        answer.topics[0].partitions[0].offset
    };
    assert_eq!((ask(0, -1), ask(1, -1)), (2, 1));
    assert_eq!((ask(0, 0), ask(1, 0)), (0, 0));
    assert_eq!((ask(0, -2), ask(1, -2)), (0, 0));
}

#[test]
fn what_the_coordinator_says_is_told_in_codes_that_producers_retry() {
    use ErrorCode as E;
    let mut rig = Rig::new().with_topic(1);
    for (said, told_old, told) in [
        (E::NotCoordinator, E::NotEnoughReplicas, E::NotEnoughReplicas),
        (E::CoordinatorLoadInProgress, E::NotEnoughReplicas, E::NotEnoughReplicas),
        (E::CoordinatorNotAvailable, E::NotEnoughReplicas, E::NotEnoughReplicas),
        (E::NetworkException, E::NotEnoughReplicas, E::NotEnoughReplicas),
        (E::ConcurrentTransactions, E::NotEnoughReplicas, E::ConcurrentTransactions),
        (E::InvalidTxnState, E::InvalidTxnState, E::InvalidTxnState),
        (E::InvalidProducerIdMapping, E::InvalidProducerIdMapping, E::InvalidProducerIdMapping),
    ] {
        let old = rig.produce_verified(&of((7, 0, 0)), 11, said);
        assert_eq!(code(&old), told_old, "{said:?}");
        assert_eq!(code(&rig.produce_verified(&of((7, 0, 0)), 13, said)), told, "{said:?}");
    }
    assert_eq!(rig.broker.partition_state("t", 0).expect("partition").log_end, 0);
}

#[test]
fn a_request_is_of_one_transaction_or_refused_as_a_whole() {
    let rig = Rig::new().with_topic(2);
    let mut request = rig.produce_request(&of((7, 0, 0)), -1);
    let found = transactional(&rig.broker, VERSION, &request);
    assert_eq!(found.expect_err("no id"), ErrorCode::TransactionalIdAuthorizationFailed);
    request.transactional_id = Some("T".to_owned());
    let found = transactional(&rig.broker, VERSION, &request).expect("one transaction");
    let expected =
        ToVerify { producer_id: 7, producer_epoch: 0, base_sequence: 0, bumps_epoch: true };
    assert_eq!((found.len(), found[0].batch), (1, expected));
    let mut other = produce_to(rig.topic_id(), 1, &of((7, 1, 0)), -1);
    request.topic_data.append(&mut other.topic_data);
    let found = transactional(&rig.broker, VERSION, &request);
    assert_eq!(found.expect_err("two"), ErrorCode::InvalidProducerIdMapping);
}

#[test]
fn producers_are_described_with_their_transactions() {
    let mut rig = Rig::new().with_topic(1);
    rig.produce(&batch(&["v", "w"]).producer(5, 1, 0));
    rig.transact((7, 3, 0));
    rig.end(8, 2, TransactionResult::Commit);
    let topic = |name: &str| TopicRequest { name: name.to_owned(), partition_indexes: vec![0, 9] };
    let topics = vec![topic("t"), topic("other"), topic("no such/name")];
    let answer = rig.ask(&DescribeProducersRequest { topics }, 0);
    let codes: Vec<Vec<i16>> = answer
        .topics
        .iter()
        .map(|topic| topic.partitions.iter().map(|partition| partition.error_code).collect())
        .collect();
    assert_eq!(codes, [[0, 3], [3, 3], [17, 17]]);
    let wall = rig.now.wall_ms;
    let state =
        |producer_id, producer_epoch, last_sequence, coordinator_epoch, first| ProducerState {
            producer_id,
            producer_epoch,
            last_sequence,
            last_timestamp: wall,
            coordinator_epoch,
            current_txn_start_offset: first,
        };
    let expected = [state(5, 1, 1, -1, -1), state(7, 3, 0, -1, 2), state(8, 2, -1, 0, -1)];
    assert_eq!(answer.topics[0].partitions[0].active_producers, expected);
}

#[test]
fn a_transaction_that_hangs_is_aborted_without_its_coordinator() {
    let mut rig = Rig::new().with_topic(1);
    rig.transact((7, 3, 0));
    rig.transact((8, 0, 0));
    let refused = rig.broker.abort_transaction(rig.now, "t", 0, 9).expect_err("none is open");
    assert!(matches!(refused, InspectError::Unended(ErrorCode::InvalidTxnState)), "{refused}");
    rig.broker.abort_transaction(rig.now, "t", 0, 7).expect("it is open");
    let open = rig.broker.open_transactions("t", 0).expect("partition");
    assert_eq!(open.iter().map(|it| it.producer_id).collect::<Vec<_>>(), [8]);
    assert_eq!(rig.broker.partition_state("t", 0).expect("partition").last_stable, 1);
    let markers = rig.broker.markers("t", 0).expect("markers");
    let result = TransactionResult::Abort;
    let marker = Marker { producer_id: 7, producer_epoch: 3, coordinator_epoch: 0, result };
    assert_eq!(markers, [(2, marker)]);
    // Its producer is not fenced, and nothing is open that could be aborted again.
    assert!(rig.broker.abort_transaction(rig.now, "t", 0, 7).is_err());
    assert_eq!(rig.transact((7, 3, 1)), 3);
}

#[test]
fn with_fsync_a_marker_is_committed_when_the_disk_has_it() {
    let memory = MemoryStorage::new();
    let fsync = |config: &mut BrokerConfig| config.fsync = true;
    let mut rig = Rig::on(memory.clone(), fsync).with_topic(1);
    rig.end(7, 1, TransactionResult::Abort);
    memory.lose_power(|_, _| 0);
    let mut rig = Rig::on(memory, fsync);
    let markers = rig.broker.markers("t", 0).expect("markers");
    assert_eq!(markers.len(), 1);
    assert_eq!(rig.broker.producer_state("t", 0, 7).expect("partition").map(|p| p.epoch), Some(1));
}
