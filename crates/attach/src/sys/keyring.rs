//! Keyrings of the kernel: keys that it holds and programs name.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;

/// The number of a key or of a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId(i32);

impl KeyId {
    /// The keyring of the thread that asks; it goes when the thread ends.
    pub(crate) const OF_THREAD: Self = Self(-1);
    /// The keyring of the user that asks.
    pub(crate) const OF_USER: Self = Self(-4);
}

/// Puts a key into `keyring`, in the place of one of the same kind and description.
///
/// # Errors
///
/// When the kernel has no keyrings, does not let us, or the user's quota is used up.
pub(crate) fn add(
    kind: &CStr,
    description: &CStr,
    payload: &[u8],
    keyring: KeyId,
) -> io::Result<KeyId> {
    let bytes = if payload.is_empty() { std::ptr::null() } else { payload.as_ptr() };
    // JUSTIFICATION: neither the standard library nor rustix has this call.
    // SAFETY: both texts end with a zero byte and the kernel only reads them; it reads `payload.len()`
    // bytes of the payload, which all outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            description.as_ptr(),
            bytes,
            payload.len(),
            keyring.0,
        )
    };
    id_or_error(result)
}

/// Returns the key of this kind and description below `keyring`, and puts it into the keyring `into` as
/// well when there is one. `None` when there is no such key.
///
/// # Errors
///
/// When the kernel has no keyrings or does not let us.
pub(crate) fn search(
    keyring: KeyId,
    kind: &CStr,
    description: &CStr,
    into: Option<KeyId>,
) -> io::Result<Option<KeyId>> {
    // JUSTIFICATION: neither the standard library nor rustix has this call.
    // SAFETY: both texts end with a zero byte and the kernel only reads them while the call lasts.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_SEARCH,
            keyring.0,
            kind.as_ptr(),
            description.as_ptr(),
            into.map_or(0, |keyring| keyring.0),
        )
    };
    match id_or_error(result) {
        Ok(key) => Ok(Some(key)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a key into a keyring.
///
/// # Errors
///
/// When the kernel does not let us.
pub(crate) fn link(key: KeyId, keyring: KeyId) -> io::Result<()> {
    two_keys(libc::KEYCTL_LINK, key, keyring)
}

/// Takes a key out of a keyring. The kernel wipes a key that is in none.
///
/// # Errors
///
/// When it is not in there, or the kernel does not let us.
pub(crate) fn unlink(key: KeyId, keyring: KeyId) -> io::Result<()> {
    two_keys(libc::KEYCTL_UNLINK, key, keyring)
}

fn two_keys(operation: u32, key: KeyId, keyring: KeyId) -> io::Result<()> {
    // JUSTIFICATION: neither the standard library nor rustix has this call.
    // SAFETY: these operations take two numbers and touch no memory of the program.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, operation, key.0, keyring.0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn id_or_error(result: libc::c_long) -> io::Result<KeyId> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map(KeyId).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether an error says that there is no such key, or none that is still good.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOKEY | libc::EKEYREVOKED | libc::EKEYEXPIRED | libc::EKEYREJECTED)
    )
}
