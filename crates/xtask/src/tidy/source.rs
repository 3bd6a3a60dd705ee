//! A Rust file as tokens, with its tests taken out.
//!
//! Checks look at tokens and not at text, so that a word in a comment or a string is never taken
//! for code, and code inside a macro is not missed.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::finding::Finding;
use super::house::TextFile;

/// A parsed Rust file.
pub(crate) struct Source {
    /// The path below the workspace.
    pub(crate) path: String,
    /// The contents.
    pub(crate) text: String,
    /// Every token.
    pub(crate) all: TokenStream,
    /// The tokens without items under `#[cfg(test)]` and `#[test]`.
    pub(crate) code: TokenStream,
    /// The syntax tree of `code`.
    pub(crate) tree: syn::File,
    /// How many lines those items take.
    test_lines: usize,
}

impl Source {
    /// Parses a file.
    ///
    /// # Errors
    ///
    /// A finding, when the file is not Rust.
    pub(crate) fn parse(file: &TextFile) -> Result<Self, Finding> {
        let broken = |error: &dyn std::fmt::Display| {
            Finding::new(&file.path, 1, format!("does not parse ({error}): mend the syntax"))
        };
        let all: TokenStream = file.text.parse().map_err(|error| broken(&error))?;
        let mut test_lines = 0;
        let code = without_tests(all.clone(), &mut test_lines);
        let tree = syn::parse2(code.clone()).map_err(|error| broken(&error))?;
        Ok(Self { path: file.path.clone(), text: file.text.clone(), all, code, tree, test_lines })
    }

    /// Returns whether the whole file is tests: `tests.rs`, or anything below a folder `tests`.
    pub(crate) fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.split('/').any(|folder| folder == "tests")
    }

    /// Returns the number of lines that are not tests.
    pub(crate) fn code_lines(&self) -> usize {
        if self.is_tests() { 0 } else { self.text.lines().count() - self.test_lines }
    }

    /// Returns the crate's folder below `crates/` when the file is part of its sources.
    pub(crate) fn crate_folder(&self) -> Option<&str> {
        let (folder, rest) = self.path.strip_prefix("crates/")?.split_once('/')?;
        rest.starts_with("src/").then_some(folder)
    }
}

/// Calls `visit` with the rest of its level at every token of every level.
pub(crate) fn walk(stream: TokenStream, visit: &mut dyn FnMut(&[TokenTree])) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    for (index, tree) in trees.iter().enumerate() {
        visit(&trees[index..]);
        if let TokenTree::Group(group) = tree {
            walk(group.stream(), visit);
        }
    }
}

/// Returns the line on which a token begins, counted from 1.
pub(crate) fn line(tree: &TokenTree) -> usize {
    tree.span().start().line
}

/// Returns whether a token is this identifier.
pub(crate) fn is_ident(tree: &TokenTree, name: &str) -> bool {
    matches!(tree, TokenTree::Ident(ident) if ident == name)
}

/// Returns whether a token is this punctuation.
pub(crate) fn is_punct(tree: &TokenTree, mark: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// Returns the contents of a group between such delimiters.
pub(crate) fn group(tree: &TokenTree, delimiter: Delimiter) -> Option<&Group> {
    match tree {
        TokenTree::Group(group) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

fn without_tests(stream: TokenStream, test_lines: &mut usize) -> TokenStream {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut kept = Vec::new();
    let mut index = 0;
    while let Some(tree) = trees.get(index) {
        if is_test_attribute(&trees[index..]) {
            let end = item_end(&trees, index);
            let last = trees.get(end).unwrap_or(tree).span().end().line;
            *test_lines += last + 1 - line(tree);
            index = end + 1;
            continue;
        }
        kept.push(match tree {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream(), test_lines);
                let mut rebuilt = Group::new(group.delimiter(), inner);
                rebuilt.set_span(group.span());
                TokenTree::Group(rebuilt)
            }
            other => other.clone(),
        });
        index += 1;
    }
    kept.into_iter().collect()
}

/// Whether `#[test]` or `#[cfg(test)]` stands here.
fn is_test_attribute(rest: &[TokenTree]) -> bool {
    let [hash, attribute, ..] = rest else { return false };
    let Some(attribute) = group(attribute, Delimiter::Bracket) else { return false };
    let text = attribute.stream().to_string().replace(' ', "");
    is_punct(hash, '#') && (text == "test" || text == "cfg(test)")
}

/// Returns the index of the last token of the item that begins at `start`: its body or semicolon.
fn item_end(trees: &[TokenTree], start: usize) -> usize {
    let is_use = trees[start..].iter().find_map(|tree| match tree {
        TokenTree::Ident(ident) if ident == "pub" => None,
        TokenTree::Ident(ident) => Some(ident == "use" || ident == "const" || ident == "static"),
        _ => None,
    });
    let ends = |tree: &TokenTree| {
        is_punct(tree, ';') || (is_use != Some(true) && group(tree, Delimiter::Brace).is_some())
    };
    let found = trees[start..].iter().position(ends);
    found.map_or(trees.len() - 1, |offset| start + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse(&TextFile::new("crates/luks/src/a.rs", text)).unwrap()
    }

    #[test]
    fn takes_test_items_out() {
        let source = source(
            "fn kept() {}\n#[cfg(test)]\nmod tests {\n    fn gone() {}\n}\n\
             #[cfg(test)]\nuse std::{fs, io};\nfn also_kept() {}\n",
        );
        let code = source.code.to_string();
        assert!(code.contains("kept") && code.contains("also_kept"));
        assert!(!code.contains("gone") && !code.contains("std"));
        assert_eq!(source.code_lines(), 2);
    }

    #[test]
    fn takes_test_items_out_of_blocks_too() {
        let source =
            source("impl A {\n    #[cfg(test)]\n    pub fn gone() {}\n    fn kept() {}\n}\n");
        assert!(!source.code.to_string().contains("gone"));
        assert_eq!(source.code_lines(), 3);
    }

    #[test]
    fn knows_files_that_are_tests_throughout() {
        for path in ["crates/luks/src/header/tests.rs", "crates/luks/tests/it/main.rs"] {
            let source = Source::parse(&TextFile::new(path, "fn a() {}\n")).unwrap();
            assert_eq!(source.code_lines(), 0);
        }
    }
}
