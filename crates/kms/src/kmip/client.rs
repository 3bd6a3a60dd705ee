//! Bytes to a server and back, over mutual TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use zeroize::Zeroizing;

use super::certificate;
use super::endpoint::Endpoint;
use super::messages::Response;
use super::trouble::{Step, Trouble};
use super::ttlv::{self, HEAD_LEN};
use crate::{Error, Result};

/// Where a server is, who it has to be, and who we are.
pub(crate) struct Client {
    endpoints: Vec<Endpoint>,
    /// Counts on to the endpoint that is asked first.
    turn: AtomicUsize,
    tls: Arc<ClientConfig>,
    /// The name in the server's certificate, where it is not the endpoint's.
    server_name: Option<ServerName<'static>>,
    limits: Limits,
    /// When the client's own certificate runs out.
    certificate_expiry: Option<SystemTime>,
    /// Connections that nobody uses just now.
    idle: Mutex<Vec<Connection>>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connecting to one endpoint, all of its addresses together.
    pub(crate) connect: Duration,
    /// Sending a request and receiving all of the response.
    pub(crate) exchange: Duration,
    /// All that one call of a provider does.
    pub(crate) call: Duration,
    /// The pause before the second attempt, doubled for each more.
    pub(crate) pause: Duration,
}

impl Client {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        tls: ClientConfig,
        server_name: Option<ServerName<'static>>,
        limits: Limits,
        certificate_expiry: Option<SystemTime>,
    ) -> Self {
        let (turn, tls, idle) = (AtomicUsize::new(0), Arc::new(tls), Mutex::default());
        Self { endpoints, turn, tls, server_name, limits, certificate_expiry, idle }
    }

    /// Returns what errors call the server.
    pub(crate) fn label(&self) -> String {
        let shown: Vec<_> = self.endpoints.iter().map(Endpoint::to_string).collect();
        format!("kmip at {}", shown.join(", "))
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the first endpoint.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoints.first().map(Endpoint::to_string).unwrap_or_default()
    }

    pub(crate) fn certificate_expiry(&self) -> Option<SystemTime> {
        self.certificate_expiry
    }

    /// Sends one request and returns the response. A connection is used again while the server
    /// keeps it open.
    ///
    /// # Errors
    ///
    /// When no server can be asked, or what comes back is no response.
    pub(crate) fn exchange(&self, request: &[u8], deadline: Instant) -> Result<Response> {
        if let Some(mut connection) = self.idle_connection() {
            match connection.exchange(request, self.exchange_deadline(deadline)) {
                Ok(response) => {
                    self.keep(connection);
                    return Ok(response);
                }
                // The server has closed it since, as servers do; all the others then, too.
                Err(trouble) if trouble.is_stale() => self.idle().clear(),
                Err(trouble) => return Err(self.error(&connection.endpoint, trouble)),
            }
        }
        let mut connection = self.connect(deadline)?;
        match connection.exchange(request, self.exchange_deadline(deadline)) {
            Ok(response) => {
                self.keep(connection);
                Ok(response)
            }
            Err(trouble) => Err(self.error(&connection.endpoint, trouble)),
        }
    }

    /// Turns to the next endpoint, where there is one: that which was asked is in trouble.
    pub(crate) fn turn(&self) {
        if self.endpoints.len() > 1 {
            self.turn.fetch_add(1, Ordering::Relaxed);
            self.idle().clear();
        }
    }

    /// Returns when the server's certificate runs out, of a connection that was used last.
    pub(crate) fn server_expiry(&self) -> Option<SystemTime> {
        let idle = self.idle();
        let chain = idle.last()?.stream.conn.peer_certificates()?;
        certificate::expiry(chain.first()?)
    }

    /// Connects to the first endpoint that answers, from the one whose turn it is.
    fn connect(&self, deadline: Instant) -> Result<Connection> {
        let mut first: Option<Error> = None;
        let turn = self.turn.load(Ordering::Relaxed) % self.endpoints.len().max(1);
        let (later, sooner) = self.endpoints.split_at(turn);
        for endpoint in sooner.iter().chain(later) {
            match self.connect_to(endpoint, deadline) {
                Ok(connection) => return Ok(connection),
                Err(trouble) => {
                    let error = self.error(endpoint, trouble);
                    // One that can be mended says more than one that may pass.
                    if first
                        .as_ref()
                        .is_none_or(|first| !first.is_permanent() && error.is_permanent())
                    {
                        first = Some(error);
                    }
                }
            }
        }
        Err(first.expect("there is an endpoint, as opening has checked"))
    }

    fn connect_to(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> std::result::Result<Connection, Trouble> {
        let deadline = deadline.min(Instant::now() + self.limits.connect);
        let connecting = |error| Trouble::new(Step::Connect, error);
        let stream = tcp(endpoint, deadline).map_err(connecting)?;
        stream.set_nodelay(true).map_err(connecting)?;
        let name = self
            .server_name
            .clone()
            .or_else(|| endpoint.server_name())
            .expect("parsing an endpoint has checked its name");
        let shake = |error| Trouble::new(Step::Handshake, error);
        let tls = ClientConnection::new(Arc::clone(&self.tls), name)
            .map_err(|error| shake(io::Error::other(error)))?;
        let mut stream = StreamOwned::new(tls, Timed { stream, deadline });
        while stream.conn.is_handshaking() {
            if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                return Err(shake(last_words(&mut stream, error)));
            }
        }
        Ok(Connection { endpoint: endpoint.clone(), stream, used: Instant::now(), answered: false })
    }

    fn error(&self, endpoint: &Endpoint, trouble: Trouble) -> Error {
        trouble.into_error(&format!("kmip at {endpoint}"), self.certificate_expiry)
    }

    fn exchange_deadline(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.limits.exchange)
    }

    fn idle_connection(&self) -> Option<Connection> {
        let mut idle = self.idle();
        // One that rests for long may be forgotten on the way, and asking it would take a timeout.
        idle.retain(|connection| connection.used.elapsed() < MAX_REST);
        idle.pop()
    }

    fn keep(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE && !connection.has_more() {
            idle.push(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Whoever panicked has only left connections behind.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to one of the endpoints.
struct Connection {
    endpoint: Endpoint,
    stream: Stream,
    used: Instant,
    /// Whether a response came before.
    answered: bool,
}

impl Connection {
    fn exchange(
        &mut self,
        request: &[u8],
        deadline: Instant,
    ) -> std::result::Result<Response, Trouble> {
        self.stream.sock.deadline = deadline;
        let first = if self.answered { Step::Reuse } else { Step::First };
        let mut head = [0; HEAD_LEN];
        let stream = &mut self.stream;
        stream
            .write_all(request)
            .and_then(|()| stream.flush())
            .and_then(|()| stream.read_exact(&mut head))
            .map_err(|error| Trouble::new(first, last_words(stream, error)))?;
        let len = ttlv::rest_len(&head).map_err(Trouble::malformed)?;
        let mut message = Zeroizing::new(Vec::with_capacity(HEAD_LEN + len));
        message.extend_from_slice(&head);
        message.resize(HEAD_LEN + len, 0);
        let rest = message.get_mut(HEAD_LEN..).unwrap_or_default();
        self.stream.read_exact(rest).map_err(|error| Trouble::new(Step::Receive, error))?;
        self.answered = true;
        Response::parse(&message).map_err(Trouble::malformed)
    }

    /// Returns whether the server has sent more than the response: the next one would be wrong.
    fn has_more(&mut self) -> bool {
        self.stream
            .conn
            .process_new_packets()
            .is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }
}

type Stream = StreamOwned<ClientConnection, Timed>;

/// Returns why a connection has ended: what the server said where it has sent an alert before, which
/// may still lie there when what we had to send was refused.
fn last_words(stream: &mut Stream, error: io::Error) -> io::Error {
    // What TLS itself complains about needs no more words, and none may come.
    if error.get_ref().is_some_and(|why| why.is::<rustls::Error>()) {
        return error;
    }
    match stream.conn.read_tls(&mut stream.sock) {
        Ok(_) => stream.conn.process_new_packets().err().map_or(error, io::Error::other),
        Err(_) => error,
    }
}

/// A stream on which everything has to be done until a point in time, however little each call does.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Sockets call a timeout something else, which TLS would take for no trouble.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

/// Connects to the first address that answers; each has its share of the time.
fn tcp(endpoint: &Endpoint, deadline: Instant) -> io::Result<TcpStream> {
    let addresses = endpoint.addresses(deadline)?;
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let shares = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = left / shares;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How many connections may rest.
const MAX_IDLE: usize = 4;

/// How long a connection may rest.
const MAX_REST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
