//! Markers: the coordinator's orders to the leaders of a transaction's partitions, and what a
//! leader does about them.
//!
//! Orders and answers may be lost, doubled, late or out of order. An order names the leader's term
//! that it is meant for and is numbered, ascending in a coordinator's term: a leader follows none
//! from before its term or from before one that it followed, or a late copy of an old commit would
//! commit what belongs to the next transaction of the same epoch. The same order again is answered
//! again, and not written again.

use std::collections::BTreeMap;

use sordini_protocol::{ErrorCode, Uuid};

use super::transaction::{Partition, Transaction};
use super::transactions::{AfterState, Place};
use super::writes::Then;
use crate::broker::{AppendedHere, Broker};
use crate::cluster::{MarkerAnswer, MarkerOrder, MarkerPartition, Message, NO_NODE, Peer};
use crate::log::marker::Marker;
use crate::time::{Instant, Now};

/// How long an order is left to its fate.
const PATIENCE_MS: i64 = 500;
/// How long a partition that can't take its marker is left alone.
const BACKOFF_MS: i64 = 50;
/// How long a marker may take to be committed, Kafka's `request.timeout.ms`.
const COMMIT_MS: i64 = 30_000;

/// The order by which a prepared transaction is ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    number: u64,
    /// When it is sent again to those who have not answered; none if a partition refused for good,
    /// because another coordinator or producer came after.
    resend_at: Option<Instant>,
}

/// Who gave an order, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MarkerFrom {
    pub orderer: Orderer,
    pub broker_epoch: u64,
    pub place: Place,
    pub number: u64,
    pub id: String,
}

/// Who gave an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orderer {
    Here,
    Node(i32),
}

/// The newest order that was followed for each producer, by partition, in its present term.
#[derive(Debug, Default)]
pub(super) struct Participants {
    terms: BTreeMap<(Uuid, i32), Term>,
}

#[derive(Debug, Default)]
struct Term {
    leader_epoch: i32,
    followed: BTreeMap<i64, Followed>,
}

/// An order that was followed: its coordinator's term and its number, and what was appended.
#[derive(Clone, Copy, Debug)]
struct Followed {
    age: (i32, u64),
    at: AppendedHere,
}

impl Broker {
    /// A transaction was prepared, or found prepared: its partitions get their markers.
    pub(super) fn begin_marking(&mut self, now: Now, place: Place, id: &str) {
        let number = self.coordinator.next_number();
        let Some(loaded) = self.loaded(place) else { return };
        loaded.sending.insert(id.to_owned(), Sending { number, resend_at: None });
        self.send_markers(now, place, id);
    }

    /// Sends a transaction's order to the leaders of the partitions that have not answered.
    pub(super) fn send_markers(&mut self, now: Now, place: Place, id: &str) {
        let broker_epoch = self.broker_epoch();
        let Some(loaded) = self.loaded(place) else { return };
        let Some(Transaction::Marking(marking)) = loaded.ids.get(id) else { return };
        let Some(sending) = loaded.sending.get_mut(id) else { return };
        sending.resend_at = Some(now.mono.after_millis(PATIENCE_MS));
        let prepared = marking.prepared();
        let marker = Marker {
            producer_id: prepared.producer_id,
            producer_epoch: prepared.producer_epoch,
            coordinator_epoch: place.1,
            result: prepared.result(),
        };
        let version = prepared.client_version.level();
        let left: Vec<Partition> = marking.left().iter().cloned().collect();
        let (orderer, number) = (Orderer::Here, sending.number);
        let from = MarkerFrom { orderer, broker_epoch, place, number, id: id.to_owned() };
        let mut elsewhere: BTreeMap<i32, Vec<MarkerPartition>> = BTreeMap::new();
        for partition in left {
            match self.whereabouts(&partition) {
                Whereabouts::Gone => self.mark(place, id, &partition),
                Whereabouts::Nowhere => {}
                Whereabouts::Here(at) => self.follow_order(now, &from, at, &marker, version),
                Whereabouts::At(node, at) => elsewhere.entry(node).or_default().push(at),
            }
        }
        for (node, partitions) in elsewhere {
            let from = from.clone();
            let order = MarkerOrder { from, marker, version, partitions };
            self.tell_node(node, Message::Markers(order));
        }
        self.complete_if_marked(now, place, id);
    }

    fn whereabouts(&self, partition: &Partition) -> Whereabouts {
        let (topic, index) = partition;
        let at = |id, leader_epoch| MarkerPartition {
            topic: topic.clone(),
            id,
            partition: *index,
            leader_epoch,
        };
        let Some(node) = &self.node else {
            let found = self.topics.get(topic);
            return match found.and_then(|t| Some((t.id, t.partitions.get(index)?.leader_epoch))) {
                Some((id, epoch)) => Whereabouts::Here(at(id, epoch)),
                None => Whereabouts::Gone,
            };
        };
        let id = node.view.topics.get(topic).map(|topic| topic.id);
        let (Some(id), Some(image)) = (id, node.view.partition(topic, *index)) else {
            return Whereabouts::Gone;
        };
        match image.leader {
            NO_NODE => Whereabouts::Nowhere,
            leader if leader == self.config.node_id => {
                Whereabouts::Here(at(id, image.leader_epoch))
            }
            leader => Whereabouts::At(leader, at(id, image.leader_epoch)),
        }
    }

    /// A coordinator orders a marker into a partition that this broker should lead.
    pub(super) fn follow_order(
        &mut self,
        now: Now,
        from: &MarkerFrom,
        at: MarkerPartition,
        marker: &Marker,
        version: i16,
    ) {
        let partition = (at.topic.clone(), at.partition);
        match self.try_follow(now, from, &at, marker, version) {
            Ok(Some(appended)) => {
                let then = Then::Marker { from: from.clone(), partition };
                self.await_write(appended, now.mono.after_millis(COMMIT_MS), then);
            }
            Ok(None) => {}
            Err(code) => self.marker_result(now, from.clone(), partition, Err(code)),
        }
    }

    /// Writes the marker, unless that was done; nothing comes of an order that is out of date.
    fn try_follow(
        &mut self,
        now: Now,
        from: &MarkerFrom,
        at: &MarkerPartition,
        marker: &Marker,
        version: i16,
    ) -> Result<Option<AppendedHere>, ErrorCode> {
        let same_topic = self.topics.get(&at.topic).is_some_and(|topic| topic.id == at.id);
        let (partition, _) = self.led(&at.topic, at.partition)?;
        if partition.leader_epoch != at.leader_epoch || !same_topic {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let terms = &mut self.coordinator.participants.terms;
        let term = terms.entry((at.id, at.partition)).or_default();
        if term.leader_epoch != at.leader_epoch {
            *term = Term { leader_epoch: at.leader_epoch, followed: BTreeMap::new() };
        }
        let age = (from.place.1, from.number);
        match term.followed.get(&marker.producer_id) {
            Some(followed) if followed.age == age => return Ok(Some(followed.at)),
            Some(followed) if followed.age > age => return Ok(None),
            _ => {}
        }
        let appended = self.append_marker(now, &at.topic, at.partition, marker, version)?;
        if let Some(term) = self.coordinator.participants.terms.get_mut(&(at.id, at.partition)) {
            term.followed.insert(marker.producer_id, Followed { age, at: appended });
        }
        Ok(Some(appended))
    }

    /// A marker is committed, or could not be written: who ordered it hears of it.
    pub(super) fn marker_result(
        &mut self,
        now: Now,
        from: MarkerFrom,
        partition: Partition,
        result: Result<(), ErrorCode>,
    ) {
        let code = result.err().unwrap_or(ErrorCode::None);
        match from.orderer {
            Orderer::Here => self.marker_answered(now, &from, &partition, code),
            Orderer::Node(node) => {
                let answer = MarkerAnswer { from, partition, code };
                self.tell_node(node, Message::Marked(answer));
            }
        }
    }

    /// A leader has answered an order.
    pub(super) fn marker_answered(
        &mut self,
        now: Now,
        from: &MarkerFrom,
        partition: &Partition,
        code: ErrorCode,
    ) {
        if from.broker_epoch != self.broker_epoch() {
            return;
        }
        let Some(loaded) = self.loaded(from.place) else { return };
        let Some(sending) = loaded.sending.get_mut(&from.id) else { return };
        if sending.number != from.number {
            return;
        }
        match code {
            ErrorCode::None => {}
            ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced => {
                tracing::warn!(id = from.id, ?partition, ?code, "a marker is out of date");
                sending.resend_at = None;
                return;
            }
            _ => {
                let soon = now.mono.after_millis(BACKOFF_MS);
                sending.resend_at = sending.resend_at.map(|at| at.min(soon));
                return;
            }
        }
        self.mark(from.place, &from.id, partition);
        self.complete_if_marked(now, from.place, &from.id);
    }

    fn mark(&mut self, place: Place, id: &str, partition: &Partition) {
        let Some(loaded) = self.loaded(place) else { return };
        if let Some(Transaction::Marking(marking)) = loaded.ids.get_mut(id) {
            marking.marked(partition);
        }
    }

    fn complete_if_marked(&mut self, now: Now, place: Place, id: &str) {
        let Some(loaded) = self.loaded(place) else { return };
        let marked =
            matches!(loaded.ids.get(id), Some(Transaction::Marking(m)) if m.left().is_empty());
        if !marked {
            return;
        }
        if let Some(Transaction::Marking(marking)) = loaded.ids.remove(id) {
            loaded.ids.insert(id.to_owned(), Transaction::Completing(marking.complete()));
        }
        self.append_state(now, place, id, AfterState::Completed);
    }

    /// That a transaction is complete was written, or is to be written again later.
    pub(super) fn completed(&mut self, now: Now, place: Place, id: &str, written: bool) {
        let Some(loaded) = self.loaded(place) else { return };
        if written {
            loaded.sending.remove(id);
        } else if let Some(sending) = loaded.sending.get_mut(id) {
            sending.resend_at = Some(now.mono.after_millis(BACKOFF_MS));
        }
    }

    /// When the next order is sent again.
    pub(super) fn next_marker_due(&self) -> Option<Instant> {
        let loaded = self.coordinator.led.values().filter_map(|led| led.loaded.as_ref());
        loaded.flat_map(|l| l.sending.values().filter_map(|sending| sending.resend_at)).min()
    }

    /// Sends orders again that nobody answered.
    pub(super) fn resend_markers(&mut self, now: Now) {
        let mut due = Vec::new();
        for (partition, led) in &self.coordinator.led {
            let Some(loaded) = &led.loaded else { continue };
            for (id, sending) in &loaded.sending {
                if sending.resend_at.is_some_and(|at| at <= now.mono) {
                    due.push(((*partition, led.epoch), id.clone()));
                }
            }
        }
        for (place, id) in due {
            if let Some(sending) = self.loaded(place).and_then(|l| l.sending.get_mut(&id)) {
                // A transaction that is not to be marked now has nothing to send.
                sending.resend_at = None;
            }
            self.send_markers(now, place, &id);
        }
    }

    /// This node's life; a broker on its own has but one.
    pub(super) fn broker_epoch(&self) -> u64 {
        self.node.as_ref().and_then(|node| node.broker_epoch()).unwrap_or(0)
    }

    /// Sends a message to another node.
    pub(super) fn tell_node(&mut self, node: i32, message: Message) {
        if let Some(own) = self.node_mut() {
            own.tell(Peer::Node(node), message);
        }
    }

    /// A coordinator's order has arrived.
    pub(crate) fn markers_ordered(&mut self, now: Now, from: i32, order: MarkerOrder) {
        let given = MarkerFrom { orderer: Orderer::Node(from), ..order.from };
        for at in order.partitions {
            self.follow_order(now, &given, at, &order.marker, order.version);
        }
    }

    /// A leader's answer has arrived.
    pub(crate) fn marked_elsewhere(&mut self, now: Now, answer: &MarkerAnswer) {
        self.marker_answered(now, &answer.from, &answer.partition, answer.code);
    }

    /// Forgets what was followed in partitions that are not led here any more.
    pub(super) fn forget_participants(&mut self) {
        let led: Vec<(Uuid, i32)> = self.coordinator.participants.terms.keys().copied().collect();
        for (id, index) in led {
            let name = self.names.get(&id).cloned();
            if name.is_none_or(|name| self.led(&name, index).is_err()) {
                self.coordinator.participants.terms.remove(&(id, index));
            }
        }
    }
}

/// Where a partition of a transaction is led.
enum Whereabouts {
    Here(MarkerPartition),
    At(i32, MarkerPartition),
    /// By nobody at the moment.
    Nowhere,
    /// It was deleted.
    Gone,
}
