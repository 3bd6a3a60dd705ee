//! What a key in a token is called.

use std::fmt;

use cryptoki::object::{Attribute, KeyType, ObjectClass};

use super::uri::{self, Uri};
use crate::{Error, ErrorKind, Result};

/// A key by its label or its identifier. As text it is the label, or an attribute as in a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyName {
    Label(String),
    Id(Vec<u8>),
}

impl KeyName {
    /// Returns the key that a request means, `None` when it names none.
    pub(super) fn chosen(key_id: Option<&str>, uri: &Uri) -> Result<Option<Self>> {
        let named = key_id.map(Self::parse);
        // An identifier is the more exact of both.
        let in_uri = match (&uri.id, &uri.object) {
            (Some(id), _) => Some(Self::Id(id.clone())),
            (None, Some(label)) => Some(Self::Label(label.clone())),
            (None, None) => None,
        };
        match (named, in_uri) {
            (Some(named), Some(in_uri)) if named != in_uri => {
                let problem = "the pkcs11 URI names another key than was asked for";
                Err(Error::new(ErrorKind::Misconfigured, "pkcs11", problem)
                    .hinted("leave out either --kms-key-id or object and id in --kms-endpoint"))
            }
            (named, in_uri) => Ok(named.or(in_uri)),
        }
    }

    /// Reads the name in an envelope or of the command line.
    pub(super) fn parse(text: &str) -> Self {
        let label = text.strip_prefix(OBJECT).and_then(uri::decoded);
        if let Some(label) = label.and_then(|label| String::from_utf8(label).ok()) {
            return Self::Label(label);
        }
        match text.strip_prefix(ID).and_then(uri::decoded) {
            Some(id) if !id.is_empty() => Self::Id(id),
            _ => Self::Label(text.to_owned()),
        }
    }

    /// Returns what finds the key, `None` when no token has keys of such a name.
    pub(super) fn template(&self) -> Option<Vec<Attribute>> {
        let name = match self {
            Self::Label(label) => Attribute::Label(label.as_bytes().to_vec()),
            Self::Id(id) => Attribute::Id(id.clone()),
        };
        let len = match self {
            Self::Label(label) => label.len(),
            Self::Id(id) => id.len(),
        };
        let rest =
            [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES), name];
        // An empty attribute would find every key there is.
        (1..=MAX_LEN).contains(&len).then(|| rest.to_vec())
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) if label.starts_with(ID) || label.starts_with(OBJECT) => {
                write!(f, "{OBJECT}{}", uri::encoded(label.as_bytes()))
            }
            Self::Label(label) => f.write_str(label),
            Self::Id(id) => write!(f, "{ID}{}", uri::encoded(id)),
        }
    }
}

const OBJECT: &str = "object=";

const ID: &str = "id=";

/// The longest name in bytes that is looked for.
const MAX_LEN: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_as_text() {
        for name in [
            KeyName::Label("pvc-kek".to_owned()),
            KeyName::Label("id=%01".to_owned()),
            KeyName::Label("object=a".to_owned()),
            KeyName::Label("50% more".to_owned()),
            KeyName::Id(vec![0, 1, 255]),
        ] {
            assert_eq!(KeyName::parse(&name.to_string()), name);
        }
    }

    #[test]
    fn an_empty_or_endless_name_finds_nothing() {
        assert_eq!(KeyName::parse("").template().map(|template| template.len()), None);
        assert_eq!(KeyName::parse("id=").to_string(), "object=%69%64%3D");
        assert!(KeyName::Label("a".repeat(256)).template().is_none());
        assert!(KeyName::Label("a".repeat(255)).template().is_some());
    }

    #[test]
    fn two_names_of_different_keys_are_refused() {
        let uri = Uri { object: Some("a".to_owned()), ..Uri::default() };
        assert_eq!(KeyName::chosen(Some("a"), &uri).unwrap(), Some(KeyName::parse("a")));
        assert_eq!(KeyName::chosen(None, &uri).unwrap(), Some(KeyName::parse("a")));
        assert_eq!(KeyName::chosen(None, &Uri::default()).unwrap(), None);
        let kind = KeyName::chosen(Some("b"), &uri).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Misconfigured);
    }
}
