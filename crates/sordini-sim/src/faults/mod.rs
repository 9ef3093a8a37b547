//! What can go wrong, each as plain data with its times: a plan's faults can be given, reduced and
//! told as a story.

mod draw;
mod kind;

use std::fmt;

use sordini_protocol::{ApiKey, ErrorCode};

pub use draw::Menu;
pub(crate) use draw::{Targets, swarm};
pub use kind::FaultKind;

/// Which links between producers and nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// One producer's, or all.
    pub producer: Option<u16>,
    /// To one node, or to all.
    pub node: Option<i32>,
}

impl Link {
    /// All links.
    pub const ALL: Self = Self { producer: None, node: None };

    /// Is the link from `producer` to `node` one of them?
    #[must_use]
    pub fn covers(&self, producer: u16, node: i32) -> bool {
        self.producer.is_none_or(|it| it == producer) && self.node.is_none_or(|it| it == node)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.producer, self.node) {
            (None, None) => f.write_str("between all producers and nodes"),
            (Some(producer), None) => write!(f, "between producer {producer} and all nodes"),
            (None, Some(node)) => write!(f, "between all producers and node {node}"),
            (Some(producer), Some(node)) => {
                write!(f, "between producer {producer} and node {node}")
            }
        }
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the producer to the node.
    Up,
    /// From the node to the producer.
    Down,
    /// Both.
    Both,
}

impl Way {
    /// Does it concern bytes on their way up?
    #[must_use]
    pub fn is_up(self) -> bool {
        self != Self::Down
    }

    /// Does it concern bytes on their way down?
    #[must_use]
    pub fn is_down(self) -> bool {
        self != Self::Up
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "to the nodes",
            Self::Down => "to the producers",
            Self::Both => "both ways",
        })
    }
}

/// What a node does to a request instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// Answers this code and does nothing.
    Error(ErrorCode),
    /// Does it, and answers this code.
    ErrorAfter(ErrorCode),
    /// Does it, and answers so many milliseconds later.
    Hold(u64),
    /// Does it, and never answers on this connection again.
    Silence,
    /// Closes the connection instead.
    CloseBefore,
    /// Does it, and closes the connection.
    CloseAfter,
    /// Does it, and answers so many bytes of nonsense.
    Garbage(u16),
    /// Answers twice, whatever it is asked next.
    Twice,
}

/// What is done when a request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The node is killed before it has read it.
    KillBefore,
    /// The node is killed when it has read it, whatever it may have written.
    KillAfter,
    /// The producer's process dies.
    Crash,
    /// The coordinators move.
    Move,
}

/// A disk operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Appending to a file; so many bytes are written before it fails.
    Append(u16),
    /// Making bytes or names durable.
    Sync,
    /// Reading.
    Read,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Bytes take longer, by up to eight times this many microseconds.
    Delay(Link, u64),
    /// Bytes are held, and come in a burst at the end. Connections do not notice.
    Clog(Link, Way),
    /// As a clog, between producers and nodes, for so long that timeouts run out.
    Partition(Link, Way),
    /// Bytes arrive so many at a time.
    Fragment(Link, u16),
    /// A socket takes so many bytes at a time.
    SlowWriter(Link, u16),
    /// Connections are refused.
    Refuse(Link),
    /// Connections hang while they are made.
    Hang(Link),
    /// Names are not resolved.
    NoNames(Option<u16>),
    /// All connections break now.
    ResetAll(Link),
    /// A connection breaks after so many more bytes.
    ResetAt(Link, Way, u32),
    /// Connections that are open lead nowhere from now on, and nobody is told.
    HalfOpen(Link),
    /// What one peer sends to another is lost. 0 is the controller; `None` means all.
    PeerCut(Option<i32>, Option<i32>),
    /// What peers send takes longer, by up to eight times this many microseconds.
    PeerDelay(u64),
    /// So many of 1000 of what peers send are lost.
    PeerLoss(u16),
    /// So many of 1000 of what peers send come twice.
    PeerDouble(u16),
    /// The process dies, and is started again at the end.
    Kill(i32),
    /// The machine loses power: what was not synced is gone, but for a torn rest.
    PowerLoss(i32),
    /// The node is shut down in order.
    ShutDown(i32),
    /// The machine stops in the middle of its so-many-th write, and is started again at the end.
    StopAtWrite(i32, u16),
    /// The process is stopped, and continued at the end.
    Pause(i32),
    /// The node's wall clock is off by so many milliseconds.
    NodeSkew(i32, i64),
    /// The disk is full after so many more bytes.
    DiskFull(i32, u32),
    /// So many disk operations fail.
    DiskError(i32, DiskOp, u16),
    /// A bit of a stored batch flips while the node is down.
    BitRot(i32),
    /// The leader of a partition moves to another replica that is in sync: topic, partition.
    MoveLeader(u16, i32),
    /// A replica that is not in sync is made leader: topic, partition.
    UncleanElection(u16, i32),
    /// A node twists requests: from the n-th of this kind on, so many.
    Twist {
        /// Which node.
        node: i32,
        /// Which requests.
        api: ApiKey,
        /// From which on; 1 is the next.
        nth: u16,
        /// How many.
        times: u16,
        /// What it does to them.
        twist: Twist,
    },
    /// A producer's process is stopped, and continued at the end.
    Freeze(u16),
    /// A producer's wall clock is off by so many milliseconds.
    ProducerSkew(u16, i64),
    /// A producer's timers fire so many microseconds late.
    LateTimers(u16, u64),
    /// Compression takes so many microseconds.
    SlowCodec(u64),
    /// A topic gets so many more partitions.
    AddPartitions(u16, u16),
    /// A topic is deleted, and made anew at the end.
    DeleteTopic(u16),
    /// The process with this transactional id dies, and is started again at the end.
    CrashProducer(u16),
    /// Another process with this transactional id is started.
    TwinProducer(u16),
    /// The leaders of what coordinators keep move.
    MoveCoordinators,
    /// What connections that are open now carry to the nodes is held, and arrives at the end; new
    /// ones are not concerned.
    OldLate(Link),
    /// Another `transaction.version` is finalised, until the end.
    Version(i16),
    /// When the n-th request of a kind arrives, wherever, this is done; what it stops is started
    /// again at the end.
    AtRequest {
        /// Which requests.
        api: ApiKey,
        /// Which of them; 1 is the next.
        nth: u16,
        /// What is done.
        deed: Deed,
    },
}

/// A fault and its time, in virtual milliseconds since the world began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// From when.
    pub at: u64,
    /// Until when, for those that last.
    pub until: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fault.lasts() {
            write!(f, "{:>6} to {:>6} ms  {}", self.at, self.until, self.fault)
        } else {
            write!(f, "at        {:>6} ms  {}", self.at, self.fault)
        }
    }
}

impl Fault {
    /// Does it have an end of its own?
    #[must_use]
    pub fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::ResetAll(_)
                | Self::ResetAt(..)
                | Self::HalfOpen(_)
                | Self::MoveLeader(..)
                | Self::UncleanElection(..)
                | Self::AddPartitions(..)
                | Self::TwinProducer(..)
                | Self::MoveCoordinators
        )
    }

    /// The node that it stops, if it stops one.
    #[must_use]
    pub fn stops(&self) -> Option<i32> {
        match self {
            Self::Kill(node)
            | Self::PowerLoss(node)
            | Self::ShutDown(node)
            | Self::StopAtWrite(node, _)
            | Self::BitRot(node)
            | Self::Pause(node) => Some(*node),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = |of: &Option<i32>| match of {
            None => "anybody".to_owned(),
            Some(0) => "the controller".to_owned(),
            Some(node) => format!("node {node}"),
        };
        match self {
            Self::Delay(link, micros) => write!(f, "bytes {link} take some {micros} us longer"),
            Self::Clog(link, way) => write!(f, "bytes {link} are held, {way}, then come at once"),
            Self::Partition(link, way) => write!(f, "nothing passes {link}, {way}"),
            Self::Fragment(link, size) => write!(f, "bytes {link} arrive {size} at a time"),
            Self::SlowWriter(link, size) => write!(f, "sockets {link} take {size} bytes at a time"),
            Self::Refuse(link) => write!(f, "connections {link} are refused"),
            Self::Hang(link) => write!(f, "connections {link} hang while they are made"),
            Self::NoNames(None) => f.write_str("no producer can resolve names"),
            Self::NoNames(Some(producer)) => write!(f, "producer {producer} can't resolve names"),
            Self::ResetAll(link) => write!(f, "all connections {link} break"),
            Self::ResetAt(link, way, bytes) => {
                write!(f, "a connection {link} breaks {bytes} bytes later, {way}")
            }
            Self::HalfOpen(link) => write!(f, "connections {link} lead nowhere, unnoticed"),
            Self::PeerCut(from, to) => {
                write!(f, "what {} sends to {} is lost", peer(from), peer(to))
            }
            Self::PeerDelay(micros) => write!(f, "messages among nodes take some {micros} us more"),
            Self::PeerLoss(rate) => write!(f, "{rate} of 1000 messages among nodes are lost"),
            Self::PeerDouble(rate) => write!(f, "{rate} of 1000 messages among nodes come twice"),
            Self::Kill(node) => write!(f, "node {node} is killed"),
            Self::PowerLoss(node) => write!(f, "node {node} loses power"),
            Self::ShutDown(node) => write!(f, "node {node} is shut down"),
            Self::StopAtWrite(node, nth) => {
                write!(f, "node {node} stops within its write number {nth}")
            }
            Self::Pause(node) => write!(f, "node {node} is paused"),
            Self::NodeSkew(node, ms) => write!(f, "node {node}'s wall clock is off by {ms} ms"),
            Self::DiskFull(node, bytes) => {
                write!(f, "node {node}'s disk is full after {bytes} more bytes")
            }
            Self::DiskError(node, op, times) => {
                write!(f, "node {node}'s disk fails: {op:?}, {times} times")
            }
            Self::BitRot(node) => write!(f, "node {node} is killed, and a bit on its disk flips"),
            Self::MoveLeader(topic, partition) => {
                write!(f, "the leader of {topic}-{partition} moves")
            }
            Self::UncleanElection(topic, partition) => {
                write!(f, "a replica of {topic}-{partition} that is not in sync becomes leader")
            }
            Self::Twist { node, api, nth, times, twist } => write!(
                f,
                "node {node}, {} requests, {times} from number {nth} on: {twist}",
                api.name()
            ),
            Self::Freeze(producer) => write!(f, "producer {producer} is frozen"),
            Self::ProducerSkew(producer, ms) => {
                write!(f, "producer {producer}'s wall clock is off by {ms} ms")
            }
            Self::LateTimers(producer, micros) => {
                write!(f, "producer {producer}'s timers are {micros} us late")
            }
            Self::SlowCodec(micros) => write!(f, "compression takes {micros} us"),
            Self::AddPartitions(topic, count) => {
                write!(f, "topic {topic} gets {count} more partitions")
            }
            Self::DeleteTopic(topic) => write!(f, "topic {topic} is deleted, then made anew"),
            fault => fault.tell_transactions(f),
        }
    }
}

impl Fault {
    /// Faults of worlds with transactions.
    fn tell_transactions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrashProducer(id) => write!(f, "the process with transactional id {id} dies"),
            Self::TwinProducer(id) => {
                write!(f, "another process with transactional id {id} is started")
            }
            Self::OldLate(link) => {
                write!(f, "what open connections {link} carry to the nodes arrives at the end")
            }
            Self::MoveCoordinators => f.write_str("the coordinators move"),
            Self::Version(level) => write!(f, "transaction.version is {level}"),
            Self::AtRequest { api, nth, deed } => {
                write!(f, "when {} request number {nth} arrives, {deed}", api.name())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillBefore => "its node is killed before it has read it",
            Self::KillAfter => "its node is killed when it has read it",
            Self::Crash => "its producer's process dies",
            Self::Move => "the coordinators move",
        })
    }
}

impl fmt::Display for Twist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(code) => write!(f, "refused with {}", code.name()),
            Self::ErrorAfter(code) => write!(f, "done, and answered with {}", code.name()),
            Self::Hold(ms) => write!(f, "done, and answered {ms} ms later"),
            Self::Silence => f.write_str("done, and never answered"),
            Self::CloseBefore => f.write_str("not done, the connection closed"),
            Self::CloseAfter => f.write_str("done, the connection closed without an answer"),
            Self::Twice => write!(f, "done, and answered twice"),
            Self::Garbage(len) => write!(f, "done, and answered with {len} bytes of nonsense"),
        }
    }
}
