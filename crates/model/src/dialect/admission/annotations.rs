//! Our own annotations. A misspelt one would do nothing, in silence.

use super::Reason;
use super::review::Review;
use crate::ImageFormat;
use crate::dialect::fields::shown;
use crate::dialect::kubernetes::{Claim, bytes_of_quantity, is_label, is_subdomain};
use crate::dialect::longhorn::{BackingImage, LonghornVolume};

/// Warns of an annotation of ours that nobody knows, and refuses a value that it does not take. One that was there
/// before, and is as it was, is let through: nobody could take the document's finalizers away otherwise.
pub(super) fn review(review: &mut Review<'_>) {
    let annotations =
        review.object.at(&["metadata", "annotations"]).and_then(|map| map.as_object());
    let ours = annotations.into_iter().flatten().filter(|(key, _)| key.starts_with(OURS));
    let ours: Vec<_> =
        ours.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    for (key, value) in ours {
        let path = ["metadata", "annotations", &key];
        let Some((_, takes)) = KNOWN.iter().find(|(known, _)| *known == key) else {
            let known: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
            let message = format!("nothing here looks at it: known are {}", known.join(", "));
            review.warn(&path, &message);
            continue;
        };
        let is_old = review.old.is_some_and(|old| old.annotation(&key) == Some(&*value));
        match takes.check(&value) {
            Err(problem) if !is_old => review.note(&path, Reason::Invalid, problem),
            _ => {}
        }
    }
}

/// Refuses what is not a flag.
pub(super) fn check_flag(value: &str) -> Result<(), String> {
    match value {
        "true" | "false" => Ok(()),
        _ => Err(format!("{} is neither \"true\" nor \"false\"", shown(value))),
    }
}

/// What the value of an annotation is.
#[derive(Clone, Copy)]
enum Takes {
    /// `true` or `false`.
    Flag,
    /// Bytes.
    Quantity,
    /// The name of an image's format.
    Format,
    /// A Secret, whose namespace may be left out when it is that of the document.
    Secret,
    /// Anything.
    Anything,
}

impl Takes {
    fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Flag => check_flag(value),
            Self::Quantity => bytes_of_quantity(value).map(drop),
            Self::Format => {
                let parsed = value.parse::<ImageFormat>();
                parsed.map(drop).map_err(|error| error.to_string())
            }
            Self::Secret => {
                let (namespace, name) = match value.split_once('/') {
                    Some((namespace, name)) => (Some(namespace), name),
                    None => (None, value),
                };
                match namespace.is_none_or(is_label) && is_subdomain(name) {
                    true => Ok(()),
                    false => Err(format!("{} names no Secret: use NAMESPACE/NAME", shown(value))),
                }
            }
            Self::Anything => Ok(()),
        }
    }
}

/// What annotations of ours begin with.
const OURS: &str = "strongroom.io/";

/// The ones that there are.
const KNOWN: [(&str, Takes); 9] = [
    ("strongroom.io/allow-key-change", Takes::Flag),
    // Written by the server.
    ("strongroom.io/encryption", Takes::Anything),
    ("strongroom.io/force-delete", Takes::Flag),
    (BackingImage::FORMAT, Takes::Format),
    (Claim::OWN_KEYSLOT, Takes::Flag),
    ("strongroom.io/rate-limit", Takes::Quantity),
    ("strongroom.io/retry", Takes::Anything),
    (LonghornVolume::SECRET, Takes::Secret),
    (LonghornVolume::CLAIM, Takes::Anything),
];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::dialect::admission::tests::{Documents, image};
    use crate::dialect::admission::{Change, admit};

    fn reviewed(annotation: &str, value: &str) -> Result<Vec<String>, String> {
        let mut object = image("disk-image", "upload", Value::Null);
        object.set(&["metadata", "annotations", annotation], value);
        let admitted = admit(object, Change::Create, &Documents::default());
        admitted.map(|admitted| admitted.warnings).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_misspelt_annotation_is_warned_of() {
        let warnings = reviewed("strongroom.io/own-keyslots", "true").unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("own-keyslots']: nothing here looks at it"), "{warnings:?}");
        assert!(reviewed("example.org/own-keyslots", "true").unwrap().is_empty());
    }

    #[test]
    fn an_annotation_takes_what_it_means() {
        let cases = [
            ("strongroom.io/own-keyslot", "true", "yes"),
            ("strongroom.io/allow-key-change", "false", "True"),
            ("strongroom.io/force-delete", "true", ""),
            ("strongroom.io/rate-limit", "50Mi", "50 MB/s"),
            ("strongroom.io/format", "qcow2", "vmdk"),
            ("strongroom.io/secret", "keys/key", "keys/more/key"),
            ("strongroom.io/secret", "key", "/key"),
        ];
        for (key, good, bad) in cases {
            assert_eq!(reviewed(key, good), Ok(Vec::new()), "{key}");
            let told = reviewed(key, bad).unwrap_err();
            assert!(told.starts_with(&format!("metadata.annotations['{key}']: ")), "{told}");
            assert_eq!(told.matches(key).count(), 1, "{told}");
        }
    }

    #[test]
    fn what_was_taken_once_does_not_hold_a_document_back() {
        let documents = Documents::default();
        let uploaded = image("disk-image", "upload", Value::Null);
        let mut old = admit(uploaded, Change::Create, &documents).unwrap().object;
        old.set(&["metadata", "annotations", "strongroom.io/rate-limit"], "fast");
        let mut new = old.clone();
        new.set(&["metadata", "labels", "a"], "b");
        assert!(admit(new.clone(), Change::Update(&old), &documents).is_ok());
        new.set(&["metadata", "annotations", "strongroom.io/rate-limit"], "slow");
        assert!(admit(new, Change::Update(&old), &documents).is_err());
    }
}
