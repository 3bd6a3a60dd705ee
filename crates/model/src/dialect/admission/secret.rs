//! Secrets.

use super::keys::{VALUE, problems};
use super::review::Review;
use super::users::users_of_value;
use super::{Reason, SecretValues};
use crate::dialect::kubernetes::secret_values;

/// The annotation with which somebody says that a key in use shall change all the same.
const ALLOW: &str = "strongroom.io/allow-key-change";

pub(super) fn review(review: &mut Review<'_>) {
    review.default(&["type"], "Opaque");
    review.fixed(&["type"], "the type of a Secret cannot be changed: delete it and make it anew");
    let mut values = match secret_values(&review.object) {
        Ok(values) => values,
        Err(refused) => return review.add(refused),
    };
    let name = review.object.name().to_owned();
    let namespace = review.object.namespace().unwrap_or_default().to_owned();
    let before = match review.old {
        None => SecretValues::new(),
        Some(_) => review.known.secret(&namespace, &name).unwrap_or_default(),
    };
    // Nobody can read the values, so whoever sends a key back without one means to leave it as it is.
    for (key, value) in &mut values {
        if let Some(old) = before.get(key).filter(|_| value.is_empty()) {
            value.clone_from(old);
        }
    }
    check_values(review, &values, &before);
    if before.contains_key(VALUE) && before.get(VALUE) != values.get(VALUE) {
        check_change(review);
    }
}

fn check_values(review: &mut Review<'_>, values: &SecretValues, before: &SecretValues) {
    let size: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > LARGEST {
        review.note(&["data"], Reason::Invalid, "a Secret has at most 1 MiB");
    }
    let immutable = review.old.and_then(|old| old.at(&["immutable"]));
    if immutable.is_some_and(|immutable| *immutable == true) && values != before {
        let message = "the Secret says of itself that it is immutable: delete it and make it anew";
        review.note(&["data"], Reason::Immutable, message);
    }
    if !values.keys().any(|key| key.starts_with("CRYPTO_")) {
        return;
    }
    let name = review.object.name().to_owned();
    for (key, problem) in problems(&name, values) {
        let path: Vec<&str> = ["data"].into_iter().chain(key.as_deref()).collect();
        let reason = match key.as_deref() {
            Some(VALUE) => Reason::Required,
            _ => Reason::Invalid,
        };
        review.note(&path, reason, problem);
    }
}

/// Refuses to change a passphrase with which something was encrypted.
fn check_change(review: &mut Review<'_>) {
    let users = users_of_value(&review.object, review.known);
    if users.is_empty() || review.object.annotation(ALLOW) == Some("true") {
        return;
    }
    let message = format!(
        "the passphrase opens {}, which could not be opened any more: add the new passphrase to their \
         keyslots first, and then allow the change with the annotation {ALLOW}: \"true\"",
        users.join(", ")
    );
    review.note(&["data", VALUE], Reason::InUse, message);
}

/// What Kubernetes keeps at most in a Secret, in bytes.
const LARGEST: usize = 1 << 20;
