//! `<encryption>` (libvirt.org/formatstorageencryption.html).

use super::xml::Element;
use crate::{EncryptionRequest, Error};

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

impl Encryption {
    /// Reads an `<encryption>` element.
    ///
    /// # Errors
    ///
    /// [`Error::Xml`], naming line, element, and what is allowed.
    pub fn read(element: &Element) -> Result<Self, Error> {
        let _ = element;
        Err(super::xml::Line(0).error("this is not read yet"))
    }

    /// Returns it as an element.
    pub fn write(&self) -> Element {
        Element {
            name: "encryption".to_owned(),
            attributes: Vec::new(),
            children: Vec::new(),
            line: super::xml::Line(0),
        }
    }

    /// Returns how a volume is made that this describes, with what a daemon chooses where nothing is said
    /// (`aes-xts-plain64`, 256 bits of AES, `sha256`).
    ///
    /// # Errors
    ///
    /// When nobody can make it (`default`, `qcow`, a cipher that there is not), with what there is.
    pub fn request(&self) -> Result<EncryptionRequest, Error> {
        Err(super::xml::Line(0).error("this is not read yet"))
    }
}
