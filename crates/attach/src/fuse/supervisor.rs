//! Replaces a server that was killed, so that who uses the file notices nothing.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions};

use super::server::{self, Memory, Server};
use crate::sys::process::{self, Fork};
use crate::{Error, ErrorKind, Result, service};

/// Serves in a process of its own, and in another one when that is killed, until the file is
/// unmounted. The kernel sends to the new one what the dead one has not answered: every request can be
/// carried out twice.
///
/// # Assumptions
///
/// This process has one thread, and the kernel can send requests again. Could it not, who has asked
/// would wait as long as this process keeps the connections.
pub(super) fn supervise(server: &Server, connections: &[File]) -> Result<()> {
    let (mut deaths, mut since) = (0, Instant::now());
    let mut succession = Succession::First;
    loop {
        let failed = |source: io::Error| Error::from_io("cannot start another server", source);
        let pid = match process::fork().map_err(failed)? {
            Fork::Child => {
                let result = serve(server, connections, succession);
                std::process::exit(if result.is_ok() { 0 } else { FAILED });
            }
            Fork::Parent(pid) => pid,
        };
        match wait(pid).map_err(failed)? {
            End::Done => return Ok(()),
            End::Failed => return Err(Error::new(ErrorKind::Io, "a server of FUSE has failed")),
            End::Killed => {}
        }
        succession = Succession::Later;
        // Those that die of the same request over and over help nobody: let go, it fails.
        if since.elapsed() > WINDOW {
            (deaths, since) = (0, Instant::now());
        }
        deaths += 1;
        if deaths == MOST_DEATHS {
            return Err(Error::new(ErrorKind::Io, "the servers of FUSE die one after the other"));
        }
    }
}

/// Whether a server follows another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Succession {
    First,
    Later,
}

/// How a server has ended.
enum End {
    Done,
    Failed,
    Killed,
}

fn serve(server: &Server, connections: &[File], succession: Succession) -> Result<()> {
    // Some of it is not inherited.
    service::harden();
    if succession == Succession::Later
        && let [connection, ..] = connections
    {
        server::ask_again(connection)
            .map_err(|source| Error::from_io("the kernel does not send requests again", source))?;
    }
    // Whoever takes over does so under load.
    let memory = match succession {
        Succession::First => Memory::OnDemand,
        Succession::Later => Memory::AtOnce,
    };
    server.serve(connections, memory)
}

fn wait(pid: Pid) -> io::Result<End> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) if status.signaled() => return Ok(End::Killed),
            Ok(Some((_, status))) if status.exit_status() == Some(0) => return Ok(End::Done),
            Ok(Some((_, status))) if status.exited() => return Ok(End::Failed),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// For how long deaths are counted.
const WINDOW: Duration = Duration::from_secs(5);

/// So many of them are enough: nobody who kills servers one by one is as fast as a request that does.
const MOST_DEATHS: u32 = 50;

/// The exit code of a server that could not go on.
const FAILED: i32 = 1;
