//! What is to be changed of a document, as a merge patch (RFC 7386).

use serde_json::{Map, Value};

/// Returns the patch that makes `current` what `wanted` says, and takes out what `original`, which was applied
/// last, said and `wanted` does not. What is only in `current` stays. An empty patch changes nothing.
pub(super) fn three_way(original: &Value, current: &Value, wanted: &Value) -> Value {
    Value::Object(below(original, current, wanted))
}

fn below(original: &Value, current: &Value, wanted: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, wanted) in wanted.as_object().into_iter().flatten() {
        let (original, current) = (original.get(key), current.get(key));
        match (current, wanted) {
            // A field that is wanted to be nothing is taken out where it is.
            (None | Some(Value::Null), Value::Null) => {}
            (Some(current @ Value::Object(_)), Value::Object(_)) => {
                let change = below(original.unwrap_or(&Value::Null), current, wanted);
                if !change.is_empty() {
                    patch.insert(key.clone(), Value::Object(change));
                }
            }
            (Some(current), wanted) if current == wanted => {}
            (_, wanted) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in original.as_object().into_iter().flat_map(Map::keys) {
        let is_there = current.get(key).is_some_and(|value| !value.is_null());
        if wanted.get(key).is_none() && is_there {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_as_wanted_needs_no_patch() {
        let wanted = json!({ "a": 1, "b": { "c": [1, { "d": 2 }] }, "gone": null });
        let current = json!({ "a": 1, "b": { "c": [1, { "d": 2 }], "added": 1 }, "status": {} });
        assert_eq!(three_way(&wanted, &current, &wanted), json!({}));
        assert_eq!(three_way(&Value::Null, &current, &wanted), json!({}));
    }

    #[test]
    fn what_differs_is_changed_and_what_others_added_stays() {
        let current = json!({ "a": 1, "b": { "c": [1, 2], "added": 1 }, "text": "x" });
        let wanted = json!({ "a": 2, "b": { "c": [2] }, "text": { "deep": 1 }, "new": { "x": 1 } });
        assert_eq!(
            three_way(&json!({ "a": 1 }), &current, &wanted),
            json!({ "a": 2, "b": { "c": [2] }, "text": { "deep": 1 }, "new": { "x": 1 } })
        );
    }

    #[test]
    fn what_was_applied_and_is_not_wanted_any_more_is_taken_out() {
        let original = json!({ "a": 1, "b": { "c": 1, "d": 2 }, "gone": 1, "all": { "x": 1 } });
        let current =
            json!({ "a": 1, "b": { "c": 1, "d": 2, "added": 3 }, "all": { "x": 1 }, "y": 1 });
        let wanted = json!({ "a": 1, "b": { "c": 1 } });
        assert_eq!(
            three_way(&original, &current, &wanted),
            json!({ "b": { "d": null }, "all": null })
        );
        let none = json!({ "a": null });
        assert_eq!(three_way(&Value::Null, &current, &none), json!({ "a": null }));
    }
}
