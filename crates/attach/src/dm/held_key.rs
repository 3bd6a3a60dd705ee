//! A volume key that the kernel holds: no program can read it back, and it never shows in a table.
//!
//! While a mapping lives, its key stays in a keyring of its own, which is kept in the keyring of the
//! user (root) under the name of the mapping: a longer table can then be loaded without asking for the
//! key again. The key itself has cryptsetup's description, since that is what stands in the table and
//! what cryptsetup compares.

use std::ffi::{CStr, CString};
use std::io;

use strongroom_crypto::VolumeKey;

use super::table::LOGON;
use crate::sys::keyring::{KeyId, add, link, search, unlink};
use crate::{Error, Result};

/// Runs `work` in a thread of its own, so that what it puts into the keyring of its thread is gone
/// afterwards, and nothing else is found there.
pub(super) fn with_own_keyring<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("dm-crypt key".to_owned());
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(|error| Error::from_io("a thread for the key cannot be started", error))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives the kernel the key of a mapping, where dm-crypt finds it from this thread, and keeps it there
/// for later in the place of one of an earlier mapping of that name.
///
/// # Errors
///
/// When the kernel has no keyrings, or none for us.
pub(super) fn hold(mapping: &str, description: &str, key: &VolumeKey) -> io::Result<()> {
    forget(mapping)?;
    let keyring = add(KEYRING, &name_of(mapping)?, &[], KeyId::OF_THREAD)?;
    add(&text(LOGON)?, &text(description)?, key.expose_bytes(), keyring)?;
    link(keyring, KeyId::OF_USER)
}

/// Makes the key of a mapping findable from this thread. Returns whether it is there.
///
/// # Errors
///
/// When the kernel does not let us.
pub(super) fn borrow(mapping: &str, description: &str) -> io::Result<bool> {
    let into = Some(KeyId::OF_THREAD);
    if search(KeyId::OF_USER, KEYRING, &name_of(mapping)?, into)?.is_none() {
        return Ok(false);
    }
    let found = search(KeyId::OF_THREAD, &text(LOGON)?, &text(description)?, None)?;
    Ok(found.is_some())
}

/// Makes the kernel forget the key of a mapping, once no mapping uses it. One that is not held succeeds.
///
/// # Errors
///
/// When the kernel does not let us.
pub(super) fn forget(mapping: &str) -> io::Result<()> {
    while let Some(keyring) = search(KeyId::OF_USER, KEYRING, &name_of(mapping)?, None)? {
        unlink(keyring, KeyId::OF_USER)?;
    }
    Ok(())
}

fn name_of(mapping: &str) -> io::Result<CString> {
    text(&format!("strongroom:{mapping}"))
}

fn text(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The kind of key that is a keyring.
const KEYRING: &CStr = c"keyring";

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this machine lets us have keyrings; containers often do not.
    fn has_keyrings(test: &str) -> bool {
        let found =
            with_own_keyring(|| Ok(search(KeyId::OF_USER, KEYRING, c"strongroom:none", None)));
        let error = found.unwrap().err();
        if let Some(error) = &error {
            strongroom_testkit::skip(test, &format!("the kernel gives us no keyring: {error}"));
        }
        error.is_none()
    }

    #[test]
    fn a_key_is_there_until_it_is_forgotten() {
        if !has_keyrings("a_key_is_there_until_it_is_forgotten") {
            return;
        }
        let mapping = format!("test-{}", std::process::id());
        let description = "cryptsetup:held-d0";
        let is_there = || with_own_keyring(|| Ok(borrow(&mapping, description).unwrap())).unwrap();
        assert!(!is_there());
        for _ in 0..2 {
            let key = VolumeKey::new(vec![7; 64]);
            let held = with_own_keyring(|| Ok(hold(&mapping, description, &key)));
            held.unwrap().unwrap();
            assert!(is_there());
        }
        let other = with_own_keyring(|| Ok(borrow(&mapping, "cryptsetup:other-d0").unwrap()));
        assert!(!other.unwrap(), "another volume's key is not taken");
        forget(&mapping).unwrap();
        assert!(!is_there());
        forget(&mapping).unwrap();
    }
}
