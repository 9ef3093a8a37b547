//! What a coordinator appended and does not yet know to be committed, and what is to be done then.

use sordini_protocol::ErrorCode;

use super::answers::Found;
use super::markers::MarkerFrom;
use super::offsets::StableFetch;
use super::transaction::Partition;
use super::transactions::AfterState;
use super::{TRANSACTION_STATE, Token};
use crate::api::Response;
use crate::broker::{AppendedHere, Broker, Committed};
use crate::time::{Instant, Now};

/// An append that waits until it is committed.
#[derive(Debug)]
pub(super) struct Write {
    pub at: AppendedHere,
    pub deadline: Instant,
    pub then: Then,
}

/// What waits for it.
#[derive(Debug)]
pub(super) enum Then {
    /// The next state of a transactional id, in a term of its coordinator.
    State { partition: i32, epoch: i32, id: String, then: AfterState },
    /// Ids that are forgotten.
    Expired { partition: i32, epoch: i32, ids: Vec<String> },
    /// Offsets: this is the answer.
    Offsets { token: Token, response: Response },
    /// A marker: who gave the order is told.
    Marker { from: MarkerFrom, partition: Partition },
    /// An OffsetFetch that wants stable offsets.
    Stable(StableFetch),
}

impl Broker {
    /// Waits for an append.
    pub(super) fn await_write(&mut self, at: AppendedHere, deadline: Instant, then: Then) {
        let number = self.coordinator.next_number();
        self.coordinator.writes.insert(number, Write { at, deadline, then });
    }

    /// Goes on with what waits for appends that are committed now, or never will be. Returns
    /// whether there was any.
    pub(crate) fn settle_writes(&mut self, now: Now) -> bool {
        let numbers: Vec<u64> = self.coordinator.writes.keys().copied().collect();
        let mut any = false;
        for number in numbers {
            let Some(write) = self.coordinator.writes.get(&number) else { continue };
            let (at, deadline) = (write.at, write.deadline);
            let result = match self.committed(&at) {
                Committed::Yes => Ok(()),
                Committed::Unknown(code) => Err(code),
                Committed::NotYet if deadline <= now.mono => Err(ErrorCode::RequestTimedOut),
                Committed::NotYet => continue,
            };
            if let Some(write) = self.coordinator.writes.remove(&number) {
                any = true;
                self.written(now, write.then, result);
            }
        }
        any
    }

    fn written(&mut self, now: Now, then: Then, result: Result<(), ErrorCode>) {
        match then {
            Then::State { partition, epoch, id, then } => {
                self.state_written(now, (partition, epoch), &id, result, then);
            }
            Then::Expired { partition, epoch, ids } => {
                self.expired(now, (partition, epoch), ids, result.is_ok());
            }
            Then::Offsets { token, response } => {
                let found = match result {
                    Ok(()) => Found::Response(response),
                    Err(code) => Found::Refused(as_coordinator(code)),
                };
                self.coordinator.answers.found(token, found);
            }
            Then::Marker { from, partition } => {
                self.marker_result(now, from, partition, result);
            }
            Then::Stable(fetch) => self.stable_now(now, fetch, result),
        }
    }

    /// When the first append is given up.
    pub(super) fn next_write_deadline(&self) -> Option<Instant> {
        self.coordinator.writes.values().map(|write| write.deadline).min()
    }

    /// How many partitions an internal topic has; 0 if it is not there.
    pub(crate) fn partition_count(&self, topic: &str) -> usize {
        match &self.node {
            Some(node) => node.view.topics.get(topic).map_or(0, |topic| topic.partitions.len()),
            None => self.topics.get(topic).map_or(0, |topic| topic.partitions.len()),
        }
    }

    /// The partition that keeps a transactional id's state.
    pub(super) fn state_partition(&self, id: &str) -> Option<i32> {
        super::partition_for(id, self.partition_count(TRANSACTION_STATE))
    }
}

/// An append's failure, as the clients of coordinators know it.
pub(super) fn as_coordinator(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}
