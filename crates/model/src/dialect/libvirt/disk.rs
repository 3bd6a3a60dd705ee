//! The `<disk>` of a domain (libvirt.org/formatdomain.html, "Hard drives, floppy disks, CDROMs").

mod backing;

pub use backing::{BackingChain, DiskLayer};

use super::contents::Contents;
use super::xml::{self, Element, quoted};
use super::{Encryption, EncryptionFormat, Engine, VolumeFormat};
use crate::Error;

/// A disk of a domain that is a volume of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDisk {
    /// Where it is.
    pub source: DiskSource,
    /// Its format.
    pub format: VolumeFormat,
    /// How it is encrypted: format, engine and secrets, no cipher.
    pub encryption: Option<Encryption>,
    /// What the guest calls it: `vda`.
    pub target: String,
    /// How it is attached: `virtio`, `scsi`, …
    pub bus: String,
    /// What it is read from where it holds nothing.
    pub backing: BackingChain,
    /// What else the element holds.
    pub unknown: Vec<Element>,
}

/// `disk/source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// A file.
    File(String),
    /// A block device.
    Block(String),
    /// A volume of a pool.
    Volume {
        /// The pool.
        pool: String,
        /// The volume.
        volume: String,
    },
    /// An image on another machine.
    Network {
        /// How it is reached: `rbd`, …
        protocol: String,
        /// What it is called there; for `rbd` the pool and the image, with a slash between.
        name: String,
        /// Where that is, and how one logs in there.
        unknown: Vec<Element>,
    },
}

impl DomainDisk {
    /// Reads a document whose root is `<disk>`, and checks it ([`DomainDisk::check`]).
    ///
    /// # Errors
    ///
    /// [`Error::Xml`], naming line, element, and what is allowed.
    pub fn read(document: &[u8]) -> Result<Self, Error> {
        Ok(Self::read_with_notes(document)?.0)
    }

    /// Reads a document whose root is `<disk>`, checks it, and returns beside it what is kept without effect, and
    /// what is left out.
    ///
    /// # Errors
    ///
    /// As with [`DomainDisk::read`].
    pub fn read_with_notes(document: &[u8]) -> Result<(Self, Vec<String>), Error> {
        let root = xml::read(document)?;
        root.expect_name("disk")?;
        let mut notes = Vec::new();
        let notes_of = &mut notes;
        let mut contents = Contents::of(&root);
        let kind = contents.attribute("type").unwrap_or_default();
        let device = contents.attribute("device").unwrap_or("disk");
        let format = read_driver(contents.child("driver"), notes_of)?;
        let outer = contents.child("encryption");
        let source = contents.child("source");
        let source = source.ok_or_else(|| root.error("<disk> has no <source>"))?;
        let inner = source.child("encryption");
        let encryption = match (outer, inner) {
            (Some(outer), Some(inner)) => {
                return Err(inner.error(format!(
                    "<encryption> stands in <source> and, in line {}, in <disk>: one of them is enough",
                    outer.line.0
                )));
            }
            (one, other) => one.or(other),
        };
        let encryption = encryption.map(|element| Encryption::read_noting(element, notes_of));
        let encryption = encryption.transpose()?;
        if device != "disk" {
            let problem = match encryption {
                Some(_) => format!("device {} of <disk> cannot be encrypted", quoted(device)),
                None => format!("device {} of <disk> is not 'disk'", quoted(device)),
            };
            return Err(root.error(problem));
        }
        let source = DiskSource::read(&root, kind, source, notes_of)?;
        let (target, bus) = read_target(&root, contents.child("target"), notes_of)?;
        let backing = BackingChain::read(contents.child("backingStore"), notes_of)?;
        let unknown = contents.elements_kept(notes_of);
        let disk = Self { source, format, encryption, target, bus, backing, unknown };
        disk.check()?;
        Ok((disk, notes))
    }

    /// Checks that a domain with this disk can start.
    ///
    /// # Errors
    ///
    /// [`Error::Xml`] when no engine opens it: a cipher, of which the header tells; an old format; qemu with
    /// LUKS2, with several secrets or with other formats than raw and qcow2; librbd with anything but RBD.
    pub fn check(&self) -> Result<(), Error> {
        check(&self.source, &self.format, self.encryption.as_ref())
    }

    /// Returns it as an element, to be pasted into a domain.
    pub fn write(&self) -> String {
        let driver = Element::new("driver").with("name", "qemu").with("type", self.format.name());
        let target = Element::new("target").with("dev", &self.target).with("bus", &self.bus);
        let mut disk = Element::new("disk")
            .with("type", self.source.kind())
            .with("device", "disk")
            .with_child(driver)
            .with_child(self.source.write_with(self.encryption.as_ref()));
        let below = self.backing.write().into_iter().chain([target]);
        below.chain(self.unknown.iter().cloned()).for_each(|element| disk.push(element));
        xml::write(&disk)
    }
}

/// Checks that a domain can start with a disk, or a layer of one.
fn check(
    source: &DiskSource,
    format: &VolumeFormat,
    encryption: Option<&Encryption>,
) -> Result<(), Error> {
    let Some(encryption) = encryption else { return Ok(()) };
    let librbd = encryption.engine == Some(Engine::Librbd);
    let rbd = matches!(source, DiskSource::Network { protocol, .. } if protocol == "rbd");
    let kind = encryption.format;
    let problem = if encryption.cipher.is_some() {
        "<cipher> in the <encryption> of a disk is unnecessary: the header has it; leave it out"
            .to_owned()
    } else if matches!(kind, EncryptionFormat::Default | EncryptionFormat::Qcow) {
        let name = kind.name();
        format!("format '{name}' of <encryption>, the old one of qcow2, is opened by no domain")
    } else if encryption.secrets.is_empty() {
        "<encryption> of a disk has no <secret>".to_owned()
    } else if librbd && !rbd {
        "the engine librbd is for <source protocol='rbd'> alone".to_owned()
    } else if librbd {
        return Ok(());
    } else if kind != EncryptionFormat::Luks {
        let name = kind.name();
        format!("format '{name}' of <encryption> is not opened by the engine qemu: it has 'luks'")
    } else if encryption.secrets.len() > 1 {
        "the engine qemu has one <secret>: several, one for each layer, are for librbd".to_owned()
    } else if let VolumeFormat::Other(name) = format {
        let name = quoted(name);
        format!("type {name} of <driver> cannot be encrypted: the engine qemu has raw and qcow2")
    } else {
        return Ok(());
    };
    Err(encryption.line.error(problem))
}

impl DiskSource {
    /// Returns the type of a disk with this source.
    fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Block(_) => "block",
            Self::Volume { .. } => "volume",
            Self::Network { .. } => "network",
        }
    }

    fn read(
        disk: &Element,
        kind: &str,
        element: &Element,
        notes: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let mut contents = Contents::of(element);
        // It was read already.
        contents.child("encryption");
        let mut attribute = |name: &str| {
            let value = contents.attribute(name).filter(|value| !value.is_empty());
            let missing =
                || element.error(format!("<source> of a disk of the type '{kind}' has no {name}"));
            value.map(str::to_owned).ok_or_else(missing)
        };
        let source = match kind {
            "file" => Self::File(attribute("file")?),
            "block" => Self::Block(attribute("dev")?),
            "volume" => Self::Volume { pool: attribute("pool")?, volume: attribute("volume")? },
            "network" => {
                let (protocol, name) = (attribute("protocol")?, attribute("name")?);
                let unknown = contents.elements_kept(notes);
                return Ok(Self::Network { protocol, name, unknown });
            }
            _ => {
                let kind = quoted(kind);
                let problem =
                    format!("type {kind} of <disk> is not one of file, block, volume, network");
                return Err(disk.error(problem));
            }
        };
        contents.all_left_out(notes);
        Ok(source)
    }

    /// Returns it as an element, with how it is encrypted.
    fn write_with(&self, encryption: Option<&Encryption>) -> Element {
        let encryption = encryption.map(Encryption::write);
        encryption.into_iter().fold(self.write(), Element::with_child)
    }

    fn write(&self) -> Element {
        let element = Element::new("source");
        match self {
            Self::File(path) => element.with("file", path),
            Self::Block(path) => element.with("dev", path),
            Self::Volume { pool, volume } => element.with("pool", pool).with("volume", volume),
            Self::Network { protocol, name, unknown } => unknown
                .iter()
                .cloned()
                .fold(element.with("protocol", protocol).with("name", name), Element::with_child),
        }
    }
}

/// Reads `<driver>`; raw where nothing is said.
fn read_driver(element: Option<&Element>, notes: &mut Vec<String>) -> Result<VolumeFormat, Error> {
    let Some(element) = element else { return Ok(VolumeFormat::Raw) };
    let mut contents = Contents::of(element);
    let name = contents.attribute("name").unwrap_or("qemu");
    if name != "qemu" {
        return Err(element.error(format!("name {} of <driver> is not 'qemu'", quoted(name))));
    }
    let format = contents.attribute("type").filter(|name| !name.is_empty());
    contents.all_left_out(notes);
    Ok(format.map_or(VolumeFormat::Raw, VolumeFormat::new))
}

/// Reads `<target>`: what the guest calls the disk, and how it is attached.
fn read_target(
    disk: &Element,
    element: Option<&Element>,
    notes: &mut Vec<String>,
) -> Result<(String, String), Error> {
    let element = element.ok_or_else(|| disk.error("<disk> has no <target>"))?;
    let mut contents = Contents::of(element);
    let name = contents.attribute("dev").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| element.error("<target> has no dev, such as 'vda'"))?.to_owned();
    // As the daemon chooses, by what the name begins with.
    let usual = match name.get(..2) {
        Some("sd") => "scsi",
        Some("hd") => "ide",
        _ => "virtio",
    };
    let bus = contents.attribute("bus").filter(|bus| !bus.is_empty()).unwrap_or(usual);
    contents.all_left_out(notes);
    Ok((name, bus.to_owned()))
}

#[cfg(test)]
mod tests;
