//! Scripts of requests, and what a broker answers to them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sordini_protocol::messages::api_versions::ApiVersionsRequest;
use sordini_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use sordini_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sordini_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use sordini_protocol::{ErrorCode, Uuid};

use crate::batch::{Batch, Id};
use crate::client::{Client, Unanswered};

/// The topics that scripts write to, with their settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Plain,
    LogAppendTime,
    Small,
    Compacted,
    TwoInSync,
    StoredAsGzip,
    NoFuture,
}

pub(crate) const TOPICS: [Topic; 7] = [
    Topic::Plain,
    Topic::LogAppendTime,
    Topic::Small,
    Topic::Compacted,
    Topic::TwoInSync,
    Topic::StoredAsGzip,
    Topic::NoFuture,
];

impl Topic {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn configs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Plain => &[],
            Self::LogAppendTime => &[("message.timestamp.type", "LogAppendTime")],
            Self::Small => &[("max.message.bytes", "300")],
            Self::Compacted => &[("cleanup.policy", "compact")],
            Self::TwoInSync => &[("min.insync.replicas", "2")],
            Self::StoredAsGzip => &[("compression.type", "gzip")],
            Self::NoFuture => &[
                ("message.timestamp.before.max.ms", "60000"),
                ("message.timestamp.after.max.ms", "60000"),
            ],
        }
    }
}

/// Where a Produce request goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The script's own partition.
    Own,
    /// A partition that the topic does not have.
    NoSuchPartition,
    /// A topic that nobody created.
    NoSuchTopic,
    /// An id that no topic has (Produce 13).
    NoSuchId,
    /// The id that stands for none (Produce 13).
    ZeroId,
    /// The script's own partition, named twice in the request.
    Twice,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Init {
        version: i16,
        id: Id,
        epoch: i16,
        timeout_ms: i32,
    },
    Produce {
        version: i16,
        acks: i16,
        target: Target,
        batch: Batch,
    },
    /// A Produce request whose records are null, or no bytes at all.
    NoRecords {
        null: bool,
    },
}

pub(crate) fn produce(batch: Batch) -> Step {
    produce_in(13, batch)
}

pub(crate) fn produce_in(version: i16, batch: Batch) -> Step {
    Step::Produce { version, acks: -1, target: Target::Own, batch }
}

#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) topic: Topic,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    pub(crate) fn new(name: impl Into<String>, topic: Topic, steps: Vec<Step>) -> Self {
        Self { name: name.into(), topic, steps }
    }
}

/// What a broker answered, without what differs from broker to broker (ids, times, wording).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Produced(Vec<Part>),
    Given {
        code: ErrorCode,
        id: GivenId,
        epoch: i16,
    },
    Silence,
    Unanswered(Unanswered),
    /// Where the log ended after the script.
    End(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenId {
    None,
    New,
    /// The one that was asked for.
    Same,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) code: ErrorCode,
    base_offset: i64,
    log_start: i64,
    /// Does the answer name a time at which the broker appended?
    timed: bool,
    /// The records to blame, by their index in the batch.
    records: Vec<i32>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Produced(parts) = self else { return write!(f, "{self:?}") };
        for part in parts {
            let Part { code, base_offset, log_start, timed, records } = part;
            write!(f, "{} at {base_offset} (log start {log_start}", code.name())?;
            write!(f, "{}", if *timed { ", timed" } else { "" })?;
            write!(
                f,
                "{})",
                if records.is_empty() { String::new() } else { format!(", {records:?}") }
            )?;
        }
        Ok(())
    }
}

/// One broker under test.
pub(crate) struct Subject {
    client: Client,
    ids: BTreeMap<Topic, Uuid>,
}

impl Subject {
    /// Creates the topics, each with as many partitions as scripts write to it.
    pub(crate) fn new(bootstrap: &str, scripts: &[Script]) -> Self {
        let mut subject = Self { client: Client::new(bootstrap), ids: BTreeMap::new() };
        for topic in TOPICS {
            let count = scripts.iter().filter(|script| script.topic == topic).count();
            let configs = topic.configs().iter().map(|(name, value)| CreatableTopicConfig {
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            });
            let request = CreateTopicsRequest {
                topics: vec![CreatableTopic {
                    name: topic.name(),
                    num_partitions: i32::try_from(count.max(1)).expect("few scripts"),
                    replication_factor: 1,
                    configs: configs.collect(),
                    ..CreatableTopic::default()
                }],
                timeout_ms: 30_000,
                ..CreateTopicsRequest::default()
            };
            let answer = subject.client.ask(&request, 7).expect("CreateTopics is answered");
            let created = &answer.topics[0];
            assert_eq!(created.error_code, 0, "{topic:?}: {created:?}");
            subject.ids.insert(topic, created.topic_id);
            // A new partition has no leader for a moment.
            for partition in 0..created.num_partitions {
                patiently(|| (subject.end(topic, partition) >= 0).then_some(()));
            }
        }
        subject
    }

    /// Plays a script on a partition of its own.
    pub(crate) fn play(&mut self, script: &Script, partition: i32) -> Vec<Answer> {
        let mut given = Vec::new();
        let mut answers = Vec::new();
        for step in &script.steps {
            answers.push(match step {
                Step::Init { version, id, epoch, timeout_ms } => {
                    let id = self.resolve(*id, &mut given);
                    self.init(*version, id, *epoch, *timeout_ms)
                }
                Step::NoRecords { null } => {
                    let records = (!null).then(Vec::new);
                    self.produce(script.topic, partition, (13, -1, Target::Own), records)
                }
                Step::Produce { version, acks, target, batch } => {
                    let id = self.resolve(batch.id, &mut given);
                    let how = (*version, *acks, *target);
                    self.produce(script.topic, partition, how, Some(batch.encode(id)))
                }
            });
        }
        answers.push(Answer::End(self.end(script.topic, partition)));
        answers
    }

    fn resolve(&mut self, id: Id, given: &mut Vec<i64>) -> i64 {
        match id {
            Id::Fixed(id) => id,
            Id::Own(n) => {
                while given.len() <= n {
                    let request = InitProducerIdRequest {
                        transaction_timeout_ms: 60_000,
                        ..InitProducerIdRequest::default()
                    };
                    let answer = self.ask_id(&request, 4);
                    given.push(answer.producer_id);
                }
                given[n]
            }
        }
    }

    /// Asks for an id until the broker has made up its mind: the first one takes a while.
    fn ask_id(&mut self, request: &InitProducerIdRequest, version: i16) -> InitProducerIdResponse {
        patiently(|| {
            let answer = self.client.ask(request, version).expect("InitProducerId is answered");
            let loading = ErrorCode::CoordinatorLoadInProgress.code();
            (answer.error_code != loading).then_some(answer)
        })
    }

    fn init(&mut self, version: i16, id: i64, epoch: i16, timeout_ms: i32) -> Answer {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: timeout_ms,
            producer_id: id,
            producer_epoch: epoch,
            ..InitProducerIdRequest::default()
        };
        let answer = self.ask_id(&request, version);
        let given = match answer.producer_id {
            -1 => GivenId::None,
            same if same == id => GivenId::Same,
            _ => GivenId::New,
        };
        let code = ErrorCode::from_code(answer.error_code);
        Answer::Given { code, id: given, epoch: answer.producer_epoch }
    }

    fn produce(
        &mut self,
        topic: Topic,
        partition: i32,
        (version, acks, target): (i16, i16, Target),
        records: Option<Vec<u8>>,
    ) -> Answer {
        let records = records.map(Into::into);
        let mut data = TopicProduceData {
            name: topic.name(),
            topic_id: self.ids[&topic],
            partition_data: vec![PartitionProduceData { index: partition, records }],
        };
        match target {
            Target::Own => {}
            Target::NoSuchPartition => data.partition_data[0].index = 100_000,
            Target::NoSuchTopic => data.name = "nobody-created-this".to_owned(),
            Target::NoSuchId => data.topic_id = Uuid([7; 16]),
            Target::ZeroId => data.topic_id = Uuid::ZERO,
            Target::Twice => data.partition_data.push(data.partition_data[0].clone()),
        }
        let request = ProduceRequest {
            acks,
            timeout_ms: 5000,
            topic_data: vec![data],
            ..ProduceRequest::default()
        };
        if acks == 0 {
            self.client.send(&request, version);
            // Whatever is asked next is answered behind it, if the connection lives.
            let alive = self.client.ask(&ApiVersionsRequest::default(), 2);
            return alive.map_or_else(Answer::Unanswered, |_| Answer::Silence);
        }
        match self.client.ask(&request, version) {
            Err(unanswered) => Answer::Unanswered(unanswered),
            Ok(answer) => {
                let parts = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
                Answer::Produced(parts.map(part).collect())
            }
        }
    }

    fn end(&mut self, topic: Topic, partition: i32) -> i64 {
        let partition = ListOffsetsPartition {
            partition_index: partition,
            timestamp: -1,
            ..ListOffsetsPartition::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: topic.name(), partitions: vec![partition] }],
            ..ListOffsetsRequest::default()
        };
        let answer = self.client.ask(&request, 5).expect("ListOffsets is answered");
        answer.topics[0].partitions[0].offset
    }
}

/// What a broker that has just begun says after a while.
fn patiently<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the broker is not ready after half a minute");
}

fn part(answer: &PartitionProduceResponse) -> Part {
    Part {
        code: ErrorCode::from_code(answer.error_code),
        base_offset: answer.base_offset,
        log_start: answer.log_start_offset,
        timed: answer.log_append_time_ms >= 0,
        records: answer.record_errors.iter().map(|error| error.batch_index).collect(),
    }
}
