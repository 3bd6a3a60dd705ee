//! File systems on a device: recognised, made once, checked, grown, frozen.

mod freezing;
mod programs;
mod signatures;

pub use freezing::{Frozen, freeze, thaw};

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use strongroom_disk::FormatPermit;
use strongroom_model::FileSystem;

use self::programs::Program;
use crate::{Error, ErrorKind, Result, Support};

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing that is known. That does not mean that it is empty.
    Nothing,
    /// A file system that volumes are made with.
    FileSystem(FileSystem),
    /// Something else that is known: `a partition table`.
    Other(&'static str),
}

/// Returns whether the programs are installed that make, check and grow a file system.
pub fn support(file_system: FileSystem) -> Support {
    let programs: &[Program] = match file_system {
        FileSystem::Ext4 => &[Program::MKFS_EXT4, Program::E2FSCK, Program::RESIZE2FS],
        FileSystem::Xfs => &[Program::MKFS_XFS, Program::XFS_GROWFS],
    };
    let missing = programs.iter().find_map(|program| program.command().err());
    missing.map_or(Support::Usable, |error| Support::Missing {
        what: error.to_string(),
        remedy: error.hint().unwrap_or_default().to_owned(),
    })
}

/// Says what a device holds, by the magic numbers of what is in use. What it says is for refusals and
/// for reports, not for choosing how to read a device: that stands in the ledger.
///
/// # Errors
///
/// When the device cannot be read: a device that fails holds nobody knows what.
pub fn probe(device: &Path) -> Result<Found> {
    let failed =
        |error| Error::from_io(format!("cannot look at what {} holds", device.display()), error);
    let file = open(device).map_err(failed)?;
    let len = length(&file).map_err(failed)?;
    signatures::find(&file, len).map_err(failed)
}

/// Makes a file system, whatever the device holds: the permit is the right to do that. `uuid` is what
/// it shall have, random when left out.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when the program that does it is not installed, [`ErrorKind::Request`]
/// when the device is too small.
pub fn make(
    device: &Path,
    file_system: FileSystem,
    uuid: Option<&str>,
    _permit: &FormatPermit,
) -> Result<()> {
    let failed = |error| Error::from_io(format!("cannot look at {}", device.display()), error);
    let len = open(device).and_then(|file| length(&file)).map_err(failed)?;
    let least = smallest(file_system);
    if len < least {
        let problem = format!(
            "{} has {len} bytes, which is too small for {file_system}: {} MiB are needed",
            device.display(),
            least >> 20
        );
        return Err(Error::new(ErrorKind::Request, problem));
    }
    let (program, arguments, uuid) = match file_system {
        FileSystem::Ext4 => {
            (Program::MKFS_EXT4, MKFS_EXT4, uuid.map(|uuid| ("-U", uuid.to_owned())))
        }
        FileSystem::Xfs => {
            (Program::MKFS_XFS, MKFS_XFS, uuid.map(|uuid| ("-m", format!("uuid={uuid}"))))
        }
    };
    let mut command = program.command()?;
    command.args(arguments);
    if let Some((option, value)) = uuid {
        command.args([option, &value]);
    }
    command.arg(device);
    let problem = || format!("cannot make {file_system} on {}", device.display());
    let outcome = programs::run(command, problem)?;
    if outcome.code == Some(0) { Ok(()) } else { Err(outcome.error(ErrorKind::Io, problem())) }
}

/// Checks a file system that is not mounted, and repairs what can be repaired without a loss. XFS has
/// nothing to do before it is mounted: that is when it replays its log.
///
/// # Errors
///
/// [`ErrorKind::Contents`] when the device holds another file system or none, or damage that somebody
/// has to look at; [`ErrorKind::Busy`] when it is mounted.
pub fn check(device: &Path, file_system: FileSystem) -> Result<()> {
    let found = probe(device)?;
    if found != Found::FileSystem(file_system) {
        let what = match found {
            Found::Nothing => "nothing that is known",
            Found::FileSystem(other) => other.name(),
            Found::Other(what) => what,
        };
        let problem = format!("{} holds {what}, not {file_system}", device.display());
        return Err(Error::new(ErrorKind::Contents, problem));
    }
    match file_system {
        FileSystem::Xfs => Ok(()),
        FileSystem::Ext4 => check_ext4(device, Thoroughness::Needed),
    }
}

/// How much of a file system is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thoroughness {
    /// What it says itself that it needs.
    Needed,
    /// All of it.
    Whole,
}

/// Checks an ext4, with patience for whoever only looks at the device, or has just unmounted it: the
/// kernel may let go of it a moment later.
fn check_ext4(device: &Path, thoroughness: Thoroughness) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match check_ext4_once(device, thoroughness) {
            Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn check_ext4_once(device: &Path, thoroughness: Thoroughness) -> Result<()> {
    let file_system = FileSystem::Ext4;
    let mut command = Program::E2FSCK.command()?;
    if thoroughness == Thoroughness::Whole {
        command.arg("-f");
    }
    command.arg("-p").arg(device);
    let problem = || format!("cannot check {file_system} on {}", device.display());
    let outcome = programs::run(command, problem)?;
    match outcome.code {
        Some(0 | E2FSCK_REPAIRED) => Ok(()),
        Some(code) if code & E2FSCK_DAMAGED != 0 => {
            let problem = format!(
                "{file_system} on {} is damaged, and mending it may lose data",
                device.display()
            );
            let hint = format!("detach it, make a copy, then run e2fsck {}", device.display());
            Err(outcome.error(ErrorKind::Contents, problem).hinted(hint))
        }
        _ if outcome.says(&["is mounted", "is in use"]) => {
            let problem = format!("{} is in use, and cannot be checked", device.display());
            Err(outcome.error(ErrorKind::Busy, problem))
        }
        _ => Err(outcome.error(ErrorKind::Io, problem())),
    }
}

/// Makes a file system as large as its device, where it is mounted. One that is as large stays as it
/// is.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] when the program that does it is not installed, or this process may not:
/// ext4 asks for CAP_SYS_RESOURCE.
pub fn grow(device: &Path, file_system: FileSystem, mounted_at: &Path) -> Result<()> {
    let mut command = match file_system {
        FileSystem::Ext4 => Program::RESIZE2FS.command()?,
        FileSystem::Xfs => Program::XFS_GROWFS.command()?,
    };
    match file_system {
        FileSystem::Ext4 => command.arg(device),
        FileSystem::Xfs => command.arg("-d").arg(mounted_at),
    };
    let problem = || format!("cannot grow {file_system} at {}", mounted_at.display());
    let outcome = programs::run(command, problem)?;
    if outcome.code == Some(0) {
        return Ok(());
    }
    if outcome.says(&["Permission denied", "Operation not permitted"]) {
        let error = outcome.error(ErrorKind::Unsupported, problem());
        return Err(match file_system {
            FileSystem::Ext4 => error.hinted(
                "growing a mounted ext4 takes CAP_SYS_RESOURCE: give it to this process, or detach \
                 the volume: it grows when it is mounted again",
            ),
            FileSystem::Xfs => error.hinted("growing a mounted xfs takes CAP_SYS_ADMIN"),
        });
    }
    Err(outcome.error(ErrorKind::Io, problem()))
}

/// Makes a file system as large as its device before it is mounted, where that can be done: XFS grows
/// only while it is mounted, and stays as it is.
///
/// # Errors
///
/// Those of [`check`], which comes first; [`ErrorKind::Unsupported`] when the program that does it is not
/// installed.
pub fn grow_unmounted(device: &Path, file_system: FileSystem) -> Result<()> {
    if file_system == FileSystem::Xfs {
        return Ok(());
    }
    check_ext4(device, Thoroughness::Whole)?;
    let mut command = Program::RESIZE2FS.command()?;
    command.arg(device);
    let problem = || format!("cannot grow {file_system} on {}", device.display());
    let outcome = programs::run(command, problem)?;
    if outcome.code == Some(0) { Ok(()) } else { Err(outcome.error(ErrorKind::Io, problem())) }
}

/// Returns the fewest bytes that a file system takes: for ext4 what leaves room for a journal.
fn smallest(file_system: FileSystem) -> u64 {
    match file_system {
        FileSystem::Ext4 => 8 << 20,
        FileSystem::Xfs => 300 << 20,
    }
}

fn open(device: &Path) -> std::io::Result<File> {
    // Were it a pipe, opening it would wait for ever.
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(device)
}

fn length(mut file: &File) -> std::io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// How long a device may be in use before that is an error.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often to look.
const PAUSE: Duration = Duration::from_millis(50);

/// Blocks of 4096 bytes are what encrypted sectors and pages have. Nothing is kept for root: people
/// expect to be able to use what they asked for. Discards would show what is unused, and take long;
/// tables and journal are not filled with zeros in advance, which would make a thin volume thick:
/// checksums tell what was never written, and the kernel does the rest in the background.
const MKFS_EXT4: &[&str] = &[
    "-q",
    "-F",
    "-b",
    "4096",
    "-m",
    "0",
    "-E",
    "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
];

/// Sectors of 4096 bytes are allowed on devices with smaller ones, and then it can move to one that has
/// none smaller.
const MKFS_XFS: &[&str] = &["-q", "-f", "-K", "-b", "size=4096", "-s", "size=4096"];

/// What e2fsck(8) says when it has mended everything.
const E2FSCK_REPAIRED: i32 = 1;

/// And when it has not.
const E2FSCK_DAMAGED: i32 = 4;

#[cfg(test)]
mod tests;
