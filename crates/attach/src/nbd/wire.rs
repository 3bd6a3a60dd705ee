//! The bytes of the protocol (NetworkBlockDevice/nbd, `doc/proto.md`). All numbers are big-endian.
//!
//! Nothing here does I/O, and nothing that a client sends takes more than a pass over it.

/// What the server says first, with the flags that follow the two magics.
pub(super) fn greeting() -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..8].copy_from_slice(b"NBDMAGIC");
    bytes[8..16].copy_from_slice(OPTION_MAGIC);
    bytes[16..].copy_from_slice(&(HANDSHAKE_FIXED | HANDSHAKE_NO_ZEROES).to_be_bytes());
    bytes
}

/// What a client says to the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientFlags {
    /// It does not want the 124 zeros behind the answer to `NBD_OPT_EXPORT_NAME`.
    pub(super) no_zeroes: bool,
}

impl ClientFlags {
    /// Reads them; `None` from a client that does not speak the fixed newstyle, or that says something
    /// else that is unknown.
    pub(super) fn parse(bytes: [u8; 4]) -> Option<Self> {
        let flags = u32::from_be_bytes(bytes);
        let known = u32::from(HANDSHAKE_FIXED | HANDSHAKE_NO_ZEROES);
        let is_fixed = flags & u32::from(HANDSHAKE_FIXED) != 0;
        (is_fixed && flags & !known == 0)
            .then_some(Self { no_zeroes: flags & u32::from(HANDSHAKE_NO_ZEROES) != 0 })
    }
}

/// The head of an option: which, and the length of its data in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OptionHead {
    pub(super) option: u32,
    pub(super) len: u32,
}

impl OptionHead {
    /// How many bytes it has.
    pub(super) const LEN: usize = 16;

    /// Reads it; `None` when it has not the right magic.
    pub(super) fn parse(bytes: [u8; Self::LEN]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (option, rest) = take_u32(rest)?;
        let (len, _) = take_u32(rest)?;
        (magic == OPTION_MAGIC).then_some(Self { option, len })
    }
}

/// The data of `NBD_OPT_INFO` and `NBD_OPT_GO`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InfoRequest<'a> {
    pub(super) name: &'a [u8],
    /// What it wants to know, two bytes each.
    infos: &'a [u8],
}

impl<'a> InfoRequest<'a> {
    /// Reads it; `None` when its lengths contradict each other.
    pub(super) fn parse(data: &'a [u8]) -> Option<Self> {
        let (name, rest) = take_string(data)?;
        let (count, infos) = rest.split_first_chunk()?;
        let is_whole = infos.len() == usize::from(u16::from_be_bytes(*count)) * 2;
        is_whole.then_some(Self { name, infos })
    }

    /// Returns whether it wants to know `info`.
    pub(super) fn wants(&self, info: u16) -> bool {
        self.infos.chunks_exact(2).any(|bytes| *bytes == info.to_be_bytes())
    }
}

/// The data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextRequest<'a> {
    pub(super) name: &'a [u8],
    pub(super) queries: Vec<&'a [u8]>,
}

impl<'a> ContextRequest<'a> {
    /// Reads it; `None` when its lengths contradict each other.
    pub(super) fn parse(data: &'a [u8]) -> Option<Self> {
        let (name, rest) = take_string(data)?;
        let (count, mut rest) = take_u32(rest)?;
        let mut queries = Vec::new();
        for _ in 0..count {
            let (query, next) = take_string(rest)?;
            queries.push(query);
            rest = next;
        }
        rest.is_empty().then_some(Self { name, queries })
    }
}

/// Adds a reply to an option.
pub(super) fn option_reply(replies: &mut Vec<u8>, option: u32, reply: u32, data: &[&[u8]]) {
    let len: usize = data.iter().map(|part| part.len()).sum();
    replies.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    replies.extend_from_slice(&option.to_be_bytes());
    replies.extend_from_slice(&reply.to_be_bytes());
    replies.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    for part in data {
        replies.extend_from_slice(part);
    }
}

/// What a client asks for once the handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) flags: u16,
    pub(super) command: u16,
    /// The client's name for this request, which the reply repeats.
    pub(super) cookie: [u8; 8],
    pub(super) offset: u64,
    pub(super) len: u32,
}

impl Request {
    /// How many bytes it has, without the data of a write.
    pub(super) const LEN: usize = 28;

    /// Reads it; `None` when it has not the right magic, and nobody knows where the next one begins.
    pub(super) fn parse(bytes: [u8; Self::LEN]) -> Option<Self> {
        let (magic, rest) = take_u32(&bytes)?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (command, rest) = rest.split_first_chunk()?;
        let (cookie, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (len, _) = take_u32(rest)?;
        (magic == REQUEST_MAGIC).then_some(Self {
            flags: u16::from_be_bytes(*flags),
            command: u16::from_be_bytes(*command),
            cookie: *cookie,
            offset: u64::from_be_bytes(*offset),
            len,
        })
    }
}

/// The head of a reply, of whichever kind; what follows it comes from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplyHead {
    bytes: [u8; 28],
    len: u8,
}

impl ReplyHead {
    /// Returns the whole of a simple reply that has no data, or its head.
    pub(super) fn simple(cookie: [u8; 8], error: u32) -> Self {
        let mut head = Self::nothing();
        head.push(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        head.push(&error.to_be_bytes());
        head.push(&cookie);
        head
    }

    /// Returns no head at all, for data that continues a reply.
    pub(super) fn nothing() -> Self {
        Self { bytes: [0; 28], len: 0 }
    }

    /// Returns the head of a chunk of `len` bytes.
    fn chunk(cookie: [u8; 8], is_last: bool, kind: u16, len: u32) -> Self {
        let mut head = Self::nothing();
        head.push(&CHUNK_MAGIC.to_be_bytes());
        head.push(&u16::from(is_last).to_be_bytes());
        head.push(&kind.to_be_bytes());
        head.push(&cookie);
        head.push(&len.to_be_bytes());
        head
    }

    /// Returns the head of a chunk with `len` bytes of the disk from `offset` on.
    pub(super) fn data(cookie: [u8; 8], is_last: bool, offset: u64, len: u32) -> Self {
        let mut head = Self::chunk(cookie, is_last, CHUNK_DATA, len.saturating_add(8));
        head.push(&offset.to_be_bytes());
        head
    }

    /// Returns the head of a chunk with `count` extents of the context `id`.
    pub(super) fn block_status(cookie: [u8; 8], id: u32, count: u32) -> Self {
        let len = count.saturating_mul(8).saturating_add(4);
        let mut head = Self::chunk(cookie, true, CHUNK_BLOCK_STATUS, len);
        head.push(&id.to_be_bytes());
        head
    }

    /// Returns a chunk that says why a request failed, without words.
    pub(super) fn error(cookie: [u8; 8], error: u32) -> Self {
        let mut head = Self::chunk(cookie, true, CHUNK_ERROR, 6);
        head.push(&error.to_be_bytes());
        head.push(&0_u16.to_be_bytes());
        head
    }

    /// Returns the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// Takes a string that has its length in front.
fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = take_u32(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

const HANDSHAKE_FIXED: u16 = 1;
const HANDSHAKE_NO_ZEROES: u16 = 2;

pub(super) const OPT_EXPORT_NAME: u32 = 1;
pub(super) const OPT_ABORT: u32 = 2;
pub(super) const OPT_LIST: u32 = 3;
pub(super) const OPT_STARTTLS: u32 = 5;
pub(super) const OPT_INFO: u32 = 6;
pub(super) const OPT_GO: u32 = 7;
pub(super) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(super) const OPT_LIST_META_CONTEXT: u32 = 9;
pub(super) const OPT_SET_META_CONTEXT: u32 = 10;

pub(super) const REP_ACK: u32 = 1;
pub(super) const REP_SERVER: u32 = 2;
pub(super) const REP_INFO: u32 = 3;
pub(super) const REP_META_CONTEXT: u32 = 4;
pub(super) const REP_ERR_UNSUP: u32 = 1 << 31 | 1;
pub(super) const REP_ERR_POLICY: u32 = 1 << 31 | 2;
pub(super) const REP_ERR_INVALID: u32 = 1 << 31 | 3;
pub(super) const REP_ERR_TLS_REQD: u32 = 1 << 31 | 5;
pub(super) const REP_ERR_UNKNOWN: u32 = 1 << 31 | 6;
pub(super) const REP_ERR_TOO_BIG: u32 = 1 << 31 | 9;

pub(super) const INFO_EXPORT: u16 = 0;
pub(super) const INFO_NAME: u16 = 1;
pub(super) const INFO_BLOCK_SIZE: u16 = 3;

pub(super) const FLAG_HAS_FLAGS: u16 = 1 << 0;
pub(super) const FLAG_READ_ONLY: u16 = 1 << 1;
pub(super) const FLAG_SEND_FLUSH: u16 = 1 << 2;
pub(super) const FLAG_SEND_FUA: u16 = 1 << 3;
pub(super) const FLAG_SEND_TRIM: u16 = 1 << 5;
pub(super) const FLAG_SEND_WRITE_ZEROES: u16 = 1 << 6;
pub(super) const FLAG_SEND_DF: u16 = 1 << 7;
pub(super) const FLAG_CAN_MULTI_CONN: u16 = 1 << 8;
pub(super) const FLAG_SEND_FAST_ZERO: u16 = 1 << 11;

pub(super) const CMD_READ: u16 = 0;
pub(super) const CMD_WRITE: u16 = 1;
pub(super) const CMD_DISC: u16 = 2;
pub(super) const CMD_FLUSH: u16 = 3;
pub(super) const CMD_TRIM: u16 = 4;
pub(super) const CMD_WRITE_ZEROES: u16 = 6;
pub(super) const CMD_BLOCK_STATUS: u16 = 7;

pub(super) const CMD_FLAG_FUA: u16 = 1 << 0;
pub(super) const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
pub(super) const CMD_FLAG_DF: u16 = 1 << 2;
pub(super) const CMD_FLAG_REQ_ONE: u16 = 1 << 3;
pub(super) const CMD_FLAG_FAST_ZERO: u16 = 1 << 4;

const CHUNK_DATA: u16 = 1;
const CHUNK_BLOCK_STATUS: u16 = 5;
const CHUNK_ERROR: u16 = 1 << 15 | 1;

pub(super) const EPERM: u32 = 1;
pub(super) const EIO: u32 = 5;
pub(super) const EINVAL: u32 = 22;
pub(super) const ENOSPC: u32 = 28;
pub(super) const EOVERFLOW: u32 = 75;
pub(super) const ENOTSUP: u32 = 95;

pub(super) const STATE_HOLE: u32 = 1;
pub(super) const STATE_ZERO: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_flags_that_are_unknown_are_refused() {
        assert_eq!(ClientFlags::parse([0, 0, 0, 1]), Some(ClientFlags { no_zeroes: false }));
        assert_eq!(ClientFlags::parse([0, 0, 0, 3]), Some(ClientFlags { no_zeroes: true }));
        for bad in [[0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 5], [1, 0, 0, 3]] {
            assert_eq!(ClientFlags::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let good = b"\0\0\0\x02ab\0\x01\0\x03";
        let request = InfoRequest::parse(good).unwrap();
        assert_eq!(request.name, b"ab");
        assert!(request.wants(INFO_BLOCK_SIZE) && !request.wants(INFO_NAME));
        for len in 0..good.len() {
            assert_eq!(InfoRequest::parse(&good[..len]), None, "{len} bytes");
        }
        assert_eq!(InfoRequest::parse(b"\0\0\0\0\0\0more"), None);
        assert_eq!(InfoRequest::parse(b"\xff\xff\xff\xffab\0\0"), None);
    }

    #[test]
    fn context_queries_end_with_the_data() {
        let good = b"\0\0\0\0\0\0\0\x02\0\0\0\x01x\0\0\0\0";
        assert_eq!(ContextRequest::parse(good).unwrap().queries, [&b"x"[..], b""]);
        for len in 0..good.len() {
            assert_eq!(ContextRequest::parse(&good[..len]), None, "{len} bytes");
        }
        assert_eq!(ContextRequest::parse(b"\0\0\0\0\xff\xff\xff\xff"), None);
    }

    #[test]
    fn a_request_reads_back() {
        let bytes = b"\x25\x60\x95\x13\0\x01\0\x06cookies!\0\0\0\0\0\0\x10\0\0\0\x02\0";
        let request = Request::parse(*bytes).unwrap();
        assert_eq!((request.flags, request.command), (CMD_FLAG_FUA, CMD_WRITE_ZEROES));
        assert_eq!((request.cookie, request.offset, request.len), (*b"cookies!", 4096, 512));
        let mut bad = *bytes;
        bad[3] ^= 1;
        assert_eq!(Request::parse(bad), None);
    }

    #[test]
    fn the_longest_head_of_a_reply_fits() {
        assert_eq!(ReplyHead::data([0; 8], true, 0, 1).bytes().len(), 28);
        assert_eq!(ReplyHead::error([0; 8], EIO).bytes().len(), 26);
        assert_eq!(ReplyHead::block_status([0; 8], 1, 1).bytes().len(), 24);
        assert_eq!(ReplyHead::simple([0; 8], 0).bytes().len(), 16);
    }
}
