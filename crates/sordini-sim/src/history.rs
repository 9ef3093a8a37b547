//! What the application did and was told: every record from the call to its outcome, in the terms
//! that Jepsen's histories use (invoke, ok, fail, info).

use sordini_core::time::Instant;

use crate::rng::mix;

/// A partition: the topic's number in the plan, and the partition's.
pub type Tp = (u16, i32);

/// What a record looks like; its bytes follow from this and its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the value, at least 16 are written.
    pub len: u32,
    /// The number of its key, if it has one.
    pub key: Option<u32>,
    /// The value is null (a tombstone); the number then stands in a header.
    pub null: bool,
    /// Headers beside that one.
    pub headers: u8,
    /// An explicit timestamp in milliseconds.
    pub timestamp: Option<i64>,
}

/// A record's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The header that holds the number of a record without a value.
const ID_HEADER: &str = "sordini-sim-id";

/// What became of an accepted record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// ok: acknowledged.
    Written {
        /// Where, if that was told.
        offset: Option<i64>,
        /// Its timestamp in milliseconds.
        timestamp: i64,
        /// The broker said that it had it already.
        duplicate: bool,
    },
    /// fail, or info.
    Failed {
        /// fail: "it is in no log". Otherwise info: it may be.
        definite: bool,
        /// The error, for a person.
        text: String,
    },
}

/// How a send ended that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The producer refused it.
    Refused(String),
    /// The application waited no longer.
    GaveUp,
}

/// A record that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// When.
    pub at: Instant,
    /// The partition it was appended to.
    pub partition: i32,
    /// Its place among all that were accepted.
    pub order: u64,
}

/// One call of send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its number; the index in [`History::records`].
    pub id: u64,
    /// The number that the application knows it by: another record's if this is that one again.
    pub origin: u64,
    /// Which producer.
    pub producer: u16,
    /// Which topic.
    pub topic: u16,
    /// The partition that the caller chose.
    pub explicit: Option<i32>,
    /// What it looks like.
    pub shape: Shape,
    /// When it was called.
    pub invoked: Instant,
    /// Accepted, if it was.
    pub accepted: Option<Accepted>,
    /// Not accepted.
    pub rejected: Option<Rejected>,
    /// The outcome, when, and its place among all outcomes.
    pub done: Option<(Instant, u64, Done)>,
    /// Times that the record left the producer, at least in part.
    pub sent: u32,
    /// The node that it was sent to last.
    pub sent_to: Option<i32>,
}

impl Submitted {
    /// The partition it was accepted for.
    #[must_use]
    pub fn tp(&self) -> Option<Tp> {
        self.accepted.as_ref().map(|accepted| (self.topic, accepted.partition))
    }

    /// Was it acknowledged?
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self.done, Some((_, _, Done::Written { .. })))
    }

    /// Was it reported to be in no log?
    #[must_use]
    pub fn failed_definitely(&self) -> bool {
        matches!(self.done, Some((_, _, Done::Failed { definite: true, .. })))
    }

    /// The bytes that were handed in.
    #[must_use]
    pub fn content(&self) -> Content {
        let id = self.id.to_be_bytes();
        let mut content = Content {
            key: self.shape.key.map(|key| format!("key-{key}").into_bytes()),
            ..Content::default()
        };
        if self.shape.null {
            content.headers.push((ID_HEADER.to_owned(), Some(id.to_vec())));
        } else {
            content.value = Some(self.value());
        }
        for at in 0..self.shape.headers {
            let value = (at % 3 != 2).then(|| vec![at; usize::from(at) * 3]);
            content.headers.push((format!("h{at}"), value));
        }
        content
    }

    /// The number, the producer, the topic and partition it is meant for, and bytes that follow
    /// from the number: no other record has the same.
    fn value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.shape.len.max(16) as usize);
        value.extend_from_slice(&self.id.to_be_bytes());
        value.extend_from_slice(&self.producer.to_be_bytes());
        value.extend_from_slice(&self.topic.to_be_bytes());
        value.extend_from_slice(&self.explicit.unwrap_or(-1).to_be_bytes());
        let word = mix(self.id).to_be_bytes();
        while value.len() + 8 <= self.shape.len as usize {
            value.extend_from_slice(&word);
        }
        value.resize((self.shape.len as usize).max(16), self.id as u8);
        value
    }
}

/// The number of a record, by its bytes.
pub fn identify<'a>(
    value: Option<&[u8]>,
    mut headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Option<u64> {
    let number = |bytes: &[u8]| bytes.first_chunk::<8>().map(|it| u64::from_be_bytes(*it));
    match value {
        Some(value) => number(value),
        None => headers.find(|(name, _)| *name == ID_HEADER.as_bytes())?.1.and_then(number),
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every call of send, by its number.
    pub records: Vec<Submitted>,
    accepted: u64,
    done: u64,
}

impl History {
    /// invoke: the application calls send.
    pub fn invoke(
        &mut self,
        at: Instant,
        producer: u16,
        topic: u16,
        explicit: Option<i32>,
        shape: Shape,
    ) -> u64 {
        let id = self.records.len() as u64;
        self.records.push(Submitted {
            id,
            origin: id,
            producer,
            topic,
            explicit,
            shape,
            invoked: at,
            accepted: None,
            rejected: None,
            done: None,
            sent: 0,
            sent_to: None,
        });
        id
    }

    /// A record by its number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Submitted> {
        self.records.get(usize::try_from(id).ok()?)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Submitted> {
        self.records.get_mut(usize::try_from(id).ok()?)
    }

    /// The record was accepted for `partition`.
    pub fn accept(&mut self, id: u64, at: Instant, partition: i32) {
        let order = self.accepted;
        self.accepted += 1;
        if let Some(record) = self.get_mut(id) {
            record.accepted = Some(Accepted { at, partition, order });
        }
    }

    /// The record was not accepted.
    pub fn reject(&mut self, id: u64, why: Rejected) {
        if let Some(record) = self.get_mut(id) {
            record.rejected = Some(why);
        }
    }

    /// ok, fail or info. `false`: it had an outcome already, or was not accepted.
    #[must_use]
    pub fn complete(&mut self, id: u64, at: Instant, done: Done) -> bool {
        let number = self.done;
        self.done += 1;
        let Some(record) = self.get_mut(id) else { return false };
        if record.done.is_some() || record.accepted.is_none() {
            return false;
        }
        record.done = Some((at, number, done));
        true
    }

    /// How many accepted records have no outcome yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.accepted - self.done
    }

    /// How many were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }
}
