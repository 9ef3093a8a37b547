//! The coordinators of transactions and of groups' offsets.
//!
//! Both keep their state in a topic of Kafka's own format, `__transaction_state` and
//! `__consumer_offsets`: who leads the partition that an id hashes to is its coordinator, and what
//! a coordinator knows is what that log says. So a kill, a restart and a move of the leader are
//! one and the same: whoever leads next reads the log.
//!
//! [`transaction`] decides, without I/O; around it stand what appends and waits
//! ([`transactions`]), tells partitions of a transaction's end ([`markers`]), asks from the side
//! of Produce ([`asking`]), and keeps offsets ([`offsets`]). What damage took from the log is made
//! up for as far as partitions know it ([`lost`]).

pub(crate) mod answers;
pub(crate) mod asking;
pub(crate) mod batch;
pub(crate) mod groups;
mod leading;
mod lost;
pub(crate) mod markers;
pub(crate) mod offsets;
pub(crate) mod records;
pub(crate) mod state;
mod timers;
mod topics;
pub(crate) mod transaction;
pub(crate) mod transactions;
pub(crate) mod version;
mod writes;

use std::collections::BTreeMap;

use crate::api::add_partitions_to_txn::Adding;
use crate::time::Instant;
use asking::Asking;
use groups::Groups;
use markers::Participants;
use transactions::Led;
use writes::Write;

pub use version::TransactionVersion;

/// Where transactions are kept.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";
/// Where groups' offsets are kept.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Names a request that waits for a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(u64);

/// What a broker knows as a coordinator, and as one who asks coordinators.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    /// Partitions of `__transaction_state` that are led here, as their logs say.
    led: BTreeMap<i32, Led>,
    /// Partitions of `__consumer_offsets` that are led here.
    groups: BTreeMap<i32, Groups>,
    /// Appended, and not yet known to be committed; by their number.
    writes: BTreeMap<u64, Write>,
    /// Markers that were written here, in each partition's present term.
    participants: Participants,
    /// Questions to transactions' coordinators.
    asking: Asking,
    /// Requests that wait for a coordinator, and answers that were found.
    pub(crate) answers: answers::Answers,
    /// AddPartitionsToTxn requests whose transactions are answered one by one.
    pub(crate) adding: BTreeMap<Token, Adding>,
    /// Numbers writes, tokens and markers.
    numbers: u64,
    /// When open transactions and unused ids are looked at next.
    checks: Option<Checks>,
}

/// When the coordinator of transactions looks around.
#[derive(Clone, Copy, Debug)]
struct Checks {
    time_outs: Instant,
    expirations: Instant,
}

impl Coordinator {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A name for a request that is about to wait.
    pub(crate) fn token(&mut self) -> Token {
        Token(self.next_number())
    }
}

/// Which of `count` partitions an id or a group belongs to: by Java's hash of the string.
pub(crate) fn partition_for(key: &str, count: usize) -> Option<i32> {
    let hash = key
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let count = i32::try_from(count).ok().filter(|count| *count > 0)?;
    Some(hash.checked_abs().unwrap_or(0) % count)
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn ids_hash_as_in_java() {
        // "polygenelubricants" is the string whose hash is the least int, which has no absolute.
        assert_eq!(partition_for("polygenelubricants", 50), Some(0));
        assert_eq!(partition_for("a", 50), Some(47));
        assert_eq!(partition_for("a", 0), None);
    }
}
