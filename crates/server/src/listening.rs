//! Connections: taken, encrypted, and answered until somebody says that it is enough.

mod seats;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use self::seats::{Busy, Seat, Seats};
use crate::settings::TlsFiles;
use crate::{Error, Result};

/// Listens at an address, from outside of a runtime.
///
/// # Errors
///
/// When it is taken, or none of this machine.
pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener> {
    let failed = |source| Error::Io { what: format!("cannot listen at {address}"), source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Returns what encrypts connections with a certificate.
///
/// # Errors
///
/// When the files are no certificate and key that belong together.
pub(crate) fn encryption(files: &TlsFiles) -> Result<TlsAcceptor> {
    let problem = |file: &std::path::Path, what: &str| Error::Settings {
        problem: format!("{} {what}", file.display()),
    };
    let no_certificate = || problem(&files.certificate, "has no certificate that can be read");
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(|_| no_certificate())?;
    let chain: Vec<_> =
        chain.collect::<std::result::Result<_, _>>().map_err(|_| no_certificate())?;
    if chain.is_empty() {
        return Err(no_certificate());
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|_| problem(&files.key, "has no private key that can be read"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config =
        config.map_err(|_| problem(&files.key, "is not the key of the certificate"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers connections until `enough`, and then until those that are there are answered, or patience ends.
pub(crate) async fn listen(
    listener: TcpListener,
    encryption: Option<TlsAcceptor>,
    router: Router,
    enough: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let seats = Seats::default();
    let mut enough = std::pin::pin!(enough);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // Mostly too many open files.
                Err(_) => {
                    seats.make_room();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut enough => break,
        };
        // Without a place it is closed.
        let Some(seat) = seats.take(peer.ip()) else { continue };
        let (router, watcher) = (router.clone(), graceful.watcher());
        let connection = Connection { router, watcher, seat, peer: Peer(peer.ip()) };
        tokio::spawn(connection.serve(stream, encryption.clone()));
    }
    drop(listener);
    let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
}

/// A connection that is answered.
struct Connection {
    router: Router,
    watcher: Watcher,
    seat: Arc<Seat>,
    peer: Peer,
}

/// From where a request comes: it is among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Connection {
    /// Answers until the other end goes, asks nothing, or has to make room.
    async fn serve(self, stream: TcpStream, encryption: Option<TlsAcceptor>) {
        let seat = Arc::clone(&self.seat);
        let late = async {
            tokio::time::sleep(FIRST).await;
            if seat.was_asked() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.shake(stream, encryption) => {}
            () = seat.closed() => {}
            () = late => {}
        }
    }

    async fn shake(self, stream: TcpStream, encryption: Option<TlsAcceptor>) {
        // Answers are written whole; waiting to fill packets would only delay them.
        let _ = stream.set_nodelay(true);
        match encryption {
            None => self.answer(stream).await,
            Some(encryption) => {
                if let Ok(stream) = encryption.accept(stream).await {
                    self.answer(stream).await;
                }
            }
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let (router, seat) = (TowerToHyperService::new(self.router), self.seat);
        let service = service_fn(move |mut request: hyper::Request<_>| {
            request.extensions_mut().insert(self.peer);
            let (busy, answer) = (seat.busy(), router.call(request));
            async move { answer.await.map(|answer| answer.map(|body| Answer { body, _busy: busy })) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // It runs while nothing is asked, too.
            .header_read_timeout(IDLE)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        // What goes wrong with a connection is the business of the other end.
        let _ = self.watcher.watch(connection).await;
    }
}

/// The body of an answer. The connection is busy until it is sent.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a new connection has until its first request is there, with the beginning of TLS.
const FIRST: Duration = Duration::from_secs(10);

/// How long the head of another request may take to come.
const IDLE: Duration = Duration::from_secs(60);

/// The most bytes of a head, and of what is read ahead.
const BUFFER: usize = 64 << 10;

/// How long connections have to end when the server does.
const FAREWELL: Duration = Duration::from_secs(10);
