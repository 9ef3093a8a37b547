use sordini_protocol::messages::fetch::AbortedTransaction;

use super::{Spec, batch, log};
use crate::fetch::batches::{VisibleBatch, decode, scan};

const ALL: i64 = i64::MAX;

fn aborted(producer_id: i64, first_offset: i64) -> AbortedTransaction {
    AbortedTransaction { producer_id, first_offset }
}

/// The values that are seen of `specs` when read from `from` to before `end`, and where to go on.
fn seen(
    specs: &[Spec<'_>],
    from: i64,
    end: i64,
    aborted: Vec<AbortedTransaction>,
) -> (Vec<String>, i64) {
    let found = scan(&log(specs), from, end, aborted).expect("the batches are sound");
    let mut values = Vec::new();
    for span in found.visible {
        let visible = VisibleBatch { partition: 0, from, end, span };
        for record in decode(&visible).expect("the records are sound") {
            let value = record.value.expect("each has a value");
            values.push(String::from_utf8(value.to_vec()).expect("UTF-8"));
        }
    }
    (values, found.next)
}

#[test]
fn records_of_aborted_transactions_are_not_seen_and_those_of_others_are() {
    let specs = [
        Spec::of(7, 0, &["aborted"]),
        Spec::of(8, 1, &["committed"]),
        Spec::plain(2, &["plain"]),
        Spec::of(7, 3, &["aborted too"]),
        Spec::marker(7, 4, true),
        Spec::marker(8, 5, false),
        Spec::of(7, 6, &["the next transaction"]),
        Spec::marker(7, 7, false),
    ];
    let (values, next) = seen(&specs, 0, ALL, vec![aborted(7, 0)]);
    assert_eq!(values, ["committed", "plain", "the next transaction"]);
    assert_eq!(next, 8, "reading goes on behind the last marker");
}

#[test]
fn a_producer_that_aborts_twice_is_hidden_twice() {
    let specs = [
        Spec::of(7, 0, &["a"]),
        Spec::marker(7, 1, true),
        Spec::of(7, 2, &["b"]),
        Spec::marker(7, 3, false),
        Spec::of(7, 4, &["c"]),
        Spec::marker(7, 5, true),
    ];
    let (values, _) = seen(&specs, 0, ALL, vec![aborted(7, 4), aborted(7, 0)]);
    assert_eq!(values, ["b"]);
}

#[test]
fn a_transaction_that_began_before_the_position_is_still_aborted() {
    let specs = [Spec::of(7, 10, &["a"]), Spec::marker(7, 11, true)];
    assert_eq!(seen(&specs, 10, ALL, vec![aborted(7, 3)]), (vec![], 12));
}

#[test]
fn control_batches_are_never_seen() {
    let specs = [Spec::of(7, 0, &["a"]), Spec::marker(7, 1, true), Spec::marker(7, 2, false)];
    assert_eq!(seen(&specs, 0, ALL, vec![]), (vec!["a".to_owned()], 3));
}

#[test]
fn only_offsets_from_the_position_to_before_the_end_are_seen() {
    let specs = [Spec::plain(0, &["a", "b", "c"]), Spec::plain(3, &["d", "e"])];
    assert_eq!(seen(&specs, 1, 4, vec![]).0, ["b", "c", "d"]);
    assert_eq!(seen(&specs, 3, ALL, vec![]).0, ["d", "e"]);
    assert_eq!(seen(&specs, 0, 3, vec![]).0, ["a", "b", "c"]);
}

#[test]
fn a_batch_that_is_cut_off_is_left_for_the_next_fetch() {
    let mut bytes = batch(Spec::plain(0, &["a"]));
    let whole = bytes.len();
    bytes.extend_from_slice(&batch(Spec::plain(1, &["b"]))[..40]);
    let found = scan(&bytes.clone().into(), 0, ALL, vec![]).expect("the first is whole");
    assert_eq!((found.visible.len(), found.next), (1, 1));
    // Nothing but a part means that no Fetch will ever bring the rest.
    let part = bytes[whole..].to_vec();
    let corrupt = scan(&part.into(), 1, ALL, vec![]).expect_err("only a part");
    assert!(corrupt.cause.contains("40 bytes of a batch"), "{}", corrupt.cause);
}

#[test]
fn a_batch_that_is_not_sound_is_named_by_its_offset() {
    let mut bytes = batch(Spec::plain(5, &["a"]));
    *bytes.last_mut().expect("not empty") ^= 1;
    let found = scan(&bytes.clone().into(), 5, ALL, vec![]).expect("the header is sound");
    let span = found.visible[0].clone();
    let visible = VisibleBatch { partition: 0, from: 5, end: ALL, span };
    let corrupt = decode(&visible).expect_err("the checksum is wrong");
    assert_eq!(corrupt.offset, 5);
    bytes[16] = 1;
    let corrupt = scan(&bytes.into(), 5, ALL, vec![]).expect_err("an old format");
    assert!(corrupt.cause.contains("magic"), "{}", corrupt.cause);
}

#[test]
fn an_answer_that_only_looks_back_is_an_error_and_no_endless_loop() {
    let bytes = log(&[Spec::plain(0, &["a"])]);
    let corrupt = scan(&bytes, 9, ALL, vec![]).expect_err("offset 0 was not asked for");
    assert_eq!(corrupt.offset, 9);
}
