//! DescribeConfigs (key 32), versions 1 to 4: settings of topics, and the few of the broker that
//! clients ask for.

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::create_topics::{SOURCE_DEFAULT, SOURCE_TOPIC};
use crate::broker::Broker;
use crate::topic_config::{Kind, SETTINGS, Setting, TopicConfig};

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
/// A setting of the broker that was given at its start.
const SOURCE_STATIC_BROKER: i8 = 4;
const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LIST: i8 = 7;

pub(super) fn handle(broker: &Broker, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let describe = |resource: &DescribeConfigsResource| {
        let found = match resource.resource_type {
            RESOURCE_TOPIC => topic(broker, request, resource),
            RESOURCE_BROKER => broker_settings(broker, resource),
            other => Err((
                ErrorCode::InvalidRequest,
                format!("resources of type {other} have no settings here"),
            )),
        };
        match found {
            Ok(configs) => DescribeConfigsResult { configs, ..result(resource, ErrorCode::None) },
            Err((code, message)) => {
                DescribeConfigsResult { error_message: Some(message), ..result(resource, code) }
            }
        }
    };
    let results = request.resources.iter().map(describe).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

type Found = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == name))
}

fn topic(
    broker: &Broker,
    request: &DescribeConfigsRequest,
    resource: &DescribeConfigsResource,
) -> Found {
    let name = &resource.resource_name;
    let own = broker.catalog.topics.get(name).map(|entry| &entry.config);
    let view = broker.node.as_ref().and_then(|node| node.view.topics.get(name));
    let Some(config) = own.or(view.map(|topic| &topic.config)) else {
        let message = format!("there is no topic {}", name.escape_default());
        return Err((ErrorCode::UnknownTopicOrPartition, message));
    };
    let settings = SETTINGS.iter().filter(|setting| wanted(resource, setting.name));
    Ok(settings.map(|setting| one(setting, config, request)).collect())
}

fn one(
    setting: &Setting,
    config: &TopicConfig,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResourceResult {
    let (value, set) = config.value(setting);
    let config_source = if set { SOURCE_TOPIC } else { SOURCE_DEFAULT };
    let mut synonyms = Vec::new();
    if request.include_synonyms {
        let synonym = |value: String, source| DescribeConfigsSynonym {
            name: setting.name.to_owned(),
            value: Some(value),
            source,
        };
        if set {
            synonyms.push(synonym(value.clone(), SOURCE_TOPIC));
        }
        synonyms.push(synonym(setting.default.to_owned(), SOURCE_DEFAULT));
    }
    let documentation = (request.include_documentation && !setting.honoured)
        .then(|| "Kept and reported; this broker does not act on it.".to_owned());
    DescribeConfigsResourceResult {
        name: setting.name.to_owned(),
        value: Some(value),
        config_source,
        synonyms,
        config_type: match setting.kind {
            Kind::Number { type_code, .. } => type_code,
            Kind::Word(_) => TYPE_STRING,
            Kind::Words(_) => TYPE_LIST,
            Kind::Bool => TYPE_BOOLEAN,
        },
        documentation,
        ..DescribeConfigsResourceResult::default()
    }
}

fn broker_settings(broker: &Broker, resource: &DescribeConfigsResource) -> Found {
    let config = &broker.config;
    let id = config.node_id.to_string();
    if !resource.resource_name.is_empty() && resource.resource_name != id {
        let name = resource.resource_name.escape_default();
        return Err((ErrorCode::InvalidRequest, format!("there is no broker {name}, only {id}")));
    }
    let settings = [
        ("auto.create.topics.enable", config.auto_create_topics.to_string(), TYPE_BOOLEAN),
        ("default.replication.factor", "1".to_owned(), TYPE_INT),
        ("fetch.max.bytes", config.fetch_max_bytes.to_string(), TYPE_INT),
        ("message.max.bytes", config.topic_defaults.max_message_bytes().to_string(), TYPE_INT),
        ("node.id", id, TYPE_INT),
        ("num.partitions", config.default_partitions.to_string(), TYPE_INT),
        ("producer.id.expiration.ms", config.producer_expiration_ms.to_string(), TYPE_INT),
    ];
    let kept = settings.into_iter().filter(|(name, _, _)| wanted(resource, name));
    Ok(kept
        .map(|(name, value, config_type)| DescribeConfigsResourceResult {
            name: name.to_owned(),
            value: Some(value),
            read_only: true,
            config_source: SOURCE_STATIC_BROKER,
            config_type,
            ..DescribeConfigsResourceResult::default()
        })
        .collect())
}

fn result(resource: &DescribeConfigsResource, code: ErrorCode) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: code.code(),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..DescribeConfigsResult::default()
    }
}

/// Refuses all resources.
pub(super) fn refuse(
    request: &DescribeConfigsRequest,
    _: i16,
    code: ErrorCode,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| result(resource, code)).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}
