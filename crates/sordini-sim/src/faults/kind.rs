//! The kinds of faults, for counting.

use super::{Fault, Twist};

macro_rules! kinds {
    ($($name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FaultKind { $(#[doc = $text] $name,)* }

        impl FaultKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    Delay = "delay",
    Clog = "clog",
    Partition = "partition",
    Fragment = "fragment",
    SlowWriter = "slow-writer",
    Refuse = "refuse",
    Hang = "connect-hang",
    NoNames = "dns",
    ResetAll = "reset-all",
    ResetAt = "reset-at-byte",
    HalfOpen = "half-open",
    PeerCut = "peer-cut",
    PeerDelay = "peer-delay",
    PeerLoss = "peer-loss",
    PeerDouble = "peer-double",
    Kill = "kill",
    PowerLoss = "power-loss",
    ShutDown = "shut-down",
    StopAtWrite = "stop-at-write",
    Pause = "pause",
    NodeSkew = "node-skew",
    DiskFull = "disk-full",
    DiskError = "disk-error",
    BitRot = "bit-rot",
    MoveLeader = "move-leader",
    UncleanElection = "unclean-election",
    Error = "error",
    ErrorAfter = "error-after-append",
    Hold = "held-answer",
    Silence = "lost-answer",
    CloseBefore = "close-before",
    CloseAfter = "close-after",
    Garbage = "garbage",
    Freeze = "freeze",
    ProducerSkew = "producer-skew",
    LateTimers = "late-timers",
    SlowCodec = "slow-codec",
    AddPartitions = "add-partitions",
    DeleteTopic = "delete-topic",
    CrashProducer = "crash-producer",
    TwinProducer = "twin-producer",
    MoveCoordinators = "move-coordinators",
    Version = "transaction-version",
    AtRequest = "at-request",
    OldLate = "old-connections-late",
}

impl FaultKind {
    /// Those that only worlds with transactions have.
    pub const OF_TRANSACTIONS: &'static [Self] = &[
        Self::CrashProducer,
        Self::TwinProducer,
        Self::MoveCoordinators,
        Self::Version,
        Self::AtRequest,
        Self::OldLate,
    ];
}

impl Fault {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Delay(..) => FaultKind::Delay,
            Self::Clog(..) => FaultKind::Clog,
            Self::Partition(..) => FaultKind::Partition,
            Self::Fragment(..) => FaultKind::Fragment,
            Self::SlowWriter(..) => FaultKind::SlowWriter,
            Self::Refuse(..) => FaultKind::Refuse,
            Self::Hang(..) => FaultKind::Hang,
            Self::NoNames(..) => FaultKind::NoNames,
            Self::ResetAll(..) => FaultKind::ResetAll,
            Self::ResetAt(..) => FaultKind::ResetAt,
            Self::HalfOpen(..) => FaultKind::HalfOpen,
            Self::PeerCut(..) => FaultKind::PeerCut,
            Self::PeerDelay(..) => FaultKind::PeerDelay,
            Self::PeerLoss(..) => FaultKind::PeerLoss,
            Self::PeerDouble(..) => FaultKind::PeerDouble,
            Self::Kill(..) => FaultKind::Kill,
            Self::PowerLoss(..) => FaultKind::PowerLoss,
            Self::ShutDown(..) => FaultKind::ShutDown,
            Self::StopAtWrite(..) => FaultKind::StopAtWrite,
            Self::Pause(..) => FaultKind::Pause,
            Self::NodeSkew(..) => FaultKind::NodeSkew,
            Self::DiskFull(..) => FaultKind::DiskFull,
            Self::DiskError(..) => FaultKind::DiskError,
            Self::BitRot(..) => FaultKind::BitRot,
            Self::MoveLeader(..) => FaultKind::MoveLeader,
            Self::UncleanElection(..) => FaultKind::UncleanElection,
            Self::Twist { twist, .. } => twist.kind(),
            Self::Freeze(..) => FaultKind::Freeze,
            Self::ProducerSkew(..) => FaultKind::ProducerSkew,
            Self::LateTimers(..) => FaultKind::LateTimers,
            Self::SlowCodec(..) => FaultKind::SlowCodec,
            Self::AddPartitions(..) => FaultKind::AddPartitions,
            Self::DeleteTopic(..) => FaultKind::DeleteTopic,
            Self::CrashProducer(..) => FaultKind::CrashProducer,
            Self::TwinProducer(..) => FaultKind::TwinProducer,
            Self::MoveCoordinators => FaultKind::MoveCoordinators,
            Self::Version(..) => FaultKind::Version,
            Self::AtRequest { .. } => FaultKind::AtRequest,
            Self::OldLate(..) => FaultKind::OldLate,
        }
    }
}

impl Twist {
    const fn kind(self) -> FaultKind {
        match self {
            Self::Error(_) => FaultKind::Error,
            Self::ErrorAfter(_) => FaultKind::ErrorAfter,
            Self::Hold(_) => FaultKind::Hold,
            Self::Silence => FaultKind::Silence,
            Self::CloseBefore => FaultKind::CloseBefore,
            Self::CloseAfter => FaultKind::CloseAfter,
            Self::Garbage(_) | Self::Twice => FaultKind::Garbage,
        }
    }
}
