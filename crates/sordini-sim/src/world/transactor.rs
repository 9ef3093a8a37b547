//! Applications that write in transactions: they begin, send, commit, abort, forget, give up
//! calls, fall asleep, and ask for what can't be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sordini_core::accumulator::Provision;
use sordini_core::accumulator::number::TransactionNumber;
use sordini_core::producer::io::{Command, Finished, Input, Token, Trace};
use sordini_core::time::Instant;
use sordini_core::transaction::error::{Ended, FatalError, TransactionError, TransactionOutcome};
use sordini_core::transaction::offsets::{GroupMetadata, GroupOffsets, OffsetToCommit};

use super::{Event, World};
use crate::book::{Answer, Call, CallKind, Fatal, Instance, SentOffsets, Told, Use};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::transactions::{INPUT_PARTITIONS, INPUTS, group};

/// A transaction that the application holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Of the book's transactions.
    pub(super) place: usize,
    pub(super) number: TransactionNumber,
}

/// Where an application stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// The producer is not initialised.
    Unborn,
    /// A call is waited for.
    Waiting(Token, CallKind),
    /// No transaction is open, as far as it knows.
    Idle,
    /// Records are sent; so many bursts are left.
    Open(Held, u32),
    /// Nothing more comes of it.
    Over,
}

/// What one producer's application knows of transactions.
pub(super) struct Transactor {
    /// The number of the transactional id.
    pub(super) kin: u16,
    rng: Rng,
    pub(super) stage: Stage,
    /// The transaction before.
    last: Option<Held>,
    /// A transaction that it wants to know the outcome of.
    doubt: Option<Held>,
    /// Calls that lack their answers, of the book's.
    calls: BTreeMap<Token, usize>,
}

impl Transactor {
    pub(super) fn new(plan: &Plan, number: u16, kin: u16) -> Self {
        Self {
            kin,
            rng: Rng::stream(plan.seed, 400 + u64::from(number)),
            stage: Stage::Unborn,
            last: None,
            doubt: None,
            calls: BTreeMap::new(),
        }
    }

    /// How many calls lack their answers.
    pub(super) fn unanswered(&self) -> usize {
        self.calls.len()
    }

    /// The process is gone, and what it waited for with it.
    pub(super) fn die(&mut self) {
        self.stage = Stage::Over;
        self.calls.clear();
    }
}

fn fatal(error: &FatalError) -> Fatal {
    if error.fenced.is_some() { Fatal::Fenced } else { Fatal::Other }
}

/// What an error tells.
fn refused(error: &TransactionError) -> (Told, Option<Fatal>) {
    match error {
        TransactionError::Fatal(error) => (Told::Refused(error.to_string()), Some(fatal(error))),
        TransactionError::MustAbort(_) => (Told::MustAbort, None),
        TransactionError::TimedOut { .. } | TransactionError::Unfinished { .. } => {
            (Told::Late, None)
        }
        error => (Told::Refused(error.to_string()), None),
    }
}

fn outcome(outcome: &TransactionOutcome) -> Told {
    match outcome {
        TransactionOutcome::Committed => Told::Committed,
        TransactionOutcome::Aborted(_) => Told::Aborted,
        TransactionOutcome::Unknown => Told::Unknown,
    }
}

/// What an answer tells.
fn told(result: &Finished) -> (Told, Option<Fatal>) {
    match result {
        Finished::Initialized(Ok(())) | Finished::OffsetsSent(Ok(())) => (Told::Done, None),
        Finished::Begun(Ok(_)) => (Told::Begun, None),
        Finished::Ended(Ok(Ended { outcome: of, fatal: error, .. })) => {
            (outcome(of), error.as_deref().map(fatal))
        }
        Finished::Initialized(Err(error))
        | Finished::OffsetsSent(Err(error))
        | Finished::Begun(Err(error))
        | Finished::Ended(Err(error)) => refused(error),
        Finished::Flushed | Finished::Closed => (Told::Done, None),
    }
}

impl World<'_> {
    /// What a record of this producer goes with.
    pub(super) fn provision(&self, client: u16) -> Provision {
        match self.transactors.get(usize::from(client)).map(|it| it.stage) {
            Some(Stage::Open(held, _)) => Provision::new(0).within(held.number),
            _ => Provision::new(0),
        }
    }

    /// A record of this producer belongs to its open transaction.
    pub(super) fn note_record(&mut self, client: u16, id: u64) {
        if let Some(Stage::Open(held, _)) =
            self.transactors.get(usize::from(client)).map(|it| it.stage)
            && let Some(transaction) = self.book.transactions.get_mut(held.place)
        {
            transaction.records.push(id);
        }
    }

    /// An application does its next step.
    pub(super) fn transact(&mut self, client: u16) {
        let at = usize::from(client);
        let plan = self.plan;
        let Some(habits) = &plan.transactions else { return };
        if self.healed || self.clients[at].is_gone() || self.applications[at].close.is_some() {
            return;
        }
        if let Some((when, patience)) = plan.workload.close
            && client == 0
            && self.now >= Instant::from_millis(when)
        {
            let until = self.now.saturating_add(Duration::from_millis(patience));
            self.close(client, until);
            return;
        }
        let transactor = &mut self.transactors[at];
        let mut pause = transactor.rng.micros(0..=habits.pause * 2);
        let chance = |transactor: &mut Transactor, rate: u16| transactor.rng.chance(rate.into());
        match transactor.stage {
            Stage::Over => return self.replace(client),
            Stage::Unborn => self.initialize(client),
            Stage::Waiting(_, kind) => {
                if chance(transactor, habits.cancelled / 10) {
                    transactor.stage =
                        if kind == CallKind::Init { Stage::Unborn } else { Stage::Idle };
                    self.coverage.meet("app: gave up a call", 1);
                }
            }
            Stage::Idle => self.on_idle(client),
            Stage::Open(held, bursts) => {
                if chance(transactor, habits.stalls) {
                    let timeout = Duration::from_millis(habits.timeout);
                    pause = timeout + transactor.rng.micros(0..=habits.timeout * 1000);
                    self.coverage.meet("app: slept in a transaction", 1);
                }
                self.on_open(client, held, bursts);
            }
        }
        self.after(pause, Event::Work(client));
    }

    fn on_idle(&mut self, client: u16) {
        let at = usize::from(client);
        let Some(habits) = &self.plan.transactions else { return };
        let transactor = &mut self.transactors[at];
        if transactor.rng.chance(habits.misuse.into()) {
            self.misuse(client);
        }
        let transactor = &mut self.transactors[at];
        if let Some(doubt) = transactor.doubt.take()
            && transactor.rng.chance(600)
        {
            self.resolve(client, doubt);
        } else {
            self.begin_transaction(client);
        }
    }

    fn on_open(&mut self, client: u16, held: Held, bursts: u32) {
        let at = usize::from(client);
        let plan = self.plan;
        let Some(habits) = &plan.transactions else { return };
        if bursts == 0 {
            return self.end(client, held);
        }
        let transactor = &mut self.transactors[at];
        transactor.stage = Stage::Open(held, bursts - 1);
        let most = u64::from(plan.workload.burst.min(12));
        let count = transactor.rng.within(1..=most);
        let offsets = transactor.rng.chance(habits.offsets.into());
        let flush = transactor.rng.chance(plan.workload.flushes.into());
        if !self.applications[at].is_waiting() {
            (0..count).for_each(|_| self.send_one(client));
        }
        if offsets {
            self.send_offsets(client, held, Use::Proper);
        }
        if flush {
            self.flush(client);
        }
    }

    /// An application comes to the end of its transaction.
    fn end(&mut self, client: u16, held: Held) {
        let at = usize::from(client);
        let Some(habits) = &self.plan.transactions else { return };
        let transactor = &mut self.transactors[at];
        transactor.last = Some(held);
        let what = transactor.rng.below(1000);
        let (aborts, dropped) = (u64::from(habits.aborts), u64::from(habits.dropped));
        let cancelled = transactor.rng.chance(habits.cancelled.into());
        if what < u64::from(habits.forgotten) {
            transactor.stage = Stage::Idle;
            self.coverage.meet("app: forgot a transaction", 1);
        } else if what < u64::from(habits.forgotten) + dropped {
            self.drop_guard(client, held);
        } else {
            let abort = what >= 1000 - aborts;
            let kind = if abort { CallKind::Abort } else { CallKind::Commit };
            self.end_by(client, held, kind);
            if cancelled && let Stage::Waiting(..) = self.transactors[at].stage {
                self.coverage.meet("app: gave up a call", 1);
                self.transactors[at].stage = Stage::Idle;
                self.transactors[at].doubt = Some(held);
            }
        }
    }

    /// A guard is dropped: an abort that nobody waits for.
    fn drop_guard(&mut self, client: u16, held: Held) {
        self.coverage.meet("app: dropped a guard", 1);
        self.note_end(held.place, CallKind::Abort);
        self.transactors[usize::from(client)].stage = Stage::Idle;
        let (token, deadline) = (None, self.now);
        let transaction = held.number;
        let command = Command::AbortTransaction { token, transaction, deadline };
        self.feed(client, Input::Command(command));
    }

    fn note_end(&mut self, place: usize, kind: CallKind) {
        let Some(transaction) = self.book.transactions.get_mut(place) else { return };
        transaction.end.get_or_insert(self.now);
        if kind == CallKind::Commit {
            transaction.commit.get_or_insert(self.now);
        }
    }

    // ---- calls

    /// Notes a call, and makes it. The stage is that of waiting for it, if it is to be waited for.
    fn call(
        &mut self,
        client: u16,
        kind: CallKind,
        held: Option<Held>,
        used: Use,
        command: impl FnOnce(Token, Instant) -> Command,
    ) -> Token {
        let at = usize::from(client);
        let patience = match &self.plan.transactions {
            Some(habits) if !self.healed => self.transactors[at].rng.pick(&habits.patience),
            _ => 30_000,
        };
        let deadline = self.now.saturating_add(Duration::from_millis(patience));
        let it = &mut self.clients[at];
        let token = Token(it.next_token);
        it.next_token += 1;
        self.transactors[at].calls.insert(token, self.book.calls.len());
        let transaction = held.map(|held| held.place);
        let answer = None;
        let call =
            Call { at: self.now, producer: client, kind, transaction, used, deadline, answer };
        self.book.calls.push(call);
        if used == Use::Proper && kind != CallKind::SendOffsets {
            self.transactors[at].stage = Stage::Waiting(token, kind);
        }
        self.feed(client, Input::Command(command(token, deadline)));
        token
    }

    pub(super) fn initialize(&mut self, client: u16) {
        self.call(client, CallKind::Init, None, Use::Proper, |token, deadline| {
            Command::InitTransactions { token, deadline }
        });
    }

    pub(super) fn begin_transaction(&mut self, client: u16) {
        self.call(client, CallKind::Begin, None, Use::Proper, |token, deadline| {
            Command::BeginTransaction { token, deadline }
        });
    }

    /// Commits or aborts.
    pub(super) fn end_by(&mut self, client: u16, held: Held, kind: CallKind) {
        self.note_end(held.place, kind);
        let transaction = held.number;
        self.call(client, kind, Some(held), Use::Proper, |token, deadline| match kind {
            CallKind::Commit => Command::CommitTransaction { token, transaction, deadline },
            _ => Command::AbortTransaction { token: Some(token), transaction, deadline },
        });
    }

    fn resolve(&mut self, client: u16, held: Held) {
        self.coverage.meet("app: asked for an outcome", 1);
        let transaction = held.number;
        self.call(client, CallKind::Resolve, Some(held), Use::Proper, |token, deadline| {
            Command::ResolveTransaction { token, transaction, deadline }
        });
    }

    pub(super) fn send_offsets(&mut self, client: u16, held: Held, used: Use) {
        let kin = self.transactors[usize::from(client)].kin;
        self.book.next_offset += 1;
        let offset = self.book.next_offset;
        let all = (0..INPUT_PARTITIONS).map(|at| (INPUTS.into(), at, OffsetToCommit::new(offset)));
        let offsets =
            GroupOffsets { group: GroupMetadata::new(&group(kin)), offsets: all.collect() };
        let (offsets, transaction) = (Arc::new(offsets), held.number);
        let call = self.book.calls.len();
        if used == Use::Proper
            && let Some(transaction) = self.book.transactions.get_mut(held.place)
        {
            transaction.offsets.push(SentOffsets { offset, call });
        }
        self.call(client, CallKind::SendOffsets, Some(held), used, |token, deadline| {
            Command::SendOffsets { token, transaction, offsets, deadline }
        });
    }

    /// Asks for what can't be.
    fn misuse(&mut self, client: u16) {
        let at = usize::from(client);
        let Some(last) = self.transactors[at].last else { return };
        // What was forgotten may be open still.
        if self.book.transactions.get(last.place).is_none_or(|it| it.end.is_none()) {
            return;
        }
        self.coverage.meet("app: asked for what can't be", 1);
        match self.transactors[at].rng.below(3) {
            0 => self.send_offsets(client, last, Use::Misuse),
            1 => {
                // A record for a transaction that is over.
                let stage = self.transactors[at].stage;
                self.transactors[at].stage = Stage::Open(last, 0);
                self.send_one(client);
                self.transactors[at].stage = stage;
            }
            _ => {
                let transaction = last.number;
                self.note_end(last.place, CallKind::Abort);
                let kind = CallKind::Abort;
                self.call(client, kind, Some(last), Use::Misuse, |token, deadline| {
                    Command::AbortTransaction { token: Some(token), transaction, deadline }
                });
            }
        }
    }

    // ---- answers

    /// A call is answered.
    pub(super) fn note_answer(&mut self, client: u16, token: Token, result: &Finished) {
        let at = usize::from(client);
        let Some(transactor) = self.transactors.get_mut(at) else { return };
        let Some(place) = transactor.calls.remove(&token) else { return };
        let (told, fatal) = told(result);
        self.hash.number(0x77 ^ place as u64);
        let call = &mut self.book.calls[place];
        let (kind, transaction) = (call.kind, call.transaction);
        call.answer = Some(Answer { at: self.now, told: told.clone(), fatal });
        if kind != CallKind::SendOffsets
            && let Some(of) = transaction.and_then(|at| self.book.transactions.get_mut(at))
        {
            of.told.push((self.now, told.clone()));
        }
        let mut begun = None;
        if let Finished::Begun(Ok(number)) = result {
            let place = self.book.transaction(client, number.get(), self.now);
            begun = Some(Held { place, number: *number });
        }
        if kind == CallKind::Init && told == Told::Done {
            self.book.instances[at].initialized.get_or_insert(self.now);
        }
        self.coverage.told(kind, &told, fatal);
        self.go_on(client, token, (kind, &told), begun, fatal.is_some());
    }

    fn go_on(
        &mut self,
        client: u16,
        token: Token,
        answer: (CallKind, &Told),
        begun: Option<Held>,
        fatal: bool,
    ) {
        let transactor = &mut self.transactors[usize::from(client)];
        let waited = matches!(transactor.stage, Stage::Waiting(of, _) if of == token);
        if fatal {
            transactor.stage = Stage::Over;
        }
        if !waited || fatal {
            return;
        }
        transactor.stage = match (answer, begun) {
            (_, Some(held)) => {
                let most = self.plan.transactions.as_ref().map_or(1, |habits| habits.bursts);
                Stage::Open(held, transactor.rng.within(0..=u64::from(most)) as u32)
            }
            ((CallKind::Init, told), _) if *told != Told::Done => Stage::Unborn,
            ((CallKind::Commit | CallKind::Abort, Told::Unknown | Told::Late), _) => {
                transactor.doubt = transactor.last;
                Stage::Idle
            }
            _ => Stage::Idle,
        };
    }

    /// What a producer tells of its transactions by itself.
    pub(super) fn note_transaction(&mut self, client: u16, trace: &Trace) {
        let at = usize::from(client);
        if self.transactors.get(at).is_none() {
            return;
        }
        match trace {
            Trace::ProducerId { producer_id, epoch } => {
                self.book.instances[at].identity.get_or_insert((*producer_id, *epoch));
            }
            Trace::TransactionBegun(number) => {
                self.book.transaction(client, number.get(), self.now);
            }
            Trace::TransactionEnded { transaction, outcome: of } => {
                self.coverage.ended(of);
                let place = self.book.transaction(client, transaction.get(), self.now);
                self.book.transactions[place].told.push((self.now, outcome(of)));
            }
            _ => {}
        }
    }

    // ---- lives

    /// A producer that is done: its application makes a new one, unless somebody has.
    fn replace(&mut self, client: u16) {
        let kin = self.transactors[usize::from(client)].kin;
        if self.instance_of(kin).is_none_or(|newest| newest == client) {
            self.spawn(kin);
        }
    }

    /// The newest producer of a transactional id whose process runs.
    pub(super) fn instance_of(&self, kin: u16) -> Option<u16> {
        if self.plan.transactions.is_none() {
            return Some(kin).filter(|at| usize::from(*at) < self.clients.len());
        }
        let of_it = |(at, it): (usize, &Transactor)| it.kin == kin && !self.clients[at].is_gone();
        let all = self.transactors.iter().enumerate();
        all.filter(|it| of_it(*it)).map(|(at, _)| at as u16).next_back()
    }

    /// A process with this transactional id starts.
    pub(super) fn spawn(&mut self, kin: u16) -> u16 {
        let number = self.clients.len() as u16;
        let config = self.config_of(kin);
        let client = super::producers::Client::new(self.plan, &config, number);
        client.clock.set(self.now);
        self.clients.push(client);
        self.applications.push(super::Application::new(self.plan, number));
        self.transactors.push(Transactor::new(self.plan, number, kin));
        self.net.kin.push(kin);
        self.book.instances.push(Instance::new(kin));
        self.after(Duration::from_millis(1), Event::Work(number));
        number
    }

    /// A process dies.
    pub(super) fn crash(&mut self, client: u16) {
        let at = usize::from(client);
        if self.clients[at].is_gone() {
            return;
        }
        self.hash.number(0xdd00 + u64::from(client));
        let (conns, mut lost) = self.clients[at].die();
        for id in conns {
            self.net.producer_closes(self.now, id);
            self.net.forget_if_over(id);
        }
        self.take_scheduled();
        let order = |id: &u64| Some(self.history.get(*id)?.accepted.as_ref()?.order);
        lost.sort_by_key(order);
        for id in lost {
            let text = "the process died".to_owned();
            let done = crate::history::Done::Failed { definite: false, text };
            if !self.history.complete(id, self.now, done) {
                self.violation("P2", format!("record {id} had its outcome, and was waited for"));
            }
        }
        self.applications[at].die(&mut self.history);
        self.transactors[at].die();
        self.book.instances[at].died = Some(self.now);
    }
}
