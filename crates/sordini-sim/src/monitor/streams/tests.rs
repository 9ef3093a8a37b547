//! The wire monitor by itself: what a producer must not send is flagged.

use super::*;
use crate::history::Shape;

const TP: Tp = (0, 0);
const BACKOFF: Duration = Duration::from_millis(100);

/// A producer that sends batches of one record, as it is told.
struct Story {
    streams: Streams,
    history: History,
    now: Instant,
    correlation: i32,
}

impl Story {
    fn new() -> Self {
        let mut history = History::default();
        for id in 0..20 {
            assert_eq!(history.invoke(Instant::ZERO, 0, 0, None, Shape::default()), id);
            history.accept(id, Instant::ZERO, 0);
        }
        let now = Instant::from_millis(1000);
        Self { streams: Streams::default(), history, now, correlation: 0 }
    }

    fn batch(id: u64, epoch: i16, base_sequence: i32) -> Sent {
        let bytes = Bytes::from(vec![id as u8; 4]);
        let topic_id = Uuid::ZERO;
        Sent {
            tp: TP,
            topic_id,
            producer_id: 7,
            epoch,
            base_sequence,
            ids: vec![id],
            first: id,
            bytes,
            led: false,
            transactional: false,
            guarded: false,
        }
    }

    /// Sends a batch; the invariants that this breaks.
    fn send(&mut self, batch: &Sent) -> Vec<&'static str> {
        let shown = self.streams.sent(self.now, 1, BACKOFF, batch, &self.history);
        self.correlation += 1;
        self.streams.in_flight((1, self.correlation), &mut [batch.clone()]);
        shown.wrong.into_iter().map(|(invariant, _)| invariant).collect()
    }

    fn answer(&mut self, correlation: i32, batch: &Sent, code: ErrorCode) {
        let batch = std::slice::from_ref(batch);
        self.streams.answered(self.now, (1, correlation), batch, &[code]);
    }

    /// The record has its outcome.
    fn settle(&mut self, id: u64) {
        let done = crate::history::Done::Failed { definite: true, text: String::new() };
        assert!(self.history.complete(id, self.now, done));
    }

    /// The first batch was sent and acknowledged.
    fn proven() -> Self {
        let mut story = Self::new();
        let first = Self::batch(0, 0, 0);
        assert_eq!(story.send(&first), [""; 0]);
        story.answer(1, &first, ErrorCode::None);
        story.settle(0);
        story
    }
}

#[test]
fn s2_a_gap_in_the_sequences_is_flagged() {
    let mut story = Story::proven();
    assert_eq!(story.send(&Story::batch(1, 0, 2)), ["S2"]);
    assert_eq!(Story::proven().send(&Story::batch(1, 1, 1)), ["S2"], "a new epoch begins at 0");
    assert_eq!(after(i32::MAX, 1), 0);
}

#[test]
fn s3_a_retransmission_with_other_bytes_is_flagged() {
    let mut story = Story::proven();
    let batch = Story::batch(1, 0, 1);
    assert_eq!(story.send(&batch), [""; 0]);
    assert_eq!(story.send(&batch), [""; 0], "the same bytes may go again");
    let other = Sent { bytes: Bytes::from_static(b"else"), ..batch };
    assert_eq!(story.send(&other)[0], "S3");
}

#[test]
fn s3_children_replace_a_batch_only_if_it_was_refused_as_too_large() {
    let bytes = Bytes::from_static(b"both");
    let parent = Sent { ids: vec![1, 2], bytes, ..Story::batch(1, 0, 1) };
    let halves = [Story::batch(1, 0, 1), Story::batch(2, 0, 2)];
    let mut story = Story::proven();
    assert_eq!(story.send(&parent), [""; 0]);
    assert_eq!(story.send(&halves[0])[0], "S3");

    let mut story = Story::proven();
    assert_eq!(story.send(&parent), [""; 0]);
    story.answer(2, &parent, ErrorCode::MessageTooLarge);
    for half in &halves {
        assert_eq!(story.send(half), [""; 0]);
    }
    assert_eq!(story.send(&Story::batch(3, 0, 3)), [""; 0], "what follows goes on behind them");
}

#[test]
fn p21_the_oldest_batch_on_its_way_leads_whatever_is_behind_it() {
    let mut story = Story::proven();
    let mut leads = |correlation: i32, id: u64, epoch: i16| {
        let mut sent = [Story::batch(id, epoch, 0)];
        story.streams.in_flight((1, correlation), &mut sent);
        sent[0].led
    };
    assert!(leads(10, 3, 0));
    assert!(!leads(11, 4, 0), "behind 3");
    assert!(leads(12, 2, 0), "sent again before both");
    assert!(!leads(13, 3, 0), "behind 2, on another connection too");
    assert!(leads(14, 5, 1), "nothing older has its epoch");
    let again = Story::batch(2, 0, 0);
    story.answer(12, &again, ErrorCode::NotLeaderOrFollower);
    let mut sent = [Story::batch(3, 0, 0)];
    story.streams.in_flight((2, 1), &mut sent);
    assert!(sent[0].led, "2 has landed");
}

#[test]
fn s4_two_batches_before_the_first_acknowledgement_are_flagged() {
    let mut story = Story::new();
    assert_eq!(story.send(&Story::batch(0, 0, 0)), [""; 0]);
    assert_eq!(story.send(&Story::batch(1, 0, 1)), ["S4"]);
}

#[test]
fn s4_a_sixth_batch_from_the_oldest_unresolved_on_is_flagged() {
    let mut story = Story::proven();
    for id in 1..=5 {
        assert_eq!(story.send(&Story::batch(id, 0, id as i32)), [""; 0]);
    }
    // Those behind the oldest do not count less for being acknowledged.
    for id in 2..=5 {
        story.answer(id as i32 + 1, &Story::batch(id, 0, id as i32), ErrorCode::None);
        story.settle(id);
    }
    assert_eq!(story.send(&Story::batch(6, 0, 6)), ["S4"]);

    let mut story = Story::proven();
    for id in 1..=5 {
        assert_eq!(story.send(&Story::batch(id, 0, id as i32)), [""; 0]);
    }
    story.settle(1);
    assert_eq!(story.send(&Story::batch(6, 0, 6)), [""; 0]);
}

#[test]
fn p7_a_retry_before_its_backoff_is_flagged() {
    let mut story = Story::proven();
    let batch = Story::batch(1, 0, 1);
    assert_eq!(story.send(&batch), [""; 0]);
    story.answer(2, &batch, ErrorCode::NotEnoughReplicas);
    story.now = story.now.saturating_add(BACKOFF / 10 * 7);
    assert_eq!(story.send(&batch), ["P7"]);
    story.answer(3, &batch, ErrorCode::NotEnoughReplicas);
    story.now = story.now.saturating_add(BACKOFF);
    assert_eq!(story.send(&batch), [""; 0]);
}
