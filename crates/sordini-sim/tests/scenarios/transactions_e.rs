//! E: transactions. Each in both protocols where it concerns both.

use sordini_protocol::{ApiKey, ErrorCode as E};
use sordini_sim::Transacting;
use sordini_sim::faults::{Deed, Fault, Link, Twist};

use crate::script::{Script, Story, script};

/// A producer that writes to three partitions in transactions, one after another.
fn transactional(nodes: i32, version: i16) -> Script {
    let mut habits = Transacting::plain(version);
    habits.offsets = 300;
    habits.pause = 8000;
    let settings = habits.settings();
    let script = script(nodes).partitions(3).set("request.timeout.ms", "400");
    // Each takes some round trips, of 30 ms.
    let script = script.with(|plan| {
        plan.transactions = Some(habits);
        plan.chaos = 10_000;
    });
    settings.iter().fold(script, |script, (name, value)| script.set(name, value))
}

/// Other habits.
fn habits(script: Script, change: impl FnOnce(&mut Transacting)) -> Script {
    script.with(|plan| change(plan.transactions.as_mut().expect("it has transactions")))
}

fn asked(node: i32, api: ApiKey, nth: u16, times: u16, twist: Twist) -> Fault {
    Fault::Twist { node, api, nth, times, twist }
}

fn at_request(api: ApiKey, nth: u16, deed: Deed) -> Fault {
    Fault::AtRequest { api, nth, deed }
}

/// Transactions were committed, before and after what went wrong.
#[track_caller]
fn went_on(script: Script) -> Story {
    let story = script.run().saw("core: transaction committed");
    let committed = story.met("core: transaction committed");
    assert!(committed > 5, "{}", story.report);
    story
}

/// KAFKA-17754, Jepsen's report on Bufstream: an EndTxn comes when the next transaction is open.
#[test]
fn e1_a_late_end_ends_no_later_transaction() {
    for version in [1, 2] {
        let mut script = transactional(1, version).set("request.timeout.ms", "300");
        for at in [600, 2500, 4400, 6200] {
            script = script.during(at, at + 900, Fault::OldLate(Link::ALL));
        }
        let story = went_on(script);
        assert!(story.report.coverage.late_deliveries > 0, "{}", story.report);
    }
}

/// KIP-890, KAFKA-14402: a Produce comes when its transaction is over, and opens one that nobody
/// ends.
#[test]
fn e2_a_late_batch_of_a_transaction_that_is_over_holds_no_reader_back() {
    for version in [1, 2] {
        let mut script = transactional(1, version).timeouts(500, 300);
        for at in [700, 3500, 6500] {
            script = script.during(at, at + 1500, Fault::OldLate(Link::ALL)).during(
                at,
                at + 900,
                Fault::Refuse(Link::ALL),
            );
        }
        let story = went_on(script).saw("core: transaction aborted, a record failed");
        assert!(story.report.coverage.late_deliveries > 0, "{}", story.report);
    }
}

/// KAFKA-9279, librdkafka 1.5.2: a record failed, and the application commits all the same.
#[test]
fn e3_a_transaction_of_which_a_record_failed_is_not_committed() {
    for version in [1, 2] {
        let refused = asked(1, ApiKey::Produce, 3, 2, Twist::Error(E::InvalidRecord));
        let script = transactional(1, version).during(1000, 2000, refused);
        went_on(script).heard(E::InvalidRecord).saw("core: transaction aborted, a record failed");
    }
}

/// KAFKA-7763: the outcome of an EndTxn is not known.
#[test]
fn e4_a_commit_without_an_answer_is_neither_a_success_nor_forgotten() {
    for version in [1, 2] {
        let script = transactional(1, version)
            .during(800, 1400, asked(1, ApiKey::EndTxn, 1, 2, Twist::CloseAfter))
            .during(1500, 2200, asked(1, ApiKey::EndTxn, 1, 2, Twist::CloseBefore))
            .during(2300, 3600, asked(1, ApiKey::EndTxn, 1, 1, Twist::Silence));
        let script = habits(script, |habits| {
            habits.patience = vec![200];
            habits.cancelled = 200;
        });
        went_on(script).saw("app: a commit's outcome is unknown");
    }
}

/// librdkafka 1.6.0: the error in EndTxn's answer was not read.
#[test]
fn e5_a_producer_that_is_fenced_when_it_commits_is_told_so() {
    for version in [1, 2] {
        let fenced = asked(1, ApiKey::EndTxn, 3, 1, Twist::Error(E::ProducerFenced));
        went_on(transactional(1, version).during(1000, 3000, fenced)).saw("app: fenced");
    }
}

/// Seen with Kafka 4.4: while a coordinator writes the end of one transaction, it refuses that of the
/// next as if the producer were fenced.
#[test]
fn e5_an_end_that_comes_while_the_one_before_is_written_fences_nobody() {
    let script = habits(transactional(3, 2), |habits| {
        (habits.aborts, habits.dropped) = (300, 400);
        habits.pause = 100;
    });
    // Nodes that hear late of each other write markers for long.
    let script = script.set("request.timeout.ms", "4000");
    let story = went_on(script.during(500, 8000, Fault::PeerDelay(60_000)));
    let story = story.coordinated(ApiKey::EndTxn, E::ProducerFenced);
    assert_eq!(story.met("app: fenced"), 0, "{}", story.report);
}

/// librdkafka #3571: the coordinator moves between a request and its answer.
#[test]
fn e6_a_coordinator_that_moves_in_the_midst_is_found_again() {
    for version in [1, 2] {
        let mut script = transactional(3, version)
            .during(700, 2500, at_request(ApiKey::EndTxn, 2, Deed::Move))
            .during(1200, 2500, at_request(ApiKey::TxnOffsetCommit, 1, Deed::Move))
            .at(2600, Fault::MoveCoordinators)
            .during(2700, 4000, at_request(ApiKey::EndTxn, 3, Deed::Move));
        if version == 1 {
            script = script
                .during(1500, 4000, at_request(ApiKey::AddPartitionsToTxn, 1, Deed::Move))
                .during(1600, 4000, at_request(ApiKey::AddOffsetsToTxn, 1, Deed::Move));
        }
        went_on(script).coordinated(ApiKey::EndTxn, E::None);
    }
}

/// KAFKA-5477: the transaction before is still being completed.
#[test]
fn e7_what_meets_a_transaction_that_is_being_completed_waits_a_little() {
    for version in [1, 2] {
        let api = if version == 1 { ApiKey::AddPartitionsToTxn } else { ApiKey::EndTxn };
        let script = transactional(3, version).during(500, 3500, Fault::PeerDelay(2000));
        let code = E::ConcurrentTransactions;
        let script =
            script.everywhere(600, 3500, |node| asked(node, api, 2, 3, Twist::Error(code)));
        went_on(script).coordinated(api, code);
    }
}

/// KIP-890: Kafka makes a batch wait that comes before the markers of the transaction before. What
/// is held for them is in its own transaction still, whatever becomes of it meanwhile.
#[test]
fn e7_what_is_held_for_the_markers_before_it_belongs_to_its_own_transaction() {
    for habit in [0, 400] {
        let mut script = transactional(1, 2);
        for at in (500..5000).step_by(600) {
            let told = asked(1, ApiKey::Produce, 1, 1, Twist::Error(E::ConcurrentTransactions));
            let slow = asked(1, ApiKey::Produce, 1, 1, Twist::Hold(25));
            let lost = asked(1, ApiKey::EndTxn, 1, 1, Twist::CloseAfter);
            script = script.during(at, at + 200, told).during(at + 200, at + 400, slow);
            script = script.during(at + 400, at + 600, lost);
        }
        let script = habits(script, |habits| {
            (habits.aborts, habits.dropped) = (habit, habit / 2);
            habits.pause = 100;
        });
        went_on(script).saw("core: transaction held for markers");
    }
}

/// KAFKA-5364: some of the partitions could not be added.
#[test]
fn e8_no_batch_goes_where_its_partition_was_not_added() {
    let adding = ApiKey::AddPartitionsToTxn;
    let script = transactional(1, 1)
        .during(600, 1500, asked(1, adding, 2, 2, Twist::Error(E::OperationNotAttempted)))
        .during(1600, 2400, asked(1, adding, 2, 1, Twist::Error(E::TopicAuthorizationFailed)))
        .during(2500, 3300, asked(1, adding, 1, 2, Twist::Hold(200)));
    went_on(script).coordinated(adding, E::TopicAuthorizationFailed);
}

/// KAFKA-13782: a record moves to another partition when its batch is full.
#[test]
fn e9_a_partition_is_added_for_the_records_that_are_there() {
    let script = transactional(1, 1).set("batch.size", "100").with(|plan| {
        plan.workload.explicit = 0;
        plan.topics[0].partitions = 5;
    });
    went_on(script).never_saw("core: failed");
}

/// KAFKA-5251, 10186: an abort with batches that are queued, and others that are on their way.
#[test]
fn e10_nothing_of_a_transaction_that_is_aborted_comes_with_the_next() {
    for version in [1, 2] {
        let held = asked(1, ApiKey::Produce, 1, 60, Twist::Hold(120));
        let script = transactional(1, version).during(500, 3800, held);
        let script = habits(script, |habits| habits.aborts = 600);
        script.run().saw("core: transaction aborted, as asked").saw("core: transaction committed");
    }
}

/// librdkafka #3575: a batch asks for a new epoch in the midst of a transaction.
#[test]
fn e12_a_new_epoch_costs_the_transaction() {
    for version in [1, 2] {
        let lost = asked(1, ApiKey::Produce, 3, 2, Twist::Error(E::OutOfOrderSequenceNumber));
        let script = transactional(1, version).during(1000, 2500, lost);
        went_on(script).heard(E::OutOfOrderSequenceNumber);
    }
}

/// KAFKA-14278: the same codes mean one thing from a partition and another from a coordinator.
#[test]
fn e13_a_partition_that_refuses_the_epoch_costs_the_transaction_only() {
    for version in [1, 2] {
        let refused = asked(1, ApiKey::Produce, 3, 1, Twist::Error(E::InvalidProducerEpoch));
        let script = transactional(1, version).during(1000, 2500, refused);
        went_on(script).heard(E::InvalidProducerEpoch).never_saw("app: fenced");
    }
    let fenced = asked(1, ApiKey::AddPartitionsToTxn, 3, 1, Twist::Error(E::ProducerFenced));
    went_on(transactional(1, 1).during(1000, 3000, fenced)).saw("app: fenced");
}

/// KAFKA-20785: the transaction is open for too long.
#[test]
fn e14_a_transaction_that_takes_too_long_is_aborted_here_before_it_is_there() {
    for version in [1, 2] {
        let slow = |script: Script| {
            habits(script.set("transaction.timeout.ms", "500"), |habits| habits.timeout = 500)
        };
        let script = slow(transactional(1, version));
        let sleepy = habits(script, |habits| habits.stalls = 300);
        sleepy
            .run()
            .saw("core: transaction aborted, timed out")
            .saw("core: transaction committed")
            .never_saw("app: fenced");
        // A process that is stopped can't.
        let mut frozen = slow(transactional(1, version));
        for at in [700, 2000] {
            frozen = frozen.during(at, at + 1000, Fault::Freeze(0));
        }
        went_on(frozen);
    }
}

/// KAFKA-5422, 9605: what comes after the end of a producer changes nothing of it.
#[test]
fn e15_a_producer_that_is_done_stays_so() {
    for version in [1, 2] {
        let script = transactional(1, version)
            .during(900, 3900, asked(1, ApiKey::EndTxn, 2, 1, Twist::Error(E::ProducerFenced)))
            .during(900, 3900, asked(1, ApiKey::Produce, 8, 9, Twist::Error(E::InvalidRecord)));
        let script = habits(script, |habits| habits.cancelled = 300);
        script.run().saw("app: fenced").saw("core: transaction committed");
    }
}

/// KIP-890, KIP-1050: TRANSACTION_ABORTABLE from whoever may say it.
#[test]
fn e17_whoever_wants_it_aborted_gets_it_aborted() {
    for version in [1, 2] {
        let mut apis = vec![ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn];
        if version == 1 {
            apis.extend([ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn]);
        }
        for api in apis {
            let refused = asked(1, api, 2, 1, Twist::Error(E::TransactionAbortable));
            let script = transactional(1, version).during(800, 3500, refused);
            went_on(script).saw("app: aborted instead of committed").never_saw("app: fenced");
        }
    }
}

/// librdkafka, franz-go: calls that contradict each other.
#[test]
fn e19_what_can_not_be_asked_for_is_refused() {
    for version in [1, 2] {
        let script = habits(transactional(1, version), |habits| {
            habits.misuse = 700;
            habits.cancelled = 200;
            habits.dropped = 100;
            habits.forgotten = 250;
            habits.aborts = 200;
        });
        went_on(script).saw("app: asked for what can't be").saw("app: forgot a transaction");
    }
}

/// KIP-98, KIP-360: two processes with one transactional id.
#[test]
fn e20_the_elder_of_two_is_fenced_and_never_takes_the_id_back() {
    for version in [1, 2] {
        let mut script = transactional(1, version);
        for at in [800, 1700, 2600] {
            script = script.at(at, Fault::TwinProducer(0));
        }
        let story = went_on(script.during(3000, 3300, Fault::CrashProducer(0))).saw("app: fenced");
        assert!(story.met("app: initialised") >= 5, "{}", story.report);
    }
}

/// KAFKA-19999, 19367, 20090: coordinators that die at each step, and markers that come twice.
#[test]
fn e21_a_coordinator_that_dies_at_any_step_finishes_what_it_began() {
    for version in [1, 2] {
        let mut script = transactional(3, version)
            .during(500, 3900, Fault::PeerDouble(400))
            .during(600, 1400, at_request(ApiKey::EndTxn, 2, Deed::KillAfter))
            .during(1500, 2300, at_request(ApiKey::EndTxn, 2, Deed::KillBefore))
            .during(2400, 3100, at_request(ApiKey::EndTxn, 3, Deed::Crash))
            .during(3200, 3900, at_request(ApiKey::InitProducerId, 1, Deed::KillAfter));
        script = script.at(3210, Fault::TwinProducer(0));
        went_on(script);
    }
}
