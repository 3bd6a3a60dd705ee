//! `<secret>` (libvirt.org/formatsecret.html).

use super::xml::Element;
use crate::Error;

/// A secret: what it is called and for. Its value is never in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Whether it is kept in memory alone.
    pub ephemeral: bool,
    /// Whether its value is never told to anybody who asks.
    pub private: bool,
    /// Its UUID in canonical form; `None` where one is to be made.
    pub uuid: Option<String>,
    /// What somebody wrote about it.
    pub description: Option<String>,
    /// What it is for.
    pub usage: Option<SecretUsage>,
    /// What else the element holds.
    pub unknown: Vec<Element>,
}

/// `<usage type='…'>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretUsage {
    /// A volume, by its path.
    Volume(String),
    /// Ceph, by a name.
    Ceph(String),
    /// iSCSI, by a target.
    Iscsi(String),
    /// TLS, by a name.
    Tls(String),
    /// A virtual TPM, by a name.
    Vtpm(String),
}

impl Secret {
    /// Reads a document whose root is `<secret>`.
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
