//! Thousands of seeds: nothing is broken, and every behaviour was met.

use sordini_sim::{Coverage, Profile, plan, run};

/// `SORDINI_SOAK_SEEDS` seeds (4000 by default) from `SORDINI_SOAK_FIRST` on, and a tenth as many
/// of the profile `disks`.
#[test]
#[ignore = "a soak: takes minutes, build it with --release"]
fn nothing_is_broken_and_no_behaviour_stays_away() {
    #[allow(clippy::disallowed_methods, reason = "a soak is told where to begin and to end")]
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (first, count) = (number("SORDINI_SOAK_FIRST", 0), number("SORDINI_SOAK_SEEDS", 4000));
    let mut coverage = Coverage::default();
    let mut broken = Vec::new();
    for (profile, count) in [(Profile::default(), count), (Profile::disks(), count / 10)] {
        for seed in first..first + count {
            let plan = plan(seed, &profile, &[]).expect("drawn settings make a producer");
            let report = run(&plan);
            coverage.add(&report.coverage);
            if !report.is_clean() {
                broken.push(format!("profile {}: {report}", profile.name));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert_eq!(coverage.missing(), [""; 0]);
}
