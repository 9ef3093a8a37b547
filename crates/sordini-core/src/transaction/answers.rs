//! What coordinators answered.

use sordini_protocol::{ApiKey, ErrorCode, mutant};

use crate::acks::retry::Rng;
use crate::error::Obstacle;
use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;
use crate::transaction::asks::Ask;
use crate::transaction::ends::{outcome, rest};
use crate::transaction::errand::{AskId, Bounds, Errand};
use crate::transaction::error::{AbortCause, FatalError, FencedBy, TransactionOutcome};
use crate::transaction::reaction::Reaction;
use crate::transaction::state::{
    Attempts, Checking, Direction, Ending, Enrolment, Initializing, Inquiring, Place, Protocol,
    Question, Ready, State, Step, Stragglers, Worn,
};
use crate::transaction::{Effect, Lookup, Reply, Transactions};

/// An answer, or what came in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The coordinator is this node.
    Coordinator(i32),
    /// The producer's identity.
    Identity(ProducerIdentity),
    /// What became of each partition.
    Partitions(Vec<(Place, ErrorCode)>),
    /// It is done; EndTxn tells the identity of the next transaction (KIP-890).
    Done(Option<ProducerIdentity>),
    /// The transaction, as its coordinator sees it.
    Described(Described),
    /// It was not done.
    Refused(ErrorCode),
    /// The connection broke.
    Lost {
        /// A byte of the request was on its way.
        begun: bool,
        /// What happened.
        obstacle: Obstacle,
    },
    /// The broker does not speak of such things.
    Unspoken,
}

/// A transaction, as its coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The name of its state.
    pub state: String,
    /// Who writes under the transactional id now.
    pub identity: ProducerIdentity,
}

/// What the time is, and how to pause.
pub struct Moment<'a> {
    /// Now.
    pub now: Instant,
    /// The settings' pauses.
    pub bounds: Bounds,
    /// For jitter.
    pub rng: &'a mut Rng,
}

/// A coordinator that does not tell who fenced the producer is not asked more often.
const INQUIRIES: u32 = 3;

/// The end that it was writing may be written by the time it is asked; not so again and again.
const CONTRADICTIONS: u32 = 3;

impl Transactions {
    /// An answer to an earlier ask.
    pub fn answered(&mut self, id: AskId, ask: &Ask, answer: Answer, mut moment: Moment<'_>) {
        match &answer {
            Answer::Lost { obstacle, .. } => self.obstacle = obstacle.clone(),
            Answer::Refused(code) => self.obstacle = Obstacle::Broker(*code),
            _ => self.obstacle = Obstacle::NoAnswer,
        }
        match ask {
            Ask::FindCoordinator | Ask::FindGroup(_) => self.on_found(id, ask, answer, &mut moment),
            ask => self.on_answer(id, ask, answer, &mut moment),
        }
    }

    /// The node's connection is gone, or its address: another may be the coordinator by now.
    pub fn node_lost(&mut self, node: i32) {
        for lookup in self.groups.values_mut().chain([&mut self.coordinator]) {
            if matches!(lookup, Lookup::At(at) if *at == node) {
                *lookup = Lookup::default();
            }
        }
    }

    fn on_found(&mut self, id: AskId, ask: &Ask, answer: Answer, moment: &mut Moment<'_>) {
        let lookup = match ask {
            Ask::FindGroup(group) => self.groups.entry(group.clone()).or_default(),
            _ => &mut self.coordinator,
        };
        let Lookup::Sought(errand) = lookup else { return };
        if !errand.settle(id) {
            return;
        }
        let code = match answer {
            Answer::Coordinator(node) => {
                *lookup = Lookup::At(node);
                return;
            }
            Answer::Refused(code) => code,
            Answer::Unspoken => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::NetworkException,
        };
        errand.again(moment.now, moment.bounds, moment.rng);
        match Reaction::of(ApiKey::FindCoordinator, code) {
            Reaction::Fatal if matches!(ask, Ask::FindCoordinator) => {
                self.die(ApiKey::FindCoordinator, code);
            }
            Reaction::Fatal | Reaction::Abort => {
                self.doom(AbortCause::Refused { api: ApiKey::FindCoordinator, code });
            }
            _ => {}
        }
    }

    fn on_answer(&mut self, id: AskId, ask: &Ask, answer: Answer, moment: &mut Moment<'_>) {
        if !self.errand_mut(ask).is_some_and(|errand| errand.settle(id)) {
            return;
        }
        let api = ask.api();
        match answer {
            Answer::Lost { begun, .. } => {
                self.on_lost(ask, begun);
                self.again(ask, moment);
            }
            Answer::Unspoken if api == ApiKey::DescribeTransactions => {
                self.on_described(None, moment);
            }
            Answer::Unspoken => self.react(ask, ErrorCode::UnsupportedVersion, moment),
            Answer::Refused(code) => self.react(ask, code, moment),
            Answer::Identity(identity) => {
                self.known_at = moment.now;
                self.on_identity(identity);
            }
            Answer::Partitions(results) => self.on_partitions(ask, &results, moment),
            Answer::Done(next) => {
                self.known_at = moment.now;
                if matches!(ask, Ask::EndTxn { .. }) {
                    self.opens_at = moment.now.saturating_add(self.pace.hold());
                }
                self.on_done(ask, next);
            }
            Answer::Described(described) => self.on_described(Some(&described), moment),
            Answer::Coordinator(_) => {}
        }
    }

    fn again(&mut self, ask: &Ask, moment: &mut Moment<'_>) {
        self.forget_asked();
        if let Some(errand) = self.errand_mut(ask) {
            errand.again(moment.now, moment.bounds, moment.rng);
        }
    }

    /// Partitions whose request came to nothing are wanted still.
    fn forget_asked(&mut self) {
        let Some(open) = self.state.open_mut().filter(|open| !open.adding.is_waiting()) else {
            return;
        };
        for enrolment in open.partitions.values_mut().filter(|at| **at == Enrolment::Asked) {
            *enrolment = Enrolment::Wanted;
        }
    }

    /// No answer will come to a request that may have been read.
    fn on_lost(&mut self, ask: &Ask, begun: bool) {
        self.forget_coordinator(ask);
        if !begun {
            return;
        }
        if mutant!(M20) {
            self.on_done(ask, None);
        }
        self.straggles();
        self.in_doubt();
    }

    /// Whoever was to answer is to be found anew.
    fn forget_coordinator(&mut self, ask: &Ask) {
        match ask {
            Ask::CommitOffsets(_, _, offsets) => {
                self.groups.remove(&offsets.group.group);
            }
            _ => self.coordinator = Lookup::default(),
        }
    }

    fn in_doubt(&mut self) {
        match &mut self.state {
            State::Ending(ending) => {
                ending.attempts = Attempts::InDoubt;
                if !mutant!(M36) {
                    ending.stragglers = Stragglers::Possible;
                }
            }
            State::Initializing(initializing) => initializing.attempts = Attempts::InDoubt,
            _ => {}
        }
    }

    fn react(&mut self, ask: &Ask, code: ErrorCode, moment: &mut Moment<'_>) {
        let api = ask.api();
        match Reaction::of(api, code) {
            Reaction::Fatal | Reaction::Fenced | Reaction::Abort | Reaction::WrongState
                if api == ApiKey::DescribeTransactions =>
            {
                self.on_described(None, moment);
            }
            Reaction::Done => {}
            Reaction::Again => self.again(ask, moment),
            Reaction::Soon => {
                self.forget_asked();
                if let State::Initializing(initializing) = &mut self.state {
                    // It may have raised the epoch to abort what it found open.
                    initializing.attempts = Attempts::InDoubt;
                }
                if let Some(errand) = self.errand_mut(ask) {
                    errand.again_soon(moment.now, moment.bounds, moment.rng);
                }
            }
            Reaction::AgainInDoubt => {
                self.in_doubt();
                self.again(ask, moment);
            }
            Reaction::Elsewhere => {
                self.in_doubt();
                self.again(ask, moment);
                self.forget_coordinator(ask);
            }
            Reaction::Abort => self.turn(AbortCause::Refused { api, code }, api, code),
            Reaction::WrongState => self.on_wrong_state(api, code),
            Reaction::Fenced => self.fence_or_die(api, code),
            Reaction::Fatal => self.die(api, code),
        }
        if matches!(&self.state, State::Inquiring(Inquiring { errand, .. }) if errand.failures() >= INQUIRIES)
        {
            self.on_described(None, moment);
        }
    }

    fn fence_or_die(&mut self, api: ApiKey, code: ErrorCode) {
        match self.state {
            State::Initializing(Initializing { previous: None, .. }) => self.die(api, code),
            _ => self.fence(api, code),
        }
    }

    /// A broker wants the transaction aborted.
    fn turn(&mut self, cause: AbortCause, api: ApiKey, code: ErrorCode) {
        match &mut self.state {
            // It did not commit, and asks to abort.
            State::Ending(ending)
                if ending.direction == Direction::Commit && ending.attempts == Attempts::Void =>
            {
                ending.direction = Direction::Abort(cause);
                ending.errand.done();
            }
            State::Ending(_) | State::Initializing(_) => self.die(api, code),
            _ => self.doom(cause),
        }
    }

    /// The coordinator knows of no such transaction, or of one that it is ending another way.
    fn on_wrong_state(&mut self, api: ApiKey, code: ErrorCode) {
        let mut concluded = None;
        self.step(|state, _| match state {
            // Whatever was asked before: had it been carried out, the answer would be success. So
            // it was aborted. What the coordinator did to the epoch is not known.
            State::Ending(Ending { number, identity, direction, .. }) => {
                let cause = match direction {
                    Direction::Commit => AbortCause::Coordinator,
                    Direction::Abort(cause) => cause,
                };
                concluded = Some((number, TransactionOutcome::Aborted(cause)));
                State::Worn(Worn { identity })
            }
            state => state,
        });
        match concluded {
            Some((number, outcome)) => self.conclude(number, outcome),
            None if self.state.open().is_some() => self.doom(AbortCause::Refused { api, code }),
            None => self.die(api, code),
        }
    }

    fn on_identity(&mut self, identity: ProducerIdentity) {
        self.step(|state, effects| {
            let State::Initializing(_) = state else { return state };
            effects.push(Effect::Identify(identity));
            State::Ready(Ready { identity, used: None })
        });
        for waiter in std::mem::take(&mut self.initializers) {
            self.answer(waiter, Reply::Initialized(Ok(())));
        }
    }

    fn on_partitions(
        &mut self,
        ask: &Ask,
        results: &[(Place, ErrorCode)],
        moment: &mut Moment<'_>,
    ) {
        let Some(open) = self.state.open_mut() else { return };
        let mut failed: Option<ErrorCode> = None;
        for (place, code) in results {
            match code {
                ErrorCode::None => {
                    open.partitions.insert(*place, Enrolment::Added);
                }
                // Refused for another partition's sake: that one's answer counts.
                ErrorCode::OperationNotAttempted => {}
                // What must not be tried again outweighs what may be.
                code if failed.is_none_or(ErrorCode::is_retriable) => failed = Some(*code),
                _ => {}
            }
        }
        self.forget_asked();
        let done = |(_, code): &(Place, ErrorCode)| *code == ErrorCode::None;
        let asked = match ask {
            Ask::AddPartitions(_, places) => places.len(),
            _ => 0,
        };
        match failed {
            Some(code) => {
                self.obstacle = Obstacle::Broker(code);
                self.react(ask, code, moment);
            }
            None if results.iter().filter(|result| done(result)).count() < asked => {
                self.again(ask, moment);
            }
            None => {
                if let Some(errand) = self.errand_mut(ask) {
                    errand.done();
                }
            }
        }
    }

    fn on_done(&mut self, ask: &Ask, next: Option<ProducerIdentity>) {
        match ask {
            Ask::AddOffsets(..) => {
                let front = self.state.open_mut().and_then(|open| open.offsets.front_mut());
                if let Some(offsets) = front {
                    offsets.step = Step::Commit(Errand::default());
                }
            }
            Ask::CommitOffsets(..) => {
                let done = self.state.open_mut().and_then(|open| open.offsets.pop_front());
                if let Some(waiter) = done.and_then(|offsets| offsets.waiter) {
                    self.answer(waiter, Reply::OffsetsSent(Ok(())));
                }
            }
            Ask::EndTxn { .. } => self.on_ended(next),
            _ => {}
        }
    }

    /// The coordinator has ended the transaction as it was asked to.
    fn on_ended(&mut self, next: Option<ProducerIdentity>) {
        let mut concluded = None;
        self.step(|state, effects| {
            let State::Ending(ending) = state else { return state };
            concluded = Some((ending.number, outcome(&ending.direction)));
            match (ending.protocol, next) {
                (Protocol::Two, Some(identity)) if identity != ending.identity => {
                    effects.push(Effect::Identify(identity));
                    State::Ready(Ready { identity, used: Some(Protocol::Two) })
                }
                // A new epoch is due with each transaction, and none was told.
                (Protocol::Two, _) => State::Worn(Worn { identity: ending.identity }),
                (Protocol::One, _) => rest(ending.identity, ending.protocol, ending.stragglers),
            }
        });
        if let Some((number, outcome)) = concluded {
            self.conclude(number, outcome);
        }
    }

    pub(super) fn die(&mut self, api: ApiKey, code: ErrorCode) {
        let number = self.state.transaction();
        // Unless somebody asked to commit it, its coordinator aborts it when its time is up.
        let outcome = self.outlook(AbortCause::Refused { api, code });
        let outcome = number.map(|number| (number, outcome));
        self.fail(FatalError { api, code, fenced: None }, outcome);
    }

    /// The coordinator said whose the id is, or that it can't tell.
    fn on_checked(&mut self, described: Option<&Described>, moment: &mut Moment<'_>) {
        let State::Checking(Checking { ready, ending, errand, .. }) = &mut self.state else {
            return;
        };
        // While the end of a transaction is written, the coordinator shows the identity from before.
        if described.is_some_and(|at| at.state.starts_with("Prepare")) {
            return errand.again_soon(moment.now, moment.bounds, moment.rng);
        }
        let identity = ready.identity;
        let (api, code) = (ApiKey::DescribeTransactions, ErrorCode::ProducerFenced);
        if let Some(at) = described.filter(|at| at.identity != identity) {
            let cause = AbortCause::Refused { api, code };
            let aborted = TransactionOutcome::Aborted(cause);
            let outcome = ending.as_ref().map(|(number, _)| (*number, aborted));
            let fenced = Some(fenced_by(identity, at, Overdue::No));
            return self.fail(FatalError { api, code, fenced }, outcome);
        }
        self.known_at = moment.now;
        let forgotten = self.obstacle == Obstacle::Broker(ErrorCode::TransactionalIdNotFound);
        let mut concluded = None;
        self.step(|state, _| {
            let State::Checking(Checking { ready, ending, stragglers, .. }) = state else {
                return state;
            };
            concluded = ending.map(|(number, direction)| (number, outcome(&direction)));
            match described {
                // A late request has begun a transaction that nobody knows of.
                Some(at) if at.state == "Ongoing" => State::Worn(Worn { identity }),
                // Forgotten, after a week without a transaction: it is taken up again.
                None if forgotten => State::Worn(Worn { identity }),
                _ if stragglers == Stragglers::Possible => State::Worn(Worn { identity }),
                _ => State::Ready(ready),
            }
        });
        if let Some((number, outcome)) = concluded {
            self.conclude(number, outcome);
        }
    }

    /// Goes on ending the transaction, if the id is this producer's still.
    ///
    /// In the new protocol a coordinator that is writing the end of one transaction answers
    /// PRODUCER_FENCED to the end of the next, though its epoch is the one that it just gave out. A
    /// transaction is ended so soon if it is aborted before a Produce of it was carried out.
    fn goes_back(&mut self, described: Option<&Described>, moment: &mut Moment<'_>) -> bool {
        let State::Inquiring(Inquiring { back: Some(ending), .. }) = &self.state else {
            return false;
        };
        let ours = described.filter(|at| at.identity == ending.identity);
        let Some(ours) = ours.filter(|_| ending.protocol == Protocol::Two) else { return false };
        let is_writing = ours.state.starts_with("Prepare");
        let is_written = ours.state.starts_with("Complete");
        let may_be_written = is_written && ending.contradictions < CONTRADICTIONS;
        if !is_writing && !may_be_written {
            return false;
        }
        self.step(|state, _| {
            let State::Inquiring(Inquiring { back: Some(mut ending), .. }) = state else {
                return state;
            };
            ending.contradictions += u32::from(!is_writing);
            ending.errand.again_soon(moment.now, moment.bounds, moment.rng);
            State::Ending(*ending)
        });
        true
    }

    /// The coordinator said what it knows, or did not.
    fn on_described(&mut self, described: Option<&Described>, moment: &mut Moment<'_>) {
        if matches!(self.state, State::Checking(_)) {
            return self.on_checked(described, moment);
        }
        if self.goes_back(described, moment) {
            return;
        }
        let State::Inquiring(inquiring) = &self.state else { return };
        let Inquiring { transaction, identity, protocol, began, refused, raises, .. } = inquiring;
        let outcome = transaction.as_ref().map(|(number, question)| {
            let outcome = match question {
                Question::Aborted(cause) => TransactionOutcome::Aborted(cause.clone()),
                Question::Committed => what_became(*identity, *protocol, described),
            };
            (*number, outcome)
        });
        let late = |began: &Instant| began.saturating_add(self.timeout) <= moment.now;
        let overdue = if began.as_ref().is_some_and(late) { Overdue::Yes } else { Overdue::No };
        let fenced = match described {
            _ if may_be_own(*identity, *raises, described) => FencedBy::PerhapsItself,
            Some(at) => fenced_by(*identity, at, overdue),
            None => FencedBy::Untold,
        };
        let fenced = Some(fenced);
        let (api, code) = *refused;
        self.fail(FatalError { api, code, fenced }, outcome);
    }
}

/// Was a transaction open for longer than its coordinator allows?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overdue {
    Yes,
    No,
}

fn is_commit(state: &str) -> bool {
    matches!(state, "PrepareCommit" | "CompleteCommit")
}

fn is_abort(state: &str) -> bool {
    matches!(state, "PrepareAbort" | "CompleteAbort" | "PrepareEpochFence")
}

/// What became of a transaction that was asked to be committed, by its state under `identity`, or
/// under the identity that its end gave out. Any other state is that of a later transaction, and
/// says nothing of this one.
fn what_became(
    identity: ProducerIdentity,
    protocol: Protocol,
    described: Option<&Described>,
) -> TransactionOutcome {
    let Some(Described { state, identity: now }) = described else {
        return TransactionOutcome::Unknown;
    };
    // In the new protocol the state under the transaction's own epoch is that of the one before.
    let is_ours = match protocol {
        Protocol::One => *now == identity,
        Protocol::Two => is_next(identity, *now),
    };
    match state {
        state if is_ours && is_commit(state) => TransactionOutcome::Committed,
        // There a commit would have raised the epoch first, and whatever came later raised it again.
        state if is_ours && protocol == Protocol::Two && is_abort(state) => {
            TransactionOutcome::Aborted(AbortCause::Coordinator)
        }
        _ => TransactionOutcome::Unknown,
    }
}

fn is_next(identity: ProducerIdentity, now: ProducerIdentity) -> bool {
    now.id == identity.id && Some(now.epoch) == identity.epoch.checked_add(1)
}

/// May a request of this producer's own have raised the epoch? A coordinator takes a request that
/// names the present epoch or the one before (KIP-360), so that one that is repeated is answered as
/// the first. But one that finds a transaction open, begun by a request that was late, raises the
/// epoch to abort it, keeps no epoch before that, and so refuses the repetition, as it refuses one
/// that comes after another instance's request.
fn may_be_own(identity: ProducerIdentity, raises: Attempts, described: Option<&Described>) -> bool {
    let Some(now) = described.map(|at| at.identity) else { return raises == Attempts::InDoubt };
    let raised = i32::from(now.epoch) - i32::from(identity.epoch);
    // An id whose epochs are used up is replaced.
    let replaced = now.id != identity.id && identity.epoch >= i16::MAX - 2;
    let by_so_little = now.id == identity.id && (0..=2).contains(&raised);
    raises == Attempts::InDoubt && (by_so_little || replaced)
}

/// A coordinator that aborts a transaction for its time raises the epoch by one, or by two in the
/// new protocol of Kafka up to 4.2, and keeps the id. Another instance that finds a transaction open
/// has it aborted in the same way first; but only what is open for too long is aborted by itself.
fn fenced_by(identity: ProducerIdentity, described: &Described, overdue: Overdue) -> FencedBy {
    let Described { state, identity: now } = described;
    let raised = i32::from(now.epoch) - i32::from(identity.epoch);
    let aborted = now.id == identity.id && (1..=2).contains(&raised) && is_abort(state);
    match overdue {
        _ if *now == identity => FencedBy::Untold,
        Overdue::Yes if aborted => FencedBy::Coordinator,
        _ => FencedBy::AnotherInstance,
    }
}
