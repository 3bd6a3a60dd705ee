//! Answers the kernel's requests for the one file.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use strongroom_disk::ErrorKind as DiskError;
use zeroize::Zeroize;

use super::protocol::{self, Abilities, Attributes, HEAD, PAYLOAD, Parsed, Request, Span};
use crate::loop_device::Access;
use crate::plaintext::Plaintext;
use crate::sys::pages::Pages;
use crate::{Error, ErrorKind, Result};

/// The file, and what it shows.
#[derive(Debug)]
pub(super) struct Server {
    plaintext: Plaintext,
    access: Access,
    user: u32,
    group: u32,
}

/// When a server takes the memory for what it is sent.
///
/// A server that is killed while the kernel copies a write into a page that it has never touched makes
/// that write fail: the page cannot be had any more, and the write is not sent to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// Page by page, as long as nobody writes.
    OnDemand,
    /// All of it before anything is received, until nobody asks for a while.
    AtOnce,
}

/// What is answered.
enum Answer {
    /// Nothing at all.
    Silence,
    /// An error.
    Failure(Errno),
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of the buffer.
    Payload(usize),
}

impl Server {
    /// Returns the server of a volume. The file belongs to whoever this process belongs to.
    pub(super) fn new(plaintext: Plaintext, access: Access) -> Self {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        Self { plaintext, access, user: user.as_raw(), group: group.as_raw() }
    }

    /// Takes the kernel's first request, which is about what both are able to do, and returns that.
    pub(super) fn greet(connection: &File) -> Result<Abilities> {
        let failed =
            |source: io::Error| Error::from_io("cannot agree with the kernel's FUSE", source);
        let mut buffer = Pages::new(PAYLOAD).map_err(failed)?;
        let mut head = [0; HEAD];
        let parsed = receive(connection, &mut head, &mut buffer)
            .map_err(failed)?
            .and_then(|len| Parsed::of(&head, len));
        let agreed = match parsed {
            Some(Parsed { unique, request: Request::Init(abilities) }) => {
                abilities.answer().map(|answer| (unique, abilities, answer))
            }
            _ => None,
        };
        let (unique, abilities, answer) = agreed.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the kernel's FUSE is too old")
                .hinted("it has what is needed since Linux 4.20")
        })?;
        send(connection, unique, 0, &answer).map_err(failed)?;
        Ok(abilities)
    }

    /// Answers requests, with a thread for each connection, until the file is unmounted.
    pub(super) fn serve(&self, connections: &[File], memory: Memory) -> Result<()> {
        // It may have grown since the process was forked that this one is a copy of.
        self.plaintext.follow_backing()?;
        let [others @ .., last] = connections else { return Ok(()) };
        std::thread::scope(|scope| {
            for connection in others {
                std::thread::Builder::new()
                    .name("fuse".to_owned())
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || self.answer_all(connection, memory))
                    .map_err(|source| Error::from_io("cannot start a thread", source))?;
            }
            self.answer_all(last, memory);
            Ok(())
        })
    }

    /// Makes everything that was written durable.
    pub(super) fn flush(&self) -> Result<()> {
        match self.access {
            Access::ReadOnly => Ok(()),
            Access::ReadWrite => Ok(self.plaintext.disk().flush()?),
        }
    }

    /// Answers what comes by one connection. A panic ends the process: another one takes over what it
    /// has not answered, which nobody would wait for in vain then.
    fn answer_all(&self, connection: &File, memory: Memory) {
        let answering =
            std::panic::AssertUnwindSafe(|| self.answer_until_unmounted(connection, memory));
        if !matches!(std::panic::catch_unwind(answering), Ok(Ok(()))) {
            std::process::abort();
        }
    }

    fn answer_until_unmounted(&self, connection: &File, mut memory: Memory) -> io::Result<()> {
        let mut head = [0; HEAD];
        let mut buffer = Pages::new(PAYLOAD)?;
        let mut touched = 0;
        if memory == Memory::AtOnce {
            buffer.zeroize();
            touched = PAYLOAD;
        }
        loop {
            if touched > SMALL && !is_asked_within(connection, IDLE)? {
                // Wiped, and given back: few volumes are busy at a time.
                buffer = Pages::new(PAYLOAD)?;
                (touched, memory) = (0, Memory::OnDemand);
            }
            let Some(len) = receive(connection, &mut head, &mut buffer)? else { return Ok(()) };
            // It says of how many bytes a request is, so it never says something else.
            let Some(Parsed { unique, request }) = Parsed::of(&head, len) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let is_write = matches!(request, Request::Write(_));
            let answer = self.answer(request, &mut buffer);
            touched = touched.max(len);
            match answer {
                Answer::Silence => {}
                Answer::Failure(errno) => send(connection, unique, errno.raw_os_error(), &[])?,
                Answer::Bytes(bytes) => send(connection, unique, 0, &bytes)?,
                Answer::Payload(len) => {
                    touched = touched.max(len);
                    send(connection, unique, 0, &buffer[..len])?;
                }
            }
            if is_write && memory == Memory::OnDemand {
                buffer.zeroize();
                (touched, memory) = (PAYLOAD, Memory::AtOnce);
            }
        }
    }

    fn answer(&self, request: Request, buffer: &mut [u8]) -> Answer {
        match request {
            Request::Attributes => self.attributes(),
            Request::Change { len: None } => self.attributes(),
            // The length is the volume's.
            Request::Change { len: Some(len) } if len == self.plaintext.disk().len() => {
                self.attributes()
            }
            Request::Change { .. } => Answer::Failure(Errno::PERM),
            Request::Open { write: true } if self.access == Access::ReadOnly => {
                Answer::Failure(Errno::ROFS)
            }
            Request::Open { .. } => Answer::Bytes(protocol::opened()),
            Request::Read(span) => self.read(span, buffer),
            Request::Write(_) if self.access == Access::ReadOnly => Answer::Failure(Errno::ROFS),
            Request::Write(span) => self.write(span, buffer),
            Request::Sync => match self.flush() {
                Ok(()) => Answer::Bytes(Vec::new()),
                Err(_) => Answer::Failure(Errno::IO),
            },
            Request::Statistics => Answer::Bytes(protocol::statistics()),
            // A loop device sends the same for discarded sectors and for ones that are to be zeros. A
            // hole in ciphertext would decrypt to noise.
            Request::Allocate => Answer::Failure(Errno::OPNOTSUPP),
            Request::Nothing => Answer::Bytes(Vec::new()),
            Request::Silent => Answer::Silence,
            Request::Init(_) | Request::Unknown => Answer::Failure(Errno::NOSYS),
        }
    }

    fn attributes(&self) -> Answer {
        let permissions = match self.access {
            Access::ReadOnly => 0o400,
            Access::ReadWrite => 0o600,
        };
        match self.plaintext.follow_backing() {
            Ok(len) => {
                let (user, group) = (self.user, self.group);
                let mode = REGULAR_FILE | permissions;
                Answer::Bytes(Attributes { len, mode, user, group }.answer())
            }
            Err(_) => Answer::Failure(Errno::IO),
        }
    }

    /// Reads up to the end of the file.
    fn read(&self, span: Span, buffer: &mut [u8]) -> Answer {
        let disk = self.plaintext.disk();
        let len = within(span, disk.len()).min(buffer.len());
        match disk.read_at(&mut buffer[..len], span.offset) {
            Ok(()) => Answer::Payload(len),
            Err(error) => Answer::Failure(errno_of(&error)),
        }
    }

    /// Writes up to the end of the file. The ciphertext replaces what is in the buffer.
    fn write(&self, span: Span, buffer: &mut [u8]) -> Answer {
        let disk = self.plaintext.disk();
        let len = within(span, disk.len()).min(buffer.len());
        if len == 0 && span.len > 0 {
            return Answer::Failure(Errno::NOSPC);
        }
        match disk.write_scratch_at(&mut buffer[..len], span.offset) {
            Ok(()) => Answer::Bytes(protocol::written(len)),
            Err(error) => Answer::Failure(errno_of(&error)),
        }
    }
}

/// Asks the kernel to send again what an earlier server has not answered.
pub(super) fn ask_again(connection: &File) -> io::Result<()> {
    rustix::io::write(connection, &protocol::resend())?;
    Ok(())
}

/// Returns how much of a span lies before the end.
fn within(span: Span, len: u64) -> usize {
    len.saturating_sub(span.offset).min(span.len as u64) as usize
}

/// Takes a request, what it brings into `buffer`, and returns its length; `None` once the file is
/// unmounted.
fn receive(connection: &File, head: &mut [u8], buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        let mut parts = [IoSliceMut::new(head), IoSliceMut::new(buffer)];
        match rustix::io::readv(connection, &mut parts) {
            Ok(len) => return Ok(Some(len)),
            Err(Errno::NODEV) => return Ok(None),
            // Interrupted, or who has asked did not wait any longer.
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn send(connection: &File, unique: u64, errno: i32, bytes: &[u8]) -> io::Result<()> {
    let head = protocol::answer_head(unique, errno, bytes.len());
    match rustix::io::writev(connection, &[IoSlice::new(&head), IoSlice::new(bytes)]) {
        // Nobody waits for it any more, or nobody ever will.
        Ok(_) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn is_asked_within(connection: &File, time: Duration) -> io::Result<bool> {
    let time =
        Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
    let mut polled = [PollFd::new(connection, PollFlags::IN)];
    match rustix::event::poll(&mut polled, Some(&time)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn errno_of(error: &strongroom_disk::Error) -> Errno {
    match error.kind() {
        DiskError::NoSpace => Errno::NOSPC,
        DiskError::ReadOnly => Errno::ROFS,
        _ => Errno::IO,
    }
}

/// What a buffer may hold on to, in bytes, while nobody asks.
const SMALL: usize = 64 << 10;

/// How long nobody asks until a buffer is given back.
const IDLE: Duration = Duration::from_secs(1);

/// The bytes of a thread's stack.
const STACK: usize = 256 << 10;

const REGULAR_FILE: u32 = 0o100_000;
