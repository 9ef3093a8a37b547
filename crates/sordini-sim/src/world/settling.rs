//! After the faults, in a world with transactions: whoever has a transactional id can use it, who
//! had it before can't, and nothing holds readers back.

use std::time::Duration;

use sordini_broker::ClusterTrace;
use sordini_core::time::Instant;
use sordini_protocol::records::{Batch, ControlType};

use super::World;
use super::transactor::{Held, Stage};
use crate::book::{CallKind, Told, Writer};
use crate::history::{Shape, Submitted, Tp};

/// What is tried after the healing is tried so often.
const TRIES: u32 = 6;
/// A call is answered within its own time.
const PATIENCE: Duration = Duration::from_secs(60);
/// A marker that was ordered by hand is committed after so long.
const BY_HAND: Duration = Duration::from_secs(5);

impl World<'_> {
    /// New transactions succeed, of each transactional id; then all that was left open is over.
    pub(super) fn probe_transactions(&mut self) {
        for kin in 0..self.plan.workload.producers {
            let mut done = self.try_transactions(kin);
            if done.is_err() && self.forgotten(kin).is_some() {
                // The coordinator may hold an older state, for ever: markers that it orders are
                // refused, epochs that it gives were used.
                self.coverage.meet("operator: gave an application another id", 1);
                done = self.try_transactions(self.plan.workload.producers + kin);
            }
            let failed = done.err().map(|last| format!("{TRIES} tries failed, the last: {last}"));
            self.probed(&format!("id {kin} writes a transaction after the healing"), failed);
        }
        self.probe_elders();
        let timeout = self.config.transaction_timeout + Duration::from_secs(5);
        self.wait_for_readers(timeout + self.patience());
        if !self.stuck().is_empty() && self.abort_hanging() {
            self.wait_for_readers(BY_HAND);
        }
        let stuck = self.stuck();
        let failed = (!stuck.is_empty()).then(|| format!("{stuck:?}"));
        self.probed("readers of committed records read all after the healing", failed);
    }

    /// Until nothing holds readers of committed records back, or for so long.
    fn wait_for_readers(&mut self, patience: Duration) {
        let bound = self.now.saturating_add(patience);
        while self.now < bound && !self.stuck().is_empty() {
            let soon = self.now.saturating_add(Duration::from_millis(200));
            self.run_until(soon.min(bound), |_| false);
        }
    }

    /// A transaction succeeds at last. The error is that of the last try.
    fn try_transactions(&mut self, kin: u16) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.try_transaction(kin) {
                Ok(()) => return Ok(()),
                Err(text) => last = text,
            }
            // What a try set off (looking for a topic, say) may come too late for it.
            let end = self.now.saturating_add(Duration::from_millis(500));
            self.run_until(end, |_| false);
        }
        Err(last)
    }

    /// The newest producer of an id writes to every partition in a transaction.
    fn try_transaction(&mut self, kin: u16) -> Result<(), String> {
        let newest = self.instance_of(kin).filter(|client| self.is_usable(*client));
        let client = newest.unwrap_or_else(|| self.spawn(kin));
        let at = usize::from(client);
        self.wait_for_call(client);
        if matches!(self.transactors[at].stage, Stage::Unborn) {
            self.initialize(client);
            self.wait_for_call(client);
        }
        // What the application left open, the next begin aborts.
        if matches!(self.transactors[at].stage, Stage::Idle | Stage::Open(..)) {
            self.begin_transaction(client);
            self.wait_for_call(client);
        }
        let Stage::Open(held, _) = self.transactors[at].stage else {
            return Err(format!("no transaction was begun: {}", self.last_answer(client)));
        };
        let known = |tp: &Tp| tp.1 < self.plan.topics[usize::from(tp.0)].partitions;
        let all: Vec<Tp> = self.partitions().into_iter().filter(known).collect();
        let shape = Shape { len: 24, ..Shape::default() };
        let ids: Vec<u64> =
            all.into_iter().map(|tp| self.send(client, tp.0, Some(tp.1), shape)).collect();
        let bound = self.now.saturating_add(self.config.delivery_timeout + self.patience());
        self.run_until(bound, |world| !world.applications[at].is_waiting());
        self.end_by(client, held, CallKind::Commit);
        self.wait_for_call(client);
        let place = held.place;
        if !self.book.transactions[place].was_told(&Told::Committed) {
            return Err(format!("it was not committed: {}", self.last_answer(client)));
        }
        match ids.iter().find(|id| !self.history.get(**id).is_some_and(Submitted::is_ok)) {
            Some(id) => Err(format!("record {id} was not written")),
            None => Ok(()),
        }
    }

    fn is_usable(&self, client: u16) -> bool {
        let at = usize::from(client);
        !self.clients[at].is_over()
            && self.applications[at].close.is_none()
            && !matches!(self.transactors[at].stage, Stage::Over)
    }

    fn wait_for_call(&mut self, client: u16) {
        let at = usize::from(client);
        let bound = self.now.saturating_add(PATIENCE);
        let answered = |world: &Self| !matches!(world.transactors[at].stage, Stage::Waiting(..));
        if !self.run_until(bound, answered) {
            self.transactors[at].stage = Stage::Over;
        }
    }

    fn last_answer(&self, client: u16) -> String {
        let last = self.book.calls.iter().rfind(|call| call.producer == client);
        last.map_or_else(String::new, |call| format!("{:?} {:?}", call.kind, call.answer))
    }

    /// Producers whose id another has by now learn it.
    fn probe_elders(&mut self) {
        for client in 0..self.clients.len() as u16 {
            let at = usize::from(client);
            let newest = self.instance_of(self.transactors[at].kin) == Some(client);
            if newest || !self.is_usable(client) {
                continue;
            }
            match self.transactors[at].stage {
                Stage::Open(held, _) => {
                    self.elder_ends(client, held);
                }
                Stage::Idle => self.begin_transaction(client),
                _ => continue,
            }
            self.wait_for_call(client);
            self.coverage.meet("app: used an id that another has", 1);
        }
    }

    fn elder_ends(&mut self, client: u16, held: Held) {
        let kind = if client.is_multiple_of(2) { CallKind::Commit } else { CallKind::Abort };
        self.end_by(client, held, kind);
    }

    /// A marker that a leader wrote.
    pub(super) fn marker_of(&self, trace: &ClusterTrace) -> Option<(Tp, Writer, bool)> {
        let ClusterTrace::Appended { at: of, batch, .. } = trace else { return None };
        if self.cluster.topic_id(&of.topic) != Some(of.id) {
            return None;
        }
        let tp = self.tp(of.id, of.partition)?;
        let batch = Batch::parse(batch).ok()?;
        let header = *batch.header();
        if !header.is_control() {
            return None;
        }
        let plain = batch.decompress(1 << 16).ok()?;
        let record = plain.iter().next()?.ok()?;
        let commit = record.control_type()? == ControlType::Commit;
        Some((tp, (header.producer_id, header.producer_epoch), commit))
    }

    /// When all was healed.
    pub(super) fn note_healed(&mut self, at: Instant) {
        self.book.healed = at;
    }
}
