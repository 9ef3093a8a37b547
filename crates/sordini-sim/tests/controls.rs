//! The negative controls: where a promise is not made, it is seen broken. One that shows nothing
//! means that a fault or a checker is dead, and that the clean runs prove nothing.

use sordini_sim::{Profile, Report, plan, run};

/// Runs a control: it must show its anomaly in at least `least` of `seeds`, and break nothing
/// that is promised all the same.
fn control(name: &str, seeds: u64, least: usize) -> Vec<Report> {
    let profile = Profile::named(name).expect("a control");
    let anomaly = profile.shows.expect("a control shows something");
    let reports: Vec<Report> = (0..seeds)
        .map(|seed| {
            let plan = plan(seed, &profile, &[]).expect("the control's settings are sound");
            let report = run(&plan);
            assert!(report.is_clean(), "{plan}\n{report}");
            report
        })
        .collect();
    let hits = reports.iter().filter(|report| report.shows(anomaly)).count();
    assert!(
        hits >= least,
        "{name} showed {anomaly:?} in {hits} of {seeds} seeds: {}",
        profile.about
    );
    reports
}

#[test]
fn c_a_acks_0_and_a_killed_broker_lose_records() {
    control("C-a", 12, 2);
}

#[test]
fn c_b_acks_1_and_a_leader_that_dies_before_replication_lose_records() {
    control("C-b", 25, 2);
}

#[test]
fn c_c_retries_without_idempotence_double_records() {
    control("C-c", 8, 3);
}

#[test]
fn c_d_five_in_flight_without_idempotence_invert_records() {
    control("C-d", 12, 2);
}

#[test]
fn c_e_an_unclean_election_loses_what_acks_all_acknowledged_and_that_is_told() {
    let reports = control("C-e", 15, 2);
    let lost = reports.iter().filter(|report| report.seen.loss > 0);
    let told = lost.filter(|report| report.loss_told).count();
    assert!(told > 0, "no producer told of its loss");
}

#[test]
fn c_f_min_insync_1_and_two_failures_lose_records() {
    control("C-f", 20, 2);
}

/// It tears them where the epoch is not raised for it: `cargo xtask mutants` plants that (M36).
#[test]
fn c_g_a_late_request_tears_no_transaction_of_the_old_protocol() {
    let profile = Profile::named("C-g").expect("a control");
    let (mut late, mut raised) = (0, 0);
    for seed in 0..12 {
        let plan = plan(seed, &profile, &[]).expect("the control's settings are sound");
        let report = run(&plan);
        assert!(report.is_clean(), "{plan}\n{report}");
        late += report.coverage.late_deliveries;
        raised += report.coverage.met.get("core: more than three epochs").copied().unwrap_or(0);
    }
    assert!(late > 0 && raised > 0, "{late} late deliveries, {raised} producers raised the epoch");
}

#[test]
fn c_h_an_application_that_sends_again_doubles_records() {
    control("C-h", 12, 2);
}

#[test]
fn c_i_without_fsync_a_loss_of_power_loses_records() {
    control("C-i", 6, 3);
}

#[test]
fn every_control_has_its_test() {
    let names: Vec<_> = Profile::controls().iter().map(|control| control.name).collect();
    assert_eq!(names, ["C-a", "C-b", "C-c", "C-d", "C-e", "C-f", "C-h", "C-i", "C-g"]);
}
