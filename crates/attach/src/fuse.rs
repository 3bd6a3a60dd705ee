//! An opened volume as one file in user space.
//!
//! The file is mounted over an empty one, which bears a lock for as long as there is a server: so
//! whoever unmounts it can wait until all is written.

mod mounting;
mod protocol;
mod server;
mod supervisor;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::mounting::{Manner, is_mounted};
use self::server::{Memory, Server};
use crate::loop_device::{self, Access};
use crate::message::Task;
use crate::mount::{table, users};
use crate::plaintext::Plaintext;
use crate::service::Readiness;
use crate::{Error, ErrorKind, Launcher, OpenedVolume, Result, Support, sys};

/// Returns whether this machine has FUSE and lets us use it.
pub fn support() -> Support {
    let missing = |what: &str, remedy: &str| Support::Missing {
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    };
    match mounting::open_device() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            missing("/dev/fuse is not for everybody here", "run this as root")
        }
        Err(_) => missing(
            "there is no /dev/fuse",
            "load the kernel's module: modprobe fuse; a container has to be given the device",
        ),
        Ok(_) if !rustix::process::geteuid().is_root() && mounting::helper().is_none() => {
            missing("there is no fusermount3", "install the package fuse3, or run this as root")
        }
        Ok(_) => Support::Usable,
    }
}

/// Starts a server that shows the plaintext of a volume as `file`, which is made when it is not there.
/// Returns once the file can be used: by root when root has started it, else by this user.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when `file` has a server already, [`ErrorKind::Request`] when it is a file that
/// holds something.
pub fn start(
    launcher: &Launcher,
    volume: &OpenedVolume,
    file: &Path,
    access: Access,
) -> Result<()> {
    let resolved = resolve(file)?;
    if is_mounted(&resolved)? {
        if serves(&resolved)? {
            return Err(has_a_server(file));
        }
        unmount(&resolved)?;
    }
    let task = FuseTask { file: resolved, access };
    launcher.start(&Task::Fuse(task), volume)
}

/// Returns whether a server answers for `file`.
///
/// # Errors
///
/// When there is one that does not answer in time.
pub fn serves(file: &Path) -> Result<bool> {
    let resolved = resolve(file)?;
    if !is_mounted(&resolved)? {
        return Ok(false);
    }
    let (answer, answered) = mpsc::channel();
    // A server that was stopped does not even let an inquiry be ended.
    std::thread::spawn(move || answer.send(fs::metadata(resolved).is_ok()));
    answered.recv_timeout(ANSWER).map_err(|_| {
        Error::new(ErrorKind::Io, format!("the server of {} does not answer", file.display()))
            .hinted("it may have been stopped: let it go on (kill -CONT), or kill it")
    })
}

/// Ends the server of `file`, once everything it was given is durable, and removes the file. A file
/// without a server succeeds, and so does one whose server was killed.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when the file is in use. [`ErrorKind::Io`] when not everything could be made
/// durable: that is told once, and the server is gone.
pub fn stop(file: &Path) -> Result<()> {
    let resolved = resolve(file)?;
    unmount_all(&resolved)?;
    let below = OpenOptions::new().read(true).custom_flags(no_link()).open(&resolved);
    let failed = |source| Error::from_io(format!("cannot remove {}", file.display()), source);
    let below = match below {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        below => below.map_err(failed)?,
    };
    // Ours is empty while it is served; nobody has ever mounted a volume over anything else.
    if below.metadata().map_err(failed)?.len() > LOST.len() as u64 {
        return Ok(());
    }
    let deadline = Instant::now() + FLUSH;
    while !is_locked_by_us(&below).map_err(failed)? {
        if Instant::now() > deadline {
            let problem = format!("the server of {} does not end", file.display());
            return Err(Error::new(ErrorKind::Io, problem)
                .hinted("it waits for what it writes to: look whether that works"));
        }
        std::thread::sleep(POLL);
    }
    let left = fs::read(&resolved).map_err(failed)?;
    if !left.is_empty() && left != LOST {
        return Ok(());
    }
    match fs::remove_file(&resolved) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    if left.is_empty() {
        return Ok(());
    }
    let problem = format!("what was written last to {} may be lost", file.display());
    Err(Error::new(ErrorKind::Io, problem)
        .hinted("the medium of its volume has failed: see the kernel's log"))
}

/// What a service needs to know besides the volume.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FuseTask {
    /// The file to appear as.
    pub(crate) file: PathBuf,
    /// Whether it can be written to.
    pub(crate) access: Access,
}

/// Serves a volume until its file is unmounted.
pub(crate) fn serve(task: &FuseTask, volume: OpenedVolume, readiness: Readiness) -> Result<()> {
    // Kept as long as there is a process that serves.
    let mut lock = take(&task.file)?;
    let access = match task.access {
        Access::ReadOnly => strongroom_disk::Access::ReadOnly,
        Access::ReadWrite => strongroom_disk::Access::ReadWrite,
    };
    let server = Server::new(Plaintext::open(volume, access)?, task.access);
    let connection = mounting::mount(&task.file, task.access)?;
    let greeted = Server::greet(&connection).and_then(|abilities| {
        let connections = connections(connection)?;
        readiness.tell()?;
        Ok((abilities, connections))
    });
    let (abilities, connections) = greeted.inspect_err(|_| {
        // Nobody has it yet; the error that counts is the first one.
        let _ = mounting::unmount(&task.file, Manner::Lazy);
    })?;
    if abilities.can_resend() {
        supervisor::supervise(&server, &connections)?;
    } else {
        server.serve(&connections, Memory::OnDemand)?;
    }
    // By now it is unmounted. Servers that were killed may have left something to be flushed, too.
    server.flush().inspect_err(|_| {
        // For whoever stops us. If even that cannot be written there is nobody left to tell.
        let _ = lock.write_all(LOST);
    })
}

/// Makes the file that the volume is mounted over, and locks it.
fn take(file: &Path) -> Result<File> {
    let failed = |source| Error::from_io(format!("cannot create {}", file.display()), source);
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_link())
        .open(file)
        .map_err(failed)?;
    // What was mounted in between is not the file that bears the lock.
    if is_mounted(file)? || !is_locked_by_us(&lock).map_err(failed)? {
        return Err(has_a_server(file));
    }
    let found = lock.metadata().map_err(failed)?;
    if found.is_file() && found.len() == 0 {
        return Ok(lock);
    }
    Err(Error::new(ErrorKind::Request, format!("{} is not an empty file", file.display()))
        .hinted("name a file that is not there, or an empty one"))
}

/// Returns a connection for each thread.
fn connections(connection: File) -> Result<Vec<File>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut connections = vec![connection];
    for _ in 1..processors.clamp(LEAST_THREADS, MOST_THREADS) {
        let clone = sys::fuse::clone_connection(&connections[0])
            .map_err(|source| Error::from_io("cannot clone a connection of FUSE", source))?;
        connections.push(clone);
    }
    Ok(connections)
}

/// Unmounts what is mounted over a file, which is more than one thing only when somebody meddles.
fn unmount_all(file: &Path) -> Result<()> {
    for _ in 0..DEEPEST {
        if !is_mounted(file)? {
            return Ok(());
        }
        unmount(file)?;
    }
    Err(Error::new(ErrorKind::Io, format!("{} stays mounted", file.display()))
        .hinted("it may have been mounted in a container: detach it there"))
}

/// Unmounts a file: one with a server only if nobody uses it.
fn unmount(file: &Path) -> Result<()> {
    let failed = |source| Error::from_io(format!("cannot unmount {}", file.display()), source);
    let deadline = Instant::now() + USERS;
    loop {
        match mounting::unmount(file, Manner::Regular) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
            result => return result.map_err(failed),
        }
        // Somebody may only be looking what it is.
        if Instant::now() < deadline {
            std::thread::sleep(POLL);
            continue;
        }
        if !serves(file).unwrap_or(false) {
            // Whoever uses it gets nothing but errors.
            return mounting::unmount(file, Manner::Lazy).map_err(failed);
        }
        return Err(busy(file));
    }
}

fn busy(file: &Path) -> Error {
    let device = loop_device::of(file).unwrap_or_default().into_iter().next();
    let user = match &device {
        Some(device) => device.display().to_string(),
        None => users::of(file).unwrap_or_else(|| "some process".to_owned()),
    };
    let problem = format!("{} is in use by {user}", file.display());
    Error::new(ErrorKind::Busy, problem).hinted(match &device {
        Some(device) => format!("detach {} first", device.display()),
        None => format!("see who has it open: fuser -v {}", file.display()),
    })
}

fn has_a_server(file: &Path) -> Error {
    Error::new(ErrorKind::Busy, format!("{} is an attached volume already", file.display()))
        .hinted("detach that first, or name another file")
}

fn resolve(file: &Path) -> Result<PathBuf> {
    table::resolve(file)
        .map_err(|source| Error::from_io(format!("cannot find {}", file.display()), source))
}

/// Locks a file unless somebody else has.
fn is_locked_by_us(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn no_link() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// What a server leaves in the file that it was mounted over when it could not flush.
const LOST: &[u8] = b"what was written last may be lost\n";

/// How many threads serve: more than one, so that one can encrypt while another waits for the disk.
const LEAST_THREADS: usize = 2;
const MOST_THREADS: usize = 4;

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a server may take to write what it has.
const FLUSH: Duration = Duration::from_secs(120);

/// How long others may look at a file that is to be unmounted.
const USERS: Duration = Duration::from_secs(2);

/// How many mounts over a file are unmounted.
const DEEPEST: usize = 16;

const POLL: Duration = Duration::from_millis(2);
