//! The reader's logic: inputs in, outputs out, time as a number. No clock, no socket.
//!
//! After each [`Machine::handle`] and [`Machine::tick`], drain [`Machine::poll_output`]; then wait
//! for an input until [`Machine::poll_timeout`]. Once [`Machine::result`] says something, it is
//! over (what `poll_output` still has comes first).

mod answers;
mod asks;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sordini_protocol::Uuid;

use super::batches::VisibleBatch;
use super::error::FetchError;
use super::link::{Answer, Ask, Link, LinkId};
use super::partition::Partition;
use super::settings::{Address, Settings};

/// Milliseconds since the reader began.
pub(super) type Millis = u64;

/// How long a topic may be unknown: its creation takes a moment to reach all brokers.
const UNKNOWN_TOPIC_PATIENCE: Millis = 2_000;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a reader must handle each")]
pub enum Start {
    /// At the first record that is there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At this offset, or the nearest one that is there.
    Offset(i64),
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The topic's name.
    pub topic: String,
    /// One partition, or all of them.
    pub partition: Option<i32>,
    /// Where to begin in each partition.
    pub start: Start,
    /// Stop at the ends as they were when reading began, instead of waiting for more?
    pub stop_at_end: bool,
}

impl Plan {
    /// All partitions of `topic`, from their first records on, without an end.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        let topic = topic.into();
        Self { topic, partition: None, start: Start::Earliest, stop_at_end: false }
    }
}

/// Something worth telling a person; reading goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The offset asked for is not there (any more), or lies at or behind the last stable offset
    /// where only what is committed is read; reading goes on at the nearest that can be read.
    Moved {
        /// The partition.
        partition: i32,
        /// The offset that was asked for.
        from: i64,
        /// The offset that comes next.
        to: i64,
    },
    /// Something failed, and is being tried again.
    Trouble(String),
}

/// What the driver tells the machine.
#[derive(Debug)]
pub(super) enum Input {
    Connected { link: LinkId },
    Closed { link: LinkId, cause: String },
    Received { link: LinkId, frame: Bytes },
}

/// What the machine asks of its driver, in this order.
#[derive(Debug)]
pub(super) enum Output {
    Connect { link: LinkId, address: Address },
    Send { link: LinkId, frame: Vec<u8> },
    Close { link: LinkId },
    Batch(VisibleBatch),
    Notice(Notice),
}

/// When something may be tried again.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    not_before: Millis,
}

#[derive(Debug)]
struct Refresh {
    /// Should it be asked for?
    wanted: bool,
    asked: bool,
    retry: Retry,
    /// When what is known is too old.
    due: Millis,
}

/// What is known of the topic.
#[derive(Debug)]
struct Topic {
    id: Uuid,
    /// Did metadata describe it once?
    known: bool,
    /// Since when every answer said that it does not exist.
    unknown_since: Option<Millis>,
}

/// The reader of one topic.
#[derive(Debug)]
pub(super) struct Machine {
    plan: Plan,
    settings: Settings,
    links: BTreeMap<LinkId, Link>,
    next_link: LinkId,
    brokers: BTreeMap<i32, Address>,
    /// Who told of `brokers`.
    told_by: Option<Address>,
    retries: BTreeMap<Address, Retry>,
    bootstrap_turn: usize,
    refresh: Refresh,
    topic: Topic,
    partitions: BTreeMap<i32, Partition>,
    /// Grows with each Fetch, so that each partition comes first in its turn.
    turn: usize,
    trouble: Option<String>,
    outputs: VecDeque<Output>,
    result: Option<Result<(), FetchError>>,
}

impl Machine {
    /// A reader that has not begun; [`Machine::tick`] starts it.
    pub(super) fn new(plan: Plan, settings: Settings) -> Self {
        let retry = Retry::default();
        Self {
            plan,
            settings,
            links: BTreeMap::new(),
            next_link: 0,
            brokers: BTreeMap::new(),
            told_by: None,
            retries: BTreeMap::new(),
            bootstrap_turn: 0,
            refresh: Refresh { wanted: true, asked: false, retry, due: Millis::MAX },
            topic: Topic { id: Uuid::ZERO, known: false, unknown_since: None },
            partitions: BTreeMap::new(),
            turn: 0,
            trouble: None,
            outputs: VecDeque::new(),
            result: None,
        }
    }

    /// How it ended, once it has.
    pub(super) fn result(&self) -> Option<&Result<(), FetchError>> {
        self.result.as_ref()
    }

    /// Takes in what happened.
    pub(super) fn handle(&mut self, now: Millis, input: Input) {
        match input {
            Input::Connected { link } => self.on_connected(now, link),
            Input::Closed { link, cause } => self.close(now, link, &cause),
            Input::Received { link, frame } => self.on_frame(now, link, frame),
        }
        self.advance(now);
    }

    /// Takes in that time has passed.
    pub(super) fn tick(&mut self, now: Millis) {
        self.advance(now);
    }

    /// What to do next.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Is there something to do?
    pub(super) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// When [`Machine::tick`] is wanted at the latest.
    pub(super) fn poll_timeout(&self, now: Millis) -> Option<Millis> {
        let links = self.links.values().flat_map(|link| [link.deadline, link.muted_until]);
        let retries = self.retries.values().map(|retry| retry.not_before);
        let patience = self.settings.api_timeout_ms();
        let partitions = self.partitions.values().flat_map(|partition| {
            let gives_up = match partition.need() {
                Some(_) => partition.last_good.saturating_add(patience),
                None => Millis::MAX,
            };
            [partition.not_before, gives_up]
        });
        let refresh = [self.refresh.retry.not_before, self.refresh.due, patience];
        let unknown = self.topic.unknown_since.map(|since| since + UNKNOWN_TOPIC_PATIENCE);
        let all = links.chain(retries).chain(partitions).chain(refresh).chain(unknown);
        all.filter(|at| *at > now && *at != Millis::MAX).min()
    }

    fn fail(&mut self, error: FetchError) {
        self.result.get_or_insert(Err(error));
    }

    /// Brings everything as far as it goes without waiting.
    fn advance(&mut self, now: Millis) {
        self.expire_links(now);
        self.check_patience(now);
        if self.topic.known && self.partitions.values().all(|partition| partition.need().is_none())
        {
            self.result.get_or_insert(Ok(()));
        }
        if self.result.is_some() {
            return;
        }
        self.refresh_metadata(now);
        self.serve_leaders(now);
    }

    fn expire_links(&mut self, now: Millis) {
        let late: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.deadline <= now)
            .map(|(id, link)| (*id, link.is_opening()))
            .collect();
        for (id, opening) in late {
            let cause = match opening {
                true => "it could not be set up in time (socket.connection.setup.timeout.ms)",
                false => "a request was not answered in time (request.timeout.ms)",
            };
            self.close(now, id, cause);
        }
    }

    /// Ends reading where nothing useful came for too long.
    fn check_patience(&mut self, now: Millis) {
        let patience = self.settings.api_timeout_ms();
        let topic = &self.plan.topic;
        if !self.topic.known {
            if self.topic.unknown_since.is_some_and(|at| now >= at + UNKNOWN_TOPIC_PATIENCE) {
                let topic = topic.clone();
                return self.fail(FetchError::UnknownTopic { topic });
            }
            if self.topic.unknown_since.is_none() && now >= patience {
                let what = format!("metadata of topic {topic:?}");
                let last = self.trouble.clone();
                return self.fail(self.no_answer(what, last));
            }
        }
        let stuck = self.partitions.values().find(|partition| {
            partition.need().is_some() && now >= partition.last_good.saturating_add(patience)
        });
        if let Some(partition) = stuck {
            let what = format!("{topic}-{}", partition.index);
            let last = partition.trouble.clone().or_else(|| self.trouble.clone());
            self.fail(self.no_answer(what, last));
        }
    }

    fn no_answer(&self, what: String, last: Option<String>) -> FetchError {
        let last = match last {
            Some(last) => last,
            None => format!("{} did not answer", self.settings.bootstrap_text()),
        };
        FetchError::NoAnswer { what, waited: self.settings.api_timeout, last }
    }

    /// Says what went wrong, once: a broker that is down fails many times in the same way.
    fn note_trouble(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            self.outputs.push_back(Output::Notice(Notice::Trouble(trouble.clone())));
            self.trouble = Some(trouble);
        }
    }

    fn want_metadata(&mut self, now: Millis) {
        if !self.refresh.wanted {
            self.refresh.wanted = true;
            self.refresh.retry.not_before = now + self.settings.pause(self.refresh.retry.failures);
            self.refresh.retry.failures = self.refresh.retry.failures.saturating_add(1);
        }
    }

    fn open(&mut self, now: Millis, address: Address, node: Option<i32>) {
        let id = self.next_link;
        self.next_link += 1;
        let deadline = now + self.settings.connect_timeout_ms();
        self.links.insert(id, Link::new(address.clone(), node, deadline));
        self.outputs.push_back(Output::Connect { link: id, address });
    }

    fn on_connected(&mut self, now: Millis, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let correlation = link.on_connected(now + self.settings.request_timeout_ms());
        match super::wire::api_versions(correlation, &self.settings.client_id) {
            Ok(frame) => self.outputs.push_back(Output::Send { link: id, frame }),
            Err(error) => self.close(now, id, &error.to_string()),
        }
    }

    /// The connection is of no more use; what was asked over it is asked again.
    fn close(&mut self, now: Millis, id: LinkId, cause: &str) {
        let Some(link) = self.links.remove(&id) else { return };
        self.outputs.push_back(Output::Close { link: id });
        let advice = match link.is_opening() {
            true => self.settings.advice(&link.address, self.told_by.as_ref()),
            false => String::new(),
        };
        let cause = format!("the connection to {} failed: {cause}{advice}", link.address);
        let was_idle = link.pending().is_none() && !link.is_opening();
        let pause = {
            let settings = self.settings.clone();
            move |failures| settings.pause(failures)
        };
        match link.pending() {
            Some(Ask::Metadata) => self.refresh.asked = false,
            Some(Ask::Offsets(asked) | Ask::Records(asked)) => {
                for (index, _) in asked {
                    if let Some(partition) = self.partitions.get_mut(index) {
                        partition.on_failure(now, cause.clone(), &pause);
                    }
                }
            }
            None => {}
        }
        // A broker closes connections that idle: no trouble, and no reason to wait.
        if was_idle {
            return;
        }
        let retry = self.retries.entry(link.address).or_default();
        retry.not_before = now + pause(retry.failures);
        retry.failures = retry.failures.saturating_add(1);
        if let Some(node) = link.node {
            let led = self.partitions.values_mut().filter(|p| p.leader == Some(node));
            led.for_each(|partition| partition.trouble = Some(cause.clone()));
        }
        self.note_trouble(cause);
        self.want_metadata(now);
    }

    fn on_frame(&mut self, now: Millis, id: LinkId, frame: Bytes) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let address = link.address.clone();
        match link.on_frame(frame) {
            Ok(Answer::Ready) => {
                self.retries.remove(&address);
            }
            Ok(Answer::To { ask, version, correlation, frame }) => {
                if let Err(error) = self.on_answer(now, id, &ask, version, correlation, frame) {
                    self.on_bad_answer(now, id, ask, &error.0);
                }
            }
            Err(error) => self.close(now, id, &error.0),
        }
    }

    /// An answer that can't be read ends its connection, and fails what it was to answer.
    fn on_bad_answer(&mut self, now: Millis, id: LinkId, ask: Ask, cause: &str) {
        match ask {
            Ask::Metadata => self.refresh.asked = false,
            Ask::Offsets(asked) | Ask::Records(asked) => {
                let settings = self.settings.clone();
                for (index, _) in asked {
                    if let Some(partition) = self.partitions.get_mut(&index) {
                        partition.on_failure(now, cause.to_owned(), |n| settings.pause(n));
                    }
                }
            }
        }
        self.close_as_broken(now, id, cause);
    }

    fn close_as_broken(&mut self, now: Millis, id: LinkId, cause: &str) {
        if let Some(link) = self.links.get(&id) {
            let retry = self.retries.entry(link.address.clone()).or_default();
            retry.not_before = now + self.settings.pause(retry.failures);
            retry.failures = retry.failures.saturating_add(1);
            self.note_trouble(format!("the answer of {} is unusable: {cause}", link.address));
        }
        self.close(now, id, cause);
        self.want_metadata(now);
    }
}
