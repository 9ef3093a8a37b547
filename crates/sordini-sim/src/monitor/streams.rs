//! Sequences, retransmissions and windows, by partition and producer id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use sordini_core::time::Instant;
use sordini_protocol::{ErrorCode, Uuid};

use super::Sent;
use crate::history::{History, Tp};

/// A broker remembers so many batches of a producer and partition.
const REMEMBERED: usize = 5;

/// More retries in a row without a pause than elections explain.
const MOST_AT_ONCE: u32 = 4;

/// A partition of a topic id; the id is zero where requests name topics.
type Home = (Tp, Uuid);

/// A partition of a topic id, under one producer id and epoch.
type Stream = (Tp, Uuid, i64, i16);

/// What was sent under one stream.
#[derive(Debug, Default)]
struct Line {
    next: i32,
    /// By base sequence: how many records, and the bytes.
    batches: BTreeMap<i32, (u32, Bytes)>,
    /// Batches that were refused as too large, to be covered by children.
    split: Vec<(i32, u32)>,
    life: Life,
}

/// Whether the partition is the one that the line began in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Life {
    #[default]
    Same,
    /// Another may have come under its name.
    PerhapsOver,
}

/// When and where a batch was last sent, and last refused.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    node: i32,
    /// Producer id, epoch and sequence.
    stamp: (i64, i16, i32),
    /// The answer.
    code: i16,
    refused: Option<Instant>,
    /// How often in a row it was sent again at once, to a leader that had just been told of.
    at_once: u32,
}

/// What a transmission showed.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The same bytes as before.
    pub(super) again: bool,
    /// A child of a batch that was too large.
    pub(super) child: bool,
    /// What else it is, by its name in the coverage.
    pub(super) met: Vec<&'static str>,
    pub(super) wrong: Vec<(&'static str, String)>,
}

/// Batches of a partition in the order of their records: the place of the first, its records,
/// producer id and epoch.
type Order = Vec<(u64, Vec<u64>, i64, i16)>;

#[derive(Debug, Default)]
pub(super) struct Streams {
    lines: BTreeMap<Stream, Line>,
    order: BTreeMap<Home, Order>,
    in_flight: BTreeMap<(u64, i32), Vec<(Stream, u64)>>,
    /// The first records of those on their way.
    flying: BTreeMap<Stream, Vec<u64>>,
    acknowledged: BTreeSet<(Home, i64)>,
    too_large: BTreeSet<(Stream, i32)>,
    /// By partition and the first record's place.
    attempts: BTreeMap<(Tp, u64), Attempt>,
    /// What a producer's first sequence of a partition begins at; later epochs begin at 0.
    first: i32,
}

/// The sequence behind `count` records from `base` on: it wraps to 0 (bugs: A10).
fn after(base: i32, count: u32) -> i32 {
    (base.wrapping_add(count.cast_signed())) & i32::MAX
}

impl Streams {
    pub(super) fn beginning_at(first: i32) -> Self {
        Self { first, ..Self::default() }
    }

    pub(super) fn sent(
        &mut self,
        now: Instant,
        node: i32,
        backoff: Duration,
        batch: &Sent,
        history: &History,
    ) -> Shown {
        let mut shown = Shown::default();
        self.check_backoff(now, node, backoff, batch, &mut shown);
        if batch.producer_id >= 0 {
            self.check_sequence(batch, &mut shown);
            if !shown.again {
                self.check_window(batch, history, &mut shown);
            }
        }
        shown
    }

    /// A batch that a node refused goes to that node again only after a pause.
    fn check_backoff(
        &mut self,
        now: Instant,
        node: i32,
        backoff: Duration,
        batch: &Sent,
        shown: &mut Shown,
    ) {
        let stamp = (batch.producer_id, batch.epoch, batch.base_sequence);
        let attempt = Attempt { node, stamp, code: 0, refused: None, at_once: 0 };
        let Some(last) = self.attempts.insert((batch.tp, batch.first), attempt) else { return };
        if last.stamp != stamp {
            shown.met.push("wire: stamped anew");
        } else if last.node != node {
            shown.met.push("wire: sent again to another node");
        }
        let Some(refused) = last.refused.filter(|_| last.node == node) else { return };
        // A fifth of jitter either way.
        if now.saturating_since(refused) < backoff / 10 * 8 {
            // A transaction that is being completed is done within milliseconds.
            let soon = Duration::from_millis(20).min(backoff) / 10 * 8;
            if last.code == ErrorCode::ConcurrentTransactions.code()
                && now.saturating_since(refused) >= soon
            {
                return;
            }
            // A leader that is news, be it the old one in a new term, is asked at once (KIP-951).
            let moved = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
            if moved.iter().any(|code| code.code() == last.code) && last.at_once < MOST_AT_ONCE {
                if let Some(attempt) = self.attempts.get_mut(&(batch.tp, batch.first)) {
                    attempt.at_once = last.at_once + 1;
                }
                return;
            }
            let after = now.saturating_since(refused);
            let text = format!(
                "{:?}: sent again to node {node} as {stamp:?} {after:?} after node {node} refused it as \
                 {:?} with {}",
                batch.tp, last.stamp, last.code
            );
            shown.wrong.push(("P7", text));
        }
    }

    fn check_sequence(&mut self, batch: &Sent, shown: &mut Shown) {
        let stream = (batch.tp, batch.topic_id, batch.producer_id, batch.epoch);
        let line = self.lines.entry(stream).or_default();
        let (base, count) = (batch.base_sequence, batch.ids.len() as u32);
        let again = line.batches.get(&base).is_some_and(|(_, bytes)| *bytes == batch.bytes);
        if line.life == Life::PerhapsOver && base == 0 && line.next != 0 && !again {
            *line = Line::default();
        }
        if let Some((known, bytes)) = line.batches.get(&base) {
            if *bytes == batch.bytes {
                shown.again = true;
                return;
            }
            let refused = self.too_large.contains(&(stream, base));
            if !refused || count >= *known {
                let text = format!("{stream:?}: sequence {base} again with other bytes");
                shown.wrong.push(("S3", text));
            }
            shown.child = true;
            line.split.push((base, *known));
        } else if base == line.next || (line.batches.is_empty() && base == self.first) {
            line.next = after(base, count);
        } else {
            let covered = |(first, known): &(i32, u32)| {
                let offset = (base.wrapping_sub(*first) & i32::MAX).cast_unsigned();
                offset.checked_add(count).is_some_and(|end| end <= *known)
            };
            shown.child = line.split.iter().any(covered);
            if !shown.child {
                let next = line.next;
                let text = format!("{stream:?}: sequence {base} where {next} is next");
                shown.wrong.push(("S2", text));
            }
        }
        if after(base, count) < base {
            shown.met.push("wire: a sequence passed its end");
        }
        line.batches.insert(base, (count, batch.bytes.clone()));
    }

    fn check_window(&mut self, batch: &Sent, history: &History, shown: &mut Shown) {
        let tp = batch.tp;
        let home = (tp, batch.topic_id);
        // A broker without state takes any first sequence of an epoch, so it is one epoch's batches
        // that must not be several; a topic that comes back may have an older epoch's on its way.
        let stream = (tp, batch.topic_id, batch.producer_id, batch.epoch);
        let others = self.flying.get(&stream).map_or(0, Vec::len);
        if others > 0 && !batch.guarded && !self.acknowledged.contains(&(home, batch.producer_id)) {
            let text = format!("{tp:?}: no acknowledgement yet, and {others} others in flight");
            shown.wrong.push(("S4", text));
        }
        let settled = |id: &u64| history.get(*id).is_none_or(|it| it.done.is_some());
        let order = self.order.entry(home).or_default();
        // Children take their parent's place.
        order.retain(|(_, ids, ..)| !ids.iter().any(|id| batch.ids.contains(id)));
        // What is settled before all that is not stays so.
        let old = order.iter().take_while(|(_, ids, ..)| ids.iter().all(settled)).count();
        order.drain(..old);
        let earlier = order.iter().filter(|(first, _, producer_id, epoch)| {
            *first < batch.first && (*producer_id, *epoch) == (batch.producer_id, batch.epoch)
        });
        let since = earlier.skip_while(|(_, ids, ..)| ids.iter().all(settled)).count();
        if since >= REMEMBERED {
            let text = format!("{tp:?}: batch number {} from the oldest unresolved on", since + 1);
            shown.wrong.push(("S4", text));
        }
        order.push((batch.first, batch.ids.clone(), batch.producer_id, batch.epoch));
        order.sort_by_key(|(first, ..)| *first);
    }

    pub(super) fn in_flight(&mut self, key: (u64, i32), batches: &mut [Sent]) {
        let mut sent = Vec::with_capacity(batches.len());
        for batch in batches {
            let stream = (batch.tp, batch.topic_id, batch.producer_id, batch.epoch);
            let flying = self.flying.entry(stream).or_default();
            batch.led = flying.iter().all(|first| *first >= batch.first);
            flying.push(batch.first);
            sent.push((stream, batch.first));
        }
        self.in_flight.insert(key, sent);
    }

    fn landed(&mut self, sent: Vec<(Stream, u64)>) {
        for (stream, first) in sent {
            if let Some(flying) = self.flying.get_mut(&stream)
                && let Some(at) = flying.iter().position(|known| *known == first)
            {
                flying.remove(at);
            }
        }
    }

    /// Returns how many batches were refused before anything of their partition was acknowledged.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        key: (u64, i32),
        batches: &[Sent],
        codes: &[ErrorCode],
    ) -> u64 {
        let mut first = 0;
        let tps = self.in_flight.remove(&key).unwrap_or_default();
        self.landed(tps);
        for (batch, code) in batches.iter().zip(codes) {
            let stream = (batch.tp, batch.topic_id, batch.producer_id, batch.epoch);
            let known = ((batch.tp, batch.topic_id), batch.producer_id);
            first += u64::from(*code != ErrorCode::None && !self.acknowledged.contains(&known));
            match code {
                ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                    self.acknowledged.insert(known);
                    // Older versions name the topic, which is this one as long as it is there.
                    self.acknowledged.insert(((batch.tp, Uuid::ZERO), batch.producer_id));
                    self.attempts.remove(&(batch.tp, batch.first));
                }
                ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
                    self.too_large.insert((stream, batch.base_sequence));
                    self.attempts.remove(&(batch.tp, batch.first));
                }
                // Taking a new epoch is no retry of the same.
                ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch => {
                    self.attempts.remove(&(batch.tp, batch.first));
                }
                _ => {
                    if let Some(attempt) = self.attempts.get_mut(&(batch.tp, batch.first)) {
                        attempt.refused = Some(now);
                        attempt.code = code.code();
                    }
                }
            }
        }
        first
    }

    /// A topic was deleted. Where requests name it, another may come under that name, in which a
    /// sequence begins anew once its producer has heard of it; unless something of the old one is on
    /// its way, which may meet the new one.
    pub(super) fn deleted(&mut self, topic: u16) {
        for (stream, line) in &mut self.lines {
            let (tp, id, ..) = stream;
            let flying = self.flying.get(stream).is_some_and(|flying| !flying.is_empty());
            if tp.0 == topic && *id == Uuid::ZERO && !flying {
                line.life = Life::PerhapsOver;
            }
        }
    }

    pub(super) fn gone(&mut self, conn: u64) {
        let keys = self.in_flight.range((conn, i32::MIN)..=(conn, i32::MAX));
        let keys: Vec<_> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            let tps = self.in_flight.remove(&key).unwrap_or_default();
            self.landed(tps);
        }
    }
}

#[cfg(test)]
mod tests;
