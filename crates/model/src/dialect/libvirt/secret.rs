//! `<secret>` (libvirt.org/formatsecret.html).

use super::contents::{Contents, text_of};
use super::uuid::canonical_uuid;
use super::xml::{self, Element};
use crate::Error;

/// A secret: what it is called and for. Its value is never in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
    /// Attributes that it does not know.
    pub unknown_attributes: Vec<(String, String)>,
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
    /// [`Error::Xml`], naming line, element, and what is allowed; no value of the document is in it.
    pub fn read(document: &[u8]) -> Result<Self, Error> {
        Ok(Self::read_with_notes(document)?.0)
    }

    /// Reads a document whose root is `<secret>`, and returns beside it what in it has no effect.
    ///
    /// # Errors
    ///
    /// As with [`Secret::read`].
    pub fn read_with_notes(document: &[u8]) -> Result<(Self, Vec<String>), Error> {
        Self::of_root(&xml::read(document)?)
    }

    /// Reads what [`write`](Self::write) has written, however long that has become.
    ///
    /// # Errors
    ///
    /// As with [`Secret::read`].
    pub fn read_kept(document: &[u8]) -> Result<Self, Error> {
        Ok(Self::of_root(&xml::read_kept(document)?)?.0)
    }

    fn of_root(root: &Element) -> Result<(Self, Vec<String>), Error> {
        root.expect_name("secret")?;
        let mut notes = Vec::new();
        let mut contents = Contents::of(root);
        let ephemeral = flag(root, "ephemeral", contents.attribute("ephemeral"))?;
        let private = flag(root, "private", contents.attribute("private"))?;
        let uuid = match contents.text("uuid", &mut notes)? {
            Some(text) => Some(canonical_uuid(&text).ok_or_else(|| {
                let at = root.child("uuid").unwrap_or(root);
                at.error("<uuid> is not 32 hexadecimal digits")
            })?),
            None => None,
        };
        let description = contents.text("description", &mut notes)?;
        let usage = contents.child("usage");
        let usage = usage.map(|usage| SecretUsage::read(usage, &mut notes)).transpose()?;
        let (unknown, unknown_attributes) = contents.all_kept(&mut notes);
        let usage = usage.flatten();
        let secret =
            Self { ephemeral, private, uuid, description, usage, unknown, unknown_attributes };
        Ok((secret, notes))
    }

    /// Returns it as a document.
    pub fn write(&self) -> String {
        let yes_or_no = |yes| if yes { "yes" } else { "no" };
        let mut element = Element::new("secret")
            .with("ephemeral", yes_or_no(self.ephemeral))
            .with("private", yes_or_no(self.private));
        element.attributes.extend(self.unknown_attributes.iter().cloned());
        for (name, text) in [("uuid", &self.uuid), ("description", &self.description)] {
            if let Some(text) = text {
                element.push(Element::new(name).with_text(text));
            }
        }
        if let Some(usage) = &self.usage {
            element.push(usage.write());
        }
        self.unknown.iter().cloned().for_each(|unknown| element.push(unknown));
        xml::write(&element)
    }
}

impl SecretUsage {
    /// Returns its type: `volume`, `ceph`, `iscsi`, `tls` or `vtpm`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Volume(_) => "volume",
            Self::Ceph(_) => "ceph",
            Self::Iscsi(_) => "iscsi",
            Self::Tls(_) => "tls",
            Self::Vtpm(_) => "vtpm",
        }
    }

    /// Returns what names it: a path, a name or a target.
    pub fn id(&self) -> &str {
        match self {
            Self::Volume(id)
            | Self::Ceph(id)
            | Self::Iscsi(id)
            | Self::Tls(id)
            | Self::Vtpm(id) => id,
        }
    }

    /// Reads `<usage>`; the type `none` is as no usage.
    fn read(element: &Element, notes: &mut Vec<String>) -> Result<Option<Self>, Error> {
        let mut contents = Contents::of(element);
        let (make, child): (fn(String) -> Self, &str) = match contents
            .attribute("type")
            .unwrap_or_default()
        {
            "none" => {
                contents.all_left_out(notes);
                return Ok(None);
            }
            "volume" => (Self::Volume, "volume"),
            "ceph" => (Self::Ceph, "name"),
            "iscsi" => (Self::Iscsi, "target"),
            "tls" => (Self::Tls, "name"),
            "vtpm" => (Self::Vtpm, "name"),
            "" => return Err(element.error(format!("<usage> has no type: it is one of {KINDS}"))),
            _ => return Err(element.error(format!("type of <usage> is not one of {KINDS}"))),
        };
        let id = contents.child(child).map(text_of).transpose()?.filter(|id| !id.is_empty());
        contents.all_left_out(notes);
        let missing = || {
            let kind = element.attribute("type").unwrap_or_default();
            element.error(format!("<usage type='{kind}'> has no <{child}>, or an empty one"))
        };
        id.map(make).map(Some).ok_or_else(missing)
    }

    fn write(&self) -> Element {
        let child = match self {
            Self::Volume(_) => "volume",
            Self::Iscsi(_) => "target",
            Self::Ceph(_) | Self::Tls(_) | Self::Vtpm(_) => "name",
        };
        let id = Element::new(child).with_text(self.id());
        Element::new("usage").with("type", self.kind()).with_child(id)
    }
}

/// Reads `yes` or `no`; nothing is `no`.
fn flag(element: &Element, name: &str, value: Option<&str>) -> Result<bool, Error> {
    match value {
        Some("yes") => Ok(true),
        Some("no") | None => Ok(false),
        Some(_) => Err(element.error(format!("{name} of <secret> is not one of yes, no"))),
    }
}

const KINDS: &str = "volume, ceph, iscsi, tls, vtpm";

#[cfg(test)]
mod tests;
