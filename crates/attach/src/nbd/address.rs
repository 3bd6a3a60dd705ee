//! Where a server listens, and how it is found there.
//!
//! As long as a server runs it holds a lock on a file that belongs to its address: next to the socket,
//! or, for a port, in a directory of this user for what is running. Who asks for the holder of the lock
//! is told its process, by the kernel and not by anything that a file says.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, chmod, fcntl_lock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

use crate::{Error, ErrorKind, Result};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket in the file system.
    Socket(PathBuf),
    /// A port of this machine.
    Port(SocketAddr),
}

/// A listening socket, and what tells others whose it is. Both go when this is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listener: OwnedFd,
    socket: Option<PathBuf>,
    /// Goes last.
    _lock: Lock,
}

/// Held as long as a server runs.
#[derive(Debug)]
struct Lock {
    /// Open for the lock's sake. It says what is served.
    file: File,
    path: PathBuf,
}

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pid: Pid,
    /// The backing of the volume that it serves.
    pub(super) backing: PathBuf,
}

/// What becomes of a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Refuse,
}

impl Address {
    /// Reads an address: whatever has a slash in it is a path, and `host:port` a port.
    pub(super) fn parse(address: &str) -> Result<Self> {
        let bad = |reason: &str| {
            let problem = format!("{} is no address for NBD: {reason}", address.escape_debug());
            Error::new(ErrorKind::Request, problem)
                .hinted("give the path of a socket, or host:port")
        };
        if address.contains('/') {
            let path = std::path::absolute(address)
                .map_err(|error| bad("the path is not absolute").with_source(error))?;
            if path.file_name().is_none() {
                return Err(bad("the path has no last part"));
            }
            return Ok(Self::Socket(path));
        }
        let mut addresses = address
            .to_socket_addrs()
            .map_err(|error| bad("the host or port is not known").with_source(error))?;
        addresses.next().map(Self::Port).ok_or_else(|| bad("the host has no address"))
    }

    /// Listens here, for the volume that lies at `backing`. A socket that a dead server has left is
    /// taken away.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when there is a server, ours or not.
    pub(super) fn listen(&self, backing: &Path) -> Result<Listening> {
        let lock = self.lock()?;
        let says = lock.file.set_len(0);
        says.and_then(|()| lock.file.write_all_at(backing.as_os_str().as_bytes(), 0)).map_err(
            |error| Error::from_io(format!("cannot write {}", lock.path.display()), error),
        )?;
        match self {
            Self::Socket(path) => {
                remove_stale(path)?;
                let listener = listen_at(path)?;
                Ok(Listening { listener, socket: Some(path.clone()), _lock: lock })
            }
            Self::Port(address) => {
                let listener = TcpListener::bind(address).map_err(|error| {
                    let problem = format!("cannot listen at {address}");
                    match error.kind() {
                        io::ErrorKind::AddrInUse => {
                            Error::new(ErrorKind::Busy, problem).with_source(error)
                        }
                        _ => Error::from_io(problem, error),
                    }
                })?;
                Ok(Listening { listener: listener.into(), socket: None, _lock: lock })
            }
        }
    }

    /// Returns the server that is here; `None` when none of ours is.
    pub(super) fn server(&self) -> Result<Option<Found>> {
        let path = self.lock_path();
        let failed = |error| Error::from_io(format!("cannot look at {}", path.display()), error);
        let file = match open_lock(&path, Missing::Refuse) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let held = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))
            .map_err(|errno| failed(errno.into()))?;
        match held {
            None => Ok(None),
            Some(Flock { pid: Some(pid), .. }) => {
                let mut backing = Vec::new();
                file.take(LONGEST_PATH).read_to_end(&mut backing).map_err(failed)?;
                let backing = PathBuf::from(OsString::from_vec(backing));
                Ok(Some(Found { pid, backing }))
            }
            Some(Flock { pid: None, .. }) => {
                let problem = format!("the server of {} runs where we cannot see it", self.shown());
                Err(Error::new(ErrorKind::Busy, problem).hinted("end it where it was started"))
            }
        }
    }

    /// Removes what a server that is dead has left. What a living one has stays.
    pub(super) fn clean(&self) -> Result<()> {
        let lock = match self.lock() {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::Busy => return Ok(()),
            // No directory, no server.
            Err(error) if has_missing_source(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Self::Socket(path) = self {
            match remove_stale(path) {
                // Somebody else's.
                Err(error) if error.kind() == ErrorKind::Busy => {}
                result => result?,
            }
        }
        drop(lock);
        Ok(())
    }

    /// Returns how people write it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Port(address) => address.to_string(),
        }
    }

    fn lock(&self) -> Result<Lock> {
        let path = self.lock_path();
        if let (Self::Port(_), Some(directory)) = (self, path.parent()) {
            make_private(directory)?;
        }
        let failed = |error| Error::from_io(format!("cannot lock {}", path.display()), error);
        loop {
            let file = open_lock(&path, Missing::Make).map_err(failed)?;
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    let problem = format!("a server is at {} already", self.shown());
                    return Err(Error::new(ErrorKind::Busy, problem));
                }
                Err(errno) => return Err(failed(errno.into())),
            }
            // Who held it before has removed it, perhaps just now.
            let (ours, there) = (file.metadata().map_err(failed)?, fs::symlink_metadata(&path));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Lock { file, path });
            }
        }
    }

    fn lock_path(&self) -> PathBuf {
        match self {
            Self::Socket(path) => beside(path, ".lock"),
            Self::Port(address) => run_directory().join(format!("nbd-{address}.lock")),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // The socket goes first: who gets the lock finds the place empty. If it cannot be removed, the
        // next server does it.
        if let Some(path) = &self.socket {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // As long as we hold it nobody else removes it or has another one of that name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds a socket that only its owner can connect to, at a name of its own first: it gets the right one
/// when nobody can connect to it any more whom it is not for.
fn listen_at(path: &Path) -> Result<OwnedFd> {
    let shown = path.display();
    let failed = |errno: Errno| Error::from_io(format!("cannot listen at {shown}"), errno);
    let temporary = beside(path, ".new");
    let address = SocketAddrUnix::new(&temporary).map_err(|_| {
        Error::new(ErrorKind::Request, format!("the path {shown} is too long for a socket"))
            .hinted("sockets have at most 107 bytes of path, six of them for us")
    })?;
    // We hold the lock, so it can only be left over.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::from_io(format!("cannot remove {}", temporary.display()), error));
        }
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    bind(&socket, &address).map_err(failed)?;
    // Nobody can connect before it listens.
    let result = chmod(&temporary, Mode::RUSR | Mode::WUSR)
        .and_then(|()| listen(&socket, BACKLOG))
        .and_then(|()| rustix::fs::rename(&temporary, path));
    result.map_err(|errno| {
        // The error that counts is the first one.
        let _ = fs::remove_file(&temporary);
        failed(errno)
    })?;
    Ok(socket)
}

/// Removes a socket to which nobody listens. Nothing there is fine.
fn remove_stale(path: &Path) -> Result<()> {
    let shown = path.display();
    let failed = |error| Error::from_io(format!("cannot remove the socket {shown}"), error);
    match fs::symlink_metadata(path) {
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::new(ErrorKind::Request, format!("{shown} is there, and no socket"))
                .hinted("choose another path"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        _ => Err(Error::new(ErrorKind::Busy, format!("another server listens at {shown}"))),
    }
}

fn open_lock(path: &Path, missing: Missing) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(missing == Missing::Make)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Returns a path whose last part is hidden and ends in `suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

/// Returns where files of what is running lie, for this user. It does not depend on the environment:
/// whoever ends a server has to look where it was started.
fn run_directory() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return PathBuf::from("/run/strongroom");
    }
    let own = PathBuf::from(format!("/run/user/{}", user.as_raw()));
    if own.is_dir() {
        own.join("strongroom")
    } else {
        PathBuf::from(format!("/tmp/strongroom-{}", user.as_raw()))
    }
}

/// Makes a directory that is ours alone, and refuses one that is not.
fn make_private(directory: &Path) -> Result<()> {
    let failed = |error| Error::from_io(format!("cannot make {}", directory.display()), error);
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let metadata = fs::symlink_metadata(directory).map_err(failed)?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if metadata.is_dir() && is_ours && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let problem = format!("{} is not a directory of this user alone", directory.display());
    Err(Error::new(ErrorKind::Request, problem).hinted("remove it"))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn has_missing_source(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(is_missing)
}

/// The longest path that the kernel takes, in bytes.
const LONGEST_PATH: u64 = 4096;

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests;
