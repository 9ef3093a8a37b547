//! One line by itself: what may go next, and under which stamp.

use std::sync::Arc;

use super::*;
use crate::batch::BatchId;
use crate::batch::body::Body;
use crate::batch::completion::BatchCompletion;
use crate::batch::stages::{Compressing, JobId, Meta, Ready};
use crate::config::Codec;
use crate::error::Obstacle;

const SOON: Duration = Duration::from_millis(100);

/// A line with a clock and names for batches and requests.
struct Story {
    line: Line,
    now: Instant,
    batches: u64,
    requests: u64,
}

fn batch(id: u64, records: u32) -> Slot {
    let meta = Meta {
        uncompressed: 0,
        id: BatchId(id),
        opened: Instant::ZERO,
        records: 0..records,
        completion: Arc::new(BatchCompletion::new(0)),
        base_timestamp: 0,
        max_timestamp: 0,
        attempts: 0,
        ambiguous: false,
        obstacle: Obstacle::NoAnswer,
    };
    Slot::Ready(Ready { meta, codec: Codec::None, body: Arc::new(Body(Vec::new())) })
}

fn identity(epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: 7, epoch }
}

impl Story {
    fn new(idempotent: bool) -> Self {
        let line = Line::new(idempotent, 5);
        Self { line, now: Instant::from_millis(1000), batches: 0, requests: 0 }
    }

    /// Of batches of transactions.
    fn transactional() -> Self {
        let story = Self::new(true);
        Self { line: story.line.in_transactions(), ..story }
    }

    /// Claimed, and acknowledged once.
    fn proven() -> Self {
        let mut story = Self::new(true);
        story.line.claim(identity(0), story.now);
        story.push(10);
        story.send();
        story.line.acknowledge(0, Some(0), story.now);
        story
    }

    fn push(&mut self, records: u32) {
        self.batches += 1;
        self.line.push(batch(self.batches, records));
    }

    /// Sends whatever may go, one batch; its stamp.
    fn send(&mut self) -> Option<Stamp> {
        let place = self.line.next_to_send(self.now)?;
        self.requests += 1;
        let request = RequestId(self.requests);
        let sent = self.line.send(place, request, self.now);
        let (stamp, key) = (sent.stamp, sent.meta.key());
        self.line.begin(key, request);
        Some(stamp)
    }

    fn send_all(&mut self) -> Vec<(i16, i32)> {
        let stamps = std::iter::from_fn(|| self.send());
        stamps.map(|stamp| (stamp.epoch, stamp.base_sequence)).collect()
    }

    /// The batch at `place` got an answer that lets it be tried again.
    fn refuse(&mut self, place: usize, ambiguous: bool) {
        self.line.slot_mut(place).meta_mut().expect("it has its records").ambiguous |= ambiguous;
        self.line.retry_at(place, self.now.saturating_add(SOON));
    }

    fn wait(&mut self) {
        self.now = self.now.saturating_add(SOON);
    }
}

#[test]
fn sequences_wrap_to_0() {
    // A10
    assert_eq!(advance(0, 5), 5);
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 2, 5), 2);
    assert_eq!(advance(i32::MAX, i32::MAX as u32), i32::MAX - 1);
}

#[test]
fn base_sequences_are_contiguous() {
    // S2
    let mut story = Story::proven();
    for records in [3, 1, 7] {
        story.push(records);
    }
    assert_eq!(story.send_all(), [(0, 10), (0, 13), (0, 14)]);
    assert_eq!(
        story.line.slots().iter().map(|slot| slot.key().batch.0).collect::<Vec<_>>(),
        [2, 3, 4]
    );
    story.push(2);
    assert_eq!(story.send_all(), [(0, 21)]);
}

#[test]
fn a_first_sequence_near_the_end_runs_over_it_and_only_the_first_begins_there() {
    // A10
    let mut story = Story::new(true);
    story.line = story.line.starting_at(i32::MAX - 1);
    story.line.claim(identity(0), story.now);
    story.push(3);
    assert_eq!(story.send_all(), [(0, i32::MAX - 1)]);
    story.line.acknowledge(0, Some(0), story.now);
    story.push(1);
    assert_eq!(story.send_all(), [(0, 1)]);
    story.line.fail(0);
    story.line.claim(identity(1), story.now);
    story.push(1);
    assert_eq!(story.send_all(), [(1, 0)]);
}

#[test]
fn a_line_tells_what_it_is_stamped_with_and_how_far_its_log_reached() {
    let mut story = Story::new(true);
    assert_eq!((story.line.identity(), story.line.last_offset()), (None, None));
    story.line.claim(identity(3), story.now);
    for _ in 0..2 {
        story.push(1);
        story.send();
        story.line.acknowledge(0, Some(40), story.now);
    }
    assert_eq!((story.line.identity(), story.line.last_offset()), (Some(identity(3)), Some(40)));
    story.push(1);
    story.push(1);
    story.send_all();
    story.line.acknowledge(1, Some(42), story.now);
    story.line.acknowledge(0, None, story.now);
    assert_eq!(story.line.last_offset(), Some(42), "a duplicate's offset is not told");
    story.line.break_sequence();
    assert_eq!(story.line.identity(), Some(identity(3)));
    assert_eq!(Line::new(false, 5).identity(), None);
}

#[test]
fn a_line_without_a_batch_that_waits_has_no_deadline() {
    let mut story = Story::proven();
    assert_eq!(story.line.next_retry(), None);
    story.push(1);
    assert_eq!(story.line.next_retry(), None);
    story.send();
    assert_eq!(story.line.next_retry(), None);
}

#[test]
fn a_broken_line_asks_again_for_what_is_bound_without_waiting_for_the_rest() {
    // A8
    let mut story = Story::proven();
    story.push(1);
    story.push(1);
    story.send_all();
    story.refuse(1, true);
    let soon = story.now.saturating_add(SOON);
    story.line.renew(0, soon.saturating_add(SOON), false);
    assert_eq!(story.line.next_retry(), Some(soon));
}

#[test]
fn a_line_without_an_identity_takes_one_batch_and_sends_none() {
    let mut story = Story::new(true);
    assert!(story.line.has_room() && story.line.needs_identity(story.now));
    story.push(1);
    assert!(!story.line.has_room());
    assert_eq!(story.send(), None);
    story.line.claim(identity(3), story.now);
    assert_eq!(story.send_all(), [(3, 0)]);
}

#[test]
fn one_goes_alone_until_it_is_acknowledged() {
    // S4, A4
    let mut story = Story::new(true);
    story.line.claim(identity(0), story.now);
    story.push(1);
    story.send();
    assert!(!story.line.has_room());
    story.line.acknowledge(0, Some(0), story.now);
    for _ in 0..5 {
        assert!(story.line.has_room());
        story.push(1);
    }
    assert!(!story.line.has_room(), "never a sixth");
    assert_eq!(story.send_all().len(), 5);
}

#[test]
fn a_line_that_was_idle_for_long_goes_alone_again() {
    // S4, A16: the broker may have forgotten the producer.
    for waiting in [1, 3] {
        let mut story = Story::proven();
        for _ in 0..waiting {
            story.push(1);
        }
        story.now = story.now.saturating_add(FORGOTTEN_AFTER + SOON);
        assert_eq!(story.send_all(), [(0, 10)]);
        assert!(!story.line.has_room());
        story.line.acknowledge(0, Some(1), story.now);
        assert_eq!(story.send_all().len(), waiting - 1);
    }
    let mut story = Story::proven();
    story.push(1);
    story.push(1);
    story.now = story.now.saturating_add(FORGOTTEN_AFTER);
    assert_eq!(story.send_all().len(), 2, "not yet");
}

#[test]
fn what_was_sent_goes_again_before_anything_new_and_by_itself() {
    // A1
    let mut story = Story::proven();
    for _ in 0..4 {
        story.push(1);
    }
    story.send_all();
    for place in 0..3 {
        story.refuse(place, true);
    }
    assert_eq!(story.send(), None, "in backoff");
    assert_eq!(story.line.next_retry(), Some(story.now.saturating_add(SOON)));
    assert!(!story.line.has_room());
    story.wait();
    assert_eq!(story.send_all(), [(0, 10)], "only the head");
    story.line.acknowledge(0, Some(1), story.now);
    assert_eq!(story.send_all(), [(0, 11)]);
}

#[test]
fn what_was_never_sent_does_not_pass_a_retry_in_flight() {
    // A1
    let mut story = Story::proven();
    for _ in 0..3 {
        story.push(1);
    }
    story.send();
    story.refuse(0, false);
    story.wait();
    assert_eq!(story.send_all(), [(0, 10)]);
    assert!(!story.line.has_room());
    story.line.acknowledge(0, Some(1), story.now);
    assert_eq!(story.send_all(), [(0, 11), (0, 12)]);
}

#[test]
fn a_batch_that_was_refused_behind_the_head_waits_for_it() {
    // A2
    let mut story = Story::proven();
    story.push(1);
    story.push(1);
    story.send_all();
    assert!(story.line.has_led(0) && !story.line.has_led(1));
    story.refuse(1, false);
    story.wait();
    assert_eq!(story.send(), None);
    story.line.acknowledge(0, Some(1), story.now);
    assert_eq!(story.send_all(), [(0, 11)]);
    assert!(story.line.has_led(0), "now it tells");
}

#[test]
fn a_failure_ends_the_epoch_once_what_is_bound_to_it_is_resolved() {
    // A6, A8
    let mut story = Story::proven();
    for _ in 0..4 {
        story.push(1);
    }
    story.send_all();
    story.refuse(1, true);
    story.refuse(2, false);
    story.line.fail(0);
    assert!(story.line.is_broken() && !story.line.has_room());
    // Now the ambiguous one is first, the refused one behind it, the last in flight.
    assert!(!story.line.needs_identity(story.now));
    story.wait();
    assert_eq!(story.send_all(), [(0, 11)], "under its old stamp");
    assert!(story.line.has_led(0));
    story.line.acknowledge(0, Some(1), story.now);
    assert!(!story.line.needs_identity(story.now), "the last is in flight");
    assert!(!story.line.has_led(1), "its answer says nothing of the broker's state");
    assert_eq!(story.send(), None);
    story.line.renew(1, story.now.saturating_add(SOON), false);
    assert_eq!(story.line.next_retry(), Some(story.now.saturating_add(SOON)));
    assert!(!story.line.needs_identity(story.now), "not without a pause");
    story.wait();
    story.line.claim(identity(1), story.now);
    assert_eq!(story.send_all(), [(1, 0)], "the refused ones anew, one by one");
    story.line.acknowledge(0, Some(2), story.now);
    assert_eq!(story.send_all(), [(1, 1)]);
}

#[test]
fn a_batch_that_was_never_sent_fails_without_a_trace() {
    // A5
    let mut story = Story::proven();
    story.push(4);
    story.line.fail(0);
    assert!(!story.line.is_broken());
    story.push(1);
    assert_eq!(story.send_all(), [(0, 10)]);
}

#[test]
fn an_expired_batch_holds_its_place_until_it_is_answered() {
    // A6, B1
    let mut story = Story::proven();
    story.push(1);
    story.push(1);
    story.send_all();
    story.line.expire_in_flight(0);
    story.refuse(1, false);
    story.wait();
    assert!(!story.line.has_room());
    assert_eq!(story.send(), None);
    // It was written after all: the sequence goes on.
    story.line.acknowledge(0, Some(1), story.now);
    assert!(!story.line.is_broken());
    assert_eq!(story.send_all(), [(0, 11)]);
}

#[test]
fn an_expired_batch_that_was_refused_breaks_the_sequence() {
    // A6
    let mut story = Story::proven();
    story.push(1);
    story.send_all();
    story.line.expire_in_flight(0);
    assert!(!story.line.needs_identity(story.now));
    story.line.fail(0);
    assert!(story.line.is_broken() && story.line.needs_identity(story.now));
}

#[test]
fn a_new_epoch_of_a_known_id_needs_no_probing_and_of_an_unknown_one_it_does() {
    // A4, A9
    let acknowledged = |forgotten: bool, id: i64, proven: bool| {
        let mut story = if proven { Story::proven() } else { Story::new(true) };
        if !proven {
            story.line.claim(identity(0), story.now);
        }
        story.push(1);
        story.send_all();
        story.line.renew(0, story.now, forgotten);
        story.line.claim(ProducerIdentity { id, epoch: 1 }, story.now);
        story.line.is_proven()
    };
    assert!(acknowledged(false, 7, true));
    assert!(!acknowledged(true, 7, true), "the broker said that it knows nothing");
    assert!(!acknowledged(false, 8, true), "another id");
    assert!(!acknowledged(false, 7, false), "nothing was ever acknowledged");
}

#[test]
fn a_brokers_guard_says_nothing_of_an_epoch_of_the_old_protocol() {
    // A4, E1: nothing was acknowledged when the protocol changed
    let mut story = Story::transactional();
    story.line.claim_guarded(identity(0), story.now);
    assert!(!story.line.is_proven());
    story.line.claim(identity(1), story.now);
    story.push(1);
    assert_eq!(story.send_all(), [(1, 0)]);
    assert!(!story.line.has_room(), "the first goes alone");
    story.line.acknowledge(0, Some(0), story.now);
    assert!(story.line.is_proven() && story.line.has_room());
}

#[test]
fn a_late_acknowledgement_proves_a_broken_line() {
    // A4
    let mut story = Story::new(true);
    story.line.claim(identity(0), story.now);
    story.push(1);
    story.send_all();
    story.line.expire_in_flight(0);
    story.line.break_sequence();
    story.line.acknowledge(0, Some(0), story.now);
    story.line.claim(identity(1), story.now);
    assert!(story.line.is_proven());
}

#[test]
fn children_take_their_parents_place_and_go_one_by_one() {
    // A19
    let mut story = Story::proven();
    story.push(4);
    story.push(1);
    story.send_all();
    let Slot::InFlight { batch: parent, .. } = story.line.remove(0) else { panic!("in flight") };
    let child = |first: u32, base_sequence: i32| {
        let Slot::Ready(mut child) = batch(2, 0) else { unreachable!() };
        child.meta.records = first..first + 2;
        child.meta.attempts = 1;
        let batch = child.stamp(Stamp { base_sequence, ..parent.stamp });
        Slot::Waiting { batch, not_before: story.now }
    };
    let halves = [child(0, 10), child(2, 12)];
    story.line.insert(0, halves);
    assert_eq!(story.send_all(), [(0, 10)]);
    story.line.acknowledge(0, Some(1), story.now);
    assert_eq!(story.send_all(), [(0, 12)]);
    story.line.acknowledge(0, Some(3), story.now);
    story.push(1);
    assert_eq!(story.send_all(), [(0, 15)]);
}

/// What a codec made of the batch `id`.
fn packed(id: u64) -> Compressed {
    let id = JobId { topic: 0, partition: 0, batch: BatchId(id) };
    Compressed { id, body: Body(Vec::new()), codec: Codec::Lz4, failure: None }
}

#[test]
fn a_batch_that_a_codec_works_on_is_not_passed() {
    let mut story = Story::proven();
    let Slot::Ready(Ready { meta, .. }) = batch(9, 2) else { unreachable!() };
    story.line.push(Slot::Compressing(Compressing { meta }));
    story.push(1);
    assert_eq!(story.send(), None);
    story.line.compressed(0, packed(9));
    assert!(matches!(&story.line.slots()[0], Slot::Ready(batch) if batch.codec == Codec::Lz4));
    assert_eq!(story.send_all(), [(0, 10), (0, 12)]);
}

#[test]
#[should_panic(expected = "S1")]
fn a_batch_does_not_come_back_from_a_codec_twice() {
    let mut story = Story::proven();
    story.push(1);
    story.line.compressed(0, packed(2));
}

#[test]
fn a_plain_line_keeps_its_window_and_its_order() {
    let mut story = Story::new(false);
    assert!(!story.line.needs_identity(story.now));
    for _ in 0..5 {
        story.push(1);
    }
    assert!(!story.line.has_room());
    assert_eq!(story.send_all(), [(-1, -1); 5]);
    story.line.acknowledge(2, Some(2), story.now);
    assert!(story.line.has_room(), "without sequences the broker remembers none");
    story.push(1);
    assert_eq!(story.send_all(), [(-1, -1)]);
    story.refuse(0, false);
    story.wait();
    assert_eq!(story.send_all(), [(-1, -1)]);
    story.line.fail(0);
    assert!(!story.line.is_broken());
    assert!(story.line.has_room());
}

#[test]
fn a_line_that_ends_hands_back_each_batch_in_order() {
    let mut story = Story::proven();
    for _ in 0..3 {
        story.push(1);
    }
    story.send();
    let batches: Vec<_> = story.line.drain().iter().map(|slot| slot.key().batch.0).collect();
    assert_eq!(batches, [2, 3, 4]);
    assert!(story.line.is_empty());
}

#[test]
#[should_panic(expected = "S4")]
fn a_batch_beyond_the_window_is_a_defect() {
    let mut story = Story::new(true);
    story.push(1);
    story.push(1);
}

#[test]
#[should_panic(expected = "S2")]
fn a_claim_without_need_is_a_defect() {
    let mut story = Story::proven();
    story.line.claim(identity(1), story.now);
}

#[test]
fn what_is_acknowledged_behind_an_open_batch_counts_in_the_window() {
    // S4: the broker remembers five; a sixth would push the first out, whose answer may be lost.
    let mut story = Story::proven();
    for _ in 0..5 {
        story.push(1);
    }
    story.send_all();
    for place in (1..5).rev() {
        story.line.acknowledge(place, Some(place as i64), story.now);
    }
    assert!(!story.line.has_room());
    assert!(!story.line.is_empty());
    story.line.acknowledge(0, Some(1), story.now);
    assert!(story.line.is_empty() && story.line.has_room());
}

#[test]
fn what_is_acknowledged_does_not_narrow_a_smaller_window() {
    let mut story = Story::proven();
    story.line.window = 2;
    story.push(1);
    story.push(1);
    story.send_all();
    assert!(!story.line.has_room());
    story.line.acknowledge(1, Some(2), story.now);
    assert!(story.line.has_room());
    story.push(1);
    assert_eq!(story.send_all(), [(0, 12)]);
}

#[test]
fn an_ambiguous_batch_behind_one_that_waits_for_the_new_epoch_is_still_asked_for() {
    // A8: its answer is what the new epoch waits for.
    let mut story = Story::proven();
    story.push(1);
    story.push(1);
    story.send_all();
    story.refuse(1, true);
    story.line.renew(0, story.now, false);
    story.wait();
    assert!(!story.line.needs_identity(story.now));
    assert_eq!(story.send_all(), [(0, 11)]);
    assert!(story.line.has_led(1));
    story.line.fail(1);
    story.line.claim(identity(1), story.now);
    assert_eq!(story.send_all(), [(1, 0)]);
}

#[test]
fn a_new_epoch_does_not_cut_a_backoff_short() {
    let mut story = Story::proven();
    story.push(3);
    story.push(4);
    assert_eq!(story.send_all().len(), 2);
    story.line.fail(0);
    story.refuse(0, false);
    assert!(!story.line.needs_identity(story.now), "what was refused would go again at once");
    assert_eq!(story.line.next_retry(), Some(story.now.saturating_add(SOON)));
    story.wait();
    assert!(story.line.needs_identity(story.now));
    story.line.claim(identity(1), story.now);
    assert_eq!(story.send_all(), [(1, 0)]);
}

#[test]
fn what_was_refused_goes_alone_under_its_new_epoch_too() {
    let mut story = Story::proven();
    story.push(1);
    story.send();
    story.line.renew(0, story.now, false);
    story.line.claim(identity(1), story.now);
    assert!(story.line.is_proven() && !story.line.has_room());
    assert_eq!(story.send_all(), [(1, 0)]);
    assert!(!story.line.has_room());
    story.line.acknowledge(0, Some(1), story.now);
    assert!(story.line.has_room());
}
