//! Where threads meet: locks and atomics.
//!
//! They are the standard library's, by re-export and nothing more. In the tests built with
//! `--cfg shuttle` they are those of a scheduler that decides at each of them which thread goes on,
//! so that a seed is a schedule. It knows no weak memory orders: those are argued for where they
//! stand. `Arc` and `OnceLock` stay the standard library's there, and are no such points.

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
