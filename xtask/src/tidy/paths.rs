//! Every path written in some tokens, groups of a `use` taken apart: `std::{fs, net::TcpStream}`
//! is `std::fs` and `std::net::TcpStream`. Works on tokens, so the insides of macro calls count.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path's segments, with the line of its first one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

pub(super) fn written(tokens: TokenStream) -> Vec<Written> {
    let mut found = Vec::new();
    walk(tokens, &mut found);
    found
}

fn walk(tokens: TokenStream, found: &mut Vec<Written>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < trees.len() {
        match &trees[at] {
            TokenTree::Ident(_) => at = path(&trees, at, &[], found),
            TokenTree::Group(group) => {
                walk(group.stream(), found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Reads one path from `at` on, behind the segments of `prefix`; returns where it ends.
fn path(trees: &[TokenTree], mut at: usize, prefix: &[String], found: &mut Vec<Written>) -> usize {
    let mut segments = prefix.to_vec();
    let line = trees[at].span().start().line;
    while let Some(tree) = trees.get(at) {
        match tree {
            TokenTree::Ident(ident) => segments.push(ident.to_string()),
            TokenTree::Punct(star) if star.as_char() == '*' => segments.push("*".to_owned()),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                branches(group.stream(), &segments, found);
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !is_path_separator(trees, at) {
            break;
        }
        at += 2;
    }
    found.push(Written { segments, line });
    at
}

fn branches(tokens: TokenStream, prefix: &[String], found: &mut Vec<Written>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for branch in trees.split(|tree| matches!(tree, TokenTree::Punct(p) if p.as_char() == ',')) {
        if !branch.is_empty() {
            path(branch, 0, prefix, found);
        }
    }
}

fn is_path_separator(trees: &[TokenTree], at: usize) -> bool {
    let colon =
        |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(trees.get(at)) && colon(trees.get(at + 1))
}
