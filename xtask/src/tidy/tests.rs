use serde_json::json;

use super::order::{self, Order};
use super::paths::{self, Written};
use super::source::Source;
use super::{Finding, crates, words};

fn rules(findings: &[Finding]) -> Vec<(usize, &str)> {
    findings.iter().map(|finding| (finding.line, finding.rule)).collect()
}

fn check_rust(name: &str, text: &str) -> Vec<Finding> {
    let root =
        "mod time;\nmod error;\npub mod wire;\nmod batch;\nmod acks;\nmod producer;\nmod tests;";
    let root = Source::parse(order::ROOT, root).unwrap();
    super::check_rust(name, text, &Order::of(&root))
}

fn core(module: &str, text: &str) -> Vec<(usize, &'static str)> {
    let name = format!("crates/sordini-core/src/{module}.rs");
    check_rust(&name, text).iter().map(|finding| (finding.line, finding.rule)).collect()
}

#[test]
fn a_module_may_use_what_stands_above_it() {
    assert_eq!(core("batch/open", "use crate::time::Now;\nuse crate::{error, wire::record};"), []);
    assert_eq!(core("producer/inputs", "use crate::{time, acks::Verdict};"), []);
    assert_eq!(core("batch/open", "use super::sealed::Sealed;\nuse crate::batch::Body;"), []);
}

#[test]
fn a_module_may_not_use_what_stands_below_it() {
    let bad = [(1, "module-order")];
    assert_eq!(core("batch/open", "use crate::producer::Producer;"), bad);
    assert_eq!(core("batch/open", "use crate::{time::Now, acks::{self, Verdict}};"), bad);
    assert_eq!(core("batch/mod", "use super::producer::Producer;"), bad);
    assert_eq!(core("batch/open", "use super::super::producer::*;"), bad);
    assert_eq!(core("time", "fn f() { let _ = crate::wire::varint::read; }"), bad);
    assert_eq!(core("time", "fn f() { debug_assert!(x == crate::wire::LIMIT); }"), bad);
    assert_eq!(core("time", "mod inner { use super::super::wire::x; }"), bad);
    assert_eq!(core("time", "\n\nimpl crate::wire::Encode for Now {}"), [(3, "module-order")]);
}

#[test]
fn tests_and_words_in_comments_are_no_uses() {
    assert_eq!(core("time", "#[cfg(test)]\nmod tests { use crate::producer::Producer; }"), []);
    assert_eq!(core("time", "// crate::producer\nconst A: &str = \"crate::producer::x\";"), []);
    assert_eq!(core("batch/tests", "use crate::producer::Producer;"), []);
    assert_eq!(core("batch/open", "mod inner { use super::sealed; }"), []);
}

#[test]
fn paths_are_read_from_groups_and_macros() {
    let tokens = "use std::{fs, net::{TcpStream, *}}; assert!(a::b == c);".parse().unwrap();
    let found: Vec<String> =
        paths::written(tokens).into_iter().map(|w: Written| w.segments.join("::")).collect();
    for path in ["std::fs", "std::net::TcpStream", "std::net::*", "a::b", "c"] {
        assert!(found.iter().any(|f| f == path), "{path} in {found:?}");
    }
}

#[test]
fn long_functions_are_found_outside_tests() {
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines));
    let name = "crates/sordini/src/api.rs";
    assert_eq!(rules(&check_rust(name, &body(68))), []);
    assert_eq!(rules(&check_rust(name, &body(69))), [(1, "function-length")]);
    let method = format!("struct A;\nimpl A {{\n{}}}\n", body(69));
    assert_eq!(rules(&check_rust(name, &method)), [(3, "function-length")]);
    assert_eq!(rules(&check_rust("crates/sordini/src/tests.rs", &body(69))), []);
    assert_eq!(rules(&check_rust("crates/sordini/tests/x.rs", &body(69))), []);
    let generated = format!("// @generated\n{}", body(69));
    assert_eq!(rules(&check_rust(name, &generated)), []);
}

#[test]
fn a_table_is_no_long_function() {
    let name = "crates/sordini/src/api.rs";
    let table = |arm: &str| {
        let arms: String = (0..80).map(|n| format!("        {n} => {arm},\n")).collect();
        format!("fn f(x: u8) -> u8 {{\n    match x {{\n{arms}        _ => 0,\n    }}\n}}\n")
    };
    assert_eq!(rules(&check_rust(name, &table("1"))), []);
    assert_eq!(rules(&check_rust(name, &table("Kind::A { refresh: true }"))), []);
    assert_eq!(rules(&check_rust(name, &table("{ g(); 1 }"))), [(1, "function-length")]);
    assert_eq!(
        rules(&check_rust(name, &table("if x > 1 { 1 } else { 2 }"))),
        [(1, "function-length")]
    );
}

#[test]
fn long_files_are_found_and_inline_tests_are_not_counted() {
    let name = "crates/sordini/src/api.rs";
    let constants = |n: usize| "const A: u8 = 0;\n".repeat(n);
    assert_eq!(rules(&check_rust(name, &constants(600))), []);
    assert_eq!(rules(&check_rust(name, &constants(601))), [(1, "file-length")]);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", constants(90));
    assert_eq!(rules(&check_rust(name, &(constants(600) + &tests))), []);
}

#[test]
fn long_inline_tests_are_found() {
    let tests = |lines: usize| {
        format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    const A: u8 = 0;\n".repeat(lines))
    };
    let name = "crates/sordini/src/api.rs";
    assert_eq!(rules(&check_rust(name, &tests(97))), []);
    assert_eq!(rules(&check_rust(name, &tests(98))), [(1, "inline-tests")]);
}

#[test]
fn a_crate_root_says_what_it_is_for_and_forbids_unsafe() {
    let good = "//! A crate.\n#![forbid(unsafe_code)]\n";
    assert_eq!(rules(&check_rust("crates/sordini/src/lib.rs", good)), []);
    let no_docs = check_rust("crates/sordini/src/lib.rs", "#![forbid(unsafe_code)]");
    assert_eq!(rules(&no_docs), [(1, "crate-docs")]);
    let unsafe_ok = check_rust("crates/sordini-cli/src/main.rs", "//! A program.\nfn main() {}");
    assert_eq!(rules(&unsafe_ok), [(1, "forbid-unsafe")]);
    let named = check_rust("interop/wasm/src/lib.rs", "//! A scenario.");
    assert_eq!(rules(&named), []);
}

#[test]
fn the_brokers_rules_touch_no_clock_socket_or_file() {
    let log = "crates/sordini-broker/src/log/mod.rs";
    assert_eq!(rules(&check_rust(log, "use std::time::Duration;")), []);
    for bad in [
        "use std::time::{Duration, Instant};",
        "use std::{fs, io};",
        "fn f() { std::thread::sleep(d); }",
        "use std::collections::HashMap;",
        "use tokio::sync::oneshot;",
    ] {
        assert_eq!(rules(&check_rust(log, bad)), [(1, "broker-fence")], "{bad}");
    }
    let server = "crates/sordini-broker/src/server/mod.rs";
    assert_eq!(rules(&check_rust(server, "use std::net::SocketAddr;\nuse tokio::net;")), []);
    let disk = "crates/sordini-broker/src/storage/disk.rs";
    assert_eq!(rules(&check_rust(disk, "use std::fs::File;")), []);
    let tests = "#[cfg(test)]\nmod tests { use std::fs; }";
    assert_eq!(rules(&check_rust(log, tests)), []);
}

fn package(name: &str, used: &str, kind: Option<&str>) -> serde_json::Value {
    json!({
        "workspace_root": "/there",
        "packages": [{
            "name": name,
            "manifest_path": format!("/there/crates/{name}/Cargo.toml"),
            "dependencies": [{ "name": used, "kind": kind }],
        }],
    })
}

#[test]
fn crates_depend_only_along_the_edges() {
    let allowed = |name, used, kind| crates::check(&package(name, used, kind)).is_empty();
    assert!(allowed("sordini-core", "sordini-protocol", None));
    assert!(allowed("sordini-core", "zrip", None));
    assert!(allowed("sordini-core", "proptest", Some("dev")));
    assert!(!allowed("sordini-core", "tokio", None));
    assert!(!allowed("sordini-broker", "sordini-core", None));
    assert!(!allowed("sordini-broker", "sordini-core", Some("dev")));
    assert!(allowed("sordini", "sordini-broker", Some("dev")));
    assert!(!allowed("sordini", "sordini-broker", None));
    assert!(allowed("sordini-interop", "sordini-core", None));
    let found = crates::check(&package("sordini-broker", "sordini-core", None));
    assert_eq!(found[0].file, "crates/sordini-broker/Cargo.toml");
}

#[test]
fn places_of_one_machine_are_found() {
    let bad = concat!("see /wo", "rk/main");
    assert_eq!(rules(&words::check("README.md", bad)), [(1, "forbidden-word")]);
    let outside = concat!("a\nb ../sha", "red/x");
    assert_eq!(rules(&words::check("docs/a.md", outside)), [(2, "forbidden-word")]);
    assert_eq!(rules(&words::check("README.md", "a network, at root, and shared memory")), []);
}

#[test]
fn what_is_no_rust_is_a_finding() {
    assert_eq!(rules(&check_rust("crates/sordini/src/a.rs", "fn (")), [(1, "syntax")]);
}
