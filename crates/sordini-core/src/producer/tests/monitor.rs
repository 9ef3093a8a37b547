//! Watches the wire, independently of what the machine believes: sequences, retransmissions, and
//! the window (S2, S3, S4, P7).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::log::after;
use super::peer::{Batch, Tp};
use crate::connection::ConnId;
use crate::wire::batch_header::Stamp;

/// A broker remembers so many batches of a producer and partition.
pub(super) const REMEMBERED: usize = 5;

/// A partition of a topic id, under one producer id and epoch.
type Stream = (Tp, i64, i16);

#[derive(Debug, Default)]
struct Sent {
    next: i32,
    /// What was sent, by base sequence: how many records, and the bytes.
    batches: BTreeMap<i32, (u32, Bytes)>,
    /// Ranges of batches that were refused as too large, to be covered by children.
    split: Vec<(i32, u32)>,
}

#[derive(Default)]
pub(super) struct Monitor {
    streams: BTreeMap<Stream, Sent>,
    /// What was sent, by partition, in order: the ids, and the producer id and epoch.
    order: BTreeMap<Tp, Vec<(Vec<u64>, i64, i16)>>,
    in_flight: BTreeMap<(ConnId, i32), Vec<Tp>>,
    acked: BTreeSet<(Tp, i64)>,
    /// Where the machine was made to start its sequences.
    pub(super) start: i32,
    pub(super) most_in_flight: BTreeMap<Tp, usize>,
    /// How many batches were first sent, and how many again.
    pub(super) first: usize,
    pub(super) again: usize,
    pub(super) epochs: BTreeSet<(i64, i16)>,
}

impl Monitor {
    fn count_in_flight(&self, tp: &Tp) -> usize {
        self.in_flight.values().flatten().filter(|at| *at == tp).count()
    }

    /// A request leaves the machine. `settled`: does the record have its outcome?
    pub(super) fn sent(
        &mut self,
        at: (ConnId, i32),
        batches: &[Batch],
        too_large: &BTreeSet<(Tp, Stamp)>,
        settled: &dyn Fn(u64) -> bool,
    ) {
        let mut here = BTreeSet::new();
        for batch in batches {
            assert!(here.insert(&batch.tp), "P7: two batches of one partition in a request");
            if batch.stamp != Stamp::NONE {
                self.check_window(batch, settled);
                self.check_sequence(batch, too_large);
            }
        }
        self.in_flight.insert(at, batches.iter().map(|batch| batch.tp.clone()).collect());
        for batch in batches {
            let now = self.count_in_flight(&batch.tp);
            let most = self.most_in_flight.entry(batch.tp.clone()).or_default();
            *most = now.max(*most);
        }
    }

    fn check_window(&mut self, batch: &Batch, settled: &dyn Fn(u64) -> bool) {
        let tp = &batch.stream;
        if !self.acked.contains(&(tp.clone(), batch.stamp.producer_id)) {
            let others = self.count_in_flight(&batch.tp);
            assert_eq!(others, 0, "S4: {tp:?} has no acknowledgement, and two batches in flight");
        }
        let order = self.order.entry(tp.clone()).or_default();
        // Children take their parent's place.
        order.retain(|(ids, ..)| !ids.iter().any(|id| batch.ids.contains(id)));
        // The broker must still remember the oldest whose fate is open, whatever became of those
        // behind it.
        let Stamp { producer_id, epoch, .. } = batch.stamp;
        let earlier = order
            .iter()
            .filter(|(ids, id, at)| ids[0] < batch.ids[0] && (*id, *at) == (producer_id, epoch));
        let open = |ids: &[u64]| ids.iter().any(|id| !settled(*id));
        let since = earlier.skip_while(|(ids, ..)| !open(ids)).count();
        assert!(since < REMEMBERED, "S4: {tp:?}: a sixth batch from the oldest unresolved on");
        order.push((batch.ids.clone(), producer_id, epoch));
        order.sort_by_key(|(ids, ..)| ids[0]);
    }

    fn check_sequence(&mut self, batch: &Batch, too_large: &BTreeSet<(Tp, Stamp)>) {
        let Stamp { producer_id, epoch, base_sequence: base, .. } = batch.stamp;
        self.epochs.insert((producer_id, epoch));
        let start = self.start;
        let stream = (batch.stream.clone(), producer_id, epoch);
        let fresh = || Sent { next: start, ..Sent::default() };
        let sent = self.streams.entry(stream).or_insert_with(fresh);
        let count = batch.ids.len() as u32;
        if let Some((known, bytes)) = sent.batches.get(&base) {
            if *bytes == batch.bytes {
                self.again += 1;
                return;
            }
            let refused = too_large.contains(&(batch.tp.clone(), batch.stamp));
            assert!(refused && count < *known, "S3: sent again, but not the same bytes: {batch:?}");
            sent.split.push((base, *known));
        } else if base == sent.next {
            sent.next = after(base, count);
            self.first += 1;
        } else {
            let covered = |(first, known): &(i32, u32)| {
                let offset = (base.wrapping_sub(*first) & i32::MAX) as u32;
                offset + count <= *known
            };
            let child = sent.split.iter().any(covered);
            assert!(child, "S2: sequence {base} of {:?} where {} is next", batch.tp, sent.next);
        }
        sent.batches.insert(base, (count, batch.bytes.clone()));
    }

    /// An answer has arrived in full.
    pub(super) fn answered(&mut self, at: (ConnId, i32), acks: &[(Tp, i64)]) {
        self.in_flight.remove(&at);
        self.acked.extend(acks.iter().cloned());
    }

    pub(super) fn gone(&mut self, conn: ConnId) {
        self.in_flight.retain(|(at, _), _| *at != conn);
    }
}
