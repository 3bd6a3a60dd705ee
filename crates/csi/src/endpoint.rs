//! The socket: where it is, and who may come.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::{Error, Result};

/// A unix socket to serve, written `unix:///path`, `unix:/path` or `/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    path: PathBuf,
}

impl Endpoint {
    /// Returns where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the socket and listens. One that a dead process has left is replaced.
    ///
    /// # Guarantees
    ///
    /// At no moment can anybody connect who may not, whatever the mask of the process.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when somebody serves it, [`Error::NotASocket`] when it is something else.
    pub(crate) fn listen(&self, callers: Callers) -> Result<UnixListener> {
        self.clear()?;
        let shown = self.path.display();
        bind(&self.path, callers).map_err(Error::io(format!("listen at {shown}")))
    }

    /// Takes away what a dead process has left.
    fn clear(&self) -> Result<()> {
        let path = &self.path;
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(Error::io(format!("look at {}", path.display())))?,
        };
        if !found.file_type().is_socket() {
            return Err(Error::NotASocket { path: path.clone() });
        }
        match UnixStream::connect(path) {
            Ok(_) => Err(Error::InUse { path: path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(Error::io(format!("remove {}", path.display())))
            }
            Err(error) => Err(Error::io(format!("connect to {}", path.display()))(error)),
        }
    }
}

/// Who can connect to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Its owner, and root.
    Owner,
    /// Everybody: who they are is asked afterwards.
    Everybody,
}

/// Makes a socket. Nobody can connect to it before it has its mode, whatever the mask of the process.
fn bind(path: &Path, callers: Callers) -> io::Result<UnixListener> {
    let owner = Mode::RUSR | Mode::WUSR;
    let mode = match callers {
        Callers::Owner => owner,
        Callers::Everybody => owner | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, mode)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |problem| Err(Error::Endpoint { endpoint: text.to_owned(), problem });
        let path = match text.split_once(':') {
            Some(("unix", rest)) => rest.strip_prefix("//").unwrap_or(rest),
            Some((scheme, _)) if !scheme.contains('/') => {
                return refused("only unix sockets are served, as unix:///path/csi.sock");
            }
            _ => text,
        };
        if !path.starts_with('/') || path.ends_with('/') {
            return refused("use the whole path of a socket, as in unix:///path/csi.sock");
        }
        if path.len() > LONGEST || path.contains('\0') {
            return refused("the path of a socket has 107 bytes at most");
        }
        Ok(Self { path: PathBuf::from(path) })
    }
}

/// What the kernel allows, without the byte at the end.
const LONGEST: usize = 107;

/// Connections that wait to be taken.
const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn endpoint(path: &Path) -> Endpoint {
        path.to_str().unwrap().parse().unwrap()
    }

    #[test]
    fn every_spelling_of_a_socket_is_read() {
        for text in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().path(), Path::new("/run/a.sock"));
        }
        let long = format!("/{}", "x".repeat(107));
        for text in ["tcp://0.0.0.0:1", "unix://a.sock", "a.sock", "", "unix:///", "/a\0", &long] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn nobody_else_can_connect_and_a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = endpoint(&folder.path().join("csi.sock"));
        let listener = endpoint.listen(Callers::Owner).unwrap();
        let mode = fs::metadata(endpoint.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(endpoint.listen(Callers::Owner), Err(Error::InUse { .. })));
        drop(listener);
        endpoint.listen(Callers::Owner).unwrap();
    }

    #[test]
    fn a_file_in_the_way_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        fs::write(&path, "kept").unwrap();
        assert!(matches!(endpoint(&path).listen(Callers::Owner), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }
}
