//! What the parts of a record's life cost, in instructions: bench/instructions run under callgrind,
//! and compared with the counts that are committed beside it.
//!
//! A count does not depend on what else the machine does, which a time does. It says nothing of
//! caches and locks under contention: those are measured by `cargo xtask compare`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::test::Outcome;
use crate::{Result, shell};

const PACKAGE: &str = "sordini-instructions";
const EXPECTED: &str = "bench/instructions/expected.tsv";

/// How far a count may be from the committed one, in either direction: an improvement that is not
/// committed would let as much come back unseen.
const TOLERANCE: f64 = 0.03;

/// Callgrind counts what runs in a function of this name.
const MEASURED: &str = "*sordini_instructions::measured*";

/// Instructions to a unit, by program.
type Counts = BTreeMap<String, f64>;

/// `cargo xtask instructions [--write]`.
pub(crate) fn run(args: &[String]) -> Result {
    let write = match args {
        [] => false,
        [arg] if arg == "--write" => true,
        _ => return Err("only --write, which makes today's counts the expected ones".to_owned()),
    };
    if let Some(missing) = missing() {
        return Err(missing);
    }
    let counts = count()?;
    if write {
        return self::write(&counts);
    }
    compare(&counts)
}

/// A step of `cargo xtask test`; CI sets `SORDINI_REQUIRE_VALGRIND=1`.
pub(crate) fn step() -> Result<Outcome> {
    match missing() {
        None => run(&[]).map(|()| Outcome::Passed),
        Some(missing) if shell::is_required("SORDINI_REQUIRE_VALGRIND") => Err(missing),
        Some(missing) => Ok(Outcome::Skipped(missing)),
    }
}

fn missing() -> Option<String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Some("the committed counts are those of x86-64 Linux".to_owned());
    }
    let found = shell::works("valgrind", &["--version"]);
    (!found).then(|| "missing here: valgrind".to_owned())
}

fn expected_file() -> PathBuf {
    shell::root().join(EXPECTED)
}

fn count() -> Result<Counts> {
    shell::run(shell::cargo().args(["build", "--release", "--quiet", "--package", PACKAGE]))?;
    let program = shell::target().join("release").join(PACKAGE);
    let profiles = shell::target().join("instructions");
    fs::create_dir_all(&profiles).map_err(|e| format!("{}: {e}", profiles.display()))?;
    let names = shell::output(&mut Command::new(&program))?;
    let mut counts = Counts::new();
    for name in names.lines() {
        let profile = profiles.join(format!("{name}.callgrind"));
        counts.insert(name.to_owned(), count_one(&program, name, &profile)?);
    }
    Ok(counts)
}

/// Instructions to a unit of one program; its profile stays, for callgrind_annotate.
fn count_one(program: &Path, name: &str, profile: &Path) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(name)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start valgrind: {e}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name} under valgrind: {}\n{told}", output.status));
    }
    let units = String::from_utf8_lossy(&output.stdout).trim().parse::<u32>();
    let units = units.map_err(|e| format!("{name} printed no number of units: {e}"))?;
    let collected = told.lines().find_map(|line| line.split_once("Collected :"));
    let collected = collected.and_then(|(_, count)| count.trim().parse::<f64>().ok());
    match collected {
        Some(count) if count > 0.0 && units > 0 => Ok(count / f64::from(units)),
        _ => Err(format!("{name}: callgrind counted nothing in {MEASURED}\n{told}")),
    }
}

fn read_expected() -> Result<Counts> {
    let text = shell::read(&expected_file())?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    lines.map(|line| parse(line).ok_or_else(|| format!("{EXPECTED}: what is `{line}`?"))).collect()
}

fn write(counts: &Counts) -> Result {
    let mut text =
        "# Instructions to a unit, by program; `cargo xtask instructions --write`.\n".to_owned();
    for (name, count) in counts {
        text += &format!("{name}\t{count:.1}\n");
    }
    let file = expected_file();
    fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))
}

fn compare(counts: &Counts) -> Result {
    let expected = read_expected()?;
    let mut off = Vec::new();
    println!("{:24} {:>12} {:>12} {:>8}", "program", "expected", "counted", "change");
    for (name, counted) in counts {
        let Some(wanted) = expected.get(name) else {
            off.push(format!("{name} is new"));
            continue;
        };
        let change = counted / wanted - 1.0;
        println!("{name:24} {wanted:>12.1} {counted:>12.1} {:>7.1}%", change * 100.0);
        if change.abs() > TOLERANCE {
            off.push(format!("{name} {:+.1} %", change * 100.0));
        }
    }
    let gone = expected.keys().filter(|name| !counts.contains_key(*name));
    off.extend(gone.map(|name| format!("{name} is gone")));
    if off.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}; if that is meant, say why in the commit that takes it in (`cargo xtask instructions \
         --write`)",
        off.join(", ")
    ))
}
