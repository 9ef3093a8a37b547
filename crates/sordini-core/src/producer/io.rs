//! What goes into the machine, and what comes out.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::ErrorCode;

use crate::accumulator::number::TransactionNumber;
use crate::batch::BatchId;
use crate::batch::completion::{BatchCompletion, Outcome};
use crate::batch::sealed::Returned;
use crate::batch::stages::{Compressed, Job};
use crate::config::Address;
use crate::connection::ConnId;
use crate::connection::produce::Frame;
use crate::error::DeliveryError;
use crate::time::Instant;
use crate::transaction::error::{Ended, TransactionError, TransactionOutcome};
use crate::transaction::offsets::GroupOffsets;

pub use crate::token::Token;

/// What happened outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection is up; bytes may flow.
    Connected {
        /// Which.
        conn: ConnId,
    },
    /// The connection could not be made.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// Why, for a person; it ends up in errors.
        cause: Arc<str>,
    },
    /// The connection broke, or the peer closed it. [`Input::Transmitted`] for all bytes that the
    /// network took must come first: bytes not reported count as never sent.
    Disconnected {
        /// Which.
        conn: ConnId,
        /// Why, for a person.
        cause: Arc<str>,
    },
    /// Bytes arrived, in any fragmentation.
    Received {
        /// Which.
        conn: ConnId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The network took bytes.
    Transmitted {
        /// Which.
        conn: ConnId,
        /// How many bytes of the connection's frames, since it was made.
        through: u64,
    },
    /// The accumulator's [`Wake`](crate::accumulator::ready::Wake) was called.
    LanesDue,
    /// An [`Output::Compress`] is done.
    Compressed(Compressed),
    /// The application asks for something.
    Command(Command),
}

/// What the application asks for.
///
/// Those that concern transactions have a deadline: when it passes, the command is answered as not
/// done in time, and what it asked for goes on. An answer that nobody takes is no harm either: the
/// state is the machine's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Tell when every record accepted before `mark` was taken has its outcome; send without
    /// waiting for linger.
    Flush {
        /// For the answer.
        token: Token,
        /// From [`Accumulator::mark`](crate::accumulator::Accumulator::mark), taken when the
        /// application called.
        mark: BatchId,
    },
    /// Accept nothing more, deliver what was accepted, and fail what is left at `deadline`. A
    /// second close may bring the deadline forward.
    Close {
        /// For the answer.
        token: Token,
        /// When to give up.
        deadline: Instant,
    },
    /// Make this the one producer of its `transactional.id`: fence earlier ones, and end what they
    /// left open. Once, before the first transaction.
    InitTransactions {
        /// For the answer.
        token: Token,
        /// When to answer at the latest.
        deadline: Instant,
    },
    /// Begin a transaction. One that is still open is aborted first, and one that is ending is
    /// waited for.
    BeginTransaction {
        /// For the answer.
        token: Token,
        /// When to answer at the latest.
        deadline: Instant,
    },
    /// Commit a group's offsets with the open transaction (KIP-447).
    SendOffsets {
        /// For the answer.
        token: Token,
        /// Which transaction.
        transaction: TransactionNumber,
        /// Whose, and where to.
        offsets: Arc<GroupOffsets>,
        /// When to answer at the latest.
        deadline: Instant,
    },
    /// Commit the transaction: send what was accepted, and make all of it visible. If anything of
    /// it failed, it is aborted instead.
    CommitTransaction {
        /// For the answer.
        token: Token,
        /// Which.
        transaction: TransactionNumber,
        /// When to answer at the latest.
        deadline: Instant,
    },
    /// Abort the transaction: what is queued fails, what is on its way is waited for.
    AbortTransaction {
        /// For the answer; `None` where nobody waits for it.
        token: Option<Token>,
        /// Which.
        transaction: TransactionNumber,
        /// When to answer at the latest.
        deadline: Instant,
    },
    /// Tell what became of a transaction, once that is known.
    ResolveTransaction {
        /// For the answer.
        token: Token,
        /// Which.
        transaction: TransactionNumber,
        /// When to answer at the latest.
        deadline: Instant,
    },
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// Every record from before the mark has its outcome.
    Flushed,
    /// Every accepted record has its outcome; the machine does nothing more.
    Closed,
    /// The producer owns its `transactional.id`, or why it does not.
    Initialized(Result<(), TransactionError>),
    /// A transaction is open, or why none is.
    Begun(Result<TransactionNumber, TransactionError>),
    /// The offsets are part of the transaction, or why they are not.
    OffsetsSent(Result<(), TransactionError>),
    /// The transaction has ended; [`TransactionOutcome::Unknown`] where the deadline passed before,
    /// or where it will never be known. An error where it could not be ended: an abort that no
    /// coordinator confirmed in time, or a transaction that is not open.
    Ended(Result<Ended, TransactionError>),
}

/// What is to be done outside, in this order.
#[derive(Debug)]
pub enum Output {
    /// Resolve the name, try its addresses, and connect.
    Connect {
        /// Names the connection from now on.
        conn: ConnId,
        /// Where to.
        address: Address,
        /// How often in a row this address failed before; starts the tries at another of the
        /// name's addresses each time.
        failures: u32,
    },
    /// Close the connection and forget it; frames not yet written are dropped. No input about it
    /// may follow.
    Disconnect {
        /// Which.
        conn: ConnId,
    },
    /// Write the frame behind those before.
    Transmit {
        /// Which.
        conn: ConnId,
        /// What.
        frame: Frame,
    },
    /// Compress a batch; see [`Job::run`].
    Compress(Job),
    /// Records have their outcome: [`BatchCompletion::resolve`] it.
    Deliver(Delivered),
    /// Records that were told of before as failed: a codec worked on them then. Where the machine
    /// is abandoned meanwhile, they are not handed back.
    HandBack(Returned),
    /// A command is done.
    Finish {
        /// Which.
        token: Token,
        /// How.
        result: Finished,
    },
    /// Something to log.
    Trace(Trace),
}

/// A run of records and its outcome.
#[derive(Debug)]
pub struct Delivered {
    /// Whom to tell.
    pub completion: Arc<BatchCompletion>,
    /// Which records.
    pub records: Range<u32>,
    /// What became of them.
    pub outcome: Outcome,
    /// The records themselves, if they failed, were asked back, and are here: those that a codec
    /// works on follow with [`Output::HandBack`].
    pub returned: Option<Returned>,
}

impl Delivered {
    /// Resolves the completion and hands back the records, if they are.
    pub fn resolve(self) -> Option<Returned> {
        self.completion.resolve(self.records, self.outcome);
        self.returned
    }
}

/// Something worth a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trace {
    /// A connection is ready for requests.
    Connected {
        /// Which.
        conn: ConnId,
        /// `host:port`.
        address: Arc<str>,
    },
    /// A connection failed or broke.
    Disconnected {
        /// Which.
        conn: ConnId,
        /// `host:port`.
        address: Arc<str>,
        /// Why.
        cause: Arc<str>,
    },
    /// A batch is sent again.
    Retry {
        /// Its topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The broker's answer; `None` when the connection broke.
        code: Option<ErrorCode>,
        /// How often it was sent so far.
        attempts: u32,
    },
    /// A batch that was sent more than once is written.
    Recovered {
        /// Its topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// How often it was sent.
        attempts: u32,
    },
    /// A batch failed.
    Failed(Arc<DeliveryError>),
    /// The partition takes a new epoch after a batch failed for good (KIP-360).
    EpochBumped {
        /// Its topic.
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// The new epoch.
        epoch: i16,
    },
    /// The broker's log does not continue where this producer's records ended: acknowledged
    /// records may be lost there.
    DataLoss {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The broker's answer.
        code: ErrorCode,
    },
    /// A codec failed or panicked: its batch goes uncompressed.
    CodecFailed {
        /// The batch's topic.
        topic: Arc<str>,
        /// The batch's partition.
        partition: i32,
        /// Why, for a person.
        cause: Arc<str>,
    },
    /// The producer has its id.
    ProducerId {
        /// The id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
    },
    /// A transaction was begun.
    TransactionBegun(TransactionNumber),
    /// The first batches of the transaction that was just begun wait until the markers of the one
    /// before should be written (KIP-890).
    TransactionHeld {
        /// How long.
        hold: Duration,
    },
    /// A transaction has ended, whoever still waits for that.
    TransactionEnded {
        /// Which.
        transaction: TransactionNumber,
        /// What became of it.
        outcome: TransactionOutcome,
    },
    /// The topic was deleted, or made anew with another id.
    TopicGone {
        /// Its name.
        topic: Arc<str>,
    },
    /// The producer cannot go on.
    Fatal(ErrorCode),
}
