//! XML as these documents need it: elements, attributes, text; read with their places, in bounded time
//! and memory.

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

impl PartialEq for Line {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Line {}

/// Reads a document.
///
/// # Errors
///
/// [`Error::Xml`] with line and column; a document type, entities of its own, and anything larger or deeper than these
/// documents ever are (1 MiB, 64 levels) are refused.
pub fn read(document: &[u8]) -> Result<Element, Error> {
    let _ = document;
    todo()
}

/// Returns a document with this root, two blanks of indentation a level, and a line break at its end.
pub fn write(root: &Element) -> String {
    let _ = root;
    String::new()
}

pub(super) fn todo<T>() -> Result<T, Error> {
    Err(Error::Xml { line: 0, column: 0, problem: "this is not read yet".to_owned() })
}
