//! Transactions and replicas: what followers have, and what a new leader tells its readers.

use super::*;
use crate::broker::{AppendedHere, Committed};
use crate::log::marker::{Marker, TransactionResult};
use crate::log::verification::ToVerify;

impl World {
    /// Appends a batch of a verified transaction at a leader.
    fn transact(&mut self, node: i32, id: i64, epoch: i16) -> AppendedHere {
        let batch = batch(&["v"]).producer(id, epoch, -1).attributes(1 << 4);
        let wanted = ToVerify {
            producer_id: id,
            producer_epoch: epoch,
            base_sequence: 0,
            bumps_epoch: true,
        };
        let (now, bytes) = (self.now, Bytes::from(batch.encode()));
        let broker = self.cluster.broker(node).expect("running");
        let guard = broker.start_verification(now, "t", 0, &wanted).expect("led here");
        let appended = broker.append_as_coordinator(now, "t", 0, &bytes, guard).expect("appended");
        broker.tell_followers(now);
        self.advance(1);
        appended
    }

    fn end(&mut self, node: i32, id: i64, epoch: i16, result: TransactionResult) -> AppendedHere {
        let (producer_id, producer_epoch) = (id, epoch);
        let marker = Marker { producer_id, producer_epoch, coordinator_epoch: 0, result };
        let now = self.now;
        let broker = self.cluster.broker(node).expect("running");
        let appended = broker.append_marker(now, "t", 0, &marker, 2).expect("appended");
        broker.tell_followers(now);
        self.advance(1);
        appended
    }

    fn committed(&mut self, node: i32, appended: &AppendedHere) -> Committed {
        self.cluster.broker(node).expect("running").committed(appended)
    }

    fn last_stable(&mut self, node: i32) -> i64 {
        self.cluster.state(node, "t", 0).expect("a replica").last_stable
    }

    fn visible(&mut self, node: i32) -> Vec<i64> {
        let records = self.cluster.committed_records(node, "t", 0).expect("records");
        records.iter().map(|record| record.offset).collect()
    }
}

#[test]
fn a_new_leader_knows_what_is_open_and_what_was_aborted() {
    let mut world = World::replicated();
    world.transact(1, 7, 0);
    world.transact(1, 8, 0);
    world.transact(1, 9, 0);
    world.end(1, 7, 1, TransactionResult::Abort);
    let marker = world.end(1, 8, 1, TransactionResult::Commit);
    world.advance(1000);
    assert_eq!(world.committed(1, &marker), Committed::Yes);
    world.kill(1);
    world.advance(5000);
    let leader = world.leader();
    assert_ne!(leader, 1);
    assert_eq!(world.last_stable(leader), 2, "the transaction of 9 is open");
    assert_eq!(world.visible(leader), [1]);
    world.end(leader, 9, 1, TransactionResult::Commit);
    world.advance(1000);
    assert_eq!((world.last_stable(leader), world.visible(leader)), (6, vec![1, 2]));
    world.start(1);
    world.advance(3000);
    assert_eq!(world.visible(1), [1, 2], "and a node that comes back");
}

#[test]
fn an_end_that_is_not_replicated_lets_no_reader_go_on() {
    let mut world = World::replicated();
    world.transact(1, 7, 0);
    world.advance(1000);
    for node in [2, 3] {
        world.isolate(node, true);
    }
    let marker = world.end(1, 7, 1, TransactionResult::Commit);
    assert_eq!(world.committed(1, &marker), Committed::NotYet);
    assert_eq!((world.last_stable(1), world.visible(1)), (0, vec![]));
    for node in [2, 3] {
        world.isolate(node, false);
    }
    world.advance(1000);
    assert_eq!(world.committed(1, &marker), Committed::Yes);
    assert_eq!((world.last_stable(1), world.visible(1)), (2, vec![0]));
}

#[test]
fn an_end_that_was_lost_with_its_leader_never_was() {
    let mut world = World::replicated();
    world.transact(1, 7, 0);
    world.advance(1000);
    world.isolate(1, true);
    let marker = world.end(1, 7, 1, TransactionResult::Abort);
    world.advance(5000);
    let leader = world.leader();
    assert_ne!(leader, 1);
    assert_eq!(world.last_stable(leader), 0, "still open there");
    world.end(leader, 7, 1, TransactionResult::Commit);
    world.isolate(1, false);
    world.advance(3000);
    assert!(matches!(world.committed(1, &marker), Committed::Unknown(_)));
    for node in 1..=3 {
        assert_eq!(world.visible(node), [0], "node {node} has the end that counts");
    }
}
