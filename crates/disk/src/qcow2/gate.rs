//! Files that an image names: opened only by the caller's decision.

use std::path::{Component, Path, PathBuf};
use std::{fmt, fs};

use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result};

/// Decides about the files that an image names: its backing file, and its external data file.
///
/// Whoever can write an image chooses these names. A gate that opened them as they stand would
/// read any file of the host to whoever made the image, and a backing file that leads back to the
/// image would never end. What a gate returns was opened by the gate, in a format that it has
/// chosen; a name may be a path, a URL or a JSON text.
pub trait Gate {
    /// Returns the disk for the backing file that an image names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] unless the gate is open for it.
    fn backing(&self, named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        Err(named.denied())
    }

    /// Returns the disk for the external data file that an image names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] unless the gate is open for it.
    fn data_file(&self, named: &NamedFile<'_>) -> Result<Box<dyn Resizable>> {
        Err(named.denied())
    }
}

/// The gate that opens nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Closed;

/// A file as an image names it.
#[derive(Debug, Clone, Copy)]
pub struct NamedFile<'a> {
    /// The label of the image.
    pub image: &'a str,
    /// What the file is for the image.
    pub role: Role,
    /// The name. Empty for a data file that the image does not name.
    pub name: &'a str,
    /// The format that the image claims for a backing file.
    pub format: Option<&'a str>,
}

/// What a file is for the image that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// What the image does not hold is read from it.
    Backing,
    /// It holds the guest's data.
    DataFile,
}

impl Gate for Closed {}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backing => "backing file",
            Self::DataFile => "external data file",
        })
    }
}

impl NamedFile<'_> {
    /// Returns where the name leads to that stands in the image at this path, as far as text can tell: an
    /// absolute path, of which nothing needs to be there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when the name is no path; when the directory of the image is not there.
    pub fn path_beside(&self, image: &Path) -> Result<PathBuf> {
        let path = self.as_path()?;
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let parent = match image.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Without symbolic links, so that what is above it is its parent.
        let failed = |source| {
            Error::from_io(Operation::Open, self.image, source)
                .because(format!("its {} {:?}", self.role, self.name))
        };
        let mut place = fs::canonicalize(parent).map_err(failed)?;
        let mut parts = path.components().peekable();
        while let Some(part @ (Component::CurDir | Component::ParentDir)) = parts.peek() {
            if *part == Component::ParentDir {
                place.pop();
            }
            parts.next();
        }
        place.extend(parts);
        Ok(place)
    }

    /// Returns the path that the name is.
    fn as_path(&self) -> Result<&Path> {
        let name = self.name.strip_prefix("file:").unwrap_or(self.name);
        // What comes before a colon in the first part of a name is a protocol to QEMU, even where a
        // file has such a name.
        match name.split_once(['/', ':']) {
            Some((protocol, _)) if name[protocol.len()..].starts_with(':') => Err(Error::new(
                ErrorKind::Unsupported,
                Operation::Open,
                self.image,
            )
            .because(format!(
                "it names the {} {:?} with the protocol {protocol:?}, and only files are opened",
                self.role, self.name
            ))),
            _ => Ok(Path::new(name)),
        }
    }

    /// Returns the error of a gate that does not open the file.
    pub fn denied(&self) -> Error {
        Error::new(ErrorKind::Denied, Operation::Open, self.image).because(format!(
            "it names the {} {:?}, and files that an image names are not opened unasked",
            self.role, self.name
        ))
    }
}
