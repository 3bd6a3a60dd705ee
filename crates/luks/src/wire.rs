//! Fixed fields of the binary headers: big-endian integers and NUL-terminated strings.

use crate::{Error, Version};

/// Returns `N` bytes at `offset`.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Error> {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or_else(|| truncated(bytes, offset + N))
}

/// Returns the 16-bit integer at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, Error> {
    Ok(u16::from_be_bytes(array(bytes, offset)?))
}

/// Returns the 32-bit integer at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Error> {
    Ok(u32::from_be_bytes(array(bytes, offset)?))
}

/// Returns the 64-bit integer at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, Error> {
    Ok(u64::from_be_bytes(array(bytes, offset)?))
}

/// Returns the string in the field of `len` bytes at `offset`, which must end with a NUL.
pub(crate) fn string_at(
    bytes: &[u8],
    offset: usize,
    len: usize,
    field: &'static str,
    version: Version,
) -> Result<String, Error> {
    let field_bytes =
        bytes.get(offset..offset + len).ok_or_else(|| truncated(bytes, offset + len))?;
    let end = field_bytes
        .iter()
        .position(|&byte| byte == 0)
        .ok_or_else(|| Error::invalid(version, field, "does not end with a NUL"))?;
    let text = field_bytes.split_at(end).0;
    match std::str::from_utf8(text) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err(Error::invalid(version, field, "is not printable text")),
    }
}

/// Writes `bytes` at `offset` of a header that is being built.
pub(crate) fn put(header: &mut [u8], offset: usize, bytes: &[u8]) {
    header
        .get_mut(offset..offset + bytes.len())
        .expect("fields lie inside the header by their constants")
        .copy_from_slice(bytes);
}

fn truncated(bytes: &[u8], needed: usize) -> Error {
    Error::Truncated { what: "the header", needed: needed as u64, available: bytes.len() as u64 }
}
