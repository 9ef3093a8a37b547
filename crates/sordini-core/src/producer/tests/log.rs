//! A partition's log as a broker keeps it, with the check that makes retries safe (KIP-98): the
//! last five batches of each producer, by epoch and sequence.

use std::collections::{BTreeMap, VecDeque};

use sordini_protocol::ErrorCode;

use super::monitor::REMEMBERED;
use super::peer::Batch;
use crate::wire::batch_header::Stamp;

/// The sequence number that comes `count` records after `sequence`, as Kafka counts.
pub(super) fn after(sequence: i32, count: u32) -> i32 {
    assert!(sequence >= 0, "A10: sequence {sequence}");
    ((i64::from(sequence) + i64::from(count)) % (1 << 31)) as i32
}

#[derive(Debug, Clone)]
struct State {
    epoch: i16,
    /// First sequence, last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
}

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    At(i64),
    Again(i64),
    Refused(ErrorCode),
}

#[derive(Debug, Default, Clone)]
pub(super) struct Log {
    /// Record ids by offset.
    pub(super) ids: Vec<u64>,
    /// The first offset that retention left.
    pub(super) start: i64,
    producers: BTreeMap<i64, State>,
    /// Brokers before Kafka 2.5 refuse a first sequence other than 0 of a producer they do not
    /// know; later ones accept any.
    pub(super) refuses_unknown: bool,
}

impl Log {
    pub(super) fn append(&mut self, batch: &Batch) -> Appended {
        let base = self.ids.len() as i64;
        if batch.stamp == Stamp::NONE {
            self.ids.extend(&batch.ids);
            return Appended::At(base);
        }
        let Stamp { producer_id, epoch, base_sequence: first, .. } = batch.stamp;
        let last = after(first, batch.ids.len() as u32 - 1);
        if let Some(refused) = self.check(producer_id, epoch, first, last) {
            return refused;
        }
        let fresh = State { epoch, batches: VecDeque::new() };
        let state = self.producers.entry(producer_id).or_insert_with(|| fresh.clone());
        if state.epoch != epoch {
            *state = fresh;
        }
        if state.batches.len() == REMEMBERED {
            state.batches.pop_front();
        }
        state.batches.push_back((first, last, base));
        self.ids.extend(&batch.ids);
        Appended::At(base)
    }

    fn check(&self, id: i64, epoch: i16, first: i32, last: i32) -> Option<Appended> {
        let Some(state) = self.producers.get(&id) else {
            let refused = self.refuses_unknown && first != 0;
            return refused.then_some(Appended::Refused(ErrorCode::UnknownProducerId));
        };
        if epoch < state.epoch {
            return Some(Appended::Refused(ErrorCode::InvalidProducerEpoch));
        }
        let out_of_order = Some(Appended::Refused(ErrorCode::OutOfOrderSequenceNumber));
        if epoch > state.epoch {
            return if first == 0 { None } else { out_of_order };
        }
        let known = state.batches.iter().find(|known| (known.0, known.1) == (first, last));
        if let Some((_, _, base)) = known {
            return Some(Appended::Again(*base));
        }
        let end = state.batches.back().map_or(-1, |(_, last, _)| *last);
        if end < 0 || after(end, 1) == first { None } else { out_of_order }
    }

    /// Forgets every producer, as `producer.id.expiration.ms` and DeleteRecords do.
    pub(super) fn forget_producers(&mut self) {
        self.producers.clear();
    }

    /// Cuts the log off at `end`, as an unclean election does.
    pub(super) fn truncate(&mut self, end: i64) {
        self.ids.truncate(end as usize);
        for state in self.producers.values_mut() {
            state.batches.retain(|(_, _, base)| *base < end);
        }
        self.producers.retain(|_, state| !state.batches.is_empty());
    }

    /// Where a record is, as often as it is.
    pub(super) fn offsets(&self, id: u64) -> Vec<i64> {
        let here = self.ids.iter().enumerate().filter(|(_, at)| **at == id);
        here.map(|(offset, _)| offset as i64).collect()
    }
}
