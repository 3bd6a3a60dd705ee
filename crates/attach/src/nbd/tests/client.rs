//! A client that does as it is told, well or badly.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::nbd::wire::*;

/// What is asked of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Simple,
    Structured,
}

pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) style: Style,
    pub(super) len: u64,
    pub(super) flags: u16,
}

/// A reply, put together.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) cookie: u64,
    pub(super) error: u32,
    /// Where it begins on the disk, and the bytes.
    pub(super) data: Vec<(u64, Vec<u8>)>,
    /// Lengths and states.
    pub(super) extents: Vec<(u32, u32)>,
    is_done: bool,
}

impl Client {
    /// Greets a server, and does no more.
    pub(super) fn greet(mut stream: UnixStream) -> Self {
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, *b"NBDMAGICIHAVEOPT\0\x03");
        stream.write_all(&[0, 0, 0, 3]).unwrap();
        Self { stream, style: Style::Simple, len: 0, flags: 0 }
    }

    pub(super) fn connect(stream: UnixStream, style: Style) -> Self {
        let mut client = Self::greet(stream);
        client.style = style;
        if style == Style::Structured {
            assert_eq!(client.option(OPT_STRUCTURED_REPLY, b"").last().unwrap().0, REP_ACK);
            let query = b"\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation";
            assert_eq!(client.option(OPT_SET_META_CONTEXT, query).last().unwrap().0, REP_ACK);
        }
        let replies = client.option(OPT_GO, &[0; 6]);
        assert_eq!(replies.last().unwrap().0, REP_ACK, "{replies:?}");
        let info = &replies[0].1;
        client.len = u64::from_be_bytes(info[2..10].try_into().unwrap());
        client.flags = u16::from_be_bytes(info[10..12].try_into().unwrap());
        client
    }

    /// Sends an option and returns the replies to it.
    pub(super) fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
        self.stream.write_all(&bytes).unwrap();
        let mut replies = Vec::new();
        loop {
            let mut head = [0; 20];
            self.stream.read_exact(&mut head).unwrap();
            assert_eq!(head[8..12], option.to_be_bytes());
            let reply = u32::from_be_bytes(head[12..16].try_into().unwrap());
            let mut data = vec![0; u32::from_be_bytes(head[16..].try_into().unwrap()) as usize];
            self.stream.read_exact(&mut data).unwrap();
            replies.push((reply, data));
            if reply == REP_ACK || reply & 1 << 31 != 0 {
                return replies;
            }
        }
    }

    pub(super) fn send(&mut self, command: u16, flags: u16, cookie: u64, offset: u64, len: u32) {
        self.stream.write_all(&request(command, flags, cookie, offset, len)).unwrap();
    }

    pub(super) fn send_write(&mut self, flags: u16, cookie: u64, offset: u64, data: &[u8]) {
        let mut bytes = request(CMD_WRITE, flags, cookie, offset, data.len() as u32);
        bytes.extend_from_slice(data);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Receives one reply with all its chunks. `len` says how much data a simple reply to the cookie
    /// has. Chunks of others that come in between go to `others`.
    pub(super) fn receive(&mut self, others: &mut Vec<Reply>, len: impl Fn(u64) -> usize) -> Reply {
        loop {
            let mut magic = [0; 4];
            self.stream.read_exact(&mut magic).unwrap();
            let reply = match magic {
                [0x67, 0x44, 0x66, 0x98] => self.simple(&len),
                [0x66, 0x8e, 0x33, 0xef] => self.chunk(others),
                _ => panic!("no reply begins with {magic:x?}"),
            };
            if reply.is_done {
                return reply;
            }
            others.push(reply);
        }
    }

    fn simple(&mut self, len: &impl Fn(u64) -> usize) -> Reply {
        let (error, cookie) = (self.number(4) as u32, self.number(8));
        let mut data = vec![0; if error == 0 { len(cookie) } else { 0 }];
        self.stream.read_exact(&mut data).unwrap();
        let data = if data.is_empty() { Vec::new() } else { vec![(u64::MAX, data)] };
        Reply { cookie, error, data, is_done: true, ..Reply::default() }
    }

    fn chunk(&mut self, others: &mut Vec<Reply>) -> Reply {
        let (flags, kind, cookie, len) =
            (self.number(2), self.number(2), self.number(8), self.number(4) as usize);
        let place = others.iter().position(|reply| reply.cookie == cookie);
        let mut reply = place.map(|place| others.remove(place)).unwrap_or_default();
        reply.cookie = cookie;
        reply.is_done = flags == 1;
        match kind {
            0 => assert_eq!((flags, len), (1, 0)),
            1 => {
                let offset = self.number(8);
                let mut data = vec![0; len - 8];
                self.stream.read_exact(&mut data).unwrap();
                reply.data.push((offset, data));
            }
            5 => {
                assert_eq!(self.number(4), 1);
                for _ in 0..(len - 4) / 8 {
                    let extent = (self.number(4) as u32, self.number(4) as u32);
                    reply.extents.push(extent);
                }
            }
            0x8001 => {
                assert_eq!(len, 6);
                reply.error = self.number(4) as u32;
                assert_eq!(self.number(2), 0);
            }
            _ => panic!("no chunk is of kind {kind}"),
        }
        reply
    }

    fn number(&mut self, len: usize) -> u64 {
        let mut bytes = [0; 8];
        self.stream.read_exact(&mut bytes[8 - len..]).unwrap();
        u64::from_be_bytes(bytes)
    }

    /// Does one thing and returns the error.
    pub(super) fn error_of(&mut self, command: u16, flags: u16, offset: u64, len: u32) -> u32 {
        self.send(command, flags, 7, offset, len);
        let is_read = command == CMD_READ;
        let reply = self.receive(&mut Vec::new(), |_| if is_read { len as usize } else { 0 });
        assert_eq!(reply.cookie, 7);
        reply.error
    }

    /// Returns whether the server has ended the connection.
    pub(super) fn is_over(&mut self) -> bool {
        let limit = std::time::Duration::from_secs(20);
        self.stream.set_read_timeout(Some(limit)).unwrap();
        match self.stream.read(&mut [0; 1]) {
            Ok(len) => len == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

pub(super) fn request(command: u16, flags: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    let mut bytes = vec![0x25, 0x60, 0x95, 0x13];
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes
}
