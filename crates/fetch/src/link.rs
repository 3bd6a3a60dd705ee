//! Requests and their answers: redirects, refusals and silence.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderValue, IF_RANGE, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use crate::address::{Address, redact};
use crate::answer::{refuse_codings, retry_after};
use crate::error::causes;
use crate::identity::Condition;
use crate::options::Proxy;
use crate::reach::{OtherHosts, OwnHost, Reach};
use crate::retry::{Patience, Trouble, wish};
use crate::{Error, Identity, Options, tls};

/// A way to one resource.
pub(crate) struct Link {
    client: Client,
    address: Address,
    name: String,
    /// Where the redirects have led last.
    landed: Mutex<Url>,
    timeout: Duration,
    patience: Patience,
    reach: Reach,
}

/// What to ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    /// The bytes, `None` for all.
    pub(crate) range: Option<Range<u64>>,
    /// The entity tag on condition of which a range is wanted.
    pub(crate) if_range: Option<HeaderValue>,
}

impl Link {
    /// Returns a way to `url`. Nothing is sent yet.
    pub(crate) fn new(url: &str, options: &Options) -> Result<Self, Error> {
        let address = Address::parse(url)?;
        options.reach.check(address.url())?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls::config(options.ca_file.as_deref())?)
            .redirect(redirect::Policy::none())
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(options.bounded_connections())
            .user_agent(USER_AGENT);
        if options.proxy == Proxy::Direct {
            builder = builder.no_proxy();
        }
        if options.reach == Reach::OtherHosts {
            builder = builder.dns_resolver(Arc::new(OtherHosts));
        }
        let client = builder
            .build()
            .map_err(|error| Error::Setup { source: Arc::new(error.without_url()) })?;
        let name = redact(address.url());
        let landed = Mutex::new(address.url().clone());
        let patience = Patience { retries: options.retries, backoff: options.backoff };
        let (timeout, reach) = (options.timeout, options.reach);
        Ok(Self { client, address, name, landed, timeout, patience, reach })
    }

    /// Returns what the resource may be called: its URL without secrets.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns how much failure is borne.
    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// Asks, follows redirects, and returns an answer of one of the statuses 200, 206 and 416,
    /// the last only to a question about a range.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Response, Trouble> {
        let landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_given = landed == *self.address.url();
        match self.chase(landed, question).await {
            // Where redirects lead is often signed, and valid for a while only.
            Err(Trouble::Final(Error::Status { status: 400..=499, .. })) if !is_given => {
                self.chase(self.address.url().clone(), question).await
            }
            result => result,
        }
    }

    /// Returns the next bytes of a body, `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Trouble> {
        match tokio::time::timeout(self.timeout, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| classify(&self.name, error)),
            Err(_) => Err(self.stalled(&self.name)),
        }
    }

    async fn chase(&self, mut url: Url, question: &Question) -> Result<Response, Trouble> {
        let mut seen = Vec::new();
        loop {
            let response = self.send(&url, question).await?;
            let status = response.status();
            if !is_redirect(status) {
                self.judge(&url, &response, question)?;
                *self.landed.lock().unwrap_or_else(PoisonError::into_inner) = url;
                return Ok(response);
            }
            let refuse =
                |reason: &str| Error::Redirect { url: redact(&url), reason: reason.to_owned() };
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| refuse("without saying where to"))?;
            let next = self.address.follow(&url, location)?;
            self.reach.check(&next).map_err(|_| refuse("to this machine, or on its own link"))?;
            if next == url || seen.contains(&next) {
                return Err(refuse("in a circle").into());
            }
            if seen.len() == MOST_REDIRECTS {
                return Err(refuse("once more after ten redirects").into());
            }
            seen.push(std::mem::replace(&mut url, next));
        }
    }

    async fn send(&self, url: &Url, question: &Question) -> Result<Response, Trouble> {
        let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(range) = &question.range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
            if let Some(etag) = &question.if_range {
                request = request.header(IF_RANGE, etag);
            }
        }
        match tokio::time::timeout(self.timeout, request.send()).await {
            Ok(result) => result.map_err(|error| classify(&redact(url), error)),
            Err(_) => Err(self.stalled(&redact(url))),
        }
    }

    /// Refuses answers that hold nothing of the resource.
    fn judge(&self, url: &Url, response: &Response, question: &Question) -> Result<(), Trouble> {
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE && question.range.is_some() {
            return Ok(());
        }
        if status == StatusCode::PARTIAL_CONTENT && question.range.is_none() {
            let reason = "it holds a part where the whole was asked for".to_owned();
            return Err(Error::Answer { url: redact(url), reason }.into());
        }
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(refuse_codings(&self.name, response.headers())?);
        }
        let code = status.as_u16();
        let error = Error::Status { url: redact(url), status: code, meaning: meaning(code) };
        if matches!(code, 408 | 429 | 500..) {
            let after = retry_after(response.headers());
            let wish = after.and_then(|text| wish(text, SystemTime::now()));
            return Err(Trouble::Passing(error, wish));
        }
        Err(error.into())
    }

    fn stalled(&self, url: &str) -> Trouble {
        let error = Error::Stalled { url: url.to_owned(), seconds: self.timeout.as_secs_f64() };
        Trouble::Passing(error, None)
    }
}

impl Question {
    /// Asks for a part of a resource that was seen before.
    pub(crate) fn part(range: Range<u64>, identity: &Identity) -> Self {
        Self { range: Some(range), if_range: identity.strong_etag() }
    }

    /// Returns under which condition an answer was asked for.
    pub(crate) fn condition(&self) -> Condition {
        if self.if_range.is_some() { Condition::IfRange } else { Condition::None }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Tells a certificate that will be no better next time from a network that may be.
fn classify(url: &str, error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    let refused = causes(&error).find_map(|cause| match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(refused)) => Some(refused.clone()),
        _ => None,
    });
    let own = causes(&error).find_map(|cause| cause.downcast_ref::<OwnHost>());
    if let Some(own) = own {
        return Error::Url { reason: own.to_string() }.into();
    }
    let url = url.to_owned();
    if let Some(refused) = refused {
        let reason = tls::advice(&refused);
        let source = Arc::new(rustls::Error::InvalidCertificate(refused));
        return Error::Certificate { url, reason, source }.into();
    }
    let is_final = error.is_builder();
    let error = Error::Connection { url, source: Arc::new(error) };
    if is_final { Trouble::Final(error) } else { Trouble::Passing(error, None) }
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "it does not understand the request",
        401 => "it wants a user name and a password, or others than it got",
        403 => "it denies access",
        404 => "there is nothing at that address",
        405 => "it does not let this be read",
        407 => "the proxy wants a user name and a password",
        408 => "the request took too long",
        410 => "what was there is gone for good",
        429 => "it was asked too often",
        451 => "the law forbids access",
        500 => "it has failed",
        502 | 504 => "the server behind it did not answer",
        503 => "it is overloaded or under repair",
        _ => match status / 100 {
            3 => "it neither gives the resource nor says where it is",
            4 => "it refuses the request",
            5.. => "it has failed",
            _ => "that is no answer to a download",
        },
    }
}

const USER_AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

const MOST_REDIRECTS: usize = 10;
