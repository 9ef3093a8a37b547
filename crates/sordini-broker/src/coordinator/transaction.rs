//! One transactional id, pure: what it is, what requests make of it, and how it goes from state to
//! state. Times, new producer ids and the log are handed in; a step that was decided counts once
//! the log has it.
//!
//! The types say where an id stands: [`Settled`] waits for requests, [`Writing`] for the log,
//! [`Marking`] for partitions to have their markers. Steps consume them.

mod ending;

use std::collections::{BTreeMap, BTreeSet};

use sordini_protocol::{ErrorCode, mutant};

use super::state::State;
use super::version::TransactionVersion;
use crate::log::marker::TransactionResult;

/// Topic and index.
pub(crate) type Partition = (String, i32);

/// "No producer id".
pub(crate) const NO_ID: i64 = -1;
/// "No epoch".
pub(crate) const NO_EPOCH: i16 = -1;

/// What the log keeps of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub state: State,
    pub producer_id: i64,
    /// The id before it, where that ran out of epochs.
    pub previous_producer_id: i64,
    /// The id that follows once the transaction is complete, where this one runs out of epochs.
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    /// The epoch that the producer had before, by which its retries are known.
    pub last_producer_epoch: i16,
    pub timeout_ms: i32,
    pub partitions: BTreeSet<Partition>,
    /// When the transaction began, ms since 1970; -1 if there is none.
    pub started_ms: i64,
    pub updated_ms: i64,
    /// The protocol of the client that made the last step.
    pub client_version: TransactionVersion,
}

impl Metadata {
    /// A transactional id that nobody has used.
    pub(crate) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            state: State::Empty,
            producer_id,
            previous_producer_id: NO_ID,
            next_producer_id: NO_ID,
            producer_epoch: NO_EPOCH,
            last_producer_epoch: NO_EPOCH,
            timeout_ms,
            partitions: BTreeSet::new(),
            started_ms: -1,
            updated_ms: now_ms,
            client_version: TransactionVersion::V0,
        }
    }

    /// Whether the producer can get no further epoch: the last one is kept for fencing.
    fn is_exhausted(&self) -> bool {
        is_exhausted(self.producer_epoch)
    }

    /// The next state, with all else as it is. The id that was is noted, as Kafka notes it.
    fn next(&self, state: State) -> Self {
        Self { state, previous_producer_id: self.producer_id, ..self.clone() }
    }

    /// What becomes of a prepared transaction when all partitions have their marker.
    fn complete(&self, now_ms: i64) -> Self {
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        let mut next = self.next(state);
        if self.client_version.bumps_epochs() && self.next_producer_id != NO_ID {
            // The client goes from the last epoch it saw, one below the last there is, to 0.
            (next.producer_id, next.producer_epoch) = (self.next_producer_id, 0);
        }
        next.next_producer_id = NO_ID;
        next.partitions.clear();
        next.updated_ms = now_ms;
        next
    }

    /// An id whose later states are lost, up to this epoch of its producer: what it had open then
    /// is aborted.
    pub(crate) fn outrun(&self, epoch: i16, now_ms: i64) -> Self {
        Self {
            state: State::CompleteAbort,
            next_producer_id: NO_ID,
            producer_epoch: epoch,
            last_producer_epoch: NO_EPOCH,
            partitions: BTreeSet::new(),
            started_ms: -1,
            updated_ms: now_ms,
            ..self.clone()
        }
    }

    /// How the transaction that is prepared ends.
    pub(crate) fn result(&self) -> TransactionResult {
        match self.state {
            State::PrepareCommit | State::CompleteCommit => TransactionResult::Commit,
            _ => TransactionResult::Abort,
        }
    }
}

fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

/// An id that waits for requests: Empty, Ongoing, CompleteCommit or CompleteAbort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    now: Metadata,
    fence: Fence,
}

/// Whether a fence was begun whose epoch may not be in the log. It was told to nobody, so the
/// next fence uses it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    Sound,
    Unwritten,
}

/// An id whose next state is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writing {
    from: Settled,
    to: Metadata,
}

/// A prepared transaction whose partitions get their markers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marking {
    prepared: Metadata,
    complete: Metadata,
    /// Partitions that have no marker yet.
    left: BTreeSet<Partition>,
}

/// A transactional id, wherever it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transaction {
    /// It waits for requests.
    Settled(Settled),
    /// Its next state is being written.
    Writing(Writing),
    /// Its markers are on their way.
    Marking(Marking),
    /// All markers are written, and that is being written.
    Completing(Completing),
    /// It was unused for too long: that it is dead is being written.
    Expiring(Settled),
}

/// A transaction whose end is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completing {
    prepared: Metadata,
    complete: Metadata,
}

/// What InitProducerId asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Init {
    pub timeout_ms: i32,
    /// The id and epoch that the client has, if it goes on after an error (KIP-360).
    pub expected: Option<(i64, i16)>,
}

/// What a request makes of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: it is so already, at this id and epoch.
    Already { producer_id: i64, producer_epoch: i16 },
    /// This is to be written.
    Write(Metadata),
    /// The producer is to be fenced and its transaction aborted first.
    Fence,
}

/// Gives producer ids that nobody had, or says why not.
pub(crate) type FreshId<'a> = &'a mut dyn FnMut() -> Result<i64, ErrorCode>;

impl Settled {
    /// Sends the next state to the log.
    pub(crate) fn write(self, to: Metadata) -> Writing {
        assert!(
            self.now.state.may_become(to.state),
            "{:?} does not become {:?}",
            self.now.state,
            to.state
        );
        Writing { from: self, to }
    }

    /// Goes on to be forgotten.
    pub(crate) fn expire(self) -> Transaction {
        assert!(self.now.state.may_become(State::Dead), "{:?} does not expire", self.now.state);
        Transaction::Expiring(self)
    }

    /// Begins to fence the producer, which has a transaction: its epoch is over.
    pub(crate) fn fence(self) -> Fencing {
        assert!(self.now.state.may_become(State::PrepareEpochFence), "only an ongoing one");
        let spent = self.fence == Fence::Unwritten || self.now.producer_epoch == i16::MAX;
        let epoch = self.now.producer_epoch + i16::from(!spent);
        Fencing { from: self, epoch }
    }
}

/// An id in the state PrepareEpochFence, which is never written and lasts for no time.
#[derive(Debug)]
pub(crate) struct Fencing {
    from: Settled,
    epoch: i16,
}

impl Fencing {
    /// Goes on to the abort of the transaction. `version` is the broker's: no client asked.
    ///
    /// # Errors
    /// If a new producer id is needed and there is none: the id is then as it was.
    pub(crate) fn abort(
        self,
        version: TransactionVersion,
        now_ms: i64,
        fresh: FreshId<'_>,
    ) -> Result<Writing, (Settled, ErrorCode)> {
        let Self { mut from, epoch } = self;
        let to = if version.bumps_epochs() {
            match prepare_with_bump(&from.now, State::PrepareAbort, version, now_ms, fresh) {
                Ok(to) => to,
                Err(code) => return Err((from, code)),
            }
        } else {
            // In the old protocol the fence's epoch holds even if it can't be written.
            from.now.producer_epoch = epoch;
            from.now.last_producer_epoch = NO_EPOCH;
            from.fence = Fence::Unwritten;
            prepare(&from.now, State::PrepareAbort, now_ms)
        };
        Ok(Writing { from, to })
    }
}

impl Writing {
    /// What is being written.
    pub(crate) fn to(&self) -> &Metadata {
        &self.to
    }

    /// The log has it.
    pub(crate) fn written(self, now_ms: i64) -> Transaction {
        Transaction::resting(self.to, now_ms)
    }

    /// The log did not take it, or nobody knows: the id stays what it was.
    pub(crate) fn failed(self) -> Settled {
        self.from
    }
}

impl Marking {
    /// The prepared transaction.
    pub(crate) fn prepared(&self) -> &Metadata {
        &self.prepared
    }

    /// Partitions that have no marker yet.
    pub(crate) fn left(&self) -> &BTreeSet<Partition> {
        &self.left
    }

    /// Id and epoch of the producer's next transaction.
    pub(crate) fn goes_on_with(&self) -> (i64, i16) {
        (self.complete.producer_id, self.complete.producer_epoch)
    }

    /// A partition has its marker, or is gone.
    pub(crate) fn marked(&mut self, partition: &Partition) {
        self.left.remove(partition);
    }

    /// Goes on to write that all partitions have their marker.
    pub(crate) fn complete(self) -> Completing {
        assert!(self.left.is_empty(), "a transaction is complete when all markers are written");
        Completing { prepared: self.prepared, complete: self.complete }
    }
}

impl Completing {
    /// What is being written.
    pub(crate) fn to(&self) -> &Metadata {
        &self.complete
    }

    /// The log has it.
    pub(crate) fn written(self) -> Settled {
        Settled { now: self.complete, fence: Fence::Sound }
    }

    /// The log did not take it: it is written again later.
    pub(crate) fn failed(self) -> Marking {
        let Self { prepared, complete } = self;
        Marking { prepared, complete, left: BTreeSet::new() }
    }
}

impl Transaction {
    /// An id that is new, or that was read from the log, which holds no other states than those
    /// of [`Settled`] and the two prepared ones.
    pub(crate) fn resting(now: Metadata, now_ms: i64) -> Self {
        match now.state {
            State::PrepareCommit | State::PrepareAbort => {
                let complete = now.complete(now_ms);
                let left = now.partitions.clone();
                Self::Marking(Marking { prepared: now, complete, left })
            }
            _ => Self::Settled(Settled { now, fence: Fence::Sound }),
        }
    }

    /// What holds now, as far as the log is known to have it.
    pub(crate) fn now(&self) -> &Metadata {
        match self {
            Self::Settled(settled) => &settled.now,
            Self::Writing(writing) => &writing.from.now,
            Self::Marking(marking) => &marking.prepared,
            Self::Completing(completing) => &completing.prepared,
            Self::Expiring(settled) => &settled.now,
        }
    }

    /// The partitions of the transaction that still wait for its end.
    pub(crate) fn open_partitions(&self) -> Option<&BTreeSet<Partition>> {
        match self {
            Self::Settled(settled) => Some(&settled.now.partitions),
            Self::Writing(writing) => Some(&writing.from.now.partitions),
            Self::Marking(marking) => Some(&marking.left),
            Self::Completing(_) | Self::Expiring(_) => None,
        }
    }

    fn settled(&self) -> Result<&Settled, ErrorCode> {
        match self {
            Self::Settled(settled) => Ok(settled),
            _ => Err(ErrorCode::ConcurrentTransactions),
        }
    }

    /// InitProducerId.
    pub(crate) fn init(
        &self,
        ask: Init,
        now_ms: i64,
        fresh: FreshId<'_>,
    ) -> Result<Step, ErrorCode> {
        let now = &self.settled()?.now;
        let valid = ask.expected.is_none_or(|(id, epoch)| {
            now.producer_epoch == NO_EPOCH
                || id == now.producer_id
                || (id == now.previous_producer_id && is_exhausted(epoch))
        });
        if !valid {
            return Err(ErrorCode::ProducerFenced);
        }
        if now.state == State::Ongoing {
            return Ok(Step::Fence);
        }
        let mut next = now.next(State::Empty);
        let epoch = ask.expected.map(|(_, epoch)| epoch);
        if now.is_exhausted() && epoch.is_none_or(|epoch| epoch == now.producer_epoch) {
            (next.producer_id, next.producer_epoch) = (fresh()?, 0);
            next.last_producer_epoch = epoch.map_or(NO_EPOCH, |_| now.producer_epoch);
        } else {
            bump_at_init(now, epoch, &mut next)?;
        }
        next.timeout_ms = ask.timeout_ms;
        next.partitions.clear();
        (next.started_ms, next.updated_ms) = (-1, now_ms);
        Ok(Step::Write(next))
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn, and what Produce and TxnOffsetCommit add.
    pub(crate) fn add(
        &self,
        (id, epoch): (i64, i16),
        partitions: &BTreeSet<Partition>,
        client: TransactionVersion,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        let now = &self.settled()?.now;
        if now.producer_id != id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if now.producer_epoch != epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        let ongoing = now.state == State::Ongoing;
        if ongoing && now.partitions.is_superset(partitions) {
            return Ok(Step::Already { producer_id: id, producer_epoch: epoch });
        }
        let mut next = now.next(State::Ongoing);
        next.partitions.extend(partitions.iter().cloned());
        next.started_ms = if ongoing { now.started_ms } else { now_ms };
        next.updated_ms = now_ms;
        next.client_version = client;
        Ok(Step::Write(next))
    }

    /// Whether partitions are in the transaction: the broker's question behind a Produce of the
    /// old protocol.
    pub(crate) fn verify(
        &self,
        (id, epoch): (i64, i16),
        partitions: &BTreeSet<Partition>,
    ) -> Result<BTreeMap<Partition, ErrorCode>, ErrorCode> {
        let now = self.now();
        if now.producer_id != id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if now.producer_epoch != epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if matches!(now.state, State::PrepareCommit | State::PrepareAbort) {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let code = |partition: &Partition| match now.partitions.contains(partition) {
            true => ErrorCode::None,
            false => ErrorCode::TransactionAbortable,
        };
        Ok(partitions.iter().map(|partition| (partition.clone(), code(partition))).collect())
    }

    /// Whether the broker ends the transaction by itself: two-phase ones have no end of time.
    pub(crate) fn is_timed_out(&self, now_ms: i64) -> bool {
        let Self::Settled(Settled { now, .. }) = self else { return false };
        let end = now.started_ms.saturating_add(i64::from(now.timeout_ms));
        now.state == State::Ongoing && now.timeout_ms != i32::MAX && end < now_ms
    }

    /// Whether the id was unused for so long that it is forgotten.
    pub(crate) fn is_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        let Self::Settled(Settled { now, .. }) = self else { return false };
        now.state.may_expire() && now.updated_ms <= now_ms.saturating_sub(expiration_ms)
    }
}

/// The epoch that InitProducerId gives, by the one that the client says it has.
fn bump_at_init(now: &Metadata, has: Option<i16>, next: &mut Metadata) -> Result<(), ErrorCode> {
    if now.is_exhausted() {
        // Kafka's answer to a client that has another epoch than the last.
        return Err(ErrorCode::UnknownServerError);
    }
    let new = now.producer_epoch == NO_EPOCH;
    let bumped = now.producer_epoch + i16::from(new || !mutant!(M34));
    (next.producer_epoch, next.last_producer_epoch) = match has {
        None => (bumped, NO_EPOCH),
        Some(epoch) if new || epoch == now.producer_epoch => (bumped, now.producer_epoch),
        // The retry of a call that succeeded.
        Some(epoch) if epoch == now.last_producer_epoch => {
            (now.producer_epoch, now.last_producer_epoch)
        }
        Some(_) => return Err(ErrorCode::ProducerFenced),
    };
    Ok(())
}

/// The end of a transaction in the old protocol, at the epoch that it has.
fn prepare(now: &Metadata, state: State, now_ms: i64) -> Metadata {
    let mut next = now.next(state);
    next.next_producer_id = NO_ID;
    next.updated_ms = now_ms;
    next.client_version = TransactionVersion::V0;
    next
}

/// The end of a transaction in the new protocol: its markers have the next epoch.
fn prepare_with_bump(
    now: &Metadata,
    state: State,
    client: TransactionVersion,
    now_ms: i64,
    fresh: FreshId<'_>,
) -> Result<Metadata, ErrorCode> {
    let mut next = now.next(state);
    next.next_producer_id = if now.is_exhausted() { fresh()? } else { NO_ID };
    next.producer_epoch = now.producer_epoch.saturating_add(1);
    next.last_producer_epoch = now.producer_epoch;
    next.updated_ms = now_ms;
    next.client_version = client;
    Ok(next)
}

#[cfg(test)]
mod tests;
