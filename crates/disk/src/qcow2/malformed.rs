//! What the parsing parts say; they know no file.

use std::borrow::Cow;

use crate::{Error, ErrorKind, Operation};

/// Why bytes are no image that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    kind: ErrorKind,
    reason: Cow<'static, str>,
}

/// The result of everything that parses.
pub(crate) type Parsed<T> = Result<T, Malformed>;

impl Malformed {
    /// Returns that a rule of the format is broken.
    pub(crate) fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::Invalid, reason: reason.into() }
    }

    /// Returns that the image is well-formed as far as can be told, but cannot be used here.
    pub(crate) fn unsupported(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::Unsupported, reason: reason.into() }
    }

    /// Returns the error about the file that people know as `label`.
    pub(crate) fn of(self, label: &str) -> Error {
        Error::new(self.kind, Operation::Interpret, label).because(self.reason)
    }

    /// Returns the text alone.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

/// Reads a big-endian number; missing bytes are an error.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Parsed<u32> {
    array(bytes, offset).map(u32::from_be_bytes)
}

/// Reads a big-endian number; missing bytes are an error.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Parsed<u64> {
    array(bytes, offset).map(u64::from_be_bytes)
}

/// Reads a big-endian number; missing bytes are an error.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Parsed<u16> {
    array(bytes, offset).map(u16::from_be_bytes)
}

/// Returns `length` bytes from `offset` on; missing bytes are an error.
pub(crate) fn slice(bytes: &[u8], offset: usize, length: usize) -> Parsed<&[u8]> {
    offset
        .checked_add(length)
        .and_then(|end| bytes.get(offset..end))
        .ok_or_else(|| Malformed::invalid("the metadata ends too early"))
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Parsed<[u8; N]> {
    let found = slice(bytes, offset, N)?;
    Ok(found.try_into().expect("the slice has N bytes"))
}
