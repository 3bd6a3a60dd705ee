//! A server over plain threads that does what a test tells it, right or wrong.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Pattern;

/// An HTTP server on a port of its own, until it is dropped.
pub struct Server {
    port: u16,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    stopped: AtomicBool,
    /// How many bytes of bodies were sent.
    served: AtomicU64,
    /// How many requests are being answered, and how many were at most.
    active: AtomicUsize,
    most_active: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    content: Box<Content>,
    handler: Box<Handler>,
}

type Content = dyn Fn(Range<u64>) -> Vec<u8> + Send + Sync;

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many came before it.
    pub number: usize,
    /// The method, in capitals.
    pub method: String,
    /// The path with its query, or for a proxy the whole URL.
    pub target: String,
    /// What follows the headers, where their length says that something does.
    pub body: Vec<u8>,
    headers: HashMap<String, String>,
}

/// What is sent, whether it makes sense or not.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names and values of the headers. A length is added unless the body says its own.
    pub headers: Vec<(&'static str, String)>,
    /// What follows the headers.
    pub body: Body,
    /// After how many bytes of the body the connection is cut.
    pub cut: Option<u64>,
    /// After how many bytes of the body nothing more comes.
    pub stall: Option<u64>,
    /// How long to wait before the answer.
    pub delay: Duration,
    /// How many bytes are sent at once, and how long to wait after each time.
    pub pace: (usize, Duration),
}

/// What follows the headers.
#[derive(Debug, Clone)]
pub enum Body {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes of the resource.
    Content(Range<u64>),
}

impl Server {
    /// Starts a server whose resource is [`Server::PATTERN`].
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(pattern), Box::new(handler), None)
    }

    /// Starts a server whose resource holds what `content` returns for a range.
    pub fn serving(
        content: impl Fn(Range<u64>) -> Vec<u8> + Send + Sync + 'static,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Box::new(content), Box::new(handler), None)
    }

    /// Starts a server that talks TLS alone. Its resource is [`Server::PATTERN`].
    pub fn start_tls(
        config: ServerConfig,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Box::new(pattern), Box::new(handler), Some(Arc::new(config)))
    }

    /// The seed of the dense pattern that a server without content of its own serves.
    pub const PATTERN: u64 = 0x5e;

    fn listen(
        content: Box<Content>,
        handler: Box<Handler>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            served: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            most_active: AtomicUsize::new(0),
            requests: Mutex::default(),
            content,
            handler,
        });
        let server = Self { port, scheme, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                // A client that goes away ends its thread, which is no failure.
                thread::spawn(move || serve(&shared, stream?, tls));
            }
        });
        server
    }

    /// Returns the URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Returns the URL with something between scheme and host.
    pub fn url_of(&self, userinfo: &str, path: &str) -> String {
        format!("{}://{userinfo}@127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many bytes of bodies were sent so far.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Returns how many requests were being answered at the same time at most.
    pub fn most_active(&self) -> usize {
        self.shared.most_active.load(Ordering::Relaxed)
    }

    /// Returns the requests that came, in their order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests().clone()
    }
}

impl Shared {
    // A test that panicked elsewhere does not make the list wrong.
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Request {
    /// Returns the value of a header; the name is in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the bytes that are asked for, of a resource of `len`.
    pub fn range(&self, len: u64) -> Option<Range<u64>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let last: u64 = last.parse().ok()?;
        Some(first.parse().ok()?..len.min(last + 1))
    }
}

impl Reply {
    /// Returns an answer without a body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Bytes(Vec::new()),
            cut: None,
            stall: None,
            delay: Duration::ZERO,
            pace: (64 << 10, Duration::ZERO),
        }
    }

    /// Serves a resource of `len` bytes as it should be.
    pub fn ranged(request: &Request, len: u64, etag: &str) -> Self {
        let condition = request.header("if-range");
        let range = request.range(len).filter(|_| condition.is_none_or(|wanted| wanted == etag));
        let reply = match range {
            None => Self::whole(len),
            Some(range) if range.is_empty() => {
                Self::new(416).with("Content-Range", format!("bytes */{len}"))
            }
            Some(range) => Self::part(range, len),
        };
        if etag.is_empty() { reply } else { reply.with("ETag", etag) }
    }

    /// Returns the answer to a request of a range.
    pub fn part(range: Range<u64>, len: u64) -> Self {
        let value = format!("bytes {}-{}/{len}", range.start, range.end - 1);
        Self { body: Body::Content(range), ..Self::new(206) }.with("Content-Range", value)
    }

    /// Returns the answer of a server that knows no ranges.
    pub fn whole(len: u64) -> Self {
        Self { body: Body::Content(0..len), ..Self::new(200) }
    }

    /// Adds a header, or replaces it.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    fn length(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(range) => range.end - range.start,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| *other == name)
    }
}

fn serve(shared: &Shared, stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(config) = tls else { return converse(shared, stream) };
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    converse(shared, StreamOwned::new(connection, stream))
}

fn converse(shared: &Shared, stream: impl Read + Write + Cut) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = receive(shared, &mut stream)? {
        if request.method == "CONNECT" && (shared.handler)(&request).status != 407 {
            return stream.get_mut().tunnel(&request.target);
        }
        let active = shared.active.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_active.fetch_max(active, Ordering::Relaxed);
        let result = answer(shared, &request, stream.get_mut());
        shared.active.fetch_sub(1, Ordering::Relaxed);
        if result? == Next::Close {
            stream.get_mut().cut();
            break;
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum Next {
    Listen,
    Close,
}

fn receive(shared: &Shared, stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let mut requests = shared.requests();
    let request = Request { number: requests.len(), method, target, body, headers };
    requests.push(request.clone());
    Ok(Some(request))
}

fn answer(shared: &Shared, request: &Request, stream: &mut impl Write) -> io::Result<Next> {
    let mut reply = (shared.handler)(request);
    if !reply.has("Content-Length") && !reply.has("Transfer-Encoding") && !reply.has("Connection") {
        let length = reply.length().to_string();
        reply = reply.with("Content-Length", length);
    }
    thread::sleep(reply.delay);
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    let end =
        reply.length().min(reply.cut.unwrap_or(u64::MAX)).min(reply.stall.unwrap_or(u64::MAX));
    let mut at = 0;
    while at < end {
        let next = end.min(at + reply.pace.0 as u64);
        shared.served.fetch_add(next - at, Ordering::Relaxed);
        match &reply.body {
            Body::Bytes(bytes) => stream.write_all(&bytes[at as usize..next as usize])?,
            Body::Content(range) => {
                stream.write_all(&(shared.content)(range.start + at..range.start + next))?;
            }
        }
        stream.flush()?;
        at = next;
        thread::sleep(reply.pace.1);
    }
    stream.flush()?;
    while reply.stall.is_some() && !shared.stopped.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(5));
    }
    let closes = reply.cut.is_some() || reply.stall.is_some() || reply.has("Connection");
    Ok(if closes { Next::Close } else { Next::Listen })
}

fn pattern(range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    Pattern::dense(Server::PATTERN).fill(&mut bytes, range.start);
    bytes
}

/// What a connection must do beside carrying bytes.
trait Cut {
    fn cut(&mut self);

    /// Connects to `target` and passes on what comes from either side.
    fn tunnel(&mut self, target: &str) -> io::Result<()>;
}

impl Cut for TcpStream {
    fn cut(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }

    fn tunnel(&mut self, target: &str) -> io::Result<()> {
        let mut far = Self::connect(target)?;
        self.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        let (mut near, mut back) = (self.try_clone()?, far.try_clone()?);
        let upwards = thread::spawn(move || {
            let _ = io::copy(&mut near, &mut far);
            let _ = far.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut back, self);
        self.cut();
        upwards.join().map_err(|_| io::Error::other("the tunnel broke"))
    }
}

impl Cut for StreamOwned<ServerConnection, TcpStream> {
    fn cut(&mut self) {
        self.sock.cut();
    }

    fn tunnel(&mut self, _target: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
