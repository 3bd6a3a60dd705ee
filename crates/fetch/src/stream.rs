//! A resource that is read from its beginning to its end.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use reqwest::header::TRANSFER_ENCODING;
use reqwest::{Response, StatusCode};

use crate::again::check_part;
use crate::engine::Engine;
use crate::identity::Condition;
use crate::link::{Link, Question};
use crate::pipe::Pipe;
use crate::retry::{Attempts, Trouble};
use crate::{Error, Identity};

/// A resource whose server sends everything, whatever range it was asked for.
///
/// A connection that breaks is made again, and what has come already is asked for no more, or
/// skipped. Takes about 6 MiB of memory.
///
/// # Guarantees
///
/// The bytes are those of the resource in the state of [`Stream::identity`], as far as its server
/// tells states apart, and the end comes after exactly [`Stream::len`] bytes. A server that tells
/// no length and does not mark the end either cannot be told from a connection that breaks.
///
/// # Errors
///
/// [`Error::within`] finds the cause in the errors of a read.
pub struct Stream {
    identity: Identity,
    pipe: Arc<Pipe>,
    chunk: Bytes,
    end: End,
    cancelled: Arc<AtomicBool>,
    // Dropping it ends the transfer.
    _engine: Engine,
}

/// How the end of a stream is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server has told the length, or marks the end.
    Told,
    /// The connection ends, which it also does when it breaks.
    Untold,
}

impl Stream {
    /// Returns the stream of which `response` is the beginning.
    pub(crate) fn new(
        engine: Engine,
        link: Link,
        identity: Identity,
        response: Response,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        let chunked = response
            .headers()
            .get(TRANSFER_ENCODING)
            .is_some_and(|coding| coding.as_bytes().to_ascii_lowercase().ends_with(b"chunked"));
        let end = match identity.len.is_some() || chunked {
            true => End::Told,
            false => End::Untold,
        };
        let pipe = Arc::new(Pipe::default());
        let transfer =
            Transfer { link, identity: identity.clone(), pipe: Arc::clone(&pipe), reached: 0 };
        engine.spawn(transfer.run(response));
        Self { identity, pipe, chunk: Bytes::new(), end, cancelled, _engine: engine }
    }

    /// Returns which resource in which state this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns how the end is known. A stream whose end is not told may be cut short by a
    /// connection that breaks, which nothing but a checksum finds out.
    pub fn end(&self) -> End {
        self.end
    }

    /// Returns the length in bytes, if the server tells it.
    #[expect(clippy::len_without_is_empty, reason = "whether it is empty is known at its end")]
    pub fn len(&self) -> Option<u64> {
        self.identity.len
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while self.chunk.is_empty() {
            match self.pipe.receive(&self.cancelled)? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let piece = self.chunk.split_to(buf.len().min(self.chunk.len()));
        buf[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The work on the network's side.
struct Transfer {
    link: Link,
    identity: Identity,
    pipe: Arc<Pipe>,
    /// How many bytes have gone into the pipe.
    reached: u64,
}

/// An answer, and how many of its bytes have come before.
struct Answer {
    response: Response,
    skip: u64,
}

impl Transfer {
    async fn run(mut self, response: Response) {
        let pipe = Arc::clone(&self.pipe);
        pipe.end(self.finish(response).await);
    }

    async fn finish(&mut self, response: Response) -> Result<(), Error> {
        let name = self.link.name().to_owned();
        let mut attempts = Attempts::new(&name, self.link.patience(), 0);
        let mut answer = Some(Answer { response, skip: 0 });
        loop {
            let result = match answer.take() {
                Some(answer) => self.pour(answer).await,
                None => match self.resume().await {
                    Ok(answer) => self.pour(answer).await,
                    Err(trouble) => Err(trouble),
                },
            };
            match result {
                Ok(()) => return Ok(()),
                Err(trouble) => attempts.after(trouble, self.reached).await?,
            }
        }
    }

    /// Sends on what an answer holds, but for what came before.
    async fn pour(&mut self, answer: Answer) -> Result<(), Trouble> {
        let Answer { mut response, mut skip } = answer;
        while let Some(mut chunk) = self.link.chunk(&mut response).await? {
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let fresh = chunk.split_off(known as usize);
            if fresh.is_empty() {
                continue;
            }
            if self.identity.len.is_some_and(|len| len - self.reached < fresh.len() as u64) {
                let reason = "it holds more bytes than it said".to_owned();
                return Err(Error::Answer { url: self.link.name().to_owned(), reason }.into());
            }
            self.reached += fresh.len() as u64;
            self.pipe.send(fresh).await;
        }
        match self.identity.len {
            Some(end) if self.reached < end => {
                let (url, at) = (self.link.name().to_owned(), self.reached);
                Err(Trouble::Passing(Error::Cut { url, at, end }, None))
            }
            // Without a length, the same resource cannot have ended before.
            None if skip > 0 => {
                let (url, at) = (self.link.name().to_owned(), self.reached - skip);
                Err(Trouble::Passing(Error::Cut { url, at, end: self.reached }, None))
            }
            _ => Ok(()),
        }
    }

    /// Asks for the rest, or for everything once more.
    async fn resume(&self) -> Result<Answer, Trouble> {
        if self.reached > 0 && !self.identity.is_telling() {
            let reason = "it broke off, and without a length, ETag or modification date \
                          nothing shows that the rest would belong to the same bytes";
            let (url, reason) = (self.link.name().to_owned(), reason.to_owned());
            return Err(Error::Answer { url, reason }.into());
        }
        let question = match self.identity.len {
            // The server may have ignored the first range because it was not worth it. Without a
            // condition, it may not know better than to send bytes of another state.
            Some(len)
                if (1..len).contains(&self.reached) && self.identity.strong_etag().is_some() =>
            {
                Question::part(self.reached..len, &self.identity)
            }
            _ => Question::default(),
        };
        let response = self.link.ask(&question).await?;
        let url = self.link.name();
        if response.status() != StatusCode::OK {
            check_part(url, &self.identity, &question, &response)?;
            return Ok(Answer { response, skip: 0 });
        }
        let now = Identity::new(url, response.content_length(), response.headers());
        self.identity.check(&now, Condition::None)?;
        Ok(Answer { response, skip: self.reached })
    }
}
