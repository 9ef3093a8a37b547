//! What really happened in a cluster, for checkers: told as it happens, kept nowhere.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sordini_protocol::Uuid;

/// A partition, by its topic's id and name. The id tells a topic from a later one of that name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionId {
    /// The topic's id.
    pub id: Uuid,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterTrace {
    /// A node registered with the controller; it is fenced until [`ClusterTrace::Unfenced`].
    Registered {
        /// The node.
        node: i32,
        /// The epoch of this life of the node.
        broker_epoch: u64,
    },
    /// A node may lead and be in sync.
    Unfenced {
        /// The node.
        node: i32,
    },
    /// A node was silent for longer than the session timeout, or came back as another.
    Fenced {
        /// The node.
        node: i32,
    },
    /// A controlled shutdown is over: the node does not run any more.
    Stopped {
        /// The node.
        node: i32,
    },
    /// A node stopped by itself because its storage failed, as Kafka's does.
    Halted {
        /// The node.
        node: i32,
        /// What failed.
        reason: String,
    },
    /// A node opened a replica's log, or created it.
    Opened {
        /// The node.
        node: i32,
        /// The partition.
        at: PartitionId,
        /// Where the log begins.
        log_start: i64,
        /// Where it ends.
        log_end: i64,
    },
    /// A batch was written to a replica's log.
    Appended {
        /// The node.
        node: i32,
        /// The partition.
        at: PartitionId,
        /// Offset of the batch's first record.
        base_offset: i64,
        /// Epoch of the leader that took the batch, as stored in it.
        leader_epoch: i32,
        /// Whether this node is that leader.
        as_leader: bool,
        /// The batch, as stored.
        batch: Bytes,
    },
    /// A replica's log lost its end: by order of its leader, or with the node's power.
    Truncated {
        /// The node.
        node: i32,
        /// The partition.
        at: PartitionId,
        /// The log end now.
        to: i64,
        /// The log end before.
        was: i64,
        /// Whether the storage lost it, rather than the node cutting it off.
        by_storage: bool,
    },
    /// A replica's high watermark moved forward.
    HighWatermark {
        /// The node.
        node: i32,
        /// The partition.
        at: PartitionId,
        /// The high watermark.
        offset: i64,
        /// The leader epoch that the node holds.
        leader_epoch: i32,
        /// Whether the node leads: then it is what consumers and acks=all see.
        as_leader: bool,
    },
    /// The controller chose a leader, or found none.
    Elected {
        /// The partition.
        at: PartitionId,
        /// The leader, -1 for none.
        leader: i32,
        /// Its epoch.
        leader_epoch: i32,
        /// Whether the leader was in sync. If not, what was acknowledged may be gone.
        clean: bool,
    },
    /// A node began to act as leader of an epoch.
    Leads {
        /// The node.
        node: i32,
        /// The partition.
        at: PartitionId,
        /// The epoch.
        leader_epoch: i32,
        /// The log end at that moment.
        start: i64,
    },
    /// The controller changed who is in sync.
    Isr {
        /// The partition.
        at: PartitionId,
        /// The members.
        isr: Vec<i32>,
        /// The leader epoch.
        leader_epoch: i32,
        /// The partition epoch.
        partition_epoch: i32,
    },
    /// A topic was created.
    Created {
        /// The topic's name.
        topic: Arc<str>,
        /// Its id.
        id: Uuid,
        /// How many partitions it has.
        partitions: i32,
    },
    /// Partitions were added.
    Grown {
        /// The topic's name.
        topic: Arc<str>,
        /// How many partitions it has now.
        partitions: i32,
    },
    /// A topic was deleted.
    Deleted {
        /// The topic's name.
        topic: Arc<str>,
        /// Its id.
        id: Uuid,
    },
}
