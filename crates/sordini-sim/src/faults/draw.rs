//! The swarm: each seed draws which kinds of faults it has and how often; every few virtual
//! seconds another part of them is active, sometimes none.

use sordini_protocol::{ApiKey, ErrorCode};

use super::{Deed, DiskOp, Fault, FaultKind, Link, PlannedFault, Twist, Way};
use crate::rng::Rng;

/// Which faults a profile has, with their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Menu {
    /// Kind and weight: how many of it an active period has at the most.
    pub kinds: Vec<(FaultKind, u64)>,
}

impl Menu {
    /// What replication, retries and the disk's promises survive.
    #[must_use]
    pub fn survivable() -> Self {
        let rare = [
            FaultKind::NoNames,
            FaultKind::Garbage,
            FaultKind::AddPartitions,
            FaultKind::NodeSkew,
            FaultKind::ProducerSkew,
            FaultKind::SlowCodec,
            FaultKind::PeerDouble,
            FaultKind::Hang,
            FaultKind::Freeze,
            FaultKind::LateTimers,
            FaultKind::DiskFull,
            FaultKind::DiskError,
            FaultKind::DeleteTopic,
        ];
        let never = [
            FaultKind::UncleanElection,
            FaultKind::BitRot,
            FaultKind::PowerLoss,
            FaultKind::StopAtWrite,
        ];
        let others = FaultKind::OF_TRANSACTIONS;
        let all = FaultKind::ALL.iter().filter(|it| !never.contains(it) && !others.contains(it));
        Self { kinds: all.map(|kind| (*kind, if rare.contains(kind) { 1 } else { 2 })).collect() }
    }

    /// The same and `more` kinds.
    #[must_use]
    pub fn and(mut self, more: &[FaultKind]) -> Self {
        self.kinds.extend(more.iter().map(|kind| (*kind, 2)));
        self
    }

    /// These kinds only.
    #[must_use]
    pub fn of(kinds: &[FaultKind]) -> Self {
        Self { kinds: kinds.iter().map(|kind| (*kind, 3)).collect() }
    }
}

/// What faults can strike.
pub(crate) struct Targets {
    pub(crate) nodes: i32,
    pub(crate) producers: u16,
    /// Partitions of each topic.
    pub(crate) topics: Vec<i32>,
    pub(crate) idempotent: bool,
    pub(crate) acks_all: bool,
    pub(crate) transactional: bool,
}

/// Draws the faults of a chaos phase of `chaos` milliseconds.
pub(crate) fn swarm(
    rng: &mut Rng,
    menu: &Menu,
    targets: &Targets,
    chaos: u64,
) -> Vec<PlannedFault> {
    // Some seeds have hardly any fault, most have a handful of kinds.
    let share = rng.pick(&[80, 200, 300, 400, 600]);
    let kinds: Vec<_> = menu.kinds.iter().filter(|_| rng.chance(share)).collect();
    let mut faults = Vec::new();
    let mut from = 200 + rng.below(800);
    while from < chaos {
        let until = (from + rng.within(1000..=4000)).min(chaos);
        let quiet = rng.chance(120);
        for (kind, most) in kinds.iter().filter(|_| !quiet) {
            if !rng.chance(500) {
                continue;
            }
            for _ in 0..rng.within(1..=*most) {
                let at = rng.within(from..=until);
                let mut fault = PlannedFault { at, until: at, fault: draw(rng, *kind, targets) };
                fault.until = (at + lasting(rng, *kind)).min(chaos);
                faults.push(fault);
            }
        }
        from = until + 1;
    }
    faults.sort_by_key(|fault| fault.at);
    spare_the_last(&mut faults, targets.nodes);
    faults
}

/// Leaves out what would stop a node while too many others are stopped: on a cluster of several
/// nodes at most one less than all at a time.
fn spare_the_last(faults: &mut Vec<PlannedFault>, nodes: i32) {
    let mut stopped: Vec<(i32, u64)> = Vec::new();
    faults.retain(|fault| {
        let Some(node) = fault.fault.stops() else { return true };
        stopped.retain(|(_, until)| *until >= fault.at);
        if stopped.iter().any(|(of, _)| *of == node) {
            return false;
        }
        let others = stopped.len() as i32;
        if nodes > 1 && others >= nodes - 1 {
            return false;
        }
        stopped.push((node, fault.until));
        true
    });
}

fn lasting(rng: &mut Rng, kind: FaultKind) -> u64 {
    match kind {
        FaultKind::Clog | FaultKind::Freeze => rng.pick(&[5, 50, 300, 1500]),
        FaultKind::Kill | FaultKind::PowerLoss | FaultKind::StopAtWrite | FaultKind::BitRot => {
            rng.pick(&[50, 400, 1500, 4000])
        }
        FaultKind::Pause => rng.pick(&[50, 400, 1500, 3000]),
        FaultKind::ShutDown => rng.pick(&[100, 1500, 3000]),
        FaultKind::Partition | FaultKind::PeerCut => rng.pick(&[100, 800, 2500, 5000]),
        FaultKind::DiskFull => rng.pick(&[100, 1000]),
        FaultKind::CrashProducer => rng.pick(&[5, 100, 1000, 3000]),
        FaultKind::AtRequest => rng.pick(&[300, 1500, 4000]),
        FaultKind::Version => rng.pick(&[500, 3000]),
        _ => rng.within(100..=2500),
    }
}

fn link(rng: &mut Rng, targets: &Targets) -> Link {
    let producer = rng.chance(500).then(|| producer(rng, targets));
    let node = rng.chance(700).then(|| node(rng, targets));
    Link { producer, node }
}

fn node(rng: &mut Rng, targets: &Targets) -> i32 {
    1 + rng.below(targets.nodes as u64) as i32
}

fn producer(rng: &mut Rng, targets: &Targets) -> u16 {
    rng.below(u64::from(targets.producers)) as u16
}

fn partition(rng: &mut Rng, targets: &Targets) -> (u16, i32) {
    let topic = rng.below(targets.topics.len() as u64) as usize;
    (topic as u16, rng.below(targets.topics[topic] as u64) as i32)
}

fn draw(rng: &mut Rng, kind: FaultKind, targets: &Targets) -> Fault {
    use FaultKind as K;
    let peer = |rng: &mut Rng| rng.chance(700).then(|| rng.below(targets.nodes as u64 + 1) as i32);
    let ways = [Way::Up, Way::Down, Way::Both];
    match kind {
        K::Delay => Fault::Delay(link(rng, targets), rng.pick(&[500, 5000, 60_000])),
        K::Clog => Fault::Clog(link(rng, targets), rng.pick(&ways)),
        K::Partition => Fault::Partition(link(rng, targets), rng.pick(&ways)),
        K::Fragment => Fault::Fragment(link(rng, targets), rng.pick(&[1, 3, 60])),
        K::SlowWriter => Fault::SlowWriter(link(rng, targets), rng.pick(&[1, 50, 1000])),
        K::Refuse => Fault::Refuse(link(rng, targets)),
        K::Hang => Fault::Hang(link(rng, targets)),
        K::NoNames => Fault::NoNames(rng.chance(500).then(|| producer(rng, targets))),
        K::ResetAll => Fault::ResetAll(link(rng, targets)),
        K::ResetAt => {
            let way = rng.pick(&[Way::Up, Way::Down]);
            Fault::ResetAt(link(rng, targets), way, rng.pick(&[0, 1, 30, 200, 3000]))
        }
        K::HalfOpen => Fault::HalfOpen(link(rng, targets)),
        K::PeerCut => Fault::PeerCut(peer(rng), peer(rng)),
        K::PeerDelay => Fault::PeerDelay(rng.pick(&[500, 10_000, 100_000])),
        K::PeerLoss => Fault::PeerLoss(rng.pick(&[20, 100, 300])),
        K::PeerDouble => Fault::PeerDouble(rng.pick(&[100, 500])),
        K::Kill => Fault::Kill(node(rng, targets)),
        K::PowerLoss => Fault::PowerLoss(node(rng, targets)),
        K::ShutDown => Fault::ShutDown(node(rng, targets)),
        K::StopAtWrite => Fault::StopAtWrite(node(rng, targets), rng.within(1..=60) as u16),
        K::Pause => Fault::Pause(node(rng, targets)),
        K::NodeSkew => Fault::NodeSkew(node(rng, targets), rng.pick(&[-60_000, -50, 700, 90_000])),
        K::DiskFull => Fault::DiskFull(node(rng, targets), rng.pick(&[0, 300, 5000])),
        K::DiskError => {
            let op = rng.pick(&[DiskOp::Append(0), DiskOp::Append(40), DiskOp::Sync, DiskOp::Read]);
            Fault::DiskError(node(rng, targets), op, rng.pick(&[1, 3]))
        }
        K::BitRot => Fault::BitRot(node(rng, targets)),
        K::MoveLeader => {
            let (topic, partition) = partition(rng, targets);
            Fault::MoveLeader(topic, partition)
        }
        K::UncleanElection => {
            let (topic, partition) = partition(rng, targets);
            Fault::UncleanElection(topic, partition)
        }
        K::Freeze => Fault::Freeze(producer(rng, targets)),
        K::ProducerSkew => {
            Fault::ProducerSkew(producer(rng, targets), rng.pick(&[-3_600_000, -20, 20, 600_000]))
        }
        K::LateTimers => Fault::LateTimers(producer(rng, targets), rng.pick(&[300, 4000, 60_000])),
        K::SlowCodec => Fault::SlowCodec(rng.pick(&[100, 5000, 80_000])),
        K::AddPartitions => {
            let (topic, _) = partition(rng, targets);
            Fault::AddPartitions(topic, rng.within(1..=3) as u16)
        }
        K::DeleteTopic => Fault::DeleteTopic(partition(rng, targets).0),
        K::CrashProducer => Fault::CrashProducer(producer(rng, targets)),
        K::TwinProducer => Fault::TwinProducer(producer(rng, targets)),
        K::MoveCoordinators => Fault::MoveCoordinators,
        K::OldLate => Fault::OldLate(link(rng, targets)),
        K::Version => Fault::Version(rng.pick(&[0, 1, 2, 2])),
        K::AtRequest => {
            let deeds = [Deed::KillBefore, Deed::KillAfter, Deed::Crash, Deed::Crash, Deed::Move];
            let api = if rng.chance(250) { ApiKey::Produce } else { rng.pick(&COORDINATED) };
            Fault::AtRequest { api, nth: rng.within(1..=6) as u16, deed: rng.pick(&deeds) }
        }
        _ => twist(rng, kind, targets),
    }
}

fn twist(rng: &mut Rng, kind: FaultKind, targets: &Targets) -> Fault {
    let produce = rng.chance(750);
    let api = if targets.transactional && rng.chance(600) {
        rng.pick(&COORDINATED)
    } else if produce {
        ApiKey::Produce
    } else {
        rng.pick(&[ApiKey::Metadata, ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::ApiVersions])
    };
    let twist = match kind {
        FaultKind::Error => Twist::Error(error(rng, api, targets)),
        FaultKind::ErrorAfter => Twist::ErrorAfter(error_after(rng, api, targets)),
        FaultKind::Silence => Twist::Silence,
        FaultKind::CloseBefore => Twist::CloseBefore,
        FaultKind::CloseAfter => Twist::CloseAfter,
        FaultKind::Garbage => match rng.pick(&[4, 9, 60]) {
            9 => Twist::Twice,
            len => Twist::Garbage(len),
        },
        _ => Twist::Hold(rng.pick(&[20, 300, 2000])),
    };
    // Only these have something to be done before an error.
    let after = matches!(twist, Twist::ErrorAfter(_)) && !COORDINATED.contains(&api);
    let api = if after { ApiKey::Produce } else { api };
    let times = rng.pick(&[1, 1, 2, 6]);
    Fault::Twist { node: node(rng, targets), api, nth: rng.within(1..=6) as u16, times, twist }
}

/// An error that a broker answers before it has done anything.
fn error(rng: &mut Rng, api: ApiKey, targets: &Targets) -> ErrorCode {
    use ErrorCode as E;
    match api {
        ApiKey::Metadata => {
            rng.pick(&[E::LeaderNotAvailable, E::UnknownTopicOrPartition, E::UnknownServerError])
        }
        api if targets.transactional && COORDINATED.contains(&api) => refusal(rng, api),
        ApiKey::InitProducerId => {
            rng.pick(&[E::CoordinatorLoadInProgress, E::CoordinatorNotAvailable, E::NotCoordinator])
        }
        ApiKey::ApiVersions => E::UnsupportedVersion,
        _ if rng.chance(40) => rng.pick(&[
            E::TopicAuthorizationFailed,
            E::PolicyViolation,
            E::Unrecognized(9999),
            E::ClusterAuthorizationFailed,
        ]),
        _ if targets.transactional && rng.chance(150) => rng.pick(&[
            E::ConcurrentTransactions,
            E::ConcurrentTransactions,
            E::TransactionAbortable,
            E::InvalidTxnState,
            E::InvalidProducerIdMapping,
            E::ProducerFenced,
        ]),
        _ if rng.chance(150) && targets.idempotent => {
            rng.pick(&[E::OutOfOrderSequenceNumber, E::UnknownProducerId, E::InvalidProducerEpoch])
        }
        _ => rng.pick(&[
            E::NotLeaderOrFollower,
            E::NotLeaderOrFollower,
            E::UnknownTopicOrPartition,
            E::UnknownTopicId,
            E::LeaderNotAvailable,
            E::NotEnoughReplicas,
            E::CorruptMessage,
            E::InvalidRecord,
            E::InvalidTimestamp,
            E::KafkaStorageError,
            E::FencedLeaderEpoch,
            E::MessageTooLarge,
            E::RecordListTooLarge,
            E::RequestTimedOut,
        ]),
    }
}

/// Requests that coordinators answer, or that find them.
const COORDINATED: [ApiKey; 7] = [
    ApiKey::FindCoordinator,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
    ApiKey::DescribeTransactions,
];

/// An error that a coordinator answers before it has done anything.
fn refusal(rng: &mut Rng, api: ApiKey) -> ErrorCode {
    use ErrorCode as E;
    let may_end = |rng: &mut Rng| match api {
        ApiKey::FindCoordinator => E::TransactionalIdAuthorizationFailed,
        ApiKey::TxnOffsetCommit => {
            rng.pick(&[E::GroupAuthorizationFailed, E::IllegalGeneration, E::UnknownMemberId])
        }
        ApiKey::AddPartitionsToTxn => {
            rng.pick(&[E::TopicAuthorizationFailed, E::OperationNotAttempted, E::ProducerFenced])
        }
        ApiKey::AddOffsetsToTxn => {
            rng.pick(&[E::GroupAuthorizationFailed, E::InvalidProducerEpoch])
        }
        // A coordinator that says so of what it has committed would lie.
        _ => rng.pick(&[E::ProducerFenced, E::InvalidProducerIdMapping, E::Unrecognized(9999)]),
    };
    if rng.chance(120) {
        return may_end(rng);
    }
    let abortable = matches!(
        api,
        ApiKey::AddPartitionsToTxn
            | ApiKey::AddOffsetsToTxn
            | ApiKey::TxnOffsetCommit
            | ApiKey::EndTxn
    );
    if abortable && rng.chance(150) {
        return E::TransactionAbortable;
    }
    let again = [
        E::NotCoordinator,
        E::CoordinatorNotAvailable,
        E::CoordinatorLoadInProgress,
        E::ConcurrentTransactions,
        E::RequestTimedOut,
        E::UnknownServerError,
    ];
    match api {
        ApiKey::FindCoordinator => E::CoordinatorNotAvailable,
        _ => rng.pick(&again),
    }
}

/// An error that a broker may answer after it has appended.
fn error_after(rng: &mut Rng, api: ApiKey, targets: &Targets) -> ErrorCode {
    use ErrorCode as E;
    if COORDINATED.contains(&api) {
        return rng.pick(&[
            E::NotCoordinator,
            E::CoordinatorNotAvailable,
            E::CoordinatorLoadInProgress,
            E::RequestTimedOut,
            E::UnknownServerError,
        ]);
    }
    let all = [
        E::RequestTimedOut,
        E::NotEnoughReplicasAfterAppend,
        E::UnknownServerError,
        E::KafkaStorageError,
        E::NetworkException,
    ];
    // A leader that steps down tells those who wait for replicas.
    if targets.acks_all && rng.chance(300) { E::NotLeaderOrFollower } else { rng.pick(&all) }
}
