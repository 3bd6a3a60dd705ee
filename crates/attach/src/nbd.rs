//! An opened volume as an export over NBD (NetworkBlockDevice/nbd, `doc/proto.md`): for qemu, libnbd and
//! the kernel's client, on a socket that only its owner can open, or a port.

mod address;
mod export;
mod input;
mod negotiation;
mod operations;
mod pages;
mod replies;
mod server;
mod socket;
mod tls;
mod transmission;
mod wire;

pub use export::Export;
pub use server::Server;
pub use tls::TlsFiles;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use strongroom_disk::{Access, Discards};

use self::address::{Address, Found};
use crate::message::Task;
use crate::plaintext::Plaintext;
use crate::service::Readiness;
use crate::{Error, ErrorKind, Launcher, OpenedVolume, Result};

/// What clients may do, and who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Clients may only read.
    pub read_only: bool,
    /// Clients may give up blocks on the medium, which shows there what is free.
    pub discard: bool,
    /// Only clients that begin with TLS are served.
    pub tls: Option<TlsFiles>,
}

/// What a service needs to know besides the volume.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NbdTask {
    /// Where to listen.
    pub(crate) address: String,
    /// How to serve.
    pub(crate) options: Options,
}

/// Starts a server that exports the plaintext of a volume at `address`: the path of a unix socket, or
/// `host:port` of this machine. Returns once clients can connect.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when a server is there already; [`ErrorKind::Request`] when the address is that
/// of a network, unless clients have to show a certificate.
pub fn start(
    launcher: &Launcher,
    volume: &OpenedVolume,
    address: &str,
    options: &Options,
) -> Result<()> {
    let address = Address::parse(address)?;
    check_reach(&address, options)?;
    let address = address.shown();
    launcher.start(&Task::Nbd(NbdTask { address, options: options.clone() }), volume)
}

/// Returns whether a server of ours runs at `address`, whatever it serves.
///
/// # Errors
///
/// When that cannot be told.
pub fn serves(address: &str) -> Result<bool> {
    Ok(Address::parse(address)?.server()?.is_some())
}

/// Returns whether a server of ours runs at `address` that serves the volume at `backing`.
///
/// # Errors
///
/// When that cannot be told.
pub fn exports(address: &str, backing: &Path) -> Result<bool> {
    Ok(Address::parse(address)?.server()?.is_some_and(|found| found.backing == backing))
}

/// Ends the server of ours at `address`, once everything it was given is written, and removes what it
/// has left. No server succeeds.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when it does not end in time.
pub fn stop(address: &str) -> Result<()> {
    let address = Address::parse(address)?;
    let failed = |errno: Errno| {
        Error::from_io(format!("cannot end the server at {}", address.shown()), errno)
    };
    if let Some(Found { pid, .. }) = address.server()? {
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Some(process),
            Err(Errno::SRCH) => None,
            Err(errno) => return Err(failed(errno)),
        };
        // By now this may be another process of that number, unless it still has the lock.
        if let Some(process) = process
            && address.server()?.is_some_and(|found| found.pid == pid)
        {
            match pidfd_send_signal(&process, Signal::TERM) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(failed(errno)),
            }
            await_end(&process, &address, pid)?;
        }
    }
    address.clean()
}

/// Serves a volume until somebody ends it.
pub(crate) fn serve(task: &NbdTask, volume: OpenedVolume, readiness: Readiness) -> Result<()> {
    let NbdTask { address, options } = task;
    let address = Address::parse(address)?;
    check_reach(&address, options)?;
    let config = options.tls.as_ref().map(TlsFiles::load).transpose()?;
    let (ended, end) =
        UnixStream::pair().map_err(|error| Error::from_io("cannot be told when to end", error))?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        ended
            .try_clone()
            .and_then(|ended| signal_hook::low_level::pipe::register(signal, ended))
            .map_err(|error| Error::from_io("cannot be told when to end", error))?;
    }
    let listening = address.listen(&volume.backing)?;
    let access = if options.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let discards = if options.discard { Discards::Pass } else { Discards::Refuse };
    let name = volume.name.clone();
    let plaintext = Plaintext::open(volume, access)?.with_discards(discards);
    let export =
        Export::new(plaintext.into_disk(), name).with_access(access).with_discards(discards);
    let mut server = Server::new(export);
    if let Some(config) = config {
        server = server.with_tls(config);
    }
    readiness.tell()?;
    server
        .serve(&listening.listener, &end)
        .map_err(|error| Error::from_io(format!("the server at {} fails", address.shown()), error))
}

/// Refuses to be reached by a network without knowing who is there.
fn check_reach(address: &Address, options: &Options) -> Result<()> {
    let knows_clients = options.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
    match address {
        Address::Port(port) if !port.ip().is_loopback() && !knows_clients => {
            let problem =
                format!("{port} is not of this machine alone, and clients would be unknown");
            Err(Error::new(ErrorKind::Request, problem).hinted(
                "export at 127.0.0.1 or at a socket, or give TLS with the authorities of clients",
            ))
        }
        _ => Ok(()),
    }
}

/// Waits until a process has ended.
fn await_end(process: &OwnedFd, address: &Address, pid: Pid) -> Result<()> {
    let deadline = Instant::now() + STOP_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                let problem = format!("the server at {} does not end", address.shown());
                return Err(Error::new(ErrorKind::Busy, problem)
                    .hinted(format!("it is process {pid}; its disk may hang")));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                let problem = format!("cannot wait for the server at {}", address.shown());
                return Err(Error::from_io(problem, errno));
            }
        }
    }
}

/// How long a server may take to write what it was given.
const STOP_LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
