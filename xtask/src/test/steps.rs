//! The steps, quick ones first.

use std::process::Command;

use super::{Outcome, Step};
use crate::{Result, instructions, shell, sim, wasm};

pub(super) const STEPS: &[Step] = &[
    Step { name: "fmt", about: "rustfmt changes nothing", run: fmt },
    Step { name: "tidy", about: "the rules of the house", run: || passed(crate::tidy::run(&[])) },
    Step { name: "clippy", about: "no warning, all targets", run: clippy },
    Step { name: "doc", about: "the documentation builds without a warning", run: doc },
    Step { name: "examples", about: "the committed events are the generated ones", run: examples },
    Step { name: "codegen", about: "the committed messages are the generated ones", run: codegen },
    Step { name: "deny", about: "licences, sources and bans of the dependencies", run: deny },
    Step { name: "unit", about: "unit, integration and documentation tests", run: unit },
    Step { name: "shuttle", about: "threads under a scheduler, by the seed", run: shuttle },
    Step { name: "fuzz", about: "the fuzz targets compile", run: fuzz },
    Step { name: "wasm", about: "the core as WebAssembly, one run under Node", run: wasm::step },
    Step { name: "sim", about: "simulated worlds that follow from the commit", run: sim::step },
    Step { name: "mutants", about: "every planted fault is found", run: sim::mutants_step },
    Step {
        name: "instructions",
        about: "a record's life costs what it did, under callgrind",
        run: instructions::step,
    },
    Step { name: "golden", about: "the golden data are the Java client's", run: golden },
    Step { name: "interop", about: "real Kafka and foreign clients as judges", run: interop },
];

fn passed(result: Result) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

fn cargo(args: &[&str]) -> Command {
    let mut cargo = shell::cargo();
    cargo.args(args);
    cargo
}

fn fmt() -> Result<Outcome> {
    passed(shell::run(&mut cargo(&["fmt", "--all", "--check"])))
}

fn clippy() -> Result<Outcome> {
    passed(shell::run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])))
}

fn doc() -> Result<Outcome> {
    let mut cargo = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    passed(shell::run(&mut cargo))
}

fn examples() -> Result<Outcome> {
    passed(crate::examples::run(&["--check".to_owned()]))
}

fn codegen() -> Result<Outcome> {
    passed(crate::codegen::run(&["--check".to_owned()]))
}

fn deny() -> Result<Outcome> {
    if !shell::works("cargo", &["deny", "--version"]) {
        return Ok(Outcome::Skipped("cargo-deny is not installed".to_owned()));
    }
    passed(shell::run(&mut cargo(&["deny", "check", "licenses", "bans", "sources"])))
}

fn unit() -> Result<Outcome> {
    passed(shell::run(&mut cargo(&["test", "--workspace", "--exclude", "sordini-interop"])))
}

/// The core's data plane with a scheduler's locks and atomics in the place of the library's: 150,000
/// schedules, in some seconds.
fn shuttle() -> Result<Outcome> {
    const TESTS: &str = "tests::schedules::";
    let mut cargo = cargo(&["test", "--package", "sordini-core", "--lib", "--", TESTS]);
    // Else every step would build all anew.
    cargo.env("CARGO_TARGET_DIR", shell::target().join("shuttle"));
    cargo.env("RUSTFLAGS", "--cfg shuttle");
    // Only SeqCst is modelled; the weaker orders are argued for where they stand.
    cargo.env("SHUTTLE_SILENCE_WARNINGS", "1");
    let told = shell::output(&mut cargo)?;
    print!("{told}");
    // A filter that finds nothing passes too.
    if !told.contains(&format!("test {TESTS}")) {
        return Err(format!("no test is called {TESTS}"));
    }
    Ok(Outcome::Passed)
}

/// A workspace of its own; running it needs nightly, checking it does not.
fn fuzz() -> Result<Outcome> {
    let mut cargo = cargo(&["check", "--quiet", "--locked", "--bins"]);
    passed(shell::run(cargo.current_dir(shell::root().join("fuzz"))))
}

fn golden() -> Result<Outcome> {
    if let Some(outcome) = without_kafka()? {
        return Ok(outcome);
    }
    passed(crate::golden::run(&["--check".to_owned()]))
}

fn interop() -> Result<Outcome> {
    if let Some(outcome) = without_kafka()? {
        return Ok(outcome);
    }
    // Each test binary brings up what it needs; two at once would share two cores with Kafka.
    let mut build = cargo(&["build", "--quiet", "--package", "sordini-cli"]);
    shell::run(&mut build)?;
    passed(shell::run(&mut cargo(&[
        "test",
        "--package",
        "sordini-interop",
        "--",
        "--test-threads=1",
        "--nocapture",
    ])))
}

/// `None`: real Kafka can be brought up here. A lack is a skip, or an error where
/// `SORDINI_REQUIRE_KAFKA=1` says that there must be none.
fn without_kafka() -> Result<Option<Outcome>> {
    let Some(missing) = shell::missing_for_kafka() else { return Ok(None) };
    if shell::is_required("SORDINI_REQUIRE_KAFKA") {
        return Err(format!("SORDINI_REQUIRE_KAFKA=1, and missing here: {missing}"));
    }
    Ok(Some(Outcome::Skipped(format!("missing here: {missing}"))))
}
