//! How programs talk to a server: one request and one answer at a time, or a stream of changes.
//!
//! A [`Request`] is a value. It says whom it is about by [`Place`], which is where the API keeps the
//! documents of a kind.

mod contents;
mod failure;
mod place;
mod sending;
mod stream;

pub use contents::{Begun, ImagePlace, Target, Told};
pub use failure::{Failure, FailureCause, FailureKind};
pub use place::Place;
pub use stream::Changes;

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::{Client as Http, ClientBuilder as HttpBuilder, RequestBuilder, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use strongroom_crypto::Token;
use zeroize::Zeroizing;

/// A way to a server.
pub struct Client {
    http: Http,
    /// For bodies that are so long that an answer may come before they are sent.
    uploads: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
}

/// What is asked of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is to be done.
    pub action: Action,
    /// The path, with its query: `/api/v1/namespaces/lab/secrets/key`.
    pub path: String,
    /// Whether documents are wanted as rows of a table.
    pub form: Form,
}

/// What is to be done with what stands under a path.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Read it.
    Get,
    /// Put this in.
    Post(Value),
    /// Change it by this merge patch (RFC 7386).
    Patch(Value),
    /// Take it out.
    Delete,
}

/// In which form documents are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As they are.
    Documents,
    /// As rows of a table, with the columns that the server chooses.
    Table,
}

/// What a server has answered.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// The document, list or table; null when there is none.
    pub value: Value,
    /// What whoever asked should know.
    pub warnings: Vec<String>,
}

impl Client {
    /// Returns a way to the server at a URL (`http://127.0.0.1:7480`). Nobody is talked to yet. `authorities`
    /// are certificates in PEM form that may vouch for it; without any, those of the system do.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Request`] when it is no such URL, or the certificates are none; or when the token would
    /// leave this machine in the clear.
    pub fn new(
        server: &str,
        token: Option<&Token>,
        authorities: Option<&[u8]>,
    ) -> Result<Self, Failure> {
        let base = base(server)?;
        if token.is_some() && base.scheme() == "http" && !is_here(&base) {
            let problem = format!(
                "the token would go to {} in the clear: use https, or a server on this machine",
                shown(&base)
            );
            return Err(Failure::new(FailureKind::Request, problem));
        }
        let authorization = token.map(bearer).transpose()?;
        let tls = tls(authorities)?;
        let failed = |error: reqwest::Error| {
            let problem = format!("the HTTP client does not start: {}", error.without_url());
            Failure::new(FailureKind::Request, problem)
        };
        let uploads = builder(tls.clone()).build().map_err(failed)?;
        let http = HttpBuilder::from(builder(tls)).timeout(None).build().map_err(failed)?;
        Ok(Self { http, uploads, base, authorization })
    }

    /// Returns whether a URL names a server on this machine.
    pub fn is_on_this_machine(server: &str) -> bool {
        base(server).is_ok_and(|base| is_here(&base))
    }

    /// Returns where the server is, as errors call it.
    pub fn server(&self) -> String {
        shown(&self.base)
    }

    /// Asks, and returns what was answered.
    ///
    /// # Errors
    ///
    /// Why there is no answer, or what the server refuses.
    pub fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let response = self.send(request, Some(PATIENCE))?;
        let warnings = warnings(response.headers());
        let text = self.body(response)?;
        if text.is_empty() {
            return Ok(Answer { value: Value::Null, warnings });
        }
        let value = serde_json::from_slice(&text).map_err(|_| self.not_understood())?;
        Ok(Answer { value, warnings })
    }

    /// Asks for changes, which come one after the other until the server ends the stream.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn watch(&self, request: &Request) -> Result<Changes, Failure> {
        Ok(Changes::new(self.send(request, None)?, self.server()))
    }

    fn send(&self, request: &Request, patience: Option<Duration>) -> Result<Response, Failure> {
        self.send_with(request.action.method(), &request.path, |builder| {
            let builder = request.action.with_body(builder).header(ACCEPT, request.form.accept());
            match patience {
                Some(patience) => builder.timeout(patience),
                None => builder,
            }
        })
    }

    fn send_with(
        &self,
        method: Method,
        path: &str,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let mut builder = complete(self.http.request(method, self.url(path)?));
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        let response =
            builder.send().map_err(|error| Failure::of_network(&self.server(), error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = self.body(response).unwrap_or_default();
        Err(Failure::of_answer(&self.server(), status.as_u16(), &text))
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(path.trim_start_matches('/')).map_err(|error| {
            Failure::new(FailureKind::Request, format!("{path} is no path: {error}"))
        })
    }

    fn body(&self, response: Response) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut text = Zeroizing::new(Vec::new());
        let read = response.take(MOST + 1).read_to_end(&mut text);
        read.map_err(|error| {
            let problem = format!("the answer of {} broke off: {error}", self.server());
            Failure::new(FailureKind::Unreachable, problem)
        })?;
        if text.len() as u64 > MOST {
            return Err(self.not_understood());
        }
        Ok(text)
    }

    fn not_understood(&self) -> Failure {
        let problem = format!("{} does not answer as a Strongroom server does", self.server());
        Failure::new(FailureKind::Server, problem)
    }
}

impl Request {
    /// Returns a request for documents.
    pub fn new(action: Action, path: impl Into<String>) -> Self {
        Self { action, path: path.into(), form: Form::Documents }
    }
}

impl Action {
    fn method(&self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post(_) => Method::POST,
            Self::Patch(_) => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }

    fn with_body(&self, builder: RequestBuilder) -> RequestBuilder {
        let (body, kind) = match self {
            Self::Get | Self::Delete => return builder,
            Self::Post(body) => (body, "application/json"),
            Self::Patch(body) => (body, "application/merge-patch+json"),
        };
        builder.header(CONTENT_TYPE, kind).body(body.to_string())
    }
}

impl Form {
    fn accept(self) -> &'static str {
        match self {
            Self::Documents => "application/json",
            Self::Table => "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server()).finish_non_exhaustive()
    }
}

/// Prints what it does and nothing of a document: that may be a Secret.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method().as_str())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

fn base(server: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| {
        // It is not repeated: somebody may have put a password into it.
        let problem = format!("the URL of the server {why}");
        Failure::new(FailureKind::Request, problem)
    };
    let mut url = Url::parse(server).map_err(|error| wrong(&format!("is none: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("begins with http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("has a user in it: whoever asks is told by the token"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has something behind its path"));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Returns how every request is sent.
fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // A token goes where it was sent: no proxy of the environment, and no redirect.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT)
        .user_agent(USER_AGENT)
}

/// Returns whether a URL names this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn shown(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

fn bearer(token: &Token) -> Result<HeaderValue, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(token.len() + BEARER.len()));
    bytes.extend_from_slice(BEARER);
    bytes.extend_from_slice(token.expose_bytes().trim_ascii());
    let mut value = HeaderValue::from_bytes(&bytes).map_err(|_| {
        Failure::new(FailureKind::Request, "the token has letters that no token has".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(authorities: Option<&[u8]>) -> Result<ClientConfig, Failure> {
    let wrong = |problem: String| Failure::new(FailureKind::Request, problem);
    let mut roots = RootCertStore::empty();
    match authorities {
        // Whoever names an authority wants no other.
        Some(pem) => {
            let unusable = || wrong("the CA file holds no certificate in PEM form".to_owned());
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| unusable())?;
                roots.add(certificate).map_err(|_| unusable())?;
            }
            if roots.is_empty() {
                return Err(unusable());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(format!("TLS cannot be set up: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Returns the texts of `Warning` headers (RFC 7234, section 5.5).
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all("warning").into_iter().filter_map(|value| value.to_str().ok());
    texts.filter_map(warning).collect()
}

/// Returns the text of `299 - "text"`.
fn warning(header: &str) -> Option<String> {
    let (_, rest) = header.split_once('"')?;
    let (quoted, _) = rest.rsplit_once('"')?;
    let mut text = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.push(if letter == '\\' { letters.next()? } else { letter });
    }
    Some(text)
}

const BEARER: &[u8] = b"Bearer ";

const USER_AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

/// How long a server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many bytes an answer has at most.
const MOST: u64 = 256 << 20;

#[cfg(test)]
mod tests;
