//! The simulator in CI: worlds that follow from the commit, runs that must be equal, and faults
//! planted to see that they are found.

use std::fs;
use std::path::{Path, PathBuf};

use crate::test::Outcome;
use crate::{Result, shell};

/// Worlds of each commit's run.
const WORLDS: &str = "2000";
/// Worlds that are lived through twice, in two processes.
const TWICE: &str = "200";
/// The same in a build without optimisation, which is slow.
const SLOWLY: &str = "20";
/// Worlds within which each planted fault must be found.
const BUDGET: &str = "2000";
/// A text that only builds with planted faults hold.
const MARK: &str = "an out-of-order answer to a batch that is not the oldest bumps the epoch";

pub(crate) fn step() -> Result<Outcome> {
    let release = binary("release")?;
    let first = first_seed();
    println!("worlds {first} and on: they follow from the commit");
    sim(&release, &["--first", &first, "--seeds", WORLDS])?;
    let again = |program: &Path, count: &str| -> Result<String> {
        let printed = output(program, &["--first", &first, "--seeds", count, "--json"])?;
        let hash = printed.split("\"hash\":\"").nth(1).and_then(|rest| rest.split('"').next());
        hash.map(str::to_owned).ok_or_else(|| format!("no hash in {printed}"))
    };
    let hashes = [again(&release, TWICE)?, again(&release, TWICE)?];
    println!("{TWICE} worlds, twice: {} and {}", hashes[0], hashes[1]);
    let debug = binary("debug")?;
    let builds = [again(&release, SLOWLY)?, again(&debug, SLOWLY)?];
    println!("{SLOWLY} worlds, optimised and not: {} and {}", builds[0], builds[1]);
    if hashes[0] != hashes[1] || builds[0] != builds[1] {
        return Err("the same seeds gave different runs".to_owned());
    }
    Ok(Outcome::Passed)
}

/// `cargo xtask mutants [BUDGET] [NAME ..]`.
pub(crate) fn mutants(args: &[String]) -> Result {
    for profile in ["release", "debug"] {
        let program = shell::target().join(profile).join("sordini");
        let bytes = fs::read(&program).unwrap_or_default();
        if bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes()) {
            return Err(format!("{} has planted faults in it", program.display()));
        }
    }
    let mut cargo = shell::cargo();
    cargo.args(["run", "--release", "--quiet", "--package", "sordini-sim"]);
    cargo.args(["--example", "mutants", "--"]);
    match args {
        [] => cargo.arg(BUDGET),
        args => cargo.args(args),
    };
    // In a folder of its own: the flag would else rebuild everything, back and forth.
    cargo.env("CARGO_TARGET_DIR", shell::target().join("mutants"));
    cargo.env("RUSTFLAGS", "--cfg sordini_mutants");
    shell::run(&mut cargo)
}

pub(crate) fn mutants_step() -> Result<Outcome> {
    mutants(&[]).map(|()| Outcome::Passed)
}

fn binary(profile: &str) -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--quiet", "--package", "sordini-cli"]);
    if profile == "release" {
        cargo.arg("--release");
    }
    shell::run(&mut cargo)?;
    Ok(shell::target().join(profile).join("sordini"))
}

fn sim(program: &Path, args: &[&str]) -> Result {
    shell::run(shell::program(&program.to_string_lossy()).arg("sim").args(args))
}

fn output(program: &Path, args: &[&str]) -> Result<String> {
    shell::output(shell::program(&program.to_string_lossy()).arg("sim").args(args))
}

/// A number that a commit always gives, so that its run can be repeated; 0 without git.
fn first_seed() -> String {
    let mut git = shell::program("git");
    let commit = shell::output(git.args(["rev-parse", "HEAD"])).unwrap_or_default();
    let seed = commit.get(..10).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    seed.unwrap_or(0).to_string()
}
