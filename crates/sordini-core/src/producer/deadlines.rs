//! What time brings about.

use crate::connection::{Asked, ConnId, Connection, Lapse};
use crate::error::{Cause, Fate, Obstacle};
use crate::producer::Producer;
use crate::producer::outcomes::Ending;
use crate::producer::table::PartitionKey;
use crate::time::Instant;

impl Producer {
    pub(super) fn on_deadlines(&mut self) {
        if self.is_closed() {
            return;
        }
        while let Some(&(at, key)) = self.timers.first() {
            if at > self.now {
                break;
            }
            self.timers.pop_first();
            self.disarm(key);
            self.expire(key);
            self.touch(key);
        }
        self.lapse_connections();
        self.expire_transactions();
        self.give_up_if_late();
    }

    /// The next moment at which something happens without an input.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.is_closed() {
            return None;
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let max_idle = self.config.connections_max_idle;
        let connections =
            self.connections.values().map(|connection| connection.deadline(max_idle).0);
        let muted = self.connections.values().map(Connection::muted_until);
        let discovery = (!self.topics.is_empty()).then(|| self.discovery_deadline()).flatten();
        let reconnect = self.runnable.iter().filter_map(|(node, queue)| {
            let waiting = !queue.is_empty() && !self.nodes.contains_key(node);
            let address = self.cluster.brokers().get(node).filter(|_| waiting)?;
            Some(self.reconnect_at(address))
        });
        // What may be done since a while has been done as far as it could be, and waits for an
        // input. A deadline that passed before some other input waits to be told.
        let soon = Instant::from_nanos(self.now.as_nanos().saturating_add(1));
        // A close that has failed everything waits for codecs alone.
        let close = self.close_deadline().filter(|at| *at > self.now || self.is_busy());
        let (command, ask) = self.transaction_deadlines();
        let deadlines = timer.into_iter().chain(connections).chain(close).chain(command);
        let deadlines = deadlines.map(|at| at.max(soon));
        let waits = muted.chain(discovery).chain(reconnect).chain(ask).filter(|at| *at > self.now);
        deadlines.chain(waits).filter(|at| *at != Instant::NEVER).min()
    }

    fn discovery_deadline(&self) -> Option<Instant> {
        let refresh = self.refresh.next(self.config.metadata_max_age);
        let asks = [refresh, self.identity.next_request()].into_iter().flatten();
        // Due, and not asked: no connection is ready, so the next attempt at one counts.
        let attempt = asks.clone().any(|at| at <= self.now).then(|| self.next_candidate_at());
        asks.chain(attempt.flatten()).filter(|at| *at > self.now).min()
    }

    /// Fails what has outlived `delivery.timeout.ms`, oldest first.
    fn expire(&mut self, key: PartitionKey) {
        self.expire_line(key);
        let timeout = self.config.delivery_timeout;
        loop {
            let now = self.now;
            let Some(partition) = self.partitions.get_mut(&key) else { return };
            let late = |opened: Instant| opened.saturating_add(timeout) <= now;
            if !partition.view.oldest.is_some_and(late) {
                return;
            }
            let (batch, view) = partition.lane.take(true);
            partition.view = view;
            let Some(batch) = batch else { return };
            let after = now.saturating_since(batch.opened);
            let last = self.obstacle(key);
            self.deliver_failed_sealed(key, batch, Cause::Expired { after, last });
        }
    }

    fn expire_line(&mut self, key: PartitionKey) {
        let timeout = self.config.delivery_timeout;
        let mut place = 0;
        loop {
            let now = self.now;
            let Some(partition) = self.partitions.get_mut(&key) else { return };
            let Some(slot) = partition.line.slots().get(place) else { return };
            let late = slot.meta().map(|meta| meta.opened.saturating_add(timeout) <= now);
            let in_flight = slot.in_flight();
            match late {
                // A batch in flight keeps its place until its answer tells how the sequence
                // goes on.
                Some(true) if in_flight => {
                    let batch = partition.line.expire_in_flight(place);
                    self.deliver_expired(key, batch.into(), Fate::Unknown);
                    place += 1;
                }
                Some(true) => {
                    let slot = partition.line.fail(place);
                    let ending = Ending::of(slot).expect("S1: it had its records");
                    self.deliver_expired(key, ending, Fate::NotWritten);
                }
                Some(false) => return,
                None => place += 1,
            }
        }
    }

    fn deliver_expired(&mut self, key: PartitionKey, ending: Ending, fate: Fate) {
        let after = self.now.saturating_since(ending.meta.opened);
        let last = match &ending.meta.obstacle {
            Obstacle::NoAnswer => self.obstacle(key),
            known => known.clone(),
        };
        self.deliver_failed(key, ending, fate, Cause::Expired { after, last });
    }

    fn lapse_connections(&mut self) {
        let max_idle = self.config.connections_max_idle;
        let late: Vec<(ConnId, Lapse, Option<Asked>)> = self
            .connections
            .values()
            .filter_map(|connection| {
                let (deadline, lapse) = connection.deadline(max_idle);
                (deadline <= self.now).then(|| (connection.id, lapse, connection.next_asked()))
            })
            .collect();
        for (conn, lapse, asked) in late {
            match lapse {
                Lapse::Idle => self.retire(conn),
                Lapse::Setup => {
                    let cause = match asked {
                        Some(_) => "connected, but did not answer ApiVersions in time",
                        None => "not connected within socket.connection.setup.timeout.ms",
                    };
                    self.kill(conn, cause);
                }
                Lapse::Request => {
                    let millis = self.config.request_timeout.as_millis();
                    self.kill(conn, &format!("no answer within request.timeout.ms={millis}"));
                }
            }
        }
    }
}
