//! The cases are Kafka's: TransactionCoordinator and TransactionMetadata of 4.4, and the table of
//! KIP-890 in the former.

use super::*;
use ErrorCode as E;
use State::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
use TransactionResult::{Abort, Commit};
use TransactionVersion::{V0, V2};

const NOW: i64 = 1_000;
const LATER: i64 = 2_000;
const ID: i64 = 10;
const FRESH: i64 = 77;
const MAX: i16 = i16::MAX;

fn fresh() -> impl FnMut() -> Result<i64, E> {
    || Ok(FRESH)
}

fn in_state(state: State, epoch: i16) -> Metadata {
    let mut now = Metadata::new(ID, 60_000, NOW);
    now.state = state;
    (now.producer_epoch, now.last_producer_epoch) = (epoch, epoch - 1);
    if state == Ongoing {
        now.partitions = [("t".to_owned(), 0)].into();
        now.started_ms = NOW;
    }
    if !matches!(state, Empty | Ongoing) {
        now.client_version = V2;
    }
    now
}

fn at(state: State, epoch: i16) -> Transaction {
    Transaction::resting(in_state(state, epoch), NOW)
}

fn settled(transaction: Transaction) -> Settled {
    match transaction {
        Transaction::Settled(settled) => settled,
        other => panic!("settled, not {other:?}"),
    }
}

/// What a step comes to once it is written, and all markers are.
fn lived_through(transaction: Transaction, step: Step) -> Transaction {
    let Step::Write(to) = step else { panic!("a write, not {step:?}") };
    match settled(transaction).write(to).written(LATER) {
        Transaction::Marking(mut marking) => {
            for partition in marking.left().clone() {
                marking.marked(&partition);
            }
            Transaction::Settled(marking.complete().written())
        }
        other => other,
    }
}

fn init(expected: Option<(i64, i16)>) -> Init {
    Init { timeout_ms: 5_000, expected }
}

fn partitions() -> BTreeSet<Partition> {
    [("t".to_owned(), 0)].into()
}

#[test]
fn init_gives_the_next_epoch_by_what_the_client_has() {
    // State, epoch, last epoch, what the client says it has; the epoch and last epoch it gets.
    type Case = (State, i16, i16, Option<(i64, i16)>, Result<(i64, i16, i16), E>);
    let cases: &[Case] = &[
        (Empty, NO_EPOCH, NO_EPOCH, None, Ok((ID, 0, -1))),
        (Empty, 4, 3, None, Ok((ID, 5, -1))),
        (CompleteCommit, 4, 3, None, Ok((ID, 5, -1))),
        (CompleteAbort, 4, 3, None, Ok((ID, 5, -1))),
        (Empty, NO_EPOCH, NO_EPOCH, Some((99, 8)), Ok((ID, 0, -1))),
        (CompleteCommit, 4, 3, Some((ID, 4)), Ok((ID, 5, 4))),
        // The retry of a call that succeeded.
        (Empty, 4, 3, Some((ID, 3)), Ok((ID, 4, 3))),
        (Empty, 4, NO_EPOCH, Some((ID, 3)), Err(E::ProducerFenced)),
        (Empty, 4, 3, Some((ID, 2)), Err(E::ProducerFenced)),
        (Empty, 4, 3, Some((ID, 5)), Err(E::ProducerFenced)),
        (Empty, 4, 3, Some((99, 4)), Err(E::ProducerFenced)),
        // The last epoch but one is the last that a client gets.
        (Empty, MAX - 2, 3, None, Ok((ID, MAX - 1, -1))),
        (Empty, MAX - 1, 3, None, Ok((FRESH, 0, -1))),
        (CompleteAbort, MAX - 1, 3, Some((ID, MAX - 1)), Ok((FRESH, 0, MAX - 1))),
        (CompleteAbort, MAX, 3, None, Ok((FRESH, 0, -1))),
        (Empty, MAX - 1, 3, Some((ID, 3)), Err(E::UnknownServerError)),
    ];
    for (state, epoch, last, expected, outcome) in cases {
        let mut now = in_state(*state, *epoch);
        now.last_producer_epoch = *last;
        let transaction = Transaction::resting(now, NOW);
        let step = transaction.init(init(*expected), LATER, &mut fresh());
        let got = step.map(|step| match step {
            Step::Write(to) => {
                assert_eq!((to.state, to.timeout_ms, to.updated_ms), (Empty, 5_000, LATER));
                assert_eq!((to.started_ms, to.previous_producer_id), (-1, ID));
                (to.producer_id, to.producer_epoch, to.last_producer_epoch)
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(got, *outcome, "{state:?} {epoch} {last} {expected:?}");
    }
}

#[test]
fn init_of_an_id_that_was_rotated_is_recognised_by_the_last_epoch() {
    let mut now = in_state(CompleteCommit, 0);
    (now.previous_producer_id, now.last_producer_epoch) = (9, MAX - 1);
    let transaction = Transaction::resting(now, NOW);
    let step = transaction.init(init(Some((9, MAX - 1))), LATER, &mut fresh());
    let Ok(Step::Write(to)) = step else { panic!("{step:?}") };
    assert_eq!((to.producer_id, to.producer_epoch), (ID, 0));
    let step = transaction.init(init(Some((9, 3))), LATER, &mut fresh());
    assert_eq!(step, Err(E::ProducerFenced));
}

#[test]
fn init_fences_an_open_transaction_first() {
    for expected in [None, Some((ID, 4))] {
        let step = at(Ongoing, 4).init(init(expected), LATER, &mut fresh());
        assert_eq!(step, Ok(Step::Fence));
    }
    let step = at(Ongoing, 4).init(init(Some((99, 4))), LATER, &mut fresh());
    assert_eq!(step, Err(E::ProducerFenced));
}

#[test]
fn a_fence_bumps_once_in_either_protocol() {
    for (version, last) in [(V0, NO_EPOCH), (V2, 4)] {
        let fencing = settled(at(Ongoing, 4)).fence();
        let writing = fencing.abort(version, LATER, &mut fresh()).expect("an id");
        let to = writing.to().clone();
        assert_eq!((to.state, to.producer_epoch, to.last_producer_epoch), (PrepareAbort, 5, last));
        assert_eq!(to.client_version, version);
        // It could not be written: the next fence has the same epoch, as nobody has seen it.
        let again = writing.failed().fence().abort(version, LATER, &mut fresh()).expect("an id");
        assert_eq!(again.to().producer_epoch, 5);
        let done = match again.written(LATER) {
            Transaction::Marking(mut marking) => {
                marking.marked(&("t".to_owned(), 0));
                marking.complete().written()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!((done.now.state, done.now.producer_epoch), (CompleteAbort, 5));
        let step = Transaction::Settled(done).init(init(None), LATER, &mut fresh());
        let Ok(Step::Write(to)) = step else { panic!("{step:?}") };
        assert_eq!(to.producer_epoch, 6);
    }
}

#[test]
fn a_fence_at_the_last_epoch_rotates_the_id() {
    let fencing = settled(at(Ongoing, MAX - 1)).fence();
    let writing = fencing.abort(V2, LATER, &mut fresh()).expect("an id");
    assert_eq!((writing.to().producer_epoch, writing.to().next_producer_id), (MAX, FRESH));
    let Transaction::Marking(mut marking) = writing.written(LATER) else { panic!("markers") };
    assert_eq!((marking.prepared().producer_epoch, marking.goes_on_with()), (MAX, (FRESH, 0)));
    marking.marked(&("t".to_owned(), 0));
    let now = marking.complete().written().now;
    assert_eq!((now.producer_id, now.producer_epoch), (FRESH, 0));
    assert_eq!((now.previous_producer_id, now.last_producer_epoch), (ID, MAX - 1));
    // Without an id nothing changes.
    let fencing = settled(at(Ongoing, MAX - 1)).fence();
    let failed = fencing.abort(V2, LATER, &mut || Err(E::CoordinatorLoadInProgress));
    let (still, code) = failed.expect_err("no id");
    assert_eq!((still, code), (settled(at(Ongoing, MAX - 1)), E::CoordinatorLoadInProgress));
}

#[test]
fn partitions_are_added_by_the_producer_that_is_known() {
    for state in [Empty, Ongoing, CompleteCommit, CompleteAbort] {
        let more: BTreeSet<Partition> = [("t".to_owned(), 1)].into();
        let transaction = at(state, 4);
        let step = transaction.add((ID, 4), &more, V2, LATER);
        let Ok(Step::Write(to)) = step else { panic!("{state:?} {step:?}") };
        let started = if state == Ongoing { NOW } else { LATER };
        assert_eq!((to.state, to.started_ms, to.updated_ms), (Ongoing, started, LATER));
        assert!(to.partitions.is_superset(&more));
        let codes = [
            ((99, 4), E::InvalidProducerIdMapping),
            ((ID, 3), E::ProducerFenced),
            ((ID, 5), E::ProducerFenced),
        ];
        for (producer, code) in codes {
            assert_eq!(transaction.add(producer, &more, V2, LATER), Err(code));
        }
    }
    let step = at(Ongoing, 4).add((ID, 4), &partitions(), V0, LATER);
    assert_eq!(step, Ok(Step::Already { producer_id: ID, producer_epoch: 4 }));
    for state in [PrepareCommit, PrepareAbort] {
        let step = at(state, 4).add((99, 4), &partitions(), V0, LATER);
        assert_eq!(step, Err(E::ConcurrentTransactions));
    }
}

#[test]
fn partitions_are_verified_against_the_open_transaction() {
    let verify = |state, producer| {
        at(state, 4).verify(producer, &partitions()).map(|codes| codes[&("t".to_owned(), 0)])
    };
    assert_eq!(verify(Ongoing, (ID, 4)), Ok(E::None));
    assert_eq!(verify(Ongoing, (99, 4)), Err(E::InvalidProducerIdMapping));
    assert_eq!(verify(Ongoing, (ID, 5)), Err(E::ProducerFenced));
    for state in [Empty, CompleteCommit, CompleteAbort] {
        assert_eq!(verify(state, (ID, 4)), Ok(E::TransactionAbortable));
    }
    for state in [PrepareCommit, PrepareAbort] {
        assert_eq!(verify(state, (ID, 4)), Err(E::ConcurrentTransactions));
    }
}

/// What an EndTxn comes to.
fn end(
    transaction: &Transaction,
    producer: (i64, i16),
    result: TransactionResult,
    v: TransactionVersion,
) -> Result<&'static str, E> {
    let step = transaction.end(producer, result, v, LATER, &mut fresh())?;
    Ok(match step {
        Step::Already { .. } => "already",
        Step::Write(to) if to.state == PrepareCommit => "commit",
        Step::Write(_) => "abort",
        Step::Fence => "fence",
    })
}

#[test]
fn the_old_protocol_ends_what_is_open_and_knows_what_is_over() {
    use E::{ConcurrentTransactions, InvalidTxnState};
    let table = [
        (Empty, Err(InvalidTxnState), Err(InvalidTxnState)),
        (Ongoing, Ok("commit"), Ok("abort")),
        (PrepareCommit, Err(ConcurrentTransactions), Err(ConcurrentTransactions)),
        (PrepareAbort, Err(ConcurrentTransactions), Err(ConcurrentTransactions)),
        (CompleteCommit, Ok("already"), Err(InvalidTxnState)),
        (CompleteAbort, Err(InvalidTxnState), Ok("already")),
    ];
    for (state, commit, abort) in table {
        assert_eq!(end(&at(state, 4), (ID, 4), Commit, V0), commit, "{state:?}");
        assert_eq!(end(&at(state, 4), (ID, 4), Abort, V0), abort, "{state:?}");
        // Who it is comes before how it stands, even while it is being written.
        for (producer, code) in [
            ((99, 4), E::InvalidProducerIdMapping),
            ((ID, 3), E::ProducerFenced),
            ((ID, 5), E::ProducerFenced),
        ] {
            assert_eq!(end(&at(state, 4), producer, Commit, V0), Err(code), "{state:?}");
        }
    }
    let step = at(Ongoing, 4).end((ID, 4), Commit, V0, LATER, &mut fresh()).expect("open");
    let done = lived_through(at(Ongoing, 4), step);
    assert_eq!(done.now().state, CompleteCommit);
    assert_eq!((done.now().producer_epoch, done.now().client_version), (4, V0));
    assert!(done.now().partitions.is_empty());
}

#[test]
fn the_new_protocol_tells_a_retry_from_the_next_transaction() {
    use E::{ConcurrentTransactions, InvalidTxnState, ProducerFenced};
    // Retry (the epoch before), current epoch; abort, then commit: the table of KIP-890.
    let table = [
        (Empty, [Err(ProducerFenced), Ok("abort"), Err(ProducerFenced), Err(InvalidTxnState)]),
        (Ongoing, [Err(ProducerFenced), Ok("abort"), Err(ProducerFenced), Ok("commit")]),
        // As Kafka: while an end is written, the next transaction's is refused like a fenced one.
        (
            PrepareCommit,
            [
                Err(InvalidTxnState),
                Err(ProducerFenced),
                Err(ConcurrentTransactions),
                Err(ProducerFenced),
            ],
        ),
        (
            PrepareAbort,
            [
                Err(ConcurrentTransactions),
                Err(ProducerFenced),
                Err(InvalidTxnState),
                Err(ProducerFenced),
            ],
        ),
        (CompleteAbort, [Ok("already"), Ok("abort"), Err(InvalidTxnState), Err(InvalidTxnState)]),
        (CompleteCommit, [Err(InvalidTxnState), Ok("abort"), Ok("already"), Err(InvalidTxnState)]),
    ];
    for (state, [abort_retry, abort, commit_retry, commit]) in table {
        let transaction = at(state, 4);
        assert_eq!(end(&transaction, (ID, 3), Abort, V2), abort_retry, "{state:?}");
        assert_eq!(end(&transaction, (ID, 4), Abort, V2), abort, "{state:?}");
        assert_eq!(end(&transaction, (ID, 3), Commit, V2), commit_retry, "{state:?}");
        assert_eq!(end(&transaction, (ID, 4), Commit, V2), commit, "{state:?}");
        for (producer, code) in [
            ((99, 4), E::InvalidProducerIdMapping),
            ((ID, 2), ProducerFenced),
            ((ID, 5), ProducerFenced),
        ] {
            assert_eq!(end(&transaction, producer, Commit, V2), Err(code), "{state:?}");
        }
    }
}

/// With `transaction.version` lowered to 0 between the two.
#[test]
fn the_end_of_a_successors_transaction_is_not_ones_own() {
    for (result, prepared) in [(Commit, PrepareCommit), (Abort, PrepareAbort)] {
        // A new instance has epoch 5, and ends a transaction in the old protocol.
        let open = at(Ongoing, 5);
        let step = open.end((ID, 5), result, V0, LATER, &mut fresh()).expect("open");
        let Step::Write(to) = step.clone() else { panic!("{step:?}") };
        assert_eq!((to.state, to.producer_epoch), (prepared, 5));
        let marking = settled(open.clone()).write(to).written(LATER);
        let done = lived_through(open, step);
        // The one before, of epoch 4, asks in the new protocol how its own ended.
        for transaction in [marking, done] {
            for asked in [Commit, Abort] {
                assert_eq!(end(&transaction, (ID, 4), asked, V2), Err(E::ProducerFenced));
            }
        }
    }
}

#[test]
fn each_transaction_of_the_new_protocol_has_the_next_epoch() {
    let step = at(Ongoing, 4).end((ID, 4), Commit, V2, LATER, &mut fresh()).expect("open");
    let Step::Write(to) = &step else { panic!("{step:?}") };
    assert_eq!((to.producer_epoch, to.last_producer_epoch, to.next_producer_id), (5, 4, NO_ID));
    assert_eq!((to.started_ms, to.partitions.len()), (NOW, 1));
    let done = lived_through(at(Ongoing, 4), step);
    assert_eq!((done.now().state, done.now().producer_epoch), (CompleteCommit, 5));
    // An abort of what was never begun has no partitions, and begins and ends at once.
    let step = at(Empty, 4).end((ID, 4), Abort, V2, LATER, &mut fresh()).expect("allowed");
    let done = lived_through(at(Empty, 4), step);
    let now = done.now();
    assert_eq!((now.state, now.producer_epoch, now.started_ms), (CompleteAbort, 5, LATER));
}

#[test]
fn the_last_epoch_of_the_new_protocol_rotates_the_id() {
    let open = at(Ongoing, MAX - 1);
    let step = open.end((ID, MAX - 1), Commit, V2, LATER, &mut fresh()).expect("open");
    let Step::Write(to) = &step else { panic!("{step:?}") };
    assert_eq!((to.producer_id, to.producer_epoch, to.next_producer_id), (ID, MAX, FRESH));
    let done = lived_through(open.clone(), step);
    assert_eq!((done.now().producer_id, done.now().producer_epoch), (FRESH, 0));
    // The retry comes with what the client last saw.
    let retry = done.end((ID, MAX - 1), Commit, V2, LATER, &mut fresh());
    assert_eq!(retry, Ok(Step::Already { producer_id: FRESH, producer_epoch: 0 }));
    assert_eq!(end(&done, (ID, MAX - 1), Abort, V2), Err(E::InvalidTxnState));
    let without = open.end((ID, MAX - 1), Commit, V2, LATER, &mut || Err(E::UnknownServerError));
    assert_eq!(without, Err(E::UnknownServerError));
}

#[test]
fn an_id_whose_state_is_being_written_takes_nothing_new() {
    let step = at(Empty, 4).add((ID, 4), &partitions(), V2, LATER).expect("allowed");
    let Step::Write(to) = step else { panic!("{step:?}") };
    let writing = settled(at(Empty, 4)).write(to);
    let transaction = Transaction::Writing(writing.clone());
    let concurrent = Err(E::ConcurrentTransactions);
    assert_eq!(transaction.init(init(None), LATER, &mut fresh()), concurrent);
    assert_eq!(transaction.add((ID, 4), &partitions(), V2, LATER), concurrent);
    assert_eq!(transaction.end((ID, 4), Commit, V2, LATER, &mut fresh()), concurrent);
    assert_eq!(transaction.now().state, Empty);
    assert_eq!(Transaction::Settled(writing.failed()), at(Empty, 4));
}

#[test]
fn a_transaction_is_complete_when_each_partition_has_its_marker() {
    let mut now = in_state(PrepareCommit, 4);
    now.partitions = [("t".to_owned(), 0), ("t".to_owned(), 1)].into();
    let Transaction::Marking(mut marking) = Transaction::resting(now, NOW) else {
        panic!("what is found prepared is to be marked");
    };
    marking.marked(&("t".to_owned(), 1));
    marking.marked(&("t".to_owned(), 1));
    assert_eq!(marking.left(), &partitions());
    marking.marked(&("t".to_owned(), 0));
    let completing = marking.complete();
    assert_eq!(completing.to().state, CompleteCommit);
    // That it is complete could not be written: no marker is written again.
    assert!(completing.clone().failed().left().is_empty());
    assert_eq!(completing.written().now.state, CompleteCommit);
}

#[test]
fn time_ends_open_transactions_and_unused_ids() {
    assert!(!at(Ongoing, 4).is_timed_out(NOW + 60_000));
    assert!(at(Ongoing, 4).is_timed_out(NOW + 60_001));
    for state in [Empty, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort] {
        assert!(!at(state, 4).is_timed_out(i64::MAX), "{state:?}");
        let expires = matches!(state, Empty | CompleteCommit | CompleteAbort);
        assert_eq!(at(state, 4).is_expired(NOW + 50, 50), expires, "{state:?}");
        assert!(!at(state, 4).is_expired(NOW + 49, 50), "{state:?}");
    }
    assert!(!at(Ongoing, 4).is_expired(i64::MAX, 50));
    let mut now = in_state(Ongoing, 4);
    now.timeout_ms = i32::MAX;
    assert!(!Transaction::resting(now, NOW).is_timed_out(i64::MAX), "two-phase ones wait");
}
