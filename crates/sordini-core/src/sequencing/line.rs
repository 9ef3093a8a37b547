//! The unresolved batches of one partition, in order, and the sequence they are stamped from.
//!
//! S2: per partition and epoch, the base sequences sent are contiguous. S4: a batch is first sent
//! only within five of the oldest unresolved, and alone until the partition's first
//! acknowledgement under a producer id.

use std::collections::VecDeque;
use std::time::Duration;

use sordini_protocol::mutant;

use crate::batch::stages::{Compressed, Stamped};
use crate::sequencing::slot::{RequestId, Slot, SlotKey};
use crate::time::Instant;
use crate::wire::batch_header::Stamp;

/// The broker remembers this many batches of a producer and partition.
pub const REMEMBERED: usize = 5;

/// After so long without a batch the broker may have forgotten the producer
/// (`producer.id.expiration.ms`, a day by default; an hour is on the safe side).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerIdentity {
    /// The id.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// Why several batches may be on their way before the partition has answered the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// They may not: a broker without state would take any of them for the first.
    None,
    /// The broker itself holds a producer that it does not know to sequence 0 (KIP-890). Says
    /// nothing of an epoch of the old protocol.
    Guarded,
    /// The partition acknowledged a batch of this id, so the broker holds state of it.
    Acknowledged,
}

/// How this partition's batches are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sequence {
    /// Not at all: no idempotence.
    Unstamped,
    /// With the producer's identity, once there is one.
    Unclaimed,
    /// From here.
    Claimed { identity: ProducerIdentity, next: i32, proof: Proof },
    /// A batch of this identity failed for good, and left a gap: what was sent is awaited, then
    /// the line takes a new epoch.
    Broken { identity: ProducerIdentity, proof: Proof },
}

/// One partition's line.
#[derive(Debug)]
pub struct Line {
    slots: VecDeque<Slot>,
    sequence: Sequence,
    /// Its batches belong to transactions.
    transactional: bool,
    window: usize,
    last_acknowledged: Instant,
    /// The largest offset that was acknowledged.
    last_offset: Option<i64>,
    /// What the first sequence begins at.
    first: i32,
    /// No new epoch is taken before: a broker that refuses every one must not be asked without
    /// pause.
    not_before: Instant,
}

/// `sequence` plus `count`, wrapping to 0 behind 2^31 - 1.
#[must_use]
pub fn advance(sequence: i32, count: u32) -> i32 {
    if mutant!(M10) {
        return sequence.wrapping_add(count.cast_signed());
    }
    ((sequence as i64 + count as i64) & i32::MAX as i64) as i32
}

impl Line {
    /// A line that keeps up to `window` batches unresolved.
    #[must_use]
    pub fn new(idempotent: bool, window: usize) -> Self {
        let window = if idempotent { window.min(REMEMBERED) } else { window };
        let sequence = if idempotent { Sequence::Unclaimed } else { Sequence::Unstamped };
        Self {
            slots: VecDeque::new(),
            sequence,
            transactional: false,
            window,
            last_acknowledged: Instant::ZERO,
            last_offset: None,
            first: 0,
            not_before: Instant::ZERO,
        }
    }

    /// The same line with a sequence that begins at `first`: a broker takes any from a producer
    /// it does not know, so that what lies near 2^31 is reached in a test.
    #[must_use]
    pub fn starting_at(self, first: i32) -> Self {
        Self { first, ..self }
    }

    /// The same line of a producer whose batches belong to transactions: it takes identities from
    /// their coordinator only.
    #[must_use]
    pub fn in_transactions(self) -> Self {
        Self { transactional: true, ..self }
    }

    /// The unresolved batches, oldest first.
    #[must_use]
    pub fn slots(&self) -> &VecDeque<Slot> {
        &self.slots
    }

    /// Is nothing on its way?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Does the line wait for its sent batches before it takes a new epoch?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.sequence, Sequence::Broken { .. })
    }

    /// May another batch be taken from the lane? (S4)
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.is_broken() && self.is_within_window(self.slots.len()) && !self.is_retrying()
    }

    /// Is the oldest batch one that was sent before and goes again, or is it expired? Until it is
    /// resolved nothing else is sent: what follows it could only be refused, or overtake it.
    fn is_retrying(&self) -> bool {
        match self.slots.front() {
            None | Some(Slot::Compressing(_) | Slot::Acknowledged { .. }) => false,
            Some(Slot::Ready(batch)) => batch.meta.attempts > 0,
            Some(Slot::Waiting { .. } | Slot::Expired { .. }) => true,
            Some(Slot::InFlight { batch, begun, .. }) => batch.meta.attempts > u32::from(*begun),
        }
    }

    /// Adds a batch behind the others.
    ///
    /// # Panics
    /// If there is no room (S4).
    pub fn push(&mut self, slot: Slot) {
        assert!(self.has_room(), "S4: a batch was taken beyond the window");
        self.slots.push_back(slot);
    }

    /// The place of the batch that may be sent now; at most one is ever a candidate, for order's
    /// sake.
    #[must_use]
    pub fn next_to_send(&self, now: Instant) -> Option<usize> {
        let retrying = self.is_retrying();
        for (place, slot) in self.slots.iter().enumerate() {
            match slot {
                Slot::InFlight { .. } | Slot::Expired { .. } | Slot::Acknowledged { .. } => {}
                // What may be re-stamped waits for the new epoch; what is bound to the old one
                // is asked for until it is answered.
                Slot::Waiting { batch, .. } if self.is_broken() && !batch.meta.ambiguous => {}
                Slot::Waiting { not_before, .. } if place == self.oldest_bound() => {
                    return (*not_before <= now).then_some(place);
                }
                Slot::Ready(_) if self.can_stamp() && (place == 0 || !retrying) => {
                    return self.is_within_window(place).then_some(place);
                }
                Slot::Waiting { .. } | Slot::Ready(_) | Slot::Compressing(_) => return None,
            }
        }
        None
    }

    /// When a batch that waits for its backoff may go, or the line may take a new epoch.
    #[must_use]
    pub fn next_retry(&self) -> Option<Instant> {
        if self.is_broken() && !self.slots.iter().any(Slot::is_bound) {
            return Some(self.claim_at());
        }
        match self.slots.get(self.oldest_bound()) {
            Some(Slot::Waiting { not_before, .. }) => Some(*not_before),
            _ => None,
        }
    }

    /// When a broken line may take a new epoch: not before what waits there may go again, since a
    /// new stamp is no reason to ask a broker sooner that just refused.
    fn claim_at(&self) -> Instant {
        let waits = self.slots.iter().filter_map(|slot| match slot {
            Slot::Waiting { not_before, .. } => Some(*not_before),
            _ => None,
        });
        waits.fold(self.not_before, Instant::max)
    }

    /// The place of the oldest batch that the present stamps still count for.
    fn oldest_bound(&self) -> usize {
        if !self.is_broken() {
            return 0;
        }
        self.slots.iter().position(Slot::is_bound).unwrap_or(0)
    }

    /// Was the batch at `place`, which is in flight, the head of the line when its request left?
    /// Only by the answer to such a one can the broker's state be judged: what was sent behind
    /// another may have been refused for that one's sake, though that one is resolved by now.
    #[must_use]
    pub fn has_led(&self, place: usize) -> bool {
        let slot = self.slots.get(place);
        matches!(slot, Some(Slot::InFlight { led: true, .. } | Slot::Expired { led: true, .. }))
    }

    /// May a batch at `place` be on its way, with those before it as they are?
    fn is_within_window(&self, place: usize) -> bool {
        let unresolved = || {
            let before = self.slots.iter().take(place);
            before.filter(|slot| !matches!(slot, Slot::Acknowledged { .. })).count()
        };
        match self.sequence {
            Sequence::Broken { .. } => false,
            Sequence::Unclaimed | Sequence::Claimed { proof: Proof::None, .. } => place == 0,
            Sequence::Claimed { .. } => place < REMEMBERED && unresolved() < self.window,
            Sequence::Unstamped => place < self.window,
        }
    }

    fn can_stamp(&self) -> bool {
        matches!(self.sequence, Sequence::Unstamped | Sequence::Claimed { .. })
    }

    /// Does the line need an identity before its oldest batch can be sent, and may take it now?
    #[must_use]
    pub fn needs_identity(&self, now: Instant) -> bool {
        match self.sequence {
            Sequence::Unclaimed => true,
            Sequence::Broken { .. } => {
                self.claim_at() <= now && !self.slots.iter().any(Slot::is_bound)
            }
            Sequence::Unstamped | Sequence::Claimed { .. } => false,
        }
    }

    /// The identity the line was stamped with so far.
    #[must_use]
    pub fn identity(&self) -> Option<ProducerIdentity> {
        match self.sequence {
            Sequence::Claimed { identity, .. } | Sequence::Broken { identity, .. } => {
                Some(identity)
            }
            Sequence::Unstamped | Sequence::Unclaimed => None,
        }
    }

    /// Was the line stamped with another identity, and is free to leave it?
    #[must_use]
    pub fn is_outdated(&self, identity: ProducerIdentity) -> bool {
        self.slots.is_empty() && self.identity().is_some_and(|own| own != identity)
    }

    /// As [`Line::claim`], where the broker itself holds a producer that it does not know to
    /// sequence 0 (KIP-890): nothing has to go alone.
    pub fn claim_guarded(&mut self, identity: ProducerIdentity, now: Instant) {
        self.claim(identity, now);
        if let Sequence::Claimed { next, proof, .. } = &mut self.sequence {
            *next = 0;
            if *proof == Proof::None {
                *proof = Proof::Guarded;
            }
        }
    }

    /// Starts a sequence under `identity`, at 0. Batches that were definitely refused give their
    /// old stamps up.
    ///
    /// # Panics
    /// If a batch is still bound to its old stamp (S3).
    pub fn claim(&mut self, identity: ProducerIdentity, now: Instant) {
        let outdated = self.transactional && self.is_outdated(identity);
        assert!(self.needs_identity(now) || outdated, "S2: a sequence was given up without need");
        // The broker holds a new epoch of an id it knows to sequence 0 itself; an id that it does
        // not know may begin anywhere, so the first batch goes alone (S4).
        let known = match self.sequence {
            Sequence::Broken { identity: old, proof }
            | Sequence::Claimed { identity: old, proof, .. } => {
                proof == Proof::Acknowledged && old.id == identity.id
            }
            Sequence::Unstamped | Sequence::Unclaimed => false,
        };
        let proof = if known { Proof::Acknowledged } else { Proof::None };
        let next = match self.sequence {
            Sequence::Unclaimed => self.first,
            _ if mutant!(M5) => 1,
            _ => 0,
        };
        self.sequence = Sequence::Claimed { identity, next, proof };
        self.slots.retain(|slot| !matches!(slot, Slot::Acknowledged { .. }));
        for place in 0..self.slots.len() {
            self.change(place, |slot| match slot {
                Slot::Waiting { batch, .. } => Slot::Ready(batch.unstamp()),
                other => other,
            });
        }
    }

    /// Moves the slot at `place` into another state.
    fn change(&mut self, place: usize, into: impl FnOnce(Slot) -> Slot) {
        let slot = self.slots.remove(place).expect("S1: the batch is in the line");
        self.slots.insert(place, into(slot));
    }

    /// Has the partition acknowledged a batch under this producer id, and does the sequence still
    /// go on from there?
    #[must_use]
    pub fn is_proven(&self) -> bool {
        matches!(self.sequence, Sequence::Claimed { proof: Proof::Acknowledged, .. })
    }

    /// The largest offset that was acknowledged here, if one was told.
    #[must_use]
    pub fn last_offset(&self) -> Option<i64> {
        self.last_offset
    }

    /// Stamps the batch at `place` if it is not yet, and marks it in flight. Returns it for the
    /// request.
    ///
    /// # Panics
    /// If the batch may not be sent now.
    pub fn send(&mut self, place: usize, request: RequestId, now: Instant) -> &Stamped {
        let idle = now.saturating_since(self.last_acknowledged);
        if let Sequence::Claimed { proof, .. } = &mut self.sequence
            && place == 0
            && idle > FORGOTTEN_AFTER
        {
            *proof = Proof::None;
        }
        let led = place == self.oldest_bound();
        let batch = match self.slots.remove(place) {
            Some(Slot::Waiting { batch, .. }) => batch,
            Some(Slot::Ready(batch)) => {
                let stamp = self.next_stamp(batch.meta.count());
                batch.stamp(stamp)
            }
            _ => panic!("S1: only a ready or waiting batch is sent"),
        };
        self.slots.insert(place, Slot::InFlight { batch, request, begun: false, led });
        match &self.slots[place] {
            Slot::InFlight { batch, .. } => batch,
            _ => unreachable!("just stored"),
        }
    }

    fn next_stamp(&mut self, count: u32) -> Stamp {
        let transactional = self.transactional;
        match &mut self.sequence {
            Sequence::Unstamped => Stamp::NONE,
            Sequence::Claimed { identity, next, .. } => {
                let base_sequence = *next;
                *next = advance(*next, count);
                Stamp {
                    producer_id: identity.id,
                    epoch: identity.epoch,
                    base_sequence,
                    transactional,
                }
            }
            Sequence::Unclaimed | Sequence::Broken { .. } => {
                panic!("S2: a batch was stamped without a sequence")
            }
        }
    }

    /// The place of a batch, if it is here.
    #[must_use]
    pub fn place(&self, key: SlotKey) -> Option<usize> {
        self.slots.iter().position(|slot| slot.key() == key)
    }

    /// A byte of the batch's request was written: its fate is now the network's.
    pub fn begin(&mut self, key: SlotKey, request: RequestId) {
        let Some(place) = self.place(key) else { return };
        if let Slot::InFlight { batch, request: current, begun, .. } = &mut self.slots[place]
            && *current == request
            && !*begun
        {
            *begun = true;
            batch.meta.attempts += 1;
        }
    }

    /// The codec is done with the batch at `place`.
    pub fn compressed(&mut self, place: usize, compressed: Compressed) {
        self.change(place, |slot| match slot {
            Slot::Compressing(batch) => Slot::Ready(batch.into_ready(compressed)),
            _ => panic!("S1: only a compressing batch comes back from a codec"),
        });
    }

    /// The slot at `place`, to change in place.
    pub fn slot_mut(&mut self, place: usize) -> &mut Slot {
        &mut self.slots[place]
    }

    /// Takes the batch at `place` out of the line for good: it was acknowledged, at `offset` if
    /// that was told.
    pub fn acknowledge(&mut self, place: usize, offset: Option<i64>, now: Instant) -> Slot {
        self.last_acknowledged = now;
        self.last_offset = self.last_offset.max(offset);
        if let Sequence::Claimed { identity, proof, .. } | Sequence::Broken { identity, proof } =
            &mut self.sequence
        {
            let stamp = match &self.slots[place] {
                Slot::InFlight { batch, .. } => Some(batch.stamp),
                Slot::Expired { stamp, .. } => Some(*stamp),
                _ => None,
            };
            let of_this =
                |stamp: Stamp| stamp.producer_id == identity.id && stamp.epoch == identity.epoch;
            if stamp.is_some_and(of_this) {
                *proof = Proof::Acknowledged;
            }
        }
        let slot = self.slots.remove(place).expect("S1: the batch is in the line");
        if matches!(self.sequence, Sequence::Claimed { .. }) {
            self.slots.insert(place, Slot::Acknowledged { key: slot.key() });
        }
        self.trim();
        slot
    }

    /// Forgets what was acknowledged, up to the oldest unresolved batch.
    fn trim(&mut self) {
        while let Some(Slot::Acknowledged { .. }) = self.slots.front() {
            self.slots.pop_front();
        }
    }

    /// Takes the batch at `place` out of the line for good: it failed. If it had a sequence, the
    /// line is broken behind it.
    pub fn fail(&mut self, place: usize) -> Slot {
        let slot = self.slots.remove(place).expect("S1: the batch is in the line");
        if mutant!(M2)
            && let Slot::Expired { stamp, .. } = &slot
            && let Sequence::Claimed { next, .. } = &mut self.sequence
            && !self.slots.iter().any(Slot::is_bound)
        {
            *next = stamp.base_sequence;
            return slot;
        }
        if matches!(slot, Slot::InFlight { .. } | Slot::Waiting { .. } | Slot::Expired { .. }) {
            self.break_sequence();
        }
        self.trim();
        slot
    }

    /// The sequence cannot go on: a new epoch is needed once what was sent is resolved.
    pub fn break_sequence(&mut self) {
        if let Sequence::Claimed { identity, proof, .. } = self.sequence {
            self.sequence = Sequence::Broken { identity, proof };
        }
        self.trim();
    }

    /// The broker does not take the present stamps: the batch at `place`, which it refused, waits
    /// for a new epoch, not before `not_before`. `forgotten`: it holds nothing of this producer.
    pub fn renew(&mut self, place: usize, not_before: Instant, forgotten: bool) {
        self.retry_at(place, not_before);
        self.break_sequence();
        self.not_before = not_before;
        if let Sequence::Broken { proof, .. } = &mut self.sequence
            && forgotten
        {
            *proof = Proof::None;
        }
    }

    /// Puts the batch at `place`, which was in flight, back to wait for another attempt.
    pub fn retry_at(&mut self, place: usize, not_before: Instant) {
        self.change(place, |slot| match slot {
            Slot::InFlight { batch, .. } if mutant!(M9) => Slot::Ready(batch.unstamp()),
            Slot::InFlight { batch, .. } => Slot::Waiting { batch, not_before },
            _ => panic!("S1: only a batch in flight is retried"),
        });
        if mutant!(M6) && matches!(self.sequence, Sequence::Claimed { .. }) {
            self.slots.rotate_left(place + 1);
            self.break_sequence();
        }
    }

    /// Takes the records' part out of the batch at `place`, which is in flight, and leaves its
    /// place in the sequence until its request is answered.
    pub fn expire_in_flight(&mut self, place: usize) -> Stamped {
        let key = self.slots[place].key();
        let Some(Slot::InFlight { batch, request, led, .. }) = self.slots.remove(place) else {
            panic!("S1: only a batch in flight expires there")
        };
        self.slots.insert(place, Slot::Expired { key, stamp: batch.stamp, request, led });
        batch
    }

    /// Takes the batch at `place` out, to put what replaces it in its place.
    pub fn remove(&mut self, place: usize) -> Slot {
        self.slots.remove(place).expect("S1: the batch is in the line")
    }

    /// Puts the halves of a batch that every attempt was definitely refused for in its place:
    /// they cover exactly its sequences (S3).
    pub fn insert(&mut self, place: usize, halves: [Slot; 2]) {
        for (offset, half) in halves.into_iter().enumerate() {
            self.slots.insert(place + offset, half);
        }
    }

    /// Makes the sequence of an empty line go on at `next`, for tests of what is far away.
    #[cfg(test)]
    pub(crate) fn start_at(&mut self, identity: ProducerIdentity, next: i32) {
        assert!(self.slots.is_empty());
        self.sequence = Sequence::Claimed { identity, next, proof: Proof::None };
    }

    /// Takes all batches out, to fail them.
    pub fn drain(&mut self) -> Vec<Slot> {
        self.slots.drain(..).collect()
    }
}

#[cfg(test)]
mod tests;
