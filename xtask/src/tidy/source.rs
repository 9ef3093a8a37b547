//! A Rust file, parsed, and which of it is test code.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, Item};

use super::Finding;

pub(super) struct Source {
    pub(super) name: String,
    pub(super) lines: usize,
    /// Written by a program: the first lines say `@generated`.
    pub(super) generated: bool,
    pub(super) file: syn::File,
}

impl Source {
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, Finding> {
        let file = syn::parse_file(text).map_err(|e| Finding {
            file: name.to_owned(),
            line: e.span().start().line,
            rule: "syntax",
            message: format!("not Rust: {e}"),
        })?;
        let generated = text.lines().take(5).any(|line| line.contains("@generated"));
        Ok(Self { name: name.to_owned(), lines: text.lines().count(), generated, file })
    }

    /// Is the whole file test, bench or example code?
    pub(super) fn is_test(&self) -> bool {
        let file = self.name.rsplit('/').next().unwrap_or_default();
        file == "tests.rs"
            || self.name.split('/').any(|part| matches!(part, "tests" | "benches" | "examples"))
                && !self.name.starts_with("xtask/")
    }

    /// The crate's folder (`crates/sordini-core`) and the module path of this file in it
    /// (`[wire, varint]`; empty for the crate's root). `None` outside a crate's `src`.
    pub(super) fn module(&self) -> Option<(&str, Vec<&str>)> {
        let (krate, file) = self.name.split_once("/src/")?;
        let mut path: Vec<&str> = file.strip_suffix(".rs")?.split('/').collect();
        if matches!(path[..], [.., "mod"] | ["lib" | "main"]) {
            path.pop();
        }
        Some((krate, path))
    }

    /// The tokens of everything but test modules, in pieces, each with the number of inline
    /// modules around it.
    pub(super) fn production(&self) -> Vec<(usize, TokenStream)> {
        let mut pieces = Vec::new();
        if !self.is_test() {
            production(&self.file.items, 0, &mut pieces);
        }
        pieces
    }

    pub(super) fn finding(&self, line: usize, rule: &'static str, message: String) -> Finding {
        Finding { file: self.name.clone(), line, rule, message }
    }
}

fn production(items: &[Item], depth: usize, pieces: &mut Vec<(usize, TokenStream)>) {
    for item in items {
        match item {
            item if attributes(item).iter().any(is_cfg_test) => {}
            Item::Mod(module) if module.content.is_some() => {
                let (_, items) = module.content.as_ref().expect("just seen");
                production(items, depth + 1, pieces);
            }
            item => pieces.push((depth, item.to_token_stream())),
        }
    }
}

/// `#[cfg(test)]`, or one of `test` with something else.
pub(super) fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| {
            let text = list.tokens.to_string();
            text == "test" || text.starts_with("all (test") || text.starts_with("all(test")
        })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::ExternCrate(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// The lines from the first to the last token.
pub(super) fn extent(item: &impl Spanned) -> (usize, usize) {
    let span = item.span();
    (span.start().line, span.end().line)
}
