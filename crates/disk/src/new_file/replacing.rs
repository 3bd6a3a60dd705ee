//! The name that a whole file has for the moment in which it replaces another one.
//!
//! It is always the same for a file, so that what a killed process has left is found without
//! looking through the directory; and whoever has it holds the file's lock, so that what belongs to
//! a process that lives is left alone.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use strongroom_crypto::Hash;

use super::place::{find, identity};
use super::{LONGEST_NAME, under_partial_name};
use crate::lock::{LockGuard, LockMode, Wait};

/// Gives a file without a name the one by which it replaces `name`. Returns it with the lock that
/// tells others that somebody is still about to use it.
pub(super) fn link(
    file: &File,
    directory: &File,
    name: &OsStr,
) -> rustix::io::Result<(OsString, Option<LockGuard>)> {
    // Whoever cannot have it has it already, or is on a file system on which nobody is kept out, and
    // where nothing is taken away therefore.
    let lock = LockGuard::on_file(file, LockMode::Exclusive, Wait::Never).ok();
    let usual = usual_name(name);
    clear(directory, &usual);
    match super::link(file, directory, &usual) {
        Ok(()) => Ok((usual, lock)),
        Err(Errno::EXIST) => {
            let link = |partial: &OsStr| super::link(file, directory, partial);
            under_partial_name(name, link).map(|(partial, ())| (partial, lock))
        }
        Err(errno) => Err(errno),
    }
}

/// Removes what a killed process has left under `partial`, if that is what stands there.
fn clear(directory: &File, partial: &OsStr) {
    let Ok(Some(found)) = find(directory, partial) else { return };
    let is_ours = found.st_uid == rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || !is_ours {
        return;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(directory, partial, flags, Mode::empty()) else { return };
    let file = File::from(file);
    let Ok(_lock) = LockGuard::on_file(&file, LockMode::Exclusive, Wait::Never) else { return };
    // It may have got its final name before it was locked, and another one this name.
    let opened = rustix::fs::fstat(&file).ok().map(|opened| identity(&opened));
    let named = find(directory, partial).ok().flatten().map(|named| identity(&named));
    if opened.is_some() && opened == named {
        // Should it stay, another name is taken.
        let _ = rustix::fs::unlinkat(directory, partial, AtFlags::empty());
    }
}

/// Returns `.NAME.DIGEST.partial`, of a long name only as much as a file name can hold.
fn usual_name(name: &OsStr) -> OsString {
    let digest = Hash::Sha256.digest(&[b"replaces ", name.as_bytes()]);
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let ending = format!(".{digest}.partial");
    let kept = name.len().min(LONGEST_NAME - 1 - ending.len());
    OsString::from_vec([b".", &name.as_bytes()[..kept], ending.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{NewFile, Overwrite};

    #[test]
    fn what_a_killed_process_has_left_is_gone_with_the_next_replacement() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("env.json");
        fs::write(&target, "old").unwrap();
        let left = directory.path().join(usual_name("env.json".as_ref()));
        fs::write(&left, "left").unwrap();
        NewFile::create(&target, Overwrite::Replace, &[]).unwrap().0.commit().unwrap();
        assert!(!left.exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_belongs_to_somebody_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("env.json");
        let left = directory.path().join(usual_name("env.json".as_ref()));
        let replace = || {
            fs::write(&target, "old").unwrap();
            NewFile::create(&target, Overwrite::Replace, &[]).unwrap().0.commit().unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"");
        };
        fs::write(&left, "in use").unwrap();
        let file = File::open(&left).unwrap();
        let lock = LockGuard::on_file(&file, LockMode::Exclusive, Wait::Never).unwrap();
        replace();
        assert_eq!(fs::read(&left).unwrap(), b"in use");
        drop(lock);
        fs::remove_file(&left).unwrap();
        std::os::unix::fs::symlink("env.json", &left).unwrap();
        replace();
        assert!(left.is_symlink());
    }
}
