//! The lines that tests of other crates hold, alone or besides a script here, and those that
//! nobody holds by now, with the reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lines of the catalogue, section by section.
const LINES: &[(char, &[u8])] = &[
    ('A', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 21, 22]),
    ('B', &[1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14]),
    ('C', &[1, 2, 3, 4, 5, 6, 8]),
    ('D', &[1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13]),
    ('E', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 17, 19, 20, 21]),
];

/// Line, and the tests that hold it.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("A9", &["a_bump_concerns_the_failing_partition_only"]),
    ("A11", &["behind_the_last_epoch_comes_a_new_producer_id"]),
    ("A15", &["lost_answers_neither_lose_nor_double_nor_reorder"]),
    (
        "A16",
        &[
            "a_forgotten_producer_begins_anew_and_alone",
            "unknown_producer_id_that_tells_no_log_start_says_nothing",
        ],
    ),
    ("A19", &["a_child_that_fails_for_good_breaks_the_sequence_behind_it_only"]),
    (
        "A22",
        &[
            "a_partition_that_does_not_exist_is_refused",
            "fewer_partitions_than_before_take_none_away",
            "a_choice_made_for_fewer_partitions_is_made_anew",
        ],
    ),
    ("B2", &["a_body_still_held_by_a_dead_connections_frame_is_copied_not_taken"]),
    ("B3", &["nothing_is_accepted_after_a_refusal_was_made_known_to_the_lanes"]),
    (
        "B5",
        &[
            "contradictions_name_both_settings_their_values_and_what_would_be_right",
            "no_deadline_wraps_into_the_past",
            "the_longest_times_that_can_be_set_never_end_at_once",
        ],
    ),
    ("B7", &["acks_0_ignores_answers_that_nobody_asked_for"]),
    ("B11", &["a_send_that_was_accepted_is_delivered_though_its_future_is_dropped"]),
    // Interceptors are to come; what runs of the user's by now is partitioners, iterators, wakers.
    (
        "B12",
        &[
            "a_partitioner_is_asked_under_no_lock_and_once_a_record",
            "an_iterator_that_panics_inside_extend_spoils_no_batch",
            "wakers_are_woken_and_dropped_outside_the_lock",
        ],
    ),
    (
        "C2",
        &[
            "memory_goes_to_waiters_in_the_order_they_came",
            "a_grant_that_is_dropped_goes_to_the_next_in_line",
        ],
    ),
    (
        "C4",
        &[
            "partitions_of_one_broker_take_turns",
            "a_dead_broker_does_not_hold_up_the_others",
            "memory_held_by_a_dead_broker_does_not_keep_the_batches_of_others_open",
            "keyless_records_avoid_partitions_without_a_leader",
        ],
    ),
    ("C5", &["exhausted_memory_ends_the_linger_of_the_oldest_batch"]),
    ("C6", &["nothing_spins_while_nothing_can_be_done"]),
    ("C8", &["what_a_split_taught_is_kept_for_the_partitions_later_batches"]),
    (
        "D1",
        &[
            "an_older_leader_epoch_is_not_believed",
            "an_epoch_that_is_not_told_replaces_none_that_is",
        ],
    ),
    ("D2", &["a_hint_without_a_higher_epoch_is_not_followed_in_circles"]),
    (
        "D5",
        &[
            "a_name_with_several_addresses_is_tried_at_each",
            "a_broker_that_moved_to_another_address_is_followed",
        ],
    ),
    (
        "D9",
        &[
            "a_correlation_id_that_is_not_the_next_poisons_the_connection",
            "two_answers_for_one_request_poison_the_connection",
        ],
    ),
    (
        "D10",
        &[
            "a_throttle_mutes_the_connection_and_extends_what_was_asked",
            "overlapping_throttles_are_not_added_up",
        ],
    ),
    (
        "D12",
        &[
            "every_protocol_version_from_kafka_2_1_on_is_spoken",
            "api_versions_falls_back_to_what_the_broker_lists",
            "a_topic_made_anew_where_brokers_tell_no_ids_is_written_to_again",
        ],
    ),
    ("D13", &["every_code_is_judged_as_the_table_says"]),
];

/// Line, and why nothing holds it.
const NOT_YET: &[(&str, &str)] = &[
    ("B10", "the producer does not read the errors of single records: all fail as their batch"),
    ("D11", "there is no SASL yet"),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust sources below a folder, one behind the other.
#[allow(clippy::disallowed_methods, reason = "it reads sources, as no world does")]
fn sources(folder: &Path, all: &mut String) {
    let entries = std::fs::read_dir(folder).expect("a folder of sources");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|it| it == "rs") {
            all.push_str(&std::fs::read_to_string(&path).expect("a source file"));
        }
    }
}

/// The names of functions right behind an attribute that makes them tests.
fn tests_in(sources: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in sources.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
            is_test &= !line.starts_with("#[ignore");
        } else if let Some((_, name)) = line.split_once("fn ").filter(|_| is_test) {
            names.extend(name.split('(').next());
            is_test = false;
        } else if !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

#[test]
fn tests_that_are_said_to_hold_a_line_exist() {
    let mut all = String::new();
    sources(&crates().join("sordini-core"), &mut all);
    sources(&crates().join("sordini"), &mut all);
    let tests = tests_in(&all);
    for (line, names) in ELSEWHERE {
        let missing: Vec<_> = names.iter().filter(|name| !tests.contains(*name)).collect();
        assert!(missing.is_empty(), "{line}: no test is called {missing:?}");
    }
}

#[test]
fn every_line_has_a_script_or_a_test_elsewhere_or_a_reason() {
    let mut all = String::new();
    sources(&crates().join("sordini-sim/tests/scenarios"), &mut all);
    let tests = tests_in(&all);
    for (section, numbers) in LINES {
        for number in *numbers {
            let line = format!("{section}{number}");
            let prefix = format!("{}_", line.to_lowercase());
            let here = tests.iter().any(|name| name.starts_with(&prefix));
            let elsewhere = ELSEWHERE.iter().any(|(it, _)| *it == line);
            let not_yet = NOT_YET.iter().any(|(it, why)| *it == line && !why.is_empty());
            assert!(here || elsewhere || not_yet, "{line} is held by nothing");
            assert!(!(not_yet && (here || elsewhere)), "{line} is held after all");
        }
    }
}
