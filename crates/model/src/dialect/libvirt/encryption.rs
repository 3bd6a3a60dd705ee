//! `<encryption>` (libvirt.org/formatstorageencryption.html).

mod request;

use super::contents::Contents;
use super::uuid::canonical_uuid;
use super::xml::{Element, Line, quoted};
use crate::Error;

/// How a volume or a disk is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The format.
    pub format: EncryptionFormat,
    /// What encrypts; `None` where nothing is said.
    pub engine: Option<Engine>,
    /// The secrets: of the image itself first, then of each layer below it that was encrypted anew.
    pub secrets: Vec<SecretReference>,
    /// The cipher, for a volume that is to be made.
    pub cipher: Option<CipherChoice>,
    /// The IV generator; only with a cipher.
    pub ivgen: Option<IvGenerator>,
    /// What else the element holds.
    pub unknown: Vec<Element>,
    /// Attributes that it does not know.
    pub unknown_attributes: Vec<(String, String)>,
    /// The line it begins in, for errors.
    pub line: Line,
}

/// `encryption/@format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionFormat {
    /// `default`: whatever the driver would do; old documents.
    Default,
    /// `qcow`: the old encryption of qcow and qcow2.
    Qcow,
    /// `luks`: LUKS1, in a raw file or in qcow2.
    Luks,
    /// `luks2`.
    Luks2,
    /// `luks-any`: opens either.
    LuksAny,
}

/// `encryption/@engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// QEMU.
    Qemu,
    /// Ceph's librbd.
    Librbd,
}

/// `<secret type='passphrase' uuid|usage='…'/>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    /// Which secret.
    pub name: SecretName,
}

/// How a secret is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretName {
    /// By its UUID, in canonical form: small letters, with dashes.
    Uuid(String),
    /// By what it is for.
    Usage(String),
}

/// `<cipher name size mode hash/>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CipherChoice {
    /// The cipher: `aes`, `serpent`, `twofish`, `cast5`, …
    pub name: String,
    /// The size of the key of the cipher in bits; XTS has two of them.
    pub size: u32,
    /// The mode: `xts`, `cbc`, …
    pub mode: Option<String>,
    /// The hash of key derivation.
    pub hash: Option<String>,
}

/// `<ivgen name hash/>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IvGenerator {
    /// The generator: `plain`, `plain64`, `essiv`.
    pub name: String,
    /// The hash of `essiv`.
    pub hash: Option<String>,
}

/// Choices of a cipher that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// What a daemon makes where the document names no cipher: `aes-xts-plain64` with 256 bits, `sha256`.
    Daemon,
    /// What libvirt's documentation says a daemon would make: `aes-cbc-essiv:sha256` with 256 bits, `sha256`.
    Documented,
    /// What librbd opens: `aes-xts-plain64` with 256 bits, the data beginning at 4 MiB.
    Librbd,
}

impl Encryption {
    /// Returns an encryption that says its format and no more.
    pub fn new(format: EncryptionFormat) -> Self {
        Self {
            format,
            engine: None,
            secrets: Vec::new(),
            cipher: None,
            ivgen: None,
            unknown: Vec::new(),
            unknown_attributes: Vec::new(),
            line: Line::default(),
        }
    }

    /// Returns the encryption of a preset, LUKS1 without a secret yet.
    pub fn preset(preset: Preset) -> Self {
        let cipher = |mode: &str| CipherChoice {
            name: "aes".to_owned(),
            size: 256,
            mode: Some(mode.to_owned()),
            hash: Some("sha256".to_owned()),
        };
        let ivgen = |name: &str, hash: Option<&str>| IvGenerator {
            name: name.to_owned(),
            hash: hash.map(str::to_owned),
        };
        let luks = Self::new(EncryptionFormat::Luks);
        match preset {
            Preset::Daemon => luks,
            Preset::Documented => Self {
                cipher: Some(cipher("cbc")),
                ivgen: Some(ivgen("essiv", Some("sha256"))),
                ..luks
            },
            Preset::Librbd => Self {
                engine: Some(Engine::Librbd),
                cipher: Some(cipher("xts")),
                ivgen: Some(ivgen("plain64", None)),
                ..luks
            },
        }
    }

    /// Reads an `<encryption>` element.
    ///
    /// # Errors
    ///
    /// [`Error::Xml`], naming line, element, and what is allowed.
    pub fn read(element: &Element) -> Result<Self, Error> {
        Self::read_noting(element, &mut Vec::new())
    }

    /// Reads an `<encryption>` element, and returns beside it what should be told: what has no effect, and
    /// where the daemon reads it differently.
    ///
    /// # Errors
    ///
    /// As with [`Encryption::read`].
    pub fn read_with_notes(element: &Element) -> Result<(Self, Vec<String>), Error> {
        let mut notes = Vec::new();
        let encryption = Self::read_noting(element, &mut notes)?;
        Ok((encryption, notes))
    }

    pub(super) fn read_noting(element: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        let format = EncryptionFormat::read(element, contents.attribute("format"))?;
        let engine = contents.attribute("engine").map(|name| Engine::read(element, name));
        let engine = engine.transpose()?;
        let secrets = contents.children("secret").into_iter();
        let secrets = secrets
            .map(|secret| SecretReference::read(secret, notes))
            .collect::<Result<Vec<_>, _>>()?;
        let (cipher, ivgen) = match format {
            // The daemon reads them in luks alone and creates nothing else; we create luks2, too.
            EncryptionFormat::Luks | EncryptionFormat::Luks2 => {
                let cipher = contents.child("cipher");
                let cipher = cipher.map(|cipher| CipherChoice::read(cipher, notes)).transpose()?;
                let ivgen = contents.child("ivgen");
                if let (Some(ivgen), None) = (ivgen, &cipher) {
                    return Err(ivgen.error("<ivgen> needs a <cipher> beside it"));
                }
                (cipher, ivgen.map(|ivgen| IvGenerator::read(ivgen, notes)).transpose()?)
            }
            EncryptionFormat::Default | EncryptionFormat::Qcow | EncryptionFormat::LuksAny => {
                (None, None)
            }
        };
        let (unknown, unknown_attributes) = contents.all_kept(notes);
        let line = element.line;
        Ok(Self { format, engine, secrets, cipher, ivgen, unknown, unknown_attributes, line })
    }

    /// Returns it as an element.
    pub fn write(&self) -> Element {
        let mut element = Element::new("encryption").with("format", self.format.name());
        if let Some(engine) = self.engine {
            element = element.with("engine", engine.name());
        }
        element.attributes.extend(self.unknown_attributes.iter().cloned());
        for secret in &self.secrets {
            element.push(secret.write());
        }
        if let Some(cipher) = &self.cipher {
            element.push(cipher.write());
        }
        if let Some(ivgen) = &self.ivgen {
            element.push(ivgen.write());
        }
        self.unknown.iter().cloned().for_each(|unknown| element.push(unknown));
        element
    }
}

impl EncryptionFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Default, Self::Qcow, Self::Luks, Self::Luks2, Self::LuksAny];

    /// Returns the name that documents use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Qcow => "qcow",
            Self::Luks => "luks",
            Self::Luks2 => "luks2",
            Self::LuksAny => "luks-any",
        }
    }

    fn read(element: &Element, name: Option<&str>) -> Result<Self, Error> {
        let name = name.unwrap_or_default();
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            element.error(match name {
                "" => format!("<encryption> has no format: it is one of {all}"),
                _ => format!("format {} of <encryption> is not one of {all}", quoted(name)),
            })
        })
    }
}

impl Engine {
    /// Returns the name that documents use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Librbd => "librbd",
        }
    }

    fn read(element: &Element, name: &str) -> Result<Self, Error> {
        [Self::Qemu, Self::Librbd].into_iter().find(|engine| engine.name() == name).ok_or_else(
            || {
                let name = quoted(name);
                element.error(format!("engine {name} of <encryption> is not one of qemu, librbd"))
            },
        )
    }
}

impl SecretReference {
    fn read(element: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        match contents.attribute("type").unwrap_or_default() {
            "passphrase" => {}
            // What the documentation says.
            "volume" => notes.push(format!(
                "line {}: type 'volume' of <secret> is read as 'passphrase', which is the only one that \
                 a daemon takes",
                element.line.0
            )),
            "" => return Err(element.error("<secret> has no type: it is 'passphrase'")),
            other => {
                let problem = format!("type {} of <secret> is not 'passphrase'", quoted(other));
                return Err(element.error(problem));
            }
        }
        let name = match (contents.attribute("uuid"), contents.attribute("usage")) {
            (Some(uuid), None) => canonical_uuid(uuid)
                .map(SecretName::Uuid)
                .ok_or_else(|| element.error("uuid of <secret> is not 32 hexadecimal digits"))?,
            (None, Some(usage)) => SecretName::Usage(usage.to_owned()),
            (None, None) => {
                return Err(element.error("<secret> names none: it has a uuid or a usage"));
            }
            (Some(_), Some(_)) => {
                return Err(element.error("<secret> has both uuid and usage: it has one of them"));
            }
        };
        contents.all_left_out(notes);
        Ok(Self { name })
    }

    fn write(&self) -> Element {
        let element = Element::new("secret").with("type", "passphrase");
        match &self.name {
            SecretName::Uuid(uuid) => element.with("uuid", uuid),
            SecretName::Usage(usage) => element.with("usage", usage),
        }
    }
}

impl CipherChoice {
    fn read(element: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        let name = contents
            .attribute("name")
            .ok_or_else(|| element.error("<cipher> has no name, such as 'aes'"))?;
        let size = contents.attribute("size").ok_or_else(|| {
            element.error("<cipher> has no size, the bits of its key, such as 256")
        })?;
        // As C reads numbers: blanks and a plus may stand before it, nothing behind it.
        let size = size.trim_start().parse().map_err(|_| {
            let size = quoted(size);
            element.error(format!(
                "size {size} of <cipher> is not a whole number of bits, such as 256"
            ))
        })?;
        let mode = contents.attribute("mode").map(str::to_owned);
        let hash = contents.attribute("hash").map(str::to_owned);
        contents.all_left_out(notes);
        Ok(Self { name: name.to_owned(), size, mode, hash })
    }

    fn write(&self) -> Element {
        let mut element =
            Element::new("cipher").with("name", &self.name).with("size", self.size.to_string());
        for (name, value) in [("mode", &self.mode), ("hash", &self.hash)] {
            if let Some(value) = value {
                element = element.with(name, value);
            }
        }
        element
    }
}

impl IvGenerator {
    fn read(element: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        let name = contents.attribute("name").ok_or_else(|| {
            element.error("<ivgen> has no name: it is one of plain, plain64, essiv")
        })?;
        let hash = contents.attribute("hash").map(str::to_owned);
        contents.all_left_out(notes);
        Ok(Self { name: name.to_owned(), hash })
    }

    fn write(&self) -> Element {
        let element = Element::new("ivgen").with("name", &self.name);
        match &self.hash {
            Some(hash) => element.with("hash", hash),
            None => element,
        }
    }
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 3] = [Self::Daemon, Self::Documented, Self::Librbd];

    /// Returns its name: `daemon`, `documented` or `librbd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Documented => "documented",
            Self::Librbd => "librbd",
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
