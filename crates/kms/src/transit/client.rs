//! The way to the servers: endpoints in turn, redirects, repetitions, limits.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::blocking::{Client as Http, Response};
use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Url, redirect};
use strongroom_crypto::Token;
use zeroize::Zeroizing;

use super::answers::{account, judge};
use super::requests::{Method, Request, Scope};
use super::trouble::{Trouble, classify, delay, random, wished};
use crate::error::Outage;
use crate::{Error, ErrorKind, Limits, Result};

/// A way to one server, or to several that hold the same keys.
pub(crate) struct Client {
    http: Http,
    endpoints: Vec<Url>,
    /// The one that answered last.
    preferred: AtomicUsize,
    namespace: Option<HeaderValue>,
    limits: Limits,
}

/// An answer that asking again would not change.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The body, which may hold secrets.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// What errors call the server and what it was asked about.
    pub(crate) label: String,
}

impl Client {
    /// Returns a way to these endpoints, at least one. Nobody is talked to yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when one of them is no base URL, or TLS cannot be set up.
    pub(crate) fn new(
        endpoints: &[String],
        namespace: Option<&str>,
        tls: rustls::ClientConfig,
        limits: Limits,
    ) -> Result<Self> {
        let namespace = namespace.map(namespace_header).transpose()?;
        let endpoints: Vec<Url> = endpoints.iter().map(|url| base(url)).collect::<Result<_>>()?;
        if endpoints.is_empty() {
            return Err(Error::new(ErrorKind::Misconfigured, "transit", "no server is named")
                .hinted("name it with --kms-endpoint https://HOST:8200"));
        }
        let http = Http::builder()
            .tls_backend_preconfigured(tls)
            // What holds tokens goes where it was sent: no proxy of the environment, no redirect
            // that nobody has looked at.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(limits.connect)
            .timeout(limits.request)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Misconfigured, "transit", "the HTTP client does not start")
                    .with_source(error.without_url())
            })?;
        Ok(Self { http, endpoints, preferred: AtomicUsize::new(0), namespace, limits })
    }

    /// Returns the endpoint that answered last, or else the first.
    pub(crate) fn endpoint(&self) -> String {
        let at = self.preferred.load(Ordering::Relaxed);
        self.endpoints.get(at).map_or_else(String::new, show)
    }

    /// Asks until somebody gives an answer that asking again would not change, a refusal for
    /// instance.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when nobody does within the limits; [`ErrorKind::Misconfigured`]
    /// when TLS or a redirect cannot be trusted.
    pub(crate) fn call(&self, request: &Request, token: Option<&Token>) -> Result<Answer> {
        let deadline = Instant::now() + self.limits.total;
        let mut attempt = 0;
        loop {
            let (error, wish) = match self.round(request, token, deadline) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(error, wish)) => (error, wish),
            };
            let own = delay(self.limits.backoff, attempt, random());
            let delay = wish.unwrap_or_default().min(LONGEST_WISH).max(own);
            attempt += 1;
            if attempt > self.limits.retries || Instant::now() + delay >= deadline {
                return Err(error);
            }
            std::thread::sleep(delay);
        }
    }

    /// Asks every endpoint in turn, from the one that answered last on.
    fn round(
        &self,
        request: &Request,
        token: Option<&Token>,
        deadline: Instant,
    ) -> std::result::Result<Answer, Trouble> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut worst: Option<Trouble> = None;
        for step in 0..self.endpoints.len() {
            let at = (first + step) % self.endpoints.len();
            let Some(endpoint) = self.endpoints.get(at) else { continue };
            match self.chase(endpoint, request, token, deadline) {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                // What may pass is a reason to go on, whatever is wrong with the others.
                Err(trouble @ Trouble::Passing(..)) => worst = Some(trouble),
                Err(trouble) => worst = worst.or(Some(trouble)),
            }
        }
        Err(worst.expect("there is an endpoint, and none has answered"))
    }

    /// Asks one endpoint, and those to which it sends us on.
    ///
    /// A standby may send requests on to the active server. Only where to is taken from that, never
    /// what to ask there; and a token goes to nobody but the hosts that were configured, on
    /// whichever of their ports, and never from HTTPS to HTTP.
    fn chase(
        &self,
        endpoint: &Url,
        request: &Request,
        token: Option<&Token>,
        deadline: Instant,
    ) -> std::result::Result<Answer, Trouble> {
        let mut base = endpoint.clone();
        for _ in 0..=MOST_REDIRECTS {
            let label = format!("transit {} at {}", request.about, show(&base));
            let response = self.send(&base, request, token, deadline, &label)?;
            let status = response.status().as_u16();
            if !matches!(status, 307 | 308) {
                return answer(response, status, label, deadline, request.most);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            base = self.follow(&base, location, token, &label)?;
        }
        let label = format!("transit {} at {}", request.about, show(endpoint));
        let problem = "the servers send us on to one another without end";
        Err(Trouble::Passing(Error::new(ErrorKind::Unavailable, label, problem), None))
    }

    fn send(
        &self,
        base: &Url,
        request: &Request,
        token: Option<&Token>,
        deadline: Instant,
        label: &str,
    ) -> std::result::Result<Response, Trouble> {
        let url = format!("{}v1/{}", base.as_str(), request.path);
        let mut builder = match request.method {
            Method::Get => self.http.get(url),
            Method::Post => self.http.post(url),
        };
        builder = builder.header("X-Vault-Request", "true");
        if let Some(token) = token {
            builder = builder.header("X-Vault-Token", token_header(token, label)?);
        }
        if let (Some(namespace), Scope::Namespace) = (&self.namespace, request.scope) {
            builder = builder.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = &request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body.0.clone());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = self.limits.request.min(left).max(SHORTEST);
        builder.timeout(timeout).send().map_err(|error| classify(error, label))
    }

    /// Returns where a redirect leads.
    fn follow(
        &self,
        base: &Url,
        location: Option<&str>,
        token: Option<&Token>,
        label: &str,
    ) -> std::result::Result<Url, Trouble> {
        let refuse = |problem: String, hint: &str| {
            let error = Error::new(ErrorKind::Misconfigured, label, problem).hinted(hint);
            Trouble::Lasting(error)
        };
        let target = location.and_then(|location| base.join(location).ok());
        let Some(mut target) = target.filter(|url| url.host_str().is_some()) else {
            let hint = "name the active server with --kms-endpoint";
            return Err(refuse("it sends us on without saying where to".to_owned(), hint));
        };
        if !target.username().is_empty() || target.password().is_some() {
            let hint = "name the active server with --kms-endpoint";
            return Err(refuse("it sends us on with a user name or a password".to_owned(), hint));
        }
        target.set_path("/");
        target.set_query(None);
        target.set_fragment(None);
        // A server that repeats the token in a name need not have it shown.
        let shown =
            if repeats(target.as_str(), token) { "(its token)".into() } else { show(&target) };
        if target.scheme() != base.scheme() {
            let hint = "its api_addr should begin with https://";
            return Err(refuse(format!("it sends us on to {shown}, unlike it"), hint));
        }
        if target.scheme() == "http" && !is_on_this_machine(&target) {
            let hint = "its api_addr should begin with https://";
            return Err(refuse(format!("it sends us on to {shown}, without TLS"), hint));
        }
        let known = std::iter::once(base).chain(&self.endpoints);
        if !known.into_iter().any(|known| known.host_str() == target.host_str()) {
            let hint = format!("if that is one of your servers, add --kms-endpoint {shown}");
            return Err(refuse(format!("it sends us on to {shown}, whom we do not know"), &hint));
        }
        Ok(target)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoints: Vec<_> = self.endpoints.iter().map(show).collect();
        f.debug_struct("Client").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl Answer {
    /// Returns what `parse` makes of a body that came with success.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when it is not what such a server answers. That is no outage: the
    /// server may answer like this since an envelope asks for it, and all others still open.
    pub(crate) fn read<T>(&self, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
        // What the parser would say holds pieces of the body, which may be secret.
        parse(&self.body).ok_or_else(|| {
            let problem = "what it answers is not what OpenBao or Vault would";
            Error::new(ErrorKind::Misconfigured, &*self.label, problem)
                .hinted("look whether --kms-endpoint names the server itself")
        })
    }

    /// Returns whether the request was granted.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Returns whether the token, or what it may do, is at fault.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self.status, 401 | 403)
    }
}

/// Returns an answer with its body, unless the status says that somebody should ask again.
fn answer(
    mut response: Response,
    status: u16,
    label: String,
    deadline: Instant,
    most: usize,
) -> std::result::Result<Answer, Trouble> {
    let wish = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wish = wish.and_then(|text| wished(text, SystemTime::now()));
    let body = read(&mut response, deadline, most).map_err(|error| {
        if error.kind() == io::ErrorKind::FileTooLarge {
            let problem = format!("it answers with more than {most} bytes");
            return Trouble::Lasting(Error::new(ErrorKind::Misconfigured, &*label, problem));
        }
        let problem = "the answer does not come as a whole";
        let error = Error::new(ErrorKind::Unavailable, &*label, problem).with_source(error);
        Trouble::Passing(error.of_outage(Outage::Absence), None)
    })?;
    if matches!(status, 200..=299) || label.starts_with(HEALTH_LABEL) {
        return Ok(Answer { status, body, label });
    }
    let verdict = judge(status, &body);
    if verdict.kind != ErrorKind::Unavailable {
        return Ok(Answer { status, body, label });
    }
    let problem = format!("{} ({})", verdict.problem, account(status, &body));
    let outage = if matches!(status, 429 | 500..) { Outage::Server } else { Outage::None };
    let error = Error::new(ErrorKind::Unavailable, label, problem).of_outage(outage);
    // Seals do not break by themselves.
    let lasts = verdict.problem.ends_with("sealed");
    Err(if lasts { Trouble::Lasting(error) } else { Trouble::Passing(error, wish) })
}

/// Reads a body into room that never grows: growing leaves copies behind that nobody wipes.
fn read(response: &mut Response, deadline: Instant, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut body = Zeroizing::new(vec![0; most + 1]);
    let mut len = 0;
    while let Some(room) = body.get_mut(len..).filter(|room| !room.is_empty()) {
        let read = response.read(room)?;
        if read == 0 {
            break;
        }
        len += read;
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    if len > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    body.truncate(len);
    Ok(body)
}

/// Returns a token as a header, which is wiped after use.
fn token_header(token: &Token, label: &str) -> std::result::Result<HeaderValue, Trouble> {
    let bytes = Bytes::from_owner(Zeroizing::new(token.expose_bytes().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(bytes).map_err(|_| {
        let problem = "the token holds what no HTTP header can carry";
        Trouble::Lasting(Error::new(ErrorKind::Misconfigured, label, problem))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn namespace_header(namespace: &str) -> Result<HeaderValue> {
    let path = namespace.trim_end_matches('/');
    let value = HeaderValue::from_str(namespace).ok().filter(|_| super::requests::is_path(path));
    value.ok_or_else(|| {
        let problem = format!("{namespace:?} is no namespace");
        Error::new(ErrorKind::Misconfigured, "transit", problem)
            .hinted("--kms-namespace takes a path like team/project")
    })
}

/// Returns the URL below which the interface lies.
fn base(text: &str) -> Result<Url> {
    let wrong = |problem: &str| {
        Error::new(ErrorKind::Misconfigured, "transit", problem)
            .hinted("--kms-endpoint takes a URL like https://HOST:8200")
    };
    let mut url = Url::parse(text).map_err(|_| wrong("the endpoint is not a URL"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(wrong("the endpoint is no URL of a server"));
    }
    if url.scheme() == "http" && !is_on_this_machine(&url) {
        let problem = "without TLS the token and the data keys would cross the network readable";
        return Err(Error::new(ErrorKind::Misconfigured, "transit", problem)
            .hinted("name the endpoint with https://, or go through a TLS proxy on this machine"));
    }
    // What it holds there would be shown in errors, and sent to nobody.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("the endpoint holds a user name or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("the endpoint holds a query or a fragment"));
    }
    let path = url.path().trim_end_matches('/').trim_end_matches("/v1").to_owned() + "/";
    url.set_path(&path);
    Ok(url)
}

/// Returns whether what is sent to a URL stays on this machine.
fn is_on_this_machine(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        // Where it is version 6, in brackets.
        Some(host) => {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            address.is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Returns whether a text repeats a token, in whichever case: names of hosts lose theirs.
fn repeats(text: &str, token: Option<&Token>) -> bool {
    let token = token.and_then(|token| std::str::from_utf8(token.expose_bytes()).ok());
    let lower = |text: &str| Zeroizing::new(text.to_ascii_lowercase());
    token.is_some_and(|token| lower(text).contains(lower(token).as_str()))
}

/// Returns an endpoint as people write it.
fn show(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// How a label begins whose answer says by its status how the server is.
const HEALTH_LABEL: &str = "transit health ";

const MOST_REDIRECTS: usize = 3;

const LONGEST_WISH: Duration = Duration::from_secs(10);

/// No request is given less, lest a limit of nothing mean no limit.
const SHORTEST: Duration = Duration::from_millis(1);

const USER_AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_endpoints_as_people_write_them() {
        for (text, expected) in [
            ("https://bao.example:8200", "https://bao.example:8200/"),
            ("https://bao.example:8200/", "https://bao.example:8200/"),
            ("https://bao.example/v1/", "https://bao.example/"),
            ("https://proxy.example/openbao", "https://proxy.example/openbao/"),
            ("http://127.0.0.1:8200", "http://127.0.0.1:8200/"),
        ] {
            assert_eq!(base(text).unwrap().as_str(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_endpoints_that_hold_more_than_a_place() {
        for text in [
            "bao.example:8200",
            "ftp://bao.example",
            "https://user:canary@bao.example",
            "https://canary@bao.example",
            "https://bao.example/?token=canary",
            "https://bao.example/#canary",
            "",
        ] {
            let error = base(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{text}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn leaves_this_machine_with_tls_only_and_follows_no_password() {
        let endpoints = ["http://127.0.0.1:8200", "https://bao.example"].map(str::to_owned);
        let tls = crate::tls::config_for(&crate::Credentials::default(), None, "test").unwrap();
        let client = Client::new(&endpoints, None, tls, Limits::default()).unwrap();
        let token = Token::new(b"s.Canary".to_vec());
        let follow = |at: usize, location: &str| {
            let label = "label";
            match client.follow(&client.endpoints[at], Some(location), Some(&token), label) {
                Ok(url) => Ok(url.to_string()),
                Err(Trouble::Lasting(error) | Trouble::Passing(error, _)) => {
                    Err(format!("{error} {error:?}"))
                }
            }
        };
        assert_eq!(follow(0, "http://127.0.0.1:8300/v1/x").unwrap(), "http://127.0.0.1:8300/");
        assert_eq!(follow(1, "https://bao.example:8300").unwrap(), "https://bao.example:8300/");
        for (at, location, words) in [
            // It is configured, but for TLS.
            (0, "http://bao.example", "without TLS"),
            (1, "http://bao.example", "unlike it"),
            (1, "https://s.canary@bao.example", "a user name or a password"),
            (1, "https://:s.canary@bao.example", "a user name or a password"),
            (1, "https://s.canary/", "whom we do not know"),
        ] {
            let said = follow(at, location).unwrap_err();
            assert!(said.contains(words), "{location}: {said}");
            assert!(!said.to_lowercase().contains("canary"), "{location}: {said}");
        }
    }

    #[test]
    fn a_namespace_is_a_path() {
        for good in ["team", "team/", "team/project"] {
            assert!(namespace_header(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a\r\nX-Vault-Token: b", "..", "a//b"] {
            assert!(namespace_header(bad).is_err(), "{bad:?}");
        }
    }
}
