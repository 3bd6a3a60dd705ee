//! The formats of disk images, and what a file's name says about them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::{Error, LuksFormat};

/// The format of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// The disk's bytes, one after the other.
    Raw,
    /// QEMU's format, not encrypted.
    Qcow2,
    /// A LUKS1 volume.
    Luks1,
    /// A LUKS2 volume.
    Luks2,
    /// QEMU's format with the guest's data encrypted under a LUKS1 header inside of it.
    Qcow2Luks,
}

/// What the ending of a file's name says about its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NamedFormat {
    /// QEMU's format, encrypted or not: `disk.qcow2`.
    Qcow2,
    /// A LUKS volume of either version: `disk.luks`.
    Luks,
    /// Nothing in particular, as `disk.raw`, `disk.img` or `disk`: a raw image, or a LUKS volume
    /// where the request asks for one.
    Plain,
}

impl ImageFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Qcow2, Self::Luks1, Self::Luks2, Self::Qcow2Luks];

    /// Returns the name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Luks1 => "luks1",
            Self::Luks2 => "luks2",
            Self::Qcow2Luks => "qcow2-luks",
        }
    }

    /// Returns the version of the format's LUKS header, `None` when it is not encrypted.
    pub fn luks(self) -> Option<LuksFormat> {
        match self {
            Self::Raw | Self::Qcow2 => None,
            Self::Luks1 | Self::Qcow2Luks => Some(LuksFormat::Luks1),
            Self::Luks2 => Some(LuksFormat::Luks2),
        }
    }

    /// Returns whether it is one of QEMU's.
    pub fn is_qcow2(self) -> bool {
        matches!(self, Self::Qcow2 | Self::Qcow2Luks)
    }
}

impl NamedFormat {
    /// Returns what the ending of a file's name says, whatever the case of its letters.
    pub fn of(name: impl AsRef<Path>) -> Self {
        let ending = name.as_ref().extension().unwrap_or_default().to_string_lossy();
        match ending.to_ascii_lowercase().as_str() {
            "qcow2" => Self::Qcow2,
            "luks" | "luks1" | "luks2" => Self::Luks,
            _ => Self::Plain,
        }
    }
}

impl From<LuksFormat> for ImageFormat {
    fn from(format: LuksFormat) -> Self {
        match format {
            LuksFormat::Luks1 => Self::Luks1,
            LuksFormat::Luks2 => Self::Luks2,
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImageFormat {
    type Err = Error;

    /// Reads one of `raw`, `qcow2`, `luks1`, `luks2` and `qcow2-luks`.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::UnknownImageFormat { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for format in ImageFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("qcow3".parse::<ImageFormat>().is_err());
    }

    #[test]
    fn endings_tell_the_format() {
        assert_eq!(NamedFormat::of("a/disk.QCOW2"), NamedFormat::Qcow2);
        assert_eq!(NamedFormat::of("disk.luks"), NamedFormat::Luks);
        for name in ["disk.raw", "disk.img", "disk", "/dev/sda", "qcow2", ".qcow2"] {
            assert_eq!(NamedFormat::of(name), NamedFormat::Plain, "{name}");
        }
    }
}
