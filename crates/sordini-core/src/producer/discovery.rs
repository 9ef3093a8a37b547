//! Metadata and the producer id: what has to be known before a batch can go.

use std::collections::BTreeMap;
use std::sync::Arc;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use sordini_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};

use crate::accumulator::counters::add;
use crate::accumulator::topic::Topic;
use crate::cluster::{TopicNews, told_address};
use crate::config::Address;
use crate::connection::{Asked, ConnId, Connection};
use crate::error::{Cause, Obstacle, Refusal};
use crate::idempotence::Identity;
use crate::producer::Producer;
use crate::producer::io::Trace;
use crate::producer::table::PartitionKey;
use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;

impl Producer {
    /// Is there an identity to stamp with?
    pub(super) fn identity_is_ready(&self) -> bool {
        matches!(self.identity, Identity::Ready(_) | Identity::Assigned(_))
    }

    /// Asks for what is missing, as far as a connection is there to ask on.
    pub(super) fn discover(&mut self) {
        let refresh = self.refresh.next(self.config.metadata_max_age);
        let refresh = refresh.is_some_and(|at| at <= self.now) && !self.topics.is_empty();
        // Without a topic in use there is nothing to stamp: no id is asked for yet.
        let identify = self.identity.is_due(self.now) && !self.topics.is_empty();
        if !refresh && !identify {
            return;
        }
        if refresh {
            // Who owes an answer is not asked again; without another it is waited for.
            if let Some(conn) = self.any_connection(self.refresh.asked()) {
                self.refresh.give_up();
                self.ask_metadata(conn);
            }
            self.note_silence();
        }
        if identify {
            match self.any_connection(None) {
                Some(conn) => self.ask_producer_id(conn),
                None => self.note_silence(),
            }
        }
    }

    /// Until something fails, what keeps a topic from being known is that nobody answers.
    fn note_silence(&self) {
        let unknown = self.topics.values().filter(|topic| topic.partitions() == 0);
        let mut quiet = unknown
            .filter(|topic| {
                matches!(topic.obstacle(), Obstacle::NoAnswer | Obstacle::Silent { .. })
            })
            .peekable();
        if quiet.peek().is_some() {
            let silence = self.silence();
            quiet.for_each(|topic| topic.set_obstacle(silence.clone()));
        }
    }

    /// Is the topic not known yet, and waited for?
    fn is_sought(&self, index: u32) -> bool {
        let sought = |topic: &Arc<Topic>| topic.partitions() == 0 && topic.is_awaited();
        self.topics.get(&index).is_some_and(sought)
    }

    /// Is the topic known, and in use?
    fn is_used(&self, index: u32, last_used: Instant) -> bool {
        let idle = self.now.saturating_since(last_used);
        !self.is_sought(index)
            && (idle <= self.config.metadata_max_idle || self.has_unresolved(index))
    }

    fn ask_metadata(&mut self, conn: ConnId) {
        let create = self.config.allow_auto_create_topics;
        let leaders = self.refresh.concerns_leaders(self.now, self.config.metadata_max_age);
        let topics = self.cluster.topics();
        let named = |name: &Arc<str>| MetadataRequestTopic {
            name: Some(name.to_string()),
            ..MetadataRequestTopic::default()
        };
        let sought = topics.iter().filter(|(index, _)| self.is_sought(**index));
        let mut sought: Vec<_> = sought.map(|(_, info)| named(&info.name)).collect();
        let used = topics.iter().filter(|(index, info)| self.is_used(**index, info.last_used));
        let used = used.filter(|_| leaders || sought.is_empty());
        let mut used: Vec<_> = used.map(|(_, info)| named(&info.name)).collect();
        if !create {
            used.append(&mut sought);
        }
        // Topics that are not known yet are asked for apart: only for them is creation meant,
        // never for one that was deleted.
        let mut groups = Vec::new();
        if !sought.is_empty() {
            groups.push((sought, true));
        }
        if !used.is_empty() || groups.is_empty() {
            groups.push((used, false));
        }
        let round = self.refresh.sent(conn, self.now, groups.len(), leaders);
        for (topics, create) in groups {
            let request = MetadataRequest {
                topics: Some(topics),
                allow_auto_topic_creation: create,
                ..MetadataRequest::default()
            };
            let Some(versions) = self.connections.get(&conn).and_then(Connection::versions) else {
                return;
            };
            let version = versions.metadata;
            self.ask(conn, &request, version, Asked::Metadata(round, version));
        }
    }

    pub(super) fn on_metadata(&mut self, round: u64, response: MetadataResponse) {
        if !self.refresh.awaits(round) {
            return;
        }
        add(&self.accumulator.counters().metadata_refreshes, 1);
        let brokers: BTreeMap<i32, Address> = response
            .brokers
            .into_iter()
            .filter_map(|broker| Some((broker.node_id, told_address(broker.host, broker.port)?)))
            .collect();
        self.cluster.set_brokers(brokers);
        let mut complete = response.error_code == 0;
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            let known = self.topics.values().find(|known| **known.name() == **name);
            if let Some(known) = known.cloned() {
                complete &= self.on_topic_metadata(&known, topic);
            }
        }
        if !complete {
            self.refresh.want();
        }
        complete &= !self.topics.keys().any(|index| self.is_sought(*index));
        let bounds = self.retry_bounds();
        self.refresh.answered(complete, self.now, bounds, &mut self.rng);
        self.touch_all();
    }

    /// Takes in one topic; false if it has to be asked for again.
    fn on_topic_metadata(&mut self, topic: &Arc<Topic>, response: &MetadataResponseTopic) -> bool {
        match self.cluster.update(topic.index(), response) {
            None => true,
            Some(TopicNews::Later(code)) => {
                topic.set_obstacle(Obstacle::Broker(code));
                // A topic that nobody waits for and nothing is queued for needs no answer.
                !topic.is_awaited() && !self.has_unresolved(topic.index())
            }
            Some(TopicNews::Refused(code)) => {
                topic.set_obstacle(Obstacle::Broker(code));
                topic.refuse(&Refusal::Topic(code), false);
                !self.has_unresolved(topic.index())
            }
            Some(TopicNews::Gone) => {
                self.on_topic_gone(topic);
                true
            }
            Some(TopicNews::Known { partitions, whole }) => {
                let refusal = topic.refusal();
                topic.grow(partitions, refusal.as_ref());
                self.add_partitions(topic);
                for lane in topic.lanes() {
                    let leader = self.cluster.leader(topic.index(), lane.partition());
                    lane.set_available(leader.is_some());
                }
                topic.resolve();
                whole || !self.has_unresolved(topic.index())
            }
        }
    }

    fn topic_keys(&self, topic: u32) -> Vec<PartitionKey> {
        self.partitions.of_topic(topic).map(|(key, _)| key).collect()
    }

    fn has_unresolved(&self, topic: u32) -> bool {
        let mut partitions = self.partitions.of_topic(topic);
        partitions.any(|(_, partition)| partition.has_waiting() || !partition.line.is_empty())
    }

    /// The topic is another now: what is queued fails, and the handle is of no more use.
    pub(super) fn on_topic_gone(&mut self, topic: &Arc<Topic>) {
        self.trace(Trace::TopicGone { topic: Arc::clone(topic.name()) });
        topic.refuse(&Refusal::TopicGone, true);
        self.accumulator.retire(topic);
        self.on_lanes_due();
        let keys = self.topic_keys(topic.index());
        let stamped = |key| self.partitions.get(key).is_some_and(|at| at.line.identity().is_some());
        if keys.iter().any(stamped) {
            self.note_topic_gone(topic.index(), topic.name());
        }
        for key in keys {
            self.fail_partition(key, &Cause::TopicGone);
            // A broker that lags may bring the old topic back under its old id. What is written
            // then must not bear stamps that were used there before (S3).
            let left = self.partitions.get(&key).and_then(|partition| partition.line.identity());
            if left.is_some() {
                self.identity.renewed(left);
            }
            self.forget_partition(key);
        }
        self.cluster.forget(topic.index());
        self.topics.remove(&topic.index());
    }

    fn ask_producer_id(&mut self, conn: ConnId) {
        let Some(versions) = self.connections.get(&conn).and_then(Connection::versions) else {
            return;
        };
        let request = InitProducerIdRequest {
            transactional_id: None,
            // Required by the protocol, without meaning here.
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        self.identity.requested();
        self.identity_conn = Some(conn);
        let version = versions.init_producer_id;
        self.ask(conn, &request, version, Asked::InitProducerId(version));
    }

    pub(super) fn on_producer_id(&mut self, response: &InitProducerIdResponse) {
        self.identity_conn = None;
        if !matches!(self.identity, Identity::Acquiring(_)) {
            return;
        }
        let code = ErrorCode::from_code(response.error_code);
        match code {
            ErrorCode::None if response.producer_id >= 0 && response.producer_epoch >= 0 => {
                let id = response.producer_id;
                let epoch = response.producer_epoch.max(self.first_epoch);
                self.identity = Identity::Ready(ProducerIdentity { id, epoch });
                self.trace(Trace::ProducerId { producer_id: id, epoch });
                self.touch_all();
            }
            // Without these rights no idempotent write will ever be taken.
            ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::UnsupportedVersion
            | ErrorCode::InvalidRequest => self.fail_for_good(code),
            code => {
                // A success that names no id is none.
                let code =
                    if code == ErrorCode::None { ErrorCode::UnknownServerError } else { code };
                let bounds = self.retry_bounds();
                self.identity.failed(Some(code), self.now, bounds, &mut self.rng);
            }
        }
    }
}
