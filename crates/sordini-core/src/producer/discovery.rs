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
use crate::cluster::TopicNews;
use crate::config::Address;
use crate::connection::{Asked, ConnId};
use crate::error::{Cause, Obstacle, Refusal};
use crate::idempotence::Identity;
use crate::producer::Producer;
use crate::producer::io::Trace;
use crate::producer::partitions::PartitionKey;
use crate::sequencing::line::ProducerIdentity;

impl Producer {
    /// Is there an identity to stamp with?
    pub(super) fn identity_is_ready(&self) -> bool {
        matches!(self.identity, Identity::Ready(_))
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
        let Some(conn) = self.any_connection() else { return };
        if refresh {
            self.ask_metadata(conn);
        }
        if identify {
            self.ask_producer_id(conn);
        }
    }

    /// The topics to ask about, and whether the broker may create them. Topics that are not known
    /// yet are asked for apart: only for them is creation meant, never for one that was deleted.
    fn wanted_topics(&mut self) -> (Vec<Arc<str>>, bool) {
        let unresolved: Vec<_> = self
            .topics
            .values()
            .filter(|topic| topic.partitions() == 0 && topic.is_awaited())
            .map(|topic| Arc::clone(topic.name()))
            .collect();
        if !unresolved.is_empty() {
            return (unresolved, self.config.allow_auto_create_topics);
        }
        let max_idle = self.config.metadata_max_idle;
        let used = self
            .cluster
            .topics()
            .values()
            .filter(|info| self.now.saturating_since(info.last_used) <= max_idle);
        (used.map(|info| Arc::clone(&info.name)).collect(), false)
    }

    fn ask_metadata(&mut self, conn: ConnId) {
        let Some(versions) = self.connections[&conn].versions() else { return };
        let (names, create) = self.wanted_topics();
        let topic = |name: &Arc<str>| MetadataRequestTopic {
            name: Some(name.to_string()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(names.iter().map(topic).collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        self.refresh.sent(conn);
        self.ask(conn, &request, versions.metadata, Asked::Metadata(versions.metadata));
    }

    pub(super) fn on_metadata(&mut self, response: MetadataResponse) {
        add(&self.accumulator.counters().metadata_refreshes, 1);
        let address = |host: String, port: i32| {
            Some(Address::new(host, u16::try_from(port).ok().filter(|port| *port > 0)?))
        };
        let brokers: BTreeMap<i32, Address> = response
            .brokers
            .into_iter()
            .filter_map(|broker| Some((broker.node_id, address(broker.host, broker.port)?)))
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
        complete &=
            !self.topics.values().any(|topic| topic.partitions() == 0 && topic.is_awaited());
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
                    lane.set_available(leader.is_some_and(|leader| leader.node.is_some()));
                }
                topic.resolve();
                whole || !self.has_unresolved(topic.index())
            }
        }
    }

    fn topic_keys(&self, topic: u32) -> Vec<PartitionKey> {
        let range = (topic, i32::MIN)..=(topic, i32::MAX);
        self.partitions.range(range).map(|(key, _)| *key).collect()
    }

    fn has_unresolved(&self, topic: u32) -> bool {
        let range = (topic, i32::MIN)..=(topic, i32::MAX);
        let mut partitions = self.partitions.range(range);
        partitions.any(|(_, partition)| partition.has_waiting() || !partition.line.is_empty())
    }

    /// The topic is another now: what is queued fails, and the handle is of no more use.
    fn on_topic_gone(&mut self, topic: &Arc<Topic>) {
        self.trace(Trace::TopicGone { topic: Arc::clone(topic.name()) });
        topic.refuse(&Refusal::TopicGone, true);
        self.accumulator.retire(topic);
        self.on_lanes_due();
        for key in self.topic_keys(topic.index()) {
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.gone = true;
            }
            self.fail_partition(key, &Cause::TopicGone);
        }
        self.cluster.forget(topic.index());
    }

    fn ask_producer_id(&mut self, conn: ConnId) {
        let Some(versions) = self.connections[&conn].versions() else { return };
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
        let code = ErrorCode::from_code(response.error_code);
        match code {
            ErrorCode::None if response.producer_id >= 0 && response.producer_epoch >= 0 => {
                let (id, epoch) = (response.producer_id, response.producer_epoch);
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
                let bounds = self.retry_bounds();
                self.identity.failed(Some(code), self.now, bounds, &mut self.rng);
            }
        }
    }
}
