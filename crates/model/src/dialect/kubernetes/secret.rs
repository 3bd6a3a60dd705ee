//! The values of a Secret.

use base64::Engine;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::dialect::admission::{Reason, Refused, SecretValues};
use crate::dialect::fields::Fields;
use crate::dialect::manifest::BASE64;
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;

/// Returns the values of a `v1 Secret`: `data` holds base64, `stringData` text, which wins. Null is the empty
/// value.
///
/// # Errors
///
/// When a value is something else. No value is in the message.
pub fn secret_values(object: &Object) -> Result<SecretValues, Refused> {
    let mut fields = Fields::of(object, Resource::Secret);
    let mut values = SecretValues::new();
    for (key, value) in mapping(&mut fields, "data") {
        match decoded(value) {
            Ok(bytes) => _ = values.insert(key.clone(), bytes),
            Err(problem) => fields.note(&["data", key], Reason::Invalid, problem),
        }
    }
    for (key, value) in mapping(&mut fields, "stringData") {
        match value {
            Value::String(text) => {
                values.insert(key.clone(), Zeroizing::new(text.as_bytes().to_vec()));
            }
            Value::Null => _ = values.insert(key.clone(), Zeroizing::default()),
            other => {
                let problem = format!("this is {}, not text: put it in quotes", found(other));
                fields.note(&["stringData", key], Reason::Invalid, problem);
            }
        }
    }
    let keys: Vec<String> = values.keys().filter(|key| !is_key(key)).cloned().collect();
    for key in keys {
        let message = "a key has 1 to 253 of the letters, digits, '-', '_' and '.'";
        fields.note(&["data", &key], Reason::Invalid, message);
    }
    fields.finish(values)
}

fn mapping<'a>(
    fields: &mut Fields<'a>,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    let value = fields.value(&[name]);
    if value.is_some_and(|value| !value.is_object()) {
        fields.note(&[name], Reason::Invalid, "use a mapping of keys and values");
    }
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn decoded(value: &Value) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = match value {
        Value::String(text) => text,
        Value::Null => return Ok(Zeroizing::default()),
        other => {
            return Err(format!(
                "this is {}, not base64: data holds base64, plain text belongs under stringData \
                 and in quotes",
                found(other)
            ));
        }
    };
    // Go's decoder, and so Kubernetes, skips the ends of lines.
    let text: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect());
    BASE64.decode(text.as_slice()).map(Zeroizing::new).map_err(|_| {
        "this is not base64: data holds base64, plain text belongs under stringData".to_owned()
    })
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Array(_) => "a list",
        _ => "a mapping",
    }
}

fn is_key(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=253).contains(&key.len())
        && key.bytes().all(allowed)
        && key != "."
        && !key.starts_with("..")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(data: Value, string_data: Value) -> Result<SecretValues, Refused> {
        let mut object = Object::new(Resource::Secret, Some("lab"), "key");
        object.set(&["data"], data);
        object.set(&["stringData"], string_data);
        secret_values(&object)
    }

    #[test]
    fn values_are_the_exact_bytes_and_text_wins() {
        let values = secret(
            json!({ "a": "AAEK\nCw==", "b": "eA==", "c": null }),
            json!({ "b": "y\n", "d": "" }),
        )
        .unwrap();
        assert_eq!(*values["a"], [0, 1, 10, 11]);
        assert_eq!(*values["b"], *b"y\n");
        assert!(values["c"].is_empty() && values["d"].is_empty());
    }

    #[test]
    fn plain_text_and_numbers_under_data_are_explained_and_never_shown() {
        let data = json!({ "CRYPTO_KEY_VALUE": "canary!", "CRYPTO_KEY_SIZE": 256 });
        let refused = secret(data, json!({ "x": true })).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains("data.CRYPTO_KEY_VALUE: this is not base64"), "{told}");
        assert!(told.contains("data.CRYPTO_KEY_SIZE: this is a number"), "{told}");
        assert!(told.contains("stringData.x: this is true or false"), "{told}");
        assert!(!told.contains("canary") && !told.contains("256"), "{told}");
    }

    #[test]
    fn keys_are_names_of_files() {
        for bad in ["", "..", "a/b", "a b", "..a"] {
            assert!(secret(json!({}), json!({ bad: "x" })).is_err(), "{bad}");
        }
        assert!(secret(json!({ "tls.crt": "" }), Value::Null).is_ok());
        assert!(secret(json!("text"), Value::Null).is_err());
    }
}
