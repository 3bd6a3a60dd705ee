//! Paths through documents, as kubectl writes them: `{.status.conditions[?(@.type=="Ready")].status}`.

mod template;

use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::Value;

pub(crate) use self::template::Template;

/// A path through a document, which leads to any number of values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    text: String,
    steps: Vec<Step>,
}

/// A step on a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    /// Counted from the end where it is negative.
    Index(i64),
    All,
    Filter(Filter),
}

/// Which items of a list are taken.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    /// From the item on.
    path: Vec<Step>,
    /// Without one, the path has to lead somewhere.
    test: Option<(Comparison, Value)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Path {
    /// Returns what a path leads to.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        follow(&self.steps, value)
    }

    /// Returns whether a path begins with a key.
    pub(crate) fn begins_with(&self, wanted: &str) -> bool {
        matches!(self.steps.first(), Some(Step::Key(key)) if key == wanted)
    }

    /// Returns where the braces end with which a text begins.
    pub(crate) fn end_of_braces(text: &str) -> Option<usize> {
        let is_end = |at: &usize| text.as_bytes().get(*at) == Some(&b'}');
        outside_quotes(text).find(is_end).map(|at| at + 1)
    }

    /// Returns it as somebody wrote it, without braces.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Path {
    type Err = String;

    /// Reads a path; the braces around it may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let inner = match text.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or("a brace is not closed")?,
            None => text,
        };
        let inner = inner.trim();
        let steps = steps(inner, 0)?;
        if steps.is_empty() {
            return Err("the path is empty: .status.phase is one, for instance".to_owned());
        }
        Ok(Self { text: inner.to_owned(), steps })
    }
}

/// Orders values as people expect: numbers by their size, everything else by its text.
pub(crate) fn compare(one: &Value, other: &Value) -> Ordering {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other),
        _ => shown(one).cmp(&shown(other)),
    }
}

/// Returns a value as it is printed: text as it is, everything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn follow<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    steps.iter().fold(vec![value], |found, step| {
        found.into_iter().flat_map(|value| step.from(value)).collect()
    })
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Key(key) => value.get(key).into_iter().collect(),
            Self::Index(index) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let at = usize::try_from(*index).ok().or_else(|| {
                    let from_end = usize::try_from(index.unsigned_abs()).ok()?;
                    items.len().checked_sub(from_end)
                });
                at.and_then(|at| items.get(at)).into_iter().collect()
            }
            Self::All => members(value),
            Self::Filter(filter) => {
                members(value).into_iter().filter(|item| filter.takes(item)).collect()
            }
        }
    }
}

fn members(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

impl Filter {
    fn takes(&self, item: &Value) -> bool {
        let found = follow(&self.path, item);
        match &self.test {
            None => !found.is_empty(),
            Some((comparison, wanted)) => {
                found.into_iter().any(|found| comparison.holds(found, wanted))
            }
        }
    }
}

impl Comparison {
    /// Those that begin like another one come first.
    const ALL: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn holds(self, found: &Value, wanted: &Value) -> bool {
        let order = compare(found, wanted);
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::Unequal => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::AtLeast => order != Ordering::Less,
        }
    }
}

/// Reads `.status.conditions[0].type`, `.metadata.annotations['a.b/c']`, `.a\.b`, `.items[*]`,
/// `[?(@.type=="Ready")].status`. The path is in so many filters.
fn steps(path: &str, depth: usize) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix(['$', '@']).unwrap_or(path);
    while !rest.is_empty() {
        let (step, behind) = match rest.strip_prefix('[') {
            Some(inside) => {
                let end = end_of_bracket(inside).ok_or("a bracket is not closed")?;
                let (inside, behind) = inside.split_at(end);
                (in_brackets(inside.trim(), depth)?, behind.get(1..).unwrap_or_default())
            }
            None => key(rest, path)?,
        };
        steps.push(step);
        rest = behind;
    }
    Ok(steps)
}

/// Reads a key behind its dot, and returns what stands behind it.
fn key<'a>(rest: &'a str, path: &str) -> Result<(Step, &'a str), String> {
    let name = rest.strip_prefix('.').unwrap_or(rest);
    let (mut key, mut behind, mut is_escaped) = (String::new(), "", false);
    let mut letters = name.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                is_escaped = true;
                key.extend(letters.next().map(|(_, letter)| letter));
            }
            '.' | '[' => {
                behind = name.get(at..).unwrap_or_default();
                break;
            }
            letter if letter.is_whitespace() || "{}()=<>!'\"".contains(letter) => {
                return Err(format!("{path} is no path of keys: {letter:?} belongs into ['…']"));
            }
            letter => key.push(letter),
        }
    }
    match key.as_str() {
        "" if rest.starts_with("..") => Err("`..` is not known here: write all keys".to_owned()),
        "" => Err(format!("{path} is no path of keys: .status.phase is one, for instance")),
        "*" if !is_escaped => Ok((Step::All, behind)),
        _ => Ok((Step::Key(key), behind)),
    }
}

/// Reads what stands in brackets: `0`, `-1`, `*`, `'a key'`, `?(@.type=="Ready")`.
fn in_brackets(text: &str, depth: usize) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(") {
        // Each is read, applied and dropped within the one around it.
        if depth == DEEPEST {
            return Err(format!("more than {DEEPEST} filters are in one another"));
        }
        let filter = filter.strip_suffix(')').ok_or("a parenthesis is not closed")?;
        return Ok(Step::Filter(self::filter(filter, depth + 1)?));
    }
    if let Some(key) = unquoted(text) {
        return Ok(Step::Key(key.to_owned()));
    }
    text.parse()
        .map(Step::Index)
        .map_err(|_| format!("[{text}] is none of a number, *, 'a key' and ?(@.KEY==\"VALUE\")"))
}

fn filter(text: &str, depth: usize) -> Result<Filter, String> {
    let operator = outside_quotes(text).find_map(|at| {
        let rest = text.get(at..)?;
        let known = |(sign, _): &&(&str, Comparison)| rest.starts_with(sign);
        Comparison::ALL.iter().find(known).map(|(sign, comparison)| (at, *sign, *comparison))
    });
    let begins = |path: &str| match path.trim().starts_with('@') {
        true => Ok(()),
        false => Err(format!("the filter {text} does not begin with @, which is the item")),
    };
    let Some((at, sign, comparison)) = operator else {
        begins(text)?;
        return Ok(Filter { path: steps(text.trim(), depth)?, test: None });
    };
    let (path, wanted) = text.split_at(at);
    begins(path)?;
    let wanted = wanted.get(sign.len()..).unwrap_or_default().trim();
    let wanted = match unquoted(wanted) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(wanted)
            .map_err(|_| format!("{wanted} is no value: put text into quotes"))?,
    };
    Ok(Filter { path: steps(path.trim(), depth)?, test: Some((comparison, wanted)) })
}

fn unquoted(text: &str) -> Option<&str> {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('\'').or_else(|| within('"'))
}

/// Returns where the bracket ends that was opened before.
fn end_of_bracket(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    outside_quotes(text).find(|at| match text.as_bytes().get(*at) {
        Some(b'[') => {
            depth += 1;
            false
        }
        Some(b']') if depth == 0 => true,
        Some(b']') => {
            depth -= 1;
            false
        }
        _ => false,
    })
}

/// Returns where the letters stand that are in no quotes.
fn outside_quotes(text: &str) -> impl Iterator<Item = usize> {
    let mut quote = None;
    text.char_indices().filter_map(move |(at, letter)| match quote {
        Some(open) => {
            if letter == open {
                quote = None;
            }
            None
        }
        None if matches!(letter, '\'' | '"') => {
            quote = Some(letter);
            None
        }
        None => Some(at),
    })
}

/// The most filters that are in one another.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str) -> Vec<String> {
        let document = json!({
            "metadata": { "annotations": { "a.b/c": "d" }, "odd key": 1 },
            "status": {
                "phase": "Bound", "progress": 7, "none": null,
                "conditions": [
                    { "type": "Initialized", "status": "True", "tries": 1 },
                    { "type": "Imported", "status": "False", "tries": 12, "message": "a ] ) b" }
                ]
            }
        });
        let path: Path = path.parse().unwrap();
        path.find(&document).into_iter().map(shown).collect()
    }

    #[test]
    fn paths_lead_to_values() {
        for (path, value) in [
            ("{.status.phase}", "Bound"),
            (".status.phase", "Bound"),
            ("status.phase", "Bound"),
            ("{$.status.phase}", "Bound"),
            ("{ .status['phase'] }", "Bound"),
            ("{.status.progress}", "7"),
            ("{.status.conditions[1].type}", "Imported"),
            ("{.status.conditions[-1].type}", "Imported"),
            ("{.metadata.annotations['a.b/c']}", "d"),
            ("{.metadata.annotations.a\\.b/c}", "d"),
            ("{.metadata[\"odd key\"]}", "1"),
            ("{.status.conditions[?(@.type==\"Imported\")].status}", "False"),
            ("{.status.conditions[?(@.type=='Imported')].status}", "False"),
            ("{.status.conditions[?(@.type != 'Imported')].status}", "True"),
            ("{.status.conditions[?(@.tries>9)].type}", "Imported"),
            ("{.status.conditions[?(@.tries<=1)].type}", "Initialized"),
            ("{.status.conditions[?(@.message)].type}", "Imported"),
            ("{.status.conditions[?(@['message']=='a ] ) b')].type}", "Imported"),
        ] {
            assert_eq!(found(path), [value], "{path}");
        }
        assert_eq!(found("{.status.conditions[*].type}"), ["Initialized", "Imported"]);
        assert_eq!(found("{.metadata.annotations.*}"), ["d"]);
        for nowhere in [
            "{.status.other}",
            "{.status.phase.deeper}",
            "{.status.conditions[2].type}",
            "{.status.conditions[-3].type}",
            "{.status.conditions[?(@.type=='Other')].type}",
        ] {
            assert_eq!(found(nowhere), [""; 0], "{nowhere}");
        }
    }

    #[test]
    fn what_is_no_path_is_told_with_the_reason() {
        for (path, reason) in [
            ("", "empty"),
            ("{}", "empty"),
            ("{.a", "brace"),
            ("{.a[0}", "bracket"),
            ("{.a[x]}", "[x] is none of"),
            ("{..a}", "`..`"),
            ("{.a.}", "is no path"),
            ("{.a b}", "belongs into"),
            ("{.a[?(@.b=='c']}", "parenthesis"),
            ("{.a[?(.b=='c')]}", "begin with @"),
            ("{.a[?(@.b==c)]}", "quotes"),
        ] {
            let told = path.parse::<Path>().unwrap_err();
            assert!(told.contains(reason), "{path}: {told}");
        }
    }

    #[test]
    fn filters_are_in_one_another_up_to_a_depth() {
        let nested = |depth: usize| {
            let text = format!("{}@{}", "[?(@".repeat(depth), ")]".repeat(depth));
            text.replace("@@", "@.a").parse::<Path>()
        };
        assert!(nested(DEEPEST).is_ok());
        for depth in [DEEPEST + 1, 18_000] {
            let told = nested(depth).unwrap_err();
            assert!(told.contains("more than 16 filters"), "{depth}: {told}");
        }
    }

    #[test]
    fn numbers_are_ordered_by_their_size() {
        assert_eq!(compare(&json!(9), &json!(10)), Ordering::Less);
        assert_eq!(compare(&json!("9"), &json!("10")), Ordering::Greater);
    }
}
