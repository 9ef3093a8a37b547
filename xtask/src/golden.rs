//! `cargo xtask golden`: test data that the Java client made, with the programs that make them.

use std::fs;
use std::path::Path;

use crate::{Result, golden_protocol, shell};

const MURMUR2: &str = "crates/sordini-core/tests/golden/murmur2.bin";
const VERDICTS: &str = "crates/sordini-core/tests/verdicts.tsv";

/// Regenerates the data; with `--check` only compares them with what is committed.
pub(crate) fn run(args: &[String]) -> Result {
    let check = match args {
        [] => false,
        [arg] if arg == "--check" => true,
        _ => return Err(format!("what is {args:?}? Known: --check")),
    };
    if let Some(missing) = shell::missing_for_kafka() {
        return Err(format!("the Java client makes these data; missing here: {missing}"));
    }
    let temp = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    murmur2(temp.path(), check)?;
    error_codes(temp.path())?;
    golden_protocol::run(temp.path(), check)
}

fn murmur2(temp: &Path, check: bool) -> Result {
    let made = temp.join("murmur2.bin");
    java("Murmur2", &made)?;
    let committed = shell::root().join(MURMUR2);
    let new = fs::read(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    if check {
        let old = fs::read(&committed).map_err(|e| format!("{MURMUR2}: {e}"))?;
        if old != new {
            return Err(format!(
                "{MURMUR2} is not what the Java client makes: `cargo xtask golden`"
            ));
        }
    } else {
        fs::write(&committed, new).map_err(|e| format!("{MURMUR2}: {e}"))?;
    }
    println!("{MURMUR2}: as the Java client makes it");
    Ok(())
}

/// The first columns of the verdict table are facts of the jar; the others are read in sources, by
/// people, and cannot be regenerated.
fn error_codes(temp: &Path) -> Result {
    let made = temp.join("errors.tsv");
    java("ErrorCodes", &made)?;
    let expected = shell::read(&made)?;
    let table = shell::read(&shell::root().join(VERDICTS))?;
    let mut committed: Vec<String> = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [code, name, _, java, ..] = columns[..] else {
            return Err(format!("{VERDICTS}: too few columns: {line}"));
        };
        let fact = format!("{code}\t{name}\t{java}");
        // A code may have several rows, one for each condition on the response.
        if code != "*" && committed.last() != Some(&fact) {
            committed.push(fact);
        }
    }
    for (fact, row) in expected.lines().zip(&committed) {
        if fact != row {
            return Err(format!("{VERDICTS}: the jar says `{fact}`, the table `{row}`"));
        }
    }
    if expected.lines().count() != committed.len() {
        return Err(format!(
            "{VERDICTS} has {} codes, the jar {}",
            committed.len(),
            expected.lines().count()
        ));
    }
    println!("{VERDICTS}: codes, names and exception classes as in the jar");
    Ok(())
}

/// Runs a program of interop/golden/ with the Java client; it writes the file.
fn java(class: &str, file: &Path) -> Result {
    let root = shell::root();
    let mut classpath = shell::program("bash");
    classpath.arg(root.join("interop/kafka/kafka")).arg("classpath");
    let classpath = shell::output(&mut classpath)?;
    let mut java = shell::program("java");
    java.arg("-cp").arg(classpath.trim());
    java.arg(root.join("interop/golden").join(format!("{class}.java"))).arg(file);
    shell::run(&mut java)
}
