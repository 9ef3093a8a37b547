//! What is to be asked, of whom.

use std::sync::Arc;

use sordini_protocol::ApiKey;

use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;
use crate::transaction::errand::{AskId, Errand};
use crate::transaction::offsets::GroupOffsets;
use crate::transaction::pace::Opening;
use crate::transaction::state::{
    Checking, Direction, Ending, Enrolment, Initializing, Inquiring, Involved, Offsets, Open,
    Place, Protocol, State, Step,
};
use crate::transaction::{Lookup, Transactions};

/// A request, before anybody is known to send it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Who coordinates the transactional id?
    FindCoordinator,
    /// Who coordinates the group?
    FindGroup(Arc<str>),
    /// An identity; one whose epoch is above this one's, if there is one.
    InitProducerId(Option<ProducerIdentity>),
    /// Take these partitions in.
    AddPartitions(ProducerIdentity, Vec<Place>),
    /// Take the group's offsets in.
    AddOffsets(ProducerIdentity, Arc<str>),
    /// Commit these offsets with the transaction.
    CommitOffsets(ProducerIdentity, Protocol, Arc<GroupOffsets>),
    /// End the transaction.
    EndTxn {
        /// Who writes.
        identity: ProducerIdentity,
        /// Which version to use.
        protocol: Protocol,
        /// How.
        commit: bool,
    },
    /// What became of the transaction?
    Describe,
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinator {
    /// Any broker.
    Anyone,
    /// This one.
    Node(i32),
}

impl Ask {
    /// Which request it is.
    #[must_use]
    pub fn api(&self) -> ApiKey {
        match self {
            Self::FindCoordinator | Self::FindGroup(_) => ApiKey::FindCoordinator,
            Self::InitProducerId(_) => ApiKey::InitProducerId,
            Self::AddPartitions(..) => ApiKey::AddPartitionsToTxn,
            Self::AddOffsets(..) => ApiKey::AddOffsetsToTxn,
            Self::CommitOffsets(..) => ApiKey::TxnOffsetCommit,
            Self::EndTxn { .. } => ApiKey::EndTxn,
            Self::Describe => ApiKey::DescribeTransactions,
        }
    }
}

fn is_due(lookup: &Lookup, now: Instant) -> bool {
    matches!(lookup, Lookup::Sought(errand) if errand.is_due(now))
}

impl Transactions {
    /// What is to be asked now, and of whom; nothing that lacks its answer is among it.
    #[must_use]
    pub fn asks(&self, now: Instant) -> Vec<(Coordinator, Ask)> {
        let mut asks = Vec::new();
        for (errand, ask) in self.errands() {
            if !errand.is_due(now) {
                continue;
            }
            let (lookup, find) = self.lookup(&ask);
            match lookup {
                Some(Lookup::At(node)) => asks.push((Coordinator::Node(*node), ask)),
                Some(lookup) if !is_due(lookup, now) => {}
                Some(_) | None => {
                    let known = asks.iter().any(|(_, other)| *other == find);
                    asks.extend((!known).then_some((Coordinator::Anyone, find)));
                }
            }
        }
        asks
    }

    /// When there is something more to be asked, or sent, than now.
    #[must_use]
    pub fn next_ask(&self, now: Instant) -> Option<Instant> {
        let errands = self.errands();
        let at = errands.iter().filter_map(|(errand, ask)| {
            let found = match self.lookup(ask).0 {
                Some(Lookup::Sought(lookup)) => lookup.next()?,
                Some(Lookup::At(_)) | None => Instant::ZERO,
            };
            Some(errand.next()?.max(found))
        });
        let held = self.state.open().and_then(|open| match open.opening {
            Opening::Held(until) => Some(until),
            _ => None,
        });
        at.chain(held).filter(|at| *at > now).min()
    }

    /// The coordinator that answers, and the request that finds it.
    fn lookup(&self, ask: &Ask) -> (Option<&Lookup>, Ask) {
        match ask {
            Ask::CommitOffsets(_, _, offsets) => {
                let group = &offsets.group.group;
                (self.groups.get(group), Ask::FindGroup(Arc::clone(group)))
            }
            _ => (Some(&self.coordinator), Ask::FindCoordinator),
        }
    }

    /// All that the present state wants to have asked, one of a kind.
    fn errands(&self) -> Vec<(&Errand, Ask)> {
        match &self.state {
            State::Initializing(Initializing { previous, errand, .. }) => {
                vec![(errand, Ask::InitProducerId(*previous))]
            }
            State::Ending(Ending { identity, protocol, direction, errand, .. }) => {
                let commit = *direction == Direction::Commit;
                vec![(errand, Ask::EndTxn { identity: *identity, protocol: *protocol, commit })]
            }
            State::Inquiring(Inquiring { errand, .. })
            | State::Checking(Checking { errand, .. }) => vec![(errand, Ask::Describe)],
            State::Open(open) if !self.is_aborting() => open_errands(open),
            State::Draining(draining) if !self.is_aborting() => open_errands(&draining.open),
            _ => Vec::new(),
        }
    }

    /// The request was handed to a connection.
    pub fn asked(&mut self, id: AskId, ask: &Ask) {
        match ask {
            Ask::FindCoordinator => {
                if let Lookup::Sought(errand) = &mut self.coordinator {
                    errand.asked(id);
                }
            }
            Ask::FindGroup(group) => {
                let lookup = self.groups.entry(Arc::clone(group)).or_default();
                if let Lookup::Sought(errand) = lookup {
                    errand.asked(id);
                }
            }
            ask => {
                self.involve(ask);
                if let Some(errand) = self.errand_mut(ask) {
                    errand.asked(id);
                }
            }
        }
    }

    /// The coordinator may know of the transaction from here on.
    fn involve(&mut self, ask: &Ask) {
        let Some(open) = self.state.open_mut() else { return };
        match ask {
            Ask::AddPartitions(_, places) => {
                open.involved = Involved::Perhaps;
                for place in places {
                    open.partitions.insert(*place, Enrolment::Asked);
                }
            }
            Ask::AddOffsets(..) | Ask::CommitOffsets(..) => open.involved = Involved::Perhaps,
            _ => {}
        }
    }

    /// The errand that an ask of the present state belongs to.
    pub(super) fn errand_mut(&mut self, ask: &Ask) -> Option<&mut Errand> {
        match (&mut self.state, ask) {
            (State::Initializing(state), Ask::InitProducerId(_)) => Some(&mut state.errand),
            (State::Ending(state), Ask::EndTxn { .. }) => Some(&mut state.errand),
            (State::Inquiring(state), Ask::Describe) => Some(&mut state.errand),
            (State::Checking(state), Ask::Describe) => Some(&mut state.errand),
            (state, Ask::AddPartitions(..)) => state.open_mut().map(|open| &mut open.adding),
            (state, Ask::AddOffsets(..) | Ask::CommitOffsets(..)) => {
                let offsets = state.open_mut()?.offsets.front_mut()?;
                match (&mut offsets.step, ask) {
                    (Step::AddGroup(errand), Ask::AddOffsets(..))
                    | (Step::Commit(errand), Ask::CommitOffsets(..)) => Some(errand),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Partitions to be taken in, and the first of the offsets: they go one after another.
fn open_errands(open: &Open) -> Vec<(&Errand, Ask)> {
    let mut errands = Vec::new();
    let wanted = open.wanted();
    if !wanted.is_empty() {
        errands.push((&open.adding, Ask::AddPartitions(open.identity, wanted)));
    }
    if let Some(Offsets { offsets, step, .. }) = open.offsets.front() {
        let group = Arc::clone(&offsets.group.group);
        errands.push(match step {
            Step::AddGroup(errand) => (errand, Ask::AddOffsets(open.identity, group)),
            Step::Commit(errand) => {
                let offsets = Arc::clone(offsets);
                (errand, Ask::CommitOffsets(open.identity, open.protocol, offsets))
            }
        });
    }
    errands
}
