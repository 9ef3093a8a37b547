//! Builds the sink and the peers, each from its registry, into target/compare.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::peers::{Language, Peer};
use crate::{Result, shell};

/// Where everything is built. The folder is made.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = shell::target().join("compare");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

fn sources(name: &str) -> PathBuf {
    shell::root().join("bench/peers").join(name)
}

pub(super) fn all(peers: &[Peer]) -> Result {
    let needs = |language| peers.iter().any(|peer| peer.language == language);
    if needs(Language::Own) {
        let mut cargo = shell::cargo();
        shell::run(cargo.args([
            "build",
            "--release",
            "--package",
            "sordini",
            "--example",
            "peer",
        ]))?;
    }
    rust(needs(Language::Rust))?;
    if needs(Language::Go) {
        let program = folder()?.join("franz");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(program).arg(".").current_dir(sources("franz"));
        shell::run(&mut go)?;
    }
    if needs(Language::Java) {
        java()?;
    }
    Ok(())
}

/// A workspace of its own: C and old crates stay out of the project's.
fn rust(peers: bool) -> Result {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--release", "--locked"]).current_dir(sources("."));
    cargo.env("CARGO_TARGET_DIR", folder()?);
    if peers {
        cargo.arg("--workspace")
    } else {
        cargo.args(["--package", "bench-sink"])
    };
    shell::run(&mut cargo)
}

fn java() -> Result {
    let (classes, jars) = (folder()?.join("java/classes"), folder()?.join("java/lib"));
    fs::create_dir_all(&classes).map_err(|e| format!("{}: {e}", classes.display()))?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy-dependencies"]);
    maven.arg(format!("-DoutputDirectory={}", jars.display())).current_dir(sources("java"));
    shell::run(&mut maven)?;
    let mut javac = Command::new("javac");
    javac.args(["-cp", &format!("{}/*", jars.display()), "-d"]).arg(classes).arg("Peer.java");
    shell::run(javac.current_dir(sources("java")))
}
