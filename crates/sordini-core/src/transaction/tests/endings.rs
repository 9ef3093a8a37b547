//! How transactions end, and what is known of it.

use super::*;

/// One that waits for the answer to its EndTxn.
fn ending(protocol: Protocol, commit: bool) -> (Desk, TransactionNumber, Waiter, Ask) {
    let mut desk = Desk::ready(protocol);
    let number = desk.begin();
    desk.write();
    let waiter = match commit {
        true => desk.commit(number),
        false => {
            let waiter = desk.waiter(60);
            desk.transactions.abort(number, AbortCause::Requested, Some(waiter));
            waiter
        }
    };
    desk.drained(false);
    (desk, number, waiter, end(identity(7, 0), protocol, commit))
}

fn committed(fatal: bool) -> Option<(TransactionOutcome, bool)> {
    Some((TransactionOutcome::Committed, fatal))
}

fn unknown(fatal: bool) -> Option<(TransactionOutcome, bool)> {
    Some((TransactionOutcome::Unknown, fatal))
}

fn aborted_fatally() -> Option<(TransactionOutcome, bool)> {
    Some((TransactionOutcome::Aborted(AbortCause::Coordinator), true))
}

fn described(state: &str, identity: ProducerIdentity) -> Answer {
    Answer::Described(Described { state: state.to_owned(), identity })
}

#[test]
fn in_the_old_protocol_one_epoch_serves_many_transactions() {
    let (mut desk, _, waiter, ask) = ending(Protocol::One, true);
    desk.give(&ask, Answer::Done(None));
    assert_eq!(desk.outcome(waiter), committed(false));
    desk.begin();
    assert_eq!(desk.identity(), identity(7, 0));
}

#[test]
fn in_the_new_protocol_each_transaction_has_its_epoch() {
    let (mut desk, _, waiter, ask) = ending(Protocol::Two, true);
    desk.give(&ask, Answer::Done(Some(identity(8, 0))));
    assert_eq!(desk.outcome(waiter), committed(false));
    desk.begin();
    assert_eq!(desk.identity(), identity(8, 0));
}

/// The second transaction of a producer is aborted while its coordinator may still write the end of
/// the first.
fn aborting_soon_after() -> (Desk, Waiter, Ask) {
    let (mut desk, _, _, ask) = ending(Protocol::Two, true);
    desk.give(&ask, Answer::Done(Some(identity(7, 1))));
    let number = desk.begin();
    desk.write();
    let waiter = desk.waiter(60);
    desk.transactions.abort(number, AbortCause::Requested, Some(waiter));
    desk.drained(false);
    (desk, waiter, end(identity(7, 1), Protocol::Two, false))
}

#[test]
fn an_end_that_is_refused_while_the_one_before_is_written_is_asked_for_again() {
    let (mut desk, waiter, ask) = aborting_soon_after();
    for state in ["PrepareCommit", "PrepareCommit", "CompleteCommit"] {
        desk.refuse(&ask, ErrorCode::ProducerFenced);
        desk.give(&Ask::Describe, described(state, identity(7, 1)));
        assert_eq!((desk.asks(), desk.outcome(waiter)), (vec![], None), "not in a loop");
        desk.wait();
    }
    desk.give(&ask, Answer::Done(Some(identity(7, 2))));
    let aborted = TransactionOutcome::Aborted(AbortCause::Requested);
    assert_eq!(desk.outcome(waiter), Some((aborted, false)));
    desk.begin();
    assert_eq!(desk.identity(), identity(7, 2));
}

#[test]
fn an_end_is_not_asked_for_again_once_the_id_is_another_s_or_the_answers_contradict_each_other() {
    let (mut desk, waiter, ask) = aborting_soon_after();
    desk.refuse(&ask, ErrorCode::ProducerFenced);
    desk.give(&Ask::Describe, described("PrepareCommit", identity(7, 2)));
    assert_eq!(desk.outcome(waiter).map(|(_, fatal)| fatal), Some(true));

    let (mut desk, waiter, ask) = aborting_soon_after();
    for _ in 0..4 {
        assert_eq!(desk.outcome(waiter), None);
        desk.refuse(&ask, ErrorCode::ProducerFenced);
        desk.give(&Ask::Describe, described("CompleteCommit", identity(7, 1)));
        desk.wait();
    }
    assert_eq!(desk.outcome(waiter).map(|(_, fatal)| fatal), Some(true));
}

#[test]
fn a_transaction_without_records_needs_no_coordinator() {
    for protocol in [Protocol::One, Protocol::Two] {
        let mut desk = Desk::ready(protocol);
        let number = desk.begin();
        let waiter = desk.commit(number);
        desk.drained(false);
        assert_eq!(desk.outcome(waiter), committed(false));
        assert_eq!(desk.asks(), []);
        desk.begin();
    }
}

/// E4: once asked to commit, it is never asked to abort, however long nobody answers.
#[test]
fn a_commit_without_an_answer_is_asked_for_again_and_nothing_else() {
    for protocol in [Protocol::One, Protocol::Two] {
        let (mut desk, number, waiter, ask) = ending(protocol, true);
        let find = Ask::FindCoordinator;
        for answer in [lost(), Answer::Refused(ErrorCode::UnknownServerError)] {
            desk.give(&ask, answer.clone());
            desk.wait();
            if answer == lost() {
                desk.give(&find, Answer::Coordinator(2));
            }
            assert_eq!(desk.asks(), std::slice::from_ref(&ask));
        }
        // Who waits is told that it is not known, and may ask again.
        desk.now = waiter.deadline;
        desk.transactions.on_deadline(desk.now, &Obstacle::NoAnswer, None);
        assert_eq!(desk.outcome(waiter), unknown(false));
        let again = desk.waiter(60);
        desk.transactions.resolve(number, again);
        let abort = desk.waiter(60);
        desk.transactions.abort(number, AbortCause::Requested, Some(abort));
        assert_eq!(desk.asks(), std::slice::from_ref(&ask));
        let next = (protocol == Protocol::Two).then(|| identity(7, 1));
        desk.give(&ask, Answer::Done(next));
        assert_eq!(desk.outcome(again), committed(false));
        assert_eq!(desk.outcome(abort), committed(false));
    }
}

/// E1: a commit that was asked for twice may arrive a second time, in the next transaction.
#[test]
fn in_the_old_protocol_a_repeated_end_is_followed_by_a_new_epoch() {
    let (mut desk, number, _, ask) = ending(Protocol::One, true);
    desk.lose(&ask);
    desk.wait();
    desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
    desk.give(&ask, Answer::Done(None));
    let waiter = desk.waiter(60);
    desk.transactions.begin(waiter);
    assert_eq!(desk.reply(waiter), None);
    desk.give(&Ask::InitProducerId(Some(identity(7, 0))), Answer::Identity(identity(7, 1)));
    assert_eq!(desk.reply(waiter), Some(Reply::Begun(Ok(number.next()))));
}

/// E1, E2: what may still arrive would join the next transaction, or open one that nobody ends. The
/// end comes first: an InitProducerId of a fenced producer would abort its successor's transaction.
#[test]
fn in_the_old_protocol_a_new_epoch_follows_at_once_where_something_may_still_arrive() {
    for (commit, gaps) in [(false, false), (false, true), (true, false)] {
        let mut desk = Desk::ready(Protocol::One);
        let number = desk.begin();
        desk.write();
        if !gaps {
            desk.transactions.straggles();
        }
        match commit {
            true => drop(desk.commit(number)),
            false => desk.transactions.abort(number, AbortCause::Requested, None),
        }
        desk.drained(gaps);
        desk.give(&end(identity(7, 0), Protocol::One, commit), Answer::Done(None));
        let ask = Ask::InitProducerId(Some(identity(7, 0)));
        assert_eq!(desk.asks(), std::slice::from_ref(&ask), "without a begin");
        desk.lose(&ask);
        desk.wait();
        desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
        desk.give(&ask, Answer::Identity(identity(7, 1)));
        desk.begin();
        assert_eq!(desk.identity(), identity(7, 1));
    }
}

/// E20: who was fenced learns it from the end, and takes nothing from its successor.
#[test]
fn a_fenced_producer_never_asks_for_another_epoch() {
    let mut desk = Desk::ready(Protocol::One);
    let number = desk.begin();
    desk.write();
    desk.transactions.straggles();
    desk.transactions.abort(number, AbortCause::Requested, None);
    desk.drained(true);
    desk.refuse(&end(identity(7, 0), Protocol::One, false), ErrorCode::ProducerFenced);
    desk.give(&Ask::Describe, described("Ongoing", identity(7, 2)));
    assert_eq!(desk.fatal().and_then(|error| error.fenced), Some(FencedBy::AnotherInstance));
    assert_eq!(desk.asks(), []);
}

/// The new protocol fences them with the end itself.
#[test]
fn in_the_new_protocol_stragglers_need_no_epoch_of_their_own() {
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    desk.write();
    desk.transactions.straggles();
    desk.transactions.abort(number, AbortCause::Requested, None);
    desk.drained(true);
    let next = Answer::Done(Some(identity(7, 1)));
    desk.give(&end(identity(7, 0), Protocol::Two, false), next);
    desk.begin();
    assert_eq!(desk.identity(), identity(7, 1));
}

#[test]
fn a_broker_that_asks_for_the_abort_gets_it() {
    let (mut desk, _, waiter, ask) = ending(Protocol::Two, true);
    desk.refuse(&ask, ErrorCode::TransactionAbortable);
    let abort = end(identity(7, 0), Protocol::Two, false);
    desk.give(&abort, Answer::Done(Some(identity(7, 1))));
    let code = ErrorCode::TransactionAbortable;
    let cause = AbortCause::Refused { api: ApiKey::EndTxn, code };
    assert_eq!(desk.outcome(waiter), Some((TransactionOutcome::Aborted(cause), false)));
}

/// Had it been committed, the answer would be success.
#[test]
fn a_wrong_state_means_that_it_was_not_committed() {
    for in_doubt in [false, true] {
        for protocol in [Protocol::One, Protocol::Two] {
            let (mut desk, _, waiter, ask) = ending(protocol, true);
            if in_doubt {
                desk.lose(&ask);
                desk.wait();
                desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
            }
            desk.refuse(&ask, ErrorCode::InvalidTxnState);
            let aborted = TransactionOutcome::Aborted(AbortCause::Coordinator);
            assert_eq!(desk.outcome(waiter), Some((aborted, false)));
            assert_eq!(desk.asks(), [Ask::InitProducerId(Some(identity(7, 0)))]);
        }
    }
}

/// E5, E13, E20: the coordinator is asked who it was; then the producer is done, and never takes
/// the id back.
#[test]
fn a_fenced_producer_is_done_and_says_by_whom() {
    let cases = [
        ("CompleteAbort", identity(7, 1), FencedBy::AnotherInstance),
        ("PrepareAbort", identity(7, 1), FencedBy::AnotherInstance),
        ("Ongoing", identity(7, 0), FencedBy::Untold),
        ("Empty", identity(7, 2), FencedBy::AnotherInstance),
        ("Ongoing", identity(7, 1), FencedBy::AnotherInstance),
        ("Empty", identity(9, 0), FencedBy::AnotherInstance),
    ];
    for (state, now, by) in cases {
        for code in [ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch] {
            let (mut desk, _, waiter, ask) = ending(Protocol::Two, true);
            desk.refuse(&ask, code);
            assert_eq!(desk.outcome(waiter), None);
            desk.give(&Ask::Describe, described(state, now));
            let cause = AbortCause::Refused { api: ApiKey::EndTxn, code };
            assert_eq!(desk.outcome(waiter), Some((TransactionOutcome::Aborted(cause), true)));
            assert_eq!(desk.fatal().and_then(|error| error.fenced), Some(by));
            let begin = desk.waiter(60);
            desk.transactions.begin(begin);
            let reply = desk.reply(begin);
            let Some(Reply::Begun(Err(TransactionError::Fatal(_)))) = reply else {
                panic!("{reply:?}")
            };
            assert_eq!(desk.asks(), []);
        }
    }
}

/// KIP-360: a coordinator that raised the epoch to abort what it found open, and died or asked for
/// patience, refuses the repetition of the very request that made it do so.
#[test]
fn a_repeated_request_for_an_epoch_that_is_refused_is_not_told_as_another_instance_s_doing() {
    let cases = [
        (Some(lost()), identity(7, 1), FencedBy::PerhapsItself),
        (
            Some(Answer::Refused(ErrorCode::ConcurrentTransactions)),
            identity(7, 1),
            FencedBy::PerhapsItself,
        ),
        (Some(Answer::Refused(ErrorCode::NotCoordinator)), identity(7, 2), FencedBy::PerhapsItself),
        (
            Some(Answer::Refused(ErrorCode::UnknownServerError)),
            identity(7, 0),
            FencedBy::PerhapsItself,
        ),
        // No request of one producer raises it so far, or replaces an id that has epochs left.
        (Some(lost()), identity(7, 3), FencedBy::AnotherInstance),
        (Some(lost()), identity(9, 0), FencedBy::AnotherInstance),
        // It was the first, or the others can't have arrived.
        (None, identity(7, 1), FencedBy::AnotherInstance),
        (
            Some(Answer::Lost { begun: false, obstacle: Obstacle::NoAnswer }),
            identity(7, 1),
            FencedBy::AnotherInstance,
        ),
    ];
    for (before, now, by) in cases {
        let mut desk = raising();
        if let Some(answer) = before.clone() {
            desk.give(&Ask::InitProducerId(Some(identity(7, 0))), answer);
            find(&mut desk);
        }
        desk.refuse(&Ask::InitProducerId(Some(identity(7, 0))), ErrorCode::ProducerFenced);
        desk.give(&Ask::Describe, described("CompleteAbort", now));
        let error = desk.fatal().expect("it is done");
        assert_eq!(error.fenced, Some(by), "{before:?} {now:?}");
        let told = error.to_string().contains("an earlier request of this producer");
        assert_eq!(told, by == FencedBy::PerhapsItself, "{error}");
    }
    // A coordinator that tells nothing leaves all of it open.
    for (before, by) in [(Some(lost()), FencedBy::PerhapsItself), (None, FencedBy::Untold)] {
        let mut desk = raising();
        if let Some(answer) = before {
            desk.give(&Ask::InitProducerId(Some(identity(7, 0))), answer);
            find(&mut desk);
        }
        desk.refuse(&Ask::InitProducerId(Some(identity(7, 0))), ErrorCode::ProducerFenced);
        desk.give(&Ask::Describe, Answer::Unspoken);
        assert_eq!(desk.fatal().and_then(|error| error.fenced), Some(by));
    }
}

/// One that asks for a new epoch after (7, 0).
fn raising() -> Desk {
    let (mut desk, _, _, ask) = ending(Protocol::One, true);
    desk.refuse(&ask, ErrorCode::InvalidTxnState);
    assert_eq!(desk.asks(), [Ask::InitProducerId(Some(identity(7, 0)))]);
    desk
}

/// The coordinator is found again, if it is looked for.
fn find(desk: &mut Desk) {
    desk.wait();
    if desk.asks() == [Ask::FindCoordinator] {
        desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
    }
    if desk.asks().is_empty() {
        desk.wait();
    }
}

/// What is open for too long is aborted by its coordinator.
#[test]
fn a_producer_whose_transaction_was_overdue_was_fenced_by_its_coordinator() {
    for now in [identity(7, 1), identity(7, 2)] {
        let (mut desk, _, _, ask) = ending(Protocol::One, true);
        desk.now = desk.now.saturating_add(Duration::from_secs(61));
        desk.refuse(&ask, ErrorCode::ProducerFenced);
        desk.give(&Ask::Describe, described("CompleteAbort", now));
        assert_eq!(desk.fatal().and_then(|error| error.fenced), Some(FencedBy::Coordinator));
    }
}

/// E15, P16: what is not known stays so, whatever fails while it is asked for.
#[test]
fn a_commit_in_doubt_is_not_told_as_aborted_when_the_coordinator_can_not_be_found() {
    let (mut desk, _, waiter, ask) = ending(Protocol::Two, true);
    desk.lose(&ask);
    desk.wait();
    desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
    desk.refuse(&ask, ErrorCode::ProducerFenced);
    desk.lose(&Ask::Describe);
    desk.wait();
    desk.refuse(&Ask::FindCoordinator, ErrorCode::TransactionalIdAuthorizationFailed);
    assert_eq!(desk.outcome(waiter), unknown(true));
    let first = desk.fatal();
    desk.transactions.refused(ErrorCode::ClusterAuthorizationFailed);
    assert_eq!(desk.fatal(), first, "the first cause stays");
}

/// The outcome is read before anything is asked that would change it.
#[test]
fn a_commit_in_doubt_whose_producer_was_fenced_is_looked_up() {
    use Protocol::{One, Two};
    let cases = [
        (One, "CompleteCommit", identity(7, 0), committed(true)),
        (One, "PrepareCommit", identity(7, 0), committed(true)),
        (One, "CompleteCommit", identity(7, 1), unknown(true)),
        (One, "Empty", identity(7, 1), unknown(true)),
        // It is open, and the answers contradict each other.
        (Two, "Ongoing", identity(7, 0), unknown(true)),
        (Two, "PrepareCommit", identity(7, 1), committed(true)),
        (Two, "CompleteCommit", identity(7, 1), committed(true)),
        (Two, "CompleteCommit", identity(7, 2), unknown(true)),
        (Two, "CompleteAbort", identity(7, 1), aborted_fatally()),
        (One, "CompleteAbort", identity(7, 1), unknown(true)),
        (Two, "Empty", identity(7, 1), unknown(true)),
    ];
    for (protocol, state, now, expected) in cases {
        let (mut desk, _, waiter, ask) = ending(protocol, true);
        desk.lose(&ask);
        desk.wait();
        desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
        desk.refuse(&ask, ErrorCode::ProducerFenced);
        desk.give(&Ask::Describe, described(state, now));
        assert_eq!(desk.outcome(waiter), expected, "{protocol:?} {state} {now:?}");
    }
}

#[test]
fn a_coordinator_that_tells_nothing_leaves_a_commit_in_doubt_unknown() {
    for answer in [Answer::Unspoken, Answer::Refused(ErrorCode::TransactionalIdNotFound)] {
        let (mut desk, _, waiter, ask) = ending(Protocol::One, true);
        desk.lose(&ask);
        desk.wait();
        desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
        desk.refuse(&ask, ErrorCode::InvalidProducerIdMapping);
        desk.give(&Ask::Describe, answer);
        assert_eq!(desk.outcome(waiter), unknown(true));
    }
    // Nor is it asked for ever.
    let (mut desk, _, waiter, ask) = ending(Protocol::One, true);
    desk.refuse(&ask, ErrorCode::ProducerFenced);
    for _ in 0..3 {
        desk.refuse(&Ask::Describe, ErrorCode::CoordinatorLoadInProgress);
        desk.wait();
    }
    let code = ErrorCode::ProducerFenced;
    let cause = AbortCause::Refused { api: ApiKey::EndTxn, code };
    assert_eq!(desk.outcome(waiter), Some((TransactionOutcome::Aborted(cause), true)));
}

/// An abort is one whatever the coordinator says: nobody asked it to commit.
#[test]
fn an_abort_is_never_in_doubt() {
    let (mut desk, _, waiter, ask) = ending(Protocol::One, false);
    desk.lose(&ask);
    desk.wait();
    desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
    desk.refuse(&ask, ErrorCode::ProducerFenced);
    desk.give(&Ask::Describe, described("Empty", identity(7, 2)));
    let aborted = TransactionOutcome::Aborted(AbortCause::Requested);
    assert_eq!(desk.outcome(waiter), Some((aborted, true)));
}

#[test]
fn an_abort_that_nobody_confirms_is_told_as_unfinished_and_goes_on() {
    let (mut desk, number, waiter, ask) = ending(Protocol::Two, false);
    desk.lose(&ask);
    desk.now = waiter.deadline;
    let silent = Obstacle::Silent { tried: "a:1".into() };
    desk.transactions.on_deadline(desk.now, &silent, None);
    let reply = desk.reply(waiter);
    let Some(Reply::Ended(Err(TransactionError::Unfinished { transaction, last, .. }))) = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!((transaction, last), (number, silent));
    desk.give(&Ask::FindCoordinator, Answer::Coordinator(1));
    desk.give(&ask, Answer::Done(Some(identity(7, 1))));
    desk.begin();
}

#[test]
#[should_panic(expected = "S9")]
fn nothing_ends_with_requests_on_their_way() {
    let mut desk = Desk::ready(Protocol::One);
    let number = desk.begin();
    desk.transactions.enroll((0, 0));
    desk.send(&Ask::AddPartitions(identity(7, 0), vec![(0, 0)]));
    desk.commit(number);
    desk.drained(false);
}

#[test]
fn what_is_open_when_the_producer_closes_is_aborted() {
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    desk.write();
    desk.transactions.close();
    assert!(!desk.transactions.is_idle());
    let waiter = desk.waiter(60);
    desk.transactions.resolve(number, waiter);
    desk.drained(false);
    let next = Answer::Done(Some(identity(7, 1)));
    desk.give(&end(identity(7, 0), Protocol::Two, false), next);
    assert!(desk.transactions.is_idle());
    let aborted = TransactionOutcome::Aborted(AbortCause::Closed);
    assert_eq!(desk.outcome(waiter), Some((aborted, false)));
}

#[test]
fn whoever_waits_when_the_producer_goes_away_is_told_what_will_become_of_it() {
    let (mut desk, _, commit, ask) = ending(Protocol::Two, true);
    desk.send(&ask);
    desk.transactions.abandon();
    assert_eq!(desk.outcome(commit), unknown(false));

    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    desk.write();
    let commit = desk.commit(number);
    desk.transactions.abandon();
    let aborted = TransactionOutcome::Aborted(AbortCause::Closed);
    assert_eq!(desk.outcome(commit), Some((aborted, false)));
}
