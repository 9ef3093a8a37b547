//! One connection to one broker: what was asked, in which order, and which bytes the network took.

pub mod framing;
pub mod produce;
pub mod versions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sordini_protocol::mutant;

use crate::config::Address;
use crate::connection::framing::Framing;
use crate::connection::versions::Versions;
use crate::sequencing::slot::RequestId;
use crate::time::Instant;
use crate::transaction::errand::AskId;

/// Names a connection for as long as the producer lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Frames are handed to the driver only while fewer bytes than this wait to be written, so that
/// batches grow while the network is slow.
const CREDIT: u64 = 1 << 20;

/// Where a connection is in its life.
#[derive(Debug)]
pub enum Phase {
    /// The driver resolves and connects.
    Connecting,
    /// ApiVersions was asked in this version.
    Negotiating(i16),
    /// Requests may be sent.
    Ready(Versions),
}

/// What a request asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// ApiVersions, in this version.
    ApiVersions(i16),
    /// Metadata, in this round of asking and in this version.
    Metadata(u64, i16),
    /// InitProducerId, in this version.
    InitProducerId(i16),
    /// Something that transactions want to know or have done, in this version.
    Coordination(AskId, i16),
    /// Produce, in this version.
    Produce(RequestId, i16),
}

/// A request on the connection.
#[derive(Debug)]
pub struct Pending {
    /// Matches its response.
    pub correlation: i32,
    /// What it asked.
    pub asked: Asked,
    /// False with `acks=0`: it is done when it is written.
    pub answered: bool,
    /// Its first byte's position in the connection's stream.
    start: u64,
    /// The position behind its last byte.
    end: u64,
    begun: bool,
    /// When to give up on the connection.
    deadline: Instant,
}

/// What the network's taking bytes did to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its first byte was written.
    Begun(RequestId),
    /// Its last byte was written, and it gets no response.
    Done(RequestId),
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Its name.
    pub id: ConnId,
    /// The broker's node id; `None` for a bootstrap address that turned out to be no broker of
    /// the cluster's metadata yet.
    pub node: Option<i32>,
    /// Where it goes.
    pub address: Address,
    /// `host:port`, for errors.
    pub name: Arc<str>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Bytes received.
    pub framing: Framing,
    next_correlation: i32,
    pending: VecDeque<Pending>,
    queued: u64,
    written: u64,
    setup_deadline: Instant,
    /// The broker asked for silence until then (KIP-219).
    muted_until: Instant,
    last_used: Instant,
}

impl Connection {
    /// A connection that the driver is about to make.
    #[must_use]
    pub fn new(id: ConnId, node: Option<i32>, address: Address, setup_deadline: Instant) -> Self {
        Self {
            id,
            node,
            name: address.to_string().into(),
            address,
            phase: Phase::Connecting,
            framing: Framing::default(),
            next_correlation: 0,
            pending: VecDeque::new(),
            queued: 0,
            written: 0,
            setup_deadline,
            muted_until: Instant::ZERO,
            last_used: Instant::ZERO,
        }
    }

    /// The versions agreed on, once they are.
    #[must_use]
    pub fn versions(&self) -> Option<Versions> {
        match self.phase {
            Phase::Ready(versions) => Some(versions),
            Phase::Connecting | Phase::Negotiating(_) => None,
        }
    }

    /// How many Produce requests lack their answer (or, with `acks=0`, their last byte).
    #[must_use]
    pub fn produce_in_flight(&self) -> usize {
        let produce = |pending: &&Pending| matches!(pending.asked, Asked::Produce(..));
        self.pending.iter().filter(produce).count()
    }

    /// How many requests lack their answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Does the driver still hold so many bytes that it should not get more?
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.queued - self.written >= CREDIT
    }

    /// Is it ready, neither muted nor clogged?
    #[must_use]
    pub fn can_send(&self, now: Instant) -> bool {
        self.versions().is_some() && self.muted_until <= now && !self.is_clogged()
    }

    /// Until when the broker wants silence.
    #[must_use]
    pub fn muted_until(&self) -> Instant {
        self.muted_until
    }

    /// Sends nothing for `pause`, and gives what was asked that much longer.
    pub fn mute(&mut self, now: Instant, pause: Duration) {
        let before = self.muted_until.max(now);
        self.muted_until = before.max(now.saturating_add(pause));
        let longer = self.muted_until.saturating_since(before);
        for pending in &mut self.pending {
            pending.deadline = pending.deadline.saturating_add(longer);
        }
    }

    /// The correlation id that the next request must carry.
    #[must_use]
    pub fn next_correlation(&self) -> i32 {
        self.next_correlation
    }

    /// Notes a request of `len` bytes that is handed to the driver now.
    pub fn sent(
        &mut self,
        asked: Asked,
        len: usize,
        answered: bool,
        now: Instant,
        timeout: Duration,
    ) {
        let start = self.queued;
        self.queued += len as u64;
        self.pending.push_back(Pending {
            correlation: self.next_correlation,
            asked,
            answered,
            start,
            end: self.queued,
            begun: false,
            deadline: now.saturating_add(timeout),
        });
        self.next_correlation = self.next_correlation.wrapping_add(1) & i32::MAX;
        self.last_used = now;
    }

    /// The network took bytes up to `through`: tells which Produce requests were begun or done.
    pub fn transmitted(&mut self, through: u64, now: Instant, timeout: Duration) -> Vec<Progress> {
        assert!(
            through >= self.written && through <= self.queued,
            "S7: the driver reports bytes that it was not given"
        );
        let before = std::mem::replace(&mut self.written, through);
        if through == before {
            return Vec::new();
        }
        // A response is waited for from the last byte on, or from when the broker reads again: a
        // slow network is not a slow broker. What waits behind other bytes waits while they go.
        let deadline = self.muted_until.max(now).saturating_add(timeout);
        for pending in self.pending.iter_mut().filter(|pending| pending.end > before) {
            pending.deadline = deadline;
        }
        let mut progress = Vec::new();
        for pending in &mut self.pending {
            if pending.start >= through {
                break;
            }
            let first = !std::mem::replace(&mut pending.begun, true);
            let Asked::Produce(request, _) = pending.asked else { continue };
            if first {
                progress.push(Progress::Begun(request));
            }
            if !pending.answered && pending.end <= through {
                progress.push(Progress::Done(request));
            }
        }
        let written = |pending: &Pending| pending.answered || pending.end > through;
        self.pending.retain(written);
        progress
    }

    /// Matches a response to the oldest request that gets one. `None`: it answers nothing that
    /// was asked, and the stream can no longer be trusted.
    pub fn answered(&mut self, correlation: i32, now: Instant) -> Option<Asked> {
        let place = self.pending.iter().position(|pending| pending.answered)?;
        if self.pending[place].correlation != correlation && !mutant!(M17) {
            return None;
        }
        self.last_used = now;
        self.pending.remove(place).map(|pending| pending.asked)
    }

    /// All that lacks its answer, with whether a byte of it was written.
    pub fn abandon(&mut self) -> Vec<(Asked, bool)> {
        self.pending.drain(..).map(|pending| (pending.asked, pending.begun)).collect()
    }

    /// What the next response answers, to know its header.
    #[must_use]
    pub fn next_asked(&self) -> Option<Asked> {
        self.pending.iter().find(|pending| pending.answered).map(|pending| pending.asked)
    }

    /// When to give up on it, and why.
    #[must_use]
    pub fn deadline(&self, max_idle: Option<Duration>) -> (Instant, Lapse) {
        if self.versions().is_none() {
            return (self.setup_deadline, Lapse::Setup);
        }
        let unanswered = self.pending.iter().map(|pending| pending.deadline).min();
        match (unanswered, max_idle) {
            (Some(_), _) if mutant!(M18) => (Instant::NEVER, Lapse::Request),
            (Some(deadline), _) => (deadline, Lapse::Request),
            (None, Some(idle)) => (self.last_used.saturating_add(idle), Lapse::Idle),
            (None, None) => (Instant::NEVER, Lapse::Idle),
        }
    }
}

/// Which of a connection's deadlines passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// `socket.connection.setup.timeout.ms`: connecting and ApiVersions together.
    Setup,
    /// `request.timeout.ms`.
    Request,
    /// `connections.max.idle.ms`.
    Idle,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// S7, E1: whatever was asked, one byte on the network is enough to be carried out.
    #[test]
    fn a_lost_request_of_any_kind_tells_whether_it_was_begun() {
        let kinds = [
            Asked::Produce(RequestId(1), 9),
            Asked::Coordination(AskId(1), 4),
            Asked::InitProducerId(4),
            Asked::Metadata(1, 12),
        ];
        for asked in kinds {
            for (through, begun) in [(100, false), (101, true), (200, true)] {
                let address = Address::new("a", 1);
                let mut connection = Connection::new(ConnId(1), None, address, Instant::NEVER);
                connection.sent(Asked::Metadata(0, 12), 100, true, Instant::ZERO, TIMEOUT);
                connection.sent(asked, 100, true, Instant::ZERO, TIMEOUT);
                connection.transmitted(through, Instant::ZERO, TIMEOUT);
                let lost = connection.abandon();
                assert_eq!(lost.last(), Some(&(asked, begun)), "{through} bytes");
            }
        }
    }
}
