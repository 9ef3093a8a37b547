//! The core as WebAssembly: it compiles, and one scenario runs under Node as it runs natively.

use std::process::Command;

use crate::test::Outcome;
use crate::{Result, shell};

const SCENARIO: &str = "sordini-wasm-scenario";
const TARGET: &str = "wasm32-unknown-unknown";

pub(crate) fn step() -> Result<Outcome> {
    if let Some(missing) = ensure_target() {
        return Ok(Outcome::Skipped(missing));
    }
    let mut check = shell::cargo();
    check.args(["check", "--quiet", "--package", "sordini-core", "--target", TARGET]);
    shell::run(&mut check)?;
    if !shell::works("node", &["--version"]) {
        return Ok(Outcome::Skipped("the core compiles, but Node is missing to run it".to_owned()));
    }
    same_events()
}

/// The scenario's events have one hash, natively and as WebAssembly.
fn same_events() -> Result<Outcome> {
    let mut native = shell::cargo();
    native.args(["run", "--quiet", "--package", SCENARIO, "--bin", "native"]);
    let native = shell::output(&mut native)?;
    let mut build = shell::cargo();
    build.args(["build", "--quiet", "--package", SCENARIO, "--lib", "--target", TARGET]);
    shell::run(&mut build)?;
    let module = shell::target().join(TARGET).join("debug/sordini_wasm_scenario.wasm");
    let mut node = shell::program("node");
    node.arg("interop/wasm/run.mjs").arg(module);
    let wasm = shell::output(&mut node)?;
    println!("event hash and records: natively {}, as wasm {}", native.trim(), wasm.trim());
    if native == wasm {
        Ok(Outcome::Passed)
    } else {
        Err("the core does not do the same as WebAssembly".to_owned())
    }
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
