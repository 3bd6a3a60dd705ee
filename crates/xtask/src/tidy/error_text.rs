//! Error texts: lower-case, without a full stop, on one line, and never repeating their source.

use syn::visit::{self, Visit};
use syn::{Attribute, Fields, LitStr, Variant};

use super::finding::Finding;
use super::source::Source;

/// Returns the `#[error("…")]` texts that are not in the house's form.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut texts = ErrorTexts::default();
    texts.visit_file(&source.tree);
    texts
        .complaints
        .into_iter()
        .map(|(line, message)| Finding::new(&source.path, line, format!("error text {message}")))
        .collect()
}

/// Collects what is wrong, with the line.
#[derive(Default)]
struct ErrorTexts {
    complaints: Vec<(usize, String)>,
}

impl Visit<'_> for ErrorTexts {
    fn visit_item_struct(&mut self, item: &syn::ItemStruct) {
        self.look(&item.attrs, &item.fields);
        visit::visit_item_struct(self, item);
    }

    fn visit_variant(&mut self, variant: &Variant) {
        self.look(&variant.attrs, &variant.fields);
        visit::visit_variant(self, variant);
    }
}

impl ErrorTexts {
    fn look(&mut self, attributes: &[Attribute], fields: &Fields) {
        for text in attributes.iter().filter_map(text) {
            let line = text.span().start().line;
            let sources = source_names(fields);
            self.complaints
                .extend(complaints(&text.value(), &sources).into_iter().map(|what| (line, what)));
        }
    }
}

/// Returns the literal of `#[error("…")]`; other forms have no text of their own.
fn text(attribute: &Attribute) -> Option<LitStr> {
    if !attribute.path().is_ident("error") {
        return None;
    }
    let first = attribute.meta.require_list().ok()?.tokens.clone().into_iter().next()?;
    syn::parse2(first.into()).ok()
}

/// Returns how a text would name the fields that hold the source.
fn source_names(fields: &Fields) -> Vec<String> {
    let names = fields.iter().enumerate().filter_map(|(index, field)| {
        let is_marked = field.attrs.iter().any(|attribute| {
            attribute.path().is_ident("source") || attribute.path().is_ident("from")
        });
        match &field.ident {
            Some(name) if is_marked || name == "source" => Some(name.to_string()),
            None if is_marked => Some(index.to_string()),
            _ => None,
        }
    });
    names.collect()
}

fn complaints(text: &str, sources: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    if !begins_well(text) {
        complaints.push("begins with a capital: begin lower-case, with what is wrong".to_owned());
    }
    if text.ends_with('.') && !text.ends_with("..") {
        complaints.push("ends with a full stop: remove it".to_owned());
    }
    if text.contains('\n') {
        complaints.push("has a line break: keep it on one line".to_owned());
    }
    for name in sources {
        if text.contains(&format!("{{{name}}}")) || text.contains(&format!("{{{name}:")) {
            complaints.push(format!("repeats its source `{{{name}}}`: whoever prints adds it"));
        }
    }
    complaints
}

/// Whether the first character is lower-case, a digit or a placeholder, or the first word is one
/// that the field writes in capitals, such as LUKS2.
fn begins_well(text: &str) -> bool {
    let first = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let is_acronym = first.len() > 1 && !first.contains(char::is_lowercase);
    text.starts_with(|c: char| !c.is_uppercase()) || is_acronym
}

#[cfg(test)]
mod tests {
    use super::super::house::TextFile;
    use super::*;

    fn complaints_about(text: &str) -> String {
        let source = Source::parse(&TextFile::new("crates/luks/src/error.rs", text)).unwrap();
        check(&source).iter().map(|finding| format!("{finding}\n")).collect()
    }

    fn variant(attribute: &str, fields: &str) -> String {
        complaints_about(&format!("enum Error {{\n    #[error({attribute})]\n    A{fields},\n}}\n"))
    }

    #[test]
    fn finds_capitals_and_lets_the_fields_words_be() {
        let complaints = variant("\"Keyslot {0} is not active\"", "(u8)");
        assert!(complaints.starts_with("crates/luks/src/error.rs:2: error text begins"));
        assert_eq!(variant("\"keyslot {0} is not active\"", "(u8)"), "");
        assert_eq!(variant("\"{0} is not active\"", "(u8)"), "");
        assert_eq!(variant("\"LUKS2 header is damaged\"", ""), "");
        assert!(variant("\"A header is damaged\"", "").contains("capital"));
    }

    #[test]
    fn finds_full_stops_and_line_breaks() {
        assert!(variant("\"it broke.\"", "").contains("full stop"));
        assert!(variant("\"it\\nbroke\"", "").contains("line break"));
        assert_eq!(variant("\"it \\\n        broke\"", ""), "");
    }

    #[test]
    fn finds_a_repeated_source() {
        assert!(variant("\"read failed: {source}\"", " { source: E }").contains("repeats"));
        assert!(variant("\"read failed: {0}\"", "(#[from] E)").contains("repeats"));
        assert!(variant("\"read failed: {1:?}\"", "(u8, #[source] E)").contains("repeats"));
        assert!(variant("\"{cause}\"", " { #[source] cause: E }").contains("repeats"));
        assert_eq!(variant("\"keyslot {0} is damaged\"", "(u8, #[source] E)"), "");
    }

    #[test]
    fn looks_at_structs_and_lets_transparent_ones_be() {
        assert!(complaints_about("#[error(\"Bad.\")]\nstruct A;").contains("capital"));
        assert_eq!(variant("transparent", "(#[from] E)"), "");
    }
}
