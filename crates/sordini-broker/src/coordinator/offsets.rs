//! The coordinator of groups, as far as it keeps their offsets: members and generations are not
//! served, so that each group is one without members.

use std::collections::BTreeMap;

use sordini_protocol::ErrorCode;
use sordini_protocol::messages::offset_fetch::OffsetFetchRequest;
use sordini_protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::answers::Found;
use super::asking::{AfterAnswer, Ask};
use super::groups::{Groups, Known};
use super::records::{self, CommittedOffset, OffsetKey};
use super::writes::{Then, as_coordinator};
use super::{CONSUMER_OFFSETS, Token, batch};
use crate::api::{Response, offset_fetch, txn_offset_commit};
use crate::broker::{AppendedHere, Broker, Committed};
use crate::log::batch::NO_SEQUENCE;
use crate::log::verification::{Guard, ToVerify};
use crate::time::Now;

/// How long offsets may take to be committed, Kafka's `offsets.commit.timeout.ms`.
const COMMIT_MS: i64 = 5_000;
/// Most UTF-16 units of what a client keeps beside an offset, Kafka's
/// `offset.metadata.max.bytes`.
const METADATA_MAX: usize = 4096;

/// An offset that a client wants kept.
pub(crate) type ToCommit = (OffsetKey, CommittedOffset);

/// A TxnOffsetCommit whose transaction is being asked for.
#[derive(Debug)]
pub(super) struct TxnOffsets {
    token: Token,
    version: i16,
    request: TxnOffsetCommitRequest,
    response: TxnOffsetCommitResponse,
    offsets: Vec<ToCommit>,
}

/// An OffsetFetch that waits for what was appended before it came.
#[derive(Debug)]
pub(crate) struct StableFetch {
    token: Token,
    version: i16,
    request: OffsetFetchRequest,
    waits: Vec<AppendedHere>,
}

/// What a client says of itself as a member of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    /// -1 from one who is none.
    pub generation: i32,
    /// What it is answered where the group is not known.
    pub unknown_group: ErrorCode,
}

impl Membership {
    /// A group without members takes offsets of those only who do not say that they are one.
    fn check(self, groups: &Groups, group: &str) -> Result<(), ErrorCode> {
        match self.generation {
            ..0 => Ok(()),
            _ if groups.has_group(group) => Err(ErrorCode::UnknownMemberId),
            _ => Err(self.unknown_group),
        }
    }
}

/// What is appended for a client.
struct Records<'a> {
    offsets: &'a [ToCommit],
    /// Whose transaction they are part of.
    producer: Option<(i64, i16)>,
    guard: Option<Guard>,
}

/// Whether what a client wants kept beside an offset is too long.
pub(crate) fn is_too_large(metadata: Option<&str>) -> bool {
    metadata.is_some_and(|text| text.encode_utf16().count() > METADATA_MAX)
}

impl Broker {
    /// The partition that keeps a group's offsets, if this broker coordinates it.
    fn group_partition(&mut self, group: &str) -> Result<i32, ErrorCode> {
        let count = self.partition_count(CONSUMER_OFFSETS);
        let index = super::partition_for(group, count).ok_or(ErrorCode::NotCoordinator)?;
        self.led(CONSUMER_OFFSETS, index).map_err(|_| ErrorCode::NotCoordinator)?;
        if !self.coordinator.groups.contains_key(&index) {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        self.catch_up(index).map_err(|error| as_coordinator(error.code()))?;
        Ok(index)
    }

    fn member_partition(&mut self, group: &str, member: Membership) -> Result<i32, ErrorCode> {
        let index = self.group_partition(group)?;
        let groups = self.coordinator.groups.get(&index).ok_or(ErrorCode::NotCoordinator)?;
        member.check(groups, group)?;
        Ok(index)
    }

    /// OffsetCommit: `response` is the answer once the offsets are committed.
    pub(crate) fn commit_offsets(
        &mut self,
        now: Now,
        token: Token,
        group: &str,
        member: Membership,
        offsets: &[ToCommit],
        response: Response,
    ) {
        match self.member_partition(group, member) {
            Ok(index) => {
                let records = Records { offsets, producer: None, guard: None };
                self.append_offsets(now, token, index, records, response);
            }
            Err(code) => self.coordinator.answers.found(token, Found::Refused(code)),
        }
    }

    fn append_offsets(
        &mut self,
        now: Now,
        token: Token,
        index: i32,
        Records { offsets, producer, guard }: Records<'_>,
        response: Response,
    ) {
        let records: Vec<_> = offsets.iter().map(|(key, at)| records::offset(key, at)).collect();
        let bytes = batch::encode(&records, now.wall_ms, producer);
        match self.append_as_coordinator(now, CONSUMER_OFFSETS, index, &bytes, guard) {
            Ok(at) => {
                let then = Then::Offsets { token, response };
                self.await_write(at, now.mono.after_millis(COMMIT_MS), then);
            }
            Err(code) => {
                self.coordinator.answers.found(token, Found::Refused(as_coordinator(code)));
            }
        }
    }

    /// TxnOffsetCommit: the transaction is asked for first, unless the log knows it as open.
    pub(crate) fn commit_txn_offsets(
        &mut self,
        now: Now,
        token: Token,
        version: i16,
        request: &TxnOffsetCommitRequest,
        offsets: Vec<ToCommit>,
        response: TxnOffsetCommitResponse,
    ) {
        let producer = (request.producer_id, request.producer_epoch);
        let index = match self.group_partition(&request.group_id) {
            Ok(index) => index,
            Err(code) => return self.coordinator.answers.found(token, Found::Refused(code)),
        };
        let request = request.clone();
        let id = request.transactional_id.clone();
        let offsets = TxnOffsets { token, version, request, response, offsets };
        let ask = txn_offset_commit::question(version);
        let wanted = ToVerify {
            producer_id: producer.0,
            producer_epoch: producer.1,
            base_sequence: NO_SEQUENCE,
            bumps_epoch: ask == Ask::Add,
        };
        match self.start_verification(now, CONSUMER_OFFSETS, index, &wanted) {
            Ok(None) => self.txn_offsets_checked(now, offsets, Ok(None)),
            Ok(Some(guard)) => {
                let guards = BTreeMap::from([((CONSUMER_OFFSETS.to_owned(), index), guard)]);
                let then = AfterAnswer::Offsets(Box::new(offsets));
                self.ask_coordinator(now, &id, producer, guards, ask, then);
            }
            Err(code) => self.txn_offsets_checked(now, offsets, Err(code)),
        }
    }

    /// The coordinator of the transaction has spoken.
    pub(super) fn txn_offsets_checked(
        &mut self,
        now: Now,
        checked: TxnOffsets,
        result: Result<Option<Guard>, ErrorCode>,
    ) {
        let TxnOffsets { token, version, request, response, offsets } = checked;
        let producer = (request.producer_id, request.producer_epoch);
        let member = Membership {
            generation: request.generation_id_or_member_epoch,
            unknown_group: txn_offset_commit::unknown_group(version),
        };
        let checked = result.map_err(as_committer);
        let index = self.member_partition(&request.group_id, member);
        match checked.and_then(|guard| Ok((guard, index?))) {
            Ok((guard, index)) => {
                let response = Response::TxnOffsetCommit(response);
                let records = Records { offsets: &offsets, producer: Some(producer), guard };
                self.append_offsets(now, token, index, records, response);
            }
            Err(code) => self.coordinator.answers.found(token, Found::Refused(code)),
        }
    }

    /// OffsetFetch. Stable offsets wait for all that was appended before: it may be a
    /// transaction's, whose client then has no answer yet.
    pub(crate) fn fetch_offsets(
        &mut self,
        now: Now,
        token: Token,
        version: i16,
        request: &OffsetFetchRequest,
    ) {
        let mut waits = Vec::new();
        if request.require_stable {
            for group in offset_fetch::groups(request) {
                let Ok(index) = self.group_partition(group) else { continue };
                if let Ok(at) = self.appended_so_far(CONSUMER_OFFSETS, index) {
                    waits.push(at);
                }
            }
        }
        let fetch = StableFetch { token, version, request: request.clone(), waits };
        self.stable_now(now, fetch, Ok(()));
    }

    /// One of the appends that a fetch waits for is committed, or never will be.
    pub(super) fn stable_now(
        &mut self,
        now: Now,
        mut fetch: StableFetch,
        result: Result<(), ErrorCode>,
    ) {
        if result.is_err() {
            // What consumers before 3.9 understand; and the coordinator may be another by now.
            let refused = Found::Refused(ErrorCode::NotCoordinator);
            return self.coordinator.answers.found(fetch.token, refused);
        }
        while let Some(at) = fetch.waits.pop() {
            if self.committed(&at) != Committed::Yes {
                let deadline = now.mono.after_millis(COMMIT_MS);
                return self.await_write(at, deadline, Then::Stable(fetch));
            }
        }
        let response = offset_fetch::answer(self, fetch.version, &fetch.request);
        let found = Found::Response(Response::OffsetFetch(response));
        self.coordinator.answers.found(fetch.token, found);
    }

    /// The offsets of a group's partitions; of all that it has where none are named.
    ///
    /// # Errors
    /// If this broker does not coordinate the group.
    pub(crate) fn offsets_of(&mut self, group: &str) -> Result<GroupOffsets<'_>, ErrorCode> {
        let index = self.group_partition(group)?;
        let groups = self.coordinator.groups.get(&index).ok_or(ErrorCode::NotCoordinator)?;
        Ok(GroupOffsets { groups, broker: self })
    }
}

/// A group's offsets, as they are now.
pub(crate) struct GroupOffsets<'a> {
    groups: &'a Groups,
    broker: &'a Broker,
}

impl GroupOffsets<'_> {
    /// One partition's; what was committed to a topic that was deleted is gone with it.
    pub(crate) fn get(&self, key: &OffsetKey, stable: bool) -> Known<'_> {
        let known = self.groups.get(key, stable);
        let now = self.broker.topics.get(&key.topic).map(|topic| topic.id);
        match known {
            Known::Committed(committed)
                if !committed.topic_id.is_zero() && now != Some(committed.topic_id) =>
            {
                Known::Nothing
            }
            known => known,
        }
    }

    /// All partitions of which the group has an offset.
    pub(crate) fn all(&self, group: &str) -> Vec<OffsetKey> {
        let keys = self.groups.of_group(group);
        keys.filter(|key| self.get(key, false) != Known::Nothing).cloned().collect()
    }
}

/// Why a transaction's offsets can't be taken, as clients of groups know it.
fn as_committer(code: ErrorCode) -> ErrorCode {
    match code {
        // Old clients do not expect it here; they retry this one without a new search.
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        other => as_coordinator(other),
    }
}
