//! Faults that are planted on purpose, to see that the checkers find them.
//!
//! They stand in the code as `if mutant!(M6) { .. }` and exist only in builds with
//! `--cfg sordini_mutants` (by RUSTFLAGS, with a target folder of its own: a cargo feature would
//! be unified into released binaries). In any other build the macro is the literal `false` and
//! this module is not there. It lives in this crate because producer and broker share no other.

/// Whether this planted fault is on: never, but in builds with `--cfg sordini_mutants`.
#[macro_export]
#[doc(hidden)]
#[cfg(not(sordini_mutants))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

/// Whether this planted fault is on.
#[macro_export]
#[doc(hidden)]
#[cfg(sordini_mutants)]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_active($crate::mutant::Mutant::$name)
    };
}

#[cfg(sordini_mutants)]
pub use active::*;

#[cfg(sordini_mutants)]
mod active {
    use std::sync::atomic::{AtomicU8, Ordering};

    macro_rules! mutants {
        ($($name:ident $about:literal, $breaks:literal;)*) => {
            /// A planted fault; the numbers are the project's, and have gaps.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            #[allow(missing_docs, reason = "ABOUT says it")]
            pub enum Mutant { $($name,)* }

            /// Each fault, what it does, and the promises that it breaks.
            pub const ABOUT: &[(Mutant, &str, &str)] = &[$((Mutant::$name, $about, $breaks),)*];
        };
    }

    mutants! {
        M1 "an out-of-order answer to a batch that is not the oldest bumps the epoch", "P11 P21";
        M2 "the sequences of a batch that expired in flight are given out again", "P4 P7 P10";
        M3 "REQUEST_TIMED_OUT is taken for not appended", "P3 P10 P11";
        M5 "a new epoch does not begin at sequence 0", "P7 P20 P21";
        M6 "a batch to be retried goes to the end of the line", "P12";
        M7 "a duplicate is told as a failure", "P3";
        M9 "a retry is stamped anew", "P7 P11";
        M10 "sequences run into the negative", "P7";
        M14 "close forgets what is queued", "P2 P20";
        M15 "the memory of a batch that failed is not given back", "P6";
        M17 "answers are matched by position, not by correlation id", "P1 P4 P8";
        M18 "a request without an answer is waited for forever", "P2 P20";
        M19 "a transaction is committed though a record of it failed", "P16 P14";
        M20 "a request to end a transaction without an answer is taken for done", "P14 P15";
        M22 "a new epoch in the midst of a transaction, which goes on as if nothing were", "P14 P16";
        M23 "a producer that is fenced takes its transactional id back", "P17";
        M25 "a partition that was drained in part is not looked at again", "P20";
        M27 "the children of a split are numbered from the wrong base", "P7 P12";
        M29 "the broker acknowledges before it syncs", "P19";
        M30 "the broker forgets producers at a restart", "P11";
        M31 "a transaction's end is answered before the decision is durable", "P14";
        M32 "the broker remembers one batch of each producer", "P11 P20";
        M33 "the broker forgets at a restart what was aborted", "P15";
        M34 "InitProducerId gives the epoch that the producer before had", "P17";
        M36 "in the old protocol an epoch goes on though a request of it may be late (control C-g)", "P15";
    }

    static ACTIVE: AtomicU8 = AtomicU8::new(u8::MAX);

    /// Switches one fault on for the whole process, or all off.
    pub fn activate(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(u8::MAX, |mutant| mutant as u8), Ordering::Relaxed);
    }

    /// Is it on?
    #[must_use]
    pub fn is_active(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutant as u8
    }
}
