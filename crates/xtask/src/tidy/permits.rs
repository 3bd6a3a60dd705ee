//! Formatting: only the ledger makes permits at will, and only one module runs what needs them.

use proc_macro2::TokenTree;

use super::finding::Finding;
use super::source::{self, Source, is_ident};

/// Returns permits that are made elsewhere than in the ledger, and programs that make file systems run
/// from elsewhere than where a permit is asked for.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.is_tests() || source.crate_folder().is_none_or(|folder| DEVELOPMENT.contains(&folder))
    {
        return findings;
    }
    source::walk(source.code.clone(), &mut |rest| {
        let Some(first) = rest.first() else { return };
        let message = if is_ident(first, MAKER) && !MAY_MAKE.contains(&source.path.as_str()) {
            format!("only the ledger calls `{MAKER}`: ask it for a verdict")
        } else if names_mkfs(first) && !source.path.starts_with(MAY_RUN) {
            format!("only `{MAY_RUN}` runs `{MKFS}…`, since it asks for a permit")
        } else {
            return;
        };
        findings.push(Finding::new(&source.path, source::line(first), message));
    });
    findings
}

/// Whether it is a text that names a program that makes a file system.
fn names_mkfs(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Literal(literal) if literal.to_string().starts_with(&format!("\"{MKFS}")))
}

const MAKER: &str = "granted_by_the_ledger";

const MAY_MAKE: [&str; 2] =
    ["crates/disk/src/permit.rs", "crates/strongroom/src/volumes/ledger.rs"];

/// What never ships: it makes file systems to look at what we make of them.
const DEVELOPMENT: [&str; 2] = ["testkit", "xtask"];

const MKFS: &str = "mkfs.";

const MAY_RUN: &str = "crates/attach/src/file_system";

#[cfg(test)]
mod tests {
    use super::super::house::TextFile;
    use super::*;

    fn complaints(path: &str, text: &str) -> String {
        let source = Source::parse(&TextFile::new(path, text)).unwrap();
        check(&source).iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn finds_permits_that_somebody_else_makes() {
        let text = "fn a() {\n    b(FormatPermit::granted_by_the_ledger());\n}\n";
        assert!(complaints("crates/csi/src/node.rs", text).contains("node.rs:2: only the ledger"));
        assert_eq!(complaints(MAY_MAKE[1], text), "");
    }

    #[test]
    fn finds_file_systems_that_somebody_else_makes() {
        let text = "fn a() {\n    Command::new(\"mkfs.ext4\");\n}\n";
        assert!(complaints("crates/pool/src/a.rs", text).contains(":2: only"));
        assert_eq!(complaints("crates/attach/src/file_system/make.rs", text), "");
    }

    #[test]
    fn lets_tests_do_as_they_like() {
        let text =
            "#[cfg(test)]\nmod tests {\n    fn a() { granted_by_the_ledger(\"mkfs.xfs\") }\n}\n";
        assert_eq!(complaints("crates/pool/src/a.rs", text), "");
        assert_eq!(
            complaints("crates/pool/tests/it/main.rs", "fn a() { granted_by_the_ledger() }"),
            ""
        );
    }
}
