//! What the controller and the nodes tell each other. Every message may be lost, doubled, late
//! or out of order: each names the life of the node that it is about and is numbered where its
//! order matters, so that an old one is known as such.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sordini_protocol::{ErrorCode, Uuid};

use super::image::{Image, PartitionImage};
use crate::api::{Request, Response};
use crate::coordinator::asking::Ask;
use crate::coordinator::markers::MarkerFrom;
use crate::coordinator::transaction::Partition;
use crate::log::marker::Marker;

/// Who sends or gets a [`PeerMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The controller, of which there is one.
    Controller,
    /// A node, by its id.
    Node(i32),
}

/// A message between nodes, or between a node and the controller. Opaque: it is only carried.
#[derive(Clone, Debug)]
pub struct PeerMessage(pub(crate) Message);

#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A node has started.
    Register { incarnation: u64, host: String, port: u16, doubtful: Doubtful },
    /// It is registered, fenced until its first heartbeat.
    Registered { incarnation: u64, broker_epoch: u64, image: Arc<Image> },
    /// A node is alive, and has this version of the image.
    Heartbeat { broker_epoch: u64, version: u64, leaving: bool },
    /// The newest image, if the node lacks it.
    HeartbeatAnswer { broker_epoch: u64, image: Option<Arc<Image>>, may_leave: bool },
    /// A new version of the image.
    Image(Arc<Image>),
    /// A leader wants another ISR.
    AlterIsr(AlterIsr),
    /// What the partition is now.
    IsrAnswer { seq: u64, topic: Uuid, partition: i32, state: Option<PartitionImage> },
    /// A node wants producer ids.
    AllocateIds { broker_epoch: u64, seq: u64 },
    /// They begin here.
    Ids { broker_epoch: u64, seq: u64, first: i64, count: i64 },
    /// A client's request that only the controller can answer.
    Forward { broker_epoch: u64, seq: u64, version: i16, request: Arc<Request> },
    /// Its answer.
    Forwarded { broker_epoch: u64, seq: u64, response: Arc<Response> },
    /// A follower wants what it lacks.
    Fetch(ReplicaFetch),
    /// What there is.
    FetchAnswer(ReplicaAnswer),
    /// A transaction's coordinator orders its end into partitions.
    Markers(MarkerOrder),
    /// One of them has its marker, committed, or can't take it.
    Marked(MarkerAnswer),
    /// A leader asks a transaction's coordinator about partitions.
    Question(TransactionQuestion),
    /// What the coordinator says.
    Answer(TransactionAnswer),
}

/// The logs that may hold less than when the node that starts with them was last up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubtful {
    /// All: its folder is new.
    All,
    /// Those in these folders, which are not as they were when the node was stopped in order.
    These(Vec<String>),
}

impl Doubtful {
    /// Is the log of this partition one of them?
    pub(super) fn names(&self, topic: &str, index: usize) -> bool {
        match self {
            Self::All => true,
            Self::These(dirs) => dirs.contains(&format!("{topic}-{index}")),
        }
    }
}

impl Default for Doubtful {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

/// The order to end a transaction in partitions that the addressee should lead.
#[derive(Clone, Debug)]
pub(crate) struct MarkerOrder {
    pub from: MarkerFrom,
    pub marker: Marker,
    /// The protocol of the transaction.
    pub version: i16,
    pub partitions: Vec<MarkerPartition>,
}

/// A partition, and the term in which the addressee is believed to lead it.
#[derive(Clone, Debug)]
pub(crate) struct MarkerPartition {
    pub topic: String,
    pub id: Uuid,
    pub partition: i32,
    pub leader_epoch: i32,
}

/// The answer to an order, for one of its partitions.
#[derive(Clone, Debug)]
pub(crate) struct MarkerAnswer {
    /// The order, as it was given.
    pub from: MarkerFrom,
    pub partition: Partition,
    pub code: ErrorCode,
}

/// A leader's question to a transaction's coordinator.
#[derive(Clone, Debug)]
pub(crate) struct TransactionQuestion {
    pub broker_epoch: u64,
    /// Ascending in each life of a node.
    pub seq: u64,
    pub id: String,
    pub producer: (i64, i16),
    pub partitions: BTreeSet<Partition>,
    pub ask: Ask,
}

/// The coordinator's answer: the codes of partitions, none being success, or one for all.
#[derive(Clone, Debug)]
pub(crate) struct TransactionAnswer {
    pub broker_epoch: u64,
    pub seq: u64,
    pub result: Result<BTreeMap<Partition, ErrorCode>, ErrorCode>,
}

/// A leader's wish for another ISR.
#[derive(Clone, Debug)]
pub(crate) struct AlterIsr {
    pub broker_epoch: u64,
    /// Ascending in each life of a node: the controller takes no older one after a newer.
    pub seq: u64,
    pub topic: Uuid,
    pub partition: i32,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    /// Members, with the life of each that the leader means.
    pub isr: Vec<(i32, u64)>,
}

/// A follower's fetch of all partitions that it has from one leader.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaFetch {
    pub broker_epoch: u64,
    /// Ascending in each life of a node.
    pub seq: u64,
    pub partitions: Vec<FetchedPartition>,
}

/// Where a follower stands in one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchedPartition {
    pub topic: Uuid,
    pub partition: i32,
    pub leader_epoch: i32,
    /// The follower's log end.
    pub offset: i64,
    /// Epoch of its last batch, -1 if it has none.
    pub last_epoch: i32,
    /// The follower's high watermark.
    pub high_watermark: i64,
}

/// A leader's answer: only partitions that have something to tell.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaAnswer {
    pub broker_epoch: u64,
    pub seq: u64,
    pub partitions: Vec<ReplicaData>,
}

/// What a leader tells of one partition.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaData {
    pub topic: Uuid,
    pub partition: i32,
    pub leader_epoch: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start: i64,
    pub log_end: i64,
    /// Where the logs part: the leader's epoch, and its end.
    pub diverging: Option<(i32, i64)>,
    pub records: Bytes,
}

impl PeerMessage {
    /// What it is, for logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Message::Register { .. } => "register",
            Message::Registered { .. } => "registered",
            Message::Heartbeat { .. } => "heartbeat",
            Message::HeartbeatAnswer { .. } => "heartbeat-answer",
            Message::Image(_) => "image",
            Message::AlterIsr(_) => "alter-isr",
            Message::IsrAnswer { .. } => "isr-answer",
            Message::AllocateIds { .. } => "allocate-ids",
            Message::Ids { .. } => "ids",
            Message::Forward { .. } => "forward",
            Message::Forwarded { .. } => "forwarded",
            Message::Fetch(_) => "fetch",
            Message::FetchAnswer(_) => "fetch-answer",
            Message::Markers(_) => "markers",
            Message::Marked(_) => "marked",
            Message::Question(_) => "question",
            Message::Answer(_) => "answer",
        }
    }

    /// Bytes that it would have on the wire, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.0 {
            Message::Registered { image, .. } | Message::Image(image) => 32 + image.size(),
            Message::HeartbeatAnswer { image, .. } => {
                32 + image.as_ref().map_or(0, |image| image.size())
            }
            Message::Fetch(fetch) => 32 + fetch.partitions.len() * 44,
            Message::FetchAnswer(answer) => {
                let data = answer.partitions.iter().map(|p| 64 + p.records.len());
                32 + data.sum::<usize>()
            }
            Message::Markers(order) => 96 + order.partitions.len() * 48,
            Message::Question(question) => 96 + question.partitions.len() * 32,
            _ => 96,
        }
    }
}
