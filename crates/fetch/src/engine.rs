//! The thread on which the network's futures run.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::Error;

/// A thread that runs futures. Dropping it drops them, and ends the thread.
#[derive(Debug)]
pub(crate) struct Engine {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self, Error> {
        let setup = |error: std::io::Error| Error::Setup { source: Arc::new(error) };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(setup)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            // Ends when the sender is dropped, which is an error, and just what is waited for.
            let _ = runtime.block_on(stopped);
            // A name that is still being looked up must not hold anybody up.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("fetch".to_owned()).spawn(run).map_err(setup)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs a future beside the caller.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(future);
    }

    /// Runs a future and returns what it gives.
    ///
    /// # Errors
    ///
    /// The future's, and [`Error::Cancelled`] at most [`GLANCE`] after someone has cancelled.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        cancelled: &AtomicBool,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = mpsc::channel();
        let task = self.handle.spawn(async move {
            // Nobody listens any more after a cancellation.
            let _ = sender.send(future.await);
        });
        loop {
            if cancelled.load(Ordering::Relaxed) {
                task.abort();
                return Err(Error::Cancelled);
            }
            match receiver.recv_timeout(GLANCE) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let source =
                        Arc::new(std::io::Error::other("the thread of the network has ended"));
                    return Err(Error::Setup { source });
                }
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It would have panicked on its own account, and said so.
            let _ = thread.join();
        }
    }
}

/// How often whoever waits looks whether someone has cancelled.
pub(crate) const GLANCE: Duration = Duration::from_millis(50);
