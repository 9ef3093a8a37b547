//! Profiles: which worlds are drawn. The default keeps within what the guarantees survive; a
//! control leaves that on purpose, and must then show what was lost.

use crate::checkers::Anomaly;
use crate::faults::{FaultKind, Menu};
use crate::scenery::Variety;

/// Faults that do harm only together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    /// A replica is cut off until it is out of sync, and is then elected.
    LagThenElect,
    /// What is sent takes now and then longer than a request may, and arrives all the same.
    Late,
}

/// How worlds of a kind are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name: `default`, or that of a control (`C-a`).
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Settings that all its producers have.
    pub settings: Vec<(String, String)>,
    /// Numbers of nodes that are drawn from.
    pub nodes: Vec<i32>,
    /// Values of `min.insync.replicas` that are drawn from; at most the replication factor.
    pub min_insync: Vec<i32>,
    /// Whether brokers sync before they acknowledge; drawn if `None`.
    pub fsync: Option<bool>,
    /// What the worlds are like where nothing goes wrong.
    pub variety: Variety,
    /// What goes wrong.
    pub menu: Menu,
    /// The faults stay within what replication and disks survive.
    pub survivable: bool,
    /// The application sends again what may have been written.
    pub resend: bool,
    /// Beside the swarm, what this control is about happens at least once.
    pub sure: Vec<FaultKind>,
    /// And this.
    pub plot: Option<Plot>,
    /// What a control must show.
    pub shows: Option<Anomaly>,
    /// So many of 1000 worlds have transactions.
    pub transactions: u16,
    /// `transaction.version` of their clusters; drawn if `None`.
    pub transaction_version: Option<i16>,
}

fn said(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// These, and every record sent at once, with half a minute to be delivered.
fn quietly(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all = said(settings);
    all.extend(said(&[("linger.ms", "0"), ("delivery.timeout.ms", "30000")]));
    all
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "default",
            about: "everything that the guarantees survive",
            settings: Vec::new(),
            nodes: vec![1, 2, 3, 3, 3],
            min_insync: vec![1, 2, 2],
            fsync: None,
            variety: Variety::Drawn,
            menu: Menu::survivable(),
            survivable: true,
            resend: false,
            sure: Vec::new(),
            plot: None,
            shows: None,
            transactions: 333,
            transaction_version: None,
        }
    }
}

impl Profile {
    /// A perfect network, and nothing goes wrong.
    #[must_use]
    pub fn calm() -> Self {
        Self { name: "calm", about: "nothing goes wrong", menu: Menu::of(&[]), ..Self::default() }
    }

    /// Disks lose what was not synced, and rot; elections are unclean: nothing promises to survive
    /// that.
    #[must_use]
    pub fn disks() -> Self {
        let more = [
            FaultKind::StopAtWrite,
            FaultKind::PowerLoss,
            FaultKind::BitRot,
            FaultKind::UncleanElection,
        ];
        Self {
            name: "disks",
            about: "disks lose what was not synced and rot, elections are unclean",
            menu: Menu::survivable().and(&more),
            survivable: false,
            ..Self::default()
        }
    }

    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let own = [Self::default(), Self::calm(), Self::disks()];
        own.into_iter().chain(Self::controls()).find(|it| it.name.eq_ignore_ascii_case(name))
    }

    /// The negative controls: for each promise that a level does not make, the worlds that break
    /// it. One that shows nothing means that a fault or a checker is dead.
    #[must_use]
    pub fn controls() -> Vec<Self> {
        let mut all = Self::weak_settings();
        all.extend(Self::harsh_faults());
        all.push(Self::late_requests());
        all
    }

    /// Controls that break what weak settings do not promise.
    fn weak_settings() -> Vec<Self> {
        let base =
            Self { survivable: false, variety: Variety::Plain, transactions: 0, ..Self::default() };
        let plain = ("enable.idempotence", "false");
        vec![
            Self {
                name: "C-a",
                about: "acks=0 and killed brokers lose records",
                settings: quietly(&[("acks", "0"), plain, ("retries", "0")]),
                menu: Menu::of(&[FaultKind::Kill]),
                sure: vec![FaultKind::Kill],
                survivable: true,
                shows: Some(Anomaly::Loss),
                ..base.clone()
            },
            Self {
                name: "C-b",
                about: "acks=1 and a leader killed before others had it lose records",
                settings: quietly(&[("acks", "1"), plain]),
                nodes: vec![2, 3],
                menu: Menu::of(&[FaultKind::Kill, FaultKind::PeerDelay, FaultKind::PeerCut]),
                sure: vec![FaultKind::Kill, FaultKind::PeerDelay],
                survivable: true,
                shows: Some(Anomaly::Loss),
                ..base.clone()
            },
            Self {
                name: "C-c",
                about: "retries without idempotence, and answers that are lost, double records",
                settings: quietly(&[("acks", "all"), plain, ("request.timeout.ms", "1000")]),
                menu: Menu::of(&[FaultKind::Silence, FaultKind::CloseAfter]),
                sure: vec![FaultKind::CloseAfter],
                survivable: true,
                shows: Some(Anomaly::Duplicate),
                ..base.clone()
            },
            Self {
                name: "C-d",
                about: "five in flight without idempotence, and errors of single batches, invert",
                settings: quietly(&[
                    ("acks", "all"),
                    plain,
                    ("max.in.flight.requests.per.connection", "5"),
                    ("batch.size", "1"),
                ]),
                menu: Menu::of(&[FaultKind::Error, FaultKind::Delay]),
                sure: vec![FaultKind::Error, FaultKind::Delay],
                survivable: true,
                shows: Some(Anomaly::Reorder),
                ..base.clone()
            },
        ]
    }

    /// The worlds in which a late request tears the old protocol's transactions, where a producer
    /// does not raise its epoch for it. This one does: they are torn only with a planted fault.
    fn late_requests() -> Self {
        // What takes longer than a request may is sent again on another connection.
        let hasty = [
            ("request.timeout.ms", "80"),
            ("retry.backoff.ms", "1"),
            ("reconnect.backoff.ms", "1"),
            ("reconnect.backoff.max.ms", "100"),
        ];
        Self {
            name: "C-g",
            about: "in the old protocol a late EndTxn or Produce tears a later transaction",
            settings: quietly(&hasty),
            menu: Menu::of(&[]),
            plot: Some(Plot::Late),
            transactions: 1000,
            transaction_version: Some(1),
            ..Self::default()
        }
    }

    /// Controls that break what safe settings promise, by faults that they do not survive.
    fn harsh_faults() -> Vec<Self> {
        let base =
            Self { survivable: false, variety: Variety::Plain, transactions: 0, ..Self::default() };
        let safe = [("acks", "all"), ("enable.idempotence", "true")];
        vec![
            Self {
                name: "C-e",
                about: "unclean elections lose what acks=all acknowledged, and that is told",
                settings: quietly(&safe),
                nodes: vec![2, 3],
                min_insync: vec![1],
                menu: Menu::of(&[FaultKind::UncleanElection, FaultKind::PeerCut]),
                sure: vec![FaultKind::PeerCut, FaultKind::UncleanElection],
                plot: Some(Plot::LagThenElect),
                shows: Some(Anomaly::Loss),
                ..base.clone()
            },
            Self {
                name: "C-f",
                about: "min.insync.replicas=1 and two failures lose records",
                settings: quietly(&safe),
                nodes: vec![2, 3],
                min_insync: vec![1],
                fsync: Some(false),
                menu: Menu::of(&[FaultKind::Kill, FaultKind::PowerLoss]),
                sure: vec![FaultKind::Kill, FaultKind::PowerLoss],
                shows: Some(Anomaly::Loss),
                ..base.clone()
            },
            Self {
                name: "C-h",
                about: "an application that sends again what may have been written doubles it",
                settings: {
                    let mut all = said(&safe);
                    all.extend(said(&[
                        ("linger.ms", "0"),
                        ("request.timeout.ms", "300"),
                        ("delivery.timeout.ms", "600"),
                    ]));
                    all
                },
                menu: Menu::of(&[FaultKind::Silence, FaultKind::Partition]),
                sure: vec![FaultKind::Silence],
                survivable: true,
                resend: true,
                shows: Some(Anomaly::Duplicate),
                ..base.clone()
            },
            Self {
                name: "C-i",
                about: "without fsync a loss of power loses what was acknowledged",
                settings: quietly(&safe),
                nodes: vec![1],
                min_insync: vec![1],
                fsync: Some(false),
                menu: Menu::of(&[FaultKind::PowerLoss]),
                sure: vec![FaultKind::PowerLoss],
                shows: Some(Anomaly::Loss),
                ..base
            },
        ]
    }
}
