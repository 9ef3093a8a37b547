//! Where a transactional producer stands: one type for each state, moved by value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::{ApiKey, ErrorCode};

use crate::accumulator::number::TransactionNumber;
use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;
use crate::token::Waiter;
use crate::transaction::errand::Errand;
use crate::transaction::error::{AbortCause, FatalError};
use crate::transaction::offsets::GroupOffsets;
use crate::transaction::pace::Opening;

/// Which of the two protocols a transaction follows, for all of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// KIP-98: partitions are taken in by a request of their own, and one epoch serves many
    /// transactions.
    One,
    /// KIP-890: a Produce takes its partitions in itself, and each transaction has its epoch.
    Two,
}

/// Names a partition within the producer: the topic's number, and the partition's.
pub type Place = (u32, i32);

/// A state. `Poisoned` stands while a transition runs, so that one that panics is found.
#[derive(Debug)]
pub enum State {
    /// The coordinator was not asked for anything yet.
    Fresh,
    /// An identity is asked for.
    Initializing(Initializing),
    /// A transaction may begin.
    Ready(Ready),
    /// One may begin, if the coordinator, which was not heard of for a while, still knows the
    /// producer.
    Checking(Checking),
    /// One may begin once there is a new epoch.
    Worn(Worn),
    /// Records are accepted.
    Open(Open),
    /// Something failed: it waits for the application to end it.
    Doomed(Doomed),
    /// It is to end once nothing of it is on its way.
    Draining(Draining),
    /// The coordinator is asked to end it.
    Ending(Ending),
    /// The producer was fenced: the coordinator is asked who did it, and what became of the
    /// transaction.
    Inquiring(Inquiring),
    /// The producer is done.
    Fatal(Arc<FatalError>),
    /// A transition is running.
    Poisoned,
}

/// An identity is asked for.
#[derive(Debug)]
pub struct Initializing {
    /// Whose epoch is to be raised; `None` for the first.
    pub previous: Option<ProducerIdentity>,
    /// What was asked so far.
    pub attempts: Attempts,
    /// InitProducerId.
    pub errand: Errand,
}

impl Initializing {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(previous: Option<ProducerIdentity>) -> Self {
        Self { previous, attempts: Attempts::Void, errand: Errand::default() }
    }
}

/// A transaction may begin.
#[derive(Debug)]
pub struct Ready {
    /// Who writes.
    pub identity: ProducerIdentity,
    /// What the transaction before followed: an epoch serves one protocol only.
    pub used: Option<Protocol>,
}

/// Is the transactional id still this producer's?
#[derive(Debug)]
pub struct Checking {
    /// What it is ready with, if so.
    pub ready: Ready,
    /// A transaction without records whose end waits for the answer.
    pub ending: Option<(TransactionNumber, Direction)>,
    /// What may still be on the network: another epoch is needed then, whoever has the id.
    pub stragglers: Stragglers,
    /// DescribeTransactions.
    pub errand: Errand,
}

/// The present epoch may not be used for another transaction.
#[derive(Debug)]
pub struct Worn {
    /// Whose epoch is to be raised.
    pub identity: ProducerIdentity,
}

/// How far the coordinator is with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// A record was accepted, and its batch waits for the markers of the transaction before.
    Held,
    /// A record was accepted.
    Wanted,
    /// It was asked to take it in.
    Asked,
    /// Batches may be sent.
    Added,
}

/// May a request of the transaction be on the network still, unheard of?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stragglers {
    /// Each was answered.
    None,
    /// One at least was not, or was written twice.
    Possible,
}

/// Does the coordinator know of the transaction?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Involved {
    /// No request told it.
    No,
    /// One may have.
    Perhaps,
}

/// How far one group's offsets are.
#[derive(Debug)]
pub enum Step {
    /// The group's partition is to be taken in first.
    AddGroup(Errand),
    /// They are to be committed.
    Commit(Errand),
}

/// Offsets on their way into the transaction.
#[derive(Debug)]
pub struct Offsets {
    /// Who waits for them still.
    pub waiter: Option<Waiter>,
    /// Which.
    pub offsets: Arc<GroupOffsets>,
    /// How far they are.
    pub step: Step,
}

/// A transaction, while its records are accepted or on their way.
#[derive(Debug)]
pub struct Open {
    /// Which.
    pub number: TransactionNumber,
    /// Who writes.
    pub identity: ProducerIdentity,
    /// By which protocol.
    pub protocol: Protocol,
    /// When it was begun.
    pub began: Instant,
    /// How far it is with its first batch.
    pub opening: Opening,
    /// Its partitions.
    pub partitions: BTreeMap<Place, Enrolment>,
    /// AddPartitionsToTxn.
    pub adding: Errand,
    /// Offsets, in the order of the calls.
    pub offsets: VecDeque<Offsets>,
    /// Does the coordinator know of it?
    pub involved: Involved,
    /// What may still be on the network.
    pub stragglers: Stragglers,
}

/// Something failed: it can only be aborted.
#[derive(Debug)]
pub struct Doomed {
    /// The transaction.
    pub open: Open,
    /// What failed first.
    pub cause: AbortCause,
}

/// How a transaction is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    /// All of it visible.
    Commit,
    /// Nothing of it.
    Abort(AbortCause),
}

/// It ends once nothing of it is on its way (S9).
#[derive(Debug)]
pub struct Draining {
    /// The transaction.
    pub open: Open,
    /// How it is to end.
    pub direction: Direction,
}

/// Was the coordinator asked, to commit or for an identity, without an answer that says it did
/// nothing?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// Every answer so far says that nothing was done.
    Void,
    /// One may have been carried out.
    InDoubt,
}

/// The coordinator is asked to end it.
#[derive(Debug)]
pub struct Ending {
    /// Which.
    pub number: TransactionNumber,
    /// Who writes.
    pub identity: ProducerIdentity,
    /// By which protocol.
    pub protocol: Protocol,
    /// When it was begun.
    pub began: Instant,
    /// How it is to end: never another way once it was asked (bugs: KAFKA-7763).
    pub direction: Direction,
    /// EndTxn.
    pub errand: Errand,
    /// What was asked so far.
    pub attempts: Attempts,
    /// What may still be on the network.
    pub stragglers: Stragglers,
    /// How often the coordinator called this producer fenced, and then described the id as its own.
    pub contradictions: u32,
}

/// What is asked of DescribeTransactions.
#[derive(Debug)]
pub struct Inquiring {
    /// The transaction that was under way, and the coordinator's part in it.
    pub transaction: Option<(TransactionNumber, Question)>,
    /// Who wrote.
    pub identity: ProducerIdentity,
    /// By which protocol.
    pub protocol: Protocol,
    /// When the transaction was begun.
    pub began: Option<Instant>,
    /// What was answered to what.
    pub refused: (ApiKey, ErrorCode),
    /// This producer's own requests for a new epoch, before the one that was refused.
    pub raises: Attempts,
    /// Where to go on, if it turns out that the id is still this producer's.
    pub back: Option<Box<Ending>>,
    /// DescribeTransactions.
    pub errand: Errand,
}

/// What is not known of a transaction whose producer was fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Nothing: no commit was asked for, so it is aborted.
    Aborted(AbortCause),
    /// A commit was asked for, and may have been carried out before.
    Committed,
}

impl Open {
    /// The first state of a transaction.
    #[must_use]
    pub fn new(
        number: TransactionNumber,
        identity: ProducerIdentity,
        protocol: Protocol,
        began: Instant,
    ) -> Self {
        Self {
            number,
            identity,
            protocol,
            began,
            opening: Opening::Unsent,
            partitions: BTreeMap::new(),
            adding: Errand::default(),
            offsets: VecDeque::new(),
            involved: Involved::No,
            stragglers: Stragglers::None,
        }
    }

    /// When its time is up.
    #[must_use]
    pub fn deadline(&self, timeout: Duration) -> Instant {
        self.began.saturating_add(timeout)
    }

    /// Which partitions the coordinator has yet to be asked to take in.
    #[must_use]
    pub fn wanted(&self) -> Vec<Place> {
        let wanted = self.partitions.iter().filter(|(_, at)| **at == Enrolment::Wanted);
        wanted.map(|(place, _)| *place).collect()
    }

    /// Is a request under way that the coordinator of the transaction, or of a group, answers?
    #[must_use]
    pub fn is_asking(&self) -> bool {
        let offsets = self.offsets.iter().any(|offsets| match &offsets.step {
            Step::AddGroup(errand) | Step::Commit(errand) => errand.is_waiting(),
        });
        self.adding.is_waiting() || offsets
    }
}

impl State {
    /// The transaction that has not ended, if there is one.
    #[must_use]
    pub fn transaction(&self) -> Option<TransactionNumber> {
        match self {
            Self::Open(open) => Some(open.number),
            Self::Doomed(doomed) => Some(doomed.open.number),
            Self::Draining(draining) => Some(draining.open.number),
            Self::Ending(ending) => Some(ending.number),
            Self::Checking(checking) => checking.ending.as_ref().map(|(number, _)| *number),
            Self::Inquiring(inquiring) => inquiring.transaction.as_ref().map(|(number, _)| *number),
            Self::Fresh
            | Self::Initializing(_)
            | Self::Ready(_)
            | Self::Worn(_)
            | Self::Fatal(_)
            | Self::Poisoned => None,
        }
    }

    /// The transaction while it is open, doomed or draining.
    #[must_use]
    pub fn open(&self) -> Option<&Open> {
        match self {
            Self::Open(open) => Some(open),
            Self::Doomed(doomed) => Some(&doomed.open),
            Self::Draining(draining) => Some(&draining.open),
            _ => None,
        }
    }

    /// The same, to change.
    pub fn open_mut(&mut self) -> Option<&mut Open> {
        match self {
            Self::Open(open) => Some(open),
            Self::Doomed(doomed) => Some(&mut doomed.open),
            Self::Draining(draining) => Some(&mut draining.open),
            _ => None,
        }
    }
}
