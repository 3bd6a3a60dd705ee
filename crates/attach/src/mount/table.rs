//! The table of mounts: `/proc/self/mountinfo` (proc(5)).
//!
//! Reading it asks no file system anything, so one whose server is gone, or hangs, is told as well.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The numbers of the device, major and minor.
    pub(crate) device: (u32, u32),
    /// What of the file system is mounted.
    pub(crate) root: OsString,
    /// Where.
    pub(crate) mount_point: OsString,
    /// The type of the file system: `ext4`, `fuse.strongroom`.
    pub(crate) kind: String,
    /// Whether the mount is read-only.
    pub(crate) is_read_only: bool,
    /// Whether its file system is, wherever it is mounted.
    pub(crate) has_read_only_file_system: bool,
    /// What the file system calls its source: a device, mostly.
    pub(crate) source: OsString,
}

impl Entry {
    fn is_of(&self, number: (u32, u32), node: &Path) -> bool {
        self.device == number || self.source == node.as_os_str()
    }
}

/// Returns what is mounted at exactly this path, which has no symbolic links in it; the topmost comes
/// last.
pub(crate) fn at(path: &Path) -> Result<Vec<Entry>> {
    let mut entries = all()?;
    entries.retain(|entry| entry.mount_point == path.as_os_str());
    Ok(entries)
}

/// Returns whether anything is mounted below `path`, and where.
pub(crate) fn below(path: &Path) -> Result<Option<OsString>> {
    let is_below = |point: &OsStr| {
        let point = Path::new(point);
        point != path && point.starts_with(path)
    };
    let found = all()?.into_iter().map(|entry| entry.mount_point).find(|point| is_below(point));
    Ok(found)
}

/// Returns where the block device with these numbers, major and minor, is mounted, if it is. Some file
/// systems have numbers of their own in the table: there the source tells them, which is `node`.
pub(crate) fn of_device(number: (u32, u32), node: &Path) -> Result<Option<PathBuf>> {
    let found = all()?.into_iter().find(|entry| entry.is_of(number, node));
    Ok(found.map(|entry| PathBuf::from(entry.mount_point)))
}

/// Returns a path as the table has it: absolute, and without symbolic links. What it leads to need not
/// be there, or answer.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    if let Ok(resolved) = fs::canonicalize(&absolute) {
        return Ok(resolved);
    }
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Ok(absolute);
    };
    Ok(fs::canonicalize(parent).map(|parent| parent.join(name)).unwrap_or(absolute))
}

fn all() -> Result<Vec<Entry>> {
    let text = fs::read(TABLE).map_err(|error| Error::from_io("cannot read the mounts", error))?;
    // What it cannot make sense of is nothing that this crate has mounted.
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// Reads `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda rw`.
fn parse(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|byte| *byte == b' ');
    let mut word = || words.next();
    let (_id, _parent) = (word()?, word()?);
    let (major, minor) = std::str::from_utf8(word()?).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let (root, mount_point, of_mount) = (word()?, word()?, word()?);
    // Fields that are there or not end with a dash.
    while word()? != b"-" {}
    let (kind, source, of_file_system) = (word()?, word()?, word().unwrap_or_default());
    Some(Entry {
        device,
        root: decode(root),
        mount_point: decode(mount_point),
        kind: String::from_utf8_lossy(kind).into_owned(),
        is_read_only: is_read_only(of_mount),
        has_read_only_file_system: is_read_only(of_file_system),
        source: decode(source),
    })
}

fn is_read_only(options: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|option| option == b"ro")
}

/// Resolves `\040` and the like.
fn decode(mut word: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(word.len());
    while let Some((&first, rest)) = word.split_first() {
        match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                word = rest;
            }
            _ => {
                bytes.push(first);
                word = rest;
            }
        }
    }
    OsString::from_vec(bytes)
}

const TABLE: &str = "/proc/self/mountinfo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line() {
        let line = br"41 29 7:3 /a\040b /mnt/x\134y\011z rw,noatime shared:9 master:2 - ext4 /dev/loop3 ro,seclabel";
        let entry = parse(line).unwrap();
        assert_eq!(entry.device, (7, 3));
        assert_eq!(entry.root, OsStr::new("/a b"));
        assert_eq!(entry.mount_point, OsStr::new("/mnt/x\\y\tz"));
        assert_eq!(entry.source, OsStr::new("/dev/loop3"));
        assert_eq!(entry.kind, "ext4");
        assert_eq!((entry.is_read_only, entry.has_read_only_file_system), (false, true));
    }

    #[test]
    fn a_device_is_known_by_its_number_or_as_the_source() {
        let node = Path::new("/dev/mapper/vol");
        let by_number = b"36 35 253:0 / /mnt rw,noatime shared:1 - ext4 /dev/dm-0 rw";
        let entry = parse(by_number).unwrap();
        assert!(entry.is_of((253, 0), node) && !entry.is_of((253, 1), node));
        let by_source = b"36 35 0:44 / /mnt rw - btrfs /dev/mapper/vol rw";
        assert!(parse(by_source).unwrap().is_of((253, 0), node));
    }

    #[test]
    fn a_line_without_optional_fields_is_read() {
        let entry = parse(b"41 29 0:3 / /proc rw - proc proc rw").unwrap();
        assert_eq!((entry.device, entry.is_read_only), ((0, 3), false));
    }

    #[test]
    fn what_is_no_line_is_none() {
        for bad in
            [&b""[..], b"a", b"1 2 3 / / rw - a b c", b"1 2 3:4 / / rw", b"1 2 x:4 / / rw - a b c"]
        {
            assert_eq!(parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(decode(br"\9\0\04\777\101"), OsStr::new(r"\9\0\04\777A"));
    }

    #[test]
    fn a_path_is_resolved_though_nothing_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        let folder = folder.path().canonicalize().unwrap();
        assert_eq!(resolve(&link.join("missing")).unwrap(), folder.join("missing"));
        assert_eq!(resolve(&link).unwrap(), folder);
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert!(!at(Path::new("/")).unwrap().is_empty());
        assert!(below(Path::new("/proc/self/nothing")).unwrap().is_none());
    }
}
