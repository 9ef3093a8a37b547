//! A seed makes a world: producers (the real state machine of `sordini-core`), a cluster of
//! brokers that replicate (the real one of `sordini-broker`), the network between them, their
//! disks and clocks, in one thread and in virtual time. What goes wrong is drawn from the seed;
//! what was promised is checked over what really happened. The same seed gives the same run, to
//! the byte.
//!
//! ```
//! use sordini_sim::{Profile, plan, run};
//!
//! let plan = plan(7, &Profile::default(), &[])?;
//! let report = run(&plan);
//! assert!(report.is_clean(), "{plan}\n{report}");
//! # Ok::<(), sordini_sim::SettingsError>(())
//! ```
//!
//! # With your own settings
//! `plan(seed, &Profile::default(), &[("acks".into(), "1".into())])` is the same weather for a
//! producer with your settings. [`Report::violations`] are broken promises, which are ours to
//! mend; [`Report::seen`] is what your settings do not promise and what happened to your data.
//!
//! # The parts
//! - A [`Plan`] is all that a seed decides beforehand: nodes, topics, settings, workload, and
//!   every fault with its time ([`faults`]). It can be reduced ([`shrink`]) or written by hand, and
//!   what happened in it told ([`tell`], a [`Timeline`]).
//! - A world lives through it: chaos for some virtual seconds; then all is healed, and must
//!   converge: what is pending ends, new sends succeed, flush and close return.
//! - The [`history`] is what the applications did and were told. With what really happened in the
//!   cluster it is the [`checkers::Evidence`]; [`checkers::check`] puts it to every test. Checkers
//!   know nothing of the simulator: hand them a history of your own.
//! - [`Profile::controls`] are worlds that leave what the guarantees survive, on purpose: a
//!   checker that has not been seen to fire there proves nothing elsewhere.
#![forbid(unsafe_code)]

pub mod book;
pub mod checkers;
mod clock;
mod coverage;
mod disks;
pub mod faults;
mod hash;
mod heap;
pub mod history;
mod monitor;
mod net;
mod plan;
mod preflight;
mod profile;
mod report;
mod rng;
mod run;
mod scenery;
mod settings;
mod shrink;
mod tally;
mod timeline;
mod transactions;
mod workload;
mod world;

pub use checkers::{Anomaly, Witness};
pub use coverage::Coverage;
pub use plan::{Plan, TopicPlan, plan};
pub use preflight::{Unworkable, preflight};
pub use profile::{Plot, Profile};
pub use report::Report;
pub use run::{run, tell};
pub use scenery::{Dead, Scenery, Variety};
pub use settings::{SettingsError, configure};
pub use shrink::shrink;
pub use tally::{Shown, Tally};
pub use timeline::{Moment, Timeline};
pub use transactions::Transacting;
pub use workload::Workload;
