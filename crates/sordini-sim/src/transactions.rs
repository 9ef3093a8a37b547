//! What applications do with transactions, as plain data.

use std::fmt;

use crate::rng::Rng;

/// The topic whose offsets go with transactions; it is in no plan, and no fault strikes it.
pub(crate) const INPUTS: &str = "inputs";
/// Its partitions: the offsets of all move together.
pub(crate) const INPUT_PARTITIONS: i32 = 2;

/// The group of a transactional id's applications.
pub(crate) fn group(kin: u16) -> String {
    format!("g{kin}")
}

/// How the applications of a world work with transactions. Rates are per 1000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transacting {
    /// `transaction.version` of the cluster in the beginning: 2 is the new protocol (KIP-890).
    pub version: i16,
    /// `transaction.timeout.ms`.
    pub timeout: u64,
    /// How often coordinators look for transactions that are open for too long, in milliseconds.
    pub looks: u64,
    /// Bursts of records of a transaction, at the most.
    pub bursts: u32,
    /// How long an application pauses between two steps, in microseconds, on average.
    pub pause: u64,
    /// Transactions that are aborted.
    pub aborts: u16,
    /// Guards that are dropped: an abort that nobody waits for.
    pub dropped: u16,
    /// Transactions that are left open for the next begin to find.
    pub forgotten: u16,
    /// Calls that are given up before they are answered.
    pub cancelled: u16,
    /// Steps that send offsets.
    pub offsets: u16,
    /// Steps behind which an application sleeps for longer than a transaction may last.
    pub stalls: u16,
    /// Steps that ask for what can't be.
    pub misuse: u16,
    /// How long a call may take, in milliseconds; drawn for each.
    pub patience: Vec<u64>,
}

impl Transacting {
    /// Draws.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            version: rng.pick(&[0, 1, 1, 2, 2, 2]),
            timeout: rng.pick(&[1500, 4000, 4000, 10_000]),
            looks: rng.pick(&[100, 500]),
            bursts: rng.pick(&[1, 2, 4]),
            pause: rng.pick(&[15_000, 30_000, 80_000]),
            aborts: rng.pick(&[30, 250, 250, 500]),
            dropped: rng.pick(&[0, 60]),
            forgotten: rng.pick(&[0, 40]),
            cancelled: rng.pick(&[0, 30, 200]),
            offsets: rng.pick(&[0, 100, 300]),
            stalls: rng.pick(&[0, 0, 5, 20]),
            misuse: rng.pick(&[0, 30]),
            patience: vec![300, 3000, 20_000],
        }
    }

    /// Nothing but begin, records and commit.
    #[must_use]
    pub fn plain(version: i16) -> Self {
        Self {
            version,
            timeout: 10_000,
            looks: 200,
            bursts: 2,
            pause: 20_000,
            aborts: 0,
            dropped: 0,
            forgotten: 0,
            cancelled: 0,
            offsets: 0,
            stalls: 0,
            misuse: 0,
            patience: vec![20_000],
        }
    }

    /// The settings that make a producer transactional.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        vec![
            ("transactional.id".to_owned(), "t".to_owned()),
            ("transaction.timeout.ms".to_owned(), self.timeout.to_string()),
        ]
    }
}

impl fmt::Display for Transacting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "in transactions of up to {} bursts, transaction.version={}; of 1000 {} are aborted, \
             {} dropped, {} forgotten; of 1000 calls {} are given up, of 1000 steps {} send \
             offsets, {} sleep for too long",
            self.bursts,
            self.version,
            self.aborts,
            self.dropped,
            self.forgotten,
            self.cancelled,
            self.offsets,
            self.stalls
        )
    }
}
