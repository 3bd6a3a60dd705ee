//! A client of NBD that costs little itself: requests that can be sent together are, and replies that
//! come together are read together.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::error::Error;

/// What is asked of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) kind: Kind,
    /// The bytes of a request.
    pub(crate) block: u32,
    /// How many are under way.
    pub(crate) depth: usize,
    /// Whether there is a target for it.
    pub(crate) is_bound: bool,
}

/// What a load does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads anywhere.
    RandomReads,
    /// Writes anywhere.
    RandomWrites,
    /// Reads one behind the other.
    Reads,
    /// Writes one behind the other.
    Writes,
}

/// A connection.
pub(crate) struct Client {
    replies: BufReader<UnixStream>,
    requests: UnixStream,
    /// The process at the other end.
    pub(crate) server: i32,
    len: u64,
    random: u64,
    scratch: Vec<u8>,
}

impl Client {
    /// Connects and agrees on simple replies.
    pub(crate) fn connect(socket: &Path) -> Result<Self, Error> {
        Self::shake_hands(socket).map_err(Error::system(&socket.display()))
    }

    fn shake_hands(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        let server = getsockopt(&stream, PeerCredentials)?.pid();
        stream.read_exact(&mut [0; 18])?;
        // No zeros, and the default export in the old way.
        stream.write_all(&[0, 0, 0, 3])?;
        stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0")?;
        let mut export = [0; 10];
        stream.read_exact(&mut export)?;
        let (len, _) = export.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            requests: stream.try_clone()?,
            replies: BufReader::with_capacity(256 << 10, stream),
            server,
            len: u64::from_be_bytes(*len),
            random: 0x9e37_79b9_7f4a_7c15,
            scratch: vec![0x5a; 1 << 20],
        })
    }

    /// Writes the whole disk once.
    pub(crate) fn fill(&mut self) -> Result<(), Error> {
        let end = self.len;
        self.filled(end).map_err(Error::system(&"the NBD connection"))
    }

    fn filled(&mut self, end: u64) -> io::Result<()> {
        for offset in (0..end).step_by(1 << 20) {
            let len = (end - offset).min(1 << 20) as u32;
            let mut batch = Vec::new();
            self.push(&mut batch, true, offset, len);
            self.requests.write_all(&batch)?;
            self.reply(0)?;
        }
        Ok(())
    }

    /// Reads a range.
    pub(crate) fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Error> {
        let mut batch = Vec::new();
        self.push(&mut batch, false, offset, len);
        self.requests
            .write_all(&batch)
            .and_then(|()| self.reply(len as usize))
            .map_err(Error::system(&"the NBD connection"))?;
        Ok(self.scratch[..len as usize].to_vec())
    }

    /// Keeps a load up for a while and returns how many requests were replied to.
    pub(crate) fn load(&mut self, load: Load, window: Duration, len: u64) -> Result<u64, Error> {
        self.keep_up(load, window, len).map_err(Error::system(&"the NBD connection"))
    }

    fn keep_up(&mut self, load: Load, window: Duration, len: u64) -> io::Result<u64> {
        let writes = matches!(load.kind, Kind::RandomWrites | Kind::Writes);
        let is_random = matches!(load.kind, Kind::RandomReads | Kind::RandomWrites);
        let data = if writes { 0 } else { load.block as usize };
        let blocks = len / u64::from(load.block);
        let (mut done, mut next, mut under_way) = (0, 0, 0);
        let end = Instant::now() + window;
        let mut batch = Vec::new();
        loop {
            let is_over = Instant::now() >= end;
            batch.clear();
            while !is_over && under_way < load.depth {
                next = if is_random { self.next_random() } else { next + 1 };
                self.push(&mut batch, writes, next % blocks * u64::from(load.block), load.block);
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(done);
            }
            self.requests.write_all(&batch)?;
            // One that has to be waited for, and those that have come with it.
            self.reply(data)?;
            (done, under_way) = (done + 1, under_way - 1);
            while under_way > 0 && self.replies.buffer().len() >= 16 + data {
                self.reply(data)?;
                (done, under_way) = (done + 1, under_way - 1);
            }
        }
    }

    fn push(&self, batch: &mut Vec<u8>, writes: bool, offset: u64, len: u32) {
        batch.extend_from_slice(&[0x25, 0x60, 0x95, 0x13, 0, 0, 0, u8::from(writes)]);
        batch.extend_from_slice(&[0; 8]);
        batch.extend_from_slice(&offset.to_be_bytes());
        batch.extend_from_slice(&len.to_be_bytes());
        if writes {
            batch.extend_from_slice(&self.scratch[..len as usize]);
        }
    }

    /// Reads a reply with so many bytes of data.
    fn reply(&mut self, data: usize) -> io::Result<()> {
        let mut head = [0; 16];
        self.replies.fill_buf()?;
        self.replies.read_exact(&mut head)?;
        if head[..8] != [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0] {
            return Err(io::Error::other("the server refuses a request"));
        }
        self.replies.read_exact(&mut self.scratch[..data])
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
