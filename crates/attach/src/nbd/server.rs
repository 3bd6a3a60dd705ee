//! Connections: accepted, shaken hands with, ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{Shutdown, SocketFlags, accept_with};

use super::export::Export;
use super::negotiation::{self, Agreed, End, Negotiation, Tls};
use super::socket::{Hurried, Socket};
use super::tls;
use super::transmission::Transmission;

/// A server of one export, for any number of clients at once.
#[derive(Debug)]
pub struct Server {
    export: Export,
    tls: Option<Arc<rustls::ServerConfig>>,
    handshake_limit: Duration,
    connections: Mutex<Connections>,
    /// Some connection has ended.
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct Connections {
    open: Vec<Arc<Socket>>,
    /// No more are accepted.
    closing: bool,
}

impl Server {
    /// Serves an export to whoever connects.
    pub fn new(export: Export) -> Self {
        Self {
            export,
            tls: None,
            handshake_limit: HANDSHAKE_LIMIT,
            connections: Mutex::default(),
            fewer: Condvar::new(),
        }
    }

    /// Serves only clients that begin with TLS.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Chooses how long a client may take for the handshake.
    #[must_use]
    pub fn with_handshake_limit(mut self, limit: Duration) -> Self {
        self.handshake_limit = limit;
        self
    }

    /// Serves the clients of a listening socket until `stop` can be read from; then everything they
    /// have asked for is done, replied to and durable when this returns.
    ///
    /// # Errors
    ///
    /// When connections cannot be accepted, or the disk cannot be flushed at the end.
    pub fn serve(&self, listener: impl AsFd, stop: impl AsFd) -> io::Result<()> {
        let result = std::thread::scope(|scope| {
            let result = self.accept(&listener, &stop, scope);
            self.close();
            result
        });
        self.export.disk.flush().map_err(io::Error::other)?;
        result
    }

    /// Serves the client at the other end of one connected stream socket until it goes.
    pub fn serve_connection(&self, socket: impl Into<OwnedFd>) {
        let socket = Arc::new(Socket::new(socket));
        if self.admit(&socket) {
            std::thread::scope(|scope| self.converse(&socket, scope));
            self.dismiss(&socket);
        }
    }

    fn accept<'scope>(
        &'scope self,
        listener: &impl AsFd,
        stop: &impl AsFd,
        scope: &'scope Scope<'scope, '_>,
    ) -> io::Result<()> {
        // A client may be gone again before it is accepted, which must not hold us up.
        rustix::io::ioctl_fionbio(listener, true)?;
        loop {
            let mut polled =
                [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if !polled[1].revents().is_empty() {
                return Ok(());
            }
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(socket) => self.begin(socket, scope),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // It stays in the queue until somebody else has gone.
                    std::thread::sleep(ACCEPT_PAUSE);
                }
                // The client has gone again.
                Err(Errno::INTR | Errno::AGAIN | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn begin<'scope>(&'scope self, socket: OwnedFd, scope: &'scope Scope<'scope, '_>) {
        // Of use to TCP alone: a reply shall not wait for another one.
        let _ = set_tcp_nodelay(&socket, true);
        let socket = Arc::new(Socket::new(socket));
        if !self.admit(&socket) {
            return;
        }
        let thread = Builder::new().name("nbd-client".to_owned()).stack_size(STACK);
        let mine = Arc::clone(&socket);
        let started = thread.spawn_scoped(scope, move || {
            std::thread::scope(|scope| self.converse(&mine, scope));
            self.dismiss(&mine);
        });
        if started.is_err() {
            self.dismiss(&socket);
        }
    }

    fn converse<'scope, 'env>(
        &'env self,
        socket: &'env Arc<Socket>,
        scope: &'scope Scope<'scope, 'env>,
    ) {
        // Who breaks the rules, or goes in the middle of something, is not worth a word.
        if let Ok(Some((agreed, socket))) = self.shake_hands(socket, scope) {
            Transmission::new(&self.export, agreed, &socket).run();
            socket.end(Shutdown::Both);
        }
        socket.end(Shutdown::Both);
    }

    /// Returns what was agreed on, and where requests come from: the socket itself, or the end of one
    /// that another thread decrypts for.
    fn shake_hands<'scope, 'env>(
        &'env self,
        socket: &'env Arc<Socket>,
        scope: &'scope Scope<'scope, 'env>,
    ) -> io::Result<Option<(Agreed, Arc<Socket>)>> {
        let deadline = Instant::now() + self.handshake_limit;
        let mut stream = Hurried::new(socket, deadline);
        let Some(flags) = negotiation::greet(&mut stream)? else { return Ok(None) };
        let wanted = if self.tls.is_some() { Tls::Wanted } else { Tls::None };
        let mut first = Negotiation::new(&self.export, wanted, flags);
        let end = negotiation::run(&mut first, &mut stream)?;
        stream.relax()?;
        match (end, &self.tls) {
            (End::Transmission(agreed), _) => Ok(Some((agreed, Arc::clone(socket)))),
            (End::Tls, Some(config)) => {
                let (ours, theirs) = UnixStream::pair()?;
                let config = Arc::clone(config);
                let thread = Builder::new().name("nbd-tls".to_owned()).stack_size(TLS_STACK);
                thread.spawn_scoped(scope, move || tls::carry(config, socket, theirs, deadline))?;
                // Nothing that was agreed on in the clear counts.
                let ours = Arc::new(Socket::new(ours));
                let mut stream = Hurried::new(&ours, deadline);
                let mut second = Negotiation::new(&self.export, Tls::Active, flags);
                let end = negotiation::run(&mut second, &mut stream);
                let relaxed = stream.relax();
                match (end, relaxed) {
                    (Ok(End::Transmission(agreed)), Ok(())) => Ok(Some((agreed, ours))),
                    _ => {
                        ours.end(Shutdown::Both);
                        Ok(None)
                    }
                }
            }
            _ => Ok(None),
        }
    }

    /// Takes a connection among those that are ended with the server. There may be too many.
    fn admit(&self, socket: &Arc<Socket>) -> bool {
        let mut connections = self.connections();
        let admitted = !connections.closing && connections.open.len() < MOST_CONNECTIONS;
        if admitted {
            connections.open.push(Arc::clone(socket));
        }
        admitted
    }

    fn dismiss(&self, socket: &Arc<Socket>) {
        self.connections().open.retain(|open| !Arc::ptr_eq(open, socket));
        self.fewer.notify_all();
    }

    /// Ends all connections: they may finish what they have been asked for, within a limit.
    fn close(&self) {
        let mut connections = self.connections();
        connections.closing = true;
        for socket in &connections.open {
            socket.end(Shutdown::Read);
        }
        let deadline = Instant::now() + CLOSING_LIMIT;
        while !connections.open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // They do not take our replies.
                for socket in &connections.open {
                    socket.end(Shutdown::Both);
                }
                return;
            }
            let waited = self.fewer.wait_timeout(connections, left);
            connections = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.connections().open.is_empty()
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a client may take until it sends requests.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// How long clients have to take the replies to what they have asked for when the server ends.
const CLOSING_LIMIT: Duration = Duration::from_secs(10);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many clients there may be at once; who comes after them is sent away.
const MOST_CONNECTIONS: usize = 64;

const STACK: usize = 256 << 10;

/// TLS takes more of it, for certificates.
const TLS_STACK: usize = 1 << 20;
