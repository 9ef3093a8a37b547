//! The order of a transactional producer's requests, from the bytes alone (P7): no batch in a
//! partition that its coordinator was not told of, nothing of a transaction behind the request to
//! end it, one protocol for an epoch, and in the new protocol one transaction for an epoch.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sordini_protocol::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use sordini_protocol::messages::add_partitions_to_txn::AddPartitionsToTxnRequest;
use sordini_protocol::messages::describe_transactions::DescribeTransactionsRequest;
use sordini_protocol::messages::end_txn::EndTxnRequest;
use sordini_protocol::messages::find_coordinator::FindCoordinatorRequest;
use sordini_protocol::messages::init_producer_id::InitProducerIdRequest;
use sordini_protocol::messages::txn_offset_commit::TxnOffsetCommitRequest;
use sordini_protocol::{ApiKey, ErrorCode, Message, Reader, Request, frame};

use super::Sent;
use crate::book::Writer;

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Old,
    New,
}

/// A partition by its topic's name.
type Place = (String, i32);

/// What a request that waits for its answer is about.
#[derive(Clone, Debug)]
enum About {
    Partitions(Writer),
    Group(Writer, String),
    End(Writer),
    Else,
}

/// Watches one producer.
#[derive(Debug, Default)]
pub(super) struct Order {
    protocols: BTreeMap<Writer, Protocol>,
    /// Partitions and groups that the coordinator took in, until their transaction has ended.
    added: BTreeSet<(Writer, Place)>,
    groups: BTreeSet<(Writer, String)>,
    /// Writers whose transaction is to end, and those of the new protocol whose has ended.
    ending: BTreeSet<Writer>,
    ended: BTreeSet<Writer>,
    /// Topics that were deleted: nobody waits for what went to them.
    pub(super) deleted: BTreeSet<u16>,
    /// By connection and correlation id.
    waiting: BTreeMap<(u64, i32), (ApiKey, i16, About)>,
}

fn of_version(version: i16, first_new: i16) -> Protocol {
    if version >= first_new { Protocol::New } else { Protocol::Old }
}

impl Order {
    fn speak(&mut self, writer: Writer, protocol: Protocol, what: &str, wrong: &mut Vec<String>) {
        let known = *self.protocols.entry(writer).or_insert(protocol);
        if known != protocol {
            wrong.push(format!("{what} of {writer:?} by the {protocol:?} protocol, not {known:?}"));
        }
    }

    /// A batch is sent.
    pub(super) fn produce(&mut self, version: i16, batch: &Sent, wrong: &mut Vec<String>) {
        let writer = (batch.producer_id, batch.epoch);
        let place = (format!("t{}", batch.tp.0), batch.tp.1);
        if !batch.transactional {
            return wrong.push(format!("{place:?}: a batch outside of any transaction"));
        }
        let protocol = of_version(version, 12);
        self.speak(writer, protocol, "Produce", wrong);
        if self.ending.contains(&writer) {
            wrong
                .push(format!("{place:?}: a batch of {writer:?}, which is to end its transaction"));
        }
        if self.ended.contains(&writer) {
            wrong.push(format!("{place:?}: a batch of {writer:?}, whose transaction has ended"));
        }
        if protocol == Protocol::Old && !self.added.contains(&(writer, place.clone())) {
            wrong.push(format!("{place:?}: a batch of {writer:?} before its partition was added"));
        }
    }

    /// Another request is sent; the batches of `flying` are on open connections, unanswered.
    pub(super) fn asked<'a>(
        &mut self,
        key: (u64, i32),
        api: ApiKey,
        version: i16,
        mut reader: Reader,
        flying: impl Iterator<Item = &'a Sent>,
        wrong: &mut Vec<String>,
    ) {
        let about = match api {
            ApiKey::AddPartitionsToTxn => {
                let Ok(request) = AddPartitionsToTxnRequest::decode(&mut reader, version) else {
                    return;
                };
                let writer =
                    (request.v3_and_below_producer_id, request.v3_and_below_producer_epoch);
                self.speak(writer, Protocol::Old, "AddPartitionsToTxn", wrong);
                self.late(writer, "AddPartitionsToTxn", wrong);
                About::Partitions(writer)
            }
            ApiKey::AddOffsetsToTxn => {
                let Ok(request) = AddOffsetsToTxnRequest::decode(&mut reader, version) else {
                    return;
                };
                let writer = (request.producer_id, request.producer_epoch);
                self.speak(writer, Protocol::Old, "AddOffsetsToTxn", wrong);
                self.late(writer, "AddOffsetsToTxn", wrong);
                About::Group(writer, request.group_id)
            }
            ApiKey::TxnOffsetCommit => {
                let Ok(request) = TxnOffsetCommitRequest::decode(&mut reader, version) else {
                    return;
                };
                let writer = (request.producer_id, request.producer_epoch);
                let protocol = of_version(version, 5);
                self.speak(writer, protocol, "TxnOffsetCommit", wrong);
                self.late(writer, "TxnOffsetCommit", wrong);
                let group = (writer, request.group_id);
                if protocol == Protocol::Old && !self.groups.contains(&group) {
                    wrong.push(format!("offsets of {group:?} before the group was added"));
                }
                About::Else
            }
            ApiKey::EndTxn => {
                let Ok(request) = EndTxnRequest::decode(&mut reader, version) else { return };
                let writer = (request.producer_id, request.producer_epoch);
                self.speak(writer, of_version(version, 5), "EndTxn", wrong);
                let of_it = |it: &&Sent| {
                    let gone = self.deleted.contains(&it.tp.0) && !request.committed;
                    (it.producer_id, it.epoch) == writer && !gone
                };
                let mut flying = flying.filter(of_it);
                if let Some(batch) = flying.next() {
                    wrong.push(format!("EndTxn of {writer:?}, and a batch of {:?}", batch.tp));
                }
                self.ending.insert(writer);
                About::End(writer)
            }
            ApiKey::FindCoordinator | ApiKey::InitProducerId | ApiKey::DescribeTransactions => {
                About::Else
            }
            _ => return,
        };
        self.waiting.insert(key, (api, version, about));
    }

    fn late(&self, writer: Writer, what: &str, wrong: &mut Vec<String>) {
        if self.ending.contains(&writer) || self.ended.contains(&writer) {
            wrong.push(format!("{what} of {writer:?} behind the end of its transaction"));
        }
    }

    /// An answer has arrived. Returns which, and the codes that it holds.
    pub(super) fn answered(&mut self, key: (u64, i32), body: &Bytes) -> Vec<(ApiKey, ErrorCode)> {
        let Some((api, version, about)) = self.waiting.remove(&key) else { return Vec::new() };
        let codes = match about {
            About::Partitions(writer) => self.partitions(writer, body, version),
            About::Group(writer, group) => {
                let code = read::<AddOffsetsToTxnRequest>(body, version).map(|it| it.error_code);
                if code == Some(0) {
                    self.groups.insert((writer, group));
                }
                code.into_iter().collect()
            }
            About::End(writer) => {
                let code = read::<EndTxnRequest>(body, version).map(|it| it.error_code);
                if code == Some(0) {
                    self.end(writer);
                }
                code.into_iter().collect()
            }
            About::Else => codes_of(api, body, version),
        };
        codes.into_iter().map(|code| (api, ErrorCode::from_code(code))).collect()
    }

    fn partitions(&mut self, writer: Writer, body: &Bytes, version: i16) -> Vec<i16> {
        let Some(response) = read::<AddPartitionsToTxnRequest>(body, version) else {
            return Vec::new();
        };
        let mut codes = Vec::new();
        for topic in response.results_by_topic_v3_and_below {
            for at in topic.results_by_partition {
                codes.push(at.partition_error_code);
                if at.partition_error_code == 0 {
                    self.added.insert((writer, (topic.name.clone(), at.partition_index)));
                }
            }
        }
        codes
    }

    fn end(&mut self, writer: Writer) {
        self.ending.remove(&writer);
        self.added.retain(|(of, _)| *of != writer);
        self.groups.retain(|(of, _)| *of != writer);
        if self.protocols.get(&writer) == Some(&Protocol::New) {
            self.ended.insert(writer);
        }
    }

    pub(super) fn gone(&mut self, conn: u64) {
        self.waiting.retain(|(of, _), _| *of != conn);
    }
}

fn read<R: Request>(body: &Bytes, version: i16) -> Option<R::Response> {
    let (_, mut reader) = frame::response_header::<R>(body.clone(), version).ok()?;
    R::Response::decode(&mut reader, version).ok()
}

fn codes_of(api: ApiKey, body: &Bytes, version: i16) -> Vec<i16> {
    match api {
        ApiKey::TxnOffsetCommit => {
            let response = read::<TxnOffsetCommitRequest>(body, version);
            let topics = response.into_iter().flat_map(|it| it.topics);
            topics.flat_map(|it| it.partitions).map(|it| it.error_code).collect()
        }
        ApiKey::FindCoordinator => {
            let response = read::<FindCoordinatorRequest>(body, version);
            let each =
                |it: sordini_protocol::messages::find_coordinator::FindCoordinatorResponse| match it
                    .coordinators
                    .is_empty()
                {
                    true => vec![it.error_code],
                    false => it.coordinators.iter().map(|it| it.error_code).collect(),
                };
            response.map_or_else(Vec::new, each)
        }
        ApiKey::InitProducerId => read::<InitProducerIdRequest>(body, version)
            .map(|it| it.error_code)
            .into_iter()
            .collect(),
        ApiKey::DescribeTransactions => {
            let response = read::<DescribeTransactionsRequest>(body, version);
            let states = response.into_iter().flat_map(|it| it.transaction_states);
            states.map(|it| it.error_code).collect()
        }
        _ => Vec::new(),
    }
}
