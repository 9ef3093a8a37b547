//! What each crate may depend on, and what each crate's root must say.

use serde_json::Value;
use syn::{Attribute, Meta};

use super::Finding;
use super::source::Source;

/// The fences between our crates: who may use whom, and whom in tests as well. The embedded broker
/// does not see the core, so that an encoder bug cannot hide behind a decoder that shares it.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("sordini-protocol", &[], &[]),
    ("sordini-core", &["sordini-protocol"], &[]),
    ("sordini-broker", &["sordini-protocol"], &[]),
    ("sordini", &["sordini-core", "sordini-protocol"], &["sordini-broker"]),
    ("sordini-sim", &["sordini-core", "sordini-broker", "sordini-protocol"], &[]),
    ("sordini-cli", &["sordini", "sordini-broker", "sordini-sim", "sordini-protocol"], &[]),
];

/// All that the core may use: no runtime, no clock, no randomness comes in by a dependency.
const CORE_DEPENDENCIES: &[&str] =
    &["bytes", "crc-fast", "lz4_flex", "snap", "flate2", "zrip", "sordini-protocol"];

/// Crate roots without `forbid(unsafe_code)`, each with its reason.
const MAY_BE_UNSAFE: &[(&str, &str)] = &[
    (
        "interop/wasm/src/lib.rs",
        "exports functions to JavaScript, and an export without a mangled name counts as unsafe",
    ),
    (
        "bench/peers/limits/src/main.rs",
        "measures what encoding costs at the very least, which is without checks of bounds",
    ),
];

pub(super) fn check(metadata: &Value) -> Vec<Finding> {
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    packages.iter().flat_map(|package| check_package(root, package)).collect()
}

fn check_package(root: &str, package: &Value) -> Vec<Finding> {
    let name = package["name"].as_str().unwrap_or_default();
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    let file = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/').to_owned();
    let finding = |message| Finding { file: file.clone(), line: 1, rule: "dependencies", message };
    let mut findings = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let used = dependency["name"].as_str().unwrap_or_default();
        let dev = dependency["kind"].as_str() == Some("dev");
        if used.starts_with("sordini") && !edge_allowed(name, used, dev) {
            findings.push(finding(format!(
                "`{name}` must not depend on `{used}`{}; the edges between the crates are the \
                 architecture (EDGES in {})",
                if dev { ", not even in tests" } else { "" },
                file!()
            )));
        }
        if name == "sordini-core" && !dev && !CORE_DEPENDENCIES.contains(&used) {
            findings.push(finding(format!(
                "`sordini-core` must not depend on `{used}`; allowed: {}",
                CORE_DEPENDENCIES.join(", ")
            )));
        }
    }
    findings
}

fn edge_allowed(from: &str, to: &str, dev: bool) -> bool {
    // Outside the six crates (xtask, interop) anything goes: nothing depends on those.
    EDGES
        .iter()
        .find(|(name, ..)| *name == from)
        .is_none_or(|(_, always, in_tests)| always.contains(&to) || dev && in_tests.contains(&to))
}

/// A crate's root documents the crate and forbids unsafe code.
pub(super) fn check_root(source: &Source) -> Vec<Finding> {
    let is_root = source.name.ends_with("src/lib.rs") || source.name.ends_with("src/main.rs");
    if !is_root {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let attributes = &source.file.attrs;
    if !attributes.iter().any(|attribute| attribute.path().is_ident("doc")) {
        let message = "a crate's root begins with `//!`: what the crate is for".to_owned();
        findings.push(source.finding(1, "crate-docs", message));
    }
    let excepted = MAY_BE_UNSAFE.iter().any(|(file, _)| *file == source.name);
    if !excepted && !attributes.iter().any(forbids_unsafe) {
        let message = "a crate's root says `#![forbid(unsafe_code)]`".to_owned();
        findings.push(source.finding(1, "forbid-unsafe", message));
    }
    findings
}

fn forbids_unsafe(attribute: &Attribute) -> bool {
    matches!(&attribute.meta, Meta::List(list)
        if list.path.is_ident("forbid") && list.tokens.to_string().contains("unsafe_code"))
}
