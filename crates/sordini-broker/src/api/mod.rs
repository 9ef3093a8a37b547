//! One file per API, each opening with the versions that are served and what they do.

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod api_versions;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_producers;
pub(crate) mod describe_transactions;
pub(crate) mod end_txn;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod list_transactions;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod produce_check;
pub(crate) mod txn_offset_commit;

use bytes::Bytes;
use sordini_protocol::messages as m;
use sordini_protocol::{
    ApiKey, DecodeError, DecodeErrorKind, EncodeError, ErrorCode, Message, Reader, frame,
};

use crate::broker::{Broker, WaitingCommit, WaitingFetch, WaitingProduce};
use crate::coordinator::Token;
use crate::faults::{ErrorStrike, Strike};
use crate::time::{Instant, Now};

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Handled {
    /// It is answered.
    Respond(Response),
    /// It gets no answer (acks 0).
    Silence,
    /// The connection is closed instead.
    Close(String),
    /// It waits for bytes.
    WaitFetch(WaitingFetch),
    /// It waits for a sync.
    WaitSync(WaitingProduce),
    /// It waits for the replicas that are in sync.
    WaitCommit(WaitingCommit),
    /// It waits for the controller's answer, until then.
    WaitController { seq: u64, request: Request, deadline: Instant },
    /// It waits for what a coordinator has found under this name, or finds.
    WaitCoordinator(Token, Box<Request>),
    /// It waits for a coordinator's word on its transaction, to be applied then.
    WaitCheck(Token, Box<m::produce::ProduceRequest>),
}

/// What is written for a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// These bytes.
    Frame(Bytes),
    /// Nothing.
    Silence,
    /// Nothing ever again.
    Close(String),
}

macro_rules! apis {
    ($($name:ident: $module:ident, $request:ident => $response:ident;)*) => {
        /// A decoded request.
        #[derive(Clone, Debug)]
        pub(crate) enum Request {
            $($name(m::$module::$request),)*
            /// ApiVersions in a version that is not served.
            UnsupportedApiVersions,
        }

        /// A response that is not encoded yet.
        #[derive(Clone, Debug)]
        pub(crate) enum Response {
            $($name(m::$module::$response),)*
        }

        impl Request {
            /// Decodes the request behind a header.
            pub(crate) fn decode(
                key: ApiKey,
                reader: &mut Reader,
                version: i16,
            ) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => {
                        m::$module::$request::decode(reader, version).map(Self::$name)
                    })*
                    other => {
                        let kind = DecodeErrorKind::UnknownApiKey(other.code());
                        Err(reader.error("RequestHeader.RequestApiKey", kind))
                    }
                }
            }

            /// The answer that refuses the request as a whole.
            pub(crate) fn refuse(&self, version: i16, code: ErrorCode) -> Response {
                match self {
                    $(Self::$name(request) => Response::$name($module::refuse(request, version, code)),)*
                    Self::UnsupportedApiVersions => {
                        Response::ApiVersions(api_versions::unsupported())
                    }
                }
            }
        }

        impl Response {
            /// The frame of the response, its size included.
            pub(crate) fn encode(
                &self,
                key: ApiKey,
                version: i16,
                correlation_id: i32,
            ) -> Result<Bytes, EncodeError> {
                let mut out = Vec::new();
                match self {
                    $(Self::$name(response) => {
                        frame::put_response(&mut out, key, response, version, correlation_id)?;
                    })*
                }
                Ok(Bytes::from(out))
            }
        }
    };
}

apis! {
    Produce: produce, ProduceRequest => ProduceResponse;
    Fetch: fetch, FetchRequest => FetchResponse;
    ListOffsets: list_offsets, ListOffsetsRequest => ListOffsetsResponse;
    Metadata: metadata, MetadataRequest => MetadataResponse;
    FindCoordinator: find_coordinator, FindCoordinatorRequest => FindCoordinatorResponse;
    ApiVersions: api_versions, ApiVersionsRequest => ApiVersionsResponse;
    CreateTopics: create_topics, CreateTopicsRequest => CreateTopicsResponse;
    DeleteTopics: delete_topics, DeleteTopicsRequest => DeleteTopicsResponse;
    InitProducerId: init_producer_id, InitProducerIdRequest => InitProducerIdResponse;
    OffsetForLeaderEpoch: offset_for_leader_epoch,
        OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;
    DescribeConfigs: describe_configs, DescribeConfigsRequest => DescribeConfigsResponse;
    CreatePartitions: create_partitions, CreatePartitionsRequest => CreatePartitionsResponse;
    DescribeCluster: describe_cluster, DescribeClusterRequest => DescribeClusterResponse;
    DescribeProducers: describe_producers,
        DescribeProducersRequest => DescribeProducersResponse;
    AddPartitionsToTxn: add_partitions_to_txn,
        AddPartitionsToTxnRequest => AddPartitionsToTxnResponse;
    AddOffsetsToTxn: add_offsets_to_txn, AddOffsetsToTxnRequest => AddOffsetsToTxnResponse;
    EndTxn: end_txn, EndTxnRequest => EndTxnResponse;
    TxnOffsetCommit: txn_offset_commit, TxnOffsetCommitRequest => TxnOffsetCommitResponse;
    OffsetCommit: offset_commit, OffsetCommitRequest => OffsetCommitResponse;
    OffsetFetch: offset_fetch, OffsetFetchRequest => OffsetFetchResponse;
    DescribeTransactions: describe_transactions,
        DescribeTransactionsRequest => DescribeTransactionsResponse;
    ListTransactions: list_transactions, ListTransactionsRequest => ListTransactionsResponse;
}

impl Request {
    /// Whether a cluster's controller answers it, not the node that it is sent to.
    pub(crate) fn is_for_controller(&self) -> bool {
        matches!(self, Self::CreateTopics(_) | Self::DeleteTopics(_) | Self::CreatePartitions(_))
    }

    /// The topics and partitions that the request names, for faults on order; -1 stands for a
    /// topic as a whole.
    pub(crate) fn partitions(&self, broker: &Broker) -> Vec<(String, i32)> {
        let named = |name: &str, id| match broker.topic_name(id) {
            Some(known) => known.to_owned(),
            None => name.to_owned(),
        };
        let mut all = Vec::new();
        match self {
            Self::Produce(request) => {
                for topic in &request.topic_data {
                    let name = named(&topic.name, &topic.topic_id);
                    all.extend(topic.partition_data.iter().map(|p| (name.clone(), p.index)));
                }
            }
            Self::Fetch(request) => {
                for topic in &request.topics {
                    let name = named(&topic.topic, &topic.topic_id);
                    all.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition)));
                }
            }
            Self::ListOffsets(request) => {
                for topic in &request.topics {
                    let name = &topic.name;
                    all.extend(topic.partitions.iter().map(|p| (name.clone(), p.partition_index)));
                }
            }
            Self::Metadata(request) => {
                for topic in request.topics.iter().flatten() {
                    let name = topic.name.as_deref().unwrap_or_default();
                    all.push((named(name, &topic.topic_id), -1));
                }
            }
            Self::CreateTopics(request) => {
                all.extend(request.topics.iter().map(|topic| (topic.name.clone(), -1)));
            }
            _ => {}
        }
        all
    }
}

impl Response {
    /// Puts errors on order into a Produce response, though the batches were appended.
    ///
    /// `named` are the partitions of the request, in its order, with the topics' names.
    pub(crate) fn patch<'a>(
        &mut self,
        version: i16,
        errors: &[ErrorStrike],
        named: impl Iterator<Item = (&'a str, i32)> + Clone,
    ) {
        if let Self::Produce(response) = self {
            errors.iter().for_each(|error| produce::patch(response, version, error, named.clone()));
        }
    }
}

/// Applies a request, unless errors on order come first.
pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    version: i16,
    request: &Request,
    strike: &Strike,
) -> Handled {
    if let (Some(error), false) = (strike.before.first(), matches!(request, Request::Produce(_))) {
        return Handled::Respond(request.refuse(version, error.code));
    }
    Handled::Respond(match request {
        Request::Produce(r) => return produce_check::handle(broker, now, version, r, strike),
        Request::Fetch(r) => return fetch::handle(broker, now, version, r),
        Request::ListOffsets(r) => Response::ListOffsets(list_offsets::handle(broker, version, r)),
        Request::Metadata(r) => match metadata::handle(broker, now, version, r) {
            Ok(response) => Response::Metadata(response),
            Err(reason) => return Handled::Close(reason),
        },
        Request::FindCoordinator(r) => {
            Response::FindCoordinator(find_coordinator::handle(broker, now, version, r))
        }
        Request::ApiVersions(r) => Response::ApiVersions(api_versions::handle(broker, version, r)),
        Request::UnsupportedApiVersions => Response::ApiVersions(api_versions::unsupported()),
        Request::CreateTopics(r) => {
            Response::CreateTopics(create_topics::handle(broker, now, version, r))
        }
        Request::DeleteTopics(r) => {
            Response::DeleteTopics(delete_topics::handle(broker, version, r))
        }
        Request::InitProducerId(r) => return init_producer_id::handle(broker, now, version, r),
        Request::OffsetForLeaderEpoch(r) => {
            Response::OffsetForLeaderEpoch(offset_for_leader_epoch::handle(broker, r))
        }
        Request::DescribeConfigs(r) => {
            Response::DescribeConfigs(describe_configs::handle(broker, r))
        }
        Request::CreatePartitions(r) => {
            Response::CreatePartitions(create_partitions::handle(broker, now, r))
        }
        Request::DescribeCluster(r) => {
            Response::DescribeCluster(describe_cluster::handle(broker, r))
        }
        Request::DescribeProducers(r) => {
            Response::DescribeProducers(describe_producers::handle(broker, r))
        }
        Request::AddPartitionsToTxn(r) => {
            return add_partitions_to_txn::handle(broker, now, version, r);
        }
        Request::AddOffsetsToTxn(r) => return add_offsets_to_txn::handle(broker, now, r),
        Request::EndTxn(r) => return end_txn::handle(broker, now, version, r),
        Request::TxnOffsetCommit(r) => return txn_offset_commit::handle(broker, now, version, r),
        Request::OffsetCommit(r) => return offset_commit::handle(broker, now, version, r),
        Request::OffsetFetch(r) => return offset_fetch::handle(broker, now, version, r),
        Request::DescribeTransactions(r) => {
            Response::DescribeTransactions(describe_transactions::handle(broker, r))
        }
        Request::ListTransactions(r) => {
            Response::ListTransactions(list_transactions::handle(broker, now, r))
        }
    })
}

/// A producer that is fenced, as its client knows that: old ones do not know PRODUCER_FENCED.
fn fenced_as(known: bool, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if !known => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

/// What a client believes to be the leader's epoch, judged: -1 is no belief.
pub(crate) fn check_leader_epoch(believed: i32, actual: i32) -> Result<(), ErrorCode> {
    match believed {
        -1 => Ok(()),
        older if older < actual => Err(ErrorCode::FencedLeaderEpoch),
        newer if newer > actual => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
