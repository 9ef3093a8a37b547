//! `cargo xtask codegen`: Kafka's messages, from the kafka-clients jar to committed Rust.
//!
//! - `codegen` writes the Rust from the tables under `crates/sordini-protocol/schema/`.
//! - `codegen --check` fails if the committed Rust differs. Needs no network and no JDK.
//! - `codegen --extract` first rewrites the tables from the jar of the Kafka that the project
//!   brings up (`interop/kafka`). Needs a JDK, Maven and, the first time, the network.

mod emit;
mod emit_codes;
mod emit_index;
mod emit_samples;
mod extract;
mod schema;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs the command with its arguments.
///
/// # Errors
/// A text that says what failed and what to do.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let krate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sordini-protocol");
    let schema_dir = krate.join("schema");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => write(&krate, &generate(&schema_dir)?),
        ["--check"] => check(&krate, &generate(&schema_dir)?),
        ["--extract"] => {
            extract::run(&schema_dir, &krate.join("tests/java/Facts.java"))?;
            write(&krate, &generate(&schema_dir)?)
        }
        _ => Err("usage: cargo xtask codegen [--check | --extract]".into()),
    }
}

/// Every generated file: its path within the crate, and its text.
fn generate(schema_dir: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let read = |name: &str| {
        let path = schema_dir.join(name);
        fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let mut modules = Vec::new();
    for family in families(schema_dir)? {
        let name = table_name(&family);
        let messages = schema::parse(&read(&name)?).map_err(|e| format!("{name}: {e}"))?;
        modules.push((family, messages));
    }
    let mut files = vec![
        (PathBuf::from("src/api_key.rs"), emit_codes::api_keys(&read("api_keys.txt")?)?),
        (PathBuf::from("src/error_code.rs"), emit_codes::error_codes(&read("errors.txt")?)?),
        (PathBuf::from("src/messages/mod.rs"), emit_index::modules(&modules)),
    ];
    files.push(("tests/support/samples.rs".into(), emit_samples::samples(&modules)?));
    for (family, messages) in &modules {
        let path = format!("src/messages/{}.rs", snake_case(family));
        files.push((path.into(), emit::module(family, messages)?));
    }
    files.into_iter().map(|(path, text)| Ok((path, format(&text)?))).collect()
}

/// The families of messages to generate, one a line in `families.txt`.
pub(crate) fn families(schema_dir: &Path) -> Result<Vec<String>, String> {
    let path = schema_dir.join("families.txt");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn table_name(family: &str) -> String {
    format!("{}.txt", snake_case(family))
}

fn write(krate: &Path, files: &[(PathBuf, String)]) -> Result<(), String> {
    for (path, text) in files {
        let path = krate.join(path);
        if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    for path in stale(krate, files)? {
        fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn check(krate: &Path, files: &[(PathBuf, String)]) -> Result<(), String> {
    let mut wrong = stale(krate, files)?;
    for (path, text) in files {
        if !fs::read_to_string(krate.join(path)).is_ok_and(|old| old == *text) {
            wrong.push(path.clone());
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = wrong.iter().map(|p| p.display().to_string()).collect();
    Err(format!(
        "these files differ from what the tables give: {}; run `cargo xtask codegen` and commit",
        list.join(", ")
    ))
}

/// Modules that no family stands for any more.
fn stale(krate: &Path, files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>, String> {
    let folder = krate.join("src/messages");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut stale = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if !files.iter().any(|(file, _)| krate.join(file) == path) {
            stale.push(path);
        }
    }
    Ok(stale)
}

/// Formats Rust as `cargo fmt` would.
fn format(text: &str) -> Result<String, String> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rustfmt.toml");
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("rustfmt: {e}; install it by `rustup component add rustfmt`"))?;
    let mut stdin = child.stdin.take().ok_or("rustfmt has no standard input")?;
    let input = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(|e| format!("rustfmt: {e}"))?;
    let written = writer.join().map_err(|_| "writing to rustfmt panicked".to_owned())?;
    written.map_err(|e| format!("rustfmt: {e}"))?;
    if !output.status.success() {
        return Err("rustfmt refused the generated code: a bug in codegen".into());
    }
    String::from_utf8(output.stdout).map_err(|e| e.to_string())
}

/// `TimeoutMs` -> `timeout_ms`, as Kafka's own generator does it.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut before: Option<char> = None;
    for c in name.chars() {
        if before.is_some_and(|before| c.is_uppercase() && !before.is_uppercase()) {
            out.push('_');
        }
        out.extend(c.to_lowercase());
        before = Some(c);
    }
    out
}

/// `TimeoutMs` -> `timeout_ms`, as a Rust identifier.
fn snake_case(name: &str) -> String {
    match snake(name).as_str() {
        "enable2_pc" => "enable_2pc".into(),
        word @ ("type" | "match" | "ref" | "move") => format!("r#{word}"),
        word => word.to_owned(),
    }
}

/// `NOT_COORDINATOR` -> `NotCoordinator`.
fn camel_case(name: &str) -> String {
    let capitalize = |word: &str| {
        let mut letters = word.chars();
        let first: String = letters.next().into_iter().collect();
        first + &letters.as_str().to_lowercase()
    };
    name.split('_').map(capitalize).collect()
}
