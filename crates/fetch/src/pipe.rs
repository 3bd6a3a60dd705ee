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
        state.bytes += chunk.len();
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
                state.bytes -= chunk.len();
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

/// How many bytes may wait, but for the last chunk.
const CAPACITY: usize = 4 << 20;
