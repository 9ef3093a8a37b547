//! A plan: all that a seed decides about a world before it begins. It can be given, reduced, and
//! told as a story.

use std::fmt;

use crate::faults::{Fault, FaultKind, Link, PlannedFault, Targets, swarm};
use crate::profile::{Plot, Profile};
use crate::rng::Rng;
use crate::scenery::{Scenery, Variety};
use crate::settings::{self, Safety, SettingsError};
use crate::transactions::Transacting;
use crate::workload::Workload;

/// A topic of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// Its partitions at the beginning.
    pub partitions: i32,
    /// How many replicas.
    pub replication: i16,
    /// `min.insync.replicas`.
    pub min_insync: i32,
    /// `max.message.bytes`, if it is not the default.
    pub max_message_bytes: Option<u32>,
    /// `message.timestamp.type` is `LogAppendTime`: the broker's clock decides.
    pub log_append_time: bool,
}

/// All that a seed decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed; what is drawn while the world runs (delays, say) follows from it too.
    pub seed: u64,
    /// The profile it was drawn from.
    pub profile: &'static str,
    /// The producers' settings.
    pub settings: Vec<(String, String)>,
    /// How many nodes.
    pub nodes: i32,
    /// Brokers sync before they acknowledge.
    pub fsync: bool,
    /// A replica that is not in sync may be elected.
    pub unclean: bool,
    /// The topics.
    pub topics: Vec<TopicPlan>,
    /// What the applications do.
    pub workload: Workload,
    /// How they work with transactions, if they do.
    pub transactions: Option<Transacting>,
    /// What sequences begin at where a broker does not know the producer: near their end, now and
    /// then.
    pub first_sequence: i32,
    /// What the world is like where nothing goes wrong.
    pub scenery: Scenery,
    /// How long faults strike, in virtual milliseconds; then all is healed.
    pub chaos: u64,
    /// What goes wrong.
    pub faults: Vec<PlannedFault>,
    /// The faults stay within what replication and disks survive.
    pub survivable: bool,
}

/// Draws the world of `seed`. With `overrides` the producers have these settings and the
/// library's defaults; without, settings are drawn too.
///
/// # Errors
/// If the settings do not make a producer.
pub fn plan(
    seed: u64,
    profile: &Profile,
    overrides: &[(String, String)],
) -> Result<Plan, SettingsError> {
    let mut rng = Rng::stream(seed, 1);
    let nodes = rng.pick(&profile.nodes);
    let transactions = transacting(&mut Rng::stream(seed, 8), profile, overrides);
    let settings = if overrides.is_empty() {
        draw_settings(&mut Rng::stream(seed, 2), profile, transactions.as_ref(), nodes)
    } else {
        overrides.to_vec()
    };
    let config = settings::configure(&settings, nodes)?;
    let chaos = rng.within(10_000..=16_000);
    let mut workload = Workload::draw(&mut Rng::stream(seed, 3), chaos);
    workload.resend = profile.resend;
    let mut topics = draw_topics(&mut Rng::stream(seed, 4), profile, nodes);
    let targets = Targets {
        nodes,
        producers: workload.producers,
        topics: topics.iter().map(|topic| topic.partitions).collect(),
        idempotent: config.enable_idempotence,
        acks_all: config.acks == sordini_core::config::Acks::All,
        transactional: transactions.is_some(),
    };
    let fsync = profile.fsync.unwrap_or_else(|| rng.chance(300));
    let faults = draw_faults(&mut Rng::stream(seed, 5), profile, &targets, fsync, chaos);
    let mut scenery = Scenery::default();
    if profile.variety == Variety::Drawn {
        let rng = &mut Rng::stream(seed, 7);
        scenery = Scenery::draw(rng, nodes, &workload, chaos);
        if transactions.is_some() {
            scenery.suit_transactions();
        }
        topics.iter_mut().for_each(|topic| topic.log_append_time = rng.chance(120));
    }
    Ok(Plan {
        seed,
        profile: profile.name,
        settings,
        nodes,
        fsync,
        unclean: false,
        topics,
        workload,
        // A transaction's first sequence in a partition is checked to be 0 (KIP-890).
        first_sequence: match transactions {
            Some(_) => 0,
            None => draw_first_sequence(&mut Rng::stream(seed, 6)),
        },
        transactions,
        scenery,
        chaos,
        faults,
        survivable: profile.survivable,
    })
}

fn draw_faults(
    rng: &mut Rng,
    profile: &Profile,
    targets: &Targets,
    fsync: bool,
    chaos: u64,
) -> Vec<PlannedFault> {
    let mut menu = profile.menu.clone();
    if fsync && profile.name == "default" {
        // What is acknowledged is on the disk: the loss of a machine's memory is survivable too.
        menu = menu.and(&[FaultKind::PowerLoss, FaultKind::StopAtWrite]);
    }
    if targets.transactional && !menu.kinds.is_empty() {
        menu = menu.and(FaultKind::OF_TRANSACTIONS);
    }
    let mut faults = swarm(rng, &menu, targets, chaos);
    let sure = crate::faults::Menu::of(&profile.sure);
    for kind in &profile.sure {
        let drawn = |fault: &PlannedFault| fault.fault.kind() == *kind;
        if !faults.iter().any(drawn) {
            faults.extend(insist(rng, &sure, *kind, targets, chaos));
        }
    }
    match profile.plot {
        Some(Plot::LagThenElect) => faults.extend(lag_then_elect(rng, targets)),
        Some(Plot::Late) => faults.extend(late(rng, chaos)),
        None => {}
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

/// One node hears nothing from its peers until it is out of sync; then it leads all that it can.
fn lag_then_elect(rng: &mut Rng, targets: &Targets) -> Vec<PlannedFault> {
    let node = rng.within(1..=targets.nodes as u64) as i32;
    let at = rng.within(500..=2500);
    let until = at + 6500;
    let cut = PlannedFault { at, until, fault: Fault::PeerCut(None, Some(node)) };
    let partitions = targets.topics.iter().enumerate();
    let all = partitions.flat_map(|(topic, count)| (0..*count).map(move |at| (topic as u16, at)));
    let at = until - 100;
    let elect = all.map(|(topic, partition)| PlannedFault {
        at,
        until: at,
        fault: Fault::UncleanElection(topic, partition),
    });
    std::iter::once(cut).chain(elect).collect()
}

/// Again and again what is on its way arrives after it was sent again on another connection.
fn late(rng: &mut Rng, chaos: u64) -> Vec<PlannedFault> {
    let from = (500..chaos).step_by(800);
    from.map(|at| {
        let until = (at + rng.pick(&[200, 400, 700])).min(chaos);
        PlannedFault { at, until, fault: Fault::OldLate(Link::ALL) }
    })
    .collect()
}

/// 0, or so close to 2^31 that a few batches pass it.
fn draw_first_sequence(rng: &mut Rng) -> i32 {
    if rng.chance(150) { i32::MAX - rng.within(0..=200) as i32 } else { 0 }
}

/// Draws until the kind is among what is drawn.
fn insist(
    rng: &mut Rng,
    menu: &crate::faults::Menu,
    kind: FaultKind,
    targets: &Targets,
    chaos: u64,
) -> Vec<PlannedFault> {
    for _ in 0..50 {
        let mut drawn = swarm(rng, menu, targets, chaos);
        drawn.retain(|fault| fault.fault.kind() == kind);
        if !drawn.is_empty() {
            drawn.truncate(4);
            return drawn;
        }
    }
    Vec::new()
}

/// Whether the applications write in transactions, and how: a `transactional.id` among the
/// overrides decides, or the profile.
fn transacting(
    rng: &mut Rng,
    profile: &Profile,
    overrides: &[(String, String)],
) -> Option<Transacting> {
    let drawn = rng.chance(profile.transactions.into());
    // As everywhere, the last one counts, and an empty one is none.
    let id = overrides.iter().rfind(|(name, _)| name.trim() == "transactional.id");
    let named = id.is_some_and(|(_, id)| !id.is_empty());
    let wanted = if overrides.is_empty() { drawn } else { named };
    let mut habits = wanted.then(|| Transacting::draw(rng))?;
    if let Some(version) = profile.transaction_version {
        habits.version = version;
    }
    Some(habits)
}

fn draw_settings(
    rng: &mut Rng,
    profile: &Profile,
    transactions: Option<&Transacting>,
    nodes: i32,
) -> Vec<(String, String)> {
    let mut fixed = profile.settings.clone();
    fixed.extend(transactions.into_iter().flat_map(Transacting::settings));
    // Now and then what is drawn contradicts itself or what the profile fixes.
    for _ in 0..100 {
        let safe = rng.chance(650) || transactions.is_some();
        let safety = if safe { Safety::Safe } else { Safety::Plain };
        let settings = settings::draw(rng, safety, &fixed);
        if settings::configure(&settings, nodes).is_ok() {
            return settings;
        }
    }
    fixed
}

fn draw_topics(rng: &mut Rng, profile: &Profile, nodes: i32) -> Vec<TopicPlan> {
    let count = rng.pick(&[1, 1, 2, 3]);
    let topic = |at: usize| {
        let replication = if rng.chance(900) { nodes.min(3) } else { 1 };
        TopicPlan {
            name: format!("t{at}"),
            partitions: rng.pick(&[1, 1, 2, 3, 5]),
            replication: replication as i16,
            min_insync: rng.pick(&profile.min_insync).min(replication),
            max_message_bytes: rng.chance(150).then_some(1500),
            log_append_time: false,
        }
    };
    (0..count).map(topic).collect()
}

impl Plan {
    /// The kinds of its faults.
    #[must_use]
    pub fn kinds(&self) -> std::collections::BTreeSet<FaultKind> {
        self.faults.iter().map(|fault| fault.fault.kind()).collect()
    }

    /// How many partitions there are at the most, those that faults add among them.
    pub(crate) fn most_partitions(&self) -> u64 {
        let first: i64 = self.topics.iter().map(|topic| i64::from(topic.partitions)).sum();
        let more = self.faults.iter().map(|it| match it.fault {
            Fault::AddPartitions(_, more) => i64::from(more),
            _ => 0,
        });
        (first + more.sum::<i64>()) as u64
    }

    /// Is a topic deleted in it?
    #[must_use]
    pub fn deletes(&self, topic: u16) -> bool {
        self.faults.iter().any(|it| it.fault == Fault::DeleteTopic(topic))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fsync = if self.fsync { ", which sync before they acknowledge" } else { "" };
        let nodes = if self.nodes == 1 { "node" } else { "nodes" };
        writeln!(
            f,
            "seed {} of profile {}: {} {nodes}{fsync}",
            self.seed, self.profile, self.nodes
        )?;
        for topic in &self.topics {
            write!(
                f,
                "topic {}: {} partitions, {} replicas, min.insync.replicas={}",
                topic.name, topic.partitions, topic.replication, topic.min_insync
            )?;
            if let Some(bytes) = topic.max_message_bytes {
                write!(f, ", max.message.bytes={bytes}")?;
            }
            if topic.log_append_time {
                write!(f, ", message.timestamp.type=LogAppendTime")?;
            }
            writeln!(f)?;
        }
        let workload = &self.workload;
        write!(
            f,
            "{} producers send some {} records in bursts of up to {}",
            workload.producers, workload.records, workload.burst
        )?;
        if let Some(habits) = &self.transactions {
            write!(f, ", {habits}")?;
        }
        if let Some((at, patience)) = workload.close {
            write!(f, "; the first is closed at {at} ms, within {patience} ms")?;
        }
        writeln!(f)?;
        if self.first_sequence > 0 {
            writeln!(f, "sequences begin at {}", self.first_sequence)?;
        }
        write!(f, "{}", self.scenery)?;
        for (name, value) in &self.settings {
            writeln!(f, "  {name}={value}")?;
        }
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        writeln!(f, "at        {:>6} ms  all is healed", self.chaos)
    }
}
