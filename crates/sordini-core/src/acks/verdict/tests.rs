use super::*;

const TABLE: &str = include_str!("../../../tests/verdicts.tsv");

fn parse(action: &str) -> Option<Verdict> {
    let retry = |refresh, ambiguous| Verdict::Retry { refresh, ambiguous };
    let fail = |fate, fatal| Verdict::Fail { fate, fatal };
    Some(match action {
        "-" => return None,
        "written" => Verdict::Written,
        "written_duplicate" => Verdict::WrittenDuplicate,
        "retry" => retry(false, false),
        "retry_refresh" => retry(true, false),
        "retry_ambiguous" => retry(false, true),
        "retry_refresh_ambiguous" => retry(true, true),
        "split" => Verdict::Split,
        "renew" => Verdict::Renew,
        "fail_not_written" => fail(Fate::NotWritten, false),
        "fail_unknown" => fail(Fate::Unknown, false),
        "fail_fatal_not_written" => fail(Fate::NotWritten, true),
        "fail_fatal_unknown" => fail(Fate::Unknown, true),
        other => panic!("verdicts.tsv: no such action: {other}"),
    })
}

/// (column, replicated, idempotent, head, ambiguous)
const COLUMNS: [(usize, bool, bool, bool, bool); 7] = [
    (5, false, false, true, false),
    (6, true, false, true, false),
    (7, true, false, true, true),
    (8, true, true, true, false),
    (9, true, true, true, true),
    (10, true, true, false, false),
    (11, true, true, false, true),
];

fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .skip(1)
        .map(|line| line.split('\t').collect())
}

#[test]
fn every_code_is_judged_as_the_table_says() {
    let mut checked = 0;
    for row in rows() {
        let code = if row[0] == "*" { 9999 } else { row[0].parse().expect("a number") };
        let log_start_offset = if row[2] == "log_start_offset=-1" { -1 } else { 7 };
        for (column, replicated, idempotent, head, ambiguous) in COLUMNS {
            let Some(expected) = parse(row[column]) else { continue };
            let base_offset = if code == 0 { 5 } else { -1 };
            let context =
                Context { replicated, idempotent, head, ambiguous, base_offset, log_start_offset };
            let verdict = Verdict::of(E::from_code(code), context);
            assert_eq!(verdict, expected, "{} {} column {column}", row[0], row[1]);
            checked += 1;
        }
    }
    assert!(checked >= 900, "only {checked} expectations were found");
}

#[test]
fn the_table_names_every_code() {
    let named: Vec<i16> = rows().filter_map(|row| row[0].parse().ok()).collect();
    for code in -1..=200 {
        let known = !matches!(E::from_code(code), E::Unrecognized(_));
        assert_eq!(known, named.contains(&code), "code {code}");
    }
}

#[test]
fn an_error_after_the_append_is_never_a_definite_failure() {
    for code in (-1..=140).filter(|code| *code != 0) {
        let context = Context {
            replicated: true,
            idempotent: true,
            head: true,
            ambiguous: false,
            base_offset: 42,
            log_start_offset: 0,
        };
        match Verdict::of(E::from_code(code), context) {
            Verdict::WrittenDuplicate
            | Verdict::Retry { ambiguous: true, .. }
            | Verdict::Fail { fate: Fate::Unknown, .. } => {}
            verdict => panic!("code {code}: {verdict:?}"),
        }
    }
}

#[test]
fn an_unknown_producer_id_tells_something_wherever_the_log_starts_and_nothing_without() {
    // A log that starts at 0 has lost no record, and the producer's state all the same (KIP-360).
    let verdict = |log_start_offset| {
        let context = Context {
            replicated: true,
            idempotent: true,
            head: true,
            ambiguous: false,
            base_offset: -1,
            log_start_offset,
        };
        Verdict::of(E::UnknownProducerId, context)
    };
    assert_eq!(verdict(-1), Verdict::Retry { refresh: false, ambiguous: false });
    assert_eq!([verdict(0), verdict(1)], [Verdict::Renew; 2]);
}
