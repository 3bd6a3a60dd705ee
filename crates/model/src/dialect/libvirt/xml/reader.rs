//! Reads XML 1.0 without document types, stricter than the pull parser below it.

use quick_xml::Reader;
use quick_xml::errors::{Error as ParserError, IllFormedError};
use quick_xml::events::{BytesStart, Event};

use super::{
    BLANKS, Element, Line, MAX_ATTRIBUTES, MAX_DEPTH, MAX_LEN, MAX_NODES, Node, is_blank,
    is_character, quoted,
};
use crate::Error;

/// Reads a document and returns its root. Entities, character references and CDATA come as text; line
/// breaks are single line feeds; prefixes stay as they stand.
///
/// White space between elements is left out where an element holds no other text. So are processing
/// instructions, and comments outside of the root.
///
/// # Errors
///
/// [`Error::Xml`] with line and column: what is no XML 1.0 in UTF-8, a document type, entities of its own, and
/// anything larger or deeper than these documents ever are ([`MAX_LEN`], [`MAX_DEPTH`], [`MAX_NODES`],
/// [`MAX_ATTRIBUTES`]), as it stands or as [`write`](super::write) would write it.
pub fn read(document: &[u8]) -> Result<Element, Error> {
    let root = read_within(document, Limits { len: MAX_LEN, nodes: MAX_NODES })?;
    // A character that is an entity when it is written is longer than it was.
    let len = super::write(&root).len();
    if len > MAX_LEN {
        let problem =
            format!("the document has {len} bytes when it is written anew, the limit is {MAX_LEN}");
        return Err(Error::Xml { line: 1, column: 1, problem });
    }
    Ok(root)
}

/// Reads what [`write`](super::write) has written, which may be longer than what came from outside.
///
/// # Errors
///
/// Those of [`read`], but for the limits of length and number.
pub fn read_kept(document: &[u8]) -> Result<Element, Error> {
    read_within(document, Limits { len: usize::MAX, nodes: usize::MAX })
}

/// How much a document may hold.
#[derive(Debug, Clone, Copy)]
struct Limits {
    len: usize,
    nodes: usize,
}

fn read_within(document: &[u8], limits: Limits) -> Result<Element, Error> {
    let text = decoded(document, limits.len)?;
    let mut reading = Reading {
        text: &text,
        at: 0,
        counted: (0, 1),
        nodes: 0,
        most_nodes: limits.nodes,
        open: Vec::new(),
        root: None,
    };
    let mut parser = Reader::from_str(&text);
    loop {
        reading.at = position(parser.buffer_position());
        match parser.read_event() {
            Ok(Event::Eof) => return reading.finished(),
            Ok(event) => reading.event(&event)?,
            Err(error) => {
                // A missing end is best told where that began which has none.
                reading.at = reading.at.max(position(parser.error_position()));
                return Err(reading.error(&words(&error)));
            }
        }
    }
}

/// Returns the text with its line breaks as line feeds.
fn decoded(document: &[u8], limit: usize) -> Result<String, Error> {
    let whole = |problem: String| Error::Xml { line: 1, column: 1, problem };
    if document.len() > limit {
        let len = document.len();
        return Err(whole(format!("the document has {len} bytes, the limit is {limit}")));
    }
    if document.starts_with(&[0xfe, 0xff]) || document.starts_with(&[0xff, 0xfe]) {
        return Err(whole("the document is UTF-16: write it in UTF-8".to_owned()));
    }
    let text = std::str::from_utf8(document).map_err(|error| {
        let before = document.get(..error.valid_up_to()).unwrap_or_default();
        let before = String::from_utf8_lossy(before);
        failed_after(&before, "this is not UTF-8 text")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n")
    } else {
        text.to_owned()
    };
    match text.char_indices().find(|(_, character)| !is_character(*character)) {
        Some((at, character)) => {
            let code = u32::from(character);
            let problem = format!("the character U+{code:04X} cannot stand in XML");
            Err(failed_after(text.get(..at).unwrap_or_default(), &problem))
        }
        None => Ok(text),
    }
}

struct Reading<'a> {
    text: &'a str,
    /// Where the event begins that is being read.
    at: usize,
    /// Up to where lines were counted, and the line there.
    counted: (usize, u64),
    nodes: usize,
    most_nodes: usize,
    /// The elements that are open, the root first.
    open: Vec<Element>,
    root: Option<Element>,
}

impl Reading<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Error> {
        match event {
            Event::Start(tag) => {
                let element = self.element(tag)?;
                if self.open.len() >= MAX_DEPTH {
                    return Err(self.error(&format!("there are more than {MAX_DEPTH} levels")));
                }
                self.open.push(element);
                Ok(())
            }
            Event::Empty(tag) => {
                let element = self.element(tag)?;
                self.close(element)
            }
            Event::End(_) => match self.open.pop() {
                Some(element) => self.close(element),
                None => Err(self.error("an element ends that never began")),
            },
            Event::Text(text) if text.contains("]]>") => {
                Err(self.error("]]> stands in text: write ]]&gt;"))
            }
            Event::Text(text) => self.push_text(text),
            Event::CData(_) if self.open.is_empty() => Err(self.error(OUTSIDE)),
            Event::CData(text) => self.push_text(text),
            Event::GeneralRef(_) if self.open.is_empty() => Err(self.error(OUTSIDE)),
            Event::GeneralRef(name) => {
                let character = referred(name).map_err(|problem| self.error(&problem))?;
                self.push_text(character.encode_utf8(&mut [0; 4]))
            }
            Event::Comment(text) => self.comment(text),
            Event::Decl(declaration) => self.declaration(declaration),
            Event::PI(instruction) if instruction.target().eq_ignore_ascii_case("xml") => {
                Err(self.error("an XML declaration begins with <?xml in small letters"))
            }
            Event::PI(_) | Event::Eof => Ok(()),
            Event::DocType(_) => Err(self.error(
                "a document type (<!DOCTYPE …>) is not allowed: leave it out, with the entities in it",
            )),
        }
    }

    fn element(&mut self, tag: &BytesStart<'_>) -> Result<Element, Error> {
        let name = tag.name();
        let name: &str = name.as_ref();
        if !is_name(name) {
            return Err(self.error(&format!("{} is no name of an element", quoted(name))));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.error(&format!("<{name}> is a second root: a document has one")));
        }
        self.count(1)?;
        let attributes = attributes(tag.attributes_raw())
            .map_err(|problem| self.error(&format!("in <{}>: {problem}", cut(name))))?;
        self.count(attributes.len())?;
        let line = Line(self.line());
        Ok(Element { name: name.to_owned(), attributes, children: Vec::new(), line })
    }

    fn close(&mut self, mut element: Element) -> Result<(), Error> {
        let only_text = element.children.iter().all(|node| matches!(node, Node::Text(_)));
        let says = |node: &Node| matches!(node, Node::Text(text) if !is_blank(text));
        if !only_text && !element.children.iter().any(says) {
            element.children.retain(|node| !matches!(node, Node::Text(_)));
        }
        match self.open.last_mut() {
            Some(parent) => parent.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn push_text(&mut self, text: &str) -> Result<(), Error> {
        if self.open.is_empty() {
            return if is_blank(text) { Ok(()) } else { Err(self.error(OUTSIDE)) };
        }
        if text.is_empty() {
            return Ok(());
        }
        self.count(1)?;
        let Some(parent) = self.open.last_mut() else { return Ok(()) };
        match parent.children.last_mut() {
            Some(Node::Text(before)) => before.push_str(text),
            _ => parent.children.push(Node::Text(text.to_owned())),
        }
        Ok(())
    }

    fn comment(&mut self, text: &str) -> Result<(), Error> {
        if text.contains("--") || text.ends_with('-') {
            return Err(self.error("a comment cannot hold -- or end with -"));
        }
        self.count(1)?;
        if let Some(parent) = self.open.last_mut() {
            parent.children.push(Node::Comment(text.to_owned()));
        }
        Ok(())
    }

    fn declaration(&self, declaration: &str) -> Result<(), Error> {
        if self.at != 0 {
            return Err(self.error("an XML declaration can only stand at the very beginning"));
        }
        let said = attributes(declaration.strip_prefix("xml").unwrap_or_default())
            .map_err(|problem| self.error(&format!("in <?xml: {problem}")))?;
        for (at, (name, value)) in said.iter().enumerate() {
            let fits = match name.as_str() {
                "version" if at == 0 => value == "1.0",
                "encoding" => ["utf-8", "utf8", "us-ascii"].contains(&&*value.to_ascii_lowercase()),
                "standalone" => ["yes", "no"].contains(&value.as_str()),
                _ => false,
            };
            if !fits {
                let (name, value) = (quoted(name), quoted(value));
                return Err(self.error(&format!(
                    "the XML declaration says {value} for {name}: only version 1.0 in the encoding \
                     UTF-8 is read",
                )));
            }
        }
        if said.is_empty() {
            return Err(self.error("the XML declaration has no version"));
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize) -> Result<(), Error> {
        self.nodes += nodes;
        if self.nodes > self.most_nodes {
            let limit = self.most_nodes;
            let problem =
                format!("there are more than {limit} elements, attributes, texts and comments");
            return Err(self.error(&problem));
        }
        Ok(())
    }

    /// Returns the line of the event, counting only what was not counted before.
    fn line(&mut self) -> u64 {
        let (from, line) = self.counted;
        let between = self.text.as_bytes().get(from..self.at).unwrap_or_default();
        let breaks = between.iter().filter(|byte| **byte == b'\n').count();
        self.counted = (self.at, line + breaks as u64);
        self.counted.1
    }

    fn finished(self) -> Result<Element, Error> {
        if let Some(open) = self.open.last() {
            let (name, line) = (cut(&open.name), open.line.0);
            let problem = format!("<{name}> of line {line} never ends: </{name}> is missing");
            return Err(self.error(&problem));
        }
        let nothing = || self.error("the document holds no element");
        self.root.clone().ok_or_else(nothing)
    }

    fn error(&self, problem: &str) -> Error {
        let mut at = self.at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        failed_after(self.text.get(..at).unwrap_or_default(), problem)
    }
}

/// Returns an error at the place behind a text.
fn failed_after(before: &str, problem: &str) -> Error {
    let before = before.strip_prefix('\u{feff}').unwrap_or(before);
    let line = before.matches('\n').count() as u64 + 1;
    let in_line = before.rsplit('\n').next().unwrap_or_default();
    let column = in_line.chars().count() as u64 + 1;
    Error::Xml { line, column, problem: problem.to_owned() }
}

/// Reads the attributes of a tag, from behind its name on.
fn attributes(mut rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    loop {
        let trimmed = rest.trim_start_matches(BLANKS);
        if trimmed.is_empty() {
            return Ok(attributes);
        }
        if trimmed.len() == rest.len() {
            return Err("there is no space before an attribute".to_owned());
        }
        let (name, value) =
            trimmed.split_once('=').ok_or_else(|| format!("{} has no value", quoted(trimmed)))?;
        let name = name.trim_end_matches(BLANKS);
        if !is_name(name) {
            return Err(format!("{} is no name of an attribute", quoted(name)));
        }
        let value = value.trim_start_matches(BLANKS);
        let (value, behind) = value
            .strip_prefix('"')
            .and_then(|value| value.split_once('"'))
            .or_else(|| value.strip_prefix('\'')?.split_once('\''))
            .ok_or_else(|| format!("the value of {} is not in quotes", cut(name)))?;
        if attributes.iter().any(|(known, _)| known == name) {
            return Err(format!("{} stands twice", quoted(name)));
        }
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(format!("there are more than {MAX_ATTRIBUTES} attributes"));
        }
        attributes.push((name.to_owned(), attribute_value(value)?));
        rest = behind;
    }
}

/// Returns the value of an attribute as XML 1.0 (§3.3.3) has it: white space that is not a character
/// reference is blanks.
fn attribute_value(raw: &str) -> Result<String, String> {
    if raw.contains('<') {
        return Err("< stands in the value of an attribute: write &lt;".to_owned());
    }
    let mut parts = raw.split('&');
    let mut value = parts.next().unwrap_or_default().replace(['\t', '\n'], " ");
    for part in parts {
        let (name, behind) = part.split_once(';').ok_or_else(|| UNCLOSED.to_owned())?;
        value.push(referred(name)?);
        value.push_str(&behind.replace(['\t', '\n'], " "));
    }
    Ok(value)
}

/// Returns the character that an entity or a character reference stands for.
fn referred(name: &str) -> Result<char, String> {
    let digits = |digits: &str, radix| {
        let all = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        all.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let code = match name {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => match name.strip_prefix('#') {
            Some(number) => match number.strip_prefix('x') {
                Some(hex) => digits(hex, 16),
                None => digits(number, 10),
            },
            None => {
                return Err(format!(
                    "the entity {} is not known: there are amp, lt, gt, apos and quot",
                    quoted(name)
                ));
            }
        },
    };
    code.and_then(char::from_u32)
        .filter(|character| is_character(*character))
        .ok_or_else(|| format!("{} is no character of XML", quoted(name)))
}

/// Whether something is a `Name` of XML 1.0 (§2.3).
fn is_name(text: &str) -> bool {
    let starts = |character: char| {
        matches!(character,
            ':' | '_' | 'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}'
            | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}'
            | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}'
            | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
            | '\u{10000}'..='\u{effff}')
    };
    let goes_on = |character: char| {
        starts(character)
            || matches!(character,
                '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    let mut characters = text.chars();
    characters.next().is_some_and(starts) && characters.all(goes_on)
}

/// Returns what is wrong in our words.
fn words(error: &ParserError) -> String {
    match error {
        ParserError::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
            format!("</{}> stands where </{}> should", cut(found), cut(expected))
        }
        ParserError::IllFormed(IllFormedError::UnmatchedEndTag(found)) => {
            format!("</{}> ends what never began", cut(found))
        }
        ParserError::IllFormed(IllFormedError::UnclosedReference) => UNCLOSED.to_owned(),
        ParserError::Syntax(_) => "this never ends, or is no markup of XML".to_owned(),
        _ => "this is not XML".to_owned(),
    }
}

/// Returns a name as errors show it, cut when it is very long.
fn cut(name: &str) -> String {
    quoted(name).trim_matches('\'').to_owned()
}

fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

const OUTSIDE: &str = "there is text outside of the root element";

const UNCLOSED: &str = "& begins an entity that does not end with ;: write &amp; for the character";
