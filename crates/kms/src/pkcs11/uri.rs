//! Which module, token and key are meant: a `pkcs11:` URI (RFC 7512).

use std::path::PathBuf;

use crate::{Error, ErrorKind, Result};

/// What a URI says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Uri {
    pub(super) token: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) slot_id: Option<u64>,
    /// The label of the key.
    pub(super) object: Option<String>,
    /// The identifier of the key.
    pub(super) id: Option<Vec<u8>>,
    /// The library that speaks to the token.
    pub(super) module_path: Option<PathBuf>,
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] names the attribute, and never its value, which may be a PIN.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let attributes = text.strip_prefix("pkcs11:").ok_or_else(|| {
            wrong("the endpoint is no URI that begins with pkcs11:")
                .hinted("write --kms-endpoint 'pkcs11:token=NAME?module-path=/PATH/TO/MODULE.so'")
        })?;
        let (path, query) = attributes.split_once('?').unwrap_or((attributes, ""));
        let mut uri = Self::default();
        for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
            uri.take_path(attribute)?;
        }
        for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
            uri.take_query(attribute)?;
        }
        Ok(uri)
    }

    fn take_path(&mut self, attribute: &str) -> Result<()> {
        let (name, value) = parts(attribute)?;
        match name {
            "token" => once(&mut self.token, name, text(name, value)?),
            "manufacturer" => once(&mut self.manufacturer, name, text(name, value)?),
            "model" => once(&mut self.model, name, text(name, value)?),
            "serial" => once(&mut self.serial, name, text(name, value)?),
            "object" => once(&mut self.object, name, text(name, value)?),
            "id" => once(&mut self.id, name, bytes(name, value)?),
            "slot-id" => {
                let number = Some(value)
                    .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|value| value.parse().ok())
                    .ok_or_else(|| wrong("slot-id in the pkcs11 URI is no number"))?;
                once(&mut self.slot_id, name, number)
            }
            "type" if value == "secret-key" => Ok(()),
            "type" => Err(wrong("type in the pkcs11 URI is not secret-key, which alone wraps")),
            _ => {
                Err(unknown(name, "token, manufacturer, model, serial, slot-id, object, id, type"))
            }
        }
    }

    fn take_query(&mut self, attribute: &str) -> Result<()> {
        let (name, value) = parts(attribute)?;
        match name {
            "module-path" => {
                let path = PathBuf::from(text(name, value)?);
                if !path.is_absolute() {
                    return Err(wrong("module-path in the pkcs11 URI is not an absolute path"));
                }
                once(&mut self.module_path, name, path)
            }
            "module-name" => Err(wrong("module-name in the pkcs11 URI could mean any file")
                .hinted("name the file with module-path=/PATH/TO/MODULE.so")),
            "pin-value" | "pin-source" => {
                Err(wrong("a PIN does not belong into the pkcs11 URI, which others can see")
                    .hinted("put it into a file and name that with --kms-token-file"))
            }
            _ => Err(unknown(name, "module-path")),
        }
    }
}

/// Returns bytes as a URI spells them.
pub(super) fn encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// Returns the bytes that percent signs and letters stand for, `None` when they are none.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let number = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
            bytes.push(u8::try_from(number).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

fn parts(attribute: &str) -> Result<(&str, &str)> {
    let parts = attribute.split_once('=');
    parts.ok_or_else(|| wrong("an attribute of the pkcs11 URI has no ="))
}

fn once<T>(field: &mut Option<T>, name: &str, value: T) -> Result<()> {
    if field.is_some() {
        return Err(wrong(&format!("{name} stands twice in the pkcs11 URI")));
    }
    *field = Some(value);
    Ok(())
}

fn bytes(name: &str, value: &str) -> Result<Vec<u8>> {
    decoded(value).filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        wrong(&format!("{name} in the pkcs11 URI is empty, or has a % without two digits"))
    })
}

fn text(name: &str, value: &str) -> Result<String> {
    String::from_utf8(bytes(name, value)?)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| wrong(&format!("{name} in the pkcs11 URI is not text")))
}

fn unknown(name: &str, known: &str) -> Error {
    wrong(&format!("the pkcs11 URI has an attribute {name}, which is none of {known}"))
}

fn wrong(problem: &str) -> Error {
    Error::new(ErrorKind::Misconfigured, "pkcs11", problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(uri: &str) -> String {
        let error = Uri::parse(uri).unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        error.to_string()
    }

    #[test]
    fn reads_every_attribute() {
        let uri = "pkcs11:token=My%20token;manufacturer=Acme;model=M1;serial=00%2F1;slot-id=7;\
                   object=pvc-kek;id=%01%fe%41A;type=secret-key?module-path=/usr/lib/hsm%20x.so";
        let expected = Uri {
            token: Some("My token".to_owned()),
            manufacturer: Some("Acme".to_owned()),
            model: Some("M1".to_owned()),
            serial: Some("00/1".to_owned()),
            slot_id: Some(7),
            object: Some("pvc-kek".to_owned()),
            id: Some(vec![1, 0xfe, 0x41, 0x41]),
            module_path: Some(PathBuf::from("/usr/lib/hsm x.so")),
        };
        assert_eq!(Uri::parse(uri).unwrap(), expected);
        assert_eq!(Uri::parse("pkcs11:").unwrap(), Uri::default());
    }

    #[test]
    fn a_pin_is_refused_and_not_shown() {
        for uri in ["pkcs11:?pin-value=canary", "pkcs11:token=a?pin-source=file:canary"] {
            assert!(refusal(uri).contains("a PIN does not belong into the pkcs11 URI"));
        }
    }

    #[test]
    fn a_module_is_named_by_its_whole_path() {
        assert!(refusal("pkcs11:?module-path=softhsm.so").contains("not an absolute path"));
        assert!(refusal("pkcs11:?module-path=../softhsm.so").contains("not an absolute path"));
        assert!(refusal("pkcs11:?module-name=softhsm").contains("could mean any file"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (uri, words) in [
            ("hsm", "no URI that begins with pkcs11:"),
            ("PKCS11:token=a", "no URI that begins with pkcs11:"),
            ("pkcs11:token", "has no ="),
            ("pkcs11:token=", "token in the pkcs11 URI is empty"),
            ("pkcs11:token=%4", "a % without two digits"),
            ("pkcs11:token=%zz", "a % without two digits"),
            ("pkcs11:token=%+1", "a % without two digits"),
            ("pkcs11:token=%ff", "token in the pkcs11 URI is not text"),
            ("pkcs11:token=a%00b", "token in the pkcs11 URI is not text"),
            ("pkcs11:token=a;token=a", "token stands twice"),
            ("pkcs11:slot-id=+1", "slot-id in the pkcs11 URI is no number"),
            ("pkcs11:slot-id=-1", "slot-id in the pkcs11 URI is no number"),
            ("pkcs11:slot-id=", "slot-id in the pkcs11 URI is no number"),
            ("pkcs11:type=private", "type in the pkcs11 URI is not secret-key"),
            ("pkcs11:tokan=canary", "an attribute tokan, which is none of token,"),
            ("pkcs11:?module=canary", "an attribute module, which is none of module-path"),
        ] {
            let text = refusal(uri);
            assert!(text.contains(words), "{uri}: {text}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encoded(&every)), Some(every));
    }
}
