//! Volumes that are attached, and detached at the end.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use strongroom_attach::loop_device::{self, Access};
use strongroom_attach::{EncryptedContents, Launcher, OpenedVolume, fuse};
use strongroom_crypto::{CipherSpec, SectorSize, VolumeKey};
use strongroom_luks::{Payload, Version};

use crate::aes::system_rng;
use crate::error::Error;
use crate::scratch::Scratch;

/// A volume on a loop device.
#[derive(Debug)]
pub(crate) struct Attached {
    /// What the loop device shows.
    file: PathBuf,
    /// The device.
    pub(crate) device: PathBuf,
}

impl Attached {
    /// Makes a plain file of so many bytes, and attaches that.
    pub(crate) fn plain(scratch: &Scratch, name: &str, len: u64) -> Result<Self, Error> {
        let file = empty(scratch, name, len)?;
        let device = loop_device::attach(&file, SectorSize::B512, Access::ReadWrite)?;
        Ok(Self { file, device })
    }

    /// Attaches a volume by a server of `strongroom`.
    pub(crate) fn by_fuse(strongroom: &Path, volume: &OpenedVolume) -> Result<Self, Error> {
        let file = volume.backing.with_extension("plaintext");
        fuse::start(&launcher(strongroom), volume, &file, Access::ReadWrite)?;
        let size = volume.encrypted.as_ref().map(|contents| contents.payload.sector_size);
        let size = size.unwrap_or(SectorSize::B512);
        // Who attaches it detaches it, also when only the second step fails.
        let mut attached = Self { file, device: PathBuf::new() };
        attached.device = loop_device::attach(&attached.file, size, Access::ReadWrite)?;
        Ok(attached)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // What cannot be detached is in use by somebody else, who has to see to it.
        let _ = loop_device::detach(&self.file);
        let _ = fuse::stop(&self.file);
    }
}

/// Makes a volume of so many bytes, encrypted with AES-256-XTS, but for a header, which nobody reads.
pub(crate) fn volume(
    scratch: &Scratch,
    name: &str,
    len: u64,
    sector_size: SectorSize,
) -> Result<OpenedVolume, Error> {
    let backing = empty(scratch, name, HEADER + len)?;
    let payload = Payload {
        offset: HEADER,
        length: len,
        encryption: CipherSpec::AES_XTS_PLAIN64.with_largest_key(),
        sector_size,
        iv_tweak: 0,
    };
    let key = VolumeKey::random(64, &mut system_rng());
    let (version, uuid) = (Version::Luks2, name.to_owned());
    let encrypted = Some(EncryptedContents { version, uuid, payload, key });
    Ok(OpenedVolume { name: name.to_owned(), backing, encrypted })
}

/// Returns how `strongroom` is started as a service.
pub(crate) fn launcher(strongroom: &Path) -> Launcher {
    Launcher {
        program: strongroom.to_owned(),
        arguments: vec![OsString::from("attachment-service")],
    }
}

fn empty(scratch: &Scratch, name: &str, len: u64) -> Result<PathBuf, Error> {
    let path = scratch.path(name);
    File::create(&path)
        .and_then(|file| file.set_len(len))
        .map_err(Error::system(&path.display()))?;
    Ok(path)
}

/// The bytes before the data.
const HEADER: u64 = 16 << 20;
