//! The first request, whose answer decides how the resource is read.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reqwest::{Response, StatusCode};

use crate::answer::{ContentRange, partial};
use crate::blocks::BLOCK;
use crate::engine::Engine;
use crate::link::{Link, Question};
use crate::remote::First;
use crate::retry::{Attempts, Trouble};
use crate::{Error, Identity, Options, Remote, Stream};

/// A resource, as its server lets it be read.
#[derive(Debug)]
pub enum Resource {
    /// At any offset.
    Ranged(Remote),
    /// From the beginning to the end.
    Stream(Stream),
}

/// Opens the resource at `url`, which may hold a user name and a password.
///
/// Whenever `cancelled` becomes true, this function and every read of the resource end soon.
///
/// # Errors
///
/// [`Error::Url`], [`Error::CaFile`] and [`Error::Setup`] before anything is sent;
/// [`Error::Certificate`], [`Error::Redirect`], [`Error::Status`] and [`Error::Answer`] when the
/// server will not do; [`Error::GaveUp`] when it could not be reached by any of the attempts;
/// [`Error::Cancelled`].
pub fn open(url: &str, options: &Options, cancelled: Arc<AtomicBool>) -> Result<Resource, Error> {
    let link = Link::new(url, options)?;
    let engine = Engine::start()?;
    let (link, begun) = engine.wait(&cancelled, async move {
        let begun = begin(&link).await?;
        Ok((link, begun))
    })?;
    Ok(match begun {
        Begun::Ranged { identity, first } => {
            let connections = options.bounded_connections();
            Resource::Ranged(Remote::new(engine, link, identity, first, connections, cancelled))
        }
        Begun::Stream { identity, response } => {
            Resource::Stream(Stream::new(engine, link, identity, response, cancelled))
        }
    })
}

impl Resource {
    /// Returns which resource in which state this is.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Ranged(remote) => remote.identity(),
            Self::Stream(stream) => stream.identity(),
        }
    }
}

enum Begun {
    Ranged { identity: Identity, first: First },
    Stream { identity: Identity, response: Response },
}

async fn begin(link: &Link) -> Result<Begun, Error> {
    let mut attempts = Attempts::new(link.name(), link.patience(), 0);
    loop {
        match ask_first(link).await {
            Ok(begun) => return Ok(begun),
            Err(trouble) => attempts.after(trouble, 0).await?,
        }
    }
}

async fn ask_first(link: &Link) -> Result<Begun, Trouble> {
    let question = Question { range: Some(0..BLOCK), if_range: None };
    let mut response = link.ask(&question).await?;
    let (url, headers, body) = (link.name(), response.headers(), response.content_length());
    let ranged = |len: u64| Identity::new(url, Some(len), headers);
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let len = partial(url, headers, body, &(0..BLOCK))?;
            let identity = ranged(len);
            let block = read_first(link, &mut response, len.min(BLOCK)).await?;
            Ok(Begun::Ranged { identity, first: First { len, block } })
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            // No range lies within a resource without bytes.
            let empty = ContentRange { range: None, total: Some(0) };
            if ContentRange::of(headers) != Some(empty) {
                let reason = "it refuses the first bytes of the resource".to_owned();
                return Err(Error::Answer { url: url.to_owned(), reason }.into());
            }
            let first = First { len: 0, block: Vec::new() };
            Ok(Begun::Ranged { identity: ranged(0), first })
        }
        _ => {
            let identity = Identity::new(url, body, headers);
            Ok(Begun::Stream { identity, response })
        }
    }
}

async fn read_first(link: &Link, response: &mut Response, len: u64) -> Result<Vec<u8>, Trouble> {
    let url = || link.name().to_owned();
    let mut block = Vec::with_capacity(BLOCK as usize);
    while let Some(chunk) = link.chunk(response).await? {
        if chunk.len() as u64 > len - block.len() as u64 {
            let reason = "it holds more bytes than its Content-Range".to_owned();
            return Err(Error::Answer { url: url(), reason }.into());
        }
        block.extend_from_slice(&chunk);
    }
    let at = block.len() as u64;
    if at < len {
        return Err(Trouble::Passing(Error::Cut { url: url(), at, end: len }, None));
    }
    Ok(block)
}
