//! Other programs, and the project's folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the workspace").to_owned()
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the workspace.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// `cargo` as the one that runs this program, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// A program in the workspace's folder.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// Runs it to its end, with this program's output; no input, so that nothing waits for a person.
pub(crate) fn run(command: &mut Command) -> Result {
    let shown = shown(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("cannot start `{shown}`: {e}; is it installed and on the path?"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed: {status}")) }
}

/// Runs it to its end and returns what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|e| {
            format!("cannot start `{shown}`: {e}; is it installed and on the path?")
        })?;
    if !output.status.success() {
        return Err(format!("`{shown}` failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("`{shown}` printed no UTF-8: {e}"))
}

/// Does the program start and say that it is well?
pub(crate) fn works(name: &str, args: &[&str]) -> bool {
    let mut command = program(name);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Does this variable say that a lack is an error, and no reason to skip?
pub(crate) fn is_required(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value == "1")
}

/// What real Kafka needs and this machine lacks; `None` if it can be brought up.
pub(crate) fn missing_for_kafka() -> Option<String> {
    let missing: Vec<&str> = [
        ("a JDK (17 or newer): javac", works("javac", &["-version"])),
        ("Maven: mvn", works("mvn", &["-v"])),
        ("bash", works("bash", &["--version"])),
    ]
    .into_iter()
    .filter_map(|(what, found)| (!found).then_some(what))
    .collect();
    if missing.is_empty() { None } else { Some(missing.join(", ")) }
}

/// The file's text.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
