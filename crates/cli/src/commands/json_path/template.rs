//! Text with paths in it: `{range .items[*]}{.metadata.name}{"\n"}{end}`.

use std::str::FromStr;

use serde_json::Value;

use super::{Path, outside_quotes, shown};

/// Text in which braces stand for what is found in a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    /// The whole document, or the item of a range.
    This,
    Path(Path),
    Range(Path, Vec<Self>),
}

impl Template {
    /// Returns the text for a document. A path that leads nowhere gives none, one that leads to several
    /// values gives them with spaces between.
    pub(crate) fn render(&self, document: &Value) -> String {
        let mut text = String::new();
        render(&mut text, &self.parts, document);
        text
    }
}

fn render(text: &mut String, parts: &[Part], value: &Value) {
    for part in parts {
        match part {
            Part::Text(words) => text.push_str(words),
            Part::This => text.push_str(&shown(value)),
            Part::Path(path) => {
                let found: Vec<String> = path.find(value).into_iter().map(shown).collect();
                text.push_str(&found.join(" "));
            }
            Part::Range(path, inner) => {
                path.find(value).into_iter().for_each(|item| render(text, inner, item));
            }
        }
    }
}

impl FromStr for Template {
    type Err = String;

    /// Reads a template; a path alone may stand without braces.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(['.', '$', '[']) {
            return Ok(Self { parts: vec![Part::Path(text.parse()?)] });
        }
        let mut rest = text;
        let parts = parts(&mut rest, 0)?;
        Ok(Self { parts })
    }
}

/// Reads parts up to the end of the text or of the range that they are in, which is so many ranges deep.
fn parts(rest: &mut &str, depth: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (words, braces) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        if !words.is_empty() {
            parts.push(Part::Text(words.to_owned()));
        }
        let Some(inside) = braces.strip_prefix('{') else {
            *rest = "";
            break;
        };
        let is_end = |at: &usize| inside.as_bytes().get(*at) == Some(&b'}');
        let end = outside_quotes(inside).find(is_end).ok_or("a brace is not closed")?;
        let (inside, behind) = inside.split_at(end);
        *rest = behind.get(1..).unwrap_or_default();
        let inside = inside.trim();
        match inside.split_once(char::is_whitespace) {
            _ if inside == "end" && depth > 0 => return Ok(parts),
            _ if inside == "end" => return Err("{end} has no {range …} before it".to_owned()),
            Some(("range", _)) if depth == DEEPEST => {
                return Err("too many ranges are in one another".to_owned());
            }
            Some(("range", path)) => {
                let path = path.trim().parse()?;
                parts.push(Part::Range(path, self::parts(rest, depth + 1)?));
            }
            _ if matches!(inside, "@" | "$" | ".") => parts.push(Part::This),
            _ => match quoted(inside)? {
                Some(text) => parts.push(Part::Text(text)),
                None => parts.push(Part::Path(inside.parse()?)),
            },
        }
    }
    match depth {
        0 => Ok(parts),
        _ => Err("{range …} has no {end} behind it".to_owned()),
    }
}

/// Returns the text that stands in quotes, if some do.
fn quoted(text: &str) -> Result<Option<String>, String> {
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        return Ok(None);
    };
    let inner = text.get(1..).and_then(|rest| rest.strip_suffix(quote));
    let inner = inner.ok_or_else(|| format!("{text} is not closed by a quote"))?;
    let (mut found, mut letters) = (String::new(), inner.chars());
    while let Some(letter) = letters.next() {
        found.push(match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(other) => other,
                None => return Err(format!("{text} ends with a backslash")),
            },
            (letter, false) => letter,
        });
    }
    Ok(Some(found))
}

/// How many ranges may be in one another.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let list = json!({ "items": [
            { "metadata": { "name": "a" }, "list": [1, 2] },
            { "metadata": { "name": "b" }, "list": [{ "x": 3 }] },
        ] });
        for (template, text) in [
            (".items[0].metadata.name", "a"),
            ("{.items[*].metadata.name}", "a b"),
            (
                "{range .items[*]}{.metadata.name}{\"\\t\"}{.list}{'\\n'}{end}",
                "a\t[1,2]\nb\t[{\"x\":3}]\n",
            ),
            ("{range .items[*]}{range .list[*]}<{@}>{end};{end}", "<1><2>;<{\"x\":3}>;"),
            ("name={.items[1].metadata.name} {.nothing}!", "name=b !"),
            ("{\"}\"}", "}"),
        ] {
            let read: Template = template.parse().unwrap();
            assert_eq!(read.render(&list), text, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_told_with_the_reason() {
        for (template, reason) in [
            ("{.a", "brace"),
            ("{end}", "{range"),
            ("{range .a[*]}x", "{end}"),
            ("{'a}'", "brace"),
            ("{'a' 'b}", "brace"),
            ("{.a[}", "bracket"),
        ] {
            let told = template.parse::<Template>().unwrap_err();
            assert!(told.contains(reason), "{template}: {told}");
        }
        assert!("{range .a[*]}".repeat(40).parse::<Template>().is_err());
    }
}
