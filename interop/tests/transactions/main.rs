//! Transactions on real Kafka: what is written together is seen together or not at all, whatever is
//! killed meanwhile.

mod changed;
mod copied;
mod fenced;
mod numbered;
mod steps;

use std::time::Duration;

use sordini_interop::dialogue::Dialogue;

/// Longer than anything here takes; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(600);

/// Whole in the soak (which says so), or cut to about a minute for CI.
fn is_whole() -> bool {
    std::env::var_os("SORDINI_TRANSACTIONS").is_some_and(|value| value == "whole")
}

/// It runs still.
fn assert_runs(program: &mut Dialogue) {
    if let Some(status) = program.ended() {
        panic!("the program ended before its time: {status}");
    }
}

/// It came to its end, and well.
fn assert_ends(mut program: Dialogue) {
    let status = program.finish(DEADLINE).expect("it hangs");
    assert!(status.success(), "the program ended: {status}");
}
