//! The core's modules stand in an order, and each uses only what stands above it.

use super::Finding;
use super::paths;
use super::source::Source;

const CORE: &str = "crates/sordini-core";

/// Top to bottom, as in the crate's documentation.
const ORDER: &[&str] = &[
    "time",
    "error",
    "config",
    "guarantees",
    "wire",
    "record",
    "partitioner",
    "batch",
    "accumulator",
    "cluster",
    "connection",
    "sequencing",
    "acks",
    "idempotence",
    "transaction",
    "producer",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let Some((CORE, module)) = source.module() else { return Vec::new() };
    let Some(own) = module.first() else { return check_root(source) };
    let Some(height) = place(own) else {
        let message =
            format!("module `{own}` has no place in the order; give it one in ORDER ({})", file!());
        return vec![source.finding(1, "module-order", message)];
    };
    let mut findings = Vec::new();
    for (inline, tokens) in source.production() {
        for path in paths::written(tokens) {
            let Some(used) = top_module(&path.segments, module.len() + inline) else { continue };
            if place(used).is_some_and(|used| used > height) {
                let message = format!(
                    "`{own}` stands above `{used}` and must not use it; move the shared part up \
                     or let `producer` carry it between them"
                );
                findings.push(source.finding(path.line, "module-order", message));
            }
        }
    }
    findings.dedup();
    findings
}

/// The modules that the crate's root declares all have a place.
fn check_root(source: &Source) -> Vec<Finding> {
    let modules = source.file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    let unknown = modules.filter(|name| name != "tests" && place(name).is_none());
    unknown
        .map(|name| {
            let message =
                format!("module `{name}` has no place in the order; give it one in {}", file!());
            source.finding(1, "module-order", message)
        })
        .collect()
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

/// The top-level module that a path written at `depth` modules below the root leads into.
fn top_module(segments: &[String], depth: usize) -> Option<&str> {
    let mut rest = segments;
    if rest.first().is_some_and(|first| first == "crate") {
        return rest.get(1).map(String::as_str);
    }
    if rest.first().is_some_and(|first| first == "self") {
        rest = &rest[1..];
    }
    let up = rest.iter().take_while(|segment| *segment == "super").count();
    if up > 0 && up == depth { rest.get(up).map(String::as_str) } else { None }
}
