//! Offsets of a consumer group that move with a transaction (KIP-98, KIP-447).

use std::sync::Arc;

/// A consumer group, and which of its members the offsets are committed for (KIP-447). Without a
/// member the group's coordinator does not check who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// `group.id`.
    pub group: Arc<str>,
    /// The member's id; empty for none.
    pub member: Arc<str>,
    /// The group's generation, or the member's epoch (KIP-848); -1 for none.
    pub generation: i32,
    /// `group.instance.id`, if the member is static (KIP-345).
    pub instance: Option<Arc<str>>,
}

impl GroupMetadata {
    /// A group whose partitions are assigned by hand.
    #[must_use]
    pub fn new(group: &str) -> Self {
        Self { group: group.into(), member: "".into(), generation: -1, instance: None }
    }

    /// On behalf of a member; the commit is refused once the group has moved on without it.
    #[must_use]
    pub fn member(mut self, id: &str, generation: i32) -> Self {
        self.member = id.into();
        self.generation = generation;
        self
    }

    /// The member is a static one.
    #[must_use]
    pub fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.into());
        self
    }
}

/// Where a group goes on reading a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetToCommit {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record that was read; -1 if it is not known (KIP-320).
    pub leader_epoch: i32,
    /// Whatever the application likes to keep beside it.
    pub metadata: Option<Arc<str>>,
}

impl OffsetToCommit {
    /// Just the offset of the next record to read.
    #[must_use]
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: -1, metadata: None }
    }

    /// With the leader epoch of the last record that was read.
    #[must_use]
    pub fn leader_epoch(self, leader_epoch: i32) -> Self {
        Self { leader_epoch, ..self }
    }

    /// With a note of the application's.
    #[must_use]
    pub fn metadata(self, metadata: &str) -> Self {
        Self { metadata: Some(metadata.into()), ..self }
    }
}

/// What one call sends: topic, partition, offset.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a group and its offsets")]
pub struct GroupOffsets {
    /// Whose.
    pub group: GroupMetadata,
    /// Which partitions, and where to go on there.
    pub offsets: Vec<(Arc<str>, i32, OffsetToCommit)>,
}

/// Strings are no longer on the wire.
const LONGEST: usize = i16::MAX as usize;

impl GroupOffsets {
    /// Can it be sent?
    ///
    /// # Errors
    /// What is wrong, and the beginning of the value.
    pub fn check(&self) -> Result<(), (&'static str, Arc<str>)> {
        let long = |what, text: &str| match text.len() > LONGEST {
            true => Err((what, text.chars().take(64).collect::<String>().into())),
            false => Ok(()),
        };
        let GroupMetadata { group, member, instance, .. } = &self.group;
        if group.is_empty() {
            return Err(("a group's id must not be empty", "".into()));
        }
        long("a group's id has more than 32767 bytes", group)?;
        long("a member's id has more than 32767 bytes", member)?;
        long("group.instance.id has more than 32767 bytes", instance.as_deref().unwrap_or(""))?;
        for (topic, partition, at) in &self.offsets {
            long("a topic's name has more than 32767 bytes", topic)?;
            long(
                "an offset's metadata have more than 32767 bytes",
                at.metadata.as_deref().unwrap_or(""),
            )?;
            if *partition < 0 {
                return Err(("a partition must not be negative", partition.to_string().into()));
            }
            if at.offset < 0 {
                return Err(("an offset must not be negative", at.offset.to_string().into()));
            }
        }
        Ok(())
    }
}
