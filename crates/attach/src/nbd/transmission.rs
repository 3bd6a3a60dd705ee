//! Requests, and what is replied to them.
//!
//! The threads of a connection take turns: one reads requests and answers them itself, as long as that
//! is quicker than waking another. When the disk is slow, or a request is large, it lets the next thread
//! read on and answers meanwhile, so that many requests are under way at once and are replied to as
//! they are done. Replies to small requests that came together go back together.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Instant;

use rustix::net::Shutdown;

use super::export::{Export, LARGEST_REQUEST};
use super::input::Input;
use super::negotiation::Agreed;
use super::operations::{Operation, Refusal};
use super::replies::Replies;
use super::socket::Socket;
use super::wire::*;

/// A connection after the handshake.
#[derive(Debug)]
pub(super) struct Transmission<'a> {
    pub(super) export: &'a Export,
    pub(super) agreed: Agreed,
    socket: &'a Socket,
    input: Mutex<Input>,
    sending: Mutex<()>,
    /// No further request is read.
    ended: AtomicBool,
    threads: AtomicUsize,
    /// How many of them wait for their turn to read.
    idle: AtomicUsize,
    /// How long the disk takes for a small request, in nanoseconds, smoothed.
    pace: AtomicU32,
}

/// What to do after a request.
type Flow = io::Result<ControlFlow<()>>;

impl<'a> Transmission<'a> {
    pub(super) fn new(export: &'a Export, agreed: Agreed, socket: &'a Socket) -> Self {
        Self {
            export,
            agreed,
            socket,
            input: Mutex::new(Input::new()),
            sending: Mutex::default(),
            ended: AtomicBool::new(false),
            threads: AtomicUsize::new(1),
            idle: AtomicUsize::new(0),
            pace: AtomicU32::new(0),
        }
    }

    /// Answers requests until the client has had enough, breaks the rules or is gone. Everything that was
    /// asked for before is done when this returns.
    pub(super) fn run(&self) {
        std::thread::scope(|scope| self.work(scope));
    }

    /// The life of one thread.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut replies = Replies::default();
        let mut result = Ok(ControlFlow::Continue(()));
        while let Ok(ControlFlow::Continue(())) = result {
            self.idle.fetch_add(1, Ordering::Relaxed);
            let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
            self.idle.fetch_sub(1, Ordering::Relaxed);
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            result = self.turn(input, &mut replies, scope);
            let sent = self.send_patiently(&mut replies);
            if let (Ok(_), Err(error)) = (&result, sent) {
                result = Err(error);
            }
        }
        self.ended.store(true, Ordering::Relaxed);
        if result.is_err() {
            // Whoever waits for something of this connection has waited long enough.
            self.socket.end(Shutdown::Both);
        }
    }

    /// Reads requests, and answers them, until another thread has to go on reading.
    fn turn<'scope>(
        &'scope self,
        input: MutexGuard<'_, Input>,
        replies: &mut Replies,
        scope: &'scope Scope<'scope, '_>,
    ) -> Flow {
        let mut turn = Some(input);
        loop {
            let Some(input) = turn.as_deref_mut() else { return Ok(ControlFlow::Continue(())) };
            if !input.has(Request::LEN) && !replies.is_empty() {
                // Nobody shall wait for a reply while we wait for a request.
                self.send(replies, &mut turn, scope)?;
                continue;
            }
            let Some(head) = input.head(self.socket)? else { return Ok(ControlFlow::Break(())) };
            let Some(request) = Request::parse(head) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if request.command == CMD_DISC {
                return Ok(ControlFlow::Break(()));
            }
            let operation = Operation::of(&request, self.export, self.agreed);
            let comes_in_pieces = request.command == CMD_WRITE
                && (operation.is_err() || request.len as usize > PIECE);
            let room = match operation {
                Ok(Operation::Read { .. } | Operation::Write { .. }) => request.len as usize,
                _ if comes_in_pieces => request.len as usize,
                _ => 0,
            };
            if replies.is_full_for(room.min(PIECE)) {
                self.send(replies, &mut turn, scope)?;
                continue;
            }
            input.skip_head();
            if comes_in_pieces {
                self.write_in_pieces(input, &request, operation.err(), replies)?;
                continue;
            }
            let mut data = 0..0;
            if let Ok(Operation::Write { .. }) = operation {
                let (range, room) = replies.room(room);
                input.take(self.socket, room)?;
                data = range;
            }
            if self.is_slow(&operation) && self.has_follower(scope) {
                turn = None;
            }
            self.perform(&request, operation, data, replies)?;
        }
    }

    /// Sends replies; if that takes a while, another thread gets the turn to read.
    fn send<'scope>(
        &'scope self,
        replies: &mut Replies,
        turn: &mut Option<MutexGuard<'_, Input>>,
        scope: &'scope Scope<'scope, '_>,
    ) -> io::Result<()> {
        replies.send(self.socket, &self.sending, || {
            if turn.is_some() && self.has_follower(scope) {
                *turn = None;
            }
        })
    }

    /// Sends replies, however long that takes.
    fn send_patiently(&self, replies: &mut Replies) -> io::Result<()> {
        replies.send(self.socket, &self.sending, || ())
    }

    /// Returns whether others should go on while this is done.
    fn is_slow(&self, operation: &Result<Operation, Refusal>) -> bool {
        match operation {
            Err(_) => false,
            Ok(Operation::Read { range } | Operation::Write { range, is_durable: false, .. }) => {
                range.end - range.start >= LARGE || self.pace.load(Ordering::Relaxed) > SLOW
            }
            Ok(_) => true,
        }
    }

    /// Returns whether a thread waits to go on reading; if there is none it is started.
    fn has_follower<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> bool {
        if self.idle.load(Ordering::Relaxed) > 0 {
            return true;
        }
        // Only who holds the input comes here: nobody else counts threads.
        if self.threads.load(Ordering::Relaxed) == MOST_THREADS {
            return false;
        }
        let thread = Builder::new().name("nbd".to_owned()).stack_size(STACK);
        let started = thread.spawn_scoped(scope, || self.work(scope)).is_ok();
        if started {
            self.threads.fetch_add(1, Ordering::Relaxed);
        }
        started
    }

    /// Does what a request asks for, and adds the reply. The data of a write is in `data`.
    fn perform(
        &self,
        request: &Request,
        operation: Result<Operation, Refusal>,
        data: Range<usize>,
        replies: &mut Replies,
    ) -> io::Result<()> {
        let operation = match operation {
            Ok(operation) => operation,
            Err(refusal) => {
                replies.push_head(self.answer(request, Err(refusal)));
                return Ok(());
            }
        };
        match operation {
            Operation::Read { range } => return self.read(request, &range, replies),
            Operation::BlockStatus { range, most } => match self.export.extents(&range, most) {
                Ok(extents) => {
                    if replies.is_full_for(extents.len()) {
                        self.send_patiently(replies)?;
                    }
                    let (place, room) = replies.room(extents.len());
                    room.copy_from_slice(&extents);
                    let count = (extents.len() / 8) as u32;
                    let id = super::negotiation::ALLOCATION_ID;
                    replies.push(ReplyHead::block_status(request.cookie, id, count), place);
                }
                Err(refusal) => replies.push_head(self.answer(request, Err(refusal))),
            },
            Operation::Write { range, is_durable } => {
                let result = self.timed(&range, || {
                    self.export.write(replies.room_at(data), range.start, is_durable)
                });
                replies.push_head(self.answer(request, result));
            }
            other => {
                let result = self.export.perform(&other);
                replies.push_head(self.answer(request, result));
            }
        }
        Ok(())
    }

    fn read(&self, request: &Request, range: &Range<u64>, replies: &mut Replies) -> io::Result<()> {
        let cookie = request.cookie;
        let mut offset = range.start;
        while offset < range.end {
            let len = (range.end - offset).min(PIECE as u64) as usize;
            if replies.is_full_for(len) {
                self.send_patiently(replies)?;
            }
            let (place, room) = replies.room(len);
            let piece = offset..offset + len as u64;
            let result = self.timed(&piece, || self.export.read(room, offset));
            let is_last = piece.end == range.end;
            match result {
                Err(refusal) if self.agreed.structured || offset == range.start => {
                    replies.push_head(self.answer(request, Err(refusal)));
                    return Ok(());
                }
                // The client has been told that all is well.
                Err(_) => return Err(io::ErrorKind::Other.into()),
                Ok(()) if self.agreed.structured => {
                    replies.push(ReplyHead::data(cookie, is_last, offset, len as u32), place);
                }
                Ok(()) if is_last && offset == range.start => {
                    replies.push(ReplyHead::simple(cookie, 0), place);
                }
                Ok(()) => return self.read_in_pieces(request, range, place, replies),
            }
            offset = piece.end;
        }
        Ok(())
    }

    /// Goes on with a simple reply that is larger than our memory for it: the first piece is in `first`.
    /// Nobody else may send anything in between.
    fn read_in_pieces(
        &self,
        request: &Request,
        range: &Range<u64>,
        first: Range<usize>,
        replies: &mut Replies,
    ) -> io::Result<()> {
        let _alone = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let nobody = Mutex::new(());
        let mut offset = range.start + first.len() as u64;
        replies.push(ReplyHead::simple(request.cookie, 0), first);
        replies.send(self.socket, &nobody, || ())?;
        while offset < range.end {
            let len = (range.end - offset).min(PIECE as u64) as usize;
            let (place, room) = replies.room(len);
            self.export.read(room, offset).map_err(|_| io::ErrorKind::Other)?;
            replies.push(ReplyHead::nothing(), place);
            replies.send(self.socket, &nobody, || ())?;
            offset += len as u64;
        }
        Ok(())
    }

    /// Takes the data of a write that is larger than our memory for it, or that is refused.
    fn write_in_pieces(
        &self,
        input: &mut Input,
        request: &Request,
        refusal: Option<Refusal>,
        replies: &mut Replies,
    ) -> io::Result<()> {
        if request.len > LARGEST_REQUEST {
            // That is more than we said we would take: it need not be read to the end.
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut result = refusal.map_or(Ok(()), Err);
        let mut offset = request.offset;
        let mut left = request.len as usize;
        while left > 0 {
            let (place, room) = replies.room(left.min(PIECE));
            input.take(self.socket, room)?;
            left -= place.len();
            if result.is_ok() {
                let is_durable = left == 0 && request.flags & CMD_FLAG_FUA != 0;
                result = self.export.write(room, offset, is_durable);
            }
            offset = offset.wrapping_add(place.len() as u64);
        }
        replies.push_head(self.answer(request, result));
        Ok(())
    }

    /// Returns a reply without data.
    fn answer(&self, request: &Request, result: Result<(), Refusal>) -> ReplyHead {
        match result {
            Ok(()) => ReplyHead::simple(request.cookie, 0),
            Err(Refusal(error)) => {
                let takes_chunks = matches!(request.command, CMD_READ | CMD_BLOCK_STATUS);
                if self.agreed.structured && takes_chunks {
                    ReplyHead::error(request.cookie, error)
                } else {
                    ReplyHead::simple(request.cookie, error)
                }
            }
        }
    }

    /// Takes the time of a small request.
    fn timed<T>(&self, range: &Range<u64>, perform: impl FnOnce() -> T) -> T {
        if range.end - range.start >= LARGE {
            return perform();
        }
        let start = Instant::now();
        let result = perform();
        let took = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX).min(LONGEST);
        let old = self.pace.load(Ordering::Relaxed);
        // Threads that do this at once lose a measurement, which does not matter.
        self.pace.store(old - old / SMOOTHING + took / SMOOTHING, Ordering::Relaxed);
        result
    }
}

/// How much of a request is in memory at once.
pub(super) const PIECE: usize = 1 << 20;

/// From how many bytes on a request occupies a processor for longer than it takes to wake a thread.
const LARGE: u64 = 64 << 10;

/// How many nanoseconds of a small request are longer than that.
const SLOW: u32 = 30_000;

/// The longest time that counts, so that one outlier, when another process has our processor, does not
/// decide.
const LONGEST: u32 = 120_000;

const SMOOTHING: u32 = 16;

/// The most threads of a connection, and so the most requests that are under way.
const MOST_THREADS: usize = 16;

const STACK: usize = 256 << 10;
