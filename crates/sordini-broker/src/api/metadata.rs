//! Metadata (key 3), versions 0 to 13.
//!
//! - 0: no topics named means all; from 1 on null means all. 4: the client may forbid automatic
//!   creation. 5: offline replicas. 7: leader epochs. 8: authorised operations, which are not
//!   known here. 9: flexible. 10: topic ids. 12: topics by id.
//! - A topic that is missing, and may be created, is created by the request and answered with
//!   UNKNOWN_TOPIC_OR_PARTITION this once, as Kafka 4 does: the client asks again and finds it.

use std::collections::BTreeSet;

use sordini_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use sordini_protocol::{ErrorCode, Uuid};

use crate::broker::{Broker, INTERNAL_TOPICS, NewTopic};
use crate::catalog::topic_name_error;
use crate::cluster::Image;
use crate::time::Now;

/// Answers; `Err` says why the connection is closed instead.
pub(super) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &MetadataRequest,
) -> Result<MetadataResponse, String> {
    let named = request.topics.as_deref().filter(|named| version > 0 || !named.is_empty());
    let topics = match named {
        None => broker.topics.keys().filter_map(|name| describe(broker, name)).collect(),
        Some(named) => {
            if version < 12 && named.iter().any(|topic| topic.name.is_none()) {
                return Err(format!("version {version} of Metadata can't name topics by id"));
            }
            let may_create = request.allow_auto_topic_creation && broker.config.auto_create_topics;
            answer_named(broker, now, named, may_create)
        }
    };
    let config = &broker.config;
    let brokers: Vec<MetadataResponseBroker> = match &broker.node {
        Some(node) => node.view.live_nodes().map(|(id, b)| address(id, &b.host, b.port)).collect(),
        None => vec![address(config.node_id, &config.advertised_host, config.advertised_port)],
    };
    Ok(MetadataResponse {
        // Kafka's nodes name any live one: requests for the controller are passed on to it.
        controller_id: brokers.first().map_or(-1, |broker| broker.node_id),
        brokers,
        cluster_id: Some(broker.cluster_id()),
        topics,
        ..MetadataResponse::default()
    })
}

fn address(node_id: i32, host: &str, port: u16) -> MetadataResponseBroker {
    MetadataResponseBroker { node_id, host: host.to_owned(), port: i32::from(port), rack: None }
}

fn answer_named(
    broker: &mut Broker,
    now: Now,
    named: &[MetadataRequestTopic],
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let mut seen = BTreeSet::new();
    let mut answers = Vec::new();
    for topic in named {
        if !seen.insert((topic.topic_id, topic.name.clone())) {
            continue;
        }
        let name = match (broker.topic_name(&topic.topic_id), &topic.name) {
            (Some(name), _) => name.to_owned(),
            (None, Some(name)) if topic.topic_id.is_zero() => name.clone(),
            (None, _) => {
                answers.push(failure(None, topic.topic_id, ErrorCode::UnknownTopicId));
                continue;
            }
        };
        let answer = describe(broker, &name).unwrap_or_else(|| {
            failure(Some(&name), Uuid::ZERO, missing(broker, now, &name, may_create))
        });
        answers.push(answer);
    }
    answers
}

/// The error for a topic that is not there, after the attempt to create it.
fn missing(broker: &mut Broker, now: Now, name: &str, may_create: bool) -> ErrorCode {
    if topic_name_error(name).is_some() {
        return ErrorCode::InvalidTopicException;
    }
    if may_create {
        // Kafka creates behind the client's back: a failure shows as a topic that stays missing.
        match broker.node_mut() {
            Some(node) => node.ask_for_topic(name),
            None => {
                if let Err(error) = broker.create_topic(now, &NewTopic::by_default(name), false) {
                    tracing::warn!(topic = name, error = error.message, "a topic can't be created");
                }
            }
        }
    }
    ErrorCode::UnknownTopicOrPartition
}

fn describe(broker: &Broker, name: &str) -> Option<MetadataResponseTopic> {
    if let Some(node) = &broker.node {
        return describe_viewed(&node.view, name);
    }
    let topic = broker.topics.get(name)?;
    let node = broker.config.node_id;
    let partitions =
        topic.partitions.iter().map(|(partition_index, partition)| MetadataResponsePartition {
            partition_index: *partition_index,
            leader_id: node,
            leader_epoch: partition.leader_epoch,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..MetadataResponsePartition::default()
        });
    Some(described(name, topic.id, partitions.collect()))
}

fn described(
    name: &str,
    topic_id: Uuid,
    partitions: Vec<MetadataResponsePartition>,
) -> MetadataResponseTopic {
    MetadataResponseTopic { partitions, ..failure(Some(name), topic_id, ErrorCode::None) }
}

/// A topic as a node of a cluster sees it.
fn describe_viewed(view: &Image, name: &str) -> Option<MetadataResponseTopic> {
    let topic = view.topics.get(name)?;
    let partitions = (0i32..).zip(&topic.partitions).map(|(partition_index, partition)| {
        let leader_id = if view.live(partition.leader).is_some() { partition.leader } else { -1 };
        let code = if leader_id < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
        MetadataResponsePartition {
            error_code: code.code(),
            partition_index,
            leader_id,
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            offline_replicas: partition
                .replicas
                .iter()
                .copied()
                .filter(|id| view.live(*id).is_none())
                .collect(),
        }
    });
    Some(described(name, topic.id, partitions.collect()))
}

fn failure(name: Option<&str>, topic_id: Uuid, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: code.code(),
        name: name.map(str::to_owned),
        topic_id,
        is_internal: name.is_some_and(|name| INTERNAL_TOPICS.contains(&name)),
        ..MetadataResponseTopic::default()
    }
}

/// Refuses all topics that are named.
pub(super) fn refuse(request: &MetadataRequest, _: i16, code: ErrorCode) -> MetadataResponse {
    let topics = request
        .topics
        .iter()
        .flatten()
        .map(|topic| failure(topic.name.as_deref(), topic.topic_id, code));
    MetadataResponse {
        topics: topics.collect(),
        error_code: code.code(),
        ..MetadataResponse::default()
    }
}
