//! Volumes, their snapshots, and images: names, file systems, what can be tuned.

use std::fmt;
use std::str::FromStr;

use crate::Error;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// One to 128 ASCII letters, digits, `.`, `-` and `_`, and neither `.` nor `-` first: a file can
        /// bear it as a name, and no command takes it for an option.
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                if is_identifier(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Error::InvalidName { what: $what, name: shown(text) })
                }
            }
        }
    };
}

identifier!(
    /// The identifier of a volume.
    VolumeId,
    "a volume"
);

identifier!(
    /// The identifier of a snapshot.
    SnapshotId,
    "a snapshot"
);

identifier!(
    /// The identifier of an image.
    ImageId,
    "an image"
);

/// A file system that volumes are made with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

/// What can be changed about a volume while it exists. It takes effect when the volume is attached
/// the next time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(default)]
pub struct Tuning {
    /// Lets the file system give up blocks on the medium, which shows there what is free.
    pub discard: bool,
    /// Decrypts where the read ends instead of in a queue of dm-crypt.
    pub no_read_workqueue: bool,
    /// Encrypts where the write begins instead of in a queue of dm-crypt.
    pub no_write_workqueue: bool,
}

impl FileSystem {
    /// Every file system.
    pub const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    /// Returns the name that `mount` uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FileSystem {
    type Err = Error;

    /// Reads `ext4` or `xfs`.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|file_system| file_system.name() == name)
            .ok_or_else(|| Error::UnknownFileSystem { name: shown(name) })
    }
}

fn is_identifier(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-'])
}

/// Returns a text that may be anything as an error can show it.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(LONGEST).collect();
    cut.escape_debug().to_string()
}

/// The most bytes of an identifier, which is what CSI allows.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_names_that_any_file_can_bear() {
        for good in ["a", "pvc-8d1a", "A.b_c-9", &"x".repeat(128)] {
            assert_eq!(good.parse::<VolumeId>().unwrap().as_str(), good);
            assert_eq!(good.parse::<SnapshotId>().unwrap().to_string(), good);
        }
        let bad = ["", ".", "..", ".a", "-a", "a/b", "a b", "a\0", "ä", "a\n", &"x".repeat(129)];
        for bad in bad {
            assert!(bad.parse::<VolumeId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_shows_no_raw_control_characters_and_ends() {
        let name = format!("\u{1b}[2J{}", "y".repeat(5000));
        let text = name.parse::<VolumeId>().unwrap_err().to_string();
        assert!(!text.contains('\u{1b}') && text.len() < 400, "{text}");
    }

    #[test]
    fn file_systems_read_back() {
        for file_system in FileSystem::ALL {
            assert_eq!(file_system.to_string().parse::<FileSystem>(), Ok(file_system));
        }
        assert!("ntfs".parse::<FileSystem>().unwrap_err().to_string().contains("ext4"));
    }
}
