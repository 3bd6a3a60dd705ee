//! Leftovers: nothing unfinished, nothing switched off, nothing from debugging.

use proc_macro2::{Delimiter, TokenTree};

use super::finding::Finding;
use super::house::TextFile;
use super::source::{self, Source, is_punct};

/// Returns macros that stand for missing code or debugging, and tests that never run.
pub(crate) fn check_code(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    source::walk(source.all.clone(), &mut |rest| {
        let [first, second, ..] = rest else { return };
        let message = match (first, second) {
            (TokenTree::Ident(name), mark)
                if is_punct(mark, '!') && MACROS.iter().any(|banned| name == banned) =>
            {
                format!("`{name}!` is not finished work: write the code or remove it")
            }
            (hash, attribute) if is_punct(hash, '#') && is_ignore(attribute) => {
                "a test that never runs: run it, or skip it by name with its reason".to_owned()
            }
            _ => return,
        };
        findings.push(Finding::new(&source.path, source::line(first), message));
    });
    findings
}

/// Returns marks of unfinished work anywhere in a text.
pub(crate) fn check_comments(file: &TextFile) -> Vec<Finding> {
    let marked = file.text.lines().enumerate().filter_map(|(index, line)| {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        words.find(|word| MARKS.contains(word)).map(|word| (index + 1, word))
    });
    marked
        .map(|(line, word)| {
            Finding::new(&file.path, line, format!("`{word}`: do it now or file an issue"))
        })
        .collect()
}

fn is_ignore(attribute: &TokenTree) -> bool {
    let Some(attribute) = source::group(attribute, Delimiter::Bracket) else { return false };
    attribute.stream().into_iter().next().is_some_and(|tree| source::is_ident(&tree, "ignore"))
}

const MACROS: &[&str] = &["todo", "unimplemented", "dbg"];
/// Put together from halves, so that this list does not find itself.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> String {
        let source = Source::parse(&TextFile::new("crates/luks/src/a.rs", text)).unwrap();
        check_code(&source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_macros_that_stand_for_missing_code() {
        for text in
            ["fn a() { todo!() }", "fn a() { vec![unimplemented!()]; }", "fn a() { dbg!(1); }"]
        {
            assert!(complaints(text).contains("not finished work"), "{text}");
        }
        assert_eq!(complaints("fn a() { let todo = \"todo!()\"; }"), "");
    }

    #[test]
    fn finds_tests_that_never_run() {
        assert!(complaints("#[test]\n#[ignore = \"slow\"]\nfn a() {}").contains("a.rs:2"));
        assert!(complaints("mod tests { #[test] #[ignore] fn a() {} }").contains("never runs"));
    }

    #[test]
    fn finds_marks_in_comments() {
        let text = format!("// fine\n// {}: later\n", MARKS[0]);
        let findings = check_comments(&TextFile::new("Makefile", &text));
        assert!(findings[0].to_string().starts_with("Makefile:2: "));
        assert!(check_comments(&TextFile::new("a.rs", "// mastodon")).is_empty());
    }
}
