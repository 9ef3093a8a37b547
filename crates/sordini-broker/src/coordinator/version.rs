//! Which of Kafka's transaction protocols is finalised: the feature `transaction.version`.

/// The feature's name.
pub(crate) const FEATURE: &str = "transaction.version";

/// A level of the feature `transaction.version` (KIP-890).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionVersion {
    /// As before Kafka 4.0: the feature is not finalised.
    V0,
    /// The coordinator's log has flexible records. Clients notice nothing.
    V1,
    /// An epoch per transaction; Produce and TxnOffsetCommit add partitions by themselves.
    #[default]
    V2,
}

impl TransactionVersion {
    /// The level as a number, 0 to 2.
    #[must_use]
    pub fn level(self) -> i16 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version of this level; `None` if there is no such level.
    #[must_use]
    pub fn from_level(level: i16) -> Option<Self> {
        [Self::V0, Self::V1, Self::V2].into_iter().find(|version| version.level() == level)
    }

    /// Whether each transaction has an epoch of its own.
    #[must_use]
    pub fn bumps_epochs(self) -> bool {
        self >= Self::V2
    }
}
