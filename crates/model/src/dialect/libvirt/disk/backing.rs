//! `<backingStore>` of a disk: what a qcow2 image is read from where it holds nothing.

use super::super::contents::Contents;
use super::super::xml::Element;
use super::super::{Encryption, VolumeFormat};
use super::DiskSource;
use crate::Error;

/// What a disk, or a layer of one, is read from where it holds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BackingChain {
    /// Nothing is said: the daemon looks into the image.
    #[default]
    Unsaid,
    /// `<backingStore/>`: nothing.
    Ends,
    /// This layer.
    Layer(Box<DiskLayer>),
}

/// A layer below a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskLayer {
    /// Where it is.
    pub source: DiskSource,
    /// Its format.
    pub format: VolumeFormat,
    /// How it is encrypted; its secret is its own.
    pub encryption: Option<Encryption>,
    /// What it is read from in its turn.
    pub backing: BackingChain,
    /// What else the element holds.
    pub unknown: Vec<Element>,
}

impl DiskLayer {
    /// Checks that a domain can start with this layer.
    ///
    /// # Errors
    ///
    /// Those of [`DomainDisk::check`](super::DomainDisk::check).
    pub fn check(&self) -> Result<(), Error> {
        super::check(&self.source, &self.format, self.encryption.as_ref())
    }
}

impl BackingChain {
    pub(super) fn read(element: Option<&Element>, notes: &mut Vec<String>) -> Result<Self, Error> {
        let Some(element) = element else { return Ok(Self::Unsaid) };
        if element.elements().next().is_none() {
            Contents::of(element).all_left_out(notes);
            return Ok(Self::Ends);
        }
        let mut contents = Contents::of(element);
        let kind = contents.attribute("type").unwrap_or_default();
        let format = VolumeFormat::read(contents.child("format"), notes);
        let format =
            format.ok_or_else(|| element.error("<backingStore> of a disk has no <format>"))?;
        let source = contents.child("source");
        let source =
            source.ok_or_else(|| element.error("<backingStore> of a disk has no <source>"))?;
        let encryption = source.child("encryption");
        let encryption =
            encryption.map(|found| Encryption::read_noting(found, notes)).transpose()?;
        let source = DiskSource::read(element, kind, source, notes)?;
        let backing = Self::read(contents.child("backingStore"), notes)?;
        let unknown = contents.elements_kept(notes);
        Ok(Self::Layer(Box::new(DiskLayer { source, format, encryption, backing, unknown })))
    }

    /// Returns it as an element, `None` where nothing is said.
    pub(super) fn write(&self) -> Option<Element> {
        let element = Element::new("backingStore");
        let layer = match self {
            Self::Unsaid => return None,
            Self::Ends => return Some(element),
            Self::Layer(layer) => layer,
        };
        let element = element
            .with("type", layer.source.kind())
            .with_child(Element::new("format").with("type", layer.format.name()))
            .with_child(layer.source.write_with(layer.encryption.as_ref()));
        let below = layer.backing.write().into_iter();
        Some(below.chain(layer.unknown.iter().cloned()).fold(element, Element::with_child))
    }
}
