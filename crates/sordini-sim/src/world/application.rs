//! The applications: they send in bursts, wait where they must, flush, drop receipts, close.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sordini_core::accumulator::topic::{Topic, TopicWait, Turn};
use sordini_core::accumulator::{Intent, NotAppended, Provision};
use sordini_core::memory::MemoryWait;
use sordini_core::producer::io::{Command, Input, Token};
use sordini_core::record::{Header, Record};
use sordini_core::time::Instant;

use super::{Event, World};
use crate::history::{History, Rejected, Shape};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::timeline::Weight;

/// What a send waits for.
enum Wait {
    Topic(Pin<Box<TopicWait>>),
    Memory(Pin<Box<MemoryWait>>, Option<Turn>),
}

struct Waiting {
    id: u64,
    topic: Arc<Topic>,
    provision: Provision,
    wait: Wait,
}

/// One producer's application.
pub(super) struct Application {
    rng: Rng,
    waiting: Vec<Waiting>,
    /// Records to be sent again.
    pub(super) again: VecDeque<u64>,
    /// Records that each flush waits for: all accepted before this many.
    flushes: BTreeMap<Token, u64>,
    pub(super) close: Option<Token>,
    left: u32,
}

impl Application {
    pub(super) fn new(plan: &Plan, number: u16) -> Self {
        Self {
            rng: Rng::stream(plan.seed, 200 + u64::from(number)),
            waiting: Vec::new(),
            again: VecDeque::new(),
            flushes: BTreeMap::new(),
            close: None,
            left: plan.workload.records / u32::from(plan.workload.producers.max(1)),
        }
    }

    /// The process is gone: nothing is waited for any more.
    pub(super) fn die(&mut self, history: &mut History) {
        for waiting in std::mem::take(&mut self.waiting) {
            history.reject(waiting.id, Rejected::GaveUp);
        }
        self.again.clear();
        self.flushes.clear();
        self.close = None;
    }

    /// Does a send wait?
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl World<'_> {
    /// An application does its next burst.
    pub(super) fn work(&mut self, client: u16) {
        let at = usize::from(client);
        let workload = &self.plan.workload;
        if self.plan.transactions.is_some() {
            return self.transact(client);
        }
        if self.healed || self.applications[at].close.is_some() {
            return;
        }
        if let Some((when, patience)) = workload.close
            && client == 0
            && self.now >= Instant::from_millis(when)
        {
            let until = self.now.saturating_add(Duration::from_millis(patience));
            self.close(client, until);
            return;
        }
        let application = &mut self.applications[at];
        let flush = application.rng.chance(u64::from(workload.flushes));
        let mut count = application.rng.within(1..=u64::from(workload.burst)) as u32;
        count = count.min(application.left);
        application.left -= count;
        let pause = workload.pause(self.plan.chaos);
        let pause = application.rng.micros(0..=pause.as_micros() as u64 * 2);
        // One that waits sends nothing new: it stands in its own way.
        if !application.is_waiting() {
            if let Some(id) = self.applications[at].again.pop_front() {
                self.send_again(client, id);
            }
            for _ in 0..count {
                self.send_one(client);
            }
        }
        if flush {
            self.flush(client);
        }
        self.after(pause, Event::Work(client));
    }

    pub(super) fn send_one(&mut self, client: u16) {
        let workload = &self.plan.workload;
        let application = &mut self.applications[usize::from(client)];
        let topic = application.rng.below(self.plan.topics.len() as u64) as u16;
        let shape = workload.shape(&mut application.rng, self.now);
        let explicit = application.rng.chance(u64::from(workload.explicit));
        let partitions = self.plan.topics[usize::from(topic)].partitions as u64;
        // Now and then one that does not exist.
        let odd = if application.rng.chance(2) { 1000 } else { 0 };
        let explicit = explicit.then(|| application.rng.below(partitions) as i32 + odd);
        self.send(client, topic, explicit, shape);
    }

    /// A record whose fate is unknown is sent again, which no setting makes safe.
    fn send_again(&mut self, client: u16, id: u64) {
        let Some(record) = self.history.get(id).cloned() else { return };
        let again =
            self.history.invoke(self.now, client, record.topic, record.explicit, record.shape);
        if let Some(new) = self.history.get_mut(again) {
            new.origin = record.origin;
        }
        self.append_new(client, again);
    }

    pub(super) fn send(
        &mut self,
        client: u16,
        topic: u16,
        explicit: Option<i32>,
        shape: Shape,
    ) -> u64 {
        let id = self.history.invoke(self.now, client, topic, explicit, shape);
        self.append_new(client, id);
        id
    }

    fn append_new(&mut self, client: u16, id: u64) {
        let Some(record) = self.history.get(id) else { return };
        let name = &self.plan.topics[usize::from(record.topic)].name;
        let topic = self.clients[usize::from(client)].producer.accumulator().topic(name);
        self.note_record(client, id);
        self.append(client, id, &topic, None, self.provision(client));
    }

    fn append(
        &mut self,
        client: u16,
        id: u64,
        topic: &Arc<Topic>,
        turn: Option<Turn>,
        mut provision: Provision,
    ) {
        let Some(submitted) = self.history.get(id) else { return };
        let content = submitted.content();
        let topic_number = submitted.topic;
        let (partition, timestamp) = (submitted.explicit, submitted.shape.timestamp);
        let headers = content.headers.iter();
        let headers: Vec<Header<'_>> =
            headers.map(|(name, value)| Header { name, value: value.as_deref() }).collect();
        let record = Record {
            key: content.key.as_deref(),
            value: content.value.as_deref(),
            headers: &headers,
            timestamp,
        };
        let intent = Intent { record, partition };
        let at = usize::from(client);
        let accumulator = Arc::clone(self.clients[at].producer.accumulator());
        let result = if turn.is_some() || provision.segment.is_some() {
            accumulator.append_in_turn(topic, &intent, true, &mut provision)
        } else {
            accumulator.try_append(topic, &intent, true, &mut provision)
        };
        let wait = match result {
            Ok(Some(delivery)) => {
                let partition = delivery.partition();
                self.history.accept(id, self.now, partition);
                self.clients[at].pace.give(self.now);
                if partition >= self.plan.topics[usize::from(topic_number)].partitions {
                    self.coverage.meet("app: wrote to a partition that was added", 1);
                }
                let (completion, index) = delivery.batch();
                self.clients[at].expect(completion, index, id);
                self.keep_or_drop(at, delivery);
                return;
            }
            Ok(None) => return self.violation("P2", format!("record {id} got no receipt")),
            Err(NotAppended::Refused(refusal)) => {
                self.coverage.meet("app: refused", 1);
                return self.history.reject(id, Rejected::Refused(refusal.to_string()));
            }
            Err(NotAppended::Unresolved) => {
                self.coverage.meet("app: waited for a topic", 1);
                Wait::Topic(Box::pin(topic.wait(&accumulator)))
            }
            Err(NotAppended::NoMemory { least }) => {
                self.coverage.meet("app: waited for memory", 1);
                Wait::Memory(Box::pin(accumulator.memory().wait(least)), turn)
            }
        };
        let first = !self.applications[at].waiting.iter().any(|it| it.id == id);
        self.applications[at].waiting.push(Waiting {
            id,
            topic: Arc::clone(topic),
            provision,
            wait,
        });
        if first && self.history.get(id).is_some_and(|it| it.invoked == self.now) {
            let patience = self.config.max_block;
            self.after(patience, Event::GiveUp(client, id));
        }
        // It takes its place in the queue at once.
        while self.poll_waiting(client) {}
    }

    /// Some applications wait for their receipts, some drop them.
    fn keep_or_drop(&mut self, at: usize, delivery: sordini_core::batch::completion::Delivery) {
        let detached = u64::from(self.plan.workload.detached);
        if self.applications[at].rng.chance(detached) {
            delivery.detach();
            return;
        }
        let mut delivery = delivery;
        let waker = Waker::from(Arc::clone(&self.clients[at].receipts));
        let polled = Pin::new(&mut delivery).poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            self.clients[at].kept.push_back(delivery);
        }
        // Old receipts are dropped unread at some time.
        if self.clients[at].kept.len() > 64 {
            self.clients[at].kept.pop_front();
        }
    }

    /// Polls those who wait; true if one went on.
    pub(super) fn poll_waiting(&mut self, client: u16) -> bool {
        let at = usize::from(client);
        let waker = Waker::from(Arc::clone(&self.clients[at].woken));
        let mut cx = Context::from_waker(&waker);
        for index in 0..self.applications[at].waiting.len() {
            let waiting = &mut self.applications[at].waiting[index];
            let (turn, segment) = match &mut waiting.wait {
                Wait::Topic(wait) => match wait.as_mut().poll(&mut cx) {
                    Poll::Pending => continue,
                    Poll::Ready(Ok(turn)) => (Some(turn), None),
                    Poll::Ready(Err(refusal)) => {
                        let waiting = self.applications[at].waiting.remove(index);
                        let why = Rejected::Refused(refusal.to_string());
                        self.history.reject(waiting.id, why);
                        return true;
                    }
                },
                Wait::Memory(wait, turn) => match wait.as_mut().poll(&mut cx) {
                    Poll::Pending => continue,
                    Poll::Ready(segment) => (turn.take(), Some(segment)),
                },
            };
            let waiting = self.applications[at].waiting.remove(index);
            let Waiting { id, topic, mut provision, .. } = waiting;
            provision.segment = segment;
            self.append(client, id, &topic, turn, provision);
            return true;
        }
        false
    }

    /// A send waits no longer.
    pub(super) fn give_up(&mut self, client: u16, id: u64) {
        let waiting = &mut self.applications[usize::from(client)].waiting;
        let Some(index) = waiting.iter().position(|it| it.id == id) else { return };
        let gone = waiting.remove(index);
        self.coverage.meet("app: waited no longer", 1);
        self.history.reject(gone.id, Rejected::GaveUp);
        drop(gone);
        while self.poll_waiting(client) {}
    }

    // ---- commands

    pub(super) fn flush(&mut self, client: u16) -> Token {
        if !self.healed {
            self.coverage.meet("app: flushed", 1);
        }
        let it = &mut self.clients[usize::from(client)];
        let token = Token(it.next_token);
        it.next_token += 1;
        let mark = it.producer.accumulator().mark();
        let accepted = self.history.accepted();
        self.applications[usize::from(client)].flushes.insert(token, accepted);
        self.feed(client, Input::Command(Command::Flush { token, mark }));
        token
    }

    pub(super) fn close(&mut self, client: u16, deadline: Instant) -> Token {
        if !self.healed {
            self.coverage.meet("app: closed", 1);
        }
        let it = &mut self.clients[usize::from(client)];
        let token = Token(it.next_token);
        it.next_token += 1;
        self.applications[usize::from(client)].close = Some(token);
        self.tell(Weight::Trouble, format!("app {client}"), "closes the producer".to_owned());
        self.feed(client, Input::Command(Command::Close { token, deadline }));
        token
    }

    /// B13: a flush waits for all that was accepted before it was called; a close for everything.
    pub(super) fn check_finished(&mut self, client: u16, token: Token) {
        let application = &mut self.applications[usize::from(client)];
        let before = match application.flushes.remove(&token) {
            Some(before) => before,
            None if application.close == Some(token) => u64::MAX,
            None => return,
        };
        let open = |record: &&crate::history::Submitted| {
            let accepted = record.accepted.as_ref();
            record.producer == client
                && record.done.is_none()
                && accepted.is_some_and(|accepted| accepted.order < before)
        };
        if let Some(record) = self.history.records.iter().find(open) {
            let text = format!("flushed or closed, and record {} has no outcome", record.id);
            self.violation("P2", text);
        }
    }

    /// Commands of this producer that are not answered.
    pub(super) fn unanswered(&self, client: u16) -> usize {
        let at = usize::from(client);
        let closing = self.applications[at].close;
        let closing = closing.filter(|token| !self.clients[at].finished.contains_key(token));
        let calls = self.transactors.get(at).map_or(0, super::Transactor::unanswered);
        self.applications[at].flushes.len() + usize::from(closing.is_some()) + calls
    }
}
