//! `<volume>` (libvirt.org/formatstorage.html).

use super::Encryption;
use super::xml::Element;
use crate::Error;

/// A storage volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// `@type`: `file`, `block`, …; `None` where nothing is said.
    pub kind: Option<String>,
    /// Its name in its pool.
    pub name: String,
    /// Its key; output only.
    pub key: Option<String>,
    /// What a guest sees, in bytes.
    pub capacity: Option<u64>,
    /// What of it is allocated, in bytes.
    pub allocation: Option<u64>,
    /// What it takes of the medium, in bytes; output only.
    pub physical: Option<u64>,
    /// Where it is, and how.
    pub target: Target,
    /// What it is read from where it holds nothing.
    pub backing: Option<BackingStore>,
    /// What else the element holds.
    pub unknown: Vec<Element>,
}

/// `<target>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// The path. A daemon puts its pool's there.
    pub path: Option<String>,
    /// The format; raw where nothing is said.
    pub format: Option<VolumeFormat>,
    /// Who may read it.
    pub permissions: Option<Permissions>,
    /// How it is encrypted.
    pub encryption: Option<Encryption>,
    /// `<compat>`: the version of qcow2, `0.10` or `1.1`.
    pub compat: Option<String>,
    /// `<clusterSize>` in bytes.
    pub cluster_size: Option<u64>,
    /// `<features>`: `lazy_refcounts`, `extended_l2`.
    pub features: Option<Vec<String>>,
    /// `<nocow/>`.
    pub nocow: bool,
    /// What else the element holds, times among it.
    pub unknown: Vec<Element>,
}

/// `target/format/@type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeFormat {
    /// `raw`.
    Raw,
    /// `qcow2`.
    Qcow2,
    /// Any other that libvirt knows.
    Other(String),
}

/// `<permissions>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// The mode.
    pub mode: Option<u32>,
    /// The user's number; -1 leaves it.
    pub owner: Option<i64>,
    /// The group's number; -1 leaves it.
    pub group: Option<i64>,
    /// The label of SELinux or the like.
    pub label: Option<String>,
}

/// `<backingStore>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackingStore {
    /// The path.
    pub path: Option<String>,
    /// The format.
    pub format: Option<VolumeFormat>,
    /// Who may read it.
    pub permissions: Option<Permissions>,
    /// What else the element holds.
    pub unknown: Vec<Element>,
}

impl Volume {
    /// Reads a document whose root is `<volume>`.
    ///
    /// # Errors
    ///
    /// [`Error::Xml`].
    pub fn read(document: &[u8]) -> Result<Self, Error> {
        let _ = document;
        Err(super::xml::Line(0).error("this is not read yet"))
    }

    /// Returns it as a document.
    pub fn write(&self) -> String {
        String::new()
    }
}
