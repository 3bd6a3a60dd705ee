//! The plaintext of an opened volume as a disk, for servers in user space.

use strongroom_disk::{Access, Discards, Disk, Encrypted, Raw};

use crate::{Error, ErrorKind, OpenedVolume, Result};

/// The bytes of a volume as its user sees them. It grows with its backing.
#[derive(Debug)]
pub(crate) enum Plaintext {
    /// Of a volume that is not encrypted.
    Plain(Raw),
    /// Of one that is.
    Encrypted {
        /// The view through its cipher.
        disk: Box<Encrypted<Raw>>,
        /// Where on the backing it begins, in bytes.
        start: u64,
        /// Whether it goes on to the end of the backing, and grows with that.
        end: End,
    },
}

/// Where the data of a volume ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its backing.
    WithBacking,
    /// Where the header says.
    Fixed,
}

impl Plaintext {
    /// Opens the backing of a volume, past the page cache where that is possible. The key is wiped
    /// when this returns; what is left of it are the schedules inside of the cipher.
    pub(crate) fn open(volume: OpenedVolume, access: Access) -> Result<Self> {
        let mut raw = Raw::open(&volume.backing, access)?;
        match raw.bypass_cache() {
            Err(error) if error.kind() != strongroom_disk::ErrorKind::Unsupported => {
                return Err(error.into());
            }
            _ => {}
        }
        let Some(encrypted) = volume.encrypted else { return Ok(Self::Plain(raw)) };
        let payload = encrypted.payload;
        let cipher = payload.cipher(&encrypted.key).map_err(|source| {
            let problem = format!("the key of volume {} does not fit its cipher", volume.name);
            Error::new(ErrorKind::Request, problem).with_source(source)
        })?;
        let sector = payload.sector_size.bytes() as u64;
        let whole = raw.len().saturating_sub(payload.offset) / sector * sector;
        let end = if payload.length < whole { End::Fixed } else { End::WithBacking };
        let range = payload.offset..payload.offset + payload.length.min(whole);
        let disk = Box::new(Encrypted::new(raw, range, cipher, payload.iv_tweak)?);
        Ok(Self::Encrypted { disk, start: payload.offset, end })
    }

    /// Chooses what becomes of discards of what is encrypted; what is not passes them on.
    pub(crate) fn with_discards(self, discards: Discards) -> Self {
        match self {
            Self::Plain(raw) => Self::Plain(raw),
            Self::Encrypted { disk, start, end } => {
                Self::Encrypted { disk: Box::new(disk.with_discards(discards)), start, end }
            }
        }
    }

    /// Returns the disk, which then no longer grows.
    pub(crate) fn into_disk(self) -> Box<dyn Disk> {
        match self {
            Self::Plain(raw) => Box::new(raw),
            Self::Encrypted { disk, .. } => disk,
        }
    }

    /// Returns the disk.
    pub(crate) fn disk(&self) -> &dyn Disk {
        match self {
            Self::Plain(raw) => raw,
            Self::Encrypted { disk, .. } => disk,
        }
    }

    /// Looks how long the backing is by now, and returns the length of the disk in bytes.
    pub(crate) fn follow_backing(&self) -> Result<u64> {
        match self {
            Self::Plain(raw) => Ok(raw.look_for_growth()?),
            Self::Encrypted { end: End::Fixed, disk, .. } => Ok(disk.len()),
            Self::Encrypted { disk, start, end: End::WithBacking } => {
                let len = disk.inner().look_for_growth()?;
                disk.extend(len.saturating_sub(*start))?;
                Ok(disk.len())
            }
        }
    }
}
