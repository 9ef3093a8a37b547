//! What happens between the beginning and the end.

use super::*;

#[test]
fn the_old_protocol_takes_partitions_in_before_their_batches_may_go() {
    let mut desk = Desk::ready(Protocol::One);
    desk.begin();
    desk.transactions.enroll((0, 0));
    desk.transactions.enroll((0, 1));
    assert!(!desk.transactions.may_send((0, 0)));
    let ask = Ask::AddPartitions(identity(7, 0), vec![(0, 0), (0, 1)]);
    let id = desk.send(&ask);
    // One that is enrolled meanwhile goes with the next request.
    desk.transactions.enroll((1, 0));
    assert_eq!(desk.asks(), []);
    let added = vec![((0, 0), ErrorCode::None), ((0, 1), ErrorCode::None)];
    desk.answer(id, &ask, Answer::Partitions(added));
    assert!(desk.transactions.may_send((0, 0)) && desk.transactions.may_send((0, 1)));
    assert!(!desk.transactions.may_send((1, 0)));
    assert_eq!(desk.asks(), [Ask::AddPartitions(identity(7, 0), vec![(1, 0)])]);
}

#[test]
fn the_new_protocol_asks_nobody_before_batches_go() {
    let mut desk = Desk::ready(Protocol::Two);
    desk.begin();
    desk.transactions.enroll((0, 0));
    assert!(desk.transactions.may_send((0, 0)));
    assert_eq!(desk.asks(), []);
}

/// KIP-890: a broker that is given a batch before the markers of the transaction before are there
/// makes it wait for 20 ms.
#[test]
fn the_new_protocol_holds_a_first_batch_for_the_markers_once_it_has_met_them_twice() {
    let mut desk = Desk::ready(Protocol::Two);
    let mut epoch = 0;
    // From one transaction to the next: its first batch is answered after so many milliseconds.
    let mut through = |desk: &mut Desk, millis: u64| {
        let number = desk.begin();
        desk.transactions.enroll((0, 0));
        desk.transactions.enroll((0, 1));
        let began = desk.now;
        if !desk.transactions.may_send((0, 0)) {
            assert_eq!(desk.transactions.release(desk.now), []);
            desk.wait();
            assert_eq!(desk.transactions.release(desk.now), [(0, 0), (0, 1)]);
        }
        assert!(desk.transactions.may_send((0, 0)) && desk.transactions.may_send((0, 1)));
        let held = desk.now.saturating_since(began);
        desk.transactions.produced(desk.now);
        desk.now = desk.now.saturating_add(Duration::from_millis(millis));
        desk.transactions.heard(desk.now, pace::Met::Nothing);
        let ended = desk.commit(number);
        desk.drained(false);
        let next = Answer::Done(Some(identity(7, epoch + 1)));
        desk.give(&end(identity(7, epoch), Protocol::Two, true), next);
        assert_eq!(desk.outcome(ended), Some((TransactionOutcome::Committed, false)));
        epoch += 1;
        held
    };
    assert_eq!(through(&mut desk, 2), Duration::ZERO);
    for _ in 0..2 {
        assert_eq!(through(&mut desk, 22), Duration::ZERO);
    }
    let held = through(&mut desk, 2);
    assert!(held > Duration::ZERO && held < Duration::from_millis(2), "{held:?}");
    // An application that takes its time waits for nothing.
    desk.now = desk.now.saturating_add(Duration::from_millis(5));
    assert_eq!(through(&mut desk, 2), Duration::ZERO);
}

/// E8: a partition that was refused for another's sake is asked for again, and one that was taken
/// in stays so.
#[test]
fn a_failed_add_touches_only_its_own_partitions() {
    let mut desk = Desk::ready(Protocol::One);
    desk.begin();
    desk.write();
    desk.transactions.enroll((0, 1));
    desk.transactions.enroll((0, 2));
    let results = vec![
        ((0, 1), ErrorCode::UnknownTopicOrPartition),
        ((0, 2), ErrorCode::OperationNotAttempted),
    ];
    let ask = Ask::AddPartitions(identity(7, 0), vec![(0, 1), (0, 2)]);
    desk.give(&ask, Answer::Partitions(results));
    assert!(desk.transactions.may_send((0, 0)));
    assert!(!desk.transactions.may_send((0, 1)) && !desk.transactions.may_send((0, 2)));
    assert_eq!(desk.asks(), [], "not without a pause");
    desk.wait();
    // An answer without a result is asked for again as well.
    desk.give(&ask, Answer::Partitions(vec![((0, 1), ErrorCode::None)]));
    assert_eq!(desk.asks(), [], "not without a pause");
    desk.wait();
    assert_eq!(desk.asks(), [Ask::AddPartitions(identity(7, 0), vec![(0, 2)])]);
}

/// E7: it takes milliseconds until the transaction before is complete, and is never asked in a
/// loop.
#[test]
fn a_transaction_that_is_being_completed_is_waited_for_shortly() {
    let mut desk = Desk::ready(Protocol::One);
    desk.begin();
    desk.transactions.enroll((0, 0));
    let ask = Ask::AddPartitions(identity(7, 0), vec![(0, 0)]);
    let concurrent = vec![((0, 0), ErrorCode::ConcurrentTransactions)];
    let asked_at = desk.now;
    desk.give(&ask, Answer::Partitions(concurrent));
    assert_eq!(desk.asks(), []);
    desk.wait();
    let pause = desk.now.saturating_since(asked_at);
    assert!(pause >= Duration::from_millis(1) && pause < Duration::from_millis(50), "{pause:?}");
    assert_eq!(desk.asks(), [ask]);
}

/// E6: a coordinator that moved is found again before it is asked again, and an answer of the
/// earlier one counts for nothing.
#[test]
fn a_coordinator_that_moved_is_found_again() {
    let mut desk = Desk::ready(Protocol::One);
    desk.begin();
    desk.transactions.enroll((0, 0));
    let ask = Ask::AddPartitions(identity(7, 0), vec![(0, 0)]);
    desk.give(&ask, Answer::Partitions(vec![((0, 0), ErrorCode::NotCoordinator)]));
    desk.wait();
    let find = desk.send(&Ask::FindCoordinator);
    assert_eq!(desk.asks(), [], "one look-up at a time");
    desk.answer(AskId(find.0 + 1000), &Ask::FindCoordinator, Answer::Coordinator(9));
    assert_eq!(desk.asks(), [], "an answer to nothing counts for nothing");
    desk.answer(find, &Ask::FindCoordinator, Answer::Coordinator(2));
    let asks = desk.transactions.asks(desk.now);
    assert_eq!(asks, [(Coordinator::Node(2), ask)]);
}

#[test]
fn a_lost_node_is_no_coordinator_any_more() {
    let mut desk = Desk::ready(Protocol::Two);
    desk.transactions.node_lost(2);
    let number = desk.begin();
    desk.write();
    desk.transactions.node_lost(1);
    desk.commit(number);
    desk.drained(false);
    assert_eq!(desk.asks(), [Ask::FindCoordinator]);
}

fn offsets(group: &str) -> Arc<GroupOffsets> {
    let at = offsets::OffsetToCommit::new(5);
    let group = offsets::GroupMetadata::new(group);
    Arc::new(GroupOffsets { group, offsets: vec![("in".into(), 0, at)] })
}

#[test]
fn offsets_are_committed_by_their_group_and_before_the_transaction_ends() {
    for protocol in [Protocol::One, Protocol::Two] {
        let mut desk = Desk::ready(protocol);
        let number = desk.begin();
        let waiter = desk.waiter(60);
        desk.transactions.send_offsets(number, offsets("g"), waiter);
        let commit = desk.commit(number);
        assert!(!desk.transactions.is_draining(), "offsets are on their way");
        if protocol == Protocol::One {
            let add = Ask::AddOffsets(identity(7, 0), "g".into());
            desk.give(&add, Answer::Done(None));
        }
        desk.give(&Ask::FindGroup("g".into()), Answer::Coordinator(3));
        let ask = Ask::CommitOffsets(identity(7, 0), protocol, offsets("g"));
        assert_eq!(desk.transactions.asks(desk.now), [(Coordinator::Node(3), ask.clone())]);
        desk.refuse(&ask, ErrorCode::NotCoordinator);
        desk.wait();
        desk.give(&Ask::FindGroup("g".into()), Answer::Coordinator(1));
        desk.give(&ask, Answer::Done(None));
        assert_eq!(desk.reply(waiter), Some(Reply::OffsetsSent(Ok(()))));
        assert!(desk.transactions.is_draining());
        desk.drained(false);
        let next = (protocol == Protocol::Two).then(|| identity(7, 1));
        desk.give(&end(identity(7, 0), protocol, true), Answer::Done(next));
        assert_eq!(desk.outcome(commit), Some((TransactionOutcome::Committed, false)));
    }
}

#[test]
fn offsets_that_a_group_refuses_leave_only_the_abort() {
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    let waiter = desk.waiter(60);
    desk.transactions.send_offsets(number, offsets("g"), waiter);
    desk.give(&Ask::FindGroup("g".into()), Answer::Coordinator(3));
    let ask = Ask::CommitOffsets(identity(7, 0), Protocol::Two, offsets("g"));
    desk.refuse(&ask, ErrorCode::IllegalGeneration);
    let cause =
        AbortCause::Refused { api: ApiKey::TxnOffsetCommit, code: ErrorCode::IllegalGeneration };
    let error = TransactionError::MustAbort(cause.clone());
    assert_eq!(desk.reply(waiter), Some(Reply::OffsetsSent(Err(error.clone()))));
    let later = desk.waiter(60);
    desk.transactions.send_offsets(number, offsets("g"), later);
    assert_eq!(desk.reply(later), Some(Reply::OffsetsSent(Err(error))));
    let commit = desk.commit(number);
    desk.drained(false);
    let next = Some(identity(7, 1));
    desk.give(&end(identity(7, 0), Protocol::Two, false), Answer::Done(next));
    assert_eq!(desk.outcome(commit), Some((TransactionOutcome::Aborted(cause), false)));
}

/// E3, E15: whatever fails later, the first cause is told, and a commit is an abort.
#[test]
fn a_failed_record_makes_the_commit_an_abort() {
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    desk.write();
    desk.transactions.batch_failed(&failure());
    assert!(!desk.transactions.may_send((0, 0)));
    desk.transactions.doom(AbortCause::TopicGone { topic: "t".into() });
    desk.transactions.enroll((0, 5));
    assert!(!desk.transactions.may_send((0, 5)));
    let commit = desk.commit(number);
    desk.drained(true);
    assert_eq!(desk.asks(), [end(identity(7, 0), Protocol::Two, false)]);
    let next = Some(identity(7, 1));
    desk.give(&end(identity(7, 0), Protocol::Two, false), Answer::Done(next));
    let cause = AbortCause::Delivery(failure());
    assert_eq!(desk.outcome(commit), Some((TransactionOutcome::Aborted(cause), false)));
}

/// A record that fails while the others are on their way to be committed.
#[test]
fn a_commit_whose_last_record_fails_is_an_abort() {
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    desk.write();
    let commit = desk.commit(number);
    desk.transactions.batch_failed(&failure());
    assert!(desk.effects.iter().any(|effect| matches!(effect, Effect::Seal)));
    desk.drained(true);
    let next = Some(identity(7, 1));
    desk.give(&end(identity(7, 0), Protocol::Two, false), Answer::Done(next));
    let cause = AbortCause::Delivery(failure());
    assert_eq!(desk.outcome(commit), Some((TransactionOutcome::Aborted(cause), false)));
}

/// E14: the coordinator would abort it soon, and fence the producer with it; so it is aborted here,
/// though its application sleeps.
#[test]
fn a_transaction_that_is_open_too_long_is_aborted_here_first() {
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    desk.write();
    assert_eq!(desk.transactions.next_deadline(), Some(Instant::from_nanos(60_000_000_000)));
    desk.now = desk.now.saturating_add(Duration::from_secs(60));
    desk.transactions.on_deadline(desk.now, &Obstacle::NoAnswer, None);
    desk.drained(false);
    let next = Some(identity(7, 1));
    desk.give(&end(identity(7, 0), Protocol::Two, false), Answer::Done(next));
    let cause = AbortCause::TimedOut { after: Duration::from_secs(60), lacked: Lacked::Nothing };
    let late = desk.waiter(60);
    desk.transactions.send_offsets(number, offsets("g"), late);
    let must = TransactionError::MustAbort(cause.clone());
    assert_eq!(desk.reply(late), Some(Reply::OffsetsSent(Err(must))));
    let commit = desk.commit(number);
    assert_eq!(desk.outcome(commit), Some((TransactionOutcome::Aborted(cause), false)));
}

/// Who only hears that the time was up looks for the mistake in the application.
#[test]
fn a_transaction_whose_time_is_up_says_what_it_still_waited_for() {
    let gone = Obstacle::Broker(ErrorCode::UnknownTopicOrPartition);
    let late = |desk: &mut Desk, last: Option<Obstacle>| {
        let records = last.map(|last| Unwritten { topic: "t".into(), partition: 3, last });
        desk.now = desk.now.saturating_add(Duration::from_secs(60));
        let silent = Obstacle::Silent { tried: "a:1".into() };
        desk.transactions.on_deadline(desk.now, &silent, records);
        match desk.transactions.state() {
            State::Draining(Draining { direction: Direction::Abort(cause), .. }) => cause.clone(),
            other => panic!("{other:?}"),
        }
    };
    // A partition's batches met an error.
    let mut desk = Desk::ready(Protocol::Two);
    desk.begin();
    desk.write();
    let cause = late(&mut desk, Some(gone.clone())).to_string();
    let said = "records for t-3 were not acknowledged: the broker's last answer was \
                UNKNOWN_TOPIC_OR_PARTITION";
    assert!(cause.contains("transaction.timeout.ms") && cause.ends_with(said), "{cause}");

    // They were never sent, since the coordinator met it.
    let mut desk = Desk::ready(Protocol::One);
    desk.begin();
    desk.transactions.enroll((0, 3));
    let ask = Ask::AddPartitions(desk.identity(), vec![(0, 3)]);
    let refused = vec![((0, 3), ErrorCode::UnknownTopicOrPartition)];
    desk.give(&ask, Answer::Partitions(refused));
    let cause = late(&mut desk, Some(Obstacle::NotEnrolled)).to_string();
    assert!(cause.ends_with(said), "{cause}");

    // Its offsets wait for a coordinator.
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    let waiter = desk.waiter(90);
    desk.transactions.send_offsets(number, offsets("g"), waiter);
    let cause = late(&mut desk, None).to_string();
    let said = "its offsets were not taken in: no broker answered in time (tried a:1)";
    assert!(cause.ends_with(said), "{cause}");
}

/// P17: the call that meets the fence says so.
#[test]
fn offsets_of_a_producer_that_was_fenced_are_told_that_it_is_done() {
    let mut desk = Desk::ready(Protocol::One);
    let number = desk.begin();
    let waiter = desk.waiter(60);
    desk.transactions.send_offsets(number, offsets("g"), waiter);
    desk.refuse(&Ask::AddOffsets(identity(7, 0), "g".into()), ErrorCode::ProducerFenced);
    let later = desk.waiter(60);
    desk.transactions.send_offsets(number, offsets("g"), later);
    assert_eq!(desk.reply(waiter), None);
    let theirs = Described { state: "Empty".to_owned(), identity: identity(7, 2) };
    desk.give(&Ask::Describe, Answer::Described(theirs));
    for waiter in [waiter, later] {
        let reply = desk.reply(waiter);
        assert!(
            matches!(reply, Some(Reply::OffsetsSent(Err(TransactionError::Fatal(_))))),
            "{reply:?}"
        );
    }
}

/// The topic that comes under its name may have records of earlier transactions of the same epoch,
/// and would take what begins at sequence 0 again for a duplicate of theirs (A6).
#[test]
fn a_topic_that_is_gone_costs_the_epoch_and_the_transaction_that_may_write_there() {
    let mut desk = Desk::ready(Protocol::One);
    let number = desk.begin();
    desk.write();
    desk.transactions.topic_gone(5, &"other".into());
    assert!(!desk.transactions.may_send((0, 0)), "it could write there yet");
    desk.commit(number);
    desk.drained(false);
    desk.give(&end(identity(7, 0), Protocol::One, false), Answer::Done(None));
    desk.give(&Ask::InitProducerId(Some(identity(7, 0))), Answer::Identity(identity(7, 1)));
    let number = desk.begin();
    desk.write();
    desk.commit(number);
    desk.transactions.topic_gone(5, &"other".into());
    assert!(desk.transactions.may_send((0, 0)), "it writes nothing there any more");
    desk.drained(false);
    desk.give(&end(identity(7, 1), Protocol::One, true), Answer::Done(None));
    desk.give(&Ask::InitProducerId(Some(identity(7, 1))), Answer::Identity(identity(7, 2)));
    desk.transactions.topic_gone(5, &"other".into());
    desk.give(&Ask::InitProducerId(Some(identity(7, 2))), Answer::Identity(identity(7, 3)));
    let number = desk.begin();
    desk.write();
    desk.transactions.topic_gone(0, &"t".into());
    let commit = desk.commit(number);
    desk.drained(false);
    desk.give(&end(identity(7, 3), Protocol::One, false), Answer::Done(None));
    let cause = AbortCause::TopicGone { topic: "t".into() };
    assert_eq!(desk.outcome(commit), Some((TransactionOutcome::Aborted(cause), false)));
}

/// The same while it is asked whether the id is still this producer's.
#[test]
fn a_topic_that_is_gone_costs_the_epoch_though_nobody_else_has_the_id() {
    let mut desk = Desk::ready(Protocol::One);
    desk.now = desk.now.saturating_add(Duration::from_secs(5));
    let waiter = desk.waiter(60);
    desk.transactions.begin(waiter);
    let id = desk.send(&Ask::Describe);
    desk.transactions.topic_gone(5, &"other".into());
    let ours = Described { state: "CompleteCommit".to_owned(), identity: identity(7, 0) };
    desk.answer(id, &Ask::Describe, Answer::Described(ours));
    desk.give(&Ask::InitProducerId(Some(identity(7, 0))), Answer::Identity(identity(7, 1)));
    assert!(matches!(desk.reply(waiter), Some(Reply::Begun(Ok(_)))));
    assert_eq!(desk.identity(), identity(7, 1));
}

#[test]
fn what_was_left_open_is_aborted_by_the_next_begin() {
    let mut desk = Desk::ready(Protocol::Two);
    let left = desk.begin();
    desk.write();
    let waiter = desk.waiter(60);
    desk.transactions.begin(waiter);
    assert_eq!(desk.reply(waiter), None);
    desk.drained(false);
    let next = Some(identity(7, 1));
    desk.give(&end(identity(7, 0), Protocol::Two, false), Answer::Done(next));
    assert_eq!(desk.reply(waiter), Some(Reply::Begun(Ok(left.next()))));
    assert_eq!(desk.identity(), identity(7, 1));
    let asked = desk.waiter(60);
    desk.transactions.resolve(left, asked);
    let outcome = TransactionOutcome::Aborted(AbortCause::Abandoned);
    assert_eq!(desk.outcome(asked), Some((outcome, false)));
}

#[test]
fn nothing_is_begun_before_the_producer_is_initialized() {
    let mut desk = Desk::new(Protocol::Two);
    let waiter = desk.waiter(60);
    desk.transactions.begin(waiter);
    let error = TransactionError::NotTransactional;
    assert_eq!(desk.reply(waiter), Some(Reply::Begun(Err(error))));
}

/// An epoch serves one protocol: after an upgrade and after a downgrade there is a new one first.
#[test]
fn another_protocol_begins_with_another_epoch() {
    for (old, new) in [(Protocol::One, Protocol::Two), (Protocol::Two, Protocol::One)] {
        let mut desk = Desk::ready(old);
        let number = desk.begin();
        desk.write();
        desk.commit(number);
        desk.drained(false);
        let next = (old == Protocol::Two).then(|| identity(7, 1));
        desk.give(&end(identity(7, 0), old, true), Answer::Done(next));
        desk.protocol = new;
        let waiter = desk.waiter(60);
        desk.transactions.begin(waiter);
        let last = next.unwrap_or(identity(7, 0));
        let raised = identity(7, last.epoch + 1);
        desk.give(&Ask::InitProducerId(Some(last)), Answer::Identity(raised));
        assert_eq!(desk.reply(waiter), Some(Reply::Begun(Ok(number.next()))));
        assert_eq!(desk.identity(), raised);
        assert_eq!(desk.transactions.protocol(), Some(new));
    }
}

/// The choice holds for the length of a transaction.
#[test]
fn a_change_of_the_cluster_does_not_change_an_open_transaction() {
    let mut desk = Desk::ready(Protocol::One);
    let number = desk.begin();
    desk.write();
    desk.protocol = Protocol::Two;
    desk.commit(number);
    desk.drained(false);
    assert_eq!(desk.asks(), [end(identity(7, 0), Protocol::One, true)]);
}

/// Another instance took the id while nothing was asked for: the next begin, or the end of a
/// transaction without records, tells.
#[test]
fn a_producer_that_was_idle_learns_at_its_next_begin_that_it_was_fenced() {
    let mut desk = Desk::ready(Protocol::Two);
    desk.now = desk.now.saturating_add(Duration::from_secs(2));
    let waiter = desk.waiter(60);
    desk.transactions.begin(waiter);
    let theirs = Described { state: "Empty".to_owned(), identity: identity(7, 1) };
    desk.give(&Ask::Describe, Answer::Described(theirs));
    let reply = desk.reply(waiter);
    let Some(Reply::Begun(Err(TransactionError::Fatal(error)))) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(error.fenced, Some(FencedBy::AnotherInstance));
}

#[test]
fn a_producer_that_was_idle_and_is_still_known_begins() {
    let known = |state: &str| {
        Answer::Described(Described { state: state.to_owned(), identity: identity(7, 0) })
    };
    // While an end is being written the coordinator shows what was before.
    let mut desk = Desk::ready(Protocol::Two);
    desk.now = desk.now.saturating_add(Duration::from_secs(2));
    let waiter = desk.waiter(60);
    desk.transactions.begin(waiter);
    let before = Described { state: "PrepareCommit".to_owned(), identity: identity(3, 32767) };
    desk.give(&Ask::Describe, Answer::Described(before));
    assert_eq!(desk.reply(waiter), None);
    desk.wait();
    desk.give(&Ask::Describe, known("CompleteCommit"));
    assert!(matches!(desk.reply(waiter), Some(Reply::Begun(Ok(_)))));
    for answer in [known("Empty"), known("CompleteCommit"), Answer::Unspoken] {
        let mut desk = Desk::ready(Protocol::Two);
        desk.now = desk.now.saturating_add(Duration::from_secs(2));
        let waiter = desk.waiter(60);
        desk.transactions.begin(waiter);
        desk.give(&Ask::Describe, answer);
        assert!(matches!(desk.reply(waiter), Some(Reply::Begun(Ok(_)))));
    }
    // What a late request began is ended by a new epoch.
    let mut desk = Desk::ready(Protocol::One);
    desk.now = desk.now.saturating_add(Duration::from_secs(2));
    let waiter = desk.waiter(60);
    desk.transactions.begin(waiter);
    desk.give(&Ask::Describe, known("Ongoing"));
    assert_eq!(desk.asks(), [Ask::InitProducerId(Some(identity(7, 0)))]);
}

#[test]
fn the_end_of_a_transaction_without_records_tells_that_the_producer_was_fenced() {
    let mut desk = Desk::ready(Protocol::Two);
    let number = desk.begin();
    desk.now = desk.now.saturating_add(Duration::from_secs(2));
    let waiter = desk.commit(number);
    desk.drained(false);
    let theirs = Described { state: "Ongoing".to_owned(), identity: identity(7, 1) };
    desk.give(&Ask::Describe, Answer::Described(theirs));
    let (outcome, fatal) = desk.outcome(waiter).expect("it has ended");
    assert!(matches!(outcome, TransactionOutcome::Aborted(_)) && fatal);
}
