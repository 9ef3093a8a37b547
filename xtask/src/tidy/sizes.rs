//! Functions, files and inline test modules stay small. Tests are exempt from the first two.

use proc_macro2::Span;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ImplItemFn, Item, ItemFn, ItemMod, Signature, Stmt, TraitItemFn};

use super::Finding;
use super::source::{Source, extent, is_cfg_test};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;
const INLINE_TEST_LINES: usize = 100;

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut sizes = Sizes { findings: Vec::new(), source, test_lines: 0 };
    sizes.visit_file(&source.file);
    let lines = source.lines - sizes.test_lines;
    let mut findings = sizes.findings;
    if !source.is_test() && lines > FILE_LINES {
        let message = format!(
            "{lines} lines without tests, at most {FILE_LINES}: split it along what it knows"
        );
        findings.push(source.finding(1, "file-length", message));
    }
    findings
}

struct Sizes<'a> {
    findings: Vec<Finding>,
    source: &'a Source,
    test_lines: usize,
}

impl Sizes<'_> {
    fn function(&mut self, signature: &Signature, block: &Block) {
        let start = signature.fn_token.span.start().line;
        let end = end_line(block.brace_token.span.close());
        let lines = end + 1 - start;
        if lines > FUNCTION_LINES && !self.source.is_test() && !is_table(block) {
            let message = format!(
                "`{}` has {lines} lines, at most {FUNCTION_LINES}: name its parts",
                signature.ident
            );
            self.findings.push(self.source.finding(start, "function-length", message));
        }
    }
}

impl<'ast> Visit<'ast> for Sizes<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if module.attrs.iter().any(is_cfg_test) => self.test_module(module),
            item => visit::visit_item(self, item),
        }
    }
}

impl Sizes<'_> {
    fn test_module(&mut self, module: &ItemMod) {
        let (start, end) = extent(module);
        let lines = end + 1 - start;
        self.test_lines += lines;
        if lines > INLINE_TEST_LINES {
            let message = format!(
                "inline tests of {lines} lines, at most {INLINE_TEST_LINES}: move them to a \
                 sibling tests.rs"
            );
            self.findings.push(self.source.finding(start, "inline-tests", message));
        }
    }
}

fn end_line(span: Span) -> usize {
    span.end().line
}

/// Nothing but one `match` whose arms are plain values: a table, which is read line by line and
/// has no parts to name.
fn is_table(block: &Block) -> bool {
    let [Stmt::Expr(Expr::Match(table), None)] = &block.stmts[..] else { return false };
    table.arms.iter().all(|arm| {
        arm.guard.is_none() && matches!(*arm.body, Expr::Lit(_) | Expr::Path(_) | Expr::Struct(_))
    })
}
