//! Which key opens what.

use std::sync::Arc;

use super::{Known, SecretValues, encryption_settings};
use crate::Error;
use crate::dialect::kubernetes::{Claim, SecretReference, StorageClass};
use crate::dialect::longhorn::EncryptionSecret;
use crate::dialect::object::Object;
use crate::dialect::osc::Encryption;
use crate::dialect::resource::Resource;

/// How the volume of a claim is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// It is not.
    Plain,
    /// By the passphrase in this Secret.
    Passphrase(SecretReference),
    /// By a key of its own that a KMS wraps, whose credentials are in this Secret; a local one has none.
    Kms(Option<SecretReference>),
    /// That cannot be told: the class is not there, or does not say it properly.
    Unknown,
}

/// Returns how the volume of a claim is or would be protected, by its class.
pub fn claim_protection(claim: &Claim, known: &dyn Known) -> Protection {
    let class = claim.storage_class.as_deref().filter(|name| !name.is_empty());
    let class = class.and_then(|name| known.object(Resource::StorageClass, None, name));
    match class.map(|class| StorageClass::try_from(&*class)) {
        Some(Ok(class)) => class_protection(&class, claim),
        _ => Protection::Unknown,
    }
}

/// Returns how the volume of a claim with this class is or would be protected.
pub(super) fn class_protection(class: &StorageClass, claim: &Claim) -> Protection {
    let secret = || class.volume_secret(&claim.template_values(&claim.provisioned_name()));
    match class.volume_parameters().map(|parameters| parameters.encryption) {
        Ok(Encryption::None) => Protection::Plain,
        Ok(Encryption::Kms(_)) => secret().map_or(Protection::Unknown, Protection::Kms),
        Ok(Encryption::Passphrase) => match secret() {
            Ok(Some(secret)) => Protection::Passphrase(secret),
            _ => Protection::Unknown,
        },
        Err(_) => Protection::Unknown,
    }
}

/// Returns the image that somebody names without its namespace: the one in Longhorn's own, or else the one in the
/// namespace of whoever names it.
pub fn backing_image_named(
    name: &str,
    namespace: Option<&str>,
    known: &dyn Known,
) -> Option<Arc<Object>> {
    let own = known.object(Resource::BackingImage, Some(LONGHORN), name);
    own.or_else(|| known.object(Resource::BackingImage, Some(namespace?), name))
}

/// What the author of a document is told of two Secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// They have the same passphrase.
    Same,
    /// They have not.
    Other,
    /// One of them is not there.
    Missing,
    /// Nothing: one of them is in another namespace than the document. Whoever could compare their own Secret
    /// with it could guess its passphrase.
    Untold,
}

/// Compares the passphrases of two Secrets for the author of a document in a namespace.
pub(super) fn likeness(
    one: &SecretReference,
    other: &SecretReference,
    namespace: Option<&str>,
    known: &dyn Known,
) -> Likeness {
    if one == other {
        return Likeness::Same;
    }
    if [one, other].iter().any(|secret| Some(&*secret.namespace) != namespace) {
        return Likeness::Untold;
    }
    let value =
        |secret: &SecretReference| known.secret(&secret.namespace, &secret.name)?.remove(VALUE);
    match (value(one), value(other)) {
        (Some(one), Some(other)) if one == other => Likeness::Same,
        (Some(_), Some(_)) => Likeness::Other,
        _ => Likeness::Missing,
    }
}

/// Why a Secret cannot be used to encrypt or decrypt.
pub(super) enum Unusable {
    Missing,
    Invalid(String),
}

/// Refuses a Secret that is not there, or with which nothing can be encrypted.
pub(super) fn check_secret(secret: &SecretReference, known: &dyn Known) -> Result<(), Unusable> {
    let values = known.secret(&secret.namespace, &secret.name).ok_or(Unusable::Missing)?;
    let problems = problems(&secret.to_string(), &values);
    match problems.into_iter().next() {
        None => Ok(()),
        Some((key, problem)) => {
            let key = key.map(|key| format!(" field {key}:")).unwrap_or_default();
            let problem =
                format!("secret {secret} is not a valid encryption secret:{key} {problem}");
            Err(Unusable::Invalid(problem))
        }
    }
}

/// Returns what is wrong with the values of an encryption Secret, each with the key that says so.
pub(super) fn problems(name: &str, values: &SecretValues) -> Vec<(Option<String>, String)> {
    let pairs = values.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
    match EncryptionSecret::from_values(name, pairs) {
        Ok(secret) => encryption_settings::check(secret.settings())
            .into_iter()
            .map(|problem| (Some(problem.key.to_owned()), problem.message))
            .collect(),
        Err(error) => {
            let key = match &error {
                Error::NoPassphrase { .. } => Some(VALUE.to_owned()),
                Error::InvalidValue { key, .. } | Error::TrailingNewline { key } => {
                    Some((*key).to_owned())
                }
                Error::UnknownKey { key } => Some(key.clone()),
                _ => None,
            };
            vec![(key, error.to_string())]
        }
    }
}

/// The key of a Secret that has its passphrase.
pub(super) const VALUE: &str = "CRYPTO_KEY_VALUE";
/// The namespace in which Longhorn keeps everything.
pub(super) const LONGHORN: &str = "longhorn-system";
