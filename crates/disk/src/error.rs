//! What can go wrong with a disk.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::{fmt, io};

/// The result of everything a disk does.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a disk: its kind, what was attempted on which file and where, and why it failed.
///
/// The text names the file, offset and length and never repeats the source.
#[derive(Debug)]
pub struct Error {
    // Boxed because results travel through every I/O call.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    operation: Operation,
    label: String,
    position: Option<Position>,
    reason: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    offset: u64,
    length: u64,
}

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file to be created is there already.
    AlreadyExists,
    /// Someone else holds a lock.
    Busy,
    /// The contents are others than they were a moment ago.
    Changed,
    /// An image names another file, and the caller's gate does not open it.
    Denied,
    /// An image breaks the rules of its format.
    Invalid,
    /// The contents are encrypted, and no key was given.
    Locked,
    /// The file is neither a plain file nor a block device.
    NotADisk,
    /// There is no such file.
    NotFound,
    /// The device, file system or quota is full.
    NoSpace,
    /// The range ends beyond the disk.
    PastEnd,
    /// The operating system denies access.
    PermissionDenied,
    /// The disk was opened for reading, or lies on a read-only file system.
    ReadOnly,
    /// The file to be written is one that is being read.
    SameFile,
    /// The file ended before the length that it had when it was opened.
    ShortRead,
    /// A length or an offset is no multiple of what it must be.
    Unaligned,
    /// This disk cannot do that safely.
    Unsupported,
    /// Anything else; the source says what.
    Other,
}

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Giving a new file its final name.
    Commit,
    /// Creating a file.
    Create,
    /// Discarding a range.
    Discard,
    /// Making data durable.
    Flush,
    /// Telling data from holes.
    FindExtent,
    /// Taking a lock.
    Lock,
    /// Opening a file, or a view of another disk.
    Open,
    /// Understanding an image's metadata.
    Interpret,
    /// Reading a range.
    Read,
    /// Changing the length.
    Resize,
    /// Writing a range.
    Write,
    /// Making a range read as zeros.
    WriteZeroes,
}

impl Error {
    /// Returns an error about the disk that people know as `label`.
    pub fn new(kind: ErrorKind, operation: Operation, label: impl Into<String>) -> Self {
        let label = label.into();
        let inner = Inner { kind, operation, label, position: None, reason: None, source: None };
        Self { inner: Box::new(inner) }
    }

    /// Returns an error with the kind that fits what the operating system said.
    pub fn from_io(operation: Operation, label: impl Into<String>, source: io::Error) -> Self {
        Self::new(kind_of(&source), operation, label).with_source(source)
    }

    /// Adds where on the disk it happened, in bytes.
    #[must_use]
    pub fn at(mut self, offset: u64, length: u64) -> Self {
        self.inner.position = Some(Position { offset, length });
        self
    }

    /// Adds a reason, for errors that have no source to tell it.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.inner.reason = Some(reason.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Returns what a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns what was attempted.
    pub fn operation(&self) -> Operation {
        self.inner.operation
    }

    /// Returns the name of the disk: a path, mostly.
    pub fn label(&self) -> &str {
        &self.inner.label
    }

    /// Returns the offset in bytes, `None` when the error is about no place in particular.
    pub fn offset(&self) -> Option<u64> {
        self.inner.position.map(|position| position.offset)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, label, position, reason, .. } = &*self.inner;
        match position {
            Some(Position { offset, length }) => {
                write!(f, "cannot {operation} {length} bytes at offset {offset} of {label}")?;
            }
            None => write!(f, "cannot {operation} {label}")?,
        }
        match reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.inner.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "complete",
            Self::Create => "create",
            Self::Discard => "discard",
            Self::Flush => "flush",
            Self::FindExtent => "map",
            Self::Lock => "lock",
            Self::Open => "open",
            Self::Interpret => "interpret",
            Self::Read => "read",
            Self::Resize => "change the length of",
            Self::Write => "write",
            Self::WriteZeroes => "zero",
        })
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => ErrorKind::Busy,
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::NoSpace
        }
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
        io::ErrorKind::UnexpectedEof => ErrorKind::ShortRead,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_file_offset_and_reason_but_not_the_source() {
        let error = Error::from_io(Operation::Read, "disk.raw", io::Error::other("lamp broken"));
        assert_eq!(error.to_string(), "cannot read disk.raw");
        assert_eq!(error.source().unwrap().to_string(), "lamp broken");

        let error = Error::new(ErrorKind::PastEnd, Operation::Write, "disk.raw")
            .at(4096, 512)
            .because("the disk ends at 4096");
        assert_eq!(
            error.to_string(),
            "cannot write 512 bytes at offset 4096 of disk.raw: the disk ends at 4096"
        );
        assert_eq!(error.offset(), Some(4096));
    }

    #[test]
    fn kinds_follow_the_operating_system() {
        for (code, kind) in [
            (rustix::io::Errno::NOSPC, ErrorKind::NoSpace),
            (rustix::io::Errno::DQUOT, ErrorKind::NoSpace),
            (rustix::io::Errno::FBIG, ErrorKind::NoSpace),
            (rustix::io::Errno::EXIST, ErrorKind::AlreadyExists),
            (rustix::io::Errno::NOENT, ErrorKind::NotFound),
            (rustix::io::Errno::ROFS, ErrorKind::ReadOnly),
            (rustix::io::Errno::ACCESS, ErrorKind::PermissionDenied),
            (rustix::io::Errno::OPNOTSUPP, ErrorKind::Unsupported),
            (rustix::io::Errno::WOULDBLOCK, ErrorKind::Busy),
            (rustix::io::Errno::IO, ErrorKind::Other),
        ] {
            assert_eq!(Error::from_io(Operation::Write, "x", code.into()).kind(), kind, "{code}");
        }
    }
}
