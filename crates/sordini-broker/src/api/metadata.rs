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
        None => {
            let names: Vec<String> = broker.topics.keys().cloned().collect();
            names.iter().filter_map(|name| describe(broker, name)).collect()
        }
        Some(named) => {
            if version < 12 && named.iter().any(|topic| topic.name.is_none()) {
                return Err(format!("version {version} of Metadata can't name topics by id"));
            }
            let may_create = request.allow_auto_topic_creation && broker.config.auto_create_topics;
            answer_named(broker, now, named, may_create)
        }
    };
    Ok(MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: broker.config.node_id,
            host: broker.config.advertised_host.clone(),
            port: i32::from(broker.config.advertised_port),
            rack: None,
        }],
        cluster_id: Some(broker.cluster_id()),
        controller_id: broker.config.node_id,
        topics,
        ..MetadataResponse::default()
    })
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
        let new = NewTopic { name: name.to_owned(), partitions: -1, settings: Vec::new() };
        let _ = broker.create_topic(now, &new, false);
    }
    ErrorCode::UnknownTopicOrPartition
}

fn describe(broker: &Broker, name: &str) -> Option<MetadataResponseTopic> {
    let topic = broker.topics.get(name)?;
    let node = broker.config.node_id;
    let partitions = (0i32..).zip(&topic.partitions).map(|(partition_index, partition)| {
        MetadataResponsePartition {
            partition_index,
            leader_id: node,
            leader_epoch: partition.leader_epoch,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..MetadataResponsePartition::default()
        }
    });
    Some(MetadataResponseTopic {
        name: Some(name.to_owned()),
        topic_id: topic.id,
        is_internal: INTERNAL_TOPICS.contains(&name),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    })
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
