//! JSON values as YAML (1.2), for people.

use std::fmt::Write;

use serde_json::Value;

/// Returns a value as YAML, with the newline at its end. Every reader of YAML gets the same value back.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => block(&mut text, value, 0),
        Value::Array(items) if !items.is_empty() => block(&mut text, value, 0),
        other => {
            scalar(&mut text, other, 0);
            text.push('\n');
        }
    }
    text
}

/// Writes a mapping or a sequence that is not empty, a line for each member.
fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) => {
            for (number, (key, value)) in fields.iter().enumerate() {
                // The first member of a sequence's item stands behind its dash.
                if number > 0 || !text.ends_with("- ") {
                    indent(text, depth);
                }
                text.push_str(&line(key));
                text.push(':');
                member(text, value, depth);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                if number > 0 || !text.ends_with("- ") {
                    indent(text, depth);
                }
                text.push_str("- ");
                match item {
                    Value::Object(fields) if !fields.is_empty() => block(text, item, depth + 1),
                    Value::Array(items) if !items.is_empty() => block(text, item, depth + 1),
                    other => {
                        scalar(text, other, depth + 1);
                        text.push('\n');
                    }
                }
            }
        }
        other => scalar(text, other, depth),
    }
}

/// Writes what stands behind a key.
fn member(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            block(text, value, depth + 1);
        }
        // As Kubernetes' tools write them: no deeper than their key.
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(text, value, depth);
        }
        other => {
            text.push(' ');
            scalar(text, other, depth + 1);
            text.push('\n');
        }
    }
}

fn scalar(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(string) if is_literal(string) => literal(text, string, depth.max(1)),
        Value::String(string) => text.push_str(&line(string)),
        // Those that are left are written as JSON writes them: numbers, words, and what is empty.
        other => text.push_str(&other.to_string()),
    }
}

/// Tells whether a text can stand as lines of its own: nothing in it would be lost or read otherwise.
fn is_literal(string: &str) -> bool {
    let lines = string.split('\n');
    let first = string.lines().next().unwrap_or_default();
    string.trim_end_matches('\n').contains('\n')
        && !first.is_empty()
        && !first.starts_with(' ')
        && lines.clone().all(|line| !line.ends_with([' ', '\t']) && !line.starts_with('\t'))
        && lines.flat_map(str::chars).all(is_printable)
}

fn literal(text: &mut String, string: &str, depth: usize) {
    let body = string.trim_end_matches('\n');
    text.push_str(match string.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in body.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            indent(text, depth);
            text.push_str(line);
        }
    }
    // The caller ends the last line itself.
    text.extend(std::iter::repeat_n('\n', (string.len() - body.len()).saturating_sub(1)));
}

/// Returns a text on one line, in quotes unless it can be taken for nothing else.
fn line(string: &str) -> String {
    if is_plain(string) {
        return string.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in string.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            letter if is_printable(letter) => quoted.push(letter),
            letter => {
                let code = u32::from(letter);
                let written = match code {
                    0..=0xffff => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
                written.expect("a string takes everything");
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Tells whether a text without quotes is that text for every reader, also for one of YAML 1.1, which knows
/// more words for true and false, and numbers with colons.
fn is_plain(string: &str) -> bool {
    let safe = |letter: char| {
        letter.is_ascii_alphanumeric()
            || matches!(letter, '_' | '.' | '/' | '-' | '@' | '(' | ')' | ',')
    };
    let word = string.to_ascii_lowercase();
    let quantity =
        string.strip_suffix('i').and_then(|rest| rest.strip_suffix(['K', 'M', 'G', 'T']));
    if quantity
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    {
        return true;
    }
    string.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && !string.ends_with([' ', ':'])
        && !string.contains(": ")
        && string.chars().all(|letter| safe(letter) || matches!(letter, ' ' | ':'))
        && !WORDS.contains(&word.as_str())
}

/// Tells whether a letter is shown as it is: it neither moves anything nor hides.
fn is_printable(letter: char) -> bool {
    !letter.is_control()
        && !matches!(
            letter,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff0}'..='\u{ffff}'
        )
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// What some reader takes for something else than text.
const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];

#[cfg(test)]
mod tests {
    use serde_json::json;
    use strongroom_model::dialect::documents;

    use super::*;

    #[test]
    fn documents_look_as_people_write_them() {
        let value = json!({
            "apiVersion": "longhorn.io/v1beta2",
            "metadata": { "name": "ubuntu", "finalizers": ["a", "b"], "annotations": {} },
            "spec": {
                "url": "http://127.0.0.1:8080/a.qcow2?x=1",
                "size": "10Gi", "copies": 2, "text": "one\ntwo\n", "none": null,
                "list": [{ "a": 1, "b": [1, [2, 3]] }, [], {}],
                "odd": ["yes", "1e3", "12:30", "- x", "a: b", "a #b", "", "~", " x", "0x1F"]
            }
        });
        let expected = "\
apiVersion: longhorn.io/v1beta2
metadata:
  name: ubuntu
  finalizers:
  - a
  - b
  annotations: {}
spec:
  url: \"http://127.0.0.1:8080/a.qcow2?x=1\"
  size: 10Gi
  copies: 2
  text: |
    one
    two
  none: null
  list:
  - a: 1
    b:
    - 1
    - - 2
      - 3
  - []
  - {}
  odd:
  - \"yes\"
  - \"1e3\"
  - \"12:30\"
  - \"- x\"
  - \"a: b\"
  - \"a #b\"
  - \"\"
  - \"~\"
  - \" x\"
  - \"0x1F\"
";
        assert_eq!(yaml(&value), expected);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let texts = [
            "",
            " ",
            "\n",
            "\n\n",
            "a\n",
            "a\nb",
            "a\nb\n\n\n",
            "a\n\nb\n",
            " a\nb",
            "a \nb",
            "\ta\nb",
            "a\r\nb",
            "\u{1b}[31m",
            "\u{202e}x",
            "\u{feff}",
            "ß → 😀",
            "a\u{85}b",
            "#",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a}",
            "[a]",
            "a,",
            "?",
            "? a",
            "|",
            ">",
            "---",
            "--- a",
            "...",
            "null",
            "Null",
            "TRUE",
            ".inf",
            "inf",
            "nan",
            "NaN",
            "0o7",
            "1_000",
            "2024-01-01",
            "=",
            "<<",
            "a:",
            ":a",
            "a\\b",
            "\"",
            "'",
            "key\nwith\n---\nlines\n",
            "x\n# no comment\n",
            "no: yes",
            "1Gi",
            "Gi",
            "1.5Gi",
            "007",
            "a\n  b\n c\n",
        ];
        for text in texts {
            let value = json!({
                "apiVersion": "v1", "kind": "Thing", "metadata": { "name": "x" },
                "text": text, "list": [text, [text], { "deep": { "text": text } }],
                "mapping": { text: { text: 1 } },
            });
            let written = yaml(&value);
            let read = documents::read("test", written.as_bytes());
            let read = read.unwrap_or_else(|error| panic!("{text:?}: {error:?}\n{written}"));
            assert_eq!(read.len(), 1, "{written}");
            assert_eq!(Value::Object(read[0].object.fields().clone()), value, "{written}");
        }
    }
}
