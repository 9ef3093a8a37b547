//! What is written down for a timeline, where one is wanted.

use sordini_broker::ClusterTrace;
use sordini_core::batch::completion::Outcome;
use sordini_core::error::Fate;
use sordini_core::producer::io::Trace;
use sordini_core::time::Instant;
use sordini_protocol::ErrorCode;

use super::World;
use super::cluster::topic_number;
use crate::history::Tp;
use crate::monitor::{Answered, Sent};
use crate::timeline::{Moment, Timeline, Weight, name_records};

/// Until then nodes come up and topics are made, as in every world.
const SETTLED: Instant = Instant::from_millis(110);

impl World<'_> {
    /// Writes down what happens from now on.
    pub(crate) fn record(&mut self) {
        self.timeline = Some(Timeline::default());
        self.clients.iter_mut().for_each(|client| client.monitor.keep_sent());
    }

    /// What was written down.
    pub(crate) fn take_timeline(&mut self) -> Timeline {
        self.timeline.take().unwrap_or_default()
    }

    pub(super) fn tell(&mut self, weight: Weight, who: String, what: String) {
        self.tell_of(weight, who, what, None, Vec::new());
    }

    fn tell_of(
        &mut self,
        weight: Weight,
        who: String,
        what: String,
        partition: Option<Tp>,
        records: Vec<u64>,
    ) {
        let at = self.now;
        if let Some(timeline) = &mut self.timeline {
            timeline.push(Moment { at, who, what, partition, records, weight });
        }
    }

    pub(super) fn tell_fault(&mut self, number: usize, ends: bool) {
        if self.timeline.is_none() {
            return;
        }
        let Some(planned) = self.plan.faults.get(number) else { return };
        let what =
            if ends { format!("over: {}", planned.fault) } else { planned.fault.to_string() };
        self.tell(Weight::World, "FAULT".to_owned(), what);
    }

    pub(super) fn tell_cluster(&mut self, trace: &ClusterTrace) {
        if self.timeline.is_none() {
            return;
        }
        if let ClusterTrace::Appended { as_leader: true, node, .. } = trace {
            let Some(append) = self.read_append(self.now, trace) else { return };
            let what = format!(
                "appends {} to {} at {}, leader epoch {}",
                name_records(&append.ids),
                name(append.tp),
                append.base_offset,
                append.leader_epoch
            );
            let who = format!("node {node}");
            return self.tell_of(Weight::Routine, who, what, Some(append.tp), append.ids);
        }
        let Some((mut weight, who, what)) = told(trace) else { return };
        if self.now < SETTLED {
            weight = Weight::Detail;
        }
        let partition = match trace {
            ClusterTrace::Elected { at, .. }
            | ClusterTrace::Truncated { at, .. }
            | ClusterTrace::Isr { at, .. } => self.tp(at.id, at.partition),
            _ => None,
        };
        self.tell_of(weight, who, what, partition, Vec::new());
    }

    pub(super) fn tell_producer(&mut self, client: u16, trace: &Trace) {
        if self.timeline.is_none() {
            return;
        }
        let place = |topic: &str, partition: i32| topic_number(topic).map(|it| (it, partition));
        let (weight, what, partition) = match trace {
            Trace::Connected { address, .. } => {
                (Weight::Detail, format!("is connected to {address}"), None)
            }
            Trace::Disconnected { address, cause, .. } => {
                (Weight::Detail, format!("has no connection to {address}: {cause}"), None)
            }
            Trace::Retry { topic, partition, code, attempts } => {
                let why = code.map_or("the connection is gone", |code| code.name());
                let what =
                    format!("will send to {topic}-{partition} again ({why}; {attempts} so far)");
                (Weight::Trouble, what, place(topic, *partition))
            }
            Trace::EpochBumped { topic, partition, epoch } => {
                let what = format!("takes epoch {epoch} for {topic}-{partition}");
                (Weight::Trouble, what, place(topic, *partition))
            }
            Trace::DataLoss { topic, partition, code } => {
                let what = format!("tells of a loss in {topic}-{partition} ({})", code.name());
                (Weight::World, what, place(topic, *partition))
            }
            Trace::ProducerId { producer_id, epoch } => {
                (Weight::Trouble, format!("is producer id {producer_id}, epoch {epoch}"), None)
            }
            Trace::TopicGone { topic } => {
                (Weight::Trouble, format!("hears that {topic} is gone"), None)
            }
            Trace::Fatal(code) => (Weight::World, format!("can't go on: {}", code.name()), None),
            _ => return,
        };
        self.tell_of(weight, format!("producer {client}"), what, partition, Vec::new());
    }

    /// Batches that left a producer.
    pub(super) fn tell_sent(&mut self, client: u16, conn: u64) {
        let sent = self.clients[usize::from(client)].monitor.take_sent();
        let node = self.net.conns.get(&conn).map_or(0, |conn| conn.node);
        for Sent { tp, ids, epoch, base_sequence, .. } in sent {
            let first = ids.first().and_then(|id| self.history.get(*id));
            let again = if first.is_some_and(|it| it.sent > 1) { " again" } else { "" };
            let stamp = if epoch < 0 {
                String::new()
            } else {
                format!(", epoch {epoch}, sequence {base_sequence}")
            };
            let (records, to) = (name_records(&ids), name(tp));
            let what = format!("sends {records} to {to} on node {node}{again}{stamp}");
            self.tell_of(Weight::Routine, format!("producer {client}"), what, Some(tp), ids);
        }
    }

    /// What a node answered, as it reaches the producer.
    pub(super) fn tell_answer(&mut self, client: u16, answer: &Answered) {
        if self.timeline.is_none() {
            return;
        }
        let records = name_records(&answer.ids);
        let (weight, said) = match answer.code {
            ErrorCode::None => (Weight::Routine, "success"),
            code => (Weight::Trouble, code.name()),
        };
        let what = format!("hears {said} of node {} for {records}", answer.node);
        let (who, ids) = (format!("producer {client}"), answer.ids.clone());
        self.tell_of(weight, who, what, Some(answer.tp), ids);
    }

    /// What an application is told of its records.
    pub(super) fn tell_outcome(&mut self, client: u16, ids: &[u64], outcome: &Outcome) {
        if self.timeline.is_none() || ids.is_empty() {
            return;
        }
        let records = name_records(ids);
        let (weight, what) = match outcome {
            Outcome::Written { base_offset: Some(at), .. } => {
                (Weight::Routine, format!("is told: {records} written at {at}"))
            }
            Outcome::Written { .. } => (Weight::Routine, format!("is told: {records} written")),
            Outcome::Failed(error) => {
                let fate = match error.fate {
                    Fate::NotWritten => "not written",
                    _ => "perhaps written",
                };
                (Weight::Trouble, format!("is told: {records} {fate}: {error}"))
            }
        };
        let tp = ids.first().and_then(|id| self.history.get(*id)?.tp());
        self.tell_of(weight, format!("app {client}"), what, tp, ids.to_vec());
    }
}

fn name((topic, partition): Tp) -> String {
    format!("t{topic}-{partition}")
}

fn told(trace: &ClusterTrace) -> Option<(Weight, String, String)> {
    let node = |node: &i32| format!("node {node}");
    let controller = || "controller".to_owned();
    Some(match trace {
        ClusterTrace::Registered { node: of, .. } => {
            (Weight::World, node(of), "is up and registers".to_owned())
        }
        ClusterTrace::Fenced { node: of } => {
            (Weight::World, controller(), format!("fences node {of}"))
        }
        ClusterTrace::Stopped { node: of } => (Weight::World, node(of), "has shut down".to_owned()),
        ClusterTrace::Halted { node: of, reason } => {
            (Weight::World, node(of), format!("gives up: {reason}"))
        }
        ClusterTrace::Truncated { node: of, at, to, was, by_storage } => {
            let how = if *by_storage { "has lost" } else { "cuts off" };
            (Weight::World, node(of), format!("{how} {at:?} from {to} on (its end was {was})"))
        }
        ClusterTrace::Elected { at, leader: -1, .. } => {
            (Weight::World, controller(), format!("finds no leader for {at:?}"))
        }
        ClusterTrace::Elected { at, leader, leader_epoch, clean } => {
            let how = if *clean { "" } else { ", which was not in sync" };
            let what =
                format!("makes node {leader}{how} the leader of {at:?}, epoch {leader_epoch}");
            (Weight::World, controller(), what)
        }
        ClusterTrace::Isr { at, isr, .. } => {
            (Weight::Detail, controller(), format!("in sync in {at:?}: {isr:?}"))
        }
        ClusterTrace::Deleted { topic, .. } => {
            (Weight::World, controller(), format!("deletes topic {topic}"))
        }
        ClusterTrace::Created { topic, partitions, .. } => {
            (Weight::World, controller(), format!("creates topic {topic}, {partitions} partitions"))
        }
        _ => return None,
    })
}
