//! Makes, deletes and describes topics: one request at a time, over one connection at a time.

use std::time::Duration;

use sordini_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use sordini_protocol::messages::delete_topics::DeleteTopicsRequest;
use sordini_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sordini_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use sordini_protocol::{ErrorCode, Request, Uuid};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::error::{FetchError, SettingError};
use super::partition::{EARLIEST, LATEST};
use super::settings::{Address, Settings};
use super::socket;
use super::wire::{self, Versions, WireError};

/// DescribeConfigs' number for a topic.
const RESOURCE_TOPIC: i8 = 2;
/// DescribeConfigs' number for a value that was set on the topic itself.
const SET_ON_TOPIC: i8 = 1;

/// A topic to make.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` leaves it to the broker.
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` leaves it to the broker.
    pub replication: Option<i16>,
    /// The topic's own settings, by Kafka's names.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic as the broker's defaults have it.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: None, replication: None, configs: Vec::new() }
    }
}

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id, where the cluster gives ids (Kafka 2.8 and newer).
    pub id: Option<Uuid>,
    /// Does it belong to Kafka itself?
    pub internal: bool,
    /// Its partitions, in their order.
    pub partitions: Vec<TopicPartition>,
    /// The settings that were set on it; empty where they were not asked for.
    pub configs: Vec<(String, String)>,
}

/// What is known of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPartition {
    /// Its number.
    pub index: i32,
    /// The node that leads it, where there is one.
    pub leader: Option<i32>,
    /// The nodes that hold it.
    pub replicas: Vec<i32>,
    /// The nodes that hold all that is acknowledged.
    pub in_sync: Vec<i32>,
    /// The first offset that is there and the one behind the last (the high watermark), where the
    /// leader was asked for them.
    pub offsets: Option<(i64, i64)>,
}

#[derive(Debug)]
struct Connection {
    address: Address,
    stream: TcpStream,
    versions: Versions,
    correlation: i32,
}

/// A client for requests about topics.
#[derive(Debug)]
pub struct Admin {
    settings: Settings,
    connection: Option<Connection>,
    turn: usize,
    until: Instant,
}

impl Admin {
    /// A client with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// If the settings name no address.
    pub fn new(settings: Settings) -> Result<Self, SettingError> {
        settings.check()?;
        let until = Instant::now();
        Ok(Self { settings, connection: None, turn: 0, until })
    }

    /// The topics of the cluster by name, without offsets and settings.
    ///
    /// # Errors
    /// [`FetchError::NoAnswer`] or [`FetchError::Refused`].
    ///
    /// # Cancellation
    /// Safe; the connection may be lost.
    pub async fn topics(&mut self) -> Result<Vec<TopicDescription>, FetchError> {
        self.begin();
        let metadata = self.metadata(None).await?;
        let mut topics: Vec<_> = metadata.topics.into_iter().map(describe).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// A topic with its partitions' offsets and the settings that were set on it.
    ///
    /// # Errors
    /// [`FetchError::UnknownTopic`], [`FetchError::NoAnswer`] or [`FetchError::Refused`].
    ///
    /// # Cancellation
    /// Safe; the connection may be lost.
    pub async fn describe(&mut self, name: &str) -> Result<TopicDescription, FetchError> {
        self.begin();
        let metadata = self.metadata(Some(name)).await?;
        let topic = metadata.topics.iter().find(|topic| topic.name.as_deref() == Some(name));
        let mut topic = match topic.map(|topic| (topic, ErrorCode::from_code(topic.error_code))) {
            Some((topic, ErrorCode::None)) => describe(topic.clone()),
            None | Some((_, ErrorCode::UnknownTopicOrPartition)) => {
                return Err(FetchError::UnknownTopic { topic: name.to_owned() });
            }
            Some((_, code)) => {
                let what = format!("the description of topic {name:?}");
                return Err(FetchError::Refused { what, code, message: None });
            }
        };
        topic.configs = self.configs(name).await?;
        let brokers = metadata.brokers.into_iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.node_id, Address::new(broker.host, port)))
        });
        for (node, address) in brokers {
            if topic.partitions.iter().any(|partition| partition.leader == Some(node)) {
                self.offsets(&mut topic, node, address).await;
            }
        }
        Ok(topic)
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// [`FetchError::Refused`] with the broker's reason, or [`FetchError::NoAnswer`]: then the
    /// topic may have been made.
    ///
    /// # Cancellation
    /// Safe; the topic may be made or not.
    pub async fn create(&mut self, topic: &NewTopic) -> Result<(), FetchError> {
        self.begin();
        let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name.clone(),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication.unwrap_or(-1),
                assignments: Vec::new(),
                configs: configs.collect(),
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let what = format!("the creation of topic {:?}", topic.name);
        loop {
            // From 4 on a request may leave numbers to the broker.
            let answer = self.call(&request, (4, 7), &what).await?;
            let one = answer.topics.into_iter().find(|one| one.name == topic.name);
            let code = one.as_ref().map_or(-1, |one| one.error_code);
            let message = one.and_then(|one| one.error_message);
            if self.settled(&what, ErrorCode::from_code(code), message).await? {
                return Ok(());
            }
        }
    }

    /// Deletes a topic and all that is in it.
    ///
    /// # Errors
    /// [`FetchError::UnknownTopic`], [`FetchError::Refused`] with the broker's reason, or
    /// [`FetchError::NoAnswer`]: then the topic may have been deleted.
    ///
    /// # Cancellation
    /// Safe; the topic may be deleted or not.
    pub async fn delete(&mut self, name: &str) -> Result<(), FetchError> {
        self.begin();
        let request = DeleteTopicsRequest {
            topic_names: vec![name.to_owned()],
            timeout_ms: self.timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        let what = format!("the deletion of topic {name:?}");
        loop {
            // From 6 on topics are named in another field, for nothing that is needed here.
            let answer = self.call(&request, (1, 5), &what).await?;
            let mut all = answer.responses.into_iter();
            let one = all.find(|one| one.name.as_deref() == Some(name));
            let code = ErrorCode::from_code(one.as_ref().map_or(-1, |one| one.error_code));
            if code == ErrorCode::UnknownTopicOrPartition {
                return Err(FetchError::UnknownTopic { topic: name.to_owned() });
            }
            let message = one.and_then(|one| one.error_message);
            if self.settled(&what, code, message).await? {
                return Ok(());
            }
        }
    }

    /// True where the request was granted, false where it is worth repeating.
    async fn settled(
        &mut self,
        what: &str,
        code: ErrorCode,
        message: Option<String>,
    ) -> Result<bool, FetchError> {
        match code {
            ErrorCode::None => return Ok(true),
            // Only the controller of a cluster with ZooKeeper says so; metadata names it.
            ErrorCode::NotController => self.go_to_controller(what).await?,
            _ if code.is_retriable() && Instant::now() < self.until => {}
            _ => return Err(FetchError::Refused { what: what.to_owned(), code, message }),
        }
        sleep(self.settings.backoff).await;
        Ok(false)
    }

    async fn go_to_controller(&mut self, what: &str) -> Result<(), FetchError> {
        let metadata = self.metadata(None).await?;
        let told_by = self.connection.as_ref().map(|connection| connection.address.clone());
        let controller = metadata.controller_id;
        let broker = metadata.brokers.into_iter().find(|broker| broker.node_id == controller);
        let address = broker
            .and_then(|broker| Some(Address::new(broker.host, u16::try_from(broker.port).ok()?)));
        if let Some(address) = address {
            let advice = self.settings.advice(&address, told_by.as_ref());
            let opened = self.open(address).await;
            self.connection = Some(opened.map_err(|last| self.no_answer(what, last + &advice))?);
        }
        Ok(())
    }

    async fn metadata(&mut self, name: Option<&str>) -> Result<MetadataResponse, FetchError> {
        let topic =
            |name: &str| MetadataRequestTopic { topic_id: Uuid::ZERO, name: Some(name.to_owned()) };
        let request = MetadataRequest {
            topics: name.map(|name| vec![topic(name)]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        self.call(&request, (4, 13), "the cluster's metadata").await
    }

    async fn configs(&mut self, name: &str) -> Result<Vec<(String, String)>, FetchError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: name.to_owned(),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        let what = format!("the settings of topic {name:?}");
        let answer = self.call(&request, (1, 4), &what).await?;
        let mut found = Vec::new();
        for result in answer.results {
            let code = ErrorCode::from_code(result.error_code);
            if code != ErrorCode::None {
                let message = result.error_message;
                return Err(FetchError::Refused { what, code, message });
            }
            let set = result.configs.into_iter().filter(|one| one.config_source == SET_ON_TOPIC);
            found.extend(set.map(|one| (one.name, one.value.unwrap_or_default())));
        }
        Ok(found)
    }

    /// Fills in the offsets of what `node` leads. A leader that does not answer leaves them out:
    /// the rest of the description is worth having.
    async fn offsets(&mut self, topic: &mut TopicDescription, node: i32, address: Address) {
        if self.connection.as_ref().is_none_or(|connection| connection.address != address) {
            match self.open(address).await {
                Ok(connection) => self.connection = Some(connection),
                Err(_) => return,
            }
        }
        let Some(mut connection) = self.connection.take() else { return };
        let mut found = Vec::new();
        for timestamp in [EARLIEST, LATEST] {
            let led = topic.partitions.iter().filter(|one| one.leader == Some(node));
            let partitions = led.map(|one| ListOffsetsPartition {
                partition_index: one.index,
                timestamp,
                ..ListOffsetsPartition::default()
            });
            let partitions = partitions.collect();
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: vec![ListOffsetsTopic { name: topic.name.clone(), partitions }],
                ..ListOffsetsRequest::default()
            };
            let Ok(answer) = self.exchange(&mut connection, &request, (2, 9)).await else { return };
            let all = answer.topics.into_iter().flat_map(|topic| topic.partitions);
            found.push(all.filter(|one| one.error_code == 0).collect::<Vec<_>>());
        }
        self.connection = Some(connection);
        for partition in &mut topic.partitions {
            let of = |list: &[sordini_protocol::messages::list_offsets::ListOffsetsPartitionResponse]| {
                let one = list.iter().find(|one| one.partition_index == partition.index);
                one.map(|one| one.offset)
            };
            if let [first, last] = found.as_slice()
                && let (Some(first), Some(last)) = (of(first), of(last))
            {
                partition.offsets = Some((first, last));
            }
        }
    }

    fn begin(&mut self) {
        self.until = Instant::now() + self.settings.api_timeout;
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.settings.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    fn no_answer(&self, what: &str, last: String) -> FetchError {
        FetchError::NoAnswer { what: what.to_owned(), waited: self.settings.api_timeout, last }
    }

    /// Asks over the connection at hand, or a new one to the next of `bootstrap.servers`, until
    /// there is an answer or the time is up.
    async fn call<R: Request>(
        &mut self,
        request: &R,
        versions: (i16, i16),
        what: &str,
    ) -> Result<R::Response, FetchError> {
        let mut failures = 0;
        loop {
            let last = match self.try_call(request, versions).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::TooOld { address }) => {
                    let api = R::KEY.name().to_owned();
                    return Err(FetchError::TooOld { address, api });
                }
                Err(Attempt::Failed(last)) => last,
            };
            let pause = Duration::from_millis(self.settings.pause(failures));
            failures += 1;
            if Instant::now() + pause >= self.until {
                return Err(self.no_answer(what, last));
            }
            sleep(pause).await;
        }
    }

    async fn try_call<R: Request>(
        &mut self,
        request: &R,
        versions: (i16, i16),
    ) -> Result<R::Response, Attempt> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let all = &self.settings.bootstrap;
                let address = all[self.turn % all.len()].clone();
                self.turn += 1;
                self.open(address).await.map_err(Attempt::Failed)?
            }
        };
        let answer = self.exchange(&mut connection, request, versions).await?;
        // A connection that failed is dropped: what else is on it answers nothing.
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn open(&self, address: Address) -> Result<Connection, String> {
        let name = address.to_string();
        let failed = |cause: String| format!("the connection to {name} failed: {cause}");
        let opening = async {
            let stream = socket::connect(&address).await?;
            let frame = wire::api_versions(0, &self.settings.client_id)
                .map_err(|error| error.to_string())?;
            socket::write_all(&stream, &frame).await.map_err(|error| error.to_string())?;
            let frame = socket::read_first_frame(&stream).await?;
            let versions = Versions::read(frame, 0).map_err(|error| error.0)?;
            Ok(Connection { address, stream, versions, correlation: 0 })
        };
        match timeout(self.settings.connect_timeout, opening).await {
            Ok(opened) => opened.map_err(failed),
            Err(_) => Err(failed("it could not be set up in time".into())),
        }
    }

    async fn exchange<R: Request>(
        &self,
        connection: &mut Connection,
        request: &R,
        versions: (i16, i16),
    ) -> Result<R::Response, Attempt> {
        let address = connection.address.to_string();
        let Some(version) = connection.versions.pick::<R>(versions.0..=versions.1) else {
            return Err(Attempt::TooOld { address });
        };
        connection.correlation += 1;
        let correlation = connection.correlation;
        let exchange = async {
            let frame = wire::encode(request, version, correlation, &self.settings.client_id)?;
            socket::write_all(&connection.stream, &frame).await?;
            let frame = socket::read_frame(&connection.stream).await.map_err(WireError)?;
            wire::decode::<R>(frame, version, correlation)
        };
        match timeout(self.settings.request_timeout, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Attempt::Failed(format!("{address}: {}", error.0))),
            Err(_) => Err(Attempt::Failed(format!("{address} did not answer in time"))),
        }
    }
}

enum Attempt {
    Failed(String),
    TooOld { address: String },
}

fn describe(topic: MetadataResponseTopic) -> TopicDescription {
    let partitions = topic.partitions.into_iter().map(|one| TopicPartition {
        index: one.partition_index,
        leader: Some(one.leader_id).filter(|leader| *leader >= 0),
        replicas: one.replica_nodes,
        in_sync: one.isr_nodes,
        offsets: None,
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_by_key(|partition| partition.index);
    TopicDescription {
        name: topic.name.unwrap_or_default(),
        id: Some(topic.topic_id).filter(|id| !id.is_zero()),
        internal: topic.is_internal,
        partitions,
        configs: Vec::new(),
    }
}
