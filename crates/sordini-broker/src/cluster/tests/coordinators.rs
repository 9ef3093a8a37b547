//! Coordinators in a cluster: moved and killed in the midst of transactions, with messages between
//! nodes that are lost, doubled and late.

use sordini_protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use sordini_protocol::messages::describe_transactions::DescribeTransactionsRequest;
use sordini_protocol::messages::end_txn::EndTxnRequest;
use sordini_protocol::messages::txn_offset_commit::*;

use super::*;
use crate::coordinator::{CONSUMER_OFFSETS, TRANSACTION_STATE, partition_for};
use crate::test_batch::offset_fetch;
use ErrorCode as E;

/// Id and epoch.
type Producer = (i64, i16);

const PARTITIONS: i32 = 3;

impl World {
    /// Three nodes, a topic "t" of three partitions with a leader each, and a producer "T".
    fn transactional() -> (Self, Producer) {
        let mut world = Self::new(config(3));
        world.create("t", PARTITIONS, &[]);
        world.find(0);
        world.find(1);
        let producer = world.init().expect("a producer");
        (world, producer)
    }

    fn find(&mut self, key_type: i8) {
        let coordinator_keys = vec!["T".to_owned()];
        let request = FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
        self.ask(1, &request, 6);
        self.advance(1000);
        assert_eq!(self.ask(1, &request, 6).coordinators[0].error_code, 0);
    }

    /// The partition that keeps "T" or "G", and who leads it.
    fn home(&self, topic: &str, key: &str) -> (i32, i32) {
        let count = usize::try_from(self.cluster.partitions(topic)).expect("a count");
        let index = partition_for(key, count).expect("partitions");
        (index, self.cluster.leader(topic, index).expect("a leader").0)
    }

    fn coordinator(&self) -> i32 {
        self.home(TRANSACTION_STATE, "T").1
    }

    /// Asks what may be retried until it is not to be retried.
    fn retried(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<Producer, E>,
    ) -> Result<Producer, E> {
        for _ in 0..100 {
            match ask(self) {
                Err(
                    E::ConcurrentTransactions
                    | E::CoordinatorLoadInProgress
                    | E::CoordinatorNotAvailable
                    | E::NotCoordinator
                    | E::NotEnoughReplicas,
                ) => self.advance(100),
                other => return other,
            }
        }
        panic!("retried for ever");
    }

    fn init(&mut self) -> Result<Producer, E> {
        self.retried(|world| {
            let request = InitProducerIdRequest {
                transactional_id: Some("T".to_owned()),
                transaction_timeout_ms: 60_000,
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            };
            let node = world.coordinator();
            let answer = world.ask(node, &request, 5);
            match E::from_code(answer.error_code) {
                E::None => Ok((answer.producer_id, answer.producer_epoch)),
                code => Err(code),
            }
        })
    }

    fn end_request((producer_id, producer_epoch): Producer, committed: bool) -> EndTxnRequest {
        let transactional_id = "T".to_owned();
        EndTxnRequest { transactional_id, producer_id, producer_epoch, committed }
    }

    fn end_txn(
        &mut self,
        producer: Producer,
        committed: bool,
        version: i16,
    ) -> Result<Producer, E> {
        let request = Self::end_request(producer, committed);
        self.retried(|world| {
            let node = world.coordinator();
            let answer = world.ask(node, &request, version);
            match E::from_code(answer.error_code) {
                E::None => Ok((answer.producer_id, answer.producer_epoch)),
                code => Err(code),
            }
        })
    }

    fn send_batch(&mut self, producer: Producer, index: i32, sequence: i32, version: i16) -> E {
        let records = batch(&["v"]).producer(producer.0, producer.1, sequence).attributes(1 << 4);
        let id = self.cluster.topic_id("t").expect("topic");
        let id = if version < 13 { Uuid::ZERO } else { id };
        let mut request = produce_to(id, index, &records, -1);
        request.transactional_id = Some("T".to_owned());
        if version < 13 {
            request.topic_data[0].name = "t".to_owned();
        }
        let sent = self.retried(|world| {
            let leader = world.cluster.leader("t", index).expect("a leader").0;
            match code(&first(&world.ask(leader, &request, version))) {
                E::None => Ok((0, 0)),
                code => Err(code),
            }
        });
        sent.err().unwrap_or(E::None)
    }

    fn send_to_all(&mut self, producer: Producer) {
        for index in 0..PARTITIONS {
            assert_eq!(self.send_batch(producer, index, 0, 13), E::None, "{index}");
        }
    }

    fn state(&mut self) -> String {
        let request = DescribeTransactionsRequest { transactional_ids: vec!["T".to_owned()] };
        let node = self.coordinator();
        self.ask(node, &request, 0).transaction_states.remove(0).transaction_state
    }

    /// Records that read_committed readers see, of each partition.
    fn seen(&mut self) -> Vec<usize> {
        let of = |world: &mut Self, index| {
            let leader = world.cluster.leader("t", index).expect("a leader").0;
            world.cluster.committed_records(leader, "t", index).expect("records").len()
        };
        (0..PARTITIONS).map(|index| of(self, index)).collect()
    }

    fn markers(&mut self) -> Vec<usize> {
        let of = |world: &mut Self, index| {
            let leader = world.cluster.leader("t", index).expect("a leader").0;
            let broker = world.cluster.broker(leader).expect("running");
            broker.markers("t", index).expect("markers").len()
        };
        (0..PARTITIONS).map(|index| of(self, index)).collect()
    }

    fn settles_as(&mut self, state: &str, seen: usize) {
        for _ in 0..200 {
            if self.state() == state {
                break;
            }
            self.advance(100);
        }
        self.advance(1000);
        assert_eq!((self.state().as_str(), self.seen()), (state, vec![seen; 3]));
    }
}

#[test]
fn a_transaction_over_all_nodes_is_visible_as_one() {
    let (mut world, producer) = World::transactional();
    world.send_to_all(producer);
    assert_eq!(world.seen(), [0; 3]);
    let next = world.end_txn(producer, true, 5).expect("committed");
    assert_eq!(next, (producer.0, producer.1 + 1));
    world.settles_as("CompleteCommit", 1);
    world.send_to_all(next);
    world.end_txn(next, false, 5).expect("aborted");
    world.settles_as("CompleteAbort", 1);
}

#[test]
fn markers_and_answers_that_are_lost_are_repeated() {
    for lost in ["markers", "marked", "question", "answer"] {
        let (mut world, producer) = World::transactional();
        world.send_to_all(producer);
        world.lost.insert(lost);
        let next = world.end_txn(producer, true, 5).expect("the decision needs no marker");
        world.advance(2000);
        let unfinished = matches!(lost, "markers" | "marked");
        let expected = if unfinished { "PrepareCommit" } else { "CompleteCommit" };
        assert_eq!(world.state(), expected, "{lost}");
        if !unfinished {
            let elsewhere = (0..PARTITIONS)
                .find(|p| world.cluster.leader("t", *p).map(|l| l.0) != Some(world.coordinator()));
            let (index, now) = (elsewhere.expect("another node"), world.now);
            let records = batch(&["v"]).producer(next.0, next.1, 0).attributes(1 << 4);
            let id = world.cluster.topic_id("t").expect("topic");
            let mut request = produce_to(id, index, &records, -1);
            request.transactional_id = Some("T".to_owned());
            let leader = world.cluster.leader("t", index).expect("a leader").0;
            let answer = first(&world.ask(leader, &request, 13));
            assert_eq!(code(&answer), E::NotEnoughReplicas, "{lost}");
            assert!(world.now.mono.since(now.mono) >= Duration::from_secs(5), "it was repeated");
        }
        world.lost.clear();
        if unfinished {
            world.settles_as("CompleteCommit", 1);
        }
        world.send_to_all(next);
        world.end_txn(next, true, 5).expect("committed");
        world.settles_as("CompleteCommit", 2);
        assert_eq!(world.markers(), [2; 3], "{lost}: a marker that is there is not repeated");
    }
}

#[test]
fn what_arrives_twice_is_done_once() {
    let (mut world, producer) = World::transactional();
    world.doubled = ["markers", "marked", "question", "answer"].into();
    let mut next = producer;
    for round in 1..4 {
        world.send_to_all(next);
        next = world.end_txn(next, true, 5).expect("committed");
        world.settles_as("CompleteCommit", round);
        assert_eq!(world.markers(), [round; 3]);
    }
}

#[test]
fn a_late_copy_of_an_old_marker_ends_nothing_of_the_same_epoch() {
    let (mut world, producer) = World::transactional();
    let add = |world: &mut World| {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "T".to_owned(),
            v3_and_below_producer_id: producer.0,
            v3_and_below_producer_epoch: producer.1,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: "t".to_owned(),
                partitions: (0..PARTITIONS).collect(),
            }],
            ..Default::default()
        };
        let added = world.retried(|world| {
            let node = world.coordinator();
            let answer = world.ask(node, &request, 3);
            let topic = &answer.results_by_topic_v3_and_below[0];
            match E::from_code(topic.results_by_partition[0].partition_error_code) {
                E::None => Ok(producer),
                code => Err(code),
            }
        });
        added.expect("added");
    };
    for sequence in 0..2 {
        add(&mut world);
        for index in 0..PARTITIONS {
            assert_eq!(world.send_batch(producer, index, sequence, 11), E::None);
        }
        if sequence == 0 {
            world.end_txn(producer, true, 4).expect("committed");
            world.settles_as("CompleteCommit", 1);
        }
    }
    let late = world.orders.clone();
    assert!(!late.is_empty(), "some were sent to other nodes");
    for (from, to, message) in late {
        world.cluster.handle_peer(world.now, from, to, message);
        world.pump();
    }
    world.advance(1000);
    assert_eq!(world.seen(), [1; 3], "the second transaction is open");
    world.end_txn(producer, false, 4).expect("aborted");
    world.settles_as("CompleteAbort", 1);
}

#[test]
fn a_coordinator_that_is_moved_in_the_midst_of_an_end_leaves_it_to_the_next() {
    for (lost, committed) in [("markers", true), ("markers", false), ("marked", true)] {
        let (mut world, producer) = World::transactional();
        world.send_to_all(producer);
        world.lost.insert(lost);
        let next = world.end_txn(producer, committed, 5).expect("decided");
        let (index, old) = world.home(TRANSACTION_STATE, "T");
        let new = 1 + old % 3;
        assert!(world.cluster.move_leader(TRANSACTION_STATE, index, new));
        world.pump();
        world.lost.clear();
        let (state, seen) = if committed { ("CompleteCommit", 1) } else { ("CompleteAbort", 0) };
        world.settles_as(state, seen);
        assert_eq!(world.end_txn(producer, committed, 5), Ok(next), "the retry at the next");
        let other = world.end_txn(producer, !committed, 5);
        assert_eq!(other, Err(E::InvalidTxnState));
        world.send_to_all(next);
        world.end_txn(next, true, 5).expect("committed");
        world.settles_as("CompleteCommit", seen + 1);
    }
}

#[test]
fn a_coordinator_that_is_killed_between_decision_and_completion_leaves_it_to_the_next() {
    for lost in ["markers", "marked"] {
        let (mut world, producer) = World::transactional();
        world.send_to_all(producer);
        world.lost.insert(lost);
        let next = world.end_txn(producer, true, 5).expect("decided");
        let node = world.coordinator();
        world.kill(node);
        world.lost.clear();
        world.advance(5000);
        assert_ne!(world.coordinator(), node);
        world.settles_as("CompleteCommit", 1);
        assert_eq!(world.end_txn(producer, true, 5), Ok(next));
        world.start(node);
        world.advance(5000);
        world.send_to_all(next);
        world.end_txn(next, false, 5).expect("aborted");
        world.settles_as("CompleteAbort", 1);
    }
}

#[test]
fn an_end_is_not_answered_before_the_decision_is_committed() {
    let (mut world, producer) = World::transactional();
    world.send_to_all(producer);
    let (index, node) = world.home(TRANSACTION_STATE, "T");
    // Nobody hears of what the coordinator appends.
    world.isolate(node, true);
    let connection = world.connect(node);
    world.send(node, connection, &World::end_request(producer, true), 5);
    world.advance(5000);
    assert_eq!(world.answer::<EndTxnRequest>(connection, 5).map(|a| a.error_code), None);
    assert_ne!(world.home(TRANSACTION_STATE, "T"), (index, node), "another coordinates");
    assert_eq!(world.state(), "Ongoing");
    let next = world.end_txn(producer, false, 5).expect("aborted");
    world.isolate(node, false);
    world.advance(5000);
    let late = world.answer::<EndTxnRequest>(connection, 5).map(|a| E::from_code(a.error_code));
    assert_eq!(late, Some(E::NotCoordinator), "what was appended there is cut off");
    world.settles_as("CompleteAbort", 0);
    world.send_to_all(next);
}

#[test]
fn all_nodes_killed_at_once_go_on_from_their_logs() {
    let (mut world, producer) = World::transactional();
    world.send_to_all(producer);
    world.lost.insert("markers");
    let next = world.end_txn(producer, true, 5).expect("decided");
    (1..=3).for_each(|node| world.kill(node));
    world.lost.clear();
    (1..=3).for_each(|node| world.start(node));
    world.advance(5000);
    world.settles_as("CompleteCommit", 1);
    assert_eq!(world.end_txn(producer, true, 5), Ok(next));
}

#[test]
fn offsets_of_a_transaction_move_with_the_leader_of_the_group() {
    let (mut world, producer) = World::transactional();
    let topic_id = world.cluster.topic_id("t").expect("topic");
    let partition = TxnOffsetCommitRequestPartition {
        committed_offset: 7,
        committed_leader_epoch: -1,
        ..Default::default()
    };
    let commit = TxnOffsetCommitRequest {
        transactional_id: "T".to_owned(),
        group_id: "G".to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        generation_id_or_member_epoch: -1,
        topics: vec![TxnOffsetCommitRequestTopic {
            topic_id,
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let committed = world.retried(|world| {
        let node = world.home(CONSUMER_OFFSETS, "G").1;
        match E::from_code(world.ask(node, &commit, 6).topics[0].partitions[0].error_code) {
            E::None => Ok(producer),
            code => Err(code),
        }
    });
    committed.expect("pending");
    let stable = |world: &mut World| {
        let request = offset_fetch("G", topic_id, true);
        let node = world.home(CONSUMER_OFFSETS, "G").1;
        let group = world.ask(node, &request, 10).groups.remove(0);
        assert_eq!(group.error_code, 0);
        let found = &group.topics[0].partitions[0];
        (E::from_code(found.error_code), found.committed_offset)
    };
    assert_eq!(stable(&mut world), (E::UnstableOffsetCommit, -1));
    let (index, old) = world.home(CONSUMER_OFFSETS, "G");
    assert!(world.cluster.move_leader(CONSUMER_OFFSETS, index, 1 + old % 3));
    world.advance(1000);
    assert_eq!(stable(&mut world), (E::UnstableOffsetCommit, -1));
    world.end_txn(producer, true, 5).expect("committed");
    world.advance(1000);
    assert_eq!(stable(&mut world), (E::None, 7));
}
