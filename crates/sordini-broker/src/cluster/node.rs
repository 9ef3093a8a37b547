//! What makes a broker a node: its view, its talk with the controller, its timers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sordini_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use sordini_protocol::{ErrorCode, Message as _, Uuid};

use super::ClusterConfig;
use super::follower::Fetcher;
use super::image::{Image, PartitionImage};
use super::leader::HeldFetch;
use super::peer::{Doubtful, Message, Peer};
use super::trace::{ClusterTrace, PartitionId};
use crate::api::{Request, Response};
use crate::broker::{Broker, ConnectionId, Ends, NewTopic};
use crate::faults::LeaderHint;
use crate::time::{Instant, Now};

/// How long a node waits for the controller's answer to a client's request.
const FORWARD_PATIENCE_MS: i64 = 5_000;

/// A node's own part of a broker.
#[derive(Debug)]
pub(crate) struct Node {
    pub(super) id: i32,
    pub(super) config: ClusterConfig,
    pub(crate) cluster_id: Uuid,
    incarnation: u64,
    /// Given by the controller; none until registered.
    pub(super) broker_epoch: Option<u64>,
    pub(crate) view: Arc<Image>,
    pub(super) outbox: Vec<(Peer, Message)>,
    pub(super) traces: Vec<ClusterTrace>,
    /// Why the node is to stop, if it is.
    pub(super) ended: Option<ClusterTrace>,
    leaving: bool,
    heartbeat_at: Instant,
    pub(super) isr_check_at: Instant,
    /// Numbers requests to peers.
    seq: u64,
    producer_ids: std::ops::Range<i64>,
    /// The request for producer ids that is on its way, and when it counts as lost.
    ids_asked: Option<(u64, Instant)>,
    /// What the broker's folder said when it was opened: whether it was closed, what was synced
    /// and what was committed, by partition folder.
    pub(crate) found: Found,
    pub(super) fetchers: BTreeMap<i32, Fetcher>,
    /// Followers' fetches that wait for records.
    pub(super) held: BTreeMap<i32, HeldFetch>,
    /// The newest fetch of each follower: its life, and its number.
    pub(super) fetched: BTreeMap<i32, (u64, u64)>,
    /// Partitions with something new for followers.
    pub(super) news: BTreeSet<(Uuid, i32)>,
    /// Partitions whose waiting produce requests may be done.
    pub(crate) settled: BTreeSet<(Uuid, i32)>,
    /// Clients' requests that the controller has.
    forwarded: BTreeMap<u64, ConnectionId>,
    /// Internal topics that the controller was asked for, and when it is asked again.
    asked_for: BTreeMap<String, Instant>,
}

/// What opening a broker's folder found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub clean: bool,
    /// What the logs held when they were closed, if they were; each is of use once.
    pub ends: Ends,
    pub doubtful: Doubtful,
    pub recovery_points: BTreeMap<String, i64>,
    pub high_watermarks: BTreeMap<String, i64>,
}

impl Node {
    pub(super) fn new(config: &ClusterConfig, cluster_id: Uuid, incarnation: u64) -> Self {
        Self {
            id: 0,
            config: config.clone(),
            cluster_id,
            incarnation,
            broker_epoch: None,
            view: Arc::default(),
            outbox: Vec::new(),
            traces: Vec::new(),
            ended: None,
            leaving: false,
            heartbeat_at: Instant(0),
            isr_check_at: Instant(0),
            seq: 0,
            producer_ids: 0..0,
            ids_asked: None,
            found: Found::default(),
            fetchers: BTreeMap::new(),
            held: BTreeMap::new(),
            fetched: BTreeMap::new(),
            news: BTreeSet::new(),
            settled: BTreeSet::new(),
            forwarded: BTreeMap::new(),
            asked_for: BTreeMap::new(),
        }
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Tells of something that happened to a partition here; nothing is looked up where nobody
    /// wants to know.
    pub(super) fn trace(
        &mut self,
        (id, index): (Uuid, i32),
        event: impl FnOnce(i32, PartitionId) -> ClusterTrace,
    ) {
        if self.config.traced
            && let Some(at) = self.name(id, index)
        {
            self.traces.push(event(self.id, at));
        }
    }

    pub(super) fn tell_controller(&mut self, message: Message) {
        self.outbox.push((Peer::Controller, message));
    }

    /// The node stops as if killed, because its storage can't be trusted.
    pub(super) fn halt(&mut self, reason: String) {
        let node = self.id;
        self.ended.get_or_insert(ClusterTrace::Halted { node, reason });
    }

    /// Names a partition in a trace.
    fn name(&self, id: Uuid, partition: i32) -> Option<PartitionId> {
        let topic = self.view.topic(&id)?;
        Some(PartitionId { id, topic: Arc::clone(&topic.name), partition })
    }

    /// When the node has something to do.
    pub(crate) fn next_due(&self) -> Instant {
        let fetchers = self.fetchers.values().filter_map(Fetcher::due);
        let held = self.held.values().map(|held| held.deadline);
        let own = [self.heartbeat_at, self.isr_check_at];
        fetchers.chain(held).chain(own).min().unwrap_or(self.heartbeat_at)
    }

    /// A producer id that no node has given out; none while the controller is asked.
    pub(crate) fn producer_id(&mut self, now: Now) -> Option<i64> {
        let id = self.producer_ids.next();
        let asked = self.ids_asked.is_some_and(|(_, lost_at)| now.mono < lost_at);
        if id.is_none()
            && !asked
            && let Some(broker_epoch) = self.broker_epoch
        {
            let seq = self.next_seq();
            self.ids_asked = Some((seq, now.mono.after(self.config.heartbeat)));
            self.tell_controller(Message::AllocateIds { broker_epoch, seq });
        }
        id
    }

    /// Has a topic created, whose name a client looked for. Nobody waits for the answer.
    pub(crate) fn ask_for_topic(&mut self, name: &str) {
        self.create(CreatableTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            ..CreatableTopic::default()
        });
    }

    fn create(&mut self, topic: CreatableTopic) {
        let Some(broker_epoch) = self.broker_epoch else { return };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let (seq, version) = (self.next_seq(), *CreateTopicsRequest::VERSIONS.end());
        let request = Arc::new(Request::CreateTopics(request));
        self.tell_controller(Message::Forward { broker_epoch, seq, version, request });
    }

    /// Has a topic created as it is described. Nobody waits for the answer.
    pub(crate) fn ask_for(&mut self, now: Now, new: &NewTopic) {
        if self.asked_for.get(&new.name).is_some_and(|again_at| now.mono < *again_at) {
            return;
        }
        let again_at = now.mono.after(self.config.heartbeat);
        self.asked_for.insert(new.name.clone(), again_at);
        let configs = new
            .settings
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: name.clone(), value: value.clone() });
        self.create(CreatableTopic {
            name: new.name.clone(),
            num_partitions: new.partitions,
            replication_factor: new.replication,
            configs: configs.collect(),
            ..CreatableTopic::default()
        });
    }

    /// How many nodes the cluster has, running or not.
    pub(crate) fn cluster_size(&self) -> i32 {
        self.config.nodes
    }

    /// This life of the node; none until it is registered.
    pub(crate) fn broker_epoch(&self) -> Option<u64> {
        self.broker_epoch
    }

    /// Sends a message to a peer.
    pub(crate) fn tell(&mut self, to: Peer, message: Message) {
        self.outbox.push((to, message));
    }

    /// A client's request is not waited for any more.
    pub(crate) fn give_up_forwarded(&mut self, seq: u64) {
        self.forwarded.remove(&seq);
    }

    fn greet(&mut self, now: Now, host: &str, port: u16) {
        self.heartbeat_at = now.mono.after(self.config.heartbeat);
        let (version, leaving) = (self.view.version, self.leaving);
        let message = match self.broker_epoch {
            None => {
                let (incarnation, doubtful) = (self.incarnation, self.found.doubtful.clone());
                Message::Register { incarnation, host: host.to_owned(), port, doubtful }
            }
            Some(broker_epoch) => Message::Heartbeat { broker_epoch, version, leaving },
        };
        self.tell_controller(message);
    }

    fn take_ids(&mut self, of: u64, seq: u64, first: i64, count: i64) {
        let asked = self.ids_asked.is_some_and(|(asked, _)| asked == seq);
        if asked && self.broker_epoch == Some(of) {
            self.ids_asked = None;
            self.producer_ids = first..first.saturating_add(count);
        }
    }
}

/// Says why a topic was not created that only this node asked for: no client is told.
fn tell_refused(response: &Response) {
    let Response::CreateTopics(response) = response else { return };
    for topic in &response.topics {
        let code = ErrorCode::from_code(topic.error_code);
        if !matches!(code, ErrorCode::None | ErrorCode::TopicAlreadyExists) {
            let (topic, error) =
                (&topic.name, topic.error_message.as_deref().unwrap_or(code.name()));
            tracing::warn!(topic, error, "a topic can't be created");
        }
    }
}

impl Broker {
    /// A node's part, if this broker is one.
    pub(crate) fn node_mut(&mut self) -> Option<&mut Node> {
        self.node.as_deref_mut()
    }

    /// The node begins its life.
    pub(super) fn node_started(&mut self, now: Now) {
        let id = self.config.node_id;
        if let Some(node) = self.node_mut() {
            node.id = id;
            node.isr_check_at = now.mono.after(node.config.heartbeat);
        }
        self.greet_controller(now);
    }

    fn greet_controller(&mut self, now: Now) {
        let (host, port) = (self.config.advertised_host.clone(), self.config.advertised_port);
        if let Some(node) = self.node_mut() {
            node.greet(now, &host, port);
        }
    }

    /// The node begins a controlled shutdown.
    pub(super) fn leave(&mut self, now: Now) {
        if let Some(node) = self.node_mut() {
            node.leaving = true;
        }
        self.greet_controller(now);
    }

    /// A peer's message has arrived.
    pub(super) fn handle_peer(&mut self, now: Now, from: Peer, message: Message) {
        match message {
            Message::Registered { incarnation, broker_epoch, image } => {
                self.registered(now, incarnation, broker_epoch, image);
            }
            Message::HeartbeatAnswer { broker_epoch, image, may_leave } => {
                if self.node_mut().and_then(|node| node.broker_epoch) != Some(broker_epoch) {
                    return;
                }
                let has_news = image.is_some();
                if let Some(image) = image {
                    self.apply_image(now, image);
                }
                if has_news && self.node_mut().is_some_and(|node| node.leaving) {
                    // The sooner it is known that the new leaders are heard of, the sooner it goes.
                    self.greet_controller(now);
                }
                if may_leave {
                    self.stop_in_order();
                }
            }
            Message::Image(image) => self.apply_image(now, image),
            Message::IsrAnswer { seq, topic, partition, state } => {
                self.isr_answered(now, seq, topic, partition, state);
            }
            Message::Ids { broker_epoch, seq, first, count } => {
                if let Some(node) = self.node_mut() {
                    node.take_ids(broker_epoch, seq, first, count);
                }
            }
            Message::Forwarded { broker_epoch, seq, response } => {
                let Some(node) = self.node_mut() else { return };
                if node.broker_epoch == Some(broker_epoch) {
                    match node.forwarded.remove(&seq) {
                        Some(connection) => {
                            let response = Arc::unwrap_or_clone(response);
                            self.forwarded(now, connection, seq, response);
                        }
                        None => tell_refused(&response),
                    }
                }
            }
            Message::Fetch(fetch) => {
                if let Peer::Node(follower) = from {
                    self.follower_fetches(now, follower, fetch);
                }
            }
            Message::FetchAnswer(answer) => {
                if let Peer::Node(leader) = from {
                    self.leader_answers(now, leader, answer);
                }
            }
            Message::Markers(order) => {
                if let Peer::Node(coordinator) = from {
                    self.markers_ordered(now, coordinator, order);
                }
            }
            Message::Marked(answer) => self.marked_elsewhere(now, &answer),
            Message::Question(question) => {
                if let Peer::Node(leader) = from {
                    self.question_asked(now, leader, &question);
                }
            }
            Message::Answer(answer) => self.answer_arrived(now, answer),
            other => tracing::debug!(?other, "not for a node"),
        }
        self.run(now);
        self.tell_followers(now);
    }

    fn registered(&mut self, now: Now, incarnation: u64, epoch: u64, image: Arc<Image>) {
        let Some(node) = self.node_mut() else { return };
        if node.incarnation != incarnation || node.broker_epoch.is_some() {
            return;
        }
        node.broker_epoch = Some(epoch);
        self.apply_image(now, image);
        // Not before: a life that ends here must not hide from the next what the logs have lost.
        if let Err(error) = self.forget_clean_shutdown() {
            self.halt(error.to_string());
            return;
        }
        self.greet_controller(now);
    }

    fn stop_in_order(&mut self) {
        // What can't be closed is scanned at the next start.
        let _ = self.close();
        if let Some(node) = self.node_mut() {
            let stopped = ClusterTrace::Stopped { node: node.id };
            node.ended.get_or_insert(stopped);
        }
    }

    /// What a node does from time to time.
    pub(crate) fn node_timers(&mut self, now: Now) {
        let Some(node) = self.node_mut() else { return };
        if node.next_due() > now.mono {
            return;
        }
        if node.heartbeat_at <= now.mono {
            self.greet_controller(now);
        }
        self.check_isr(now);
        self.release_held(now);
        self.fetch_due(now);
    }

    /// Passes a client's request on to the controller. Returns its number, by which the answer
    /// will be known, and when to give up.
    pub(crate) fn forward(
        &mut self,
        now: Now,
        connection: ConnectionId,
        version: i16,
        request: Request,
    ) -> Result<(u64, Instant), ErrorCode> {
        let Some(node) = self.node_mut() else { return Err(ErrorCode::UnknownServerError) };
        let broker_epoch = node.broker_epoch.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let seq = node.next_seq();
        node.forwarded.insert(seq, connection);
        let request = Arc::new(request);
        node.tell_controller(Message::Forward { broker_epoch, seq, version, request });
        Ok((seq, now.mono.after_millis(FORWARD_PATIENCE_MS)))
    }

    /// Who leads a partition by this node's view, and where that is.
    pub(crate) fn leader_hint(&self, topic: &str, index: i32) -> Option<LeaderHint> {
        let view = &self.node.as_ref()?.view;
        let partition = view.partition(topic, index)?;
        let address = view.live(partition.leader);
        let endpoint = address.map(|broker| (broker.host.clone(), broker.port));
        Some(LeaderHint { id: partition.leader, epoch: partition.leader_epoch, endpoint })
    }

    /// A partition by this node's view; a broker on its own has none.
    pub(crate) fn leader_elsewhere(&self, topic: &str, index: i32) -> Option<&PartitionImage> {
        self.node.as_ref()?.view.partition(topic, index)
    }
}
