//! A server over plain threads that does what a test tells it, right or wrong.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::content;

/// A server on a port of its own, until it is dropped.
pub(crate) struct Server {
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
    handler: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// How many came before it.
    pub(crate) number: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    headers: HashMap<String, String>,
}

/// What is sent, whether it makes sense or not.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
    /// After how many bytes of the body the connection is cut.
    pub(crate) cut: Option<u64>,
    /// After how many bytes of the body nothing more comes.
    pub(crate) stall: Option<u64>,
    /// How long to wait before the answer.
    pub(crate) delay: Duration,
    /// How many bytes are sent at once, and how long to wait after each time.
    pub(crate) pace: (usize, Duration),
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// These bytes of the resource.
    Content(Range<u64>),
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(handler, None)
    }

    pub(crate) fn start_tls(
        config: ServerConfig,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(handler, Some(Arc::new(config)))
    }

    fn listen(
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            served: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            most_active: AtomicUsize::new(0),
            requests: Mutex::default(),
            handler: Box::new(handler),
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

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Returns the URL with something between scheme and host.
    pub(crate) fn url_of(&self, userinfo: &str, path: &str) -> String {
        format!("{}://{userinfo}@127.0.0.1:{}{path}", self.scheme, self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    pub(crate) fn most_active(&self) -> usize {
        self.shared.most_active.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
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
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the bytes that are asked for, of a resource of `len`.
    pub(crate) fn range(&self, len: u64) -> Option<Range<u64>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let last: u64 = last.parse().ok()?;
        Some(first.parse().ok()?..len.min(last + 1))
    }
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
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
    pub(crate) fn ranged(request: &Request, len: u64, etag: &str) -> Self {
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

    pub(crate) fn part(range: Range<u64>, len: u64) -> Self {
        let value = format!("bytes {}-{}/{len}", range.start, range.end - 1);
        Self { body: Body::Content(range), ..Self::new(206) }.with("Content-Range", value)
    }

    pub(crate) fn whole(len: u64) -> Self {
        Self { body: Body::Content(0..len), ..Self::new(200) }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
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
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut requests = shared.requests.lock().unwrap();
    let request = Request { number: requests.len(), method, target, headers };
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
                stream.write_all(&content::bytes(range.start + at..range.start + next))?;
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
