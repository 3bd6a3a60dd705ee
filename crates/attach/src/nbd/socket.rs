//! A connection as a socket that several threads use.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown,
};

/// A stream socket. Reads and writes take `&self`: whoever reads and whoever writes take care that
/// they are alone in that.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn new(socket: impl Into<OwnedFd>) -> Self {
        Self(socket.into())
    }

    /// Reads what there is, at least a byte; 0 at the end.
    pub(super) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.0, &mut *buf, RecvFlags::empty()) {
                Ok((len, _)) => return Ok(len),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Fills the buffer.
    pub(super) fn receive_exact(&self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.receive(buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => buf = &mut buf[len..],
            }
        }
        Ok(())
    }

    /// Writes what there is room for, at least a byte.
    pub(super) fn send_some(&self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match send(&self.0, buf, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes as many of these as there is room for, and leaves the rest in `slices`.
    pub(super) fn send_without_waiting(&self, slices: &mut &mut [IoSlice<'_>]) -> io::Result<()> {
        while !slices.is_empty() {
            let mut nothing = SendAncillaryBuffer::default();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.0, slices, &mut nothing, flags) {
                Ok(len) => IoSlice::advance_slices(slices, len),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Writes all of these.
    pub(super) fn send_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !slices.is_empty() {
            let mut nothing = SendAncillaryBuffer::default();
            match sendmsg(&self.0, slices, &mut nothing, SendFlags::NOSIGNAL) {
                Ok(len) => IoSlice::advance_slices(&mut slices, len),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Ends the connection, or a half of it. One that has ended already is fine.
    pub(super) fn end(&self, which: Shutdown) {
        // There is nothing else to do to a connection that cannot even be ended.
        let _ = shutdown(&self.0, which);
    }

    fn limit(&self, which: Timeout, limit: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, which, limit)?)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that has to be done with something by some time, however slowly its bytes come.
#[derive(Debug)]
pub(super) struct Hurried<'a> {
    socket: &'a Socket,
    deadline: Instant,
}

impl<'a> Hurried<'a> {
    pub(super) fn new(socket: &'a Socket, deadline: Instant) -> Self {
        Self { socket, deadline }
    }

    /// Lets the socket take its time again.
    pub(super) fn relax(self) -> io::Result<()> {
        self.socket.limit(Timeout::Recv, None)?;
        self.socket.limit(Timeout::Send, None)
    }

    fn limit(&self, which: Timeout) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left < SHORTEST_WAIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.limit(which, Some(left))
    }
}

impl Read for Hurried<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.limit(Timeout::Recv)?;
        self.socket.receive(buf)
    }
}

impl Write for Hurried<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.limit(Timeout::Send)?;
        self.socket.send_all(&mut [IoSlice::new(buf)])?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// No wait at all would mean to wait for ever.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
