//! `<volume>` (libvirt.org/formatstorage.html).

mod creation;
mod size;

use super::Encryption;
use super::contents::Contents;
use super::xml::{self, Element, Line, quoted};
use crate::Error;

pub use creation::Creation;

/// A storage volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
    /// Attributes that it does not know.
    pub unknown_attributes: Vec<(String, String)>,
    /// The line it begins in, for errors.
    pub line: Line,
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
    /// `<compat>`: the version of qcow2, `0.10` or `1.1`. Where features are read without one, `1.1`.
    pub compat: Option<String>,
    /// `<clusterSize>` in bytes.
    pub cluster_size: Option<u64>,
    /// `<features>`: `lazy_refcounts`, `extended_l2`.
    pub features: Option<Vec<String>>,
    /// `<nocow/>`.
    pub nocow: bool,
    /// What else the element holds, times among it.
    pub unknown: Vec<Element>,
    /// Where its elements begin, for errors.
    pub lines: TargetLines,
}

/// The lines of elements of a `<target>`; 0 for those that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TargetLines {
    /// `<format>`.
    pub format: Line,
    /// `<compat>`.
    pub compat: Line,
    /// `<clusterSize>`.
    pub cluster_size: Line,
    /// `<features>`.
    pub features: Line,
}

/// `target/format/@type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeFormat {
    /// `raw`.
    Raw,
    /// `qcow2`.
    Qcow2,
    /// Any other; which there are depends on the pool.
    Other(String),
}

/// `<permissions>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// The mode, at most `0o777`.
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
    /// [`Error::Xml`], naming line, element, and what is allowed.
    pub fn read(document: &[u8]) -> Result<Self, Error> {
        Ok(Self::read_with_notes(document)?.0)
    }

    /// Reads a document whose root is `<volume>`, and returns beside it what should be told: what has no
    /// effect, and where the daemon reads it differently.
    ///
    /// # Errors
    ///
    /// As with [`Volume::read`].
    pub fn read_with_notes(document: &[u8]) -> Result<(Self, Vec<String>), Error> {
        Self::of_root(&xml::read(document)?)
    }

    /// Reads what [`write`](Self::write) has written, however long that has become.
    ///
    /// # Errors
    ///
    /// As with [`Volume::read`].
    pub fn read_kept(document: &[u8]) -> Result<Self, Error> {
        Ok(Self::of_root(&xml::read_kept(document)?)?.0)
    }

    fn of_root(root: &Element) -> Result<(Self, Vec<String>), Error> {
        root.expect_name("volume")?;
        let mut notes = Vec::new();
        let volume = Self::of(root, &mut notes)?;
        Ok((volume, notes))
    }

    fn of(root: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(root);
        let kind = contents.attribute("type").map(str::to_owned);
        if let Some(kind) = kind.as_deref().filter(|kind| !KINDS.contains(kind)) {
            let (kind, all) = (quoted(kind), KINDS.join(", "));
            return Err(root.error(format!("type {kind} of <volume> is not one of {all}")));
        }
        let name = contents
            .text("name", notes)?
            .ok_or_else(|| root.error("<volume> has no <name>, or an empty one"))?;
        let key = contents.text("key", notes)?;
        let capacity = size::read(contents.child("capacity"), notes)?;
        let allocation = size::read(contents.child("allocation"), notes)?;
        let physical = size::read(contents.child("physical"), notes)?;
        let target = contents.child("target").map(|target| Target::read(target, notes));
        let target = target.transpose()?.unwrap_or_default();
        let backing = contents.child("backingStore");
        let backing = backing.map(|backing| BackingStore::read(backing, notes)).transpose()?;
        let (unknown, unknown_attributes) = contents.all_kept(notes);
        let line = root.line;
        Ok(Self {
            kind,
            name,
            key,
            capacity,
            allocation,
            physical,
            target,
            backing,
            unknown,
            unknown_attributes,
            line,
        })
    }

    /// Returns it as a document.
    pub fn write(&self) -> String {
        let mut element = Element::new("volume");
        if let Some(kind) = &self.kind {
            element = element.with("type", kind);
        }
        element.attributes.extend(self.unknown_attributes.iter().cloned());
        element.push(Element::new("name").with_text(&self.name));
        push_text(&mut element, "key", self.key.as_deref());
        for (name, bytes) in [
            ("capacity", self.capacity),
            ("allocation", self.allocation),
            ("physical", self.physical),
        ] {
            if let Some(bytes) = bytes {
                element.push(size::write(name, bytes, "bytes"));
            }
        }
        if self.target != Target::default() {
            element.push(self.target.write());
        }
        if let Some(backing) = &self.backing {
            element.push(backing.write());
        }
        push_all(&mut element, &self.unknown);
        xml::write(&element)
    }
}

impl Target {
    fn read(element: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        let path = contents.text("path", notes)?;
        let format = VolumeFormat::read(contents.child("format"), notes);
        let permissions = contents.child("permissions");
        let permissions =
            permissions.map(|element| Permissions::read(element, notes)).transpose()?;
        let encryption = contents.child("encryption");
        let encryption =
            encryption.map(|element| Encryption::read_noting(element, notes)).transpose()?;
        let compat = contents.text("compat", notes)?;
        if let Some(compat) = compat.as_deref().filter(|compat| !is_version(compat)) {
            let at = element.child("compat").unwrap_or(element);
            let compat = quoted(compat);
            return Err(
                at.error(format!("<compat> {compat} is not a version, such as 0.10 or 1.1"))
            );
        }
        let cluster_size = size::read(contents.child("clusterSize"), notes)?;
        let features = contents.child("features");
        let features = features.map(|element| read_features(element, notes)).transpose()?;
        let compat = compat.or_else(|| features.as_ref().map(|_| "1.1".to_owned()));
        let nocow = contents.child("nocow").is_some();
        let unknown = contents.elements_kept(notes);
        let line = |name| element.child(name).map_or(element.line, |child| child.line);
        let lines = TargetLines {
            format: line("format"),
            compat: line("compat"),
            cluster_size: line("clusterSize"),
            features: line("features"),
        };
        Ok(Self {
            path,
            format,
            permissions,
            encryption,
            compat,
            cluster_size,
            features,
            nocow,
            unknown,
            lines,
        })
    }

    fn write(&self) -> Element {
        let mut element = Element::new("target");
        push_text(&mut element, "path", self.path.as_deref());
        if let Some(format) = &self.format {
            element.push(format.write());
        }
        if let Some(permissions) = &self.permissions {
            element.push(permissions.write());
        }
        if let Some(encryption) = &self.encryption {
            element.push(encryption.write());
        }
        push_text(&mut element, "compat", self.compat.as_deref());
        if let Some(bytes) = self.cluster_size {
            element.push(size::write("clusterSize", bytes, "B"));
        }
        if let Some(features) = &self.features {
            let all = features.iter().map(|feature| Element::new(feature));
            element.push(all.fold(Element::new("features"), Element::with_child));
        }
        if self.nocow {
            element.push(Element::new("nocow"));
        }
        push_all(&mut element, &self.unknown);
        element
    }
}

impl VolumeFormat {
    /// Returns the format of a name.
    pub fn new(name: &str) -> Self {
        match name {
            "raw" => Self::Raw,
            "qcow2" => Self::Qcow2,
            _ => Self::Other(name.to_owned()),
        }
    }

    /// Returns the name that documents use.
    pub fn name(&self) -> &str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Other(name) => name,
        }
    }

    /// Reads `<format type='…'/>`; one without a type says nothing.
    pub(super) fn read(element: Option<&Element>, notes: &mut Vec<String>) -> Option<Self> {
        let mut contents = Contents::of(element?);
        let name = contents.attribute("type").filter(|name| !name.is_empty());
        contents.all_left_out(notes);
        name.map(Self::new)
    }

    fn write(&self) -> Element {
        Element::new("format").with("type", self.name())
    }
}

impl Permissions {
    fn read(element: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        let at = |name| element.child(name).unwrap_or(element);
        let mode = contents.text("mode", notes)?.map(|text| {
            let digits = text.bytes().all(|digit| digit.is_ascii_digit());
            let mode = u32::from_str_radix(&text, 8).ok();
            mode.filter(|mode| digits && *mode <= 0o777).ok_or_else(|| {
                at("mode").error(format!("<mode> {} is not octal, at most 0777", quoted(&text)))
            })
        });
        let mut id = |name| {
            let number = |text: String| {
                let number = text.trim().parse::<i64>().ok();
                let number = number.filter(|number| (-1..=i64::from(u32::MAX)).contains(number));
                // The last of all numbers is -1 in 32 bits.
                number
                    .map(|number| if number == i64::from(u32::MAX) { -1 } else { number })
                    .ok_or_else(|| {
                        at(name).error(format!("<{name}> {} is not a number or -1", quoted(&text)))
                    })
            };
            contents.text(name, notes).and_then(|text| text.map(number).transpose())
        };
        let (owner, group) = (id("owner")?, id("group")?);
        let label = contents.text("label", notes)?;
        contents.all_left_out(notes);
        Ok(Self { mode: mode.transpose()?, owner, group, label })
    }

    fn write(&self) -> Element {
        let mut element = Element::new("permissions");
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        let mode = self.mode.map(|mode| format!("0{mode:o}"));
        push_text(&mut element, "mode", mode.as_deref());
        push_text(&mut element, "owner", number(self.owner).as_deref());
        push_text(&mut element, "group", number(self.group).as_deref());
        push_text(&mut element, "label", self.label.as_deref());
        element
    }
}

impl BackingStore {
    fn read(element: &Element, notes: &mut Vec<String>) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        let path = contents.text("path", notes)?;
        let format = VolumeFormat::read(contents.child("format"), notes);
        let permissions = contents.child("permissions");
        let permissions =
            permissions.map(|element| Permissions::read(element, notes)).transpose()?;
        let unknown = contents.elements_kept(notes);
        Ok(Self { path, format, permissions, unknown })
    }

    fn write(&self) -> Element {
        let mut element = Element::new("backingStore");
        push_text(&mut element, "path", self.path.as_deref());
        if let Some(format) = &self.format {
            element.push(format.write());
        }
        if let Some(permissions) = &self.permissions {
            element.push(permissions.write());
        }
        push_all(&mut element, &self.unknown);
        element
    }
}

fn read_features(element: &Element, notes: &mut Vec<String>) -> Result<Vec<String>, Error> {
    let mut features: Vec<String> = Vec::new();
    for feature in element.elements() {
        if !FEATURES.contains(&feature.name.as_str()) {
            let (name, all) = (&feature.name, FEATURES.join(", "));
            return Err(feature.error(format!("<{name}> in <features> is not one of {all}")));
        }
        Contents::of(feature).all_left_out(notes);
        if !features.contains(&feature.name) {
            features.push(feature.name.clone());
        }
    }
    Ok(features)
}

/// Whether something is a version of two numbers.
fn is_version(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| number(major) && number(minor))
}

fn push_text(element: &mut Element, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        element.push(Element::new(name).with_text(text));
    }
}

fn push_all(element: &mut Element, unknown: &[Element]) {
    unknown.iter().cloned().for_each(|unknown| element.push(unknown));
}

const KINDS: [&str; 6] = ["file", "block", "dir", "network", "netdir", "ploop"];

const FEATURES: [&str; 2] = ["lazy_refcounts", "extended_l2"];

#[cfg(test)]
mod tests;
