//! Replies that wait to be sent together.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::pages::{PAGE, Pages};
use super::socket::Socket;
use super::wire::ReplyHead;

/// Replies of one thread with their data, where the disk has put it: it is sent from there.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pages: Pages,
    /// How much of `pages` is taken.
    used: usize,
    waiting: Vec<(ReplyHead, Range<usize>)>,
}

impl Replies {
    /// Returns whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether they have to be sent before there is room for another one with `len` bytes.
    pub(super) fn is_full_for(&self, len: usize) -> bool {
        self.waiting.len() == MOST_WAITING || (self.used > 0 && self.used + len > self.pages.len())
    }

    /// Returns room for `len` bytes that begins at a page.
    ///
    /// # Assumptions
    ///
    /// They are not [full](Self::is_full_for) for that.
    pub(super) fn room(&mut self, len: usize) -> (Range<usize>, &mut [u8]) {
        if self.used == 0 {
            self.pages.reserve(len.max(FIRST_ROOM));
        }
        let range = self.used..self.used + len;
        (range.clone(), self.pages.range_mut(range))
    }

    /// Returns room that was given before.
    pub(super) fn room_at(&mut self, range: Range<usize>) -> &mut [u8] {
        self.pages.range_mut(range)
    }

    /// Adds a reply with the data in a range that [`room`](Self::room) has given.
    pub(super) fn push(&mut self, head: ReplyHead, data: Range<usize>) {
        if !data.is_empty() {
            self.used = data.end.next_multiple_of(PAGE);
        }
        self.waiting.push((head, data));
    }

    /// Adds a reply that is complete.
    pub(super) fn push_head(&mut self, head: ReplyHead) {
        self.push(head, 0..0);
    }

    /// Sends all of them. What another thread sends comes before or after. If that takes waiting for the
    /// client or for another thread, `before_waiting` is called first.
    pub(super) fn send(
        &mut self,
        socket: &Socket,
        sending: &Mutex<()>,
        mut before_waiting: impl FnMut(),
    ) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let pages = &self.pages;
        let slices = self.waiting.iter().flat_map(|(head, data)| {
            [IoSlice::new(head.bytes()), IoSlice::new(pages.range(data.clone()))]
        });
        let mut slices: Vec<_> = slices.filter(|slice| !slice.is_empty()).collect();
        let alone = sending.try_lock().or_else(|_| {
            before_waiting();
            // It guards no value that a panic could have left half changed.
            Ok::<_, io::Error>(sending.lock().unwrap_or_else(PoisonError::into_inner))
        })?;
        let mut left = &mut slices[..];
        let mut result = socket.send_without_waiting(&mut left);
        if result.is_ok() && !left.is_empty() {
            before_waiting();
            result = socket.send_all(left);
        }
        drop(alone);
        self.waiting.clear();
        self.used = 0;
        result
    }
}

/// So many that one system call takes them all.
const MOST_WAITING: usize = 32;

/// The bytes of room that a thread takes at first: for a row of small requests.
const FIRST_ROOM: usize = 128 << 10;
