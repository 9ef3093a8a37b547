//! The golden files of sordini-protocol: messages and record batches from the Java client.

use std::fs;
use std::path::Path;

use crate::{Result, codegen, shell};

const CRATE: &str = "crates/sordini-protocol";

/// Makes both files with the programs under `tests/java/`; with `check` only compares them.
pub(crate) fn run(temp: &Path, check: bool) -> Result {
    let families = codegen::families(&shell::root().join(CRATE).join("schema"))?;
    let apis: Vec<&str> = families.iter().map(String::as_str).filter(|f| *f != "Header").collect();
    compare_or_keep(temp, check, "Messages", &apis, "messages.txt", |_| true)?;
    // The JDK may compress by any zlib, so another machine's gzip may differ and still be right.
    compare_or_keep(temp, check, "Batches", &[], "batches.txt", |line| !line.starts_with("gzip "))
}

fn compare_or_keep(
    temp: &Path,
    check: bool,
    program: &str,
    args: &[&str],
    file: &str,
    is_fixed: impl Fn(&str) -> bool,
) -> Result {
    let made = temp.join(file);
    java(temp, program, &made, args)?;
    let new = shell::read(&made)?;
    let name = format!("{CRATE}/tests/golden/{file}");
    let committed = shell::root().join(&name);
    if check {
        let old = shell::read(&committed)?;
        let fixed = |text: &str| -> Vec<String> {
            text.lines().filter(|line| is_fixed(line)).map(str::to_owned).collect()
        };
        if fixed(&old) != fixed(&new) {
            return Err(format!("{name} is not what the Java client makes: `cargo xtask golden`"));
        }
    } else {
        fs::write(&committed, new).map_err(|e| format!("{name}: {e}"))?;
    }
    println!("{name}: as the Java client makes it");
    Ok(())
}

/// Compiles and runs a program with the Java client; it writes the file.
fn java(temp: &Path, program: &str, file: &Path, args: &[&str]) -> Result {
    let mut classpath = shell::program("bash");
    classpath.args(["interop/kafka/kafka", "classpath"]);
    let classpath = shell::output(&mut classpath)?;
    let classpath = classpath.trim();
    let source = shell::root().join(CRATE).join(format!("tests/java/{program}.java"));
    let mut javac = shell::program("javac");
    shell::run(javac.args(["-cp", classpath, "-d"]).arg(temp).arg(source))?;
    let mut java = shell::program("java");
    java.arg("-cp").arg(format!("{}:{classpath}", temp.display()));
    shell::run(java.arg(program).arg(file).args(args))
}
