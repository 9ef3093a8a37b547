//! The states of a transactional id, and what may follow what.

/// A state, as Kafka's transaction log numbers and DescribeTransactions names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// There is no transaction yet.
    Empty,
    /// Partitions were added.
    Ongoing,
    /// It is decided that the transaction is committed; markers are on their way.
    PrepareCommit,
    /// It is decided that it is aborted; markers are on their way.
    PrepareAbort,
    /// All partitions have their marker.
    CompleteCommit,
    /// All partitions have their marker.
    CompleteAbort,
    /// The transactional id has expired.
    Dead,
    /// The producer is being fenced. Never written: what is written is `PrepareAbort`.
    PrepareEpochFence,
}

impl State {
    /// All states, in the order of their numbers.
    pub(crate) const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// Its number in the log.
    pub(crate) fn id(self) -> i8 {
        self as i8
    }

    pub(crate) fn from_id(id: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.id() == id)
    }

    /// Its name in DescribeTransactions and ListTransactions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether `next` may follow.
    pub(crate) fn may_become(self, next: Self) -> bool {
        match next {
            Self::Empty => matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort),
            Self::Ongoing => matches!(
                self,
                Self::Ongoing | Self::Empty | Self::CompleteCommit | Self::CompleteAbort
            ),
            Self::PrepareCommit | Self::PrepareEpochFence => self == Self::Ongoing,
            // With an epoch per transaction a producer may abort what it is not sure to have begun.
            Self::PrepareAbort => {
                !matches!(self, Self::PrepareCommit | Self::PrepareAbort | Self::Dead)
            }
            Self::CompleteCommit => self == Self::PrepareCommit,
            Self::CompleteAbort => self == Self::PrepareAbort,
            Self::Dead => matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort),
        }
    }

    /// Whether an id that has long been so is forgotten.
    pub(crate) fn may_expire(self) -> bool {
        self.may_become(Self::Dead)
    }
}

#[cfg(test)]
mod tests {
    use super::State::{self, *};

    #[test]
    fn what_may_follow_what_is_kafkas_table() {
        // TransactionState.VALID_PREVIOUS_STATES.
        let table: [(State, &[State]); 8] = [
            (Empty, &[Empty, CompleteCommit, CompleteAbort]),
            (Ongoing, &[Ongoing, Empty, CompleteCommit, CompleteAbort]),
            (PrepareCommit, &[Ongoing]),
            (PrepareAbort, &[Ongoing, PrepareEpochFence, Empty, CompleteCommit, CompleteAbort]),
            (CompleteCommit, &[PrepareCommit]),
            (CompleteAbort, &[PrepareAbort]),
            (Dead, &[Empty, CompleteAbort, CompleteCommit]),
            (PrepareEpochFence, &[Ongoing]),
        ];
        for (next, previous) in table {
            for state in State::ALL {
                assert_eq!(state.may_become(next), previous.contains(&state), "{state:?} {next:?}");
            }
        }
    }

    #[test]
    fn numbers_and_names_are_those_of_the_log_and_of_clients() {
        let numbered = [Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort];
        for (id, state) in (0..).zip(numbered.into_iter().chain([Dead, PrepareEpochFence])) {
            assert_eq!((state.id(), State::from_id(id)), (id, Some(state)));
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!((State::from_id(8), State::from_id(-1)), (None, None));
        assert_eq!(State::from_name("empty"), None);
    }
}
