//! How large a document may be: what is kept must be readable at the next start.

use serde_json::Value;
use strongroom_model::dialect::admission::{Cause, Reason, Refused};
use strongroom_model::dialect::object::Object;

use super::naming::Key;
use crate::{Error, Result};

/// Tells whether a value has more levels of mappings and lists than so many. It looks no deeper than that.
pub(crate) fn is_deeper(value: &Value, levels: usize) -> bool {
    let mut below: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Object(fields) => Box::new(fields.values()),
        Value::Array(items) => Box::new(items.iter()),
        _ => return false,
    };
    levels == 0 || below.any(|value| is_deeper(value, levels - 1))
}

/// Refuses a document that has too many levels to be read again.
///
/// # Errors
///
/// [`Error::Refused`].
pub(super) fn refuse_depth(object: &Object) -> Result<()> {
    let deep = object.fields().iter().find(|(_, value)| is_deeper(value, LEVELS - 1));
    let Some((field, _)) = deep else { return Ok(()) };
    let problem = format!("it has more than {LEVELS} levels of mappings and lists");
    Err(refused(format!("{object:?}"), field, problem))
}

/// Refuses a document whose text is too long. One that gets shorter is always taken: so it can get well.
///
/// # Errors
///
/// [`Error::Refused`].
pub(super) fn refuse_length(key: &Key, text: &str, old: impl FnOnce() -> usize) -> Result<()> {
    if text.len() <= LONGEST || text.len() < old() {
        return Ok(());
    }
    let problem = format!("the document takes {} bytes; {LONGEST} are the most", text.len());
    Err(refused(key.to_string(), "", problem))
}

fn refused(what: String, field: &str, message: String) -> Error {
    let cause = Cause { field: field.to_owned(), message, reason: Reason::Invalid };
    Error::Refused { what, refused: Refused { causes: vec![cause] } }
}

/// The most levels of mappings and lists. Half of what can be read, since patches and answers put documents
/// into others.
pub(crate) const LEVELS: usize = 64;

/// The most bytes that a document takes in the catalog.
pub(super) const LONGEST: usize = 3 << 19;
