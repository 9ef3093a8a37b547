//! What applications asked of transactions and were told, and what became of it in the logs.

use std::collections::BTreeMap;
use std::time::Duration;

use sordini_core::time::Instant;

use crate::history::Tp;

/// Whether producers can ask who has their id before they begin (DescribeTransactions, Kafka 3.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Describes {
    /// They can.
    #[default]
    Yes,
    /// They can't: one that was fenced learns it with its first request.
    No,
}

/// Producer id and epoch.
pub type Writer = (i64, i16);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "Kafka's names")]
pub enum CallKind {
    Init,
    Begin,
    SendOffsets,
    Commit,
    Abort,
    Resolve,
}

/// Whether it could be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The call is one that the state of the transaction allows.
    Proper,
    /// It is not: nothing may come of it.
    Misuse,
}

/// What was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is done.
    Done,
    /// A transaction is open.
    Begun,
    /// All of it is visible, or about to be.
    Committed,
    /// Nothing of it ever is.
    Aborted,
    /// One of the two.
    Unknown,
    /// It can only be aborted any more.
    MustAbort,
    /// Not done in time.
    Late,
    /// It is not done, and why not.
    Refused(String),
}

/// Why a producer is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// Another has its transactional id, or the coordinator took it away.
    Fenced,
    /// Something else.
    Other,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When.
    pub at: Instant,
    /// What was told.
    pub told: Told,
    /// Set where the producer is done.
    pub fatal: Option<Fatal>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it was made.
    pub at: Instant,
    /// Which producer, of [`Book::instances`].
    pub producer: u16,
    /// What was asked for.
    pub kind: CallKind,
    /// Of which transaction, of [`Book::transactions`].
    pub transaction: Option<usize>,
    /// Whether it could be.
    pub used: Use,
    /// When it is to be answered at the latest.
    pub deadline: Instant,
    /// info, as long as there is none.
    pub answer: Option<Answer>,
}

/// Offsets that were handed in with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentOffsets {
    /// The offset, of all partitions of the group; ascending in the order of the calls.
    pub offset: i64,
    /// The call, of [`Book::calls`].
    pub call: usize,
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Whose.
    pub producer: u16,
    /// Its number among that producer's.
    pub number: u64,
    /// Since when it is open.
    pub at: Instant,
    /// The records that were handed in, accepted or not.
    pub records: Vec<u64>,
    /// The offsets that were handed in.
    pub offsets: Vec<SentOffsets>,
    /// When it was first to be committed, and first to be ended in any way.
    pub commit: Option<Instant>,
    /// When an end of it was first asked for.
    pub end: Option<Instant>,
    /// What was told of its outcome, to whoever asked and by itself.
    pub told: Vec<(Instant, Told)>,
}

impl Transaction {
    /// Was it told that it is so?
    #[must_use]
    pub fn was_told(&self, outcome: &Told) -> bool {
        self.told.iter().any(|(_, told)| told == outcome)
    }
}

/// One life of a producer with a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The number of its transactional id.
    pub kin: u16,
    /// When it got the id for its own.
    pub initialized: Option<Instant>,
    /// As whom it got it.
    pub identity: Option<Writer>,
    /// When its process died.
    pub died: Option<Instant>,
}

/// What stands at an offset of a partition that is left when all is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record, by its number.
    Record(u64),
    /// The marker that ends a transaction.
    Marker {
        /// As a commit.
        commit: bool,
    },
}

/// An entry and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub offset: i64,
    /// Whose.
    pub writer: Writer,
    /// What.
    pub entry: Entry,
}

/// A leader wrote a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// When.
    pub at: Instant,
    /// Where.
    pub tp: Tp,
    /// Whose.
    pub writer: Writer,
    /// As a commit.
    pub commit: bool,
}

/// What a read_committed reader saw at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// When.
    pub at: Instant,
    /// Where.
    pub tp: Tp,
    /// Records, by their numbers.
    pub ids: Vec<u64>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Lives of producers; a producer's number is its place.
    pub instances: Vec<Instance>,
    /// Transactions, in the order in which they were begun.
    pub transactions: Vec<Transaction>,
    /// Calls, in their order.
    pub calls: Vec<Call>,
    /// What is left of each partition, in order.
    pub lines: BTreeMap<Tp, Vec<Line>>,
    /// What a read_committed reader sees at the end.
    pub visible: BTreeMap<Tp, Vec<u64>>,
    /// What one saw before.
    pub glimpses: Vec<Glimpse>,
    /// Every marker that a leader wrote, in order.
    pub markers: Vec<Marked>,
    /// What each group's offsets are at the end, by transactional id and partition.
    pub offsets: BTreeMap<(u16, i32), i64>,
    /// Partitions that an open transaction holds back at the end, and by how much.
    pub stuck: Vec<(Tp, String)>,
    /// When all was healed.
    pub healed: Instant,
    /// Transactional ids of which a coordinator's log lost what was committed, and when that was
    /// found. It happens only where faults go beyond what replication survives.
    pub forgotten: Vec<(u16, Instant)>,
    /// Whether a begin asks.
    pub describes: Describes,
    /// How long a request's answer is waited for.
    pub request_timeout: Duration,
    /// What the next offset is.
    pub next_offset: i64,
}

impl Instance {
    /// A process with the transactional id of this number.
    #[must_use]
    pub fn new(kin: u16) -> Self {
        Self { kin, initialized: None, identity: None, died: None }
    }
}

impl Book {
    /// A producer's transaction; a new one, if it is news.
    pub fn transaction(&mut self, producer: u16, number: u64, at: Instant) -> usize {
        if let Some(known) = self.find(producer, number) {
            return known;
        }
        let transaction = Transaction { producer, number, at, ..Transaction::default() };
        self.transactions.push(transaction);
        self.transactions.len() - 1
    }

    /// A producer's transaction.
    #[must_use]
    pub fn find(&self, producer: u16, number: u64) -> Option<usize> {
        let is_it = |it: &Transaction| it.producer == producer && it.number == number;
        self.transactions.iter().rposition(is_it)
    }

    /// The transactional id of a producer.
    #[must_use]
    pub fn kin(&self, producer: u16) -> Option<u16> {
        self.instances.get(usize::from(producer)).map(|it| it.kin)
    }

    /// When the id of `producer` was first given to a later instance.
    #[must_use]
    pub fn fenced_at(&self, producer: u16) -> Option<Instant> {
        let own = self.instances.get(usize::from(producer))?;
        let age = own.identity.zip(own.initialized)?;
        let asked = self.asked(producer);
        // Who came later, the coordinator decides; the answers may come the other way round. One
        // that forgot gives identities anew, which tell nothing of those before.
        let later = |(number, it): &(usize, &Instance)| {
            let (Some(other), true) = (it.identity.zip(it.initialized), it.kin == own.kin) else {
                return false;
            };
            let since = asked.min(self.asked(u16::try_from(*number).unwrap_or(u16::MAX)));
            other > age && !self.was_forgotten(own.kin, since, age.1.max(other.1))
        };
        let all = self.instances.iter().enumerate();
        all.filter(later).filter_map(|(_, it)| it.initialized).min()
    }

    /// When a producer first asked for its id.
    fn asked(&self, producer: u16) -> Instant {
        let of_it = |call: &&Call| call.producer == producer && call.kind == CallKind::Init;
        self.calls.iter().find(of_it).map_or(Instant::ZERO, |call| call.at)
    }

    /// Was something of a transactional id found to be lost between the two?
    #[must_use]
    pub fn was_forgotten(&self, kin: u16, from: Instant, until: Instant) -> bool {
        self.forgotten.iter().any(|(of, at)| *of == kin && (from..=until).contains(at))
    }

    /// Which transaction each record belongs to.
    #[must_use]
    pub fn owners(&self) -> BTreeMap<u64, usize> {
        let all = self.transactions.iter().enumerate();
        all.flat_map(|(at, it)| it.records.iter().map(move |id| (*id, at))).collect()
    }
}
