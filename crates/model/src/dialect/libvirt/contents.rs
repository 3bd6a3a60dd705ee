//! What an element holds, taken out piece by piece, so that what is left over can be kept and told.

use super::xml::{Element, Node};
use crate::Error;

/// What was not taken out of an element yet.
pub(super) struct Contents<'a> {
    element: &'a Element,
    elements: Vec<&'a Element>,
    attributes: Vec<&'a (String, String)>,
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
        Self { element, elements, attributes: element.attributes.iter().collect() }
    }

    /// Takes the value of an attribute.
    pub(super) fn attribute(&mut self, name: &str) -> Option<&'a str> {
        let at = self.attributes.iter().position(|(known, _)| known == name)?;
        Some(&self.attributes.remove(at).1)
    }

    /// Takes the first element of a name. Further ones count for nothing, as with the daemon.
    pub(super) fn child(&mut self, name: &str) -> Option<&'a Element> {
        let at = self.elements.iter().position(|element| element.name == name)?;
        Some(self.elements.remove(at))
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
            notes.push(format!("{}text in <{}> is left out", self.place(), self.element.name));
        }
        let elements = self.elements.into_iter().cloned().collect();
        (elements, self.attributes.into_iter().cloned().collect())
    }

    /// Returns the elements that are left, which are kept, and tells what is left.
    pub(super) fn elements_kept(mut self, notes: &mut Vec<String>) -> Vec<Element> {
        let attributes = std::mem::take(&mut self.attributes);
        let parent = self.element;
        Self { element: parent, elements: Vec::new(), attributes }.all_left_out(notes);
        self.all_kept(notes).0
    }

    /// Tells what is left, which nothing keeps.
    pub(super) fn all_left_out(self, notes: &mut Vec<String>) {
        self.tell(Fate::LeftOut, notes);
    }

    fn tell(&self, fate: Fate, notes: &mut Vec<String>) {
        let parent = &self.element.name;
        let fate = match fate {
            Fate::Kept => "is kept as it is",
            Fate::LeftOut => "is left out",
        };
        for (name, _) in &self.attributes {
            // What a prefix stands for is no setting.
            if name != "xmlns" && !name.starts_with("xmlns:") {
                let place = self.place();
                notes.push(format!(
                    "{place}attribute {name} of <{parent}> has no effect and {fate}"
                ));
            }
        }
        for element in &self.elements {
            let (line, name) = (element.line.0, &element.name);
            notes.push(format!("line {line}: <{name}> in <{parent}> has no effect and {fate}"));
        }
    }

    fn place(&self) -> String {
        format!("line {}: ", self.element.line.0)
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
