//! What is mounted where, as the kernel tells it: `proc_pid_mountinfo(5)`.
//!
//! Reading it asks no file system anything, so one whose server is gone or hangs is told as well.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The device that is mounted, major and minor number.
    pub(crate) device: (u32, u32),
    /// Where.
    pub(crate) target: PathBuf,
    /// The type of the file system: `ext4`, `fuse.strongroom`.
    pub(crate) kind: String,
}

/// Returns the table, in the order of mounting.
pub(crate) fn read() -> io::Result<Vec<Entry>> {
    let table = fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// Returns what is mounted at `target`, the uppermost one.
pub(crate) fn at(target: &Path) -> io::Result<Option<Entry>> {
    Ok(read()?.into_iter().rev().find(|entry| entry.target == target))
}

/// Returns where a block device is mounted.
pub(crate) fn of_device(major: u32, minor: u32) -> io::Result<Vec<PathBuf>> {
    let mounted = read()?.into_iter().filter(|entry| entry.device == (major, minor));
    Ok(mounted.map(|entry| entry.target).collect())
}

/// Returns a path as the kernel tells it: absolute, and without links. What it leads to need not be
/// there, or answer.
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

fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let target = unescape(fields.nth(1)?);
    // Any number of optional fields end with a dash.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Entry {
        device: (major.parse().ok()?, minor.parse().ok()?),
        target: PathBuf::from(OsString::from_vec(target)),
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Replaces `\040` and the like by the bytes that they stand for.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_a_line() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext4 /dev/root rw";
        let entry = parse(line).unwrap();
        assert_eq!(entry.device, (98, 0));
        assert_eq!(entry.target, Path::new("/mnt 2"));
        assert_eq!(entry.kind, "ext4");
        assert_eq!(parse(b"36 35 98:0 / /a rw - fuse.x none rw").unwrap().kind, "fuse.x");
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(b"a\\b\\134\\"), b"a\\b\\\\");
    }

    #[test]
    fn finds_what_is_mounted() {
        assert_eq!(at(Path::new("/proc")).unwrap().unwrap().kind, "proc");
        assert_eq!(at(Path::new("/no/such/folder")).unwrap(), None);
    }
}
