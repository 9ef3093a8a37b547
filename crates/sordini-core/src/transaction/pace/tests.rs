use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Transactions in a row, each answered after 2 ms, or 22 where it came before its markers: how
/// many did.
fn run(pace: &mut Pace, transactions: u32, markers: Duration) -> u32 {
    let mut paused = 0;
    for _ in 0..transactions {
        let late = pace.hold() < markers;
        paused += u32::from(late);
        pace.learn(if late { millis(22) } else { millis(2) }, Met::Nothing);
    }
    paused
}

/// How long so many answers are held on average, each taking what it is told to.
fn held(pace: &mut Pace, count: u32, mut took: impl FnMut(u32) -> Duration) -> Duration {
    let held: Duration = (0..count)
        .map(|number| {
            pace.learn(took(number), Met::Nothing);
            pace.hold()
        })
        .sum();
    held / count
}

#[test]
fn a_first_batch_seldom_comes_before_the_markers_and_waits_little_for_them() {
    let mut pace = Pace::default();
    pace.learn(millis(2), Met::Nothing);
    for micros in [300, 900, 2_500, 7_000] {
        let markers = Duration::from_micros(micros);
        run(&mut pace, 12, markers);
        let paused = run(&mut pace, 1_000, markers);
        assert!(paused <= 12, "{paused} of 1,000 with markers of {markers:?}");
        assert!(pace.hold() <= 2 * markers.max(LEAST), "{:?} for {markers:?}", pace.hold());
    }
    // Back to none, once they take no time.
    assert_eq!(run(&mut pace, 5_000, Duration::ZERO), 0);
    assert_eq!(pace.hold(), Duration::ZERO);
}

#[test]
fn where_markers_are_never_met_nothing_is_held() {
    let mut pace = Pace::default();
    assert_eq!(run(&mut pace, 100, Duration::ZERO), 0);
    assert_eq!(pace.hold(), Duration::ZERO);
}

#[test]
fn a_pause_that_does_not_help_is_given_up_and_seldom_tried_again() {
    let mut pace = Pace::default();
    pace.learn(millis(2), Met::Nothing);
    let mut held = 0;
    for _ in 0..20_000 {
        held += u32::from(pace.hold() > Duration::ZERO);
        pace.learn(millis(40), Met::Markers);
        assert!(pace.hold() <= LONGEST);
    }
    assert!((10..=100).contains(&held), "{held} of 20,000");
}

#[test]
fn what_is_late_now_and_then_is_no_reason_to_hold() {
    for period in [2, 3, 10, 50, 100, 150, 200, 1_000] {
        let mut pace = Pace::default();
        let slow = |number| if number % period == 1 { millis(25) } else { millis(3) };
        let held = held(&mut pace, 20_000, slow);
        assert_eq!(held, Duration::ZERO, "one in {period}");
    }
    for percent in [1, 5, 10, 20, 50] {
        let mut pace = Pace::default();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let slow = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state % 100 < percent { millis(25) } else { millis(3) }
        };
        let held = held(&mut pace, 20_000, slow);
        assert!(held <= Duration::from_micros(20 * percent), "{held:?}, {percent} of 100");
    }
}

#[test]
fn a_slow_cluster_is_not_taken_for_one_that_pauses() {
    let mut pace = Pace::default();
    pace.learn(millis(2), Met::Nothing);
    let held = held(&mut pace, 2_000, |_| millis(60));
    assert!(held <= Duration::from_micros(500), "{held:?}");
    assert_eq!(pace.hold(), Duration::ZERO);
}

#[test]
fn answers_that_name_the_transaction_before_are_of_those_that_came_too_soon() {
    let mut pace = Pace::default();
    (0..2).for_each(|_| pace.learn(millis(2), Met::Markers));
    assert_eq!(pace.hold(), LEAST);
}
