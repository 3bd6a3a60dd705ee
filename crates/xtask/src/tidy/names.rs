//! Names in the code: no `get_`, no module that says nothing.

use proc_macro2::TokenTree;

use super::files;
use super::finding::Finding;
use super::source::{self, Source, is_ident};

/// Returns functions and modules that are badly named.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    source::walk(source.all.clone(), &mut |rest| {
        let [keyword, TokenTree::Ident(name), ..] = rest else { return };
        let name = name.to_string();
        let is_ours = !OF_FOREIGN_TRAITS.contains(&name.as_str());
        let message = if is_ident(keyword, "fn") && name.starts_with("get_") && is_ours {
            format!("`{name}`: call it `{}`", name.trim_start_matches("get_"))
        } else if is_ident(keyword, "mod") && files::says_nothing(&name) {
            files::complaint(&name)
        } else {
            return;
        };
        findings.push(Finding::new(&source.path, source::line(&rest[1]), message));
    });
    findings
}

/// Methods that a foreign trait names; they stand where it is implemented.
const OF_FOREIGN_TRAITS: &[&str] = &["get_last_space", "get_next_space"];

#[cfg(test)]
mod tests {
    use super::super::house::TextFile;
    use super::*;

    fn complaints(text: &str) -> String {
        let source = Source::parse(&TextFile::new("crates/luks/src/a.rs", text)).unwrap();
        check(&source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_functions_that_get() {
        let text = "struct A;\nimpl A {\n    fn get_label(&self) {}\n}\n";
        assert_eq!(complaints(text), "crates/luks/src/a.rs:3: `get_label`: call it `label`");
        assert_eq!(complaints("fn getrandom() {}"), "");
        assert_eq!(complaints("fn a() { get_foreign(); }"), "");
    }

    #[test]
    fn finds_modules_that_say_nothing() {
        assert!(complaints("mod helpers { }").contains("`helpers` says nothing"));
    }
}
