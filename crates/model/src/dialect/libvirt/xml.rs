//! XML as these documents need it: elements, attributes, text; read with their places, in bounded time
//! and memory.

mod reader;
mod writer;

pub use reader::{read, read_kept};
pub use writer::write;

use crate::Error;

/// An element with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its name, with its prefix if it has one.
    pub name: String,
    /// Its attributes, in their order.
    pub attributes: Vec<(String, String)>,
    /// What it holds, in its order.
    pub children: Vec<Node>,
    /// The line it begins in, from 1; 0 for one that was not read. It does not count in comparisons.
    pub line: Line,
}

/// What an element holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, with entities and CDATA resolved.
    Text(String),
    /// A comment.
    Comment(String),
}

/// A line of a document. All are equal, so that what was read equals what was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line(pub u64);

/// The most bytes of a document.
pub const MAX_LEN: usize = 1 << 20;

/// The most levels of elements in one another.
pub const MAX_DEPTH: usize = 64;

/// The most elements, attributes, texts and comments together.
pub const MAX_NODES: usize = 20_000;

/// The most attributes of one element.
pub const MAX_ATTRIBUTES: usize = 64;

impl Element {
    /// Returns an element that holds nothing yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            attributes: Vec::new(),
            children: Vec::new(),
            line: Line::default(),
        }
    }

    /// Returns it with one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push((name.to_owned(), value.into()));
        self
    }

    /// Returns it with a text as the last thing in it; an empty one changes nothing.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.children.push(Node::Text(text));
        }
        self
    }

    /// Returns it with an element as the last thing in it.
    #[must_use]
    pub fn with_child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    /// Puts an element behind everything in it.
    pub fn push(&mut self, child: Self) {
        self.children.push(Node::Element(child));
    }

    /// Returns the value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Returns the elements in it, in their order.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) | Node::Comment(_) => None,
        })
    }

    /// Returns the first element in it that has this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.elements().find(|element| element.name == name)
    }

    /// Returns the texts directly in it, one after the other.
    pub fn text(&self) -> String {
        let texts = self.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) | Node::Comment(_) => None,
        });
        texts.collect()
    }

    /// Refuses a root of another name.
    pub(super) fn expect_name(&self, name: &str) -> Result<(), Error> {
        if self.name == name {
            return Ok(());
        }
        let found = quoted(&self.name);
        Err(self.error(format!("the document is {found}: wanted is one that begins with <{name}>")))
    }

    /// Returns an error about it.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        self.line.error(problem)
    }
}

impl Line {
    /// Returns an error about what begins in this line.
    pub(super) fn error(self, problem: impl Into<String>) -> Error {
        Error::Xml { line: self.0, column: 0, problem: problem.into() }
    }
}

impl PartialEq for Line {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Line {}

/// Returns a text of a document as errors quote it, cut when it is very long.
pub(super) fn quoted(text: &str) -> String {
    let mut cut: String = text.chars().take(QUOTED).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("'{}'", cut.escape_debug())
}

/// Whether XML 1.0 (§2.2) has such a character at all.
fn is_character(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => character >= ' ',
    }
}

/// Whether something is white space to XML, which is less than Unicode has.
fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| BLANKS.contains(&char::from(byte)))
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

const QUOTED: usize = 64;

#[cfg(test)]
mod tests;
