//! Bytes on their way from the network's thread to a reader, no more than fit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::Error;
use crate::engine::GLANCE;

/// A pipe with one end in a future and one in a thread.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    readable: Condvar,
    writable: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    end: Option<Result<(), Error>>,
}

impl Pipe {
    /// Puts bytes in, once there is room.
    pub(crate) async fn send(&self, chunk: Bytes) {
        while self.state().bytes >= CAPACITY {
            // A notification between the look and the wait is kept.
            self.writable.notified().await;
        }
        let mut state = self.state();
        state.bytes += chunk.len() + COST;
        state.chunks.push_back(chunk);
        drop(state);
        self.readable.notify_one();
    }

    /// Says that nothing more comes, and why.
    pub(crate) fn end(&self, result: Result<(), Error>) {
        self.state().end.get_or_insert(result);
        self.readable.notify_one();
    }

    /// Returns the next bytes, `None` at the end.
    ///
    /// # Errors
    ///
    /// Why the end came too early; [`Error::Cancelled`] soon after someone has cancelled.
    pub(crate) fn receive(&self, cancelled: &AtomicBool) -> Result<Option<Bytes>, Error> {
        let mut state = self.state();
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            if let Some(chunk) = state.chunks.pop_front() {
                state.bytes -= chunk.len() + COST;
                self.writable.notify_one();
                return Ok(Some(chunk));
            }
            if let Some(end) = &state.end {
                return end.clone().map(|()| None);
            }
            let wait = self.readable.wait_timeout(state, GLANCE);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a chunk costs besides its bytes, generously: a server may send one byte in each.
const COST: usize = 256;

/// How many bytes may wait, but for the last chunk.
const CAPACITY: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Sends as many chunks as fit, and returns their number.
    fn fill(pipe: &Pipe, chunk: &'static [u8]) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let mut fits = || {
            let sent = pin!(pipe.send(Bytes::from_static(chunk))).poll(&mut context);
            sent == Poll::Ready(())
        };
        (0..).take_while(|_| fits()).count()
    }

    #[test]
    fn takes_no_more_than_fits_however_small_the_chunks_are() {
        assert_eq!(fill(&Pipe::default(), &[0; 1 << 20]), 4);
        assert!(fill(&Pipe::default(), &[0]) < 20_000);
    }

    #[test]
    fn gives_what_came_before_it_ends() {
        let pipe = Pipe::default();
        let going_on = AtomicBool::new(false);
        let sent = fill(&pipe, &[7; 1 << 20]);
        pipe.end(Err(Error::Url { reason: "first".to_owned() }));
        pipe.end(Ok(()));
        for _ in 0..sent {
            assert_eq!(pipe.receive(&going_on).unwrap().unwrap().len(), 1 << 20);
        }
        assert!(pipe.receive(&going_on).unwrap_err().to_string().ends_with("first"));
        assert!(pipe.receive(&AtomicBool::new(true)).unwrap_err().is_cancelled());
    }

    #[test]
    fn has_room_again_after_a_read() {
        let pipe = Pipe::default();
        fill(&pipe, &[0; 1 << 20]);
        pipe.receive(&AtomicBool::new(false)).unwrap();
        assert_eq!(fill(&pipe, &[0; 1 << 20]), 1);
    }
}
