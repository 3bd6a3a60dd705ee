//! What an element holds, taken out piece by piece, so that what is left over can be kept and told.

use std::fmt;

use super::xml::{Element, Node};
use crate::Error;

/// What was not taken out of an element yet.
pub(super) struct Contents<'a> {
    element: &'a Element,
    elements: Vec<&'a Element>,
    attributes: Vec<&'a (String, String)>,
    /// Further elements of names that were taken.
    further: Vec<&'a Element>,
}

/// What happens to what nobody knows.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    LeftOut,
}

impl<'a> Contents<'a> {
    pub(super) fn of(element: &'a Element) -> Self {
        let elements = element.elements().collect();
        let attributes = element.attributes.iter().collect();
        Self { element, elements, attributes, further: Vec::new() }
    }

    /// Takes the value of an attribute.
    pub(super) fn attribute(&mut self, name: &str) -> Option<&'a str> {
        let at = self.attributes.iter().position(|(known, _)| known == name)?;
        Some(&self.attributes.remove(at).1)
    }

    /// Takes the first element of a name. Further ones count for nothing, as with the daemon, and are not kept:
    /// they would count where the first was empty and is not written again.
    pub(super) fn child(&mut self, name: &str) -> Option<&'a Element> {
        let mut named = self.children(name).into_iter();
        let first = named.next();
        self.further.extend(named);
        first
    }

    /// Takes every element of a name.
    pub(super) fn children(&mut self, name: &str) -> Vec<&'a Element> {
        let (taken, left) = self.elements.drain(..).partition(|element| element.name == name);
        self.elements = left;
        taken
    }

    /// Takes the text of the first element of a name; an empty one is as none.
    pub(super) fn text(
        &mut self,
        name: &str,
        notes: &mut Vec<String>,
    ) -> Result<Option<String>, Error> {
        let Some(child) = self.child(name) else { return Ok(None) };
        Contents::of(child).all_left_out(notes);
        Ok(Some(text_of(child)?).filter(|text| !text.is_empty()))
    }

    /// Returns what is left, which is kept, and tells it.
    pub(super) fn all_kept(self, notes: &mut Vec<String>) -> (Vec<Element>, Vec<(String, String)>) {
        self.tell(Fate::Kept, notes);
        let says = |node: &Node| matches!(node, Node::Text(text) if !text.trim().is_empty());
        if self.element.children.iter().any(says) {
            let (place, name) = (Place(self.element), &self.element.name);
            notes.push(format!("{place}text in <{name}> {}", Fate::LeftOut));
        }
        let elements = self.elements.into_iter().cloned().collect();
        (elements, self.attributes.into_iter().cloned().collect())
    }

    /// Returns the elements that are left, which are kept, and tells what is left.
    pub(super) fn elements_kept(mut self, notes: &mut Vec<String>) -> Vec<Element> {
        let attributes = std::mem::take(&mut self.attributes);
        let parent = self.element;
        let (elements, further) = (Vec::new(), Vec::new());
        Self { element: parent, elements, attributes, further }.all_left_out(notes);
        self.all_kept(notes).0
    }

    /// Tells what is left, which nothing keeps.
    pub(super) fn all_left_out(self, notes: &mut Vec<String>) {
        self.tell(Fate::LeftOut, notes);
    }

    fn tell(&self, fate: Fate, notes: &mut Vec<String>) {
        let parent = &self.element.name;
        for (name, _) in &self.attributes {
            // What a prefix stands for is no setting.
            let prefix = name == "xmlns" || name.starts_with("xmlns:");
            if !(prefix && matches!(fate, Fate::Kept)) {
                let place = Place(self.element);
                notes.push(format!("{place}attribute {name} of <{parent}> {fate}"));
            }
        }
        for element in &self.further {
            let (place, name) = (Place(element), &element.name);
            notes.push(format!("{place}a further <{name}> in <{parent}> {}", Fate::LeftOut));
        }
        for element in &self.elements {
            let name = &element.name;
            if !UNTOLD.contains(&(parent.as_str(), name.as_str())) {
                notes.push(format!("{}<{name}> in <{parent}> {fate}", Place(element)));
            }
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "is not read, but kept",
            Self::LeftOut => "is not read and left out",
        })
    }
}

/// Where an element stands, as notes begin.
struct Place<'a>(&'a Element);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.line.0 {
            0 => Ok(()),
            line => write!(f, "line {line}: "),
        }
    }
}

/// Returns the text of an element that holds nothing else.
pub(super) fn text_of(element: &Element) -> Result<String, Error> {
    match element.elements().next() {
        None => Ok(element.text()),
        Some(child) => {
            Err(child
                .error(format!("<{}> stands in <{}>, which holds text", child.name, element.name)))
        }
    }
}

/// What there is nothing to tell about, by where it stands: what a daemon prints and never reads, and how
/// an image on another machine is reached.
const UNTOLD: [(&str, &str); 5] = [
    ("volume", "source"),
    ("target", "timestamps"),
    ("backingStore", "timestamps"),
    ("source", "host"),
    ("source", "auth"),
];
