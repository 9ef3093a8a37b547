//! `cargo xtask tidy`: the rules of the house that no compiler knows.
//!
//! Each finding says where, which rule, and what to do. The rules look at syntax (syn), not at
//! text, wherever a comment or a string could deceive.

mod crates;
mod fences;
mod order;
mod paths;
mod sizes;
mod source;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::path::Path;

use crate::{Result, shell};
use order::Order;
use source::Source;

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    rule: &'static str,
    /// What is wrong, and the remedy.
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.message)
    }
}

pub(crate) fn run(args: &[String]) -> Result {
    if let Some(arg) = args.first() {
        return Err(format!("what is {arg}? tidy takes no arguments"));
    }
    let files = files()?;
    let mut findings = check(&shell::root(), &files)?;
    findings.extend(crates::check(&metadata()?));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, nothing found", files.len());
            Ok(())
        }
        n => Err(format!("{n} findings")),
    }
}

/// The files git knows or would add: what a clone would hold.
fn files() -> Result<Vec<String>> {
    let mut git = shell::program("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let root = shell::root();
    let listed = shell::output(&mut git)?;
    let names = listed.split('\0').filter(|name| root.join(name).is_file());
    Ok(names.map(str::to_owned).collect())
}

fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let core = Source::parse(order::ROOT, &shell::read(&root.join(order::ROOT))?);
    let order = core.map(|core| Order::of(&core)).unwrap_or_default();
    let mut findings = Vec::new();
    for name in files {
        let path = root.join(name);
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        findings.extend(words::check(name, &text));
        if name.ends_with(".rs") {
            findings.extend(check_rust(name, &text, &order));
        }
    }
    Ok(findings)
}

fn check_rust(name: &str, text: &str, order: &Order) -> Vec<Finding> {
    let source = match Source::parse(name, text) {
        Ok(source) => source,
        Err(finding) => return vec![finding],
    };
    let mut findings = crates::check_root(&source);
    if !source.generated {
        findings.extend(sizes::check(&source));
    }
    findings.extend(order.check(&source));
    findings.extend(fences::check(&source));
    findings
}

fn metadata() -> Result<serde_json::Value> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    serde_json::from_str(&shell::output(&mut cargo)?)
        .map_err(|e| format!("cargo metadata printed no JSON: {e}"))
}
