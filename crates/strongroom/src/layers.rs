//! Images in encrypted layers: a clone that was encrypted under a key of its own, over what it was
//! cloned from.
//!
//! libvirt names a secret for each layer, that of the image itself first and that of the oldest ancestor
//! last (`<encryption>` with several `<secret>`s); so does everything here.

use std::path::Path;

use strongroom_crypto::{CostPolicy, VolumeKey};
use strongroom_disk::{
    Access, Disk, Encrypted, Layer, LayerIdentity, Mapped, Overlay, Raw, Sparse,
};
use strongroom_luks::{Header, formatted_clone_head_len};

use crate::device::{self, Device};
use crate::{Error, ErrorKind, Opener, Result};

/// One of the layers of an image, in a file of its own.
#[derive(Debug, Clone, Copy)]
pub struct LayerFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// What it holds.
    pub contents: LayerContents<'a>,
}

/// What a layer holds. Nothing in the file decides that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerContents<'a> {
    /// All there is, under a key: the oldest layer.
    Encrypted,
    /// All there is, not encrypted: the oldest layer.
    Plain,
    /// The blocks that a map in another file names, under a key. The map knows the UUID of the layer and
    /// that of its parent; a plain parent has none, and is called [`PLAIN_PARENT`].
    Mapped(&'a Path),
    /// The blocks of so many bytes that are no holes of the file, under a key. It is opened for reading
    /// only.
    Sparse {
        /// The bytes of a block: the object size of the image that this is a copy of.
        block_size: u64,
    },
}

/// What the map of a layer calls a parent that is not encrypted.
pub const PLAIN_PARENT: &str = "plain";

/// Opens an image in `layers` with a secret for each layer that is encrypted. Both begin with the image
/// itself, which is opened for `access`; its ancestors are only read.
///
/// # Assumptions
///
/// Nobody else writes any of the files.
///
/// # Errors
///
/// [`Error::Request`] for too few or too many secrets, for secrets in another order than the layers, and
/// for layers that cannot lie on each other. Otherwise what [`Device::unlock`] says, and
/// [`strongroom_luks::Error::NotLuks`] inside [`Error::Luks`] where a layer has no header of a clone, and
/// [`Error::Disk`] for the map of another layer, or of one over another parent.
pub fn open(
    layers: &[LayerFile<'_>],
    secrets: &[Opener<'_>],
    access: Access,
    policy: &CostPolicy,
) -> Result<Box<dyn Disk>> {
    check(layers, secrets.len())?;
    let mut below = None;
    // The oldest first, since each is opened over the one before.
    for (number, layer) in layers.iter().enumerate().rev() {
        let access = if number == 0 { access } else { Access::ReadOnly };
        let keys = Keys { secrets, number, policy };
        below = Some(open_layer(layer, below, &keys, access)?);
    }
    below
        .map(|below| below.disk)
        .ok_or_else(|| request("an image has one layer at least".to_owned()))
}

/// Refuses layers and numbers of secrets that do not fit, before any key is derived.
fn check(layers: &[LayerFile<'_>], secrets: usize) -> Result<()> {
    let oldest = layers.len().saturating_sub(1);
    for (number, layer) in layers.iter().enumerate() {
        let holds_all = matches!(layer.contents, LayerContents::Encrypted | LayerContents::Plain);
        if holds_all && number != oldest {
            return Err(request(format!(
                "{} holds all there is, so nothing can lie below it: leave out the layers behind it, \
                 or name the map of its blocks",
                layer.path.display()
            )));
        }
    }
    let encrypted = layers.iter().filter(|layer| layer.contents != LayerContents::Plain).count();
    if secrets == encrypted {
        return Ok(());
    }
    let few_or_many = if secrets < encrypted { "few" } else { "many" };
    Err(request(format!(
        "too {few_or_many} secrets: {secrets} for {encrypted} encrypted layers; give one for each, that \
         of the image itself first, then that of its parent"
    )))
}

/// A layer that is open, over all that lie below it.
struct Opened {
    disk: Box<dyn Disk>,
    /// What maps know it by.
    name: String,
}

fn open_layer(
    layer: &LayerFile<'_>,
    parent: Option<Opened>,
    keys: &Keys<'_>,
    access: Access,
) -> Result<Opened> {
    let (path, raw) = (layer.path, |access| Raw::open(layer.path, access));
    match layer.contents {
        LayerContents::Plain => {
            Ok(Opened { disk: Box::new(raw(access)?), name: PLAIN_PARENT.to_owned() })
        }
        LayerContents::Encrypted => {
            let device = Device::open(path, None, access)?;
            let header = device.read_header()?.header;
            let key = keys.unlock(device.header_disk(), &header)?;
            let disk = Box::new(device.into_plain(&header, &key)?);
            Ok(Opened { disk, name: header.uuid().to_owned() })
        }
        LayerContents::Mapped(map) => {
            let disk = raw(access)?;
            let header = read_clone_header(&disk)?;
            let key = keys.unlock(&disk, &header)?;
            let map = Raw::open(map, access)?;
            let below = parent.as_ref().map(|parent| parent.name.as_str());
            let identity = LayerIdentity { layer: header.uuid(), parent: below };
            let mapped = Mapped::open(disk, map, identity)?;
            overlay(mapped, &header, &key, parent)
        }
        LayerContents::Sparse { block_size } => {
            let disk = raw(Access::ReadOnly)?;
            if disk.is_block_device() {
                return Err(request(format!(
                    "{} is a block device, which has no holes: name the map of its blocks",
                    path.display()
                )));
            }
            let header = read_clone_header(&disk)?;
            let key = keys.unlock(&disk, &header)?;
            let start = device::payload(&header, &disk, None)?.offset;
            overlay(Sparse::new(disk, block_size, start)?, &header, &key, parent)
        }
    }
}

/// Puts a layer over its parent.
fn overlay<L: Layer + 'static>(
    layer: L,
    header: &Header,
    key: &VolumeKey,
    parent: Option<Opened>,
) -> Result<Opened> {
    let payload = device::payload(header, &layer, None)?;
    let cipher = payload.cipher(key).map_err(Error::luks(layer.label()))?;
    let range = payload.offset..payload.offset + payload.length;
    let child = Encrypted::new(layer, range, cipher, payload.iv_tweak)?;
    let disk = Box::new(Overlay::new(child, parent.map(|parent| parent.disk))?);
    Ok(Opened { disk, name: header.uuid().to_owned() })
}

/// Reads the header of a clone that was encrypted under a key of its own.
fn read_clone_header(disk: &Raw) -> Result<Header> {
    let mut head = device::read_first(disk, 4096)?;
    loop {
        let more = device::read_first(disk, formatted_clone_head_len(&head))?;
        if more.len() <= head.len() {
            break;
        }
        head = more;
    }
    match Header::parse_formatted_clone(&head, disk.len()) {
        Ok(found) => Ok(found.header),
        Err(strongroom_luks::Error::NotLuks) if Header::parse(&head, disk.len()).is_ok() => {
            Err(request(format!(
                "{} is an ordinary LUKS volume, which has no parent: it is the oldest layer, or was \
                 flattened",
                disk.label()
            )))
        }
        Err(source) => Err(Error::Luks { label: disk.label().to_owned(), source }),
    }
}

/// The secrets of all layers, and the layer that is to be opened.
struct Keys<'a> {
    secrets: &'a [Opener<'a>],
    number: usize,
    policy: &'a CostPolicy,
}

impl Keys<'_> {
    /// Returns the volume key of a header that lies on `disk`.
    fn unlock(&self, disk: &Raw, header: &Header) -> Result<VolumeKey> {
        let unlock = |secret| device::unlock(disk, header, secret, None, self.policy);
        // Plain layers have none, but only the last can be plain.
        let error = match unlock(self.secrets[self.number]) {
            Ok(unlocked) => return Ok(unlocked.key),
            Err(error) if error.kind() == ErrorKind::WrongPassphrase => error,
            Err(error) => return Err(error),
        };
        let mut others = (0..self.secrets.len()).filter(|&other| other != self.number);
        match others.find(|&other| unlock(self.secrets[other]).is_ok()) {
            None => Err(error),
            Some(other) => Err(request(format!(
                "the secrets are in another order than the layers: {} is layer {}, and secret {} opens \
                 it; that of the image itself comes first, then that of its parent",
                disk.label(),
                self.number + 1,
                other + 1
            ))),
        }
    }
}

fn request(problem: String) -> Error {
    Error::Request { problem }
}

#[cfg(test)]
mod tests;
