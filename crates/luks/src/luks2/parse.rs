//! From the JSON document to [`Metadata`]: types and required members.
//!
//! What a member means together with others is judged in `validate`.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::document::Document;
use super::metadata::{
    Area, AreaKind, Config, Digest, DigestKind, Kdf, Keyslot, KeyslotKind, Luks2Keyslot, Metadata,
    Priority, Segment, SegmentKind, SegmentLength, Token,
};
use crate::{Error, Version, af};

/// Returns the metadata that the document holds.
///
/// # Errors
///
/// [`Error::Invalid`] names the object and the member.
pub(super) fn metadata(document: &Document) -> Result<Metadata, Error> {
    let top = Object { name: "metadata".to_owned(), members: &document.0 };
    Ok(Metadata {
        keyslots: numbered(&top, "keyslots", "keyslot", keyslot)?,
        tokens: numbered(&top, "tokens", "token", token)?,
        segments: numbered(&top, "segments", "segment", segment)?,
        digests: numbered(&top, "digests", "digest", digest)?,
        config: config(&top.object("config")?)?,
    })
}

fn keyslot(object: &Object<'_>) -> Result<Keyslot, Error> {
    let area = object.object("area")?;
    let kind = match object.text("type")? {
        "luks2" => KeyslotKind::Luks2(luks2_keyslot(object, &area)?),
        "reencrypt" => KeyslotKind::Reencrypt {
            mode: object.one_of("mode", &["reencrypt", "encrypt", "decrypt"])?,
            direction: object.one_of("direction", &["forward", "backward"])?,
        },
        kind => KeyslotKind::Unknown { kind: kind.to_owned() },
    };
    let priority = match object.optional("priority").map(|_| object.uint32("priority")) {
        None => Priority::Normal,
        Some(Ok(0)) => Priority::Ignore,
        Some(Ok(1)) => Priority::Normal,
        Some(Ok(2)) => Priority::Prefer,
        Some(_) => return Err(object.invalid("priority is none of 0, 1, 2")),
    };
    Ok(Keyslot {
        key_size: object.uint32("key_size")?,
        area: Area {
            offset: area.uint64("offset")?,
            size: area.uint64("size")?,
            kind: match (area.text("type")?, &kind) {
                ("raw", _) => AreaKind::Raw,
                (other, KeyslotKind::Reencrypt { .. }) => AreaKind::Resilience(other.to_owned()),
                (other, _) => AreaKind::Unknown(other.to_owned()),
            },
        },
        priority,
        kind,
    })
}

fn luks2_keyslot(object: &Object<'_>, area: &Object<'_>) -> Result<Luks2Keyslot, Error> {
    let kdf = object.object("kdf")?;
    let af = object.object("af")?;
    if af.text("type")? != "luks1" {
        return Err(af.invalid("type is not luks1"));
    }
    if af.uint32("stripes")? != af::STRIPES {
        return Err(af.invalid("stripes is not 4000"));
    }
    let salt = kdf.bytes("salt")?;
    if salt.len() != SALT_LEN {
        return Err(kdf.invalid("salt is not 32 bytes long"));
    }
    Ok(Luks2Keyslot {
        kdf: key_derivation(&kdf)?,
        salt,
        af_hash: af.text("hash")?.to_owned(),
        encryption: area.text("encryption")?.to_owned(),
        area_key_size: area.uint32("key_size")?,
    })
}

fn key_derivation(kdf: &Object<'_>) -> Result<Kdf, Error> {
    let (parsed, members) = match kdf.text("type")? {
        "pbkdf2" => {
            let hash = kdf.text("hash")?.to_owned();
            (Kdf::Pbkdf2 { hash, iterations: kdf.uint32("iterations")? }, 4)
        }
        kind @ ("argon2i" | "argon2id") => {
            let parsed = Kdf::Argon2 {
                kind: kind.to_owned(),
                time: kdf.uint32("time")?,
                memory: kdf.uint32("memory")?,
                cpus: kdf.uint32("cpus")?,
            };
            (parsed, 5)
        }
        _ => return Err(kdf.invalid("type is none of pbkdf2, argon2i, argon2id")),
    };
    if kdf.members.len() == members {
        Ok(parsed)
    } else {
        Err(kdf.invalid("has members that do not belong to its type"))
    }
}

fn token(object: &Object<'_>) -> Result<Token, Error> {
    Ok(Token { kind: object.text("type")?.to_owned(), keyslots: object.numbers("keyslots")? })
}

fn segment(object: &Object<'_>) -> Result<Segment, Error> {
    let kind = match object.text("type")? {
        "crypt" => SegmentKind::Crypt {
            iv_tweak: object.uint64("iv_tweak")?,
            encryption: object.text("encryption")?.to_owned(),
            sector_size: object.uint32("sector_size")?,
            integrity: match object.optional("integrity") {
                None => None,
                Some(_) => Some(object.object("integrity")?.text("type")?.to_owned()),
            },
        },
        "linear" => SegmentKind::Linear,
        kind => SegmentKind::Unknown { kind: kind.to_owned() },
    };
    Ok(Segment {
        offset: object.uint64("offset")?,
        length: match object.text("size")? {
            "dynamic" => SegmentLength::Dynamic,
            _ => SegmentLength::Bytes(object.uint64("size")?),
        },
        flags: match object.optional("flags") {
            None => Vec::new(),
            Some(_) => object.texts("flags")?,
        },
        kind,
    })
}

fn digest(object: &Object<'_>) -> Result<Digest, Error> {
    let kind = match object.text("type")? {
        "pbkdf2" => {
            let salt = object.bytes("salt")?;
            if salt.len() != SALT_LEN {
                return Err(object.invalid("salt is not 32 bytes long"));
            }
            DigestKind::Pbkdf2 {
                hash: object.text("hash")?.to_owned(),
                iterations: object.uint32("iterations")?,
                salt,
                digest: object.bytes("digest")?,
            }
        }
        kind => DigestKind::Unknown { kind: kind.to_owned() },
    };
    Ok(Digest {
        keyslots: object.numbers("keyslots")?,
        segments: object.numbers("segments")?,
        kind,
    })
}

fn config(object: &Object<'_>) -> Result<Config, Error> {
    Ok(Config {
        json_size: object.uint64("json_size")?,
        keyslots_size: object.uint64("keyslots_size")?,
        flags: match object.optional("flags") {
            None => Vec::new(),
            Some(_) => object.texts("flags")?,
        },
        requirements: match object.optional("requirements") {
            None => Vec::new(),
            Some(_) => object.object("requirements")?.texts("mandatory")?,
        },
    })
}

/// Reads an object whose members are numbered objects.
fn numbered<T>(
    top: &Object<'_>,
    section: &str,
    singular: &str,
    read: impl Fn(&Object<'_>) -> Result<T, Error>,
) -> Result<BTreeMap<u32, T>, Error> {
    let section = top.object(section)?;
    let mut objects = BTreeMap::new();
    for (name, value) in section.members {
        let number =
            decimal(name).and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
                section.invalid(&format!("member {name:?} is not a plain decimal number"))
            })?;
        let name = format!("{singular} {number}");
        let members = value
            .as_object()
            .ok_or_else(|| Error::invalid(Version::Luks2, name.as_str(), "is not an object"))?;
        objects.insert(number, read(&Object { name, members })?);
    }
    Ok(objects)
}

/// A JSON object with the name that errors give it.
struct Object<'a> {
    name: String,
    members: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn invalid(&self, problem: &str) -> Error {
        Error::invalid(Version::Luks2, self.name.as_str(), problem)
    }

    fn optional(&self, member: &str) -> Option<&'a Value> {
        self.members.get(member)
    }

    fn required(&self, member: &str) -> Result<&'a Value, Error> {
        self.optional(member).ok_or_else(|| self.invalid(&format!("{member} is missing")))
    }

    fn object(&self, member: &str) -> Result<Self, Error> {
        let members = self
            .required(member)?
            .as_object()
            .ok_or_else(|| self.invalid(&format!("{member} is not an object")))?;
        Ok(Self { name: format!("{} {member}", self.name), members })
    }

    fn text(&self, member: &str) -> Result<&'a str, Error> {
        self.required(member)?
            .as_str()
            .ok_or_else(|| self.invalid(&format!("{member} is not a string")))
    }

    fn one_of(&self, member: &str, allowed: &[&str]) -> Result<String, Error> {
        let text = self.text(member)?;
        if allowed.contains(&text) {
            Ok(text.to_owned())
        } else {
            Err(self.invalid(&format!("{member} is none of {}", allowed.join(", "))))
        }
    }

    /// 32-bit values are JSON numbers.
    fn uint32(&self, member: &str) -> Result<u32, Error> {
        self.required(member)?
            .as_u64()
            .and_then(|value| u32::try_from(value).ok())
            .filter(|&value| i32::try_from(value).is_ok())
            .ok_or_else(|| self.invalid(&format!("{member} is not a number from 0 to 2147483647")))
    }

    /// 64-bit values are decimal strings, because JSON numbers are not exact.
    fn uint64(&self, member: &str) -> Result<u64, Error> {
        decimal(self.text(member)?)
            .ok_or_else(|| self.invalid(&format!("{member} is not a 64-bit decimal string")))
    }

    fn bytes(&self, member: &str) -> Result<Vec<u8>, Error> {
        STANDARD
            .decode(self.text(member)?)
            .map_err(|_| self.invalid(&format!("{member} is not base64")))
    }

    fn array(&self, member: &str) -> Result<&'a [Value], Error> {
        self.required(member)?
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| self.invalid(&format!("{member} is not an array")))
    }

    fn texts(&self, member: &str) -> Result<Vec<String>, Error> {
        self.array(member)?
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| self.invalid(&format!("{member} holds something that is no string")))
    }

    /// An array of object numbers, each a decimal string, none twice.
    fn numbers(&self, member: &str) -> Result<Vec<u32>, Error> {
        // The array may have hundreds of thousands of members.
        let (mut numbers, mut seen) = (Vec::new(), BTreeSet::new());
        for value in self.array(member)? {
            let number = value
                .as_str()
                .and_then(decimal)
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| {
                    self.invalid(&format!("{member} holds something that is no number"))
                })?;
            if !seen.insert(number) {
                return Err(self.invalid(&format!("{member} names {number} twice")));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

/// Returns the number that `text` spells with digits only and without leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The length of every salt in bytes.
const SALT_LEN: usize = 32;
