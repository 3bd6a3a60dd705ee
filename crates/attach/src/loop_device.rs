//! Loop devices: files as block devices.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use strongroom_crypto::SectorSize;

use crate::mount::{table, users};
use crate::sys::loop_device as ioctls;
use crate::{Error, ErrorKind, Result, Support};

/// Whether a device may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Only read.
    ReadOnly,
    /// Read and written.
    ReadWrite,
}

/// Returns whether this machine has loop devices and lets us use them.
pub fn support() -> Support {
    match control() {
        Ok(_) => Support::Usable,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Support::Missing {
            what: format!("{CONTROL} belongs to root"),
            remedy: "run this as root".to_owned(),
        },
        Err(_) => Support::Missing {
            what: format!("there is no {CONTROL}"),
            remedy: "load the kernel's module: modprobe loop".to_owned(),
        },
    }
}

/// Makes `file` a block device with sectors of this size, past the page cache where that is possible.
/// Returns the path of the device.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when the machine has no loop devices, or does not let us use them.
pub fn attach(file: &Path, sector_size: SectorSize, access: Access) -> Result<PathBuf> {
    let failed = |source: io::Error| {
        Error::from_io(format!("cannot attach {} to a loop device", file.display()), source)
    };
    let (writable, mode) = match access {
        Access::ReadOnly => (false, ioctls::Mode::ReadOnly),
        Access::ReadWrite => (true, ioctls::Mode::ReadWrite),
    };
    let backing = OpenOptions::new().read(true).write(writable).open(file).map_err(failed)?;
    // Kernels before 6.18 take the length that they remember, which is none for a file in user space
    // that nobody has asked about yet.
    backing.metadata().map_err(failed)?;
    let control = control().map_err(|source| match support() {
        Support::Missing { what, remedy } => {
            Error::new(ErrorKind::Unsupported, what).hinted(remedy).with_source(source)
        }
        Support::Usable => failed(source),
    })?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let device = Device::numbered(ioctls::free_number(&control).map_err(failed)?);
        let block_size = sector_size.bytes() as u32;
        let configured = device
            .make_node()
            .and_then(|()| OpenOptions::new().read(true).write(writable).open(device.node()))
            .and_then(|opened| ioctls::configure(&opened, &backing, block_size, mode));
        match configured {
            Ok(()) => return Ok(device.node()),
            // Somebody else has taken it in between.
            Err(error) if is(&error, Errno::BUSY) && Instant::now() < deadline => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Lets the devices of a file that has grown know. A file without any succeeds.
pub fn refresh(file: &Path) -> Result<()> {
    let failed = |source: io::Error| {
        Error::from_io(format!("cannot grow the loop device of {}", file.display()), source)
    };
    for device in devices_of(file)? {
        if device.state != State::Live {
            continue;
        }
        // As when it is attached: this makes the kernel ask.
        fs::metadata(file).map_err(failed)?;
        let opened = device.open(OFlags::empty()).map_err(failed)?;
        ioctls::set_capacity(&opened).map_err(failed)?;
    }
    Ok(())
}

/// Returns the devices of a file. One whose file is gone, or is another one by now, is none of them.
pub fn of(file: &Path) -> Result<Vec<PathBuf>> {
    let devices = devices_of(file)?;
    Ok(devices.iter().filter(|device| device.state == State::Live).map(Device::node).collect())
}

/// Removes the devices of a file, those too that an earlier file of this name has left. A file without
/// any succeeds.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when one is in use: the text says by what, if that can be told.
pub fn detach(file: &Path) -> Result<()> {
    devices_of(file)?.iter().try_for_each(Device::detach)
}

/// A loop device that is, or may become, one of a file.
#[derive(Debug)]
struct Device {
    number: u32,
    /// The name of its file, as the kernel tells it.
    backing: String,
    state: State,
}

/// Whether a device shows the file that bears its name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It does.
    Live,
    /// That file is gone.
    Stale,
}

impl Device {
    fn numbered(number: u32) -> Self {
        Self { number, backing: String::new(), state: State::Stale }
    }

    fn node(&self) -> PathBuf {
        PathBuf::from(format!("/dev/loop{}", self.number))
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(format!("{BLOCK_DEVICES}/loop{}", self.number))
    }

    /// Makes the node when nobody else does: a container has the nodes that it was started with.
    fn make_node(&self) -> io::Result<()> {
        let number = rustix::fs::makedev(MAJOR, self.number);
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::mknodat(rustix::fs::CWD, self.node(), FileType::BlockDevice, mode, number)
        {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) if !self.node().exists() => return Err(errno.into()),
            Err(_) => {}
        }
        let found = fs::metadata(self.node())?;
        if found.file_type().is_block_device() && found.rdev() == number {
            return Ok(());
        }
        Err(io::Error::other(format!("{} is another device", self.node().display())))
    }

    fn open(&self, flags: OFlags) -> io::Result<File> {
        self.make_node()?;
        let flags = flags.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(self.node())
    }

    /// Returns the name of the file that it has now, if any.
    fn backing_now(&self) -> Option<String> {
        let name = fs::read_to_string(self.folder().join("loop/backing_file")).ok()?;
        Some(name.trim_end_matches('\n').to_owned())
    }

    /// Returns whether it still has its file. Once it is free it may get another one at any time.
    fn is_attached(&self) -> bool {
        self.backing_now().is_some_and(|name| name == self.backing)
    }

    fn detach(&self) -> Result<()> {
        let failed =
            |source| Error::from_io(format!("cannot detach {}", self.node().display()), source);
        let opened = match self.open(OFlags::EXCL) {
            Ok(opened) => opened,
            // Without its driver it is not there.
            Err(error) if is(&error, Errno::NXIO) => return Ok(()),
            Err(error) if is(&error, Errno::BUSY) => return Err(self.busy()),
            Err(error) => return Err(failed(error)),
        };
        // As long as it is open here it does not change hands.
        if !self.is_attached() {
            return Ok(());
        }
        match ioctls::clear(&opened) {
            Err(error) if is(&error, Errno::NXIO) => return Ok(()),
            result => result.map_err(failed)?,
        }
        drop(opened);
        // It goes when the last one closes it, which may be somebody who only looks what it is.
        let deadline = Instant::now() + PATIENCE;
        while self.is_attached() {
            if Instant::now() > deadline {
                return self.keep();
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Takes back that it goes when the last one closes it: whoever was told that it is in use shall
    /// find it as it was.
    fn keep(&self) -> Result<()> {
        let opened = self.open(OFlags::empty());
        if !self.is_attached() {
            return Ok(());
        }
        if let Ok(opened) = opened {
            // Nothing but the error that follows could be said about it.
            let _ = ioctls::keep(&opened);
        }
        Err(self.busy())
    }

    /// Compares its file with the one that bears the name now.
    fn state_with(&self, file: &Path) -> State {
        let status = self.open(OFlags::empty()).and_then(|opened| ioctls::status(&opened));
        let (Ok(status), Ok(found)) = (status, fs::metadata(file)) else { return State::Stale };
        if (status.device, status.inode) == (found.dev(), found.ino()) {
            State::Live
        } else {
            State::Stale
        }
    }

    fn busy(&self) -> Error {
        let node = self.node();
        let mounted = table::of_device((MAJOR, self.number), &node).unwrap_or_default();
        let user = || self.holder().or_else(|| users::of(&node));
        let problem = match &mounted {
            Some(target) => format!("{} is mounted at {}", node.display(), target.display()),
            None => {
                let user = user().unwrap_or_else(|| "some process".to_owned());
                format!("{} is in use by {user}", node.display())
            }
        };
        Error::new(ErrorKind::Busy, problem).hinted(match &mounted {
            Some(target) => format!("unmount {} first", target.display()),
            None => format!("see who has it open: fuser -v {}", node.display()),
        })
    }

    /// Returns the name of a device that lies on this one.
    fn holder(&self) -> Option<String> {
        let holder = fs::read_dir(self.folder().join("holders")).ok()?.next()?.ok()?;
        Some(holder.file_name().to_string_lossy().into_owned())
    }
}

/// Returns the devices that a file of this name has, or had.
///
/// The names are compared first, because the kernel asks the file system of a device's file for its
/// inode. That can be in user space, and hang.
fn devices_of(file: &Path) -> Result<Vec<Device>> {
    let failed = |source| Error::from_io("cannot list the loop devices", source);
    let name = table::resolve(file).map_err(failed)?.to_string_lossy().into_owned();
    let entries = match fs::read_dir(BLOCK_DEVICES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut devices = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?.file_name();
        let number = entry.to_str().and_then(|name| name.strip_prefix("loop"));
        let Some(number) = number.and_then(|number| number.parse().ok()) else { continue };
        let mut device = Device::numbered(number);
        // One without a file has no such entry.
        let Some(backing) = device.backing_now() else { continue };
        let was_deleted = backing.strip_suffix(DELETED).is_some_and(|backing| backing == name);
        if backing == name {
            device.state = device.state_with(file);
        } else if !was_deleted {
            continue;
        }
        device.backing = backing;
        devices.push(device);
    }
    Ok(devices)
}

/// Opens what hands out loop devices. A container may have the driver, but no node.
fn control() -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).open(CONTROL);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && Path::new(DRIVER).exists() => {
            let number = rustix::fs::makedev(MISC_MAJOR, CONTROL_MINOR);
            let mode = Mode::RUSR | Mode::WUSR;
            // Someone may have been faster; if it is not there now, opening it says so.
            let _ = rustix::fs::mknodat(
                rustix::fs::CWD,
                CONTROL,
                FileType::CharacterDevice,
                mode,
                number,
            );
            open()
        }
        result => result,
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

const CONTROL: &str = "/dev/loop-control";

/// Where the kernel says that it has the driver.
const DRIVER: &str = "/sys/devices/virtual/misc/loop-control";

const BLOCK_DEVICES: &str = "/sys/block";

/// What the kernel adds to the name of a file that is gone.
const DELETED: &str = " (deleted)";

const MAJOR: u32 = 7;
const MISC_MAJOR: u32 = 10;
const CONTROL_MINOR: u32 = 237;

/// How long others may be faster in taking a free device.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a device may take to go after it was let go.
const PATIENCE: Duration = Duration::from_secs(3);

const POLL: Duration = Duration::from_millis(2);
