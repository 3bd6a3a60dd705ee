//! Secrets: what holds secret bytes cannot be copied, printed or serialised by a derive.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::finding::Finding;
use super::source::{self, Source, is_ident, is_punct};

/// Returns derives that would let secret bytes out.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    source::walk(source.all.clone(), &mut |rest| {
        let Some((derived, after)) = derive(rest) else { return };
        if !holds_secret(after) {
            return;
        }
        for name in idents(derived).iter().filter(|name| BANNED.contains(&name.as_str())) {
            let message =
                format!("a type with secret bytes derives `{name}`: remove it or write it by hand");
            findings.push(Finding::new(&source.path, source::line(&rest[0]), message));
        }
    });
    findings
}

/// Splits `#[derive(…)]` from what follows it.
fn derive(rest: &[TokenTree]) -> Option<(TokenStream, &[TokenTree])> {
    let [hash, attribute, after @ ..] = rest else { return None };
    let attribute = source::group(attribute, Delimiter::Bracket).filter(|_| is_punct(hash, '#'))?;
    let inner: Vec<TokenTree> = attribute.stream().into_iter().collect();
    let [name, list] = inner.as_slice() else { return None };
    let list = source::group(list, Delimiter::Parenthesis).filter(|_| is_ident(name, "derive"))?;
    Some((list.stream(), after))
}

/// Whether the next item is a `struct` or `enum` with a field of a secret kind.
fn holds_secret(after: &[TokenTree]) -> bool {
    let is_keyword = |tree: &TokenTree| is_ident(tree, "struct") || is_ident(tree, "enum");
    let Some(start) = after.iter().position(is_keyword) else { return false };
    let ends =
        |tree: &TokenTree| is_punct(tree, ';') || source::group(tree, Delimiter::Brace).is_some();
    let length = after[start..].iter().position(ends).unwrap_or(after.len() - start - 1) + 1;
    let item = after[start..start + length].iter().cloned().collect();
    idents(item).iter().any(|name| SECRET.contains(&name.as_str()))
}

fn idents(stream: TokenStream) -> Vec<String> {
    let mut names = Vec::new();
    source::walk(stream, &mut |rest| {
        if let Some(TokenTree::Ident(name)) = rest.first() {
            names.push(name.to_string());
        }
    });
    names
}

const BANNED: &[&str] = &["Clone", "Copy", "Default", "Serialize", "Debug"];
const SECRET: &[&str] = &["SecretSlice", "SecretBox", "SecretString"];

#[cfg(test)]
mod tests {
    use super::super::house::TextFile;
    use super::*;

    fn complaints(text: &str) -> usize {
        check(&Source::parse(&TextFile::new("crates/crypto/src/a.rs", text)).unwrap()).len()
    }

    #[test]
    fn finds_derives_on_what_holds_a_secret() {
        assert_eq!(complaints("#[derive(Debug, Clone, PartialEq)]\nstruct A(SecretSlice<u8>);"), 2);
        assert_eq!(complaints("#[derive(serde::Serialize)]\npub struct A { b: SecretBox<B> }"), 1);
        assert_eq!(complaints("#[derive(Default)]\npub(crate) enum A { B(SecretString) }"), 1);
    }

    #[test]
    fn finds_them_inside_macros() {
        let text =
            "macro_rules! m { ($n:ident) => { #[derive(Clone)] struct $n(SecretSlice<u8>); } }";
        assert_eq!(complaints(text), 1);
    }

    #[test]
    fn lets_other_items_be() {
        assert_eq!(complaints("#[derive(PartialEq)]\nstruct A(SecretSlice<u8>);"), 0);
        assert_eq!(
            complaints("#[derive(Clone)]\nstruct A { b: u8 }\nstruct C(SecretSlice<u8>);"),
            0
        );
        assert_eq!(complaints("#[derive(Clone)]\nstruct A;\nstruct C(SecretSlice<u8>);"), 0);
    }
}
