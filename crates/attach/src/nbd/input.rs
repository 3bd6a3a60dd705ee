//! What has come in on a connection.

use std::io;

use super::socket::Socket;
use super::wire::Request;

/// Bytes that were read ahead: several small requests come with one system call.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; AHEAD].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Returns whether so many bytes are here.
    pub(super) fn has(&self, len: usize) -> bool {
        self.end - self.start >= len
    }

    /// Returns the head of the next request, which stays there until it is [skipped](Self::skip_head);
    /// `None` when the client has gone between two.
    pub(super) fn head(&mut self, socket: &Socket) -> io::Result<Option<[u8; Request::LEN]>> {
        while !self.has(Request::LEN) {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match socket.receive(&mut self.buffer[self.end..])? {
                0 if self.end == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.end += len,
            }
        }
        let mut head = [0; Request::LEN];
        head.copy_from_slice(&self.buffer[self.start..self.start + Request::LEN]);
        Ok(Some(head))
    }

    /// Goes on to what follows the head.
    ///
    /// # Assumptions
    ///
    /// [`head`](Self::head) has returned one.
    pub(super) fn skip_head(&mut self) {
        self.start += Request::LEN;
    }

    /// Fills `data` with what comes next.
    pub(super) fn take(&mut self, socket: &Socket, data: &mut [u8]) -> io::Result<()> {
        let here = (self.end - self.start).min(data.len());
        let (first, rest) = data.split_at_mut(here);
        first.copy_from_slice(&self.buffer[self.start..self.start + here]);
        self.start += here;
        socket.receive_exact(rest)
    }
}

/// How many bytes are read ahead. Small, since what is read ahead of a large write is copied.
const AHEAD: usize = 64 << 10;
