//! Bodies that take their time to send. A server may answer before it has taken all of one, because it has no
//! use or no room for it; what it says then is what counts.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

use super::{Client, Failure, FailureKind};

impl Client {
    /// Sends so many bytes of a reader. The answer is read as soon as there is one.
    ///
    /// # Errors
    ///
    /// Why there is no answer, or what the server refuses.
    pub(super) fn send_bytes(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        reader: impl Read + Send + Sync + Unpin + 'static,
        len: u64,
    ) -> Result<(), Failure> {
        // The blocking client gives up a body that is not taken, and the answer with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Failure::new(FailureKind::Request, format!("the HTTP client does not start: {error}"))
        })?;
        let body = reqwest::Body::wrap(Sending { reader, left: len });
        let mut builder = self.uploads.request(method, self.url(path)?).headers(headers).body(body);
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        runtime.block_on(async {
            let response = builder.send().await;
            let mut response =
                response.map_err(|error| Failure::of_network(&self.server(), error))?;
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            let mut text = Zeroizing::new(Vec::new());
            // Whatever of it has come is better than nothing.
            while let Ok(Some(piece)) = response.chunk().await
                && text.len() < MOST_WORDS
            {
                text.extend_from_slice(&piece);
            }
            Err(Failure::of_answer(&self.server(), status.as_u16(), &text))
        })
    }
}

/// The bytes of a reader as the body of a request.
struct Sending<R> {
    reader: R,
    left: u64,
}

impl<R: Read + Unpin> hyper::body::Body for Sending<R> {
    type Data = Bytes;
    type Error = std::io::Error;

    /// Reads on the thread of the client, which has nothing else to do.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut buffer = vec![0; usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE))];
        Poll::Ready(Some(match self.reader.read(&mut buffer) {
            Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.left -= count as u64;
                buffer.truncate(count);
                Ok(Frame::data(buffer.into()))
            }
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// How much is read at once, in bytes.
const PIECE: usize = 256 << 10;

/// The most bytes of an answer that says why something was refused.
const MOST_WORDS: usize = 1 << 20;
