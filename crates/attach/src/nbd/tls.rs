//! TLS between the handshake's first half and its second.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::Shutdown;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};

use super::socket::Socket;
use crate::{Error, ErrorKind as Kind, Result};

/// The files that a server needs for TLS, in PEM form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The certificate of the server, and those between it and the authority.
    pub certificates: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
    /// The authorities that sign the certificates of clients. Without it any client may connect.
    pub client_authorities: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Request`](Kind::Request) when one of them is not what it should be.
    pub fn load(&self) -> Result<Arc<ServerConfig>> {
        let certificates = certificates(&self.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unusable("the TLS key", &self.key, error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Kind::Unsupported, "TLS is unusable").with_source(error))?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let what = "the authorities of TLS clients";
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(what, path, error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| unusable(what, path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| unusable("the TLS certificate", &self.certificates, error))?;
        Ok(Arc::new(config))
    }
}

/// Carries bytes between a client that speaks TLS and `plain`, until either ends. The handshake of TLS
/// has to be over at `deadline`.
///
/// What the client has sent in the clear after it asked for TLS is taken for TLS, and ends the
/// connection: nobody between us can add anything.
pub(super) fn carry(
    config: Arc<ServerConfig>,
    socket: &Socket,
    plain: UnixStream,
    deadline: Instant,
) {
    // Whatever it was, both sides see the end of it.
    let _ = Carrier::new(config, socket, plain).and_then(|mut carrier| carrier.run(deadline));
    socket.end(Shutdown::Both);
}

struct Carrier<'a> {
    tls: ServerConnection,
    socket: &'a Socket,
    plain: UnixStream,
    /// Decrypted, and not written to `plain` yet.
    inward: Vec<u8>,
    /// The server has ended its side.
    plain_ended: bool,
    /// The client has.
    client_ended: bool,
}

impl<'a> Carrier<'a> {
    fn new(config: Arc<ServerConfig>, socket: &'a Socket, plain: UnixStream) -> io::Result<Self> {
        plain.set_nonblocking(true)?;
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        rustix::io::ioctl_fionbio(socket, true)?;
        Ok(Self { tls, socket, plain, inward: Vec::new(), plain_ended: false, client_ended: false })
    }

    fn run(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            self.wait(self.tls.is_handshaking().then_some(deadline))?;
            self.take_from_client()?;
            self.take_from_server()?;
            self.give_to_client()?;
            if self.plain_ended && !self.tls.wants_write() {
                return Ok(());
            }
            if self.client_ended && self.inward.is_empty() {
                // The server finishes what it was asked for.
                self.plain.shutdown(std::net::Shutdown::Write)?;
            }
        }
    }

    /// Waits until one of the sides can be read from or written to, as far as we want that.
    fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        let mut outer = PollFlags::empty();
        outer.set(PollFlags::IN, !self.client_ended && self.inward.is_empty());
        outer.set(PollFlags::OUT, self.tls.wants_write());
        let mut inner = PollFlags::empty();
        let may_send = !self.tls.is_handshaking() && !self.tls.wants_write();
        inner.set(PollFlags::IN, !self.plain_ended && may_send);
        inner.set(PollFlags::OUT, !self.inward.is_empty());
        let mut polled =
            [PollFd::from_borrowed_fd(self.socket.as_fd(), outer), PollFd::new(&self.plain, inner)];
        let timeout = match deadline {
            None => None,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left < Duration::from_millis(1) {
                    return Err(ErrorKind::TimedOut.into());
                }
                Some(Timespec::try_from(left).map_err(|_| ErrorKind::InvalidInput)?)
            }
        };
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn take_from_client(&mut self) -> io::Result<()> {
        if !self.client_ended && self.inward.is_empty() {
            match self.tls.read_tls(&mut Stream(self.socket)) {
                Ok(0) => self.client_ended = true,
                Ok(_) => {
                    let state = self.tls.process_new_packets().map_err(io::Error::other)?;
                    let start = self.inward.len();
                    self.inward.resize(start + state.plaintext_bytes_to_read(), 0);
                    self.tls.reader().read_exact(&mut self.inward[start..])?;
                    self.client_ended |= state.peer_has_closed();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        while !self.inward.is_empty() {
            match self.plain.write(&self.inward) {
                Ok(len) => drop(self.inward.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_from_server(&mut self) -> io::Result<()> {
        if self.plain_ended || self.tls.is_handshaking() || self.tls.wants_write() {
            return Ok(());
        }
        let mut piece = [0; RECORD];
        match self.plain.read(&mut piece) {
            Ok(0) => {
                self.plain_ended = true;
                self.tls.send_close_notify();
            }
            Ok(len) => self.tls.writer().write_all(&piece[..len])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn give_to_client(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Stream(self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The socket, as TLS reads and writes it.
struct Stream<'a>(&'a Socket);

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buf)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.send_some(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>> {
    let what = "the TLS certificate";
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(what, path, error))?;
    if found.is_empty() {
        return Err(unusable(what, path, io::Error::other("it holds no certificate in PEM form")));
    }
    Ok(found)
}

fn unusable(
    what: &str,
    path: &std::path::Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let problem = format!("{what} in {} cannot be used", path.display());
    Error::new(Kind::Request, problem).with_source(error)
}

/// As much as a record of TLS holds.
const RECORD: usize = 16 << 10;
