//! Block devices below mappings: what they are, and whether they are still there.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, major, minor};

use crate::loop_device::Access;
use crate::{Error, ErrorKind, Result};

/// The number by which the kernel knows a device. Prints as `7:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceNumber(u64);

/// A block device that nobody else of us works with as long as this exists.
#[derive(Debug)]
pub(super) struct LockedDevice {
    file: File,
    path: PathBuf,
    number: DeviceNumber,
}

impl DeviceNumber {
    /// Takes a number as device-mapper writes it, which is also how files tell theirs.
    pub(super) fn from_kernel(number: u64) -> Self {
        Self(number)
    }

    /// Returns its two parts.
    pub(super) fn major_and_minor(self) -> (u32, u32) {
        (major(self.0), minor(self.0))
    }

    /// Reads `7:0`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(Self(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?)))
    }

    /// Returns the number of the block device that a path leads to.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(found) if found.file_type().is_block_device() => Ok(Some(Self(found.rdev()))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the number for [`rustix::fs::mknodat`].
    pub(super) fn raw(self) -> u64 {
        self.0
    }

    /// Returns where sysfs describes the device.
    pub(super) fn described_at(self) -> PathBuf {
        Path::new("/sys/dev/block").join(self.to_string())
    }

    /// Returns the name of its node; `None` when the device is gone. So is a loop device that no file
    /// bears any more, or only one that was deleted.
    pub(super) fn node(self) -> Option<PathBuf> {
        let folder = self.described_at();
        if fs::read_to_string(folder.join("size")).ok()?.trim() == "0" {
            return None;
        }
        if major(self.0) == LOOP && self.loop_file()?.to_string_lossy().ends_with(" (deleted)") {
            return None;
        }
        let described = fs::read_to_string(folder.join("uevent")).ok()?;
        let name = described.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
        Some(Path::new("/dev").join(name))
    }

    /// Returns whether the device may be written to.
    pub(super) fn access(self) -> Access {
        match fs::read_to_string(self.described_at().join("ro")) {
            Ok(read_only) if read_only.trim() == "1" => Access::ReadOnly,
            _ => Access::ReadWrite,
        }
    }

    /// Returns the file that bears a loop device; `None` for every other device.
    pub(super) fn loop_file(self) -> Option<PathBuf> {
        let name = fs::read_to_string(self.described_at().join("loop/backing_file")).ok()?;
        Some(PathBuf::from(name.trim_end_matches('\n')))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", major(self.0), minor(self.0))
    }
}

impl LockedDevice {
    /// Opens a block device and waits until no other process of ours works with it.
    ///
    /// # Errors
    ///
    /// When it is not a block device, or is locked for longer than a mapping takes to be made.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let cannot_open = |error| Error::from_io(format!("{shown} cannot be opened"), error);
        let Some(number) = DeviceNumber::of(path).map_err(cannot_open)? else {
            let problem = format!("{shown} is not a block device");
            return Err(Error::new(ErrorKind::Request, problem)
                .hinted("attach a file to a loop device first"));
        };
        let file = File::open(path).map_err(cannot_open)?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(Error::from_io(format!("{shown} cannot be locked"), error));
            }
            if Instant::now() > deadline {
                let problem = format!("{shown} is locked by another process");
                return Err(Error::new(ErrorKind::Busy, problem));
            }
            thread::sleep(PAUSE);
        }
        Ok(Self { file, path: path.to_owned(), number })
    }

    /// Returns its number.
    pub(super) fn number(&self) -> DeviceNumber {
        self.number
    }

    /// Returns its length in bytes.
    pub(super) fn len(&mut self) -> Result<u64> {
        let shown = self.path.display();
        let len = self.file.seek(SeekFrom::End(0));
        len.map_err(|error| Error::from_io(format!("the length of {shown} cannot be told"), error))
    }

    /// Checks that nobody else uses it: no mount, no other layer of block devices.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when somebody does.
    pub(super) fn refuse_used(&self) -> Result<()> {
        // The kernel's own rule for block devices. It does not last: the mapping claims the device for
        // itself, and until then the lock keeps other processes of ours away.
        let exclusive = OpenOptions::new()
            .read(true)
            .write(self.number.access() == Access::ReadWrite)
            .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
            .open(&self.path);
        let shown = self.path.display();
        match exclusive {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let error = Error::from_io(format!("{shown} is in use"), error);
                Err(error.hinted("it is mounted, or another device is made of it: see `lsblk`"))
            }
            Err(error) => Err(Error::from_io(format!("{shown} cannot be opened"), error)),
        }
    }
}

/// The number of all loop devices.
const LOOP: u32 = 7;

/// How long another process may hold a device's lock.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_the_kernel_writes_them() {
        for text in ["7:0", "253:17", "259:1048575"] {
            assert_eq!(DeviceNumber::parse(text).unwrap().to_string(), text);
        }
        // How the kernel encodes a minor number of more than eight bits.
        assert_eq!(DeviceNumber::parse("253:300").unwrap().raw(), 0x0010_fd2c);
        assert!(DeviceNumber::parse("(null)").is_none());
        assert!(DeviceNumber::parse("/dev/loop0").is_none());
    }

    #[test]
    fn what_is_not_a_block_device_is_refused_by_name() {
        let error = LockedDevice::open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert_eq!(error.to_string(), "/dev/null is not a block device");
        let error = LockedDevice::open(Path::new("/nowhere/disk")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/disk"));
    }

    #[test]
    fn a_device_that_does_not_exist_has_no_node() {
        assert_eq!(DeviceNumber::parse("7:999999").unwrap().node(), None);
    }
}
