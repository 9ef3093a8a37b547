//! What a run met: a behaviour that no run shows is tested by none.

use std::collections::BTreeMap;

use sordini_broker::ClusterTrace;
use sordini_core::accumulator::counters::Metrics;
use sordini_core::producer::io::Trace;
use sordini_core::transaction::error::{AbortCause, TransactionOutcome};
use sordini_protocol::{ApiKey, ErrorCode};

use crate::book::{CallKind, Fatal, Told};
use crate::faults::FaultKind;

/// Counters of behaviour, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Faults of which something was felt, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Answers to Produce by error code: the rows of the core's verdicts that were met.
    pub codes: BTreeMap<&'static str, u64>,
    /// The core's and the cluster's transitions, and other things worth meeting.
    pub met: BTreeMap<&'static str, u64>,
    /// Answers of coordinators, by request and error code.
    pub coordinated: BTreeMap<(&'static str, &'static str), u64>,
    /// Elections.
    pub elections: u64,
    /// Bytes that reached a node on a connection that its producer had given up and replaced.
    pub late_deliveries: u64,
}

/// What every long enough run of the default profile and of `disks` must meet.
const EXPECTED: &[&str] = &[
    "app: a call took too long",
    "app: a commit's outcome is unknown",
    "app: aborted",
    "app: aborted instead of committed",
    "app: asked for an outcome",
    "app: asked for what can't be",
    "app: committed",
    "app: dropped a guard",
    "app: fenced",
    "app: forgot a transaction",
    "app: gave up a call",
    "app: learned of a commit later",
    "app: learned of an abort later",
    "app: offsets must be aborted",
    "app: offsets went along",
    "app: slept in a transaction",
    "app: used an id that another has",
    "app: was told the broker's time",
    "cluster: a clean election",
    "cluster: a disk lost records",
    "cluster: a follower appended",
    "cluster: a node gave up its disk",
    "cluster: a node was fenced",
    "cluster: a partition without leader",
    "cluster: a replica was truncated",
    "cluster: an unclean election",
    "cluster: the ISR changed",
    "core: a new producer id after the last epoch",
    "core: connected",
    "core: data loss told",
    "core: disconnected",
    "core: epoch bumped",
    "core: failed",
    "core: failed, not written",
    "core: failed, unknown",
    "core: fatal",
    "core: more than three epochs",
    "core: producer id",
    "core: retry",
    "core: split",
    "core: topic gone",
    "core: transaction aborted by its coordinator",
    "core: transaction aborted, a record failed",
    "core: transaction aborted, abandoned",
    "core: transaction aborted, as asked",
    "core: transaction aborted, its topic gone",
    "core: transaction aborted, refused",
    "core: transaction aborted, timed out",
    "core: transaction committed",
    "core: transaction held for markers",
    "core: transaction's outcome unknown for ever",
    "core: written",
    "net: a connection to a machine that is off",
    "net: a dead address of a name was passed",
    "wire: an older version of Produce",
    "wire: children of a split",
    "wire: sent again",
    "wire: throttled",
    "wire: versions asked for again",
];

/// What coordinators must answer.
const EXPECTED_OF_COORDINATORS: &[(ApiKey, ErrorCode)] = &[
    (ApiKey::FindCoordinator, ErrorCode::CoordinatorNotAvailable),
    (ApiKey::InitProducerId, ErrorCode::ConcurrentTransactions),
    (ApiKey::InitProducerId, ErrorCode::CoordinatorLoadInProgress),
    (ApiKey::InitProducerId, ErrorCode::NotCoordinator),
    (ApiKey::InitProducerId, ErrorCode::ProducerFenced),
    (ApiKey::AddPartitionsToTxn, ErrorCode::ConcurrentTransactions),
    (ApiKey::AddPartitionsToTxn, ErrorCode::NotCoordinator),
    (ApiKey::AddPartitionsToTxn, ErrorCode::OperationNotAttempted),
    (ApiKey::AddPartitionsToTxn, ErrorCode::ProducerFenced),
    (ApiKey::AddPartitionsToTxn, ErrorCode::UnknownTopicOrPartition),
    (ApiKey::AddOffsetsToTxn, ErrorCode::None),
    (ApiKey::TxnOffsetCommit, ErrorCode::ConcurrentTransactions),
    (ApiKey::TxnOffsetCommit, ErrorCode::InvalidProducerEpoch),
    (ApiKey::TxnOffsetCommit, ErrorCode::NotCoordinator),
    (ApiKey::EndTxn, ErrorCode::ConcurrentTransactions),
    (ApiKey::EndTxn, ErrorCode::CoordinatorLoadInProgress),
    (ApiKey::EndTxn, ErrorCode::InvalidTxnState),
    (ApiKey::EndTxn, ErrorCode::NotCoordinator),
    (ApiKey::EndTxn, ErrorCode::ProducerFenced),
    (ApiKey::DescribeTransactions, ErrorCode::NotCoordinator),
];

/// Answers to Produce that the faults draw.
const EXPECTED_CODES: &[ErrorCode] = &[
    ErrorCode::None,
    ErrorCode::CorruptMessage,
    ErrorCode::UnknownTopicOrPartition,
    ErrorCode::LeaderNotAvailable,
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::RequestTimedOut,
    ErrorCode::MessageTooLarge,
    ErrorCode::NetworkException,
    ErrorCode::RecordListTooLarge,
    ErrorCode::NotEnoughReplicas,
    ErrorCode::NotEnoughReplicasAfterAppend,
    ErrorCode::TopicAuthorizationFailed,
    ErrorCode::ClusterAuthorizationFailed,
    ErrorCode::InvalidTimestamp,
    ErrorCode::PolicyViolation,
    ErrorCode::OutOfOrderSequenceNumber,
    ErrorCode::InvalidProducerEpoch,
    ErrorCode::KafkaStorageError,
    ErrorCode::UnknownProducerId,
    ErrorCode::FencedLeaderEpoch,
    ErrorCode::UnknownServerError,
    ErrorCode::InvalidRecord,
    ErrorCode::UnknownTopicId,
    ErrorCode::Unrecognized(9999),
];

impl Coverage {
    /// What was never met of all that must be, by name. A behaviour that stays away in a long
    /// run of the default profile and of `disks` means that a fault or the drawing is dead.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let kinds = FaultKind::ALL.iter().filter(|kind| !self.faults.contains_key(kind));
        missing.extend(kinds.map(|kind| format!("fault {}", kind.name())));
        let met = |what: &&&str| self.met.get(**what).copied().unwrap_or(0) > 0;
        missing.extend(EXPECTED.iter().filter(|what| !met(what)).map(|what| (*what).to_owned()));
        let codes = EXPECTED_CODES.iter().filter(|code| !self.codes.contains_key(code.name()));
        missing.extend(codes.map(|code| format!("answer {}", code.name())));
        let of = EXPECTED_OF_COORDINATORS.iter().map(|(api, code)| (api.name(), code.name()));
        let unheard = of.filter(|what| !self.coordinated.contains_key(what));
        missing.extend(unheard.map(|(api, code)| format!("answer {code} to {api}")));
        if self.late_deliveries == 0 {
            missing.push("an old connection that delivers after the new one".to_owned());
        }
        missing
    }

    pub(crate) fn code(&mut self, code: ErrorCode) {
        *self.codes.entry(code.name()).or_default() += 1;
    }

    pub(crate) fn meet(&mut self, what: &'static str, times: u64) {
        *self.met.entry(what).or_default() += times;
    }

    pub(crate) fn trace(&mut self, trace: &ClusterTrace) {
        let what = match trace {
            ClusterTrace::Appended { as_leader: false, .. } => "cluster: a follower appended",
            ClusterTrace::Truncated { by_storage: true, .. } => "cluster: a disk lost records",
            ClusterTrace::Truncated { .. } => "cluster: a replica was truncated",
            ClusterTrace::Fenced { .. } => "cluster: a node was fenced",
            ClusterTrace::Halted { .. } => "cluster: a node gave up its disk",
            ClusterTrace::Elected { leader: -1, .. } => "cluster: a partition without leader",
            ClusterTrace::Elected { clean: false, .. } => "cluster: an unclean election",
            ClusterTrace::Elected { .. } => "cluster: a clean election",
            ClusterTrace::Isr { .. } => "cluster: the ISR changed",
            _ => return,
        };
        self.meet(what, 1);
    }

    pub(crate) fn producer(&mut self, trace: &Trace) {
        let what = match trace {
            Trace::Connected { .. } => "core: connected",
            Trace::Disconnected { .. } => "core: disconnected",
            Trace::Retry { .. } => "core: retry",
            Trace::Failed(_) => "core: failed",
            Trace::EpochBumped { .. } => "core: epoch bumped",
            Trace::DataLoss { .. } => "core: data loss told",
            Trace::ProducerId { .. } => "core: producer id",
            Trace::TopicGone { .. } => "core: topic gone",
            Trace::TransactionHeld { .. } => "core: transaction held for markers",
            Trace::Fatal(_) => "core: fatal",
            _ => return,
        };
        self.meet(what, 1);
    }

    /// A call that concerns transactions was answered.
    pub(crate) fn told(&mut self, kind: CallKind, told: &Told, fatal: Option<Fatal>) {
        let what = match (kind, told) {
            (CallKind::Init, Told::Done) => "app: initialised",
            (CallKind::Begin, Told::Begun) => "app: began",
            (CallKind::SendOffsets, Told::Done) => "app: offsets went along",
            (CallKind::SendOffsets, Told::MustAbort) => "app: offsets must be aborted",
            (CallKind::Commit, Told::Committed) => "app: committed",
            (CallKind::Commit, Told::Aborted) => "app: aborted instead of committed",
            (CallKind::Commit, Told::Unknown) => "app: a commit's outcome is unknown",
            (CallKind::Abort, Told::Aborted) => "app: aborted",
            (CallKind::Resolve, Told::Committed) => "app: learned of a commit later",
            (CallKind::Resolve, Told::Aborted) => "app: learned of an abort later",
            (_, Told::Late) => "app: a call took too long",
            _ => "app: a call was refused",
        };
        self.meet(what, 1);
        match fatal {
            Some(Fatal::Fenced) => self.meet("app: fenced", 1),
            Some(Fatal::Other) => self.meet("app: done for another reason", 1),
            None => {}
        }
    }

    /// A producer told of a transaction's end.
    pub(crate) fn ended(&mut self, outcome: &TransactionOutcome) {
        let what = match outcome {
            TransactionOutcome::Committed => "core: transaction committed",
            TransactionOutcome::Unknown => "core: transaction's outcome unknown for ever",
            TransactionOutcome::Aborted(cause) => match cause {
                AbortCause::Requested => "core: transaction aborted, as asked",
                AbortCause::Abandoned => "core: transaction aborted, abandoned",
                AbortCause::Delivery(_) => "core: transaction aborted, a record failed",
                AbortCause::Refused { .. } => "core: transaction aborted, refused",
                AbortCause::TimedOut { .. } => "core: transaction aborted, timed out",
                AbortCause::TopicGone { .. } => "core: transaction aborted, its topic gone",
                AbortCause::Coordinator => "core: transaction aborted by its coordinator",
                _ => "core: transaction aborted, otherwise",
            },
        };
        self.meet(what, 1);
    }

    pub(crate) fn metrics(&mut self, metrics: &Metrics) {
        self.meet("core: split", metrics.splits);
        self.meet("core: duplicate answered", metrics.duplicates);
        self.meet("core: written", metrics.records_written);
        self.meet("core: failed, not written", metrics.records_not_written);
        self.meet("core: failed, unknown", metrics.records_unknown);
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        for (code, count) in &other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        for (what, count) in &other.met {
            self.meet(what, *count);
        }
        for (what, count) in &other.coordinated {
            *self.coordinated.entry(*what).or_default() += count;
        }
        self.elections += other.elections;
        self.late_deliveries += other.late_deliveries;
    }
}
