//! Who may use a file that has replaced another one.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use rustix::fs::{Gid, Mode, Stat, Uid};
use rustix::io::Errno;

use super::path_of;

/// Gives a new file the permission bits, owner and group of the one that it will replace, as far
/// as this process may.
///
/// # Guarantees
///
/// Nobody but the owner of this process can use the new file who could not use the old one, be it
/// that owner or group cannot be kept. Whatever cannot be done is left undone: the file stays as it
/// was, its owner's only.
pub(super) fn keep(new: &File, directory: &File, name: &OsStr, replaced: &Stat) {
    let (owner, group) = (Uid::from_raw(replaced.st_uid), Gid::from_raw(replaced.st_gid));
    // Anyone may give a file to a group of his own, but only root to another owner.
    if rustix::fs::fchown(new, Some(owner), Some(group)).is_err() {
        let _ = rustix::fs::fchown(new, None, Some(group));
    }
    let Ok(owned) = rustix::fs::fstat(new) else { return };
    let group_kept = if owned.st_gid == replaced.st_gid { Group::Kept } else { Group::Lost };
    let lists = [list_of(Path::new(&path_of(directory)).join(name)), list_of(path_of(new))];
    let list = if lists == [List::None; 2] { List::None } else { List::Some };
    let _ = rustix::fs::fchmod(new, Mode::from_raw_mode(mode(replaced.st_mode, group_kept, list)));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Kept,
    Lost,
}

/// An access control list beyond the permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    Some,
}

fn list_of(path: impl AsRef<Path>) -> List {
    match rustix::fs::getxattr(path.as_ref(), ACCESS_LIST, &mut [0_u8; 0]) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => List::None,
        // What cannot be read may be one.
        _ => List::Some,
    }
}

/// Returns the permission bits that a file may have in place of one with `old`.
fn mode(old: u32, group: Group, list: List) -> u32 {
    let old = old & 0o777;
    match (list, group) {
        (List::None, Group::Kept) => old,
        // The members of the old group are others now, and those of the new one were.
        (List::None, Group::Lost) => old & 0o700 | old & (old >> 3) & 0o007,
        // The bits of the group bound the list, and the list may deny what the bits allow.
        (List::Some, _) => old & 0o700,
    }
}

const ACCESS_LIST: &str = "system.posix_acl_access";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_group_gets_nothing_and_others_no_more_than_the_group_had() {
        for (old, kept, lost) in [
            (0o600, 0o600, 0o600),
            (0o640, 0o640, 0o600),
            (0o664, 0o664, 0o604),
            (0o604, 0o604, 0o600),
            (0o104_644, 0o644, 0o604),
        ] {
            assert_eq!(mode(old, Group::Kept, List::None), kept, "{old:o}");
            assert_eq!(mode(old, Group::Lost, List::None), lost, "{old:o}");
            assert_eq!(mode(old, Group::Kept, List::Some), old & 0o700, "{old:o}");
        }
    }
}
