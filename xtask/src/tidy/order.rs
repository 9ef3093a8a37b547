//! The core's modules stand in an order, and each uses only what stands above it. The order is that
//! of the `mod` declarations in the crate's root, where a reader looks first.

use syn::Item;

use super::Finding;
use super::paths;
use super::source::Source;

const CORE: &str = "crates/sordini-core";
pub(super) const ROOT: &str = "crates/sordini-core/src/lib.rs";

/// The modules of the core, top to bottom.
#[derive(Debug, Default)]
pub(super) struct Order(Vec<String>);

impl Order {
    /// Reads it from the core's root; tests stand outside it.
    pub(super) fn of(root: &Source) -> Self {
        let modules = root.file.items.iter().filter_map(|item| match item {
            Item::Mod(module) => Some(module.ident.to_string()),
            _ => None,
        });
        Self(modules.filter(|name| name != "tests").collect())
    }

    fn place(&self, module: &str) -> Option<usize> {
        self.0.iter().position(|name| name == module)
    }

    pub(super) fn check(&self, source: &Source) -> Vec<Finding> {
        let Some((CORE, module)) = source.module() else { return Vec::new() };
        let Some(own) = module.first() else { return Vec::new() };
        // A file that the root does not declare is not compiled.
        let Some(height) = self.place(own) else { return Vec::new() };
        let mut findings = Vec::new();
        for (inline, tokens) in source.production() {
            for path in paths::written(tokens) {
                let used = top_module(&path.segments, module.len() + inline);
                let Some(used) = used.filter(|used| self.place(used) > Some(height)) else {
                    continue;
                };
                let message = format!(
                    "`{own}` stands above `{used}` in {ROOT} and must not use it; move the common \
                     part up, or let `producer` carry it between them"
                );
                findings.push(source.finding(path.line, "module-order", message));
            }
        }
        findings.dedup();
        findings
    }
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
