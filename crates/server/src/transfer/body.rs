//! The body of a request, for those who read on a thread that may block; and the other way round.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Reads what comes from a client. Dropped before the end, it has the rest thrown away.
#[derive(Debug)]
pub(super) struct BodyReader {
    pieces: Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Returns a reader of a body, and what feeds it: it has to be driven while somebody reads.
pub(super) fn pump(body: Body) -> (BodyReader, impl Future<Output = ()>) {
    let (sender, pieces) = mpsc::channel(AHEAD);
    let feed = async move {
        let mut stream = body.into_data_stream();
        let mut pace = Pace::default();
        loop {
            let asked = Instant::now();
            let piece = match timeout(PATIENCE, stream.next()).await {
                Ok(None) => return,
                Ok(Some(Ok(bytes))) => match pace.came(asked.elapsed(), bytes.len()) {
                    true => Ok(bytes),
                    false => {
                        let problem = "less than 1 KiB has come in a second";
                        Err(io::Error::new(io::ErrorKind::TimedOut, problem))
                    }
                },
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Err(_) => {
                    let problem = "nothing has come for a minute";
                    Err(io::Error::new(io::ErrorKind::TimedOut, problem))
                }
            };
            let is_last = piece.is_err();
            match sender.send(piece).await {
                Ok(()) if !is_last => {}
                Ok(()) => return,
                Err(_) => return discard_rest(stream).await,
            }
        }
    };
    (BodyReader { pieces, current: Bytes::new() }, feed)
}

/// Reads what comes and throws it away, if it is not too much: whoever sends all of it before he looks for an
/// answer would see none.
pub(super) async fn discard(body: Body) {
    discard_rest(body.into_data_stream()).await;
}

async fn discard_rest(mut stream: BodyDataStream) {
    let all = async {
        let mut discarded = 0;
        while let Some(Ok(bytes)) = stream.next().await {
            discarded += bytes.len();
            if discarded > MOST_DISCARDED {
                return;
            }
        }
    };
    // What comes later than that is cut off.
    let _ = timeout(DISCARDING, all).await;
}

/// Returns a body of so many bytes that a reader has. The slot is free again when they are sent, or the
/// client does not take them.
pub(super) fn stream(
    from: impl Read + Send + 'static,
    len: u64,
    slot: OwnedSemaphorePermit,
) -> Body {
    stream_within(PATIENCE, from, len, slot)
}

fn stream_within(
    patience: Duration,
    mut from: impl Read + Send + 'static,
    mut len: u64,
    slot: OwnedSemaphorePermit,
) -> Body {
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _slot = slot;
        while len > 0 {
            let wanted = usize::try_from(len).map_or(PIECE, |len| len.min(PIECE));
            let mut buffer = vec![0; wanted];
            let piece = from.read_exact(&mut buffer).map(|()| Bytes::from(buffer));
            let is_last = piece.is_err();
            let sent = runtime.block_on(async { timeout(patience, sender.send(piece)).await });
            // A client that goes away ends it, and one that takes nothing.
            if !matches!(sent, Ok(Ok(()))) || is_last {
                return;
            }
            len -= wanted as u64;
        }
    });
    Body::from_stream(ReceiverStream::new(pieces))
}

/// How fast a client brings what is waited for.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Counts what has come after a time, and tells whether that is fast enough.
    fn came(&mut self, after: Duration, bytes: usize) -> bool {
        self.waited += after;
        self.bytes += bytes as u64;
        if self.waited < WINDOW {
            return true;
        }
        let is_enough = self.bytes >= SLOWEST * self.waited.as_secs();
        *self = Self::default();
        is_enough
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !buffer.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let len = buffer.len().min(self.current.len());
        buffer[..len].copy_from_slice(&self.current.split_to(len));
        Ok(len)
    }
}

/// How many pieces wait for their reader.
const AHEAD: usize = 4;

/// How many bytes are read at once for a client.
const PIECE: usize = 256 << 10;

/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Over which time a client that brings little is looked at.
const WINDOW: Duration = Duration::from_secs(300);

/// The fewest bytes that a client has to bring in a second of that.
const SLOWEST: u64 = 1024;

/// How much of what nobody wants is read all the same, in bytes.
const MOST_DISCARDED: usize = 1 << 30;

/// For how long.
const DISCARDING: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_client_that_takes_nothing_does_not_keep_its_slot() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let slots = Arc::new(Semaphore::new(1));
            let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
            let body = stream_within(Duration::from_millis(50), io::repeat(0), 1 << 30, slot);
            let free = timeout(Duration::from_secs(10), slots.acquire()).await;
            assert!(free.is_ok(), "the slot is still taken");
            drop(body);
        });
    }

    #[test]
    fn a_client_that_brings_next_to_nothing_is_too_slow() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::default();
        assert!(pace.came(seconds(299), 1));
        assert!(!pace.came(seconds(1), 1));
        assert!(pace.came(seconds(299), 1 << 20));
        assert!(pace.came(seconds(1), 1));
        assert!(pace.came(seconds(299), 1));
    }
}
