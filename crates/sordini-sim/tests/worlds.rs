//! Worlds as users run them: the default profile finds nothing, the same seed is the same run,
//! and what once failed stays mended.

use sordini_sim::{Plan, Profile, Report, Variety, plan, preflight, run};

fn draw(seed: u64, profile: &Profile) -> Plan {
    plan(seed, profile, &[]).expect("drawn settings make a producer")
}

/// Runs a seed, which must be clean.
#[track_caller]
fn clean(seed: u64, profile: &Profile) -> Report {
    let plan = draw(seed, profile);
    let report = run(&plan);
    assert!(report.is_clean(), "{plan}\n{report}");
    report
}

#[test]
fn where_nothing_goes_wrong_nothing_is_lost_doubled_or_reordered() {
    for seed in 0..12 {
        let report = clean(seed, &Profile::calm());
        assert_eq!(report.seen, Default::default(), "seed {seed}");
        assert!(report.records > 0 && report.faults.is_empty(), "{report}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_to_the_byte() {
    for seed in [3, 17, 47] {
        let (first, second) =
            (run(&draw(seed, &Profile::default())), run(&draw(seed, &Profile::default())));
        assert_eq!((first.hash, first.steps), (second.hash, second.steps), "seed {seed}");
        assert_ne!(first.hash, run(&draw(seed + 1000, &Profile::default())).hash);
    }
}

#[test]
fn a_seed_of_the_default_profile_is_full() {
    let mut reports: Vec<_> = (0..25).map(|seed| clean(seed, &Profile::default())).collect();
    let mut median = |of: fn(&Report) -> u64| {
        reports.sort_by_key(of);
        of(&reports[reports.len() / 2])
    };
    assert!(median(|it| it.records) >= 1000);
    assert!(median(|it| it.virtual_time.as_secs()) >= 10);
    assert!(median(|it| it.faults.len() as u64) >= 3);
}

#[test]
fn the_users_settings_are_those_of_all_producers() {
    let said = [("acks".to_owned(), "1".to_owned()), ("linger.ms".to_owned(), "7".to_owned())];
    let plan = plan(1, &Profile::default(), &said).expect("sound settings");
    assert_eq!(plan.settings, said);
    let report = run(&plan);
    assert!(report.is_clean(), "{plan}\n{report}");
    let wrong = [("acks".to_owned(), "2".to_owned())];
    assert!(sordini_sim::plan(1, &Profile::default(), &wrong).is_err());
    let elsewhere = [("bootstrap.servers".to_owned(), "h:1".to_owned())];
    let refused =
        sordini_sim::plan(1, &Profile::default(), &elsewhere).expect_err("another cluster");
    assert!(refused.to_string().contains("bootstrap.servers=h:1"), "{refused}");
}

#[test]
fn settings_that_cannot_work_are_told_by_name_before_any_promise_is_put_to_the_test() {
    let said = |settings: &[(&str, &str)]| -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let blamed = |settings: &[(&str, &str)]| {
        preflight(&said(settings)).expect("they make a producer").map(|it| it.culprits)
    };
    for culprit in [("request.timeout.ms", "1"), ("max.request.size", "82")] {
        assert_eq!(blamed(&[("acks", "all"), culprit]), Some(said(&[culprit])));
    }
    for fine in [("acks", "0"), ("max.block.ms", "0"), ("batch.size", "0"), ("linger.ms", "500")] {
        assert_eq!(blamed(&[fine]), None, "{fine:?}");
    }
}

/// What once failed, by the promise that was broken and what broke it.
mod regressions {
    use super::*;

    /// The world in which it was found: these were drawn before the scenery was.
    fn plainly(seed: u64) {
        clean(seed, &Profile { variety: Variety::Plain, ..Profile::default() });
    }

    #[test]
    fn p20_a_topic_made_anew_is_found_again_where_brokers_tell_no_topic_ids() {
        clean(203, &Profile::default());
    }

    #[test]
    fn p14_p15_a_coordinator_takes_no_partition_in_that_it_has_not_heard_of() {
        clean(280_021_672_783, &Profile::default());
    }

    #[test]
    fn p7_a_transaction_is_not_ended_at_a_close_while_batches_lack_their_answers() {
        clean(2091, &Profile::default());
    }

    #[test]
    fn p20_a_topic_without_id_is_believed_again_once_it_had_no_leader() {
        clean(3012, &Profile::default());
    }

    #[test]
    fn p12_where_topics_have_only_names_what_is_sent_again_may_come_to_one_made_anew() {
        for seed in [8437, 8620, 9231, 11193, 13587, 18869] {
            clean(seed, &Profile::default());
        }
    }

    #[test]
    fn p7_with_acks_0_an_answer_to_nothing_is_passed_over_and_versions_are_agreed_all_the_same() {
        for seed in [840, 1094, 1580] {
            clean(seed, &Profile::default());
        }
    }

    #[test]
    fn p20_the_isr_grows_again_after_the_leader_moved_to_a_node_with_a_younger_life_and_back() {
        for seed in [13, 14, 29, 38] {
            plainly(seed);
        }
    }

    #[test]
    fn p7_a_new_epoch_does_not_cut_a_backoff_short() {
        for seed in [30, 95] {
            plainly(seed);
        }
    }

    #[test]
    fn p12_p21_p7_what_the_weather_excuses_is_no_violation_and_no_pause_is_skipped() {
        for seed in [102_619, 202_870, 205_841] {
            plainly(seed);
        }
    }

    #[test]
    fn s4_a_topic_that_was_made_anew_begins_by_itself() {
        plainly(7002);
    }

    #[test]
    fn s3_an_older_topic_id_that_comes_back_meets_no_stamp_twice() {
        for seed in [7050, 7662, 8047, 8290, 8340, 9319, 9716] {
            plainly(seed);
        }
    }

    #[test]
    fn p21_the_oldest_batch_may_be_refused_behind_younger_ones_and_asks_for_an_epoch() {
        for seed in [76_824, 87_109] {
            plainly(seed);
        }
    }

    #[test]
    fn p20_metadata_is_asked_elsewhere_while_the_broker_that_owes_it_is_silent() {
        for seed in [1420, 19685] {
            plainly(seed);
        }
    }

    #[test]
    fn p20_a_transaction_whose_end_a_log_lost_is_ended_by_hand() {
        for (seed, remedy) in [
            (12_106, "operator: aborted a hanging transaction"),
            (28_124, "operator: aborted a hanging transaction"),
            (36_396, "operator: gave an application another id"),
            (2_000_213, "operator: aborted a hanging transaction"),
            (2_006_558, "operator: aborted a hanging transaction"),
        ] {
            let report = clean(seed, &Profile::disks());
            assert!(report.coverage.met.contains_key(remedy), "seed {seed}: {remedy}");
        }
    }

    #[test]
    fn p20_a_transaction_ends_by_itself_where_what_logs_lost_is_not_its_end() {
        for seed in [4396, 8022, 1_000_354] {
            clean(seed, &Profile::disks());
        }
    }

    #[test]
    fn p17_a_coordinator_that_lost_a_fence_tells_nobody_of_it() {
        for seed in [20_211, 32_222, 40_242, 60_196, 84_316, 96_266] {
            clean(seed, &Profile::disks());
        }
    }

    #[test]
    fn p1_p12_where_what_was_acknowledged_is_lost_an_earlier_attempt_or_a_later_batch_may_stand() {
        for seed in [20_064, 88_347] {
            clean(seed, &Profile::disks());
        }
    }

    #[test]
    fn p10_p17_an_instance_does_not_take_its_successors_epoch_when_the_protocol_is_lowered() {
        clean(823_124_373_960, &Profile::default());
    }

    #[test]
    fn p15_a_loss_of_power_does_not_bring_the_mark_of_a_clean_stop_back() {
        clean(36_777, &Profile::default());
    }

    #[test]
    fn p10_an_identity_that_a_coordinator_lost_and_gave_again_is_no_loss_of_the_producers() {
        clean(4761, &Profile::disks());
    }

    #[test]
    fn p10_what_a_disk_lost_is_known_whoever_had_stopped_and_whoever_told_of_it() {
        for seed in [1_003_143, 1_007_427] {
            clean(seed, &Profile::disks());
        }
    }

    #[test]
    fn p20_an_answer_that_was_lost_before_the_healing_is_waited_for() {
        clean(1_006_045, &Profile::disks());
    }

    #[test]
    fn p12_what_is_in_doubt_under_a_producer_id_that_ran_out_of_epochs_may_come_late() {
        clean(4801, &Profile::disks());
    }

    #[test]
    fn p1_rot_strikes_what_a_checksum_covers() {
        for seed in [4399, 24_024] {
            clean(seed, &Profile::disks());
        }
    }
}
