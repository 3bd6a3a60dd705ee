//! The body of a request, for those who read on a thread that may block; and the other way round.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver};
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
        loop {
            let piece = match tokio::time::timeout(PATIENCE, stream.next()).await {
                Ok(None) => return,
                Ok(Some(Ok(bytes))) => Ok(bytes),
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

/// Reads what comes and throws it away, if it is not too much: whoever still sends would not see an answer.
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
    let _ = tokio::time::timeout(DISCARDING, all).await;
}

/// Returns a body of so many bytes that a reader has.
pub(super) fn stream(mut from: impl Read + Send + 'static, mut len: u64) -> Body {
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        while len > 0 {
            let wanted = usize::try_from(len).map_or(PIECE, |len| len.min(PIECE));
            let mut buffer = vec![0; wanted];
            let piece = from.read_exact(&mut buffer).map(|()| Bytes::from(buffer));
            let is_last = piece.is_err();
            // A client that goes away ends it.
            if sender.blocking_send(piece).is_err() || is_last {
                return;
            }
            len -= wanted as u64;
        }
    });
    Body::from_stream(ReceiverStream::new(pieces))
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

/// How much of what nobody wants is read all the same, in bytes.
const MOST_DISCARDED: usize = 16 << 20;

/// For how long.
const DISCARDING: Duration = Duration::from_secs(5);
