//! Any answers, in any order: what must hold whatever coordinators say.

use super::*;
use crate::transaction::offsets::{GroupMetadata, OffsetToCommit};

const CODES: [ErrorCode; 14] = [
    ErrorCode::ConcurrentTransactions,
    ErrorCode::CoordinatorLoadInProgress,
    ErrorCode::NotCoordinator,
    ErrorCode::CoordinatorNotAvailable,
    ErrorCode::RequestTimedOut,
    ErrorCode::UnknownServerError,
    ErrorCode::UnknownTopicOrPartition,
    ErrorCode::InvalidTxnState,
    ErrorCode::TransactionAbortable,
    ErrorCode::TopicAuthorizationFailed,
    ErrorCode::ProducerFenced,
    ErrorCode::InvalidProducerEpoch,
    ErrorCode::InvalidProducerIdMapping,
    ErrorCode::InvalidTransactionTimeout,
];

/// A life of transactions, and what was really done.
struct Life {
    desk: Desk,
    /// Commands without an answer.
    waiting: Vec<(Waiter, Option<TransactionNumber>)>,
    on_way: Vec<(AskId, Ask, Option<TransactionNumber>)>,
    /// EndTxn's directions, for each transaction.
    asked: BTreeMap<TransactionNumber, Vec<bool>>,
    /// Those that a coordinator said it committed.
    committed: Vec<TransactionNumber>,
    open: Option<TransactionNumber>,
    epoch: i16,
}

impl Life {
    fn draw(&mut self, below: u64) -> u64 {
        self.desk.rng.below(below)
    }

    fn answer_to(&mut self, ask: &Ask) -> Answer {
        match self.draw(10) {
            0 => return lost(),
            1 => return Answer::Lost { begun: false, obstacle: Obstacle::NoAnswer },
            2 | 3 => {
                // The harsher ones are rarer: lives are to be long.
                let codes = if self.draw(20) == 0 { 14 } else { 10 };
                let at = self.draw(codes) as usize;
                return Answer::Refused(CODES[at]);
            }
            _ => {}
        }
        self.epoch = self.epoch.wrapping_add(1) & 0x3fff;
        match ask {
            Ask::FindCoordinator | Ask::FindGroup(_) => Answer::Coordinator(1),
            Ask::InitProducerId(_) => Answer::Identity(identity(7, self.epoch)),
            Ask::AddPartitions(_, places) => {
                let results = places.iter().map(|place| (*place, ErrorCode::None));
                Answer::Partitions(results.collect())
            }
            Ask::AddOffsets(..) | Ask::CommitOffsets(..) => Answer::Done(None),
            Ask::EndTxn { protocol, .. } => {
                let next = (*protocol == Protocol::Two).then(|| identity(7, self.epoch));
                Answer::Done(next)
            }
            Ask::Describe => {
                let now = match self.desk.transactions.state() {
                    State::Checking(checking) if self.epoch % 64 != 0 => checking.ready.identity,
                    _ => identity(7, self.epoch),
                };
                let state = "CompleteCommit".to_owned();
                Answer::Described(Described { state, identity: now })
            }
        }
    }

    fn command(&mut self) {
        let waiter = self.desk.waiter(20);
        let number = self.open;
        let transactions = &mut self.desk.transactions;
        match (number, self.desk.rng.below(6)) {
            (None, _) => {
                transactions.begin(waiter);
                self.waiting.push((waiter, None));
            }
            (Some(number), 0) => {
                transactions.abort(number, AbortCause::Requested, None);
                self.open = None;
            }
            (Some(number), 1..=3) => {
                transactions.commit(number, waiter);
                self.waiting.push((waiter, Some(number)));
                self.open = None;
            }
            (Some(number), 4) => {
                let group = GroupMetadata::new("g");
                let offsets = vec![("in".into(), 0, OffsetToCommit::new(1))];
                let offsets = Arc::new(GroupOffsets { group, offsets });
                transactions.send_offsets(number, offsets, waiter);
                self.waiting.push((waiter, None));
            }
            (Some(number), _) => {
                transactions.resolve(number, waiter);
                self.waiting.push((waiter, None));
            }
        }
    }

    fn step(&mut self) {
        self.desk.settle();
        match self.draw(12) {
            0 | 1 => self.command(),
            2 => {
                let place = (0, self.draw(4) as i32);
                self.desk.transactions.enroll(place);
                if self.desk.transactions.may_send(place) {
                    let now = self.desk.now;
                    self.desk.transactions.produced(now);
                }
            }
            3 if self.draw(8) == 0 => self.desk.transactions.batch_failed(&failure()),
            3 if self.draw(8) == 0 => self.desk.transactions.straggles(),
            3 if self.draw(8) == 0 => self.desk.transactions.node_lost(1),
            4 => self.desk.wait(),
            5 if self.desk.transactions.is_draining() => {
                let gaps = self.draw(3) == 0;
                self.desk.drained(gaps);
            }
            6..=8 => {
                for ask in self.desk.asks() {
                    let id = self.desk.send(&ask);
                    let of = self.desk.transactions.state().transaction();
                    if let (Ask::EndTxn { commit, .. }, Some(number)) = (&ask, of) {
                        self.asked.entry(number).or_default().push(*commit);
                    }
                    self.on_way.push((id, ask, of));
                }
            }
            _ if !self.on_way.is_empty() => {
                let at = self.draw(self.on_way.len() as u64) as usize;
                let (id, ask, of) = self.on_way.swap_remove(at);
                let answer = self.answer_to(&ask);
                if let (Ask::EndTxn { commit: true, .. }, Answer::Done(_)) = (&ask, &answer) {
                    self.committed.extend(of);
                }
                self.desk.answer(id, &ask, answer);
            }
            _ => {}
        }
        let now = self.desk.now;
        self.desk.transactions.on_deadline(now, &Obstacle::NoAnswer, None);
        self.desk.settle();
        if let State::Open(open) = self.desk.transactions.state() {
            self.open = Some(open.number);
        }
    }

    /// What was told is what was done.
    fn check(&self) {
        for (waiter, number) in &self.waiting {
            let Some(reply) = self.desk.replies.get(&waiter.token) else { continue };
            if let (Reply::Ended(Ok(ended)), Some(number)) = (reply, number) {
                assert_eq!(ended.transaction, *number);
                let done = self.committed.contains(number);
                match &ended.outcome {
                    TransactionOutcome::Committed => {
                        let looked_up = ended.fatal.is_some();
                        let empty = !self.asked.contains_key(number);
                        let sound = done || looked_up || empty;
                        assert!(sound, "P16: {number} was told as committed");
                    }
                    TransactionOutcome::Aborted(_) => {
                        assert!(!done, "P16: {number} was told as aborted");
                    }
                    TransactionOutcome::Unknown => {}
                }
            }
        }
        for (number, directions) in &self.asked {
            let back = directions.windows(2).any(|pair| !pair[0] && pair[1]);
            assert!(!back, "{number} was to be committed after it was to be aborted");
        }
    }
}

#[test]
fn whatever_coordinators_answer_outcomes_are_true_and_everybody_is_answered_once() {
    let mut fatal = 0;
    let mut ended = 0;
    for seed in 0..300 {
        let protocol = if seed % 2 == 0 { Protocol::One } else { Protocol::Two };
        let mut desk = Desk::ready(protocol);
        desk.rng = Rng::new(seed);
        let mut life = Life {
            desk,
            waiting: Vec::new(),
            on_way: Vec::new(),
            asked: BTreeMap::new(),
            committed: Vec::new(),
            open: None,
            epoch: 1,
        };
        for step in 0..600 {
            if step % 150 == 149 && life.draw(2) == 0 {
                life.desk.protocol = match life.desk.protocol {
                    Protocol::One => Protocol::Two,
                    Protocol::Two => Protocol::One,
                };
            }
            life.step();
        }
        life.check();
        fatal += u32::from(life.desk.fatal().is_some());
        ended += life.committed.len();
        // Everybody who waits is answered by the deadline, whatever the state.
        life.desk.now = life.desk.now.saturating_add(Duration::from_secs(30));
        let now = life.desk.now;
        life.desk.transactions.on_deadline(now, &Obstacle::NoAnswer, None);
        life.desk.settle();
        for (waiter, _) in &life.waiting {
            assert!(life.desk.replies.contains_key(&waiter.token), "seed {seed}: {waiter:?}");
        }
    }
    assert!((20..290).contains(&fatal), "{fatal} of 300 lives ended fatally");
    assert!(ended > 500, "only {ended} commits");
}
