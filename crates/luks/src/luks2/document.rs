//! The JSON area as a document: read strictly, written compactly, unknown parts kept.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::{Error, Version};

/// The metadata object, members in the order in which they were read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document(pub(crate) Map<String, Value>);

/// A JSON value read with duplicate members refused.
#[derive(Debug)]
pub(crate) struct ParsedDocument(Value);

impl Document {
    /// Reads the JSON area of a copy: text, then at least one NUL, then only NULs.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] says what is wrong, never what stands there.
    pub(crate) fn read(area: &[u8]) -> Result<Self, Error> {
        let invalid = |problem: String| Error::invalid(Version::Luks2, "JSON area", problem);
        let end = area
            .iter()
            .position(|&byte| byte == 0)
            .ok_or_else(|| invalid("does not end with a NUL".to_owned()))?;
        let (text, padding) = area.split_at(end);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(invalid("has bytes behind the text".to_owned()));
        }
        Self::from_text(text)
    }

    /// Reads JSON text.
    pub(crate) fn from_text(text: &[u8]) -> Result<Self, Error> {
        let invalid = |problem: String| Error::invalid(Version::Luks2, "JSON area", problem);
        if text.first() != Some(&b'{') {
            return Err(invalid("does not begin with an object".to_owned()));
        }
        match serde_json::from_slice::<ParsedDocument>(text) {
            Ok(ParsedDocument(Value::Object(object))) => Ok(Self(object)),
            Ok(_) => Err(invalid("is not an object".to_owned())),
            Err(error) => Err(invalid(format!("is not valid JSON ({error})"))),
        }
    }

    /// Returns whether other tools read the document: they give up on deeper nesting.
    pub(crate) fn is_shallow(&self) -> bool {
        // The document itself is the first level.
        self.0.values().all(|value| is_shallow(value, MAX_DEPTH - 1))
    }

    /// Returns compact JSON text.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(&self.0).expect("a map with string keys always serialises")
    }

    /// Returns a member of the document that is an object, made when it is missing.
    pub(crate) fn section(&mut self, name: &str) -> &mut Map<String, Value> {
        let value = self.0.entry(name).or_insert_with(|| Value::Object(Map::new()));
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value.as_object_mut().expect("it was just made one")
    }
}

impl ParsedDocument {
    /// Returns the value.
    pub(crate) fn into_value(self) -> Value {
        self.0
    }
}

impl<'de> Deserialize<'de> for ParsedDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

/// Builds a [`Value`], refusing objects that name a member twice.
struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(ParsedDocument(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let ParsedDocument(value) = members.next_value()?;
            if object.insert(key, value).is_some() {
                return Err(de::Error::custom("an object names a member twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// Returns whether `value` has at most `depth` levels of objects and arrays, scalars counting as one.
fn is_shallow(value: &Value, depth: usize) -> bool {
    let Some(inner) = depth.checked_sub(1) else { return false };
    match value {
        Value::Object(members) => members.values().all(|value| is_shallow(value, inner)),
        Value::Array(items) => items.iter().all(|value| is_shallow(value, inner)),
        _ => true,
    }
}

/// The levels that cryptsetup's JSON reader follows.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(area: &[u8]) -> String {
        Document::read(area).unwrap_err().to_string()
    }

    #[test]
    fn keeps_unknown_members_in_their_order() {
        let text = br#"{"z":1,"a":{"y":[true,null,"/x"],"b":-2}}"#;
        let area = [text.as_slice(), &[0; 9]].concat();
        assert_eq!(Document::read(&area).unwrap().to_text().as_bytes(), text);
    }

    #[test]
    fn keeps_every_digit_of_a_number() {
        let text = br#"{"n":[4.1617993889434615e+268,1.2088995980580639e+39,0.1]}"#;
        assert_eq!(Document::from_text(text).unwrap().to_text().as_bytes(), text);
    }

    #[test]
    fn refuses_a_member_named_twice_at_any_depth() {
        assert!(problem(b"{\"a\":{\"b\":1,\"b\":2}}\0").contains("names a member twice"));
    }

    #[test]
    fn refuses_bytes_behind_the_text() {
        assert!(problem(b"{}\0\0x\0").contains("bytes behind the text"));
    }

    #[test]
    fn refuses_text_without_a_nul() {
        assert!(problem(b"{}").contains("does not end with a NUL"));
    }

    #[test]
    fn refuses_leading_space_and_other_values() {
        assert!(problem(b" {}\0").contains("does not begin with an object"));
        assert!(problem(b"[]\0").contains("does not begin with an object"));
        assert!(problem(b"{}{}\0").contains("not valid JSON"));
    }

    #[test]
    fn refuses_endless_nesting() {
        let text = ["{\"a\":".repeat(100_000).as_bytes(), b"\0"].concat();
        assert!(problem(&text).contains("recursion limit"));
    }
}
