//! The framing of a Produce request, written around batches that stay where they are.
//!
//! The generated encoder would copy every record into one buffer; here the records go from their
//! segments to the socket as they lie (`writev`).

use std::sync::Arc;

use sordini_protocol::Uuid;

use crate::batch::body::Body;
use crate::wire::{batch_header, varint};

/// Bytes to be written, in order: some of its own, some of batches that it keeps alive.
#[derive(Debug, Default)]
pub struct Frame {
    own: Vec<u8>,
    /// Up to which of the own bytes comes before the batch.
    bodies: Vec<(usize, Arc<Body>)>,
    len: usize,
}

impl Frame {
    /// A frame of own bytes only.
    #[must_use]
    pub fn of(own: Vec<u8>) -> Self {
        Self { len: own.len(), own, bodies: Vec::new() }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, in order, none of them empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.bodies.iter().map(|(end, _)| *end));
        let ends = self.bodies.iter().map(|(end, _)| *end).chain(std::iter::once(self.own.len()));
        let bodies = self.bodies.iter().map(|(_, body)| Some(body)).chain(std::iter::once(None));
        let runs = starts.zip(ends).zip(bodies);
        let slices = runs.flat_map(|((start, end), body)| {
            let parts = body.into_iter().flat_map(|body| body.parts());
            std::iter::once(&self.own[start..end]).chain(parts)
        });
        slices.filter(|slice| !slice.is_empty())
    }
}

/// One partition's batch in a request.
#[derive(Debug)]
pub struct Part {
    /// The topic's number, to group partitions.
    pub topic: u32,
    /// Its name, up to version 12.
    pub name: Arc<str>,
    /// Its id, from version 13 on.
    pub id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The batch's header.
    pub header: [u8; batch_header::LEN],
    /// The batch's records.
    pub body: Arc<Body>,
}

/// What every Produce request says.
#[derive(Debug, Clone, Copy)]
pub struct Preface<'a> {
    /// 3 to 13.
    pub version: i16,
    /// Matches the response.
    pub correlation: i32,
    /// `client.id`.
    pub client_id: &'a str,
    /// `transactional.id`, where the batches belong to a transaction.
    pub transactional_id: Option<&'a str>,
    /// `acks` as on the wire: 0, 1, -1.
    pub acks: i16,
    /// How long the broker may wait for replicas, in milliseconds.
    pub timeout_ms: i32,
}

struct Writer {
    own: Vec<u8>,
    flexible: bool,
}

impl Writer {
    fn count(&mut self, count: usize) {
        if self.flexible {
            varint::push_unsigned(&mut self.own, count as u32 + 1);
        } else {
            self.own.extend_from_slice(&(count as i32).to_be_bytes());
        }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            varint::push_unsigned(&mut self.own, text.len() as u32 + 1);
        } else {
            self.own.extend_from_slice(&(text.len() as i16).to_be_bytes());
        }
        self.own.extend_from_slice(text.as_bytes());
    }

    fn tags(&mut self) {
        if self.flexible {
            self.own.push(0);
        }
    }
}

/// Frames a request of `parts`, which must be grouped by topic.
#[must_use]
pub fn frame(preface: Preface<'_>, parts: Vec<Part>) -> Frame {
    let flexible = preface.version >= 9;
    let mut out = Writer { own: Vec::with_capacity(128 + 100 * parts.len()), flexible };
    out.own.extend_from_slice(&[0; 4]);
    out.own.extend_from_slice(&0i16.to_be_bytes());
    out.own.extend_from_slice(&preface.version.to_be_bytes());
    out.own.extend_from_slice(&preface.correlation.to_be_bytes());
    // The client id keeps its old form in flexible headers too (KIP-482).
    out.own.extend_from_slice(&(preface.client_id.len() as i16).to_be_bytes());
    out.own.extend_from_slice(preface.client_id.as_bytes());
    out.tags();
    match preface.transactional_id {
        Some(id) => out.string(id),
        None => out.own.extend_from_slice(if flexible { &[0] } else { &[0xff, 0xff] }),
    }
    out.own.extend_from_slice(&preface.acks.to_be_bytes());
    out.own.extend_from_slice(&preface.timeout_ms.to_be_bytes());

    let mut bodies = Vec::with_capacity(parts.len());
    let mut body_len = 0;
    let groups: Vec<&[Part]> = parts.chunk_by(|a, b| a.topic == b.topic).collect();
    out.count(groups.len());
    for group in groups {
        match group.first() {
            Some(first) if preface.version >= 13 => out.own.extend_from_slice(&first.id.0),
            Some(first) => out.string(&first.name),
            None => unreachable!("chunk_by makes no empty group"),
        }
        out.count(group.len());
        for part in group {
            out.own.extend_from_slice(&part.partition.to_be_bytes());
            let len = part.body.len();
            out.count(batch_header::LEN + len);
            out.own.extend_from_slice(&part.header);
            bodies.push((out.own.len(), Arc::clone(&part.body)));
            body_len += len;
            out.tags();
        }
        out.tags();
    }
    out.tags();
    let len = out.own.len() + body_len;
    let length = i32::try_from(len - 4).expect("a request is bounded by max.request.size");
    out.own[..4].copy_from_slice(&length.to_be_bytes());
    Frame { own: out.own, bodies, len }
}
