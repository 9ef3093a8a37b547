//! After the faults: everything must go on. Then the books are closed and the evidence is taken.

use std::time::Duration;

use sordini_broker::ClusterTrace;
use sordini_core::time::Instant;
use sordini_protocol::ErrorCode;
use sordini_protocol::records::Batch;

use super::World;
use crate::checkers::{Append, Evidence, Logged, Naming, Probe, Violation};
use crate::clock::millis;
use crate::faults::{Fault, Twist};
use crate::history::{Content, Done, Shape, Tp, identify};
use crate::plan::Plan;

/// A cluster that is healed has leaders and full ISRs after so long.
const CONVERGENCE: Duration = Duration::from_secs(15);
/// What was produced beyond a quota is waited for no longer.
const DEBT: Duration = Duration::from_secs(12);
/// What is tried after the healing is tried so often: a first try may find out about a new leader.
const TRIES: u32 = 6;

impl World<'_> {
    /// P20: what is pending ends, new sends succeed, flush and close return.
    pub(super) fn finish(&mut self) {
        let bound = self.now.saturating_add(self.config.delivery_timeout + self.patience());
        let settled = self.run_until(bound, Self::is_settled);
        if !settled {
            let pending = self.history.pending();
            let waiting = self.applications.iter().filter(|it| it.is_waiting()).count();
            let text = format!("{pending} records pending, {waiting} applications waiting");
            self.probed("everything has an outcome after the healing", Some(text));
        }
        let bound = self.now.saturating_add(CONVERGENCE);
        let whole = self.run_until(bound, Self::is_cluster_whole);
        if !whole {
            let text = self.what_is_missing();
            self.probed("the cluster is whole after the healing", Some(text));
        }
        // A pause that shows whether anybody turns in circles while there is nothing to do.
        let before: u64 = self.clients.iter().map(|it| it.monitor.requests()).sum();
        let end = self.now.saturating_add(Duration::from_secs(2));
        self.run_until(end, |_| false);
        let after: u64 = self.clients.iter().map(|it| it.monitor.requests()).sum();
        let least = self
            .config
            .metadata_max_age
            .min(self.config.retry_backoff)
            .max(Duration::from_millis(1));
        let most = 2000 / least.as_millis().max(1) as u64 + 20;
        let most = most * self.clients.len() as u64 * 4;
        if after - before > most {
            let text = format!("{} requests within 2 s of peace", after - before);
            self.violation("P8", text);
        }
        if self.plan.transactions.is_some() {
            self.probe_transactions();
        } else {
            self.probe_sends();
        }
        self.probe_commands();
        // Followers fetch what is left.
        let end = self.now.saturating_add(Duration::from_secs(1));
        self.run_until(end, |_| false);
    }

    pub(super) fn patience(&self) -> Duration {
        let config = &self.config;
        let block = config.max_block.min(Duration::from_secs(120));
        config.request_timeout
            + config.retry_backoff_max
            + config.reconnect_backoff_max
            + block
            + self.plan.scenery.quota.map_or(Duration::ZERO, |_| DEBT)
            + CONVERGENCE
            + self.plan.transactions.as_ref().map_or(Duration::ZERO, |_| Duration::from_secs(20))
    }

    pub(super) fn probed(&mut self, asked: &str, failed: Option<String>) {
        let probe = Probe { at: self.now, asked: asked.to_owned(), failed };
        self.evidence.probes.push(probe);
    }

    fn is_settled(&self) -> bool {
        self.history.pending() == 0
            && self.applications.iter().all(|it| !it.is_waiting())
            && (0..self.clients.len()).all(|at| self.unanswered(at as u16) == 0)
    }

    pub(super) fn partitions(&self) -> Vec<Tp> {
        let mut all = Vec::new();
        for (number, topic) in self.plan.topics.iter().enumerate() {
            let count = self.cluster.partitions(&topic.name);
            all.extend((0..count).map(|partition| (number as u16, partition)));
        }
        all
    }

    fn is_cluster_whole(&self) -> bool {
        self.partitions().into_iter().all(|tp| self.is_whole(tp))
    }

    fn is_whole(&self, tp: Tp) -> bool {
        let name = &self.plan.topics[usize::from(tp.0)].name;
        self.cluster.leader(name, tp.1).is_some()
            && self.cluster.isr(name, tp.1).len() == self.cluster.replicas(name, tp.1).len()
    }

    fn what_is_missing(&self) -> String {
        let missing = self.partitions().into_iter().filter(|tp| !self.is_whole(*tp));
        let tell = |tp: Tp| {
            let name = &self.plan.topics[usize::from(tp.0)].name;
            format!(
                "{name}-{}: leader {:?}, in sync {:?} of {:?}",
                tp.1,
                self.cluster.leader(name, tp.1),
                self.cluster.isr(name, tp.1),
                self.cluster.replicas(name, tp.1)
            )
        };
        missing.map(tell).collect::<Vec<_>>().join("; ")
    }

    /// New sends succeed, from each producer to each partition.
    fn probe_sends(&mut self) {
        let mut left: Vec<(u16, Tp)> = Vec::new();
        for client in 0..self.clients.len() as u16 {
            let at = usize::from(client);
            if self.clients[at].is_over() || self.applications[at].close.is_some() {
                continue;
            }
            // A partition that was just added may be unknown to a producer until its metadata
            // is old; those of the beginning are known.
            let known = |tp: &Tp| tp.1 < self.plan.topics[usize::from(tp.0)].partitions;
            left.extend(self.partitions().into_iter().filter(known).map(|tp| (client, tp)));
        }
        let within = self.config.delivery_timeout + self.patience();
        let shape = Shape { len: 24, ..Shape::default() };
        for _ in 0..TRIES {
            let tries: Vec<_> = std::mem::take(&mut left)
                .into_iter()
                .map(|(client, tp)| (client, tp, self.send(client, tp.0, Some(tp.1), shape)))
                .collect();
            let bound = self.now.saturating_add(within);
            self.run_until(bound, Self::is_settled);
            let failed = tries.into_iter().filter(|(client, _, id)| {
                let ok = self.history.get(*id).is_some_and(crate::history::Submitted::is_ok);
                !ok && !self.clients[usize::from(*client)].is_over()
            });
            left = failed.map(|(client, tp, _)| (client, tp)).collect();
            if left.is_empty() {
                return;
            }
            // What a try set off (looking for a topic, say) may come too late for it; and an answer
            // that was lost before the healing may be waited for, on every connection.
            let owed = self.config.request_timeout / (TRIES - 1);
            let end = self.now.saturating_add(owed.max(Duration::from_millis(500)));
            self.run_until(end, |_| false);
        }
        for (client, tp) in left {
            let of = self.history.records.iter().rev();
            let mut of = of.filter(|it| it.producer == client && it.topic == tp.0);
            let last = of.find(|it| it.explicit == Some(tp.1));
            let last = last.map(|it| format!("{:?} {:?}", it.done, it.rejected));
            let asked = format!("producer {client} sends to {tp:?} after the healing");
            self.probed(&asked, Some(format!("{TRIES} tries failed, the last: {last:?}")));
        }
    }

    /// Flush and close return, and then nothing is left.
    fn probe_commands(&mut self) {
        for client in 0..self.clients.len() as u16 {
            let it = &self.clients[usize::from(client)];
            if it.producer.is_closed() || it.is_gone() {
                continue;
            }
            self.flush(client);
            if self.applications[usize::from(client)].close.is_none() {
                let deadline = self.now.saturating_add(Duration::from_secs(5));
                self.close(client, deadline);
            }
        }
        let bound = self.now.saturating_add(Duration::from_secs(6));
        let returned = self.run_until(bound, Self::is_settled);
        if !returned {
            self.probed("flush and close return", Some("they do not".to_owned()));
        }
    }

    // ---- evidence

    /// What happened, and what was broken before everybody's eyes.
    pub(crate) fn close_books(
        mut self,
        coverage: &mut crate::coverage::Coverage,
    ) -> (Evidence, Vec<Violation>) {
        let mut evidence = std::mem::replace(
            &mut self.evidence,
            Evidence::new(crate::checkers::Promise::of(&self.config, self.plan.survivable)),
        );
        let mut live = std::mem::take(&mut self.live);
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            client.kept.clear();
            evidence.memory.push(client.memory());
            live.append(&mut client.monitor.violations);
            let metrics = client.producer.accumulator().counters().snapshot();
            self.coverage.metrics(&metrics);
            self.coverage.meet("wire: sent again", client.monitor.retransmissions);
            self.coverage.meet("wire: children of a split", client.monitor.children);
            for (what, count) in &client.monitor.met {
                self.coverage.meet(what, *count);
            }
            for (what, count) in &client.monitor.coordinated {
                *self.coverage.coordinated.entry(*what).or_default() += count;
            }
            let ids: std::collections::BTreeSet<i64> =
                client.monitor.epochs.iter().map(|(id, _)| *id).collect();
            let over = client.monitor.epochs.iter().any(|(_, epoch)| *epoch == i16::MAX);
            let again = u64::from(over && ids.len() > 1);
            self.coverage.meet("core: a new producer id after the last epoch", again);
            let exhausted =
                client.monitor.epochs.iter().any(|(_, epoch)| {
                    i32::from(*epoch) > i32::from(self.plan.scenery.first_epoch) + 3
                });
            self.coverage.meet("core: more than three epochs", u64::from(exhausted));
        }
        for tp in self.partitions() {
            let log = self.read_log(tp, &mut live);
            evidence.logs.insert(tp, log);
        }
        let mut wrong = Vec::new();
        self.close_book(&mut wrong);
        let at = self.now;
        live.extend(wrong.into_iter().map(|text| Violation { invariant: "P20", text, at }));
        evidence.book = std::mem::take(&mut self.book);
        evidence.appends = std::mem::take(&mut self.traces)
            .into_iter()
            .filter_map(|(at, trace)| self.read_append(at, &trace))
            .collect();
        evidence.records = std::mem::take(&mut self.history.records);
        evidence.ended = self.now;
        evidence.naming = self.plan.naming();
        let topics = self.plan.topics.iter().enumerate();
        let theirs = topics.filter(|(_, topic)| topic.log_append_time);
        evidence.broker_times = theirs.map(|(number, _)| number as u16).collect();
        let theirs = |it: &&crate::history::Submitted| {
            matches!(it.done, Some((_, _, Done::Written { timestamp: 0.., .. })))
                && evidence.broker_times.contains(&it.topic)
        };
        let told = evidence.records.iter().filter(theirs).count() as u64;
        self.coverage.meet("app: was told the broker's time", told);
        evidence.misled = self.plan.faults.iter().any(|fault| misleads(&fault.fault));
        *coverage = std::mem::take(&mut self.coverage);
        (evidence, live)
    }

    /// The committed log: what the leader has below its high watermark.
    fn read_log(&mut self, tp: Tp, live: &mut Vec<Violation>) -> Vec<Logged> {
        let name = self.plan.topics[usize::from(tp.0)].name.clone();
        let at = self.now;
        let mut wrong = |text: String| live.push(Violation { invariant: "P20", text, at });
        let Some((leader, _)) = self.cluster.leader(&name, tp.1) else {
            wrong(format!("{name}-{} has no leader at the end", tp.1));
            return Vec::new();
        };
        let committed = self.cluster.high_watermark(leader, &name, tp.1).unwrap_or(0);
        match self.cluster.records(leader, &name, tp.1) {
            Ok(records) => records
                .into_iter()
                .filter(|record| record.offset < committed)
                .map(|record| {
                    let headers = record.headers.iter();
                    let headers = headers.map(|(name, value)| (name.as_slice(), value.as_deref()));
                    Logged {
                        offset: record.offset,
                        timestamp: record.timestamp,
                        id: identify(record.value.as_deref(), headers),
                        content: Content {
                            key: record.key,
                            value: record.value,
                            headers: record
                                .headers
                                .into_iter()
                                .map(|(name, value)| {
                                    (String::from_utf8_lossy(&name).into_owned(), value)
                                })
                                .collect(),
                        },
                    }
                })
                .collect(),
            Err(error) => {
                wrong(format!("{name}-{} can't be read on node {leader}: {error}", tp.1));
                Vec::new()
            }
        }
    }

    pub(super) fn read_append(&self, at: Instant, trace: &ClusterTrace) -> Option<Append> {
        let ClusterTrace::Appended { node, at: of, base_offset, leader_epoch, batch, .. } = trace
        else {
            return None;
        };
        // What a node appended to a topic that is deleted is in no log.
        if self.cluster.topic_id(&of.topic) != Some(of.id) {
            return None;
        }
        let batch = Batch::parse(batch).ok()?;
        let plain = batch.decompress(1 << 26).ok()?;
        let ids = plain.iter().filter_map(|record| {
            let record = record.ok()?;
            identify(record.value, record.headers.iter().map(|header| (header.key, header.value)))
        });
        Some(Append {
            at,
            node: *node,
            tp: self.tp(of.id, of.partition)?,
            base_offset: *base_offset,
            leader_epoch: *leader_epoch,
            producer_id: batch.header().producer_id,
            ids: ids.collect(),
        })
    }

    /// Did a producer tell that acknowledged records may be lost?
    pub(crate) fn was_loss_told(&self) -> bool {
        self.clients.iter().any(|client| client.loss_told)
    }

    /// Where things stood, for a panic's message.
    pub(crate) fn whereabouts(&self) -> String {
        format!("{} ms, {} records", millis(self.now()), self.history.records.len())
    }
}

impl Plan {
    /// How do its Produce requests name topics? Those of the old protocol of transactions never by
    /// their ids.
    fn naming(&self) -> Naming {
        let old = |level: i16| level < 2;
        let began = self.transactions.as_ref().is_some_and(|it| old(it.version));
        let turned = |fault: &Fault| matches!(fault, Fault::Version(level) if old(*level));
        match began || self.faults.iter().any(|fault| turned(&fault.fault)) {
            true => Naming::Name,
            false => self.scenery.naming(),
        }
    }
}

/// Does a broker deny a sequence that it knows?
fn misleads(fault: &Fault) -> bool {
    let Fault::Twist { twist: Twist::Error(code), .. } = fault else { return false };
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
    )
}
