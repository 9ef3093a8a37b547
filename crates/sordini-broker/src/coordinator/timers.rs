//! What coordinators do as time goes by.

use std::time::Duration;

use super::transaction::Transaction;
use super::transactions::Place;
use super::writes::Then;
use super::{Checks, Coordinator, TRANSACTION_STATE, batch, records};
use crate::broker::Broker;
use crate::time::{Instant, Now};

/// How often unused ids are looked for, Kafka's
/// `transaction.remove.expired.transaction.cleanup.interval.ms`.
const EXPIRATION_EVERY: Duration = Duration::from_secs(3600);
/// How long the tombstones of ids may take to be committed.
const TOMBSTONE_MS: i64 = 30_000;

impl Coordinator {
    /// Whether nothing is coordinated here.
    pub(super) fn is_idle(&self) -> bool {
        self.led.is_empty()
    }
}

impl Broker {
    /// When [`Broker::coordinator_timers`] has something to do.
    pub(crate) fn next_coordinator_due(&self) -> Option<Instant> {
        let checks = self.coordinator.checks.map(|checks| checks.time_outs.min(checks.expirations));
        let dues = [
            self.next_write_deadline(),
            self.next_marker_due(),
            self.next_question_due(),
            checks.filter(|_| !self.coordinator.is_idle()),
        ];
        dues.into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn coordinator_timers(&mut self, now: Now) {
        self.follow_leadership(now);
        self.settle_writes(now);
        self.resend_markers(now);
        self.repeat_questions(now);
        self.look_around(now);
    }

    /// From when on open transactions and unused ids are looked at.
    pub(super) fn schedule_checks(&mut self, now: Now) {
        if self.coordinator.checks.is_none() && !self.coordinator.is_idle() {
            let time_outs = now.mono.after(self.config.transaction_abort_interval);
            let expirations = now.mono.after(EXPIRATION_EVERY);
            self.coordinator.checks = Some(Checks { time_outs, expirations });
        }
    }

    fn look_around(&mut self, now: Now) {
        self.schedule_checks(now);
        let Some(mut checks) = self.coordinator.checks else { return };
        if checks.time_outs <= now.mono {
            checks.time_outs = now.mono.after(self.config.transaction_abort_interval);
            self.forget_participants();
            self.abort_timed_out(now);
        }
        if checks.expirations <= now.mono {
            checks.expirations = now.mono.after(EXPIRATION_EVERY);
            self.expire_ids(now);
        }
        self.coordinator.checks = Some(checks);
    }

    fn ids_where(&self, wanted: impl Fn(&Transaction) -> bool) -> Vec<(Place, String)> {
        let mut found = Vec::new();
        for (partition, led) in &self.coordinator.led {
            let ids = led.loaded.iter().flat_map(|loaded| &loaded.ids);
            let wanted = ids.filter(|(_, transaction)| wanted(transaction));
            found.extend(wanted.map(|(id, _)| ((*partition, led.epoch), id.clone())));
        }
        found
    }

    /// Fences producers whose transactions have been open for too long, and aborts those.
    fn abort_timed_out(&mut self, now: Now) {
        for (place, id) in self.ids_where(|txn| txn.is_timed_out(now.wall_ms)) {
            self.fence(now, place, &id, None);
        }
    }

    /// Forgets ids that have long not been used.
    fn expire_ids(&mut self, now: Now) {
        let after = self.config.transactional_id_expiration_ms;
        for (place, id) in self.ids_where(|txn| txn.is_expired(now.wall_ms, after)) {
            if let Some(loaded) = self.loaded(place)
                && let Some(Transaction::Settled(settled)) = loaded.ids.remove(&id)
            {
                loaded.ids.insert(id.clone(), settled.expire());
            }
            let tombstone = records::transaction_tombstone(&id);
            let bytes = batch::encode(&[tombstone], now.wall_ms, None);
            let (partition, epoch) = place;
            let ids = vec![id];
            match self.append_as_coordinator(now, TRANSACTION_STATE, partition, &bytes, None) {
                Ok(at) => {
                    let then = Then::Expired { partition, epoch, ids };
                    self.await_write(at, now.mono.after_millis(TOMBSTONE_MS), then);
                }
                Err(_) => self.expired(now, place, ids, false),
            }
        }
    }

    /// Tombstones are committed, or are not known to be.
    pub(super) fn expired(&mut self, _: Now, place: Place, ids: Vec<String>, written: bool) {
        let Some(loaded) = self.loaded(place) else { return };
        for id in ids {
            if let Some(Transaction::Expiring(settled)) = loaded.ids.remove(&id)
                && !written
            {
                loaded.ids.insert(id, Transaction::Settled(settled));
            }
        }
    }
}
