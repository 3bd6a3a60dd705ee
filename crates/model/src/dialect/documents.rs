//! Files with documents, YAML or JSON, read whole and with their lines.
//!
//! Nothing that stands in a file is dropped: what nobody knows is there to be told. The parser's error texts
//! may quote the file and are replaced by our own, since it may hold a Secret.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{NonFiniteFloatPolicy, Options, Spanned};

use super::fields;
use super::object::Object;
use super::syntax::{KEY_TWICE, problem};

/// A document, and where it stands.
///
/// `Debug` prints what it is and how it is called, and no more: it may be a Secret.
#[derive(Clone)]
pub struct Located {
    /// The document.
    pub object: Object,
    /// The line on which it begins, from 1.
    pub line: u64,
    lines: Lines,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{label}{}{}: {}{problem}{}", at(*.line), at(*.column), colon(.path), within(*.document))]
pub struct DocumentError {
    /// What the file is called.
    pub label: String,
    /// The line, from 1, if it can be told.
    pub line: Option<u64>,
    /// The column in that line, from 1, where the text is no YAML there.
    pub column: Option<u64>,
    /// Which document of the file it is, from 1, if there are several and their lines do not tell.
    pub document: Option<usize>,
    /// The path of the field, empty when it is about all of a document.
    pub path: String,
    /// What is wrong, without any value of the file.
    pub problem: String,
}

/// Reads the documents of a file, in their order. Those of lists (`kind: List`, `kind: SecretList`) are taken
/// out of them; documents without contents are skipped. `label` is what errors call the file.
///
/// # Guarantees
///
/// - Time and memory are bounded for any input, and no input panics.
/// - A key that stands twice is an error.
/// - No error holds a value of the file.
///
/// # Errors
///
/// What is wrong with it: the first thing when it cannot be read at all, everything when it can.
pub fn read(label: &str, text: &[u8]) -> Result<Vec<Located>, Vec<DocumentError>> {
    let failed = |line, problem: &str| {
        vec![DocumentError {
            label: label.to_owned(),
            line,
            column: None,
            document: None,
            path: String::new(),
            problem: problem.to_owned(),
        }]
    };
    if text.len() > MAX_LEN {
        return Err(failed(None, "a file with documents has at most 4 MiB: divide it"));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = text.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        failed(Some(line), "this is not UTF-8 text")
    })?;
    // The parser takes NUL for the end of the text and would not see what stands behind.
    if let Some((before, _)) = text.split_once('\0') {
        let line = before.matches('\n').count() as u64 + 1;
        return Err(failed(Some(line), "this is a NUL byte"));
    }
    let nodes: Vec<Spanned<Node>> = serde_saphyr::from_multiple_with_options(text, options())
        .map_err(|error| {
            let location = error.location().filter(|location| location.line() > 0);
            let line = location.map(|location| location.line());
            let mut errors = failed(line, problem(&error, &OURS));
            if let (Some(location), Some(error)) = (location, errors.first_mut()) {
                error.column = Some(location.column()).filter(|column| *column > 0);
                error.document = document_at(text, location.line());
            }
            errors
        })?;
    let mut reading = Reading { label, documents: Vec::new(), errors: Vec::new() };
    for node in nodes {
        reading
            .document(node.value.value, Lines { line: node.referenced.line(), ..node.value.lines });
    }
    if reading.errors.is_empty() { Ok(reading.documents) } else { Err(reading.errors) }
}

impl Located {
    /// Returns the line of a field, as refusals write its path (`spec.sourceParameters.url`); where it does not
    /// stand in the file, the line of the nearest field above it that does.
    pub fn line_of(&self, path: &str) -> u64 {
        let mut here = &self.lines;
        let mut rest = path;
        while let Some((below, remaining)) = here.step(rest) {
            (here, rest) = (below, remaining);
        }
        here.line
    }
}

impl fmt::Debug for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on line {}", self.object, self.line)
    }
}

struct Reading<'a> {
    label: &'a str,
    documents: Vec<Located>,
    errors: Vec<DocumentError>,
}

impl Reading<'_> {
    fn document(&mut self, value: Value, lines: Lines) {
        let Value::Object(mut fields) = value else {
            let problem = "a document is a mapping with apiVersion, kind and metadata";
            return self.error(&lines, "", problem);
        };
        let kind = text(&fields, "kind").map(str::to_owned);
        let listed = kind.as_deref().and_then(|kind| kind.strip_suffix("List"));
        if let (Some(listed), Some(Value::Array(_))) = (listed, fields.get("items")) {
            let version = text(&fields, "apiVersion").unwrap_or_default().to_owned();
            let items = fields.shift_remove("items");
            return self.items(listed, &version, items, lines);
        }
        let mut whole = true;
        for key in ["apiVersion", "kind"] {
            if text(&fields, key).is_none_or(str::is_empty) {
                whole = false;
                self.error(&lines, key, "every document says in text what it is");
            }
        }
        match fields.get("metadata") {
            Some(Value::Object(_)) => {}
            None | Some(Value::Null) => {
                whole = false;
                self.error(&lines, "metadata", "every document has metadata with a name");
            }
            Some(_) => {
                whole = false;
                self.error(&lines, "metadata", "metadata is a mapping");
            }
        }
        let object = Object::of_value(Value::Object(fields)).filter(|_| whole);
        let line = lines.line;
        self.documents.extend(object.map(|object| Located { object, line, lines }));
    }

    /// Takes the documents of a list, which may leave out what the list says of them all.
    fn items(&mut self, listed: &str, version: &str, items: Option<Value>, lines: Lines) {
        let Some(Value::Array(items)) = items else { return };
        let mut below: Vec<Lines> = match lines.below.into_iter().find(|(key, _)| key == "items") {
            Some((_, items)) => items.below.into_iter().map(|(_, lines)| lines).collect(),
            None => Vec::new(),
        };
        below.resize_with(items.len(), || Lines { line: lines.line, below: Vec::new() });
        for (mut item, lines) in items.into_iter().zip(below) {
            if let Value::Object(fields) = &mut item
                && !listed.is_empty()
            {
                fields.entry("kind").or_insert_with(|| listed.into());
                fields.entry("apiVersion").or_insert_with(|| version.into());
            }
            self.document(item, lines);
        }
    }

    fn error(&mut self, lines: &Lines, key: &str, problem: &str) {
        let line = lines.step(key).map_or(lines.line, |(below, _)| below.line);
        self.errors.push(DocumentError {
            label: self.label.to_owned(),
            line: Some(line).filter(|line| *line > 0),
            column: None,
            document: None,
            path: key.to_owned(),
            problem: problem.to_owned(),
        });
    }
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

/// The lines of a value and of all that is in it.
#[derive(Clone, Default)]
struct Lines {
    line: u64,
    /// By what stands for it in a path: `.key`, `['key']` or `[7]`.
    below: Vec<(String, Self)>,
}

impl Lines {
    /// Returns what the first part of a path leads to, and the other parts.
    fn step<'a>(&self, path: &'a str) -> Option<(&Self, &'a str)> {
        self.below.iter().find_map(|(key, below)| {
            let rest = path.strip_prefix(key.as_str())?;
            let ends = rest.is_empty() || rest.starts_with(['.', '[']);
            ends.then(|| (below, rest.strip_prefix('.').unwrap_or(rest)))
        })
    }
}

/// A value and its lines.
struct Node {
    value: Value,
    lines: Lines,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl Node {
    fn of(value: impl Into<Value>) -> Self {
        Self { value: value.into(), lines: Lines::default() }
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::of(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::of(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::of(value))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        i64::try_from(value).map(Node::of).map_err(|_| E::custom(NUMBER))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        u64::try_from(value).map(Node::of).map_err(|_| E::custom(NUMBER))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value).map(Node::of).ok_or_else(|| E::custom(NUMBER))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::of(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::of(value))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Node, E> {
        Err(E::custom(BINARY))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::of(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let (mut values, mut lines) = (Vec::new(), Lines::default());
        while let Some(item) = seq.next_element::<Spanned<Node>>()? {
            let line = Lines { line: item.referenced.line(), ..item.value.lines };
            lines.below.push((format!("[{}]", values.len()), line));
            values.push(item.value.value);
        }
        Ok(Node { value: Value::Array(values), lines })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let (mut values, mut lines) = (Map::new(), Lines::default());
        while let Some(key) = map.next_key::<Spanned<Node>>()? {
            // A field is where its key is; its value may begin on the next line.
            let line = key.referenced.line();
            let Value::String(key) = key.value.value else { return Err(A::Error::custom(KEY)) };
            let node: Node = map.next_value()?;
            lines.below.push((fields::below("", &key), Lines { line, ..node.lines }));
            // The parser refuses a key that stands twice, but not when the two differ in an odd tag.
            if values.insert(key, node.value).is_some() {
                return Err(A::Error::custom(KEY_TWICE));
            }
        }
        Ok(Node { value: Value::Object(values), lines })
    }
}

/// Returns which document of a text a line is in, from 1; `None` where there is but one.
fn document_at(text: &str, line: u64) -> Option<usize> {
    let (mut number, mut of_line, mut is_begun) = (1, 1, false);
    for (at, content) in (1..).zip(text.lines()) {
        if content == "---" || content.starts_with("--- ") {
            // The first one may be above all documents.
            number += usize::from(is_begun);
            is_begun = true;
        } else {
            is_begun |= !content.trim().is_empty() && !content.starts_with(['#', '%']);
        }
        if at <= line {
            of_line = number;
        }
    }
    (number > 1).then_some(of_line)
}

fn at(number: Option<u64>) -> String {
    number.map(|number| format!(":{number}")).unwrap_or_default()
}

fn within(document: Option<usize>) -> String {
    document.map(|document| format!(" (in document {document})")).unwrap_or_default()
}

fn colon(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// Limits above any file that somebody writes, and far below what hurts.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_documents: 20_000,
            max_nodes: 1_000_000,
            max_events: 3_000_000,
            max_aliases: 1000,
            max_anchors: 1000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 * MAX_LEN,
            max_merge_keys: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 16,
        },
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

/// Everything that the visitor says.
const OURS: [&str; 4] = [KEY_TWICE, KEY, NUMBER, BINARY];
const KEY: &str = "a key is not text: put it in quotes";
const NUMBER: &str = "a number is too large to be kept: put it in quotes";
const BINARY: &str = "a value is tagged as binary: write it as text";
/// The most bytes of a file.
const MAX_LEN: usize = 4 << 20;

#[cfg(test)]
mod tests;
