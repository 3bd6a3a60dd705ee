//! What the kernel and a file system in user space say to each other: `linux/fuse.h`, version 7.
//!
//! There is one inode, the root, which is a regular file. So there are no names, no lookups, and
//! nothing that a server would have to remember for the kernel.

/// What the kernel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Agree on a version and abilities.
    Init(Abilities),
    /// Tell length, mode and owner.
    Attributes,
    /// Change them; the length, if that is what is asked for.
    Change {
        /// The new length in bytes.
        len: Option<u64>,
    },
    /// Open the file.
    Open {
        /// Whether it may be written.
        write: bool,
    },
    /// Read.
    Read(Span),
    /// Write what follows the request.
    Write(Span),
    /// Make durable.
    Sync,
    /// Tell how full the file system is.
    Statistics,
    /// Allocate, or punch a hole.
    Allocate,
    /// Something that needs nothing to be done.
    Nothing,
    /// Something to which there is no answer.
    Silent,
    /// Anything else.
    Unknown,
}

/// A range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// In bytes.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) len: usize,
}

/// What the kernel says that it is able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    major: u32,
    minor: u32,
    readahead: u32,
    flags: u64,
}

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    /// In bytes.
    pub(super) len: u64,
    /// Type and permissions.
    pub(super) mode: u32,
    /// The owner.
    pub(super) user: u32,
    /// The group.
    pub(super) group: u32,
}

/// The head of every request, and the number that its answer bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parsed {
    /// To be repeated as it is: the topmost bit says that the request was sent before.
    pub(super) unique: u64,
    /// What is asked for.
    pub(super) request: Request,
}

impl Parsed {
    /// Understands the first [`HEAD`] bytes of a request of `len` bytes; `None` when the kernel has
    /// not said what it says.
    pub(super) fn of(head: &[u8; HEAD], len: usize) -> Option<Self> {
        let told = u32_at(head, 0) as usize;
        if len < REQUEST_HEADER || told != len {
            return None;
        }
        let argument = REQUEST_HEADER;
        let span = || Span {
            offset: u64_at(head, argument + 8),
            len: u32_at(head, argument + 16) as usize,
        };
        let request = match u32_at(head, 4) {
            INIT => Request::Init(Abilities {
                major: u32_at(head, argument),
                minor: u32_at(head, argument + 4),
                readahead: u32_at(head, argument + 8),
                flags: u64::from(u32_at(head, argument + 12))
                    | u64::from(u32_at(head, argument + 16)) << 32,
            }),
            GETATTR => Request::Attributes,
            SETATTR => {
                let changes_length = u32_at(head, argument) & SETATTR_SIZE != 0;
                Request::Change { len: changes_length.then(|| u64_at(head, argument + 16)) }
            }
            OPEN => Request::Open { write: u32_at(head, argument) & ACCESS_MODE != 0 },
            READ => Request::Read(span()),
            WRITE => {
                let span = span();
                if len != HEAD + span.len {
                    return None;
                }
                Request::Write(span)
            }
            FSYNC => Request::Sync,
            STATFS => Request::Statistics,
            FALLOCATE => Request::Allocate,
            RELEASE | FLUSH | ACCESS | DESTROY => Request::Nothing,
            FORGET | BATCH_FORGET => Request::Silent,
            _ => Request::Unknown,
        };
        Some(Self { unique: u64_at(head, 8), request })
    }
}

impl Abilities {
    /// Returns whether the kernel sends again what a dead server has taken, when it is asked to
    /// (Linux 6.9).
    pub(super) fn can_resend(self) -> bool {
        self.flags & HAS_RESEND != 0
    }

    /// Returns what is agreed on; `None` when the kernel speaks another version.
    pub(super) fn answer(self) -> Option<Vec<u8>> {
        if self.major != 7 || self.minor < LEAST_MINOR {
            return None;
        }
        let flags = self.flags & WANTED;
        let mut answer = Bytes::default();
        answer
            .u32(7)
            .u32(self.minor.min(MINOR))
            .u32(self.readahead.min(PAYLOAD as u32))
            .u32(flags as u32)
            .u16(BACKGROUND)
            .u16(BACKGROUND / 4 * 3)
            .u32(PAYLOAD as u32)
            // Times in nanoseconds.
            .u32(1)
            .u16((PAYLOAD / PAGE) as u16)
            .u16(0)
            .u32((flags >> 32) as u32);
        answer.0.resize(INIT_ANSWER, 0);
        Some(answer.0)
    }
}

impl Attributes {
    /// Returns them as they are told. They hold for no time at all: a file that has grown is seen at
    /// the next look.
    pub(super) fn answer(self) -> Vec<u8> {
        let mut answer = Bytes::default();
        // For how long they hold; inode; length; blocks; three times.
        answer.u64(0).u64(0).u64(ROOT).u64(self.len).u64(self.len.div_ceil(512));
        answer.u64(0).u64(0).u64(0).u32(0).u32(0).u32(0);
        answer.u32(self.mode).u32(1).u32(self.user).u32(self.group);
        answer.u32(0).u32(PAGE as u32).u32(0);
        answer.0
    }
}

/// Returns the answer to an opening: what is cached stays, nobody needs to know of a closing, and
/// writes that go past the cache go side by side.
pub(super) fn opened() -> Vec<u8> {
    let mut answer = Bytes::default();
    answer.u64(0).u32(KEEP_CACHE | NO_FLUSH | PARALLEL_DIRECT_WRITES).u32(0);
    answer.0
}

/// Returns the answer to a write of so many bytes.
pub(super) fn written(len: usize) -> Vec<u8> {
    let mut answer = Bytes::default();
    answer.u32(len as u32).u32(0);
    answer.0
}

/// Returns the answer that there is nothing to tell about a file system of one file.
pub(super) fn statistics() -> Vec<u8> {
    vec![0; STATFS_ANSWER]
}

/// Returns the head of an answer: to which request, with which error number (zero for none), and how
/// many bytes follow.
pub(super) fn answer_head(unique: u64, errno: i32, len: usize) -> [u8; ANSWER_HEADER] {
    let mut head = [0; ANSWER_HEADER];
    head[..4].copy_from_slice(&((ANSWER_HEADER + len) as u32).to_ne_bytes());
    head[4..8].copy_from_slice(&(-errno).to_ne_bytes());
    head[8..].copy_from_slice(&unique.to_ne_bytes());
    head
}

/// Returns the message by which the kernel is asked to send again what was not answered.
pub(super) fn resend() -> [u8; ANSWER_HEADER] {
    answer_head(0, -NOTIFY_RESEND, 0)
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }
}

fn u32_at(head: &[u8; HEAD], at: usize) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|byte| head[at + byte]))
}

fn u64_at(head: &[u8; HEAD], at: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|byte| head[at + byte]))
}

/// The bytes before the data of a write: the header of every request and the arguments of this one.
/// What is asked of the other requests lies there too, as far as it matters.
pub(super) const HEAD: usize = REQUEST_HEADER + 40;

/// The most bytes that are read or written by one request.
pub(super) const PAYLOAD: usize = 1 << 20;

const REQUEST_HEADER: usize = 40;
const ANSWER_HEADER: usize = 16;
const INIT_ANSWER: usize = 64;
const STATFS_ANSWER: usize = 80;
const PAGE: usize = 4096;
const ROOT: u64 = 1;

/// The version that this file is about.
const MINOR: u32 = 45;

/// The first version in which all that is used here looks as it does here: Linux 4.20.
const LEAST_MINOR: u32 = 28;

/// How many requests that nobody waits for may be under way.
const BACKGROUND: u16 = 64;

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const ACCESS: u32 = 34;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;
const FALLOCATE: u32 = 43;

const SETATTR_SIZE: u32 = 1 << 3;

/// Of the flags of `open`: anything but reading.
const ACCESS_MODE: u32 = 3;

const KEEP_CACHE: u32 = 1 << 1;
const NO_FLUSH: u32 = 1 << 5;
const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

const NOTIFY_RESEND: i32 = 7;

const ASYNC_READ: u64 = 1;
const BIG_WRITES: u64 = 1 << 5;
const ASYNC_DIO: u64 = 1 << 15;
const MAX_PAGES: u64 = 1 << 22;
const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
const INIT_EXT: u64 = 1 << 30;
const HAS_RESEND: u64 = 1 << 39;
const WANTED: u64 =
    ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES | EXPLICIT_INVAL_DATA | INIT_EXT | HAS_RESEND;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(opcode: u32, len: usize, argument: &[u8]) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        head[4..8].copy_from_slice(&opcode.to_ne_bytes());
        head[8..16].copy_from_slice(&(5_u64 | 1 << 63).to_ne_bytes());
        head[REQUEST_HEADER..REQUEST_HEADER + argument.len()].copy_from_slice(argument);
        head
    }

    #[test]
    fn understands_a_write_and_keeps_its_number_as_it_is() {
        let mut argument = Bytes::default();
        argument.u64(0).u64(8192).u32(512);
        let head = head(WRITE, HEAD + 512, &argument.0);
        let parsed = Parsed::of(&head, HEAD + 512).unwrap();
        assert_eq!(parsed.unique, 5 | 1 << 63);
        assert_eq!(parsed.request, Request::Write(Span { offset: 8192, len: 512 }));
        assert_eq!(Parsed::of(&head, HEAD + 511), None, "bytes are missing");
    }

    #[test]
    fn a_write_that_claims_more_than_it_brings_is_refused() {
        let mut argument = Bytes::default();
        argument.u64(0).u64(0).u32(4096);
        assert_eq!(Parsed::of(&head(WRITE, HEAD + 512, &argument.0), HEAD + 512), None);
    }

    #[test]
    fn only_a_change_of_length_changes_the_length() {
        let mut argument = Bytes::default();
        argument.u32(SETATTR_SIZE).u32(0).u64(0).u64(4096);
        let change =
            |argument: &[u8]| Parsed::of(&head(SETATTR, 128, argument), 128).unwrap().request;
        assert_eq!(change(&argument.0), Request::Change { len: Some(4096) });
        argument.0[0] = 1;
        assert_eq!(change(&argument.0), Request::Change { len: None });
    }

    #[test]
    fn agrees_on_what_both_can_do() {
        let abilities =
            Abilities { major: 7, minor: 40, readahead: 4096, flags: ASYNC_READ | HAS_RESEND | 2 };
        let answer = abilities.answer().unwrap();
        assert_eq!(answer.len(), 64);
        assert_eq!(answer[4], 40);
        assert_eq!(u32::from_ne_bytes(answer[12..16].try_into().unwrap()), 1);
        assert_eq!(u32::from_ne_bytes(answer[32..36].try_into().unwrap()), 1 << 7);
        assert!(abilities.can_resend());
        assert_eq!(Abilities { minor: 20, ..abilities }.answer(), None);
    }

    #[test]
    fn an_error_is_told_as_the_kernel_counts_them() {
        let head = answer_head(9, 5, 0);
        assert_eq!(i32::from_ne_bytes(head[4..8].try_into().unwrap()), -5);
        assert_eq!(i32::from_ne_bytes(resend()[4..8].try_into().unwrap()), 7);
    }
}
