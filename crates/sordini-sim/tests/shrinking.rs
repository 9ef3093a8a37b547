//! A failing seed becomes a short story.

use sordini_sim::faults::FaultKind;
use sordini_sim::{Anomaly, Profile, plan, run, shrink, tell};

/// A world that is said to survive a loss of power, and does not: P10 is broken.
#[test]
fn a_failing_plan_is_reduced_to_what_breaks_it() {
    let mut profile = Profile::named("C-i").expect("a control");
    profile.menu = profile.menu.and(&[FaultKind::Delay, FaultKind::ResetAll, FaultKind::Hold]);
    profile.survivable = true;
    let plans = (0..50).map(|seed| plan(seed, &profile, &[]).expect("sound settings"));
    let mut many = plans.filter(|plan| plan.faults.len() > 6);
    let plan = many.find(|plan| run(plan).broken() == Some("P10")).expect("one fails");
    let less = shrink(&plan);
    let report = run(&less);
    assert!(report.violations.iter().any(|it| it.invariant == "P10"), "{less}\n{report}");
    let kinds: Vec<_> = less.kinds().into_iter().collect();
    assert_eq!((less.faults.len(), kinds), (1, vec![FaultKind::PowerLoss]), "{less}");
    assert!(less.to_string().contains("node 1 loses power"), "{less}");
    // What is reduced is still the same world: it can be lived through again.
    assert_eq!(run(&less).hash, report.hash);
}

#[test]
fn a_plan_that_breaks_nothing_stays_as_it_is() {
    let plan = plan(1, &Profile::calm(), &[]).expect("sound settings");
    assert_eq!(shrink(&plan), plan);
}

/// What the settings allow is reduced to its cause too, and told as what became of one record.
#[test]
fn a_loss_that_is_allowed_becomes_the_story_of_the_record_that_was_lost() {
    let mut profile = Profile::named("C-i").expect("a control");
    profile.menu = profile.menu.and(&[FaultKind::Delay, FaultKind::ResetAll, FaultKind::Hold]);
    let plans = (0..50).map(|seed| plan(seed, &profile, &[]).expect("sound settings"));
    let mut many = plans.filter(|plan| plan.faults.len() > 6);
    let plan = many.find(|plan| run(plan).shows(Anomaly::Loss)).expect("one loses");
    let less = shrink(&plan);
    let kinds: Vec<_> = less.kinds().into_iter().collect();
    assert_eq!((less.faults.len(), kinds), (1, vec![FaultKind::PowerLoss]), "{less}");

    let (report, timeline) = tell(&less);
    assert_eq!(report.hash, run(&less).hash, "a world that is told is the same world");
    let text = timeline.to_string();
    let record = report.witnesses[0].record;
    let marked: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
    for told in ["sends record", "appends record", "written at", "in the end  Loss"] {
        assert!(marked.iter().any(|line| line.contains(told)), "{told:?} of {record}:\n{text}");
    }
    assert!(text.contains("node 1 loses power") && text.contains("all is healed"), "{text}");
    assert!(text.lines().count() < 200 && text.lines().all(|line| line.len() < 200), "{text}");
}
