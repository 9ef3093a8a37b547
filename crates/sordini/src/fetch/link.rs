//! One connection to one broker: at most one request is on its way at a time.

use bytes::Bytes;

use super::machine::Millis;
use super::settings::Address;
use super::wire::{Versions, WireError};

/// Names a connection; never used twice.
pub(super) type LinkId = u64;

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Metadata,
    /// Each partition with the timestamp it was asked for.
    Offsets(Vec<(i32, i64)>),
    /// Each partition with the offset it was asked from.
    Records(Vec<(i32, i64)>),
}

#[derive(Debug)]
enum State {
    Connecting,
    /// ApiVersions is on its way, with this correlation id.
    Negotiating(i32),
    Idle(Versions),
    Waiting {
        versions: Versions,
        ask: Ask,
        version: i16,
        correlation: i32,
    },
}

/// A connection, from the wish to have one until it is closed.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) address: Address,
    /// The node that it leads to, where that is known.
    pub(super) node: Option<i32>,
    /// When what it waits for must have come.
    pub(super) deadline: Millis,
    /// Not to be used before this (the broker's throttling).
    pub(super) muted_until: Millis,
    state: State,
    next_correlation: i32,
}

/// What an answer was, as far as the link knows.
#[derive(Debug)]
pub(super) enum Answer {
    /// Versions are known: the link is ready.
    Ready,
    /// The answer to `ask`, to be decoded.
    To { ask: Ask, version: i16, correlation: i32, frame: Bytes },
}

impl Link {
    pub(super) fn new(address: Address, node: Option<i32>, deadline: Millis) -> Self {
        let state = State::Connecting;
        Self { address, node, deadline, muted_until: 0, state, next_correlation: 0 }
    }

    fn correlation(&mut self) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation = correlation.wrapping_add(1);
        correlation
    }

    /// The socket is there: the correlation id for ApiVersions.
    pub(super) fn on_connected(&mut self, deadline: Millis) -> i32 {
        let correlation = self.correlation();
        self.state = State::Negotiating(correlation);
        self.deadline = deadline;
        correlation
    }

    /// The versions, where the link may be used now.
    pub(super) fn idle(&self, now: Millis) -> Option<&Versions> {
        match &self.state {
            State::Idle(versions) if self.muted_until <= now => Some(versions),
            _ => None,
        }
    }

    /// Whether it has yet to become usable.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, State::Connecting | State::Negotiating(_))
    }

    /// What it is waiting for an answer to.
    pub(super) fn pending(&self) -> Option<&Ask> {
        match &self.state {
            State::Waiting { ask, .. } => Some(ask),
            _ => None,
        }
    }

    /// Notes that `ask` goes out, in `version`: the correlation id for it. Only while idle.
    pub(super) fn begin(&mut self, ask: Ask, version: i16, deadline: Millis) -> i32 {
        let correlation = self.correlation();
        if let State::Idle(versions) = std::mem::replace(&mut self.state, State::Connecting) {
            self.state = State::Waiting { versions, ask, version, correlation };
            self.deadline = deadline;
        }
        correlation
    }

    /// A frame came.
    pub(super) fn on_frame(&mut self, frame: Bytes) -> Result<Answer, WireError> {
        match std::mem::replace(&mut self.state, State::Connecting) {
            State::Negotiating(correlation) => {
                self.state = State::Idle(Versions::read(frame, correlation)?);
                self.deadline = Millis::MAX;
                Ok(Answer::Ready)
            }
            State::Waiting { versions, ask, version, correlation } => {
                self.state = State::Idle(versions);
                self.deadline = Millis::MAX;
                Ok(Answer::To { ask, version, correlation, frame })
            }
            State::Connecting | State::Idle(_) => {
                Err(WireError("the broker sent what nobody asked for".into()))
            }
        }
    }
}
