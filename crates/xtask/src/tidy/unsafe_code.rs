//! Unsafe code: only where it is fenced in, and never without its reasons.

use proc_macro2::{Delimiter, TokenTree};

use super::finding::Finding;
use super::source::{self, Source, is_ident};

/// Returns `unsafe` in other files than the fenced ones, and blocks that do not say why.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    source::walk(source.all.clone(), &mut |rest| {
        let Some(keyword) = rest.first().filter(|tree| is_ident(tree, "unsafe")) else { return };
        let line = source::line(keyword);
        if !is_fenced(&source.path) {
            let message = "no `unsafe` here: it lives in the files that ARCHITECTURE.md names";
            findings.push(Finding::new(&source.path, line, message));
        } else if needs_reasons(rest) {
            let comments = comments_above(&lines, line);
            for reason in REASONS {
                if !comments.iter().any(|comment| comment.starts_with(reason)) {
                    let message = format!("this `unsafe` lacks `{reason}` directly above: say it");
                    findings.push(Finding::new(&source.path, line, message));
                }
            }
        }
    });
    findings
}

/// Whether the file is one of those that may be unsafe.
fn is_fenced(path: &str) -> bool {
    path == "crates/attach/src/sys.rs"
        || path.starts_with("crates/attach/src/sys/")
        || (path.starts_with("crates/crypto/src/") && path.ends_with("/x86_64.rs"))
}

/// Whether it is a block or an `impl`; an `unsafe fn` states its contract in its doc comment.
fn needs_reasons(rest: &[TokenTree]) -> bool {
    rest.get(1).is_some_and(|next| {
        source::group(next, Delimiter::Brace).is_some() || is_ident(next, "impl")
    })
}

/// Returns the comment lines right above the statement that `line` is part of.
fn comments_above<'a>(lines: &[&'a str], line: usize) -> Vec<&'a str> {
    let above = lines[..line - 1].iter().rev().map(|line| line.trim());
    above
        .skip_while(|line| !line.starts_with("//") && is_continued(line))
        .take_while(|line| line.starts_with("//") || line.starts_with("#["))
        .collect()
}

/// Whether the statement on this line goes on below it.
fn is_continued(line: &str) -> bool {
    !line.is_empty() && !line.ends_with([';', '{', '}', ','])
}

const REASONS: [&str; 2] = ["// JUSTIFICATION:", "// SAFETY:"];

#[cfg(test)]
mod tests {
    use super::super::house::TextFile;
    use super::*;

    fn complaints(path: &str, text: &str) -> String {
        let source = Source::parse(&TextFile::new(path, text)).unwrap();
        check(&source).iter().map(|finding| format!("{finding}\n")).collect()
    }

    const FENCED: &str = "crates/crypto/src/sector/x86_64.rs";

    #[test]
    fn finds_unsafe_outside_the_fence() {
        let text = "fn a() {\n    // JUSTIFICATION: b\n    // SAFETY: c\n    unsafe { d() }\n}\n";
        assert!(complaints("crates/luks/src/a.rs", text).contains("a.rs:4: no `unsafe` here"));
        assert_eq!(complaints(FENCED, text), "");
    }

    #[test]
    fn finds_blocks_without_reasons() {
        let text = "fn a() {\n    // SAFETY: c\n    let x = unsafe { d() };\n}\n";
        let complaints = complaints(FENCED, text);
        assert!(complaints.contains(":3: this `unsafe` lacks `// JUSTIFICATION:`"));
        assert!(!complaints.contains("`// SAFETY:`"));
    }

    #[test]
    fn finds_reasons_that_belong_to_another_block() {
        let text = "fn a() {\n    // JUSTIFICATION: b\n    // SAFETY: c\n    unsafe { d() };\n    \
                    unsafe { e() };\n}\n";
        assert_eq!(complaints(FENCED, text).lines().count(), 2);
    }

    #[test]
    fn accepts_reasons_above_a_broken_statement() {
        let text = "fn a() {\n    // JUSTIFICATION: b\n    // SAFETY: c, and\n    // more\n    \
                    let x =\n        unsafe { d() };\n}\n";
        assert_eq!(complaints(FENCED, text), "");
    }

    #[test]
    fn does_not_take_words_for_code() {
        assert_eq!(
            complaints("crates/luks/src/a.rs", "// unsafe { }\nconst A: &str = \"unsafe\";"),
            ""
        );
    }
}
