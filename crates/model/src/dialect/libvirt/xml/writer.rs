//! Writes XML as libvirt does: two blanks a level, single quotes.

use super::{Element, Node, is_character};

/// Returns a document with this root, two blanks of indentation a level, and a line break at its end. An
/// element that holds text is written without white space of ours.
///
/// # Guarantees
///
/// - What [`read`](super::read) returned, it returns again for what this makes of it.
/// - A character that XML cannot hold (most control characters) comes out as U+FFFD.
///
/// # Assumptions
///
/// Names are names of XML, and no comment holds `--` or ends with `-`.
pub fn write(root: &Element) -> String {
    let mut text = String::new();
    element(&mut text, root, Layout::Indented(0));
    text.push('\n');
    text
}

/// How what an element holds is laid out.
#[derive(Clone, Copy)]
enum Layout {
    /// In lines of their own, so many levels deep.
    Indented(usize),
    /// Without any white space of ours.
    Inline,
}

impl Layout {
    fn below(self, element: &Element) -> Self {
        let text = element.children.iter().any(|node| matches!(node, Node::Text(_)));
        match self {
            Self::Indented(depth) if !text => Self::Indented(depth + 1),
            _ => Self::Inline,
        }
    }

    fn line(self, text: &mut String) {
        if let Self::Indented(depth) = self {
            text.push('\n');
            text.extend(std::iter::repeat_n("  ", depth));
        }
    }
}

fn element(text: &mut String, element: &Element, layout: Layout) {
    text.push('<');
    text.push_str(&element.name);
    for (name, value) in &element.attributes {
        text.extend([" ", name, "='"]);
        value.chars().for_each(|character| attribute_character(text, character));
        text.push('\'');
    }
    if element.children.is_empty() {
        text.push_str("/>");
        return;
    }
    text.push('>');
    let below = layout.below(element);
    for child in &element.children {
        below.line(text);
        node(text, child, below);
    }
    if let Layout::Indented(_) = below {
        layout.line(text);
    }
    text.extend(["</", &element.name, ">"]);
}

fn node(text: &mut String, node: &Node, layout: Layout) {
    match node {
        Node::Element(child) => element(text, child, layout),
        Node::Text(content) => {
            content.chars().for_each(|character| text_character(text, character));
        }
        Node::Comment(content) => text.extend(["<!--", content, "-->"]),
    }
}

fn attribute_character(text: &mut String, character: char) {
    match character {
        '\'' => text.push_str("&apos;"),
        '"' => text.push_str("&quot;"),
        '\t' => text.push_str("&#9;"),
        '\n' => text.push_str("&#10;"),
        _ => text_character(text, character),
    }
}

fn text_character(text: &mut String, character: char) {
    match character {
        '&' => text.push_str("&amp;"),
        '<' => text.push_str("&lt;"),
        '>' => text.push_str("&gt;"),
        '\r' => text.push_str("&#13;"),
        _ if is_character(character) => text.push(character),
        _ => text.push('\u{fffd}'),
    }
}
