//! JSON patches (RFC 6902), with their pointers (RFC 6901).

use serde::Deserialize;
use serde_json::Value;

use super::super::failure::{Answer, Failure};
use crate::store::{LEVELS, is_deeper};

/// An operation.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Value },
}

/// Applies operations, one after the other.
///
/// # Errors
///
/// When one cannot be.
pub(super) fn apply(document: &mut Value, patch: Value) -> Answer<()> {
    let operations: Vec<Operation> = serde_json::from_value(patch)
        .map_err(|_| Failure::bad_request("the patch is no list of operations"))?;
    if operations.len() > MOST {
        return Err(Failure::bad_request(format!("the patch has more than {MOST} operations")));
    }
    for (number, operation) in operations.into_iter().enumerate() {
        one(document, operation).ok_or_else(|| {
            Failure::invalid(format!("operation {number} of the patch does not fit the document"))
        })?;
    }
    Ok(())
}

fn one(document: &mut Value, operation: Operation) -> Option<()> {
    match operation {
        Operation::Add { path, value } => add(document, &path, value),
        Operation::Remove { path } => remove(document, &path).map(drop),
        Operation::Replace { path, value } => {
            refuse_depth(&path, &value)?;
            *document.pointer_mut(&path)? = value;
            Some(())
        }
        Operation::Move { from, path } => {
            // Nothing can be moved into itself.
            if path.starts_with(&format!("{from}/")) {
                return None;
            }
            let value = remove(document, &from)?;
            add(document, &path, value)
        }
        Operation::Copy { from, path } => {
            let value = document.pointer(&from)?.clone();
            // A few copies of copies would fill the memory.
            if value.to_string().len() > LARGEST_COPY {
                return None;
            }
            add(document, &path, value)
        }
        Operation::Test { path, value } => (document.pointer(&path)? == &value).then_some(()),
    }
}

/// Operations could build on each other until nothing has the stack to look at what they have built.
fn refuse_depth(path: &str, value: &Value) -> Option<()> {
    let above = path.matches('/').count();
    (above <= LEVELS && !is_deeper(value, LEVELS - above)).then_some(())
}

fn add(document: &mut Value, path: &str, value: Value) -> Option<()> {
    refuse_depth(path, &value)?;
    let Some((parent, last)) = path.rsplit_once('/') else {
        *document = value;
        return path.is_empty().then_some(());
    };
    match document.pointer_mut(parent)? {
        Value::Object(fields) => {
            fields.insert(unescaped(last), value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at: usize = last.parse().ok()?;
            if at > items.len() {
                return None;
            }
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = path.rsplit_once('/')?;
    match document.pointer_mut(parent)? {
        Value::Object(fields) => fields.shift_remove(&unescaped(last)),
        Value::Array(items) => {
            let at: usize = last.parse().ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The most operations of a patch.
const MOST: usize = 1000;

/// The largest thing that is copied, in bytes.
const LARGEST_COPY: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> Value {
        let innermost = json!([0]);
        (1..levels).fold(innermost, |value, _| json!([value]))
    }

    #[test]
    fn operations_do_what_the_rfc_says() {
        let mut document = json!({ "a": { "b/c": 1 }, "list": [1, 3] });
        let patch = json!([
            { "op": "test", "path": "/a/b~1c", "value": 1 },
            { "op": "add", "path": "/list/1", "value": 2 },
            { "op": "add", "path": "/list/-", "value": 4 },
            { "op": "remove", "path": "/list/0" },
            { "op": "replace", "path": "/a/b~1c", "value": 5 },
            { "op": "copy", "from": "/a", "path": "/copy" },
            { "op": "move", "from": "/a/b~1c", "path": "/moved" },
        ]);
        apply(&mut document, patch).unwrap();
        let new = json!({ "a": {}, "list": [2, 3, 4], "copy": { "b/c": 5 }, "moved": 5 });
        assert_eq!(document, new);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for patch in [
            json!([{ "op": "test", "path": "/a", "value": 2 }]),
            json!([{ "op": "remove", "path": "/none" }]),
            json!([{ "op": "replace", "path": "/none", "value": 1 }]),
            json!([{ "op": "add", "path": "/list/9", "value": 1 }]),
            json!([{ "op": "move", "from": "/a", "path": "/a/b" }]),
            json!([{ "op": "jump", "path": "/a" }]),
            json!([{ "op": "add", "path": "/a", "value": nested(64) }]),
            json!([
                { "op": "add", "path": "/list/-", "value": nested(40) },
                { "op": "add", "path": format!("/list/0{}", "/0".repeat(39)), "value": nested(40) },
            ]),
            json!({ "op": "remove", "path": "/a" }),
        ] {
            let mut document = json!({ "a": 1, "list": [] });
            assert!(apply(&mut document, patch.clone()).is_err(), "{patch}");
        }
    }
}
