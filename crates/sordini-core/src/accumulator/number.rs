//! Which transaction a record belongs to.

use std::fmt;

/// Names a transaction among those of one producer: 1, 2 and so on, in the order in which they are
/// begun. [`TransactionNumber::NONE`] stands for no transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TransactionNumber(u64);

impl TransactionNumber {
    /// Records of a producer without transactions.
    pub const NONE: Self = Self(0);
    /// What is open while no transaction is: no record names it.
    pub(crate) const CLOSED: Self = Self(u64::MAX);

    /// The number as it is shown.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one that is begun after this.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for TransactionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
