//! Idempotence: sequences, epochs, splits.

use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use super::peer::{Answer, Reaction};
use super::world::World;
use crate::batch::completion::Deduplicated;
use crate::config::Codec;
use crate::error::{Cause, Fate};
use crate::idempotence::Identity;
use crate::producer::io::Trace;
use crate::sequencing::line::ProducerIdentity;

fn ready() -> World {
    let mut world = World::new();
    world.send();
    world.settle();
    world
}

fn data_loss(world: &World) -> usize {
    world.traces.iter().filter(|(_, it)| matches!(it, Trace::DataLoss { .. })).count()
}

#[test]
fn out_of_order_behind_the_head_bumps_no_epoch() {
    // A2
    let mut world = ready();
    world.script([Answer::code(ErrorCode::NotEnoughReplicas)]);
    let ids = world.send_many(5);
    world.settle();
    assert!(world.metric(|it| it.retries) >= 4, "the four behind it were refused");
    assert_eq!(world.log()[1..], ids);
    assert_eq!(world.metric(|it| it.epoch_bumps), 0);
    assert_eq!(data_loss(&world), 0);
    world.end();
}

#[test]
fn a_first_batch_that_is_refused_cannot_be_overtaken() {
    // A4: where the broker holds no state it accepts any first sequence.
    let mut world = World::new();
    world.script([Answer::code(ErrorCode::NotLeaderOrFollower); 3]);
    let ids = world.send_many(10);
    world.settle();
    assert_eq!(world.log(), ids);
    world.end();
}

#[test]
fn after_a_first_batch_failed_for_good_the_next_is_alone_again() {
    // A4: a new epoch of a producer id that the partition never acknowledged is as unknown to
    // the broker as the old one was. The monitor watches that one is in flight.
    let mut world = World::new();
    world.script([
        Answer::code(ErrorCode::InvalidRecord),
        Answer::code(ErrorCode::NotLeaderOrFollower),
    ]);
    let ids = world.send_many(10);
    world.settle();
    assert_eq!(world.fate(ids[0]), Fate::NotWritten);
    assert_eq!(world.log(), ids[1..]);
    world.end();
}

#[test]
fn a_record_that_fails_before_it_is_sent_takes_no_sequence() {
    // A5
    let mut world = World::with(1, 2, |config| {
        config.delivery_timeout = Duration::from_secs(31);
        config.request_timeout = Duration::from_secs(30);
    });
    world.send_to("t", Some(0));
    world.settle();
    world.node(1).up = false;
    world.kill_links(1);
    let lost = world.send_many(3);
    world.run_until(40_000, |world| world.is_resolved(lost[2]));
    assert!(lost.iter().all(|id| world.fate(*id) == Fate::NotWritten));
    world.node(1).up = true;
    let ids = world.send_many(3);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.metric(|it| it.epoch_bumps), 0, "no sequence was used up");
    world.end();
}

#[test]
fn a_batch_that_expires_in_flight_leaves_its_sequence_to_nobody() {
    // A6: the answer never comes, so the line waits for the connection's end and takes a new
    // epoch.
    let mut world = World::with(1, 1, |config| {
        config.request_timeout = Duration::from_secs(10);
        config.delivery_timeout = Duration::from_secs(12);
        config.retry_backoff = Duration::from_secs(1);
    });
    world.send();
    world.settle();
    world.node(1).react(ApiKey::Produce, std::iter::repeat_n(Reaction::Swallow, 3));
    let lost = world.send();
    world.run(500);
    let next = world.send();
    world.settle();
    assert_eq!(world.fate(lost), Fate::Unknown);
    let _ = world.outcome(next);
    let last = world.send_many(3);
    world.settle();
    world.assert_written(&last);
    world.end();
}

#[test]
fn an_answer_after_an_ambiguous_code_is_asked_for_with_the_same_bytes() {
    // A7: REQUEST_TIMED_OUT and NOT_ENOUGH_REPLICAS_AFTER_APPEND may be in the log.
    for code in [ErrorCode::RequestTimedOut, ErrorCode::NotEnoughReplicasAfterAppend] {
        let mut world = ready();
        world.script([Answer::after_append(code), Answer::code(ErrorCode::InvalidRecord)]);
        let id = world.send();
        world.settle();
        assert_eq!(world.fate(id), Fate::Unknown, "it is in the log, whatever came later");
        let next = world.send();
        world.settle();
        world.assert_written(&[next]);
        world.end();
    }
}

#[test]
fn an_epoch_bump_stamps_anew_only_what_was_definitely_refused() {
    // A8: the second batch's fate is unknown when the first fails for good.
    let mut world = ready();
    world
        .script([Answer::code(ErrorCode::InvalidRecord), Answer::code(ErrorCode::RequestTimedOut)]);
    let ids = world.send_many(4);
    world.settle();
    assert_eq!(world.fate(ids[0]), Fate::NotWritten);
    // Its sequence can follow nothing any more, and it may have been appended.
    assert_eq!(world.fate(ids[1]), Fate::Unknown);
    world.assert_written(&ids[2..]);
    assert_eq!(world.metric(|it| it.epoch_bumps), 1);
    assert_eq!(data_loss(&world), 0, "the gap is our own: nothing that was acknowledged is lost");
    world.end();
}

#[test]
fn a_bump_concerns_the_failing_partition_only() {
    // A9, P21
    let mut world = World::with(1, 4, |_| {});
    for at in 0..4 {
        world.send_to("t", Some(at));
    }
    world.settle();
    world.script([Answer::code(ErrorCode::InvalidRecord)]);
    for _ in 0..5 {
        for at in 0..4 {
            world.send_to("t", Some(at));
        }
    }
    world.settle();
    assert_eq!(world.metric(|it| it.epoch_bumps), 1);
    assert_eq!(world.metric(|it| it.records_not_written), 1);
    assert_eq!(world.count(ApiKey::InitProducerId), 1, "a bump is local");
    world.end();
}

#[test]
fn partitions_that_fail_together_share_the_new_epoch() {
    // P21: epochs are few.
    let mut world = World::with(1, 4, |config| config.linger = Duration::from_millis(5));
    for at in 0..4 {
        world.send_to("t", Some(at));
    }
    world.settle();
    for at in 0..4 {
        let answers = world.model.answers.entry(("t".into(), at)).or_default();
        answers.push_back(Answer::code(ErrorCode::InvalidRecord));
    }
    for _ in 0..2 {
        for at in 0..4 {
            world.send_to("t", Some(at));
        }
    }
    world.settle();
    assert_eq!(world.monitor.epochs.len(), 2);
    world.end();
}

#[test]
fn sequences_wrap_to_0_behind_the_largest() {
    // A10
    for start in [i32::MAX - 7, i32::MAX - 1, i32::MAX] {
        let mut world = World::with(1, 1, |config| {
            config.batch_size = 200;
            config.linger = Duration::from_millis(1);
        });
        world.send();
        world.run_until(1000, |world| world.producer.partitions.len() > 0);
        world.monitor.start = start;
        let identity = ProducerIdentity { id: 7000, epoch: 0 };
        world.run_until(1000, |world| matches!(world.producer.identity, Identity::Ready(_)));
        assert!(world.produces().is_empty());
        let line = &mut world.producer.partitions.get_mut(&(0, 0)).expect("it is known").line;
        line.start_at(identity, start);
        let topic = world.topic("t");
        for _ in 0..30 {
            world.send_on(&topic, Some(0), 40);
        }
        world.settle();
        assert!(world.produces().len() > 5);
        world.end();
    }
}

#[test]
fn a_split_batch_wraps_too() {
    // A10, A19
    let mut world = World::with(1, 1, |config| {
        config.batch_size = 16_384;
        config.linger = Duration::from_millis(1);
    });
    world.send();
    world.run_until(1000, |world| matches!(world.producer.identity, Identity::Ready(_)));
    world.run_until(1000, |world| world.producer.partitions.len() > 0);
    let start = i32::MAX - 3;
    world.monitor.start = start;
    let line = &mut world.producer.partitions.get_mut(&(0, 0)).expect("it is known").line;
    line.start_at(ProducerIdentity { id: 7000, epoch: 0 }, start);
    world.settle();
    world.model.max_batch = 150;
    world.send_many(20);
    world.settle();
    assert_eq!(world.log(), (0..21).collect::<Vec<u64>>());
    world.end();
}

#[test]
fn behind_the_last_epoch_comes_a_new_producer_id() {
    // A11
    let mut world = World::with(1, 2, |_| {});
    world.model.first_epoch = i16::MAX - 1;
    world.send_to("t", Some(0));
    let other = world.send_to("t", Some(1));
    world.settle();
    for _ in 0..3 {
        world.script([Answer::code(ErrorCode::InvalidRecord)]);
        world.send_many(2);
        world.settle();
    }
    assert_eq!(world.metric(|it| it.records_not_written), 3);
    assert_eq!(world.count(ApiKey::InitProducerId), 2);
    let ids: Vec<(i64, i16)> = world.monitor.epochs.iter().copied().collect();
    assert_eq!(ids, [(7000, 32766), (7000, 32767), (7001, 0), (7001, 1)]);
    world.assert_written(&[other]);
    world.send_to("t", Some(1));
    world.end();
}

#[test]
fn a_new_producer_id_that_is_slow_to_come_loses_nothing() {
    // A11
    let mut world = World::new();
    world.model.first_epoch = i16::MAX;
    world.send();
    world.settle();
    world.script([Answer::code(ErrorCode::InvalidRecord)]);
    let error = Reaction::Error(ErrorCode::CoordinatorLoadInProgress);
    world.node(1).react(ApiKey::InitProducerId, [error.clone(), Reaction::CloseAfter, error]);
    let ids = world.send_many(6);
    world.settle();
    world.assert_written(&ids[1..]);
    world.end();
}

#[test]
fn a_duplicate_sequence_number_is_success_without_an_offset() {
    // A14
    let mut world = ready();
    world.script([Answer::after_append(ErrorCode::DuplicateSequenceNumber)]);
    let id = world.send();
    world.settle();
    let written = world.outcome(id).expect("written");
    assert_eq!((written.offset, written.deduplicated), (None, Deduplicated::Yes));
    let next = world.send();
    world.settle();
    world.assert_written(&[next]);
    assert_eq!(world.metric(|it| it.duplicates), 1);
    world.end();
}

#[test]
fn a_forgotten_producer_begins_anew_and_alone() {
    // A16: retention took all that the broker knew of this producer.
    let mut world = World::with(1, 1, |_| {});
    world.model.part(&("t".into(), 0)).log.refuses_unknown = true;
    world.send_many(5);
    world.settle();
    let log = &mut world.model.part(&("t".into(), 0)).log;
    log.forget_producers();
    log.start = 5;
    let ids = world.send_many(8);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.metric(|it| it.epoch_bumps), 1);
    assert_eq!(data_loss(&world), 0, "what retention removed is not lost");
    world.end();
}

#[test]
fn unknown_producer_id_over_records_that_should_be_there_tells_of_data_loss() {
    // A16, A17: the log still begins before what was acknowledged last.
    let mut world = World::with(1, 1, |_| {});
    world.model.part(&("t".into(), 0)).log.refuses_unknown = true;
    world.send_many(5);
    world.settle();
    world.model.lossy = true;
    let log = &mut world.model.part(&("t".into(), 0)).log;
    log.forget_producers();
    log.truncate(0);
    let ids = world.send_many(3);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(data_loss(&world), 1);
    world.end();
}

#[test]
fn unknown_producer_id_that_tells_no_log_start_says_nothing() {
    // A16
    let mut world = ready();
    let vague = Answer { log_start: Some(-1), ..Answer::code(ErrorCode::UnknownProducerId) };
    world.script([vague; 3]);
    let ids = world.send_many(4);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.metric(|it| it.epoch_bumps), 0);
    assert_eq!(data_loss(&world), 0);
    world.end();
}

#[test]
fn a_log_that_lost_its_end_is_told_as_data_loss_and_goes_on() {
    // A17
    let mut world = ready();
    world.send_many(6);
    world.settle();
    world.model.lossy = true;
    world.model.part(&("t".into(), 0)).log.truncate(4);
    let ids = world.send_many(8);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.log()[4..], ids);
    assert_eq!(data_loss(&world), 1);
    assert_eq!(world.metric(|it| it.data_loss_events), 1);
    assert_eq!(world.metric(|it| it.epoch_bumps), 1);
    world.end();
}

#[test]
fn an_ambiguous_batch_whose_log_lost_its_end_fails_as_unknown() {
    // A8, A17
    let mut world = ready();
    world.send_many(6);
    world.settle();
    world.model.lossy = true;
    world.model.part(&("t".into(), 0)).log.truncate(4);
    world.script([Answer::code(ErrorCode::RequestTimedOut)]);
    let ids = world.send_many(4);
    world.settle();
    assert_eq!(world.fate(ids[0]), Fate::Unknown);
    assert!(matches!(world.cause(ids[0]), Cause::SequenceLost(_)));
    world.assert_written(&ids[1..]);
    assert_eq!(data_loss(&world), 1);
    world.end();
}

#[test]
fn a_refusal_that_comes_after_the_head_it_was_for_is_resolved_says_nothing() {
    // A2, A17: the second was refused because the first was; meanwhile another leader took the
    // first.
    let mut world = World::with(2, 1, |_| {});
    world.send();
    world.settle();
    world.node(1).react(ApiKey::Produce, [Reaction::Pass, Reaction::Delay(2000)]);
    let hint = Some((2, 6));
    world.script([Answer { hint, ..Answer::code(ErrorCode::NotEnoughReplicas) }]);
    let part = world.model.part(&("t".into(), 0));
    (part.leader, part.epoch) = (1, 6);
    let ids = world.send_many(2);
    world.run(2);
    world.model.part(&("t".into(), 0)).leader = 2;
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.metric(|it| it.epoch_bumps), 0);
    assert_eq!(data_loss(&world), 0);
    world.end();
}

fn wide(codec: Codec) -> World {
    let mut world = World::with(1, 1, |config| {
        config.batch_size = 16_384;
        config.linger = Duration::from_millis(5);
        config.compression_type = codec;
    });
    world.send();
    world.settle();
    world
}

#[test]
fn a_batch_that_is_too_large_is_split_until_it_fits() {
    // A19
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = wide(codec);
        world.model.max_batch = 200;
        let topic = world.topic("t");
        let ids: Vec<u64> = (0..40).map(|_| world.send_on(&topic, Some(0), 60)).collect();
        world.settle();
        world.assert_written(&ids);
        assert_eq!(world.log()[1..], ids);
        assert!(world.metric(|it| it.splits) >= 3, "split again and again");
        assert_eq!(world.metric(|it| it.epoch_bumps), 0);
        world.end();
    }
}

#[test]
fn a_single_record_that_is_too_large_fails_and_its_sisters_do_not() {
    // A19
    for codec in [Codec::None, Codec::Zstd] {
        let mut world = wide(codec);
        world.model.max_batch = 200;
        let topic = world.topic("t");
        let mut ids: Vec<u64> = (0..6).map(|_| world.send_on(&topic, Some(0), 40)).collect();
        // Compressible bytes would fit once compressed.
        let large = world.send_on(&topic, Some(0), if codec == Codec::None { 300 } else { 9000 });
        if codec != Codec::None {
            world.model.max_batch = 90;
        }
        ids.extend((0..6).map(|_| world.send_on(&topic, Some(0), 12)));
        world.settle();
        if codec == Codec::None {
            assert_eq!(world.fate(large), Fate::NotWritten);
            assert_eq!(world.cause(large), Cause::Rejected(ErrorCode::MessageTooLarge));
            world.assert_written(&ids);
        }
        world.end();
    }
}

#[test]
fn a_child_may_fail_and_be_retried_like_any_batch() {
    // A19
    let mut world = wide(Codec::Lz4);
    world.script([
        Answer::code(ErrorCode::MessageTooLarge),
        Answer::code(ErrorCode::NotEnoughReplicas),
        Answer::code(ErrorCode::None),
        Answer::code(ErrorCode::MessageTooLarge),
        Answer::after_append(ErrorCode::RequestTimedOut),
    ]);
    let ids = world.send_many(12);
    world.settle();
    world.assert_written(&ids);
    assert_eq!(world.log()[1..], ids);
    world.end();
}

#[test]
fn a_child_that_fails_for_good_breaks_the_sequence_behind_it_only() {
    // A19
    let mut world = wide(Codec::None);
    world
        .script([Answer::code(ErrorCode::MessageTooLarge), Answer::code(ErrorCode::InvalidRecord)]);
    let ids = world.send_many(12);
    world.settle();
    assert!(ids[..6].iter().all(|id| world.fate(*id) == Fate::NotWritten));
    world.assert_written(&ids[6..]);
    assert_eq!(world.metric(|it| it.epoch_bumps), 1);
    world.end();
}

#[test]
fn a_batch_that_may_be_in_the_log_is_never_split() {
    // A19, S3
    let mut world = wide(Codec::None);
    world.script([
        Answer::after_append(ErrorCode::RequestTimedOut),
        Answer::code(ErrorCode::MessageTooLarge),
    ]);
    let ids = world.send_many(4);
    world.settle();
    assert_eq!(world.fate(ids[0]), Fate::Unknown);
    assert_eq!(world.metric(|it| it.splits), 0);
    world.end();
}

#[test]
fn a_split_among_five_in_flight_keeps_order() {
    // A19, S4
    for place in 0..5 {
        let mut world = World::with(1, 1, |config| {
            config.batch_size = 200;
            config.linger = Duration::from_millis(1);
        });
        world.send();
        world.settle();
        let good = std::iter::repeat_n(Answer::code(ErrorCode::None), place);
        world.script(good.chain([Answer::code(ErrorCode::MessageTooLarge)]));
        let topic = world.topic("t");
        let ids: Vec<u64> = (0..30).map(|_| world.send_on(&topic, Some(0), 30)).collect();
        world.settle();
        assert_eq!(world.log()[1..], ids);
        assert_eq!(world.metric(|it| it.splits), 1);
        world.end();
    }
}

#[test]
fn a_batch_still_with_its_codec_when_the_line_breaks_goes_under_the_new_epoch() {
    let mut world = World::with(1, 1, |config| config.compression_type = Codec::Lz4);
    world.send();
    world.settle();
    world.script([Answer::code(ErrorCode::InvalidRecord)]);
    let first = world.send();
    world.run(2);
    world.net.compress = Duration::from_millis(300);
    let ids = world.send_many(4);
    world.settle();
    assert_eq!(world.fate(first), Fate::NotWritten);
    world.assert_written(&ids);
    world.end();
}

#[test]
fn a_refusal_of_every_epoch_is_not_asked_without_pause() {
    // C6, P21
    let mut world = ready();
    world.script([Answer::code(ErrorCode::InvalidProducerEpoch); 10]);
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert!(world.ms() > 5000, "ten refusals were asked with backoff: {} ms", world.ms());
    world.end();
}

#[test]
fn fatal_codes_end_the_producer_and_stay() {
    for code in [ErrorCode::ClusterAuthorizationFailed, ErrorCode::ProducerFenced] {
        let mut world = World::with(1, 2, |_| {});
        world.send_to("t", Some(0));
        world.send_to("t", Some(1));
        world.settle();
        world.script([Answer::code(code)]);
        let ids: Vec<u64> = (0..8).map(|at| world.send_to("t", Some(at % 2))).collect();
        world.settle();
        assert_eq!(world.producer.fatal(), Some(code));
        assert_eq!(world.fate(ids[0]), Fate::NotWritten);
        assert_eq!(world.cause(ids[7]), Cause::Fatal(code));
        let late = world.send();
        assert!(world.records[late as usize].refused.is_some());
        let elsewhere = world.send_to("other", Some(0));
        assert!(world.records[elsewhere as usize].refused.is_some());
        world.end();
    }
}

#[test]
fn a_producer_id_that_comes_late_does_not_revive_a_producer_that_ended() {
    // E15 for the identity: Fatal is absorbing.
    let mut world = World::with(2, 4, |_| {});
    world.model.first_epoch = i16::MAX;
    for at in 0..4 {
        world.send_to("t", Some(at));
    }
    world.settle();
    // The first partition needs a new id, whose answer is slow; another ends the producer.
    for node in 1..=2 {
        world.node(node).react(ApiKey::InitProducerId, [Reaction::Delay(500)]);
    }
    world.script([Answer::code(ErrorCode::InvalidRecord)]);
    world.send_many(2);
    world.run_until(200, |world| world.count(ApiKey::InitProducerId) == 2);
    let asked = world.model.seen.last().expect("just now").node;
    // Partition 2 is led by broker 1, partition 3 by broker 2.
    let elsewhere = if asked == 1 { 3 } else { 2 };
    let answers = world.model.answers.entry(("t".into(), elsewhere)).or_default();
    answers.push_back(Answer::code(ErrorCode::ProducerFenced));
    world.send_to("t", Some(elsewhere));
    world.run(100);
    assert_eq!(world.producer.fatal(), Some(ErrorCode::ProducerFenced));
    world.run(2000);
    assert_eq!(world.producer.fatal(), Some(ErrorCode::ProducerFenced));
    world.end();
}

#[test]
fn producer_id_errors_are_retried_or_fatal() {
    let mut world = World::new();
    let later = Reaction::Error(ErrorCode::CoordinatorNotAvailable);
    world.node(1).react(ApiKey::InitProducerId, [later.clone(), later, Reaction::CloseBefore]);
    let id = world.send();
    world.settle();
    world.assert_written(&[id]);
    assert_eq!(world.count(ApiKey::InitProducerId), 4);
    world.end();

    let mut world = World::new();
    world.react(ApiKey::InitProducerId, Reaction::Error(ErrorCode::ClusterAuthorizationFailed));
    let id = world.send();
    world.run(1000);
    assert_eq!(world.producer.fatal(), Some(ErrorCode::ClusterAuthorizationFailed));
    if world.records[id as usize].delivery.is_some() {
        assert_eq!(world.fate(id), Fate::NotWritten);
    }
    world.end();
}

#[test]
fn what_a_split_taught_is_kept_for_the_partitions_later_batches() {
    // C8
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = wide(codec);
        world.model.max_batch = 200;
        let topic = world.topic("t");
        let mut wave = || {
            let ids: Vec<u64> = (0..40).map(|_| world.send_on(&topic, Some(0), 60)).collect();
            world.settle();
            world.assert_written(&ids);
            world.metric(|it| it.splits)
        };
        let learnt = wave();
        assert!(learnt >= 3, "there was something to learn");
        assert_eq!([wave(), wave()], [learnt; 2], "{codec:?}: batches are split again");
        world.end();
    }
}
