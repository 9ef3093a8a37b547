//! What a world is like where nothing goes wrong yet: how old its brokers are, what they grant,
//! and what of it is at an edge.

use std::fmt;
use std::time::Duration;

use sordini_broker::{ProduceQuota, Versions};
use sordini_protocol::ApiKey;

use crate::book::Describes;
use crate::checkers::Naming;
use crate::rng::Rng;
use crate::workload::Workload;

/// The version of Produce from which on topics are named by their ids (KIP-516).
const NAMED_BY_ID: i16 = 13;

/// Where brokers come from, at the most: the release whose versions of the protocol they speak.
const RELEASES: [&str; 8] = ["2.1", "2.4", "2.8", "3.3", "3.7", "3.9", "4.0", "4.4"];

/// How varied the scenery of a profile's worlds is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// Always [`Scenery::default`].
    Plain,
    /// Drawn; four worlds in ten are plain.
    Drawn,
}

/// What is at an address where no broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// A machine that refuses connections.
    Refuses,
    /// Nothing that would answer.
    Silent,
}

/// What a world is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenery {
    /// The brokers speak the versions of this release of Kafka, `"2.1"` to `"4.4"`.
    pub release: &'static str,
    /// What each broker lets its producers produce, in all.
    pub quota: Option<ProduceQuota>,
    /// Epochs of producer ids begin at this: near 32767 they run out, and a new id is taken.
    pub first_epoch: i16,
    /// Nodes whose names have a second address, which the resolver puts first.
    pub dead_addresses: Vec<(i32, Dead)>,
}

impl Default for Scenery {
    fn default() -> Self {
        Self { release: "4.4", quota: None, first_epoch: 0, dead_addresses: Vec::new() }
    }
}

impl Scenery {
    /// Draws one for `nodes` nodes, whose producers send `workload` within `chaos` milliseconds.
    pub(crate) fn draw(rng: &mut Rng, nodes: i32, workload: &Workload, chaos: u64) -> Self {
        let release = if rng.chance(200) { rng.pick(&RELEASES) } else { "4.4" };
        let quota = rng.chance(120).then(|| {
            // Seven tenths of what is asked for, up to four times as much.
            let share = rng.pick(&[700, 1500, 4000]);
            let bytes_per_second = workload.bytes() * share / chaos.max(1) / nodes as u64;
            let burst = Duration::from_millis(rng.pick(&[0, 200, 1000]));
            ProduceQuota {
                bytes_per_second: bytes_per_second.max(1),
                burst,
                mutes: rng.chance(500),
            }
        });
        let first_epoch = if rng.chance(120) { i16::MAX - rng.below(3) as i16 } else { 0 };
        let several = rng.chance(150);
        let node = |node: i32| (node, rng.pick(&[Dead::Refuses, Dead::Silent]));
        let dead_addresses = if several { (1..=nodes).map(node).collect() } else { Vec::new() };
        Self { release, quota, first_epoch, dead_addresses }
    }

    /// Makes it one in which there can be transactions: from Kafka 2.5 on, and epochs begin where
    /// the coordinator says.
    pub(crate) fn suit_transactions(&mut self) {
        if ["2.1", "2.4"].contains(&self.release) {
            self.release = "2.8";
        }
        self.first_epoch = 0;
    }

    /// Do its brokers tell of transactions?
    pub(crate) fn describes(&self) -> Describes {
        if self.release.starts_with("2.") { Describes::No } else { Describes::Yes }
    }

    /// How do requests of the newest Produce that they speak name topics?
    pub(crate) fn naming(&self) -> Naming {
        let produce = self.versions().served(ApiKey::Produce);
        match produce {
            Some(versions) if *versions.end() >= NAMED_BY_ID => Naming::Id,
            _ => Naming::Name,
        }
    }

    /// What is behind the other address of the node's name, if it has one.
    pub(crate) fn dead_address(&self, node: i32) -> Option<Dead> {
        self.dead_addresses.iter().find(|(of, _)| *of == node).map(|(_, dead)| *dead)
    }

    /// The versions that brokers offer.
    pub(crate) fn versions(&self) -> Versions {
        Versions::of_release(self.release).unwrap_or_default()
    }
}

impl fmt::Display for Scenery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.release != "4.4" {
            writeln!(f, "brokers speak the versions of Kafka {}", self.release)?;
        }
        if let Some(quota) = &self.quota {
            let mutes = if quota.mutes { "; who exceeds it is not read from" } else { "" };
            writeln!(
                f,
                "each broker takes {} bytes a second, {:?} of it at once{mutes}",
                quota.bytes_per_second, quota.burst
            )?;
        }
        if self.first_epoch > 0 {
            writeln!(f, "epochs begin at {}", self.first_epoch)?;
        }
        for (node, dead) in &self.dead_addresses {
            let what = match dead {
                Dead::Refuses => "refuses connections",
                Dead::Silent => "does not answer",
            };
            writeln!(f, "the name of node {node} has another address, which {what}")?;
        }
        Ok(())
    }
}
